//! Reads the files of an export back, as rows that can be compared.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::row::{RowConverter, SortField};
use bytes::Bytes;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::{
    AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder,
};
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::ExportFormat;
use super::place::Place;
use super::plan::ExportedFile;
use crate::text::{BytesAs, Delimited, json_lines};

/// Rows of about this many bytes are decoded at a time.
const BATCH_BYTES: i64 = 16 << 20;
/// The most rows to decode at a time.
const BATCH_ROWS: i64 = 8192;

/// A result whose error describes what is wrong with a file.
pub(super) type Read<T> = std::result::Result<T, String>;

/// A row in a file, in a form that is the same for equal rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The record's offset, if rows have it.
    pub(super) offset: Option<i64>,
    pub(super) bytes: Vec<u8>,
}

/// The form of the rows of an export.
#[derive(Debug, Clone)]
pub(super) struct RowForm {
    pub(super) format: ExportFormat,
    pub(super) bytes: BytesAs,
    /// The name of the offset column and its index among the columns.
    pub(super) offset: Option<(String, usize)>,
}

/// Brings rows of a query into the form of rows in a file.
pub(super) struct Former {
    form: RowForm,
    schema: SchemaRef,
    converter: RowConverter,
}

impl Former {
    pub(super) fn new(form: &RowForm, schema: &SchemaRef) -> Read<Self> {
        let fields = schema.fields().iter();
        let fields = fields.map(|field| SortField::new(field.data_type().clone()));
        Ok(Self {
            form: form.clone(),
            schema: Arc::clone(schema),
            converter: RowConverter::new(fields.collect()).map_err(|e| e.to_string())?,
        })
    }

    /// The rows of a batch that has the columns of the files, in order.
    pub(super) fn rows(&mut self, batch: &RecordBatch) -> Read<VecDeque<Row>> {
        let failed = |e: arrow::error::ArrowError| e.to_string();
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .map(|(column, field)| cast(column, field.data_type()))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let offsets = self.form.offset.as_ref().map(|(_, index)| *index);
        let offsets = offsets
            .and_then(|index| columns.get(index))
            .and_then(|column| column.as_primitive_opt::<Int64Type>());
        let offset = |row: usize| offsets.filter(|o| o.is_valid(row)).map(|o| o.value(row));
        let mut text = Vec::new();
        match self.form.format {
            ExportFormat::Parquet => {
                let rows = self.converter.convert_columns(&columns).map_err(failed)?;
                return Ok(rows
                    .iter()
                    .enumerate()
                    .map(|(index, row)| Row {
                        offset: offset(index),
                        bytes: row.as_ref().to_vec(),
                    })
                    .collect());
            }
            ExportFormat::Csv => {
                let mut lines = String::new();
                let csv = Delimited::csv(self.form.bytes);
                csv.rows(batch, &mut lines).map_err(failed)?;
                text = lines.into_bytes();
            }
            ExportFormat::Ndjson => {
                json_lines(batch, self.form.bytes, &mut text).map_err(failed)?;
            }
        }
        let mut splitter = Splitter::new(self.form.format);
        let mut rows = VecDeque::new();
        splitter.feed(&text, &mut rows);
        let rows = rows.into_iter().enumerate();
        Ok(rows
            .map(|(index, bytes)| Row {
                offset: offset(index),
                bytes,
            })
            .collect())
    }
}

/// The rows of a file, a batch at a time.
pub(super) struct FileRows {
    source: Source,
    form: RowForm,
}

enum Source {
    Parquet {
        batches: Box<ParquetRecordBatchStream<ObjectReader>>,
        former: Option<Former>,
    },
    Text {
        chunks: BoxStream<'static, object_store::Result<Bytes>>,
        splitter: Splitter,
        /// The line of column names that must come first.
        header: Option<Vec<u8>>,
    },
}

