//! JSON: one array of objects, or an object a line. NULL fields are written as `null`.

use std::fmt;
use std::io::Write;

use arrow::array::RecordBatch;
use arrow::json::WriterBuilder;
use arrow::json::writer::{JsonArray, JsonFormat, LineDelimited, Writer};
use datafusion_kafka::text::to_text;

use super::{BytesAs, Flow, RowWriter};
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
        self.inner.write(&to_text(batch, self.bytes)?)?;
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
