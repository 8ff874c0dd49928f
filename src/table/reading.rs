//! What of a table is read, by whom, and how.

use std::sync::Arc;

#[cfg(feature = "jobs")]
use super::index::Indexed;
use super::pruning::Keys;
use super::resolve::Selection;
use crate::config::ScanBudget;
use crate::decode::RecordDecoder;
use crate::error::Error;
use crate::range::{Snapshot, SplitOptions};

/// What is read: topics and ranges, and how their records become rows.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) selection: Selection,
    /// The ranges that the table is pinned to; without them each statement resolves its own.
    pub(super) pinned: Option<Arc<Snapshot>>,
    pub(super) readers: Readers,
    pub(super) decoder: RecordDecoder,
    /// How keys choose partitions, if that is known.
    pub(super) keys: Option<Keys>,
    /// The index that rules offsets out.
    #[cfg(feature = "jobs")]
    pub(super) index: Option<Indexed>,
    /// How records become rows, as text; `None` where payloads stay bytes.
    #[cfg(feature = "jobs")]
    pub(super) decoding: Option<String>,
    pub(super) splitting: Splitting,
    pub(super) batch_bytes: usize,
    /// What all scans of the table in a statement may read. Tables that share it are the same.
    pub(super) budget: Option<Arc<ScanBudget>>,
}

/// Who may read the table.
#[derive(Debug, Clone, Default)]
pub(super) enum Readers {
    /// Queries and jobs.
    #[default]
    All,
    /// Jobs, which pin the ranges of each batch. The error tells a query why it may not.
    Jobs(Error),
    /// Queries: this option ends the range, and a job has no end.
    Queries(
        #[cfg_attr(
            not(feature = "jobs"),
            expect(dead_code, reason = "a job is refused with it")
        )]
        &'static str,
    ),
    /// Neither: there was nothing to learn the columns from. Jobs can write the table.
    Nobody(Error),
}

/// How the ranges become execution partitions.
#[derive(Debug, Clone, Copy)]
pub(super) enum Splitting {
    /// As many as the session wants, within these bounds.
    Within {
        min_partitions: Option<usize>,
        max_records_per_partition: Option<u64>,
    },
    /// One stream reads all of a Kafka partition, in order.
    #[cfg(feature = "jobs")]
    InOrder,
}

impl Splitting {
    /// Whether several streams may read a Kafka partition.
    pub(super) fn may_cut(self) -> bool {
        match self {
            Self::Within { .. } => true,
            #[cfg(feature = "jobs")]
            Self::InOrder => false,
        }
    }

    pub(super) fn options(self, target_partitions: usize) -> SplitOptions {
        let options = SplitOptions {
            target_partitions,
            ..SplitOptions::default()
        };
        match self {
            Self::Within {
                min_partitions,
                max_records_per_partition,
            } => SplitOptions {
                min_partitions,
                max_records_per_partition,
                ..options
            },
            #[cfg(feature = "jobs")]
            Self::InOrder => SplitOptions {
                split_above: i64::MAX,
                ..options
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::{OffsetRange, split};

    fn partitions(splitting: Splitting) -> usize {
        let ranges = [0, 1].map(|n| OffsetRange::try_new("orders", n, 0, 10_000_000).unwrap());
        split(&ranges, &splitting.options(4)).len()
    }

    #[test]
    fn kafka_partitions_are_split_unless_their_order_is_kept() {
        let within = |min_partitions, max_records_per_partition| Splitting::Within {
            min_partitions,
            max_records_per_partition,
        };
        assert_eq!(partitions(within(None, None)), 4);
        assert_eq!(partitions(within(Some(10), None)), 10);
        assert_eq!(partitions(within(None, Some(1_000_000))), 20);
        #[cfg(feature = "jobs")]
        assert_eq!(partitions(Splitting::InOrder), 2);
    }
}
