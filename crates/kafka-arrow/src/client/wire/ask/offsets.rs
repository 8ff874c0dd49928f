//! Looks up offsets of partitions, and offsets that groups have committed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, ListOffsetsRequest, OffsetFetchRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::leaders::Told;
use super::{Deadline, denied};
use crate::client::wire::cluster::Cluster;
use crate::client::wire::code;
use crate::client::wire::connection::Trouble;
use crate::client::{OffsetAnswer, OffsetAt, OffsetQuery};
use crate::error::{Error, Result};
use crate::range::{IsolationLevel, TopicPartition};

const LIST_OFFSETS_MOST: i16 = 9;
const OFFSET_FETCH_MOST: i16 = 8;
const FIND_COORDINATOR_MOST: i16 = 4;

impl Cluster {
    pub(in crate::client::wire) async fn list_offsets(
        self: &Arc<Self>,
        queries: &[OffsetQuery],
        isolation: IsolationLevel,
        within: Duration,
    ) -> Result<Vec<OffsetAnswer>> {
        let deadline = Deadline::after(within);
        let partitions: Vec<&TopicPartition> = queries.iter().map(|q| &q.partition).collect();
        let ask = |node, wave| self.list_wave(node, queries, wave, isolation, &deadline);
        self.ask_leaders("listing offsets", &partitions, &deadline, ask)
            .await
    }

    async fn list_wave(
        self: &Arc<Self>,
        node: i32,
        queries: &[OffsetQuery],
        wave: Vec<usize>,
        isolation: IsolationLevel,
        deadline: &Deadline,
    ) -> Told<OffsetAnswer> {
        let broker = self
            .node(node)
            .ok_or_else(|| Trouble::Io(format!("broker {node} is not known")))?;
        let mut topics: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for &query in &wave {
            let topic = &*queries[query].partition.topic;
            topics.entry(topic).or_default().push(query);
        }
        let build = |_version: i16| {
            let partition = |query: &usize| {
                let query = &queries[*query];
                let epoch = self.leader(&query.partition).map_or(-1, |l| l.epoch);
                ListOffsetsPartition::default()
                    .with_partition_index(query.partition.partition)
                    .with_current_leader_epoch(epoch)
                    .with_timestamp(match query.at {
                        OffsetAt::Latest => -1,
                        OffsetAt::Earliest => -2,
                        // The protocol gives negative timestamps special meanings; no record is that old.
                        OffsetAt::Timestamp(ms) => ms.max(0),
                    })
            };
            let topics = topics.iter().map(|(topic, queries)| {
                ListOffsetsTopic::default()
                    .with_name(TopicName(StrBytes::from_string((*topic).to_owned())))
                    .with_partitions(queries.iter().map(partition).collect())
            });
            ListOffsetsRequest::default()
                .with_replica_id((-1).into())
                .with_isolation_level(isolation_code(isolation))
                .with_topics(topics.collect())
        };
        deadline.extend(broker.questions.left());
        let (answer, _) = self
            .ask(&broker, LIST_OFFSETS_MOST, build, deadline.part(3).left())
            .await?;
        let mut found: HashMap<(&str, i32), Result<OffsetAnswer, i16>> = HashMap::new();
        for topic in &answer.topics {
            for p in &topic.partitions {
                let answer = match p.error_code {
                    // -1: no record has such a timestamp.
                    code::OK => Ok(OffsetAnswer {
                        offset: (p.offset >= 0).then_some(p.offset),
                        leader_epoch: (p.leader_epoch >= 0).then_some(p.leader_epoch),
                    }),
                    code => Err(code),
                };
                found.insert((&topic.name.0, p.partition_index), answer);
            }
        }
        // A query that the answer lacks is sent again.
        let listed = wave.iter().map(|&query| {
            let partition = &queries[query].partition;
            let key = (&*partition.topic, partition.partition);
            let lacking = Err(code::REQUEST_TIMED_OUT);
            (query, found.get(&key).copied().unwrap_or(lacking))
        });
        Ok(listed.collect())
    }

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
        let deadline = Deadline::after(self.settings.request_timeout);
        loop {
            let outcome = match self.coordinator(group, &deadline).await? {
                Ok(node) => self.committed(node, group, &topics, &deadline).await?,
                Err(code) => Err((code, code::text(code))),
            };
            let (code, reason) = match outcome {
                Ok(found) => return Ok(found),
                Err(refused) => refused,
            };
            if !code::is_retriable(code) || deadline.passed() {
                return Err(match code {
                    c if code::is_retriable(c) => Error::Connection {
                        hosts: self.hosts().to_owned(),
                        reason: format!(
                            "listing the offsets of group '{group}': {reason}; gave up after {} ms",
                            deadline.whole().as_millis()
                        ),
                    },
                    code::GROUP_AUTHORIZATION_FAILED => {
                        denied(format!("group {group}"), "DESCRIBE", code)
                    }
                    code::TOPIC_AUTHORIZATION_FAILED => {
                        denied(format!("topics of group {group}"), "DESCRIBE", code)
                    }
                    _ => Error::Kafka {
                        operation: format!("listing the offsets of group '{group}'"),
                        reason,
                    },
                });
            }
            tokio::time::sleep(Duration::from_millis(100).min(deadline.left())).await;
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

    /// A group's offsets from its coordinator, or the code and the reason of its refusal.
    async fn committed(
        self: &Arc<Self>,
        node: i32,
        group: &str,
        topics: &BTreeMap<&Arc<str>, BTreeSet<i32>>,
        deadline: &Deadline,
    ) -> Result<Result<BTreeMap<TopicPartition, i64>, (i16, String)>> {
        let refused = |c: i16| Ok(Err((c, code::text(c))));
        let Some(broker) = self.node(node) else {
            return refused(code::COORDINATOR_NOT_AVAILABLE);
        };
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
        deadline.extend(broker.questions.left());
        let answer = self
            .ask(&broker, OFFSET_FETCH_MOST, build, deadline.part(3).left())
            .await;
        let (answer, version) = match answer {
            Ok(answer) => answer,
            Err(Trouble::Io(reason)) => {
                log::debug!("{reason}");
                return Ok(Err((code::COORDINATOR_NOT_AVAILABLE, reason)));
            }
            Err(trouble) => return Err(self.failed(&trouble)),
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
}

/// The code of an isolation level in Kafka's requests.
pub(in crate::client::wire) fn isolation_code(isolation: IsolationLevel) -> i8 {
    match isolation {
        IsolationLevel::ReadUncommitted => 0,
        IsolationLevel::ReadCommitted => 1,
    }
}
