//! Requests about topics, offsets and groups, over one handle that never fetches.
//!
//! They use librdkafka's admin requests: the answer wakes the waiting task, and no thread is blocked. A
//! request costs one round trip on a warm handle; listing all topics takes three.
//!
//! librdkafka would send requests that any broker can answer to the controller. This module picks a broker
//! itself, so a cluster whose controller is missing or dead still describes its topics.

mod ask;
mod known;
mod offsets;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use self::ask::{Deadline, backoff, odd_answer};
use super::ffi::{self, AdminRequest, Handle, code};
use super::{Given, common, handle};
use crate::client::{
    Broker, ClusterDescription, PartitionDescription, TopicDescription, TopicSelection,
    TopicSettings,
};
use crate::config::ConnectionConfig;
use crate::error::{Error, Result, nearest_names};
use crate::range::TopicPartition;

/// How long to spend on finding out why a partition is silent.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// See the module's documentation.
pub(crate) struct Meta {
    handle: Arc<Handle>,
    hosts: String,
    timeout: Duration,
    state: Mutex<State>,
    /// Held by the caller that is asking about topics.
    topics_turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Whether any broker has ever answered.
    connected: bool,
    /// The broker that is asked for what any broker knows.
    target: Option<i32>,
    /// Topics with the time of the request; `None` for one that does not exist.
    topics: HashMap<Arc<str>, (Instant, Option<Known>)>,
    /// The topics that the next request must include.
    topics_wanted: BTreeSet<Arc<str>>,
    /// The number of requests that [`Meta::know`] has sent.
    #[cfg(test)]
    topics_asked: usize,
}

