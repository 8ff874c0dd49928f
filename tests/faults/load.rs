//! Fifty queries and ten jobs at a time on a cluster of three nodes, one of which is killed every few
//! seconds. No result may be wrong, and memory, descriptors and threads may not grow.
//!
//! The load runs in a process of its own, so that its figures are its own: the test starts this program once
//! more, and only for [`worker`]. `KAFKA_SQL_LOAD_MINUTES` says for how long (10).

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::execution::context::SessionContext;
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::driver::{MicroBatch, Stop, Trigger};
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::{Error, ErrorKind};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::produce::{self, Record};
use crate::support::{KafkaCluster, KafkaOptions, admin};

const QUERIES: u64 = 50;
const JOBS: u64 = 10;
const PARTITIONS: i64 = 6;
/// Records in each partition of the topic that the queries read.
const RECORDS: i64 = 20_000;
/// What the child process is told.
const TOLD: &str = "KAFKA_SQL_LOAD";

#[test]
#[ignore = "slow: make test-slow"]
fn fifty_queries_and_ten_jobs_while_nodes_die() {
    let minutes =
        std::env::var("KAFKA_SQL_LOAD_MINUTES").map_or(10, |m| m.parse().expect("minutes"));
    let seconds: u64 = minutes * 60;
    let mut cluster = KafkaCluster::start(3, &KafkaOptions::default());
    let bootstrap = cluster.bootstrap();
    let replicas: [&[i32]; 3] = [&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]];
    let replicas: Vec<&[i32]> = (0..PARTITIONS as usize).map(|n| replicas[n % 3]).collect();
    let [still, live] = ["still", "live"].map(|name| {
        let topic = admin::unique_topic(name);
        admin::create_replicated_topic(&bootstrap, &topic, &replicas, &[]);
        topic
    });
    let targets: Vec<String> = (0..JOBS).map(|job| format!("{live}-out-{job}")).collect();
    for target in &targets {
        admin::create_replicated_topic(&bootstrap, target, &[&[1, 2, 3]], &[]);
    }
    for partition in 0..PARTITIONS {
        let records: Vec<Record> = (0..RECORDS).map(|n| record(partition, n)).collect();
        produce::produce(&bootstrap, &still, &records);
    }

    let told = json!({"bootstrap": bootstrap, "still": still, "live": live, "seconds": seconds});
    let child = Command::new(std::env::current_exe().expect("a path"))
        .args(["load::worker", "--ignored", "--exact", "--nocapture"])
        .env(TOLD, told.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut deaths = 0;
    let mut produced = 0;
    // The jobs need some time to read the last records.
    while Instant::now() + Duration::from_secs(20) < end {
        let node = 1 + random.below(3) as usize;
        cluster.node_mut(node).kill();
        for _ in 0..10 + random.below(20) {
            let records: Vec<Record> = (0..PARTITIONS).map(|p| record(p, produced)).collect();
            produce::produce(&bootstrap, &live, &records);
            produced += 1;
            std::thread::sleep(Duration::from_millis(100));
        }
        cluster.node_mut(node).restart();
        deaths += 1;
        // Replicas must catch up, or the next death leaves too few of them.
        std::thread::sleep(Duration::from_secs(3 + random.below(5) as u64));
    }
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    println!(
        "{deaths} deaths of nodes, {} records produced meanwhile\n{said}",
        produced * PARTITIONS
    );
    assert!(output.status.success(), "the load failed, see above");
}

/// The value of a record is its offset.
fn record(partition: i64, offset: i64) -> Record {
    Record::new(partition as i32).value(offset.to_string())
}

/// What happened; shared by all queries and jobs.
#[derive(Default)]
struct Tally {
    queries: AtomicU64,
    batches: AtomicU64,
    /// Errors that say that the cluster was not available. They are honest, and counted.
    unavailable: AtomicU64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "part of the load test, which starts it"]
