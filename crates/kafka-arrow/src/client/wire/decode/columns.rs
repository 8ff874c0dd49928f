//! The columns of one batch, built from records that lie in received memory.
//!
//! Keys and values are views into the memory in which they were received or unpacked. Nothing is copied, and
//! a batch keeps that memory alive. If that would be much more than the batch shows, the values are copied
//! after all ([`RETAINED_MOST`]).

use arrow::array::{BinaryViewArray, Int32Array, Int64Array, TimestampMillisecondArray};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::error::ArrowError;
use bytes::Bytes;

use super::batch::BatchHead;
use super::stretch::{Room, Stretch, Taken, ViewRoom};
use super::unchecked::binary_views;
use crate::client::views::{Headers, INLINE, nulls, view};
use crate::client::{PassedOffsets, RawBatch, RawColumns, TimestampType};
use crate::range::TopicPartition;

/// A batch keeps at most this many times the bytes that it shows.
const RETAINED_MOST: usize = 8;
/// Retaining less than this is not worth a copy.
const RETAINED_FREE_BYTES: usize = 64 << 10;

/// Memory that contains records.
pub(super) struct Region {
    pub(super) bytes: Bytes,
    /// Whether the stream's budget counts this memory until it is dropped.
    budgeted: bool,
    /// The number of the batch for which `block` is valid.
    batch: u64,
    block: u32,
}

impl Region {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            budgeted: false,
            batch: 0,
            block: 0,
        }
    }

    pub(super) fn budgeted(mut self, is: bool) -> Self {
        self.budgeted = is;
        self
    }
}

/// The place of a record in its region, and what else is known of it.
pub(super) struct Row<'a> {
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    /// Whether the broker stamped it, together with all records of its batch.
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
    /// The regions that this batch's views point into.
    buffers: Vec<Buffer>,
    /// The bytes of those that the stream's budget counts.
    budgeted: usize,
    /// The number of this batch, from 1.
    batch: u64,
    /// Bytes of keys, values and headers.
    pub(super) bytes: usize,
    /// The most rows to make room for, which is the size of a batch.
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
            budgeted: 0,
            batch: 1,
            bytes: 0,
            rows_most,
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.offsets.len()
    }

    /// Makes room for `rows` more rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        let room = self.rows_most.saturating_sub(self.rows());
        // A batch that spans several record batches will probably become full.
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
            self.keys.reserve(rows);
        }
        if self.wanted.value {
            self.values.reserve(rows);
        }
    }

    /// Appends offsets of a batch when nothing more is wanted than its head contains.
    pub(super) fn push_offsets(&mut self, head: &BatchHead, from: i64, to: i64) {
        self.offsets.extend(from..to);
        if self.wanted.timestamp {
            self.timestamps
                .resize(self.offsets.len(), head.max_timestamp);
        }
        self.push_head(head);
    }

    /// Fills the columns that are the same for all records of a batch, up to the last row.
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
            self.timestamp_types.push(create_time(row.timestamp));
        }
        let block = self.block(region);
        if self.wanted.key {
            self.keys.push(row.key, block, row.key_at);
        }
        if self.wanted.value {
            self.values.push(row.value, block, row.value_at);
        }
    }

    /// Appends up to `most` consecutive records that begin at `at`. The first has the offset `delta` in its
    /// batch. All of them become rows. Unusual records end the stretch.
    pub(super) fn push_stretch(
        &mut self,
        region: &mut Region,
        head: &BatchHead,
        (at, end): (usize, usize),
        delta: i32,
        most: usize,
        bytes_most: usize,
    ) -> Taken {
        let w = self.wanted;
        let stamped = w.timestamp && !head.is_log_append_time();
        let before = self.rows();
        let block = self.block(region);
        if stamped {
            self.timestamps.resize(before + most, 0);
        }
        let stretch = Stretch {
            records: region.bytes.get(..end).unwrap_or_default(),
            delta: delta as u32,
            most,
            bytes_most,
            bare: w.headers,
            base_timestamp: head.base_timestamp,
            block,
        };
        let room = Room {
            timestamps: stamped.then(|| &mut self.timestamps[before..]),
            keys: w.key.then(|| self.keys.room(most)),
            values: w.value.then(|| self.values.room(most)),
        };
        let taken = stretch.take(at, room);
        let first = head.base_offset + i64::from(delta);
        self.offsets.extend(first..first + taken.records as i64);
        let rows = self.rows();
        if stamped {
            self.timestamps.truncate(rows);
        } else if w.timestamp {
            self.timestamps.resize(rows, head.max_timestamp);
        }
        if w.timestamp_type && stamped {
            let types = self.timestamps[before..].iter().map(|ms| create_time(*ms));
            self.timestamp_types.extend(types);
        }
        if w.headers {
            self.headers.end_rows(taken.records);
        }
        self.keys.close(rows, taken.viewed.0);
        self.values.close(rows, taken.viewed.1);
        self.bytes += taken.bytes;
        taken
    }

    /// Whether stretches of a batch's records can be appended at once.
    pub(super) fn takes_stretches(&self, head: &BatchHead) -> bool {
        let w = self.wanted;
        head.is_dense() && (w.timestamp || !w.timestamp_type || head.is_log_append_time())
    }

    /// The index of the region among the buffers of the batch.
    #[inline]
    fn block(&mut self, region: &mut Region) -> u32 {
        let points = self.wanted.key || self.wanted.value;
        if points && region.batch != self.batch {
            region.batch = self.batch;
            region.block = self.buffers.len() as u32;
            self.buffers.push(Buffer::from(region.bytes.clone()));
            self.budgeted += if region.budgeted {
                region.bytes.len()
            } else {
                0
            };
        }
        region.block
    }

    /// Returns what was appended, and empties the builder.
    pub(super) fn finish(
        &mut self,
        partition: TopicPartition,
        next_offset: i64,
    ) -> Result<RawBatch, ArrowError> {
        self.batch += 1;
        let buffers = std::mem::take(&mut self.buffers);
        let budgeted = std::mem::take(&mut self.budgeted);
        let retained: usize = buffers.iter().map(Buffer::len).sum();
        let shown = self.keys.bytes + self.values.bytes;
        let copied =
            shown > 0 && retained > RETAINED_FREE_BYTES && retained / RETAINED_MOST > shown;
        let finish = |views: &mut Views| -> Result<BinaryViewArray, ArrowError> {
            let array = views.finish(&buffers)?;
            Ok(if copied { array.gc() } else { array })
        };
        let w = self.wanted;
        let keys = w.key.then(|| finish(&mut self.keys)).transpose()?;
        let values = w.value.then(|| finish(&mut self.values)).transpose()?;
        let timestamps = std::mem::take(&mut self.timestamps);
        let epochs = std::mem::take(&mut self.leader_epochs);
        let bytes = std::mem::take(&mut self.bytes);
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
            bytes,
            budgeted_bytes: if copied { 0 } else { budgeted.min(bytes) },
            lost_offsets: 0,
            passed: PassedOffsets::default(),
            fetch_wait_ns: 0,
            decode_ns: 0,
            throttle_ns: 0,
        })
    }
}

