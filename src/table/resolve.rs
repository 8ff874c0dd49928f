//! From what a user wrote to a [`Snapshot`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Mutex;

use super::topics::TopicSource;
use crate::client::{ClusterDescription, KafkaClient, OffsetAt, OffsetQuery};
use crate::error::{Error, Result};
use crate::range::{
    IsolationLevel, LogBounds, LookupFacts, LookupPlan, OnDataLoss, RangeSpec, Snapshot,
    SnapshotRange, SnapshotTopic, TopicPartition,
};

/// What decides a snapshot.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    pub(super) client: Arc<dyn KafkaClient>,
    pub(super) topics: TopicSource,
    pub(super) range: RangeSpec,
    pub(super) isolation: IsolationLevel,
    pub(super) on_data_loss: OnDataLoss,
    pub(super) past_end_is_end: bool,
}

impl Selection {
    /// Looks everything up: topics, log bounds, timestamps, committed offsets.
    pub(super) async fn resolve(&self, now_ms: i64, bounds: &SharedBounds) -> Result<Snapshot> {
        let cluster = self.topics.describe(self.client.as_ref()).await?;
        let partitions: Vec<TopicPartition> = cluster
            .topics
            .iter()
            .flat_map(|t| {
                let name = &t.name;
                t.partitions
                    .iter()
                    .map(|p| TopicPartition::new(Arc::clone(name), p.partition))
            })
            .collect();
        let plan = self.range.plan(&partitions, now_ms)?;
        let facts = self.look_up(&plan, &cluster, bounds).await?;
        let bound = plan.bind(&facts)?;
        let leader_epochs = bounds.leader_epochs(&partitions).await;
        let leaders: BTreeMap<TopicPartition, i32> = leaders(&cluster);
        let ranges = bound
            .into_iter()
            .map(|bound| {
                let partition = bound.range.topic_partition();
                let log = facts.bounds.get(&partition);
                SnapshotRange {
                    from_ms: bound.from_ms,
                    to_ms: bound.to_ms,
                    log_start: log.map_or(bound.range.start(), |b| b.start),
                    log_end: log.map_or(bound.range.end(), |b| b.end),
                    leader: leaders.get(&partition).copied(),
                    leader_epoch: None,
                    range: bound.range,
                }
            })
            .collect();
        let topics = cluster
            .topics
            .iter()
            .map(|t| SnapshotTopic {
                topic: Arc::clone(&t.name),
                topic_id: t.id.clone(),
                log_append_time: facts.log_append_time.contains(&t.name),
            })
            .collect();
        let (id, isolation) = (cluster.cluster_id, self.isolation);
        let snapshot = Snapshot::try_new(id, isolation, now_ms, topics, ranges)?;
        Ok(snapshot.listed_by(leader_epochs))
    }

    async fn look_up(
        &self,
        plan: &LookupPlan,
        cluster: &ClusterDescription,
        bounds: &SharedBounds,
    ) -> Result<LookupFacts> {
        let mut facts = LookupFacts {
            isolation: self.isolation,
            on_data_loss: self.on_data_loss,
            past_end_is_end: self.past_end_is_end,
            ..LookupFacts::default()
        };
        facts.bounds = bounds
            .of(self.client.as_ref(), &plan.partitions, self.isolation)
            .await?;
        // After the ends: a look-up that finds nothing then speaks of all records up to them.
        facts.timestamps =
            timestamps(self.client.as_ref(), &plan.timestamps, self.isolation).await?;
        for (group, partitions) in &plan.groups {
            let committed = self.client.group_offsets(group, partitions).await?;
            for (partition, offset) in committed {
                facts.groups.insert((group.clone(), partition), offset);
            }
        }
        if plan.needs_timestamp_type {
            facts.log_append_time = log_append_topics(self.client.as_ref(), cluster).await?;
        }
        Ok(facts)
    }
}

/// The topics whose brokers set the timestamps; one whose settings may not be read counts as not.
pub(super) async fn log_append_topics(
    client: &dyn KafkaClient,
    cluster: &ClusterDescription,
) -> Result<BTreeSet<Arc<str>>> {
    let names: Vec<Arc<str>> = cluster.topics.iter().map(|t| Arc::clone(&t.name)).collect();
    let settings = client.topic_settings(&names).await?;
    Ok(names
        .into_iter()
        .zip(settings)
        .filter(|(_, s)| s.as_ref().is_some_and(|s| s.log_append_time))
        .map(|(name, _)| name)
        .collect())
}

fn leaders(cluster: &ClusterDescription) -> BTreeMap<TopicPartition, i32> {
    cluster
        .topics
        .iter()
        .flat_map(|t| {
            let name = &t.name;
            t.partitions.iter().filter_map(|p| {
                let partition = TopicPartition::new(Arc::clone(name), p.partition);
                Some((partition, p.leader?))
            })
        })
        .collect()
}

