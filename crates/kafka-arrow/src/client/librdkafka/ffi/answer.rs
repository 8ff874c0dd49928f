//! Answers to admin requests, copied into Rust values.

use std::sync::Arc;

use rdkafka::bindings as rd;

use super::{
    Handle, code, error_code_raw, error_text, event_error_raw, resource_error_raw, text,
    topic_result_error_raw,
};

/// An answer to an [`AdminRequest`].
pub(crate) struct Event {
    event: *mut rd::rd_kafka_event_t,
    _handle: Arc<Handle>,
}

// SAFETY: an event belongs to the code that took it off the queue.
unsafe impl Send for Event {}

impl Event {
    /// Takes ownership of an event from a queue of this handle.
    pub(super) fn new(event: *mut rd::rd_kafka_event_t, handle: &Arc<Handle>) -> Self {
        Self {
            event,
            _handle: Arc::clone(handle),
        }
    }

    /// The error of the request as a whole, if any.
    pub(crate) fn error(&self) -> Option<(i32, String)> {
        // SAFETY: a live event.
        unsafe {
            let err = event_error_raw(self.event);
            (err != code::OK).then(|| {
                (
                    err,
                    text(rd::rd_kafka_event_error_string(self.event)).unwrap_or_default(),
                )
            })
        }
    }

    /// The cluster id and the brokers, if the event answers `DescribeCluster`.
    pub(crate) fn cluster(&self) -> Option<(Option<String>, Vec<Node>)> {
        // SAFETY: the result, and everything it points to, lives as long as the event.
        unsafe {
            let result = rd::rd_kafka_event_DescribeCluster_result(self.event);
            if result.is_null() {
                return None;
            }
            let mut count = 0;
            let nodes = rd::rd_kafka_DescribeCluster_result_nodes(result, &raw mut count);
            let nodes = (0..count).map(|i| node(*nodes.add(i))).collect();
            Some((
                text(rd::rd_kafka_DescribeCluster_result_cluster_id(result)),
                nodes,
            ))
        }
    }

    /// The topics, if the event answers `DescribeTopics`.
    pub(crate) fn topics(&self) -> Option<Vec<TopicInfo>> {
        // SAFETY: as in `cluster`.
        unsafe {
            let result = rd::rd_kafka_event_DescribeTopics_result(self.event);
            if result.is_null() {
                return None;
            }
            let mut count = 0;
            let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            Some((0..count).map(|i| topic_info(*topics.add(i))).collect())
        }
    }

    /// The offsets, if the event answers `ListOffsets`.
    pub(crate) fn offsets(&self) -> Option<Vec<PartitionOffset>> {
        // SAFETY: as in `cluster`.
        unsafe {
            let result = rd::rd_kafka_event_ListOffsets_result(self.event);
            if result.is_null() {
                return None;
            }
            let mut count = 0;
            let infos = rd::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
            let one = |i| {
                let info = *infos.add(i);
                partition_offset(rd::rd_kafka_ListOffsetsResultInfo_topic_partition(info))
            };
            Some((0..count).map(one).collect())
        }
    }

    /// The topics' settings, if the event answers `DescribeConfigs`.
    pub(crate) fn settings(&self) -> Option<Vec<SettingsInfo>> {
        // SAFETY: as in `cluster`.
        unsafe {
            let result = rd::rd_kafka_event_DescribeConfigs_result(self.event);
            if result.is_null() {
                return None;
            }
            let mut count = 0;
            let all = rd::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
            let one = |i| {
                let resource = *all.add(i);
                let mut entry_count = 0;
                let entries = rd::rd_kafka_ConfigResource_configs(resource, &raw mut entry_count);
                SettingsInfo {
                    topic: text(rd::rd_kafka_ConfigResource_name(resource)).unwrap_or_default(),
                    code: resource_error_raw(resource),
                    entries: (0..entry_count)
                        .filter_map(|j| {
                            let entry = *entries.add(j);
                            Some((
                                text(rd::rd_kafka_ConfigEntry_name(entry))?,
                                text(rd::rd_kafka_ConfigEntry_value(entry))?,
                            ))
                        })
                        .collect(),
                }
            };
            Some((0..count).map(one).collect())
        }
    }

    /// A group's offsets or the group's error, if the event answers `GroupOffsets`.
    pub(crate) fn group_offsets(&self) -> Option<Result<Vec<PartitionOffset>, (i32, String)>> {
        // SAFETY: as in `cluster`.
        unsafe {
            let result = rd::rd_kafka_event_ListConsumerGroupOffsets_result(self.event);
            if result.is_null() {
                return None;
            }
            let mut count = 0;
            let groups =
                rd::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count);
            Some(group_result(groups, count))
        }
    }

    /// The outcome of committing a group's offsets, if the event answers `CommitGroupOffsets`.
    pub(crate) fn committed_group_offsets(
        &self,
    ) -> Option<Result<Vec<PartitionOffset>, (i32, String)>> {
        // SAFETY: as in `cluster`.
        unsafe {
            let result = rd::rd_kafka_event_AlterConsumerGroupOffsets_result(self.event);
            if result.is_null() {
                return None;
            }
            let mut count = 0;
            let groups =
                rd::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &raw mut count);
            Some(group_result(groups, count))
        }
    }

    /// The outcome of creating the topic, if the event answers `CreateTopic`.
    pub(crate) fn created_topic(&self) -> Option<Result<(), (i32, String)>> {
        // SAFETY: as in `cluster`.
        unsafe {
            let result = rd::rd_kafka_event_CreateTopics_result(self.event);
            if result.is_null() {
                return None;
            }
            let mut count = 0;
            let topics = rd::rd_kafka_CreateTopics_result_topics(result, &raw mut count);
            if count == 0 {
                return None;
            }
            let code = topic_result_error_raw(*topics);
            if code == code::OK {
                return Some(Ok(()));
            }
            let reason = text(rd::rd_kafka_topic_result_error_string(*topics));
            Some(Err((code, reason.unwrap_or_else(|| error_text(code)))))
        }
    }
}

