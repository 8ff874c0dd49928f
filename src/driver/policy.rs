//! How much of the backlog a batch takes.

use std::fmt;
use std::time::Duration;

use crate::range::TopicPartition;
use crate::table::Limits;

/// Decides where the next batch of a source ends.
///
/// The driver asks before each batch, with what there is. It keeps every answer within the log: an
/// end before the start counts as the start, one beyond the log as the log's end.
///
/// ```
/// use datafusion_kafka::driver::{Backlog, BatchPolicy};
///
/// /// Takes half of what there is, so that a long backlog is worked off in shrinking steps.
/// #[derive(Debug)]
/// struct Half;
///
/// impl BatchPolicy for Half {
///     fn ends(&self, backlog: &Backlog) -> Option<Vec<i64>> {
///         let half = |p: &datafusion_kafka::driver::PartitionBacklog| p.start + (p.len() + 1) / 2;
///         Some(backlog.partitions.iter().map(half).collect())
///     }
/// }
/// ```
pub trait BatchPolicy: fmt::Debug + Send + Sync {
    /// The end of each partition of `backlog`, in its order; `None` to wait for more.
    fn ends(&self, backlog: &Backlog) -> Option<Vec<i64>>;

    /// Asks the driver to look up, for each partition, the first offset whose record is younger
    /// than this: [`PartitionBacklog::young`].
    fn lag(&self) -> Option<Duration> {
        None
    }
}

/// What a source has for the next batch.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Backlog {
    /// All partitions of the source, also those without new offsets.
    pub partitions: Vec<PartitionBacklog>,
    /// Time since the source's last batch, or since the driver started.
    pub waited: Duration,
    /// Whether no batch of this source was made yet, by this driver or an earlier one.
    pub first: bool,
    /// Key and value bytes of an offset, as the source's earlier batches had them.
    pub bytes_per_offset: Option<f64>,
}

/// What a partition has for the next batch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionBacklog {
    /// The partition.
    pub partition: TopicPartition,
    /// Where the batch starts.
    pub start: i64,
    /// The end of the log at the source's isolation level.
    pub end: i64,
    /// The first offset younger than [`BatchPolicy::lag`], at most `end`.
    pub young: Option<i64>,
}

impl PartitionBacklog {
    /// How many offsets there are, at least 0.
    pub fn len(&self) -> i64 {
        self.end.saturating_sub(self.start).max(0)
    }

    /// Whether there is nothing new.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Backlog {
    /// How many offsets there are; stops at `i64::MAX`.
    pub fn len(&self) -> i64 {
        self.partitions
            .iter()
            .fold(0i64, |sum, p| sum.saturating_add(p.len()))
    }

    /// Whether no partition has anything new.
    pub fn is_empty(&self) -> bool {
        self.partitions.iter().all(PartitionBacklog::is_empty)
    }
}

/// What [`Limits::max_bytes`] counts for an offset before it knows better.
pub const GUESSED_BYTES: f64 = 1024.0;

/// How long [`Limits::min_offsets`] waits unless set; Spark's default of `maxTriggerDelay`.
pub const MAX_DELAY: Duration = Duration::from_secs(15 * 60);

impl Limits {
    /// The same limits for a run that ends: nothing is waited for.
    pub(crate) fn without_waiting(&self) -> Self {
        Self {
            min_offsets: None,
            max_delay: None,
            ..self.clone()
        }
    }

    /// Spark's rule R2: the first batch always runs, a later one with enough offsets or after
    /// enough time.
    fn waits(&self, backlog: &Backlog, available: i64) -> bool {
        let Some(min) = self.min_offsets else {
            return false;
        };
        let max_delay = self.max_delay.unwrap_or(MAX_DELAY);
        !backlog.first && backlog.waited <= max_delay && to_i64(min) > available
    }

