//! What the shared conformance suite cannot demand of a broker: cost, faults, exact batches.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;

use super::*;
use crate::client::{KafkaClient, OffsetAt, OffsetQuery, RawBatch, ReadRequest, TopicSelection};
use crate::range::OffsetRange;

fn range(topic: &str, partition: i32, start: i64, end: i64) -> OffsetRange {
    OffsetRange::try_new(topic, partition, start, end).unwrap()
}

fn request(ranges: Vec<OffsetRange>) -> ReadRequest {
    ReadRequest::new(ranges)
}

/// A cluster with topic `t` of one partition, filled with `records` records of 4 bytes.
fn filled(builder: MemoryClusterBuilder, records: usize) -> MemoryCluster {
    let cluster = builder.build();
    cluster.create_topic("t", 1).unwrap();
    let records = (0..records).map(|i| Record::new(format!("{i:04}")));
    cluster.append_all("t", 0, records).unwrap();
    cluster
}

async fn read(cluster: &MemoryCluster, request: ReadRequest) -> Vec<Result<RawBatch>> {
    cluster.client().read(request).collect().await
}

fn offsets(batches: &[Result<RawBatch>]) -> Vec<i64> {
    let whole = batches.iter().map(|b| b.as_ref().unwrap());
    whole.flat_map(|b| b.offsets.values().to_vec()).collect()
}

#[tokio::test]
async fn reading_costs_what_the_range_holds() {
    let cluster = filled(MemoryCluster::builder().fetch_records(10), 100);
    read(&cluster, request(vec![range("t", 0, 20, 45)])).await;
    let stats = cluster.stats();
    assert_eq!((stats.fetches, stats.records, stats.bytes), (3, 25, 100));
    assert_eq!(stats.partition("t", 0).records, 25);
    assert_eq!(stats.partition("t", 1), PartitionStats::default());
    cluster.reset_stats();
    assert_eq!(cluster.stats(), MemoryStats::default());
}

#[tokio::test]
async fn nothing_is_fetched_before_the_first_poll_or_after_the_drop() {
    let cluster = filled(MemoryCluster::builder().fetch_records(10), 100);
    let mut stream = cluster.client().read(request(vec![range("t", 0, 0, 100)]));
    assert_eq!(cluster.stats().fetches, 0);
    stream.next().await.unwrap().unwrap();
    drop(stream);
    assert_eq!(cluster.stats().records, 10);
}

#[tokio::test]
async fn limit_bounds_the_records_fetched() {
    let cluster = filled(MemoryCluster::builder(), 100);
    let limited = ReadRequest {
        limit: Some(3),
        ..request(vec![range("t", 0, 0, 100)])
    };
    let mut stream = cluster.client().read(limited);
    assert_eq!(stream.next().await.unwrap().unwrap().offsets.len(), 3);
    assert_eq!(cluster.stats().records, 3);
    // A limit is a hint: a consumer that keeps polling gets the rest.
    assert_eq!(stream.next().await.unwrap().unwrap().next_offset, 100);
}

#[tokio::test]
async fn fetch_bytes_bound_a_fetch_but_one_record_fits() {
    let cluster = filled(MemoryCluster::builder().fetch_bytes(9), 4);
    cluster.append("t", 0, Record::new(vec![b'x'; 50])).unwrap();
    let batches = read(&cluster, request(vec![range("t", 0, 0, 5)])).await;
    assert_eq!(offsets(&batches), [0, 1, 2, 3, 4]);
    assert_eq!(cluster.stats().fetches, 3);
}

#[tokio::test]
async fn invisible_range_reports_its_progress() {
    let cluster = filled(MemoryCluster::builder(), 0);
    let mut transaction = cluster.begin();
    transaction.append("t", 0, Record::new("x")).unwrap();
    transaction.abort().unwrap();
    let batches = read(&cluster, request(vec![range("t", 0, 0, 2)])).await;
    assert_eq!(batches.len(), 1);
    let batch = batches[0].as_ref().unwrap();
    assert_eq!((batch.offsets.len(), batch.next_offset), (0, 2));
}

