//! The examples of `sql-examples/`, over the demo's records.

#[path = "../../../kafka-sql/src/demo/data.rs"]
#[allow(dead_code)]
mod data;

use std::path::Path;

use datafusion_kafka::client::memory::{MemoryCluster, Record};

use super::Sessions;
use crate::engines::brokers;

/// Examples whose results show the plan or what ran, and so differ.
const DIFFER: [(&str, &str); 6] = [
    ("05-predicates.sql", "EXPLAIN shows tasks"),
    ("12-explain.sql", "EXPLAIN shows tasks"),
    ("17-ledger.sql", "EXPLAIN ANALYZE shows tasks"),
    ("25-keys.sql", "EXPLAIN shows tasks"),
    ("26-conditions.sql", "EXPLAIN shows tasks"),
    ("27-budget.sql", "EXPLAIN shows tasks"),
];

fn demo() -> MemoryCluster {
    let cluster = brokers();
    let partitions = i32::try_from(data::PARTITIONS).unwrap();
    for topic in data::TOPICS {
        cluster.create_topic(topic, partitions).unwrap();
    }
    for record in data::records() {
        let mut sent = match record.value {
            Some(value) => Record::new(value).with_key(record.key),
            None => Record::tombstone(record.key),
        };
        sent = sent.with_timestamp_ms(record.timestamp_ms);
        for (name, value) in record.headers {
            sent = sent.with_header(name, value.as_deref());
        }
        cluster
            .append(record.topic, record.partition, sent)
            .unwrap();
    }
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_are_those_of_one_machine() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql-examples");
    let files = std::fs::read_dir(folder).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| file.is_file()).collect();
    files.sort();
    let sessions = Sessions::over(demo()).await;
    let mut compared = 0;
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(file).unwrap();
        for sql in text.split(";\n") {
            let lines = sql.lines().filter(|line| !line.starts_with("--"));
            let sql = lines.collect::<Vec<_>>().join("\n");
            let sql = sql.trim();
            if sql.is_empty() {
                continue;
            }
            if sql.starts_with("SELECT") || sql.starts_with("WITH") {
                let rows = sessions.compare(&[sql]).await;
                assert!(rows[0].iter().any(|rows| rows.num_rows() > 0), "{name}");
                compared += 1;
            } else if !sql.starts_with("EXPLAIN") {
                sessions.set_up(sql).await;
            } else {
                assert!(DIFFER.iter().any(|(of, _)| *of == name), "{name}");
            }
        }
    }
    assert!(compared > 20, "{compared} of {} files", files.len());
}
