//! From what was written to exact offsets, in two pure steps with the look-ups between them.
//!
//! ```text
//! RangeSpec::plan(partitions, now) -> LookupPlan      what must be asked of the cluster
//! LookupPlan::bind(answers)        -> [BoundRange]    exact offsets
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::spark::{ByPartition, EARLIEST, LATEST, Limit, SparkRange};
use super::spec::{Bound, Form, Interval, RangeSpec};
use super::time::{TimeRef, instant_text};
use super::{IsolationLevel, OffsetRange, OnDataLoss, TopicPartition};
use crate::error::{Error, Result};

/// How many partitions a message lists before it only counts them.
const LISTED_PARTITIONS: usize = 10;

/// What must be looked up before a range is exact.
///
/// What the bounds promise:
///
/// - An offset that was written out is taken at its word. Beyond the end of the log it is an error;
///   below the log start it is an error, or with [`OnDataLoss::Skip`] stays as it is, so that the
///   reader can count what is gone.
/// - What is relative to the log (`start`, `+N`, `-N`, times, groups) is brought into the log. Two
///   such bounds may cross (`+10:-10` on five records): the range is empty.
/// - Look-ups are made after the end of the log was listed. What they find behind that end is the
///   end: records that came later belong to the next snapshot.
/// - A time selects records by their timestamp, which [`BoundRange`] carries along. As an upper
///   bound it cuts the range only where the broker stamps the records: a producer's timestamps
///   need not rise, so older records may follow newer ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupPlan {
    /// The partitions to read, in order. All need their [`LogBounds`], which are to be listed
    /// before anything else is looked up.
    pub partitions: Vec<TopicPartition>,
    /// Offsets to look up by timestamp, in ms.
    pub timestamps: Vec<(TopicPartition, i64)>,
    /// Consumer groups whose committed offsets are needed.
    pub groups: Vec<(String, Vec<TopicPartition>)>,
    /// Whether it matters that a topic's records are stamped by the broker.
    pub needs_timestamp_type: bool,
    planned: Vec<Planned>,
}

/// A partition with the bounds of its range.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Planned {
    partition: TopicPartition,
    start: Point,
    end: Point,
}

/// A bound whose time is known.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Point {
    Offset(i64),
    /// Offsets after the log start, 0 for the start itself.
    AfterStart(i64),
    /// Offsets before the end, 0 for the end itself.
    BeforeEnd(i64),
    /// Records by their timestamp, in ms.
    Time(i64),
    /// Spark's look-up of an offset by time, in ms.
    Lookup {
        ms: i64,
        no_match_is_error: bool,
    },
    Group(String),
}

/// What the cluster answered to a [`LookupPlan`].
#[derive(Debug, Clone, Default)]
pub struct LookupFacts {
    /// The isolation level at which the bounds were listed.
    pub isolation: IsolationLevel,
    /// The log of each partition.
    pub bounds: BTreeMap<TopicPartition, LogBounds>,
    /// The first offset whose record has at least this timestamp (ms); `None` when there is none.
    ///
    /// Upper bounds by time are needed only for the topics of
    /// [`log_append_time`](Self::log_append_time).
    pub timestamps: BTreeMap<(TopicPartition, i64), Option<i64>>,
    /// Committed offsets; partitions without one are absent.
    pub groups: BTreeMap<(String, TopicPartition), i64>,
    /// Topics whose records are stamped by the broker, so that timestamps rise with the offsets.
    pub log_append_time: BTreeSet<Arc<str>>,
    /// What to do about an explicit start below the log start.
    pub on_data_loss: OnDataLoss,
}

/// Where a log starts and ends, at an isolation level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogBounds {
    /// The first offset that the log still has.
    pub start: i64,
    /// The offset after the last one that may be read.
    pub end: i64,
}

