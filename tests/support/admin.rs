//! Operations of an administrator: topics, log starts, compaction, access control.

use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use datafusion_kafka::client::ClientPool;
use datafusion_kafka::config::ConnectionConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::{Metadata, MetadataPartition};
use rdkafka::{Offset, TopicPartitionList};

use super::kafka::KafkaServer;
use super::produce::{Record, produce};
use super::read::{Isolation, ReadRecord, read};
use super::{block_on, wait_until};

/// How long a single request may take on a busy machine.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// The settings of the helpers' clients. They print nothing; the helpers panic with a message instead.
pub(super) fn client(bootstrap: &str) -> ClientConfig {
    static FIRST: Once = Once::new();
    // The first client decides what becomes of OpenSSL when the process ends: ours, as in programs of users.
    FIRST.call_once(|| {
        let mut config = ConnectionConfig::new(bootstrap);
        config.set("kafka.client", "librdkafka").unwrap();
        // A build without librdkafka has none.
        drop(ClientPool::default().client(&config));
    });
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("enable.metrics.push", "false")
        .set("reconnect.backoff.max.ms", "500")
        .set_log_level(RDKafkaLogLevel::Emerg);
    config
}

fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    client(bootstrap).create().expect("the settings are valid")
}

fn consumer(bootstrap: &str) -> BaseConsumer {
    client(bootstrap).create().expect("the settings are valid")
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(REQUEST_LIMIT))
        .operation_timeout(Some(REQUEST_LIMIT))
}

/// Sets a quota for clients with this id, such as `consumer_byte_rate`. librdkafka has no call for it, so the
/// request is encoded by hand.
///
/// # Panics
/// When the broker does not answer.
pub fn limit_client(bootstrap: &str, client_id: &str, quota: &str, bytes_a_second: usize) {
    let text = |text: &str| [&[0, text.len() as u8], text.as_bytes()].concat();
    let one = 1i32.to_be_bytes();
    let request = [
        // AlterClientQuotas in version 0, correlation id 1, no client id.
        &[0, 49, 0, 0, 0, 0, 0, 1, 0xff, 0xff][..],
        &one,
        &one,
        &text("client-id"),
        &text(client_id),
        &one,
        &text(quota),
        &(bytes_a_second as f64).to_be_bytes(),
        // Neither a removal nor a dry run.
        &[0, 0],
    ]
    .concat();
    let mut stream = TcpStream::connect(bootstrap).expect("the broker is there");
    let size = u32::try_from(request.len()).expect("a short request");
    let frame = [&size.to_be_bytes()[..], &request].concat();
    stream.write_all(&frame).expect("the broker reads");
    // Length, correlation id, throttle time, one entry, its code.
    let mut answer = [0; 18];
    stream.read_exact(&mut answer).expect("the broker answers");
    assert_eq!(answer[16..], [0, 0], "the code of the answer");
}

/// A topic name that no other test of any process uses: `prefix-PID-N`.
pub fn unique_topic(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{number}", std::process::id())
}

/// Creates a topic with settings such as `("retention.ms", "1000")`, and waits for its leaders.
///
/// # Panics
/// When the broker refuses, for example because the topic exists.
pub fn create_topic(bootstrap: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    create(
        bootstrap,
        NewTopic::new(topic, partitions, TopicReplication::Fixed(1)),
        settings,
    );
}

/// Creates a topic whose partitions have these replicas, given as node ids with the leader first.
///
/// # Panics
/// As [`create_topic`].
pub fn create_replicated_topic(
    bootstrap: &str,
    topic: &str,
    replicas: &[&[i32]],
    settings: &[(&str, &str)],
) {
    let partitions = i32::try_from(replicas.len()).expect("a partition number is an i32");
    let replicas = TopicReplication::Variable(replicas);
    create(
        bootstrap,
        NewTopic::new(topic, partitions, replicas),
        settings,
    );
}

fn create<'a>(bootstrap: &str, mut new: NewTopic<'a>, settings: &[(&'a str, &'a str)]) {
    let (topic, partitions) = (new.name, new.num_partitions);
    for (key, value) in settings {
        new = new.set(key, value);
    }
    let results = block_on(admin(bootstrap).create_topics([&new], &options()));
    for result in results.expect("CreateTopics was not answered") {
        result.unwrap_or_else(|(topic, code)| panic!("cannot create the topic {topic}: {code}"));
    }
    wait_for_partitions(bootstrap, topic, partitions);
}

/// A topic that the broker's cleaner compacts once its records are older than `lag`, in milliseconds.
fn compacted_after(lag: &str) -> [(&str, &str); 5] {
    [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", "0"),
        ("min.compaction.lag.ms", lag),
    ]
}

/// Creates a topic that [`compact`] can compact immediately, and that nothing else does.
pub fn create_compacted_topic(bootstrap: &str, topic: &str, partitions: i32) {
    create_topic(bootstrap, topic, partitions, &compacted_after("86400000"));
}

