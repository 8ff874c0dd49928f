//! Rows into staged files: cut by rows and bytes, sorted into folders, a bounded number open.

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::KeyValue;
use datafusion::parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder,
};
use datafusion::parquet::schema::types::ColumnPath;
use object_store::buffered::BufWriter;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::ParquetOptions;
use super::blocks::Blocks;
use super::manifest::DataFile;
use super::partition::{Partitioner, Values, folders};
use crate::client::Held;
use crate::error::{Cause, Error, Result};
use crate::memory::{self, Share, column_bytes, payload_bytes};
use crate::store::Store;

/// Bytes and parts of an upload in memory.
const PART_BYTES: usize = 5 << 20;
const PARTS: usize = 2;
/// Texts of this mean length are payloads.
const LONG_TEXT_BYTES: usize = 4 << 10;

/// Writes the files of one execution partition of a batch.
pub(super) struct Files {
    store: Store,
    options: ParquetOptions,
    properties: WriterPropertiesBuilder,
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
    share: Share,
    /// The memory of the open row groups and of the rows that are being written.
    held: Held,
}

struct OpenFile {
    values: Values,
    name: String,
    staged: String,
    rows: u64,
    writer: ArrowWriter<Blocks>,
    upload: Upload,
}

impl Files {
    /// `rows` has plain types; `stem` and `staged` are of the batch's attempt and partition.
    #[expect(
        clippy::too_many_arguments,
        reason = "called once, with what a sink has"
    )]
    pub(super) fn new(
        store: &Store,
        options: &ParquetOptions,
        rows: SchemaRef,
        staged: String,
        stem: String,
        footer: Vec<KeyValue>,
        share: Share,
        held: Held,
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
            .set_key_value_metadata(Some(footer))
            .set_created_by(format!("datafusion-kafka {}", env!("CARGO_PKG_VERSION")));
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
            share,
            held,
        })
    }

    /// Writes rows whose columns are those of the job, by name.
    pub(super) async fn write(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let bytes = payload_bytes(&rows);
        let _turn = memory::turn(bytes, rows.num_rows()).await;
        self.make_room(bytes).await?;
        let rows = self.plain(&rows)?;
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
            let mut upload = file.upload.upload;
            let _ = upload.abort().await;
        }
    }

    /// Asks for memory to write so many bytes of rows; open row groups are ended for it.
    async fn make_room(&mut self, bytes: usize) -> Result<()> {
        if self.held.try_hold(self.open_bytes() + bytes).is_err() {
            self.end_groups(0).await?;
            let held = self.held.hold(self.open_bytes() + bytes).await;
            held.map_err(|reason| Error::Memory {
                place: self.store.url().to_owned(),
                message: format!("rows of {bytes} bytes are to be written: {reason}"),
            })?;
        }
        Ok(())
    }

    fn open_bytes(&self) -> usize {
        self.open.iter().map(|file| file.writer.memory_size()).sum()
    }

    /// Ends the largest row groups until no more than `most` bytes are open.
    async fn end_groups(&mut self, most: usize) -> Result<()> {
        while self.open_bytes() > most {
            let files = self.open.iter_mut();
            let Some(file) = files.max_by_key(|f| f.writer.memory_size()) else {
                break;
            };
            let ended = file.writer.flush();
            let ended = ended.map_err(|error| failed(&self.store, error));
            match ended {
                Ok(()) => file.send().await.map_err(|e| failed(&self.store, e))?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
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
            let at = self.file(&values, &rows).await?;
            // The one last used is the last.
            let mut file = self.open.remove(at);
            let room = self.options.max_file_rows.saturating_sub(file.rows);
            let left = rows.num_rows() - from;
            let take = usize::try_from(room).unwrap_or(usize::MAX).min(left);
            let written = file.write(&rows.slice(from, take)).await;
            from += take;
            file.rows += take as u64;
            let bytes = file.writer.bytes_written() + file.writer.in_progress_size();
            self.open.push(file);
            written.map_err(|error| failed(&self.store, error))?;
            if take as u64 == room || bytes as u64 >= self.options.max_file_bytes {
                self.end(self.open.len() - 1).await?;
            }
        }
        self.end_groups(self.share.bytes()).await
    }

    /// The open file for some values; `rows` are the next that are written to it.
    async fn file(&mut self, values: &Values, rows: &RecordBatch) -> Result<usize> {
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
            false => format!("{}/{file}", folders(&self.options.partition_by, values)),
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
        let properties = Some(plain_payloads(self.properties.clone(), rows).build());
        let columns = SchemaRef::clone(&self.columns);
        let writer = ArrowWriter::try_new(Blocks::default(), columns, properties)
            .map_err(|error| failed(&self.store, error))?;
        self.open.push(OpenFile {
            values: values.clone(),
            name,
            staged,
            rows: 0,
            writer,
            upload,
        });
        Ok(self.open.len() - 1)
    }

    async fn end(&mut self, at: usize) -> Result<()> {
        let file = self.open.remove(at);
        let mut upload = file.upload;
        let ended = async {
            let mut rest = file.writer.into_inner()?;
            upload.send(rest.take()).await?;
            let ended = upload.upload.shutdown().await;
            ended.map_err(|error| ParquetError::External(Box::new(error)))
        };
        ended.await.map_err(|error| failed(&self.store, error))?;
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
}

/// Turns dictionaries and statistics off, which copy large values, for what hardly repeats and is
/// not compared: bytes, and texts that are long in `rows`, the first of a file.
pub fn plain_payloads(
    properties: WriterPropertiesBuilder,
    rows: &RecordBatch,
) -> WriterPropertiesBuilder {
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns());
    columns.fold(properties, |properties, (field, column)| {
        let plain = match field.data_type() {
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                column_bytes(column) / column.len().max(1) > LONG_TEXT_BYTES
            }
            _ => false,
        };
        if !plain {
            return properties;
        }
        let column = ColumnPath::from(vec![field.name().clone()]);
        properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_statistics_enabled(column, EnabledStatistics::None)
    })
}

fn failed(store: &Store, error: ParquetError) -> Error {
    let transient = match &error {
        ParquetError::External(source) => may_pass(source.as_ref()),
        _ => false,
    };
    Error::Sink {
        target: store.url().to_owned(),
        operation: "staging rows".to_owned(),
        reason: error.to_string(),
        transient,
        source: Some(Cause::new(error)),
    }
}

impl OpenFile {
    async fn write(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        self.writer.write(rows)?;
        self.send().await
    }

    /// Hands on the row groups that have ended.
    async fn send(&mut self) -> Result<(), ParquetError> {
        let blocks = self.writer.inner_mut().take();
        self.upload.send(blocks).await
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

impl Upload {
    async fn send(&mut self, blocks: Vec<Bytes>) -> Result<(), ParquetError> {
        for bytes in blocks {
            self.sum.update(&bytes);
            self.bytes += bytes.len() as u64;
            let put = self.upload.put(bytes).await;
            put.map_err(|error| ParquetError::External(Box::new(error)))?;
        }
        Ok(())
    }
}
