//! Tests against librdkafka's mock cluster: errors, leader changes, expired offsets, many streams.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use rdkafka::ClientConfig;
use rdkafka::bindings::rd_kafka_resp_err_t as Resp;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::types::RDKafkaApiKey;

mod faults;
mod old;
mod settings;
mod turns;

use super::LibrdkafkaClient;
use super::session::FREE_KEEPS;
use crate::client::{
    KafkaClient, OffsetAt, OffsetQuery, OnDataLoss, RawBatch, RawColumns, ReadRequest,
    TopicSelection,
};
use crate::config::ConnectionConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::range::{IsolationLevel, OffsetRange, TopicPartition};

struct Cluster {
    mock: MockCluster<'static, DefaultProducerContext>,
    client: LibrdkafkaClient,
}

impl Cluster {
    fn new(settings: &[(&str, &str)]) -> Self {
        Self::keeping(settings, FREE_KEEPS)
    }

    /// A cluster whose client closes sessions that stay free for this long.
    fn keeping(settings: &[(&str, &str)], free: Duration) -> Self {
        let mock = MockCluster::new(3).unwrap();
        let mut config = ConnectionConfig::new(mock.bootstrap_servers());
        for (key, value) in settings {
            config.set(key, value).unwrap();
        }
        let client = LibrdkafkaClient::connect_keeping(&config, free).unwrap();
        Self { mock, client }
    }

    /// Creates a topic and appends `records` records with this value to each partition.
    fn fill(&self, topic: &str, partitions: i32, records: usize, value: &[u8]) {
        self.mock.create_topic(topic, partitions, 1).unwrap();
        self.produce(topic, partitions, records, value);
    }

    fn produce(&self, topic: &str, partitions: i32, records: usize, value: &[u8]) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", self.mock.bootstrap_servers())
            .set("message.max.bytes", "20000000")
            .set("linger.ms", "5")
            .create()
            .unwrap();
        for partition in 0..partitions {
            for _ in 0..records {
                let record = BaseRecord::<(), [u8]>::to(topic)
                    .partition(partition)
                    .payload(value);
                producer.send(record).map_err(|(e, _)| e).unwrap();
            }
        }
        producer.flush(Duration::from_secs(20)).unwrap();
    }

    async fn read(&self, request: ReadRequest) -> Result<Vec<RawBatch>> {
        self.client.read(request).try_collect().await
    }
}

fn range(topic: &str, partition: i32, start: i64, end: i64) -> OffsetRange {
    OffsetRange::try_new(topic, partition, start, end).unwrap()
}

fn request(ranges: Vec<OffsetRange>) -> ReadRequest {
    ReadRequest {
        batch_rows: 1000,
        ..ReadRequest::new(ranges)
    }
}

fn offsets(batches: &[RawBatch]) -> Vec<i64> {
    batches
        .iter()
        .flat_map(|b| b.offsets.values().iter().copied())
        .collect()
}

fn latest(topic: &str, partition: i32) -> OffsetQuery {
    OffsetQuery {
        partition: TopicPartition::new(topic, partition),
        at: OffsetAt::Latest,
    }
}

#[tokio::test]
async fn describes_and_lists() {
    let cluster = Cluster::new(&[]);
    cluster.fill("orders", 3, 7, b"v");
    let named = ["orders".into(), "absent".into()];
    let all = cluster
        .client
        .describe(TopicSelection::Named(&named))
        .await
        .unwrap();
    assert_eq!(all.brokers.len(), 3);
    assert_eq!(all.topics.len(), 1);
    assert_eq!(all.topics[0].partitions.len(), 3);
    let all = cluster.client.describe(TopicSelection::All).await.unwrap();
    assert!(all.topics.iter().any(|t| &*t.name == "orders"));
    assert!(
        !all.topics.iter().any(|t| &*t.name == "absent"),
        "asking creates nothing"
    );

    let earliest = OffsetQuery {
        at: OffsetAt::Earliest,
        ..latest("orders", 1)
    };
    let queries = [
        latest("orders", 1),
        earliest,
        latest("orders", 0),
        latest("orders", 1),
    ];
    let level = IsolationLevel::ReadCommitted;
    let answers = cluster.client.list_offsets(&queries, level).await.unwrap();
    let found: Vec<_> = answers.iter().map(|a| a.offset).collect();
    assert_eq!(found, [Some(7), Some(0), Some(7), Some(7)]);
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let cluster = Cluster::new(&[]);
    cluster.fill("orders", 2, 1, b"v");
    let level = IsolationLevel::ReadCommitted;
    let list = async |topic, partition| {
        let queries = [latest("orders", 0), latest(topic, partition)];
        cluster
            .client
            .list_offsets(&queries, level)
            .await
            .unwrap_err()
    };
    match list("ordres", 0).await {
        Error::UnknownTopic { topic, nearest } => {
            assert_eq!((topic.as_str(), nearest[0].as_str()), ("ordres", "orders"));
        }
        e => panic!("{e}"),
    }
    match list("orders", 5).await {
        Error::UnknownPartition { available, .. } => assert_eq!(available, "partitions 0 to 1"),
        e => panic!("{e}"),
    }
    let error = cluster
        .read(request(vec![range("ordres", 0, 0, 1)]))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::UnknownTopic { .. }), "{error}");
}

