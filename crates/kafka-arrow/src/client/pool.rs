//! Clients for reuse, one for each configuration.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

#[cfg(feature = "librdkafka")]
use super::librdkafka::LibrdkafkaClient;
use super::masked::MaskedClient;
use super::{KafkaClient, WireClient};
use crate::config::{ClientChoice, ConnectionConfig};
#[cfg(not(feature = "librdkafka"))]
use crate::error::Error;
use crate::error::Result;

/// How long an unused client keeps its connections.
const IDLE_KEEPS: Duration = Duration::from_secs(300);
/// How often to look for idle clients.
const SWEEP: Duration = Duration::from_secs(30);

/// Clients by configuration, kept for reuse.
///
/// - Equal configurations get the same client; clones share the pool.
/// - A client that has been unused for five minutes is closed.
/// - Clients of settings with `mask` yield [masked](crate::mask) records.
#[derive(Clone, Default)]
pub struct ClientPool {
    clients: Arc<Mutex<Clients>>,
    /// Makes clients. By default, the setting `kafka.client` decides.
    connect: Option<Arc<Connect>>,
}

/// Makes the client of a configuration.
type Connect = dyn Fn(&ConnectionConfig) -> Result<Arc<dyn KafkaClient>> + Send + Sync;

#[derive(Default)]
struct Clients {
    by_config: HashMap<ConnectionConfig, Pooled>,
    /// Whether a task looks for idle clients.
    swept: bool,
}

struct Pooled {
    client: Arc<dyn KafkaClient>,
    used: Instant,
}

impl ClientPool {
    /// The target of log lines that users should see: which client reads, when it is not the usual one.
    pub const NOTICES: &str = "datafusion_kafka::notice";

    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty pool that makes its clients with `connect`: for clusters in this process, and for clients
    /// that wrap others.
    pub fn with_factory(
        connect: impl Fn(&ConnectionConfig) -> Result<Arc<dyn KafkaClient>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            clients: Arc::default(),
            connect: Some(Arc::new(connect)),
        }
    }

    /// An empty pool that makes its clients in the same way.
    pub fn empty(&self) -> Self {
        Self {
            clients: Arc::default(),
            connect: self.connect.clone(),
        }
    }

    /// The pool of the process.
    pub fn global() -> Self {
        static GLOBAL: OnceLock<ClientPool> = OnceLock::new();
        GLOBAL.get_or_init(Self::new).clone()
    }

    /// The client for a configuration, made on first use.
    ///
    /// # Errors
    /// When a mask cannot be read, and as [`WireClient::connect`] and [`LibrdkafkaClient::connect`](super::librdkafka::LibrdkafkaClient::connect); no broker is asked for anything.
    pub fn client(&self, config: &ConnectionConfig) -> Result<Arc<dyn KafkaClient>> {
        let mut clients = self.lock();
        clients.sweep();
        if let Some(pooled) = clients.by_config.get_mut(config) {
            pooled.used = Instant::now();
            return Ok(Arc::clone(&pooled.client));
        }
        let masks = config.masks()?;
        let client = match &self.connect {
            Some(connect) => connect(config)?,
            None => connect(config)?,
        };
        let client = match masks {
            Some(masks) => Arc::new(MaskedClient::new(client, masks, config)?),
            None => client,
        };
        let pooled = Pooled {
            client: Arc::clone(&client),
            used: Instant::now(),
        };
        clients.by_config.insert(config.clone(), pooled);
        if !clients.swept
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            clients.swept = true;
            runtime.spawn(sweep(Sweeper(Arc::downgrade(&self.clients))));
        }
        Ok(client)
    }

    fn lock(&self) -> MutexGuard<'_, Clients> {
        lock(&self.clients)
    }
}

