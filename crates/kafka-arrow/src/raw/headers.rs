//! Builds a column of header lists.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, ListArray, StringArray, StructArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::headers_type;

/// `None` if all values are valid.
pub(crate) fn nulls<T>(values: &[T], valid: impl Fn(&T) -> bool) -> Option<NullBuffer> {
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
    pub(crate) fn bytes(&self) -> usize {
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
    pub(crate) fn end_rows(&mut self, rows: usize) {
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
