//! The only code that talks to brokers.
//!
//! [`KafkaClient`] is what the rest of the crate knows of Kafka: a cluster is *described*, offsets
//! are *listed*, ranges are *read*. None of the three changes anything in the cluster: no consumer
//! group is joined, no offset is committed, no topic is created.

mod budget;
mod deadline;
pub mod epochs;
#[cfg(not(feature = "librdkafka"))]
mod groups_absent;
#[cfg(feature = "librdkafka")]
pub mod librdkafka;
pub mod memory;
mod pool;
mod views;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;

pub use budget::{Held, MemoryBudget, Unlimited};
#[cfg(not(feature = "librdkafka"))]
pub use groups_absent::GroupCommits;
#[cfg(feature = "librdkafka")]
pub use librdkafka::{GroupCommits, commit_group_offsets};
pub use memory::{MemoryClient, MemoryCluster};
pub use pool::ClientPool;
#[cfg(feature = "fuzzing")]
pub(crate) use wire::laws;
pub use wire::{Token, TokenError, TokenProvider, WireClient};

use crate::error::Result;
use crate::range::{IsolationLevel, OffsetRange, TopicPartition};

pub use crate::range::OnDataLoss;
pub use crate::raw::{PassedOffsets, RawBatch, RawColumns, TimestampType, headers_type};

/// For how long brokers may hold a client back by quotas before that counts as a failure: a multiple
/// of the time that there may be no progress, or no answer, otherwise.
const HELD_MOST: u32 = 10;

/// What is asked of a cluster; see the module's documentation.
///
/// # Guarantees of every implementation
///
/// - Nothing in the cluster changes: no group, no commit, no topic.
/// - A call that cannot reach a broker fails with [`Error::Connection`](crate::Error::Connection)
///   within `request.timeout.ms` (15 s unless set), it never hangs.
/// - Answers are a moment's truth: log bounds move on while they travel.
#[async_trait]
pub trait KafkaClient: fmt::Debug + Send + Sync {
    /// The cluster's id and its topics: all of them, or those named.
    ///
    /// A named topic that does not exist is simply absent from the answer.
    ///
    /// # Errors
    /// When no broker answers, or a named topic may not be described.
    async fn describe(&self, topics: TopicSelection<'_>) -> Result<ClusterDescription>;

    /// One offset for each query, in the order of the queries.
    ///
    /// Requests are sent once per leader, not once per partition.
    ///
    /// # Errors
    /// When a leader does not answer, or a partition does not exist.
    async fn list_offsets(
        &self,
        queries: &[OffsetQuery],
        isolation: IsolationLevel,
    ) -> Result<Vec<OffsetAnswer>>;

    /// Where leader epochs end in the logs of their partitions, in the order of the queries (KIP-101,
    /// KIP-320); `None` where that cannot be told: an old broker, or a client that cannot ask.
    ///
    /// # Errors
    /// [`Error::Connection`](crate::Error::Connection) when a leader does not answer, or is not that of
    /// the query's [`leader_epoch`](EpochQuery::leader_epoch) any more.
    async fn epoch_ends(&self, queries: &[EpochQuery]) -> Result<Vec<Option<EpochEnd>>> {
        Ok(vec![None; queries.len()])
    }

    /// The newest leader epochs that any broker knows of partitions, in their order; `None` where nobody
    /// tells. A leader that has not noticed yet that it was replaced knows less than others do.
    ///
    /// # Errors
    /// [`Error::Connection`](crate::Error::Connection) when one of the brokers does not answer.
    async fn newest_epochs(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<i32>>> {
        Ok(vec![None; partitions.len()])
    }

    /// The committed offsets of a consumer group; partitions without one are absent.
    ///
    /// This is the one call that needs rights on a group (DESCRIBE); nothing else calls it.
    ///
    /// # Errors
    /// When the group's coordinator does not answer or denies.
    async fn group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>>;

    /// Settings of topics that decide what a range means; `None` where they may not be read.
    ///
    /// # Errors
    /// When no broker answers.
    async fn topic_settings(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicSettings>>>;

    /// Reads ranges one after another, in the order given.
    ///
    /// The stream yields batches in offset order within a range and never mixes partitions in a
    /// batch. It ends when the *position* has reached the end of the last range: offsets without a
    /// visible record (control records, aborted or compacted ones) are passed over. It is an error
    /// if offsets of a range cannot be read; a time-out never ends a range.
    ///
    /// Nothing is fetched before the first poll. Dropping the stream stops fetching.
    ///
    /// The `next_offset` of a batch never exceeds the end of the range that it belongs to, and the
    /// last batch of a range has it there. Every offset in between is accounted for: the rows, the
    /// `lost_offsets` and the `passed` of a batch add up to what its `next_offset` lies behind that of
    /// the batch before, or behind the range's start.
    ///
    /// # Errors
    /// The stream yields one error, its last item:
    ///
    /// - [`Error::Invalid`](crate::Error::Invalid), before anything is sent, for a range that
    ///   [`OffsetRange::try_new`] refuses: a negative partition or start, a start after the end.
    /// - [`Error::UnknownTopic`](crate::Error::UnknownTopic),
    ///   [`Error::UnknownPartition`](crate::Error::UnknownPartition),
    ///   [`Error::BelowLogStart`](crate::Error::BelowLogStart) and
    ///   [`Error::PastLogEnd`](crate::Error::PastLogEnd) where offsets are not there. A client may
    ///   take a second or two to be sure of it.
    /// - [`Error::TopicRecreated`](crate::Error::TopicRecreated) where the request's ids and the
    ///   cluster's differ: the cluster is asked after the request was made and before the first
    ///   batch, and again after the last record has come.
    /// - [`Error::NoLeader`](crate::Error::NoLeader) after `read.timeout.ms` without a leader, and
    ///   [`Error::Stalled`](crate::Error::Stalled) after as long without progress for other reasons.
    ///   Time that brokers hold the client back by quotas does not count, up to ten times of it.
    /// - What the cluster answered otherwise.
    fn read(&self, request: ReadRequest) -> BoxStream<'static, Result<RawBatch>>;

    /// As [`read`](Self::read), and asks `memory` for what the stream holds beyond
    /// [`read_buffer_bytes`](Self::read_buffer_bytes) and the batch it yields: large records on their
    /// way, record batches that are unpacked. A client that never holds more need not ask.
    ///
    /// # Errors
    /// As [`read`](Self::read), and [`Error::Memory`](crate::Error::Memory) with the record where the
    /// memory is not granted.
    fn read_within(
        &self,
        request: ReadRequest,
        memory: Arc<dyn MemoryBudget>,
    ) -> BoxStream<'static, Result<RawBatch>> {
        let _ = memory;
        self.read(request)
    }

    /// The most bytes that one stream of [`read`](Self::read) may hold beyond the batch it yields,
    /// while no record is larger.
    fn read_buffer_bytes(&self, request: &ReadRequest) -> usize;

    /// What the client is called in receipts; a client that wraps another gives that one's name.
    fn name(&self) -> &'static str {
        "other"
    }
}

/// Which topics to describe.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum TopicSelection<'a> {
    /// All that the principal may see.
    All,
    /// These, as far as they exist.
    Named(&'a [Arc<str>]),
}

/// A cluster as one of its brokers described it.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ClusterDescription {
    /// The cluster's id, where the broker gives it.
    pub cluster_id: Option<String>,
    /// The brokers, by id.
    pub brokers: Vec<Broker>,
    /// The topics, by name.
    pub topics: Vec<TopicDescription>,
}

