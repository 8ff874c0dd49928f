//! Building blocks of Arrow columns that all clients share.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, ListArray, StringArray, StructArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::headers_type;

/// The longest value that a view itself can hold.
pub(super) const INLINE: usize = 12;
const INLINE_AND_MORE: usize = INLINE + 1;

/// Arrow's view: the length, then either the value itself, or its first four bytes, its buffer and its offset
/// in the buffer.
///
/// It is assembled in registers. Writing a view in parts and reading it as a whole stalls the processor for
/// longer than the rest of a record takes.
#[inline(always)]
pub(super) fn view(value: &[u8], buffer: u32, offset: u32) -> u128 {
    let length = value.len() as u128;
    let at = |byte: usize| 32 + 8 * byte as u32;
    let word = |from: usize| match value.get(from..).and_then(<[u8]>::first_chunk::<4>) {
        Some(bytes) => u128::from(u32::from_le_bytes(*bytes)),
        None => 0,
    };
    let byte = |index: usize| u128::from(value.get(index).copied().unwrap_or_default());
    // The parts overlap, and agree where they do.
    let rest = match value.len() {
        INLINE_AND_MORE.. => word(0) << at(0) | u128::from(buffer) << 64 | u128::from(offset) << 96,
        n @ 8.. => word(0) << at(0) | word(4) << at(4) | word(n - 4) << at(n - 4),
        n @ 4.. => word(0) << at(0) | word(n - 4) << at(n - 4),
        n @ 1.. => byte(0) << at(0) | byte(n / 2) << at(n / 2) | byte(n - 1) << at(n - 1),
        0 => 0,
    };
    length | rest
}

/// `None` if all values are valid.
pub(super) fn nulls<T>(values: &[T], valid: impl Fn(&T) -> bool) -> Option<NullBuffer> {
    if values.iter().all(&valid) {
        return None;
    }
    Some(values.iter().map(valid).collect())
}

/// A column of header lists.
///
/// Clients close a batch long before its headers reach the 2 GiB that Arrow's offsets can count.
pub(crate) struct Headers {
    ends: Vec<i32>,
    name_ends: Vec<i32>,
    names: Vec<u8>,
    value_ends: Vec<i32>,
    values: Vec<u8>,
    value_valid: Vec<bool>,
}

impl Headers {
    pub(crate) fn new() -> Self {
        Self {
            ends: vec![0],
            name_ends: vec![0],
            names: Vec::new(),
            value_ends: vec![0],
            values: Vec::new(),
            value_valid: Vec::new(),
        }
    }

    /// Bytes of names and values.
    pub(super) fn bytes(&self) -> usize {
        self.names.len() + self.values.len()
    }

    /// Appends a header to the current record. Header names are UTF-8 in Kafka; invalid ones are repaired.
    pub(crate) fn push(&mut self, name: &[u8], value: Option<&[u8]>) {
        match std::str::from_utf8(name) {
            Ok(_) => self.names.extend_from_slice(name),
            Err(_) => self.names.extend(String::from_utf8_lossy(name).bytes()),
        }
        self.name_ends.push(self.names.len() as i32);
        self.values.extend_from_slice(value.unwrap_or_default());
        self.value_ends.push(self.values.len() as i32);
        self.value_valid.push(value.is_some());
    }

    /// Ends the record. Further headers belong to the next one.
    pub(crate) fn end_row(&mut self) {
        self.ends.push(self.value_valid.len() as i32);
    }

    /// Ends `rows` records without headers.
    pub(super) fn end_rows(&mut self, rows: usize) {
        let end = self.value_valid.len() as i32;
        self.ends.resize(self.ends.len() + rows, end);
    }

    pub(crate) fn finish(&mut self) -> Result<ListArray, ArrowError> {
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
    use arrow::array::{Array, BinaryViewArray, make_view};

    use super::*;

    #[test]
    fn views_are_those_of_arrow() {
        let bytes: Vec<u8> = (1..=40).collect();
        for length in 0..=bytes.len() {
            let value = &bytes[..length];
            assert_eq!(
                view(value, 7, 99),
                make_view(value, 7, 99),
                "{length} bytes"
            );
        }
        let views = vec![view(&bytes[..5], 0, 0), view(&bytes, 0, 0)];
        let array = BinaryViewArray::try_new(views.into(), vec![bytes.clone().into()], None);
        let array = array.expect("valid views");
        assert_eq!((array.len(), array.value(1)), (2, &bytes[..]));
    }
}
