//! Turns what a user wrote into exact offsets, in two pure steps with look-ups in the cluster between them.
//!
//! ```text
//! RangeSpec::plan(partitions, now) -> LookupPlan      what must be asked of the cluster
//! LookupPlan::bind(answers)        -> [BoundRange]    exact offsets
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::plan::list;
use super::time::instant_text;
use super::{CLOCKS_DIFFER_MS, IsolationLevel, OffsetRange, OnDataLoss, TopicPartition};
use crate::error::{Error, Result};

/// What must be looked up before a range is exact.
///
/// Binding follows these rules:
///
/// - An explicit offset is taken literally. Beyond the end of the log it is an error, or means that end where
///   [`LookupFacts::past_end_is_end`] is set. Below the log start it is an error, or with
///   [`OnDataLoss::Skip`] stays as it is, so that the reader can count the lost offsets.
/// - Bounds relative to the log (`start`, `+N`, `-N`, times, groups) are clamped to the log. Two such bounds
///   may cross (`+10:-10` on five records); the range is then empty.
/// - The end of the log is listed before anything else is looked up. A look-up that finds an offset beyond
///   that end yields the end: later records belong to the next snapshot.
/// - A time selects records by their timestamp, which [`BoundRange`] carries along. An upper bound by time
///   only shortens the range where the broker stamps the records. Producers' timestamps may be out of order,
///   so older records may follow newer ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupPlan {
    /// The partitions to read, in order. Each needs its [`LogBounds`], to be listed before any other look-up.
    pub partitions: Vec<TopicPartition>,
    /// Offsets to look up by timestamp, in ms.
    pub timestamps: Vec<(TopicPartition, i64)>,
    /// Consumer groups whose committed offsets are needed.
    pub groups: Vec<(String, Vec<TopicPartition>)>,
    /// Whether binding needs to know which topics have their records stamped by the broker.
    pub needs_timestamp_type: bool,
    pub(super) planned: Vec<Planned>,
}

/// A partition with the bounds of its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) partition: TopicPartition,
    pub(super) start: Point,
    pub(super) end: Point,
}

/// A bound with its times resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Point {
    Offset(i64),
    /// This many offsets after the log start.
    AfterStart(i64),
    /// This many offsets before the end of the log.
    BeforeEnd(i64),
    /// Records from this timestamp on, in ms.
    Time(i64),
    /// An offset looked up by time as in Spark, in ms.
    Lookup {
        ms: i64,
        no_match_is_error: bool,
    },
    Group(String),
}

/// The cluster's answers to a [`LookupPlan`].
#[derive(Debug, Clone, Default)]
pub struct LookupFacts {
    /// The isolation level at which the bounds were listed.
    pub isolation: IsolationLevel,
    /// The log of each partition.
    pub bounds: BTreeMap<TopicPartition, LogBounds>,
    /// The first offset whose record has at least this timestamp (ms); `None` when there is none.
    ///
    /// Upper bounds by time are only needed for topics in [`log_append_time`](Self::log_append_time).
    pub timestamps: BTreeMap<(TopicPartition, i64), Option<i64>>,
    /// Committed offsets; partitions without one are absent.
    pub groups: BTreeMap<(String, TopicPartition), i64>,
    /// Topics whose records the broker stamps, so that timestamps rise with the offsets.
    pub log_append_time: BTreeSet<Arc<str>>,
    /// What to do when an explicit start lies below the log start.
    pub on_data_loss: OnDataLoss,
    /// Whether an explicit offset beyond the end of the log means that end, as with Spark's `failOnDataLoss`
    /// = `false`. Otherwise it is an error.
    pub past_end_is_end: bool,
}

/// Where a log starts and ends, at an isolation level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogBounds {
    /// The first offset that the log still holds.
    pub start: i64,
    /// The offset after the last readable one.
    pub end: i64,
}

/// Exact offsets, and the timestamps to select among their records.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct BoundRange {
    /// The offsets to read.
    pub range: OffsetRange,
    /// Only records with at least this timestamp, in ms.
    pub from_ms: Option<i64>,
    /// Only records with a timestamp before this one, in ms.
    pub to_ms: Option<i64>,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offset(offset) => write!(f, "{offset}"),
            Self::AfterStart(0) => f.write_str("'start'"),
            Self::BeforeEnd(0) => f.write_str("'end'"),
            Self::AfterStart(count) => write!(f, "'+{count}'"),
            Self::BeforeEnd(count) => write!(f, "'-{count}'"),
            Self::Time(ms) | Self::Lookup { ms, .. } => f.write_str(&instant_text(*ms)),
            Self::Group(name) => write!(f, "'group:{name}'"),
        }
    }
}

impl LookupPlan {
    /// The exact ranges, one for each of [`partitions`](Self::partitions), including empty ones.
    ///
    /// # Errors
    /// - [`Error::PastLogEnd`] when an explicit offset lies beyond the end of the log, unless that is
    ///   allowed.
    /// - [`Error::BelowLogStart`] when an explicit start lies below the log start and the range has lost
    ///   offsets, unless data loss is to be skipped.
    /// - [`Error::Invalid`] when the range starts after its end, a group has no committed offset, or no
    ///   record has a timestamp that a Spark option requires as a start.
    /// - [`Error::Kafka`] when a needed answer is missing.
    pub fn bind(&self, facts: &LookupFacts) -> Result<Vec<BoundRange>> {
        for (name, partitions) in &self.groups {
            let committed =
                |p: &TopicPartition| facts.groups.contains_key(&(name.clone(), p.clone()));
            if !partitions.iter().any(committed) {
                return Err(Error::invalid(format!(
                    "group '{name}' has no committed offset for {}; check the group's name, or \
                     write 'start:end' for everything",
                    list(partitions.iter())
                )));
            }
        }
        self.planned.iter().map(|range| range.bind(facts)).collect()
    }
}

