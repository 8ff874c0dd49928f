//! CSV and TSV, batch by batch.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use datafusion_kafka::text::Delimited;

use super::{Flow, RowWriter};
use crate::failure::Failure;

type Sink = Box<dyn Write + Send>;

/// Writes rows as delimited text after a line of column names.
pub(super) struct DelimitedWriter {
    sink: Sink,
    format: Delimited,
    lines: String,
}

impl DelimitedWriter {
    pub(super) fn new(sink: Sink, schema: &Schema, format: Delimited) -> Result<Self, Failure> {
        let mut this = Self {
            sink,
            format,
            lines: String::new(),
        };
        this.format.header(schema, &mut this.lines);
        this.flush_lines()?;
        Ok(this)
    }

    fn flush_lines(&mut self) -> Result<(), Failure> {
        let result = self
            .sink
            .write_all(self.lines.as_bytes())
            .and_then(|()| self.sink.flush());
        self.lines.clear();
        result.map_err(|e| Failure::io("writing the result failed", &e))
    }
}

impl RowWriter for DelimitedWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<Flow, Failure> {
        self.format.rows(batch, &mut self.lines)?;
        self.flush_lines()?;
        Ok(Flow::More)
    }

    fn finish(mut self: Box<Self>) -> Result<(), Failure> {
        self.flush_lines()
    }
}
