//! The clients, and the only code that talks to brokers.
//!
//! A Kafka cluster is a set of servers, the *brokers*. They keep *topics*, which are split into *partitions*,
//! each an append-only log of records. The rest of the crate only knows the trait [`KafkaClient`], which
//! *describes* a cluster, *lists* offsets and *reads* ranges. None of this changes anything in the cluster:
//! it joins no consumer group, commits no offset and creates no topic.

mod bounds;
mod budget;
mod deadline;
pub mod diagnose;
pub mod epochs;
mod groups;
#[cfg(feature = "librdkafka")]
pub mod librdkafka;
mod masked;
pub mod memory;
mod needle;
mod pool;
mod views;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;

pub use budget::{Held, MemoryBudget, Unlimited};
pub use groups::{GroupCommits, commit_group_offsets};
pub use memory::{MemoryClient, MemoryCluster};
pub use needle::Needle;
pub use pool::ClientPool;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use wire::laws;
pub use wire::{Token, TokenError, TokenProvider, WireClient};

use crate::error::{Error, Result};
use crate::mask::Masks;
use crate::range::{IsolationLevel, OffsetRange, TopicPartition};

pub use crate::range::OnDataLoss;
pub use crate::raw::{PassedOffsets, RawBatch, RawColumns, TimestampType, headers_type};

/// For how long brokers may throttle a client before that counts as a failure, as a multiple of the time
/// limit that otherwise applies without progress or an answer.
const HELD_MOST: u32 = 10;