impl ClusterDescription {
    /// A cluster without an id.
    pub fn new(brokers: Vec<Broker>, topics: Vec<TopicDescription>) -> Self {
        Self {
            cluster_id: None,
            brokers,
            topics,
        }
    }
}

/// A broker's address.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broker {
    /// The node id.
    pub id: i32,
    /// The advertised host.
    pub host: String,
    /// The advertised port.
    pub port: u16,
    /// `broker.rack`, where it is set and the client learns it.
    pub rack: Option<String>,
}

impl Broker {
    /// A broker without a rack.
    pub fn new(id: i32, host: impl Into<String>, port: u16) -> Self {
        Self {
            id,
            host: host.into(),
            port,
            rack: None,
        }
    }
}

/// A topic and its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// The name.
    pub name: Arc<str>,
    /// The topic id (KIP-516) as Kafka prints it, where the broker gives it.
    pub id: Option<String>,
    /// Whether the broker calls it internal, such as `__consumer_offsets`.
    pub internal: bool,
    /// The partitions, by number.
    pub partitions: Vec<PartitionDescription>,
}

impl TopicDescription {
    /// A topic without an id, which is not internal.
    pub fn new(name: impl Into<Arc<str>>, partitions: Vec<PartitionDescription>) -> Self {
        Self {
            name: name.into(),
            id: None,
            internal: false,
            partitions,
        }
    }
}

