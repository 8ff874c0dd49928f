//! Tables over the log in memory: rows, and what they cost in records read.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::util::pretty::pretty_format_batches;
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::*;
use crate::ErrorKind;
use crate::client::memory::{MemoryCluster, Record, TopicOptions};
use crate::range::{IsolationLevel, OnDataLoss};
use crate::session::KafkaSessionBuilder;

mod budget;
mod conditions;
mod executions;
mod keys;
mod ledger;
mod memory;
mod predicates;
mod pushdown;
mod snapshots;
#[cfg(all(feature = "jobs", feature = "librdkafka"))]
mod writing;

/// `orders`: 4 partitions of 100 records; the record at offset o of partition p has the key `p-o`,
/// the value `value o` and the timestamp 1000 * o + p ms.
fn orders() -> MemoryCluster {
    let cluster = MemoryCluster::builder().fetch_records(16).build();
    cluster.create_topic("orders", 4).unwrap();
    for partition in 0..4 {
        for offset in 0..100 {
            let record = Record::new(format!("value {offset}"))
                .with_key(format!("{partition}-{offset}"))
                .with_timestamp_ms(i64::from(1000 * offset + partition));
            cluster.append("orders", partition, record).unwrap();
        }
    }
    cluster
}

fn session() -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(2);
    KafkaSessionBuilder::new().config(config).build().unwrap()
}

fn builder(cluster: &MemoryCluster) -> KafkaTableBuilder {
    KafkaTable::builder_with_client(Arc::new(cluster.client()))
}

/// A session where `name` is the topic of that name, all of it.
fn over(cluster: &MemoryCluster, name: &str) -> SessionContext {
    let context = session();
    let table = builder(cluster).topic(name).build_lazy().unwrap();
    context.register_table(name, Arc::new(table)).unwrap();
    context
}

