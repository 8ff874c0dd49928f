//! Exact offset ranges of a cluster, frozen at one moment: what a query reads, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{IsolationLevel, OffsetRange, TopicPartition, shared_str};
use crate::error::{Error, Result};

/// The version of the JSON that this crate reads and writes.
const VERSION: u64 = 1;

/// The ranges of a query, with what was known of the cluster when they were resolved.
///
/// A snapshot is a plain value. Printed as JSON, sent to another machine and read there, it names the same
/// records for as long as the log keeps them.
///
/// - The JSON says `"version": 1`. Other versions are refused, unknown fields are ignored.
/// - Every range is of a listed topic, starts at or before its end, and no two ranges overlap, whether the
///   snapshot was made by [`try_new`](Self::try_new) or read from JSON.
/// - Log bounds and leaders are those at the time `created_ms`. They may have changed since.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    cluster_id: Option<String>,
    isolation_level: IsolationLevel,
    created_ms: i64,
    topics: Vec<SnapshotTopic>,
    ranges: Vec<SnapshotRange>,
    /// The leaders' epochs when the ends were listed; not in the JSON, for which the epochs at the ends are looked up.
    leader_epochs: BTreeMap<TopicPartition, i32>,
}

/// Snapshots are equal if their JSON is.
impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        let parts = |s: &Self| (s.cluster_id.clone(), s.isolation_level, s.created_ms);
        parts(self) == parts(other) && self.topics == other.topics && self.ranges == other.ranges
    }
}

impl Eq for Snapshot {}

/// A topic as it was when the ranges were resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotTopic {
    /// The topic's name.
    #[serde(with = "shared_str")]
    pub topic: Arc<str>,
    /// The topic id (KIP-516), if the broker provides it. A topic that is deleted and created again gets
    /// another id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// Whether the broker stamps the records, so that timestamps rise with the offsets.
    #[serde(default)]
    pub log_append_time: bool,
}

/// A range, with the state of its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRange {
    /// The offsets to read.
    #[serde(flatten)]
    pub range: OffsetRange,
    /// Only records with at least this timestamp, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_ms: Option<i64>,
    /// Only records with a timestamp before this one, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_ms: Option<i64>,
    /// The log start at that time.
    pub log_start: i64,
    /// The end of the log at that time, for the isolation level.
    pub log_end: i64,
    /// The broker that led the partition at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<i32>,
    /// The leader epoch of the record before the range's end, if it was looked up and the broker knows it. If
    /// the log is cut before the end and grows again, the epoch there differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_epoch: Option<i32>,
}

impl Snapshot {
    /// The ranges of a cluster at a moment, in ms since the epoch.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a topic is listed twice, or a range belongs to no listed topic, starts after
    /// its end or overlaps another.
    pub fn try_new(
        cluster_id: Option<String>,
        isolation_level: IsolationLevel,
        created_ms: i64,
        topics: Vec<SnapshotTopic>,
        ranges: Vec<SnapshotRange>,
    ) -> Result<Self> {
        let snapshot = Self {
            cluster_id,
            isolation_level,
            created_ms,
            topics,
            ranges,
            leader_epochs: BTreeMap::new(),
        };
        snapshot.check()?;
        Ok(snapshot)
    }

    /// A snapshot of nothing, to be read at an isolation level.
    pub fn empty(isolation_level: IsolationLevel) -> Self {
        Self {
            isolation_level,
            ..Self::default()
        }
    }

    /// Other ranges of the same moment; a topic without any is left out.
    ///
    /// # Errors
    /// As [`try_new`](Self::try_new).
    pub fn with_ranges(&self, ranges: Vec<SnapshotRange>) -> Result<Self> {
        let read: BTreeSet<&Arc<str>> = ranges.iter().map(|r| &r.range.topic).collect();
        let mut topics = self.topics.clone();
        topics.retain(|t| read.contains(&t.topic));
        let snapshot = Self::try_new(
            self.cluster_id.clone(),
            self.isolation_level,
            self.created_ms,
            topics,
            ranges,
        )?;
        Ok(snapshot.listed_by(self.leader_epochs.clone()))
    }

    /// Notes the epochs of the leaders that listed the ends, as far as no range reaches further.
    pub fn listed_by(mut self, leader_epochs: BTreeMap<TopicPartition, i32>) -> Self {
        self.leader_epochs = leader_epochs;
        for range in self
            .ranges
            .iter()
            .filter(|range| range.range.end() > range.log_end)
        {
            self.leader_epochs.remove(&range.range.topic_partition());
        }
        self
    }

    /// For each partition, as far as it is known, the newest leader epoch that a record of its ranges can have. A record
    /// of a later one took the place of one that was lost.
    pub fn newest_epochs(&self) -> BTreeMap<TopicPartition, i32> {
        let mut newest: BTreeMap<TopicPartition, Option<i32>> = BTreeMap::new();
        for range in self.ranges.iter().filter(|range| !range.range.is_empty()) {
            let known = newest
                .entry(range.range.topic_partition())
                .or_insert(Some(-1));
            *known = (*known).zip(range.leader_epoch).map(|(a, b)| a.max(b));
        }
        let listed = self.leader_epochs.clone().into_iter();
        let at_ends = newest
            .into_iter()
            .filter_map(|(partition, epoch)| Some((partition, epoch?)));
        listed.chain(at_ends).collect()
    }

