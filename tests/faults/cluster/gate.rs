//! A client that stands still in mid-read until a fault has come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion_kafka::Result;
use datafusion_kafka::client::{
    ClusterDescription, EpochEnd, EpochQuery, KafkaClient, MemoryBudget, OffsetAnswer, OffsetQuery,
    RawBatch, ReadRequest, TopicSelection, TopicSettings,
};
use datafusion_kafka::range::{IsolationLevel, TopicPartition};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch;

/// The most rows of a batch, so that a reader stops near where it shall.
const BATCH_ROWS: usize = 50;

/// Where the streams of a client stop, and whether they may go on.
#[derive(Debug)]
pub struct Gate {
    /// A stream stops before it hands out a batch that reaches this offset.
    at: i64,
    /// How long a stream waits before each batch.
    pause: Duration,
    reached: watch::Sender<bool>,
    open: watch::Sender<bool>,
}

impl Gate {
    pub fn at(at: i64) -> Arc<Self> {
        Self::with(at, Duration::ZERO)
    }

    /// No stream stops, and each waits before each batch.
    pub fn slow(pause: Duration) -> Arc<Self> {
        Self::with(i64::MAX, pause)
    }

    fn with(at: i64, pause: Duration) -> Arc<Self> {
        Arc::new(Self {
            at,
            pause,
            reached: watch::Sender::new(false),
            open: watch::Sender::new(false),
        })
    }

    /// Waits until a stream of partition 0 stands still. It then has handed out records, and lacks others.
    pub async fn reached(&self) {
        let mut reached = self.reached.subscribe();
        reached.wait_for(|is| *is).await.expect("the gate is there");
    }

    /// Whether no stream stops.
    pub fn is_slow(&self) -> bool {
        self.at == i64::MAX
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }

    async fn pass(&self, batch: &RawBatch) {
        tokio::time::sleep(self.pause).await;
        if batch.next_offset >= self.at {
            if batch.partition.partition == 0 {
                self.reached.send_replace(true);
            }
            let mut open = self.open.subscribe();
            open.wait_for(|is| *is).await.expect("the gate is there");
        }
    }
}

/// A client with a gate.
#[derive(Debug)]
pub struct Gated {
    pub client: Arc<dyn KafkaClient>,
    pub gate: Arc<Gate>,
}

#[async_trait]
impl KafkaClient for Gated {
    async fn describe(&self, topics: TopicSelection<'_>) -> Result<ClusterDescription> {
        self.client.describe(topics).await
    }

    async fn list_offsets(
        &self,
        queries: &[OffsetQuery],
        isolation: IsolationLevel,
    ) -> Result<Vec<OffsetAnswer>> {
        self.client.list_offsets(queries, isolation).await
    }

    async fn epoch_ends(&self, queries: &[EpochQuery]) -> Result<Vec<Option<EpochEnd>>> {
        self.client.epoch_ends(queries).await
    }

    async fn newest_epochs(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<i32>>> {
        self.client.newest_epochs(partitions).await
    }

    async fn group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        self.client.group_offsets(group, partitions).await
    }

    async fn topic_settings(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicSettings>>> {
        self.client.topic_settings(topics).await
    }

    fn read(&self, request: ReadRequest) -> BoxStream<'static, Result<RawBatch>> {
        let unlimited = Arc::new(datafusion_kafka::client::Unlimited);
        self.read_within(request, unlimited)
    }

    fn read_within(
        &self,
        mut request: ReadRequest,
        memory: Arc<dyn MemoryBudget>,
    ) -> BoxStream<'static, Result<RawBatch>> {
        request.batch_rows = request.batch_rows.min(BATCH_ROWS);
        let gate = Arc::clone(&self.gate);
        let stream = self.client.read_within(request, memory);
        let passed = stream.then(move |batch| {
            let gate = Arc::clone(&gate);
            async move {
                if let Ok(batch) = &batch {
                    gate.pass(batch).await;
                }
                batch
            }
        });
        passed.boxed()
    }

    fn read_buffer_bytes(&self, request: &ReadRequest) -> usize {
        self.client.read_buffer_bytes(request)
    }

    fn name(&self) -> &'static str {
        self.client.name()
    }
}
