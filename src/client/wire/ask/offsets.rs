//! Offsets of partitions, by look-up and as groups committed them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, ListOffsetsRequest, OffsetFetchRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::{Deadline, denied};
use crate::client::wire::cluster::{Cluster, Leader, Topic};
use crate::client::wire::code;
use crate::client::wire::connection::Trouble;
use crate::client::{OffsetAnswer, OffsetAt, OffsetQuery};
use crate::error::{Error, Result};
use crate::range::{IsolationLevel, TopicPartition};

const LIST_OFFSETS_MOST: i16 = 9;
const OFFSET_FETCH_MOST: i16 = 8;
const FIND_COORDINATOR_MOST: i16 = 4;

/// The leader's code, an offset and a leader epoch for one query of a wave.
type Listed = (usize, i16, i64, i32);

impl Cluster {
    pub(in crate::client::wire) async fn list_offsets(
        self: &Arc<Self>,
        queries: &[OffsetQuery],
        isolation: IsolationLevel,
        within: Duration,
    ) -> Result<Vec<OffsetAnswer>> {
        let deadline = Deadline::after(within);
        let started = Instant::now();
        let partitions: Vec<&TopicPartition> = queries.iter().map(|q| &q.partition).collect();
        let mut answers: Vec<Option<OffsetAnswer>> = vec![None; queries.len()];
        let mut open: Vec<usize> = (0..queries.len()).collect();
        let mut round = 0u32;
        // Why a query has no answer yet: what its leader last came to.
        let mut reasons: HashMap<usize, (i32, String)> = HashMap::new();
        let gave_up = |open: &[usize], reasons: &HashMap<usize, (i32, String)>| {
            let waited = started.elapsed();
            let leaderless = |q: &usize| self.no_leader(&queries[*q].partition, waited);
            if let Some(error) = open.iter().find_map(leaderless) {
                return error;
            }
            let query = open.iter().find(|q| reasons.contains_key(q));
            let query = query.copied().unwrap_or(open[0]);
            self.unlisted(&queries[query].partition, reasons.get(&query), waited)
        };
        while !open.is_empty() {
            let leaders = self
                .learn_leaders(&partitions, &open, round > 0, &deadline)
                .await;
            match leaders {
                Ok(()) => {}
                // That no time was left to ask for leaders is not why.
                Err(Error::Connection { .. }) if round > 0 && deadline.passed() => {
                    return Err(gave_up(&open, &reasons));
                }
                Err(e) => return Err(e),
            }
            let mut missing = None;
            let waves = self.waves(&partitions, &open, &mut missing);
            let asked = waves
                .iter()
                .map(|(node, wave)| self.list_wave(*node, queries, wave, isolation, &deadline));
            for ((node, wave), listed) in waves.iter().zip(join_all(asked).await) {
                let listed = match listed {
                    Ok(listed) => listed,
                    // Another leader may soon take over.
                    Err(Trouble::Io(why)) => {
                        reasons.extend(wave.iter().map(|q| (*q, (*node, why.clone()))));
                        continue;
                    }
                    Err(trouble) => return Err(self.failed(&trouble)),
                };
                for (query, c, offset, epoch) in listed {
                    let partition = &queries[query].partition;
                    match c {
                        // -1: no record has such a timestamp.
                        code::OK => {
                            answers[query] = Some(OffsetAnswer {
                                offset: (offset >= 0).then_some(offset),
                                leader_epoch: (epoch >= 0).then_some(epoch),
                            });
                        }
                        code::TOPIC_AUTHORIZATION_FAILED => {
                            let topic = format!("topic {}", partition.topic);
                            return Err(denied(topic, "DESCRIBE", c));
                        }
                        c if code::is_missing(c) || code::is_retriable(c) => {
                            if code::is_missing(c) {
                                missing = Some(query);
                            }
                            reasons.insert(query, (*node, code::text(c)));
                        }
                        c => {
                            return Err(Error::Kafka {
                                operation: format!("listing offsets of {partition}"),
                                reason: code::text(c),
                            });
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
                self.expect_partition(&queries[query].partition, &deadline)
                    .await?;
            }
            if deadline.passed() {
                return Err(gave_up(&open, &reasons));
            }
            let pause = Duration::from_millis(u64::from(20 * round.min(10)));
            tokio::time::sleep(pause.min(deadline.left())).await;
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Why a partition's offsets were not to be had: what came of asking its leader.
    fn unlisted(
        &self,
        partition: &TopicPartition,
        last: Option<&(i32, String)>,
        waited: Duration,
    ) -> Error {
        let (hosts, reason) = match last {
            Some((node, reason)) => (self.node_named(*node), reason.as_str()),
            None => (self.hosts().to_owned(), "nobody is known to lead it"),
        };
        let waited_ms = waited.as_millis();
        Error::Connection {
            hosts,
            reason: format!(
                "listing offsets of {partition}: {reason}; gave up after {waited_ms} ms"
            ),
        }
    }

    /// The error of a partition that has no leader, if that is so by what was last heard.
    pub(in crate::client::wire) fn no_leader(
        &self,
        partition: &TopicPartition,
        waited: Duration,
    ) -> Option<Error> {
        let look = |topic: &Topic| topic.leaderless.get(&partition.partition).cloned();
        let replicas = self.topic(&partition.topic, look).flatten()?;
        Some(Error::NoLeader {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            replicas: replicas.all,
            in_sync: replicas.in_sync,
            waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Makes sure that the leaders are known, or asks for them anew.
    pub(super) async fn learn_leaders(
        self: &Arc<Self>,
        partitions: &[&TopicPartition],
        open: &[usize],
        anew: bool,
        deadline: &Deadline,
    ) -> Result<()> {
        let unknown = |p: &TopicPartition| self.leader(p).is_none_or(|l| l.node < 0);
        let topics: BTreeSet<Arc<str>> = open
            .iter()
            .map(|q| partitions[*q])
            .filter(|p| anew || unknown(p))
            .map(|p| Arc::clone(&p.topic))
            .filter(|topic| !topic.is_empty())
            .collect();
        if topics.is_empty() {
            return Ok(());
        }
        self.metadata(Some(&topics), deadline).await.map(drop)
    }

    pub(in crate::client::wire) fn leader(&self, partition: &TopicPartition) -> Option<Leader> {
        let look = |topic: &Topic| topic.leaders.get(&partition.partition).copied();
        self.topic(&partition.topic, look).flatten()
    }

    /// The open queries by leader, in requests that hold no partition twice: brokers refuse that.
    pub(super) fn waves(
        &self,
        partitions: &[&TopicPartition],
        open: &[usize],
        missing: &mut Option<usize>,
    ) -> Vec<(i32, Vec<usize>)> {
        let mut times: HashMap<&TopicPartition, usize> = HashMap::new();
        let mut waves: BTreeMap<(i32, usize), Vec<usize>> = BTreeMap::new();
        for &query in open {
            let partition = partitions[query];
            match self.leader(partition) {
                Some(leader) if leader.node >= 0 => {
                    let time = times.entry(partition).or_default();
                    waves.entry((leader.node, *time)).or_default().push(query);
                    *time += 1;
                }
                Some(_) => {}
                None => *missing = Some(query),
            }
        }
        waves
            .into_iter()
            .map(|((node, _), wave)| (node, wave))
            .collect()
    }

    async fn list_wave(
        self: &Arc<Self>,
        node: i32,
        queries: &[OffsetQuery],
        wave: &[usize],
        isolation: IsolationLevel,
        deadline: &Deadline,
    ) -> Result<Vec<Listed>, Trouble> {
        let broker = self
            .node(node)
            .ok_or_else(|| Trouble::Io(format!("broker {node} is not known")))?;
        let mut topics: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for &query in wave {
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
                        // Below zero the protocol has special meanings; no record is older.
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
        let mut found: HashMap<(&str, i32), (i16, i64, i32)> = HashMap::new();
        for topic in &answer.topics {
            for p in &topic.partitions {
                let answer = (p.error_code, p.offset, p.leader_epoch);
                found.insert((&topic.name.0, p.partition_index), answer);
            }
        }
        // One that the answer lacks is asked for again.
        let lacking = (code::REQUEST_TIMED_OUT, -1, -1);
        let listed = wave.iter().map(|&query| {
            let partition = &queries[query].partition;
            let key = (&*partition.topic, partition.partition);
            let (code, offset, epoch) = found.get(&key).copied().unwrap_or(lacking);
            (query, code, offset, epoch)
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

    /// The node id of a group's coordinator, or the code that the broker refused with.
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

    /// A group's offsets as its coordinator has them, or the code that it refused with and why.
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

/// An isolation level in Kafka's requests.
pub(in crate::client::wire) fn isolation_code(isolation: IsolationLevel) -> i8 {
    match isolation {
        IsolationLevel::ReadUncommitted => 0,
        IsolationLevel::ReadCommitted => 1,
    }
}