/// Deletes a topic, and waits until the broker no longer lists it.
///
/// # Panics
/// When the broker refuses.
pub fn delete_topic(bootstrap: &str, topic: &str) {
    let results = block_on(admin(bootstrap).delete_topics(&[topic], &options()));
    for result in results.expect("DeleteTopics was not answered") {
        result.unwrap_or_else(|(topic, code)| panic!("cannot delete the topic {topic}: {code}"));
    }
    wait_until(REQUEST_LIMIT, &format!("{topic} is gone"), || {
        (!list_topics(bootstrap).contains(topic)).then_some(())
    });
}

/// Adds partitions to a topic until it has `partitions`, and waits for their leaders.
///
/// # Panics
/// When the broker refuses.
pub fn grow_topic(bootstrap: &str, topic: &str, partitions: usize) {
    let new = NewPartitions::new(topic, partitions);
    let results = block_on(admin(bootstrap).create_partitions([&new], &options()));
    for result in results.expect("CreatePartitions was not answered") {
        result.unwrap_or_else(|(topic, code)| panic!("cannot grow the topic {topic}: {code}"));
    }
    let partitions = i32::try_from(partitions).expect("a partition number is an i32");
    wait_for_partitions(bootstrap, topic, partitions);
}

/// Changes settings of a topic, and resets its others.
///
/// # Panics
/// When the broker refuses.
pub fn alter_topic(bootstrap: &str, topic: &str, settings: &[(&str, &str)]) {
    let mut alter = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for (key, value) in settings {
        alter = alter.set(key, value);
    }
    let results = block_on(admin(bootstrap).alter_configs([&alter], &options()));
    for result in results.expect("AlterConfigs was not answered") {
        result.unwrap_or_else(|(_, code)| panic!("cannot change the topic {topic}: {code}"));
    }
}

/// Moves the log start of a partition to `before`. The records below it are gone.
///
/// # Panics
/// When the broker refuses, for example because the log ends earlier.
pub fn delete_records(bootstrap: &str, topic: &str, partition: i32, before: i64) {
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(topic, partition, Offset::Offset(before))
        .expect("the offset is valid");
    let answer = block_on(admin(bootstrap).delete_records(&offsets, &options()));
    for element in answer.expect("DeleteRecords was not answered").elements() {
        element.error().unwrap_or_else(|error| {
            panic!("cannot delete {topic}[{partition}] before {before}: {error}")
        });
    }
}

/// The ends of a partition's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// The log start.
    pub start: i64,
    /// The last stable offset: where `read_committed` ends.
    pub last_stable: i64,
    /// The high watermark: where `read_uncommitted` ends.
    pub high: i64,
}

/// Looks up the ends of a partition's log.
///
/// # Panics
/// When the leader does not answer.
pub fn watermarks(bootstrap: &str, topic: &str, partition: i32) -> Watermarks {
    let ask = |isolation: Isolation| {
        let consumer: BaseConsumer = client(bootstrap)
            .set("isolation.level", isolation.as_str())
            .create()
            .expect("the settings are valid");
        consumer
            .fetch_watermarks(topic, partition, REQUEST_LIMIT)
            .unwrap_or_else(|error| panic!("no watermarks of {topic}[{partition}]: {error}"))
    };
    let (_, last_stable) = ask(Isolation::ReadCommitted);
    let (start, high) = ask(Isolation::ReadUncommitted);
    Watermarks {
        start,
        last_stable,
        high,
    }
}

/// The topics that the broker lists, including internal ones.
///
/// # Panics
/// When the broker does not answer.
pub fn list_topics(bootstrap: &str) -> BTreeSet<String> {
    let metadata = consumer(bootstrap)
        .fetch_metadata(None, REQUEST_LIMIT)
        .expect("Metadata was not answered");
    let topics = metadata.topics().iter();
    topics.map(|topic| topic.name().to_owned()).collect()
}

/// The consumer groups that the broker knows.
///
/// # Panics
/// When the broker does not answer.
pub fn list_groups(bootstrap: &str) -> BTreeSet<String> {
    let groups = consumer(bootstrap)
        .fetch_group_list(None, REQUEST_LIMIT)
        .expect("ListGroups was not answered");
    let groups = groups.groups().iter();
    groups.map(|group| group.name().to_owned()).collect()
}

/// Whether the node is registered and every partition with a live replica in sync has a leader. Others have to wait
/// for a node that is down: where this one has lagged, no other was in sync.
pub(super) fn is_ready(bootstrap: &str) -> bool {
    consumer(bootstrap)
        .fetch_metadata(None, Duration::from_secs(2))
        .is_ok_and(|metadata| {
            let live: Vec<i32> = metadata.brokers().iter().map(|b| b.id()).collect();
            let mut partitions = metadata.topics().iter().flat_map(|t| t.partitions());
            !live.is_empty()
                && partitions
                    .all(|p| p.leader() >= 0 || !p.isr().iter().any(|id| live.contains(id)))
        })
}