    /// The most offsets that `max_offsets` and `max_bytes` allow.
    fn max_total(&self, backlog: &Backlog) -> Option<i64> {
        let by_bytes = self.max_bytes.map(|bytes| {
            let each = backlog.bytes_per_offset.unwrap_or(GUESSED_BYTES).max(1.0);
            // A float's conversion stops at the ends of the integer; precision is not at stake.
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
            let offsets = (bytes as f64 / each) as i64;
            offsets.max(1)
        });
        let by_offsets = self.max_offsets.map(to_i64);
        [by_bytes, by_offsets].into_iter().flatten().min()
    }
}

impl BatchPolicy for Limits {
    fn ends(&self, backlog: &Backlog) -> Option<Vec<i64>> {
        let partition_max = self.max_offsets_per_partition.map_or(i64::MAX, to_i64);
        let sizes: Vec<i64> = backlog
            .partitions
            .iter()
            .map(|p| {
                let end = match self.lag {
                    Some(_) => p.young.unwrap_or(p.start).min(p.end),
                    None => p.end,
                };
                end.saturating_sub(p.start).max(0)
            })
            .collect();
        let available = sizes
            .iter()
            .fold(0i64, |sum, size| sum.saturating_add(*size));
        if self.waits(backlog, available) {
            return None;
        }
        let sizes: Vec<i64> = sizes.into_iter().map(|s| s.min(partition_max)).collect();
        let shares = match self.max_total(backlog) {
            Some(limit) => prorate(&sizes, limit),
            None => sizes,
        };
        let ends = backlog.partitions.iter().zip(shares);
        Some(
            ends.map(|(p, share)| p.start.saturating_add(share))
                .collect(),
        )
    }

    fn lag(&self) -> Option<Duration> {
        self.lag
    }
}