async fn worker() {
    let Ok(told) = std::env::var(TOLD) else {
        println!("not run: {TOLD} is not set, fifty_queries_and_ten_jobs_while_nodes_die sets it");
        return;
    };
    let told: Arc<Value> = Arc::new(serde_json::from_str(&told).expect("JSON"));
    let end = Instant::now() + Duration::from_secs(told["seconds"].as_u64().expect("a number"));
    let tally = Arc::new(Tally::default());
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let mut running: JoinSet<()> = JoinSet::new();
    for n in 0..QUERIES {
        running.spawn(query(n, Arc::clone(&told), end, Arc::clone(&tally)));
    }
    for n in 0..JOBS {
        let folder = Arc::clone(&folder);
        running.spawn(job(n, Arc::clone(&told), end, Arc::clone(&tally), folder));
    }
    let mut samples = vec![];
    let mut every = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            done = running.join_next() => match done {
                Some(done) => done.expect("no query or job is wrong"),
                None => break,
            },
            _ = every.tick() => samples.push(Sample::now()),
        }
    }
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    println!(
        "{} queries, {} runs of jobs, {} unavailable",
        count(&tally.queries),
        count(&tally.batches),
        count(&tally.unavailable)
    );
    // The first third warms up.
    let thirds: Vec<Sample> = samples
        .chunks(samples.len().div_ceil(3))
        .map(Sample::median)
        .collect();
    println!("medians of the thirds: {thirds:?}");
    let [_, middle, last] = &thirds[..] else {
        panic!("too short to judge: {thirds:?}");
    };
    assert!(last.rss_mb <= middle.rss_mb * 5 / 4 + 32, "memory grows");
    assert!(
        last.descriptors <= middle.descriptors * 5 / 4 + 16,
        "descriptors grow"
    );
    assert!(last.threads <= middle.threads + 8, "threads grow");
    assert!(
        count(&tally.queries) > QUERIES,
        "hardly a query came to its end"
    );
}

fn session(told: &Value, client: &str) -> SessionContext {
    let mut config = ConnectionConfig::new(told["bootstrap"].as_str().expect("text"));
    config.set("kafka.client", client).expect("a client");
    KafkaSessionBuilder::new()
        .connection(config)
        .build()
        .expect("a session")
}

