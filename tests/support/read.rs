//! Reads partitions with librdkafka's plain consumer, for tests to compare with.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message, Timestamp};
use rdkafka::{Offset, TopicPartitionList};

use super::admin::client;

/// How long reading a partition may take.
const READ_LIMIT: Duration = Duration::from_secs(120);

/// Which records of transactions to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Committed ones.
    ReadCommitted,
    /// All.
    ReadUncommitted,
}

impl Isolation {
    /// Kafka's name for the level.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadCommitted => "read_committed",
            Self::ReadUncommitted => "read_uncommitted",
        }
    }
}

/// A record in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecord {
    /// The offset.
    pub offset: i64,
    /// The timestamp in ms since the epoch, whatever its type.
    pub timestamp_ms: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The headers in wire order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Reads a partition from its log start to its end for the isolation level.
///
/// This creates the internal topic `__consumer_offsets` if it is missing, because librdkafka looks for a
/// group's coordinator. It joins no group.
///
/// # Panics
/// When the end is not reached.
pub fn read(bootstrap: &str, topic: &str, partition: i32, isolation: Isolation) -> Vec<ReadRecord> {
    let consumer: BaseConsumer = client(bootstrap)
        .set("group.id", "test-support")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("fetch.wait.max.ms", "10")
        .set("isolation.level", isolation.as_str())
        .create()
        .expect("the settings are valid");
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(topic, partition, Offset::Beginning)
        .expect("the offset is valid");
    consumer
        .assign(&assignment)
        .expect("the assignment is valid");
    let deadline = Instant::now() + READ_LIMIT;
    let mut records = Vec::new();
    while Instant::now() < deadline {
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(_))) => return records,
            // librdkafka continues after transient errors; the time limit ends permanent ones.
            Some(Err(KafkaError::MessageConsumption(code))) if is_transient(code) => {}
            Some(Err(error)) => panic!("cannot read {topic}[{partition}]: {error}"),
            Some(Ok(message)) => records.push(ReadRecord {
                offset: message.offset(),
                timestamp_ms: match message.timestamp() {
                    Timestamp::NotAvailable => None,
                    Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) => Some(ms),
                },
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
                headers: message.headers().map_or_else(Vec::new, |headers| {
                    let owned = |header: rdkafka::message::Header<'_, &[u8]>| {
                        (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
                    };
                    headers.iter().map(owned).collect()
                }),
            }),
        }
    }
    panic!(
        "{topic}[{partition}] was not read to its end within {READ_LIMIT:?}, got {} records",
        records.len()
    )
}

fn is_transient(code: rdkafka::error::RDKafkaErrorCode) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::NotLeaderForPartition
    )
}
