//! A Kafka cluster inside this process, filled with the demo's records.
//!
//! It is librdkafka's mock cluster: real sockets and the real protocol, but no timestamps look-up,
//! no transactions, no compaction and nothing on disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::util::Timeout;

use super::data::{self, Record};
use crate::failure::{Exit, Failure};

/// Brokers of the cluster: enough for replicas to be seen.
const BROKERS: i32 = 3;
/// How long filling may take; it takes some ten milliseconds.
const FILL: Duration = Duration::from_secs(30);

/// The running cluster. It ends with the process: shutting it down in order takes seconds.
#[derive(Debug)]
pub(crate) struct Broker {
    hosts: String,
}

impl Broker {
    /// Starts the cluster and fills it.
    ///
    /// # Errors
    /// When the cluster cannot listen on 127.0.0.1, or does not take a record.
    pub(crate) fn start() -> Result<Self, Failure> {
        let (ready, answer) = mpsc::channel();
        // The cluster is neither `Send` nor `Sync`: it lives and dies on this thread.
        std::thread::Builder::new()
            .name("demo-broker".to_owned())
            .spawn(move || match start_and_fill() {
                Ok(cluster) => {
                    let _ = ready.send(Ok(cluster.bootstrap_servers()));
                    loop {
                        std::thread::park();
                    }
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            })
            .map_err(|e| Failure::io("cannot start the embedded broker", &e))?;
        let hosts = answer
            .recv()
            .unwrap_or_else(|_| Err("its thread ended".to_owned()))
            .map_err(|e| {
                Failure::new(
                    Exit::Connection,
                    format!("cannot start the embedded broker: {e}"),
                )
            })?;
        Ok(Self { hosts })
    }

    /// The cluster's bootstrap servers.
    pub(crate) fn hosts(&self) -> &str {
        &self.hosts
    }
}

type Cluster = MockCluster<'static, rdkafka::producer::DefaultProducerContext>;

fn start_and_fill() -> Result<Cluster, String> {
    let cluster = MockCluster::new(BROKERS).map_err(|e| e.to_string())?;
    let refused = Arc::new(AtomicUsize::new(0));
    let producer: BaseProducer<Deliveries> = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        // One request at a time keeps the order; small batches make several fetches of a partition.
        .set("max.in.flight", "1")
        .set("batch.num.messages", "100")
        .set("linger.ms", "5")
        .create_with_context(Deliveries {
            refused: Arc::clone(&refused),
        })
        .map_err(|e| e.to_string())?;
    // Asking for a topic makes it, with four partitions. Commands to the cluster would do the same,
    // but each may wait a second for the cluster's next look. And with the leaders known, the
    // records need not wait for the producer's next look either.
    for topic in data::TOPICS {
        let metadata = producer
            .client()
            .fetch_metadata(Some(topic), FILL)
            .map_err(|e| e.to_string())?;
        let made = metadata
            .topics()
            .first()
            .map_or(0, |t| t.partitions().len());
        if made != data::PARTITIONS {
            return Err(format!(
                "the topic {topic} has {made} partitions in place of {}",
                data::PARTITIONS
            ));
        }
    }
    let records = data::records();
    for record in &records {
        send(&producer, record).map_err(|e| e.to_string())?;
    }
    producer.flush(FILL).map_err(|e| e.to_string())?;
    match refused.load(Ordering::SeqCst) {
        0 => Ok(cluster),
        n => Err(format!("{n} of {} records were not taken", records.len())),
    }
}

fn send(producer: &BaseProducer<Deliveries>, record: &Record) -> Result<(), KafkaError> {
    let mut out: BaseRecord<'_, str, str> = BaseRecord::to(record.topic)
        .partition(record.partition)
        .timestamp(record.timestamp_ms)
        .key(record.key.as_str());
    if let Some(value) = &record.value {
        out = out.payload(value);
    }
    if !record.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(record.headers.len());
        out = out.headers(
            record
                .headers
                .iter()
                .fold(headers, |headers, (key, value)| {
                    headers.insert(Header {
                        key,
                        value: value.as_ref(),
                    })
                }),
        );
    }
    producer.send(out).map_err(|(error, _)| error)?;
    producer.poll(Timeout::After(Duration::ZERO));
    Ok(())
}

/// Counts records that the cluster did not take.
struct Deliveries {
    refused: Arc<AtomicUsize>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.refused.fetch_add(1, Ordering::SeqCst);
        }
    }
}