/// Read access to a cluster; see the module's documentation.
///
/// # Guarantees of every implementation
///
/// - Nothing in the cluster changes: it joins no group, commits nothing, creates no topic.
/// - A call that cannot reach a broker fails with [`Error::Connection`] within `request.timeout.ms` (15 s by
///   default). It never hangs.
/// - Answers are only true for a moment: log bounds may move before the answer arrives.
#[async_trait]
pub trait KafkaClient: fmt::Debug + Send + Sync {
    /// The cluster's id, and its topics: all of them, or the named ones.
    ///
    /// A named topic that does not exist is left out of the answer.
    ///
    /// # Errors
    /// When no broker answers, or access to a named topic is denied.
    async fn describe(&self, topics: TopicSelection<'_>) -> Result<ClusterDescription>;

    /// One offset for each query, in the order of the queries.
    ///
    /// There is one request per leader, not one per partition.
    ///
    /// # Errors
    /// When a leader does not answer, or a partition does not exist.
    async fn list_offsets(
        &self,
        queries: &[OffsetQuery],
        isolation: IsolationLevel,
    ) -> Result<Vec<OffsetAnswer>>;

    /// Where leader epochs end in the logs of their partitions, in the order of the queries (KIP-101,
    /// KIP-320). `None` means that it is unknown, because the broker is old or the client cannot ask.
    ///
    /// # Errors
    /// [`Error::Connection`] when a leader does not answer, or no longer has the
    /// query's [`leader_epoch`](EpochQuery::leader_epoch).
    async fn epoch_ends(&self, queries: &[EpochQuery]) -> Result<Vec<Option<EpochEnd>>> {
        Ok(vec![None; queries.len()])
    }

    /// For each partition, in order, the newest leader epoch that any broker knows; `None` where no broker
    /// knows one. A leader that has not noticed its replacement knows less than others do.
    ///
    /// # Errors
    /// [`Error::Connection`] when one of the brokers does not answer.
    async fn newest_epochs(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<i32>>> {
        Ok(vec![None; partitions.len()])
    }

    /// The committed offsets of a consumer group. Partitions without one are absent.
    ///
    /// This is the only call that needs rights on a group (DESCRIBE). Nothing else makes it.
    ///
    /// # Errors
    /// When the group's coordinator does not answer or denies access.
    async fn group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>>;

    /// The settings of topics that decide what a range means; `None` where access is denied.
    ///
    /// # Errors
    /// When no broker answers.
    async fn topic_settings(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicSettings>>>;

    /// Reads ranges one after another, in the order given.
    ///
    /// The stream yields batches in offset order within a range, and never mixes partitions in a batch. It
    /// ends when the *position* reaches the end of the last range. It passes over offsets without a visible
    /// record (control records, aborted or compacted records). If offsets of a range cannot be read, that is
    /// an error; a timeout never ends a range.
    ///
    /// Nothing is fetched before the first poll. Dropping the stream stops fetching.
    ///
    /// The `next_offset` of a batch never exceeds the end of its range, and equals that end in the last batch
    /// of the range. Every offset is accounted for. A batch advances the position from the previous
    /// `next_offset`, or from the range's start, to its own `next_offset`. Its rows, `lost_offsets` and
    /// `passed` add up to that distance.
    ///
    /// # Errors
    /// The stream yields one error, its last item:
    ///
    /// - [`Error::Invalid`], before anything is sent, for a range that [`OffsetRange::try_new`] would refuse:
    ///   a negative partition or start, or a start after the end.
    /// - [`Error::UnknownTopic`], [`Error::UnknownPartition`], [`Error::BelowLogStart`] and
    ///   [`Error::PastLogEnd`] where offsets do not exist. A client may take a second or two to be sure.
    /// - [`Error::TopicRecreated`] where the ids of the request and the cluster differ. The client asks the
    ///   cluster after the request was made and before the first batch, and again after the last record.
    /// - [`Error::Truncated`] where the log was cut before the position, and where it was cut before the
    ///   range's end and a record is of a later epoch than the request's
    ///   [`newest_epochs`](ReadRequest::newest_epochs) allow.
    /// - [`Error::NoLeader`] after `read.timeout.ms` without a leader, and [`Error::Stalled`] after the same
    ///   time without progress for other reasons. Time during which brokers throttle the client does not
    ///   count, up to ten times that limit.
    /// - Any other error from the cluster.
    fn read(&self, request: ReadRequest) -> BoxStream<'static, Result<RawBatch>>;

    /// As [`read`](Self::read), but asks `memory` before holding more than
    /// [`read_buffer_bytes`](Self::read_buffer_bytes) and the yielded batch: for large records in transit,
    /// and for record batches that are unpacked. A client that never holds more need not ask.
    ///
    /// # Errors
    /// As [`read`](Self::read), and [`Error::Memory`], which names the record, where
    /// the memory is refused.
    fn read_within(
        &self,
        request: ReadRequest,
        memory: Arc<dyn MemoryBudget>,
    ) -> BoxStream<'static, Result<RawBatch>> {
        let _ = memory;
        self.read(request)
    }

    /// The most bytes that one stream of [`read`](Self::read) may hold in addition to the yielded batch, as
    /// long as no record is larger.
    fn read_buffer_bytes(&self, request: &ReadRequest) -> usize;

    /// The client's name in receipts. A client that wraps another returns the name of that one.
    fn name(&self) -> &'static str {
        "other"
    }

    /// What is hidden of the records that this client reads. A client that wraps another returns the masks of that one.
    fn masks(&self) -> Option<&Masks> {
        None
    }
}

/// Which topics to describe.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum TopicSelection<'a> {
    /// All topics that the principal may see.
    All,
    /// The named topics that exist.
    Named(&'a [Arc<str>]),
}

/// A cluster, as one of its brokers described it.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ClusterDescription {
    /// The cluster's id, if the broker provides it.
    pub cluster_id: Option<String>,
    /// The brokers, by id.
    pub brokers: Vec<Broker>,
    /// The topics, by name.
    pub topics: Vec<TopicDescription>,
}

