//! Transactions over any number of partitions.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::record::{Record, TransactionId};
use super::state::Shared;
use crate::error::Result;
use crate::range::TopicPartition;

/// An open transaction, made by [`MemoryCluster::begin`](super::MemoryCluster::begin).
///
/// From its first record in a partition until it ends, it holds back the partition's last stable offset. When
/// it ends, each of its partitions gets a control record, which takes up one offset. If it is dropped it
/// stays open, as after a producer's crash.
#[derive(Debug)]
#[must_use = "a transaction that is dropped stays open"]
pub struct Transaction {
    shared: Arc<Shared>,
    id: TransactionId,
    partitions: BTreeSet<TopicPartition>,
}

impl Transaction {
    pub(super) fn new(shared: Arc<Shared>, id: TransactionId) -> Self {
        Self {
            shared,
            id,
            partitions: BTreeSet::new(),
        }
    }

    /// Appends a record as part of the transaction, and returns its offset.
    ///
    /// # Errors
    /// When the topic or the partition does not exist.
    pub fn append(&mut self, topic: &str, partition: i32, record: Record) -> Result<i64> {
        let mut state = self.shared.lock();
        let offsets = state.append(topic, partition, vec![record], Some(self.id))?;
        self.partitions
            .insert(TopicPartition::new(topic, partition));
        Ok(offsets.start)
    }

    /// Makes the records visible to readers of committed data.
    ///
    /// # Errors
    /// When a topic was deleted in the meantime. In all other topics the transaction has ended.
    pub fn commit(self) -> Result<()> {
        self.end(true)
    }

    /// Hides the records from readers of committed data.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn abort(self) -> Result<()> {
        self.end(false)
    }

    fn end(self, committed: bool) -> Result<()> {
        let mut state = self.shared.lock();
        let now_ms = state.now_ms();
        let mut result = Ok(());
        for TopicPartition { topic, partition } in &self.partitions {
            match state.log_mut(topic, *partition) {
                Ok(log) => log.end_transaction(self.id, committed, now_ms),
                Err(error) => result = Err(error),
            }
        }
        result
    }
}
