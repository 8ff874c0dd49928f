//! Parquet and Arrow IPC: typed files, binary stays binary.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::{FileWriter, StreamWriter};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use datafusion_kafka::sink::parquet::plain_payloads;

use super::{Flow, RowWriter};
use crate::failure::Failure;

type Sink = Box<dyn Write + Send>;

/// A row group is closed when it holds this much memory. With the default of 1,048,576 rows, records
/// of 10 KiB would hold 10 GiB.
const ROW_GROUP_BYTES: usize = 48 * 1024 * 1024;

/// Writes a Parquet file, compressed with zstd.
pub(super) struct ParquetWriter {
    inner: ArrowWriter<Sink>,
}

impl ParquetWriter {
    pub(super) fn new(sink: Sink, schema: &SchemaRef) -> Result<Self, Failure> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by(concat!("kafka-sql ", env!("CARGO_PKG_VERSION")).to_owned());
        // The first rows, which would tell long texts, are not known yet.
        let no_rows = RecordBatch::new_empty(SchemaRef::clone(schema));
        let properties = Some(plain_payloads(properties, &no_rows).build());
        Ok(Self {
            inner: ArrowWriter::try_new(sink, SchemaRef::clone(schema), properties)?,
        })
    }
}

impl RowWriter for ParquetWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<Flow, Failure> {
        self.inner.write(batch)?;
        if self.inner.memory_size() >= ROW_GROUP_BYTES {
            self.inner.flush()?;
        }
        Ok(Flow::More)
    }

    fn finish(self: Box<Self>) -> Result<(), Failure> {
        let mut sink = self.inner.into_inner()?;
        sink.flush()
            .map_err(|e| Failure::io("writing the Parquet file failed", &e))
    }
}

/// Writes an Arrow IPC file.
pub(super) struct ArrowFileWriter {
    inner: FileWriter<Sink>,
}

impl ArrowFileWriter {
    pub(super) fn new(sink: Sink, schema: &SchemaRef) -> Result<Self, Failure> {
        Ok(Self {
            inner: FileWriter::try_new(sink, schema)?,
        })
    }
}

impl RowWriter for ArrowFileWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<Flow, Failure> {
        self.inner.write(batch)?;
        Ok(Flow::More)
    }

    fn finish(mut self: Box<Self>) -> Result<(), Failure> {
        self.inner.finish()?;
        self.inner.flush()?;
        Ok(())
    }
}

/// Writes the Arrow IPC stream format, which a reader can follow on a pipe.
pub(super) struct ArrowStreamWriter {
    inner: StreamWriter<Sink>,
}

impl ArrowStreamWriter {
    pub(super) fn new(sink: Sink, schema: &SchemaRef) -> Result<Self, Failure> {
        Ok(Self {
            inner: StreamWriter::try_new(sink, schema)?,
        })
    }
}

impl RowWriter for ArrowStreamWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<Flow, Failure> {
        self.inner.write(batch)?;
        self.inner.flush()?;
        Ok(Flow::More)
    }

    fn finish(mut self: Box<Self>) -> Result<(), Failure> {
        self.inner.finish()?;
        self.inner.flush()?;
        Ok(())
    }
}
