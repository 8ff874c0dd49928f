//! [`KafkaClient`] over librdkafka, the C library behind many Kafka clients.
//!
//! One handle asks about topics and offsets (`meta`). A bounded pool of further handles, the sessions, reads
//! (`session`, `read`). No handle has a `group.id`. So no coordinator is looked up, no rights on a group are
//! needed, and nothing is written to the cluster.

mod columns;
// Code that writes is only for Kafka as a sink.
#[allow(missing_docs)]
mod ffi;
mod meta;
mod produce;
mod read;
mod session;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::{
    ClusterDescription, EpochEnd, EpochQuery, KafkaClient, OffsetAnswer, OffsetQuery, RawBatch,
    ReadRequest, TopicSelection, TopicSettings, WireClient,
};
use crate::config::ConnectionConfig;
use crate::error::{Error, Result};
use crate::range::{IsolationLevel, TopicPartition};

use super::wire::{Tokens, endpoint_tokens};
use ffi::{Conf, OAuth, SettingError};
pub(in crate::client) use produce::GroupRequests;

/// Code that writes to a cluster. It is not part of [`KafkaClient`], which changes nothing.
#[doc(hidden)]
pub mod writing {
    pub use super::ffi::{
        Headers, Outgoing, Producer, Topic, TransactionError, Undelivered, code, error_text,
    };
    pub use super::produce::{Writing, create_topic, producer};
}

/// A client of a cluster over librdkafka. It is cheap to clone, and clones share connections.
///
/// - Streams of [`read`](KafkaClient::read) take turns on `client.sessions.max` sessions. A stream that is
///   not polled gives up its session to one that waits, and later continues where it was.
/// - A session is closed after a minute without a reader.
/// - [`read_buffer_bytes`](KafkaClient::read_buffer_bytes) holds for uncompressed records. Batches that
///   compress to a small part of their size take more, because librdkafka unpacks a Fetch as a whole. Set
///   `read.buffer.bytes` lower for such topics.
/// - librdkafka reports nothing about what lies between records, so offsets without one are
///   [`untold`](super::PassedOffsets::untold).
/// - A [`WireClient`] with the same settings asks for the ends of leader epochs, for which librdkafka has no call, and
///   for the offsets of groups, because librdkafka 2.12 may crash where their coordinator dies or moves. Where the
///   wire client does not support the settings, epochs are unknown, and librdkafka asks for the offsets of groups.
/// - Streams must be polled inside a tokio runtime with timers. They block no thread.
#[derive(Debug, Clone)]
pub struct LibrdkafkaClient {
    meta: Arc<meta::Meta>,
    sessions: Arc<session::SessionPool>,
    read_timeout: Duration,
    config: Arc<ConnectionConfig>,
    /// The client that asks what librdkafka cannot, made on first use; `None` where the settings rule it out.
    wire: Arc<OnceLock<Option<WireClient>>>,
}

impl LibrdkafkaClient {
    /// Makes a client, without contacting a broker.
    ///
    /// # Errors
    /// When `bootstrap.servers` is missing, or librdkafka rejects the settings as a whole, for example
    /// because a certificate cannot be read.
    pub fn connect(config: &ConnectionConfig) -> Result<Self> {
        Self::connect_keeping(config, session::FREE_KEEPS)
    }

    /// Connects. Sessions that stay free for this long are closed.
    fn connect_keeping(config: &ConnectionConfig, free: Duration) -> Result<Self> {
        if config.bootstrap_servers().trim().is_empty() {
            return Err(Error::config(
                "bootstrap.servers",
                "is not set; name at least one broker as host:port",
            ));
        }
        let given = Given::new(config, config.client_properties()?)?;
        let meta = Arc::new(meta::Meta::new(config, &given)?);
        let sessions = Arc::new(session::SessionPool::new(config, given, free));
        Ok(Self {
            meta,
            sessions,
            read_timeout: config.read_timeout(),
            config: Arc::new(config.clone()),
            wire: Arc::default(),
        })
    }

    fn wire(&self) -> Option<&WireClient> {
        let connect = || {
            let wire = WireClient::supported(&self.config).map_err(|error| error.to_string());
            wire.flatten()
                .inspect_err(|reason| log::info!("leader epochs cannot be asked for: {reason}"))
                .ok()
        };
        self.wire.get_or_init(connect).as_ref()
    }
}

#[async_trait]
impl KafkaClient for LibrdkafkaClient {
    async fn describe(&self, topics: TopicSelection<'_>) -> Result<ClusterDescription> {
        self.meta.describe(topics).await?.checked()
    }

    async fn list_offsets(
        &self,
        queries: &[OffsetQuery],
        isolation: IsolationLevel,
    ) -> Result<Vec<OffsetAnswer>> {
        self.meta
            .list_offsets(queries, isolation, self.meta.timeout())
            .await
    }

