//! Questions about topics, offsets and groups, over one handle that never fetches.
//!
//! Requests are librdkafka's admin requests: the answer wakes the waiting task, no thread is
//! blocked. A question costs one round trip on a warm handle, the list of all topics three.
//!
//! Questions that any broker answers go to one of our choice, not to the controller as librdkafka
//! would have it: a cluster without a controller, or with a dead one, still tells its topics.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::Notify;

use super::ffi::{self, AdminRequest, Event, Handle, Queue, code};
use super::{common, handle};
use crate::client::{
    Broker, ClusterDescription, OffsetAnswer, OffsetAt, OffsetQuery, PartitionDescription,
    TopicDescription, TopicSelection, TopicSettings,
};
use crate::config::ConnectionConfig;
use crate::error::{Error, Result, nearest_names};
use crate::range::{IsolationLevel, TopicPartition};

/// How often a waiting question looks at the connections' health.
const HEALTH_TICK: Duration = Duration::from_millis(20);
/// How long all brokers may be down before a question gives up: a client that was never connected
/// likely has a wrong address; one that was may see a restart.
const DOWN_GRACE_NEW: Duration = Duration::from_millis(700);
const DOWN_GRACE: Duration = Duration::from_secs(3);
/// How long topic ids are trusted.
const IDS_FRESH: Duration = Duration::from_secs(1);
/// librdkafka merges answers in quadratic time; so many partitions take about a millisecond.
const OFFSETS_AT_ONCE: usize = 500;

/// See the module's documentation.
pub(super) struct Meta {
    handle: Arc<Handle>,
    hosts: String,
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether a broker ever answered.
    connected: bool,
    /// The broker that is asked what any broker knows.
    target: Option<i32>,
    /// The topics' ids and when they were asked for; `None` for a topic that is not there.
    ids: HashMap<Arc<str>, (Instant, Option<TopicId>)>,
}

/// A topic's id, where the broker gives one.
type TopicId = Option<String>;

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meta")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

