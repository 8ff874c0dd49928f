//! Accounting for every offset on a real broker.

use std::sync::Arc;

use datafusion::physical_plan::collect;
use datafusion_kafka::range::{LedgerCounts, OnDataLoss};
use datafusion_kafka::table::KafkaTableBuilder;

use super::{filled, rows, table, topic, with_table};
use crate::support::{Record, Transaction, admin, produce, shared, topic_to_compact};

/// The counts of the offsets in a table's range.
async fn counts(of: KafkaTableBuilder) -> LedgerCounts {
    let context = with_table(of).await;
    let frame = context.sql("SELECT value FROM t").await.expect("planned");
    let task = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await.expect("planned");
    collect(Arc::clone(&plan), task).await.expect("read");
    let ledger = datafusion_kafka::scan::ledger(&plan);
    for range in &ledger.ranges {
        range.validate().expect("it adds up");
    }
    ledger.total()
}

/// The counts as the current client can report them: without reasons if it only returns records.
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

/// The look-up only cuts the start. Later batches that are too old are skipped by their heads.
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
    let total = datafusion_kafka::scan::ledger(&plan).total();
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
    // 12..16 are the last three aborted records and the end of their transaction.
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

/// A topic of 200 records that keeps the last record of each key. Returns its end, and how many records are
/// left.
fn compacted() -> (String, i64, u64) {
    let (topic, bootstrap) = (topic_to_compact(), shared().bootstrap());
    let survivors = admin::compact(bootstrap, &topic, 0);
    assert!(survivors.len() < 200, "the log was not compacted");
    let end = survivors.last().expect("the marker is last").offset + 1;
    (topic, end, survivors.len() as u64)
}
