//! Payloads as columns on a real broker, and what happens to payloads that do not decode.

use std::sync::Arc;

use datafusion::physical_plan::collect;
use datafusion_kafka::statement::create_table;
use datafusion_kafka::{Error, ErrorKind};

use super::{batches, error, filled, rows, session, topic};
use crate::support::{Record, produce, shared};

/// A topic with one partition and these values; `None` is a tombstone.
fn with_values(values: &[Option<&str>]) -> String {
    let topic = topic(1);
    let records: Vec<Record> = values
        .iter()
        .enumerate()
        .map(|(n, value)| {
            let record = Record::new(0)
                .key(format!("{n}"))
                .timestamp_ms(1000 * (n as i64 + 1));
            match value {
                Some(value) => record.value(*value),
                None => record,
            }
        })
        .collect();
    produce::produce(shared().bootstrap(), &topic, &records);
    topic
}

/// Offsets 0 and 4 are good, 2 is a tombstone, 1 and 3 are bad.
fn with_bad_ones() -> String {
    with_values(&[
        Some(r#"{"id":1,"name":"a"}"#),
        Some(r#"{"id":"x","name":"b"}"#),
        None,
        Some("{"),
        Some(r#"{"name":"c","id":5}"#),
    ])
}

fn create(name: &str, columns: &str, topic: &str, options: &str) -> String {
    let brokers = shared().bootstrap();
    format!(
        "CREATE EXTERNAL TABLE {name} ({columns}) STORED AS KAFKA LOCATION '{topic}' \
         OPTIONS ('kafka.bootstrap.servers' '{brokers}'{options})"
    )
}

async fn table(topic: &str, options: &str) -> datafusion::prelude::SessionContext {
    let context = session();
    let options = format!(", 'value.format' 'json'{options}");
    let sql = create("t", "id BIGINT, name VARCHAR", topic, &options);
    batches(&context, &sql)
        .await
        .expect("the options are valid");
    context
}

/// The fields have the names of Kafka's columns, of constraints, or no name; two types close at the same
/// place.
#[tokio::test(flavor = "multi_thread")]
async fn a_learned_statement_reads_what_it_was_learned_of() {
    let topic = with_values(&[Some(
        r#"{"key":1,"offset":2,"":3,"check":true,"s":{"":4,"list":[{"a":{"b":5}}]}}"#,
    )]);
    let context = session();
    let sampled = format!(
        "SELECT * FROM kafka('{topic}', ':', 'value.format=json', 'metadata.columns=offset', \
         'metadata.prefix=kafka:')"
    );
    let frame = context.sql(&sampled).await.expect("a sample");
    let fields = frame.schema().fields().iter().take(5).cloned().collect();
    let options = [
        ("value.format", "json"),
        ("kafka.bootstrap.servers", shared().bootstrap()),
    ];
    let statement = create_table("learned", &topic, &fields, &options);
    datafusion_kafka::statement::sql(&context, &statement)
        .await
        .expect("the statement is one");
    let sql =
        r#"SELECT "key", "offset", "", "check", s['list'][1]['a']['b'], _offset, s FROM learned"#;
    let found = rows(&context, sql).await;
    assert!(found[0].starts_with("1 2 3 true 5 0 "), "{found:?}");
    // In DataFusion, a field without a name can only be reached through its struct.
    assert!(found[0].contains(": 4, list: "), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_learned_from_a_sample() {
    let topic = with_values(&[
        Some(r#"{"id":1,"price":1.5,"who":{"name":"a"},"tags":["x","y"]}"#),
        Some(r#"{"id":2,"price":2,"who":{"name":"b"},"tags":[],"new":true}"#),
        None,
    ]);
    let context = session();
    let from = format!("kafka('{topic}', ':', 'value.format=json', 'metadata.columns=offset')");
    assert_eq!(
        rows(
            &context,
            &format!("SELECT * FROM {from} ORDER BY \"offset\"")
        )
        .await,
        [
            "1 1.5 {name: a} [x, y]  0",
            "2 2.0 {name: b} [] true 1",
            "     2",
        ]
    );
    let sql = format!("SELECT sum(price), max(who['name']) FROM {from}");
    assert_eq!(rows(&context, &sql).await, ["3.5 b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_nothing_is_an_error() {
    let empty = topic(1);
    let context = session();
    let sql = |topic: &str| format!("SELECT * FROM kafka('{topic}', ':', 'value.format=json')");
    let found = error(&context, &sql(&empty)).await.to_string();
    assert!(
        found.contains("no records to learn the columns from"),
        "{found}"
    );
    let text = filled(1, 3);
    let found = error(&context, &sql(&text)).await.to_string();
    assert!(
        found.contains("none of 3 records of a sample has a value that is a JSON object"),
        "{found}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_bad_record_is_named() {
    let topic = with_bad_ones();
    let context = table(&topic, "").await;
    // The policy also applies where no field is selected.
    for columns in ["id", "count(*)", "partition"] {
        let found = error(&context, &format!("SELECT {columns} FROM t")).await;
        assert_eq!(found.kind(), ErrorKind::BadRow);
        assert_eq!(
            found.to_string(),
            format!(
                "{topic}[0]@1: the value does not decode: field 'id': expected Int64, found the text 'x' \
                 (21 bytes: \"{{\\\"id\\\":\\\"x\\\",\\\"name\\\":\\\"b\\\"}}\"); 'on.bad.row' = 'null' or \
                 'skip' continues without it"
            )
        );
    }
    // Records that conditions on offset and timestamp rule out are not decoded.
    let sql = "SELECT id FROM t WHERE \"offset\" IN (0, 4) ORDER BY id";
    assert_eq!(rows(&context, sql).await, ["1", "5"]);
    let sql = "SELECT id FROM t WHERE timestamp > '1970-01-01T00:00:04Z'";
    assert_eq!(rows(&context, sql).await, ["5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_records_are_null_with_a_reason() {
    let topic = with_bad_ones();
    let context = table(&topic, ", 'on.bad.row' 'null'").await;
    let sql = "SELECT \"offset\", id, name, _error IS NULL FROM t ORDER BY 1";
    assert_eq!(
        rows(&context, sql).await,
        [
            "0 1 a true",
            "1   false",
            "2   true",
            "3   false",
            "4 5 c true"
        ]
    );
    assert_eq!(rows(&context, "SELECT count(*) FROM t").await, ["5"]);
    let sql = "SELECT _error FROM t WHERE \"offset\" = 1";
    assert_eq!(
        rows(&context, sql).await,
        ["value: field 'id': expected Int64, found the text 'x'"]
    );
    // Records that are not read are not bad: the payload at offset 1 is JSON.
    let sql = "SELECT name FROM t WHERE \"offset\" = 1";
    assert_eq!(rows(&context, sql).await, ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn skipped_records_are_counted_as_bad() {
    let topic = with_bad_ones();
    let context = table(&topic, ", 'on.bad.row' 'skip'").await;
    for (sql, expected) in [
        ("SELECT id FROM t ORDER BY \"offset\"", vec!["1", "", "5"]),
        (
            "SELECT id FROM t ORDER BY \"offset\" DESC LIMIT 2",
            vec!["5", ""],
        ),
        (
            "SELECT id FROM t ORDER BY \"offset\" LIMIT 2",
            vec!["1", ""],
        ),
        ("SELECT count(*) FROM t", vec!["3"]),
    ] {
        assert_eq!(rows(&context, sql).await, expected, "{sql}");
    }
    for (sql, delivered, bad, unread) in [
        ("SELECT id FROM t", 3, 2, 0),
        ("SELECT id FROM t LIMIT 2", 2, 1, 2),
    ] {
        let frame = context.sql(sql).await.expect("planned");
        let task = Arc::new(frame.task_ctx());
        let plan = frame.create_physical_plan().await.expect("planned");
        collect(Arc::clone(&plan), task).await.expect("read");
        let ledger = datafusion_kafka::scan::ledger(&plan);
        ledger.ranges[0].validate().expect("it adds up");
        let total = ledger.total();
        assert_eq!(
            (total.delivered, total.bad, total.unread),
            (delivered, bad, unread),
            "{sql}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_bad_records_ends_the_query() {
    let topic = with_bad_ones();
    for (limit, fails) in [("1", true), ("2", false), ("30%", true), ("40%", false)] {
        for policy in ["null", "skip"] {
            let options = format!(", 'on.bad.row' '{policy}', 'bad.row.limit' '{limit}'");
            let context = table(&topic, &options).await;
            let outcome = batches(&context, "SELECT count(*) FROM t").await;
            match outcome {
                Ok(_) => assert!(!fails, "{limit} {policy}"),
                Err(e) => {
                    let found = Error::find(&e).expect("an error of ours");
                    assert_eq!(found.kind(), ErrorKind::BadRowLimit, "{e}");
                    let example = format!("for example {topic}[0]@1: the value does not decode");
                    assert!(found.to_string().contains(&example), "{e}");
                    assert!(fails, "{limit} {policy}: {e}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_have_formats_as_well() {
    let topic = topic(1);
    let records = [(1i64, "a,1"), (2, "b,"), (3, "\"c,d\",3")]
        .map(|(key, value)| Record::new(0).key(key.to_be_bytes()).value(value));
    produce::produce(shared().bootstrap(), &topic, &records);
    let context = session();
    let options = ", 'value.format' 'csv', 'key.format' 'int64'";
    let sql = create("t", "name VARCHAR, number INT", &topic, options);
    batches(&context, &sql)
        .await
        .expect("the options are valid");
    let sql = "SELECT key + 1, name, number FROM t ORDER BY 1";
    assert_eq!(rows(&context, sql).await, ["2 a 1", "3 b ", "4 c,d 3"]);

    let keyed = topic_of_json_keys();
    let options = ", 'value.format' 'json', 'key.format' 'json'";
    let sql = create("k", "name VARCHAR, key_id INT", &keyed, options);
    batches(&context, &sql)
        .await
        .expect("the options are valid");
    assert_eq!(rows(&context, "SELECT name, key_id FROM k").await, ["a 7"]);
}

fn topic_of_json_keys() -> String {
    let topic = topic(1);
    let record = Record::new(0).key(r#"{"id":7}"#).value(r#"{"name":"a"}"#);
    produce::produce(shared().bootstrap(), &topic, &[record]);
    topic
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_collide_have_a_way_out() {
    let topic = with_values(&[Some(r#"{"offset":7,"id":1}"#)]);
    let context = session();
    let from = |more: &str| format!("kafka('{topic}', ':', 'value.format=json'{more})");
    let found = error(&context, &format!("SELECT * FROM {}", from("")))
        .await
        .to_string();
    assert!(found.contains("'metadata.prefix' = '_'"), "{found}");
    let sql = format!(
        "SELECT \"offset\", _offset FROM {}",
        from(", 'metadata.prefix=_'")
    );
    assert_eq!(rows(&context, &sql).await, ["7 0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn declarations_that_no_format_fills_are_refused() {
    let topic = topic(1);
    let context = session();
    for (columns, options, expected) in [
        ("id BIGINT", "", "set 'value.format' to 'json', 'csv'"),
        (
            "id BIGINT",
            ", 'value.format' 'text'",
            "no format has fields",
        ),
        (
            "id BIGINT NOT NULL",
            ", 'value.format' 'json'",
            "cannot be NOT NULL",
        ),
        (
            "id BIGINT",
            ", 'value.format' 'jsno'",
            "did you mean 'json'?",
        ),
        (
            "id BIGINT",
            ", 'value.format' 'json', 'on.bad.row' 'skp'",
            "did you mean 'skip'?",
        ),
        (
            "id BIGINT",
            ", 'value.format' 'json', 'bad.row.limit' 'x'",
            "a share such as '0.1%'",
        ),
    ] {
        let sql = create("t", columns, &topic, options);
        let found = error(&context, &sql).await.to_string();
        assert!(found.contains(expected), "{columns} {options}: {found}");
    }
}

/// A schema file, and the folder that keeps it alive.
fn schema_file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("written");
    let path = path.to_str().expect("UTF-8").to_owned();
    (folder, path)
}

fn produced(values: &[&[u8]]) -> String {
    let topic = topic(1);
    let records: Vec<Record> = values.iter().map(|v| Record::new(0).value(*v)).collect();
    produce::produce(shared().bootstrap(), &topic, &records);
    topic
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_is_read_with_the_schema_of_a_file() {
    let schema = r#"{"type":"record","name":"Order","fields":[
        {"name":"id","type":"long"},{"name":"name","type":["null","string"]}]}"#;
    let (_folder, file) = schema_file("order.avsc", schema);
    // Numbers in zigzag encoding; the union's branch precedes the name.
    let topic = produced(&[b"\x02\x02\x02a", b"\x04\x00", b"\x06\x02\x04b", b""]);
    let context = session();
    let from = |more: &str| {
        format!("kafka('{topic}', ':', 'value.format=avro', 'value.schema.file={file}'{more})")
    };
    let sql = format!(
        "SELECT id, name, _error FROM {} ORDER BY \"offset\"",
        from(", 'on.bad.row=null'")
    );
    let found = rows(&context, &sql).await;
    assert_eq!(found[..2], ["1 a ", "2  "]);
    assert!(found[2].starts_with("  value: "), "{found:?}");
    assert_eq!(found[3], "  value: the payload has no bytes");
    let found = error(&context, &format!("SELECT count(*) FROM {}", from(""))).await;
    assert!(
        found
            .to_string()
            .starts_with(&format!("{topic}[0]@2: the value does not decode")),
        "{found}"
    );
    let missing = format!("SELECT * FROM kafka('{topic}', ':', 'value.format=avro')");
    let found = error(&context, &missing).await.to_string();
    assert!(
        found.contains("a file by 'value.schema.file', or a registry"),
        "{found}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn protobuf_is_read_with_the_schema_of_a_file() {
    let schema = "syntax = \"proto3\"; package shop; \
                  message Order { int64 id = 1; string name = 2; } message Other {}";
    let (_folder, file) = schema_file("order.proto", schema);
    let topic = produced(&[b"\x08\x01\x12\x01a", b"\x08\x02", b"\x08", b""]);
    let context = session();
    let from = |message: &str| {
        format!(
            "kafka('{topic}', ':', 'value.format=protobuf', 'value.schema.file={file}', \
             'value.schema.message={message}', 'on.bad.row=skip')"
        )
    };
    let sql = format!(
        "SELECT id, name FROM {} ORDER BY \"offset\"",
        from("shop.Order")
    );
    assert_eq!(rows(&context, &sql).await, ["1 a", "2 ", "0 "]);
    let found = error(&context, &format!("SELECT * FROM {}", from("shop.Oder")))
        .await
        .to_string();
    assert!(found.contains("did you mean 'shop.Order'?"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_is_no_bad_row() {
    let topic = produced(&[b"\x00\x00\x00\x00\x01\x02"]);
    let context = session();
    // Nothing listens on the port of a closed listener.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("bound")
        .port();
    let sql = format!(
        "SELECT * FROM kafka('{topic}', ':', 'value.format=avro', 'on.bad.row=skip', \
         'schema.registry.url=http://127.0.0.1:{port}', 'schema.registry.request.timeout.ms=500')"
    );
    let found = error(&context, &sql).await;
    assert_eq!(found.kind(), ErrorKind::Connection, "{found}");
    assert!(
        found
            .to_string()
            .contains(&format!("http://127.0.0.1:{port}")),
        "{found}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_columns_are_declared() {
    let topic = with_values(&[Some(
        r#"{"who":{"name":"a","age":3},"tags":["x"],"at":[[1],[]]}"#,
    )]);
    let context = session();
    let columns = "who STRUCT<name VARCHAR, age SMALLINT>, tags VARCHAR[], at ARRAY<INT[]>";
    let sql = create("t", columns, &topic, ", 'value.format' 'json'");
    datafusion_kafka::statement::sql(&context, &sql)
        .await
        .expect("it parses");
    let sql = "SELECT who['age'] + 1, tags[1], at FROM t";
    assert_eq!(rows(&context, sql).await, ["4 x [[1], []]"]);
}