impl Meta {
    pub(super) fn new(
        config: &ConnectionConfig,
        properties: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let mut conf = BTreeMap::new();
        common(&mut conf);
        let handle = handle(conf, properties, &[("allow.auto.create.topics", "false")])?;
        Ok(Self {
            handle,
            hosts: config.bootstrap_servers().to_owned(),
            timeout: config.request_timeout(),
            state: Mutex::default(),
        })
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether a broker ever answered.
    pub(super) fn connected(&self) -> bool {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .connected
    }

    pub(super) fn hosts(&self) -> &str {
        &self.hosts
    }

    pub(super) async fn describe(&self, topics: TopicSelection<'_>) -> Result<ClusterDescription> {
        let deadline = Deadline::after(self.timeout);
        let (cluster, topics) = match topics {
            TopicSelection::Named(names) => {
                let names: BTreeSet<Arc<str>> = names.iter().cloned().collect();
                let names: Vec<Arc<str>> = names.into_iter().collect();
                futures::try_join!(
                    self.describe_cluster(&deadline),
                    self.describe_topics(&names, true, &deadline),
                )?
            }
            TopicSelection::All => {
                // First, because it notices brokers that are down; the list of names does not.
                let cluster = self.describe_cluster(&deadline).await?;
                let names = self.all_topics(&deadline).await?;
                (
                    cluster,
                    self.describe_topics(&names, false, &deadline).await?,
                )
            }
        };
        let (cluster_id, brokers) = cluster;
        Ok(ClusterDescription {
            cluster_id,
            brokers,
            topics,
        })
    }

    async fn describe_cluster(&self, deadline: &Deadline) -> Result<(Option<String>, Vec<Broker>)> {
        let operation = "describing the cluster";
        let event = self
            .ask_any(AdminRequest::DescribeCluster, operation, deadline)
            .await?;
        let (id, nodes) = event.cluster().ok_or_else(|| odd_answer(operation))?;
        let mut brokers: Vec<Broker> = nodes
            .into_iter()
            .map(|n| Broker {
                id: n.id,
                host: n.host,
                port: n.port,
                rack: n.rack,
            })
            .collect();
        brokers.sort_by_key(|b| b.id);
        Ok((id.filter(|id| !id.is_empty()), brokers))
    }

    /// Describes topics, sorted by name; those that do not exist are left out.
    async fn describe_topics(
        &self,
        names: &[Arc<str>],
        named: bool,
        deadline: &Deadline,
    ) -> Result<Vec<TopicDescription>> {
        let operation = "describing topics";
        let mut wanted: Vec<Arc<str>> = names.iter().filter(|n| !n.is_empty()).cloned().collect();
        let mut found: Vec<TopicDescription> = Vec::with_capacity(wanted.len());
        while !wanted.is_empty() {
            let asked = Instant::now();
            let event = self
                .ask_any(AdminRequest::DescribeTopics(&wanted), operation, deadline)
                .await?;
            let infos = event.topics().ok_or_else(|| odd_answer(operation))?;
            let mut again = Vec::new();
            for info in infos {
                let name: Arc<str> = info.name.into();
                match info.code {
                    code::OK => {
                        self.remember(&name, asked, Some(info.id.clone()));
                        let mut partitions: Vec<PartitionDescription> = info
                            .partitions
                            .into_iter()
                            .map(|p| PartitionDescription {
                                partition: p.partition,
                                leader: p.leader,
                                replicas: p.replicas,
                                isr: p.isr,
                            })
                            .collect();
                        partitions.sort_by_key(|p| p.partition);
                        found.push(TopicDescription {
                            name,
                            id: info.id,
                            internal: info.internal,
                            partitions,
                        });
                    }
                    code::UNKNOWN_TOPIC_OR_PART
                    | code::UNKNOWN_TOPIC_LOCAL
                    | code::INVALID_TOPIC => self.remember(&name, asked, None),
                    code::TOPIC_AUTHORIZATION_FAILED if named => {
                        return Err(denied(format!("topic {name}"), "DESCRIBE", info.code));
                    }
                    code::TOPIC_AUTHORIZATION_FAILED => {}
                    c if code::RETRIABLE.contains(&c) && !deadline.passed() => again.push(name),
                    c => {
                        return Err(Error::Kafka {
                            operation: format!("describing topic '{name}'"),
                            reason: ffi::error_text(c),
                        });
                    }
                }
            }
            wanted = again;
            if !wanted.is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The names of all topics; also refreshes what librdkafka knows of their leaders.
    async fn all_topics(&self, deadline: &Deadline) -> Result<Vec<Arc<str>>> {
        let handle = Arc::clone(&self.handle);
        let timeout_ms = deadline.left_ms();
        // librdkafka offers this one as a blocking call only.
        let names = tokio::task::spawn_blocking(move || handle.all_topics(timeout_ms))
            .await
            .map_err(|e| Error::Kafka {
                operation: "listing topics".into(),
                reason: e.to_string(),
            })?
            .map_err(|c| self.failed("listing topics", c, &ffi::error_text(c)))?;
        Ok(names.into_iter().map(Into::into).collect())
    }

    pub(super) async fn list_offsets(
        &self,
        queries: &[OffsetQuery],
        isolation: IsolationLevel,
        within: Duration,
    ) -> Result<Vec<OffsetAnswer>> {
        let deadline = Deadline::after(within);
        let mut answers = vec![None; queries.len()];
        let mut open: Vec<usize> = (0..queries.len()).collect();
        let mut round = 0u32;
        while !open.is_empty() {
            // A leader that is down must leave time to ask its successor.
            let attempt = deadline.part(3);
            let waves = waves(queries, &open);
            let asked = waves
                .iter()
                .map(|w| self.list_wave(queries, w, isolation, &attempt));
            let mut reason = None;
            let mut missing = None;
            for (wave, outcome) in waves.iter().zip(join_all(asked).await) {
                let offsets = match outcome {
                    Ok(offsets) => offsets,
                    Err(e @ (Error::Authentication { .. } | Error::Authorization { .. })) => {
                        return Err(e);
                    }
                    Err(e) if deadline.passed() => return Err(e),
                    Err(e) if matches!(e, Error::Connection { .. }) && !attempt.passed() => {
                        return Err(e);
                    }
                    Err(e) => {
                        reason = Some(e.to_string());
                        continue;
                    }
                };
                for (&query, (offset, err)) in wave.iter().zip(offsets) {
                    let partition = &queries[query].partition;
                    match err {
                        code::OK if offset >= 0 => answers[query] = Some(Some(offset)),
                        // No record has such a timestamp.
                        code::OK if offset == -1 => answers[query] = Some(None),
                        // librdkafka leaves the offset unset when a leader's request failed.
                        code::OK => reason = Some("a leader did not answer".into()),
                        code::TOPIC_AUTHORIZATION_FAILED => {
                            let topic = format!("topic {}", partition.topic);
                            return Err(denied(topic, "DESCRIBE", err));
                        }
                        c => {
                            if is_missing(c) {
                                missing = Some(query);
                            }
                            reason = Some(ffi::error_text(c));
                        }
                    }
                }
            }
            open.retain(|q| answers[*q].is_none());
            if open.is_empty() {
                break;
            }
            round += 1;
            if let Some(query) = missing.filter(|_| round > 1) {
                self.expect_partition(&queries[query].partition).await?;
            }
            if deadline.passed() {
                let partition = &queries[open[0]].partition;
                let reason = reason.unwrap_or_default();
                return Err(Error::Kafka {
                    operation: format!("listing offsets of {partition}"),
                    reason: format!("{reason}; gave up after {} ms", within.as_millis()),
                });
            }
            let pause = Duration::from_millis(u64::from(20 * round.min(10)));
            tokio::time::sleep(pause.min(deadline.left())).await;
            if round > 1 {
                // Leaders may have moved without this handle having noticed.
                let _ = self.all_topics(&deadline.part(2)).await;
            }
        }
        Ok(answers
            .into_iter()
            .map(|a| OffsetAnswer {
                offset: a.flatten(),
            })
            .collect())
    }

    /// One admin request: no partition twice. Offset and code for each query.
    async fn list_wave(
        &self,
        queries: &[OffsetQuery],
        wave: &[usize],
        isolation: IsolationLevel,
        deadline: &Deadline,
    ) -> Result<Vec<(i64, i32)>> {
        let operation = "listing offsets";
        let partitions: Vec<(&str, i32, i64)> = wave
            .iter()
            .map(|q| {
                let query = &queries[*q];
                let at = match query.at {
                    OffsetAt::Latest => -1,
                    OffsetAt::Earliest => -2,
                    // Below zero Kafka's protocol has special meanings; no record is older.
                    OffsetAt::Timestamp(ms) => ms.max(0),
                };
                (&*query.partition.topic, query.partition.partition, at)
            })
            .collect();
        let request = AdminRequest::ListOffsets(&partitions, isolation);
        let event = match self.ask_raw(request, None, deadline).await? {
            Ok(event) => event,
            // "No leaders found": every partition of the wave is unknown or leaderless.
            Err((c, _)) if c == code::NO_LEADERS || is_missing(c) => {
                return Ok(vec![(-1, code::UNKNOWN_TOPIC_OR_PART); wave.len()]);
            }
            Err((c, reason)) => return Err(self.failed(operation, c, &reason)),
        };
        let offsets = event.offsets().ok_or_else(|| odd_answer(operation))?;
        let by_partition: HashMap<(&str, i32), (i64, i32)> = offsets
            .iter()
            .map(|o| ((o.topic.as_str(), o.partition), (o.offset, o.code)))
            .collect();
        // One that the answer lacks reads like one whose leader did not answer.
        let lacking = (i64::MIN, code::OK);
        Ok(partitions
            .iter()
            .map(|(t, p, _)| by_partition.get(&(*t, *p)).copied().unwrap_or(lacking))
            .collect())
    }

    /// # Errors
    /// When the partition is not there, with what there is.
    pub(super) async fn expect_partition(&self, partition: &TopicPartition) -> Result<()> {
        let deadline = Deadline::after(self.timeout);
        let topic = &partition.topic;
        let found = self
            .describe_topics(std::slice::from_ref(topic), true, &deadline)
            .await?;
        let Some(found) = found.first() else {
            return Err(self.unknown_topic(topic, &deadline).await);
        };
        if found
            .partitions
            .iter()
            .any(|p| p.partition == partition.partition)
        {
            return Ok(());
        }
        Err(Error::UnknownPartition {
            topic: topic.to_string(),
            partition: partition.partition,
            available: match found.partitions.len() {
                0 => "none".into(),
                1 => "partition 0".into(),
                n => format!("partitions 0 to {}", n - 1),
            },
        })
    }

    async fn unknown_topic(&self, topic: &str, deadline: &Deadline) -> Error {
        let names = self.all_topics(deadline).await.unwrap_or_default();
        Error::UnknownTopic {
            topic: topic.to_owned(),
            nearest: nearest_names(topic, names.iter().map(|n| &**n)),
        }
    }

    /// Compares topics' ids with the cluster's, which may be up to a second old.
    ///
    /// # Errors
    /// When a topic was recreated or is gone.
    pub(super) async fn verify_ids(&self, expected: &BTreeMap<Arc<str>, String>) -> Result<()> {
        let stale: Vec<Arc<str>> = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = |t: &Arc<str>| {
                state
                    .ids
                    .get(t)
                    .is_some_and(|(at, _)| at.elapsed() < IDS_FRESH)
            };
            expected.keys().filter(|t| !fresh(t)).cloned().collect()
        };
        let deadline = Deadline::after(self.timeout);
        if !stale.is_empty() {
            self.describe_topics(&stale, true, &deadline).await?;
        }
        for (topic, id) in expected {
            let found = {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.ids.get(topic).and_then(|(_, id)| id.clone())
            };
            match found {
                None => return Err(self.unknown_topic(topic, &deadline).await),
                Some(Some(found)) if found != *id => {
                    return Err(Error::TopicRecreated {
                        topic: topic.to_string(),
                        expected: id.clone(),
                        found,
                    });
                }
                // The same, or a broker that gives no ids.
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn remember(&self, topic: &Arc<str>, asked: Instant, id: Option<TopicId>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Old entries are of no use; a long-lived client must not collect them.
        if state.ids.len() > 10_000 {
            state.ids.retain(|_, (at, _)| at.elapsed() < IDS_FRESH);
        }
        state.ids.insert(Arc::clone(topic), (asked, id));
    }

    pub(super) async fn group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let unique: BTreeSet<&TopicPartition> = partitions.iter().collect();
        if unique.is_empty() {
            return Ok(BTreeMap::new());
        }
        let list: Vec<(&str, i32, i64)> =
            unique.iter().map(|p| (&*p.topic, p.partition, 0)).collect();
        let operation = "listing the group's offsets";
        let deadline = Deadline::after(self.timeout);
        let event = self
            .ask_raw(AdminRequest::GroupOffsets(group, &list), None, &deadline)
            .await?
            .map_err(|(c, reason)| match c {
                code::GROUP_AUTHORIZATION_FAILED => denied(format!("group {group}"), "DESCRIBE", c),
                _ => self.failed(operation, c, &reason),
            })?;
        let offsets = event.group_offsets().ok_or_else(|| odd_answer(operation))?;
        let failed = |c: i32, reason: &str| match c {
            code::GROUP_AUTHORIZATION_FAILED => denied(format!("group {group}"), "DESCRIBE", c),
            code::TOPIC_AUTHORIZATION_FAILED => {
                denied(format!("topics of group {group}"), "DESCRIBE", c)
            }
            _ => Error::Kafka {
                operation: format!("listing the offsets of group '{group}'"),
                reason: reason.to_owned(),
            },
        };
        let mut found = BTreeMap::new();
        for o in offsets.map_err(|(c, reason)| failed(c, &reason))? {
            if o.code != code::OK && !is_missing(o.code) {
                return Err(failed(o.code, &ffi::error_text(o.code)));
            }
            if o.code == code::OK && o.offset >= 0 {
                found.insert(TopicPartition::new(o.topic, o.partition), o.offset);
            }
        }
        Ok(found)
    }

    pub(super) async fn topic_settings(
        &self,
        topics: &[Arc<str>],
    ) -> Result<Vec<Option<TopicSettings>>> {
        let unique: BTreeSet<Arc<str>> = topics.iter().cloned().collect();
        let unique: Vec<Arc<str>> = unique.into_iter().collect();
        if unique.is_empty() {
            return Ok(Vec::new());
        }
        let operation = "describing topic settings";
        let deadline = Deadline::after(self.timeout);
        let event = match self
            .ask_any_raw(AdminRequest::DescribeConfigs(&unique), &deadline)
            .await?
        {
            Ok(event) => event,
            Err((code::UNSUPPORTED_FEATURE | code::CLUSTER_AUTHORIZATION_FAILED, _)) => {
                return Ok(vec![None; topics.len()]);
            }
            Err((c, reason)) => return Err(self.failed(operation, c, &reason)),
        };
        let infos = event.settings().ok_or_else(|| odd_answer(operation))?;
        let mut found: HashMap<String, TopicSettings> = HashMap::new();
        for info in infos.into_iter().filter(|i| i.code == code::OK) {
            let entry = |name: &str| {
                info.entries
                    .iter()
                    .find(|(n, _)| n == name)
                    .map(|(_, v)| v.as_str())
            };
            let kind = entry("message.timestamp.type");
            let settings = TopicSettings {
                log_append_time: kind == Some("LogAppendTime"),
                cleanup_policy: entry("cleanup.policy").unwrap_or("delete").to_owned(),
            };
            found.insert(info.topic, settings);
        }
        Ok(topics.iter().map(|t| found.get(&**t).cloned()).collect())
    }

    async fn ask_any(
        &self,
        request: AdminRequest<'_>,
        operation: &str,
        deadline: &Deadline,
    ) -> Result<Event> {
        self.ask_any_raw(request, deadline)
            .await?
            .map_err(|(c, reason)| self.failed(operation, c, &reason))
    }

    /// Asks one broker, and another if that one does not answer.
    async fn ask_any_raw(
        &self,
        request: AdminRequest<'_>,
        deadline: &Deadline,
    ) -> Result<Result<Event, (i32, String)>> {
        let mut failed = None;
        loop {
            let target = self.target(failed, deadline).await?;
            let attempt = deadline.part(3);
            match self.ask_raw(request, Some(target), &attempt).await {
                Ok(Err((code::TIMED_OUT | code::TRANSPORT, _))) if !deadline.passed() => {}
                Err(Error::Connection { .. }) if attempt.passed() && !deadline.passed() => {}
                answer => return answer,
            }
            failed = Some(target);
        }
    }

    /// A broker to ask; if one just failed, another where there is another.
    async fn target(&self, failed: Option<i32>, deadline: &Deadline) -> Result<i32> {
        let known = self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .target;
        if let Some(known) = known.filter(|k| failed != Some(*k)) {
            return Ok(known);
        }
        let started = Instant::now();
        loop {
            let handle = Arc::clone(&self.handle);
            // Short, because librdkafka's call does not notice that all brokers are down.
            let slice_ms = deadline.left_ms().min(250);
            let brokers = tokio::task::spawn_blocking(move || handle.brokers(slice_ms)).await;
            let mut brokers = brokers.ok().and_then(|b| b.ok()).unwrap_or_default();
            brokers.sort_unstable();
            // The one after the failed one, around.
            let next = brokers.iter().find(|b| failed.is_some_and(|f| **b > f));
            if let Some(&target) = next.or(brokers.first()) {
                self.succeeded();
                self.state
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .target = Some(target);
                return Ok(target);
            }
            self.check_health(started, deadline)?;
        }
    }

    /// Sends a request and waits for its answer: an event, or the error of the request as a whole.
    async fn ask_raw(
        &self,
        request: AdminRequest<'_>,
        broker: Option<i32>,
        deadline: &Deadline,
    ) -> Result<Result<Event, (i32, String)>> {
        let started = Instant::now();
        let wake = Arc::new(Notify::new());
        let queue = Queue::new(&self.handle, Some(Arc::clone(&wake)));
        ffi::send(&self.handle, &queue, &request, broker, deadline.left_ms());
        loop {
            if let Some(event) = queue.event(0) {
                let Some((c, reason)) = event.error() else {
                    self.succeeded();
                    return Ok(Ok(event));
                };
                if matches!(c, code::TIMED_OUT | code::TRANSPORT) {
                    self.check_health(started, deadline)?;
                }
                return Ok(Err((c, reason)));
            }
            self.check_health(started, deadline)?;
            let _ = tokio::time::timeout(HEALTH_TICK, wake.notified()).await;
        }
    }

    fn succeeded(&self) {
        let mut health = self.handle.health();
        health.down = false;
        health.refused = None;
        health.last = None;
        drop(health);
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .connected = true;
    }

    /// # Errors
    /// When it is known that waiting is no use.
    fn check_health(&self, started: Instant, deadline: &Deadline) -> Result<()> {
        let health = self.handle.health().clone();
        let waited = started.elapsed();
        if let Some((at, reason)) = health.refused
            // One from before may be over; librdkafka is trying again meanwhile.
            && (at >= started || waited > DOWN_GRACE_NEW)
        {
            return Err(Error::Authentication {
                hosts: self.hosts.clone(),
                reason,
            });
        }
        let grace = if self.connected() {
            DOWN_GRACE
        } else {
            DOWN_GRACE_NEW
        };
        if health.down && waited > grace {
            return Err(Error::Connection {
                hosts: self.hosts.clone(),
                reason: health.last.unwrap_or_else(|| "all brokers are down".into()),
            });
        }
        if deadline.passed() {
            let last = health
                .last
                .map(|l| format!("; last: {l}"))
                .unwrap_or_default();
            return Err(Error::Connection {
                hosts: self.hosts.clone(),
                reason: format!("no answer within {} ms{last}", deadline.whole.as_millis()),
            });
        }
        Ok(())
    }

    fn failed(&self, operation: &str, c: i32, reason: &str) -> Error {
        let hosts = self.hosts.clone();
        match c {
            code::AUTHENTICATION | code::SSL | code::SASL_AUTHENTICATION_FAILED => {
                Error::Authentication {
                    hosts,
                    reason: reason.to_owned(),
                }
            }
            code::TRANSPORT | code::RESOLVE | code::TIMED_OUT | code::ALL_BROKERS_DOWN => {
                let last = self.handle.health().last.clone();
                Error::Connection {
                    hosts,
                    reason: last.unwrap_or_else(|| format!("{operation}: {reason}")),
                }
            }
            code::CLUSTER_AUTHORIZATION_FAILED => denied("the cluster".into(), "DESCRIBE", c),
            _ => Error::Kafka {
                operation: operation.to_owned(),
                reason: reason.to_owned(),
            },
        }
    }
}

/// When a question must be answered.
struct Deadline {
    end: Instant,
    whole: Duration,
}

impl Deadline {
    fn after(whole: Duration) -> Self {
        Self {
            end: Instant::now() + whole,
            whole,
        }
    }

    /// An earlier one: a part of the time that is left, but a second at least.
    fn part(&self, of: u32) -> Self {
        Self::after(
            (self.left() / of)
                .max(Duration::from_secs(1))
                .min(self.left()),
        )
    }

    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    fn left_ms(&self) -> i32 {
        i32::try_from(self.left().as_millis())
            .unwrap_or(i32::MAX)
            .max(1)
    }

    fn passed(&self) -> bool {
        self.left().is_zero()
    }
}

/// Sorts open queries into requests that hold no partition twice, and not too many.
fn waves(queries: &[OffsetQuery], open: &[usize]) -> Vec<Vec<usize>> {
    let mut times: HashMap<&TopicPartition, usize> = HashMap::new();
    let mut layers: Vec<Vec<usize>> = Vec::new();
    for &query in open {
        let layer = times.entry(&queries[query].partition).or_default();
        if layers.len() == *layer {
            layers.push(Vec::new());
        }
        layers[*layer].push(query);
        *layer += 1;
    }
    layers
        .iter()
        .flat_map(|l| l.chunks(OFFSETS_AT_ONCE).map(<[usize]>::to_vec))
        .collect()
}

fn is_missing(c: i32) -> bool {
    matches!(
        c,
        code::UNKNOWN_TOPIC_OR_PART
            | code::UNKNOWN_PARTITION_LOCAL
            | code::UNKNOWN_TOPIC_LOCAL
            | code::UNKNOWN_TOPIC_ID
            | code::INVALID_TOPIC
    )
}

pub(super) fn denied(resource: String, operation: &str, c: i32) -> Error {
    Error::Authorization {
        resource,
        operation: operation.to_owned(),
        reason: ffi::error_text(c),
    }
}

fn odd_answer(operation: &str) -> Error {
    Error::Kafka {
        operation: operation.to_owned(),
        reason: "the client library answered with another kind of event".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_hold_no_partition_twice() {
        let query = |p, at| OffsetQuery {
            partition: TopicPartition::new("t", p),
            at,
        };
        let queries = [
            query(0, OffsetAt::Earliest),
            query(0, OffsetAt::Latest),
            query(1, OffsetAt::Latest),
            query(0, OffsetAt::Timestamp(5)),
        ];
        assert_eq!(
            waves(&queries, &[0, 1, 2, 3]),
            [vec![0, 2], vec![1], vec![3]]
        );
        assert_eq!(waves(&queries, &[3]), [vec![3]]);
    }

    #[test]
    fn waves_are_bounded() {
        let queries: Vec<_> = (0..1201)
            .map(|p| OffsetQuery {
                partition: TopicPartition::new("t", p),
                at: OffsetAt::Latest,
            })
            .collect();
        let open: Vec<usize> = (0..1201).collect();
        let sizes: Vec<_> = waves(&queries, &open).iter().map(Vec::len).collect();
        assert_eq!(sizes, [500, 500, 201]);
    }
}
