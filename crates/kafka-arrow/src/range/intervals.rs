//! Sets of integers as sorted intervals: which offsets, partitions or timestamps a filter allows.

use std::fmt;
use std::ops::RangeInclusive;

/// A set of `i64`, stored as few closed intervals as possible.
///
/// - The intervals are sorted, not empty, and neither overlap nor touch. So equal sets are equal values.
/// - Any value from `i64::MIN` to `i64::MAX` can be in the set; nothing overflows.
///
/// ```
/// # use kafka_arrow::range::IntervalSet;
/// let set = IntervalSet::at_least(10).intersect(&IntervalSet::point(15).complement());
/// assert_eq!(set.to_string(), "10..=14, 16..");
/// assert_eq!(set.cut(0, 20), [(10, 15), (16, 20)]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct IntervalSet {
    intervals: Vec<(i64, i64)>,
}

impl IntervalSet {
    /// No integer.
    pub fn empty() -> Self {
        Self::default()
    }

    /// All integers.
    pub fn full() -> Self {
        Self::from_range(i64::MIN..=i64::MAX)
    }

    /// The integers of a range; empty when it is reversed.
    pub fn from_range(range: RangeInclusive<i64>) -> Self {
        let (low, high) = range.into_inner();
        Self::from_sorted([(low, high)])
    }

    /// The integers from `low` on.
    pub fn at_least(low: i64) -> Self {
        Self::from_range(low..=i64::MAX)
    }

    /// The integers up to `high`, inclusive.
    pub fn at_most(high: i64) -> Self {
        Self::from_range(i64::MIN..=high)
    }

    /// One integer.
    pub fn point(value: i64) -> Self {
        Self::from_range(value..=value)
    }

    /// Merges intervals that are sorted by their lower ends. Reversed ones are dropped.
    fn from_sorted(sorted: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let mut intervals: Vec<(i64, i64)> = Vec::new();
        for (low, high) in sorted {
            if low > high {
                continue;
            }
            match intervals.last_mut() {
                // Saturating is correct: nothing lies above i64::MAX.
                Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
                _ => intervals.push((low, high)),
            }
        }
        Self { intervals }
    }

    /// The integers in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).collect()
    }

    /// The integers in both sets.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let mut intervals = Vec::new();
        let (mut i, mut j) = (0, 0);
        while let (Some(a), Some(b)) = (self.intervals.get(i), other.intervals.get(j)) {
            intervals.push((a.0.max(b.0), a.1.min(b.1)));
            if a.1 < b.1 {
                i += 1;
            } else {
                j += 1;
            }
        }
        Self::from_sorted(intervals)
    }

    /// The integers that are not in the set.
    #[must_use]
    pub fn complement(&self) -> Self {
        let mut intervals = Vec::with_capacity(self.intervals.len() + 1);
        let mut next = Some(i64::MIN);
        for (low, high) in &self.intervals {
            if let (Some(from), Some(to)) = (next, low.checked_sub(1)) {
                intervals.push((from, to));
            }
            next = high.checked_add(1);
        }
        if let Some(from) = next {
            intervals.push((from, i64::MAX));
        }
        Self::from_sorted(intervals)
    }

    /// Whether an integer is in the set.
    pub fn contains(&self, value: i64) -> bool {
        let at = self.intervals.partition_point(|(_, high)| *high < value);
        self.intervals.get(at).is_some_and(|(low, _)| *low <= value)
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// Whether the set holds every integer.
    pub fn is_full(&self) -> bool {
        self.intervals == [(i64::MIN, i64::MAX)]
    }

    /// The intervals in ascending order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RangeInclusive<i64>> {
        self.intervals.iter().map(|(low, high)| *low..=*high)
    }

    /// The least and the greatest integer of the set.
    pub fn hull(&self) -> Option<(i64, i64)> {
        Some((self.intervals.first()?.0, self.intervals.last()?.1))
    }

    /// The parts of `start..end` in the set. All ends are exclusive.
    pub fn cut(&self, start: i64, end: i64) -> Vec<(i64, i64)> {
        let first = self.intervals.partition_point(|(_, high)| *high < start);
        self.intervals[first..]
            .iter()
            .take_while(|(low, _)| *low < end)
            // An interval up to i64::MAX is cut at `end`, which cannot be greater.
            .map(|(low, high)| (start.max(*low), end.min(high.saturating_add(1))))
            .filter(|(from, to)| from < to)
            .collect()
    }
}

impl FromIterator<RangeInclusive<i64>> for IntervalSet {
    /// The integers in any of the ranges, which may come in any order.
    fn from_iter<T: IntoIterator<Item = RangeInclusive<i64>>>(ranges: T) -> Self {
        let ranges = ranges.into_iter().map(RangeInclusive::into_inner);
        let mut ranges: Vec<(i64, i64)> = ranges.collect();
        ranges.sort_unstable();
        Self::from_sorted(ranges)
    }
}

