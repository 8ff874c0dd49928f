//! A job that goes on at another place, and parts of it that are restored from a backup: what docs/production.md says of
//! it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::held::{self, AllHeld, Held};
use crate::running::{LIMIT, PARTITIONS, kafka_sql, new_topic, produce_to};
use crate::support::{admin, shared, wait_until};

/// A sink: the statement that makes it, the names of what it consists of, and what it holds.
#[derive(Clone, Copy)]
struct Sink {
    made_by: &'static str,
    /// The file or folder.
    at: &'static str,
    held: fn(&Path) -> AllHeld,
}

const SQLITE: Sink = Sink {
    made_by: "STORED AS SQLITE LOCATION 'orders.db' OPTIONS ('table' 'orders')",
    at: "orders.db",
    held: |file| held::of_sqlite(file, "orders"),
};

const PARQUET: Sink = Sink {
    made_by: "STORED AS PARQUET LOCATION 'orders/'",
    at: "orders",
    held: held::of_parquet,
};

/// A machine: a folder with the file of a job, its offset log and its sink.
struct Host {
    folder: TempDir,
    topic: String,
    sink: Sink,
}

impl Host {
    fn new(sink: Sink) -> Self {
        let host = Self {
            folder: tempfile::tempdir().expect("a folder"),
            topic: new_topic(),
            sink,
        };
        let text = format!(
            "CREATE EXTERNAL TABLE out {};\nINSERT INTO out SELECT partition, \"offset\" FROM \"{}\";\n",
            sink.made_by, host.topic
        );
        std::fs::write(host.path("job.sql"), text).expect("a file");
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn produce(&self, records: usize) {
        produce_to(shared().bootstrap(), &self.topic, records);
    }

    fn command(&self) -> Command {
        let mut command = kafka_sql();
        command.current_dir(self.folder.path());
        command.args(["-b", shared().bootstrap(), "run", "job.sql"]);
        command.args(["--max-offsets", "20"]);
        command
    }

    /// Runs the job until it has all that is there.
    fn run(&self, flags: &[&str]) -> Output {
        let mut command = self.command();
        let output = command.arg("--available-now").args(flags).output();
        output.expect("the shell runs")
    }

    fn runs(&self) {
        let output = self.run(&[]);
        assert!(output.status.success(), "{output:?}");
        self.assert_each_once();
    }

    /// What the job says when it refuses to go on because log and sink do not fit.
    fn refuses(&self) -> String {
        let before = self.held();
        let output = self.run(&[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(8), "{said}");
        assert_eq!(self.held(), before, "a job that refuses changes nothing");
        said
    }

    fn held(&self) -> AllHeld {
        (self.sink.held)(&self.path(self.sink.at))
    }

    fn assert_each_once(&self) {
        let ends = (0..PARTITIONS).map(|partition| {
            let ends = admin::watermarks(shared().bootstrap(), &self.topic, partition);
            (partition, Held::whole(ends.high))
        });
        assert_eq!(self.held(), ends.collect());
    }

    /// Lets the job run until it has delivered so many rows, and kills it.
    fn is_killed_at(&self, rows: i64) {
        let mut child = self.command().spawn().expect("the shell runs");
        wait_until(LIMIT, "some rows are there", || {
            (held::rows(&self.held()) >= rows).then_some(())
        });
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }

    /// A copy of some of its files in another folder; all of them without names.
    fn copy(&self, names: &[&str]) -> Self {
        let other = Self {
            folder: tempfile::tempdir().expect("a folder"),
            topic: self.topic.clone(),
            sink: self.sink,
        };
        for entry in std::fs::read_dir(self.folder.path()).expect("a folder") {
            let name = entry.expect("an entry").file_name();
            let name = name.to_str().expect("text");
            // A database has files beside it.
            if names.is_empty() || names.iter().any(|wanted| name.starts_with(wanted)) {
                copy(&self.path(name), &other.path(name));
            }
        }
        other
    }

    fn remove(&self, prefix: &str) {
        for entry in std::fs::read_dir(self.folder.path()).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(prefix) {
                match path.is_dir() {
                    true => std::fs::remove_dir_all(&path).expect("it is there"),
                    false => std::fs::remove_file(&path).expect("it is there"),
                }
            }
        }
    }

    /// Puts a part of a backup in place of what is there.
    fn restore(&self, backup: &Self, part: &str) {
        self.remove(part);
        for entry in std::fs::read_dir(backup.folder.path()).expect("a folder") {
            let name = entry.expect("an entry").file_name();
            let name = name.to_str().expect("text");
            if name.starts_with(part) {
                copy(&backup.path(name), &self.path(name));
            }
        }
    }
}

const LOG: &str = "job.checkpoint";

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.expect("cp runs").success(), "{}", from.display());
}

