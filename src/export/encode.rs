//! Encodes rows as the bytes of a file, in one of the formats.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, Encoding, ZstdLevel};
use datafusion::parquet::file::metadata::KeyValue;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::parquet::schema::types::ColumnPath;

use super::ExportFormat;
use crate::range::OffsetRange;
use crate::sink::parquet::{Blocks, plain_payloads};
use crate::text::{BytesAs, Delimited, json_lines};

/// Encodes batches as the bytes of one file.
pub(super) enum Encoder {
    Parquet(Box<ArrowWriter<Blocks>>),
    Csv(Delimited, String),
    Ndjson(BytesAs, Vec<u8>),
}

impl Encoder {
    /// Begins a file for `piece`; `rows` are its first rows.
    pub(super) fn new(
        format: ExportFormat,
        bytes: BytesAs,
        schema: &SchemaRef,
        rows: &RecordBatch,
        piece: &OffsetRange,
    ) -> Result<Self, String> {
        Ok(match format {
            ExportFormat::Parquet => {
                let writer = ArrowWriter::try_new(
                    Blocks::default(),
                    SchemaRef::clone(schema),
                    Some(properties(schema, rows, piece)),
                );
                Self::Parquet(Box::new(writer.map_err(|e| e.to_string())?))
            }
            ExportFormat::Csv => {
                let (csv, mut text) = (Delimited::csv(bytes), String::new());
                csv.header(schema, &mut text);
                Self::Csv(csv, text)
            }
            ExportFormat::Ndjson => Self::Ndjson(bytes, Vec::new()),
        })
    }

    /// Adds rows.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), String> {
        match self {
            Self::Parquet(writer) => writer.write(batch).map_err(|e| e.to_string()),
            Self::Csv(csv, text) => csv.rows(batch, text).map_err(|e| text_error(&e)),
            Self::Ndjson(bytes, text) => {
                json_lines(batch, *bytes, text).map_err(|e| text_error(&e))
            }
        }
    }

    /// The memory that the open row group takes.
    pub(super) fn open_bytes(&self) -> usize {
        match self {
            Self::Parquet(writer) => writer.memory_size(),
            Self::Csv(..) | Self::Ndjson(..) => 0,
        }
    }

    /// Ends the open row group.
    pub(super) fn end_group(&mut self) -> Result<(), String> {
        match self {
            Self::Parquet(writer) => writer.flush().map_err(|e| e.to_string()),
            Self::Csv(..) | Self::Ndjson(..) => Ok(()),
        }
    }

    /// How many bytes of text one byte of a value may become.
    pub(super) fn growth(&self) -> usize {
        match self {
            Self::Parquet(_) => 1,
            // Each quote is doubled.
            Self::Csv(..) => 2,
            // A control character takes six.
            Self::Ndjson(..) => 6,
        }
    }

    /// Takes the bytes that are finished.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        match self {
            // The writer never reads what it has written, and tracks its position itself.
            Self::Parquet(writer) => writer.inner_mut().take(),
            Self::Csv(_, text) => one(std::mem::take(text).into_bytes()),
            Self::Ndjson(_, text) => one(std::mem::take(text)),
        }
    }

    /// Finishes the file and returns its last bytes.
    pub(super) fn finish(self) -> Result<Vec<Bytes>, String> {
        match self {
            Self::Parquet(writer) => {
                let rest = writer.into_inner();
                rest.map(|mut rest| rest.take()).map_err(|e| e.to_string())
            }
            Self::Csv(_, text) => Ok(one(text.into_bytes())),
            Self::Ndjson(_, text) => Ok(one(text)),
        }
    }
}

fn one(bytes: Vec<u8>) -> Vec<Bytes> {
    vec![bytes.into()]
}

/// Arrow's own prefix would mean nothing to the user of a text format.
fn text_error(error: &arrow::error::ArrowError) -> String {
    match error {
        arrow::error::ArrowError::InvalidArgumentError(message) => message.clone(),
        other => other.to_string(),
    }
}

/// Settings by the content of a column. Payloads rarely repeat, so a dictionary would cost time only to be
/// given up. Offsets and timestamps rise, so their differences take almost no space.
fn properties(schema: &SchemaRef, rows: &RecordBatch, piece: &OffsetRange) -> WriterProperties {
    let entry = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    let metadata = vec![
        entry("kafka.topic", piece.topic().to_string()),
        entry("kafka.partition", piece.partition().to_string()),
        entry("kafka.start", piece.start().to_string()),
        entry("kafka.end", piece.end().to_string()),
    ];
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by(concat!("kafka-sql ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(metadata));
    for field in schema.fields() {
        let column = ColumnPath::from(field.name().as_str());
        properties = match field.data_type() {
            DataType::Int64 | DataType::Timestamp(_, _) => properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column.clone(), Encoding::DELTA_BINARY_PACKED)
                .set_column_statistics_enabled(column, EnabledStatistics::Page),
            // With `value.format` = `text`, payloads are text.
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
                if matches!(field.name().as_str(), "key" | "value") =>
            {
                properties
                    .set_column_dictionary_enabled(column.clone(), false)
                    .set_column_statistics_enabled(column, EnabledStatistics::None)
            }
            _ => properties,
        };
    }
    plain_payloads(properties, rows).build()
}
