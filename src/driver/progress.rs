//! What a batch does and did: one line of JSON, and a listener.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use datafusion::physical_plan::ExecutionPlan;
use serde::{Deserialize, Serialize};

use super::intent::{Intent, Lost};
use crate::range::{Ledger, LedgerCounts, OffsetRange, TopicPartition};
use crate::scan;

/// Gets what happens in a run, as it happens.
///
/// Called on the driver's task: an implementation that takes long delays the next batch.
pub trait ProgressListener: fmt::Debug + Send + Sync {
    /// A batch is fixed and begins to run, perhaps not for the first time.
    fn began(&self, _intent: &Intent) {}

    /// The queries of the batch that has begun start to read. `reads` tells how far they are.
    fn reads(&self, _reads: &Reads) {}

    /// A batch was committed.
    fn committed(&self, progress: &BatchProgress);

    /// A batch failed and will be tried again.
    fn retrying(&self, _retry: &Retry<'_>) {}

    /// There is nothing new.
    fn idle(&self) {}
}

/// How far the queries of a batch have read. It keeps nothing of the batch alive.
#[derive(Debug, Clone)]
pub struct Reads {
    plans: Vec<Weak<dyn ExecutionPlan>>,
    /// Once they have read all.
    whole: Arc<OnceLock<Ledger>>,
}

impl Reads {
    pub(super) fn of(plans: &[Arc<dyn ExecutionPlan>]) -> Self {
        Self {
            plans: plans.iter().map(Arc::downgrade).collect(),
            whole: Arc::default(),
        }
    }

    /// The queries have come to their end.
    pub(super) fn end(&self) {
        self.whole.get_or_init(|| self.so_far());
    }

    /// What became of the offsets so far, of each range and each query that reads it; empty when the queries have failed.
    /// Of queries that run elsewhere it is only known in the end.
    pub fn ledger(&self) -> Ledger {
        self.whole.get().cloned().unwrap_or_else(|| self.so_far())
    }

    fn so_far(&self) -> Ledger {
        let plans = self.plans.iter().filter_map(Weak::upgrade);
        Ledger {
            ranges: plans.flat_map(|plan| scan::ledger(&plan).ranges).collect(),
        }
    }
}

/// A batch that failed and will be tried again, with other ranges if its records are gone.
#[derive(Debug)]
#[non_exhaustive]
pub struct Retry<'a> {
    /// The batch; `None` where it was not fixed yet.
    pub batch: Option<u64>,
    /// How many attempts have failed.
    pub failed: u32,
    /// When the next attempt starts, in ms.
    pub wait_ms: u64,
    /// Why the last one failed.
    pub error: &'a crate::Error,
}

/// What a committed batch did. Times are in ms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BatchProgress {
    /// The job's name.
    pub job: String,
    /// The batch's number.
    pub batch: u64,
    /// The run of the driver.
    pub run: String,
    /// When the batch was fixed, in ms since the epoch.
    pub created_ms: i64,
    /// From looking at the sources to the log's commit.
    pub duration_ms: f64,
    /// Whether an earlier run fixed the batch and did not come to its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recovered: bool,
    /// How often the batch had to be tried again.
    pub retries: u32,
    /// Where the time went.
    pub phases_ms: Phases,
    /// The sources, in the job's order.
    pub sources: Vec<SourceProgress>,
    /// The sinks, in the job's order.
    pub sinks: Vec<SinkProgress>,
}

/// Where a batch's time went, in ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Phases {
    /// Looking at the brokers: topics, log bounds, timestamps.
    pub look: f64,
    /// Logging the intent.
    pub log_intent: f64,
    /// Planning the queries.
    pub plan: f64,
    /// Running them and staging their rows.
    pub stage: f64,
    /// The sinks' commits.
    pub commit: f64,
    /// Logging the commit.
    pub log_commit: f64,
}

/// What a batch took from a source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SourceProgress {
    /// The table's name in the job.
    pub source: String,
    /// The ranges that are not empty.
    pub ranges: Vec<OffsetRange>,
    /// The leader epochs of the records before their ends, where the brokers tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leader_epochs: Vec<Option<i32>>,
    /// Partitions whose positions before the batch could not be compared with the log by leader epochs:
    /// an earlier version has recorded them, or the brokers tell none. Each is named once in a run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncompared: Vec<TopicPartition>,
    /// Records that were read, each time the queries read them.
    pub records: u64,
    /// Key, value and header bytes that were read.
    pub bytes: u64,
    /// What became of the offsets of the ranges, each time the queries read them.
    #[serde(default)]
    pub ledger: LedgerCounts,
    /// Offsets from the end of the batch to the end of the log, as it was when the batch was fixed.
    pub behind: Option<Behind>,
    /// Offsets that were gone when the batch was fixed, and were passed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Lost>,
    /// How many offsets reading has passed over because they were gone, those of `lost` among them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_offsets: u64,
    /// Records that did not decode and were NULL or left out, each time the queries read them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bad_rows: u64,
    /// Time that brokers held the job back by quotas, in ms, summed over the streams that waited.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub throttled_ms: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Offsets behind the latest, over the partitions of a source. Spark's `…OffsetsBehindLatest`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Behind {
    /// Of the partition that is least behind.
    pub min: i64,
    /// Of the partition that is most behind.
    pub max: i64,
    /// On average.
    pub mean: f64,
}

impl Behind {
    /// Sums up the partitions' distances; `None` without partitions.
    pub(crate) fn of(distances: impl IntoIterator<Item = i64>) -> Option<Self> {
        let distances: Vec<i64> = distances.into_iter().map(|d| d.max(0)).collect();
        let sum: i128 = distances.iter().map(|d| i128::from(*d)).sum();
        // A mean for people to look at: the digits that a float drops are none they read.
        #[expect(clippy::cast_precision_loss)]
        let mean = sum as f64 / distances.len() as f64;
        Some(Self {
            min: *distances.iter().min()?,
            max: *distances.iter().max()?,
            mean,
        })
    }
}

/// What a batch wrote to a sink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SinkProgress {
    /// The target, without secrets.
    pub target: String,
    /// Rows that were committed.
    pub rows: u64,
    /// Bytes that were committed, as far as the sink knows.
    pub bytes: u64,
    /// Whether an earlier attempt had committed the batch, so that nothing was written. What that attempt has written is
    /// counted if it was one of this run, and not known otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
}

impl BatchProgress {
    /// One line of JSON, without the newline.
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists of them, which JSON always can; NaN does not arise.
        serde_json::to_string(self).expect("strings and numbers are JSON")
    }

    /// Records read from all sources.
    pub fn records(&self) -> u64 {
        let records = self.sources.iter().map(|s| s.records);
        records.fold(0, u64::saturating_add)
    }

    /// Rows committed to all sinks.
    pub fn rows(&self) -> u64 {
        let rows = self.sinks.iter().map(|s| s.rows);
        rows.fold(0, u64::saturating_add)
    }

    /// Offsets that the batch moved on.
    pub fn offsets(&self) -> i64 {
        let ranges = self.sources.iter().flat_map(|s| &s.ranges);
        ranges.fold(0, |sum, range| sum.saturating_add(range.len()))
    }
}
