//! Receipts written by the shell, checked later on a real broker.

use std::path::Path;

use crate::export::{World, kafka_sql};
use crate::support::{Record, Transaction, admin, produce, shared, topic_to_compact};

fn records(count: usize, value: &str) -> Vec<Record> {
    vec![Record::new(0).value(value); count]
}

/// Runs a query and writes its receipt.
fn receipt(folder: &Path, sql: &str) -> String {
    let file = folder.join("receipt.json").display().to_string();
    let output = kafka_sql()
        .args(["query", sql, "--receipt", &file])
        .output();
    let output = output.expect("the shell starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "");
    file
}

/// The exit code of a rerun, and its rows.
fn rerun(file: &str) -> (Option<i32>, Vec<serde_json::Value>) {
    let output = kafka_sql()
        .args(["rerun", file, "--format", "ndjson"])
        .output();
    let output = output.expect("the shell starts");
    let text = String::from_utf8(output.stdout).expect("text");
    let rows = text.lines().map(|l| serde_json::from_str(l).expect("JSON"));
    (output.status.code(), rows.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_identical_until_its_records_are_gone() {
    let world = World::new(3);
    world.produce(3, 500);
    let (topic, bootstrap) = (&world.topic, shared().bootstrap());
    let sql = format!(
        "SELECT a.value FROM \"{topic}\" a JOIN kafka('{topic}', '1=10:400') b ON a.offset = b.offset"
    );
    let file = receipt(world.folder.path(), &sql);
    produce::produce(bootstrap, topic, &records(5, "later"));
    let (code, rows) = rerun(&file);
    assert_eq!(code, Some(0), "{rows:?}");
    // Three partitions from one scan, and one from the other.
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert!(
        rows.iter().all(|row| row["verdict"] == "identical"),
        "{rows:?}"
    );

    admin::delete_records(bootstrap, topic, 1, 20);
    let (code, rows) = rerun(&file);
    assert_eq!(code, Some(5), "{rows:?}");
    let gone = |row: &&serde_json::Value| row["verdict"] == "unavailable";
    let reasons: Vec<_> = rows.iter().filter(gone).map(|row| &row["reason"]).collect();
    assert_eq!(reasons.len(), 2, "{rows:?}");
    let reason = |n| format!("{n} of its offsets lie below the log start now");
    assert!(reasons.iter().any(|r| **r == reason(20)), "{reasons:?}");
    assert!(reasons.iter().any(|r| **r == reason(10)), "{reasons:?}");

    // The records and offsets are the same, but it is another topic.
    admin::delete_topic(bootstrap, topic);
    admin::create_topic(bootstrap, topic, 3, &[]);
    let (code, rows) = rerun(&file);
    assert_eq!(code, Some(5), "{rows:?}");
    let reason = rows[0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("was recreated"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_changed_by_compaction() {
    let folder = tempfile::tempdir().expect("a folder");
    let topic = topic_to_compact();
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
    let world = World::new(1);
    let (topic, bootstrap) = (&world.topic, shared().bootstrap());
    let aborted = Transaction::begin(bootstrap, &format!("{topic}-r"));
    aborted.produce(topic, &records(5, "aborted"));
    aborted.abort();
    produce::produce(bootstrap, topic, &records(2, "plain"));
    let sql = format!(
        "CREATE EXTERNAL TABLE t STORED AS KAFKA LOCATION '{topic}' OPTIONS \
         ('kafka.bootstrap.servers' '{bootstrap}', 'kafka.sasl.password' 'hunter2'); \
         SELECT value FROM t ORDER BY offset DESC"
    );
    let file = receipt(world.folder.path(), &sql);
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
