//! Requests to brokers whose answers arrive on a queue.

use std::ffi::{CString, c_char};
use std::sync::Arc;

use rdkafka::bindings as rd;

use super::{Handle, PartitionList, Queue, c_text};
use crate::range::IsolationLevel;

/// An admin request. Its answer arrives on the queue passed to [`send`].
#[derive(Clone, Copy)]
pub(crate) enum AdminRequest<'a> {
    DescribeCluster,
    DescribeTopics(&'a [Arc<str>]),
    /// Partitions and what to look up: -1 for the end, -2 for the start, or else a timestamp. No duplicates.
    ///
    /// The topics must have been described before, and each partition have had a leader. Otherwise librdkafka
    /// (2.12 and before) looks for leaders with two threads at once, this one and its own, and may free the
    /// request twice (`rd_kafka_topic_partition_list_query_leaders_async`).
    ListOffsets(&'a [(&'a str, i32, i64)], IsolationLevel),
    DescribeConfigs(&'a [Arc<str>]),
    GroupOffsets(&'a str, &'a [(&'a str, i32, i64)]),
    /// A group and the offsets to commit to it.
    CommitGroupOffsets(&'a str, &'a [(&'a str, i32, i64)]),
    /// A topic with one partition, its number of replicas (-1 for the brokers' default), and its settings.
    CreateTopic(&'a str, i32, &'a [(&'a str, &'a str)]),
}

/// The shortest time limit of [`AdminRequest::ListOffsets`]: librdkafka's own thread frees a request whose time is
/// over, also one that the caller's thread is still sending.
const LIST_OFFSETS_LEAST_MS: i32 = 1000;

/// Sends a request to a given broker, or to one that librdkafka chooses. The answer, an [`Event`], arrives on
/// `queue` within the timeout.
pub(crate) fn send(
    handle: &Arc<Handle>,
    queue: &Queue,
    request: &AdminRequest<'_>,
    broker: Option<i32>,
    timeout_ms: i32,
) {
    use rd::rd_kafka_admin_op_t as Op;
    let op = match request {
        AdminRequest::DescribeCluster => Op::RD_KAFKA_ADMIN_OP_DESCRIBECLUSTER,
        AdminRequest::DescribeTopics(_) => Op::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        AdminRequest::ListOffsets(..) => Op::RD_KAFKA_ADMIN_OP_LISTOFFSETS,
        AdminRequest::DescribeConfigs(_) => Op::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS,
        AdminRequest::GroupOffsets(..) => Op::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS,
        AdminRequest::CommitGroupOffsets(..) => Op::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS,
        AdminRequest::CreateTopic(..) => Op::RD_KAFKA_ADMIN_OP_CREATETOPICS,
    };
    let least_ms = match request {
        AdminRequest::ListOffsets(..) => LIST_OFFSETS_LEAST_MS,
        _ => 1,
    };
    let mut message = [0 as c_char; 256];
    // SAFETY: options, lists and resources are owned here and copied by the calls; every text
    // outlives the call that reads it.
    unsafe {
        let options = rd::rd_kafka_AdminOptions_new(handle.rk, op);
        rd::rd_kafka_AdminOptions_set_request_timeout(
            options,
            timeout_ms.max(least_ms),
            message.as_mut_ptr(),
            message.len(),
        );
        if let Some(broker) = broker {
            let (buffer, size) = (message.as_mut_ptr(), message.len());
            rd::rd_kafka_AdminOptions_set_broker(options, broker, buffer, size);
        }
        match request {
            AdminRequest::DescribeCluster => {
                rd::rd_kafka_DescribeCluster(handle.rk, options, queue.rkqu);
            }
            AdminRequest::DescribeTopics(topics) => {
                let names: Vec<CString> = topics.iter().map(|t| c_text(t)).collect();
                let mut names: Vec<*const c_char> = names.iter().map(|n| n.as_ptr()).collect();
                let set =
                    rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
                rd::rd_kafka_DescribeTopics(handle.rk, set, options, queue.rkqu);
                rd::rd_kafka_TopicCollection_destroy(set);
            }
            AdminRequest::ListOffsets(partitions, isolation) => {
                let level = match isolation {
                    IsolationLevel::ReadCommitted => {
                        rd::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED
                    }
                    IsolationLevel::ReadUncommitted => {
                        rd::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED
                    }
                };
                let error = rd::rd_kafka_AdminOptions_set_isolation_level(options, level);
                if !error.is_null() {
                    rd::rd_kafka_error_destroy(error);
                }
                let list = PartitionList::new(partitions.iter().copied());
                rd::rd_kafka_ListOffsets(handle.rk, list.0, options, queue.rkqu);
            }
            AdminRequest::DescribeConfigs(topics) => {
                let mut resources: Vec<_> = topics
                    .iter()
                    .map(|t| {
                        rd::rd_kafka_ConfigResource_new(
                            rd::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC,
                            c_text(t).as_ptr(),
                        )
                    })
                    .collect();
                let (first, count) = (resources.as_mut_ptr(), resources.len());
                rd::rd_kafka_DescribeConfigs(handle.rk, first, count, options, queue.rkqu);
                rd::rd_kafka_ConfigResource_destroy_array(first, count);
            }
            AdminRequest::GroupOffsets(group, partitions) => {
                let list = PartitionList::new(partitions.iter().copied());
                let group = c_text(group);
                let mut one = [rd::rd_kafka_ListConsumerGroupOffsets_new(
                    group.as_ptr(),
                    list.0,
                )];
                rd::rd_kafka_ListConsumerGroupOffsets(
                    handle.rk,
                    one.as_mut_ptr(),
                    1,
                    options,
                    queue.rkqu,
                );
                rd::rd_kafka_ListConsumerGroupOffsets_destroy(one[0]);
            }
            AdminRequest::CommitGroupOffsets(group, partitions) => {
                let list = PartitionList::new(partitions.iter().copied());
                let group = c_text(group);
                let mut one = [rd::rd_kafka_AlterConsumerGroupOffsets_new(
                    group.as_ptr(),
                    list.0,
                )];
                rd::rd_kafka_AlterConsumerGroupOffsets(
                    handle.rk,
                    one.as_mut_ptr(),
                    1,
                    options,
                    queue.rkqu,
                );
                rd::rd_kafka_AlterConsumerGroupOffsets_destroy(one[0]);
            }
            AdminRequest::CreateTopic(topic, replication, settings) => {
                let topic = c_text(topic);
                let (buffer, size) = (message.as_mut_ptr(), message.len());
                let mut one = [rd::rd_kafka_NewTopic_new(
                    topic.as_ptr(),
                    1,
                    *replication,
                    buffer,
                    size,
                )];
                // NULL only for numbers out of range, which these are not. If it happened, nothing would be
                // requested and the wait would time out.
                if !one[0].is_null() {
                    for (name, value) in *settings {
                        let (name, value) = (c_text(name), c_text(value));
                        rd::rd_kafka_NewTopic_set_config(one[0], name.as_ptr(), value.as_ptr());
                    }
                    let first = one.as_mut_ptr();
                    rd::rd_kafka_CreateTopics(handle.rk, first, 1, options, queue.rkqu);
                    rd::rd_kafka_NewTopic_destroy(one[0]);
                }
            }
        }
        rd::rd_kafka_AdminOptions_destroy(options);
    }
}