fn create_time(timestamp: i64) -> TimestampType {
    match timestamp {
        ..0 => TimestampType::NotAvailable,
        _ => TimestampType::CreateTime,
    }
}

/// A column of views.
#[derive(Default)]
pub(super) struct Views {
    views: Vec<u128>,
    /// Which rows are not NULL.
    valid: Vec<bool>,
    /// Bytes that the views themselves do not hold.
    bytes: usize,
}

impl Views {
    fn reserve(&mut self, rows: usize) {
        self.views.reserve(rows);
        self.valid.reserve(rows);
    }

    #[inline(always)]
    fn push(&mut self, value: Option<&[u8]>, block: u32, at: usize) {
        let bytes = value.unwrap_or_default();
        if bytes.len() > INLINE {
            self.bytes += bytes.len();
        }
        // A region is at most as large as an answer, which is far below 4 GiB.
        self.views.push(view(bytes, block, at as u32));
        self.valid.push(value.is_some());
    }

    /// Room for `rows` more rows. [`Self::close`] takes back what was not used.
    fn room(&mut self, rows: usize) -> ViewRoom<'_> {
        let before = self.views.len();
        self.views.resize(before + rows, 0);
        self.valid.resize(before + rows, false);
        ViewRoom {
            views: &mut self.views[before..],
            valid: &mut self.valid[before..],
            viewed: 0,
        }
    }

    fn close(&mut self, rows: usize, viewed: usize) {
        self.views.truncate(rows);
        self.valid.truncate(rows);
        self.bytes += viewed;
    }

    fn finish(&mut self, buffers: &[Buffer]) -> Result<BinaryViewArray, ArrowError> {
        let views = ScalarBuffer::from(std::mem::take(&mut self.views));
        let nulls = nulls(&std::mem::take(&mut self.valid), |valid| *valid);
        let buffers = if std::mem::take(&mut self.bytes) == 0 {
            Vec::new()
        } else {
            buffers.to_vec()
        };
        binary_views(views, buffers, nulls)
    }
}
