//! What became of every offset on a real broker, and receipts that are checked later.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use datafusion::physical_plan::collect;
use datafusion_kafka::range::{Ledger, LedgerCounts, OnDataLoss};
use datafusion_kafka::table::KafkaTableBuilder;

use super::{filled, rows, table, topic, with_table};
use crate::support::{Record, Transaction, admin, produce, shared};

/// What became of the offsets of a table's range.
async fn counts(of: KafkaTableBuilder) -> LedgerCounts {
    let context = with_table(of).await;
    let frame = context.sql("SELECT value FROM t").await.expect("planned");
    let task = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await.expect("planned");
    collect(Arc::clone(&plan), task).await.expect("read");
    let ledger = Ledger::of(&plan);
    for range in &ledger.ranges {
        range.validate().expect("it adds up");
    }
    ledger.total()
}

/// The counts as the client in use can tell them: without reasons, where it hands out records only.
async fn told(topic: &str, counts: LedgerCounts) -> LedgerCounts {
    let table = table(topic).build().await.expect("the topic is there");
    if table.client().name() != "librdkafka" {
        return counts;
    }
    LedgerCounts {
        untold: counts.without_record(),
        control: 0,
        aborted: 0,
        gap: 0,
        ..counts
    }
}

fn records(count: usize, value: &str) -> Vec<Record> {
    vec![Record::new(0).value(value); count]
}

/// The look-up cuts the start alone: what is too old behind it is passed by the heads of its batches.
#[tokio::test(flavor = "multi_thread")]
async fn record_batches_too_old_for_a_predicate_are_passed_whole() {
    let topic = topic(1);
    let at = |ms: i64| vec![Record::new(0).value("x").timestamp_ms(ms); 10];
    for ms in [900_000, 100_000, 950_000] {
        produce::produce(shared().bootstrap(), &topic, &at(ms));
    }
    let context = with_table(table(&topic)).await;
    let sql = "SELECT count(value) FROM t WHERE timestamp >= '1970-01-01T00:15:00Z'";
    assert_eq!(rows(&context, sql).await, ["20"]);
    let frame = context.sql(sql).await.expect("planned");
    let task = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await.expect("planned");
    collect(Arc::clone(&plan), task).await.expect("read");
    let total = Ledger::of(&plan).total();
    let client = table(&topic).build().await.expect("the topic is there");
    let filtered = match client.client().name() {
        "wire" => 10,
        _ => 0,
    };
    assert_eq!((total.filtered, total.delivered), (filtered, 30 - filtered));
}

