//! What a scan is to read, estimated before it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Sum;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::budget::bytes_in_words;
use super::reverse::MIN_PIECE_OFFSETS;
use super::reverse::by_kafka_partition;
use super::{Direction, KafkaScanExec};
use crate::range::OffsetRange;

/// Records and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Amount {
    pub(super) fn bytes_in_words(&self) -> String {
        bytes_in_words(self.bytes)
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            records: sum.records.saturating_add(one.records),
            bytes: sum.bytes.saturating_add(one.bytes),
        })
    }
}

/// What a scan is to read.
#[derive(Debug)]
pub(super) struct Estimate {
    pub(super) topics: BTreeSet<Arc<str>>,
    pub(super) amount: Amount,
    /// Whether the bytes of records are known.
    pub(super) is_sized: bool,
    /// What the parts of the scan on other machines have read.
    elsewhere: [AtomicU64; 2],
}

impl Estimate {
    /// Of the offsets of a scan, or of those that its LIMIT needs where each holds a record that is a row. Records
    /// have the mean size of their topic's.
    pub(super) fn of(scan: &KafkaScanExec, sizes: &BTreeMap<Arc<str>, f64>) -> Self {
        let mut topics = BTreeSet::new();
        let mut parts = vec![];
        // Nobody knows where the records are that pass a condition.
        let limit = scan.fetch.filter(|_| scan.conditions.taken.is_empty());
        for ranges in scan.partitions.iter() {
            topics.extend(ranges.iter().map(|r| Arc::clone(r.range.topic())));
            match scan.direction {
                Direction::Forward => {
                    let fetch = limit.map(|rows| rows as u64);
                    parts.push(part(ranges.iter().map(|r| &r.range), fetch, sizes));
                }
                Direction::Reverse => {
                    let least = u64::try_from(MIN_PIECE_OFFSETS).unwrap_or(0);
                    let fetch = limit.map(|rows| (rows as u64).max(least));
                    for ranges in by_kafka_partition(ranges).values() {
                        parts.push(part(ranges.iter().map(|r| &r.range), fetch, sizes));
                    }
                }
            }
        }
        Self {
            is_sized: topics.iter().all(|topic| sizes.contains_key(topic)),
            topics,
            amount: parts.into_iter().sum(),
            elsewhere: Default::default(),
        }
    }

    pub(super) fn set_elsewhere(&self, amount: Amount) {
        let [records, bytes] = &self.elsewhere;
        records.store(amount.records, Ordering::Relaxed);
        bytes.store(amount.bytes, Ordering::Relaxed);
    }

    pub(super) fn elsewhere(&self) -> Amount {
        let [records, bytes] = &self.elsewhere;
        Amount {
            records: records.load(Ordering::Relaxed),
            bytes: bytes.load(Ordering::Relaxed),
        }
    }
}

/// Ranges that are read one after another, up to `fetch` records.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate, which saturates"
)]
fn part<'a>(
    ranges: impl Iterator<Item = &'a OffsetRange>,
    fetch: Option<u64>,
    sizes: &BTreeMap<Arc<str>, f64>,
) -> Amount {
    let (mut offsets, mut bytes) = (0u64, 0.0);
    for range in ranges {
        let length = u64::try_from(range.len()).unwrap_or(0);
        offsets = offsets.saturating_add(length);
        bytes += length as f64 * sizes.get(range.topic()).copied().unwrap_or(0.0);
    }
    let records = fetch.map_or(offsets, |fetch| offsets.min(fetch));
    if records < offsets {
        bytes *= records as f64 / offsets as f64;
    }
    Amount {
        records,
        bytes: bytes as u64,
    }
}

/// The topics of some scans: the first three by name.
pub(super) fn topics_in_words(all: &[Arc<Estimate>]) -> String {
    let topics: BTreeSet<&Arc<str>> = all.iter().flat_map(|estimate| &estimate.topics).collect();
    let named: Vec<&str> = topics.iter().take(3).map(|topic| &***topic).collect();
    match topics.len() - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more topics", named.join(", ")),
    }
}