    /// Notes the leader epoch of the record before each range's end, which says more than those of the leaders.
    pub(crate) fn note_leader_epochs(&mut self, epochs: impl IntoIterator<Item = Option<i32>>) {
        self.leader_epochs.clear();
        for (range, epoch) in self.ranges.iter_mut().zip(epochs) {
            range.leader_epoch = epoch;
        }
    }

    /// The cluster's id, if the broker provides it.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// The isolation level at which the ends were listed. Records are read at the same level.
    pub fn isolation_level(&self) -> IsolationLevel {
        self.isolation_level
    }

    /// When the ranges were resolved, in ms since the epoch.
    pub fn created_ms(&self) -> i64 {
        self.created_ms
    }

    /// The topics of the ranges.
    pub fn topics(&self) -> &[SnapshotTopic] {
        &self.topics
    }

    /// The ranges, in the order in which they were resolved; some may be empty.
    pub fn ranges(&self) -> &[SnapshotRange] {
        &self.ranges
    }

    /// The offsets of all ranges.
    pub fn offset_ranges(&self) -> impl ExactSizeIterator<Item = &OffsetRange> {
        self.ranges.iter().map(|range| &range.range)
    }

    /// The id of a topic, if the broker provided it.
    pub fn topic_id(&self, topic: &str) -> Option<&str> {
        let found = self.topics.iter().find(|t| &*t.topic == topic)?;
        found.topic_id.as_deref()
    }

    /// The ids of all topics for which the broker provided one.
    pub fn topic_ids(&self) -> BTreeMap<Arc<str>, String> {
        let id = |t: &SnapshotTopic| Some((Arc::clone(&t.topic), t.topic_id.clone()?));
        self.topics.iter().filter_map(id).collect()
    }

    /// How many offsets all ranges span. This is an upper bound on the records, never their exact count.
    ///
    /// Saturates at `i64::MAX`.
    pub fn len(&self) -> i64 {
        self.offset_ranges()
            .fold(0, |sum: i64, range| sum.saturating_add(range.len()))
    }

    /// Whether there are no offsets to read.
    pub fn is_empty(&self) -> bool {
        self.offset_ranges().all(OffsetRange::is_empty)
    }

    /// The snapshot as JSON on one line.
    pub fn to_json(&self) -> String {
        // It only contains strings and numbers, which JSON can always represent.
        serde_json::to_string(self).expect("strings and numbers are JSON")
    }

    fn check(&self) -> Result<()> {
        let mut by_topic: BTreeMap<&str, Vec<&OffsetRange>> = BTreeMap::new();
        for topic in &self.topics {
            if by_topic.insert(&topic.topic, Vec::new()).is_some() {
                return Err(Error::invalid(format!(
                    "snapshot: topic '{}' is listed twice",
                    topic.topic
                )));
            }
        }
        for range in self.offset_ranges() {
            by_topic
                .get_mut(&*range.topic)
                .ok_or_else(|| {
                    Error::invalid(format!(
                        "snapshot: range {range} belongs to no topic listed in 'topics'"
                    ))
                })?
                .push(range);
        }
        for ranges in by_topic.values_mut() {
            // Empty ranges cannot read anything twice.
            ranges.retain(|range| !range.is_empty());
            ranges.sort();
            for pair in ranges.windows(2) {
                if pair[0].partition == pair[1].partition && pair[1].start < pair[0].end {
                    return Err(Error::invalid(format!(
                        "snapshot: ranges {} and {} overlap",
                        pair[0], pair[1]
                    )));
                }
            }
        }
        Ok(())
    }
}

impl FromStr for Snapshot {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| {
            let text = error.to_string();
            Error::invalid(if text.starts_with("snapshot:") {
                text
            } else {
                format!("snapshot: {text}")
            })
        })
    }
}

/// A snapshot's JSON.
#[derive(Serialize)]
struct Written<'a> {
    version: u64,
    cluster_id: &'a Option<String>,
    isolation_level: IsolationLevel,
    created_ms: i64,
    topics: &'a [SnapshotTopic],
    ranges: &'a [SnapshotRange],
}

#[derive(Deserialize)]
struct Read {
    #[serde(default)]
    cluster_id: Option<String>,
    isolation_level: IsolationLevel,
    created_ms: i64,
    topics: Vec<SnapshotTopic>,
    ranges: Vec<SnapshotRange>,
}

impl Serialize for Snapshot {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Written {
            version: VERSION,
            cluster_id: &self.cluster_id,
            isolation_level: self.isolation_level,
            created_ms: self.created_ms,
            topics: &self.topics,
            ranges: &self.ranges,
        }
        .serialize(to)
    }
}

impl<'de> Deserialize<'de> for Snapshot {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;

        // The version determines the meaning of the other fields, so it is checked first.
        let json = serde_json::Value::deserialize(from)?;
        let Some(version) = json.get("version") else {
            return Err(D::Error::custom(
                "snapshot: expected a JSON object with \"version\": 1",
            ));
        };
        if version.as_u64() != Some(VERSION) {
            return Err(D::Error::custom(format!(
                "snapshot: version {version} is unknown, this program reads version {VERSION}; \
                 read it with the version that wrote it"
            )));
        }
        let read: Read = serde_json::from_value(json).map_err(D::Error::custom)?;
        Self::try_new(
            read.cluster_id,
            read.isolation_level,
            read.created_ms,
            read.topics,
            read.ranges,
        )
        .map_err(D::Error::custom)
    }
}

#[cfg(test)]
#[path = "tests/snapshot.rs"]
mod tests;
