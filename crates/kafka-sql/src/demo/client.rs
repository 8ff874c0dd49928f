//! The client of the demo: librdkafka's, with the answers that the embedded broker cannot give.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion_kafka::Result;
use datafusion_kafka::client::{
    ClusterDescription, KafkaClient, OffsetAnswer, OffsetAt, OffsetQuery, RawBatch, ReadRequest,
    TopicSelection, TopicSettings,
};
use datafusion_kafka::range::{IsolationLevel, TopicPartition};
use futures::stream::BoxStream;

use super::data;

/// Passes everything to a real client but the look-up of timestamps and topic settings.
///
/// librdkafka's mock cluster answers every timestamp with "no such record", from which a reader
/// must conclude that all records are older. The demo knows the records it produced and looks the
/// timestamps up there, with the broker's rule: the first offset at or after the time.
#[derive(Debug)]
pub(crate) struct DemoClient {
    inner: Arc<dyn KafkaClient>,
    timestamps: HashMap<TopicPartition, Vec<i64>>,
}

impl DemoClient {
    /// Wraps a client of the embedded broker.
    pub(crate) fn new(inner: Arc<dyn KafkaClient>) -> Self {
        let mut timestamps: HashMap<TopicPartition, Vec<i64>> = HashMap::new();
        for record in data::records() {
            timestamps
                .entry(TopicPartition::new(record.topic, record.partition))
                .or_default()
                .push(record.timestamp_ms);
        }
        Self { inner, timestamps }
    }

    fn first_at(&self, partition: &TopicPartition, ms: i64) -> Option<i64> {
        let timestamps = self.timestamps.get(partition)?;
        let index = timestamps.iter().position(|t| *t >= ms)?;
        i64::try_from(index).ok()
    }
}

#[async_trait]
impl KafkaClient for DemoClient {
    async fn describe(&self, topics: TopicSelection<'_>) -> Result<ClusterDescription> {
        self.inner.describe(topics).await
    }

    async fn list_offsets(
        &self,
        queries: &[OffsetQuery],
        isolation: IsolationLevel,
    ) -> Result<Vec<OffsetAnswer>> {
        // The broker still sees every query, so that a partition that is not there is an error.
        let mut answers = self.inner.list_offsets(queries, isolation).await?;
        for (query, answer) in queries.iter().zip(&mut answers) {
            if let OffsetAt::Timestamp(ms) = query.at {
                answer.offset = self.first_at(&query.partition, ms);
            }
        }
        Ok(answers)
    }

    async fn group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        self.inner.group_offsets(group, partitions).await
    }

    /// The embedded broker has no settings to tell.
    async fn topic_settings(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicSettings>>> {
        Ok(vec![None; topics.len()])
    }

    fn read(&self, request: ReadRequest) -> BoxStream<'static, Result<RawBatch>> {
        self.inner.read(request)
    }

    fn read_buffer_bytes(&self, request: &ReadRequest) -> usize {
        self.inner.read_buffer_bytes(request)
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }
}
