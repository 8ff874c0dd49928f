//! Looks up offsets of partitions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::Deadline;
use super::leaders::Told;
use crate::client::wire::cluster::Cluster;
use crate::client::wire::code;
use crate::client::wire::connection::Trouble;
use crate::client::{OffsetAnswer, OffsetAt, OffsetQuery};
use crate::error::Result;
use crate::range::{IsolationLevel, TopicPartition};

const LIST_OFFSETS_MOST: i16 = 9;

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
}

/// The code of an isolation level in Kafka's requests.
pub(in crate::client::wire) fn isolation_code(isolation: IsolationLevel) -> i8 {
    match isolation {
        IsolationLevel::ReadUncommitted => 0,
        IsolationLevel::ReadCommitted => 1,
    }
}
