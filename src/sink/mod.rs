//! Where the rows of a batch go: staged first, then made visible together with the offsets they
//! came from.
//!
//! A [`Sink`] records, next to the rows, how far each source partition has been taken over: its
//! *recorded ends*. [`Sink::open`] reads them and returns the [`OpenSink`] that takes the job's batches.
//! [`OpenSink::commit`] moves rows and ends in one atomic step, and only if the
//! recorded ends are those that the batch starts from ([`BatchRanges::against`]). That comparison
//! is what makes delivery exactly-once: a batch that is repeated after a crash finds its own ends
//! recorded and changes nothing, a driver that has been overtaken finds other ends and is refused.
//! It is the transactional pattern of Koeninger's "Exactly-once Spark Streaming from Kafka":
//! `update offsets set off = end where off = start`, which must touch exactly one row.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryPool;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::range::shared_str;

mod closure;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod database;
mod memory;
pub mod parquet;
#[cfg(feature = "postgres")]
pub mod postgres;
mod ranges;
#[cfg_attr(not(any(feature = "postgres", feature = "sqlite")), allow(dead_code))]
mod rows;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod stage;
mod table;
#[cfg_attr(not(any(feature = "postgres", feature = "sqlite")), allow(dead_code))]
mod value;

pub use crate::kafka_sink::{
    DEFAULT_STATE_TOPIC, DEFAULT_TRANSACTIONAL_ID_PREFIX, Delivery, KafkaSink, KafkaSinkOptions,
};
pub use closure::{BoxError, ForEachBatch};
pub use memory::MemorySink;
pub use parquet::{ParquetOptions, ParquetSink};
pub(crate) use ranges::same_ends;
pub use ranges::{BatchRanges, Ends, Position, SourcePartition, SourceRange, Standing};
pub(crate) use rows::{
    JSON_TEXT, Lists, Rows as RowValues, UUID_TEXT, is_nested, item_of, json_texts,
};
pub use stage::StageExec;
pub(crate) use stage::{Part, stage_all};
pub use table::SinkTable;
pub(crate) use value::{Value, date_time, decimal_text, interval_text};

/// A place that takes batches, once a job has opened it.
///
/// # Guarantees of every implementation
///
/// - What [`OpenSink::stage`] wrote is seen by no reader before [`OpenSink::commit`].
/// - `commit` makes all rows of the batch visible and records its ends, or neither.
/// - `commit` of a batch whose ends are recorded already changes nothing and succeeds.
/// - `commit` of a batch that starts anywhere but at the recorded ends fails with
///   [`Error::Conflict`] and changes nothing.
/// - Rows are streamed: memory does not grow with the batch.
/// - Dropping an [`OpenSink`], or a future of any method, leaves the target as a crash would:
///   [`open`](Self::open) finds either the batch committed or no trace that a reader could see.
#[async_trait]
pub trait Sink: fmt::Debug + Send + Sync {
    /// What the sink writes to, without secrets, for example `postgres://db:5432/shop/orders`.
    ///
    /// Two sinks with one target are one sink: their rows are committed together.
    fn target(&self) -> String;

    /// What tells the target from others in a job's log, where addresses may change: the target unless
    /// a sink knows better.
    fn identity(&self) -> String {
        self.target()
    }

    /// What a reader of the target can rely on.
    fn guarantee(&self) -> Guarantee;

    /// Whether the sink records ends, so that [`open`](Self::open) can tell them. The driver does not
    /// compare the log with a sink that does not.
    fn records_ends(&self) -> bool {
        true
    }

    /// Whether rows of a source partition that a query only filters and projects are to be staged in
    /// the order of their offsets. It costs parallel reading of one partition.
    fn needs_order(&self) -> bool {
        false
    }

    /// Prepares the target for a job, and returns what takes the job's batches and how far the job got.
    ///
    /// Called before the first batch, and again after a batch failed. The caller first drops what the
    /// earlier call returned. Creates the target if it is missing, checks that rows of `job.schema`
    /// fit it, completes or removes what an earlier run left, and keeps earlier runs of the job from
    /// committing where the target can do that.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the columns do not fit, [`Error::Conflict`] when the target belongs
    /// to another job and must not be shared, [`Error::Sink`] when it does not answer.
    async fn open(&self, job: &SinkJob) -> Result<Opened>;

    /// The rows that the target holds of a committed batch, to be compared with a replay. `schema`
    /// has the job's columns; the rows have all of these, by name, in types that keep what the target
    /// keeps: a number as its text, a list or a struct as JSON.
    ///
    /// The sink need not be open, and a job that has opened it is not disturbed.
    ///
    /// # Errors
    /// When the target cannot be read.
    async fn held(&self, _batch: &BatchRanges, _schema: &SchemaRef) -> Result<Held> {
        Ok(Held::Unknown)
    }
}

