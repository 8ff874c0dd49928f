//! Payloads that Confluent's serializers wrote, with a real registry.

use datafusion::prelude::SessionContext;

use datafusion_kafka::config::ConnectionConfig;

use super::{error, rows, session, session_with, topic};
use crate::support::registry::shared as registry;
use crate::support::{Record, produce, shared};

/// A topic with the records of a case in tests/support/typed.py.
fn written(case: &str) -> String {
    let topic = topic(1);
    registry().produce(shared().bootstrap(), &topic, case);
    topic
}

/// `kafka(…)` over a topic with these options and the registry's URL.
fn from(topic: &str, options: &[&str]) -> String {
    let options: Vec<String> = options.iter().map(|o| format!(", '{o}'")).collect();
    let url = registry().url();
    format!(
        "kafka('{topic}', ':', 'schema.registry.url={url}'{})",
        options.concat()
    )
}

async fn one(context: &SessionContext, sql: &str) -> String {
    let mut found = rows(context, sql).await;
    assert_eq!(found.len(), 1, "{sql}: {found:?}");
    found.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_records_of_many_schemas_are_read_with_one() {
    let topic = written("evolution");
    let context = session();
    let read = from(
        &topic,
        &[
            "value.format=avro",
            "value.schema.version=3",
            "on.bad.row=null",
        ],
    );
    let sql = format!("SELECT id, total, _error IS NULL FROM {read} ORDER BY \"offset\"");
    assert_eq!(
        rows(&context, &sql).await,
        [
            "1  true",
            "2 2.5 true",
            "3  true",
            "1099511627776 4.5 true",
            "  false",
            "  false",
            "  false",
            "  false",
            "  true",
        ]
    );
    let why = |offset: i64| format!("SELECT _error FROM {read} WHERE \"offset\" = {offset}");
    let incompatible = one(&context, &why(4)).await;
    assert!(incompatible.contains("id"), "{incompatible}");
    let unknown = one(&context, &why(5)).await;
    assert!(unknown.contains("2147483647"), "{unknown}");
    assert!(
        one(&context, &why(6)).await.contains("frame"),
        "{}",
        one(&context, &why(6)).await
    );
    // The ids of the schemas, as assigned by the registry.
    let sql = format!("SELECT count(DISTINCT value_schema_id) FROM {read} WHERE \"offset\" < 5");
    assert_eq!(one(&context, &sql).await, "4");

    // The newest version is the incompatible one.
    let newest = from(&topic, &["value.format=avro", "on.bad.row=skip"]);
    let sql = format!("SELECT id FROM {newest} WHERE id IS NOT NULL");
    assert_eq!(one(&context, &sql).await, "x");
    let sql = format!("SELECT id FROM {}", from(&topic, &["value.format=avro"]));
    let found = error(&context, &sql).await.to_string();
    assert!(
        found.starts_with(&format!("{topic}[0]@0: the value does not decode")),
        "{found}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_schemas_refer_to_others() {
    let topic = written("references");
    let context = session();
    let sql = format!(
        "SELECT id, items FROM {} ORDER BY id",
        from(&topic, &["value.format=avro"])
    );
    assert_eq!(
        rows(&context, &sql).await,
        ["1 [{sku: a}, {sku: b}]", "2 []"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn protobuf_messages_are_told_by_their_index() {
    let topic = written("protobuf");
    let context = session();
    let read = |message: &str| {
        let message = format!("value.schema.message={message}");
        from(
            &topic,
            &["value.format=protobuf", &message, "on.bad.row=null"],
        )
    };
    let sql = format!(
        "SELECT id, price, at, lines, _error IS NULL FROM {} ORDER BY \"offset\"",
        read("shop.Order")
    );
    assert_eq!(
        rows(&context, &sql).await,
        [
            "1 {cents: 250} 2026-01-14T10:00:00Z [{sku: a}, {sku: b}] true",
            "2   [] true",
            "    false",
            "    false",
        ]
    );
    let sql = format!(
        "SELECT sku FROM {} WHERE _error IS NULL",
        read("shop.Order.Line")
    );
    assert_eq!(rows(&context, &sql).await, ["z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_may_have_a_frame_or_none() {
    let topic = written("json");
    let context = session();
    let sql = format!(
        "SELECT id, name FROM {} ORDER BY \"offset\"",
        from(&topic, &["value.format=json"])
    );
    assert_eq!(rows(&context, &sql).await, ["1 a", "2 "]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_is_not_there_is_named() {
    let topic = topic(1);
    let context = session();
    let sql = format!("SELECT * FROM {}", from(&topic, &["value.format=avro"]));
    let found = error(&context, &sql).await.to_string();
    assert!(
        found.contains(&format!("no subject '{topic}-value'")),
        "{found}"
    );
    let sql = format!(
        "SELECT * FROM {}",
        from(
            &topic,
            &[
                "value.format=avro",
                "value.subject=x",
                "value.schema.version=7"
            ]
        )
    );
    let found = error(&context, &sql).await.to_string();
    assert!(found.contains("no version 7 of subject 'x'"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_has_the_columns_of_its_schema() {
    let topic = written("json_columns");
    let context = session();
    let first = from(
        &topic,
        &[
            "value.format=json",
            "value.schema.version=1",
            "metadata.columns=offset",
        ],
    );
    let sql = format!("SELECT * FROM {first} ORDER BY \"offset\"");
    let found = rows(&context, &sql).await;
    // Compared by name, because the registry may have changed the order of the schema's fields.
    assert_eq!(found.len(), 3, "{found:?}");
    let sql = format!(
        "SELECT id, note, placed, lines[1]['n'] + 1, lines[2]['sku'], stock['x'], extra FROM {first} \
         ORDER BY \"offset\""
    );
    assert_eq!(
        rows(&context, &sql).await,
        ["1  2026-01-14T10:00:00Z 2.0 b 3 [1]", "2 n     ", "      "]
    );
    // The newest version has different columns, whatever the records were written with.
    let newest = from(&topic, &["value.format=json-registry"]);
    let sql = format!("SELECT id, total FROM {newest} ORDER BY \"offset\"");
    assert_eq!(rows(&context, &sql).await, ["1 ", "2 ", " "]);
    let sql = format!("SELECT note FROM {newest}");
    let found = super::batches(&context, &sql)
        .await
        .unwrap_err()
        .to_string();
    assert!(found.contains("note"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_without_a_schema_is_sampled_only_where_it_is_plain() {
    let context = session();
    let of = |values: &[&[u8]]| {
        let topic = topic(1);
        let records: Vec<Record> = values.iter().map(|v| Record::new(0).value(*v)).collect();
        produce::produce(shared().bootstrap(), &topic, &records);
        topic
    };
    let plain = of(&[b"{\"id\":1}", b"{\"id\":2}"]);
    let sql = format!(
        "SELECT sum(id) FROM {}",
        from(&plain, &["value.format=json"])
    );
    assert_eq!(rows(&context, &sql).await, ["3"]);
    let framed = of(&[b"{\"id\":1}", b"\0\0\0\0\x01{\"id\":2}"]);
    let sql = format!("SELECT * FROM {}", from(&framed, &["value.format=json"]));
    let found = error(&context, &sql).await.to_string();
    assert!(
        found.contains("of 1 of 2 records")
            && found.contains(&format!("no subject '{framed}-value'")),
        "{found}"
    );
    // A subject named in the options must exist.
    let named = ["value.format=json", "value.subject=nowhere"];
    let sql = format!("SELECT * FROM {}", from(&plain, &named));
    let found = error(&context, &sql).await.to_string();
    assert!(found.contains("no subject 'nowhere'"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn envelopes_are_those_of_the_registrys_schema() {
    let topic = written("debezium");
    let context = session();
    let read = from(
        &topic,
        &["value.format=debezium-avro", "metadata.columns=offset"],
    );
    let sql = format!(
        "SELECT op, before['id'], after['id'], after['at'], source['lsn'], ts FROM {read} ORDER BY \"offset\""
    );
    assert_eq!(
        rows(&context, &sql).await,
        [
            "c  1 2026-01-14T10:00:00.123456 7 2026-01-14T10:00:00.123Z",
            "u 1 1  7 2026-01-14T10:00:00.123Z",
            "d 1   7 2026-01-14T10:00:00.123Z",
            "     ",
        ]
    );
    let plain = written("json");
    let sql = format!(
        "SELECT * FROM {}",
        from(&plain, &["value.format=debezium-avro"])
    );
    let found = error(&context, &sql).await.to_string();
    assert!(found.contains("JSON Schema"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_a_registry_for_all_of_its_tables() {
    let topic = written("references");
    let mut connection = ConnectionConfig::new(shared().bootstrap());
    let url = registry().url();
    connection.set("schema.registry.url", &url).unwrap();
    let context = session_with(connection.clone());
    let read = format!("kafka('{topic}', ':', 'value.format=avro-registry')");
    let sql = format!("SELECT id FROM {read} ORDER BY id");
    assert_eq!(rows(&context, &sql).await, ["1", "2"]);
    let builder = datafusion_kafka::table::KafkaTable::builder(&connection)
        .topic(topic.as_str())
        .value_format(datafusion_kafka::decode::Format::Avro);
    let context = super::with_table(builder).await;
    assert_eq!(rows(&context, "SELECT sum(id) FROM t").await, ["3"]);
    // In a session without a registry, the error says what the format needs.
    let found = error(&session(), &sql).await.to_string();
    assert!(
        found.contains("'avro-registry' needs a registry: set 'schema.registry.url'"),
        "{found}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn maps_of_avro_are_declared() {
    let topic = written("maps");
    let context = session();
    let brokers = shared().bootstrap();
    let url = registry().url();
    let sql = format!(
        "CREATE EXTERNAL TABLE t (counts MAP<VARCHAR, BIGINT>) STORED AS KAFKA LOCATION '{topic}' \
         OPTIONS ('kafka.bootstrap.servers' '{brokers}', 'schema.registry.url' '{url}', 'value.format' 'avro')"
    );
    datafusion_kafka::statement::sql(&context, &sql)
        .await
        .expect("it is made");
    assert_eq!(
        rows(&context, "SELECT counts, counts['a'] FROM t").await,
        ["{a: 1} 1"]
    );
}
