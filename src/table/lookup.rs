//! Cuts ranges by timestamp predicates, through the broker's timestamp index.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::pruning::Kept;
use super::resolve::{self, Selection};
use crate::client::{TimestampBounds, TopicSelection};
use crate::error::Result;
use crate::range::{CLOCKS_DIFFER_MS, Snapshot, TopicPartition};

/// For each range of the snapshot, the offsets outside which no record can match: `start..end`.
///
/// The lower bound is always sound: every record before the first one with `timestamp >= T` is
/// older than T. The upper one is sound only where the broker sets the timestamps, and as far as the clocks of brokers
/// differ by no more than [`CLOCKS_DIFFER_MS`], because under CreateTime a later record may be older; there the end stays.
pub(super) async fn timestamp_cuts(
    selection: &Selection,
    snapshot: &Snapshot,
    kept: &[Kept],
) -> Result<Vec<(i64, i64)>> {
    let client = selection.client.as_ref();
    let bounds: Vec<(Option<i64>, Option<i64>)> = kept.iter().map(bounds).collect();
    let log_append = if bounds.iter().any(|(_, high)| high.is_some()) {
        log_append_topics(selection, snapshot).await?
    } else {
        BTreeSet::new()
    };

    let mut wanted: BTreeSet<(TopicPartition, i64)> = BTreeSet::new();
    for (range, (low, high)) in snapshot.ranges().iter().zip(&bounds) {
        let partition = range.range.topic_partition();
        let high = high.filter(|_| log_append.contains(range.range.topic()));
        wanted.extend(low.map(|ms| (partition.clone(), ms)));
        wanted.extend(high.map(|ms| (partition, ms)));
    }
    let wanted: Vec<(TopicPartition, i64)> = wanted.into_iter().collect();
    let found = resolve::timestamps(client, &wanted, selection.isolation).await?;

    let moved = moved_partitions(selection, snapshot, &wanted).await?;

    let cuts = snapshot.ranges().iter().zip(&bounds).zip(kept);
    Ok(cuts
        .map(|((range, (low, high)), kept)| {
            let range = &range.range;
            if kept.timestamps.is_empty() {
                return (range.end(), range.end());
            }
            if moved.contains(&range.topic_partition()) {
                return (range.start(), range.end());
            }
            // Nothing found: all records up to the end are older than the bound.
            let offset = |ms: i64| match found.get(&(range.topic_partition(), ms)) {
                Some(Some(offset)) => *offset,
                Some(None) => range.end(),
                None => range.start(),
            };
            let start = low.map_or(range.start(), offset);
            let end = match high {
                Some(ms) if log_append.contains(range.topic()) => offset(*ms),
                _ => range.end(),
            };
            (start.min(range.end()), end)
        })
        .collect())
}

/// The timestamps outside which no record of the partition can match, if the predicates bound them.
/// The filter is applied again behind the scan, so that a client need not heed them.
pub(super) fn timestamp_bounds(kept: &Kept) -> Option<TimestampBounds> {
    let (from_ms, to_ms) = bounds(kept);
    TimestampBounds::within(from_ms, to_ms)
}

/// Partitions whose log is no longer the one that the ranges were taken from: offsets of a range
/// are gone, or the topic was created again. A look-up in the log as it is now says nothing of such
/// a range, and a cut would hide from the reader what it must report.
async fn moved_partitions(
    selection: &Selection,
    snapshot: &Snapshot,
    wanted: &[(TopicPartition, i64)],
) -> Result<BTreeSet<TopicPartition>> {
    if wanted.is_empty() {
        return Ok(BTreeSet::new());
    }
    let client = selection.client.as_ref();
    let looked_up: BTreeSet<&TopicPartition> = wanted.iter().map(|(p, _)| p).collect();
    let partitions: Vec<TopicPartition> = looked_up.into_iter().cloned().collect();
    let now = resolve::log_bounds(client, &partitions, selection.isolation).await?;
    let names: BTreeSet<Arc<str>> = partitions.iter().map(|p| Arc::clone(&p.topic)).collect();
    let names: Vec<Arc<str>> = names.into_iter().collect();
    let cluster = client.describe(TopicSelection::Named(&names)).await?;
    let recreated = cluster.topics.iter().filter(|topic| {
        let ids = (snapshot.topic_id(&topic.name), topic.id.as_deref());
        matches!(ids, (Some(then), Some(now)) if then != now)
    });
    let recreated: BTreeSet<&Arc<str>> = recreated.map(|topic| &topic.name).collect();
    let ranges = snapshot.ranges().iter().map(|r| &r.range);
    Ok(ranges
        .filter(|range| match now.get(&range.topic_partition()) {
            Some(log) => {
                log.start > range.start()
                    || log.end < range.end()
                    || recreated.contains(range.topic())
            }
            None => false,
        })
        .map(|range| range.topic_partition())
        .collect())
}

/// The timestamps to look up: the first that may match, and the first after the last that may.
fn bounds(kept: &Kept) -> (Option<i64>, Option<i64>) {
    match kept.timestamps.hull() {
        _ if !kept.partition || !kept.key || kept.offsets.is_empty() => (None, None),
        None => (None, None),
        Some((low, high)) => (
            // Brokers take negative timestamps for the log's ends.
            Some(low).filter(|ms| *ms > 0),
            Some(high)
                .filter(|ms| *ms >= 0)
                .and_then(|ms| ms.checked_add(1 + CLOCKS_DIFFER_MS)),
        ),
    }
}

async fn log_append_topics(
    selection: &Selection,
    snapshot: &Snapshot,
) -> Result<BTreeSet<Arc<str>>> {
    let client = selection.client.as_ref();
    let names: Vec<Arc<str>> = snapshot
        .topics()
        .iter()
        .map(|t| Arc::clone(&t.topic))
        .collect();
    let cluster = client.describe(TopicSelection::Named(&names)).await?;
    resolve::log_append_topics(client, &cluster).await
}
