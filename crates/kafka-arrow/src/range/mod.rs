//! Offset ranges as values: what a user may write, what it resolves to, and how it is split.
//!
//! Kafka numbers the records of a partition: a record's number is its *offset*. A range of offsets names the
//! same records whenever it is read. It goes through three states:
//!
//! ```text
//! RangeSpec  --plan-->  LookupPlan  --bind-->  BoundRange  (kept in a Snapshot, split for reading)
//! what was written      what must be           exact offsets
//!                       looked up
//! ```
//!
//! Nothing here does I/O, reads a clock or knows DataFusion. The caller passes in the time and the offsets
//! that were looked up. An [`OffsetRange`] is half-open (`start` inclusive, `end` exclusive), as in
//! Koeninger's direct stream for Spark.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

mod bind;
mod checksum;
mod intervals;
mod json;
mod ledger;
mod parse;
mod partitioner;
mod plan;
mod snapshot;
mod spark;
mod spec;
mod split;
mod syntax;
#[cfg(test)]
mod tests;
mod time;

/// By how much the clocks of a cluster's brokers may differ, in ms: a new leader may stamp records with times before those
/// of the old one. An end by time under LogAppendTime is looked up that much later.
pub const CLOCKS_DIFFER_MS: i64 = 60_000;

pub use crate::error::RangeSyntaxError;
pub use bind::{BoundRange, LogBounds, LookupFacts, LookupPlan};
pub use checksum::RowsChecksum;
pub use intervals::IntervalSet;
pub use ledger::{Ledger, LedgerCounts, RangeLedger};
pub use partitioner::KeyPartitioner;
pub use snapshot::{Snapshot, SnapshotRange, SnapshotTopic};
pub use spark::SparkOffsets;
pub use spec::{Bound, Interval, RangeSpec};
pub use split::{HasRange, SPLIT_ABOVE_OFFSETS, SplitOptions, cut, split};
pub use time::{Period, TimeRef};

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic's name.
    #[serde(with = "shared_str")]
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names a partition.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// Which records of transactions a reader sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IsolationLevel {
    /// Committed records only; the log ends at the last stable offset.
    #[default]
    ReadCommitted,
    /// All records, aborted and open transactions included; the log ends at the high watermark.
    ReadUncommitted,
}

impl IsolationLevel {
    /// Kafka's name of the level.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadCommitted => "read_committed",
            Self::ReadUncommitted => "read_uncommitted",
        }
    }
}

impl fmt::Display for IsolationLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Offsets `start..end` of a partition: `start` is read, `end` is not.
///
/// `0 <= start <= end`, and the partition is not negative. Both are checked when a range is made or deserialised.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct OffsetRange {
    #[serde(with = "shared_str")]
    topic: Arc<str>,
    partition: i32,
    start: i64,
    end: i64,
}

/// A range as it was written.
#[derive(Deserialize)]
struct Unchecked {
    #[serde(with = "shared_str")]
    topic: Arc<str>,
    partition: i32,
    start: i64,
    end: i64,
}

impl TryFrom<Unchecked> for OffsetRange {
    type Error = Error;

    fn try_from(range: Unchecked) -> Result<Self> {
        Self::try_new(range.topic, range.partition, range.start, range.end)
    }
}

impl AsRef<Self> for OffsetRange {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl AsMut<Self> for OffsetRange {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

impl OffsetRange {
    /// Offsets `start..end` of a partition, checked.
    ///
    /// # Errors
    /// When the partition or `start` is negative, or `start` lies after `end`.
    pub fn try_new(
        topic: impl Into<Arc<str>>,
        partition: i32,
        start: i64,
        end: i64,
    ) -> Result<Self> {
        let range = Self {
            topic: topic.into(),
            partition,
            start,
            end,
        };
        let problem = if range.partition < 0 {
            "partitions are numbered from 0"
        } else if range.start < 0 {
            "offsets are numbered from 0"
        } else if range.start > range.end {
            "the start lies after the end"
        } else {
            return Ok(range);
        };
        Err(Error::invalid(format!("range {range}: {problem}")))
    }

    /// The topic's name.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The partition's number, from 0.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The first offset that is read.
    pub fn start(&self) -> i64 {
        self.start
    }

    /// The first offset that is not read.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// The part of the range at offsets `start..end`. It is empty if they are outside.
    #[must_use]
    pub fn part(&self, start: i64, end: i64) -> Self {
        let start = start.clamp(self.start, self.end);
        Self {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            start,
            end: end.clamp(start, self.end),
        }
    }

    /// The smallest range of this one's partition that has the offsets of both.
    #[must_use]
    pub fn hull(&self, other: &Self) -> Self {
        Self {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// How many offsets the range spans. This is an upper bound on its records, never their exact count.
    pub fn len(&self) -> i64 {
        self.end - self.start
    }

    /// Whether the range spans no offsets.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether the range includes the offset.
    pub fn contains(&self, offset: i64) -> bool {
        self.start <= offset && offset < self.end
    }

    /// The partition of the range.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
        }
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}[{}] {}..{}",
            self.topic, self.partition, self.start, self.end
        )
    }
}

/// What to do when offsets of a range no longer exist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OnDataLoss {
    /// Fail with an error that names them.
    #[default]
    Fail,
    /// Read what is left. The reader counts what it skipped.
    Skip,
}

/// Serde for `Arc<str>` as a plain string, without serde's `rc` feature.
#[doc(hidden)]
pub mod shared_str {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(from).map(Arc::from)
    }
}
