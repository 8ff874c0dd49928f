//! A drawn table: rows are kept until the widths are known, up to a number of rows.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringViewArray, StringViewBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_options;
use datafusion_kafka::text::{flat_columns, to_text, visible};

use super::fit::{cut, is_illegible, width, widths, wrapped};
use super::screen::{Expanded, Look};
use super::{BytesAs, Flow, RowWriter};
use crate::failure::Failure;
use crate::ui;

/// Keeps rows and draws them at the end.
pub(super) struct TableWriter {
    sink: Box<dyn Write + Send>,
    /// The columns, all of them text.
    schema: SchemaRef,
    bytes: BytesAs,
    look: Look,
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
        look: Look,
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
            look,
            batches: Vec::new(),
            left: max_rows,
            kept: 0,
            cut: false,
        }
    }

    fn drawn(&self) -> Result<String, Failure> {
        let natural = self.natural_widths();
        let room = self.look.width.map(|width| room(width, natural.len()));
        let is_wide = room.is_some_and(|room| natural.iter().sum::<usize>() > room);
        let whole: Vec<bool> = (0..natural.len()).map(|c| self.has_lines(c)).collect();
        let expands = match self.look.expanded {
            Expanded::On => true,
            Expanded::Auto => room.is_some_and(|room| is_illegible(&natural, room, &whole)),
            Expanded::Off => false,
        };
        if expands {
            return Ok(self.expanded());
        }
        let options = FormatOptions::new().with_null(&self.look.null);
        let (Some(room), true) = (room, is_wide) else {
            let table = pretty_format_batches_with_options(&self.batches, &options)?;
            return Ok(format!("{table}\n"));
        };
        let widths = widths(&natural, room);
        let names = self.schema.fields().iter().zip(&widths);
        let fields: Vec<Field> = names
            .map(|(field, width)| {
                Field::new(fitted(field.name(), *width, true), DataType::Utf8View, true)
            })
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let batches = self.batches.iter().map(|batch| {
            let columns = batch.columns().iter().zip(widths.iter().zip(&whole));
            let columns = columns.map(|(column, (width, whole))| {
                let wraps = self.look.wraps || *whole;
                let cells = column.as_string_view().iter();
                let cells = cells.map(|cell| cell.map(|cell| fitted(cell, *width, wraps)));
                Arc::new(cells.collect::<StringViewArray>()) as ArrayRef
            });
            RecordBatch::try_new(Arc::clone(&schema), columns.collect())
        });
        let batches = batches.collect::<Result<Vec<_>, _>>()?;
        let table = pretty_format_batches_with_options(&batches, &options)?;
        Ok(format!("{table}\n"))
    }

    fn cells(&self, column: usize) -> impl Iterator<Item = Option<&str>> {
        let batches = self.batches.iter();
        batches.flat_map(move |batch| batch.column(column).as_string_view().iter())
    }

    /// The columns of the terminal that each column takes where nothing is cut.
    fn natural_widths(&self) -> Vec<usize> {
        let columns = self.schema.fields().iter().enumerate();
        let widths = columns.map(|(index, field)| {
            let cells = self.cells(index);
            let cells = cells.map(|cell| widest_line(cell.unwrap_or(&self.look.null)));
            cells.max().unwrap_or(0).max(widest_line(field.name()))
        });
        widths.collect()
    }

    /// Whether cells of a column have several lines, as plans do. Nothing of these is cut.
    fn has_lines(&self, column: usize) -> bool {
        let mut cells = self.cells(column).flatten();
        cells.any(|cell| cell.contains('\n'))
    }

    /// Each row as a list of its columns.
    fn expanded(&self) -> String {
        let names = self.schema.fields().iter();
        let names: Vec<Cow<'_, str>> = names.map(|f| visible(f.name(), &[])).collect();
        let name_width = names.iter().map(|name| width(name)).max().unwrap_or(0);
        let screen = self.look.width.unwrap_or(usize::MAX);
        let room = screen.saturating_sub(name_width + 3).max(8);
        let rows = self
            .batches
            .iter()
            .map(RecordBatch::num_rows)
            .sum::<usize>();
        let longest = (0..names.len()).flat_map(|c| self.cells(c));
        let longest = longest.map(|cell| widest_line(cell.unwrap_or(&self.look.null)));
        let line = (name_width + 3 + longest.max().unwrap_or(0)).min(screen);
        let mut text = String::new();
        let mut number = 0;
        for batch in &self.batches {
            for row in 0..batch.num_rows() {
                number += 1;
                let title = format!("-[ RECORD {number} ]");
                let rule = line.saturating_sub(width(&title));
                let _ = writeln!(text, "{title}{}", "-".repeat(rule));
                for (name, column) in names.iter().zip(batch.columns()) {
                    let column = column.as_string_view();
                    let cell = match column.is_null(row) {
                        true => &self.look.null,
                        false => column.value(row),
                    };
                    let pieces = cell.split('\n').flat_map(|line| wrapped(line, room));
                    for (piece, line) in pieces.enumerate() {
                        let name = if piece == 0 { name } else { "" };
                        let pad = " ".repeat(name_width - width(name));
                        let _ = writeln!(text, "{}", format!("{name}{pad} | {line}").trim_end());
                    }
                }
            }
        }
        if rows == 0 {
            text.push_str("(no rows)\n");
        }
        text
    }
}

/// The columns of a terminal that are left beside the lines of a table.
fn room(screen: usize, columns: usize) -> usize {
    screen.saturating_sub(3 * columns + 1)
}

fn widest_line(text: &str) -> usize {
    text.split('\n').map(width).max().unwrap_or(0)
}

/// A cell that is no wider.
fn fitted(cell: &str, most: usize, wraps: bool) -> String {
    let mut text = String::with_capacity(cell.len());
    for (number, line) in cell.split('\n').enumerate() {
        if number > 0 {
            text.push('\n');
        }
        match wraps {
            true => text.push_str(&wrapped(line, most).join("\n")),
            false => text.push_str(&cut(line, most)),
        }
    }
    text
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
        let mut text = self.drawn()?;
        if self.cut {
            let _ = writeln!(
                text,
                "The first {}; there are more, which were not read. --maxrows N or --maxrows all shows them.",
                ui::rows(self.kept)
            );
        }
        if self.look.pages(&text) {
            return Ok(());
        }
        let written = self.sink.write_all(text.as_bytes());
        written
            .and_then(|()| self.sink.flush())
            .map_err(|e| Failure::io("writing the table failed", &e))
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