    async fn epoch_ends(&self, queries: &[EpochQuery]) -> Result<Vec<Option<EpochEnd>>> {
        match self.wire() {
            Some(wire) => wire.epoch_ends(queries).await,
            None => Ok(vec![None; queries.len()]),
        }
    }

    async fn newest_epochs(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<i32>>> {
        match self.wire() {
            Some(wire) => wire.newest_epochs(partitions).await,
            None => Ok(vec![None; partitions.len()]),
        }
    }

    async fn group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        match self.wire() {
            Some(wire) => wire.group_offsets(group, partitions).await,
            None => self.meta.group_offsets(group, partitions).await,
        }
    }

    async fn topic_settings(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicSettings>>> {
        self.meta.topic_settings(topics).await
    }

    fn read(&self, request: ReadRequest) -> BoxStream<'static, Result<RawBatch>> {
        read::stream(
            Arc::clone(&self.meta),
            Arc::clone(&self.sessions),
            self.read_timeout,
            request,
        )
    }

    fn read_buffer_bytes(&self, request: &ReadRequest) -> usize {
        self.sessions.buffer_bytes(session::Profile::of(request))
    }

    fn name(&self) -> &'static str {
        "librdkafka"
    }
}

/// Settings for every handle, unless the user chose otherwise.
fn common(conf: &mut BTreeMap<String, String>) {
    for (key, value) in [
        (
            "client.id",
            concat!("datafusion-kafka/", env!("CARGO_PKG_VERSION")),
        ),
        ("enable.metrics.push", "false"),
        ("log.connection.close", "false"),
        // Reconnects quickly to a broker that restarts.
        ("reconnect.backoff.ms", "50"),
        ("reconnect.backoff.max.ms", "1000"),
        ("socket.nagle.disable", "true"),
        // A name's next address is tried while there is time to ask.
        ("socket.connection.setup.timeout.ms", "5000"),
    ] {
        conf.insert(key.into(), value.into());
    }
}

/// What the user set.
#[derive(Debug)]
struct Given {
    properties: BTreeMap<String, String>,
    /// Tokens from a token endpoint. librdkafka would need libcurl to ask for them itself.
    tokens: Option<Arc<Tokens>>,
}

impl Given {
    fn new(config: &ConnectionConfig, properties: BTreeMap<String, String>) -> Result<Self> {
        let tokens = endpoint_tokens(&properties, config.request_timeout())?;
        Ok(Self { properties, tokens })
    }

    fn oauth(&self) -> Option<OAuth> {
        let mechanism = self.properties.get("sasl.mechanism");
        let wanted = mechanism.is_some_and(|m| m.eq_ignore_ascii_case("OAUTHBEARER"));
        wanted.then(|| match &self.tokens {
            Some(tokens) => OAuth::Ours(Arc::clone(tokens)),
            None => OAuth::OfLibrdkafka,
        })
    }

    /// Whether librdkafka must not see a setting, because we do what it says.
    fn is_ours(&self, key: &str) -> bool {
        self.tokens.is_some()
            && (key.starts_with("sasl.oauthbearer.") || key.starts_with("https.ca."))
    }
}

/// Makes a handle. The user's settings override `conf`, and `forced` settings override the user's.
fn handle(
    kind: ffi::Kind,
    mut conf: BTreeMap<String, String>,
    given: &Given,
    forced: &[(&str, &str)],
) -> Result<Arc<ffi::Handle>> {
    let user = &given.properties;
    let shown = user.iter().filter(|(key, _)| !given.is_ours(key));
    conf.extend(shown.map(|(k, v)| (k.clone(), v.clone())));
    conf.extend(forced.iter().map(|(k, v)| ((*k).into(), (*v).into())));
    let mut raw = Conf::new();
    for (key, value) in &conf {
        // librdkafka's own message does not name the file.
        if key.starts_with("ssl.")
            && key.ends_with(".location")
            && value != "probe"
            && let Err(e) = std::fs::metadata(value)
        {
            return Err(Error::config(key, format!("cannot read '{value}': {e}")));
        }
        raw.set(key, value).map_err(|e| match e {
            SettingError::Unknown => Error::config(key, "librdkafka does not know the setting"),
            SettingError::Invalid(reason) => Error::config(
                key,
                format!("librdkafka refuses it: {}", redact(reason, user)),
            ),
        })?;
    }
    ffi::Handle::new(raw, kind, given.oauth()).map_err(|reason| Error::Kafka {
        operation: "making a client of the settings".into(),
        reason: redact(reason, user),
    })
}

/// Removes secrets: librdkafka's reasons may quote a value.
fn redact(mut reason: String, user: &BTreeMap<String, String>) -> String {
    for (key, value) in user {
        if crate::config::is_secret(key) && value.len() > 2 {
            reason = reason.replace(value.as_str(), "[redacted]");
        }
    }
    reason
}
