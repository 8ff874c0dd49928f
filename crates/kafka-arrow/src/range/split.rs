//! Distributes offset ranges over execution partitions, the parts of a scan that run in parallel.
//!
//! Two rules, both deterministic:
//!
//! - *Balanced* (the default): at most `target_partitions` execution partitions with about the same number of
//!   offsets. A Kafka partition stays whole unless it is large and would be the last to finish.
//! - *Spark's*, as soon as one of Spark's options is set: each piece is an execution partition, cut by
//!   Spark's arithmetic.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::OffsetRange;

/// Kafka partitions with at most this many offsets are not split. Reading them takes a fraction of a second
/// (tens of millions of small records per second and stream), so a second stream gains nothing.
pub const SPLIT_ABOVE_OFFSETS: i64 = 2_000_000;

/// The smallest piece is this fraction of `split_above`. For smaller ones, opening a stream costs more than
/// it gains.
const SMALLEST_PIECE_DIVISOR: i128 = 4;

/// A remainder below this fraction of a piece is spread over the other pieces instead of becoming one.
const REMAINDER_DIVISOR: i128 = 8;

/// The most pieces ever made. A larger plan would be useless, and Spark's options could ask for one piece per
/// record.
const MAX_PIECES: usize = 100_000;

/// A range, or a value that has one and can be cut as it is cut.
pub trait HasRange: Clone + AsRef<OffsetRange> + AsMut<OffsetRange> {}

impl<R: Clone + AsRef<OffsetRange> + AsMut<OffsetRange>> HasRange for R {}

/// How [`split`] distributes ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitOptions {
    /// The most execution partitions; 0 counts as 1. Ignored under Spark's options.
    pub target_partitions: usize,
    /// Spark's `minPartitions`: the least number of pieces, approximately.
    pub min_partitions: Option<usize>,
    /// Spark's `maxRecordsPerPartition`: the most offsets in a piece.
    pub max_records_per_partition: Option<u64>,
    /// Kafka partitions with at most this many offsets stay whole. Ignored under Spark's options.
    pub split_above: i64,
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self {
            target_partitions: 1,
            min_partitions: None,
            max_records_per_partition: None,
            split_above: SPLIT_ABOVE_OFFSETS,
        }
    }
}

/// Cuts ranges into execution partitions. They may be part of larger values: a piece is a copy with
/// offsets of its own.
///
/// - Every offset of the input is in the output exactly once; empty ranges are dropped.
/// - Within an execution partition, ranges are ordered by topic, partition and start. Neither a range nor an
///   execution partition is empty.
/// - The output does not depend on the order of the input ranges.
/// - There are at most 100,000 pieces, whatever the options ask for.
pub fn split<R: HasRange>(ranges: &[R], options: &SplitOptions) -> Vec<Vec<R>> {
    let filled = ranges.iter().filter(|r| !r.as_ref().is_empty());
    let mut ranges: Vec<R> = filled.cloned().collect();
    sort(&mut ranges);
    if options.min_partitions.is_some() || options.max_records_per_partition.is_some() {
        return by_spark(ranges, options)
            .into_iter()
            .map(|range| vec![range])
            .collect();
    }
    balanced(ranges, options)
}

fn sort<R: HasRange>(ranges: &mut [R]) {
    ranges.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
}

/// Ranges of one Kafka partition that are read together.
struct Unit<R> {
    ranges: Vec<R>,
    size: i128,
}

impl<R: HasRange> Unit<R> {
    fn new(ranges: Vec<R>) -> Self {
        let size = total(&ranges);
        Self { ranges, size }
    }
}

/// The length of a range, wide enough for any two offsets.
fn size(range: &impl HasRange) -> i128 {
    let range = range.as_ref();
    i128::from(range.end) - i128::from(range.start)
}

fn total(ranges: &[impl HasRange]) -> i128 {
    ranges.iter().map(size).sum()
}

/// Puts the largest unit first, each into the emptiest bin.
fn balanced<R: HasRange>(ranges: Vec<R>, options: &SplitOptions) -> Vec<Vec<R>> {
    let target = options.target_partitions.clamp(1, MAX_PIECES);
    let smallest = i128::from(options.split_above) / SMALLEST_PIECE_DIVISOR;
    // The share is at most `target`, so it fits.
    let share = (total(&ranges) + target as i128 - 1) / target as i128;
    let piece = share.max(smallest).max(1);

    let mut units = Vec::new();
    let same = |a: &OffsetRange, b: &OffsetRange| a.topic == b.topic && a.partition == b.partition;
    for ranges in ranges.chunk_by(|a, b| same(a.as_ref(), b.as_ref())) {
        let unit = Unit::new(ranges.to_vec());
        if target > 1 && unit.size > i128::from(options.split_above) && unit.size > piece {
            // A piece is at most the share, or a fraction of `split_above`.
            let piece = i64::try_from(piece).unwrap_or(i64::MAX);
            units.extend(cut(unit.ranges, piece).into_iter().map(Unit::new));
        } else {
            units.push(unit);
        }
    }
    // Stable: units of equal size stay ordered by topic, partition and start.
    units.sort_by_key(|unit| Reverse(unit.size));

    let mut bins: Vec<Vec<R>> = vec![Vec::new(); target.min(units.len())];
    let mut emptiest: BinaryHeap<Reverse<(i128, usize)>> =
        (0..bins.len()).map(|bin| Reverse((0, bin))).collect();
    for unit in units {
        // If there is a unit, there is a bin.
        let Some(Reverse((load, bin))) = emptiest.pop() else {
            break;
        };
        bins[bin].extend(unit.ranges);
        emptiest.push(Reverse((load + unit.size, bin)));
    }
    for ranges in &mut bins {
        sort(ranges);
    }
    // Every bin has its first range, and no other bin has that one.
    bins.sort_by(|a, b| {
        a.first()
            .map(AsRef::as_ref)
            .cmp(&b.first().map(AsRef::as_ref))
    });
    bins
}