/// Whether a broker sees so many brokers, and every partition with all of its replicas in sync.
pub(super) fn is_in_sync(bootstrap: &str, brokers: usize) -> bool {
    let metadata = consumer(bootstrap).fetch_metadata(None, Duration::from_secs(2));
    metadata.is_ok_and(|metadata| {
        let mut partitions = metadata.topics().iter().flat_map(|t| t.partitions());
        metadata.brokers().len() == brokers
            && partitions.all(|p| p.leader() >= 0 && p.isr().len() == p.replicas().len())
    })
}

/// The replicas of a partition, the preferred leader first.
pub fn replicas(bootstrap: &str, topic: &str, partition: i32) -> Option<Vec<i32>> {
    of_partition(bootstrap, topic, partition, |found| {
        found.replicas().to_vec()
    })
}

/// The node that leads a partition; `None` while there is no leader.
pub fn leader(bootstrap: &str, topic: &str, partition: i32) -> Option<i32> {
    let leader = of_partition(bootstrap, topic, partition, MetadataPartition::leader)?;
    Some(leader).filter(|leader| *leader >= 0)
}

fn of_partition<T>(
    bootstrap: &str,
    topic: &str,
    partition: i32,
    get: impl Fn(&MetadataPartition) -> T,
) -> Option<T> {
    let metadata = consumer(bootstrap)
        .fetch_metadata(None, REQUEST_LIMIT)
        .ok()?;
    let found = metadata.topics().iter().find(|t| t.name() == topic)?;
    let found = found.partitions().iter().find(|p| p.id() == partition)?;
    Some(get(found))
}

fn wait_for_partitions(bootstrap: &str, topic: &str, partitions: i32) {
    let consumer = consumer(bootstrap);
    let what = format!("{topic} has {partitions} partitions with leaders");
    wait_until(REQUEST_LIMIT, &what, || {
        // Requests all topics, because naming one that does not exist yet might create it.
        let metadata = consumer.fetch_metadata(None, REQUEST_LIMIT).ok()?;
        let found = metadata.topics().iter().find(|t| t.name() == topic)?;
        let led = found.partitions().iter().filter(|p| p.leader() >= 0);
        (i32::try_from(led.count()) == Ok(partitions)).then_some(())
    });
}

/// Compacts a partition of a topic made by [`create_compacted_topic`], and returns the records that are left.
///
/// The open segment is never compacted, so this appends a record with its own key, which closes the segment.
/// It returns once no key occurs twice below that record. The record itself comes last.
///
/// # Panics
/// When the cleaner does not run within a minute.
pub fn compact(bootstrap: &str, topic: &str, partition: i32) -> Vec<ReadRecord> {
    alter_topic(bootstrap, topic, &compacted_after("0"));
    // Longer than `segment.ms`, so that the next record opens a segment.
    std::thread::sleep(Duration::from_millis(150));
    let marker = Record::new(partition).key(unique_topic("end-of-compaction"));
    let end = produce(bootstrap, topic, &[marker])[0];
    let what = format!("{topic}[{partition}] is compacted");
    wait_until(Duration::from_secs(60), &what, || {
        let records = read(bootstrap, topic, partition, Isolation::ReadUncommitted);
        let mut times_seen: HashMap<&Option<Vec<u8>>, usize> = HashMap::new();
        for record in records.iter().filter(|record| record.offset < end) {
            *times_seen.entry(&record.key).or_default() += 1;
        }
        let compacted = times_seen.values().all(|times| *times == 1);
        compacted.then_some(records)
    })
}

/// Lets a principal such as `User:alice` do something with a topic: `Read`, `Describe`, `Write` …
///
/// # Panics
/// When the broker refuses.
pub fn allow_topic(server: &KafkaServer, principal: &str, operation: &str, topic: &str) {
    allow(server, principal, operation, &["--topic", topic]);
}

/// Lets a principal do something with a consumer group.
///
/// # Panics
/// When the broker refuses.
pub fn allow_group(server: &KafkaServer, principal: &str, operation: &str, group: &str) {
    allow(server, principal, operation, &["--group", group]);
}

fn allow(server: &KafkaServer, principal: &str, operation: &str, resource: &[&str]) {
    let mut arguments = vec!["--bootstrap-server", server.bootstrap(), "--add"];
    arguments.extend(["--allow-principal", principal, "--operation", operation]);
    arguments.extend(resource);
    server.run_tool("org.apache.kafka.tools.AclCommand", &arguments);
}

/// The code of a failed request, if librdkafka has one.
pub fn error_code(error: &rdkafka::error::KafkaError) -> Option<RDKafkaErrorCode> {
    error.rdkafka_error_code()
}
