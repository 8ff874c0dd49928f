//! Jobs as processes that die: whatever happens, each record is in the sink exactly once.

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::dataframe::DataFrame;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use datafusion_kafka::store::Store;
use tempfile::TempDir;

use crate::job::{Held, Job, PARTITIONS, Random, count, pair, signal, text};
#[cfg(feature = "postgres")]
use crate::support::postgres::PostgresServer;
use crate::support::{self, Record, admin, produce};

/// How often the job of each sink is killed.
pub(crate) const KILLS: usize = 40;

impl Job {
    /// Kills the job's process again and again while records arrive, and compares at the end.
    pub(crate) fn survives_kills(&self, held: impl Fn(&Self) -> Held) {
        let mut random = Random::new();
        let producing = self.produce();
        let (mut start_ms, mut batches) = (self.start_ms, 0);
        for _ in 0..KILLS {
            let mut child = self.start();
            thread::sleep(Duration::from_millis(start_ms + random.below(400)));
            child.kill().expect("it can be killed");
            let output = child.wait_with_output().expect("it ended");
            let killed = output.status.signal() == Some(9);
            // On a machine that is busy it starts later.
            let before = std::mem::replace(&mut batches, self.batches());
            if batches == before {
                start_ms += 100;
            }
            assert!(
                killed,
                "seed {}: it ended by itself: {}",
                random.seed,
                text(&output)
            );
        }
        producing.stop();
        let batches = self.batches();
        assert!(
            batches > KILLS as u64 / 2,
            "only {batches} batches were made"
        );
        self.finish();
        self.assert_exactly_once(held(self), random.seed);
    }

    /// Crashes at each of these fault points, the first and the second time that it is passed.
    pub(crate) fn survives_faults(&self, points: &[&str], held: impl Fn(&Self) -> Held) {
        for point in points {
            for times in 1..=2 {
                // Of two batches, so that the second passes what the first one has.
                let records: Vec<Record> = (0..2 * PARTITIONS)
                    .map(|n| Record::new(n % PARTITIONS).value(format!("{point} {times}")))
                    .collect();
                produce::produce(support::shared().bootstrap(), &self.topic, &records);
                let fault = format!("{point}:{times}");
                assert!(self.crash_at(&fault), "{fault} was not passed");
                self.finish();
                self.assert_exactly_once(held(self), 0);
            }
        }
    }

    pub(crate) fn assert_exactly_once(&self, held: Held, seed: u64) {
        let expected = self.expected();
        let missing: Vec<_> = expected.keys().filter(|k| !held.contains_key(k)).collect();
        let twice: Vec<_> = held.iter().filter(|(_, times)| **times > 1).collect();
        let foreign: Vec<_> = held.keys().filter(|k| !expected.contains_key(k)).collect();
        assert!(
            missing.is_empty() && twice.is_empty() && foreign.is_empty(),
            "seed {seed}: of {} records {} are missing ({:?}…), {} came again ({:?}…), {} are foreign",
            expected.len(),
            missing.len(),
            missing.first(),
            twice.len(),
            twice.first(),
            foreign.len(),
        );
    }

    /// One driver is frozen, another one takes over, and the first wakes up. It must stop, and no record may
    /// arrive twice.
    pub(crate) fn survives_a_frozen_driver(&self, held: impl Fn(&Self) -> Held) {
        let mut random = Random::new();
        for _ in 0..3 {
            let producing = self.produce();
            let frozen = self.start();
            // If it was frozen before it owned the log, it would take over when it wakes up.
            self.wait_for_batches(1, "the first driver makes no batches");
            thread::sleep(Duration::from_millis(random.below(400)));
            signal(frozen.id(), "STOP");
            let mut second = self.start();
            // If it is frozen within a transaction, it keeps SQLite's lock and blocks everyone. So it gets a
            // moment to finish what it has begun.
            self.wait_for_batches_while(3, "the second driver makes no batches", || {
                signal(frozen.id(), "CONT");
                thread::sleep(Duration::from_millis(50));
                signal(frozen.id(), "STOP");
            });
            signal(frozen.id(), "CONT");
            let loser = frozen.wait_with_output().expect("it ended");
            assert_eq!(loser.status.code(), Some(8), "{}", text(&loser));
            signal(second.id(), "TERM");
            let status = second.wait().expect("it ended");
            assert_eq!(
                status.code(),
                Some(0),
                "the winner ends well when it is told to"
            );
            producing.stop();
            self.finish();
            self.assert_exactly_once(held(self), random.seed);
        }
    }

