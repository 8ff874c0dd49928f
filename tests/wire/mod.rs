//! The client over the wire protocol against fake brokers, which do on demand what real ones do rarely.
//!
//! A script makes the n-th request of an API go wrong ([`script`]). Whatever happens, a read yields all
//! records, or an error that says with coordinates why not, within its deadline. This needs no Java.

mod answers;
mod batches;
mod broker;
mod choice;
mod code;
mod cost;
mod damaged;
mod doctor;
mod ends;
mod leaders;
mod leaders_of_look_ups;
mod librdkafka;
mod log;
mod quotas;
mod recreated;
mod refusals;
mod releases;
mod script;
mod services;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use datafusion_kafka::Error;
use datafusion_kafka::client::memory::Record;
use datafusion_kafka::client::{KafkaClient, ReadRequest, WireClient};
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::driver::{MicroBatch, Trigger};
use datafusion_kafka::range::{OffsetRange, TopicPartition};
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::sink::MemorySink;
use datafusion_kafka::table::KafkaTable;
use tempfile::TempDir;

use self::broker::{FakeCluster, Release};
use self::log::Log;
use crate::conformance::numbered;
use crate::conformance::reading::{Outcome, range, request, run};

const TOPIC: &str = "orders";
/// Records of partition 0, in batches of [`BATCH`].
const RECORDS: usize = 300;
const BATCH: usize = 10;
/// The end of the range to read.
const END: i64 = 300;
/// `read.timeout.ms`.
const READ_TIMEOUT: Duration = Duration::from_millis(2000);
/// The time limit for a read that recovers from a fault, even on a busy machine.
const SOON: Duration = Duration::from_secs(8);

/// Fake brokers and the client under test.
struct Setup {
    cluster: FakeCluster,
    client: Arc<dyn KafkaClient>,
}

impl Setup {
    /// Two nodes with the newest release. The topic has one partition, led by node 1. Reading all records
    /// takes several Fetches.
    async fn new() -> Self {
        Self::with(
            &[Release::V4_1; 2],
            vec![plain_log()],
            &[("fetch.message.max.bytes", "4000")],
        )
        .await
    }

    async fn with(releases: &[Release], logs: Vec<Log>, settings: &[(&str, &str)]) -> Self {
        let cluster = FakeCluster::start(releases).await;
        cluster.create(TOPIC, logs);
        let client = client(&cluster, settings);
        Self { cluster, client }
    }

    async fn run(&self, request: ReadRequest) -> Outcome {
        run(Arc::clone(&self.client), request).await
    }

    async fn read(&self, start: i64, end: i64) -> Outcome {
        self.run(request(vec![of_partition(0, start, end)])).await
    }

    /// A job that copies the topic's offsets into a sink. Its log is in the folder.
    async fn job(&self, sink: &MemorySink, folder: &TempDir) -> MicroBatch {
        let table = KafkaTable::builder_with_client(Arc::clone(&self.client))
            .topic(TOPIC)
            .range("start")
            .build_lazy()
            .unwrap();
        let context = KafkaSessionBuilder::new().build().unwrap();
        context.register_table(TOPIC, Arc::new(table)).unwrap();
        let job = MicroBatch::builder(context, "job")
            .checkpoint(folder.path().to_str().unwrap())
            .sink("out", Arc::new(sink.clone()))
            .unwrap()
            .insert(format!("INSERT INTO out SELECT \"offset\" FROM {TOPIC}"))
            .trigger(Trigger::AvailableNow);
        job.build().await.unwrap()
    }

    /// Reads the whole range, which must yield all records.
    async fn reads_all(&self) -> Outcome {
        let outcome = self.read(0, END).await;
        assert_eq!(outcome.records(), numbered(RECORDS));
        assert!(outcome.took < SOON, "it took {:?}", outcome.took);
        outcome
    }

    /// Reads the whole range, which must fail. Also returns the offset up to which records came.
    async fn fails(&self) -> (i64, Error) {
        let outcome = self.read(0, END).await;
        assert!(outcome.took < SOON, "it took {:?}", outcome.took);
        let rows = outcome.rows.len();
        let records: Vec<Record> = outcome.rows.iter().map(|r| r.record.clone()).collect();
        assert_eq!(records, numbered(rows), "the rows before the error");
        (i64::try_from(rows).unwrap(), outcome.failure())
    }
}

fn client(cluster: &FakeCluster, settings: &[(&str, &str)]) -> Arc<dyn KafkaClient> {
    Arc::new(WireClient::connect(&config(cluster, settings)).unwrap())
}

fn config(cluster: &FakeCluster, settings: &[(&str, &str)]) -> ConnectionConfig {
    let mut config = ConnectionConfig::new(cluster.bootstrap());
    let timeout = READ_TIMEOUT.as_millis().to_string();
    let always = [
        ("kafka.client", "wire"),
        ("read.timeout.ms", &timeout),
        ("request.timeout.ms", &timeout),
    ];
    let others = always
        .iter()
        .filter(|(key, _)| settings.iter().all(|(k, _)| k != key));
    for (key, value) in others.chain(settings) {
        config.set(key, value).unwrap();
    }
    config
}

fn plain_log() -> Log {
    let mut log = Log::default();
    log.extend(&numbered(RECORDS), BATCH);
    log
}

fn of_partition(partition: i32, start: i64, end: i64) -> OffsetRange {
    range(&TopicPartition::new(TOPIC, partition), start, end)
}
