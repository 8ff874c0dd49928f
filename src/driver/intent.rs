//! What the offset log holds: batches as values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::progress::BatchProgress;
use crate::error::Result;
use crate::range::{OffsetRange, Snapshot, SnapshotRange, TopicPartition};
use crate::sink::{BatchRanges, Ends, Position, SourcePartition, SourceRange};

/// The version of the JSON that this crate writes and reads.
pub(crate) const VERSION: u64 = 1;

/// A batch, fixed and logged before it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Intent {
    /// The version of the format, 1.
    pub version: u64,
    /// The job's name.
    pub job: String,
    /// The batch's number, from 0.
    pub batch: u64,
    /// The run of the driver that made the batch: 32 hexadecimal digits.
    pub run: String,
    /// When the batch was fixed, in ms since the epoch; `now()` in the batch's queries.
    pub created_ms: i64,
    /// What the batch takes over of each source.
    pub sources: Vec<SourceIntent>,
}

/// What a batch takes over of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SourceIntent {
    /// The source: the table's name in the job.
    pub source: String,
    /// The ranges. Partitions without new offsets have an empty one.
    pub snapshot: Snapshot,
    /// Partitions that join the job with this batch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<TopicPartition>,
    /// Offsets that are gone and were allowed to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Lost>,
    /// Offsets before the ranges that the queries read too: the window.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub window: Vec<OffsetRange>,
    /// How records became rows when the batch was fixed, in words; absent where they are bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoding: Option<String>,
}

/// Offsets that a batch passes over, because the source allows data loss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Lost {
    /// The partition.
    #[serde(flatten)]
    pub partition: TopicPartition,
    /// The first offset that was not read.
    pub from: i64,
    /// Where reading goes on: the first offset that the log still has, in a recreated topic its start, in
    /// a log that was cut the offset of the cut.
    pub to: i64,
    /// Why.
    pub reason: LostBecause,
}

/// Why offsets are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LostBecause {
    /// Retention, compaction or DeleteRecords moved the log start.
    Expired,
    /// The topic was deleted and created again, or lost its end: `from` is an offset of the old log.
    Recreated,
    /// The partition is not there any more.
    Vanished,
    /// The log was cut by the loss of a leader: what was taken over of `to..from` is in no log, and other
    /// records may stand there.
    Truncated,
}

impl LostBecause {
    /// Whether offsets begin to be counted anew, before the end that was recorded.
    pub(crate) fn restarts(self) -> bool {
        matches!(self, Self::Recreated | Self::Truncated)
    }
}

impl Intent {
    /// The batch for a sink, under a name of its own for this attempt.
    pub fn ranges(&self, attempt: &str) -> BatchRanges {
        BatchRanges {
            job: self.job.clone(),
            batch: self.batch,
            attempt: attempt.to_owned(),
            ranges: self.sources.iter().flat_map(SourceIntent::ranges).collect(),
        }
    }

    /// The positions after the batch.
    pub fn ends(&self) -> Ends {
        self.ranges("").ends()
    }
}

impl SourceIntent {
    fn ranges(&self) -> impl Iterator<Item = SourceRange> {
        let source: Arc<str> = self.source.as_str().into();
        let topic_ids = self.snapshot.topic_ids();
        let joined: BTreeSet<&TopicPartition> = self.joined.iter().collect();
        let restarts = self.lost.iter().filter(|lost| lost.reason.restarts());
        let restarts: BTreeMap<&TopicPartition, i64> =
            restarts.map(|lost| (&lost.partition, lost.from)).collect();
        self.snapshot.ranges().iter().map(move |with_epoch| {
            let range = &with_epoch.range;
            let partition = range.topic_partition();
            let restarts_from = restarts.get(&partition).copied();
            SourceRange {
                previous: (!joined.contains(&partition))
                    .then_some(restarts_from.unwrap_or(range.start())),
                start: range.start(),
                end: range.end(),
                topic_id: topic_ids.get(range.topic()).cloned(),
                leader_epoch: with_epoch.leader_epoch,
                partition: SourcePartition {
                    source: Arc::clone(&source),
                    topic: partition.topic,
                    partition: partition.partition,
                },
            }
        })
    }

    /// What the queries read: the ranges, each with its window in front.
    ///
    /// # Errors
    /// When windows make ranges overlap, as in a log that somebody changed.
    pub fn reading(&self) -> Result<Snapshot> {
        let windows: BTreeMap<TopicPartition, &OffsetRange> = self
            .window
            .iter()
            .map(|range| (range.topic_partition(), range))
            .collect();
        let mut ranges = self.snapshot.ranges().to_vec();
        for range in &mut ranges {
            // They were compared when the batch was fixed, or before it is run again.
            range.leader_epoch = None;
            if let Some(window) = windows.get(&range.range.topic_partition()) {
                range.range = range.range.hull(window);
            }
        }
        ranges.retain(|range| !range.range.is_empty());
        let reading = self.snapshot.with_ranges(ranges)?;
        Ok(reading.listed_by(self.snapshot.newest_epochs()))
    }

    /// The positions after the batch.
    pub(crate) fn ends(&self) -> BTreeMap<TopicPartition, Position> {
        let topic_ids = self.snapshot.topic_ids();
        self.snapshot
            .ranges()
            .iter()
            .map(
                |SnapshotRange {
                     range,
                     leader_epoch,
                     ..
                 }| {
                    let position = Position {
                        next: range.end(),
                        topic_id: topic_ids.get(range.topic()).cloned(),
                        leader_epoch: *leader_epoch,
                    };
                    (range.topic_partition(), position)
                },
            )
            .collect()
    }
}

/// Where a job starts, logged before its first batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) version: u64,
    pub(crate) job: String,
    /// The number of the first batch.
    pub(crate) batch: u64,
    pub(crate) created_ms: i64,
    /// Whether the positions come from a sink, because the log was lost.
    #[serde(default)]
    pub(crate) from_sink: bool,
    pub(crate) sources: Vec<SourceStart>,
}

/// The run of a driver that took a log over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) version: u64,
    pub(crate) job: String,
    pub(crate) run: String,
    pub(crate) started_ms: i64,
}

/// Where a source starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceStart {
    pub(crate) source: String,
    pub(crate) positions: Vec<StartPosition>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StartPosition {
    #[serde(flatten)]
    pub(crate) partition: TopicPartition,
    #[serde(flatten)]
    pub(crate) position: Position,
}

/// A batch that all sinks have committed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CommitRecord {
    /// The version of the format, 1.
    pub version: u64,
    /// The job's name.
    pub job: String,
    /// The batch's number.
    pub batch: u64,
    /// The run of the driver that committed.
    pub run: String,
    /// When, in ms since the epoch.
    pub committed_ms: i64,
    /// What the batch did.
    pub progress: BatchProgress,
}

/// What a job is: a log belongs to one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    pub(crate) version: u64,
    pub(crate) job: String,
    pub(crate) created_ms: i64,
    pub(crate) query: QueryRecord,
}

/// The identity of a job's queries. Limits, data loss and connections may change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueryRecord {
    /// The INSERT statements, as the parser prints them.
    pub(crate) statements: Vec<String>,
    /// The sources and their topics.
    pub(crate) sources: BTreeMap<String, String>,
    /// The sinks' targets.
    pub(crate) sinks: Vec<String>,
}
