//! Exports of a real topic: compared record by record, killed and resumed, and refused.

mod kill;
mod refused;
mod rows;
#[cfg(feature = "s3")]
mod s3;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::{self, Record, admin, produce};

/// A topic and a folder to export it to.
pub(crate) struct World {
    pub(crate) topic: String,
    pub(crate) folder: TempDir,
}

impl World {
    /// A new topic on the shared broker.
    pub(crate) fn new(partitions: i32) -> Self {
        let topic = admin::unique_topic("export");
        admin::create_topic(support::shared().bootstrap(), &topic, partitions, &[]);
        Self::of(topic)
    }

    pub(crate) fn of(topic: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { topic, folder }
    }

    /// Adds `count` records to each partition, with keys, values, headers and NULLs. Their timestamps are a
    /// second apart, from 2026-01-14T00:00:00Z on.
    pub(crate) fn produce(&self, partitions: i32, count: i64) {
        for partition in 0..partitions {
            let records: Vec<Record> = (0..count).map(|n| record(partition, n)).collect();
            produce::produce(support::shared().bootstrap(), &self.topic, &records);
        }
    }

    pub(crate) fn target(&self) -> String {
        let target = self.folder.path().join("out");
        target.to_str().unwrap().to_owned()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = kafka_sql();
        command.args(["export", &self.topic]);
        command.args(arguments);
        command.args(["-o", &self.target()]);
        command
    }

    pub(crate) fn export(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn verify(&self, arguments: &[&str]) -> Output {
        let target = self.target();
        let mut command = kafka_sql();
        command.args(["verify", &target]).args(arguments);
        command.output().unwrap()
    }

    /// The data files, relative to the export, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let root = self.folder.path().join("out");
        let mut names = vec![];
        collect(&root, &root, &mut names);
        names.retain(|name| !name.starts_with("_export/") && name != "manifest.json");
        names.sort();
        names
    }

    pub(crate) fn json(&self, name: &str) -> serde_json::Value {
        let path = self.folder.path().join("out").join(name);
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// The rows of a statement in which `e` is the table of the exported files below `folder`.
    pub(crate) fn query(&self, folder: &str, sql: &str) -> Vec<String> {
        // The folders' `partition` would conflict with the column in the files.
        let sql = format!(
            "SET datafusion.execution.listing_table_factory_infer_partitions = false; \
             CREATE EXTERNAL TABLE e STORED AS PARQUET LOCATION '{}/{folder}/'; {sql}",
            self.target()
        );
        let text = ok(&kafka_sql().args(["query", &sql]).output().unwrap());
        text.lines().map(str::to_owned).collect()
    }
}

pub(crate) fn record(partition: i32, n: i64) -> Record {
    let record = Record::new(partition)
        .timestamp_ms(1_768_348_800_000 + 1000 * n)
        .header("n", Some(n.to_string().as_bytes()));
    match n % 4 {
        0 => record.key(format!("key {n}")),
        1 => record.value(format!("\"quoted\", value\n{n}")),
        2 => record.key([0xff, n as u8]).value([0xfe, 0, 1]),
        _ => record.key("").value(format!("value {n}")),
    }
}

fn collect(root: &Path, folder: &Path, names: &mut Vec<String>) {
    // An export that was killed early has no folder yet.
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, names);
        } else {
            let name = path.strip_prefix(root).unwrap();
            names.push(name.to_str().unwrap().to_owned());
        }
    }
}

/// The shell, connected to the shared broker.
pub(crate) fn kafka_sql() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-sql"));
    command
        .env_remove("KAFKA_SQL_CONFIG")
        .env_remove("RUST_LOG")
        .env("KAFKA_SQL_BOOTSTRAP_SERVERS", support::shared().bootstrap())
        .stdin(Stdio::null());
    command
}

#[track_caller]
pub(crate) fn ok(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "stderr: {}", err(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The message of a run that must have failed with `code`.
#[track_caller]
pub(crate) fn failed(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "stderr: {}", err(output));
    err(output)
}
