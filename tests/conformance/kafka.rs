//! The suite's fixture for a real broker: librdkafka's producers and admin client fill it.
//!
//! The broker must allow transactions, DeleteRecords and topic deletion. Its `log.cleaner.backoff.ms` should
//! be short, because every case about compaction waits for the log cleaner.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use datafusion_kafka::client::KafkaClient;
use datafusion_kafka::client::memory::Record;
use datafusion_kafka::range::TopicPartition;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::block_in_place;

use super::{Codec, End, Fixture, Need, TopicSpec, Transaction, unique};
use crate::support::Release;

/// Time limit for one request of the fixture's own clients.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// Time limit for the log cleaner, whose default back-off is 15 s.
const CLEANER_LIMIT: Duration = Duration::from_secs(60);
/// The largest record batch in bytes, with room for the suite's largest record.
const MESSAGE_MAX_BYTES: &str = "20000000";
/// Records per batch on the broker. There are few, so that the suite's ranges cut through several batches.
const BATCH_RECORDS: &str = "50";

/// A broker, and the client under test.
pub struct KafkaFixture {
    bootstrap: String,
    client: Arc<dyn KafkaClient>,
    release: Release,
    admin: AdminClient<DefaultClientContext>,
    /// By codec, made on first use.
    producers: [OnceLock<Arc<BaseProducer<Deliveries>>>; 5],
}

impl KafkaFixture {
    /// A fixture on the broker at `bootstrap`, which `client` reads.
    pub fn new(bootstrap: &str, client: Arc<dyn KafkaClient>) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            client,
            release: Release::default(),
            admin: config(bootstrap).create().unwrap(),
            producers: Default::default(),
        }
    }

    /// The same on a broker of an older release.
    pub fn of_release(self, release: Release) -> Self {
        Self { release, ..self }
    }

    fn producer(&self, codec: Codec) -> &BaseProducer<Deliveries> {
        let name = match codec {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        };
        self.producers[codec as usize].get_or_init(|| {
            let mut config = producer_config(&self.bootstrap);
            config.set("compression.type", name);
            Arc::new(config.create_with_context(Deliveries::default()).unwrap())
        })
    }

    fn consumer(&self, isolation: &str) -> BaseConsumer {
        let mut config = config(&self.bootstrap);
        config
            .set("group.id", unique("conformance"))
            .set("isolation.level", isolation)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "10");
        config.create().unwrap()
    }

    /// Keys and offsets of all records in a partition.
    fn keys(&self, partition: &TopicPartition) -> Vec<(Option<Vec<u8>>, i64)> {
        let consumer = self.consumer("read_uncommitted");
        let mut assignment = TopicPartitionList::new();
        let (topic, number) = (&*partition.topic, partition.partition);
        assignment
            .add_partition_offset(topic, number, Offset::Beginning)
            .unwrap();
        consumer.assign(&assignment).unwrap();
        let mut keys = Vec::new();
        loop {
            match consumer.poll(REQUEST_LIMIT) {
                Some(Ok(message)) => {
                    keys.push((message.key().map(<[u8]>::to_vec), message.offset()));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return keys,
                Some(Err(error)) => panic!("reading {partition}: {error}"),
                None => panic!("reading {partition}: no end of the partition"),
            }
        }
    }
}

/// The first of the tested releases that can do something, if not all can.
fn since(need: Need) -> Option<(Release, &'static str)> {
    Some(match need {
        Need::LeaderEpochs => (
            Release::V2_8,
            "Kafka 2.1 does not tell the epoch of a log's end",
        ),
        Need::TopicIds => (Release::V2_8, "KIP-516 came with Kafka 2.8"),
        Need::TopicSettings => (
            Release::V2_1,
            "Kafka 1.1 tells settings of topics that do not exist",
        ),
        Need::Zstd => (Release::V2_1, "KIP-110 came with Kafka 2.1"),
        _ => return None,
    })
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        // Otherwise a producer's metadata request would recreate a deleted topic.
        .set("allow.auto.create.topics", "false")
        .set("topic.metadata.refresh.fast.interval.ms", "20")
        .set("retry.backoff.ms", "20");
    config
}

