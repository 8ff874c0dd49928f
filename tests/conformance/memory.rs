//! The suite's fixture for the log in memory, which supports everything.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion_kafka::client::KafkaClient;
use datafusion_kafka::client::memory::{self, MemoryCluster, Record, TopicOptions};
use datafusion_kafka::range::TopicPartition;

use super::{Codec, End, Fixture, TopicSpec, Transaction};

/// A separate cluster for each test.
pub struct MemoryFixture {
    cluster: MemoryCluster,
}

impl MemoryFixture {
    pub async fn new() -> Self {
        // Small fetches, so that ranges of a few hundred records need several.
        let cluster = MemoryCluster::builder().racks(["a", "b", "c"]);
        Self {
            cluster: cluster.fetch_records(64).build(),
        }
    }
}

#[async_trait]
impl Fixture for MemoryFixture {
    fn client(&self) -> Arc<dyn KafkaClient> {
        Arc::new(self.cluster.client())
    }

    fn fetches(&self) -> Option<u64> {
        Some(self.cluster.stats().fetches)
    }

    async fn create_topic(&self, topic: &TopicSpec) {
        let mut options = TopicOptions::default();
        options.log_append_time = topic.log_append_time;
        if topic.compacted {
            options = options.cleanup_policy("compact");
        }
        self.cluster
            .create_topic_with(&topic.name, topic.partitions, options)
            .unwrap();
    }

    async fn delete_topic(&self, name: &str) {
        self.cluster.delete_topic(name).unwrap();
    }

    async fn produce(&self, partition: &TopicPartition, records: &[Record], _codec: Codec) {
        let number = partition.partition;
        self.cluster
            .append_all(&partition.topic, number, records.to_vec())
            .unwrap();
    }

    async fn begin(&self) -> Box<dyn Transaction> {
        Box::new(self.cluster.begin())
    }

    async fn delete_records(&self, partition: &TopicPartition, before: i64) {
        self.cluster
            .truncate_before(&partition.topic, partition.partition, before)
            .unwrap();
    }

    async fn compact(&self, partition: &TopicPartition) -> Vec<i64> {
        let (topic, number) = (&*partition.topic, partition.partition);
        self.cluster.compact_by_key(topic, number).unwrap();
        let mut left = Vec::new();
        let look = |offset: i64, _: &Record| {
            left.push(offset);
            true
        };
        self.cluster.compact(topic, number, look).unwrap();
        left
    }

    async fn commit_group_offset(&self, group: &str, partition: &TopicPartition, offset: i64) {
        self.cluster
            .commit_group_offset(group, &partition.topic, partition.partition, offset)
            .unwrap();
    }
}

#[async_trait]
impl Transaction for memory::Transaction {
    async fn write(&mut self, partition: &TopicPartition, records: &[Record]) {
        for record in records {
            self.append(&partition.topic, partition.partition, record.clone())
                .unwrap();
        }
    }

    async fn end(self: Box<Self>, end: End) {
        match end {
            End::Commit => self.commit().unwrap(),
            End::Abort => self.abort().unwrap(),
        }
    }
}
