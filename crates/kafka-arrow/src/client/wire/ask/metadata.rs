//! The cluster, its topics and their settings.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::join_all;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeConfigsRequest, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{Deadline, backoff, denied};
use crate::client::wire::cluster::{Cluster, Leader, Node, Replicas, Topic};
use crate::client::wire::code;
use crate::client::{
    Broker, ClusterDescription, PartitionDescription, TopicDescription, TopicSelection,
    TopicSettings,
};
use crate::error::{Error, Result, nearest_names};
use crate::range::TopicPartition;

/// The highest version of Metadata that this client understands.
const METADATA_MOST: i16 = 12;
/// The first version whose leader epochs can be relied on (Kafka 2.4). Before, a broker may tell an older
/// one for ever, which the leader refuses (KAFKA-9212).
const RELIABLE_EPOCHS: i16 = 9;
const DESCRIBE_CONFIGS_MOST: i16 = 4;
/// `ConfigResource.Type.TOPIC`.
const RESOURCE_TOPIC: i8 = 2;

impl Cluster {
    pub(in crate::client::wire) async fn describe(
        self: &Arc<Self>,
        topics: TopicSelection<'_>,
    ) -> Result<ClusterDescription> {
        let deadline = Deadline::after(self.settings.request_timeout);
        let (names, named) = match topics {
            TopicSelection::All => (None, false),
            TopicSelection::Named(names) => {
                // No topic has an empty name, and brokers refuse the whole request because of one.
                let names = names.iter().filter(|n| !n.is_empty());
                (Some(names.cloned().collect::<BTreeSet<_>>()), true)
            }
        };
        let answer = self.metadata(names.as_ref(), &deadline).await?;
        let mut brokers: Vec<Broker> = answer
            .brokers
            .iter()
            .map(|b| Broker {
                id: b.node_id.0,
                host: b.host.to_string(),
                port: u16::try_from(b.port).unwrap_or_default(),
                rack: b.rack.as_ref().map(StrBytes::to_string),
            })
            .collect();
        brokers.sort_by_key(|b| b.id);
        let cluster_id = answer.cluster_id.as_ref().map(StrBytes::to_string);
        let mut found = Vec::with_capacity(answer.topics.len());
        let mut again = BTreeSet::new();
        self.sort_out(answer, named, &mut found, &mut again)?;
        let mut backoff = backoff();
        while !again.is_empty() {
            if deadline.passed() {
                let topic = again.first().map_or("", |t| t);
                return Err(Error::Connection {
                    hosts: self.hosts().to_owned(),
                    reason: format!(
                        "the brokers say that topic '{topic}' is not ready; gave up after {} ms",
                        deadline.whole().as_millis()
                    ),
                });
            }
            backoff.wait(deadline.left()).await;
            let answer = self.metadata(Some(&again), &deadline).await?;
            again.clear();
            self.sort_out(answer, named, &mut found, &mut again)?;
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ClusterDescription {
            cluster_id: cluster_id.filter(|id| !id.is_empty()),
            brokers,
            topics: found,
        })
    }

    /// Adds described topics to `found`, and those to ask about again to `again`.
    fn sort_out(
        &self,
        answer: MetadataResponse,
        named: bool,
        found: &mut Vec<TopicDescription>,
        again: &mut BTreeSet<Arc<str>>,
    ) -> Result<()> {
        for topic in answer.topics {
            let name: Arc<str> = name_of(&topic).into();
            match topic.error_code {
                code::OK => found.push(description(name, &topic)),
                c if code::is_missing(c) => {}
                code::TOPIC_AUTHORIZATION_FAILED if named => {
                    return Err(denied(
                        format!("topic {name}"),
                        "DESCRIBE",
                        topic.error_code,
                    ));
                }
                code::TOPIC_AUTHORIZATION_FAILED => {}
                c if code::is_retriable(c) => {
                    again.insert(name);
                }
                c => {
                    return Err(Error::Kafka {
                        operation: format!("describing topic '{name}'"),
                        reason: code::text(c),
                    });
                }
            }
        }
        Ok(())
    }

