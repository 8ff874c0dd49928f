//! CSV and TSV, written so that NULL and empty text stay apart.

use std::io::Write;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::bytes::{self, BytesAs};
use super::{Flow, RowWriter, json};
use crate::failure::Failure;

type Sink = Box<dyn Write + Send>;

/// The two dialects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// RFC 4180 with `\n`; NULL is an empty field, empty text is `""`.
    Csv,
    /// PostgreSQL's COPY text format: backslash escapes, NULL is `\N`.
    Tsv,
}

/// Writes rows as delimited text after a line of column names.
pub(super) struct DelimitedWriter {
    sink: Sink,
    bytes: BytesAs,
    dialect: Dialect,
    line: String,
}

impl DelimitedWriter {
    pub(super) fn csv(sink: Sink, schema: &Schema, bytes: BytesAs) -> Result<Self, Failure> {
        Self::new(sink, schema, bytes, Dialect::Csv)
    }

    pub(super) fn tsv(sink: Sink, schema: &Schema, bytes: BytesAs) -> Result<Self, Failure> {
        Self::new(sink, schema, bytes, Dialect::Tsv)
    }

    fn new(sink: Sink, schema: &Schema, bytes: BytesAs, dialect: Dialect) -> Result<Self, Failure> {
        let mut this = Self {
            sink,
            bytes,
            dialect,
            line: String::new(),
        };
        for (i, field) in schema.fields().iter().enumerate() {
            dialect.separate(i, &mut this.line);
            dialect.push(Some(field.name()), &mut this.line);
        }
        this.line.push('\n');
        this.flush_lines()?;
        Ok(this)
    }

    fn flush_lines(&mut self) -> Result<(), Failure> {
        let result = self
            .sink
            .write_all(self.line.as_bytes())
            .and_then(|()| self.sink.flush());
        self.line.clear();
        result.map_err(|e| Failure::io("writing the result failed", &e))
    }
}

impl RowWriter for DelimitedWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<Flow, Failure> {
        let batch = bytes::to_text(batch, self.bytes)?;
        let columns = flat_columns(&batch)?;
        let options = FormatOptions::new().with_display_error(false);
        let mut cells = Vec::with_capacity(columns.len());
        for column in &columns {
            cells.push((
                column.logical_nulls(),
                ArrayFormatter::try_new(column.as_ref(), &options)?,
            ));
        }
        let mut cell = String::new();
        for row in 0..batch.num_rows() {
            for (i, (nulls, formatter)) in cells.iter().enumerate() {
                self.dialect.separate(i, &mut self.line);
                if nulls.as_ref().is_some_and(|n| n.is_null(row)) {
                    self.dialect.push(None, &mut self.line);
                    continue;
                }
                cell.clear();
                formatter.value(row).write(&mut cell)?;
                self.dialect.push(Some(&cell), &mut self.line);
            }
            self.line.push('\n');
        }
        self.flush_lines()?;
        Ok(Flow::More)
    }

    fn finish(mut self: Box<Self>) -> Result<(), Failure> {
        self.flush_lines()
    }
}

impl Dialect {
    fn separate(self, column: usize, line: &mut String) {
        if column > 0 {
            line.push(match self {
                Self::Csv => ',',
                Self::Tsv => '\t',
            });
        }
    }

    fn push(self, cell: Option<&str>, line: &mut String) {
        match (self, cell) {
            (Self::Csv, None) => {}
            (Self::Csv, Some(text)) => {
                if text.is_empty() || text.contains(['"', ',', '\n', '\r']) {
                    line.push('"');
                    line.push_str(&text.replace('"', "\"\""));
                    line.push('"');
                } else {
                    line.push_str(text);
                }
            }
            (Self::Tsv, None) => line.push_str("\\N"),
            (Self::Tsv, Some(text)) => {
                for c in text.chars() {
                    match c {
                        '\\' => line.push_str("\\\\"),
                        '\t' => line.push_str("\\t"),
                        '\n' => line.push_str("\\n"),
                        '\r' => line.push_str("\\r"),
                        other => line.push(other),
                    }
                }
            }
        }
    }
}

/// The columns of `batch`, nested ones as JSON text.
pub(super) fn flat_columns(batch: &RecordBatch) -> Result<Vec<ArrayRef>, Failure> {
    let schema = batch.schema();
    schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| {
            if is_nested(column.data_type()) {
                json::column_as_json(field, column)
            } else {
                Ok(std::sync::Arc::clone(column))
            }
        })
        .collect()
}

/// Whether a value has parts; unions have no JSON form and keep their own text.
fn is_nested(data_type: &DataType) -> bool {
    data_type.is_nested() && !matches!(data_type, DataType::Union(_, _))
}