/// Cuts the ranges of a Kafka partition, which are in order, into pieces of `piece` offsets and a remainder, or into
/// equal pieces if the remainder is tiny. A piece is a list of ranges.
pub fn cut<R: HasRange>(ranges: Vec<R>, piece: i64) -> Vec<Vec<R>> {
    let piece = i128::from(piece.max(1));
    let all = total(&ranges);
    let (full, remainder) = (all / piece, all % piece);
    let mut sizes = Vec::new();
    if full > 0 && remainder * REMAINDER_DIVISOR < piece {
        let mut left = all;
        for pieces_left in (1..=full).rev() {
            sizes.push(left / pieces_left);
            left -= left / pieces_left;
        }
    } else {
        sizes.extend((0..full).map(|_| piece));
        sizes.extend((remainder > 0).then_some(remainder));
    }
    let mut pieces = Vec::with_capacity(sizes.len());
    let mut rest = ranges.into_iter();
    let mut current = rest.next();
    for piece_size in sizes {
        let mut taken = Vec::new();
        let mut wanted = piece_size;
        while wanted > 0 {
            let Some(range) = current.take() else { break };
            if size(&range) <= wanted {
                wanted -= size(&range);
                taken.push(range);
                current = rest.next();
            } else {
                // The cut lies between start and end, so it fits.
                let OffsetRange { start, end, .. } = *range.as_ref();
                let cut = (i128::from(start) + wanted) as i64;
                wanted = 0;
                taken.push(piece_of(&range, start, cut));
                current = Some(piece_of(&range, cut, end));
            }
        }
        pieces.push(taken);
    }
    pieces
}

fn piece_of<R: HasRange>(range: &R, start: i64, end: i64) -> R {
    let mut piece = range.clone();
    let offsets = piece.as_mut();
    (offsets.start, offsets.end) = (start, end);
    piece
}

/// Spark's `KafkaOffsetRangeCalculator`. It first applies the most records in a piece, then the least number
/// of pieces, which it only approximates.
///
/// Spark has one range per Kafka partition. Where there are several, each counts separately.
fn by_spark<R: HasRange>(ranges: Vec<R>, options: &SplitOptions) -> Vec<R> {
    let mut ranges = ranges;
    if let Some(most) = options.max_records_per_partition {
        let counts: Vec<u128> = ranges
            .iter()
            .map(|r| size(r).unsigned_abs().div_ceil(u128::from(most.max(1))))
            .collect();
        ranges = divide_all(ranges, &counts);
    }
    let least = options.min_partitions.unwrap_or(0);
    if least <= ranges.len() {
        return ranges;
    }
    let all = total(&ranges);
    let whole: Vec<bool> = ranges
        .iter()
        .map(|r| part_count(size(r), all, least) == 1)
        .collect();
    // Ranges that stay whole leave the sum; the others share the remaining partitions.
    let whole_count = whole.iter().filter(|w| **w).count();
    let whole_size: i128 = ranges
        .iter()
        .zip(&whole)
        .filter(|(_, whole)| **whole)
        .map(|(r, _)| size(r))
        .sum();
    let least = least.saturating_sub(whole_count).max(1);
    let counts: Vec<u128> = ranges
        .iter()
        .zip(&whole)
        .map(|(range, whole)| match whole {
            true => 1,
            false => part_count(size(range), all - whole_size, least),
        })
        .collect();
    divide_all(ranges, &counts)
}

/// The number of pieces for a range by its share of all, rounded half up, at least one.
fn part_count(size: i128, all: i128, pieces: usize) -> u128 {
    // In floating point, as in Spark. The cast saturates.
    let share = (size as f64 / all as f64 * pieces as f64).round();
    (share as u128).max(1)
}

/// Divides each range into its number of pieces, with at most [`MAX_PIECES`] in total.
fn divide_all<R: HasRange>(ranges: Vec<R>, counts: &[u128]) -> Vec<R> {
    let mut budget = MAX_PIECES.saturating_sub(ranges.len()) as u128;
    let mut pieces = Vec::with_capacity(ranges.len());
    for (range, count) in ranges.into_iter().zip(counts) {
        let extra = count.saturating_sub(1).min(budget);
        budget -= extra;
        divide(&range, extra as i128 + 1, &mut pieces);
    }
    pieces
}

/// Each piece is the remainder divided by the number of remaining pieces: 20 in 3 are 6, 7 and 7.
fn divide<R: HasRange>(range: &R, count: i128, pieces: &mut Vec<R>) {
    let OffsetRange {
        mut start,
        end: last,
        ..
    } = *range.as_ref();
    for left in (1..=count).rev() {
        let remaining = i128::from(last) - i128::from(start);
        // At most the end of the range, so it fits.
        let end = (i128::from(start) + remaining / left) as i64;
        if start < end {
            pieces.push(piece_of(range, start, end));
        }
        start = end;
    }
}