impl FileRows {
    /// Opens a file and checks what its footer says. With `schema` whole rows are read, otherwise only their
    /// offsets.
    pub(super) async fn open(
        place: &Place,
        file: &ExportedFile,
        form: &RowForm,
        schema: Option<&SchemaRef>,
        header: Option<Vec<u8>>,
    ) -> Read<Self> {
        let (store, path) = place.object(&file.path).map_err(|e| e.to_string())?;
        let source = match form.format {
            ExportFormat::Parquet => {
                let reader = ObjectReader {
                    store,
                    path,
                    bytes: file.bytes,
                };
                let builder = ParquetRecordBatchStreamBuilder::new(reader).await;
                let builder = builder.map_err(|e| e.to_string())?;
                let metadata = builder.metadata();
                let rows = metadata.file_metadata().num_rows();
                if u64::try_from(rows) != Ok(file.rows) {
                    return Err(format!(
                        "the footer counts {rows} rows, the manifest {}",
                        file.rows
                    ));
                }
                let groups = metadata.row_groups().iter();
                let bytes: i64 = groups.map(|group| group.total_byte_size()).sum();
                let at_once = BATCH_BYTES / (bytes / rows.max(1)).max(1);
                let at_once = at_once.clamp(1, BATCH_ROWS);
                let builder = builder.with_batch_size(usize::try_from(at_once).unwrap_or(1));
                let builder = match (schema, &form.offset) {
                    (Some(_), _) => builder,
                    (None, Some((_, index))) => {
                        let mask = ProjectionMask::roots(builder.parquet_schema(), [*index]);
                        builder.with_projection(mask)
                    }
                    (None, None) => {
                        let none = ProjectionMask::roots(builder.parquet_schema(), []);
                        builder.with_projection(none)
                    }
                };
                Source::Parquet {
                    batches: Box::new(builder.build().map_err(|e| e.to_string())?),
                    former: schema.map(|s| Former::new(form, s)).transpose()?,
                }
            }
            ExportFormat::Csv | ExportFormat::Ndjson => {
                let found = store.get(&path).await.map_err(|e| e.to_string())?;
                Source::Text {
                    chunks: found.into_stream(),
                    splitter: Splitter::new(form.format),
                    header,
                }
            }
        };
        Ok(Self {
            source,
            form: form.clone(),
        })
    }

    /// The next rows; `None` at the end of the file.
    pub(super) async fn next(&mut self) -> Read<Option<VecDeque<Row>>> {
        match &mut self.source {
            Source::Parquet { batches, former } => {
                let Some(batch) = batches.next().await else {
                    return Ok(None);
                };
                let batch = batch.map_err(|e| e.to_string())?;
                if let Some(former) = former {
                    return former.rows(&batch).map(Some);
                }
                let offsets = batch.columns().first();
                let offsets = offsets.and_then(|c| c.as_primitive_opt::<Int64Type>());
                let rows = (0..batch.num_rows()).map(|row| Row {
                    offset: offsets.filter(|o| o.is_valid(row)).map(|o| o.value(row)),
                    bytes: vec![],
                });
                Ok(Some(rows.collect()))
            }
            Source::Text {
                chunks,
                splitter,
                header,
            } => {
                let mut lines = VecDeque::new();
                while lines.is_empty() {
                    let Some(chunk) = chunks.next().await else {
                        if splitter.is_within_a_row() {
                            return Err("the last line is not complete".to_owned());
                        }
                        return match header {
                            Some(_) => Err("the line of column names is missing".to_owned()),
                            None => Ok(None),
                        };
                    };
                    splitter.feed(&chunk.map_err(|e| e.to_string())?, &mut lines);
                    if let Some(expected) = header.as_ref()
                        && let Some(found) = lines.pop_front()
                    {
                        if found != *expected {
                            return Err("the columns are not those of the plan".to_owned());
                        }
                        *header = None;
                    }
                }
                let form = &self.form;
                Ok(Some(
                    lines
                        .into_iter()
                        .map(|bytes| Row {
                            offset: offset_of_line(form, &bytes),
                            bytes,
                        })
                        .collect(),
                ))
            }
        }
    }
}