    /// Requests the description of some topics or of all, and remembers what the answer says.
    pub(in crate::client::wire) async fn metadata(
        self: &Arc<Self>,
        names: Option<&BTreeSet<Arc<str>>>,
        deadline: &Deadline,
    ) -> Result<MetadataResponse> {
        let asked = Instant::now();
        let build = |_version: i16| question(names);
        let (mut answer, version) = self.ask_any(METADATA_MOST, build, deadline).await?;
        if version < RELIABLE_EPOCHS {
            let partitions = answer.topics.iter_mut().flat_map(|t| &mut t.partitions);
            partitions.for_each(|p| p.leader_epoch = -1);
        }
        let node = |b: &kafka_protocol::messages::metadata_response::MetadataResponseBroker| {
            let node = Node {
                host: b.host.to_string(),
                port: u16::try_from(b.port).unwrap_or_default(),
            };
            (b.node_id.0, node)
        };
        self.learn_nodes(answer.brokers.iter().map(node).collect());
        for topic in &answer.topics {
            let name: Arc<str> = name_of(topic).into();
            match topic.error_code {
                code::OK => self.learn_topic(&name, learned(topic, asked)),
                c if code::is_missing(c) => self.forget_topic(&name),
                _ => {}
            }
        }
        Ok(answer)
    }

