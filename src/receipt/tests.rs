//! Receipts over the log in memory: their content, and the result of reading again.

use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::*;
use crate::client::KafkaClient;
use crate::client::memory::{MemoryCluster, Record};
use crate::range::{IsolationLevel, OnDataLoss};
use crate::session::KafkaSessionBuilder;
use crate::table::{KafkaTable, KafkaTableBuilder};

/// Two partitions of 50 records with repeating keys, and an aborted transaction in the second.
fn cluster() -> MemoryCluster {
    let cluster = MemoryCluster::builder().seed(7).fetch_records(8).build();
    cluster.create_topic("orders", 2).unwrap();
    for partition in 0..2 {
        let records = (0..50i64).map(|n| {
            Record::new(format!("value {n}"))
                .with_key(format!("key {}", n % 20))
                .with_timestamp_ms(1000 * n)
                .with_header("n", Some(b"1"))
        });
        cluster.append_all("orders", partition, records).unwrap();
    }
    let mut transaction = cluster.begin();
    for _ in 0..3 {
        transaction
            .append("orders", 1, Record::new("aborted"))
            .unwrap();
    }
    transaction.abort().unwrap();
    cluster
}

fn client(cluster: &MemoryCluster) -> Arc<dyn KafkaClient> {
    Arc::new(cluster.client())
}

fn builder(cluster: &MemoryCluster) -> KafkaTableBuilder {
    KafkaTable::builder_with_client(client(cluster)).topic("orders")
}

async fn session(table: KafkaTableBuilder, config: SessionConfig) -> SessionContext {
    let context = KafkaSessionBuilder::new().config(config).build().unwrap();
    context
        .register_table("orders", Arc::new(table.build().await.unwrap()))
        .unwrap();
    context
}

async fn receipt_in(context: &SessionContext, sql: &str) -> Receipt {
    let frame = context.sql(sql).await.unwrap();
    let task = Arc::new(with_checksums(frame.task_ctx()));
    let plan = frame.create_physical_plan().await.unwrap();
    collect(Arc::clone(&plan), task).await.unwrap();
    let mut receipt = Receipt::new();
    assert!(receipt.add(sql, &plan).unwrap());
    // As if it was stored in a file.
    let json = receipt.to_json();
    let read: Receipt = json.parse().unwrap();
    assert_eq!(read, receipt);
    read
}

async fn receipt(cluster: &MemoryCluster, sql: &str) -> Receipt {
    receipt_in(&session(builder(cluster), SessionConfig::new()).await, sql).await
}

fn ledgers(receipt: &Receipt) -> Vec<&Ledger> {
    let scans = receipt.statements.iter().flat_map(|s| &s.scans);
    scans.map(|scan| &scan.ledger).collect()
}

async fn verdicts(receipt: &Receipt, cluster: &MemoryCluster) -> Vec<PartitionVerdict> {
    let rerun = receipt.rerun(&client(cluster)).await.unwrap();
    rerun.partitions.into_iter().map(|p| p.verdict).collect()
}

const IDENTICAL: PartitionVerdict = PartitionVerdict::Identical;

#[tokio::test]
async fn names_cluster_topic_columns_ranges_and_classes() {
    let cluster = cluster();
    let sql = "SELECT key FROM orders WHERE value LIKE '%7'";
    let receipt = receipt(&cluster, sql).await;
    let json: serde_json::Value = serde_json::from_str(&receipt.to_json()).unwrap();
    assert_eq!(json["version"], 1);
    let statement = &json["statements"][0];
    assert_eq!(statement["sql"], sql);
    assert_eq!(statement["sql_sha256"], sha256(sql));
    let scan = &statement["scans"][0];
    assert_eq!(scan["client"], "memory");
    assert_eq!(scan["columns"], serde_json::json!(["key", "value"]));
    let snapshot = &scan["snapshot"];
    assert_eq!(snapshot["isolation_level"], "read_committed");
    assert!(snapshot["cluster_id"].is_string() && snapshot["topics"][0]["topic_id"].is_string());
    let second = &scan["ledger"][1];
    assert_eq!(second["delivered"], 50);
    assert_eq!(
        (&second["aborted"], &second["control"]),
        (&3.into(), &1.into())
    );
    assert_eq!(second["rows"].as_str().map(str::len), Some(32));
}

