//! Checks that keys lie where a table's `key.partitioner` puts them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::ScalarValue;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::pruning::{Homes, Keys};
use super::resolve::{self, Selection};
use super::sample::{THIRDS, thirds};
use super::snapshots::SessionSnapshots;
use crate::client::{RawColumns, ReadRequest, TopicDescription, TopicSelection};
use crate::decode::preview;
use crate::error::{Error, Result};
use crate::range::{KeyPartitioner, OffsetRange, OnDataLoss, Snapshot, TopicPartition};
use crate::scan::KeyPlaces;

/// At how many offsets of a place keys are looked at.
const OFFSETS: i64 = 8;
/// How many partitions without a key in these places are read from their start at once.
const AT_ONCE: usize = 16;

/// What was found to hold: a topic's id, how many partitions it had, and how keys choose among them.
pub(super) type Checked = (String, usize, KeyPartitioner);

/// Where the keys of the snapshot's topics are.
///
/// The first statement of a session that asks looks at some keys of each partition, and so does the first after
/// partitions were added. Topics without an id are looked at each time.
///
/// # Errors
/// [`Error::Invalid`] with a record whose key lies elsewhere.
pub(super) async fn homes(
    selection: &Selection,
    snapshot: &Snapshot,
    keys: Keys,
    session: &SessionSnapshots,
) -> Result<Homes> {
    let topics = snapshot.topics().iter();
    let names: Vec<Arc<str>> = topics.map(|topic| Arc::clone(&topic.topic)).collect();
    let client = selection.client.as_ref();
    let cluster = client.describe(TopicSelection::Named(&names)).await?;
    let counts = cluster.topics.iter().map(|topic| {
        let partitions = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        (Arc::clone(&topic.name), partitions)
    });
    let homes = Homes {
        keys,
        counts: counts.collect(),
    };
    for topic in &cluster.topics {
        let id = topic.id.clone();
        let checked = id.map(|id| (id, topic.partitions.len(), keys.partitioner));
        if checked.as_ref().is_some_and(|c| session.has_checked(c)) {
            continue;
        }
        check(selection, topic, &homes).await?;
        if let Some(checked) = checked {
            session.keep_checked(checked);
        }
    }
    Ok(homes)
}

/// Where keys are, asked for only once a join says which it has.
#[derive(Debug)]
pub(super) struct Places {
    selection: Selection,
    snapshot: Arc<Snapshot>,
    keys: Keys,
    session: Arc<SessionSnapshots>,
    homes: OnceCell<Homes>,
}

impl Places {
    pub(super) fn new(
        selection: &Selection,
        snapshot: &Arc<Snapshot>,
        keys: Keys,
        state: &dyn Session,
    ) -> Self {
        Self {
            selection: selection.clone(),
            snapshot: Arc::clone(snapshot),
            keys,
            session: SessionSnapshots::of(state),
            homes: OnceCell::new(),
        }
    }
}

#[async_trait]
impl KeyPlaces for Places {
    async fn holding(
        &self,
        values: &[ScalarValue],
        partitions: &[TopicPartition],
    ) -> Result<Vec<bool>> {
        let homes = homes(&self.selection, &self.snapshot, self.keys, &self.session);
        let homes = self.homes.get_or_try_init(|| homes).await?;
        let values: Vec<&ScalarValue> = values.iter().collect();
        let partitions = partitions.iter();
        Ok(partitions.map(|p| homes.may_hold(p, &values)).collect())
    }
}

/// Looks at some keys of each partition.
async fn check(selection: &Selection, topic: &TopicDescription, homes: &Homes) -> Result<()> {
    let name = &topic.name;
    let partitions = topic.partitions.iter();
    let partitions: Vec<TopicPartition> = partitions
        .map(|p| TopicPartition::new(Arc::clone(name), p.partition))
        .collect();
    let client = selection.client.as_ref();
    let logs = resolve::log_bounds(client, &partitions, selection.isolation).await?;
    let whole = logs.iter().map(|(partition, log)| {
        OffsetRange::try_new(Arc::clone(name), partition.partition, log.start, log.end)
    });
    let whole: Vec<OffsetRange> = whole.collect::<Result<_>>()?;
    let places = whole.iter().flat_map(|range| thirds(range, OFFSETS));
    let seen = look(selection, topic, places.collect(), None, homes).await?;

    // Compaction may have left nothing there.
    let rest = whole
        .into_iter()
        .filter(|range| !seen.contains(&range.partition()) && range.len() > THIRDS * OFFSETS);
    let most = Some(OFFSETS as usize);
    let rest = rest.map(|range| look(selection, topic, vec![range], most, homes));
    let rest = futures::stream::iter(rest.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
    rest.try_for_each(|_| std::future::ready(Ok(()))).await
}

/// Looks at the keys at these offsets. Yields the partitions that have any.
async fn look(
    selection: &Selection,
    topic: &TopicDescription,
    ranges: Vec<OffsetRange>,
    limit: Option<usize>,
    homes: &Homes,
) -> Result<BTreeSet<i32>> {
    let ranges: Vec<OffsetRange> = ranges.into_iter().filter(|r| r.start() < r.end()).collect();
    let mut seen = BTreeSet::new();
    if ranges.is_empty() {
        return Ok(seen);
    }
    let ids = topic
        .id
        .iter()
        .map(|id| (Arc::clone(&topic.name), id.clone()));
    let request = ReadRequest {
        topic_ids: ids.collect::<BTreeMap<_, _>>(),
        columns: RawColumns {
            key: true,
            ..RawColumns::default()
        },
        isolation: selection.isolation,
        limit,
        on_data_loss: OnDataLoss::Skip,
        ..ReadRequest::new(ranges)
    };
    let mut records = selection.client.read(request);
    let mut left = limit.unwrap_or(usize::MAX);
    while let Some(batch) = records.try_next().await? {
        let partition = batch.partition.partition;
        let Some(keys) = &batch.keys else { continue };
        for (key, offset) in keys.iter().zip(batch.offsets.values()).take(left) {
            let Some(key) = key else { continue };
            seen.insert(partition);
            let Some(home) = homes.of(&topic.name, key) else {
                continue;
            };
            if home != partition {
                return Err(misplaced(topic, partition, *offset, key, home, homes));
            }
        }
        left = left.saturating_sub(batch.offsets.len());
        if left == 0 {
            break;
        }
    }
    Ok(seen)
}

fn misplaced(
    topic: &TopicDescription,
    partition: i32,
    offset: i64,
    key: &[u8],
    home: i32,
    homes: &Homes,
) -> Error {
    let by = homes.keys.partitioner.name();
    Error::invalid(format!(
        "{}[{partition}]@{offset}: the key ({}) belongs to partition {home} of {} by 'key.partitioner' = '{by}': the \
         topic's producers choose partitions in another way, or partitions were added after this record was \
         written; set 'key.partitioner' to 'none' to read all partitions",
        topic.name,
        preview(key),
        topic.partitions.len(),
    ))
}
