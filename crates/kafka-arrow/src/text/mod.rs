//! Rows as text, as the shell prints them and exports write them.
//!
//! [`BytesAs`] says how binary values become text. NULL and empty text stay distinct in every format.
//! [`visible`] is for text that people see, not for data.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringViewBuilder};
use arrow::datatypes::FieldRef;
use arrow::error::ArrowError;
use arrow::json::WriterBuilder;
use arrow::json::writer::{EncoderOptions, LineDelimited, make_encoder};

mod bytes;
mod delimited;
mod visible;

pub use bytes::{BytesAs, to_text};
pub use delimited::{Delimited, flat_columns};
pub use visible::visible;

/// Appends the rows of a batch as JSON objects, one per line. NULL fields are written as `null`.
///
/// # Errors
/// With [`BytesAs::Utf8`], when a value is not UTF-8.
pub fn json_lines(
    batch: &RecordBatch,
    bytes: BytesAs,
    out: &mut Vec<u8>,
) -> Result<(), ArrowError> {
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, LineDelimited>(out);
    writer.write(&to_text(batch, bytes)?)?;
    writer.finish()
}

/// A nested column as JSON text, for formats without nesting.
pub(super) fn column_as_json(field: &FieldRef, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(field, column.as_ref(), &options)?;
    let mut out = StringViewBuilder::new();
    let mut scratch = Vec::new();
    for row in 0..column.len() {
        if encoder.is_null(row) {
            out.append_null();
            continue;
        }
        scratch.clear();
        encoder.encode(row, &mut scratch);
        out.try_append_value(String::from_utf8_lossy(&scratch))?;
    }
    Ok(Arc::new(out.finish()))
}
