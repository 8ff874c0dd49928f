//! Cuts a snapshot's ranges to what predicates leave of them.

use super::lookup;
use super::pruning::Kept;
use crate::scan::{Pruned, PrunedBy, ScanRange};

/// The pieces that may hold matching records, and the offsets that cannot with the predicate that says so.
///
/// For each range, `kept` is what the predicates leave and `by_time` are the offsets that a look-up by
/// timestamp leaves.
pub(super) fn cut(
    ranges: Vec<ScanRange>,
    kept: &[Kept],
    by_time: &[(i64, i64)],
) -> (Vec<ScanRange>, Vec<Pruned>) {
    let mut pieces = vec![];
    let mut pruned = vec![];
    for ((range, kept), (from, to)) in ranges.into_iter().zip(kept).zip(by_time) {
        let range = ScanRange {
            matching: lookup::timestamp_bounds(kept),
            ..range
        };
        let (start, end) = (range.range.start(), range.range.end());
        if !kept.partition {
            pruned.extend(others(&range, &[], PrunedBy::Partition));
            continue;
        }
        if !kept.key {
            pruned.extend(others(&range, &[], PrunedBy::Key));
            continue;
        }
        let within = range.piece(start.max(*from), end.min(*to));
        let (start, end) = (within.range.start(), within.range.end());
        pruned.extend(others(&range, &[(start, end)], PrunedBy::Timestamp));
        let left = kept.offsets.cut(start, end);
        pruned.extend(others(&within, &left, PrunedBy::Offset));
        pieces.extend(left.into_iter().map(|(start, end)| range.piece(start, end)));
    }
    (pieces, pruned)
}

/// What lies between the pieces of a range that are kept.
pub(super) fn others(range: &ScanRange, kept: &[(i64, i64)], by: PrunedBy) -> Vec<Pruned> {
    let mut pruned = vec![];
    let (start, end) = (range.range.start(), range.range.end());
    let mut next = start;
    for (start, end) in kept.iter().chain([&(end, end)]) {
        if next < *start {
            pruned.push(Pruned {
                range: range.piece(next, *start).range,
                by,
            });
        }
        next = next.max(*end);
    }
    pruned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::IntervalSet;
    use crate::range::OffsetRange;

    #[test]
    fn each_offset_is_in_a_piece_or_pruned_by_one_predicate() {
        let range = |start, end| OffsetRange::try_new("t", 0, start, end).unwrap();
        let whole = ScanRange {
            range: range(10, 30),
            topic_id: None,
            newest_epoch: None,
            leader: None,
            selected: None,
            matching: None,
        };
        let kept = Kept {
            partition: true,
            key: true,
            offsets: IntervalSet::at_most(14).union(&IntervalSet::at_least(20)),
            timestamps: IntervalSet::at_least(1000),
        };
        let (pieces, pruned) = cut(
            vec![whole.clone()],
            std::slice::from_ref(&kept),
            &[(12, 25)],
        );
        let offsets: Vec<OffsetRange> = pieces.iter().map(|piece| piece.range.clone()).collect();
        assert_eq!(offsets, [range(12, 15), range(20, 25)]);
        let matching = pieces[0].matching.expect("timestamps that match");
        assert_eq!((matching.from_ms, matching.to_ms), (Some(1000), None));
        let pruned: Vec<_> = pruned.into_iter().map(|p| (p.range, p.by)).collect();
        assert_eq!(
            pruned,
            [
                (range(10, 12), PrunedBy::Timestamp),
                (range(25, 30), PrunedBy::Timestamp),
                (range(15, 20), PrunedBy::Offset),
            ]
        );

        let none = Kept {
            partition: false,
            ..kept
        };
        let (pieces, pruned) = cut(vec![whole], &[none], &[(10, 30)]);
        assert!(pieces.is_empty());
        assert_eq!(pruned.len(), 1);
        assert_eq!(pruned[0].by, PrunedBy::Partition);
    }
}