#[tokio::test]
async fn hole_at_the_tail_of_the_log_ends_the_range() {
    let cluster = filled(MemoryCluster::builder(), 4);
    assert!(cluster.remove("t", 0, 3).unwrap());
    assert!(!cluster.remove("t", 0, 3).unwrap());
    let batches = read(&cluster, request(vec![range("t", 0, 0, 4)])).await;
    assert_eq!(offsets(&batches), [0, 1, 2]);
    assert_eq!(batches.last().unwrap().as_ref().unwrap().next_offset, 4);
}

#[tokio::test]
async fn failing_calls_fail_once_and_in_their_turn() {
    let cluster = filled(MemoryCluster::builder().fetch_records(10), 100);
    cluster.fail_after(Call::Fetch, 2, Error::invalid("third"));
    cluster.fail_next(Call::Describe, Error::invalid("first"));
    let batches = read(&cluster, request(vec![range("t", 0, 0, 100)])).await;
    assert_eq!(offsets(&batches[..2]), (0..20).collect::<Vec<i64>>());
    assert_eq!(batches[2].as_ref().unwrap_err().to_string(), "third");
    assert_eq!(batches.len(), 3);
    let client = cluster.client();
    assert!(client.describe(TopicSelection::All).await.is_err());
    assert!(client.describe(TopicSelection::All).await.is_ok());
}

#[tokio::test]
async fn stalled_partition_fails_after_the_timeout() {
    let builder = MemoryCluster::builder().read_timeout(Duration::from_millis(30));
    let cluster = filled(builder, 5);
    cluster.stall("t", 0);
    let batches = read(&cluster, request(vec![range("t", 0, 2, 5)])).await;
    let Err(Error::Stalled {
        offset,
        end,
        waited_ms,
        ..
    }) = &batches[0]
    else {
        panic!("expected a stall, found {batches:?}");
    };
    assert_eq!((*offset, *end), (2, 5));
    assert!(*waited_ms >= 30);
}

