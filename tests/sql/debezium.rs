//! Changes of database rows, as Debezium writes them.

use datafusion::prelude::SessionContext;

use super::{error, rows, session, topic};
use crate::support::{Record, produce, shared};

const WRAPPED: &str = r#"{"schema":{"type":"struct","fields":[]},"payload":
    {"before":{"id":1,"name":"a","n":{"x":1}},"after":{"id":1,"name":"b"},"op":"u","ts_ms":1768384800123}}"#;

/// A create, an update in Connect's wrapper, a delete and its tombstone, a truncate.
fn changes() -> String {
    let topic = topic(1);
    let records = [
        Some(
            r#"{"before":null,"after":{"id":1,"name":"a","n":{"x":1,"x":2}},"source":{"db":"shop"},"op":"c","ts_ms":0}"#,
        ),
        Some(WRAPPED),
        Some(r#"{"before":{"id":1,"name":"b"},"after":null,"op":"d","ts_ms":1}"#),
        None,
        Some(r#"{"before":null,"after":null,"op":"t","ts_ms":2}"#),
    ];
    let keys = [
        r#"{"id":1}"#,
        r#"{"schema":{},"payload":{"id":1}}"#,
        r#"{"id":1}"#,
        r#"{"id":1}"#,
        r#"{"id":null}"#,
    ];
    let records: Vec<Record> = records
        .into_iter()
        .zip(keys)
        .map(|(value, key)| match value {
            Some(value) => Record::new(0).key(key).value(value),
            None => Record::new(0).key(key),
        })
        .collect();
    produce::produce(shared().bootstrap(), &topic, &records);
    topic
}

async fn create(context: &SessionContext, columns: &str, topic: &str) {
    let brokers = shared().bootstrap();
    let sql = format!(
        "CREATE EXTERNAL TABLE t ({columns}) STORED AS KAFKA LOCATION '{topic}' OPTIONS \
         ('kafka.bootstrap.servers' '{brokers}', 'value.format' 'debezium-json', 'key.format' 'debezium-json')"
    );
    datafusion_kafka::statement::sql(context, &sql)
        .await
        .expect("it is made");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_changes_are_learned() {
    let topic = changes();
    let context = session();
    let from = format!(
        "kafka('{topic}', ':', 'value.format=debezium-json', 'key.format=debezium-json', \
         'metadata.columns=offset')"
    );
    let sql = format!("SELECT * FROM {from} ORDER BY \"offset\"");
    assert_eq!(
        rows(&context, &sql).await,
        [
            "1 c  {id: 1, name: a, n: {x: 2}} {db: shop} 1970-01-01T00:00:00Z 0",
            "1 u {id: 1, name: a, n: {x: 1}} {id: 1, name: b, n: }  2026-01-14T10:00:00.123Z 1",
            "1 d {id: 1, name: b, n: }   1970-01-01T00:00:00.001Z 2",
            "1      3",
            " t    1970-01-01T00:00:00.002Z 4",
        ]
    );
    let sql = format!("SELECT count(*) FROM {from} WHERE op IN ('c', 'u')");
    assert_eq!(rows(&context, &sql).await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_changes_are_declared() {
    let topic = changes();
    let context = session();
    create(
        &context,
        "key_id INT, after STRUCT<name VARCHAR, n MAP<VARCHAR, INT>>, ts TIMESTAMP(3) WITH TIME ZONE",
        &topic,
    )
    .await;
    let sql = "SELECT key_id, after['name'], after['n']['x'], ts FROM t WHERE after IS NOT NULL ORDER BY \"offset\"";
    assert_eq!(
        rows(&context, sql).await,
        [
            "1 a 2 1970-01-01T00:00:00Z",
            "1 b  2026-01-14T10:00:00.123Z"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_no_changes_are_named() {
    let topic = topic(1);
    let plain = [Record::new(0).value(r#"{"id":1}"#)];
    produce::produce(shared().bootstrap(), &topic, &plain);
    let context = session();
    let sql = format!("SELECT * FROM kafka('{topic}', ':', 'value.format=debezium-json')");
    let found = error(&context, &sql).await.to_string();
    assert!(
        found.contains("none of 1 records of a sample has a value that is an envelope"),
        "{found}"
    );
    create(&context, "op VARCHAR", &topic).await;
    let found = error(&context, "SELECT count(*) FROM t").await.to_string();
    assert!(
        found.starts_with(&format!(
            "{topic}[0]@0: the value does not decode: not an envelope"
        )),
        "{found}"
    );
}
