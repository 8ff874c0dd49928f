//! How ranges are distributed: Spark's own examples, and laws.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::range::{OffsetRange, SPLIT_ABOVE_OFFSETS, SplitOptions, split};

fn range(topic: &str, partition: i32, start: i64, end: i64) -> OffsetRange {
    OffsetRange::try_new(topic, partition, start, end).unwrap()
}

fn by_spark(min: Option<usize>, max: Option<u64>, ranges: &[OffsetRange]) -> Vec<String> {
    let options = SplitOptions {
        min_partitions: min,
        max_records_per_partition: max,
        ..SplitOptions::default()
    };
    split(ranges, &options)
        .iter()
        .map(|partition| {
            assert_eq!(partition.len(), 1, "each piece is an execution partition");
            let piece = &partition[0];
            format!("{} {}..{}", piece.topic, piece.start, piece.end)
        })
        .collect()
}

/// Ranges of partition 1 of the topics t1, t2 …
fn topics(ranges: &[(i64, i64)]) -> Vec<OffsetRange> {
    (1..)
        .zip(ranges)
        .map(|(n, (start, end))| range(&format!("t{n}"), 1, *start, *end))
        .collect()
}

type Case = (usize, &'static [(i64, i64)], &'static [&'static str]);

/// The examples from Spark's tests for `minPartitions`.
#[test]
fn spark_min_partitions() {
    let cases: &[Case] = &[
        (
            3,
            &[(1, 2), (1, 2), (1, 2)],
            &["t1 1..2", "t2 1..2", "t3 1..2"],
        ),
        (4, &[(1, 5)], &["t1 1..2", "t1 2..3", "t1 3..4", "t1 4..5"]),
        (
            4,
            &[(1, 5), (1, 21)],
            &["t1 1..5", "t2 1..7", "t2 7..14", "t2 14..21"],
        ),
        (
            4,
            &[(1, 1), (1, 21)],
            &["t2 1..6", "t2 6..11", "t2 11..16", "t2 16..21"],
        ),
        (
            4,
            &[(1, 2), (1, 1001)],
            &["t1 1..2", "t2 1..334", "t2 334..667", "t2 667..1001"],
        ),
        (1, &[(1, 5), (1, 21)], &["t1 1..5", "t2 1..21"]),
        (3, &[(1, 11)], &["t1 1..4", "t1 4..7", "t1 7..11"]),
        (3, &[(0, 20)], &["t1 0..6", "t1 6..13", "t1 13..20"]),
        (
            4,
            &[(1, 5), (1, 21), (1, 1)],
            &["t1 1..5", "t2 1..7", "t2 7..14", "t2 14..21"],
        ),
        (
            6,
            &[(0, 10), (0, 10), (0, 1)],
            &[
                "t1 0..3", "t1 3..6", "t1 6..10", "t2 0..3", "t2 3..6", "t2 6..10", "t3 0..1",
            ],
        ),
        (
            9,
            &[(0, 10000), (0, 15000), (0, 20000)],
            &[
                "t1 0..5000",
                "t1 5000..10000",
                "t2 0..5000",
                "t2 5000..10000",
                "t2 10000..15000",
                "t3 0..5000",
                "t3 5000..10000",
                "t3 10000..15000",
                "t3 15000..20000",
            ],
        ),
        (
            6,
            &[(0, 500), (0, 12000), (0, 15001)],
            &[
                "t1 0..500",
                "t2 0..6000",
                "t2 6000..12000",
                "t3 0..5000",
                "t3 5000..10000",
                "t3 10000..15001",
            ],
        ),
        (
            6,
            &[(0, 1), (0, 1), (0, 10000)],
            &[
                "t1 0..1",
                "t2 0..1",
                "t3 0..2500",
                "t3 2500..5000",
                "t3 5000..7500",
                "t3 7500..10000",
            ],
        ),
        (
            4,
            &[(0, 1), (0, 1), (0, 2)],
            &["t1 0..1", "t2 0..1", "t3 0..1", "t3 1..2"],
        ),
    ];
    for (min, ranges, expected) in cases {
        assert_eq!(by_spark(Some(*min), None, &topics(ranges)), *expected);
    }
}

#[test]
fn spark_max_records() {
    assert_eq!(
        by_spark(None, Some(7), &topics(&[(0, 20), (5, 5), (0, 7)])),
        ["t1 0..6", "t1 6..13", "t1 13..20", "t3 0..7"]
    );
    // There are enough pieces already, so the least number changes nothing.
    assert_eq!(
        by_spark(Some(3), Some(7), &topics(&[(0, 20)])),
        ["t1 0..6", "t1 6..13", "t1 13..20"]
    );
    // There are too few, so the pieces made by the record limit are divided again.
    assert_eq!(
        by_spark(Some(4), Some(10), &topics(&[(0, 20)])),
        ["t1 0..5", "t1 5..10", "t1 10..15", "t1 15..20"]
    );
    assert_eq!(by_spark(None, Some(0), &topics(&[(0, 2)])).len(), 2);
}

#[test]
fn spark_options_cannot_exhaust_memory() {
    let huge = topics(&[(0, i64::MAX), (0, i64::MAX)]);
    for (min, max) in [
        (None, Some(1)),
        (Some(usize::MAX), None),
        (Some(usize::MAX), Some(1)),
    ] {
        assert!(by_spark(min, max, &huge).len() <= 100_000);
    }
}

fn balanced(target: usize, split_above: i64, ranges: &[OffsetRange]) -> Vec<String> {
    let options = SplitOptions {
        target_partitions: target,
        split_above,
        ..SplitOptions::default()
    };
    split(ranges, &options)
        .iter()
        .map(|partition| {
            let pieces: Vec<String> = partition.iter().map(ToString::to_string).collect();
            pieces.join(", ")
        })
        .collect()
}

#[test]
fn balanced_by_offsets() {
    assert!(balanced(4, 10, &[]).is_empty());
    assert!(balanced(4, 10, &[range("a", 0, 5, 5)]).is_empty());
    let ranges = [
        range("a", 0, 0, 10),
        range("a", 1, 0, 70),
        range("a", 2, 0, 40),
        range("a", 3, 0, 30),
    ];
    assert_eq!(
        balanced(2, SPLIT_ABOVE_OFFSETS, &ranges),
        ["a[0] 0..10, a[1] 0..70", "a[2] 0..40, a[3] 0..30"]
    );
    assert_eq!(balanced(0, 10, &ranges).len(), 1);
    // More targets than partitions that may be split.
    assert_eq!(balanced(9, SPLIT_ABOVE_OFFSETS, &ranges).len(), 4);
    // The ranges of a small partition stay together.
    let holes = [
        range("a", 0, 0, 5),
        range("a", 0, 9, 12),
        range("a", 1, 0, 4),
    ];
    assert_eq!(
        balanced(3, 100, &holes),
        ["a[0] 0..5, a[0] 9..12", "a[1] 0..4"]
    );
}

#[test]
fn large_partitions_are_cut() {
    assert_eq!(
        balanced(4, 10, &[range("a", 0, 0, 100)]),
        ["a[0] 0..25", "a[0] 25..50", "a[0] 50..75", "a[0] 75..100"]
    );
    // 110 and 10 in 2: one piece fills an execution partition, and the rest joins the small range.
    assert_eq!(
        balanced(2, 10, &[range("a", 0, 0, 110), range("a", 1, 0, 10)]),
        ["a[0] 0..60", "a[0] 60..110, a[1] 0..10"]
    );
    // A cut across a hole.
    assert_eq!(
        balanced(2, 10, &[range("a", 0, 0, 60), range("a", 0, 100, 140)]),
        ["a[0] 0..50", "a[0] 50..60, a[0] 100..140"]
    );
    // Below the threshold, or nothing to gain.
    assert_eq!(balanced(4, 100, &[range("a", 0, 0, 100)]).len(), 1);
    assert_eq!(balanced(1, 10, &[range("a", 0, 0, 100)]).len(), 1);
    // Pieces that would be too small are not made.
    assert_eq!(balanced(64, 100, &[range("a", 0, 0, 101)]).len(), 4);
    assert!(balanced(usize::MAX, 0, &[range("a", 0, 0, i64::MAX)]).len() <= 100_000);
}

fn inputs() -> impl Strategy<Value = Vec<OffsetRange>> {
    let partition = (
        "[ab]",
        0..4i32,
        proptest::collection::vec((0..50i64, 0..400i64), 1..4),
        0..3i64,
    );
    proptest::collection::vec(partition, 0..8).prop_map(|partitions| {
        let mut seen = BTreeMap::new();
        for (topic, number, lengths, scale) in partitions {
            let mut at = 0;
            let ranges: Vec<OffsetRange> = lengths
                .into_iter()
                .map(|(gap, len)| {
                    let start = at + gap;
                    at = start + len * 10i64.pow(scale as u32);
                    range(&topic, number, start, at)
                })
                .collect();
            seen.insert((topic, number), ranges);
        }
        seen.into_values().flatten().collect()
    })
}

fn options() -> impl Strategy<Value = SplitOptions> {
    let spark = (
        prop::option::of(0..40usize),
        prop::option::of(0..5_000u64),
        any::<bool>(),
    );
    (0..12usize, spark, 0..1_000i64).prop_map(|(target, (min, max, spark), above)| SplitOptions {
        target_partitions: target,
        min_partitions: min.filter(|_| spark),
        max_records_per_partition: max.filter(|_| spark),
        split_above: above,
    })
}

/// Joins ranges that touch, to compare pieces with the ranges they were cut from.
fn joined(mut ranges: Vec<OffsetRange>) -> Vec<OffsetRange> {
    ranges.retain(|r| !r.is_empty());
    ranges.sort();
    let mut all: Vec<OffsetRange> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last)
                if last.topic_partition() == range.topic_partition() && last.end == range.start =>
            {
                last.end = range.end;
            }
            _ => all.push(range),
        }
    }
    all
}