/// Spark's rule R1: shares of `limit` in proportion to `sizes`. A share below one is one, others
/// are rounded down; none is larger than its size.
pub(crate) fn prorate(sizes: &[i64], limit: i64) -> Vec<i64> {
    let total: i128 = sizes.iter().map(|size| i128::from(*size)).sum();
    let limit = i128::from(limit.max(0));
    if total <= limit {
        return sizes.to_vec();
    }
    let share = |size: i64| {
        if size <= 0 || limit == 0 {
            return 0;
        }
        // Both factors are below 2^63, so the product fits 126 bits.
        let exact = limit * i128::from(size) / total;
        i64::try_from(exact).unwrap_or(i64::MAX).max(1).min(size)
    };
    sizes.iter().map(|size| share(*size)).collect()
}

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backlog(partitions: &[(i64, i64)]) -> Backlog {
        Backlog {
            partitions: (0..)
                .zip(partitions)
                .map(|(number, (start, end))| PartitionBacklog {
                    partition: TopicPartition::new("t", number),
                    start: *start,
                    end: *end,
                    young: None,
                })
                .collect(),
            waited: Duration::ZERO,
            first: false,
            bytes_per_offset: None,
        }
    }

    fn ends(limits: &Limits, partitions: &[(i64, i64)]) -> Option<Vec<i64>> {
        limits.ends(&backlog(partitions))
    }

    fn max(offsets: u64) -> Limits {
        Limits {
            max_offsets: Some(offsets),
            ..Limits::default()
        }
    }

    #[test]
    fn everything_without_limits() {
        assert_eq!(
            ends(&Limits::default(), &[(0, 5), (7, 7)]),
            Some(vec![5, 7])
        );
    }

    /// Spark's suite "maxOffsetsPerTrigger": 100, 10 and 1 records, ten a batch.
    #[test]
    fn proration_follows_spark() {
        let logs = [100, 110, 1];
        let sizes = [100i64, 10, 1];
        let mut starts = [0i64, 100, 0];
        let mut batches = vec![];
        while starts != logs {
            let partitions: Vec<(i64, i64)> = starts.iter().copied().zip(logs).collect();
            let next = ends(&max(10), &partitions).unwrap();
            batches.push(
                next.iter()
                    .zip(starts)
                    .map(|(end, start)| end - start)
                    .collect::<Vec<_>>(),
            );
            starts.copy_from_slice(&next);
        }
        // 10 * 100/111 = 9.009, 10 * 10/111 = 0.9, 10 * 1/111 = 0.09
        assert_eq!(batches[0], [9, 1, 1]);
        // 10 * 91/100 = 9.1, 10 * 9/100 = 0.9
        assert_eq!(batches[1], [9, 1, 0]);
        let totals: Vec<i64> = (0..3).map(|p| batches.iter().map(|b| b[p]).sum()).collect();
        assert_eq!(totals, sizes);
    }

    #[test]
    fn fifteen_records_by_five_are_three_batches() {
        let mut start = 0;
        let mut batches = 0;
        while start < 15 {
            start = ends(&max(5), &[(start, 15)]).unwrap()[0];
            batches += 1;
        }
        assert_eq!(batches, 3);
    }

    #[test]
    fn huge_backlogs_do_not_overflow() {
        let logs = [(0, i64::MAX), (0, i64::MAX), (5, 6)];
        assert_eq!(
            ends(&max(u64::MAX), &logs),
            Some(vec![i64::MAX / 2, i64::MAX / 2, 6])
        );
        assert_eq!(ends(&max(1), &logs), Some(vec![1, 1, 6]));
    }

    #[test]
    fn minimum_waits_until_there_is_enough_or_time_is_up() {
        let limits = Limits {
            min_offsets: Some(10),
            max_delay: Some(Duration::from_secs(5)),
            ..Limits::default()
        };
        assert_eq!(ends(&limits, &[(0, 5), (0, 4)]), None);
        assert_eq!(ends(&limits, &[(0, 5), (0, 5)]), Some(vec![5, 5]));
        let mut late = backlog(&[(0, 5)]);
        late.waited = Duration::from_secs(6);
        assert_eq!(limits.ends(&late), Some(vec![5]));
        let mut first = backlog(&[(0, 5)]);
        first.first = true;
        assert_eq!(limits.ends(&first), Some(vec![5]));
        assert_eq!(
            limits.without_waiting().ends(&backlog(&[(0, 5)])),
            Some(vec![5])
        );
    }

    #[test]
    fn young_records_are_left_alone() {
        let limits = Limits {
            lag: Some(Duration::from_secs(300)),
            ..Limits::default()
        };
        let mut log = backlog(&[(0, 50), (0, 9)]);
        log.partitions[0].young = Some(20);
        assert_eq!(limits.ends(&log), Some(vec![20, 0]));
    }

    #[test]
    fn bytes_are_estimated_from_earlier_batches() {
        let limits = Limits {
            max_bytes: Some(10_000),
            ..Limits::default()
        };
        assert_eq!(ends(&limits, &[(0, 100)]), Some(vec![9]));
        let mut known = backlog(&[(0, 100)]);
        known.bytes_per_offset = Some(200.0);
        assert_eq!(limits.ends(&known), Some(vec![50]));
        known.bytes_per_offset = Some(1e9);
        assert_eq!(limits.ends(&known), Some(vec![1]));
    }

    proptest! {
        #[test]
        fn every_partition_with_data_advances_within_it(
            logs in prop::collection::vec((0..i64::MAX, 0..i64::MAX), 1..20),
            limit in 1..u64::MAX,
            each in prop::option::of(1..u64::MAX),
        ) {
            let logs: Vec<(i64, i64)> = logs.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
            let limits = Limits { max_offsets_per_partition: each, ..max(limit) };
            let ends = ends(&limits, &logs).unwrap();
            for ((start, end), chosen) in logs.into_iter().zip(ends) {
                prop_assert!(chosen >= start && chosen <= end);
                prop_assert!(chosen > start || start == end);
            }
        }
    }
}
