//! How results leave the shell: formats, and the one interface they share.
//!
//! A [`RowWriter`] takes batches as they arrive and holds no more than its format needs; only
//! [`Format::Table`] keeps rows, as many as `--maxrows` allows, because it must know their widths.

mod args;
mod delimited;
mod destination;
mod files;
mod fit;
mod json;
mod screen;
mod table;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use clap::ValueEnum;
use datafusion::common::DFSchema;
use datafusion_kafka::text::Delimited;

pub(crate) use args::{MaxRows, OutputArgs, parse_max_rows};
pub(crate) use datafusion_kafka::text::BytesAs;
pub(crate) use destination::Destination;
pub(crate) use screen::{Drawing, Expanded, MostWidth, show};

use crate::failure::Failure;
use screen::Look;

/// A format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A drawn table, for people
    Table,
    /// Comma-separated, quoted as RFC 4180 has it; NULL is an empty field, empty text is ""
    Csv,
    /// Tab-separated; tab, newline and backslash are escaped as \t \n \\, NULL is \N
    Tsv,
    /// One JSON array of objects
    Json,
    /// One JSON object a line
    #[value(alias = "jsonl")]
    Ndjson,
    /// An Apache Parquet file
    Parquet,
    /// An Arrow IPC file; the stream format on standard output
    Arrow,
}

impl Format {
    /// The format that a file's extension names.
    pub(crate) fn of_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "json" => Some(Self::Json),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "parquet" => Some(Self::Parquet),
            "arrow" | "ipc" | "feather" => Some(Self::Arrow),
            _ => None,
        }
    }

    /// Whether a terminal can show it.
    pub(crate) fn is_text(self) -> bool {
        !matches!(self, Self::Parquet | Self::Arrow)
    }

    /// Whether rows appear while the query runs.
    pub(crate) fn streams(self) -> bool {
        self != Self::Table
    }
}

/// What the user asked for, resolved: where results go and how they look.
#[derive(Debug, Clone)]
pub(crate) struct OutputOptions {
    /// The format.
    pub(crate) format: Format,
    /// How binary values are shown in text formats.
    pub(crate) bytes: BytesAs,
    /// The most rows of a table; `None` for all.
    pub(crate) max_rows: Option<usize>,
    /// The file to write; `None` for standard output.
    pub(crate) path: Option<PathBuf>,
    /// Whether an existing file may be replaced.
    pub(crate) overwrite: bool,
    /// Whether standard output is meant, and is a terminal.
    pub(crate) on_screen: bool,
    /// How tables look.
    pub(crate) table: Drawing,
}

/// Whether a writer can use more rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Send more.
    More,
    /// More rows would not be shown; the query can stop.
    Enough,
}

/// Writes the batches of one result.
pub(crate) trait RowWriter: Send {
    /// Takes a batch. All batches have the schema that the writer was opened with.
    fn write(&mut self, batch: &RecordBatch) -> Result<Flow, Failure>;

    /// Writes what is left and flushes. Without this call the output is not complete.
    fn finish(self: Box<Self>) -> Result<(), Failure>;
}

/// Opens a writer for a result with `schema` on `sink`.
///
/// `seekless` says that the sink is a pipe or terminal rather than a file.
pub(crate) fn open(
    options: &OutputOptions,
    schema: &SchemaRef,
    sink: Box<dyn Write + Send>,
    seekless: bool,
) -> Result<Box<dyn RowWriter>, Failure> {
    let bytes = options.bytes;
    Ok(match options.format {
        Format::Table => Box::new(table::TableWriter::new(
            sink,
            schema,
            bytes,
            options.max_rows,
            Look::new(&options.table, options.on_screen),
        )),
        Format::Csv | Format::Tsv => {
            let format = match options.format {
                Format::Csv => Delimited::csv(bytes),
                _ => Delimited::tsv(bytes),
            };
            let format = match options.on_screen {
                true => format.on_screen(),
                false => format,
            };
            Box::new(delimited::DelimitedWriter::new(sink, schema, format)?)
        }
        Format::Json => Box::new(json::JsonWriter::array(sink, bytes)),
        Format::Ndjson => Box::new(json::JsonWriter::lines(sink, bytes)),
        Format::Parquet => Box::new(files::ParquetWriter::new(sink, schema)?),
        Format::Arrow if seekless => Box::new(files::ArrowStreamWriter::new(sink, schema)?),
        Format::Arrow => Box::new(files::ArrowFileWriter::new(sink, schema)?),
    })
}

/// The schema of a result as it is written: column names are made unique.
///
/// `SELECT a.key, b.key` has two columns named `key`; in a JSON object the second would hide the
/// first. Such columns are named by their table (`a.key`), and numbered where that is not enough.
pub(crate) fn with_unique_names(plan: &DFSchema, schema: &Schema) -> SchemaRef {
    let repeated = |name: &str| schema.fields().iter().filter(|f| f.name() == name).count() > 1;
    let mut taken: Vec<String> = Vec::with_capacity(schema.fields().len());
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(i, field)| {
            let mut name = field.name().clone();
            if repeated(&name)
                && i < plan.fields().len()
                && let Some(table) = plan.qualified_field(i).0
            {
                name = format!("{}.{name}", table.table());
            }
            let stem = name.clone();
            let mut number = 1;
            while taken.contains(&name) {
                number += 1;
                name = format!("{stem}_{number}");
            }
            taken.push(name.clone());
            field.as_ref().clone().with_name(name)
        })
        .collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

#[cfg(test)]
mod tests;
