//! A parquet sink that a job has opened: staging, and what the commit is called with.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};
use datafusion::parquet::file::metadata::KeyValue;
use futures::StreamExt;
use tokio::sync::Mutex;

use super::commit::Known;
use super::log::Row;
use super::manifest::{self, DataFile};
use super::{ParquetSink, write};
use crate::error::{Error, Result, query_error};
use crate::memory::{self, Share};
use crate::sink::{BatchRanges, OpenSink, Staged};

/// A [`ParquetSink`] that a job has opened.
pub(super) struct OpenParquetSink {
    pub(super) sink: ParquetSink,
    pub(super) row: Row,
    /// The columns of the rows, in plain types.
    pub(super) rows: SchemaRef,
    /// The name of the columns of all files.
    pub(super) schema: String,
    /// Whole also when a future is dropped: nothing is awaited between changes that belong together.
    pub(super) known: Mutex<Known>,
}

impl fmt::Debug for OpenParquetSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenParquetSink")
            .field("sink", &self.sink)
            .field("row", &self.row)
            .finish_non_exhaustive()
    }
}

/// What `stage` tells `commit`.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Detail {
    pub(super) number: u64,
    pub(super) files: Vec<DataFile>,
}

#[async_trait]
impl OpenSink for OpenParquetSink {
    async fn stage(
        &self,
        batch: &BatchRanges,
        partition: usize,
        rows: SendableRecordBatchStream,
    ) -> Result<Staged> {
        let memory: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        self.stage_within(batch, partition, rows, &memory).await
    }

    async fn stage_within(
        &self,
        batch: &BatchRanges,
        partition: usize,
        mut rows: SendableRecordBatchStream,
        memory: &Arc<dyn MemoryPool>,
    ) -> Result<Staged> {
        let number = self.known.lock().await.next_number();
        let folder = manifest::attempt_folder(&batch.job, number, &batch.attempt);
        let mut files = write::Files::new(
            &self.sink.store,
            &self.sink.options,
            SchemaRef::clone(&self.rows),
            format!("{folder}/{partition:05}"),
            format!("part-{:020}-{partition:05}-{}", batch.batch, batch.attempt),
            footer(batch)?,
            Share::join(),
            memory::held(memory, format!("ParquetSink[{partition}]")),
        )?;
        let written = async {
            while let Some(rows) = rows.next().await {
                files.write(rows.map_err(query_error)?).await?;
            }
            files.finish().await
        };
        let written = written.await;
        let files = match written {
            Ok(files) => files,
            Err(error) => {
                files.abort().await;
                return Err(error);
            }
        };
        let detail = Detail { number, files };
        Ok(Staged {
            partition,
            rows: detail.files.iter().map(|file| file.rows).sum(),
            bytes: detail.files.iter().map(|file| file.bytes).sum(),
            detail: serde_json::to_value(&detail)
                .map_err(|error| Error::invalid(format!("names of staged files: {error}")))?,
        })
    }

    async fn commit(&self, batch: &BatchRanges, staged: Vec<Staged>) -> Result<()> {
        let mut known = self.known.lock().await;
        self.commit_next(&mut known, batch, staged).await?;
        self.tidy(&mut known).await;
        Ok(())
    }

    /// Keeps the files of an attempt whose manifest may have been written, or may be yet: a request
    /// that was given up can still arrive.
    async fn abort(&self, batch: &BatchRanges) -> Result<()> {
        let known = self.known.lock().await;
        let attempt = &batch.attempt;
        let committed = (known.newest.as_ref()).map(|newest| &newest.manifest.record.attempt);
        if known.in_doubt.contains(attempt) || committed == Some(attempt) {
            return Ok(());
        }
        let folder = manifest::attempt_folder(&batch.job, known.next_number(), attempt);
        self.sink.store.delete_folder(&folder).await
    }
}

/// What the footers of a batch's files say.
fn footer(batch: &BatchRanges) -> Result<Vec<KeyValue>> {
    let ranges = serde_json::to_string(&batch.ranges)
        .map_err(|error| Error::invalid(format!("the batch's ranges: {error}")))?;
    let value = |name: &str, value: String| KeyValue::new(format!("kafka.{name}"), value);
    Ok(vec![
        value("job", batch.job.clone()),
        value("batch", batch.batch.to_string()),
        value("attempt", batch.attempt.clone()),
        value("ranges", ranges),
    ])
}