/// In a table with formats, predicates on timestamps decide which records are decoded. But a checksum covers
/// all records that were read, however many of them the predicates rule out.
#[tokio::test]
async fn predicates_make_no_difference_where_values_have_a_format() {
    let cluster = cluster();
    let sql = "SELECT value FROM orders WHERE timestamp >= '1970-01-01T00:00:20Z' \
               AND timestamp < '1970-01-01T00:00:30Z'";
    let table = builder(&cluster).value_format(crate::decode::Format::Text);
    let context = session(table, SessionConfig::new()).await;
    let typed = receipt_in(&context, sql).await;
    let raw = receipt(&cluster, sql).await;
    let (typed_ledger, raw_ledger) = (ledgers(&typed)[0], ledgers(&raw)[0]);
    for (a, b) in typed_ledger.ranges.iter().zip(&raw_ledger.ranges) {
        assert_eq!((&a.range, a.counts, a.rows), (&b.range, b.counts, b.rows));
    }
    assert_eq!(verdicts(&typed, &cluster).await, [IDENTICAL, IDENTICAL]);
}

#[tokio::test]
async fn batches_partitions_and_direction_make_no_difference() {
    let cluster = cluster();
    let sql = "SELECT key, value, headers, timestamp FROM orders WHERE partition = 1";
    let first = receipt(&cluster, sql).await;
    for (batch, split) in [(1, 1000), (7, 9), (1000, 13)] {
        let config = SessionConfig::new()
            .with_batch_size(batch)
            .with_target_partitions(4);
        let table = builder(&cluster).max_records_per_partition(split);
        let context = session(table, config).await;
        for order in ["", " ORDER BY offset DESC"] {
            // Every checksum includes the offset, so projecting it makes no difference.
            let other = receipt_in(&context, &format!("{sql}{order}")).await;
            let (a, b) = (&ledgers(&first)[0].ranges[0], &ledgers(&other)[0].ranges[0]);
            assert_eq!((&a.range, a.counts, a.rows), (&b.range, b.counts, b.rows));
        }
    }
    assert_eq!(verdicts(&first, &cluster).await, [IDENTICAL]);
    // With other columns, the checksum differs.
    let fewer = receipt(&cluster, "SELECT key FROM orders WHERE partition = 1").await;
    assert_ne!(
        ledgers(&fewer)[0].ranges[0].rows,
        ledgers(&first)[0].ranges[0].rows
    );
    assert_eq!(verdicts(&fewer, &cluster).await, [IDENTICAL]);
}

#[tokio::test]
async fn every_scan_of_a_statement_is_listed() {
    let cluster = cluster();
    let sql = "SELECT count(*) FROM orders a JOIN orders b ON a.offset = b.offset \
               WHERE a.partition = 0 AND b.partition = 1 AND b.value IS NOT NULL";
    let receipt = receipt(&cluster, sql).await;
    assert_eq!(receipt.statements[0].scans.len(), 2);
    assert_eq!(verdicts(&receipt, &cluster).await, [IDENTICAL, IDENTICAL]);
    assert_eq!(receipt.counts().delivered, 100);
}

#[tokio::test]
async fn later_records_make_no_difference() {
    let cluster = cluster();
    let receipt = receipt(&cluster, "SELECT * FROM orders").await;
    cluster.append("orders", 0, Record::new("later")).unwrap();
    assert_eq!(verdicts(&receipt, &cluster).await, [IDENTICAL, IDENTICAL]);
}

#[tokio::test]
async fn a_limit_is_checked_as_far_as_it_read() {
    let cluster = cluster();
    for order in ["", " ORDER BY offset DESC"] {
        let sql = format!("SELECT * FROM orders WHERE partition = 0{order} LIMIT 20");
        let receipt = receipt(&cluster, &sql).await;
        assert_eq!(receipt.counts().delivered, 20);
        assert_eq!(receipt.counts().unread, 30);
        assert_eq!(verdicts(&receipt, &cluster).await, [IDENTICAL]);
        // A change outside the range that was read does not matter.
        let (outside, inside) = if order.is_empty() { (25, 10) } else { (10, 35) };
        let copy = self::cluster();
        copy.remove("orders", 0, outside).unwrap();
        assert_eq!(verdicts(&receipt, &copy).await, [IDENTICAL], "{order}");
        copy.remove("orders", 0, inside).unwrap();
        let changed =
            PartitionVerdict::Changed("delivered: 20 then, 19 now; gap: 0 then, 1 now".to_owned());
        assert_eq!(verdicts(&receipt, &copy).await, [changed], "{order}");
    }
}

