//! CSV and TSV, written so that NULL and empty text stay distinct.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::{BytesAs, column_as_json, to_text, visible};

/// The two dialects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// RFC 4180 with `\n`; NULL is an empty field, empty text is `""`.
    Csv,
    /// PostgreSQL's COPY text format: backslash escapes, NULL is `\N`.
    Tsv,
}

/// How rows become delimited text, after a line of column names.
#[derive(Debug, Clone, Copy)]
pub struct Delimited {
    bytes: BytesAs,
    dialect: Dialect,
    on_screen: bool,
}

impl Delimited {
    /// RFC 4180 with `\n`; NULL is an empty field, empty text is `""`.
    pub fn csv(bytes: BytesAs) -> Self {
        Self::new(bytes, Dialect::Csv)
    }

    /// PostgreSQL's COPY text format: backslash escapes, NULL is `\N`.
    pub fn tsv(bytes: BytesAs) -> Self {
        Self::new(bytes, Dialect::Tsv)
    }

    fn new(bytes: BytesAs, dialect: Dialect) -> Self {
        let on_screen = false;
        Self {
            bytes,
            dialect,
            on_screen,
        }
    }

    /// The same format for a terminal: each row is one line, and contains nothing that a terminal would obey.
    pub fn on_screen(self) -> Self {
        let on_screen = true;
        Self { on_screen, ..self }
    }

    fn push(&self, cell: &str, line: &mut String) {
        // TSV's escapes already keep a cell on one line.
        let cell = match self.on_screen && self.dialect == Dialect::Csv {
            true => visible(cell, &[]),
            false => cell.into(),
        };
        self.dialect.push(Some(&cell), line);
    }

    /// Appends the line of column names.
    pub fn header(&self, schema: &Schema, out: &mut String) {
        for (i, field) in schema.fields().iter().enumerate() {
            self.dialect.separate(i, out);
            self.push(field.name(), out);
        }
        out.push('\n');
    }

    /// Appends the rows of a batch.
    ///
    /// # Errors
    /// With [`BytesAs::Utf8`], when a value is not UTF-8.
    pub fn rows(&self, batch: &RecordBatch, out: &mut String) -> Result<(), ArrowError> {
        let batch = to_text(batch, self.bytes)?;
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
                self.dialect.separate(i, out);
                if nulls.as_ref().is_some_and(|n| n.is_null(row)) {
                    self.dialect.push(None, out);
                    continue;
                }
                cell.clear();
                formatter.value(row).write(&mut cell)?;
                self.push(&cell, out);
            }
            out.push('\n');
        }
        Ok(())
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

/// The columns of `batch`, with nested ones as JSON text.
///
/// # Errors
/// When a nested column has no JSON form.
pub fn flat_columns(batch: &RecordBatch) -> Result<Vec<ArrayRef>, ArrowError> {
    let schema = batch.schema();
    schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| {
            if is_nested(column.data_type()) {
                column_as_json(field, column)
            } else {
                Ok(Arc::clone(column))
            }
        })
        .collect()
}

/// Whether a value is nested. Unions have no JSON form and keep their own text.
fn is_nested(data_type: &DataType) -> bool {
    data_type.is_nested() && !matches!(data_type, DataType::Union(_, _))
}