fn producer_config(bootstrap: &str) -> ClientConfig {
    let mut config = config(bootstrap);
    config
        .set("acks", "all")
        // Keeps the order of records when a request is retried.
        .set("max.in.flight.requests.per.connection", "1")
        .set("linger.ms", "1")
        .set("batch.num.messages", BATCH_RECORDS)
        .set("message.max.bytes", MESSAGE_MAX_BYTES);
    config
}

/// Collects failed deliveries, because a delivery report must not panic in librdkafka's thread.
#[derive(Default)]
struct Deliveries {
    failures: Mutex<Vec<String>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.failures.lock().unwrap().push(error.to_string());
        }
    }
}

/// Sends records in order, and waits until the broker has all of them.
fn send(producer: &BaseProducer<Deliveries>, partition: &TopicPartition, records: &[Record]) {
    for record in records {
        let headers = record.headers.iter();
        let headers = headers.fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: value.as_ref(),
            })
        });
        let mut message = BaseRecord::<[u8], [u8]>::to(&partition.topic)
            .partition(partition.partition)
            // Without a timestamp, librdkafka would set the current time; -1 is Kafka's "none".
            .timestamp(record.timestamp_ms.unwrap_or(-1))
            .headers(headers);
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        if let Err((error, _)) = producer.send(message) {
            panic!("cannot send to {partition}: {error}");
        }
    }
    // `flush` polls in steps of 100 ms, and the suite calls this very often.
    let started = Instant::now();
    while producer.in_flight_count() > 0 {
        assert!(started.elapsed() < REQUEST_LIMIT, "sending to {partition}");
        producer.poll(Duration::from_millis(1));
    }
    let failures = producer.context().failures.lock().unwrap();
    assert!(failures.is_empty(), "sending to {partition}: {failures:?}");
}

/// Polls until there is an answer.
fn wait<T>(limit: Duration, what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(started.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[async_trait]
impl Fixture for KafkaFixture {
    fn client(&self) -> Arc<dyn KafkaClient> {
        Arc::clone(&self.client)
    }

    fn lacks(&self, need: Need) -> Option<&'static str> {
        let (since, why) = since(need)?;
        (self.release < since).then_some(why)
    }

    /// librdkafka only returns records and reports nothing about what lies between them.
    fn tells_reasons(&self) -> bool {
        self.client.name() != "librdkafka"
    }

    async fn create_topic(&self, topic: &TopicSpec) {
        let mut new = NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(1))
            .set("max.message.bytes", MESSAGE_MAX_BYTES)
            // The suite's timestamps lie in the past.
            .set("retention.ms", "-1");
        if topic.log_append_time {
            new = new.set("message.timestamp.type", "LogAppendTime");
        }
        if topic.compacted {
            new = new
                .set("cleanup.policy", "compact")
                .set("segment.ms", "100")
                // Cleans the log however little there is to clean next to large records.
                .set("min.cleanable.dirty.ratio", "0");
        }
        // A topic that was just deleted may still exist for a moment.
        let started = Instant::now();
        loop {
            let created = self.admin.create_topics([&new], &AdminOptions::new());
            match created.await.unwrap().remove(0) {
                Ok(_) => break,
                Err((_, RDKafkaErrorCode::TopicAlreadyExists))
                    if started.elapsed() < REQUEST_LIMIT =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err((name, error)) => panic!("cannot create {name}: {error}"),
            }
        }
        let partitions = usize::try_from(topic.partitions).unwrap();
        block_in_place(|| {
            let client = self.admin.inner();
            wait(REQUEST_LIMIT, "the topic's leaders", || {
                let metadata = client.fetch_metadata(Some(&topic.name), REQUEST_LIMIT);
                let metadata = metadata.ok()?;
                let found = metadata.topics()[0].partitions();
                let led = found.iter().all(|p| p.leader() >= 0);
                (found.len() == partitions && led).then_some(())
            });
        });
    }

    async fn delete_topic(&self, name: &str) {
        let deleted = self.admin.delete_topics(&[name], &AdminOptions::new());
        deleted.await.unwrap().remove(0).unwrap();
    }

    async fn produce(&self, partition: &TopicPartition, records: &[Record], codec: Codec) {
        block_in_place(|| send(self.producer(codec), partition, records));
    }

    async fn begin(&self) -> Box<dyn Transaction> {
        block_in_place(|| {
            let mut config = producer_config(&self.bootstrap);
            config.set("transactional.id", unique("conformance"));
            let producer: BaseProducer<Deliveries> =
                config.create_with_context(Deliveries::default()).unwrap();
            producer.init_transactions(REQUEST_LIMIT).unwrap();
            producer.begin_transaction().unwrap();
            Box::new(KafkaTransaction {
                producer,
                committed: self.consumer("read_committed"),
                uncommitted: self.consumer("read_uncommitted"),
                first_offsets: BTreeMap::new(),
            })
        })
    }

    async fn delete_records(&self, partition: &TopicPartition, before: i64) {
        let mut offsets = TopicPartitionList::new();
        let (topic, number) = (&*partition.topic, partition.partition);
        offsets
            .add_partition_offset(topic, number, Offset::Offset(before))
            .unwrap();
        let deleted = self.admin.delete_records(&offsets, &AdminOptions::new());
        for element in deleted.await.unwrap().elements() {
            element.error().unwrap();
        }
    }

    async fn compact(&self, partition: &TopicPartition) -> Vec<i64> {
        // The log cleaner ignores the active segment. The time between records rolls it, and the suite's
        // records lie far in the past.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let roll = Record::new("roll")
            .with_key(unique("roll"))
            .with_timestamp_ms(i64::try_from(since_epoch.as_millis()).unwrap());
        block_in_place(|| {
            send(self.producer(Codec::None), partition, &[roll]);
            wait(CLEANER_LIMIT, "the log cleaner", || {
                let stored = self.keys(partition);
                // Later offsets replace earlier ones with the same key.
                let last: BTreeMap<_, _> = stored.iter().cloned().collect();
                let left: Vec<i64> = stored.iter().map(|(_, offset)| *offset).collect();
                (last.len() == left.len()).then_some(left)
            })
        })
    }

    async fn commit_group_offset(&self, group: &str, partition: &TopicPartition, offset: i64) {
        let mut config = config(&self.bootstrap);
        config.set("group.id", group);
        let consumer: BaseConsumer = config.create().unwrap();
        let mut offsets = TopicPartitionList::new();
        let (topic, number) = (&*partition.topic, partition.partition);
        offsets
            .add_partition_offset(topic, number, Offset::Offset(offset))
            .unwrap();
        block_in_place(|| {
            // Electing a group's coordinator takes a moment.
            wait(REQUEST_LIMIT, "the group's commit", || {
                consumer.commit(&offsets, CommitMode::Sync).ok()
            });
        });
    }
}

