//! The sink of a job that makes an index: it turns rows of a topic into those of the index, which a parquet sink
//! commits with the job's offsets.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};
use datafusion::parquet::basic::Compression;

use super::{DEFINITION, Definition, rows};
use crate::error::{Error, Result};
use crate::memory;
use crate::sink::{
    BatchRanges, Guarantee, OpenSink, Opened, ParquetOptions, ParquetSink, Sink, SinkJob, Staged,
};
use crate::store::{Created, Store};

/// Takes rows of topic, partition, offset, timestamp and the values of the expressions, in this order.
#[derive(Debug, Clone)]
pub(crate) struct IndexSink {
    store: Store,
    files: ParquetSink,
    definition: Arc<Definition>,
    /// The source of the job that it is of.
    source: Arc<str>,
}

impl IndexSink {
    /// The index of a source in a folder or an object store. Nothing is read or written yet.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) fn new(location: &str, definition: Definition, source: &str) -> Result<Self> {
        let store = Store::open(location, &HashMap::new())?;
        let options = ParquetOptions {
            // A filter with half of its bits set cannot be compressed.
            compression: Compression::UNCOMPRESSED,
            ..ParquetOptions::default()
        };
        Ok(Self {
            files: ParquetSink::new(store.clone(), options),
            store,
            definition: Arc::new(definition),
            source: source.into(),
        })
    }

    /// Writes down what the index is of, once and for all.
    async fn define(&self) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(&*self.definition)
            .map_err(|e| Error::internal(format!("{DEFINITION}: {e}")).because(e))?;
        let durability = ParquetOptions::default().durability;
        match self
            .store
            .create(DEFINITION, bytes.into(), durability)
            .await?
        {
            Created::New => return Ok(()),
            Created::Exists => {}
        }
        let file = format!("{}/{DEFINITION}", self.target());
        let bytes = self.store.get(DEFINITION).await?.unwrap_or_default();
        let there = Definition::parse(&file, &bytes)?;
        match there.difference(&self.definition) {
            None => Ok(()),
            Some(difference) => Err(Error::invalid(format!(
                "{}: the index there is another one ({difference}): write to an empty folder",
                self.target()
            ))),
        }
    }
}

#[async_trait]
impl Sink for IndexSink {
    fn target(&self) -> String {
        self.files.target()
    }

    fn guarantee(&self) -> Guarantee {
        self.files.guarantee()
    }

    async fn open(&self, job: &SinkJob) -> Result<Opened> {
        self.define().await?;
        let job = SinkJob::new(&job.name, rows::schema(&self.definition));
        let opened = self.files.open(&job).await?;
        let sink = OpenIndexSink {
            files: opened.sink,
            definition: Arc::clone(&self.definition),
            source: Arc::clone(&self.source),
        };
        Ok(Opened {
            sink: Arc::new(sink),
            committed: opened.committed,
        })
    }
}

/// An [`IndexSink`] that a job has opened.
#[derive(Debug)]
struct OpenIndexSink {
    files: Arc<dyn OpenSink>,
    definition: Arc<Definition>,
    source: Arc<str>,
}

#[async_trait]
impl OpenSink for OpenIndexSink {
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
        // Each batch has a first stream, which says what all of them look at. Other sources may be elsewhere.
        let ranges = batch.ranges.iter().filter(|_| partition == 0);
        let looked_at = ranges.filter(|range| range.partition.source == self.source);
        let held = memory::held(memory, format!("index[{partition}]"));
        let rows = rows::index_rows(rows, &self.definition, looked_at, held);
        self.files
            .stage_within(batch, partition, rows, memory)
            .await
    }

    async fn commit(&self, batch: &BatchRanges, staged: Vec<Staged>) -> Result<()> {
        self.files.commit(batch, staged).await
    }

    async fn abort(&self, batch: &BatchRanges) -> Result<()> {
        self.files.abort(batch).await
    }
}
