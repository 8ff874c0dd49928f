//! What SQL on a real broker must return: rows, and errors with their coordinates.

mod budget;
mod debezium;
mod failures;
mod formats;
mod from_payload;
mod keys;
mod ledger;
mod logins;
mod masking;
mod metadata;
mod pruning;
mod quotas;
mod ranges;
mod records;
mod registry;
mod scale;
mod security;
mod timestamps;
mod transactions;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_kafka::Error;
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::table::{KafkaTable, KafkaTableBuilder};

use crate::support;
use crate::support::{Record, admin, produce};

/// A session connected to the shared broker.
pub(crate) fn session() -> SessionContext {
    session_with(ConnectionConfig::new(support::shared().bootstrap()))
}

pub(crate) fn session_with(connection: ConnectionConfig) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(2);
    let builder = KafkaSessionBuilder::new()
        .connection(connection)
        .config(config);
    crate::elsewhere(builder)
        .build()
        .expect("the settings are valid")
}

/// A new topic on the shared broker.
pub(crate) fn topic(partitions: i32) -> String {
    let topic = admin::unique_topic("sql");
    admin::create_topic(support::shared().bootstrap(), &topic, partitions, &[]);
    topic
}

/// A new topic with `count` records in each partition: `value N` at offset N.
pub(crate) fn filled(partitions: i32, count: i64) -> String {
    let topic = topic(partitions);
    for partition in 0..partitions {
        let records: Vec<Record> = (0..count)
            .map(|n| {
                Record::new(partition)
                    .value(format!("value {n}"))
                    .timestamp_ms(1000 * (n + 1))
            })
            .collect();
        produce::produce(support::shared().bootstrap(), &topic, &records);
    }
    topic
}

pub(crate) fn table(topic: &str) -> KafkaTableBuilder {
    let config = ConnectionConfig::new(support::shared().bootstrap());
    KafkaTable::builder(&config).topic(topic)
}

/// A session in which `t` is the given table.
pub(crate) async fn with_table(builder: KafkaTableBuilder) -> SessionContext {
    let context = session();
    let table = builder.build().await.expect("the topic is there");
    context
        .register_table("t", Arc::new(table))
        .expect("the name is free");
    context
}

pub(crate) async fn batches(
    context: &SessionContext,
    sql: &str,
) -> Result<Vec<RecordBatch>, DataFusionError> {
    context.sql(sql).await?.collect().await
}

/// Rows as text, with cells separated by spaces.
pub(crate) async fn rows(context: &SessionContext, sql: &str) -> Vec<String> {
    let batches = batches(context, sql)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
    let table = pretty_format_batches(&batches)
        .expect("printable")
        .to_string();
    let lines = table.lines().filter(|l| l.starts_with('|')).skip(1);
    lines
        .map(|line| {
            let cells = line.trim_matches('|').split('|').map(str::trim);
            cells.collect::<Vec<_>>().join(" ")
        })
        .collect()
}

/// This crate's error within the error of a statement.
pub(crate) async fn error(context: &SessionContext, sql: &str) -> Error {
    match batches(context, sql).await {
        Ok(rows) => panic!("{sql} gave {} batches, expected an error", rows.len()),
        Err(error) => match Error::find(&error) {
            Some(found) => found.clone(),
            None => panic!("{sql} failed with a foreign error: {error}"),
        },
    }
}

pub(crate) async fn plan(context: &SessionContext, sql: &str) -> String {
    rows(context, &format!("EXPLAIN {sql}")).await.join("\n")
}