async fn query(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>, DataFusionError> {
    context.sql(sql).await?.collect().await
}

async fn rows(context: &SessionContext, sql: &str) -> Vec<String> {
    let batches = query(context, sql).await.unwrap();
    let table = pretty_format_batches(&batches).unwrap().to_string();
    table
        .lines()
        .filter(|l| l.starts_with('|'))
        .skip(1)
        .map(|l| {
            let cells = l.trim_matches('|').split('|').map(str::trim);
            cells.collect::<Vec<_>>().join(" ")
        })
        .collect()
}

async fn count(context: &SessionContext, sql: &str) -> i64 {
    let batches = query(context, sql).await.unwrap();
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

async fn planned(context: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    let frame = context.sql(sql).await.unwrap();
    frame.create_physical_plan().await.unwrap()
}

async fn plan(context: &SessionContext, sql: &str) -> String {
    rows(context, &format!("EXPLAIN {sql}")).await.join("\n")
}

#[tokio::test]
async fn columns_parse_unquoted() {
    let context = over(&orders(), "orders");
    let sql = "SELECT partition, offset, timestamp, key, value FROM orders \
               WHERE partition = 1 AND offset = 7";
    assert_eq!(
        rows(&context, sql).await,
        ["1 7 1970-01-01T00:00:07.001Z 312d37 76616c75652037"]
    );
}

#[tokio::test]
async fn secrets_in_function_arguments_are_refused_and_not_shown() {
    let context = session();
    for arguments in [
        "'orders', 'kafka.sasl.password=hunter2'",
        "'orders', ':', 'kafka.sasl.password=hunter2'",
        "'orders', ':', 'kafka.sasl.password:hunter2'",
        "'orders', ':', 'kafka.sasl.password=' || 'hunter2'",
    ] {
        let sql = format!("SELECT * FROM kafka({arguments})");
        let error = query(&context, &sql).await.unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn count_is_right_over_holes_and_transactions() {
    let cluster = orders();
    cluster
        .compact("orders", 0, |offset, _| offset % 10 == 0)
        .unwrap();
    let mut aborted = cluster.begin();
    aborted.append("orders", 1, Record::new("aborted")).unwrap();
    aborted.abort().unwrap();
    let mut open = cluster.begin();
    open.append("orders", 1, Record::new("open")).unwrap();
    cluster
        .append("orders", 1, Record::new("behind the open one"))
        .unwrap();
    let context = over(&cluster, "orders");
    let sql = "SELECT count(*) FROM orders WHERE partition < 2";
    assert_eq!(count(&context, sql).await, 10 + 100);

    let table = builder(&cluster)
        .topic("orders")
        .isolation(IsolationLevel::ReadUncommitted);
    let table = table.build().await.unwrap();
    context
        .register_table("everything", Arc::new(table))
        .unwrap();
    let sql = "SELECT count(*) FROM everything WHERE partition < 2";
    assert_eq!(count(&context, sql).await, 10 + 103);
}

#[tokio::test]
async fn record_selection_by_time_filters_late_records() {
    let cluster = orders();
    let late = Record::new("late").with_timestamp_ms(5);
    cluster.append("orders", 0, late).unwrap();
    cluster
        .append("orders", 0, Record::new("no timestamp"))
        .unwrap();
    let table = builder(&cluster)
        .topic("orders")
        .range("@1970-01-01T00:00:10Z:1970-01-01T00:00:20Z");
    let context = session();
    context
        .register_table("orders", Arc::new(table.build().await.unwrap()))
        .unwrap();
    let sql = "SELECT min(offset), max(offset), count(*) FROM orders";
    assert_eq!(rows(&context, sql).await, ["10 19 40"]);
}

#[tokio::test]
async fn lost_offsets_are_an_error_or_counted() {
    let cluster = orders();
    cluster.truncate_before("orders", 0, 30).unwrap();
    let table = builder(&cluster)
        .topic("orders")
        .range("0=10:50")
        .build()
        .await
        .unwrap();
    let context = session();
    context.register_table("orders", Arc::new(table)).unwrap();
    let error = query(&context, "SELECT * FROM orders").await.unwrap_err();
    let error = Error::find(&error).expect("an error of ours");
    assert_eq!(error.kind(), ErrorKind::DataUnavailable);
    assert!(
        error.to_string().starts_with(
            "orders[0]@10: the log now starts at 30, 20 offsets of the range are gone"
        ),
        "{error}"
    );

    let skipping = builder(&cluster)
        .topic("orders")
        .range("0=10:50")
        .on_data_loss(OnDataLoss::Skip);
    context
        .register_table("rest", Arc::new(skipping.build().await.unwrap()))
        .unwrap();
    assert_eq!(count(&context, "SELECT count(*) FROM rest").await, 20);
    let analyzed = rows(&context, "EXPLAIN ANALYZE SELECT count(*) FROM rest")
        .await
        .join("\n");
    assert!(analyzed.contains("lost_offsets=20"), "{analyzed}");
}

#[tokio::test]
async fn unknown_topic_names_the_nearest() {
    let cluster = orders();
    let error = builder(&cluster).topic("ordres").build().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "topic 'ordres' does not exist or may not be described; did you mean orders?"
    );
}

#[tokio::test]
async fn pattern_makes_one_table_of_many_topics() {
    let cluster = orders();
    cluster.create_topic("orders-eu", 2).unwrap();
    cluster.append("orders-eu", 1, Record::new("x")).unwrap();
    let context = session();
    let table = builder(&cluster)
        .location("/orders.*/")
        .build()
        .await
        .unwrap();
    context.register_table("t", Arc::new(table)).unwrap();
    let sql = "SELECT topic, count(*) FROM t GROUP BY topic ORDER BY topic";
    assert_eq!(rows(&context, sql).await, ["orders 400", "orders-eu 1"]);
    let sql = "SELECT topic, partition, offset FROM t ORDER BY topic DESC, partition DESC, offset DESC LIMIT 2";
    assert_eq!(rows(&context, sql).await, ["orders-eu 1 0", "orders 3 99"]);
}

#[tokio::test]
async fn text_habits_work_on_bytes() {
    let cluster = MemoryCluster::new();
    cluster.create_topic("t", 1).unwrap();
    for value in [&b"apple"[..], b"\xffbinary", "äpfel".as_bytes(), b""] {
        cluster.append("t", 0, Record::new(value)).unwrap();
    }
    cluster.append("t", 0, Record::tombstone("k")).unwrap();
    let context = over(&cluster, "t");
    let sql = "SELECT octet_length(value), length(value), bit_length(value), kafka_text(value) \
               FROM t WHERE value IS NOT NULL ORDER BY offset";
    let expected = ["5 5 40 apple", "7 7 56 ", "6 6 48 äpfel", "0 0 0 "];
    assert_eq!(rows(&context, sql).await, expected);
    assert_eq!(
        count(&context, "SELECT count(octet_length(value)) FROM t").await,
        4
    );
    let text = |filter: &str| format!("SELECT offset FROM t WHERE {filter} ORDER BY offset");
    assert_eq!(rows(&context, &text("value LIKE 'a%'")).await, ["0"]);
    assert_eq!(rows(&context, &text("value ILIKE '%F%'")).await, ["2"]);
    assert_eq!(rows(&context, &text("value = 'apple'")).await, ["0"]);
    assert_eq!(
        rows(&context, &text("value >= 'b' AND value < 'z'")).await,
        Vec::<String>::new()
    );
    assert_eq!(
        rows(&context, &text("value IN ('', 'apple')")).await,
        ["0", "3"]
    );
    assert_eq!(rows(&context, &text("value ~ '^.p'")).await, ["0", "2"]);
    assert_eq!(
        rows(&context, &text("value <> lower('APPLE')")).await,
        ["1", "2", "3"]
    );
    assert_eq!(
        rows(
            &context,
            &text("offset = 3 AND CAST(value AS VARCHAR) = ''")
        )
        .await,
        ["3"]
    );
    let sql = "SELECT CAST(substr(value, 2, 3) AS VARCHAR) FROM t WHERE offset = 0";
    assert_eq!(rows(&context, sql).await, ["ppl"]);
    let sql = "SELECT substring('abc' from 2), length('äb'), octet_length('äb')";
    assert_eq!(rows(&context, sql).await, ["bc 2 3"]);
}

#[tokio::test]
async fn dropping_the_stream_stops_reading() {
    let cluster = orders();
    let context = over(&cluster, "orders");
    let frame = context.sql("SELECT offset FROM orders").await.unwrap();
    let mut stream = frame.execute_stream().await.unwrap();
    futures::StreamExt::next(&mut stream)
        .await
        .unwrap()
        .unwrap();
    drop(stream);
    let read = cluster.stats().records;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(cluster.stats().records <= read + 64);
}

#[tokio::test]
async fn batches_are_bounded_in_bytes() {
    let cluster = MemoryCluster::new();
    cluster.create_topic("t", 1).unwrap();
    for _ in 0..40 {
        cluster
            .append("t", 0, Record::new(vec![b'x'; 1000]))
            .unwrap();
    }
    let table = builder(&cluster)
        .topic("t")
        .batch_bytes(4000)
        .build()
        .await
        .unwrap();
    let context = session();
    context.register_table("t", Arc::new(table)).unwrap();
    let batches = query(&context, "SELECT value FROM t").await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 40);
}