/// A partition and its replicas, as broker ids.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// The number, from 0.
    pub partition: i32,
    /// The leader; `None` while there is none.
    pub leader: Option<i32>,
    /// All replicas, the preferred leader first.
    pub replicas: Vec<i32>,
    /// The replicas that are in sync.
    pub isr: Vec<i32>,
}

impl PartitionDescription {
    /// A partition without replicas.
    pub fn new(partition: i32, leader: Option<i32>) -> Self {
        Self {
            partition,
            leader,
            replicas: vec![],
            isr: vec![],
        }
    }
}

/// One offset to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetQuery {
    /// The partition.
    pub partition: TopicPartition,
    /// What to look for.
    pub at: OffsetAt,
}

/// What an [`OffsetQuery`] looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetAt {
    /// The log start.
    Earliest,
    /// The end by the isolation level: last stable offset or high watermark.
    Latest,
    /// The first offset whose record has a timestamp at or after this one, in ms since the epoch.
    Timestamp(i64),
}

/// The answer to an [`OffsetQuery`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffsetAnswer {
    /// The offset; `None` when no record has such a timestamp.
    pub offset: Option<i64>,
    /// For [`OffsetAt::Latest`], the epoch of the leader that answered, where it says so. The record
    /// before the end may be of an earlier one.
    pub leader_epoch: Option<i32>,
}

impl OffsetAnswer {
    /// An offset, by a leader that does not tell its epoch.
    pub fn new(offset: Option<i64>) -> Self {
        Self {
            offset,
            leader_epoch: None,
        }
    }
}

/// A leader epoch whose end is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochQuery {
    /// The partition.
    pub partition: TopicPartition,
    /// The epoch of the leader that is to answer; any leader where it is `None`. Within one epoch a
    /// log only grows, so that answers of one leader belong together.
    pub leader_epoch: Option<i32>,
    /// The epoch that is asked for.
    pub epoch: i32,
}

/// The answer to an [`EpochQuery`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The last epoch up to the one asked for that the log has.
    pub epoch: i32,
    /// Where the next epoch starts; for the leader's own, the end of its log.
    pub end: i64,
}

/// Settings of a topic, as its configuration has them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicSettings {
    /// Whether `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `cleanup.policy`, for example `delete` or `compact,delete`.
    pub cleanup_policy: String,
}

impl TopicSettings {
    /// Settings of a topic with a `cleanup.policy`.
    pub fn new(log_append_time: bool, cleanup_policy: impl Into<String>) -> Self {
        Self {
            log_append_time,
            cleanup_policy: cleanup_policy.into(),
        }
    }
}

/// What to read and how. More fields may come: name those that differ from [`ReadRequest::new`].
///
/// ```
/// # use kafka_arrow::client::ReadRequest;
/// let first = ReadRequest {
///     limit: Some(10),
///     ..ReadRequest::new(vec![])
/// };
/// ```
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// The ranges, in the order they are to be read. Several may name one partition; none overlap.
    pub ranges: Vec<OffsetRange>,
    /// Topic ids that the ranges were taken from. A client that can tell refuses another id.
    pub topic_ids: BTreeMap<Arc<str>, String>,
    /// The columns to build.
    pub columns: RawColumns,
    /// Which records of transactions are seen.
    pub isolation: IsolationLevel,
    /// The most rows of a batch.
    pub batch_rows: usize,
    /// The bytes of keys and values after which a batch is closed; one larger record still fits.
    pub batch_bytes: usize,
    /// A hint: no more than so many records will be consumed.
    pub limit: Option<usize>,
    /// What to do about offsets below the log start.
    pub on_data_loss: OnDataLoss,
    /// Partitions of which only records with such timestamps are wanted. A client may leave the
    /// others out and count them as [`filtered`](PassedOffsets::filtered).
    pub timestamps: BTreeMap<TopicPartition, TimestampBounds>,
}

impl ReadRequest {
    /// All columns of the committed records of ranges, in batches of 8,192 rows or 4 MiB.
    pub fn new(ranges: Vec<OffsetRange>) -> Self {
        Self {
            ranges,
            topic_ids: BTreeMap::new(),
            columns: RawColumns::ALL,
            isolation: IsolationLevel::ReadCommitted,
            batch_rows: 8192,
            batch_bytes: 4 << 20,
            limit: None,
            on_data_loss: OnDataLoss::Fail,
            timestamps: BTreeMap::new(),
        }
    }
}

/// Timestamps in ms, `from_ms..to_ms`; a record without a timestamp lies outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimestampBounds {
    /// The first timestamp within.
    pub from_ms: Option<i64>,
    /// The first timestamp beyond.
    pub to_ms: Option<i64>,
}
