//! The keys and the values of a batch: which columns are made of them, and what became of them.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryViewArray, new_null_array};
use arrow::datatypes::DataType;

use super::failed;
use crate::decode::column::Column;
use crate::decode::payload::Decoded;
use crate::error::Result;
use crate::raw::RawBatch;

/// Keys or values as bytes.
pub(super) fn bytes(raw: &RawBatch, column: Column) -> ArrayRef {
    let bytes = match column {
        Column::Key => &raw.keys,
        _ => &raw.values,
    };
    match bytes {
        Some(array) => Arc::new(array.clone()),
        None => new_null_array(&DataType::BinaryView, raw.offsets.len()),
    }
}

/// Key or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Value,
}

impl Part {
    pub(super) const BOTH: [Self; 2] = [Self::Key, Self::Value];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Value => "value",
        }
    }

    pub(super) fn column(self) -> Column {
        match self {
            Self::Key => Column::Key,
            Self::Value => Column::Value,
        }
    }

    pub(super) fn field(self, index: usize) -> Column {
        match self {
            Self::Key => Column::KeyField(index),
            Self::Value => Column::ValueField(index),
        }
    }

    pub(super) fn schema_id(self) -> Column {
        match self {
            Self::Key => Column::KeySchemaId,
            Self::Value => Column::ValueSchemaId,
        }
    }

    /// Whether decoding this part contributes to a column.
    pub(super) fn shows(self, column: Column) -> bool {
        match column {
            Column::BadReason => true,
            Column::KeyField(_) => self == Self::Key,
            Column::ValueField(_) => self == Self::Value,
            // True even where the column is plain bytes. Its payload is then decoded for nothing, which is
            // rare.
            other => other == self.column() || other == self.schema_id(),
        }
    }

    pub(super) fn of(self, raw: &RawBatch) -> Option<&BinaryViewArray> {
        match self {
            Self::Key => raw.keys.as_ref(),
            Self::Value => raw.values.as_ref(),
        }
    }
}

/// The decoded keys or values of a batch.
#[derive(Debug, Default)]
pub(super) struct DecodedPart {
    pub(super) part: Option<Part>,
    /// The fields for which `decoded` has columns.
    pub(super) fields: Vec<usize>,
    pub(super) decoded: Decoded,
}

impl DecodedPart {
    pub(super) fn column(&self, field: usize) -> Result<ArrayRef> {
        let place = self.fields.iter().position(|f| *f == field);
        let column = place.and_then(|place| self.decoded.columns.get(place));
        column
            .cloned()
            .ok_or_else(|| failed(format_args!("field {field} was not decoded")))
    }

    pub(super) fn schema_ids(&self, rows: usize) -> ArrayRef {
        match &self.decoded.schema_ids {
            Some(ids) => Arc::new(ids.clone()),
            None => new_null_array(&DataType::Int32, rows),
        }
    }
}