/// Exact offsets, and the timestamps that records among them must have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BoundRange {
    /// The offsets to read.
    pub range: OffsetRange,
    /// Only records with at least this timestamp, in ms.
    pub from_ms: Option<i64>,
    /// Only records with a timestamp before this one, in ms.
    pub to_ms: Option<i64>,
}

impl RangeSpec {
    /// Says what must be looked up to read this range of some partitions.
    ///
    /// `partitions` are all partitions of the selected topics, or exactly those that were assigned.
    /// `now_ms` is the time that durations count from.
    ///
    /// # Errors
    /// - [`Error::UnknownPartition`] when a partition is listed that one of the topics lacks.
    /// - [`Error::Invalid`] when a range ends before it starts whatever the log holds, a time
    ///   leaves the calendar, or Spark's JSON does not name exactly these partitions.
    pub fn plan(&self, partitions: &[TopicPartition], now_ms: i64) -> Result<LookupPlan> {
        let assigned: BTreeSet<&TopicPartition> = partitions.iter().collect();
        let planned = match &self.0 {
            Form::Listed { rest, partitions } => {
                plan_listed(rest.as_ref(), partitions, &assigned, now_ms)?
            }
            Form::Spark(range) => plan_spark(range, &assigned)?,
        };
        for range in &planned {
            range.refuse_reversed()?;
        }
        Ok(LookupPlan::new(planned))
    }
}

fn plan_listed(
    rest: Option<&Interval>,
    listed: &BTreeMap<i32, Interval>,
    assigned: &BTreeSet<&TopicPartition>,
    now_ms: i64,
) -> Result<Vec<Planned>> {
    let topics: BTreeSet<&Arc<str>> = assigned.iter().map(|p| &p.topic).collect();
    for topic in topics {
        let lacks = |n: &&i32| !assigned.contains(&TopicPartition::new(Arc::clone(topic), **n));
        if let Some(partition) = listed.keys().find(lacks) {
            return Err(Error::UnknownPartition {
                topic: topic.to_string(),
                partition: *partition,
                available: available(topic, assigned),
            });
        }
    }
    let mut planned = Vec::new();
    for partition in assigned {
        if let Some(interval) = listed.get(&partition.partition).or(rest) {
            let (start, end) = points(interval, partition, now_ms)?;
            planned.push(Planned {
                partition: (*partition).clone(),
                start,
                end,
            });
        }
    }
    Ok(planned)
}

/// The partitions of a topic in words.
fn available(topic: &str, assigned: &BTreeSet<&TopicPartition>) -> String {
    let numbers: Vec<i32> = assigned
        .iter()
        .filter(|p| *p.topic == *topic)
        .map(|p| p.partition)
        .collect();
    let gapless = numbers.iter().zip(0..).all(|(number, i)| *number == i);
    match numbers.as_slice() {
        [one] => format!("partition {one}"),
        _ if gapless => format!("partitions 0..{}", numbers.len()),
        _ => format!("partitions {}", list(numbers.iter())),
    }
}

/// The first few items, and how many more there are.
fn list<T: fmt::Display>(items: impl ExactSizeIterator<Item = T>) -> String {
    let more = items.len().saturating_sub(LISTED_PARTITIONS);
    let shown: Vec<String> = items
        .take(LISTED_PARTITIONS)
        .map(|item| item.to_string())
        .collect();
    let shown = shown.join(", ");
    if more > 0 {
        format!("{shown} and {more} more")
    } else {
        shown
    }
}

fn points(interval: &Interval, at: &TopicPartition, now_ms: i64) -> Result<(Point, Point)> {
    let start = point(&interval.start, at, now_ms, None)?;
    let first_ms = match start {
        Point::Time(ms) => Some(ms),
        _ => None,
    };
    let end = point(&interval.end, at, now_ms, first_ms)?;
    Ok((start, end))
}

