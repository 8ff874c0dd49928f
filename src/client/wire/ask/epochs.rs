//! Where leader epochs end, of the partitions' leaders.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Deadline, denied};
use crate::client::wire::cluster::Cluster;
use crate::client::wire::code;
use crate::client::wire::connection::Trouble;
use crate::client::{EpochEnd, EpochQuery};
use crate::error::Result;
use crate::range::TopicPartition;

const EPOCH_ENDS_MOST: i16 = 4;
/// Before this version (Kafka 2.3) the right to read a topic was not enough.
const EPOCH_ENDS_LEAST: i16 = 3;

/// The leader's code and answer for one query of a wave.
type Told = (usize, i16, Option<EpochEnd>);

impl Cluster {
    pub(in crate::client::wire) async fn epoch_ends(
        self: &Arc<Self>,
        queries: &[EpochQuery],
    ) -> Result<Vec<Option<EpochEnd>>> {
        let deadline = Deadline::after(self.settings.request_timeout);
        let partitions: Vec<&TopicPartition> = queries.iter().map(|q| &q.partition).collect();
        let mut answers = vec![None; queries.len()];
        let mut open: Vec<usize> = (0..queries.len()).collect();
        let mut round = 0u32;
        while !open.is_empty() {
            self.learn_leaders(&partitions, &open, round > 0, &deadline)
                .await?;
            let mut reason = String::from("there is no leader");
            let mut missing = None;
            let waves = self.waves(&partitions, &open, &mut missing);
            let asked = waves
                .iter()
                .map(|(node, wave)| self.epochs_wave(*node, queries, wave, &deadline));
            for told in join_all(asked).await {
                let told = match told {
                    Ok(told) => told,
                    // Another leader may soon take over.
                    Err(Trouble::Io(why)) => {
                        reason = why;
                        continue;
                    }
                    Err(trouble) => return Err(self.failed(&trouble)),
                };
                for (query, c, end) in told {
                    let partition = partitions[query];
                    let fenced =
                        matches!(c, code::FENCED_LEADER_EPOCH | code::UNKNOWN_LEADER_EPOCH);
                    match c {
                        code::OK => {
                            answers[query] = end;
                            open.retain(|q| *q != query);
                        }
                        code::TOPIC_AUTHORIZATION_FAILED => {
                            return Err(denied(
                                format!("topic {}", partition.topic),
                                "DESCRIBE",
                                c,
                            ));
                        }
                        _ if fenced && queries[query].leader_epoch.is_some() => {
                            return Err(self.failed(&Trouble::Io(format!(
                                "{partition} has another leader than a moment ago ({})",
                                code::text(c)
                            ))));
                        }
                        c => {
                            if code::is_missing(c) {
                                missing = Some(query);
                            }
                            reason = code::text(c);
                        }
                    }
                }
            }
            let Some(first) = open.first() else { break };
            round += 1;
            if let Some(query) = missing.filter(|_| round > 1) {
                self.expect_partition(partitions[query], &deadline).await?;
            }
            if deadline.passed() {
                return Err(self.failed(&Trouble::Io(format!(
                    "asking for leader epochs of {}: {reason}; gave up after {} ms",
                    partitions[*first],
                    deadline.whole().as_millis()
                ))));
            }
            let pause = Duration::from_millis(u64::from(20 * round.min(10)));
            tokio::time::sleep(pause.min(deadline.left())).await;
        }
        Ok(answers)
    }

    async fn epochs_wave(
        self: &Arc<Self>,
        node: i32,
        queries: &[EpochQuery],
        wave: &[usize],
        deadline: &Deadline,
    ) -> Result<Vec<Told>, Trouble> {
        let broker = self
            .node(node)
            .ok_or_else(|| Trouble::Io(format!("broker {node} is not known")))?;
        let mut topics: BTreeMap<&str, Vec<OffsetForLeaderPartition>> = BTreeMap::new();
        for &query in wave {
            let query = &queries[query];
            topics.entry(&query.partition.topic).or_default().push(
                OffsetForLeaderPartition::default()
                    .with_partition(query.partition.partition)
                    .with_current_leader_epoch(query.leader_epoch.unwrap_or(-1))
                    .with_leader_epoch(query.epoch),
            );
        }
        let build = |_version: i16| {
            let topics = topics.iter().map(|(topic, partitions)| {
                OffsetForLeaderTopic::default()
                    .with_topic(TopicName(StrBytes::from_string((*topic).to_owned())))
                    .with_partitions(partitions.clone())
            });
            OffsetForLeaderEpochRequest::default()
                .with_replica_id((-1).into())
                .with_topics(topics.collect())
        };
        let asked = self
            .ask(&broker, EPOCH_ENDS_MOST, build, deadline.part(3).left())
            .await;
        let untold = || wave.iter().map(|query| (*query, code::OK, None)).collect();
        let answer = match asked {
            Ok((answer, EPOCH_ENDS_LEAST..)) => answer,
            Ok(_) => return Ok(untold()),
            // The broker does not know the question.
            Err(Trouble::Protocol(reason)) => {
                log::debug!("{reason}");
                return Ok(untold());
            }
            Err(trouble) => return Err(trouble),
        };
        let mut found: HashMap<(&str, i32), (i16, Option<EpochEnd>)> = HashMap::new();
        for topic in &answer.topics {
            for p in &topic.partitions {
                let end = EpochEnd {
                    epoch: p.leader_epoch,
                    end: p.end_offset,
                };
                // -1: the leader knows of no epochs up to this one.
                let end = Some(end).filter(|end| end.epoch >= 0 && end.end >= 0);
                found.insert((&topic.topic.0, p.partition), (p.error_code, end));
            }
        }
        // One that the answer lacks is asked for again.
        let lacking = (code::REQUEST_TIMED_OUT, None);
        let told = wave.iter().map(|&query| {
            let partition = &queries[query].partition;
            let key = (&*partition.topic, partition.partition);
            let (code, end) = found.get(&key).copied().unwrap_or(lacking);
            (query, code, end)
        });
        Ok(told.collect())
    }
}
