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

mod ledger;
mod memory;
mod predicates;
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
async fn disjoint_predicates_read_exactly_their_offsets() {
    let cluster = orders();
    let context = over(&cluster, "orders");
    let sql = "SELECT count(*) FROM orders \
               WHERE (partition = 0 AND offset >= 90) OR (partition = 1 AND offset < 5)";
    assert_eq!(count(&context, sql).await, 15);
    let stats = cluster.stats();
    assert_eq!(stats.records, 15);
    assert_eq!(stats.partition("orders", 2).fetches, 0);

    let plan = plan(&context, sql).await;
    assert!(plan.contains("orders[0] 90..100"), "{plan}");
    assert!(plan.contains("orders[1] 0..5"), "{plan}");
    assert!(
        plan.contains("pruned_by_partition=[orders[2] 0..100, orders[3] 0..100]"),
        "{plan}"
    );
    assert!(
        plan.contains("pruned_by_offset=[orders[0] 0..90, orders[1] 5..100]"),
        "{plan}"
    );
    assert!(!plan.contains("FilterExec"), "{plan}");
}

#[tokio::test]
async fn predicates_on_topic_and_partition_may_be_any_expression() {
    let cluster = orders();
    let context = over(&cluster, "orders");
    let sql = "SELECT count(*) FROM orders WHERE partition % 2 = 1 AND topic LIKE 'ord%'";
    assert_eq!(count(&context, sql).await, 200);
    assert_eq!(cluster.stats().records, 200);
    assert_eq!(
        count(&context, "SELECT count(*) FROM orders WHERE topic = 'x'").await,
        0
    );
    assert_eq!(cluster.stats().records, 200);
}

/// What a query may never evaluate must not fail it, nor be taken over by the scan.
#[tokio::test]
async fn predicates_that_may_fail_stay_in_the_plan() {
    let context = over(&orders(), "orders");
    let sql = |filter: &str| format!("SELECT count(*) FROM orders WHERE {filter}");
    let found = count(&context, &sql("partition <> 0 AND 6 / partition > 2")).await;
    assert_eq!(found, 200);
    let guarded = "CASE WHEN partition = 0 THEN false ELSE 6 / partition > 2 END";
    assert_eq!(count(&context, &sql(guarded)).await, 200);
    assert!(query(&context, &sql("6 / partition > 2")).await.is_err());
}

