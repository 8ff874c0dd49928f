//! Counts what reading costs, so that tests can prove pruning.

use std::collections::BTreeMap;

use crate::range::TopicPartition;

/// What the clients of a [`MemoryCluster`](super::MemoryCluster) have requested since it was made or
/// [`reset_stats`](super::MemoryCluster::reset_stats) was called.
///
/// Rows cannot tell "pruned" from "read and filtered"; these counters can.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Calls of `describe`.
    pub describes: u64,
    /// Calls of `list_offsets`, regardless of their number of queries.
    pub list_offsets: u64,
    /// Queries in these calls.
    pub offset_queries: u64,
    /// Calls of `epoch_ends`.
    pub epoch_ends: u64,
    /// Calls of `group_offsets`.
    pub group_offsets: u64,
    /// Calls of `topic_settings`.
    pub topic_settings: u64,
    /// Fetches from all partitions.
    pub fetches: u64,
    /// Records fetched, including those of aborted transactions, which the reader drops. Control records are
    /// not counted.
    pub records: u64,
    /// Bytes of keys, values and headers of these records, whether or not their columns were built.
    pub bytes: u64,
    /// The same for each partition that was fetched from.
    pub partitions: BTreeMap<TopicPartition, PartitionStats>,
}

/// What was fetched from one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionStats {
    /// Fetches.
    pub fetches: u64,
    /// Records, counted as in [`MemoryStats::records`].
    pub records: u64,
    /// Bytes, counted as in [`MemoryStats::bytes`].
    pub bytes: u64,
}

impl MemoryStats {
    /// What was fetched from a partition; all zeros if nothing was.
    pub fn partition(&self, topic: &str, partition: i32) -> PartitionStats {
        let partition = TopicPartition::new(topic, partition);
        self.partitions.get(&partition).copied().unwrap_or_default()
    }

    pub(super) fn count_fetch(&mut self, partition: &TopicPartition, records: u64, bytes: u64) {
        self.fetches += 1;
        self.records += records;
        self.bytes += bytes;
        let of_partition = self.partitions.entry(partition.clone()).or_default();
        of_partition.fetches += 1;
        of_partition.records += records;
        of_partition.bytes += bytes;
    }
}
