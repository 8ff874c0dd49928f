//! A job as a process: its file, its topic, a producer, and what its sink must contain.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{self, Record, admin, produce};

pub(crate) const PARTITIONS: i32 = 3;

/// What a sink has of the source: how many times each (partition, offset).
pub(crate) type Held = BTreeMap<(i32, i64), usize>;

/// A growing topic, and a job that copies it.
pub(crate) struct Job {
    pub(crate) folder: TempDir,
    pub(crate) topic: String,
    /// Where its processes find the brokers, and where the test does.
    pub(crate) bootstrap: String,
    pub(crate) brokers: String,
    file: PathBuf,
    environment: Vec<(String, String)>,
    /// How long a process takes to reach its first batch, in ms.
    pub(crate) start_ms: u64,
}

/// A producer that continues until it is stopped.
pub(crate) struct Producing {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Producing {
    /// Ends the producer.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the producer ended well");
    }
}

impl Job {
    /// A job whose sink `sink` defines, given the folder of the job: `CREATE EXTERNAL TABLE out …`. `insert`
    /// is the INSERT statement, which reads the table `orders`.
    pub(crate) fn new(sink: impl FnOnce(&TempDir) -> String, insert: &str) -> Self {
        Self::with_options(sink, insert, |_| String::new())
    }

    /// The same, with an OPTIONS clause for the table `orders`.
    pub(crate) fn with_options(
        sink: impl FnOnce(&TempDir) -> String,
        insert: &str,
        options: impl FnOnce(&TempDir) -> String,
    ) -> Self {
        let topic = admin::unique_topic("crash");
        let brokers = support::shared().bootstrap();
        admin::create_topic(brokers, &topic, PARTITIONS, &[]);
        Self::over([brokers, brokers], topic, sink, insert, options)
    }

    /// The same over an existing topic. `brokers` names them for the job's processes and for the test.
    pub(crate) fn over(
        brokers: [&str; 2],
        topic: String,
        sink: impl FnOnce(&TempDir) -> String,
        insert: &str,
        options: impl FnOnce(&TempDir) -> String,
    ) -> Self {
        let [bootstrap, brokers] = brokers.map(str::to_owned);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("job.sql");
        let text = format!(
            "CREATE EXTERNAL TABLE orders STORED AS KAFKA LOCATION '{topic}' {};\n{};\n{insert};\n",
            options(&folder),
            sink(&folder)
        );
        std::fs::write(&file, text).expect("a file");
        Self {
            folder,
            topic,
            bootstrap,
            brokers,
            file,
            environment: vec![],
            start_ms: 80,
        }
    }

    /// Sets an environment variable for the job's processes.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets how long a process takes to reach its first batch, so that it is not always killed earlier.
    pub(crate) fn starts_within_ms(mut self, start_ms: u64) -> Self {
        self.start_ms = start_ms;
        self
    }