    /// Two drivers run at the same time: one of them must end with exit code 8.
    pub(crate) fn survives_two_drivers(&self, held: impl Fn(&Self) -> Held) {
        let producing = self.produce();
        let mut both = [Some(self.start()), Some(self.start())];
        let deadline = Instant::now() + Duration::from_secs(60);
        let loser = loop {
            let ended = both.iter_mut().find_map(|child| {
                let ended = child.as_mut()?.try_wait().expect("it can be asked");
                ended.and_then(|_| child.take())
            });
            if let Some(ended) = ended {
                break ended.wait_with_output().expect("it ended");
            }
            assert!(Instant::now() < deadline, "both drivers go on");
            thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(loser.status.code(), Some(8), "{}", text(&loser));
        producing.stop();
        for winner in both.into_iter().flatten() {
            signal(winner.id(), "INT");
            let winner = winner.wait_with_output().expect("it ended");
            assert_eq!(winner.status.code(), Some(0), "{}", text(&winner));
        }
        self.finish();
        self.assert_exactly_once(held(self), 0);
    }
}

pub(crate) const INSERT: &str =
    "INSERT INTO out SELECT partition, offset, CAST(value AS VARCHAR) AS value FROM orders";

/// The points that every job's driver passes, whatever its sink.
const POINTS: [&str; 4] = [
    "after-intent",
    "after-stage",
    "after-sink-commit",
    "after-log-commit",
];

/// The tests of one sink. `$job` makes a job, and `$held` reads its target back.
macro_rules! crash_tests {
    ($module:ident, $job:expr, $held:expr, $points:expr) => {
        mod $module {
            use super::*;

            #[test]
            fn killed_at_random() {
                $job.survives_kills($held);
            }

            #[test]
            fn crashed_at_each_point() {
                let points: Vec<&str> = POINTS.iter().chain(&$points).copied().collect();
                $job.survives_faults(&points, $held);
            }

            #[test]
            fn frozen_and_overtaken() {
                $job.survives_a_frozen_driver($held);
            }

            #[test]
            fn two_at_once() {
                $job.survives_two_drivers($held);
            }
        }
    };
}

#[cfg(feature = "sqlite")]
pub(crate) fn sqlite_job() -> Job {
    Job::new(|folder| sqlite_sink(folder.path()), INSERT)
}

#[cfg(feature = "sqlite")]
pub(crate) fn sqlite_sink(folder: &Path) -> String {
    let file = folder.join("out.db");
    format!(
        "CREATE EXTERNAL TABLE out STORED AS SQLITE LOCATION '{}' OPTIONS ('table' 'out')",
        file.display()
    )
}

#[cfg(feature = "sqlite")]
pub(crate) fn sqlite_held(job: &Job) -> Held {
    sqlite_rows(&job.folder.path().join("out.db"))
}

#[cfg(feature = "sqlite")]
pub(crate) fn sqlite_rows(file: &Path) -> Held {
    let connection = rusqlite::Connection::open(file).expect("a database");
    let mut rows = connection
        .prepare("SELECT \"partition\", \"offset\" FROM out")
        .expect("the table");
    let rows = rows
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("rows");
    count(rows.map(|row| row.expect("a row")))
}

#[cfg(feature = "sqlite")]
crash_tests!(
    sqlite,
    sqlite_job(),
    sqlite_held,
    ["sqlite-before-commit", "sqlite-after-commit"]
);

/// What [`kafka_held`] understands.
pub(crate) const INSERT_TEXT: &str = "INSERT INTO out SELECT CAST(partition AS VARCHAR) || ' ' || CAST(offset AS VARCHAR) AS value FROM orders";

/// A topic as the target, of which the job's folder has the name.
pub(crate) fn kafka_sink(brokers: &str, folder: &TempDir) -> String {
    let target = admin::unique_topic("out");
    admin::create_topic(brokers, &target, 2, &[]);
    std::fs::write(folder.path().join("target"), &target).expect("a file");
    format!("CREATE EXTERNAL TABLE out STORED AS KAFKA LOCATION '{target}'")
}

fn kafka_job() -> Job {
    let sink = |folder: &TempDir| kafka_sink(support::shared().bootstrap(), folder);
    Job::new(sink, INSERT_TEXT).starts_within_ms(600)
}

pub(crate) fn kafka_held(job: &Job) -> Held {
    let target = std::fs::read_to_string(job.folder.path().join("target")).expect("a name");
    let bootstrap = &job.brokers;
    let records = (0..2).flat_map(|partition| {
        support::read::read(
            bootstrap,
            &target,
            partition,
            support::read::Isolation::ReadCommitted,
        )
    });
    count(records.map(|record| {
        let value = record.value.expect("a value");
        pair(&String::from_utf8(value).expect("text"))
    }))
}

crash_tests!(
    kafka,
    kafka_job(),
    kafka_held,
    ["kafka-before-commit", "kafka-after-commit"]
);

#[cfg(feature = "postgres")]
fn postgres_job() -> Job {
    postgres_job_on(support::postgres::shared())
}

#[cfg(feature = "postgres")]
fn postgres_job_on(server: &PostgresServer) -> Job {
    let table = admin::unique_topic("out").replace('-', "_");
    let url = server.url("postgres");
    Job::new(
        |folder| {
            std::fs::write(folder.path().join("target"), &table).expect("a file");
            format!(
                "CREATE EXTERNAL TABLE out STORED AS POSTGRES LOCATION '{url}' OPTIONS ('table' '{table}')"
            )
        },
        INSERT,
    )
}

#[cfg(feature = "postgres")]
fn postgres_held(job: &Job) -> Held {
    postgres_held_on(support::postgres::shared(), job)
}

#[cfg(feature = "postgres")]
fn postgres_held_on(server: &PostgresServer, job: &Job) -> Held {
    let table = std::fs::read_to_string(job.folder.path().join("target")).expect("a name");
    let rows = server.sql(&format!(
        "SELECT partition::text || ' ' || \"offset\"::text FROM {table}"
    ));
    count(rows.lines().filter(|line| !line.is_empty()).map(pair))
}

#[cfg(feature = "postgres")]
crash_tests!(
    postgres,
    postgres_job(),
    postgres_held,
    ["postgres-before-commit", "postgres-after-commit"]
);

/// The database is down for 20 s while records arrive. The job waits, then continues.
#[cfg(feature = "postgres")]
#[test]
fn a_database_that_is_down_is_waited_for() {
    let mut server = PostgresServer::start();
    let job = postgres_job_on(&server);
    let producing = job.produce();
    let mut running = job.start();
    thread::sleep(Duration::from_secs(2));
    let before = job.batches();
    server.stop();
    thread::sleep(Duration::from_secs(20));
    assert!(
        running.try_wait().expect("it can be asked").is_none(),
        "it waits"
    );
    server.start_again();
    let deadline = Instant::now() + Duration::from_secs(60);
    while job.batches() < before + 3 {
        assert!(Instant::now() < deadline, "it does not go on");
        thread::sleep(Duration::from_millis(50));
    }
    signal(running.id(), "TERM");
    assert_eq!(running.wait().expect("it ended").code(), Some(0));
    producing.stop();
    job.finish();
    job.assert_exactly_once(postgres_held_on(&server, &job), 0);
}

/// A row that the table rejects ends the job. After the constraint is fixed, nothing is lost or repeated.
#[cfg(feature = "postgres")]
#[test]
fn a_constraint_ends_the_job_until_it_is_mended() {
    let server = support::postgres::shared();
    let job = postgres_job_on(server);
    let table = std::fs::read_to_string(job.folder.path().join("target")).expect("a name");
    let put = |offset_from: i64| {
        let records: Vec<Record> = (0..10)
            .map(|n| Record::new(0).value(format!("{}", offset_from + n)))
            .collect();
        produce::produce(support::shared().bootstrap(), &job.topic, &records);
    };
    put(0);
    job.finish();
    server.sql(&format!(
        "ALTER TABLE {table} ADD CONSTRAINT small CHECK (value::bigint < 15)"
    ));
    put(10);
    let refused = job
        .command(&["--available-now"])
        .output()
        .expect("it starts");
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("small"), "{}", text(&refused));
    server.sql(&format!("ALTER TABLE {table} DROP CONSTRAINT small"));
    job.finish();
    job.assert_exactly_once(postgres_held(&job), 0);
}