impl Planned {
    fn bind(&self, facts: &LookupFacts) -> Result<BoundRange> {
        let log = facts
            .bounds
            .get(&self.partition)
            .copied()
            .ok_or_else(|| self.unanswered("listing offsets", "no offsets"))?;
        // If the last stable offset lies below the log start, the log is empty.
        let log = LogBounds {
            start: log.start,
            end: log.end.max(log.start),
        };
        let start = self.offset(&self.start, log, facts)?;
        let end = match self.end {
            Point::Time(_) if !facts.log_append_time.contains(&self.partition.topic) => log.end,
            Point::Time(ms) => {
                let later = Point::Time(ms.saturating_add(CLOCKS_DIFFER_MS));
                self.offset(&later, log, facts)?
            }
            _ => self.offset(&self.end, log, facts)?,
        };
        let (start, end) = self.fit(start, end, log, facts)?;
        let record_time = |point: &Point| match point {
            Point::Time(ms) => Some(*ms),
            _ => None,
        };
        Ok(BoundRange {
            range: OffsetRange {
                topic: Arc::clone(&self.partition.topic),
                partition: self.partition.partition,
                start,
                end,
            },
            from_ms: record_time(&self.start),
            to_ms: record_time(&self.end),
        })
    }

    /// The offset of a bound. It lies within the log, unless it is explicit.
    fn offset(&self, point: &Point, log: LogBounds, facts: &LookupFacts) -> Result<i64> {
        Ok(match point {
            Point::Offset(offset) if *offset > log.end && facts.past_end_is_end => {
                log::warn!(
                    "{}@{offset} lies beyond the end of the log, {}: what is there is read",
                    self.partition,
                    log.end
                );
                log.end
            }
            Point::Offset(offset) if *offset > log.end => {
                return Err(Error::PastLogEnd {
                    topic: self.partition.topic.to_string(),
                    partition: self.partition.partition,
                    asked: *offset,
                    available: log.end,
                    isolation: facts.isolation.as_str(),
                });
            }
            Point::Offset(offset) => *offset,
            Point::AfterStart(count) => log.start.saturating_add(*count).min(log.end),
            Point::BeforeEnd(count) => log.end.saturating_sub(*count).max(log.start),
            Point::Time(ms) => self.look_up(*ms, facts)?.map_or(log.end, |o| log.clamp(o)),
            Point::Lookup {
                ms,
                no_match_is_error,
            } => match self.look_up(*ms, facts)? {
                Some(offset) => log.clamp(offset),
                None if *no_match_is_error => {
                    return Err(Error::invalid(format!(
                        "{}: no record has a timestamp of {} or later; \
                         'startingOffsetsByTimestampStrategy' = 'latest' starts at the end instead",
                        self.partition,
                        instant_text(*ms)
                    )));
                }
                None => log.end,
            },
            Point::Group(name) => {
                match facts.groups.get(&(name.clone(), self.partition.clone())) {
                    // A commit below the log start counts like an explicit offset.
                    Some(offset) if *offset >= 0 => (*offset).min(log.end),
                    _ => log.start,
                }
            }
        })
    }

    fn look_up(&self, ms: i64, facts: &LookupFacts) -> Result<Option<i64>> {
        let key = (self.partition.clone(), ms);
        facts.timestamps.get(&key).copied().ok_or_else(|| {
            self.unanswered(
                "listing offsets by timestamp",
                &format!("no answer for {}", instant_text(ms)),
            )
        })
    }

    fn unanswered(&self, operation: &str, what: &str) -> Error {
        Error::Kafka {
            operation: operation.to_owned(),
            reason: format!("{what} of {}", self.partition),
        }
    }

    /// Checks the start against the end and the log.
    fn fit(&self, start: i64, end: i64, log: LogBounds, facts: &LookupFacts) -> Result<(i64, i64)> {
        if start > end {
            // Bounds relative to the log may cross when the log is short.
            if matches!(self.end, Point::BeforeEnd(_) | Point::Time(_)) {
                return Ok((start, start));
            }
            // Everything before the end is lost, which the user allows.
            if end < log.start && facts.on_data_loss == OnDataLoss::Skip {
                return Ok((end, end));
            }
            return Err(Error::invalid(format!(
                "{}: the range starts at {} (offset {start}), after its end {} (offset {end})",
                self.partition, self.start, self.end
            )));
        }
        if start < log.start && start < end && facts.on_data_loss == OnDataLoss::Fail {
            return Err(Error::BelowLogStart {
                topic: self.partition.topic.to_string(),
                partition: self.partition.partition,
                asked: start,
                available: log.start,
                lost: end.min(log.start) - start,
            });
        }
        Ok((start, end))
    }
}

impl LogBounds {
    fn clamp(self, offset: i64) -> i64 {
        offset.max(self.start).min(self.end)
    }
}
