//! Columns of one batch, built of records that lie in fetched memory.
//!
//! Keys and values are views into the memory that they were received or unpacked in: nothing is
//! copied, and a batch keeps that memory alive. Where it would keep much more than it shows, its
//! values are copied after all ([`RETAINED_MOST`]).

use arrow::array::{BinaryViewArray, Int32Array, Int64Array, TimestampMillisecondArray};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::error::ArrowError;
use bytes::Bytes;

use super::batch::BatchHead;
use crate::client::build::{Headers, INLINE, nulls, view};
use crate::client::{PassedOffsets, RawBatch, RawColumns, TimestampType};
use crate::range::TopicPartition;

/// A batch keeps no more than so many times the bytes that it shows.
const RETAINED_MOST: usize = 8;
/// Less than this is not worth copying.
const RETAINED_FREE_BYTES: usize = 64 << 10;

/// Memory that records lie in.
pub(super) struct Region {
    pub(super) bytes: Bytes,
    /// The batch for which `block` is valid.
    batch: u64,
    block: u32,
}

impl Region {
    pub(super) fn new(bytes: Bytes) -> Self {
        let (batch, block) = (0, 0);
        Self {
            bytes,
            batch,
            block,
        }
    }
}

/// A record's place in its region, and what else is known of it.
pub(super) struct Row<'a> {
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    /// The broker stamped it, as all records of its batch.
    pub(super) log_append_time: bool,
    pub(super) key: Option<&'a [u8]>,
    pub(super) key_at: usize,
    pub(super) value: Option<&'a [u8]>,
    pub(super) value_at: usize,
}

/// See the module's documentation.
pub(super) struct Columns {
    pub(super) wanted: RawColumns,
    offsets: Vec<i64>,
    timestamps: Vec<i64>,
    timestamp_types: Vec<TimestampType>,
    keys: Views,
    values: Views,
    pub(super) headers: Headers,
    leader_epochs: Vec<i32>,
    /// The regions that views of this batch point into.
    buffers: Vec<Buffer>,
    /// The number of this batch, from 1.
    batch: u64,
    /// Bytes of keys, values and headers.
    pub(super) bytes: usize,
    /// Rows to make room for: no more than a batch has.
    rows_most: usize,
}

