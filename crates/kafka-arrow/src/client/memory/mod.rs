//! A Kafka cluster in memory, to test code that reads Kafka without running a broker.
//!
//! A [`MemoryCluster`] holds topics whose logs have everything that makes offsets difficult: holes left by
//! compaction, control records, aborted and open transactions, a log start that moves, topics that are
//! deleted and created again. Its [`client`](MemoryCluster::client) keeps every guarantee of
//! [`KafkaClient`](super::KafkaClient) and passes the same test suite as the clients for real brokers. So
//! code that works with it has met those cases.
//!
//! It is not a broker: it has no network, no producer protocol and no consumer groups, and it keeps nothing
//! when the process ends. It counts what reading costs ([`MemoryCluster::stats`]), and fails on request
//! ([`MemoryCluster::fail_next`], [`stall`](MemoryCluster::stall),
//! [`set_leaderless`](MemoryCluster::set_leaderless)).
//!
//! ```
//! use kafka_arrow::client::memory::{MemoryCluster, Record};
//! use kafka_arrow::client::{KafkaClient, OffsetAt, OffsetQuery};
//! use kafka_arrow::range::{IsolationLevel, TopicPartition};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> kafka_arrow::Result<()> {
//! let cluster = MemoryCluster::new();
//! cluster.create_topic("orders", 1)?;
//! cluster.append("orders", 0, Record::new("plain"))?;
//!
//! let mut transaction = cluster.begin();
//! transaction.append("orders", 0, Record::new("not yet committed"))?;
//!
//! let latest = OffsetQuery {
//!     partition: TopicPartition::new("orders", 0),
//!     at: OffsetAt::Latest,
//! };
//! let client = cluster.client();
//! let ends = client.list_offsets(&[latest.clone()], IsolationLevel::ReadCommitted).await?;
//! assert_eq!(ends[0].offset, Some(1));
//!
//! // The commit takes up an offset too: 0 and 1 are records, 2 is the control record.
//! transaction.commit()?;
//! let ends = client.list_offsets(&[latest], IsolationLevel::ReadCommitted).await?;
//! assert_eq!(ends[0].offset, Some(3));
//! # Ok(())
//! # }
//! ```

mod client;
mod faults;
mod log;
mod options;
mod read;
mod record;
mod state;
mod stats;
#[cfg(test)]
mod tests;
mod transaction;

use std::ops::Range;
use std::sync::Arc;

pub use client::MemoryClient;
pub use faults::Call;
pub use options::{MemoryClusterBuilder, TopicOptions};
pub use record::Record;
pub use stats::{MemoryStats, PartitionStats};
pub use transaction::Transaction;

use crate::error::{Error, Result};
use crate::range::{IsolationLevel, TopicPartition};
use state::Shared;

/// A Kafka cluster in memory; see the [module's documentation](self).
///
/// A clone refers to the same cluster. All methods may be called from any thread while readers are reading.
/// Each is atomic: a reader sees all records of an [`append_all`](Self::append_all) or none.
#[derive(Debug, Clone)]
pub struct MemoryCluster {
    shared: Arc<Shared>,
}

impl Default for MemoryCluster {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryCluster {
    /// A cluster with one broker and no topics.
    pub fn new() -> Self {
        MemoryClusterBuilder::default().build()
    }

    /// Builds a cluster with other settings than [`new`](Self::new).
    pub fn builder() -> MemoryClusterBuilder {
        MemoryClusterBuilder::default()
    }

    /// A client of this cluster. All clients share its counters and faults.
    pub fn client(&self) -> MemoryClient {
        MemoryClient::new(Arc::clone(&self.shared))
    }

    /// Creates a topic with the default [`TopicOptions`].
    ///
    /// # Errors
    /// When the topic exists, Kafka would refuse its name, or `partitions` is not positive.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.create_topic_with(name, partitions, TopicOptions::default())
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// As [`create_topic`](Self::create_topic).
    pub fn create_topic_with(
        &self,
        name: &str,
        partitions: i32,
        options: TopicOptions,
    ) -> Result<()> {
        self.shared.lock().create_topic(name, partitions, options)
    }

    /// Deletes a topic and its records.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`] when it does not exist.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.shared.lock().delete_topic(name).map(drop)
    }

    /// Deletes a topic and creates it again, empty. Name and options stay the same, the topic id changes.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`] when it does not exist.
    pub fn recreate_topic(&self, name: &str) -> Result<()> {
        let mut state = self.shared.lock();
        let old = state.delete_topic(name)?;
        state.create_topic(name, old.partition_count(), old.options)
    }

