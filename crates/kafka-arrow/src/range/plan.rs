//! Determines what must be looked up for a range. It does no look-ups itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::bind::{LookupPlan, Planned, Point};
use super::spark::{ByPartition, ByTopic, EARLIEST, LATEST, Limit, SparkRange};
use super::spec::{Bound, Form, Interval, RangeSpec};
use super::time::TimeRef;
use super::{CLOCKS_DIFFER_MS, TopicPartition};
use crate::error::{Error, Result};

/// How many partitions a message lists. Beyond that, it only counts them.
const LISTED_PARTITIONS: usize = 10;

impl RangeSpec {
    /// Determines what must be looked up to read this range of the given partitions.
    ///
    /// `partitions` are all partitions of the selected topics, or exactly the assigned ones. Durations count
    /// from `now_ms`.
    ///
    /// # Errors
    /// - [`Error::UnknownPartition`] when the range lists a partition that one of the topics lacks.
    /// - [`Error::Invalid`] when a range ends before it starts in any log, a time is outside the calendar, or
    ///   Spark's JSON does not name exactly these partitions.
    pub fn plan(&self, partitions: &[TopicPartition], now_ms: i64) -> Result<LookupPlan> {
        let assigned: BTreeSet<&TopicPartition> = partitions.iter().collect();
        let planned = match &self.0 {
            Form::Listed { rest, partitions } => {
                plan_listed(rest.as_ref(), partitions, &assigned, now_ms)?
            }
            Form::Spark(range) => plan_spark(range, &assigned)?,
        };
        for range in &planned {
            refuse_reversed(range)?;
        }
        Ok(from_planned(planned))
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

/// A topic's partitions, in words.
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

/// The first few items, and the number of further ones.
pub(super) fn list<T: fmt::Display>(items: impl ExactSizeIterator<Item = T>) -> String {
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

/// Spark's rule: the JSON must name exactly the existing partitions.
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
    let value = |topics: &ByTopic| match topics.get(&*partition.topic) {
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
        // `check_names` has found every partition, so the fallback to the log start never applies.
        Limit::Times(topics) => value(topics).map_or(Point::AfterStart(0), lookup),
        Limit::Offsets(topics) => match value(topics) {
            Some(EARLIEST) | None => Point::AfterStart(0),
            Some(LATEST) => Point::BeforeEnd(0),
            Some(offset) => Point::Offset(offset),
        },
    }
}

/// Refuses bounds that contradict each other whatever the log holds.
fn refuse_reversed(planned: &Planned) -> Result<()> {
    let reversed = match (&planned.start, &planned.end) {
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
            planned.partition, planned.start, planned.end
        )));
    }
    Ok(())
}

/// Collects the look-ups that the bounds need.
fn from_planned(planned: Vec<Planned>) -> LookupPlan {
    let mut timestamps = BTreeSet::new();
    let mut groups: BTreeMap<&str, Vec<TopicPartition>> = BTreeMap::new();
    for range in &planned {
        for (point, later_ms) in [(&range.start, 0), (&range.end, CLOCKS_DIFFER_MS)] {
            match point {
                Point::Time(ms) => {
                    timestamps.insert((range.partition.clone(), ms.saturating_add(later_ms)));
                }
                Point::Lookup { ms, .. } => {
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
    LookupPlan {
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
