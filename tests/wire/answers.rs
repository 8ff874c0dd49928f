//! A broker's answers, unless the script changes them.

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    ApiVersionsResponse, BrokerId, DescribeConfigsRequest, DescribeConfigsResponse, FetchRequest,
    FetchResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::broker::{Partition, Release, SeenFetch, SeenPart, State, Topic};
use super::code;

/// The first versions with topic ids.
const METADATA_WITH_IDS: i16 = 10;
const FETCH_BY_ID: i16 = 13;
/// The first version that lets clients read from followers.
const FETCH_FROM_FOLLOWER: i16 = 11;

pub fn versions(release: Release, knows: bool) -> ApiVersionsResponse {
    let range = |(api, min, max)| {
        ApiVersion::default()
            .with_api_key(api as i16)
            .with_min_version(min)
            .with_max_version(max)
    };
    let code = if knows {
        code::NONE
    } else {
        code::UNSUPPORTED_VERSION
    };
    ApiVersionsResponse::default()
        .with_error_code(code)
        .with_api_keys(release.versions().into_iter().map(range).collect())
}

fn name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

pub fn metadata(state: &State, request: &MetadataRequest, version: i16) -> MetadataResponse {
    let broker = |node: &super::broker::Node| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(node.id))
            .with_host(StrBytes::from_static_str("127.0.0.1"))
            .with_port(i32::from(node.port))
            .with_rack(Some(StrBytes::from_string(node.rack.clone())))
    };
    let described = |name: &TopicName| {
        let topic = state.topics.get(&*name.0);
        let answer = MetadataResponseTopic::default().with_name(Some(name.clone()));
        let Some(topic) = topic else {
            return answer.with_error_code(code::UNKNOWN_TOPIC_OR_PARTITION);
        };
        let id = if version >= METADATA_WITH_IDS {
            topic.id
        } else {
            Uuid::nil()
        };
        let partitions = topic.partitions.iter().enumerate().map(|(number, p)| {
            let leader = Some(p.leader).filter(|leader| *leader >= 0);
            let replicas: Vec<BrokerId> = leader
                .into_iter()
                .chain(p.followers.iter().copied())
                .map(BrokerId)
                .collect();
            MetadataResponsePartition::default()
                .with_partition_index(i32::try_from(number).unwrap())
                .with_leader_id(BrokerId(p.leader))
                .with_leader_epoch(p.epoch)
                .with_replica_nodes(replicas.clone())
                .with_isr_nodes(replicas)
        });
        answer
            .with_topic_id(id)
            .with_partitions(partitions.collect())
    };
    let names: Vec<TopicName> = match &request.topics {
        None => state.topics.keys().map(|t| name(t)).collect(),
        Some(topics) => topics.iter().filter_map(|t| t.name.clone()).collect(),
    };
    // A node that is down is not listed.
    let up = state.nodes.iter().filter(|n| !n.down);
    MetadataResponse::default()
        .with_brokers(up.map(broker).collect())
        .with_cluster_id(Some(StrBytes::from_static_str("fake")))
        .with_topics(names.iter().map(described).collect())
}

pub fn configs(state: &State, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let described = request.resources.iter().map(|resource| {
        let answer = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match state.topics.get(&*resource.resource_name) {
            Some(topic) => {
                let policy = DescribeConfigsResourceResult::default()
                    .with_name(StrBytes::from_static_str("cleanup.policy"))
                    .with_value(Some(StrBytes::from_static_str(topic.cleanup_policy)));
                answer.with_configs(vec![policy])
            }
            None => answer.with_error_code(code::UNKNOWN_TOPIC_OR_PARTITION),
        }
    });
    DescribeConfigsResponse::default().with_results(described.collect())
}

/// Why a node does not answer for a partition.
fn refusal(partition: &Partition, node: i32, epoch: i32) -> i16 {
    match epoch {
        _ if partition.leader != node && !partition.anywhere => code::NOT_LEADER_OR_FOLLOWER,
        -1 => code::NONE,
        epoch if epoch < partition.epoch => code::FENCED_LEADER_EPOCH,
        epoch if epoch > partition.epoch => code::UNKNOWN_LEADER_EPOCH,
        _ => code::NONE,
    }
}