#[tokio::test(flavor = "multi_thread")]
async fn control_and_aborted_records_are_counted() {
    let topic = topic(1);
    let bootstrap = shared().bootstrap();
    produce::produce(bootstrap, &topic, &records(10, "plain"));
    let aborted = Transaction::begin(bootstrap, &format!("{topic}-a"));
    aborted.produce(&topic, &records(5, "aborted"));
    aborted.abort();
    let committed = Transaction::begin(bootstrap, &format!("{topic}-b"));
    committed.produce(&topic, &records(4, "committed"));
    committed.commit();
    let expected = LedgerCounts {
        delivered: 14,
        control: 2,
        aborted: 5,
        ..LedgerCounts::default()
    };
    assert_eq!(counts(table(&topic)).await, told(&topic, expected).await);
    // 12..16 are the last three of the aborted records and the end of their transaction.
    let expected = LedgerCounts {
        control: 1,
        aborted: 3,
        ..LedgerCounts::default()
    };
    let part = counts(table(&topic).range("12:16")).await;
    assert_eq!(part, told(&topic, expected).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn compacted_and_deleted_offsets_are_counted() {
    let (topic, end, survivors) = compacted();
    let expected = LedgerCounts {
        delivered: survivors,
        gap: u64::try_from(end).expect("positive") - survivors,
        ..LedgerCounts::default()
    };
    let range = format!("0:{end}");
    let found = counts(table(&topic).range(&range)).await;
    assert_eq!(found, told(&topic, expected).await);

    let topic = filled(1, 100);
    admin::delete_records(shared().bootstrap(), &topic, 0, 30);
    let skipping = table(&topic).range("10:90").on_data_loss(OnDataLoss::Skip);
    let expected = LedgerCounts {
        delivered: 60,
        lost: 20,
        ..LedgerCounts::default()
    };
    assert_eq!(counts(skipping).await, expected);
}

/// A topic of 200 records that keeps the last of each key, its end, and how many are left.
fn compacted() -> (String, i64, u64) {
    let (topic, bootstrap) = (to_compact(), shared().bootstrap());
    let survivors = admin::compact(bootstrap, &topic, 0);
    assert!(survivors.len() < 200, "the log was not compacted");
    let end = survivors.last().expect("the marker is last").offset + 1;
    (topic, end, survivors.len() as u64)
}

fn to_compact() -> String {
    let topic = admin::unique_topic("ledger");
    let bootstrap = shared().bootstrap();
    admin::create_compacted_topic(bootstrap, &topic, 1);
    let keyed = |n: i32| {
        Record::new(0)
            .key(format!("k{}", n % 10))
            .value(format!("v{n}"))
    };
    produce::produce(bootstrap, &topic, &(0..200).map(keyed).collect::<Vec<_>>());
    topic
}

fn kafka_sql(args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_kafka-sql"))
        .args(["-b", shared().bootstrap()])
        .args(args)
        .output();
    output.expect("the shell starts")
}

/// Runs a query and writes its receipt.
fn receipt(folder: &Path, sql: &str) -> String {
    let file = folder.join("receipt.json").display().to_string();
    let output = kafka_sql(&["query", sql, "--receipt", &file]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "");
    file
}

/// The exit code of a rerun, and its rows.
fn rerun(file: &str) -> (Option<i32>, Vec<serde_json::Value>) {
    let output = kafka_sql(&["rerun", file, "--format", "ndjson"]);
    let text = String::from_utf8(output.stdout).expect("text");
    let rows = text.lines().map(|l| serde_json::from_str(l).expect("JSON"));
    (output.status.code(), rows.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_identical_until_its_records_are_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let topic = filled(3, 500);
    let bootstrap = shared().bootstrap();
    let sql = format!(
        "SELECT a.value FROM \"{topic}\" a JOIN kafka('{topic}', '1=10:400') b ON a.offset = b.offset"
    );
    let file = receipt(folder.path(), &sql);
    produce::produce(bootstrap, &topic, &records(5, "later"));
    let (code, rows) = rerun(&file);
    assert_eq!(code, Some(0), "{rows:?}");
    // Three partitions of the one scan and one of the other.
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert!(
        rows.iter().all(|row| row["verdict"] == "identical"),
        "{rows:?}"
    );

    admin::delete_records(bootstrap, &topic, 1, 20);
    let (code, rows) = rerun(&file);
    assert_eq!(code, Some(5), "{rows:?}");
    let gone = |row: &&serde_json::Value| row["verdict"] == "unavailable";
    let reasons: Vec<_> = rows.iter().filter(gone).map(|row| &row["reason"]).collect();
    assert_eq!(reasons.len(), 2, "{rows:?}");
    let reason = |n| format!("{n} of its offsets lie below the log start now");
    assert!(reasons.iter().any(|r| **r == reason(20)), "{reasons:?}");
    assert!(reasons.iter().any(|r| **r == reason(10)), "{reasons:?}");

    // The same records at the same offsets, and yet it is another topic.
    admin::delete_topic(bootstrap, &topic);
    admin::create_topic(bootstrap, &topic, 3, &[]);
    let (code, rows) = rerun(&file);
    assert_eq!(code, Some(5), "{rows:?}");
    let reason = rows[0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("was recreated"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_changed_by_compaction() {
    let folder = tempfile::tempdir().expect("a folder");
    let topic = to_compact();
    let sql = format!("SELECT count(*) FROM kafka('{topic}', '0:200') WHERE key <> 'x'");
    let file = receipt(folder.path(), &sql);
    assert_eq!(rerun(&file).0, Some(0));
    admin::compact(shared().bootstrap(), &topic, 0);
    let (code, rows) = rerun(&file);
    assert_eq!(code, Some(1), "{rows:?}");
    assert_eq!(rows[0]["verdict"], "changed");
    let reason = rows[0]["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("delivered: 200 then, "), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_holds_transactions_and_no_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let topic = topic(1);
    let bootstrap = shared().bootstrap();
    let aborted = Transaction::begin(bootstrap, &format!("{topic}-r"));
    aborted.produce(&topic, &records(5, "aborted"));
    aborted.abort();
    produce::produce(bootstrap, &topic, &records(2, "plain"));
    let sql = format!(
        "CREATE EXTERNAL TABLE t STORED AS KAFKA LOCATION '{topic}' OPTIONS \
         ('kafka.bootstrap.servers' '{bootstrap}', 'kafka.sasl.password' 'hunter2'); \
         SELECT value FROM t ORDER BY offset DESC"
    );
    let file = receipt(folder.path(), &sql);
    let text = std::fs::read_to_string(&file).expect("written");
    assert!(!text.contains("hunter2"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let statement = &json["statements"][0];
    assert_eq!(statement["sql"], "SELECT value FROM t ORDER BY offset DESC");
    let ledger = &statement["scans"][0]["ledger"][0];
    assert_eq!(
        (&ledger["end"], &ledger["delivered"]),
        (&8.into(), &2.into())
    );
    assert_eq!(rerun(&file).0, Some(0));
}