impl fmt::Display for IntervalSet {
    /// As Rust ranges: `..=3, 5, 10..=14, 16..`; `none` and `all`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut separator = "";
        for interval in &self.intervals {
            f.write_str(separator)?;
            match interval {
                (i64::MIN, i64::MAX) => f.write_str("all")?,
                (i64::MIN, high) => write!(f, "..={high}")?,
                (low, i64::MAX) => write!(f, "{low}..")?,
                (low, high) if low == high => write!(f, "{low}")?,
                (low, high) => write!(f, "{low}..={high}")?,
            }
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn touching_intervals_merge_and_gaps_stay() {
        let set = IntervalSet::from_range(1..=3).union(&IntervalSet::from_range(4..=6));
        assert_eq!(set, IntervalSet::from_range(1..=6));
        let set = set.union(&IntervalSet::point(8));
        assert_eq!(set.iter().collect::<Vec<_>>(), [1..=6, 8..=8]);
        assert_eq!(set.hull(), Some((1, 8)));
        assert_eq!(set.to_string(), "1..=6, 8");
        assert_eq!(set.complement().to_string(), "..=0, 7, 9..");
    }

    #[test]
    fn ranges_in_any_order_make_a_set_whose_gaps_can_be_cut() {
        let ranges = [30..=39, 0..=9, 10..=11, 35..=49, 60..=60];
        let set: IntervalSet = ranges.into_iter().collect();
        assert_eq!(set.cut(0, 100), [(0, 12), (30, 50), (60, 61)]);
        let gaps = set.complement();
        assert_eq!(gaps.cut(5, 70), [(12, 30), (50, 60), (61, 70)]);
        assert_eq!(gaps.cut(2, 8), []);
        assert_eq!(IntervalSet::empty().complement().cut(0, 5), [(0, 5)]);
    }

    #[test]
    fn the_extremes_are_held() {
        assert!(IntervalSet::full().is_full());
        assert_eq!(IntervalSet::full().complement(), IntervalSet::empty());
        assert_eq!(IntervalSet::empty().complement(), IntervalSet::full());
        assert_eq!(IntervalSet::empty().hull(), None);
        for edge in [i64::MIN, i64::MAX] {
            let point = IntervalSet::point(edge);
            assert!(point.contains(edge));
            assert!(!point.complement().contains(edge));
            assert!(point.union(&point.complement()).is_full());
        }
        assert!(IntervalSet::from_range(RangeInclusive::new(2, 1)).is_empty());
        assert_eq!(
            IntervalSet::full().cut(i64::MIN, i64::MAX),
            [(i64::MIN, i64::MAX)]
        );
        assert_eq!(IntervalSet::full().to_string(), "all");
        assert_eq!(IntervalSet::empty().to_string(), "none");
        assert_eq!(IntervalSet::full().cut(5, 5), []);
        assert_eq!(IntervalSet::full().cut(6, 5), []);
    }

    /// Integers close to each other and to one of the edges, so that intervals touch.
    fn values(edge: i64) -> impl Strategy<Value = i64> {
        (-12..=12i64).prop_map(move |near| edge.saturating_add(near))
    }

    fn sets(edge: i64) -> impl Strategy<Value = IntervalSet> {
        proptest::collection::vec((values(edge), values(edge)), 0..6).prop_map(|intervals| {
            intervals
                .into_iter()
                .map(|(low, high)| IntervalSet::from_range(low..=high))
                .fold(IntervalSet::empty(), |all, one| all.union(&one))
        })
    }

    fn cases() -> impl Strategy<Value = (IntervalSet, IntervalSet, i64, i64, i64)> {
        prop::sample::select(vec![i64::MIN, 0, i64::MAX]).prop_flat_map(|edge| {
            (
                sets(edge),
                sets(edge),
                values(edge),
                values(edge),
                Just(edge),
            )
        })
    }

    fn normal(set: &IntervalSet) -> bool {
        set.intervals.iter().all(|(low, high)| low <= high)
            && set
                .intervals
                .windows(2)
                .all(|w| w[0].1 < i64::MAX && w[0].1 + 1 < w[1].0)
    }

    proptest! {
        #[test]
        fn algebra_is_membership((a, b, start, end, edge) in cases()) {
            let (union, both, not) = (a.union(&b), a.intersect(&b), a.complement());
            let cut = a.cut(start, end);
            for set in [&union, &both, &not] {
                prop_assert!(normal(set), "{:?}", set);
            }
            for near in -14..=14i64 {
                let value = edge.saturating_add(near);
                prop_assert_eq!(union.contains(value), a.contains(value) || b.contains(value));
                prop_assert_eq!(both.contains(value), a.contains(value) && b.contains(value));
                prop_assert_eq!(not.contains(value), !a.contains(value));
                let in_cut = cut.iter().filter(|(from, to)| (*from..*to).contains(&value)).count();
                let expected = a.contains(value) && (start..end).contains(&value);
                prop_assert_eq!(in_cut, usize::from(expected));
            }
            prop_assert_eq!(not.complement(), a.clone());
            prop_assert_eq!(a.iter().all(|i| a.contains(*i.start()) && a.contains(*i.end())), true);
        }
    }
}