fn partition(topic: Option<&Topic>, number: i32) -> Option<&Partition> {
    topic?.partitions.get(usize::try_from(number).ok()?)
}

pub fn offsets(
    state: &State,
    node: i32,
    request: &ListOffsetsRequest,
    version: i16,
) -> ListOffsetsResponse {
    let committed = request.isolation_level == 1;
    let listed = |topic: Option<&Topic>, asked: &ListOffsetsPartition| {
        let answer = ListOffsetsPartitionResponse::default()
            .with_partition_index(asked.partition_index)
            .with_offset(-1);
        let Some(found) = partition(topic, asked.partition_index) else {
            return answer.with_error_code(code::UNKNOWN_TOPIC_OR_PARTITION);
        };
        let refused = refusal(found, node, asked.current_leader_epoch);
        if refused != code::NONE {
            return answer.with_error_code(refused);
        }
        let log = &found.log;
        let offset = match asked.timestamp {
            -1 => log.bound(committed),
            -2 => log.start,
            from => {
                let later = log.batches.iter().find(|b| b.max_timestamp >= from);
                later.map_or(-1, |b| b.base)
            }
        };
        let epoch = if version >= 4 { found.epoch } else { -1 };
        answer.with_offset(offset).with_leader_epoch(epoch)
    };
    let topics = request.topics.iter().map(|t| {
        let topic = state.topics.get(&*t.name.0);
        ListOffsetsTopicResponse::default()
            .with_name(t.name.clone())
            .with_partitions(t.partitions.iter().map(|p| listed(topic, p)).collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

/// The ends of leader epochs. `zeros`: as a service answers that does not know them.
pub fn epochs(
    state: &State,
    node: i32,
    request: &OffsetForLeaderEpochRequest,
    zeros: bool,
) -> OffsetForLeaderEpochResponse {
    let told = |topic: Option<&Topic>, asked: &OffsetForLeaderPartition| {
        let answer = EpochEndOffset::default().with_partition(asked.partition);
        if zeros {
            return answer.with_leader_epoch(0).with_end_offset(0);
        }
        let Some(found) = partition(topic, asked.partition) else {
            return answer.with_error_code(code::UNKNOWN_TOPIC_OR_PARTITION);
        };
        let refused = refusal(found, node, asked.current_leader_epoch);
        if refused != code::NONE {
            return answer.with_error_code(refused);
        }
        // The batches of fake logs are all of epoch 0.
        let epoch = if asked.leader_epoch < found.epoch {
            0
        } else {
            found.epoch
        };
        answer
            .with_leader_epoch(epoch)
            .with_end_offset(found.log.end)
    };
    let topics = request.topics.iter().map(|t| {
        let topic = state.topics.get(&*t.topic.0);
        OffsetForLeaderTopicResult::default()
            .with_topic(t.topic.clone())
            .with_partitions(t.partitions.iter().map(|p| told(topic, p)).collect())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

/// The topic that a Fetch refers to.
fn fetched<'a>(state: &'a State, asked: &FetchTopic, version: i16) -> Option<(&'a str, &'a Topic)> {
    let is_meant = |(name, topic): &(&String, &Topic)| {
        if version >= FETCH_BY_ID {
            topic.id == asked.topic_id
        } else {
            ***name == *asked.topic.0
        }
    };
    let found = state.topics.iter().find(is_meant);
    found.map(|(name, topic)| (name.as_str(), topic))
}

pub fn seen(state: &State, node: i32, request: &FetchRequest, version: i16) -> SeenFetch {
    let parts = request.topics.iter().flat_map(|t| {
        let name = fetched(state, t, version).map_or("", |(name, _)| name);
        t.partitions.iter().map(|p| SeenPart {
            topic: name.to_owned(),
            partition: p.partition,
            offset: p.fetch_offset,
            last_epoch: p.last_fetched_epoch,
            max_bytes: p.partition_max_bytes,
        })
    });
    SeenFetch {
        node,
        version,
        max_bytes: request.max_bytes,
        parts: parts.collect(),
    }
}

pub fn fetch(state: &State, node: i32, request: &FetchRequest, version: i16) -> FetchResponse {
    let mut room = usize::try_from(request.max_bytes).unwrap();
    let mut sent_some = false;
    let mut topics = Vec::new();
    for asked in &request.topics {
        let topic = fetched(state, asked, version).map(|(_, topic)| topic);
        let mut answer = FetchableTopicResponse::default();
        if version >= FETCH_BY_ID {
            answer.topic_id = asked.topic_id;
        } else {
            answer.topic = asked.topic.clone();
        }
        for p in &asked.partitions {
            let unknown = if version >= FETCH_BY_ID {
                code::UNKNOWN_TOPIC_ID
            } else {
                code::UNKNOWN_TOPIC_OR_PARTITION
            };
            let part = match partition(topic, p.partition) {
                None => refused(
                    p,
                    if topic.is_none() {
                        unknown
                    } else {
                        code::UNKNOWN_TOPIC_OR_PARTITION
                    },
                ),
                Some(found) => {
                    let most = usize::try_from(p.partition_max_bytes).unwrap().min(room);
                    let reader = Reader {
                        node,
                        version,
                        committed: request.isolation_level == 1,
                        rack: &request.rack_id,
                        most,
                        whole: !sent_some,
                    };
                    reader.read(state, found, p)
                }
            };
            let bytes = part.records.as_ref().map_or(0, bytes::Bytes::len);
            sent_some |= bytes > 0;
            room = room.saturating_sub(bytes);
            answer.partitions.push(part);
        }
        topics.push(answer);
    }
    FetchResponse::default().with_responses(topics)
}

fn refused(asked: &FetchPartition, code: i16) -> PartitionData {
    PartitionData::default()
        .with_partition_index(asked.partition)
        .with_error_code(code)
        .with_high_watermark(-1)
        .with_records(None)
}

struct Reader<'a> {
    node: i32,
    version: i16,
    committed: bool,
    rack: &'a str,
    most: usize,
    /// Nothing was sent before, so at least one batch must be sent.
    whole: bool,
}

impl Reader<'_> {
    fn read(&self, state: &State, found: &Partition, asked: &FetchPartition) -> PartitionData {
        let from_follower =
            self.version >= FETCH_FROM_FOLLOWER && found.followers.contains(&self.node);
        let code = refusal(found, self.node, asked.current_leader_epoch);
        if code != code::NONE && !(from_follower && code == code::NOT_LEADER_OR_FOLLOWER) {
            return refused(asked, code);
        }
        let log = &found.log;
        if asked.fetch_offset < log.start || asked.fetch_offset > log.end {
            return refused(asked, code::OFFSET_OUT_OF_RANGE);
        }
        let answer = PartitionData::default()
            .with_partition_index(asked.partition)
            .with_high_watermark(log.end)
            .with_last_stable_offset(log.bound(true))
            .with_log_start_offset(log.start);
        let near = |id: &&i32| {
            state
                .nodes
                .iter()
                .any(|n| n.id == **id && n.rack == self.rack)
        };
        let nearer = found.followers.iter().find(near);
        if let Some(nearer) = nearer.filter(|_| found.leader == self.node) {
            return answer.with_preferred_read_replica(BrokerId(*nearer));
        }
        let records = log.slice(asked.fetch_offset, self.committed, self.most, self.whole);
        let aborted = self.committed.then(|| {
            let touched = log
                .aborted
                .iter()
                .filter(|a| a.marker >= asked.fetch_offset);
            let entry = |a: &super::log::Aborted| {
                AbortedTransaction::default()
                    .with_producer_id(a.producer.into())
                    .with_first_offset(a.first)
            };
            touched.map(entry).collect()
        });
        answer
            .with_records(Some(records))
            .with_aborted_transactions(aborted)
    }
}