/// Two copies of a job at different moments: the first is the backup.
fn backed_up(sink: Sink) -> (Host, Host) {
    let host = Host::new(sink);
    host.produce(100);
    host.runs();
    let backup = host.copy(&[]);
    host.produce(100);
    host.runs();
    (host, backup)
}

#[test]
fn a_job_that_was_killed_goes_on_at_another_place() {
    for sink in [SQLITE, PARQUET] {
        let mut host = Host::new(sink);
        for moment in [1, 60, 150] {
            host.produce(200);
            host.is_killed_at(held::rows(&host.held()) + moment);
            host = host.copy(&[]);
            // The sink is a file, and lies elsewhere now: that must be meant.
            let output = host.run(&[]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("start with --allow-changed-query"), "{said}");
            let output = host.run(&["--allow-changed-query"]);
            assert!(output.status.success(), "{output:?}");
            host.assert_each_once();
        }
        host.produce(100);
        host.runs();
        // Without its log it asks its sink.
        host.produce(100);
        host.is_killed_at(held::rows(&host.held()) + 1);
        let host = host.copy(&["job.sql", sink.at]);
        assert!(!host.path(LOG).exists());
        host.runs();
    }
}

#[test]
fn a_log_that_lags_behind_its_sink_is_refused() {
    for sink in [SQLITE, PARQUET] {
        let (host, backup) = backed_up(sink);
        host.restore(&backup, LOG);
        host.produce(50);
        let said = host.refuses();
        assert!(said.contains("do not belong together"), "{said}");
        host.remove(LOG);
        host.runs();
    }
}

#[test]
fn a_sink_that_was_restored_is_refused_until_the_log_is_removed() {
    for sink in [SQLITE, PARQUET] {
        let (host, backup) = backed_up(sink);
        host.restore(&backup, sink.at);
        host.produce(50);
        let said = host.refuses();
        assert!(said.contains("do not belong together"), "{said}");
        host.remove(LOG);
        // What the sink has lost is delivered again.
        host.runs();
    }
}

#[test]
fn a_sink_without_its_ends_is_refused() {
    let (host, _) = backed_up(SQLITE);
    let database = rusqlite::Connection::open(host.path(SQLITE.at)).expect("a database");
    database
        .execute_batch("DROP TABLE kafka_offsets")
        .expect("it is there");
    drop(database);
    let said = host.refuses();
    assert!(said.contains("it has recorded nothing"), "{said}");
    // Files without manifests are a table that others have made.
    let (host, _) = backed_up(PARQUET);
    let before = host.held();
    std::fs::remove_dir_all(host.path("orders/_manifests")).expect("it is there");
    let output = host.run(&[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("this table takes no rows of a job"), "{said}");
    assert_eq!(host.held(), before);
}

#[test]
fn sinks_of_different_moments_are_refused_with_and_without_the_log() {
    let host = Host::new(SQLITE);
    let more = "CREATE EXTERNAL TABLE second STORED AS SQLITE LOCATION 'second.db' OPTIONS ('table' 'second');\n\
                INSERT INTO second SELECT partition FROM";
    let text = std::fs::read_to_string(host.path("job.sql")).expect("a file");
    std::fs::write(
        host.path("job.sql"),
        format!("{text}{more} \"{}\";\n", host.topic),
    )
    .expect("a file");
    host.produce(100);
    host.runs();
    let backup = host.copy(&[]);
    host.produce(100);
    host.runs();
    host.restore(&backup, "second.db");
    host.refuses();
    host.remove(LOG);
    let said = host.refuses();
    assert!(said.contains("not equally far"), "{said}");
    // All of one moment fit together, without the log.
    host.restore(&backup, SQLITE.at);
    host.remove(LOG);
    host.runs();
}