/// The client that `kafka.client` asks for.
fn connect(config: &ConnectionConfig) -> Result<Arc<dyn KafkaClient>> {
    match config.client() {
        ClientChoice::Librdkafka => librdkafka(config, "'kafka.client' = 'librdkafka'"),
        ClientChoice::Wire => Ok(Arc::new(WireClient::connect(config)?)),
        ClientChoice::Auto => match WireClient::supported(config)? {
            Ok(client) => Ok(Arc::new(client)),
            Err(reason) => librdkafka(config, &reason),
        },
    }
}

/// The client over librdkafka, which `reason` asks for.
#[cfg(feature = "librdkafka")]
fn librdkafka(config: &ConnectionConfig, reason: &str) -> Result<Arc<dyn KafkaClient>> {
    if config.client() == ClientChoice::Auto {
        log::warn!(target: ClientPool::NOTICES, "reading through librdkafka, because of {reason}");
    }
    Ok(Arc::new(LibrdkafkaClient::connect(config)?))
}

#[cfg(not(feature = "librdkafka"))]
fn librdkafka(_: &ConnectionConfig, reason: &str) -> Result<Arc<dyn KafkaClient>> {
    let what = "needs librdkafka, which this build does not have";
    Err(Error::missing_feature(
        "librdkafka",
        format!("{reason} {what}"),
    ))
}

impl Clients {
    fn sweep(&mut self) {
        let now = Instant::now();
        self.by_config.retain(|_, pooled| {
            if Arc::strong_count(&pooled.client) > 1 {
                pooled.used = now;
            }
            now.duration_since(pooled.used) < IDLE_KEEPS
        });
    }
}

fn lock(clients: &Mutex<Clients>) -> MutexGuard<'_, Clients> {
    clients.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends with the pool, with the last client, or with the runtime. After that, another may start.
async fn sweep(sweeper: Sweeper) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(clients) = sweeper.0.upgrade() else {
            return;
        };
        let mut clients = lock(&clients);
        clients.sweep();
        if clients.by_config.is_empty() {
            return;
        }
    }
}

struct Sweeper(Weak<Mutex<Clients>>);

impl Drop for Sweeper {
    fn drop(&mut self) {
        if let Some(clients) = self.0.upgrade() {
            lock(&clients).swept = false;
        }
    }
}

impl fmt::Debug for ClientPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let configs: Vec<ConnectionConfig> = self.lock().by_config.keys().cloned().collect();
        f.debug_struct("ClientPool")
            .field("clients", &configs)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_configurations_share_a_client() {
        let pool = ClientPool::new();
        let config = ConnectionConfig::new("127.0.0.1:1");
        let first = pool.client(&config).unwrap();
        let second = pool.clone().client(&config.clone()).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        let other = pool.client(&ConnectionConfig::new("127.0.0.1:2")).unwrap();
        assert!(!Arc::ptr_eq(&first, &other));
    }

    #[cfg(not(feature = "librdkafka"))]
    #[test]
    fn what_needs_librdkafka_says_so_in_builds_without_it() {
        let error = |key: &str, value: &str| {
            let mut config = ConnectionConfig::new("127.0.0.1:1");
            config.set(key, value).unwrap();
            ClientPool::new().client(&config).unwrap_err().to_string()
        };
        assert_eq!(
            error("kafka.client", "librdkafka"),
            "'kafka.client' = 'librdkafka' needs librdkafka, which this build \
             does not have (feature 'librdkafka')"
        );
        let mut wire = ConnectionConfig::new("127.0.0.1:1");
        wire.set("kafka.client", "wire").unwrap();
        wire.set("security.protocol", "sasl_plaintext").unwrap();
        let refused = ClientPool::new().client(&wire).unwrap_err().to_string();
        assert!(
            refused.ends_with("; a build with the feature 'librdkafka' does"),
            "{refused}"
        );
        assert_eq!(
            error("security.protocol", "sasl_plaintext"),
            "'sasl.mechanism' = 'GSSAPI' needs librdkafka, which this build \
             does not have (feature 'librdkafka')"
        );
    }
}
