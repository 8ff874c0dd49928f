//! [`KafkaClient`] over Kafka's own network protocol, made for reading: Fetch answers go straight into Arrow.
//!
//! ```text
//! WireClient ─┬─ ask/         topics, offsets, groups, settings
//!             ├─ read/        streams: what to ask for, what to do about refusals
//!             │    └─ decode/ bytes to columns, without a socket
//!             ├─ cluster      brokers, leaders, leased connections
//!             └─ connection ─ security/
//! ```
//!
//! It works with brokers from Kafka 1.0 on, which store message format v2, and uses the highest versions that
//! both sides know. From Kafka 3.1 on (Fetch version 13) it reads topics by their ids, so the leader itself
//! refuses a topic that was deleted and created again.

mod ask;
mod chunks;
mod cluster;
mod code;
mod connection;
mod decode;
mod dial;
pub(super) mod probe;
mod read;
pub(super) mod security;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;

use self::chunks::CHUNK_BYTES;
use self::cluster::Cluster;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::decode::laws;
use self::security::Security;
#[cfg(feature = "librdkafka")]
pub(crate) use self::security::Tokens;
#[cfg(feature = "librdkafka")]
pub(in crate::client) use self::security::endpoint_tokens;
pub use self::security::{Token, TokenError, TokenProvider};
use self::settings::Settings;
use super::{
    ClusterDescription, EpochEnd, EpochQuery, KafkaClient, MemoryBudget, OffsetAnswer, OffsetQuery,
    RawBatch, ReadRequest, TopicSelection, TopicSettings, Unlimited,
};
use crate::config::ConnectionConfig;
use crate::error::{Error, Result};
use crate::range::{IsolationLevel, TopicPartition};

/// Chunks that a stream holds in addition to the yielded batch: the one being filled, the one that the next
/// batch shows, and one that continues a split record batch.
const CHUNKS_HELD: usize = 3;

/// A client of a cluster over Kafka's wire protocol. It is cheap to clone, and clones share connections.
///
/// - Each stream of [`read`](KafkaClient::read) keeps a connection, up to `client.sessions.max` per broker.
///   Further streams take turns.
/// - Columns are views into the memory in which answers are received. It is reused when no batch points into
///   it any more.
/// - Checksums of record batches are verified (`check.crcs`), unless only the batches' heads are needed.
/// - Streams must be polled inside a tokio runtime with timers and I/O. They block no thread.
#[derive(Debug, Clone)]
pub struct WireClient {
    cluster: Arc<Cluster>,
}

impl WireClient {
    /// Makes a client, without contacting a broker.
    ///
    /// # Errors
    /// When `bootstrap.servers` is missing, a file named in the settings cannot be read, or this client does
    /// not support a setting. [`LibrdkafkaClient`](super::librdkafka::LibrdkafkaClient) may support it.
    pub fn connect(config: &ConnectionConfig) -> Result<Self> {
        Self::supported(config)?.map_err(unsupported)
    }

    /// Makes a client that logs in with tokens that the program provides (SASL OAUTHBEARER).
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use kafka_arrow::client::{ClientPool, KafkaClient, TokenProvider, WireClient};
    /// # fn pool(tokens: Arc<dyn TokenProvider>) -> ClientPool {
    /// // For sessions (`KafkaSessionBuilder::pool`) and tables:
    /// ClientPool::with_factory(move |config| {
    ///     let client = WireClient::connect_with_tokens(config, Arc::clone(&tokens))?;
    ///     Ok(Arc::new(client) as Arc<dyn KafkaClient>)
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`connect`](Self::connect), and when `sasl.mechanism` is not `OAUTHBEARER`.
    pub fn connect_with_tokens(
        config: &ConnectionConfig,
        tokens: Arc<dyn TokenProvider>,
    ) -> Result<Self> {
        Self::made(config, Some(tokens))?.map_err(unsupported)
    }

    /// A client, or the inner error: why these settings need the other client.
    ///
    /// # Errors
    /// When the settings are wrong for any client.
    pub(crate) fn supported(
        config: &ConnectionConfig,
    ) -> Result<std::result::Result<Self, String>> {
        Self::made(config, None)
    }

    /// Commits offsets to a group without members; no part of [`KafkaClient`], which changes nothing.
    pub(in crate::client) async fn commit_group_offsets(
        &self,
        group: &str,
        next: &BTreeMap<TopicPartition, i64>,
    ) -> Result<()> {
        self.cluster.commit_group_offsets(group, next).await
    }

    fn made(
        config: &ConnectionConfig,
        tokens: Option<Arc<dyn TokenProvider>>,
    ) -> Result<std::result::Result<Self, String>> {
        let properties = config.client_properties()?;
        let settings = Settings::new(config, &properties)?;
        let hosts = config.bootstrap_servers().to_owned();
        Ok(
            Security::new(&properties, tokens, config.request_timeout())?.map(|security| Self {
                cluster: Arc::new(Cluster::new(settings, security, hosts)),
            }),
        )
    }
}

/// What to try where librdkafka may do what this client cannot.
const LIBRDKAFKA: &str = if cfg!(feature = "librdkafka") {
    "'kafka.client' = 'librdkafka'"
} else {
    "a build with the feature 'librdkafka'"
};

fn unsupported(reason: String) -> Error {
    let advice = if cfg!(feature = "librdkafka") {
        "leave it out, or write 'librdkafka'"
    } else {
        "a build with the feature 'librdkafka' does"
    };
    let reason = format!("'wire' does not support {reason}; {advice}");
    Error::config("kafka.client", reason)
}

#[async_trait]
impl KafkaClient for WireClient {
    async fn describe(&self, topics: TopicSelection<'_>) -> Result<ClusterDescription> {
        self.cluster.describe(topics).await?.checked()
    }

    async fn list_offsets(
        &self,
        queries: &[OffsetQuery],
        isolation: IsolationLevel,
    ) -> Result<Vec<OffsetAnswer>> {
        let timeout = self.cluster.settings.request_timeout;
        self.cluster.list_offsets(queries, isolation, timeout).await
    }

    async fn epoch_ends(&self, queries: &[EpochQuery]) -> Result<Vec<Option<EpochEnd>>> {
        self.cluster.epoch_ends(queries).await
    }

    async fn newest_epochs(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<i32>>> {
        self.cluster.newest_epochs(partitions).await
    }

    async fn group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        self.cluster.group_offsets(group, partitions).await
    }

    async fn topic_settings(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicSettings>>> {
        self.cluster.topic_settings(topics).await
    }

    fn read(&self, request: ReadRequest) -> BoxStream<'static, Result<RawBatch>> {
        self.read_within(request, Arc::new(Unlimited))
    }

    fn read_within(
        &self,
        request: ReadRequest,
        memory: Arc<dyn MemoryBudget>,
    ) -> BoxStream<'static, Result<RawBatch>> {
        read::stream(Arc::clone(&self.cluster), request, memory)
    }

    fn name(&self) -> &'static str {
        "wire"
    }

    fn read_buffer_bytes(&self, _request: &ReadRequest) -> usize {
        CHUNKS_HELD * CHUNK_BYTES
    }
}