#[tokio::test]
async fn stalled_reader_goes_on_when_resumed() {
    let cluster = filled(MemoryCluster::builder(), 5);
    cluster.stall("t", 0);
    let reader = tokio::spawn({
        let cluster = cluster.clone();
        async move { read(&cluster, request(vec![range("t", 0, 0, 5)])).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(cluster.stats().fetches, 0);
    cluster.resume("t", 0);
    let batches = reader.await.unwrap();
    assert_eq!(offsets(&batches), [0, 1, 2, 3, 4]);
    assert!(batches[0].as_ref().unwrap().fetch_wait_ns > 10_000_000);
}

#[tokio::test]
async fn leaderless_partition_is_described_and_refused_until_it_has_a_leader() {
    let cluster = filled(MemoryCluster::builder().racks(["a", "b"]), 1);
    cluster.set_leaderless("t", 0, true).unwrap();
    let client = cluster.client();
    let description = client.describe(TopicSelection::All).await.unwrap();
    assert_eq!(description.topics[0].partitions[0].leader, None);
    assert_eq!(description.brokers[1].rack.as_deref(), Some("b"));
    let earliest = [OffsetQuery {
        partition: TopicPartition::new("t", 0),
        at: OffsetAt::Earliest,
    }];
    let isolation = IsolationLevel::ReadCommitted;
    let refused = client.list_offsets(&earliest, isolation).await;
    let message = refused.unwrap_err().to_string();
    assert_eq!(
        message,
        "listing offsets of t[0] failed: the partition has no leader"
    );

    cluster.set_leaderless("t", 0, false).unwrap();
    assert!(client.list_offsets(&earliest, isolation).await.is_ok());
    cluster.append("t", 0, Record::new("later")).unwrap();
    let batches = read(&cluster, request(vec![range("t", 0, 0, 2)])).await;
    let epochs = batches[0].as_ref().unwrap().leader_epochs.as_ref().unwrap();
    assert_eq!(epochs.values().to_vec(), [0, 1]);
}

#[tokio::test]
async fn group_offsets_are_those_committed() {
    let cluster = filled(MemoryCluster::builder(), 3);
    cluster.add_partitions("t", 2).unwrap();
    cluster.commit_group_offset("g", "t", 1, 7).unwrap();
    let asked = [TopicPartition::new("t", 0), TopicPartition::new("t", 1)];
    let client = cluster.client();
    let found = client.group_offsets("g", &asked).await.unwrap();
    assert_eq!(found, BTreeMap::from([(asked[1].clone(), 7)]));
    assert!(client.group_offsets("h", &asked).await.unwrap().is_empty());
}

#[tokio::test]
async fn settings_are_those_of_the_topic() {
    let cluster = MemoryCluster::new();
    let options = TopicOptions::default()
        .log_append_time()
        .cleanup_policy("compact");
    cluster.create_topic_with("t", 1, options).unwrap();
    let names = ["t".into(), "missing".into()];
    let settings = cluster.client().topic_settings(&names).await.unwrap();
    assert!(settings[0].as_ref().unwrap().log_append_time);
    assert_eq!(settings[0].as_ref().unwrap().cleanup_policy, "compact");
    assert_eq!(settings[1], None);
}

#[tokio::test]
async fn clock_stamps_records_under_log_append_time() {
    let cluster = MemoryCluster::new();
    let options = TopicOptions::default().log_append_time();
    cluster.create_topic_with("t", 1, options).unwrap();
    cluster.set_clock_ms(Some(1_000));
    let record = Record::new("x").with_timestamp_ms(5);
    cluster.append("t", 0, record).unwrap();
    let batches = read(&cluster, request(vec![range("t", 0, 0, 1)])).await;
    let timestamps = batches[0].as_ref().unwrap().timestamps.as_ref().unwrap();
    assert_eq!(timestamps.value(0), 1_000);
}

#[test]
fn seeded_ids_repeat_and_others_do_not() {
    let ids = |builder: MemoryClusterBuilder| {
        let cluster = filled(builder, 0);
        let first = cluster.shared.lock().topic("t").unwrap().id.clone();
        cluster.recreate_topic("t").unwrap();
        let second = cluster.shared.lock().topic("t").unwrap().id.clone();
        assert_ne!(first, second);
        assert_eq!(first.len(), 22);
        (first, second)
    };
    let seeded = || MemoryCluster::builder().seed(7);
    assert_eq!(ids(seeded()), ids(seeded()));
    assert_ne!(ids(MemoryCluster::builder()), ids(MemoryCluster::builder()));
}

#[test]
fn names_and_shapes_that_kafka_refuses_are_refused() {
    let cluster = MemoryCluster::new();
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a b", "ä", "a/b", &long] {
        assert!(cluster.create_topic(name, 1).is_err(), "{name:?}");
    }
    assert!(cluster.create_topic("t", 0).is_err());
    cluster.create_topic("t", 2).unwrap();
    assert!(cluster.create_topic("t", 2).is_err());
    assert!(cluster.add_partitions("t", 2).is_err());
    let refused = cluster.append("t", 2, Record::new("x")).unwrap_err();
    let message = "t[2] does not exist: the topic has partitions 0..2";
    assert_eq!(refused.to_string(), message);
}

#[test]
fn log_start_moves_up_only_and_not_beyond_the_end() {
    let cluster = filled(MemoryCluster::builder(), 10);
    cluster.truncate_before("t", 0, 4).unwrap();
    cluster.truncate_before("t", 0, 2).unwrap();
    assert_eq!(cluster.shared.lock().log("t", 0).unwrap().start(), 4);
    let refused = cluster.truncate_before("t", 0, 11);
    assert!(matches!(
        refused,
        Err(Error::PastLogEnd { available: 10, .. })
    ));
}

#[test]
fn compaction_keeps_the_last_committed_record_of_a_key() {
    let cluster = filled(MemoryCluster::builder(), 0);
    let keyed = |key: &str| Record::new("v").with_key(key);
    for key in ["a", "b", "a"] {
        cluster.append("t", 0, keyed(key)).unwrap();
    }
    let mut aborted = cluster.begin();
    aborted.append("t", 0, keyed("b")).unwrap();
    aborted.abort().unwrap();
    let mut open = cluster.begin();
    open.append("t", 0, keyed("a")).unwrap();
    // Offset 0 has a later record of its key, 3 was aborted; 5 is open and does not count.
    assert_eq!(cluster.compact_by_key("t", 0).unwrap(), 2);
    let mut left = Vec::new();
    let all = |offset: i64, _: &Record| {
        left.push(offset);
        true
    };
    cluster.compact("t", 0, all).unwrap();
    assert_eq!(left, [1, 2, 5]);
}