/// A topic in the last answer about it.
struct Known {
    /// If the broker provides one.
    id: Option<String>,
    /// Whether each partition has a leader.
    led: BTreeMap<i32, bool>,
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meta")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

impl Meta {
    pub(crate) fn new(config: &ConnectionConfig, given: &Given) -> Result<Self> {
        let mut conf = BTreeMap::new();
        common(&mut conf);
        // A connection that is dead without a word is found out while there is time to ask again.
        let attempt_ms = (config.request_timeout().as_millis() / 3).clamp(1000, 60_000);
        conf.insert("socket.timeout.ms".into(), attempt_ms.to_string());
        let forced = [("allow.auto.create.topics", "false")];
        let handle = handle(ffi::Kind::Consumer, conf, given, &forced)?;
        Ok(Self {
            handle,
            hosts: config.bootstrap_servers().to_owned(),
            timeout: config.request_timeout(),
            state: Mutex::default(),
            topics_turn: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether any broker has ever answered.
    pub(crate) fn connected(&self) -> bool {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .connected
    }

    pub(crate) fn hosts(&self) -> &str {
        &self.hosts
    }

    pub(crate) async fn describe(&self, topics: TopicSelection<'_>) -> Result<ClusterDescription> {
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
                // This comes first because it notices brokers that are down; listing names does not.
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

    /// Describes topics, sorted by name. Topics that do not exist are left out.
    async fn describe_topics(
        &self,
        names: &[Arc<str>],
        named: bool,
        deadline: &Deadline,
    ) -> Result<Vec<TopicDescription>> {
        let operation = "describing topics";
        let mut wanted: Vec<Arc<str>> = names.iter().filter(|n| !n.is_empty()).cloned().collect();
        let mut found: Vec<TopicDescription> = Vec::with_capacity(wanted.len());
        let mut backoff = backoff();
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
                        let led = info.partitions.iter();
                        let led = led.map(|p| (p.partition, p.leader.is_some())).collect();
                        let id = info.id.clone();
                        self.remember(&name, asked, Some(Known { id, led }));
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
                    c if code::is_retriable(c) && !deadline.passed() => again.push(name),
                    c => {
                        let operation = format!("describing topic '{name}'");
                        return Err(self.failed(&operation, c, &ffi::error_text(c)));
                    }
                }
            }
            wanted = again;
            if !wanted.is_empty() {
                backoff.wait(deadline.left()).await;
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The names of all topics. This also refreshes librdkafka's view of their leaders.
    async fn all_topics(&self, deadline: &Deadline) -> Result<Vec<Arc<str>>> {
        let handle = Arc::clone(&self.handle);
        let timeout_ms = deadline.left_ms();
        // librdkafka only offers this as a blocking call.
        let names = tokio::task::spawn_blocking(move || handle.all_topics(timeout_ms))
            .await
            .map_err(|e| Error::Kafka {
                operation: "listing topics".into(),
                reason: e.to_string(),
            })?
            .map_err(|c| self.failed("listing topics", c, &ffi::error_text(c)))?;
        Ok(names.into_iter().map(Into::into).collect())
    }

    /// An error if the partition does not exist; it says which ones do.
    pub(crate) async fn expect_partition(&self, partition: &TopicPartition) -> Result<()> {
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
        Err(Error::unknown_partition(
            &partition.topic,
            partition.partition,
            found.partitions.len(),
        ))
    }

    /// The error for a partition that has been silent too long. It says that there is no leader if the
    /// cluster says so, which librdkafka does not report.
    pub(crate) async fn gave_up(
        &self,
        partition: &TopicPartition,
        waited: Duration,
        otherwise: Error,
    ) -> Error {
        let deadline = Deadline::after(self.timeout.min(LAST_LOOK));
        let topics = std::slice::from_ref(&partition.topic);
        let described = self.describe_topics(topics, true, &deadline).await;
        let topic = described.ok().and_then(|mut topics| topics.pop());
        let mut partitions = topic.into_iter().flat_map(|t| t.partitions);
        match partitions.find(|p| p.partition == partition.partition) {
            Some(found) if found.leader.is_none() => Error::NoLeader {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                replicas: found.replicas,
                in_sync: found.isr,
                waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
            },
            _ => otherwise,
        }
    }

    async fn unknown_topic(&self, topic: &str, deadline: &Deadline) -> Error {
        let names = self.all_topics(deadline).await.unwrap_or_default();
        Error::UnknownTopic {
            topic: topic.to_owned(),
            nearest: nearest_names(topic, names.iter().map(|n| &**n)),
        }
    }

    pub(crate) async fn topic_settings(
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
                compression_type: entry("compression.type").unwrap_or("producer").to_owned(),
            };
            found.insert(info.topic, settings);
        }
        Ok(topics.iter().map(|t| found.get(&**t).cloned()).collect())
    }
}

/// The replication of a new topic where brokers have no default, if there are that many brokers.
const REPLICATION: usize = 3;

impl Meta {
    /// Creates a topic with one partition and the brokers' default replication. It succeeds if the topic
    /// already exists.
    ///
    /// # Errors
    /// The inner error has the code and reason of a refusal; the outer one means that no broker answered.
    pub(crate) async fn create_topic(
        &self,
        topic: &str,
        settings: &[(&str, &str)],
    ) -> Result<Result<(), (i32, String)>> {
        let deadline = Deadline::after(self.timeout);
        match self.create(topic, -1, settings, &deadline).await? {
            // Brokers before 2.4 have no default.
            Err((code::UNSUPPORTED_FEATURE, _)) => {
                let brokers = self.brokers(deadline.left(), &deadline).await.len();
                let replication = i32::try_from(brokers.clamp(1, REPLICATION)).unwrap_or(1);
                self.create(topic, replication, settings, &deadline).await
            }
            outcome => Ok(outcome),
        }
    }

    async fn create(
        &self,
        topic: &str,
        replication: i32,
        settings: &[(&str, &str)],
        deadline: &Deadline,
    ) -> Result<Result<(), (i32, String)>> {
        let operation = "creating a topic";
        let request = AdminRequest::CreateTopic(topic, replication, settings);
        let event = match self.ask_raw(request, None, deadline).await? {
            Ok(event) => event,
            Err((c, reason)) => match self.failed(operation, c, &reason) {
                Error::Kafka { .. } | Error::Unavailable { .. } => return Ok(Err((c, reason))),
                error => return Err(error),
            },
        };
        match event.created_topic().ok_or_else(|| odd_answer(operation))? {
            Err((code::TOPIC_ALREADY_EXISTS, _)) => Ok(Ok(())),
            outcome => Ok(outcome),
        }
    }
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

pub(crate) fn denied(resource: String, operation: &str, c: i32) -> Error {
    Error::Authorization {
        resource,
        operation: operation.to_owned(),
        reason: ffi::error_text(c),
    }
}