    /// The newest leader epochs that any broker knows. It asks all brokers, because one that has missed a
    /// change of leaders cannot know.
    pub(in crate::client::wire) async fn newest_epochs(
        self: &Arc<Self>,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Option<i32>>> {
        let deadline = Deadline::after(self.settings.request_timeout);
        let names = partitions.iter().map(|p| Arc::clone(&p.topic)).collect();
        // Finds out which brokers there are.
        self.metadata(Some(&names), &deadline).await?;
        let brokers: Vec<_> = (self.nodes().into_iter())
            .filter_map(|id| self.node(id))
            .collect();
        let build = |_version: i16| question(Some(&names));
        let ask = |broker| self.ask(broker, METADATA_MOST, build, deadline.left());
        let answers = join_all(brokers.iter().map(ask)).await;
        let mut newest: HashMap<(String, i32), i32> = HashMap::new();
        for answer in answers {
            let (answer, _) = answer.map_err(|trouble| self.failed(&trouble))?;
            for topic in &answer.topics {
                for p in topic.partitions.iter().filter(|p| p.leader_epoch >= 0) {
                    let key = (name_of(topic).to_owned(), p.partition_index);
                    let known = newest.entry(key).or_default();
                    *known = p.leader_epoch.max(*known);
                }
            }
        }
        let of = |p: &TopicPartition| newest.get(&(p.topic.to_string(), p.partition)).copied();
        Ok(partitions.iter().map(of).collect())
    }

    /// Looks topics up again when a leader or an id is in doubt.
    pub(in crate::client::wire) async fn refresh(
        self: &Arc<Self>,
        topic: &Arc<str>,
        deadline: &Deadline,
    ) -> Result<()> {
        let names = BTreeSet::from([Arc::clone(topic)]);
        self.metadata(Some(&names), deadline).await.map(drop)
    }

    /// An error if the partition does not exist; it says which ones do.
    pub(in crate::client::wire) async fn expect_partition(
        self: &Arc<Self>,
        partition: &TopicPartition,
        deadline: &Deadline,
    ) -> Result<()> {
        let topic = &partition.topic;
        let names = BTreeSet::from([Arc::clone(topic)]);
        let answer = self.metadata(Some(&names), deadline).await?;
        let found = answer.topics.iter().find(|t| *name_of(t) == **topic);
        let Some(found) = found.filter(|t| !code::is_missing(t.error_code)) else {
            return Err(self.unknown_topic(topic, deadline).await);
        };
        if found.error_code == code::TOPIC_AUTHORIZATION_FAILED {
            return Err(denied(
                format!("topic {topic}"),
                "DESCRIBE",
                found.error_code,
            ));
        }
        let mut numbers = found.partitions.iter().map(|p| p.partition_index);
        if found.error_code != code::OK || numbers.any(|n| n == partition.partition) {
            return Ok(());
        }
        Err(Error::unknown_partition(
            &partition.topic,
            partition.partition,
            found.partitions.len(),
        ))
    }

    pub(in crate::client::wire) async fn unknown_topic(
        self: &Arc<Self>,
        topic: &str,
        deadline: &Deadline,
    ) -> Error {
        let names: Vec<String> = match self.metadata(None, deadline).await {
            Ok(answer) => answer
                .topics
                .iter()
                .map(|t| name_of(t).to_owned())
                .collect(),
            Err(_) => Vec::new(),
        };
        Error::UnknownTopic {
            topic: topic.to_owned(),
            nearest: nearest_names(topic, names.iter().map(String::as_str)),
        }
    }

    pub(in crate::client::wire) async fn topic_settings(
        self: &Arc<Self>,
        topics: &[Arc<str>],
    ) -> Result<Vec<Option<TopicSettings>>> {
        let unique: BTreeSet<&Arc<str>> = topics.iter().collect();
        if unique.is_empty() {
            return Ok(Vec::new());
        }
        let deadline = Deadline::after(self.settings.request_timeout);
        let build = |_version: i16| {
            let keys = [
                "message.timestamp.type",
                "cleanup.policy",
                "compression.type",
            ];
            let resource = |topic: &&Arc<str>| {
                DescribeConfigsResource::default()
                    .with_resource_type(RESOURCE_TOPIC)
                    .with_resource_name(StrBytes::from_string(topic.to_string()))
                    .with_configuration_keys(Some(keys.map(StrBytes::from_static_str).to_vec()))
            };
            let resources = unique.iter().map(resource).collect();
            DescribeConfigsRequest::default().with_resources(resources)
        };
        let answer = self.ask_any(DESCRIBE_CONFIGS_MOST, build, &deadline).await;
        let answer = match answer {
            Ok((answer, _)) => answer,
            // A broker that does not know the request cannot tell its settings.
            Err(Error::Kafka { reason, .. }) => {
                log::debug!("topic settings: {reason}");
                return Ok(vec![None; topics.len()]);
            }
            Err(e) => return Err(e),
        };
        let mut found: HashMap<&str, TopicSettings> = HashMap::new();
        for result in answer.results.iter().filter(|r| r.error_code == code::OK) {
            let value = |name: &str| {
                let config = result.configs.iter().find(|c| &*c.name == name)?;
                config.value.as_deref()
            };
            let settings = TopicSettings {
                log_append_time: value("message.timestamp.type") == Some("LogAppendTime"),
                cleanup_policy: value("cleanup.policy").unwrap_or("delete").to_owned(),
                compression_type: value("compression.type").unwrap_or("producer").to_owned(),
            };
            found.insert(&result.resource_name, settings);
        }
        Ok(topics.iter().map(|t| found.get(&**t).cloned()).collect())
    }
}

/// A request about some topics, or about all.
fn question(names: Option<&BTreeSet<Arc<str>>>) -> MetadataRequest {
    let topic = |name: &Arc<str>| {
        let name = TopicName(StrBytes::from_string(name.to_string()));
        MetadataRequestTopic::default().with_name(Some(name))
    };
    MetadataRequest::default()
        .with_topics(names.map(|names| names.iter().map(topic).collect()))
        .with_allow_auto_topic_creation(false)
}

fn name_of(topic: &MetadataResponseTopic) -> &str {
    topic.name.as_ref().map_or("", |name| &name.0)
}

fn learned(topic: &MetadataResponseTopic, asked: Instant) -> Topic {
    let leader = |p: &MetadataResponsePartition| {
        let leader = Leader {
            node: p.leader_id.0,
            epoch: p.leader_epoch,
        };
        (p.partition_index, leader)
    };
    let leaderless = |p: &MetadataResponsePartition| {
        let replicas = Replicas {
            all: ids(&p.replica_nodes),
            in_sync: ids(&p.isr_nodes),
        };
        (p.leader_id.0 < 0).then_some((p.partition_index, replicas))
    };
    Topic {
        id: (!topic.topic_id.is_nil()).then_some(topic.topic_id),
        asked,
        leaders: topic.partitions.iter().map(leader).collect(),
        leaderless: topic.partitions.iter().filter_map(leaderless).collect(),
        mean_bytes: 0,
    }
}

fn ids(nodes: &[BrokerId]) -> Vec<i32> {
    nodes.iter().map(|n| n.0).collect()
}

fn description(name: Arc<str>, topic: &MetadataResponseTopic) -> TopicDescription {
    let mut partitions: Vec<PartitionDescription> = topic
        .partitions
        .iter()
        .map(|p| PartitionDescription {
            partition: p.partition_index,
            leader: (p.leader_id.0 >= 0).then_some(p.leader_id.0),
            replicas: ids(&p.replica_nodes),
            isr: ids(&p.isr_nodes),
        })
        .collect();
    partitions.sort_by_key(|p| p.partition);
    TopicDescription {
        name,
        id: (!topic.topic_id.is_nil()).then(|| print_id(topic.topic_id)),
        internal: topic.is_internal,
        partitions,
    }
}

/// A topic id as Kafka prints it.
pub(in crate::client::wire) fn print_id(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

/// Parses what [`print_id`] prints.
pub(in crate::client::wire) fn parse_id(text: &str) -> Option<Uuid> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    Uuid::from_slice(&bytes).ok()
}