/// What [`Sink::open`] returns.
#[derive(Debug)]
pub struct Opened {
    /// Takes the job's batches.
    pub sink: Arc<dyn OpenSink>,
    /// How far the job got; `None` when the target has nothing of it.
    pub committed: Option<Committed>,
}

/// A sink that a job has opened: it takes the job's batches, one after the other.
///
/// [`Sink`] lists what every implementation guarantees. After a failed `stage` or `commit` an
/// implementation may refuse further batches with a transient [`Error::Sink`] until the sink is opened
/// again.
#[async_trait]
pub trait OpenSink: fmt::Debug + Send + Sync {
    /// Writes the rows of one execution partition where no reader sees them.
    ///
    /// Called concurrently for the partitions of a batch. `rows` has the columns of
    /// [`SinkJob::schema`].
    ///
    /// # Errors
    /// The stream's own error, or [`Error::Sink`].
    async fn stage(
        &self,
        batch: &BatchRanges,
        partition: usize,
        rows: SendableRecordBatchStream,
    ) -> Result<Staged>;

    /// As [`stage`](Self::stage), and reserves what it holds in a session's memory pool. A sink that
    /// holds no more than the batch it was given need not.
    ///
    /// # Errors
    /// As [`stage`](Self::stage), and [`Error::Memory`] where the pool has no room.
    async fn stage_within(
        &self,
        batch: &BatchRanges,
        partition: usize,
        rows: SendableRecordBatchStream,
        memory: &Arc<dyn MemoryPool>,
    ) -> Result<Staged> {
        let _ = memory;
        self.stage(batch, partition, rows).await
    }

    /// How the rows of a batch are staged where a plan is executed, which may be on other machines. `None` when
    /// all rows must come to [`stage`](Self::stage), for example into one transaction.
    async fn staging(&self, _batch: &BatchRanges) -> Option<parquet::FileStaging> {
        None
    }

    /// Makes the staged rows visible and records the batch's ends, in one atomic step.
    ///
    /// `staged` has what `stage` returned for every partition, in order; a batch may have no rows.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the recorded ends are neither the batch's starts nor its ends,
    /// [`Error::Sink`] when the target fails: whether the commit took place is unknown then, and the
    /// next [`Sink::open`] tells.
    async fn commit(&self, batch: &BatchRanges, staged: Vec<Staged>) -> Result<()>;

    /// Removes what was staged of a batch that will not be committed by this attempt.
    ///
    /// # Errors
    /// [`Error::Sink`] when the target fails; what is left is removed by a later [`Sink::open`].
    async fn abort(&self, batch: &BatchRanges) -> Result<()>;
}

/// A job, as a sink has to know it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SinkJob {
    /// The job's name: recorded ends belong to it.
    pub name: String,
    /// The columns of the rows that will come. A sink matches them to its own by name.
    pub schema: SchemaRef,
}

impl SinkJob {
    /// A job whose rows have these columns.
    pub fn new(name: impl Into<String>, schema: SchemaRef) -> Self {
        Self {
            name: name.into(),
            schema,
        }
    }
}

/// How far a job got in a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// The last committed batch.
    pub batch: u64,
    /// The recorded ends: the next offset of each source partition.
    pub ends: Ends,
}

impl Committed {
    /// A batch and the ends that were recorded with it.
    pub fn new(batch: u64, ends: Ends) -> Self {
        Self { batch, ends }
    }
}

/// What [`OpenSink::stage`] wrote.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Staged {
    /// The execution partition.
    pub partition: usize,
    /// Rows that were staged.
    pub rows: u64,
    /// Bytes that were staged, as far as the sink knows.
    pub bytes: u64,
    /// What the sink's own `commit` needs to know, for example the names of files.
    pub detail: serde_json::Value,
}

/// The rows that a target holds of one batch.
#[non_exhaustive]
pub enum Held {
    /// Exactly these.
    Exactly(SendableRecordBatchStream),
    /// These and those of other batches: the target does not tell batches apart.
    Among(SendableRecordBatchStream),
    /// The target cannot be read back.
    Unknown,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exactly(_) => "Exactly",
            Self::Among(_) => "Among",
            Self::Unknown => "Unknown",
        })
    }
}

/// What readers of a target can rely on, whatever crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Guarantee {
    /// Rows may be lost, none comes twice.
    AtMostOnce,
    /// Rows may come twice, none is lost.
    AtLeastOnce,
    /// Each row comes once.
    ExactlyOnce,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtMostOnce => "at-most-once",
            Self::AtLeastOnce => "at-least-once",
            Self::ExactlyOnce => "exactly-once",
        })
    }
}

/// The refusal of a target that another job writes to.
pub(crate) fn belongs_to_another(target: &str, job: &str, others: &[String]) -> Error {
    Error::Conflict {
        target: target.to_owned(),
        message: format!(
            "it holds rows of {} and the job is named '{job}': run under that name (--name), \
             write to another target, or allow several jobs with the option 'shared' = 'true'",
            others
                .iter()
                .map(|name| format!("job '{name}'"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}
