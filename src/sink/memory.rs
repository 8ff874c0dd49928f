//! A sink in memory, for tests: ours and users'.

use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;

use super::*;
use crate::error::query_error;

/// Keeps rows and ends in memory; clones share them. It does what [`Sink`] asks of every sink, and
/// can be told to fail.
#[derive(Debug, Clone)]
pub struct MemorySink {
    name: String,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The recorded ends, by job.
    committed: BTreeMap<String, Committed>,
    batches: Vec<(String, u64, Vec<RecordBatch>)>,
    /// Staged rows, by attempt and partition.
    staged: BTreeMap<(String, usize), Vec<RecordBatch>>,
    failures: BTreeMap<&'static str, (u32, bool)>,
}

impl MemorySink {
    /// An empty sink.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            state: Arc::default(),
        }
    }

    /// The rows of all committed batches, in their order.
    pub fn rows(&self) -> Vec<RecordBatch> {
        let state = self.state();
        let batches = state.batches.iter().flat_map(|(_, _, rows)| rows);
        batches.cloned().collect()
    }

    /// How far a job got.
    pub fn committed(&self, job: &str) -> Option<Committed> {
        self.state().committed.get(job).cloned()
    }

    /// Forgets everything, as a database that was dropped.
    pub fn clear(&self) {
        *self.state() = State::default();
    }

    /// Lets the next `times` calls of `operation` fail: `open`, `stage`, `commit`, or `answer`, which
    /// fails a commit after it took place.
    pub fn fail(&self, operation: &'static str, times: u32, transient: bool) {
        self.state().failures.insert(operation, (times, transient));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole after any panic: each change is made in one statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_fail(&self, operation: &str) -> Result<()> {
        let mut state = self.state();
        let Some((times, transient)) = state.failures.get_mut(operation) else {
            return Ok(());
        };
        if *times == 0 {
            return Ok(());
        }
        *times -= 1;
        Err(Error::Sink {
            target: self.target(),
            operation: operation.to_owned(),
            reason: "it was told to fail".to_owned(),
            transient: *transient,
            source: None,
        })
    }
}

#[async_trait]
impl Sink for MemorySink {
    fn target(&self) -> String {
        format!("memory:{}", self.name)
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    async fn open(&self, job: &SinkJob) -> Result<Opened> {
        self.may_fail("open")?;
        let state = self.state();
        let others: Vec<String> = state
            .committed
            .keys()
            .filter(|name| **name != job.name)
            .cloned()
            .collect();
        if !others.is_empty() {
            return Err(belongs_to_another(&self.target(), &job.name, &others));
        }
        Ok(Opened {
            sink: Arc::new(OpenMemorySink(self.clone())),
            committed: state.committed.get(&job.name).cloned(),
        })
    }

    async fn held(&self, batch: &BatchRanges, schema: &SchemaRef) -> Result<Held> {
        let state = self.state();
        let rows: Vec<_> = state
            .batches
            .iter()
            .filter(|(job, number, _)| *job == batch.job && *number == batch.batch)
            .flat_map(|(_, _, rows)| rows)
            .map(|rows| Ok(rows.clone()))
            .collect();
        let rows = futures::stream::iter(rows);
        let rows = RecordBatchStreamAdapter::new(Arc::clone(schema), rows);
        Ok(Held::Exactly(Box::pin(rows)))
    }
}

/// A [`MemorySink`] that a job has opened.
#[derive(Debug)]
struct OpenMemorySink(MemorySink);

#[async_trait]
impl OpenSink for OpenMemorySink {
    async fn stage(
        &self,
        batch: &BatchRanges,
        partition: usize,
        mut rows: SendableRecordBatchStream,
    ) -> Result<Staged> {
        self.0.may_fail("stage")?;
        let mut staged = Staged {
            partition,
            ..Staged::default()
        };
        let mut kept = vec![];
        while let Some(rows) = rows.next().await {
            let rows = rows.map_err(query_error)?;
            staged.rows += rows.num_rows() as u64;
            staged.bytes += rows.get_array_memory_size() as u64;
            kept.push(rows);
        }
        let key = (batch.attempt.clone(), partition);
        self.0.state().staged.insert(key, kept);
        Ok(staged)
    }

    async fn commit(&self, batch: &BatchRanges, staged: Vec<Staged>) -> Result<()> {
        self.0.may_fail("commit")?;
        let mut state = self.0.state();
        let recorded = state.committed.get(&batch.job).map(|c| &c.ends);
        if batch.against(&self.0.target(), recorded)? == Standing::Committed {
            return Ok(());
        }
        let mut rows = vec![];
        for part in staged {
            let key = (batch.attempt.clone(), part.partition);
            rows.extend(state.staged.remove(&key).unwrap_or_default());
        }
        let committed = Committed {
            batch: batch.batch,
            ends: batch.ends(),
        };
        state.committed.insert(batch.job.clone(), committed);
        state.batches.push((batch.job.clone(), batch.batch, rows));
        drop(state);
        self.0.may_fail("answer")
    }

    async fn abort(&self, batch: &BatchRanges) -> Result<()> {
        let mut state = self.0.state();
        state
            .staged
            .retain(|(attempt, _), _| *attempt != batch.attempt);
        Ok(())
    }
}
