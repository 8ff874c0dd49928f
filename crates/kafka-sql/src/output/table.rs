//! A drawn table: rows are kept until the widths are known, up to a number of rows.

use std::borrow::Cow;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringViewBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_options;
use datafusion_kafka::text::{flat_columns, to_text, visible};

use super::{BytesAs, Flow, RowWriter};
use crate::failure::Failure;
use crate::ui;

/// Keeps rows and draws them at the end.
pub(super) struct TableWriter {
    sink: Box<dyn Write + Send>,
    /// The columns, all of them text.
    schema: SchemaRef,
    bytes: BytesAs,
    batches: Vec<RecordBatch>,
    /// Rows that may still be kept; `None` for any number.
    left: Option<usize>,
    kept: u64,
    /// Whether there were rows beyond `left`.
    cut: bool,
}

impl TableWriter {
    pub(super) fn new(
        sink: Box<dyn Write + Send>,
        schema: &Schema,
        bytes: BytesAs,
        max_rows: Option<usize>,
    ) -> Self {
        let fields: Vec<Field> = schema
            .fields()
            .iter()
            .map(|f| Field::new(printable(f.name()), DataType::Utf8View, true))
            .collect();
        Self {
            sink,
            schema: Arc::new(Schema::new(fields)),
            bytes,
            batches: Vec::new(),
            left: max_rows,
            kept: 0,
            cut: false,
        }
    }
}

impl RowWriter for TableWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<Flow, Failure> {
        let rows = self
            .left
            .map_or(batch.num_rows(), |left| left.min(batch.num_rows()));
        self.cut |= rows < batch.num_rows();
        self.left = self.left.map(|left| left - rows);
        self.kept += rows as u64;
        if rows > 0 {
            let batch = to_text(&batch.slice(0, rows), self.bytes)?;
            let columns = flat_columns(&batch)?
                .iter()
                .map(cells)
                .collect::<Result<Vec<_>, Failure>>()?;
            self.batches
                .push(RecordBatch::try_new(Arc::clone(&self.schema), columns)?);
        }
        Ok(if self.cut { Flow::Enough } else { Flow::More })
    }

    fn finish(mut self: Box<Self>) -> Result<(), Failure> {
        if self.batches.is_empty() {
            // Without any row, the columns are still shown.
            self.batches
                .push(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let options = FormatOptions::new().with_null("NULL");
        let table = pretty_format_batches_with_options(&self.batches, &options)?;
        let mut write = || {
            writeln!(self.sink, "{table}")?;
            if self.cut {
                writeln!(
                    self.sink,
                    "The first {}; there are more, which were not read. --maxrows N or --maxrows all shows them.",
                    ui::rows(self.kept)
                )?;
            }
            self.sink.flush()
        };
        write().map_err(|e| Failure::io("writing the table failed", &e))
    }
}

/// A column as text that a terminal shows and does not obey.
fn cells(column: &ArrayRef) -> Result<ArrayRef, Failure> {
    let options = FormatOptions::new().with_display_error(false);
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
    let nulls = column.logical_nulls();
    let mut out = StringViewBuilder::new();
    let mut cell = String::new();
    for row in 0..column.len() {
        if nulls.as_ref().is_some_and(|n| n.is_null(row)) {
            out.append_null();
            continue;
        }
        cell.clear();
        formatter.value(row).write(&mut cell)?;
        out.try_append_value(printable(&cell))?;
    }
    Ok(Arc::new(out.finish()))
}

/// `text` as [`visible`] shows it, except the newline, which makes a cell of several lines (plans have
/// them).
fn printable(text: &str) -> Cow<'_, str> {
    visible(text, &['\n'])
}