fn point(bound: &Bound, at: &TopicPartition, now_ms: i64, first_ms: Option<i64>) -> Result<Point> {
    Ok(match bound {
        Bound::LogStart => Point::AfterStart(0),
        Bound::LogEnd => Point::BeforeEnd(0),
        Bound::Offset(offset) => Point::Offset(*offset),
        Bound::AfterStart(count) => Point::AfterStart(*count),
        Bound::BeforeEnd(count) => Point::BeforeEnd(*count),
        Bound::Time(time) => Point::Time(time_ms(*time, at, now_ms, first_ms)?),
        Bound::Group(name) => Point::Group(name.clone()),
    })
}

fn time_ms(time: TimeRef, at: &TopicPartition, now_ms: i64, first_ms: Option<i64>) -> Result<i64> {
    time.resolve(now_ms, first_ms).ok_or_else(|| {
        Error::invalid(format!(
            "{at}: the time '{time}' lies beyond the calendar, which ends with the year 9999"
        ))
    })
}

fn plan_spark(range: &SparkRange, assigned: &BTreeSet<&TopicPartition>) -> Result<Vec<Planned>> {
    check_names("starting", &range.start, assigned)?;
    check_names("ending", &range.end, assigned)?;
    Ok(assigned
        .iter()
        .map(|partition| Planned {
            partition: (*partition).clone(),
            start: limit_point(&range.start, partition, !range.no_match_is_latest),
            end: limit_point(&range.end, partition, false),
        })
        .collect())
}

/// Spark's rule: JSON names exactly the partitions there are.
fn check_names(side: &str, limit: &Limit, assigned: &BTreeSet<&TopicPartition>) -> Result<()> {
    let (topics, option, class) = match limit {
        Limit::Offsets(topics) => (
            topics,
            "Offsets",
            "KAFKA_START_OFFSET_DOES_NOT_MATCH_ASSIGNED",
        ),
        Limit::Times(topics) => (
            topics,
            "OffsetsByTimestamp",
            "KAFKA_TIMESTAMP_OFFSET_DOES_NOT_MATCH_ASSIGNED",
        ),
        Limit::Earliest | Limit::Latest | Limit::Time(_) => return Ok(()),
    };
    let mut whole_topics = BTreeSet::new();
    let mut named = BTreeSet::new();
    for (topic, partitions) in topics {
        match partitions {
            ByPartition::All(_) => {
                whole_topics.insert(topic.as_str());
            }
            ByPartition::Each(each) => {
                let topic: Arc<str> = Arc::from(topic.as_str());
                named.extend(
                    each.keys()
                        .map(|p| TopicPartition::new(Arc::clone(&topic), *p)),
                );
            }
        }
    }
    let known: BTreeSet<&str> = assigned.iter().map(|p| &*p.topic).collect();
    let strangers: Vec<&&str> = whole_topics.difference(&known).collect();
    if !strangers.is_empty() {
        return Err(Error::invalid(format!(
            "{side}{option} names topics that are not read: {} \
             (KAFKA_TOPIC_OFFSET_DOES_NOT_MATCH_ASSIGNED)",
            list(strangers.into_iter())
        )));
    }
    let missing: Vec<&TopicPartition> = assigned
        .iter()
        .copied()
        .filter(|p| !named.contains(*p) && !whole_topics.contains(&*p.topic))
        .collect();
    let unknown: Vec<&TopicPartition> = named.iter().filter(|p| !assigned.contains(p)).collect();
    let mut problems = Vec::new();
    if !missing.is_empty() {
        problems.push(format!("missing: {}", list(missing.into_iter())));
    }
    if !unknown.is_empty() {
        problems.push(format!("not read: {}", list(unknown.into_iter())));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{side}{option} must name exactly the partitions that are read; {} ({class})",
        problems.join("; ")
    )))
}

