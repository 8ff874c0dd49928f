//! What predicates ruled out of a scan.

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
}

impl PrunedBy {
    /// What EXPLAIN calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Key => "key",
            Self::Offset => "offset",
            Self::Timestamp => "timestamp",
        }
    }
}
