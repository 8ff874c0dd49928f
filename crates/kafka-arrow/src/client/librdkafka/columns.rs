//! Turns messages into Arrow columns. Each column is one buffer, appended to in a simple loop.

use arrow::array::{BinaryViewArray, Int32Array, Int64Array, TimestampMillisecondArray};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::error::ArrowError;

use super::ffi::Message;
use crate::client::views::{Headers, INLINE, nulls, view};
use crate::client::{PassedOffsets, RawBatch, RawColumns, TimestampType};
use crate::range::TopicPartition;

/// Builds the columns of one batch.
pub(super) struct Columns {
    wanted: RawColumns,
    offsets: Vec<i64>,
    timestamps: Vec<i64>,
    timestamp_types: Vec<TimestampType>,
    keys: Views,
    values: Views,
    headers: Headers,
    leader_epochs: Vec<i32>,
    /// The bytes of keys, values and headers so far.
    bytes: usize,
    /// The sizes of the previous batch, so that this one allocates its buffers once.
    expected: Expected,
}

#[derive(Default, Clone, Copy)]
struct Expected {
    rows: usize,
    key_bytes: usize,
    value_bytes: usize,
}

impl Columns {
    pub(super) fn new(wanted: RawColumns) -> Self {
        Self {
            wanted,
            offsets: Vec::new(),
            timestamps: Vec::new(),
            timestamp_types: Vec::new(),
            keys: Views::default(),
            values: Views::default(),
            headers: Headers::new(),
            leader_epochs: Vec::new(),
            bytes: 0,
            expected: Expected::default(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.offsets.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes room for `rows` rows of the size seen in the previous batch.
    pub(super) fn reserve(&mut self, rows: usize) {
        if !self.offsets.is_empty() {
            return;
        }
        let rows = rows.min(self.expected.rows.max(64));
        self.offsets.reserve(rows);
        if self.wanted.timestamp {
            self.timestamps.reserve(rows);
        }
        if self.wanted.key {
            self.keys.reserve(rows, self.expected.key_bytes);
        }
        if self.wanted.value {
            self.values.reserve(rows, self.expected.value_bytes);
        }
    }

    #[inline]
    pub(super) fn append(&mut self, message: Message<'_>) {
        self.offsets.push(message.offset());
        self.bytes += message.size();
        if self.wanted.value {
            self.values.push(message.value());
        }
        if self.wanted.key {
            self.keys.push(message.key());
        }
        if self.wanted.timestamp || self.wanted.timestamp_type {
            let (ms, kind) = message.timestamp();
            if self.wanted.timestamp {
                self.timestamps.push(ms);
            }
            if self.wanted.timestamp_type {
                self.timestamp_types.push(kind);
            }
        }
        if self.wanted.headers {
            let before = self.headers.bytes();
            message.headers(|name, value| self.headers.push(name, value));
            self.headers.end_row();
            self.bytes += self.headers.bytes() - before;
        }
        if self.wanted.leader_epoch {
            self.leader_epochs.push(message.leader_epoch());
        }
    }

    /// Returns what was appended, and empties the builder.
    pub(super) fn finish(
        &mut self,
        partition: TopicPartition,
        next_offset: i64,
    ) -> Result<RawBatch, ArrowError> {
        let w = self.wanted;
        self.expected = Expected {
            rows: self.offsets.len(),
            key_bytes: self.keys.data.len(),
            value_bytes: self.values.data.len(),
        };
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
            keys: w.key.then(|| self.keys.finish()).transpose()?,
            values: w.value.then(|| self.values.finish()).transpose()?,
            headers: w.headers.then(|| self.headers.finish()).transpose()?,
            leader_epochs: w.leader_epoch.then(|| {
                let nulls = nulls(&epochs, |e| *e >= 0);
                Int32Array::new(epochs.into(), nulls)
            }),
            offsets: Int64Array::new(std::mem::take(&mut self.offsets).into(), None),
            bytes: std::mem::take(&mut self.bytes),
            budgeted_bytes: 0,
            lost_offsets: 0,
            passed: PassedOffsets::default(),
            fetch_wait_ns: 0,
            decode_ns: 0,
            throttle_ns: 0,
        })
    }
}

/// A column of views into one buffer.
#[derive(Default)]
struct Views {
    views: Vec<u128>,
    data: Vec<u8>,
    /// Which rows are valid; only kept from the first NULL on.
    valid: Option<Vec<bool>>,
}

impl Views {
    fn reserve(&mut self, rows: usize, bytes: usize) {
        self.views.reserve(rows);
        // A little more, because no two batches have exactly the same size.
        self.data.reserve(bytes + bytes / 16);
    }

    #[inline]
    fn push(&mut self, value: Option<&[u8]>) {
        let Some(value) = value else {
            let rows = self.views.len();
            self.valid
                .get_or_insert_with(|| vec![true; rows])
                .push(false);
            self.views.push(0);
            return;
        };
        if let Some(valid) = &mut self.valid {
            valid.push(true);
        }
        // Batches are closed long before a buffer reaches 4 GiB; see `BATCH_BYTES_MOST` in `read`.
        self.views.push(view(value, 0, self.data.len() as u32));
        if value.len() > INLINE {
            self.data.extend_from_slice(value);
        }
    }

    fn finish(&mut self) -> Result<BinaryViewArray, ArrowError> {
        let mut data = std::mem::take(&mut self.data);
        // A consumer that keeps the batch should not keep much unused memory.
        if data.capacity() / 2 > data.len() {
            data.shrink_to_fit();
        }
        let views = ScalarBuffer::from(std::mem::take(&mut self.views));
        let nulls = self.valid.take().map(NullBuffer::from);
        let buffers = if data.is_empty() {
            Vec::new()
        } else {
            vec![Buffer::from_vec(data)]
        };
        BinaryViewArray::try_new(views, buffers, nulls)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;

    use super::*;

    #[test]
    fn views_keep_null_empty_short_and_long_apart() {
        let long = vec![7u8; 300];
        let mut views = Views::default();
        let rows = [
            Some(&b""[..]),
            Some(b"123456789012"),
            None,
            Some(b"1234567890123"),
            Some(&long),
        ];
        for row in rows {
            views.push(row);
        }
        let array = views.finish().unwrap();
        let read: Vec<Option<&[u8]>> = array.iter().collect();
        assert_eq!(read, rows);
        assert_eq!(views.finish().unwrap().len(), 0);
    }
}
