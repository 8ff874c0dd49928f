//! A Kafka cluster inside this process, filled with the demo's records.
//!
//! It is librdkafka's mock cluster: real sockets and the real protocol, but no timestamps look-up,
//! no transactions, no compaction and nothing on disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
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

/// The running cluster; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Broker {
    hosts: String,
    /// Dropping this end tells the cluster's thread to finish.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    /// Starts the cluster and fills it.
    ///
    /// # Errors
    /// When the cluster cannot listen on 127.0.0.1, or does not take a record.
    pub(crate) fn start() -> Result<Self, Failure> {
        let (ready, answer) = mpsc::channel();
        let (stop, stopped) = mpsc::channel::<()>();
        // The cluster is neither `Send` nor `Sync`: it lives and dies on this thread.
        let thread = std::thread::Builder::new()
            .name("demo-broker".to_owned())
            .spawn(move || match start_and_fill() {
                Ok(cluster) => {
                    let _ = ready.send(Ok(cluster.bootstrap_servers()));
                    // Ends when the sender is dropped.
                    let _ = stopped.recv();
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
        Ok(Self {
            hosts,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The cluster's bootstrap servers.
    pub(crate) fn hosts(&self) -> &str {
        &self.hosts
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Cluster = MockCluster<'static, rdkafka::producer::DefaultProducerContext>;

fn start_and_fill() -> Result<Cluster, String> {
    let cluster = MockCluster::new(BROKERS).map_err(|e| e.to_string())?;
    for (topic, partitions) in data::TOPICS {
        cluster
            .create_topic(topic, partitions, BROKERS)
            .map_err(|e| e.to_string())?;
    }
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
