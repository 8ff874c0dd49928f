//! Faults that a test makes a cluster have.

use std::collections::{BTreeMap, BTreeSet};

use super::MemoryCluster;
use crate::error::{Error, Result};
use crate::range::TopicPartition;

/// A kind of call that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Call {
    /// [`KafkaClient::describe`](crate::client::KafkaClient::describe).
    Describe,
    /// [`KafkaClient::list_offsets`](crate::client::KafkaClient::list_offsets).
    ListOffsets,
    /// [`KafkaClient::epoch_ends`](crate::client::KafkaClient::epoch_ends).
    EpochEnds,
    /// [`KafkaClient::group_offsets`](crate::client::KafkaClient::group_offsets).
    GroupOffsets,
    /// [`KafkaClient::topic_settings`](crate::client::KafkaClient::topic_settings).
    TopicSettings,
    /// One fetch of a stream of [`KafkaClient::read`](crate::client::KafkaClient::read).
    Fetch,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    /// For each kind of call, how many calls succeed before each error.
    pending: BTreeMap<Call, Vec<(usize, Error)>>,
    stalled: BTreeSet<TopicPartition>,
    leaderless: BTreeSet<TopicPartition>,
    /// Whether the brokers are too old to know leader epochs.
    pub(super) without_epochs: bool,
    /// Whether the brokers are too old to provide topic ids.
    pub(super) without_ids: bool,
    /// The epoch and end that replaced leaders report while they do not know that they were replaced.
    pub(super) stale: BTreeMap<TopicPartition, (i32, i64)>,
}

impl Faults {
    /// Counts a call, and fails it if its turn has come.
    pub(super) fn check(&mut self, call: Call) -> Result<()> {
        let Some(pending) = self.pending.get_mut(&call) else {
            return Ok(());
        };
        if let Some(due) = pending.iter().position(|(passes, _)| *passes == 0) {
            return Err(pending.remove(due).1);
        }
        for (passes, _) in pending {
            *passes -= 1;
        }
        Ok(())
    }

    pub(super) fn is_leaderless(&self, partition: &TopicPartition) -> bool {
        self.leaderless.contains(partition)
    }

    /// Why a fetch gets no answer, if it gets none.
    pub(super) fn silence(&self, partition: &TopicPartition) -> Option<&'static str> {
        if self.is_leaderless(partition) {
            Some("the partition has no leader")
        } else if self.stalled.contains(partition) {
            Some("the broker does not answer")
        } else {
            None
        }
    }
}

impl MemoryCluster {
    /// Makes the next call of a kind fail. Several errors occur one after another.
    pub fn fail_next(&self, call: Call, error: Error) {
        self.fail_after(call, 0, error);
    }

    /// Makes a call of a kind fail after `passes` others have succeeded.
    pub fn fail_after(&self, call: Call, passes: usize, error: Error) {
        let mut state = self.shared.lock();
        let pending = state.faults.pending.entry(call).or_default();
        pending.push((passes, error));
    }

    /// Leaves fetches from this partition without an answer until [`resume`](Self::resume). Readers wait, and
    /// fail with [`Error::Stalled`] after the cluster's `read_timeout`.
    pub fn stall(&self, topic: &str, partition: i32) {
        let mut state = self.shared.lock();
        let partition = TopicPartition::new(topic, partition);
        state.faults.stalled.insert(partition);
    }

    /// Ends a [`stall`](Self::stall). Waiting readers continue.
    pub fn resume(&self, topic: &str, partition: i32) {
        let partition = TopicPartition::new(topic, partition);
        self.shared.lock().faults.stalled.remove(&partition);
        self.shared.changed.notify_waiters();
    }

    /// Removes the partition's leader, or elects one in a new leader epoch.
    ///
    /// Without a leader, listing offsets fails, and readers wait as for a stalled partition.
    ///
    /// # Errors
    /// When the topic or the partition does not exist.
    pub fn set_leaderless(&self, topic: &str, partition: i32, leaderless: bool) -> Result<()> {
        let mut state = self.shared.lock();
        state.log_mut(topic, partition)?;
        let key = TopicPartition::new(topic, partition);
        if leaderless {
            state.faults.leaderless.insert(key);
        } else if state.faults.leaderless.remove(&key) {
            state.log_mut(topic, partition)?.bump_leader_epoch();
        }
        drop(state);
        self.shared.changed.notify_waiters();
        Ok(())
    }

    /// Makes the brokers so old that they report no leader epochs, or makes them new again.
    pub fn set_without_epochs(&self, without: bool) {
        self.shared.lock().faults.without_epochs = without;
    }

    /// Makes the brokers so old that they provide no topic ids, or makes them new again.
    pub fn set_without_ids(&self, without: bool) {
        self.shared.lock().faults.without_ids = without;
    }

    /// Lets a replaced leader answer requests for the partition's end, with its old epoch and the end of its
    /// log. `None` makes it notice the replacement.
    pub fn set_stale_leader(&self, topic: &str, partition: i32, told: Option<(i32, i64)>) {
        let mut state = self.shared.lock();
        let partition = TopicPartition::new(topic, partition);
        match told {
            Some(told) => state.faults.stale.insert(partition, told),
            None => state.faults.stale.remove(&partition),
        };
    }

    /// Elects a leader in a new leader epoch whose log ends at `end`. Everything after `end` is lost, as
    /// after an unclean election. Readers beyond it have read records that no longer exist in any log.
    ///
    /// # Errors
    /// When the topic or the partition does not exist.
    pub fn elect_at(&self, topic: &str, partition: i32, end: i64) -> Result<()> {
        self.shared.lock().log_mut(topic, partition)?.cut(end);
        Ok(())
    }
}
