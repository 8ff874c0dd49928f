//! JSON: one array of objects, or an object a line. NULL fields are written as `null`.

use std::fmt;
use std::io::Write;

use arrow::array::{Array, ArrayRef, RecordBatch, StringViewBuilder};
use arrow::datatypes::FieldRef;
use arrow::json::WriterBuilder;
use arrow::json::writer::{
    EncoderOptions, JsonArray, JsonFormat, LineDelimited, Writer, make_encoder,
};

use super::bytes::{self, BytesAs};
use super::{Flow, RowWriter};
use crate::failure::Failure;

type Sink = Box<dyn Write + Send>;

/// Writes one of arrow's JSON formats.
pub(super) struct JsonWriter<F: JsonFormat> {
    inner: Writer<Sink, F>,
    bytes: BytesAs,
    /// What ends the output after arrow's own last byte.
    tail: &'static [u8],
}

impl JsonWriter<JsonArray> {
    pub(super) fn array(sink: Sink, bytes: BytesAs) -> Self {
        Self {
            inner: WriterBuilder::new().with_explicit_nulls(true).build(sink),
            bytes,
            tail: b"\n",
        }
    }
}

impl JsonWriter<LineDelimited> {
    pub(super) fn lines(sink: Sink, bytes: BytesAs) -> Self {
        Self {
            inner: WriterBuilder::new().with_explicit_nulls(true).build(sink),
            bytes,
            tail: b"",
        }
    }
}

impl<F: JsonFormat + Send + fmt::Debug> RowWriter for JsonWriter<F> {
    fn write(&mut self, batch: &RecordBatch) -> Result<Flow, Failure> {
        self.inner.write(&bytes::to_text(batch, self.bytes)?)?;
        self.inner
            .get_mut()
            .flush()
            .map_err(|e| Failure::io("writing JSON failed", &e))?;
        Ok(Flow::More)
    }

    fn finish(mut self: Box<Self>) -> Result<(), Failure> {
        self.inner.finish()?;
        let mut sink = self.inner.into_inner();
        sink.write_all(self.tail)
            .and_then(|()| sink.flush())
            .map_err(|e| Failure::io("writing JSON failed", &e))
    }
}

/// A nested column as JSON text, for formats that have no nesting.
pub(super) fn column_as_json(field: &FieldRef, column: &ArrayRef) -> Result<ArrayRef, Failure> {
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
    Ok(std::sync::Arc::new(out.finish()))
}
