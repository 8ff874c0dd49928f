//! The examples in Rust. Each runs twice, and more records arrive in between.

#[path = "../../../examples/jobs/copy.rs"]
mod copy;
#[path = "../../../examples/jobs/delivery.rs"]
mod delivery;
#[path = "../../../examples/jobs/landing.rs"]
mod landing;
#[path = "../../../examples/jobs/per_minute.rs"]
mod per_minute;
#[path = "../../../examples/jobs/windowed.rs"]
mod windowed;

use std::path::PathBuf;

use datafusion_kafka::driver::RunSummary;
use datafusion_kafka::sink::BoxError;
use delivery::Semantics;
use tempfile::TempDir;

use super::{at, broker, day_of, landed, lines, sorted, sqlite, text_of};
use crate::support::postgres::PostgresServer;
use crate::support::read::{Isolation, read};
use crate::support::{Record, admin, produce};

const PARTITIONS: i32 = 2;

/// A topic, and a folder for what a job writes.
struct World {
    topic: String,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let topic = admin::unique_topic("records");
        admin::create_topic(broker().bootstrap(), &topic, PARTITIONS, &[]);
        let folder = TempDir::new().unwrap();
        Self { topic, folder }
    }

    /// Appends records: partition, timestamp and value.
    fn produce(&self, records: &[(i32, i64, &str)]) {
        let records: Vec<Record> = records
            .iter()
            .map(|(partition, timestamp_ms, value)| {
                Record::new(*partition)
                    .key(format!("key of {value}"))
                    .value(*value)
                    .timestamp_ms(*timestamp_ms)
            })
            .collect();
        produce::produce(broker().bootstrap(), &self.topic, &records);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text_path(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

/// The counts of a run, which must have succeeded.
fn did(result: Result<RunSummary, BoxError>) -> (u64, u64, u64) {
    let summary = result.unwrap();
    (summary.batches, summary.records, summary.rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn landing_goes_on_where_it_ended() {
    let world = World::new();
    let (folder, checkpoint) = (world.text_path("lake"), world.text_path("checkpoint"));
    let run = || landing::run(broker().bootstrap(), &world.topic, &folder, &checkpoint);
    world.produce(&[(0, at(5, 0), "a"), (1, at(3000, 0), "b")]);
    assert_eq!(did(run().await), (1, 2, 2));
    world.produce(&[(0, at(3000, 0), "c")]);
    assert_eq!(did(run().await), (1, 1, 1));
    assert_eq!(did(run().await), (0, 0, 0));
    let row = |minutes_ago, partition: &str, offset: &str, value: &str| {
        let day = format!("day={}", day_of(at(minutes_ago, 0)));
        [
            day,
            partition.to_owned(),
            offset.to_owned(),
            value.to_owned(),
        ]
    };
    assert_eq!(
        landed(&world.path("lake")).await,
        sorted([
            row(5, "0", "0", "a"),
            row(3000, "1", "0", "b"),
            row(3000, "0", "1", "c")
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_of_a_minute_add_up() {
    let world = World::new();
    // The example names its table, so it needs a server of its own.
    let server = PostgresServer::start();
    let (database, checkpoint) = (server.url("postgres"), world.text_path("checkpoint"));
    let run = || per_minute::run(broker().bootstrap(), &world.topic, &database, &checkpoint);
    world.produce(&[
        (0, at(5, 1), "a"),
        (0, at(4, 0), "bb"),
        (1, at(5, 59), "ccc"),
    ]);
    assert_eq!(did(run().await), (1, 3, 2));
    world.produce(&[(1, at(5, 30), "dddd")]);
    assert_eq!(did(run().await), (1, 1, 1));
    let minutes = "SELECT extract(epoch FROM minute)::bigint, sum(records), sum(bytes) \
                   FROM minute_shares GROUP BY minute";
    let row = |minutes_ago, records: &str, bytes: &str| {
        let minute = (at(minutes_ago, 0) / 1_000).to_string();
        [minute, records.to_owned(), bytes.to_owned()]
    };
    let expected = sorted([row(5, "3", "8"), row(4, "1", "2")]);
    assert_eq!(lines(&server.sql(minutes)), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_says_where_it_came_from() {
    let world = World::new();
    let target = admin::unique_topic("copies");
    let brokers = broker().bootstrap();
    admin::create_topic(brokers, &target, 1, &[]);
    let checkpoint = world.text_path("checkpoint");
    let run = || copy::run(brokers, &world.topic, brokers, &target, &checkpoint);
    world.produce(&[(0, at(5, 0), "a"), (1, at(4, 0), "b")]);
    assert_eq!(did(run().await), (1, 2, 2));
    world.produce(&[(1, at(3, 0), "c")]);
    assert_eq!(did(run().await), (1, 1, 1));
    let text = |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().unwrap()).unwrap();
    let copied = read(brokers, &target, 0, Isolation::ReadCommitted)
        .into_iter()
        .map(|record| {
            let [(name, from)] = record.headers.as_slice() else {
                panic!("{:?}", record.headers);
            };
            assert_eq!(name, "from");
            let timestamp_ms = record.timestamp_ms.unwrap().to_string();
            [
                text(&record.key),
                text(&record.value),
                timestamp_ms,
                text(from),
            ]
        });
    let row = |value: &str, minutes_ago, from: &str| {
        [
            format!("key of {value}"),
            value.to_owned(),
            at(minutes_ago, 0).to_string(),
            format!("{}{from}", world.topic),
        ]
    };
    let expected = [
        row("a", 5, "[0]@0"),
        row("b", 4, "[1]@0"),
        row("c", 3, "[1]@1"),
    ];
    assert_eq!(sorted(copied), sorted(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn windowed_counts_are_replaced() {
    let world = World::new();
    let (file, checkpoint) = (world.text_path("counts.db"), world.text_path("checkpoint"));
    let run = || windowed::run(broker().bootstrap(), &world.topic, &file, &checkpoint);
    world.produce(&[
        (0, at(500, 0), "old"),
        (0, at(5, 1), "a"),
        (1, at(5, 2), "b"),
    ]);
    assert_eq!(run().await.unwrap().rows, 1);
    world.produce(&[(0, at(5, 3), "c"), (1, at(4, 0), "d")]);
    assert_eq!(run().await.unwrap().rows, 2);
    let counts = sqlite(
        &world.path("counts.db"),
        "SELECT minute, records FROM per_minute",
    );
    let row = |minutes_ago, records: &str| [text_of(at(minutes_ago, 0)), records.to_owned()];
    assert_eq!(counts, sorted([row(5, "3"), row(4, "1")]));
}

/// Crashes in the first batch between rows and offsets. Returns how often each of its ten rows arrived in the
/// end. Later rows must arrive once.
async fn after_a_crash(semantics: Semantics) -> usize {
    let world = World::new();
    let (file, checkpoint) = (world.text_path("store.db"), world.text_path("checkpoint"));
    let brokers = broker().bootstrap();
    let run = |crash| delivery::run(semantics, crash, brokers, &world.topic, &file, &checkpoint);
    let record = |n: i32| (n % PARTITIONS, at(5, 0), "x");
    let partition_and_offset =
        |n: i32| [(n % PARTITIONS).to_string(), (n / PARTITIONS).to_string()];

    world.produce(&(0..10).map(record).collect::<Vec<_>>());
    let crashed = run(true).await.unwrap_err().to_string();
    assert!(crashed.contains("crashed half-way"), "{crashed}");
    // More records arrive before the job restarts. The batch is repeated without them.
    world.produce(&(10..16).map(record).collect::<Vec<_>>());
    run(false).await.unwrap();

    let delivered = || {
        sqlite(
            &world.path("store.db"),
            "SELECT part, off FROM delivered UNION ALL SELECT part, off FROM delivered_once",
        )
    };
    let rows = delivered();
    let times = |n: i32| {
        rows.iter()
            .filter(|row| **row == partition_and_offset(n))
            .count()
    };
    let of_the_crash: Vec<usize> = (0..10).map(times).collect();
    assert_eq!(of_the_crash, [of_the_crash[0]; 10]);
    assert_eq!((10..16).map(times).collect::<Vec<_>>(), [1; 6]);

    // The store knows its offsets, so the job also continues without its log.
    std::fs::remove_dir_all(world.path("checkpoint")).unwrap();
    world.produce(&[record(16)]);
    assert_eq!(did(run(false).await), (1, 1, 1));
    assert_eq!(delivered().len(), rows.len() + 1);
    of_the_crash[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_loses_the_rows_of_a_crash() {
    assert_eq!(after_a_crash(Semantics::AtMostOnce).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_repeats_the_rows_of_a_crash() {
    assert_eq!(after_a_crash(Semantics::AtLeastOnce).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotent_writes_have_the_rows_of_a_crash_once() {
    assert_eq!(after_a_crash(Semantics::Idempotent).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_has_the_rows_of_a_crash_once() {
    assert_eq!(after_a_crash(Semantics::Transactional).await, 1);
}
