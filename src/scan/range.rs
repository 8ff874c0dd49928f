//! A range with all that belongs to it, from the snapshot to the stream that reads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::client::TimestampBounds;
use crate::range::{OffsetRange, Snapshot, TopicPartition};

/// Offsets to read, and what is known of their partition. Pieces of a range keep what is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScanRange {
    pub(crate) range: OffsetRange,
    /// The id of the topic that the offsets were taken from, where the broker gave it.
    pub(crate) topic_id: Option<Arc<str>>,
    /// The newest leader epoch that a record of the range can have, if it is known.
    pub(crate) newest_epoch: Option<i32>,
    /// The partition's leader when the snapshot was taken: for EXPLAIN.
    pub(crate) leader: Option<i32>,
    /// The timestamps that select records: the `@T1:T2` of the table's range.
    pub(crate) selected: Option<TimestampBounds>,
    /// Timestamps outside which no record matches the predicates, which are applied behind the scan.
    pub(crate) matching: Option<TimestampBounds>,
}

/// Offsets that a scan need not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pruned {
    pub(crate) range: OffsetRange,
    pub(crate) by: PrunedBy,
}

/// The kind of predicate that ruled offsets out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PrunedBy {
    /// On topic and partition alone.
    Partition,
    /// On the key, which lies in another partition.
    Key,
    /// On the offset.
    Offset,
    /// On the timestamp, by look-up.
    Timestamp,
}

impl ScanRange {
    /// The ranges of a snapshot, before predicates cut them.
    pub(crate) fn of_snapshot(snapshot: &Snapshot) -> Vec<Self> {
        let topic_ids = snapshot.topic_ids();
        let newest_epochs = snapshot.newest_epochs();
        let ranges = snapshot.ranges().iter().map(|range| Self {
            topic_id: topic_ids
                .get(range.range.topic())
                .map(|id| id.as_str().into()),
            newest_epoch: newest_epochs.get(&range.range.topic_partition()).copied(),
            leader: range.leader,
            selected: TimestampBounds::within(range.from_ms, range.to_ms),
            matching: None,
            range: range.range.clone(),
        });
        ranges.collect()
    }

    /// Offsets of partitions of the snapshot, of which the records are selected as there.
    pub(crate) fn in_snapshot(snapshot: &Snapshot, offsets: &[OffsetRange]) -> Vec<Self> {
        let topic_ids = snapshot.topic_ids();
        let newest_epochs = snapshot.newest_epochs();
        let known = snapshot.ranges().iter().rev();
        let known: BTreeMap<_, _> = known.map(|k| (k.range.topic_partition(), k)).collect();
        let ranges = offsets.iter().map(|range| {
            let partition = range.topic_partition();
            let known = known.get(&partition);
            Self {
                topic_id: topic_ids.get(range.topic()).map(|id| id.as_str().into()),
                newest_epoch: newest_epochs.get(&partition).copied(),
                leader: known.and_then(|known| known.leader),
                selected: known
                    .and_then(|known| TimestampBounds::within(known.from_ms, known.to_ms)),
                matching: None,
                range: range.clone(),
            }
        });
        ranges.collect()
    }

    /// The part at these offsets.
    pub(crate) fn piece(&self, start: i64, end: i64) -> Self {
        let mut piece = self.clone();
        piece.range = self.range.part(start, end);
        piece
    }
}

impl AsRef<OffsetRange> for ScanRange {
    fn as_ref(&self) -> &OffsetRange {
        &self.range
    }
}

impl AsMut<OffsetRange> for ScanRange {
    fn as_mut(&mut self) -> &mut OffsetRange {
        &mut self.range
    }
}

/// The ranges of each Kafka partition, in their order.
pub(super) fn by_kafka_partition(ranges: &[ScanRange]) -> BTreeMap<TopicPartition, Vec<ScanRange>> {
    let mut groups: BTreeMap<TopicPartition, Vec<ScanRange>> = BTreeMap::new();
    for range in ranges {
        let group = groups.entry(range.range.topic_partition()).or_default();
        group.push(range.clone());
    }
    groups
}