/// Asks for sums over ranges whose answer is known.
async fn query(number: u64, told: Arc<Value>, end: Instant, tally: Arc<Tally>) {
    let client = ["wire", "librdkafka"][number as usize % 2];
    let context = session(&told, client);
    let topic = told["still"].as_str().expect("text");
    let mut random = Random(number + 1);
    while Instant::now() < end {
        let mut cut = [0, 0].map(|_| random.below(RECORDS + 1));
        cut.sort_unstable();
        let [from, to] = cut;
        let (of, partitions) = match random.below(3) {
            0 => (format!("{from}:{to}"), PARTITIONS),
            _ => (format!("{}={from}:{to}", random.below(PARTITIONS)), 1),
        };
        let sql = format!(
            "SELECT count(*), coalesce(sum(CAST(CAST(value AS VARCHAR) AS BIGINT)), 0), \
             coalesce(sum(\"offset\"), 0) FROM kafka('{topic}', '{of}')"
        );
        let rows = match context.sql(&sql).await {
            Ok(planned) => planned.collect().await,
            Err(error) => Err(error),
        };
        match rows {
            Ok(rows) => {
                let found =
                    [0, 1, 2].map(|n| rows[0].column(n).as_primitive::<Int64Type>().value(0));
                let count = to - from;
                let sum = (from + to - 1) * count / 2 * partitions;
                assert_eq!(found, [count * partitions, sum, sum], "{client}: {sql}");
                tally.queries.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => match Error::find(&error) {
                Some(found) => unavailable(found, client, &tally),
                None => panic!("{client}: {sql}: {error}"),
            },
        }
    }
}

/// # Panics
/// Unless the error says that the cluster was not available.
fn unavailable(error: &Error, of: &str, tally: &Tally) {
    assert!(error.kind() == ErrorKind::Connection, "{of}: {error}");
    println!("unavailable, {of}: {error}");
    tally.unavailable.fetch_add(1, Ordering::Relaxed);
}

/// Copies the live topic into a sink, batch by batch, and compares at the end.
async fn job(number: u64, told: Arc<Value>, end: Instant, tally: Arc<Tally>, folder: Arc<TempDir>) {
    let client = ["wire", "librdkafka"][number as usize % 2];
    let topic = told["live"].as_str().expect("text");
    let path = folder.path().join(number.to_string()).display().to_string();
    let out = match number % 3 {
        0 => format!("STORED AS SQLITE LOCATION '{path}.db' OPTIONS ('table' 'held')"),
        1 => format!("STORED AS PARQUET LOCATION '{path}/'"),
        _ => format!(
            "(partition INT, \"offset\" BIGINT, value VARCHAR) STORED AS KAFKA LOCATION '{topic}-out-{number}' \
             OPTIONS ('value.format' 'json', 'metadata.prefix' '_')"
        ),
    };
    let tables = async || {
        let context = session(&told, client);
        for sql in [
            format!("CREATE EXTERNAL TABLE live STORED AS KAFKA LOCATION '{topic}'"),
            format!("CREATE EXTERNAL TABLE out {out}"),
        ] {
            context.sql(&sql).await.expect("a table");
        }
        context
    };
    let context = tables().await;
    let run = async || -> datafusion_kafka::Result<()> {
        let job = MicroBatch::builder(context.clone(), format!("load-{number}"))
            .checkpoint(format!("{path}.checkpoint"))
            .insert("INSERT INTO out SELECT partition, \"offset\", CAST(value AS VARCHAR) AS value FROM live")
            .trigger(Trigger::AvailableNow);
        job.build().await?.run(&Stop::new()).await.map(drop)
    };
    loop {
        let last = Instant::now() >= end;
        match run().await {
            Ok(()) if last => break,
            Ok(()) => drop(tally.batches.fetch_add(1, Ordering::Relaxed)),
            Err(error) => unavailable(&error, &format!("job {number}, {out}"), &tally),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // The files of parquet were not there when its table was made.
    let context = tables().await;
    let sql = "SELECT count(*), count(DISTINCT concat(partition, '/', \"offset\")), \
               sum(CASE WHEN CAST(value AS BIGINT) = \"offset\" THEN 0 ELSE 1 END) FROM out";
    let read = context
        .sql(sql)
        .await
        .expect("planned")
        .collect()
        .await
        .expect("read back");
    let all = context
        .sql("SELECT count(*) FROM live")
        .await
        .expect("planned")
        .collect()
        .await;
    let number_in = |rows: &[arrow::array::RecordBatch], n: usize| {
        rows[0].column(n).as_primitive::<Int64Type>().value(0)
    };
    let all = number_in(&all.expect("read"), 0);
    let found = [0, 1, 2].map(|n| number_in(&read, n));
    assert_eq!(found, [all, all, 0], "job {number} into {out}");
    assert!(all > 0, "the producer wrote nothing");
}

/// What the process takes.
#[derive(Debug, Clone)]
struct Sample {
    rss_mb: u64,
    descriptors: usize,
    threads: usize,
}

impl Sample {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux says so");
        let kb = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let entries = |path| std::fs::read_dir(path).expect("Linux says so").count();
        Self {
            rss_mb: kb.and_then(|kb| kb.parse::<u64>().ok()).expect("a number") / 1024,
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
        }
    }

    fn median(samples: &[Self]) -> Self {
        fn middle<T: Copy + Ord>(samples: &[Sample], of: impl Fn(&Sample) -> T) -> T {
            let mut all: Vec<T> = samples.iter().map(of).collect();
            all.sort_unstable();
            all[all.len() / 2]
        }
        Self {
            rss_mb: middle(samples, |s| s.rss_mb),
            descriptors: middle(samples, |s| s.descriptors),
            threads: middle(samples, |s| s.threads),
        }
    }
}

/// Xorshift, which yields the same numbers on all machines.
struct Random(u64);

impl Random {
    fn below(&mut self, end: i64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as i64 % end
    }
}
