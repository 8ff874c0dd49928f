//! Asks the leaders of partitions where leader epochs end.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::Deadline;
use super::leaders::Told;
use crate::client::wire::cluster::Cluster;
use crate::client::wire::code;
use crate::client::wire::connection::Trouble;
use crate::client::{EpochEnd, EpochQuery};
use crate::error::Result;
use crate::range::TopicPartition;

const EPOCH_ENDS_MOST: i16 = 4;
/// Before this version (Kafka 2.3), the right to read a topic did not allow it.
const EPOCH_ENDS_LEAST: i16 = 3;

/// A leader's answer about an epoch, or a code saying that it is not the intended leader.
type End = Result<Option<EpochEnd>, i16>;

impl Cluster {
    pub(in crate::client::wire) async fn epoch_ends(
        self: &Arc<Self>,
        queries: &[EpochQuery],
    ) -> Result<Vec<Option<EpochEnd>>> {
        let deadline = Deadline::after(self.settings.request_timeout);
        let partitions: Vec<&TopicPartition> = queries.iter().map(|q| &q.partition).collect();
        let ask = |node, wave| self.epochs_wave(node, queries, wave, &deadline);
        let told = self
            .ask_leaders("asking for leader epochs", &partitions, &deadline, ask)
            .await?;
        let ends = told.into_iter().zip(partitions).map(|(told, partition)| {
            told.map_err(|fenced| {
                self.failed(&Trouble::Io(format!(
                    "{partition} has another leader than a moment ago ({})",
                    code::text(fenced)
                )))
            })
        });
        ends.collect()
    }

    async fn epochs_wave(
        self: &Arc<Self>,
        node: i32,
        queries: &[EpochQuery],
        wave: Vec<usize>,
        deadline: &Deadline,
    ) -> Told<End> {
        let broker = self
            .node(node)
            .ok_or_else(|| Trouble::Io(format!("broker {node} is not known")))?;
        let mut topics: BTreeMap<&str, Vec<OffsetForLeaderPartition>> = BTreeMap::new();
        for &query in &wave {
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
        deadline.extend(broker.questions.left());
        let asked = self
            .ask(&broker, EPOCH_ENDS_MOST, build, deadline.part(3).left())
            .await;
        let untold = || wave.iter().map(|query| (*query, Ok(Ok(None)))).collect();
        let answer = match asked {
            Ok((answer, EPOCH_ENDS_LEAST..)) => answer,
            Ok(_) => return Ok(untold()),
            // The broker does not know this request.
            Err(Trouble::Protocol(reason)) => {
                log::debug!("{reason}");
                return Ok(untold());
            }
            Err(trouble) => return Err(trouble),
        };
        let mut found: HashMap<(&str, i32), (i16, EpochEnd)> = HashMap::new();
        for topic in &answer.topics {
            for p in &topic.partitions {
                let end = EpochEnd {
                    epoch: p.leader_epoch,
                    end: p.end_offset,
                };
                found.insert((&topic.topic.0, p.partition), (p.error_code, end));
            }
        }
        let told = wave.iter().map(|&query| {
            let EpochQuery {
                partition,
                leader_epoch,
                ..
            } = &queries[query];
            let told = match found.get(&(&*partition.topic, partition.partition)) {
                // -1: the leader knows no epochs up to this one.
                Some((code::OK, end)) => Ok(Ok(Some(*end).filter(|e| e.epoch >= 0 && e.end >= 0))),
                // Repeating the same request would not help.
                Some((fenced @ (code::FENCED_LEADER_EPOCH | code::UNKNOWN_LEADER_EPOCH), _))
                    if leader_epoch.is_some() =>
                {
                    Ok(Err(*fenced))
                }
                Some((code, _)) => Err(*code),
                // A query that the answer lacks is sent again.
                None => Err(code::REQUEST_TIMED_OUT),
            };
            (query, told)
        });
        Ok(told.collect())
    }
}