#[tokio::test]
async fn timestamp_predicates_do_not_hide_that_offsets_are_gone() {
    let cluster = orders();
    let table = builder(&cluster).topic("orders").build().await.unwrap();
    let snapshot = table.snapshot().await.unwrap();
    let context = session();
    let pinned = table.at(snapshot).unwrap();
    context.register_table("pinned", Arc::new(pinned)).unwrap();
    let sql = "SELECT count(*) FROM pinned WHERE partition = 0 AND timestamp >= to_timestamp_millis(80000)";
    assert_eq!(count(&context, sql).await, 20);
    cluster.truncate_before("orders", 0, 50).unwrap();
    let error = query(&context, sql).await.unwrap_err();
    assert!(
        matches!(
            Error::find(&error),
            Some(Error::BelowLogStart { lost: 50, .. })
        ),
        "{error}"
    );
    cluster.recreate_topic("orders").unwrap();
    let error = query(&context, sql).await.unwrap_err();
    assert!(Error::find(&error).is_some(), "{error}");
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
async fn random_functions_are_not_evaluated_once() {
    let context = over(&orders(), "orders");
    let sql = "SELECT count(*) FROM orders WHERE random() < 0.5 AND partition >= 0";
    let found = count(&context, sql).await;
    assert!((1..400).contains(&found), "{found}");
}

#[tokio::test]
async fn timestamp_lower_bound_starts_at_the_look_up() {
    let cluster = orders();
    let context = over(&cluster, "orders");
    let sql = "SELECT count(*) FROM orders WHERE timestamp >= TIMESTAMP '1970-01-01 00:01:30Z'";
    assert_eq!(count(&context, sql).await, 40);
    assert_eq!(cluster.stats().records, 40);
}

/// Times with a zone are of nanoseconds and in UTC, the column is of milliseconds and in UTC.
#[tokio::test]
async fn instants_written_in_any_way_bound_timestamps() {
    let instants = [
        "'1970-01-01T00:01:30Z'",
        "TIMESTAMPTZ '1970-01-01 01:01:30+01:00'",
        "CAST('1970-01-01T00:01:30Z' AS TIMESTAMP(6) WITH TIME ZONE)",
        "to_timestamp('1970-01-01T00:01:30Z')",
        "TIMESTAMP '1970-01-01 00:01:30'",
    ];
    for instant in instants {
        let cluster = orders();
        let context = over(&cluster, "orders");
        let sql = format!("SELECT count(*) FROM orders WHERE timestamp >= {instant}");
        assert_eq!(count(&context, &sql).await, 40, "{instant}");
        assert_eq!(cluster.stats().records, 40, "{instant}");
        let sql = format!("SELECT count(*) FROM orders WHERE timestamp < {instant}");
        assert_eq!(count(&context, &sql).await, 360, "{instant}");
    }
}

#[tokio::test]
async fn now_bounds_timestamps() {
    let cluster = orders();
    let context = over(&cluster, "orders");
    let sql = "SELECT count(*) FROM orders WHERE timestamp > now() - INTERVAL '1 day'";
    assert_eq!(count(&context, sql).await, 0);
    assert_eq!(cluster.stats().records, 0);
    let sql = "SELECT count(*) FROM orders WHERE timestamp < now()";
    assert_eq!(count(&context, sql).await, 400);
}

#[tokio::test]
async fn late_record_is_not_lost_under_create_time() {
    let cluster = orders();
    let late = Record::new("late").with_timestamp_ms(5);
    cluster.append("orders", 0, late).unwrap();
    let context = over(&cluster, "orders");
    let sql = "SELECT count(*) FROM orders WHERE partition = 0 AND timestamp < TIMESTAMP '1970-01-01 00:00:01Z'";
    assert_eq!(count(&context, sql).await, 2);
}

#[tokio::test]
async fn log_append_time_cuts_the_end_as_well() {
    let cluster = MemoryCluster::new();
    let options = TopicOptions::default().log_append_time();
    cluster.create_topic_with("appended", 1, options).unwrap();
    for ms in 0..100 {
        cluster.set_clock_ms(Some(ms * 1000));
        cluster.append("appended", 0, Record::new("x")).unwrap();
    }
    let context = over(&cluster, "appended");
    let sql = "SELECT count(*) FROM appended WHERE timestamp BETWEEN \
               TIMESTAMP '1970-01-01 00:00:10Z' AND TIMESTAMP '1970-01-01 00:00:20Z'";
    assert_eq!(count(&context, sql).await, 11);
    assert_eq!(cluster.stats().records, 11);
}

#[tokio::test]
async fn projection_reaches_the_reader() {
    let context = over(&orders(), "orders");
    let plan = plan(&context, "SELECT count(*) FROM orders").await;
    assert!(
        plan.contains("projection=[], isolation=read_committed"),
        "{plan}"
    );
    let plan = self::plan(&context, "SELECT sum(octet_length(value)) FROM orders").await;
    assert!(plan.contains("projection=[value]"), "{plan}");
}

#[tokio::test]
async fn limit_stops_the_fetch() {
    let cluster = orders();
    let context = over(&cluster, "orders");
    assert_eq!(
        rows(&context, "SELECT offset FROM orders LIMIT 10")
            .await
            .len(),
        10
    );
    assert!(
        cluster.stats().records <= 2 * 2 * 16,
        "{:?}",
        cluster.stats()
    );
}

#[tokio::test]
async fn limit_counts_rows_after_exact_filters() {
    let cluster = orders();
    let context = over(&cluster, "orders");
    let sql = "SELECT offset FROM orders WHERE offset >= 95 AND partition = 3 LIMIT 3";
    assert_eq!(rows(&context, sql).await, ["95", "96", "97"]);
}

#[tokio::test]
async fn newest_first_reads_the_tail_only() {
    let cluster = orders();
    for offset in [95, 96, 97] {
        cluster.remove("orders", 2, offset).unwrap();
    }
    let context = over(&cluster, "orders");
    let sql = "SELECT offset FROM orders WHERE partition = 2 ORDER BY offset DESC LIMIT 4";
    assert_eq!(rows(&context, sql).await, ["99", "98", "94", "93"]);
    assert!(cluster.stats().records < 70, "{:?}", cluster.stats());
    let plan = plan(&context, sql).await;
    assert!(plan.contains("order=offset DESC, fetch=4"), "{plan}");
    assert!(!plan.contains("SortExec"), "{plan}");
}

#[tokio::test]
async fn newest_first_over_all_partitions_is_sorted() {
    let cluster = orders();
    cluster.append("orders", 3, Record::new("newest")).unwrap();
    let context = over(&cluster, "orders");
    let sql = "SELECT offset, partition FROM orders ORDER BY offset DESC, partition LIMIT 2";
    assert_eq!(rows(&context, sql).await, ["100 3", "99 0"]);
    let sql = "SELECT offset FROM orders ORDER BY offset DESC LIMIT 6";
    assert_eq!(
        rows(&context, sql).await,
        ["100", "99", "99", "99", "99", "98"]
    );
    let all = rows(&context, "SELECT offset FROM orders ORDER BY offset DESC").await;
    let mut sorted: Vec<i64> = all.iter().map(|o| o.parse().unwrap()).collect();
    assert_eq!(sorted.len(), 401);
    assert!(sorted.is_sorted_by(|a, b| a >= b));
    sorted.dedup();
    assert_eq!(sorted.len(), 101);
}

#[tokio::test]
async fn ascending_order_needs_no_sort() {
    let context = over(&orders(), "orders");
    let sql = "SELECT offset FROM orders WHERE partition = 2 ORDER BY offset LIMIT 2";
    assert_eq!(rows(&context, sql).await, ["0", "1"]);
    let plan = plan(&context, sql).await;
    assert!(!plan.contains("SortExec"), "{plan}");
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

/// A vanilla context: nothing of ours but the table.
#[tokio::test]
async fn one_statement_sees_one_snapshot() {
    let cluster = orders();
    let context = SessionContext::new();
    let table = builder(&cluster).topic("orders").build().await.unwrap();
    context.register_table("orders", Arc::new(table)).unwrap();

    let sql = "SELECT count(*) FROM orders UNION ALL SELECT count(*) FROM orders";
    let frame = context.sql(sql).await.unwrap();
    cluster.reset_stats();
    let planned = frame.clone().create_physical_plan().await.unwrap();
    assert_eq!(cluster.stats().describes, 1);
    cluster.append("orders", 0, Record::new("later")).unwrap();
    let task = context.task_ctx();
    let batches = datafusion::physical_plan::collect(planned, task)
        .await
        .unwrap();
    let counts: Vec<i64> = batches
        .iter()
        .flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    assert_eq!(counts, [400, 400]);
    assert_eq!(count(&context, "SELECT count(*) FROM orders").await, 401);
}

/// Two tables of one topic with different ranges end alike within a statement.
#[tokio::test]
async fn ranges_of_one_topic_share_the_log_end_in_a_statement() {
    let cluster = orders();
    let client: Arc<dyn KafkaClient> = Arc::new(cluster.client());
    let context = SessionContext::new();
    for (name, range) in [("all", "start:end"), ("tail", "-10")] {
        let table = KafkaTable::builder_with_client(Arc::clone(&client))
            .topic("orders")
            .range(range);
        let table = Arc::new(table.build().await.unwrap());
        context.register_table(name, table).unwrap();
    }
    let sql = "SELECT max(\"offset\") FROM \"all\" UNION ALL SELECT max(\"offset\") FROM tail";
    cluster.reset_stats();
    context
        .sql(sql)
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap();
    assert_eq!(cluster.stats().list_offsets, 1);
}

#[tokio::test]
async fn a_pinned_table_refuses_a_log_that_was_cut_and_has_grown_again() {
    let cluster = orders();
    let table = builder(&cluster).topic("orders").build().await.unwrap();
    let text = table.snapshot().await.unwrap().to_json();
    assert!(text.contains("\"leader_epoch\":0"), "{text}");
    let pinned = table.at(text.parse().unwrap()).unwrap();
    let context = session();
    context.register_table("orders", Arc::new(pinned)).unwrap();
    let sql = "SELECT count(*) FROM orders WHERE partition = 0";
    cluster.elect_at("orders", 0, 100).unwrap();
    assert_eq!(rows(&context, sql).await, ["100"]);
    cluster.elect_at("orders", 0, 40).unwrap();
    for number in 0..70 {
        let record = Record::new(format!("another {number}"));
        cluster.append("orders", 0, record).unwrap();
    }
    let error = context.sql(sql).await.unwrap().collect().await.unwrap_err();
    let Some(Error::Truncated {
        offset: 100,
        cut: 40,
        ..
    }) = Error::find(&error)
    else {
        panic!("{error}");
    };
}

#[tokio::test]
async fn pinned_table_does_not_move() {
    let cluster = orders();
    let table = builder(&cluster)
        .topic("orders")
        .range("-10")
        .build()
        .await
        .unwrap();
    let snapshot = table.snapshot().await.unwrap();
    let text = snapshot.to_json();
    cluster.append("orders", 0, Record::new("later")).unwrap();
    let pinned = table.at(text.parse().unwrap()).unwrap();
    assert_eq!(pinned.snapshot().await.unwrap(), snapshot);
    let context = session();
    context.register_table("orders", Arc::new(pinned)).unwrap();
    let sql = "SELECT min(offset), max(offset), count(*) FROM orders";
    assert_eq!(rows(&context, sql).await, ["90 99 40"]);

    let other = builder(&cluster)
        .topic("orders")
        .isolation(IsolationLevel::ReadUncommitted);
    assert!(other.build_lazy().unwrap().at(snapshot.clone()).is_err());
    let foreign = builder(&cluster).topic("payments").build_lazy().unwrap();
    let error = foreign.at(snapshot).unwrap_err().to_string();
    assert_eq!(
        error,
        "the snapshot has orders[0] 90..100, which does not belong to the table of payments"
    );
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

/// DataFusion rewrites `CAST(timestamp AS ns) < literal` to a comparison in ms and drops the
/// literal's digits below a millisecond. The scan must not lose records by that on top: under
/// CreateTime an upper bound cuts nothing, and lower bounds are rounded to the sound side.
#[tokio::test]
async fn digits_below_a_millisecond_prune_nothing_that_matches() {
    let cluster = orders();
    let context = over(&cluster, "orders");
    let at = |op: &str| {
        format!(
            "SELECT count(*) FROM orders WHERE timestamp {op} TIMESTAMP '1970-01-01 00:00:05.0005Z' AND partition = 0"
        )
    };
    // 5.000 s is the record at offset 5.
    assert_eq!(
        count(&context, &at(">=")).await + count(&context, &at("<")).await,
        100
    );
}
