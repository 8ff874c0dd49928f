//! The client's calls, answered from the state of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::faults::Call;
use super::read::Reader;
use super::state::{Shared, State, Topic};
use crate::client::{
    Broker, ClusterDescription, EpochEnd, EpochQuery, KafkaClient, OffsetAnswer, OffsetAt,
    OffsetQuery, PartitionDescription, RawBatch, ReadRequest, TopicDescription, TopicSelection,
    TopicSettings,
};
use crate::error::{Error, Result};
use crate::range::{IsolationLevel, TopicPartition};

/// The port that the brokers claim to listen on. Nothing listens there.
const PORT: u16 = 9092;

/// A client of a [`MemoryCluster`](super::MemoryCluster), made by
/// [`MemoryCluster::client`](super::MemoryCluster::client).
///
/// Answers come immediately. Only a stalled or leaderless partition makes a reader wait, and waiting needs a
/// Tokio runtime with its timer enabled. Each poll of a [`read`](KafkaClient::read) stream makes at most one
/// fetch, unless that fetch finds no record. Nothing is prefetched. [`ReadRequest::limit`] bounds the fetches
/// until the limit is reached; a consumer that keeps polling gets the rest of the ranges.
#[derive(Debug, Clone)]
pub struct MemoryClient {
    shared: Arc<Shared>,
}

impl MemoryClient {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn describe_topic(&self, state: &State, name: &Arc<str>, topic: &Topic) -> TopicDescription {
        let brokers = 1..=i32::try_from(self.shared.racks.len()).unwrap_or(i32::MAX);
        let partitions = (0..topic.partition_count())
            .map(|partition| {
                let key = TopicPartition::new(Arc::clone(name), partition);
                let preferred = self.shared.leader(partition);
                let others = brokers.clone().filter(|id| *id != preferred);
                let replicas: Vec<i32> = std::iter::once(preferred).chain(others).collect();
                let leaderless = state.faults.is_leaderless(&key);
                PartitionDescription {
                    partition,
                    leader: (!leaderless).then_some(preferred),
                    isr: if leaderless { vec![] } else { replicas.clone() },
                    replicas,
                }
            })
            .collect();
        TopicDescription {
            name: Arc::clone(name),
            id: (!state.faults.without_ids).then(|| topic.id.clone()),
            internal: topic.options.internal,
            partitions,
        }
    }
}

#[async_trait]
impl KafkaClient for MemoryClient {
    async fn describe(&self, topics: TopicSelection<'_>) -> Result<ClusterDescription> {
        let mut state = self.shared.lock();
        state.stats.describes += 1;
        state.faults.check(Call::Describe)?;
        let brokers = self.shared.racks.iter().zip(1..).map(|(rack, id)| Broker {
            id,
            host: "memory".to_owned(),
            port: PORT,
            rack: rack.clone(),
        });
        let chosen = state.topics.iter().filter(|(name, _)| match topics {
            TopicSelection::All => true,
            TopicSelection::Named(names) => names.contains(name),
        });
        Ok(ClusterDescription {
            cluster_id: Some(self.shared.cluster_id.clone()),
            brokers: brokers.collect(),
            topics: chosen
                .map(|(name, topic)| self.describe_topic(&state, name, topic))
                .collect(),
        })
    }

    async fn list_offsets(
        &self,
        queries: &[OffsetQuery],
        isolation: IsolationLevel,
    ) -> Result<Vec<OffsetAnswer>> {
        let mut state = self.shared.lock();
        state.stats.list_offsets += 1;
        state.stats.offset_queries += queries.len() as u64;
        state.faults.check(Call::ListOffsets)?;
        queries
            .iter()
            .map(|query| {
                let partition = &query.partition;
                let log = state.log(&partition.topic, partition.partition)?;
                if state.faults.is_leaderless(partition) {
                    return Err(Error::Unavailable {
                        operation: format!("listing offsets of {partition}"),
                        reason: "the partition has no leader".to_owned(),
                    });
                }
                let offset = match query.at {
                    OffsetAt::Earliest => Some(log.start()),
                    OffsetAt::Latest => Some(log.end(isolation)),
                    OffsetAt::Timestamp(ms) => log.at_timestamp(ms, isolation),
                };
                let latest = query.at == OffsetAt::Latest && !state.faults.without_epochs;
                let stale = state.faults.stale.get(partition).filter(|_| latest);
                Ok(OffsetAnswer {
                    offset: stale.map_or(offset, |(_, end)| Some(*end)),
                    leader_epoch: latest
                        .then(|| stale.map_or(log.leader_epoch(), |(epoch, _)| *epoch)),
                })
            })
            .collect()
    }

    async fn epoch_ends(&self, queries: &[EpochQuery]) -> Result<Vec<Option<EpochEnd>>> {
        let mut state = self.shared.lock();
        state.stats.epoch_ends += 1;
        state.faults.check(Call::EpochEnds)?;
        queries
            .iter()
            .map(|query| {
                let partition = &query.partition;
                let log = state.log(&partition.topic, partition.partition)?;
                let fenced = query.leader_epoch.is_some_and(|e| e != log.leader_epoch());
                if fenced || state.faults.is_leaderless(partition) {
                    return Err(Error::Connection {
                        hosts: "memory".to_owned(),
                        reason: format!("{partition} has another leader than a moment ago"),
                    });
                }
                let end = log.epoch_end(query.epoch);
                Ok(end.filter(|_| !state.faults.without_epochs))
            })
            .collect()
    }

    async fn newest_epochs(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<i32>>> {
        let state = self.shared.lock();
        let newest = |p: &TopicPartition| {
            let log = state.log(&p.topic, p.partition)?;
            Ok((!state.faults.without_epochs).then(|| log.leader_epoch()))
        };
        partitions.iter().map(newest).collect()
    }

    async fn group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let mut state = self.shared.lock();
        state.stats.group_offsets += 1;
        state.faults.check(Call::GroupOffsets)?;
        let committed = |p: &TopicPartition| Some((p.clone(), state.group_offset(group, p)?));
        Ok(partitions.iter().filter_map(committed).collect())
    }

    async fn topic_settings(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicSettings>>> {
        let mut state = self.shared.lock();
        state.stats.topic_settings += 1;
        state.faults.check(Call::TopicSettings)?;
        let settings = |name: &Arc<str>| {
            let options = &state.topics.get(name)?.options;
            let policy = options.cleanup_policy.clone();
            Some(TopicSettings::new(options.log_append_time, policy))
        };
        Ok(topics.iter().map(settings).collect())
    }

    fn read(&self, request: ReadRequest) -> BoxStream<'static, Result<RawBatch>> {
        Reader::new(Arc::clone(&self.shared), request).into_stream()
    }

    /// The bytes of one fetch. Its records wait in the stream, shared with the log, until they become part of
    /// a batch.
    fn read_buffer_bytes(&self, _request: &ReadRequest) -> usize {
        self.shared.fetch.bytes
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}
