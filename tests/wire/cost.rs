//! The cost of results: Fetches, partitions per Fetch, requested bytes, connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion_kafka::client::{RawColumns, ReadRequest};
use datafusion_kafka::table::KafkaTable;
use futures::StreamExt;
use kafka_protocol::messages::ApiKey;

use super::broker::{Release, SeenPart};
use super::log::Log;
use super::{END, RECORDS, Setup, TOPIC, of_partition, plain_log};
use crate::conformance::numbered;
use crate::conformance::reading::{request, span};

const NEWEST: [Release; 1] = [Release::V4_1];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_range_is_one_fetch() {
    let setup = Setup::with(&NEWEST, vec![plain_log()], &[]).await;
    for read in 1..=3 {
        setup.reads_all().await;
        assert_eq!(setup.cluster.fetches().len(), read);
    }
    let state = setup.cluster.state();
    // One description, and one connection for it and all Fetches.
    assert_eq!(state.requests[&(ApiKey::Metadata as i16)], 1);
    assert!(state.open_most <= 2, "{} connections", state.open_most);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_partitions_are_looked_up_by_a_question_a_leader() {
    let setup = Setup::with(&[Release::V4_1; 3], vec![Log::default(); 10_000], &[]).await;
    let table = KafkaTable::builder_with_client(Arc::clone(&setup.client)).topic(TOPIC);
    let table = table.build().await.unwrap();
    let before = setup.cluster.state().requests.clone();
    let snapshot = table.snapshot().await.unwrap();
    assert_eq!(snapshot.ranges().len(), 10_000);
    let asked = |key: ApiKey| {
        let count = |requests: &BTreeMap<i16, usize>| requests.get(&(key as i16)).copied();
        count(&setup.cluster.state().requests).unwrap_or(0) - count(&before).unwrap_or(0)
    };
    // Starts and ends are two questions, since brokers refuse a partition that is named twice.
    assert_eq!(
        (asked(ApiKey::Metadata), asked(ApiKey::ListOffsets)),
        (1, 6)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_range_costs_nothing() {
    let setup = Setup::with(&NEWEST, vec![plain_log()], &[]).await;
    assert_eq!(setup.read(7, 7).await.whole().len(), 0);
    assert_eq!(setup.cluster.state().requests.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limit_asks_for_little() {
    let mut log = Log::default();
    log.extend(&numbered(20_000), 100);
    let setup = Setup::with(&NEWEST, vec![log], &[]).await;
    let limited = ReadRequest {
        limit: Some(10),
        ..request(vec![of_partition(0, 100, 20_000)])
    };
    // A limit is a hint: the reader stops by dropping the stream.
    let mut stream = setup.client.read(limited);
    let batch = stream.next().await.unwrap().unwrap();
    drop(stream);
    assert_eq!(batch.offsets.values(), &span(100, 110)[..]);
    let fetches = setup.cluster.fetches();
    assert_eq!(fetches.len(), 1);
    assert!(fetches[0].max_bytes < 100 << 10, "{fetches:?}");
    let asked = SeenPart {
        topic: TOPIC.to_owned(),
        partition: 0,
        offset: 100,
        last_epoch: -1,
        max_bytes: fetches[0].max_bytes,
    };
    assert_eq!(fetches[0].parts, [asked]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_with_small_ranges_share_fetches() {
    let setup = Setup::with(&NEWEST, vec![plain_log(); 64], &[]).await;
    let ranges: Vec<_> = (0..64).map(|p| of_partition(p, 0, END)).collect();
    let outcome = setup.run(request(ranges.clone())).await;
    assert_eq!(outcome.whole().len(), 64 * RECORDS);
    // At first records are assumed to have 1 KiB. Later their size is known.
    let first = setup.cluster.fetches().len();
    assert!(first <= 10, "{first} Fetches");
    setup.run(request(ranges)).await.whole();
    let second = setup.cluster.fetches().len() - first;
    assert!(second <= 3, "{second} Fetches");
    // Partitions in order, as many as will probably come whole.
    let fetch = &setup.cluster.fetches()[first];
    let partitions: Vec<i32> = fetch.parts.iter().map(|p| p.partition).collect();
    let expected: Vec<i32> = (0..).take(partitions.len()).collect();
    assert!(
        partitions.len() >= 32 && partitions == expected,
        "{partitions:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_small_ranges_take_few_fetches() {
    let mut log = Log::default();
    log.extend(&numbered(20_000), 100);
    let setup = Setup::with(&NEWEST, vec![log], &[]).await;
    let ranges = (0..1000)
        .map(|n| of_partition(0, n * 20, n * 20 + 3))
        .collect();
    let outcome = setup.run(request(ranges)).await;
    assert_eq!(outcome.whole().len(), 3000);
    let fetches = setup.cluster.fetches().len();
    assert!(fetches <= 12, "{fetches} Fetches");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_stay_below_what_brokers_allow() {
    let settings = [("fetch.message.max.bytes", "500000000")];
    let setup = Setup::with(&NEWEST, vec![plain_log()], &settings).await;
    setup.reads_all().await;
    assert!(
        setup
            .cluster
            .fetches()
            .iter()
            .all(|f| f.max_bytes <= 55 << 20)
    );
}

/// A merge needs a first batch from every stream before a second one from any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_streams_share_two_connections() {
    let settings = [
        ("client.sessions.max", "2"),
        ("fetch.message.max.bytes", "4000"),
        ("read.timeout.ms", "20000"),
    ];
    let setup = Setup::with(&NEWEST, vec![plain_log()], &settings).await;
    let wanted = ReadRequest {
        columns: RawColumns::default(),
        batch_rows: 50,
        ..request(vec![of_partition(0, 0, END)])
    };
    let mut streams: Vec<_> = (0..500)
        .map(|_| (setup.client.read(wanted.clone()), 0))
        .collect();
    let started = Instant::now();
    let mut open = streams.len();
    while open > 0 {
        for (stream, rows) in &mut streams {
            if *rows == RECORDS {
                continue;
            }
            let next = tokio::time::timeout(Duration::from_secs(20), stream.next()).await;
            let batch = next.expect("a stream hangs").unwrap().unwrap();
            *rows += batch.offsets.len();
            if *rows == RECORDS {
                assert!(stream.next().await.is_none());
                open -= 1;
            }
        }
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{open} streams are left"
        );
    }
    let most = setup.cluster.state().open_most;
    // Two that are kept, two for turns, one for requests about metadata.
    assert!(most <= 5, "{most} connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_streams_give_connections_back() {
    let settings = [("fetch.message.max.bytes", "4000")];
    let setup = Setup::with(&NEWEST, vec![plain_log()], &settings).await;
    for turn in 0..60 {
        let wanted = ReadRequest {
            batch_rows: 10,
            ..request(vec![of_partition(0, 0, END)])
        };
        let mut stream = setup.client.read(wanted);
        for _ in 0..turn % 4 {
            stream.next().await.unwrap().unwrap();
        }
    }
    let most = setup.cluster.state().open_most;
    assert!(most <= 2, "{most} connections");
    setup.reads_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_dropped_while_they_wait_leave_no_connection_open() {
    let setup = Setup::new().await;
    let silent = setup.cluster.on_fetch().times(30);
    silent.deliver(super::script::Delivery::Silence);
    for _ in 0..30 {
        let mut stream = setup.client.read(request(vec![of_partition(0, 0, END)]));
        let waited = tokio::time::timeout(Duration::from_millis(20), stream.next()).await;
        assert!(waited.is_err(), "nothing was sent");
    }
    let started = Instant::now();
    while setup.cluster.state().open > 2 {
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "connections stay open"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
