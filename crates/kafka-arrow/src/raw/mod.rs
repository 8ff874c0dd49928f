//! Records as columns, as brokers have them: what clients yield and [`decode`](crate::decode) takes.

mod headers;

use std::sync::Arc;

use arrow::array::{
    Array, AsArray, BinaryViewArray, BooleanArray, Int32Array, Int64Array, ListArray,
    TimestampMillisecondArray,
};
use arrow::compute::filter;
use arrow::datatypes::{DataType, Field, Fields};
use arrow::error::ArrowError;

pub(crate) use headers::{Headers, nulls};

use crate::range::TopicPartition;

/// The raw columns to build. Offsets are always built.
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

/// Records of one partition as columns, in offset order.
///
/// All columns have the length of `offsets`; columns that were not requested are `None`. A batch may be empty
/// and only report progress.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RawBatch {
    /// The partition of all records.
    pub partition: TopicPartition,
    /// The position after this batch: the next offset to read.
    pub next_offset: i64,
    /// The records' offsets.
    pub offsets: Int64Array,
    /// Timestamp(ms, UTC), NULL for a record without one.
    pub timestamps: Option<TimestampMillisecondArray>,
    /// The timestamps' types, one per record.
    pub timestamp_types: Option<Vec<TimestampType>>,
    /// Keys; NULL is not empty.
    pub keys: Option<BinaryViewArray>,
    /// Values; NULL is a tombstone.
    pub values: Option<BinaryViewArray>,
    /// Headers in wire order, with the type [`headers_type`]; an empty list for a record without headers.
    pub headers: Option<ListArray>,
    /// Leader epochs, NULL where unknown.
    pub leader_epochs: Option<Int32Array>,
    /// Bytes of payload (keys, values, and headers where known) that the client received for these records.
    pub bytes: usize,
    /// The part of these bytes that the stream's [`MemoryBudget`](crate::client::MemoryBudget) already counts,
    /// until the columns are dropped.
    pub budgeted_bytes: usize,
    /// Bytes that have become no row since the previous batch: of records, or of whole record batches as they came.
    pub passed_bytes: usize,
    /// Offsets below the log start that were skipped before this batch.
    pub lost_offsets: i64,
    /// Offsets without a row that were passed since the previous batch, by reason.
    pub passed: PassedOffsets,
    /// How long the client waited for the broker since the previous batch, in ns.
    pub fetch_wait_ns: u64,
    /// How long building the columns took, in ns.
    pub decode_ns: u64,
    /// How long brokers throttled this client since the previous batch (quotas, KIP-124), in ns.
    pub throttle_ns: u64,
}

impl RawBatch {
    /// A batch of records of which no more than the offsets is known, for clients to add columns and
    /// counts to.
    pub fn new(partition: TopicPartition, next_offset: i64, offsets: Int64Array) -> Self {
        Self {
            partition,
            next_offset,
            offsets,
            timestamps: None,
            timestamp_types: None,
            keys: None,
            values: None,
            headers: None,
            leader_epochs: None,
            bytes: 0,
            budgeted_bytes: 0,
            passed_bytes: 0,
            lost_offsets: 0,
            passed: PassedOffsets::default(),
            fetch_wait_ns: 0,
            decode_ns: 0,
            throttle_ns: 0,
        }
    }

    /// Keeps the records for which `wanted` is true. The position and the passed offsets stay.
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

/// Offsets that a reader passed without yielding a row, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassedOffsets {
    /// Control records: the ends of transactions.
    pub control: u64,
    /// Records of aborted transactions, under `read_committed`.
    pub aborted: u64,
    /// Offsets without a record: compacted away, or never written.
    pub gap: u64,
    /// Records outside the request's [`timestamps`](crate::client::ReadRequest::timestamps), or without its
    /// [`needle`](crate::client::ReadRequest::needle).
    pub filtered: u64,
    /// One of the first three, when the client cannot tell which.
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
    /// The record has no timestamp.
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
