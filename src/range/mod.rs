//! Offset ranges as values: what a user may write, what it resolves to, how it is split.
//!
//! Nothing here does I/O, reads a clock or knows DataFusion. An [`OffsetRange`] is half-open
//! (`start` inclusive, `end` exclusive), as in Koeninger's direct stream for Spark.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic's name.
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OffsetRange {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
    /// The first offset that is read.
    pub start: i64,
    /// The first offset that is not read any more.
    pub end: i64,
}

/// placeholder
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("range")]
pub struct RangeSyntaxError;