    /// Adds partitions, so that the topic has `partitions` in total.
    ///
    /// # Errors
    /// When the topic does not exist, or already has that many partitions.
    pub fn add_partitions(&self, name: &str, partitions: i32) -> Result<()> {
        self.shared.lock().add_partitions(name, partitions)
    }

    /// Appends a record and returns its offset.
    ///
    /// # Errors
    /// When the topic or the partition does not exist.
    pub fn append(&self, topic: &str, partition: i32, record: Record) -> Result<i64> {
        let offsets = self.append_all(topic, partition, [record])?;
        Ok(offsets.start)
    }

    /// Appends records and returns their offsets, which are consecutive.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_all(
        &self,
        topic: &str,
        partition: i32,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Range<i64>> {
        // The iterator runs the caller's code, so it must finish before the lock is taken.
        let records: Vec<Record> = records.into_iter().collect();
        self.shared.lock().append(topic, partition, records, None)
    }

    /// Begins a transaction. Partitions join it with their first record.
    pub fn begin(&self) -> Transaction {
        let id = self.shared.lock().next_transaction();
        Transaction::new(Arc::clone(&self.shared), id)
    }

    /// Removes the records for which `keep` is false, and returns their number.
    ///
    /// This leaves holes, as Kafka's compaction does: neither the log start nor the log end moves, and
    /// control records stay. `keep` gets the offset of each record and must not call this cluster.
    ///
    /// # Errors
    /// When the topic or the partition does not exist.
    pub fn compact(
        &self,
        topic: &str,
        partition: i32,
        keep: impl FnMut(i64, &Record) -> bool,
    ) -> Result<usize> {
        let mut state = self.shared.lock();
        Ok(state.log_mut(topic, partition)?.compact(keep))
    }

    /// Keeps the last record of each key, as Kafka's log cleaner does, and returns the number of removed
    /// records. Records without a key, tombstones, and everything at or after the last stable offset stay.
    ///
    /// # Errors
    /// When the topic or the partition does not exist.
    pub fn compact_by_key(&self, topic: &str, partition: i32) -> Result<usize> {
        let mut state = self.shared.lock();
        Ok(state.log_mut(topic, partition)?.compact_by_key())
    }

    /// Turns an offset into a hole, whether it has a record or a control record. Returns false if it already
    /// is one.
    ///
    /// # Errors
    /// When the topic or the partition does not exist.
    pub fn remove(&self, topic: &str, partition: i32, offset: i64) -> Result<bool> {
        let mut state = self.shared.lock();
        Ok(state.log_mut(topic, partition)?.remove(offset))
    }

    /// Moves the log start up to `offset`, as Kafka's DeleteRecords and retention do. A log that already
    /// starts there or later does not change.
    ///
    /// # Errors
    /// [`Error::PastLogEnd`] when `offset` lies beyond the high watermark; also when the topic or the
    /// partition does not exist.
    pub fn truncate_before(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let mut state = self.shared.lock();
        let log = state.log_mut(topic, partition)?;
        if offset > log.high_watermark() {
            return Err(Error::PastLogEnd {
                topic: topic.to_owned(),
                partition,
                asked: offset,
                available: log.high_watermark(),
                isolation: IsolationLevel::ReadUncommitted.as_str(),
            });
        }
        log.truncate_before(offset);
        Ok(())
    }

    /// Commits an offset for a consumer group.
    ///
    /// # Errors
    /// When the topic or the partition does not exist.
    pub fn commit_group_offset(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<()> {
        let mut state = self.shared.lock();
        state.log_mut(topic, partition)?;
        state.commit_group_offset(group, TopicPartition::new(topic, partition), offset);
        Ok(())
    }

    /// Stops the cluster's clock at a time, in ms since the epoch; `None` uses the system's clock.
    ///
    /// The clock stamps records of topics with `LogAppendTime`, and control records.
    pub fn set_clock_ms(&self, now_ms: Option<i64>) {
        self.shared.lock().clock_ms = now_ms;
    }

    /// What reading has cost so far, for all clients together.
    pub fn stats(&self) -> MemoryStats {
        self.shared.lock().stats.clone()
    }

    /// Sets all counters to zero.
    pub fn reset_stats(&self) {
        self.shared.lock().stats = MemoryStats::default();
    }
}
