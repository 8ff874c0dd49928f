//! Rows into staged files: cut by rows and bytes, sorted into folders, a bounded number open.

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::parquet::arrow::AsyncArrowWriter;
use datafusion::parquet::arrow::async_writer::AsyncFileWriter;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::KeyValue;
use datafusion::parquet::file::properties::WriterProperties;
use futures::future::BoxFuture;
use object_store::buffered::BufWriter;
use sha2::{Digest, Sha256};

use super::ParquetOptions;
use super::hive::{self, Partitioner, Values};
use super::manifest::DataFile;
use crate::error::{Error, Result};
use crate::store::Store;

/// Bytes at which a row group ends.
const ROW_GROUP_BYTES: usize = 64 << 20;
/// Bytes that one execution partition keeps of row groups that are not written yet.
const OPEN_BYTES: usize = 128 << 20;
/// Bytes and parts of an upload in memory.
const PART_BYTES: usize = 8 << 20;
const PARTS: usize = 4;

/// Writes the files of one execution partition of a batch.
pub(super) struct Files {
    store: Store,
    options: ParquetOptions,
    properties: WriterProperties,
    /// The columns of the rows.
    rows: SchemaRef,
    /// The columns of the files.
    columns: SchemaRef,
    partitioner: Option<Partitioner>,
    /// The folder of staged files.
    staged: String,
    /// What published files are called, before the file's number.
    stem: String,
    /// The one that was written to longest ago first.
    open: Vec<OpenFile>,
    opened: usize,
    done: Vec<DataFile>,
}

struct OpenFile {
    values: Values,
    name: String,
    staged: String,
    rows: u64,
    writer: AsyncArrowWriter<Upload>,
}

impl Files {
    /// `rows` has plain types; `stem` and `staged` are of the batch's attempt and partition.
    pub(super) fn new(
        store: &Store,
        options: &ParquetOptions,
        rows: SchemaRef,
        staged: String,
        stem: String,
        footer: Vec<KeyValue>,
    ) -> Result<Self> {
        let positions = options.partition_by.iter().map(|name| rows.index_of(name));
        let refused = |error| Error::invalid(format!("{}: {error}", store.url()));
        let positions: Vec<usize> = positions.collect::<Result<_, _>>().map_err(refused)?;
        let rest: Vec<usize> = (0..rows.fields().len())
            .filter(|column| !positions.contains(column))
            .collect();
        let columns = rows.project(&rest).map_err(refused)?;
        let partitioner = match positions.is_empty() {
            true => None,
            false => {
                let types = positions.iter().map(|p| rows.field(*p).data_type().clone());
                let types: Vec<_> = types.collect();
                let width = rows.fields().len();
                Some(Partitioner::new(positions, &types, width).map_err(refused)?)
            }
        };
        let properties = WriterProperties::builder()
            .set_compression(options.compression)
            .set_max_row_group_row_count(Some(options.row_group_rows))
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .set_key_value_metadata(Some(footer))
            .set_created_by(format!("datafusion-kafka {}", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            store: store.clone(),
            options: options.clone(),
            properties,
            rows,
            columns: columns.into(),
            partitioner,
            staged,
            stem,
            open: vec![],
            opened: 0,
            done: vec![],
        })
    }

