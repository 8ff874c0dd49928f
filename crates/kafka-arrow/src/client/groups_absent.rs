//! Replaces librdkafka's [`GroupCommits`] in builds without librdkafka.

use std::collections::BTreeMap;

use crate::config::ConnectionConfig;
use crate::error::{Error, Result};
use crate::range::TopicPartition;

/// Commits offsets to a consumer group, which no client in this build can do.
#[derive(Debug, Clone)]
pub enum GroupCommits {}

impl GroupCommits {
    /// # Errors
    /// Always.
    pub fn connect(_config: &ConnectionConfig, _group: &str) -> Result<Self> {
        Err(Error::invalid(
            "offsets are committed to a group by librdkafka, which this build does not have (feature \
             'librdkafka')",
        ))
    }

    /// # Errors
    /// Never: there is nothing to call it with.
    pub async fn commit(&self, _next: &BTreeMap<TopicPartition, i64>) -> Result<()> {
        match *self {}
    }
}
