//! What is known of a cluster, and the connections to its brokers.
//!
//! Connections are leased. The holder has a connection to itself, for one request or for as long as a stream
//! reads. Connections that are given back stay open for reuse, the most recently used first.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::chunks::Chunks;
use super::connection::{Connection, Trouble};
use super::security::Security;
use super::settings::Settings;

/// How long an unused connection stays open; brokers close it after ten minutes.
const IDLE_KEEPS: Duration = Duration::from_secs(120);
/// The most unused connections to keep per broker.
const IDLE_MOST: usize = 16;
/// Streams without a connection of their own take turns on this many connections to a broker.
const TURNS: usize = 2;

/// See the module's documentation.
pub(super) struct Cluster {
    pub(super) settings: Settings,
    security: Security,
    /// `bootstrap.servers` as the user wrote it, for messages.
    hosts: String,
    pub(super) chunks: Chunks,
    known: Mutex<Known>,
    /// Whether any broker has ever answered.
    connected: AtomicBool,
    /// Which address to try first.
    turn: AtomicUsize,
}

#[derive(Default)]
struct Known {
    nodes: HashMap<i32, Node>,
    /// Brokers by address, including the bootstrap servers.
    brokers: HashMap<(String, u16), Arc<Broker>>,
    topics: HashMap<Arc<str>, Topic>,
}

/// A broker as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) host: String,
    pub(super) port: u16,
}

/// A topic, as the cluster described it.
#[derive(Debug, Clone)]
pub(super) struct Topic {
    /// `None` where the broker provides no ids.
    pub(super) id: Option<Uuid>,
    /// When the description was requested.
    pub(super) asked: Instant,
    /// Leaders by partition.
    pub(super) leaders: HashMap<i32, Leader>,
    /// The partitions that had no leader.
    pub(super) leaderless: HashMap<i32, Replicas>,
    /// The mean size of a record within record batches, in bytes; 0 until something was read.
    pub(super) mean_bytes: usize,
}

/// A partition's leader and its leader epoch, which is -1 where unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) node: i32,
    pub(super) epoch: i32,
}

/// The brokers that hold a partition, by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replicas {
    pub(super) all: Vec<i32>,
    pub(super) in_sync: Vec<i32>,
}

/// The connections to one broker.
pub(super) struct Broker {
    pub(super) host: String,
    pub(super) port: u16,
    /// For how long the broker accepts no requests from this client.
    pub(super) questions: Hold,
    /// For how long the broker sends this client no records. It still answers requests on connections that do
    /// not fetch.
    pub(super) fetches: Hold,
    /// How many Fetches the broker has answered without throttling this client.
    pub(super) served: AtomicUsize,
    idle: Mutex<Vec<(Connection, Instant)>>,
    /// A permit for each stream that may keep a connection.
    pub(super) keepers: Arc<Semaphore>,
    /// Permits for the other streams, which give their connection back after each answer.
    pub(super) turns: Arc<Semaphore>,
}

/// Until when a broker throttles this client, whose quota is used up (KIP-219). The broker would leave a
/// request unread until then.
#[derive(Debug, Default)]
pub(super) struct Hold(Mutex<Option<Instant>>);

impl Hold {
    pub(super) fn extend(&self, throttle: Duration) {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (*until).max(Some(Instant::now() + throttle));
    }

    /// The time that is left; zero while the client is not throttled.
    pub(super) fn left(&self) -> Duration {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until.map_or(Duration::ZERO, |at| {
            at.saturating_duration_since(Instant::now())
        });
        if left.is_zero() {
            *until = None;
        }
        left
    }
}

impl Cluster {
    pub(super) fn new(settings: Settings, security: Security, hosts: String) -> Self {
        Self {
            settings,
            security,
            hosts,
            chunks: Chunks::default(),
            known: Mutex::default(),
            connected: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
        }
    }

    pub(super) fn hosts(&self) -> &str {
        &self.hosts
    }

    /// Whether any broker has ever answered.
    pub(super) fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the known brokers.
    pub(super) fn learn_nodes(&self, nodes: HashMap<i32, Node>) {
        if !nodes.is_empty() {
            self.known().nodes = nodes;
        }
    }

    /// Adds a broker that other brokers named.
    pub(super) fn learn_node(&self, id: i32, host: &str, port: i32) {
        let host = host.to_owned();
        let port = u16::try_from(port).unwrap_or_default();
        self.known().nodes.insert(id, Node { host, port });
    }

    /// Remembers a topic's description, unless a later one is already known.
    pub(super) fn learn_topic(&self, name: &Arc<str>, mut topic: Topic) {
        let mut known = self.known();
        if let Some(old) = known.topics.get(name) {
            if old.asked > topic.asked {
                return;
            }
            topic.mean_bytes = old.mean_bytes;
        }
        known.topics.insert(Arc::clone(name), topic);
    }

    pub(super) fn forget_topic(&self, name: &str) {
        self.known().topics.remove(name);
    }

    /// Looks at what is known of a topic.
    pub(super) fn topic<T>(&self, name: &str, look: impl FnOnce(&Topic) -> T) -> Option<T> {
        self.known().topics.get(name).map(look)
    }

    /// Remembers the mean size of a topic's records.
    pub(super) fn learn_mean(&self, name: &str, mean_bytes: usize) {
        if let Some(topic) = self.known().topics.get_mut(name) {
            topic.mean_bytes = mean_bytes;
        }
    }

