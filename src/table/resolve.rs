//! From what a user wrote to a [`Snapshot`], once for each statement.
//!
//! DataFusion plans each mention of a table on its own; a self-join would see two different ends
//! of a topic that is being written. All plans of one statement share the time at which the
//! statement began (it is what `now()` returns), so that time and the table's definition name the
//! snapshot: the first mention resolves it, the others wait for it and use it. Mentions of one
//! topic with different ranges share its log bounds.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::catalog::Session;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

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
    pub(super) async fn resolve(&self, now_ms: i64, statement: &Statement) -> Result<Snapshot> {
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
        let facts = self.look_up(&plan, &cluster, statement).await?;
        let bound = plan.bind(&facts)?;
        let leaders: BTreeMap<TopicPartition, i32> = leaders(&cluster);
        let ranges = bound
            .into_iter()
            .map(|bound| {
                let partition = bound.range.topic_partition();
                let log = facts.bounds.get(&partition);
                SnapshotRange {
                    from_ms: bound.from_ms,
                    to_ms: bound.to_ms,
                    log_start: log.map_or(bound.range.start, |b| b.start),
                    log_end: log.map_or(bound.range.end, |b| b.end),
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
        Snapshot::try_new(cluster.cluster_id, self.isolation, now_ms, topics, ranges)
    }

    async fn look_up(
        &self,
        plan: &LookupPlan,
        cluster: &ClusterDescription,
        statement: &Statement,
    ) -> Result<LookupFacts> {
        let mut facts = LookupFacts {
            isolation: self.isolation,
            on_data_loss: self.on_data_loss,
            past_end_is_end: self.past_end_is_end,
            ..LookupFacts::default()
        };
        facts.bounds = statement
            .bounds(self.client.as_ref(), &plan.partitions, self.isolation)
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
        return Err(short_answer("log bounds"));
    }
    let (starts, ends) = answers.split_at(partitions.len());
    let bounds = partitions.iter().zip(starts.iter().zip(ends));
    bounds
        .map(|(partition, (start, end))| {
            let leader_epoch = end.leader_epoch;
            let (Some(start), Some(end)) = (start.offset, end.offset) else {
                return Err(short_answer("log bounds"));
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
        return Err(short_answer("timestamps"));
    }
    let answers = answers.into_iter().map(|a| a.offset);
    Ok(wanted.iter().cloned().zip(answers).collect())
}

fn short_answer(what: &str) -> Error {
    Error::Kafka {
        operation: format!("looking up {what}"),
        reason: "the answer does not cover every partition".to_owned(),
    }
}

/// What the mentions of one cluster in one statement share.
#[derive(Debug, Default)]
pub(super) struct Statement {
    /// Log bounds by partition: ranges of one topic that are written differently end alike.
    bounds: AsyncMutex<BTreeMap<TopicPartition, LogBounds>>,
    /// Snapshots by topics and range.
    snapshots: Mutex<HashMap<String, Arc<OnceCell<Arc<Snapshot>>>>>,
}

impl Statement {
    /// Log bounds, each looked up by the first that asks.
    async fn bounds(
        &self,
        client: &dyn KafkaClient,
        partitions: &[TopicPartition],
        isolation: IsolationLevel,
    ) -> Result<BTreeMap<TopicPartition, LogBounds>> {
        let mut known = self.bounds.lock().await;
        let unknown: Vec<TopicPartition> = partitions
            .iter()
            .filter(|p| !known.contains_key(*p))
            .cloned()
            .collect();
        if !unknown.is_empty() {
            known.extend(log_bounds(client, &unknown, isolation).await?);
        }
        let bounds = partitions.iter();
        Ok(bounds
            .filter_map(|p| Some((p.clone(), *known.get(p)?)))
            .collect())
    }

    fn snapshot_cell(&self, key: String) -> Arc<OnceCell<Arc<Snapshot>>> {
        // The map is whole after any panic: it is only ever added to.
        let mut snapshots = self
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(snapshots.entry(key).or_default())
    }
}

/// The last statements.
static STATEMENTS: Mutex<VecDeque<(String, Arc<Statement>)>> = Mutex::new(VecDeque::new());

/// How many statements are remembered: far more than are planned at one time.
const REMEMBERED: usize = 256;

/// The snapshot of `selection` for the statement that `state` belongs to.
pub(super) async fn for_statement(
    selection: &Selection,
    state: &dyn Session,
) -> Result<Arc<Snapshot>> {
    let Some(begun) = state.execution_props().query_execution_start_time else {
        let alone = Statement::default();
        return Ok(Arc::new(selection.resolve(now_ms(), &alone).await?));
    };
    let statement = remembered(format!(
        "{begun:?} {} {:p} {}",
        state.session_id(),
        Arc::as_ptr(&selection.client),
        selection.isolation,
    ));
    let cell = statement.snapshot_cell(format!(
        "{} {:?} {} {}",
        selection.topics, selection.on_data_loss, selection.past_end_is_end, selection.range,
    ));
    let snapshot = cell
        .get_or_try_init(|| async {
            let now_ms = begun.timestamp_millis();
            let snapshot = selection.resolve(now_ms, &statement).await?;
            Ok::<_, Error>(Arc::new(snapshot))
        })
        .await?;
    Ok(Arc::clone(snapshot))
}

fn remembered(key: String) -> Arc<Statement> {
    // The queue is whole after any panic: it is only ever pushed to and popped from.
    let mut statements = STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(at) = statements.iter().position(|(k, _)| *k == key)
        && let Some((key, statement)) = statements.remove(at)
    {
        // To the end: the one that was not used for longest is forgotten first.
        statements.push_back((key, Arc::clone(&statement)));
        return statement;
    }
    if statements.len() >= REMEMBERED {
        statements.pop_front();
    }
    let statement = Arc::<Statement>::default();
    statements.push_back((key, Arc::clone(&statement)));
    statement
}

/// The time of day in ms since the epoch.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|d| i64::try_from(d.as_millis()).ok())
        .unwrap_or(0)
}
