//! What is known of jobs: their states, counts, batches and errors.
//!
//! ```text
//!            ╭──────────── the pause is over, or "retry now" ─────────╮
//!            ▼                                                        │
//! Starting ──▶ Idle ◀──▶ Running ──▶ Retrying (the same batch) ──▶ Failed
//!                 ╰───────── "pause", "stop" ──▶ Paused, Stopped
//! ```

mod board;
mod monitor;
mod reading;
mod totals;

use std::sync::Arc;
use std::time::Duration;

use datafusion_kafka::driver::{BatchProgress, PartitionLag};
use datafusion_kafka::range::OffsetRange;
use serde::{Serialize, Serializer};

pub use board::Board;
pub(crate) use monitor::Measured;
pub use monitor::Monitor;
pub use totals::{PHASES, Phase, Totals};

use crate::problem::Problem;

/// What a job does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum JobState {
    /// Its file is planned, and its log and sinks are asked where it stands.
    Starting,
    /// A batch runs.
    Running,
    /// There is nothing new, or the next tick has not come.
    Idle,
    /// A batch has failed for a reason that may pass, and is tried again.
    Retrying,
    /// Somebody has paused it.
    Paused,
    /// It has ended with an error, and starts again after a pause.
    Failed,
    /// Somebody has stopped it, or its trigger has an end and it is there.
    Stopped,
}

impl JobState {
    /// All states, for metrics and pages.
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::Running,
        Self::Idle,
        Self::Retrying,
        Self::Paused,
        Self::Failed,
        Self::Stopped,
    ];

    /// The state's name, as JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Idle => "idle",
            Self::Retrying => "retrying",
            Self::Paused => "paused",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }

    /// Whether the job waits for somebody and nothing is expected of it.
    pub fn is_at_rest(self) -> bool {
        matches!(self, Self::Paused | Self::Stopped)
    }
}

/// A job at one moment. Times are in ms since the epoch.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct JobStatus {
    /// The job's name: that of its section in the file.
    pub name: String,
    /// The name by which sinks and log know it.
    pub job: String,
    /// The file with its statements.
    pub file: String,
    /// The connection whose topics it reads.
    pub connection: String,
    /// The offset log's place.
    pub checkpoint: String,
    /// When batches are made.
    pub trigger: String,
    /// What it does now.
    pub state: JobState,
    /// Since when it does.
    pub since_ms: i64,
    /// The batch that runs or is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<RunningBatch>,
    /// When it has committed a batch last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_commit_ms: Option<i64>,
    /// When it has committed a batch or found nothing new last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_progress_ms: Option<i64>,
    /// When the next attempt begins, if the last one has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_ms: Option<i64>,
    /// Within how many ms it must make progress.
    pub deadline_ms: u64,
    /// Why it counts as stuck, if it does: longer than the deadline without progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stuck: Option<String>,
    /// Counts since the service runs.
    pub totals: Totals,
    /// How far it is behind, when the cluster was asked last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<JobLag>,
    /// The last batches, the newest last.
    #[serde(serialize_with = "all_shared")]
    pub batches: Vec<Arc<BatchProgress>>,
    /// The last errors, the newest last.
    #[serde(serialize_with = "all_shared")]
    pub errors: Vec<Arc<JobError>>,
}

impl JobStatus {
    /// The same with no more than the last batch and the last error, for lists of jobs.
    #[must_use]
    pub fn brief(mut self) -> Self {
        self.batches = self.batches.pop().into_iter().collect();
        self.errors = self.errors.pop().into_iter().collect();
        self
    }
}

/// A batch that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RunningBatch {
    /// Its number.
    pub batch: u64,
    /// Since when it runs.
    pub since_ms: i64,
    /// What it takes over.
    pub ranges: Vec<OffsetRange>,
}

/// How far a job is behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JobLag {
    /// When the cluster was asked.
    pub at_ms: i64,
    /// Partition by partition.
    pub partitions: Vec<PartitionLag>,
}

impl JobLag {
    /// The offsets that are not delivered, over all partitions.
    pub fn behind(&self) -> i64 {
        let behind = self.partitions.iter().map(|lag| lag.behind);
        behind.fold(0, i64::saturating_add)
    }

    /// The age in seconds of the oldest record that is not delivered; zero if all are.
    pub fn seconds(&self, now_ms: i64) -> f64 {
        let ages = self.partitions.iter().filter_map(|lag| age(lag, now_ms));
        ages.fold(0.0, f64::max)
    }
}

/// The age in seconds of a partition's first record that is not delivered: zero if there is none, `None` if it is not
/// known.
pub fn age(lag: &PartitionLag, now_ms: i64) -> Option<f64> {
    if lag.behind == 0 {
        return Some(0.0);
    }
    let age_ms = now_ms.saturating_sub(lag.waiting_since_ms?).max(0);
    Some(Duration::from_millis(age_ms.unsigned_abs()).as_secs_f64())
}

/// Why a batch or a job has failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JobError {
    /// When.
    pub at_ms: i64,
    /// The batch, where one was fixed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
    /// Whether the batch is tried again and the job goes on.
    pub retrying: bool,
    /// How many attempts have failed in a row.
    pub failed: u32,
    /// In how many ms the next attempt begins.
    pub wait_ms: u64,
    /// What is wrong, where, and what to do.
    #[serde(flatten)]
    pub problem: Problem,
}

/// What has happened, for those who follow.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Event {
    /// A job has come or has another state.
    State {
        /// The job.
        #[serde(serialize_with = "shared")]
        job: Arc<str>,
        /// What it does now.
        state: JobState,
    },
    /// A job has committed a batch.
    Batch {
        /// The job.
        #[serde(serialize_with = "shared")]
        job: Arc<str>,
        /// What the batch did.
        #[serde(serialize_with = "shared")]
        progress: Arc<BatchProgress>,
    },
    /// A batch or a job has failed.
    Error {
        /// The job.
        #[serde(serialize_with = "shared")]
        job: Arc<str>,
        /// Why.
        #[serde(serialize_with = "shared")]
        error: Arc<JobError>,
    },
    /// The cluster was asked how far a job is behind.
    Lag {
        /// The job.
        #[serde(serialize_with = "shared")]
        job: Arc<str>,
        /// The answer.
        #[serde(serialize_with = "shared")]
        lag: Arc<JobLag>,
    },
    /// A job is no longer in the file.
    Removed {
        /// The job.
        #[serde(serialize_with = "shared")]
        job: Arc<str>,
    },
}

fn shared<T: Serialize + ?Sized, S: Serializer>(value: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
    value.as_ref().serialize(to)
}

fn all_shared<T: Serialize, S: Serializer>(values: &[Arc<T>], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(Arc::as_ref))
}

/// Now, in ms since the epoch.
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