/// The first group's partitions, or its error.
///
/// # Safety
/// `groups` has `count` live elements.
unsafe fn group_result(
    groups: *mut *const rd::rd_kafka_group_result_t,
    count: usize,
) -> Result<Vec<PartitionOffset>, (i32, String)> {
    if count == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: promised by the caller; what the results point to lives as long as they do.
    unsafe {
        let error = rd::rd_kafka_group_result_error(*groups);
        if !error.is_null() {
            let reason = text(rd::rd_kafka_error_string(error)).unwrap_or_default();
            return Err((error_code_raw(error), reason));
        }
        let list = rd::rd_kafka_group_result_partitions(*groups);
        if list.is_null() {
            return Ok(Vec::new());
        }
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        Ok((0..count)
            .map(|i| partition_offset((*list).elems.add(i)))
            .collect())
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { rd::rd_kafka_event_destroy(self.event) }
    }
}

/// One partition of an answer.
pub(crate) struct PartitionOffset {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// -1 where unknown.
    pub(crate) leader_epoch: i32,
    pub(crate) code: i32,
}

/// # Safety
/// `p` points to a live element.
unsafe fn partition_offset(p: *const rd::rd_kafka_topic_partition_t) -> PartitionOffset {
    // SAFETY: promised by the caller; the code is an int in C.
    unsafe {
        PartitionOffset {
            topic: text((*p).topic).unwrap_or_default(),
            partition: (*p).partition,
            offset: (*p).offset,
            leader_epoch: rd::rd_kafka_topic_partition_get_leader_epoch(p),
            code: (&raw const (*p).err).cast::<i32>().read(),
        }
    }
}

/// A broker in an answer.
pub(crate) struct Node {
    pub(crate) id: i32,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) rack: Option<String>,
}

/// A topic in an answer.
pub(crate) struct TopicInfo {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) internal: bool,
    pub(crate) code: i32,
    pub(crate) partitions: Vec<PartitionInfo>,
}

/// A partition in an answer.
pub(crate) struct PartitionInfo {
    pub(crate) partition: i32,
    pub(crate) leader: Option<i32>,
    pub(crate) replicas: Vec<i32>,
    pub(crate) isr: Vec<i32>,
}

/// The settings of a topic in an answer.
pub(crate) struct SettingsInfo {
    pub(crate) topic: String,
    pub(crate) code: i32,
    pub(crate) entries: Vec<(String, String)>,
}

/// # Safety
/// `node` is live.
unsafe fn node(node: *const rd::rd_kafka_Node_t) -> Node {
    // SAFETY: promised by the caller.
    unsafe {
        Node {
            id: rd::rd_kafka_Node_id(node),
            host: text(rd::rd_kafka_Node_host(node)).unwrap_or_default(),
            port: rd::rd_kafka_Node_port(node),
            rack: text(rd::rd_kafka_Node_rack(node)).filter(|r| !r.is_empty()),
        }
    }
}

/// # Safety
/// `topic` is live.
unsafe fn topic_info(topic: *const rd::rd_kafka_TopicDescription_t) -> TopicInfo {
    // SAFETY: promised by the caller; the arrays have the lengths that the calls return.
    unsafe {
        let error = rd::rd_kafka_TopicDescription_error(topic);
        let id = rd::rd_kafka_TopicDescription_topic_id(topic);
        let id = if id.is_null() {
            None
        } else {
            // Kafka prints the URL-safe alphabet; librdkafka prints the standard one.
            text(rd::rd_kafka_Uuid_base64str(id))
                .filter(|id| id != ZERO_ID)
                .map(|id| id.replace('+', "-").replace('/', "_"))
        };
        let mut count = 0;
        let partitions = rd::rd_kafka_TopicDescription_partitions(topic, &raw mut count);
        let ids = |nodes: *mut *const rd::rd_kafka_Node_t, count: usize| -> Vec<i32> {
            (0..count)
                .map(|i| rd::rd_kafka_Node_id(*nodes.add(i)))
                .collect()
        };
        let one = |i| {
            let p = *partitions.add(i);
            let leader = rd::rd_kafka_TopicPartitionInfo_leader(p);
            let (mut replica_count, mut isr_count) = (0, 0);
            let replicas = rd::rd_kafka_TopicPartitionInfo_replicas(p, &raw mut replica_count);
            let isr = rd::rd_kafka_TopicPartitionInfo_isr(p, &raw mut isr_count);
            PartitionInfo {
                partition: rd::rd_kafka_TopicPartitionInfo_partition(p),
                leader: (!leader.is_null())
                    .then(|| rd::rd_kafka_Node_id(leader))
                    .filter(|id| *id >= 0),
                replicas: ids(replicas, replica_count),
                isr: ids(isr, isr_count),
            }
        };
        TopicInfo {
            name: text(rd::rd_kafka_TopicDescription_name(topic)).unwrap_or_default(),
            id,
            internal: rd::rd_kafka_TopicDescription_is_internal(topic) != 0,
            code: if error.is_null() {
                code::OK
            } else {
                error_code_raw(error)
            },
            partitions: (0..count).map(one).collect(),
        }
    }
}

/// What a broker without topic ids sends: 16 zero bytes.
const ZERO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";
