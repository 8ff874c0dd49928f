//! A parquet sink that a job has opened: staging, and what the commit is called with.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};
use tokio::sync::Mutex;

use super::commit::Known;
use super::log::Row;
use super::staging::FileStaging;
use super::{ParquetSink, manifest};
use crate::error::Result;
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
        rows: SendableRecordBatchStream,
        memory: &Arc<dyn MemoryPool>,
    ) -> Result<Staged> {
        let staging = self.staging_of(batch).await;
        staging.stage_partition(partition, rows, memory).await
    }

    async fn staging(&self, batch: &BatchRanges) -> Option<FileStaging> {
        Some(self.staging_of(batch).await)
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

impl OpenParquetSink {
    async fn staging_of(&self, batch: &BatchRanges) -> FileStaging {
        let number = self.known.lock().await.next_number();
        let ParquetSink { store, options } = &self.sink;
        FileStaging::new(store, options, &self.rows, &self.schema, number, batch)
    }
}
