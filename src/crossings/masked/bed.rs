//! A topic with the marker in every part of its records, and a session over a connection that masks it.

use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::super::world::json;
use super::{FORMATS, MARKER, SALT};
use crate::client::ClientPool;
use crate::client::memory::{MemoryCluster, Record};
use crate::config::ConnectionConfig;
use crate::session::KafkaSessionBuilder;
use crate::statement;

/// Values of the format, the last of which does not decode.
fn values(format: &str) -> Vec<Vec<u8>> {
    let json = format!(r#"{{"id":1,"card":"{MARKER}","list":[{{"card":"{MARKER}"}}]}}"#);
    let bad = format!("{{ no json {MARKER}").into_bytes();
    let all = match format {
        "debezium-json" => vec![format!(
            r#"{{"op":"c","before":null,"after":{{"id":1,"card":"{MARKER}"}},"source":{{"db":"d"}},"ts_ms":1}}"#
        )],
        "csv" => vec![format!("1,{MARKER}")],
        _ => vec![json],
    };
    let mut all: Vec<Vec<u8>> = all.into_iter().map(String::into_bytes).collect();
    match format {
        // A long and a text of 16 bytes.
        "avro" => all = vec![[&[2, 32], MARKER.as_bytes()].concat()],
        "protobuf" => all = vec![[&[8, 1, 18, 16], MARKER.as_bytes()].concat()],
        // 16 bytes are one.
        "uuid" => all = vec![MARKER.as_bytes().to_vec()],
        _ => {}
    }
    let mut all = [all.clone(), all].concat();
    all.push(bad);
    all
}

pub(super) struct Bed {
    pub(super) cluster: MemoryCluster,
    pub(super) folder: tempfile::TempDir,
    pub(super) masks: Option<&'static str>,
    pub(super) format: &'static str,
    pub(super) options: String,
    pub(super) column: &'static str,
    pub(super) policy: &'static str,
    /// What was printed.
    pub(super) seen: Vec<u8>,
}

impl Bed {
    pub(super) fn new(masks: Option<&'static str>, format: usize, policy: &'static str) -> Self {
        let (name, options, column) = FORMATS[format];
        let cluster = MemoryCluster::builder().build();
        for topic in ["t", "other"] {
            cluster.create_topic(topic, 2).unwrap();
        }
        for (n, value) in values(name).into_iter().enumerate() {
            let key = match n {
                0 if name != "json of keys" => MARKER.to_owned(),
                _ => format!(r#"{{"card":"{MARKER}"}}"#),
            };
            let record = Record::new(value)
                .with_key(key)
                .with_header("h", Some(MARKER.as_bytes()));
            cluster.append_all("t", 0, [record]).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let write = |name, text| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "card.avsc",
            r#"{"type":"record","name":"R","fields":[{"name":"id","type":"long"},{"name":"card","type":"string"}]}"#,
        );
        write(
            "card.proto",
            "syntax = \"proto3\"; message Card { int64 id = 1; string card = 2; }",
        );
        let mut options = options.replace("{folder}", &folder.path().display().to_string());
        if !options.is_empty() && !["raw", "text"].contains(&name) {
            options.push_str(&format!(", 'on.bad.row' '{policy}'"));
            if policy == "dlq" {
                options.push_str(&format!(
                    ", 'dlq.location' '{}/dead'",
                    folder.path().display()
                ));
            }
        }
        Self {
            cluster,
            folder,
            masks,
            format: name,
            options,
            column,
            policy,
            seen: vec![],
        }
    }

    pub(super) fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(super) fn pool(&self) -> ClientPool {
        let cluster = self.cluster.clone();
        ClientPool::with_factory(move |_| Ok(Arc::new(cluster.client())))
    }

    pub(super) fn config(&self) -> ConnectionConfig {
        let mut config = ConnectionConfig::new("memory:1");
        config.set("key.partitioner", "none").unwrap();
        if let Some(masks) = self.masks {
            config.set("mask", masks).unwrap();
            config.set("mask.salt", SALT).unwrap();
        }
        config
    }

    pub(super) fn session(&self) -> SessionContext {
        KafkaSessionBuilder::new()
            .config(SessionConfig::new().with_target_partitions(2))
            .connection(self.config())
            .pool(self.pool())
            .build()
            .unwrap()
    }

    pub(super) fn see(&mut self, text: impl std::fmt::Display) {
        self.seen.extend_from_slice(format!("{text}\n").as_bytes());
    }

    /// Runs a statement; what it prints and what it complains of is seen.
    pub(super) async fn run(&mut self, context: &SessionContext, sql: &str) -> bool {
        let rows = async { statement::sql(context, sql).await?.collect().await };
        match rows.await {
            Ok(rows) => {
                self.see(pretty_format_batches(&rows).unwrap());
                self.see(format!("{:?}", json(&rows)));
                true
            }
            Err(error) => {
                self.see(&error);
                self.see(format!("{error:?}"));
                false
            }
        }
    }

    /// The statement that makes the table `x` of the topic.
    pub(super) fn create(&self) -> String {
        let columns = match self.format {
            "csv" => "(id BIGINT, card VARCHAR)",
            _ => "",
        };
        let options = match self.options.as_str() {
            "" => String::new(),
            options => format!("OPTIONS ({options})"),
        };
        format!("CREATE EXTERNAL TABLE x {columns} STORED AS KAFKA LOCATION 't' {options}")
    }

    pub(super) async fn table(&mut self) -> SessionContext {
        let context = self.session();
        let create = self.create();
        self.run(&context, &create).await;
        context
    }
}
