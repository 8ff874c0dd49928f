//! Cuts ranges into pieces of offsets, one file each, before anything is read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::range::{OffsetRange, Snapshot, SnapshotRange};

/// The most pieces in an export. Its plan is one file, and so is its manifest.
pub(crate) const MAX_PIECES: usize = 1_000_000;

/// A range of the snapshot, and where it is cut.
///
/// `cuts` rise strictly from the range's start to its end. An empty range has no cuts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CutRange {
    /// The index of the range in the snapshot.
    pub(crate) range: usize,
    /// The bounds of the pieces: `n` pieces have `n + 1` bounds.
    pub(crate) cuts: Vec<i64>,
}

/// Cuts every range into pieces of `offsets` offsets.
///
/// # Errors
/// When there would be too many pieces.
pub(crate) fn cut(snapshot: &Snapshot, offsets: u64) -> Result<Vec<CutRange>> {
    let step = i64::try_from(offsets.max(1)).unwrap_or(i64::MAX);
    let pieces: u64 = snapshot
        .offset_ranges()
        .map(|range| {
            u64::try_from(range.len())
                .unwrap_or(0)
                .div_ceil(offsets.max(1))
        })
        .fold(0, u64::saturating_add);
    if pieces > MAX_PIECES as u64 {
        return Err(Error::invalid(format!(
            "the export would have {pieces} pieces of {step} offsets, the most is {MAX_PIECES}; \
             ask for larger files with --max-file-size or --max-file-offsets"
        )));
    }
    let cuts = |range: &OffsetRange| {
        let mut cuts = vec![];
        if range.is_empty() {
            return cuts;
        }
        let mut at = range.start();
        while at < range.end() {
            cuts.push(at);
            at = at.saturating_add(step);
        }
        cuts.push(range.end());
        cuts
    };
    Ok(snapshot
        .offset_ranges()
        .enumerate()
        .map(|(index, range)| CutRange {
            range: index,
            cuts: cuts(range),
        })
        .collect())
}

/// The pieces, in the order of the plan.
pub(crate) fn pieces(snapshot: &Snapshot, cuts: &[CutRange]) -> Vec<OffsetRange> {
    let mut pieces = vec![];
    for cut in cuts {
        let Some(range) = snapshot.ranges().get(cut.range) else {
            continue;
        };
        let bounds = cut.cuts.windows(2);
        pieces.extend(bounds.map(|bounds| range.range.part(bounds[0], bounds[1])));
    }
    pieces
}

/// Checks that the pieces cover the snapshot's ranges without gap or overlap.
///
/// # Errors
/// A message that says what is wrong.
pub(crate) fn check(snapshot: &Snapshot, cuts: &[CutRange]) -> std::result::Result<(), String> {
    let mut of_range: BTreeMap<usize, &CutRange> = BTreeMap::new();
    for cut in cuts {
        let Some(range) = snapshot.ranges().get(cut.range) else {
            return Err("a piece belongs to no range".to_owned());
        };
        if of_range.insert(cut.range, cut).is_some() {
            return Err(format!("{} is cut twice", range.range));
        }
    }
    for (index, range) in snapshot.offset_ranges().enumerate() {
        let cut = of_range.get(&index);
        let cut = cut.ok_or_else(|| format!("{range} is not cut"))?;
        if range.is_empty() && cut.cuts.is_empty() {
            continue;
        }
        let rising = cut.cuts.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising
            || cut.cuts.len() < 2
            || cut.cuts.first() != Some(&range.start())
            || cut.cuts.last() != Some(&range.end())
        {
            return Err(format!("the pieces of {range} are not its offsets"));
        }
    }
    Ok(())
}

/// The snapshot of one piece. Everything else that is known stays.
pub(crate) fn snapshot_of(snapshot: &Snapshot, piece: &OffsetRange) -> Result<Snapshot> {
    let holds = |range: &&SnapshotRange| {
        let range = &range.range;
        range.topic() == piece.topic()
            && range.partition() == piece.partition()
            && range.start() <= piece.start()
            && piece.end() <= range.end()
    };
    let Some(range) = snapshot.ranges().iter().find(holds) else {
        return Err(Error::invalid(format!("{piece} is not of this export")));
    };
    snapshot.with_ranges(vec![SnapshotRange {
        range: piece.clone(),
        // The epoch belongs to the end of the whole range, which was compared before. It says nothing
        // about a piece.
        leader_epoch: None,
        ..range.clone()
    }])
}

/// The folder of a piece's files below the export; `hive` is `None` without Hive folders.
pub(crate) fn folder(piece: &OffsetRange, hive: Option<&str>) -> String {
    match hive {
        Some(hive) => format!("{}/{hive}/partition={}", piece.topic(), piece.partition()),
        None => format!("{}/partition={}", piece.topic(), piece.partition()),
    }
}

/// The offsets of a piece, as they appear in the names of its files.
pub(crate) fn stem(piece: &OffsetRange) -> String {
    format!("{:020}-{:020}", piece.start(), piece.end())
}

/// The file of a piece. `number` counts further files in the same folder from 1.
pub(crate) fn file_name(
    piece: &OffsetRange,
    hive: Option<&str>,
    number: usize,
    extension: &str,
) -> String {
    let (folder, stem) = (folder(piece, hive), stem(piece));
    match number {
        0 => format!("{folder}/{stem}.{extension}"),
        number => format!("{folder}/{stem}.{number}.{extension}"),
    }
}