    /// Writes rows whose columns are those of the job, by name.
    pub(super) async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let rows = self.plain(rows)?;
        let Some(partitioner) = &self.partitioner else {
            return self.append(vec![], rows).await;
        };
        let split = partitioner
            .split(&rows)
            .map_err(|error| self.wrong(&error))?;
        for (values, rows) in split {
            self.append(values, rows).await?;
        }
        Ok(())
    }

    /// Ends all files.
    pub(super) async fn finish(&mut self) -> Result<Vec<DataFile>> {
        while !self.open.is_empty() {
            self.end(0).await?;
        }
        Ok(std::mem::take(&mut self.done))
    }

    /// Gives up what is being uploaded.
    pub(super) async fn abort(&mut self) {
        for file in self.open.drain(..) {
            // What cannot be given up is removed with the folder, or by the store's own rules.
            let _ = file.writer.into_inner().upload.abort().await;
        }
    }

    fn plain(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.rows.fields().iter().map(|field| {
            let column = rows.column_by_name(field.name()).ok_or_else(|| {
                Error::invalid(format!(
                    "{}: the rows have no column '{}'",
                    self.store.url(),
                    field.name()
                ))
            })?;
            cast(column, field.data_type()).map_err(|error| self.wrong(&error))
        });
        let columns: Vec<_> = columns.collect::<Result<_>>()?;
        RecordBatch::try_new(SchemaRef::clone(&self.rows), columns)
            .map_err(|error| self.wrong(&error))
    }

    async fn append(&mut self, values: Values, rows: RecordBatch) -> Result<()> {
        let mut from = 0;
        while from < rows.num_rows() {
            let at = self.file(&values).await?;
            // The one last used is the last.
            let mut file = self.open.remove(at);
            let room = self.options.max_file_rows.saturating_sub(file.rows);
            let left = rows.num_rows() - from;
            let take = usize::try_from(room).unwrap_or(usize::MAX).min(left);
            let written = file.writer.write(&rows.slice(from, take)).await;
            from += take;
            file.rows += take as u64;
            let bytes = file.writer.bytes_written() + file.writer.in_progress_size();
            self.open.push(file);
            written.map_err(|error| self.failed(error))?;
            if take as u64 == room || bytes as u64 >= self.options.max_file_bytes {
                self.end(self.open.len() - 1).await?;
            }
        }
        self.write_out().await
    }

    /// Writes row groups early when too many are in memory.
    async fn write_out(&mut self) -> Result<()> {
        let sizes = self.open.iter().map(|file| file.writer.memory_size());
        if self.open.len() < 2 || sizes.sum::<usize>() <= OPEN_BYTES {
            return Ok(());
        }
        let largest = self.open.iter_mut().max_by_key(|f| f.writer.memory_size());
        match largest {
            Some(file) => {
                let flushed = file.writer.flush().await;
                flushed.map_err(|error| self.failed(error))
            }
            None => Ok(()),
        }
    }

    /// The open file for some values.
    async fn file(&mut self, values: &Values) -> Result<usize> {
        if let Some(at) = self.open.iter().position(|file| file.values == *values) {
            return Ok(at);
        }
        while self.open.len() >= self.options.max_open_files {
            self.end(0).await?;
        }
        let number = self.opened;
        self.opened += 1;
        let staged = format!("{}-{number:05}.parquet.staged", self.staged);
        let file = format!("{}-{number:05}.parquet", self.stem);
        let name = match values.is_empty() {
            true => file,
            false => format!(
                "{}/{file}",
                hive::folder(&self.options.partition_by, values)
            ),
        };
        self.store
            .check_name(&name)
            .map_err(|why| self.unpublishable(values, &why))?;
        let path = self.store.path(&staged)?;
        let upload = BufWriter::with_capacity(self.store.object_store(), path, PART_BYTES)
            .with_max_concurrency(PARTS);
        let upload = Upload {
            upload,
            sum: Sha256::new(),
            bytes: 0,
        };
        let properties = Some(self.properties.clone());
        let writer = AsyncArrowWriter::try_new(upload, SchemaRef::clone(&self.columns), properties)
            .map_err(|error| self.failed(error))?;
        self.open.push(OpenFile {
            values: values.clone(),
            name,
            staged,
            rows: 0,
            writer,
        });
        Ok(self.open.len() - 1)
    }

    async fn end(&mut self, at: usize) -> Result<()> {
        let mut file = self.open.remove(at);
        file.writer
            .finish()
            .await
            .map_err(|error| self.failed(error))?;
        let upload = file.writer.into_inner();
        crate::fault::point("parquet-file-staged");
        let sum = upload.sum.finalize();
        self.done.push(DataFile {
            name: file.name,
            staged: file.staged,
            rows: file.rows,
            bytes: upload.bytes,
            sha256: crate::hex::hex(&sum),
            values: file.values,
        });
        Ok(())
    }

    /// The error of rows whose files could not be given their published names: it comes before the
    /// commit, after which nobody could go back.
    fn unpublishable(&self, values: &Values, why: &str) -> Error {
        /// Longer values are cut.
        const SHOWN: usize = 40;
        let columns = self.options.partition_by.iter().zip(values);
        let longest = columns.max_by_key(|(_, value)| value.as_ref().map_or(0, String::len));
        let value = match longest {
            Some((column, Some(value))) => {
                let begins: String = value.chars().take(SHOWN).collect();
                format!(
                    "PARTITIONED BY {column}: the value of {} bytes that begins '{}'",
                    value.len(),
                    begins.escape_debug()
                )
            }
            _ => "PARTITIONED BY".to_owned(),
        };
        self.wrong(&format!(
            "{value} gives files {why}: partition by something shorter, for example left({0}, 100) or \
             encode(sha256({0}), 'hex'), or leave such rows out",
            longest.map_or("value", |(column, _)| column.as_str())
        ))
    }

    fn wrong(&self, error: &dyn std::fmt::Display) -> Error {
        Error::invalid(format!("{}: {error}", self.store.url()))
    }

    fn failed(&self, error: ParquetError) -> Error {
        let transient = match &error {
            ParquetError::External(source) => may_pass(source.as_ref()),
            _ => false,
        };
        Error::Sink {
            target: self.store.url().to_owned(),
            operation: "staging rows".to_owned(),
            reason: error.to_string(),
            transient,
        }
    }
}

fn may_pass(error: &(dyn std::error::Error + 'static)) -> bool {
    use object_store::Error as StoreError;
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<StoreError>() {
            return matches!(error, StoreError::Generic { .. });
        }
        source = error.source();
    }
    true
}

/// Counts and sums the bytes on their way.
struct Upload {
    upload: BufWriter,
    sum: Sha256,
    bytes: u64,
}

impl AsyncFileWriter for Upload {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), ParquetError>> {
        Box::pin(async move {
            self.sum.update(&bytes);
            self.bytes += bytes.len() as u64;
            let put = self.upload.put(bytes).await;
            put.map_err(|error| ParquetError::External(Box::new(error)))
        })
    }

    fn complete(&mut self) -> BoxFuture<'_, Result<(), ParquetError>> {
        AsyncFileWriter::complete(&mut self.upload)
    }
}