    /// Appends to all partitions until it is stopped.
    pub(crate) fn produce(&self) -> Producing {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, topic) = (Arc::clone(&stop), self.topic.clone());
        let brokers = self.brokers.clone();
        let thread = thread::spawn(move || {
            let mut number = 0u64;
            while !stopping.load(Ordering::SeqCst) {
                let records: Vec<Record> = (0..30)
                    .map(|n| {
                        number += 1;
                        Record::new(n % PARTITIONS).value(format!("{number}"))
                    })
                    .collect();
                produce::produce(&brokers, &topic, &records);
                thread::sleep(Duration::from_millis(10));
            }
        });
        Producing { stop, thread }
    }

    /// `kafka-sql run` with these flags.
    pub(crate) fn command(&self, flags: &[&str]) -> Command {
        self.shell("run", flags)
    }

    /// A command of the shell on the job's file.
    pub(crate) fn shell(&self, name: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-sql"));
        command
            .args(["-b", &self.bootstrap, name])
            .arg(&self.file)
            .args(flags)
            .envs(self.environment.iter().cloned())
            .env_remove("KAFKA_SQL_BOOTSTRAP_SERVERS")
            .env_remove("KAFKA_SQL_CONFIG")
            .env_remove("KAFKA_SQL_FAULT")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// A process that makes batches until it dies.
    pub(crate) fn start(&self) -> Child {
        self.command(&["--every", "5ms", "-q"])
            .spawn()
            .expect("the shell starts")
    }

    /// Runs to the end of the available records.
    pub(crate) fn finish(&self) {
        let output = self
            .command(&["--available-now"])
            .output()
            .expect("it starts");
        assert!(output.status.success(), "{}", text(&output));
    }

    /// Runs with a crash at a fault point: `NAME` or `NAME:N`. Returns whether it reached that point.
    pub(crate) fn crash_at(&self, fault: &str) -> bool {
        let output = self
            .command(&["--available-now", "-q", "--max-offsets", "3"])
            .env("KAFKA_SQL_FAULT", fault)
            .output()
            .expect("it starts");
        let crashed = is_abort(output.status);
        assert!(
            crashed || output.status.success(),
            "{fault}: {}",
            text(&output)
        );
        crashed
    }

    /// Each record of the topic, with the number of times that a sink must have it: one.
    pub(crate) fn expected(&self) -> Held {
        let bootstrap = &self.brokers;
        (0..PARTITIONS)
            .flat_map(|partition| {
                let marks = admin::watermarks(bootstrap, &self.topic, partition);
                (marks.start..marks.high).map(move |offset| ((partition, offset), 1))
            })
            .collect()
    }

    /// The number of batches in the job's log.
    pub(crate) fn batches(&self) -> u64 {
        let commits = self.file.with_extension("checkpoint").join("commit");
        let Ok(entries) = std::fs::read_dir(commits) else {
            return 0;
        };
        let numbers = entries
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned());
        numbers
            .filter_map(|n| n.parse::<u64>().ok())
            .max()
            .map_or(0, |last| last + 1)
    }

    /// Waits until the job's log has this many more batches.
    pub(crate) fn wait_for_batches(&self, more: u64, complaint: &str) {
        self.wait_for_batches_while(more, complaint, || {});
    }

    /// The same, but calls `help` whenever there was no new batch for ten seconds.
    pub(crate) fn wait_for_batches_while(&self, more: u64, complaint: &str, help: impl Fn()) {
        const PATIENCE: Duration = Duration::from_secs(10);
        let enough = self.batches() + more;
        let deadline = Instant::now() + Duration::from_secs(60);
        let (mut seen, mut helped) = (self.batches(), Instant::now());
        while self.batches() < enough {
            assert!(Instant::now() < deadline, "{complaint}");
            thread::sleep(Duration::from_millis(20));
            if self.batches() > seen {
                (seen, helped) = (self.batches(), Instant::now());
            } else if helped.elapsed() > PATIENCE {
                help();
                helped = Instant::now();
            }
        }
    }
}

/// Sends a signal to a process of the test.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(status.success(), "kill -{name} {pid}");
}

pub(crate) fn is_abort(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    const SIGABRT: i32 = 6;
    status.signal() == Some(SIGABRT)
}

/// What a process printed.
pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Counts the rows in a sink.
pub(crate) fn count(rows: impl IntoIterator<Item = (i32, i64)>) -> Held {
    let mut held = Held::new();
    for row in rows {
        *held.entry(row).or_default() += 1;
    }
    held
}

/// `partition offset`.
pub(crate) fn pair(text: &str) -> (i32, i64) {
    let (partition, offset) = text.trim().split_once(' ').expect("two numbers");
    (
        partition.parse().expect("a number"),
        offset.parse().expect("a number"),
    )
}

/// Random waiting times. When a test fails, it prints the seed.
pub(crate) struct Random {
    pub(crate) seed: u64,
    state: u64,
}

impl Random {
    pub(crate) fn new() -> Self {
        let seed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |d| d.as_nanos() as u64 | 1);
        Self { seed, state: seed }
    }

    /// A number below `limit`, by xorshift.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % limit
    }
}
