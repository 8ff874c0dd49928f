//! Puts records into topics: single ones, many at once, and in transactions.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use super::admin::{REQUEST_LIMIT, client};
use super::wait_until;

/// How long a set of records may take to arrive.
const DELIVERY_LIMIT: Duration = Duration::from_secs(120);

/// A record to produce. By default it has no key, value or headers, and the current time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    partition: i32,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    timestamp_ms: Option<i64>,
}

impl Record {
    /// A record for a partition.
    pub fn new(partition: i32) -> Self {
        Self {
            partition,
            ..Self::default()
        }
    }

    /// Sets the key.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the value. A record without a value is a tombstone.
    pub fn value(mut self, value: impl Into<Vec<u8>>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Adds a header; names may repeat.
    pub fn header(mut self, name: &str, value: Option<&[u8]>) -> Self {
        self.headers
            .push((name.to_owned(), value.map(<[u8]>::to_vec)));
        self
    }

    /// Sets the create time, in ms since the epoch. It must be at least 1, because 0 means now in librdkafka.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        assert!(timestamp_ms > 0, "librdkafka takes {timestamp_ms} for now");
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}

/// Produces records one batch after another, and returns their offsets in the order of the records.
///
/// # Panics
/// When a record does not arrive.
pub fn produce(bootstrap: &str, topic: &str, records: &[Record]) -> Vec<i64> {
    produce_with(bootstrap, topic, records, &[])
}

/// The same with librdkafka settings, such as `("compression.type", "zstd")`.
///
/// # Panics
/// When a record does not arrive, or a setting is not valid.
pub fn produce_with(
    bootstrap: &str,
    topic: &str,
    records: &[Record],
    settings: &[(&str, &str)],
) -> Vec<i64> {
    let mut config = client(bootstrap);
    // With one request in flight, the order within a partition is that of the records.
    config.set("max.in.flight.requests.per.connection", "1");
    send_all(&producer(config, settings), topic, records)
}

/// Makes a topic that takes a client with this id about ten seconds to read: the broker's quota throttles it
/// after the first five sixths. Returns the topic and its number of records.
///
/// # Panics
/// When the broker refuses.
pub fn held_back(bootstrap: &str, client_id: &str) -> (String, usize) {
    const BYTES_A_SECOND: usize = 20_000;
    // Brokers measure a rate over at least ten seconds.
    const RECORDS: usize = 10 * BYTES_A_SECOND * 6 / 5 / 1000;
    // Set before the topic exists, so that it is in force as soon as the topic does.
    super::admin::limit_client(bootstrap, client_id, "consumer_byte_rate", BYTES_A_SECOND);
    let topic = super::admin::unique_topic("quota");
    super::admin::create_topic(bootstrap, &topic, 1, &[]);
    let records: Vec<Record> = (0..RECORDS)
        .map(|n| Record::new(0).value(fill_value(n, 900)))
        .collect();
    // A batch larger than the quota would never be sent.
    produce_with(bootstrap, &topic, &records, &[("batch.size", "8000")]);
    (topic, RECORDS)
}

/// How [`fill`] fills a topic.
#[derive(Debug, Clone, Copy)]
pub struct Fill<'a> {
    /// The total number of records, distributed over the partitions one by one.
    pub records: usize,
    /// The number of partitions.
    pub partitions: i32,
    /// The size of a value, at least 16 bytes; see [`fill_value`].
    pub value_bytes: usize,
    /// librdkafka settings, such as `("compression.type", "lz4")`.
    pub settings: &'a [(&'a str, &'a str)],
}

/// Produces many records without keys; a million records of 100 bytes take a few seconds.
///
/// Record `n` goes to partition `n % partitions` with [`fill_value`]`(n, …)`, at offset
/// `n / partitions` of an empty topic.
///
/// # Panics
/// When a record does not arrive.
pub fn fill(bootstrap: &str, topic: &str, fill: Fill<'_>) {
    let mut config = client(bootstrap);
    config
        .set("max.in.flight.requests.per.connection", "1")
        .set("linger.ms", "20")
        .set("batch.size", "1048576")
        .set("queue.buffering.max.messages", "500000")
        .set("queue.buffering.max.kbytes", "262144");
    let producer = producer(config, fill.settings);
    let partitions = usize::try_from(fill.partitions).expect("partitions count from 0");
    let mut value = Vec::new();
    for number in 0..fill.records {
        write_fill_value(&mut value, number, fill.value_bytes);
        let partition = i32::try_from(number % partitions).expect("below the partitions");
        send(&producer, number, || {
            BaseRecord::<(), _, usize>::with_opaque_to(topic, number)
                .partition(partition)
                .payload(value.as_slice())
        });
    }
    finish(&producer, fill.records);
}

/// The value of record `number`: the number in 16 decimal digits, then letters.
pub fn fill_value(number: usize, bytes: usize) -> Vec<u8> {
    let mut value = Vec::new();
    write_fill_value(&mut value, number, bytes);
    value
}

fn write_fill_value(value: &mut Vec<u8>, number: usize, bytes: usize) {
    use std::io::Write as _;
    assert!(bytes >= 16, "16 bytes of a value are its number");
    value.clear();
    write!(value, "{number:016}").expect("a vector can be written");
    let letters = b"abcdefghijklmnopqrstuvwxyz".iter().cycle();
    value.extend(letters.skip(number % 26).take(bytes - 16));
}

/// A transaction that stays open until it is committed or aborted.
///
/// Dropping it leaves it open on the broker, like the crash of a producer, until it times out after ten
/// minutes or another producer begins with the same transactional id.
pub struct Transaction {
    producer: BaseProducer<Deliveries>,
    /// The partitions that it has written to.
    written: Mutex<BTreeSet<(String, i32)>>,
}