/// The name of the record that says that a piece is done.
pub(crate) fn done_name(piece: &OffsetRange) -> String {
    format!("_export/done/{}/{}.json", folder(piece, None), stem(piece))
}

/// The topic, partition and stem in the name of a file.
pub(crate) fn of_name(name: &str) -> Option<(&str, i32, &str)> {
    let (folder, file) = name.rsplit_once('/')?;
    let topic = name.split('/').next()?;
    let partition = folder.rsplit('/').next()?.strip_prefix("partition=")?;
    Some((topic, partition.parse().ok()?, file.split('.').next()?))
}

/// The number of offsets for files of about `max_bytes`, if one offset takes `bytes`. It is rounded to two
/// digits, so that people can read the names.
pub(crate) fn offsets_for(max_bytes: u64, bytes: f64) -> u64 {
    /// The limit when the sample has hardly any records, so that their size is unknown.
    const MOST: u64 = 10_000_000;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate, clamped to what fits"
    )]
    let offsets = (max_bytes as f64 / bytes.max(1e-9)).clamp(1.0, MOST as f64) as u64;
    let mut unit = 1;
    while offsets / unit >= 100 {
        unit *= 10;
    }
    offsets / unit * unit
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::range::{IsolationLevel, SnapshotTopic};

    fn snapshot(ranges: &[(i32, i64, i64)]) -> Snapshot {
        Snapshot::try_new(
            None,
            IsolationLevel::default(),
            0,
            vec![SnapshotTopic {
                topic: "t".into(),
                topic_id: None,
                log_append_time: false,
            }],
            ranges
                .iter()
                .map(|(partition, start, end)| SnapshotRange {
                    range: OffsetRange::try_new("t", *partition, *start, *end).unwrap(),
                    from_ms: None,
                    to_ms: None,
                    log_start: 0,
                    log_end: i64::MAX,
                    leader: None,
                    leader_epoch: None,
                })
                .collect(),
        )
        .unwrap()
    }

    #[test]
    fn names_have_twenty_digits() {
        let piece = OffsetRange::try_new("orders", 3, 100_000, 200_000).unwrap();
        assert_eq!(
            file_name(&piece, None, 0, "parquet"),
            "orders/partition=3/00000000000000100000-00000000000000200000.parquet"
        );
        let hive = file_name(&piece, Some("day=2026-01-14"), 2, "csv");
        assert_eq!(
            hive,
            "orders/day=2026-01-14/partition=3/00000000000000100000-00000000000000200000.2.csv"
        );
        let stem = "00000000000000100000-00000000000000200000";
        assert_eq!(of_name(&hive), Some(("orders", 3, stem)));
        assert_eq!(of_name("manifest.json"), None);
        assert_eq!(of_name("orders/x/y.csv"), None);
        let last = OffsetRange::try_new("t", 0, i64::MAX - 1, i64::MAX).unwrap();
        assert_eq!(super::stem(&last).len(), 41);
    }

    #[test]
    fn estimates_are_round_and_bounded() {
        assert_eq!(offsets_for(128 << 20, 100.0), 1_300_000);
        assert_eq!(offsets_for(128 << 20, 0.0), 10_000_000);
        assert_eq!(offsets_for(10, 1e6), 1);
        assert_eq!(offsets_for(99, 1.0), 99);
    }

    #[test]
    fn too_many_pieces_are_refused() {
        let error = cut(&snapshot(&[(0, 0, i64::MAX)]), 1).unwrap_err();
        assert!(error.to_string().contains("--max-file-offsets"), "{error}");
    }

    #[test]
    fn other_pieces_are_noticed() {
        let snapshot = snapshot(&[(0, 5, 20)]);
        let cuts = |cuts: &[i64]| {
            let cuts = cuts.to_vec();
            check(&snapshot, &[CutRange { range: 0, cuts }])
        };
        assert!(cuts(&[5, 10, 20]).is_ok());
        for wrong in [&[5, 10][..], &[4, 20], &[5, 12, 11, 20], &[], &[5, 5, 20]] {
            assert!(cuts(wrong).is_err(), "{wrong:?}");
        }
        assert!(check(&snapshot, &[]).is_err());
    }

    proptest! {
        #[test]
        fn pieces_tile_their_ranges(
            ranges in prop::collection::vec((0i64..i64::MAX - 5000, 0i64..5000), 1..6),
            step in 1u64..3000,
        ) {
            let ranges: Vec<(i32, i64, i64)> = ranges
                .iter()
                .zip(0..)
                .map(|((start, len), partition)| (partition, *start, start + len))
                .collect();
            let snapshot = snapshot(&ranges);
            let cuts = cut(&snapshot, step).unwrap();
            prop_assert_eq!(check(&snapshot, &cuts), Ok(()));
            let pieces = pieces(&snapshot, &cuts);
            for (partition, start, end) in ranges {
                let mut next = start;
                for piece in pieces.iter().filter(|p| p.partition() == partition) {
                    prop_assert_eq!(piece.start(), next);
                    prop_assert!(!piece.is_empty());
                    prop_assert!(piece.len() as u64 <= step);
                    next = piece.end();
                    prop_assert_eq!(snapshot_of(&snapshot, piece).unwrap().len(), piece.len());
                }
                prop_assert_eq!(next, end);
            }
        }
    }
}