/// Further points that commits of the parquet sink pass.
const PARQUET_POINTS: [&str; 4] = [
    "parquet-file-staged",
    "manifest-before-put",
    "manifest-after-put",
    "parquet-file-published",
];

fn parquet_job() -> Job {
    Job::new(|folder| parquet_sink(folder.path()), INSERT)
}

pub(crate) fn parquet_sink(folder: &Path) -> String {
    let out = folder.join("out");
    format!(
        "CREATE EXTERNAL TABLE out STORED AS PARQUET LOCATION '{}'",
        out.display()
    )
}

pub(crate) fn parquet_held(job: &Job) -> Held {
    let out = job.folder.path().join("out");
    parquet_rows(out.to_str().expect("text"), HashMap::new())
}

/// The rows according to the manifests, which must match the files.
pub(crate) fn parquet_rows(url: &str, options: HashMap<String, String>) -> Held {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(async {
        let session = datafusion_kafka::session::KafkaSessionBuilder::new();
        let context = session.build().expect("a session");
        let given: Vec<String> = options
            .iter()
            .map(|(name, value)| format!("'{name}' '{value}'"))
            .collect();
        let given = match given.is_empty() {
            true => String::new(),
            false => format!("OPTIONS ({})", given.join(", ")),
        };
        let create =
            format!("CREATE EXTERNAL TABLE out STORED AS PARQUET LOCATION '{url}' {given}");
        context.sql(&create).await.expect("the location is there");
        let named = context.sql("SELECT partition, offset FROM out").await;
        let named = positions(named.expect("columns")).await;

        let store = Store::open(url, &options).expect("a store");
        let plain = SessionContext::new();
        let root = store.root_url().expect("a URL");
        plain.register_object_store(&root, store.object_store());
        let files = plain
            .read_parquet(format!("{url}/"), ParquetReadOptions::default())
            .await;
        let files = files.and_then(|files| files.select_columns(&["partition", "offset"]));
        let files = positions(files.expect("files")).await;
        assert_eq!(files, named, "plain readers see something else");
        named
    })
}