impl ClusterDescription {
    /// The same, if each topic's partitions are numbered from 0 on as in every cluster. Nothing else shows that
    /// an answer was damaged on its way, and rows would be missing.
    pub(crate) fn checked(self) -> Result<Self> {
        for topic in &self.topics {
            let numbers = topic.partitions.iter().map(|p| p.partition);
            if !numbers.clone().eq((0..).take(topic.partitions.len())) {
                return Err(Error::Kafka {
                    operation: format!("describing topic {}", topic.name),
                    reason: format!(
                        "a broker names partitions {:?}, which no cluster has: the answer was damaged on its way",
                        numbers.collect::<Vec<_>>()
                    ),
                });
            }
        }
        Ok(self)
    }

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
    /// `broker.rack`, if it is set and the client learns it.
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
    /// The topic id (KIP-516) as Kafka prints it, if the broker provides it.
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
    /// The leader; `None` while there is no leader.
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
    /// The end for the isolation level: last stable offset or high watermark.
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
    /// For [`OffsetAt::Latest`], the epoch of the leader that answered, if it reports one. The record before
    /// the end may be from an earlier epoch.
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

/// A request for the end of a leader epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochQuery {
    /// The partition.
    pub partition: TopicPartition,
    /// The epoch of the leader that shall answer; `None` for any leader. Within one epoch a log only grows,
    /// so the answers of one leader fit together.
    pub leader_epoch: Option<i32>,
    /// The epoch whose end to look up.
    pub epoch: i32,
}

/// The answer to an [`EpochQuery`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The last epoch in the log, up to the requested one.
    pub epoch: i32,
    /// Where the next epoch starts; for the leader's own epoch, the end of its log.
    pub end: i64,
}

/// Settings of a topic, from its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicSettings {
    /// Whether `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `cleanup.policy`, for example `delete` or `compact,delete`.
    pub cleanup_policy: String,
    /// `compression.type`; with `producer`, its default, record batches keep what producers chose.
    pub compression_type: String,
}

impl TopicSettings {
    /// Settings of a topic with a `cleanup.policy`.
    pub fn new(log_append_time: bool, cleanup_policy: impl Into<String>) -> Self {
        Self {
            log_append_time,
            cleanup_policy: cleanup_policy.into(),
            compression_type: "producer".to_owned(),
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
    /// The ranges, in reading order. Several may belong to one partition; they must not overlap.
    pub ranges: Vec<OffsetRange>,
    /// The ids of the topics that the ranges were taken from. A client that can tell refuses other ids.
    pub topic_ids: BTreeMap<Arc<str>, String>,
    /// The columns to build.
    pub columns: RawColumns,
    /// Which records of transactions to show.
    pub isolation: IsolationLevel,
    /// The most rows of a batch.
    pub batch_rows: usize,
    /// A batch is closed when its keys and values reach this many bytes. A single larger record still fits.
    pub batch_bytes: usize,
    /// A hint: at most this many records will be consumed.
    pub limit: Option<usize>,
    /// What to do about offsets below the log start.
    pub on_data_loss: OnDataLoss,
    /// Partitions from which only records with such timestamps are wanted. A client may leave out the others
    /// and count them as [`filtered`](PassedOffsets::filtered).
    pub timestamps: BTreeMap<TopicPartition, TimestampBounds>,
    /// The newest leader epoch that a record of the ranges can have: that of the leader which reported a log end at or
    /// behind them. A record of a later epoch took the place of one that was lost.
    pub newest_epochs: BTreeMap<TopicPartition, i32>,
    /// What every wanted record contains. A client may leave out the others.
    pub needle: Option<Needle>,
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
            newest_epochs: BTreeMap::new(),
            needle: None,
        }
    }
}

/// Timestamps in ms, `from_ms..to_ms`. A record without a timestamp lies outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimestampBounds {
    /// The first timestamp within.
    pub from_ms: Option<i64>,
    /// The first timestamp beyond.
    pub to_ms: Option<i64>,
}

impl TimestampBounds {
    /// Bounds, unless there is neither: without any, records that have no timestamp are wanted too.
    pub fn within(from_ms: Option<i64>, to_ms: Option<i64>) -> Option<Self> {
        (from_ms.is_some() || to_ms.is_some()).then_some(Self { from_ms, to_ms })
    }

    /// The timestamps that lie within both.
    pub fn and(self, other: Self) -> Self {
        let to_ms = match (self.to_ms, other.to_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self {
            from_ms: self.from_ms.max(other.from_ms),
            to_ms,
        }
    }

    /// Whether a timestamp lies within.
    pub fn contains(self, ms: i64) -> bool {
        self.from_ms.is_none_or(|from| from <= ms) && self.to_ms.is_none_or(|to| ms < to)
    }
}