#[tokio::test]
async fn reads_exactly_the_ranges_in_order() {
    let cluster = Cluster::new(&[]);
    cluster.fill("t", 2, 100, b"a value of more than twelve bytes");
    let ranges = vec![
        range("t", 1, 10, 20),
        range("t", 0, 0, 3),
        range("t", 0, 3, 3),
        // A small gap, which is read across, then a step back.
        range("t", 0, 5, 8),
        range("t", 1, 0, 2),
        range("t", 0, 99, 100),
    ];
    let batches = cluster.read(request(ranges)).await.unwrap();
    let expected: Vec<i64> = (10..20)
        .chain(0..3)
        .chain(5..8)
        .chain(0..2)
        .chain([99])
        .collect();
    assert_eq!(offsets(&batches), expected);
    let partitions: Vec<i32> = batches.iter().map(|b| b.partition.partition).collect();
    assert_eq!(partitions, [1, 0, 0, 1, 0]);
    for batch in &batches {
        let values = batch.values.as_ref().unwrap();
        assert!(
            values
                .iter()
                .all(|v| v == Some(b"a value of more than twelve bytes"))
        );
        assert!(batch.keys.as_ref().unwrap().iter().all(|k| k.is_none()));
        assert_eq!(
            batch.next_offset,
            batch.offsets.values().last().unwrap() + 1
        );
    }
}

#[tokio::test]
async fn a_limit_bounds_the_first_batch() {
    let cluster = Cluster::new(&[]);
    cluster.fill("t", 1, 100, b"v");
    let mut limited = request(vec![range("t", 0, 10, 100)]);
    limited.limit = Some(15);
    let batches = cluster.read(limited.clone()).await.unwrap();
    assert_eq!(batches[0].offsets.len(), 15);
    assert_eq!(offsets(&batches), (10..100).collect::<Vec<_>>());
    limited.limit = Some(0);
    let first = cluster.client.read(limited).next().await.unwrap().unwrap();
    assert_eq!(first.offsets.value(0), 10);
}

#[tokio::test]
async fn no_ranges_ask_nothing() {
    let client = LibrdkafkaClient::connect(&ConnectionConfig::new("127.0.0.1:1")).unwrap();
    let batches: Vec<RawBatch> = client
        .read(request(vec![range("t", 0, 5, 5)]))
        .try_collect()
        .await
        .unwrap();
    assert!(batches.is_empty());
}

#[tokio::test]
async fn batches_close_by_rows_and_by_bytes() {
    let cluster = Cluster::new(&[]);
    cluster.fill("t", 1, 100, &[7; 1000]);
    let mut by_rows = request(vec![range("t", 0, 0, 100)]);
    by_rows.batch_rows = 30;
    let sizes = |b: Vec<RawBatch>| b.iter().map(|b| b.offsets.len()).collect::<Vec<_>>();
    let rows = sizes(cluster.read(by_rows).await.unwrap());
    assert!(
        rows.iter().all(|r| *r <= 30) && rows.iter().sum::<usize>() == 100,
        "{rows:?}"
    );
    let mut by_bytes = request(vec![range("t", 0, 0, 100)]);
    by_bytes.batch_bytes = 2500;
    let rows = sizes(cluster.read(by_bytes).await.unwrap());
    assert!(
        rows.iter().all(|r| *r <= 3) && rows.iter().sum::<usize>() == 100,
        "{rows:?}"
    );
}

#[tokio::test]
async fn unasked_columns_are_not_built() {
    let cluster = Cluster::new(&[]);
    cluster.fill("t", 1, 5, b"v");
    let mut request = request(vec![range("t", 0, 0, 5)]);
    request.columns = RawColumns::default();
    let batches = cluster.read(request).await.unwrap();
    assert_eq!(offsets(&batches), [0, 1, 2, 3, 4]);
    assert!(
        batches
            .iter()
            .all(|b| b.values.is_none() && b.headers.is_none())
    );
}