    /// The brokers that the cluster has named, which may leave out bootstrap servers.
    pub(super) fn nodes(&self) -> Vec<i32> {
        self.known().nodes.keys().copied().collect()
    }

    /// The broker with a node id.
    pub(super) fn node(&self, id: i32) -> Option<Arc<Broker>> {
        let mut known = self.known();
        let node = known.nodes.get(&id)?.clone();
        Some(known.broker(node.host, node.port, self.settings.fetchers_most))
    }

    /// `host:port` of a node with its id, for messages.
    pub(super) fn node_named(&self, id: i32) -> String {
        match self.known().nodes.get(&id) {
            Some(Node { host, port }) => format!("{host}:{port} (broker {id})"),
            None => format!("broker {id}"),
        }
    }

    /// All brokers that might answer, known ones first. Each call begins with another one.
    pub(super) fn candidates(&self) -> Vec<Arc<Broker>> {
        let most = self.settings.fetchers_most;
        let mut known = self.known();
        let mut nodes: Vec<(String, u16)> = known
            .nodes
            .values()
            .map(|n| (n.host.clone(), n.port))
            .collect();
        nodes.sort_unstable();
        if !nodes.is_empty() {
            let turn = self.turn.load(Ordering::Relaxed) % nodes.len();
            nodes.rotate_left(turn);
        }
        let servers = &self.settings.bootstrap;
        let first = self.turn.load(Ordering::Relaxed) % servers.len().max(1);
        let servers = servers[first..].iter().chain(&servers[..first]);
        for server in servers {
            if !nodes.contains(server) {
                nodes.push(server.clone());
            }
        }
        nodes
            .into_iter()
            .map(|(host, port)| known.broker(host, port, most))
            .collect()
    }

    /// Makes another broker the first to be tried.
    pub(super) fn turn(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection to a broker, unused or new. `true` means that it was used before; a failure may then only
    /// mean that the broker has closed it since.
    pub(super) async fn lease(
        self: &Arc<Self>,
        broker: &Arc<Broker>,
    ) -> Result<(Lease, bool), Trouble> {
        while let Some(mut connection) = broker.take_idle() {
            if connection.is_expiring()
                && let Err(trouble) = connection.authenticate(&self.security).await
            {
                log::debug!("{}: {}", connection.broker(), trouble.reason());
                continue;
            }
            return Ok((self.leased(broker, connection), true));
        }
        Ok((self.dial(broker).await?, false))
    }

    /// A new connection to a broker.
    pub(super) async fn dial(self: &Arc<Self>, broker: &Arc<Broker>) -> Result<Lease, Trouble> {
        let connection =
            Connection::dial(&broker.host, broker.port, &self.settings, &self.security).await?;
        self.connected.store(true, Ordering::Relaxed);
        Ok(self.leased(broker, connection))
    }

    fn leased(self: &Arc<Self>, broker: &Arc<Broker>, connection: Connection) -> Lease {
        Lease {
            broker: Arc::clone(broker),
            connection,
            held: false,
        }
    }

    /// Logs in again if the broker would soon end the connection.
    pub(super) async fn keep_alive(&self, lease: &mut Lease) -> Result<(), Trouble> {
        if lease.connection.is_expiring() {
            lease.connection.authenticate(&self.security).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

impl Known {
    fn broker(&mut self, host: String, port: u16, keepers: usize) -> Arc<Broker> {
        let address = (host.clone(), port);
        let broker = self.brokers.entry(address).or_insert_with(|| {
            Arc::new(Broker {
                host,
                port,
                questions: Hold::default(),
                fetches: Hold::default(),
                served: AtomicUsize::new(0),
                idle: Mutex::default(),
                keepers: Arc::new(Semaphore::new(keepers)),
                turns: Arc::new(Semaphore::new(TURNS)),
            })
        });
        Arc::clone(broker)
    }
}

impl Broker {
    /// The most recently used idle connection. Connections that are too old are closed.
    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, since)| since.elapsed() < IDLE_KEEPS);
        while let Some((mut connection, _)) = idle.pop() {
            if connection.is_idle() {
                return Some(connection);
            }
        }
        None
    }

    /// Closes the unused connections.
    pub(super) fn forget_idle(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.clear();
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MOST {
            idle.push((connection, Instant::now()));
        }
    }
}

/// A connection for the holder alone. Dropping it closes the connection, because an answer may still be on
/// its way; [`give_back`](Self::give_back) keeps it open.
pub(super) struct Lease {
    broker: Arc<Broker>,
    pub(super) connection: Connection,
    /// Whether the broker throttled the last Fetch on it.
    held: bool,
}

impl Lease {
    /// Returns the connection for reuse. `rest` bytes of an answer are still to come.
    pub(super) fn give_back(mut self, rest: usize) {
        // On a throttled connection, a request would wait for something that does not concern it.
        let held = self.held && !self.broker.fetches.left().is_zero();
        if !held && self.connection.give_up(rest) {
            self.broker.give_back(self.connection);
        }
    }

    /// Notes that the broker will leave Fetches unread for this long.
    pub(super) fn hold(&mut self, throttle: Duration) {
        self.held = true;
        self.broker.fetches.extend(throttle);
    }
}
