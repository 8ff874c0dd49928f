//! From what a user wrote to a [`Snapshot`], once for each statement.
//!
//! DataFusion plans each mention of a table on its own; a self-join would see two different ends
//! of a topic that is being written. All plans of one statement share the time at which the
//! statement began (it is what `now()` returns), so that time and the table's definition name the
//! snapshot: the first mention resolves it, the others wait for it and use it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::catalog::Session;
use tokio::sync::OnceCell;

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
}

impl Selection {
    /// Looks everything up: topics, log bounds, timestamps, committed offsets.
    pub(super) async fn resolve(&self, now_ms: i64) -> Result<Snapshot> {
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
        let facts = self.look_up(&plan, &cluster).await?;
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
        Ok(Snapshot {
            cluster_id: cluster.cluster_id,
            isolation_level: self.isolation,
            created_ms: now_ms,
            topics,
            ranges,
        })
    }

    async fn look_up(
        &self,
        plan: &LookupPlan,
        cluster: &ClusterDescription,
    ) -> Result<LookupFacts> {
        let mut facts = LookupFacts {
            isolation: self.isolation,
            on_data_loss: self.on_data_loss,
            ..LookupFacts::default()
        };
        facts.bounds = log_bounds(self.client.as_ref(), &plan.partitions, self.isolation).await?;
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
            let (Some(start), Some(end)) = (start.offset, end.offset) else {
                return Err(short_answer("log bounds"));
            };
            // Retention may move the start between the two answers.
            let bounds = LogBounds {
                start: start.min(end),
                end,
            };
            Ok((partition.clone(), bounds))
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

type Shared = Arc<OnceCell<Arc<Snapshot>>>;

/// The snapshots of the last statements.
static STATEMENTS: Mutex<VecDeque<(String, Shared)>> = Mutex::new(VecDeque::new());

/// How many snapshots are remembered: far more than statements that are planned at one time.
const REMEMBERED: usize = 256;

/// The snapshot of `selection` for the statement that `state` belongs to.
pub(super) async fn for_statement(
    selection: &Selection,
    state: &dyn Session,
) -> Result<Arc<Snapshot>> {
    let Some(begun) = state.execution_props().query_execution_start_time else {
        return Ok(Arc::new(selection.resolve(now_ms()).await?));
    };
    let key = format!(
        "{:?} {} {:p} {} {} {:?} {}",
        begun,
        state.session_id(),
        Arc::as_ptr(&selection.client),
        selection.topics,
        selection.isolation,
        selection.on_data_loss,
        selection.range,
    );
    let cell = shared_cell(key);
    let snapshot = cell
        .get_or_try_init(|| async {
            let snapshot = selection.resolve(begun.timestamp_millis()).await?;
            Ok::<_, Error>(Arc::new(snapshot))
        })
        .await?;
    Ok(Arc::clone(snapshot))
}

fn shared_cell(key: String) -> Shared {
    // The queue is whole after any panic: it is only ever pushed to and popped from.
    let mut statements = STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, cell)) = statements.iter().find(|(k, _)| *k == key) {
        return Arc::clone(cell);
    }
    if statements.len() >= REMEMBERED {
        statements.pop_front();
    }
    let cell = Shared::default();
    statements.push_back((key, Arc::clone(&cell)));
    cell
}

/// The time of day in ms since the epoch.
pub(super) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|d| i64::try_from(d.as_millis()).ok())
        .unwrap_or(0)
}
