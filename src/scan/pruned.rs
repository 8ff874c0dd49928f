//! What a scan need not read, and why: for EXPLAIN.

use crate::range::OffsetRange;

/// Offsets that a scan need not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pruned {
    pub(crate) range: OffsetRange,
    pub(crate) by: PrunedBy,
}

/// The kind of predicate that ruled offsets out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PrunedBy {
    /// On topic and partition alone.
    Partition,
    /// On the key, which lies in another partition.
    Key,
    /// On the offset.
    Offset,
    /// On the timestamp, by look-up.
    Timestamp,
    /// On what an index has of the records.
    #[cfg_attr(not(feature = "jobs"), allow(dead_code))]
    Index,
}

impl PrunedBy {
    /// What EXPLAIN calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Key => "key",
            Self::Offset => "offset",
            Self::Timestamp => "timestamp",
            Self::Index => "index",
        }
    }
}

/// What an index said of the ranges that the other predicates left.
#[cfg_attr(not(feature = "jobs"), allow(dead_code))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct IndexUse {
    /// Blocks that may hold a match, and blocks that do not.
    pub(crate) read: usize,
    pub(crate) skipped: usize,
    /// Offsets that the index does not cover yet, which are read.
    pub(crate) not_covered: u64,
}
