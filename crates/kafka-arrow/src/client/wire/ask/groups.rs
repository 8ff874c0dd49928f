//! Asks the coordinators of groups for offsets that were committed, and commits offsets for tools that show lag.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, OffsetCommitRequest, OffsetFetchRequest, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};

use super::{Deadline, backoff, denied};
use crate::client::wire::cluster::Cluster;
use crate::client::wire::code;
use crate::client::wire::connection::{Throttles, Trouble};
use crate::error::{Error, Result};
use crate::range::TopicPartition;

const OFFSET_FETCH_MOST: i16 = 8;
const OFFSET_COMMIT_MOST: i16 = 8;
const FIND_COORDINATOR_MOST: i16 = 4;

/// What a coordinator answers, or the code and the reason of its refusal.
type Told<T> = Result<T, (i16, String)>;

impl Cluster {
    pub(in crate::client::wire) async fn group_offsets(
        self: &Arc<Self>,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let mut topics: BTreeMap<&Arc<str>, BTreeSet<i32>> = BTreeMap::new();
        for p in partitions {
            topics.entry(&p.topic).or_default().insert(p.partition);
        }
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let operation = format!("listing the offsets of group '{group}'");
        let deadline = Deadline::after(self.settings.request_timeout);
        let ask = |node| self.committed(node, group, &topics, &deadline);
        self.ask_coordinator(group, "DESCRIBE", &operation, &deadline, ask)
            .await
    }

    /// Commits offsets to a group without members.
    pub(in crate::client::wire) async fn commit_group_offsets(
        self: &Arc<Self>,
        group: &str,
        next: &BTreeMap<TopicPartition, i64>,
    ) -> Result<()> {
        if next.is_empty() {
            return Ok(());
        }
        let operation = format!("committing offsets to group '{group}'");
        let deadline = Deadline::after(self.settings.request_timeout);
        let ask = |node| self.commit(node, group, next, &deadline);
        self.ask_coordinator(group, "READ", &operation, &deadline, ask)
            .await
    }

    /// Asks a group's coordinator, until it answers.
    async fn ask_coordinator<T, F>(
        self: &Arc<Self>,
        group: &str,
        right: &str,
        operation: &str,
        deadline: &Deadline,
        ask: impl Fn(i32) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<Told<T>>>,
    {
        let mut backoff = backoff();
        loop {
            let told = match self.coordinator(group, deadline).await? {
                Ok(node) => ask(node).await?,
                Err(code) => Err((code, code::text(code))),
            };
            let (code, reason) = match told {
                Ok(answer) => return Ok(answer),
                Err(refused) => refused,
            };
            let passes = code::is_retriable(code) && !code::is_missing(code);
            if !passes || deadline.passed() {
                let operation = operation.to_owned();
                return Err(match code {
                    code::GROUP_AUTHORIZATION_FAILED => {
                        denied(format!("group {group}"), right, code)
                    }
                    code::TOPIC_AUTHORIZATION_FAILED => {
                        denied(format!("topics of group {group}"), right, code)
                    }
                    c if code::is_missing(c) => Error::Unavailable { operation, reason },
                    _ if passes => Error::Connection {
                        hosts: self.hosts().to_owned(),
                        reason: format!(
                            "{operation}: {reason}; gave up after {} ms",
                            deadline.whole().as_millis()
                        ),
                    },
                    _ => Error::Kafka { operation, reason },
                });
            }
            backoff.wait(deadline.left()).await;
        }
    }

    /// Sends a request to a group's coordinator.
    async fn ask_node<R>(
        self: &Arc<Self>,
        node: i32,
        most: i16,
        build: impl Fn(i16) -> R,
        deadline: &Deadline,
    ) -> Result<Told<(R::Response, i16)>>
    where
        R: Request<Response: Throttles>,
    {
        let Some(broker) = self.node(node) else {
            let c = code::COORDINATOR_NOT_AVAILABLE;
            return Ok(Err((c, code::text(c))));
        };
        deadline.extend(broker.questions.left());
        let within = deadline.part(3).left();
        match self.ask(&broker, most, build, within).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(Trouble::Io(reason)) => {
                log::debug!("{reason}");
                Ok(Err((code::COORDINATOR_NOT_AVAILABLE, reason)))
            }
            Err(trouble) => Err(self.failed(&trouble)),
        }
    }

    /// The node id of a group's coordinator, or the code of the broker's refusal.
    async fn coordinator(
        self: &Arc<Self>,
        group: &str,
        deadline: &Deadline,
    ) -> Result<Result<i32, i16>> {
        let key = StrBytes::from_string(group.to_owned());
        let build = |version: i16| {
            let request = FindCoordinatorRequest::default();
            if version >= 4 {
                request.with_coordinator_keys(vec![key.clone()])
            } else {
                request.with_key(key.clone())
            }
        };
        let (answer, version) = self.ask_any(FIND_COORDINATOR_MOST, build, deadline).await?;
        let (code, node, host, port) = match answer.coordinators.first() {
            Some(c) if version >= 4 => (c.error_code, c.node_id.0, &c.host, c.port),
            None if version >= 4 => return Ok(Err(code::COORDINATOR_NOT_AVAILABLE)),
            _ => (
                answer.error_code,
                answer.node_id.0,
                &answer.host,
                answer.port,
            ),
        };
        if code != code::OK {
            return Ok(Err(code));
        }
        self.learn_node(node, host, port);
        Ok(Ok(node))
    }