#[tokio::test]
async fn timestamps_and_isolation_are_those_of_the_receipt() {
    let cluster = cluster();
    let timed = builder(&cluster).range("@1970-01-01T00:00:10Z:1970-01-01T00:00:20Z");
    let context = session(timed, SessionConfig::new()).await;
    let receipt = receipt_in(&context, "SELECT value FROM orders").await;
    assert_eq!(receipt.counts().delivered, 20);
    assert!(receipt.counts().filtered > 0);
    assert_eq!(verdicts(&receipt, &cluster).await, [IDENTICAL, IDENTICAL]);

    let all = builder(&cluster).isolation(IsolationLevel::ReadUncommitted);
    let context = session(all, SessionConfig::new()).await;
    let receipt = receipt_in(&context, "SELECT value FROM orders").await;
    assert_eq!(receipt.counts().delivered, 103);
    assert_eq!(verdicts(&receipt, &cluster).await, [IDENTICAL, IDENTICAL]);
}

#[tokio::test]
async fn compaction_is_a_change() {
    let cluster = cluster();
    let receipt = receipt(&cluster, "SELECT count(*) FROM orders").await;
    cluster.compact_by_key("orders", 0).unwrap();
    let rerun = receipt.rerun(&client(&cluster)).await.unwrap();
    assert_eq!(rerun.verdict(), Verdict::Changed);
    let changed =
        PartitionVerdict::Changed("delivered: 50 then, 20 now; gap: 0 then, 30 now".to_owned());
    assert_eq!(rerun.partitions[0].verdict, changed);
    assert_eq!(rerun.partitions[1].verdict, IDENTICAL);
}