fn limit_point(limit: &Limit, partition: &TopicPartition, no_match_is_error: bool) -> Point {
    let value = |topics: &super::spark::ByTopic| match topics.get(&*partition.topic) {
        Some(ByPartition::All(value)) => Some(*value),
        Some(ByPartition::Each(each)) => each.get(&partition.partition).copied(),
        None => None,
    };
    let lookup = |ms| Point::Lookup {
        ms,
        no_match_is_error,
    };
    match limit {
        Limit::Earliest => Point::AfterStart(0),
        Limit::Latest => Point::BeforeEnd(0),
        Limit::Time(ms) => lookup(*ms),
        // `check_names` has found every partition; the start of the log loses nothing.
        Limit::Times(topics) => value(topics).map_or(Point::AfterStart(0), lookup),
        Limit::Offsets(topics) => match value(topics) {
            Some(EARLIEST) | None => Point::AfterStart(0),
            Some(LATEST) => Point::BeforeEnd(0),
            Some(offset) => Point::Offset(offset),
        },
    }
}

impl Planned {
    /// Refuses bounds that contradict each other in every log.
    fn refuse_reversed(&self) -> Result<()> {
        let reversed = match (&self.start, &self.end) {
            (Point::Offset(start), Point::Offset(end))
            | (Point::AfterStart(start), Point::AfterStart(end))
            | (Point::Time(start), Point::Time(end))
            | (Point::Lookup { ms: start, .. }, Point::Lookup { ms: end, .. }) => start > end,
            (Point::BeforeEnd(start), Point::BeforeEnd(end)) => start < end,
            _ => false,
        };
        if reversed {
            return Err(Error::invalid(format!(
                "{}: the range starts at {}, after its end {}",
                self.partition, self.start, self.end
            )));
        }
        Ok(())
    }
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
    fn new(planned: Vec<Planned>) -> Self {
        let mut timestamps = BTreeSet::new();
        let mut groups: BTreeMap<&str, Vec<TopicPartition>> = BTreeMap::new();
        for range in &planned {
            for point in [&range.start, &range.end] {
                match point {
                    Point::Time(ms) | Point::Lookup { ms, .. } => {
                        timestamps.insert((range.partition.clone(), *ms));
                    }
                    Point::Group(name) => {
                        groups
                            .entry(name)
                            .or_default()
                            .push(range.partition.clone());
                    }
                    Point::Offset(_) | Point::AfterStart(_) | Point::BeforeEnd(_) => {}
                }
            }
        }
        Self {
            partitions: planned.iter().map(|r| r.partition.clone()).collect(),
            timestamps: timestamps.into_iter().collect(),
            groups: groups
                .into_iter()
                .map(|(name, partitions)| (name.to_owned(), partitions))
                .collect(),
            needs_timestamp_type: planned.iter().any(|r| matches!(r.end, Point::Time(_))),
            planned,
        }
    }

    /// The exact ranges, one for each of [`partitions`](Self::partitions); empty ones are kept.
    ///
    /// # Errors
    /// - [`Error::PastLogEnd`] when an explicit offset lies beyond the end of the log.
    /// - [`Error::BelowLogStart`] when an explicit start lies below the log start and offsets of
    ///   the range are gone, unless data loss is to be skipped.
    /// - [`Error::Invalid`] when the range starts after its end, a group has no committed offset,
    ///   or no record has a timestamp that a Spark option asks for as a start.
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
        // A last stable offset that is behind the log start bounds an empty log.
        let log = LogBounds {
            start: log.start,
            end: log.end.max(log.start),
        };
        let start = self.offset(&self.start, log, facts)?;
        let end = match self.end {
            Point::Time(_) if !facts.log_append_time.contains(&self.partition.topic) => log.end,
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

    /// Where a bound lies; within the log, unless it was written out.
    fn offset(&self, point: &Point, log: LogBounds, facts: &LookupFacts) -> Result<i64> {
        Ok(match point {
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
                    // A commit below the log start is as explicit as a written offset.
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
            // Bounds that are relative to the log cross in a short one.
            if matches!(self.end, Point::BeforeEnd(_) | Point::Time(_)) {
                return Ok((start, start));
            }
            // Everything before the end is gone, which the user has allowed.
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