struct KafkaTransaction {
    producer: BaseProducer<Deliveries>,
    committed: BaseConsumer,
    uncommitted: BaseConsumer,
    /// The first offset of the transaction in each of its partitions.
    first_offsets: BTreeMap<TopicPartition, i64>,
}

fn log_end(consumer: &BaseConsumer, partition: &TopicPartition) -> i64 {
    let (topic, number) = (&partition.topic, partition.partition);
    let bounds = consumer.fetch_watermarks(topic, number, REQUEST_LIMIT);
    bounds.unwrap().1
}

#[async_trait]
impl Transaction for KafkaTransaction {
    async fn write(&mut self, partition: &TopicPartition, records: &[Record]) {
        block_in_place(|| {
            let first = log_end(&self.uncommitted, partition);
            self.first_offsets.entry(partition.clone()).or_insert(first);
            send(&self.producer, partition, records);
        });
    }

    async fn end(self: Box<Self>, end: End) {
        block_in_place(|| {
            let ends: Vec<i64> = self
                .first_offsets
                .keys()
                .map(|partition| log_end(&self.uncommitted, partition))
                .collect();
            match end {
                End::Commit => self.producer.commit_transaction(REQUEST_LIMIT),
                End::Abort => self.producer.abort_transaction(REQUEST_LIMIT),
            }
            .unwrap();
            // The coordinator answers before it writes the control records.
            for ((partition, first), end) in self.first_offsets.iter().zip(ends) {
                wait(REQUEST_LIMIT, "the control record", || {
                    let written = log_end(&self.uncommitted, partition) > end;
                    let released = log_end(&self.committed, partition) != *first;
                    (written && released).then_some(())
                });
            }
        });
    }
}
