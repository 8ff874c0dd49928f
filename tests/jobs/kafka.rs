//! Kafka as a sink.

#[path = "kafka/conforms.rs"]
mod conforms;
#[path = "kafka/failures.rs"]
mod failures;
#[path = "kafka/formats.rs"]
mod formats;
#[path = "kafka/groups.rs"]
mod groups;
#[path = "kafka/records.rs"]
mod records;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_kafka::Result;
use datafusion_kafka::client::{ClientPool, OffsetAt, OffsetQuery, TopicSelection};
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::range::{IsolationLevel, TopicPartition};
use datafusion_kafka::sink::{
    BatchRanges, Delivery, KafkaSink, KafkaSinkOptions, Sink, SinkJob, Staged,
};

use crate::support::read::{Isolation, ReadRecord, read};
use crate::support::{admin, shared};

/// A new topic on the shared broker.
fn topic(partitions: i32) -> String {
    let topic = admin::unique_topic("sink");
    admin::create_topic(shared().bootstrap(), &topic, partitions, &[]);
    topic
}

fn config(settings: &[(&str, &str)]) -> ConnectionConfig {
    let mut config = ConnectionConfig::new(shared().bootstrap());
    for (key, value) in settings {
        config.set(key, value).expect("the setting is known");
    }
    config
}

/// A separate state topic, so that other tests cannot block it.
fn own_state() -> KafkaSinkOptions {
    KafkaSinkOptions {
        state_topic: admin::unique_topic("state"),
        ..KafkaSinkOptions::default()
    }
}

fn at_least_once() -> KafkaSinkOptions {
    KafkaSinkOptions {
        delivery: Delivery::AtLeastOnce,
        ..own_state()
    }
}

fn sink(topic: &str, options: &KafkaSinkOptions) -> KafkaSink {
    sink_with(&config(&[]), topic, options)
}

fn sink_with(config: &ConnectionConfig, topic: &str, options: &KafkaSinkOptions) -> KafkaSink {
    KafkaSink::new(config, topic, options.clone()).expect("the settings are valid")
}

fn job_of(rows: &RecordBatch) -> SinkJob {
    SinkJob {
        name: "job".to_owned(),
        schema: rows.schema(),
    }
}

fn rows(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(columns)
        .expect("the columns are as long as each other")
}

/// Rows that only have values.
fn values(values: &[&str]) -> RecordBatch {
    rows(vec![(
        "value",
        Arc::new(StringArray::from(values.to_vec())),
    )])
}

fn stream(rows: &RecordBatch) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let rows = futures::stream::iter([Ok(rows.clone())]);
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// Stages rows as a single execution partition.
async fn stage(sink: &KafkaSink, batch: &BatchRanges, rows: &RecordBatch) -> Result<Vec<Staged>> {
    Ok(vec![sink.stage(batch, 0, stream(rows)).await?])
}

async fn deliver(sink: &KafkaSink, batch: &BatchRanges, rows: &RecordBatch) -> Result<()> {
    let staged = stage(sink, batch, rows).await?;
    sink.commit(batch, staged).await?;
    settled_of(&sink.target()).await;
    Ok(())
}

/// As [`settled`], given the sink's name for its target.
async fn settled_of(target: &str) {
    let words = target
        .strip_prefix("kafka://")
        .and_then(|t| t.split_once('/'));
    let (bootstrap, topic) = words.expect("kafka://brokers/topic");
    settled(bootstrap, topic).await;
}

/// Waits until the brokers have ended the transactions of a topic. A commit is final once the coordinator has
/// it, but readers of the partitions learn about it a little later.
async fn settled(bootstrap: &str, topic: &str) {
    let client = ClientPool::global().client(&ConnectionConfig::new(bootstrap));
    let client = client.expect("the settings are valid");
    let names = [topic.into()];
    let described = client.describe(TopicSelection::Named(&names)).await;
    let partitions = described.expect("an answer").topics[0].partitions.len();
    let queries: Vec<OffsetQuery> = (0..partitions)
        .map(|number| OffsetQuery {
            partition: TopicPartition::new(topic, i32::try_from(number).expect("few")),
            at: OffsetAt::Latest,
        })
        .collect();
    for _ in 0..1000 {
        let all = client.list_offsets(&queries, IsolationLevel::ReadUncommitted);
        let ended = client.list_offsets(&queries, IsolationLevel::ReadCommitted);
        if all.await.expect("an answer") == ended.await.expect("an answer") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a transaction of {topic} stays open");
}

/// The records in a partition, as a plain consumer of committed records sees them.
fn committed(topic: &str, partition: i32) -> Vec<ReadRecord> {
    read(
        shared().bootstrap(),
        topic,
        partition,
        Isolation::ReadCommitted,
    )
}

/// The values in partition 0, as a reader of committed records sees them.
fn seen(topic: &str) -> Vec<String> {
    let text = |record: ReadRecord| {
        String::from_utf8(record.value.expect("a value")).expect("the values are text")
    };
    committed(topic, 0).into_iter().map(text).collect()
}
