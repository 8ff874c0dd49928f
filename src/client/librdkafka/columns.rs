//! Messages become Arrow columns: each column is one buffer, appended to in a plain loop.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BinaryViewArray, Int32Array, Int64Array, ListArray, StringArray,
    StructArray, TimestampMillisecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::ffi::Message;
use crate::client::{PassedOffsets, RawBatch, RawColumns, TimestampType, headers_type};
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
    /// Bytes of keys, values and headers.
    bytes: usize,
    /// What the batch before held, so that this one's buffers are allocated once.
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

    /// Makes room for so many rows, as large as those of the batch before.
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
            self.bytes += self.headers.push(message);
        }
        if self.wanted.leader_epoch {
            self.leader_epochs.push(message.leader_epoch());
        }
    }

    /// Hands out what was appended; the builder starts anew.
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
            lost_offsets: 0,
            passed: PassedOffsets::default(),
            fetch_wait_ns: 0,
            decode_ns: 0,
        })
    }
}

/// `None` if all are valid.
fn nulls<T>(values: &[T], valid: impl Fn(&T) -> bool) -> Option<NullBuffer> {
    if values.iter().all(&valid) {
        return None;
    }
    Some(values.iter().map(valid).collect())
}

/// A column of views into one buffer.
#[derive(Default)]
struct Views {
    views: Vec<u128>,
    data: Vec<u8>,
    /// Which rows are NULL, from the first NULL on.
    valid: Option<Vec<bool>>,
}

impl Views {
    fn reserve(&mut self, rows: usize, bytes: usize) {
        self.views.reserve(rows);
        // A little more, because no two batches are of exactly one size.
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
        self.views.push(view(value, self.data.len()));
        if value.len() > INLINE {
            self.data.extend_from_slice(value);
        }
    }

    fn finish(&mut self) -> Result<BinaryViewArray, ArrowError> {
        let mut data = std::mem::take(&mut self.data);
        // What is kept downstream should not keep much more than it needs.
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

/// The longest value that lies in its view.
const INLINE: usize = 12;

/// Arrow's view: length, then the value itself, or its first four bytes, buffer 0 and the offset.
///
/// Batches are closed long before a buffer reaches 4 GiB; see `BATCH_BYTES_MOST` in `read`.
#[inline]
fn view(value: &[u8], offset: usize) -> u128 {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&(value.len() as u32).to_le_bytes());
    if value.len() <= INLINE {
        bytes[4..4 + value.len()].copy_from_slice(value);
    } else {
        bytes[4..8].copy_from_slice(&value[..4]);
        bytes[12..].copy_from_slice(&(offset as u32).to_le_bytes());
    }
    u128::from_le_bytes(bytes)
}

/// A column of header lists.
struct Headers {
    ends: Vec<i32>,
    name_ends: Vec<i32>,
    names: Vec<u8>,
    value_ends: Vec<i32>,
    values: Vec<u8>,
    value_valid: Vec<bool>,
}

impl Headers {
    fn new() -> Self {
        Self {
            ends: vec![0],
            name_ends: vec![0],
            names: Vec::new(),
            value_ends: vec![0],
            values: Vec::new(),
            value_valid: Vec::new(),
        }
    }

    /// Appends a message's headers and returns their bytes.
    ///
    /// The lengths fit: a batch is closed at 1 GiB, and Kafka's largest message has less than that.
    fn push(&mut self, message: Message<'_>) -> usize {
        let before = self.names.len() + self.values.len();
        message.headers(|name, value| {
            match std::str::from_utf8(name) {
                Ok(_) => self.names.extend_from_slice(name),
                Err(_) => self.names.extend(String::from_utf8_lossy(name).bytes()),
            }
            self.name_ends.push(self.names.len() as i32);
            self.values.extend_from_slice(value.unwrap_or_default());
            self.value_ends.push(self.values.len() as i32);
            self.value_valid.push(value.is_some());
        });
        self.ends.push(self.value_valid.len() as i32);
        self.names.len() + self.values.len() - before
    }

    fn finish(&mut self) -> Result<ListArray, ArrowError> {
        let all = std::mem::replace(self, Self::new());
        let DataType::List(item) = headers_type() else {
            return Err(ArrowError::SchemaError("headers are not a list".into()));
        };
        let DataType::Struct(fields) = item.data_type() else {
            return Err(ArrowError::SchemaError("headers are not structs".into()));
        };
        let names = StringArray::try_new(
            OffsetBuffer::new(all.name_ends.into()),
            Buffer::from_vec(all.names),
            None,
        )?;
        let nulls = nulls(&all.value_valid, |v| *v);
        let values = BinaryArray::try_new(
            OffsetBuffer::new(all.value_ends.into()),
            Buffer::from_vec(all.values),
            nulls,
        )?;
        let columns: Vec<ArrayRef> = vec![Arc::new(names), Arc::new(values)];
        let structs = StructArray::try_new(fields.clone(), columns, None)?;
        let ends = OffsetBuffer::new(all.ends.into());
        ListArray::try_new(Arc::clone(&item), ends, Arc::new(structs), None)
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