#[tokio::test]
async fn other_records_at_the_same_offsets_are_a_change() {
    let cluster = cluster();
    let mut receipt = receipt(&cluster, "SELECT value FROM orders WHERE partition = 0").await;
    // If the broker provides no topic ids, only the records can show it.
    let snapshot = &mut receipt.statements[0].scans[0].snapshot;
    snapshot.topics[0].topic_id = None;
    cluster.recreate_topic("orders").unwrap();
    let others = (0..50).map(|n| Record::new(format!("other {n}")));
    cluster.append_all("orders", 0, others).unwrap();
    let verdict = &verdicts(&receipt, &cluster).await[0];
    assert!(
        verdict
            .reason()
            .unwrap()
            .starts_with("the delivered records differ: checksum "),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn lost_data_is_unavailable_with_a_reason() {
    let cluster = cluster();
    let receipt = receipt(&cluster, "SELECT * FROM orders").await;
    let reasons = async || -> Vec<String> {
        let verdicts = verdicts(&receipt, &cluster).await;
        let reason = |v: &PartitionVerdict| match v {
            PartitionVerdict::Unavailable(reason) => reason.clone(),
            other => format!("{other:?}"),
        };
        verdicts.iter().map(reason).collect()
    };
    cluster.truncate_before("orders", 0, 10).unwrap();
    assert_eq!(
        reasons().await,
        ["10 of its offsets lie below the log start now", "Identical"]
    );
    cluster.recreate_topic("orders").unwrap();
    let found = reasons().await;
    assert!(
        found[0].starts_with("topic 'orders' was recreated: "),
        "{found:?}"
    );
    cluster.delete_topic("orders").unwrap();
    let found = reasons().await;
    assert!(
        found[1].starts_with("topic 'orders' does not exist"),
        "{found:?}"
    );

    let elsewhere = MemoryCluster::new();
    let rerun = receipt.rerun(&client(&elsewhere)).await.unwrap();
    assert_eq!(rerun.verdict(), Verdict::Unavailable);
    let reason = rerun.partitions[0].verdict.reason().unwrap();
    assert!(
        reason.starts_with("the receipt is of the cluster "),
        "{reason}"
    );
}

#[tokio::test]
async fn loss_that_was_allowed_is_no_change() {
    let cluster = cluster();
    cluster.truncate_before("orders", 0, 10).unwrap();
    let skipping = builder(&cluster)
        .range("0=5:20")
        .on_data_loss(OnDataLoss::Skip);
    let context = session(skipping, SessionConfig::new()).await;
    let receipt = receipt_in(&context, "SELECT * FROM orders").await;
    assert_eq!(receipt.counts().lost, 5);
    assert_eq!(verdicts(&receipt, &cluster).await, [IDENTICAL]);
    cluster.truncate_before("orders", 0, 11).unwrap();
    let gone = "1 of its offsets lie below the log start now".to_owned();
    assert_eq!(
        verdicts(&receipt, &cluster).await,
        [PartitionVerdict::Unavailable(gone)]
    );
}

#[tokio::test]
async fn no_receipt_without_checksums() {
    let context = session(builder(&cluster()), SessionConfig::new()).await;
    let frame = context.sql("SELECT value FROM orders").await.unwrap();
    let task = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await.unwrap();
    collect(Arc::clone(&plan), task).await.unwrap();
    let error = Receipt::new().add("x", &plan).unwrap_err().to_string();
    assert!(
        error.starts_with("orders[0] 0..50: the plan was executed without checksums"),
        "{error}"
    );
    let other = context.sql("SELECT 1").await.unwrap();
    let other = other.create_physical_plan().await.unwrap();
    assert!(!Receipt::new().add("x", &other).unwrap());
}

#[tokio::test]
async fn a_receipt_that_was_tampered_with_is_refused() {
    let json = receipt(&cluster(), "SELECT value FROM orders")
        .await
        .to_json();
    let error = |from: &str, to: &str| {
        let changed = json.replacen(from, to, 1);
        assert_ne!(changed, json, "{from}");
        changed.parse::<Receipt>().unwrap_err().to_string()
    };
    for (from, to, expected) in [
        ("\"version\": 1", "\"version\": 2", "version 2 is unknown"),
        ("SELECT value", "SELECT key", "does not match the SHA-256"),
        (
            "\"delivered\": 50",
            "\"delivered\": 49",
            "its counts add up to 49",
        ),
        ("\"rows\": \"", "\"rows\": \"z", "32 hexadecimal digits"),
    ] {
        let error = error(from, to);
        assert!(error.starts_with("receipt: "), "{error}");
        assert!(error.contains(expected), "{error}");
    }
    assert!("{}".parse::<Receipt>().is_err() && "[".parse::<Receipt>().is_err());
}

#[tokio::test]
async fn a_log_that_was_cut_and_has_grown_again_is_named() {
    for grows_by in [25, 5] {
        let cluster = cluster();
        let context = session(builder(&cluster), SessionConfig::new()).await;
        let sql = "SELECT value FROM orders WHERE partition = 0";
        let frame = context.sql(sql).await.unwrap();
        let task = Arc::new(with_checksums(frame.task_ctx()));
        let plan = frame.create_physical_plan().await.unwrap();
        collect(Arc::clone(&plan), task).await.unwrap();
        let mut receipt = Receipt::new();
        assert!(receipt.add_with_epochs(sql, &plan).await.unwrap());
        let receipt: Receipt = receipt.to_json().parse().unwrap();
        cluster.elect_at("orders", 0, 50).unwrap();
        assert_eq!(verdicts(&receipt, &cluster).await, [IDENTICAL]);
        cluster.elect_at("orders", 0, 30).unwrap();
        let others = (0..grows_by).map(|_| Record::new("another"));
        cluster.append_all("orders", 0, others).unwrap();
        let verdicts = verdicts(&receipt, &cluster).await;
        let reason = verdicts[0].reason().unwrap();
        assert!(
            reason.starts_with("orders[0]@50: the log was cut at 30 "),
            "{reason}"
        );
    }
}

/// Modified receipts are refused when they are parsed or read again.
#[tokio::test]
async fn changed_receipts_are_refused_or_read_again() {
    let cluster = cluster();
    let sql = "SELECT count(*) FROM orders WHERE offset < 40";
    let text = receipt(&cluster, sql).await.to_json();
    let client = client(&cluster);
    let mut read = 0;
    for changed in crate::spoil::spoiled(&text) {
        if let Ok(receipt) = changed.parse::<Receipt>() {
            read += 1;
            let _ = (receipt.counts().total(), receipt.to_json());
            let _ = receipt.rerun(&client).await;
        }
    }
    assert!(read > 0);
}
