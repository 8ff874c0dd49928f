//! Payloads that Confluent's serializers wrote with a real registry.

use datafusion::prelude::SessionContext;

use super::{error, rows, session, topic};
use crate::support::registry::shared as registry;
use crate::support::shared;

/// A topic with the records of a case of tests/support/typed.py.
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
    // The ids of the schemas, as the registry gave them.
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