fn offsets(ranges: &[OffsetRange]) -> i64 {
    ranges.iter().map(OffsetRange::len).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn pieces_are_the_input(ranges in inputs(), options in options()) {
        let pieces = split(&ranges, &options);
        for partition in &pieces {
            prop_assert!(!partition.is_empty());
            prop_assert!(partition.iter().all(|r| !r.is_empty()));
            prop_assert!(partition.is_sorted());
        }
        let all: Vec<OffsetRange> = pieces.iter().flatten().cloned().collect();
        // Adjacent pieces join again. A duplicate or a missing piece would not.
        prop_assert_eq!(offsets(&all), offsets(&ranges));
        prop_assert_eq!(joined(all), joined(ranges.clone()));
        let mut reversed = ranges;
        reversed.reverse();
        prop_assert_eq!(split(&reversed, &options), pieces);
    }

    #[test]
    fn balanced_within_the_count_and_the_largest_piece(ranges in inputs(), options in options()) {
        let options = SplitOptions {
            min_partitions: None,
            max_records_per_partition: None,
            ..options
        };
        let pieces = split(&ranges, &options);
        let target = options.target_partitions.max(1);
        prop_assert!(pieces.len() <= target);
        let share = offsets(&ranges).div_euclid(target as i64) + 1;
        // A unit that cannot be cut is at most `split_above`; a piece is at most 9/8 of a share.
        let largest = (share + share / 8 + 1).max(options.split_above);
        for partition in &pieces {
            prop_assert!(offsets(partition) <= share + largest);
        }
        // A Kafka partition never has more pieces than there are execution partitions.
        let mut counts = BTreeMap::new();
        for partition in &pieces {
            let mut names: Vec<_> = partition.iter().map(OffsetRange::topic_partition).collect();
            names.dedup();
            for name in names {
                *counts.entry(name).or_insert(0usize) += 1;
            }
        }
        prop_assert!(counts.values().all(|count| *count <= target));
    }

    #[test]
    fn spark_pieces_hold_at_most_the_records(ranges in inputs(), most in 20..5_000u64, least in prop::option::of(1..40usize)) {
        let options = SplitOptions {
            min_partitions: least,
            max_records_per_partition: Some(most),
            ..SplitOptions::default()
        };
        for piece in split(&ranges, &options) {
            prop_assert_eq!(piece.len(), 1);
            prop_assert!(piece[0].len().unsigned_abs() <= most);
        }
    }
}
