//! A scan as several, each for a task of an engine that executes plans on many machines.
//!
//! ```text
//! execution partitions ─ parts: a Kafka partition each, or a part of one that is far larger than a share
//!                          ╰─ pieces: parts of one execution partition with the same leader, up to a share
//! ```
//!
//! What is in a piece was in one execution partition of the whole scan, in the same order, so orderings hold. Parts
//! and pieces are weighed by bytes, as far as it is known how large the records of a Kafka partition are.

use std::sync::Arc;

use datafusion::common::internal_err;
use datafusion::error::Result;

use super::condition::Conditions;
use super::{Direction, KafkaScanExec, MAX_MERGED_PARTITIONS, ScanRange};
use crate::range::{OffsetRange, cut};

/// The smallest part of a Kafka partition: below it, opening a stream costs more than it gains.
const SMALLEST_PART_BYTES: u64 = 10_000_000;

/// What the record at an offset is taken to have where that is not known.
pub const ASSUMED_BYTES_PER_OFFSET: u64 = 100;

/// Ranges that are read one after another.
#[derive(Debug, Clone)]
pub struct ScanPiece {
    ranges: Vec<ScanRange>,
    bytes: u64,
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
        offsets(&self.ranges)
    }

    /// About how many bytes its records have.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Both as one, which reads what this one has first. Only for scans that promise no order
    /// ([`NoOrder`](super::NoOrder)).
    pub fn append(&mut self, mut other: Self) {
        self.ranges.append(&mut other.ranges);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

fn offsets(ranges: &[ScanRange]) -> u64 {
    let each = ranges.iter();
    each.map(|range| u64::try_from(range.range.len()).unwrap_or(0))
        .sum()
}

impl KafkaScanExec {
    /// The scan in pieces, of which each has about a share of `1 / streams` of the offsets at most. Kafka
    /// partitions that must be read in one stream stay whole.
    pub fn pieces(&self, streams: usize) -> Vec<ScanPiece> {
        let (share, parts) = self.share_and_parts(streams, &|_| ASSUMED_BYTES_PER_OFFSET);
        let mut pieces: Vec<ScanPiece> = vec![];
        for mut parts in parts {
            // Stable: the order of a leader's ranges stays.
            parts.sort_by_key(ScanPiece::leader);
            let mut open: Option<ScanPiece> = None;
            for part in parts {
                match &mut open {
                    Some(piece)
                        if piece.leader() == part.leader()
                            && piece.bytes.saturating_add(part.bytes) <= share =>
                    {
                        piece.append(part);
                    }
                    _ => pieces.extend(open.replace(part)),
                }
            }
            pieces.extend(open);
        }
        pieces
    }

    /// The scan in parts, each of one Kafka partition and with about a share of `1 / streams` of the bytes at most.
    /// Kafka partitions that must be read in one stream stay whole. `bytes_per_offset` says how large the records of
    /// a range are.
    pub fn parts(
        &self,
        streams: usize,
        bytes_per_offset: &dyn Fn(&OffsetRange) -> u64,
    ) -> Vec<ScanPiece> {
        let (_, parts) = self.share_and_parts(streams, bytes_per_offset);
        parts.into_iter().flatten().collect()
    }

    /// The bytes of a share, and the parts of each execution partition.
    fn share_and_parts(
        &self,
        streams: usize,
        bytes_per_offset: &dyn Fn(&OffsetRange) -> u64,
    ) -> (u64, Vec<Vec<ScanPiece>>) {
        let of_one_partition = |a: &ScanRange, b: &ScanRange| {
            a.range.topic() == b.range.topic() && a.range.partition() == b.range.partition()
        };
        let units = self.partitions.iter().map(|ranges| {
            let units = ranges.chunk_by(of_one_partition);
            let units = units.map(|ranges| (ranges, bytes_per_offset(&ranges[0].range).max(1)));
            units.collect::<Vec<_>>()
        });
        let units: Vec<_> = units.collect();
        let bytes = |ranges: &[ScanRange], each: u64| offsets(ranges).saturating_mul(each);
        let all = units.iter().flatten();
        let all = all.fold(0u64, |sum, (ranges, each)| {
            sum.saturating_add(bytes(ranges, *each))
        });
        let share = (all / streams.max(1) as u64).max(SMALLEST_PART_BYTES);
        let part = |ranges: Vec<ScanRange>, each: u64| ScanPiece {
            bytes: bytes(&ranges, each),
            ranges,
        };
        let parts = units.into_iter().map(|units| {
            let parts = units.into_iter().flat_map(|(ranges, each)| {
                let ranges = ranges.to_vec();
                if !self.source.may_cut || bytes(&ranges, each) <= share {
                    return vec![part(ranges, each)];
                }
                // Where the bytes saturate, the offsets say how much is a share.
                let piece = (share / each).max(offsets(&ranges) / streams.max(1) as u64);
                let piece = i64::try_from(piece).unwrap_or(i64::MAX);
                let parts = cut(ranges, piece).into_iter();
                parts.map(|ranges| part(ranges, each)).collect()
            });
            parts.collect()
        });
        (share, parts.collect())
    }

    /// The most Kafka partitions that a piece may have, where the order of this scan limits that.
    pub fn most_partitions_of_a_piece(&self) -> usize {
        match self.direction {
            Direction::Forward => usize::MAX,
            Direction::Reverse => MAX_MERGED_PARTITIONS,
        }
    }

    /// A scan of these pieces of this one, each an execution partition, with empty ones up to `partitions`.
    ///
    /// # Errors
    /// When a piece has too many Kafka partitions for the order of this scan.
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
        let scan = scan.under(Conditions {
            // Nodes above that fill them stay behind.
            hints: vec![],
            ..self.conditions.as_ref().clone()
        });
        let mut scan = match self.direction {
            Direction::Forward => scan,
            Direction::Reverse => match scan.reversed()? {
                Some(reversed) => reversed,
                None => return internal_err!("a part of a reversed scan has too many partitions"),
            },
        };
        // A part of this scan, and none in addition to it.
        scan.share = self.share.clone();
        Ok(scan)
    }
}
