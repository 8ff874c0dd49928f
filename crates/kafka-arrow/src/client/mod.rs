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

use arrow::array::{
    Array, AsArray, BinaryViewArray, BooleanArray, Int32Array, Int64Array, ListArray,
    TimestampMillisecondArray,
};
use arrow::compute::filter;
use arrow::datatypes::{DataType, Field, Fields};
use arrow::error::ArrowError;
use async_trait::async_trait;
use futures::stream::BoxStream;

pub use budget::{Held, MemoryBudget, Unlimited};
#[cfg(not(feature = "librdkafka"))]
pub use groups_absent::GroupCommits;
#[cfg(feature = "librdkafka")]
pub use librdkafka::{GroupCommits, commit_group_offsets};
pub use memory::{MemoryClient, MemoryCluster};
pub use pool::ClientPool;
pub(crate) use views::Headers as HeaderLists;
#[cfg(feature = "fuzzing")]
pub(crate) use wire::laws;
pub use wire::{Token, TokenError, TokenProvider, WireClient};

use crate::error::Result;
use crate::range::{IsolationLevel, OffsetRange, TopicPartition};

pub use crate::range::OnDataLoss;

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
pub enum TopicSelection<'a> {
    /// All that the principal may see.
    All,
    /// These, as far as they exist.
    Named(&'a [Arc<str>]),
}

/// A cluster as one of its brokers described it.
#[derive(Debug, Clone, Default)]
pub struct ClusterDescription {
    /// The cluster's id, where the broker gives it.
    pub cluster_id: Option<String>,
    /// The brokers, by id.
    pub brokers: Vec<Broker>,
    /// The topics, by name.
    pub topics: Vec<TopicDescription>,
}

/// A broker's address.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// A topic and its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// A partition and its replicas, as broker ids.
#[derive(Debug, Clone, PartialEq, Eq)]
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
pub struct OffsetAnswer {
    /// The offset; `None` when no record has such a timestamp.
    pub offset: Option<i64>,
    /// For [`OffsetAt::Latest`], the epoch of the leader that answered, where it says so. The record
    /// before the end may be of an earlier one.
    pub leader_epoch: Option<i32>,
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
pub struct TopicSettings {
    /// Whether `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `cleanup.policy`, for example `delete` or `compact,delete`.
    pub cleanup_policy: String,
}

/// The raw columns a reader is asked to build. Offsets are always built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RawColumns {
    /// Timestamps.
    pub timestamp: bool,
    /// What the timestamps mean.
    pub timestamp_type: bool,
    /// Keys.
    pub key: bool,
    /// Values.
    pub value: bool,
    /// Headers.
    pub headers: bool,
    /// Leader epochs.
    pub leader_epoch: bool,
}

impl RawColumns {
    /// Every column.
    pub const ALL: Self = Self {
        timestamp: true,
        timestamp_type: true,
        key: true,
        value: true,
        headers: true,
        leader_epoch: true,
    };
}

/// What to read and how.
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

/// Timestamps in ms, `from_ms..to_ms`; a record without a timestamp lies outside.
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

/// Records of one partition as columns, in offset order.
///
/// All columns have the length of `offsets`; those not asked for are `None`. A batch may be empty:
/// it then only reports progress.
#[derive(Debug, Clone)]
pub struct RawBatch {
    /// The partition that all records come from.
    pub partition: TopicPartition,
    /// The position after this batch: the next offset to read.
    pub next_offset: i64,
    /// The records' offsets.
    pub offsets: Int64Array,
    /// Timestamp(ms, UTC), NULL for a record without one.
    pub timestamps: Option<TimestampMillisecondArray>,
    /// The timestamps' types, one for each record.
    pub timestamp_types: Option<Vec<TimestampType>>,
    /// Keys; NULL is not empty.
    pub keys: Option<BinaryViewArray>,
    /// Values; NULL is a tombstone.
    pub values: Option<BinaryViewArray>,
    /// Headers in wire order, as [`headers_type`] describes them; a record without has an empty list.
    pub headers: Option<ListArray>,
    /// Leader epochs, NULL where unknown.
    pub leader_epochs: Option<Int32Array>,
    /// Payload bytes (keys, values, headers as far as known) that the client received for these records.
    pub bytes: usize,
    /// Of these, the bytes that the stream's [`MemoryBudget`] already counts, for as long as the
    /// columns live.
    pub budgeted_bytes: usize,
    /// Offsets below the log start that were passed over before this batch.
    pub lost_offsets: i64,
    /// Offsets without a row that were passed since the batch before, by the reason.
    pub passed: PassedOffsets,
    /// Time that the client waited for the broker since the batch before, in ns.
    pub fetch_wait_ns: u64,
    /// Time that building the columns took, in ns.
    pub decode_ns: u64,
    /// Time that brokers held this client back since the batch before (quotas, KIP-124), in ns.
    pub throttle_ns: u64,
}

impl RawBatch {
    /// The records of which `wanted` is true. What was passed, and where the position is, stays.
    pub fn filter(&self, wanted: &BooleanArray) -> Result<Self, ArrowError> {
        fn rows<A: Array + Clone + 'static>(
            column: Option<&A>,
            wanted: &BooleanArray,
        ) -> Result<Option<A>, ArrowError> {
            let Some(column) = column else {
                return Ok(None);
            };
            let rows = filter(column, wanted)?;
            Ok(rows.as_any().downcast_ref::<A>().cloned())
        }
        let types = self.timestamp_types.as_ref().map(|types| {
            let types = types.iter().zip(wanted.values());
            types
                .filter(|(_, wanted)| *wanted)
                .map(|(t, _)| *t)
                .collect()
        });
        Ok(Self {
            partition: self.partition.clone(),
            offsets: filter(&self.offsets, wanted)?.as_primitive().clone(),
            timestamps: rows(self.timestamps.as_ref(), wanted)?,
            timestamp_types: types,
            keys: rows(self.keys.as_ref(), wanted)?,
            values: rows(self.values.as_ref(), wanted)?,
            headers: rows(self.headers.as_ref(), wanted)?,
            leader_epochs: rows(self.leader_epochs.as_ref(), wanted)?,
            ..*self
        })
    }
}

/// Offsets that a reader passed without yielding a row, by the reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassedOffsets {
    /// Control records: the ends of transactions.
    pub control: u64,
    /// Records of aborted transactions, under `read_committed`.
    pub aborted: u64,
    /// Offsets that hold nothing: compacted away, or never written.
    pub gap: u64,
    /// Records outside the request's [`timestamps`](ReadRequest::timestamps).
    pub filtered: u64,
    /// One of the first three; the client cannot tell which.
    pub untold: u64,
}

impl PassedOffsets {
    /// All offsets that were passed.
    pub fn total(&self) -> u64 {
        self.control + self.aborted + self.gap + self.filtered + self.untold
    }
}

impl std::ops::AddAssign for PassedOffsets {
    fn add_assign(&mut self, more: Self) {
        self.control += more.control;
        self.aborted += more.aborted;
        self.gap += more.gap;
        self.filtered += more.filtered;
        self.untold += more.untold;
    }
}

/// What a record's timestamp means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The record has none.
    NotAvailable,
    /// Set by the producer.
    CreateTime,
    /// Set by the broker.
    LogAppendTime,
}

/// The Arrow type of headers: `List<Struct<key: Utf8, value: Binary>>`, only `value` nullable.
pub fn headers_type() -> DataType {
    let header = DataType::Struct(Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Binary, true),
    ]));
    DataType::List(Arc::new(Field::new("item", header, false)))
}
