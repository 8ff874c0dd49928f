//! Functions on the bytes of payloads.

use super::{batches, rows, session, topic};
use crate::support::{Record, produce, shared};

fn produced(values: &[Option<&[u8]>]) -> String {
    let topic = topic(1);
    let records: Vec<Record> = values
        .iter()
        .map(|value| match value {
            Some(value) => Record::new(0).value(*value),
            None => Record::new(0),
        })
        .collect();
    produce::produce(shared().bootstrap(), &topic, &records);
    topic
}

const ORDER: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"id","type":"long"},{"name":"name","type":["null","string"]}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn avro_is_a_struct_of_its_fields() {
    let topic = produced(&[Some(b"\x02\x02\x02a"), None, Some(b"\x04\x00")]);
    let context = session();
    let sql = format!(
        "SELECT o, o['id'] + 1, o IS NULL FROM (SELECT \"offset\", avro_from(value, '{ORDER}') AS o FROM {topic:?}) \
         ORDER BY \"offset\""
    );
    assert_eq!(
        rows(&context, &sql).await,
        [
            "{id: 1, name: a} 2 false",
            "  true",
            "{id: 2, name: } 3 false"
        ]
    );
    // The function itself removes a registry's frame.
    let framed = produced(&[Some(b"\0\0\0\0\x07\x02\x02\x02a")]);
    let sql =
        format!("SELECT avro_from(substr(value, 6), '{ORDER}')['name'] AS name FROM {framed:?}");
    assert_eq!(rows(&context, &sql).await, ["a"]);
    let sql = format!("SELECT avro_from(value, '{ORDER}') AS o FROM {framed:?}");
    let found = batches(&context, &sql).await.unwrap_err().to_string();
    assert!(
        found.contains("avro_from: a payload does not decode")
            && found.contains("substr(value, 6)"),
        "{found}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn protobuf_is_a_struct_of_its_fields() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("order.proto");
    let text = "syntax = \"proto3\"; package shop; message Order { int64 id = 1; map<int32, string> m = 2; } \
                message Other {}";
    std::fs::write(&file, text).expect("written");
    let file = file.display();
    let topic = produced(&[
        Some(b"\x08\x01\x12\x05\x08\x07\x12\x01x"),
        Some(b"\x08"),
        None,
    ]);
    let context = session();
    let read = |condition: &str| {
        format!(
            "SELECT protobuf_from(value, '{file}', 'shop.Order') AS o FROM {topic:?} WHERE {condition} ORDER BY \"offset\""
        )
    };
    assert_eq!(
        rows(&context, &read("\"offset\" <> 1")).await,
        ["{id: 1, m: {7: x}}", ""]
    );
    let found = batches(&context, &read("true")).await.unwrap_err();
    assert!(found.to_string().contains("protobuf_from"), "{found}");

    // The same map as a declared column.
    let brokers = shared().bootstrap();
    let sql = format!(
        "CREATE EXTERNAL TABLE t (m MAP<INT, VARCHAR>) STORED AS KAFKA LOCATION '{topic}' OPTIONS \
         ('kafka.bootstrap.servers' '{brokers}', 'value.format' 'protobuf', 'on.bad.row' 'skip', \
          'value.schema.file' '{file}', 'value.schema.message' 'shop.Order')"
    );
    datafusion_kafka::statement::sql(&context, &sql)
        .await
        .expect("it is made");
    assert_eq!(rows(&context, "SELECT m FROM t").await, ["{7: x}", ""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_shown_as_text() {
    let topic = produced(&[Some(b"\xff\x00a"), None]);
    let context = session();
    let sql = format!(
        "SELECT encode(value, 'hex'), encode(value, 'base64') FROM {topic:?} ORDER BY \"offset\""
    );
    assert_eq!(rows(&context, &sql).await, ["ff0061 /wBh", " "]);
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_are_wrong() {
    let topic = produced(&[]);
    let context = session();
    for (call, expected) in [
        ("avro_from(value, kafka_text(value))", "text literals"),
        ("avro_from('a', '\"int\"')", "the first argument is bytes"),
        (
            "avro_from(value, '{\"type\":\"int\"}')",
            "columns come from the fields of a record",
        ),
        (
            "avro_from(value, 'nowhere.avsc')",
            "nowhere.avsc cannot be read",
        ),
        ("avro_from(value)", "avro_from"),
        (
            "protobuf_from(value, 'nowhere.proto', 'x')",
            "nowhere.proto cannot be read",
        ),
    ] {
        let sql = format!("SELECT {call} FROM {topic:?}");
        let found = batches(&context, &sql).await.unwrap_err().to_string();
        assert!(found.contains(expected), "{call}: {found}");
    }
}