impl Transaction {
    /// Begins a transaction.
    ///
    /// # Panics
    /// When the coordinator does not answer.
    pub fn begin(bootstrap: &str, transactional_id: &str) -> Self {
        Self::begin_with(bootstrap, transactional_id, &[])
    }

    /// The same with librdkafka settings, such as `("transaction.timeout.ms", "2000")`.
    ///
    /// # Panics
    /// When the coordinator does not answer, or a setting is not valid.
    pub fn begin_with(bootstrap: &str, transactional_id: &str, settings: &[(&str, &str)]) -> Self {
        let mut config = client(bootstrap);
        config
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", "600000");
        let producer = producer(config, settings);
        producer
            .init_transactions(REQUEST_LIMIT)
            .expect("cannot initialise transactions");
        producer
            .begin_transaction()
            .expect("cannot begin a transaction");
        Self {
            producer,
            written: Mutex::default(),
        }
    }

    /// Produces records within the transaction, waits until the broker has them, and returns their offsets.
    ///
    /// # Panics
    /// When a record does not arrive.
    pub fn produce(&self, topic: &str, records: &[Record]) -> Vec<i64> {
        let offsets = send_all(&self.producer, topic, records);
        let mut written = self.written.lock().expect("nobody panics with the lock");
        written.extend(records.iter().map(|r| (topic.to_owned(), r.partition)));
        offsets
    }

    /// Commits. The next transaction with the same id can then [`begin`](Self::begin).
    ///
    /// # Panics
    /// When the coordinator refuses.
    pub fn commit(self) {
        self.end("commit", |producer| {
            producer.commit_transaction(REQUEST_LIMIT)
        });
    }

    /// Aborts.
    ///
    /// # Panics
    /// When the coordinator refuses.
    pub fn abort(self) {
        self.end("abort", |producer| {
            producer.abort_transaction(REQUEST_LIMIT)
        });
    }

    /// The coordinator answers before it writes the control records. Records produced next must not come
    /// before those.
    fn end(self, what: &str, end: impl FnOnce(&BaseProducer<Deliveries>) -> KafkaResult<()>) {
        let written = self.written.lock().expect("nobody panics with the lock");
        let log_end = |(topic, partition): &(String, i32)| {
            let client = self.producer.client();
            let bounds = client.fetch_watermarks(topic, *partition, REQUEST_LIMIT);
            bounds.expect("the broker names the log's bounds").1
        };
        let before: Vec<i64> = written.iter().map(log_end).collect();
        end(&self.producer)
            .unwrap_or_else(|error| panic!("cannot {what} the transaction: {error}"));
        for (partition, before) in written.iter().zip(before) {
            wait_until(REQUEST_LIMIT, "the control record is written", || {
                (log_end(partition) > before).then_some(())
            });
        }
    }
}

/// The outcome for each record: its number in the order of sending, and its offset.
#[derive(Default)]
struct Deliveries(Mutex<Vec<(usize, Result<i64, KafkaError>)>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let outcome = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.clone()),
        };
        let mut all = self.0.lock().expect("nobody panics with the lock");
        all.push((number, outcome));
    }
}

fn producer(mut config: ClientConfig, settings: &[(&str, &str)]) -> BaseProducer<Deliveries> {
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config
        .create_with_context(Deliveries::default())
        .unwrap_or_else(|error| panic!("cannot make a producer with {settings:?}: {error}"))
}

fn send_all(producer: &BaseProducer<Deliveries>, topic: &str, records: &[Record]) -> Vec<i64> {
    for (number, record) in records.iter().enumerate() {
        send(producer, number, || {
            let mut base = BaseRecord::with_opaque_to(topic, number).partition(record.partition);
            if let Some(key) = &record.key {
                base = base.key(key);
            }
            if let Some(value) = &record.value {
                base = base.payload(value);
            }
            if let Some(timestamp_ms) = record.timestamp_ms {
                base = base.timestamp(timestamp_ms);
            }
            if !record.headers.is_empty() {
                let mut headers = OwnedHeaders::new();
                for (key, value) in &record.headers {
                    let value = value.as_ref();
                    headers = headers.insert(Header { key, value });
                }
                base = base.headers(headers);
            }
            base
        });
    }
    finish(producer, records.len())
}

/// Sends a record, handling delivery reports while the queue is full.
fn send<'a, K, P>(
    producer: &BaseProducer<Deliveries>,
    number: usize,
    record: impl Fn() -> BaseRecord<'a, K, P, usize>,
) where
    K: rdkafka::message::ToBytes + ?Sized + 'a,
    P: rdkafka::message::ToBytes + ?Sized + 'a,
{
    let deadline = Instant::now() + DELIVERY_LIMIT;
    loop {
        match producer.send(record()) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                assert!(Instant::now() < deadline, "the queue stays full");
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => panic!("cannot produce record {number}: {error}"),
        }
    }
}

/// Waits until the broker has all records and returns their offsets by number.
fn finish(producer: &BaseProducer<Deliveries>, records: usize) -> Vec<i64> {
    producer
        .flush(DELIVERY_LIMIT)
        .unwrap_or_else(|error| panic!("the records did not arrive: {error}"));
    let deliveries = &producer.context().0;
    let mut deliveries = std::mem::take(&mut *deliveries.lock().expect("nobody panics with it"));
    assert_eq!(deliveries.len(), records, "a delivery report is missing");
    deliveries.sort_unstable_by_key(|(number, _)| *number);
    deliveries
        .into_iter()
        .map(|(number, outcome)| {
            outcome.unwrap_or_else(|error| panic!("record {number} did not arrive: {error}"))
        })
        .collect()
}