#[tokio::test]
async fn a_record_of_ten_megabytes_passes() {
    let cluster = Cluster::new(&[("read.buffer.bytes", "1048576")]);
    let value: Vec<u8> = (0..10 << 20).map(|i| (i % 251) as u8).collect();
    // Only this topic: the mock's log holds 5 MiB plus one record batch.
    cluster.fill("t", 1, 1, &value);
    let batches = cluster
        .read(request(vec![range("t", 0, 0, 1)]))
        .await
        .unwrap();
    assert_eq!(batches[0].values.as_ref().unwrap().value(0), value);
}

#[tokio::test]
async fn expired_offsets_are_lost_aloud() {
    let cluster = Cluster::new(&[]);
    // More than the mock's log can hold.
    cluster.fill("t", 1, 40, &[1; 500_000]);
    let start = OffsetQuery {
        at: OffsetAt::Earliest,
        ..latest("t", 0)
    };
    let level = IsolationLevel::ReadCommitted;
    let start = cluster.client.list_offsets(&[start], level).await.unwrap()[0]
        .offset
        .unwrap();
    assert!(start > 1, "the mock expired nothing");
    let error = cluster
        .read(request(vec![range("t", 0, 1, 40)]))
        .await
        .unwrap_err();
    match error {
        Error::BelowLogStart {
            asked,
            available,
            lost,
            ..
        } => assert_eq!((asked, available, lost), (1, start, start - 1)),
        e => panic!("{e}"),
    }
    let mut skip = request(vec![range("t", 0, 0, 1), range("t", 0, 1, 40)]);
    skip.on_data_loss = OnDataLoss::Skip;
    let batches = cluster.read(skip).await.unwrap();
    assert_eq!(offsets(&batches), (start..40).collect::<Vec<_>>());
    assert_eq!(batches.iter().map(|b| b.lost_offsets).sum::<i64>(), start);
}

#[tokio::test]
async fn retention_that_overtakes_a_scan_is_reported() {
    let cluster = Cluster::new(&[("read.buffer.bytes", "65536")]);
    // Each in its own record batch, or the mock would drop all of them at once.
    for _ in 0..8 {
        cluster.mock.create_topic("t", 1, 1).ok();
        cluster.produce("t", 1, 1, &[1; 500_000]);
    }
    let mut one = request(vec![range("t", 0, 0, 8)]);
    one.batch_rows = 1;
    let mut stream = cluster.client.read(one);
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first.offsets.values(), &[0]);
    for _ in 0..20 {
        cluster.produce("t", 1, 1, &[2; 500_000]);
    }
    let mut next = 1;
    let error = loop {
        match stream.next().await {
            Some(Ok(batch)) => {
                assert_eq!(batch.offsets.values(), &[next]);
                next += 1;
            }
            Some(Err(e)) => break e,
            None => panic!("ended at {next} without an error"),
        }
    };
    match error {
        Error::BelowLogStart { asked, lost, .. } => {
            assert_eq!(asked, next);
            assert_eq!(lost, 8 - next);
        }
        e => panic!("{e}"),
    }
}

#[tokio::test]
async fn an_end_beyond_the_log_is_an_error() {
    let cluster = Cluster::new(&[]);
    cluster.fill("t", 1, 10, b"v");
    for (start, end) in [(0, 12), (10, 11), (20, 30)] {
        let error = cluster
            .read(request(vec![range("t", 0, start, end)]))
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::PastLogEnd { available: 10, .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_recreated_topic_is_not_taken_for_the_old_one() {
    let cluster = Cluster::new(&[]);
    cluster.fill("t", 1, 10, b"v");
    let named = ["t".into()];
    let found = cluster
        .client
        .describe(TopicSelection::Named(&named))
        .await
        .unwrap();
    let Some(id) = found.topics[0].id.clone() else {
        panic!("the mock gives topic ids");
    };
    let mut same = request(vec![range("t", 0, 0, 10)]);
    same.topic_ids.insert(Arc::clone(&named[0]), id);
    assert_eq!(
        offsets(&cluster.read(same.clone()).await.unwrap()).len(),
        10
    );
    same.topic_ids
        .insert(Arc::clone(&named[0]), "AAAAAAAAAAAAAAAAAAAAAQ".into());
    let error = cluster.read(same).await.unwrap_err();
    assert!(matches!(error, Error::TopicRecreated { .. }), "{error}");
}

#[test]
fn conflicting_settings_are_reported_on_connect() {
    let mut config = ConnectionConfig::new("127.0.0.1:1");
    config.set("security.protocol", "ssl").unwrap();
    config.set("ssl.ca.location", "/no/such/ca.pem").unwrap();
    let error = LibrdkafkaClient::connect(&config).unwrap_err().to_string();
    assert!(error.contains("ca.pem"), "{error}");
    let error = LibrdkafkaClient::connect(&ConnectionConfig::empty()).unwrap_err();
    assert!(error.to_string().contains("bootstrap.servers"), "{error}");
}
