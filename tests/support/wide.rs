//! A cluster of many partitions whose offsets hold no records: for what grows with the partitions.
//!
//! The module beside it has `kafka`, with what is used of the crate and of Arrow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};

use super::kafka::array::Int64Array;
use super::kafka::client::{
    Broker, ClusterDescription, EpochEnd, EpochQuery, KafkaClient, OffsetAnswer, OffsetAt,
    OffsetQuery, PartitionDescription, PassedOffsets, RawBatch, ReadRequest, TopicDescription,
    TopicSelection, TopicSettings,
};
use super::kafka::range::{IsolationLevel, TopicPartition};
use super::kafka::{Error, Result};

/// Where each log starts.
const START: i64 = 1_000_000;
/// The epoch of all leaders; all records are of it.
const EPOCH: i32 = 5;

/// The topic `orders`, or `orders-0`, `orders-1` and so on. Partition `p` is led by broker `p % brokers`, which is in
/// rack `r0`, `r1` or `r2`.
#[derive(Debug)]
pub struct Wide {
    pub topics: i32,
    /// Of each topic.
    pub partitions: i32,
    pub brokers: i32,
    /// The offsets of a partition, at first.
    pub offsets: fn(i32) -> i64,
    /// The bytes of a record of a partition.
    pub bytes: fn(i32) -> u64,
    /// What each partition has grown by.
    pub grown: AtomicI64,
    pub described: AtomicUsize,
    pub listed: AtomicUsize,
}

impl Wide {
    /// One topic; all partitions are alike.
    pub fn new(partitions: i32) -> Self {
        Self {
            topics: 1,
            partitions,
            brokers: 100,
            offsets: |_| 1_000_000,
            bytes: |_| 100,
            grown: AtomicI64::new(0),
            described: AtomicUsize::new(0),
            listed: AtomicUsize::new(0),
        }
    }

    pub fn leader(&self, partition: i32) -> i32 {
        partition % self.brokers
    }

    pub fn rack(broker: i32) -> String {
        format!("r{}", broker % 3)
    }

    /// Lets each partition grow by up to so many percent of what it has.
    pub fn grow(&self, percent: i64) {
        self.grown.fetch_add(percent, Ordering::Relaxed);
    }

    fn end(&self, partition: i32) -> i64 {
        let offsets = (self.offsets)(partition);
        let percent = self.grown.load(Ordering::Relaxed) * i64::from(partition % 11) / 10;
        START + offsets + offsets * percent / 100
    }

    fn names(&self) -> Vec<Arc<str>> {
        match self.topics {
            1 => vec!["orders".into()],
            many => (0..many).map(|n| format!("orders-{n}").into()).collect(),
        }
    }
}

/// A size to two or three digits.
pub fn size(bytes: usize) -> String {
    let units = ["B", "KB", "MB", "GB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 999.5 && unit < 3 {
        (size, unit) = (size / 1000.0, unit + 1);
    }
    let digits = usize::from(size < 9.95 && unit > 0);
    format!("{size:.digits$} {}", units[unit])
}

#[async_trait]
impl KafkaClient for Wide {
    async fn describe(&self, topics: TopicSelection<'_>) -> Result<ClusterDescription> {
        self.described.fetch_add(1, Ordering::Relaxed);
        let brokers = (0..self.brokers).map(|id| {
            let mut broker = Broker::new(id, format!("broker-{id}"), 9092);
            broker.rack = Some(Self::rack(id));
            broker
        });
        let wanted = |name: &Arc<str>| match topics {
            TopicSelection::Named(names) => names.contains(name),
            _ => true,
        };
        let topics = self.names().into_iter().filter(wanted).map(|name| {
            let partitions = (0..self.partitions).map(|number| {
                let leader = self.leader(number);
                let mut partition = PartitionDescription::new(number, Some(leader));
                partition.replicas = vec![leader, (leader + 1) % self.brokers];
                partition.isr.clone_from(&partition.replicas);
                partition
            });
            let mut topic = TopicDescription::new(name, partitions.collect());
            topic.id = Some("AAAAAAAAAAAAAAAAAAAAAA".to_owned());
            topic
        });
        Ok(ClusterDescription::new(brokers.collect(), topics.collect()))
    }

    async fn list_offsets(
        &self,
        queries: &[OffsetQuery],
        _isolation: IsolationLevel,
    ) -> Result<Vec<OffsetAnswer>> {
        self.listed.fetch_add(1, Ordering::Relaxed);
        let answer = |query: &OffsetQuery| {
            let mut answer = OffsetAnswer::new(Some(match query.at {
                OffsetAt::Latest => self.end(query.partition.partition),
                _ => START,
            }));
            answer.leader_epoch = Some(EPOCH);
            answer
        };
        Ok(queries.iter().map(answer).collect())
    }

    async fn epoch_ends(&self, queries: &[EpochQuery]) -> Result<Vec<Option<EpochEnd>>> {
        let end = |query: &EpochQuery| {
            let end = match query.epoch {
                EPOCH => self.end(query.partition.partition),
                _ => START,
            };
            let epoch = query.epoch;
            Some(EpochEnd { epoch, end })
        };
        Ok(queries.iter().map(end).collect())
    }

    async fn group_offsets(
        &self,
        _group: &str,
        _partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        Err(Error::invalid("there are no groups"))
    }

    async fn topic_settings(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicSettings>>> {
        Ok(vec![
            Some(TopicSettings::new(false, "delete"));
            topics.len()
        ])
    }

    fn read(&self, request: ReadRequest) -> BoxStream<'static, Result<RawBatch>> {
        let bytes = self.bytes;
        let batches = request.ranges.into_iter().map(move |range| {
            let none = Int64Array::from_iter_values([]);
            let mut batch = RawBatch::new(range.topic_partition(), range.end(), none);
            let offsets = range.len().unsigned_abs();
            batch.passed = PassedOffsets {
                gap: offsets,
                ..PassedOffsets::default()
            };
            batch.bytes = usize::try_from(offsets * bytes(range.partition())).unwrap();
            Ok(batch)
        });
        stream::iter(batches).boxed()
    }

    fn read_buffer_bytes(&self, _request: &ReadRequest) -> usize {
        0
    }
}