impl Columns {
    pub(super) fn new(wanted: RawColumns, rows_most: usize) -> Self {
        Self {
            wanted,
            offsets: Vec::new(),
            timestamps: Vec::new(),
            timestamp_types: Vec::new(),
            keys: Views::default(),
            values: Views::default(),
            headers: Headers::new(),
            leader_epochs: Vec::new(),
            buffers: Vec::new(),
            batch: 1,
            bytes: 0,
            rows_most,
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.offsets.len()
    }

    /// Makes room for `rows` more.
    pub(super) fn reserve(&mut self, rows: usize) {
        let room = self.rows_most.saturating_sub(self.rows());
        // A batch of rows that goes on over several record batches likely becomes a whole one.
        let rows = if self.rows() > 0 {
            room
        } else {
            rows.min(room)
        };
        self.offsets.reserve(rows);
        if self.wanted.timestamp {
            self.timestamps.reserve(rows);
        }
        if self.wanted.key {
            self.keys.views.reserve(rows);
        }
        if self.wanted.value {
            self.values.views.reserve(rows);
        }
    }

    /// Appends offsets of a batch of which nothing else is wanted than its head tells.
    pub(super) fn push_offsets(&mut self, head: &BatchHead, from: i64, to: i64) {
        self.offsets.extend(from..to);
        if self.wanted.timestamp {
            self.timestamps
                .resize(self.offsets.len(), head.max_timestamp);
        }
        self.push_head(head);
    }

    /// Fills the columns that are the same for all records of a batch up to the last row.
    pub(super) fn push_head(&mut self, head: &BatchHead) {
        let rows = self.offsets.len();
        if self.wanted.timestamp_type && head.is_log_append_time() {
            self.timestamp_types
                .resize(rows, TimestampType::LogAppendTime);
        }
        if self.wanted.leader_epoch {
            self.leader_epochs.resize(rows, head.leader_epoch);
        }
    }

    #[inline(always)]
    pub(super) fn push(&mut self, region: &mut Region, row: &Row<'_>) {
        self.offsets.push(row.offset);
        if self.wanted.timestamp {
            self.timestamps.push(row.timestamp);
        }
        if self.wanted.timestamp_type && !row.log_append_time {
            self.timestamp_types.push(match row.timestamp {
                ..0 => TimestampType::NotAvailable,
                _ => TimestampType::CreateTime,
            });
        }
        if self.wanted.key {
            let block = self.block(region, row.key);
            self.keys.push(row.key, block, row.key_at);
        }
        if self.wanted.value {
            let block = self.block(region, row.value);
            self.values.push(row.value, block, row.value_at);
        }
    }

    /// The index of the region among the batch's buffers, if the view needs it.
    #[inline]
    fn block(&mut self, region: &mut Region, value: Option<&[u8]>) -> u32 {
        if region.batch != self.batch && value.is_some_and(|v| v.len() > INLINE) {
            region.batch = self.batch;
            region.block = self.buffers.len() as u32;
            self.buffers.push(Buffer::from(region.bytes.clone()));
        }
        region.block
    }

    /// Hands out what was appended; the builder starts anew.
    pub(super) fn finish(
        &mut self,
        partition: TopicPartition,
        next_offset: i64,
    ) -> Result<RawBatch, ArrowError> {
        self.batch += 1;
        let buffers = std::mem::take(&mut self.buffers);
        let retained: usize = buffers.iter().map(Buffer::len).sum();
        let shown = self.keys.bytes + self.values.bytes;
        let copied = retained > RETAINED_FREE_BYTES && retained / RETAINED_MOST > shown;
        let finish = |views: &mut Views| -> Result<BinaryViewArray, ArrowError> {
            let array = views.finish(&buffers)?;
            Ok(if copied { array.gc() } else { array })
        };
        let w = self.wanted;
        let keys = w.key.then(|| finish(&mut self.keys)).transpose()?;
        let values = w.value.then(|| finish(&mut self.values)).transpose()?;
        let timestamps = std::mem::take(&mut self.timestamps);
        let epochs = std::mem::take(&mut self.leader_epochs);
        Ok(RawBatch {
            partition,
            next_offset,
            timestamps: w.timestamp.then(|| {
                let nulls = nulls(&timestamps, |ms| *ms >= 0);
                TimestampMillisecondArray::new(timestamps.into(), nulls).with_timezone("UTC")
            }),
            timestamp_types: w
                .timestamp_type
                .then(|| std::mem::take(&mut self.timestamp_types)),
            keys,
            values,
            headers: w.headers.then(|| self.headers.finish()).transpose()?,
            leader_epochs: w.leader_epoch.then(|| {
                let nulls = nulls(&epochs, |e| *e >= 0);
                Int32Array::new(epochs.into(), nulls)
            }),
            offsets: Int64Array::new(std::mem::take(&mut self.offsets).into(), None),
            bytes: std::mem::take(&mut self.bytes),
            lost_offsets: 0,
            passed: PassedOffsets::default(),
            fetch_wait_ns: 0,
            decode_ns: 0,
        })
    }
}

/// A column of views.
#[derive(Default)]
struct Views {
    views: Vec<u128>,
    /// Which rows are NULL, from the first NULL on.
    valid: Option<Vec<bool>>,
    /// Bytes that do not lie in the views themselves.
    bytes: usize,
}

impl Views {
    #[inline(always)]
    fn push(&mut self, value: Option<&[u8]>, block: u32, at: usize) {
        let Some(value) = value else {
            return self.push_null();
        };
        if let Some(valid) = &mut self.valid {
            valid.push(true);
        }
        if value.len() > INLINE {
            self.bytes += value.len();
        }
        // A region is no larger than an answer, which is far below 4 GiB.
        self.views.push(view(value, block, at as u32));
    }

    fn push_null(&mut self) {
        let rows = self.views.len();
        let valid = self.valid.get_or_insert_with(|| vec![true; rows]);
        valid.push(false);
        self.views.push(0);
    }

    fn finish(&mut self, buffers: &[Buffer]) -> Result<BinaryViewArray, ArrowError> {
        let views = ScalarBuffer::from(std::mem::take(&mut self.views));
        let nulls = self.valid.take().map(NullBuffer::from);
        let buffers = if std::mem::take(&mut self.bytes) == 0 {
            Vec::new()
        } else {
            buffers.to_vec()
        };
        BinaryViewArray::try_new(views, buffers, nulls)
    }
}