async fn positions(rows: DataFrame) -> Held {
    let rows = rows.collect().await.expect("rows");
    count(rows.iter().flat_map(|rows| {
        let partitions = rows["partition"].as_primitive::<Int32Type>().values();
        let offsets = rows["offset"].as_primitive::<Int64Type>().values();
        partitions.iter().copied().zip(offsets.iter().copied())
    }))
}

crash_tests!(parquet, parquet_job(), parquet_held, PARQUET_POINTS);

#[cfg(feature = "s3")]
fn s3_job() -> Job {
    let place = uuid::Uuid::new_v4().simple().to_string();
    let mut job = Job::new(
        |folder| {
            std::fs::write(folder.path().join("target"), &place).expect("a file");
            let bucket = support::s3::BUCKET;
            format!("CREATE EXTERNAL TABLE out STORED AS PARQUET LOCATION 's3://{bucket}/{place}/'")
        },
        INSERT,
    )
    .starts_within_ms(600);
    for (name, value) in support::s3::shared().environment() {
        job = job.environment(&name, &value);
    }
    job
}

#[cfg(feature = "s3")]
fn s3_held(job: &Job) -> Held {
    let place = std::fs::read_to_string(job.folder.path().join("target")).expect("a name");
    let url = format!("s3://{}/{place}", support::s3::BUCKET);
    parquet_rows(&url, support::s3::shared().options())
}

#[cfg(feature = "s3")]
crash_tests!(parquet_on_s3, s3_job(), s3_held, PARQUET_POINTS);
