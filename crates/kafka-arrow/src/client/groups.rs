//! Commits offsets to consumer groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::WireClient;
#[cfg(feature = "librdkafka")]
use super::librdkafka::GroupRequests;
use crate::config::ConnectionConfig;
use crate::error::{Error, Result};
use crate::range::TopicPartition;

/// Commits offsets to a consumer group, for tools that show lag. This crate never reads them back.
///
/// Nothing else writes to a group. The group is not joined, and must have no members.
#[derive(Debug, Clone)]
pub struct GroupCommits {
    client: Client,
    group: Arc<str>,
}

#[derive(Debug, Clone)]
enum Client {
    Wire(WireClient),
    #[cfg(feature = "librdkafka")]
    Librdkafka(GroupRequests),
}

impl GroupCommits {
    /// Makes a client, without contacting a broker.
    ///
    /// # Errors
    /// When the group has no name, or no client supports the settings.
    pub fn connect(config: &ConnectionConfig, group: &str) -> Result<Self> {
        if group.is_empty() {
            return Err(Error::invalid(
                "committing offsets needs the name of a group",
            ));
        }
        #[cfg(not(feature = "librdkafka"))]
        let client = Client::Wire(WireClient::connect(config)?);
        #[cfg(feature = "librdkafka")]
        let client = match WireClient::supported(config)? {
            Ok(wire) => Client::Wire(wire),
            Err(_) => Client::Librdkafka(GroupRequests::connect(config)?),
        };
        Ok(Self {
            client,
            group: group.into(),
        })
    }

    /// Commits the next offset of each partition.
    ///
    /// # Errors
    /// When the group's coordinator does not answer or denies access, or the group has members.
    pub async fn commit(&self, next: &BTreeMap<TopicPartition, i64>) -> Result<()> {
        match &self.client {
            Client::Wire(wire) => wire.commit_group_offsets(&self.group, next).await,
            #[cfg(feature = "librdkafka")]
            Client::Librdkafka(requests) => requests.commit(&self.group, next).await,
        }
    }
}

/// Commits the next offset of each partition to a consumer group, just once; see [`GroupCommits`].
///
/// # Errors
/// As [`GroupCommits::connect`] and [`GroupCommits::commit`].
pub async fn commit_group_offsets(
    config: &ConnectionConfig,
    group: &str,
    next: &BTreeMap<TopicPartition, i64>,
) -> Result<()> {
    GroupCommits::connect(config, group)?.commit(next).await
}
