//! The state of the cluster, behind a lock.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Notify;

use super::faults::Faults;
use super::log::{FetchLimits, PartitionLog};
use super::options::TopicOptions;
use super::record::{Record, TransactionId};
use super::stats::MemoryStats;
use crate::error::{Error, Result, nearest_names};
use crate::range::TopicPartition;

/// The longest name that Kafka gives a topic, in bytes.
const TOPIC_NAME_MAX_BYTES: usize = 249;

/// What all handles of a cluster share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Held for one call or one fetch, never across an await.
    state: Mutex<State>,
    /// Wakes waiting readers when a stalled partition may answer again.
    pub(super) changed: Notify,
    pub(super) cluster_id: String,
    /// The brokers' racks. A broker's id is its index plus one.
    pub(super) racks: Vec<Option<String>>,
    pub(super) fetch: FetchLimits,
    pub(super) read_timeout: Duration,
}

impl Shared {
    pub(super) fn new(
        seed: u64,
        racks: Vec<Option<String>>,
        fetch: FetchLimits,
        read_timeout: Duration,
    ) -> Self {
        let mut ids = Ids { state: seed };
        Self {
            cluster_id: ids.next(),
            state: Mutex::new(State {
                topics: BTreeMap::new(),
                groups: BTreeMap::new(),
                transactions: 0,
                ids,
                clock_ms: None,
                stats: MemoryStats::default(),
                faults: Faults::default(),
            }),
            changed: Notify::new(),
            racks,
            fetch,
            read_timeout,
        }
    }

    /// The state. A panic in a caller's closure leaves it consistent, because `compact` retains in place.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The broker that leads a partition whenever it has a leader.
    pub(super) fn leader(&self, partition: i32) -> i32 {
        let brokers = i32::try_from(self.racks.len()).unwrap_or(i32::MAX).max(1);
        partition.rem_euclid(brokers) + 1
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) topics: BTreeMap<Arc<str>, Topic>,
    groups: BTreeMap<String, BTreeMap<TopicPartition, i64>>,
    transactions: TransactionId,
    ids: Ids,
    pub(super) clock_ms: Option<i64>,
    pub(super) stats: MemoryStats,
    pub(super) faults: Faults,
}

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) id: String,
    pub(super) options: TopicOptions,
    pub(super) partitions: Vec<PartitionLog>,
}

impl Topic {
    pub(super) fn partition_count(&self) -> i32 {
        // Topics are created with an `i32` number of partitions.
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    fn available(&self) -> String {
        format!("partitions 0..{}", self.partition_count())
    }
}

impl State {
    pub(super) fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        options: TopicOptions,
    ) -> Result<()> {
        check_topic_name(name)?;
        if self.topics.contains_key(name) {
            return Err(Error::invalid(format!(
                "topic '{name}' exists already; delete it or take another name"
            )));
        }
        if partitions < 1 {
            return Err(Error::invalid(format!(
                "topic '{name}' was asked for with {partitions} partitions; it needs 1 or more"
            )));
        }
        let topic = Topic {
            id: self.ids.next(),
            options,
            partitions: (0..partitions).map(|_| PartitionLog::default()).collect(),
        };
        self.topics.insert(Arc::from(name), topic);
        Ok(())
    }

    pub(super) fn delete_topic(&mut self, name: &str) -> Result<Topic> {
        self.topics
            .remove(name)
            .ok_or_else(|| self.unknown_topic(name))
    }

    pub(super) fn add_partitions(&mut self, name: &str, partitions: i32) -> Result<()> {
        let topic = self.topic_mut(name)?;
        let (has, wanted) = (topic.partition_count(), partitions);
        if wanted <= has {
            return Err(Error::invalid(format!(
                "topic '{name}' has {has} partitions, {wanted} were asked for; their number can only grow"
            )));
        }
        let added = (has..wanted).map(|_| PartitionLog::default());
        topic.partitions.extend(added);
        Ok(())
    }

    pub(super) fn append(
        &mut self,
        topic: &str,
        partition: i32,
        records: Vec<Record>,
        transaction: Option<TransactionId>,
    ) -> Result<Range<i64>> {
        let now_ms = self.now_ms();
        let append_time = self.topic(topic)?.options.log_append_time.then_some(now_ms);
        let log = self.log_mut(topic, partition)?;
        let start = log.high_watermark();
        for record in records {
            log.append(record, append_time, transaction);
        }
        Ok(start..log.high_watermark())
    }

    pub(super) fn next_transaction(&mut self) -> TransactionId {
        self.transactions += 1;
        self.transactions
    }

    pub(super) fn commit_group_offset(
        &mut self,
        group: &str,
        partition: TopicPartition,
        offset: i64,
    ) {
        let offsets = self.groups.entry(group.to_owned()).or_default();
        offsets.insert(partition, offset);
    }

    pub(super) fn group_offset(&self, group: &str, partition: &TopicPartition) -> Option<i64> {
        self.groups.get(group)?.get(partition).copied()
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.clock_ms.unwrap_or_else(|| {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
            since_epoch.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
        })
    }

    pub(super) fn topic(&self, name: &str) -> Result<&Topic> {
        self.topics
            .get(name)
            .ok_or_else(|| self.unknown_topic(name))
    }

    fn topic_mut(&mut self, name: &str) -> Result<&mut Topic> {
        if !self.topics.contains_key(name) {
            return Err(self.unknown_topic(name));
        }
        let topic = self.topics.get_mut(name);
        Ok(topic.expect("the key was found two lines above, under the same exclusive borrow"))
    }

    pub(super) fn log(&self, topic: &str, partition: i32) -> Result<&PartitionLog> {
        let found = self.topic(topic)?;
        usize::try_from(partition)
            .ok()
            .and_then(|index| found.partitions.get(index))
            .ok_or_else(|| unknown_partition(topic, partition, found.available()))
    }

    pub(super) fn log_mut(&mut self, topic: &str, partition: i32) -> Result<&mut PartitionLog> {
        let found = self.topic_mut(topic)?;
        let available = found.available();
        usize::try_from(partition)
            .ok()
            .and_then(|index| found.partitions.get_mut(index))
            .ok_or_else(|| unknown_partition(topic, partition, available))
    }

    fn unknown_topic(&self, name: &str) -> Error {
        Error::UnknownTopic {
            topic: name.to_owned(),
            nearest: nearest_names(name, self.topics.keys().map(|t| &**t)),
        }
    }
}

fn unknown_partition(topic: &str, partition: i32, available: String) -> Error {
    Error::UnknownPartition {
        topic: topic.to_owned(),
        partition,
        available,
    }
}

/// Kafka's rule for topic names.
fn check_topic_name(name: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let problem = if name.is_empty() {
        "it is empty"
    } else if name == "." || name == ".." {
        "it is a directory's name"
    } else if name.len() > TOPIC_NAME_MAX_BYTES {
        "it is longer than 249 characters"
    } else if !name.chars().all(legal) {
        "only ASCII letters, digits, '.', '_' and '-' are allowed"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("topic name '{name}': {problem}")))
}

/// Ids as Kafka prints them: 16 bytes in URL-safe base64, never beginning with '-'.
#[derive(Debug)]
struct Ids {
    state: u64,
}

impl Ids {
    fn next(&mut self) -> String {
        loop {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&self.word().to_be_bytes());
            bytes[8..].copy_from_slice(&self.word().to_be_bytes());
            let id = URL_SAFE_NO_PAD.encode(bytes);
            if !id.starts_with('-') {
                return id;
            }
        }
    }

    /// The splitmix64 generator: a full period over its 64 bits, so ids do not repeat.
    fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