/// Log start and end of each partition.
pub(super) async fn log_bounds(
    client: &dyn KafkaClient,
    partitions: &[TopicPartition],
    isolation: IsolationLevel,
) -> Result<BTreeMap<TopicPartition, LogBounds>> {
    let bounds = log_bounds_of_leaders(client, partitions, isolation).await?;
    let bounds = bounds.into_iter();
    Ok(bounds.map(|(p, (bounds, _))| (p, bounds)).collect())
}

/// Log start and end of each partition, with the epoch of the leader that told the end.
pub(super) async fn log_bounds_of_leaders(
    client: &dyn KafkaClient,
    partitions: &[TopicPartition],
    isolation: IsolationLevel,
) -> Result<BTreeMap<TopicPartition, (LogBounds, Option<i32>)>> {
    let query = |at: OffsetAt| {
        partitions.iter().map(move |p| OffsetQuery {
            partition: p.clone(),
            at,
        })
    };
    let queries: Vec<OffsetQuery> = query(OffsetAt::Earliest)
        .chain(query(OffsetAt::Latest))
        .collect();
    let answers = client.list_offsets(&queries, isolation).await?;
    if answers.len() != queries.len() {
        return Err(short_answer("log bounds", &queries));
    }
    let (starts, ends) = answers.split_at(partitions.len());
    let bounds = partitions.iter().zip(starts.iter().zip(ends));
    bounds
        .map(|(partition, (start, end))| {
            let leader_epoch = end.leader_epoch;
            let (Some(start), Some(end)) = (start.offset, end.offset) else {
                return Err(short_answer("log bounds", &queries));
            };
            // Retention may move the start between the two answers.
            let bounds = LogBounds {
                start: start.min(end),
                end,
            };
            Ok((partition.clone(), (bounds, leader_epoch)))
        })
        .collect()
}

/// The first offset at or after each timestamp.
pub(super) async fn timestamps(
    client: &dyn KafkaClient,
    wanted: &[(TopicPartition, i64)],
    isolation: IsolationLevel,
) -> Result<BTreeMap<(TopicPartition, i64), Option<i64>>> {
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let queries: Vec<OffsetQuery> = wanted
        .iter()
        .map(|(partition, ms)| OffsetQuery {
            partition: partition.clone(),
            at: OffsetAt::Timestamp(*ms),
        })
        .collect();
    let answers = client.list_offsets(&queries, isolation).await?;
    if answers.len() != queries.len() {
        return Err(short_answer("timestamps", &queries));
    }
    let answers = answers.into_iter().map(|a| a.offset);
    Ok(wanted.iter().cloned().zip(answers).collect())
}

fn short_answer(what: &str, asked: &[OffsetQuery]) -> Error {
    let mut partitions: Vec<&TopicPartition> = asked.iter().map(|query| &query.partition).collect();
    partitions.sort();
    partitions.dedup();
    let named: Vec<String> = partitions.iter().take(3).map(|p| p.to_string()).collect();
    let more = if partitions.len() > named.len() {
        ", …"
    } else {
        ""
    };
    Error::Kafka {
        operation: format!("looking up {what} of {}{more}", named.join(", ")),
        reason: "the answer does not cover every partition".to_owned(),
    }
}

/// Log bounds by partition with the epoch of the leader that told the end, each looked up by the first that asks: what
/// shares them ends alike.
#[derive(Debug, Default)]
pub(super) struct SharedBounds(Mutex<BTreeMap<TopicPartition, (LogBounds, Option<i32>)>>);

impl SharedBounds {
    async fn of(
        &self,
        client: &dyn KafkaClient,
        partitions: &[TopicPartition],
        isolation: IsolationLevel,
    ) -> Result<BTreeMap<TopicPartition, LogBounds>> {
        let mut known = self.0.lock().await;
        let unknown: Vec<TopicPartition> = partitions
            .iter()
            .filter(|p| !known.contains_key(*p))
            .cloned()
            .collect();
        if !unknown.is_empty() {
            known.extend(log_bounds_of_leaders(client, &unknown, isolation).await?);
        }
        let bounds = partitions.iter();
        Ok(bounds
            .filter_map(|p| Some((p.clone(), known.get(p)?.0)))
            .collect())
    }

    /// The epochs of the leaders that told the ends, as far as they did.
    async fn leader_epochs(&self, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, i32> {
        let known = self.0.lock().await;
        let partitions = partitions.iter();
        partitions
            .filter_map(|p| Some((p.clone(), known.get(p)?.1?)))
            .collect()
    }
}

/// The time of day in ms since the epoch.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|d| i64::try_from(d.as_millis()).ok())
        .unwrap_or(0)
}