fn offset_of_line(form: &RowForm, line: &[u8]) -> Option<i64> {
    let (name, index) = form.offset.as_ref()?;
    match form.format {
        ExportFormat::Ndjson => {
            let object: serde_json::Value = serde_json::from_slice(line).ok()?;
            object.get(name)?.as_i64()
        }
        ExportFormat::Csv => {
            let mut quoted = false;
            let mut field = 0;
            let mut start = 0;
            let end = line.len();
            for (at, byte) in line.iter().enumerate() {
                match byte {
                    b'"' => quoted = !quoted,
                    b',' if !quoted => {
                        if field == *index {
                            return std::str::from_utf8(&line[start..at]).ok()?.parse().ok();
                        }
                        field += 1;
                        start = at + 1;
                    }
                    _ => {}
                }
            }
            if field != *index {
                return None;
            }
            let last = std::str::from_utf8(&line[start..end]).ok()?;
            last.trim_end().parse().ok()
        }
        ExportFormat::Parquet => None,
    }
}

/// A Parquet file in a store.
struct ObjectReader {
    store: Arc<dyn ObjectStore>,
    path: Path,
    bytes: u64,
}

impl AsyncFileReader for ObjectReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move {
            let read = self.store.get_range(&self.path, range).await;
            read.map_err(|e| ParquetError::External(Box::new(e)))
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let bytes = self.bytes;
            let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
            Ok(Arc::new(reader.load_and_finish(self, bytes).await?))
        }
        .boxed()
    }
}

/// Splits text into rows. A line break between quotes is part of a CSV value.
struct Splitter {
    quotes: bool,
    quoted: bool,
    row: Vec<u8>,
}

impl Splitter {
    fn new(format: ExportFormat) -> Self {
        Self {
            quotes: format == ExportFormat::Csv,
            quoted: false,
            row: vec![],
        }
    }

    fn feed(&mut self, text: &[u8], rows: &mut VecDeque<Vec<u8>>) {
        let mut start = 0;
        for (at, byte) in text.iter().enumerate() {
            match byte {
                b'"' if self.quotes => self.quoted = !self.quoted,
                b'\n' if !self.quoted => {
                    self.row.extend_from_slice(&text[start..at]);
                    rows.push_back(std::mem::take(&mut self.row));
                    start = at + 1;
                }
                _ => {}
            }
        }
        self.row.extend_from_slice(&text[start..]);
    }

    fn is_within_a_row(&self) -> bool {
        !self.row.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_between_quotes_is_no_end_of_a_row() {
        let mut rows = VecDeque::new();
        let mut splitter = Splitter::new(ExportFormat::Csv);
        for chunk in ["a,\"b\n", "\"\"c\"\n\"", "x\",", "2\n"] {
            splitter.feed(chunk.as_bytes(), &mut rows);
        }
        assert!(!splitter.is_within_a_row());
        assert_eq!(rows, [b"a,\"b\n\"\"c\"".to_vec(), b"\"x\",2".to_vec()]);
    }

    #[test]
    fn offsets_are_found_in_lines() {
        let form = |format, index| RowForm {
            format,
            bytes: BytesAs::Auto,
            offset: Some(("offset".to_owned(), index)),
        };
        let csv =
            |index, line: &str| offset_of_line(&form(ExportFormat::Csv, index), line.as_bytes());
        assert_eq!(csv(1, "\"a,\"\"1\",7,x"), Some(7));
        assert_eq!(csv(2, "a,b,9"), Some(9));
        assert_eq!(csv(3, "a,b,9"), None);
        let json = offset_of_line(&form(ExportFormat::Ndjson, 0), b"{\"x\":1,\"offset\":12}");
        assert_eq!(json, Some(12));
    }
}
