//! What the next Fetch asks for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::client::wire::ask::isolation_code;
use crate::client::wire::cluster::Leader;
use crate::client::wire::decode::TopicRef;
use crate::range::{IsolationLevel, OffsetRange, TopicPartition};

/// How long a broker may wait for records; it only does for those in remote storage (KIP-405).
pub(super) const MAX_WAIT: Duration = Duration::from_millis(500);
/// The first version of Fetch that names topics by id (KIP-516).
pub(super) const FETCH_BY_ID: i16 = 13;
/// A version of Fetch whose request older brokers understand too.
pub(super) const FETCH_BY_NAME: i16 = 11;
/// Asked for beyond the estimate: the first and the last record batch lie partly outside a range.
const MARGIN_BYTES: usize = 64 << 10;
/// The most partitions of one request.
const PARTS_MOST: usize = 500;

/// What a Fetch asks for of one partition, and what has come of it.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) partition: TopicPartition,
    pub(super) id: Option<Uuid>,
    pub(super) offset: i64,
    pub(super) epoch: i32,
    pub(super) last_epoch: i32,
    pub(super) limit: usize,
    /// It is the first of its request. A broker sends at least one record batch of that.
    pub(super) first: bool,
    /// The broker that was asked is not the leader.
    pub(super) from_replica: bool,
    /// The position when its records began to arrive.
    pub(super) start: i64,
    /// Bytes of record batches that arrived.
    pub(super) bytes: usize,
    /// The mean size of a record in them, where it is known.
    pub(super) mean: usize,
    /// The end of the log under the isolation level, from the broker's answer.
    pub(super) end_seen: i64,
    pub(super) preferred_replica: i32,
}

impl Part {
    pub(super) fn is_named(&self, topic: &TopicRef, partition: i32) -> bool {
        self.partition.partition == partition
            && match topic {
                TopicRef::Name(name) => *name == *self.partition.topic,
                TopicRef::Id(id) => Some(*id) == self.id,
            }
    }

    /// Whether records of the partition from `position` on are in it.
    pub(super) fn holds(&self, partition: &TopicPartition, position: i64) -> bool {
        self.partition == *partition && self.offset <= position
    }
}

/// What is wanted next of a stream's ranges.
pub(super) struct Wanted<'a> {
    /// The range that is read, and those behind it.
    pub(super) ranges: &'a [OffsetRange],
    /// The next offset to read of the first.
    pub(super) position: i64,
    /// The leader epoch of the record before it; -1 if there is none.
    pub(super) last_epoch: i32,
    /// The most rows.
    pub(super) rows: Option<usize>,
    /// The most bytes of an answer.
    pub(super) bytes: usize,
}

/// What is known of a partition that may be asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) leader: Leader,
    /// The replica that the leader named instead of itself.
    pub(super) replica: Option<i32>,
    /// The id that its topic is read under.
    pub(super) id: Option<Uuid>,
    /// The mean size of its topic's records.
    pub(super) mean_bytes: usize,
}

impl Source {
    fn node(&self) -> i32 {
        self.replica.unwrap_or(self.leader.node)
    }
}

/// The parts to ask `node` for: of the first range, and of those behind it that are likely to come
/// whole. Brokers fill an answer in the order of the request.
pub(super) fn plan(
    wanted: &Wanted<'_>,
    node: i32,
    source: impl Fn(&TopicPartition) -> Option<Source>,
) -> VecDeque<Part> {
    let mut parts: VecDeque<Part> = VecDeque::new();
    let mut room = wanted.bytes;
    let rows = wanted
        .rows
        .map(|rows| i64::try_from(rows).unwrap_or(i64::MAX));
    let mut rows_left = rows.unwrap_or(i64::MAX);
    let mut ranges = wanted.ranges.iter().peekable();
    while let Some(range) = ranges.next() {
        let partition = range.topic_partition();
        let first = parts.is_empty();
        let offset = if first {
            wanted.position
        } else {
            range.start()
        };
        let Some(source) = source(&partition) else {
            break;
        };
        let known = parts.iter().any(|part| part.partition == partition);
        // The id of another topic is compared before that topic is read.
        let unchecked = partition.topic != *wanted.ranges[0].topic() && source.id.is_none();
        if known || !first && (source.node() != node || unchecked) {
            break;
        }
        let bytes_to = |to: i64| {
            let rows = usize::try_from(rows_left.min(to - offset)).unwrap_or(usize::MAX);
            let bytes = rows.saturating_mul(source.mean_bytes);
            bytes.saturating_add(bytes / 4).saturating_add(MARGIN_BYTES)
        };
        // Ranges of one partition that lie close together come as one part.
        let mut end = range.end();
        while let Some(next) = ranges.next_if(|next| {
            let same = next.topic() == range.topic() && next.partition() == range.partition();
            same && next.start() >= end && bytes_to(next.end()) < room
        }) {
            end = next.end();
        }
        let bytes = bytes_to(end);
        if !first && bytes > room {
            break;
        }
        let Source {
            leader,
            replica,
            id,
            ..
        } = source;
        parts.push_back(Part {
            partition,
            id,
            offset,
            epoch: if replica.is_some() { -1 } else { leader.epoch },
            last_epoch: if first { wanted.last_epoch } else { -1 },
            limit: bytes.min(room),
            first,
            from_replica: replica.is_some_and(|r| r != leader.node),
            start: offset,
            bytes: 0,
            mean: 0,
            end_seen: -1,
            preferred_replica: -1,
        });
        rows_left = rows_left.saturating_sub(end - offset);
        if bytes >= room || rows.is_some() && rows_left <= 0 || parts.len() == PARTS_MOST {
            break;
        }
        room -= bytes;
    }
    parts
}

/// The request for `parts`, of which those of a topic follow each other.
pub(super) fn request(
    parts: &VecDeque<Part>,
    version: i16,
    isolation: IsolationLevel,
    rack: &str,
) -> FetchRequest {
    let mut topics: Vec<FetchTopic> = Vec::new();
    let mut named: Option<&Arc<str>> = None;
    let mut bytes = 0usize;
    for part in parts {
        let topic = &part.partition.topic;
        if named != Some(topic) {
            let fetch = FetchTopic::default();
            topics.push(if version >= FETCH_BY_ID {
                fetch.with_topic_id(part.id.unwrap_or_default())
            } else {
                fetch.with_topic(TopicName(StrBytes::from_string(topic.to_string())))
            });
            named = Some(topic);
        }
        bytes += part.limit;
        let limit = i32::try_from(part.limit).unwrap_or(i32::MAX);
        let mut partition = FetchPartition::default()
            .with_partition(part.partition.partition)
            .with_current_leader_epoch(part.epoch)
            .with_fetch_offset(part.offset)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(limit);
        if version >= 12 {
            partition = partition.with_last_fetched_epoch(part.last_epoch);
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(partition);
        }
    }
    let mut request = FetchRequest::default()
        .with_max_wait_ms(MAX_WAIT.as_millis() as i32)
        // An answer at once, also an empty one.
        .with_min_bytes(0)
        .with_max_bytes(i32::try_from(bytes).unwrap_or(i32::MAX))
        .with_isolation_level(isolation_code(isolation))
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(topics);
    if version >= 11 {
        request = request.with_rack_id(StrBytes::from_string(rack.to_owned()));
    }
    request
}
