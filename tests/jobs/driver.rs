//! Jobs on a real broker: cases that only a broker decides.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion_kafka::client::ClientPool;
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::driver::{BatchProgress, LostBecause, MicroBatch, RunSummary, Stop, Trigger};
use datafusion_kafka::range::TopicPartition;
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::sink::MemorySink;
use datafusion_kafka::{ErrorKind, Result};
use tempfile::TempDir;

use crate::support::{self, KafkaOptions, KafkaServer, Record, Transaction, admin, produce};

/// A job from one topic into memory, which can be started any number of times.
pub struct World {
    bootstrap: String,
    topic: String,
    pub options: String,
    pub client: &'static str,
    sink: MemorySink,
    folder: TempDir,
}

impl World {
    fn new(partitions: i32) -> Self {
        Self::on(support::shared().bootstrap(), partitions)
    }

    fn on(bootstrap: &str, partitions: i32) -> Self {
        let topic = admin::unique_topic("jobs");
        admin::create_topic(bootstrap, &topic, partitions, &[]);
        Self::reading(bootstrap, &topic, "auto")
    }

    /// A job over an existing topic, read by the client with that name.
    pub fn reading(bootstrap: &str, topic: &str, client: &'static str) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            topic: topic.to_owned(),
            options: String::new(),
            client,
            sink: MemorySink::new("out"),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn produce(&self, partition: i32, records: usize) {
        let records: Vec<Record> = (0..records)
            .map(|n| Record::new(partition).value(format!("{n}")))
            .collect();
        produce::produce(&self.bootstrap, &self.topic, &records);
    }

    async fn job(&self) -> MicroBatch {
        let mut config = ConnectionConfig::new(&self.bootstrap);
        config.set("kafka.client", self.client).unwrap();
        let context = KafkaSessionBuilder::new()
            .connection(config)
            .build()
            .unwrap();
        let create = format!(
            "CREATE EXTERNAL TABLE orders STORED AS KAFKA LOCATION '{}' {}",
            self.topic, self.options
        );
        context.sql(&create).await.unwrap();
        MicroBatch::builder(context, "job")
            .checkpoint(self.folder.path().to_str().unwrap())
            .sink("out", Arc::new(self.sink.clone()))
            .unwrap()
            .insert("INSERT INTO out SELECT partition, offset FROM orders")
            .trigger(Trigger::AvailableNow)
            .build()
            .await
            .unwrap()
    }

    pub async fn run(&self) -> Result<RunSummary> {
        self.job().await.run(&Stop::new()).await
    }

    pub async fn step(&self) -> BatchProgress {
        self.job().await.step().await.unwrap().unwrap()
    }

    pub fn held(&self) -> Vec<(i32, i64)> {
        let rows = self.sink.rows();
        let rows = rows.iter().flat_map(|rows| {
            let partitions = rows["partition"].as_primitive::<Int32Type>().values();
            let offsets = rows["offset"].as_primitive::<Int64Type>().values();
            partitions.iter().copied().zip(offsets.iter().copied())
        });
        let mut held: Vec<(i32, i64)> = rows.collect();
        held.sort_unstable();
        held
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifteen_records_by_five_are_three_batches() {
    let mut world = World::new(1);
    world.options = "OPTIONS ('maxOffsetsPerTrigger' '5')".to_owned();
    world.produce(0, 15);
    let summary = world.run().await.unwrap();
    assert_eq!((summary.batches, summary.rows), (3, 15));
    assert_eq!(world.held(), (0..15).map(|o| (0, o)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn aborted_transactions_make_empty_batches_that_move_on() {
    let world = World::new(1);
    let values = |n: usize| vec![Record::new(0).value("x"); n];
    let aborted = Transaction::begin(&world.bootstrap, &admin::unique_topic("tx"));
    aborted.produce(&world.topic, &values(3));
    aborted.abort();
    let empty = world.step().await;
    assert_eq!(empty.rows(), 0);
    assert_eq!(empty.sources[0].ranges[0].end(), 4);

    let open = Transaction::begin(&world.bootstrap, &admin::unique_topic("tx"));
    open.produce(&world.topic, &values(2));
    assert_eq!(world.run().await.unwrap().batches, 0, "an open transaction");
    open.commit();
    let committed = world.step().await;
    assert_eq!(committed.rows(), 2);
    assert_eq!(world.held(), [(0, 4), (0, 5)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_come_later_are_read_from_their_start() {
    let mut world = World::new(1);
    world.options = "OPTIONS ('startingOffsets' 'latest')".to_owned();
    world.produce(0, 5);
    assert_eq!(world.run().await.unwrap().batches, 0);
    admin::grow_topic(&world.bootstrap, &world.topic, 3);
    world.produce(2, 2);
    world.produce(0, 1);
    world.run().await.unwrap();
    assert_eq!(world.held(), [(0, 5), (2, 0), (2, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_records_are_a_loss_that_may_be_permitted() {
    let mut world = World::new(1);
    world.produce(0, 5);
    world.run().await.unwrap();
    world.produce(0, 10);
    admin::delete_records(&world.bootstrap, &world.topic, 0, 9);
    let error = world.run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataUnavailable);
    let at = format!("{}[0]@5: the log now starts at 9", world.topic);
    assert!(error.to_string().starts_with(&at), "{error}");

    world.options = "OPTIONS ('failOnDataLoss' 'false')".to_owned();
    let progress = world.step().await;
    let lost = &progress.sources[0].lost[0];
    assert_eq!((lost.from, lost.to), (5, 9));
    assert_eq!(progress.sources[0].ranges[0].start(), 5);
    assert_eq!(world.held().len(), 5 + 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_topic_is_detected_although_it_is_longer() {
    let mut world = World::new(1);
    world.produce(0, 3);
    world.run().await.unwrap();
    admin::delete_topic(&world.bootstrap, &world.topic);
    admin::create_topic(&world.bootstrap, &world.topic, 1, &[]);
    world.produce(0, 8);
    let error = world.run().await.unwrap_err().to_string();
    assert!(error.contains("recreated"), "{error}");

    world.options = "OPTIONS ('on.data.loss' 'skip')".to_owned();
    let progress = world.step().await;
    assert_eq!(progress.sources[0].lost[0].reason, LostBecause::Recreated);
    assert_eq!(progress.rows(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uncommitted_batch_is_repeated_with_its_ranges() {
    let world = World::new(2);
    world.produce(0, 5);
    world.sink.fail("answer", 1, false);
    world.run().await.unwrap_err();
    admin::grow_topic(&world.bootstrap, &world.topic, 3);
    world.produce(0, 5);
    world.produce(2, 5);
    let mut job = world.job().await;
    let again = job.step().await.unwrap().unwrap();
    assert!(again.recovered && again.sinks[0].already);
    assert_eq!(again.sources[0].ranges.len(), 1);
    assert_eq!(again.sources[0].ranges[0].end(), 5);
    job.run(&Stop::new()).await.unwrap();
    assert_eq!(world.held().len(), 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_throttles_a_job_and_is_reported() {
    let mut world = World::new(1);
    let id = admin::unique_topic("job");
    let (topic, records) = produce::held_back(&world.bootstrap, &id);
    world.topic = topic;
    world.options = format!("OPTIONS ('kafka.client.id' '{id}', 'read.timeout.ms' '6000')");
    let progress = world.step().await;
    assert_eq!((progress.rows(), progress.retries), (records as u64, 0));
    assert!(progress.sources[0].throttled_ms >= 1000);
    assert!(progress.to_json().contains("\"throttled_ms\":"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_quota_holds_back_are_committed() {
    let world = World::new(1);
    let id = admin::unique_topic("producer");
    admin::limit_client(&world.bootstrap, &id, "producer_byte_rate", 20_000);
    let target = admin::unique_topic("target");
    admin::create_topic(&world.bootstrap, &target, 1, &[]);
    world.produce(0, 250);
    let config = ConnectionConfig::new(&world.bootstrap);
    let context = KafkaSessionBuilder::new()
        .connection(config)
        .build()
        .unwrap();
    // Several requests, where the broker delays those after the first.
    let create = format!(
        "CREATE EXTERNAL TABLE target STORED AS KAFKA LOCATION '{target}' \
         OPTIONS ('kafka.client.id' '{id}', 'kafka.batch.size' '40000')"
    );
    context.sql(&create).await.unwrap();
    let insert = format!(
        "INSERT INTO target SELECT key, repeat('x', 1000) AS value FROM \"{}\"",
        world.topic
    );
    let mut job = MicroBatch::builder(context, "copy")
        .checkpoint(world.folder.path().to_str().unwrap())
        .insert(insert)
        .trigger(Trigger::Once)
        .build()
        .await
        .unwrap();
    let progress = job.step().await.unwrap().unwrap();
    assert_eq!((progress.rows(), progress.retries), (250, 0));
    let isolation = support::read::Isolation::ReadCommitted;
    let copied = support::read::read(&world.bootstrap, &target, 0, isolation);
    assert_eq!(copied.len(), 250);
}

/// A broker is down for two seconds in the middle of a job.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_is_waited_for() {
    let mut server = KafkaServer::start(KafkaOptions::default());
    let world = World::on(server.bootstrap(), 1);
    world.produce(0, 5);
    assert_eq!(world.run().await.unwrap().rows, 5);
    world.produce(0, 5);
    let mut job = world.job().await;
    server.kill();
    let running = tokio::spawn(async move {
        let result = job.run(&Stop::new()).await;
        (world, result)
    });
    let restarting = tokio::task::spawn_blocking(move || {
        std::thread::sleep(std::time::Duration::from_secs(2));
        server.restart();
        server
    });
    // It lives until the job is done.
    let server = restarting.await.unwrap();
    let (world, result) = running.await.unwrap();
    drop(server);
    result.unwrap();
    assert_eq!(world.held().len(), 10);
}

/// Spark loses this order, because the tasks of its sink write in parallel.
#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_partition_keep_their_order_in_kafka() {
    let world = World::new(1);
    let target = admin::unique_topic("target");
    admin::create_topic(&world.bootstrap, &target, 1, &[]);
    let records: Vec<Record> = (0..5000)
        .map(|n| {
            Record::new(0)
                .key(format!("k{}", n % 7))
                .value(format!("{n}"))
        })
        .collect();
    produce::produce(&world.bootstrap, &world.topic, &records);
    let config = ConnectionConfig::new(&world.bootstrap);
    let context = KafkaSessionBuilder::new()
        .connection(config)
        .build()
        .unwrap();
    let create = format!("CREATE EXTERNAL TABLE target STORED AS KAFKA LOCATION '{target}'");
    context.sql(&create).await.unwrap();
    let insert = format!(
        "INSERT INTO target SELECT key, value FROM \"{}\"",
        world.topic
    );
    let mut job = MicroBatch::builder(context, "copy")
        .checkpoint(world.folder.path().to_str().unwrap())
        .insert(insert)
        .trigger(Trigger::Once)
        .build()
        .await
        .unwrap();
    assert_eq!(job.run(&Stop::new()).await.unwrap().rows, 5000);
    let isolation = support::read::Isolation::ReadCommitted;
    let copied = support::read::read(&world.bootstrap, &target, 0, isolation);
    let values: Vec<String> = copied
        .into_iter()
        .map(|record| String::from_utf8(record.value.unwrap()).unwrap())
        .collect();
    let expected: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
    assert_eq!(values, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_shown_to_lag_tools() {
    let world = World::new(2);
    world.produce(0, 5);
    world.produce(1, 2);
    let config = ConnectionConfig::new(&world.bootstrap);
    let context = KafkaSessionBuilder::new()
        .connection(config.clone())
        .build()
        .unwrap();
    let group = admin::unique_topic("group");
    let insert = format!(
        "INSERT INTO out SELECT partition, offset FROM \"{}\"",
        world.topic
    );
    let mut job = MicroBatch::builder(context, "job")
        .checkpoint(world.folder.path().to_str().unwrap())
        .sink("out", Arc::new(world.sink.clone()))
        .unwrap()
        .insert(insert)
        .trigger(Trigger::Once)
        .commit_group(&group)
        .build()
        .await
        .unwrap();
    job.run(&Stop::new()).await.unwrap();
    let client = ClientPool::global().client(&config).unwrap();
    let partitions = [0, 1].map(|p| TopicPartition::new(world.topic.as_str(), p));
    let shown = client.group_offsets(&group, &partitions).await.unwrap();
    assert_eq!(shown.into_values().collect::<Vec<_>>(), [5, 2]);
}
