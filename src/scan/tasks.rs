//! A scan as several, each for a task of an engine that executes plans on many machines.
//!
//! Execution partitions are cut between ranges and, where one is far larger than its share, within them.
//! What is in one execution partition of a task was in one of the whole scan, in the same order, so orderings
//! hold. A piece is as far as possible of partitions with the same leader.

use std::sync::Arc;

use datafusion::common::internal_err;
use datafusion::error::Result;

use super::{Direction, KafkaScanExec, ScanRange};
use crate::range::OffsetRange;

/// The smallest piece of a Kafka partition, in offsets: below it, opening a stream costs more than it gains.
const SMALLEST_PIECE: i64 = 100_000;

/// Ranges that are read one after another.
#[derive(Debug, Clone)]
pub struct ScanPiece {
    ranges: Vec<ScanRange>,
}

impl ScanPiece {
    /// Its ranges.
    pub fn ranges(&self) -> impl Iterator<Item = &OffsetRange> {
        self.ranges.iter().map(|range| &range.range)
    }

    /// The broker that led the first of them when they were fixed.
    pub fn leader(&self) -> Option<i32> {
        self.ranges.first().and_then(|range| range.leader)
    }

    /// Its offsets: an upper bound of its rows.
    pub fn offsets(&self) -> u64 {
        let all = self.ranges();
        all.map(|range| u64::try_from(range.len()).unwrap_or(0))
            .sum()
    }
}

impl KafkaScanExec {
    /// The scan in pieces, of which each has about a share of `1 / streams` of the offsets at most. Kafka
    /// partitions that must be read in one stream stay whole.
    pub fn pieces(&self, streams: usize) -> Vec<ScanPiece> {
        let all = i64::try_from(self.offsets()).unwrap_or(i64::MAX);
        let share = all / i64::try_from(streams.max(1)).unwrap_or(i64::MAX);
        let share = share.max(SMALLEST_PIECE);
        let mut pieces = vec![];
        for ranges in self.partitions.iter() {
            let mut ranges = ranges.clone();
            // Stable: the order of a leader's ranges stays.
            ranges.sort_by_key(|range| range.leader);
            let of_one_partition = |a: &ScanRange, b: &ScanRange| {
                a.range.topic() == b.range.topic() && a.range.partition() == b.range.partition()
            };
            let mut open = Open::default();
            for ranges in ranges.chunk_by(of_one_partition) {
                let offsets: i64 = ranges.iter().map(|range| range.range.len()).sum();
                if open.leader() != ranges[0].leader || open.offsets + offsets > share {
                    pieces.extend(open.close());
                }
                if self.source.may_cut {
                    for range in ranges {
                        pieces.extend(open.cut(range, share));
                    }
                } else {
                    ranges.iter().for_each(|range| open.push(range.clone()));
                }
            }
            pieces.extend(open.close());
        }
        pieces
    }

    /// A scan of these pieces of this one, each an execution partition, with empty ones up to `partitions`.
    ///
    /// # Errors
    /// Never, for pieces of this scan.
    pub fn of_pieces(&self, pieces: Vec<ScanPiece>, partitions: usize) -> Result<Self> {
        let mut lists: Vec<_> = pieces.into_iter().map(|piece| piece.ranges).collect();
        lists.resize(lists.len().max(partitions), vec![]);
        self.of_lists(lists)
    }

    /// A scan of one execution partition of this one.
    ///
    /// # Errors
    /// When there is no such partition.
    pub fn of_partition(&self, partition: usize) -> Result<Self> {
        match self.partitions.get(partition) {
            Some(ranges) => self.of_lists(vec![ranges.clone()]),
            None => internal_err!("a scan has no execution partition {partition}"),
        }
    }

    fn of_lists(&self, lists: Vec<Vec<ScanRange>>) -> Result<Self> {
        let source = Arc::clone(&self.source);
        let scan = Self::try_new(source, lists, self.projection.to_vec(), self.fetch)?;
        match self.direction {
            Direction::Forward => Ok(scan),
            Direction::Reverse => match scan.reversed()? {
                Some(reversed) => Ok(reversed),
                None => internal_err!("a part of a reversed scan has too many partitions"),
            },
        }
    }
}

/// The piece that is being filled.
#[derive(Default)]
struct Open {
    ranges: Vec<ScanRange>,
    offsets: i64,
}

impl Open {
    fn leader(&self) -> Option<i32> {
        self.ranges.first().and_then(|range| range.leader)
    }

    fn push(&mut self, range: ScanRange) {
        self.offsets += range.range.len();
        self.ranges.push(range);
    }

    /// Takes a range, and gives the pieces that are full. The last one may be an eighth larger than its share, so
    /// that nothing tiny is left.
    fn cut(&mut self, range: &ScanRange, share: i64) -> Vec<ScanPiece> {
        let (mut start, end) = (range.range.start(), range.range.end());
        let mut full = vec![];
        while self.offsets + (end - start) > share + share / 8 {
            let cut = start + (share - self.offsets).max(1);
            self.push(range.piece(start, cut));
            full.extend(self.close());
            start = cut;
        }
        if start < end {
            self.push(range.piece(start, end));
        }
        full
    }

    fn close(&mut self) -> Option<ScanPiece> {
        let Self { ranges, .. } = std::mem::take(self);
        (!ranges.is_empty()).then_some(ScanPiece { ranges })
    }
}