    /// A group's offsets from its coordinator.
    async fn committed(
        self: &Arc<Self>,
        node: i32,
        group: &str,
        topics: &BTreeMap<&Arc<str>, BTreeSet<i32>>,
        deadline: &Deadline,
    ) -> Result<Told<BTreeMap<TopicPartition, i64>>> {
        let refused = |c: i16| Ok(Err((c, code::text(c))));
        let id = GroupId(StrBytes::from_string(group.to_owned()));
        let name = |topic: &str| TopicName(StrBytes::from_string(topic.to_owned()));
        let build = |version: i16| {
            let request = OffsetFetchRequest::default();
            if version >= 8 {
                let topic = |(topic, partitions): (&&Arc<str>, &BTreeSet<i32>)| {
                    OffsetFetchRequestTopics::default()
                        .with_name(name(topic))
                        .with_partition_indexes(partitions.iter().copied().collect())
                };
                let group = OffsetFetchRequestGroup::default()
                    .with_group_id(id.clone())
                    .with_topics(Some(topics.iter().map(topic).collect()));
                return request.with_groups(vec![group]);
            }
            let topic = |(topic, partitions): (&&Arc<str>, &BTreeSet<i32>)| {
                OffsetFetchRequestTopic::default()
                    .with_name(name(topic))
                    .with_partition_indexes(partitions.iter().copied().collect())
            };
            request
                .with_group_id(id.clone())
                .with_topics(Some(topics.iter().map(topic).collect()))
        };
        let asked = self.ask_node(node, OFFSET_FETCH_MOST, build, deadline);
        let (answer, version) = match asked.await? {
            Ok(answer) => answer,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut found = Vec::new();
        let mut code = answer.error_code;
        if version >= 8 {
            for group in &answer.groups {
                code = group.error_code;
                for t in &group.topics {
                    let one = |p: &kafka_protocol::messages::offset_fetch_response::OffsetFetchResponsePartitions| {
                        (p.partition_index, p.error_code, p.committed_offset)
                    };
                    found.push((
                        t.name.0.clone(),
                        t.partitions.iter().map(one).collect::<Vec<_>>(),
                    ));
                }
            }
        } else {
            for t in &answer.topics {
                let one = |p: &kafka_protocol::messages::offset_fetch_response::OffsetFetchResponsePartition| {
                    (p.partition_index, p.error_code, p.committed_offset)
                };
                found.push((t.name.0.clone(), t.partitions.iter().map(one).collect()));
            }
        }
        if code != code::OK {
            return refused(code);
        }
        let mut offsets = BTreeMap::new();
        for (topic, partitions) in found {
            let topic: Arc<str> = topic.as_str().into();
            for (partition, code, offset) in partitions {
                match code {
                    code::OK if offset >= 0 => {
                        let partition = TopicPartition::new(Arc::clone(&topic), partition);
                        offsets.insert(partition, offset);
                    }
                    code::OK => {}
                    c if code::is_missing(c) => {}
                    c => return refused(c),
                }
            }
        }
        Ok(Ok(offsets))
    }

    /// Commits offsets as a client that is no member of the group.
    async fn commit(
        self: &Arc<Self>,
        node: i32,
        group: &str,
        next: &BTreeMap<TopicPartition, i64>,
        deadline: &Deadline,
    ) -> Result<Told<()>> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for (partition, next) in next {
            let offset = OffsetCommitRequestPartition::default()
                .with_partition_index(partition.partition)
                .with_committed_offset(*next)
                .with_committed_metadata(Some(StrBytes::default()));
            topics.entry(&partition.topic).or_default().push(offset);
        }
        let build = |_version: i16| {
            let topics = topics.iter().map(|(topic, offsets)| {
                OffsetCommitRequestTopic::default()
                    .with_name(TopicName(StrBytes::from_string((*topic).to_owned())))
                    .with_partitions(offsets.clone())
            });
            OffsetCommitRequest::default()
                .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
                .with_topics(topics.collect())
        };
        let asked = self.ask_node(node, OFFSET_COMMIT_MOST, build, deadline);
        let (answer, _) = match asked.await? {
            Ok(answer) => answer,
            Err(refused) => return Ok(Err(refused)),
        };
        for topic in &answer.topics {
            for p in &topic.partitions {
                let reason = match p.error_code {
                    code::OK => continue,
                    code::UNKNOWN_MEMBER_ID => {
                        "the group has members, which commit offsets themselves: \
                                                name a separate group"
                            .to_owned()
                    }
                    c => format!(
                        "{}[{}]: {}",
                        &*topic.name.0,
                        p.partition_index,
                        code::text(c)
                    ),
                };
                return Ok(Err((p.error_code, reason)));
            }
        }
        Ok(Ok(()))
    }
}
