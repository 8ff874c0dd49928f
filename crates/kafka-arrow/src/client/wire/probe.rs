//! Connects to a broker step by step, to see which step fails: see [`diagnose`](crate::client::diagnose).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::net::TcpStream;

use super::connection::{Connection, Trouble};
pub(in crate::client) use super::decode::FETCH_VERSION_MOST as FETCH_MOST;
use super::security::{Security, Shown, Trust};
use super::settings::Settings;
use crate::config::ConnectionConfig;
use crate::error::Result;

/// The most addresses of a name that are tried.
const ADDRESSES_MOST: usize = 16;

/// Probes brokers with the connections of [`WireClient`](super::WireClient).
pub(in crate::client) struct Prober {
    settings: Settings,
    /// Or which setting this client does not support.
    security: std::result::Result<Security, String>,
    /// The time limit of a step.
    limit: Duration,
}

/// How far a connection to a broker came.
pub(in crate::client) struct Probe {
    pub(in crate::client) host: String,
    pub(in crate::client) port: u16,
    /// The addresses of the name, or why there are none, and how long finding out took.
    pub(in crate::client) addresses: std::result::Result<Vec<SocketAddr>, String>,
    pub(in crate::client) resolved_in: Duration,
    pub(in crate::client) attempts: Vec<Attempt>,
    pub(in crate::client) tls: Stage<Shown>,
    /// What the broker showed in a handshake that failed.
    pub(in crate::client) refused: Shown,
    /// API keys, each with the first and the last version that the broker knows.
    pub(in crate::client) versions: Stage<Vec<[i16; 3]>>,
    /// For how long the login is good, if the broker says so.
    pub(in crate::client) login: Stage<Option<Duration>>,
    /// The mechanisms of SASL that the broker offers.
    pub(in crate::client) offered: Vec<String>,
}

/// An attempt to connect to an address.
pub(in crate::client) struct Attempt {
    pub(in crate::client) address: SocketAddr,
    pub(in crate::client) took: Duration,
    /// Why there is no connection.
    pub(in crate::client) failed: Option<String>,
    /// Whether nothing answered at all.
    pub(in crate::client) silent: bool,
}

/// What became of a step.
pub(in crate::client) enum Stage<T> {
    /// An earlier one failed.
    NotReached,
    /// The settings do not ask for it.
    NotWanted,
    Failed(String),
    Done(T),
}

impl<T> Stage<T> {
    pub(in crate::client) fn done(&self) -> Option<&T> {
        match self {
            Self::Done(done) => Some(done),
            _ => None,
        }
    }
}

impl Probe {
    /// Whether requests would be answered.
    pub(in crate::client) fn is_ready(&self) -> bool {
        matches!(self.login, Stage::Done(_) | Stage::NotWanted)
    }

    pub(in crate::client) fn is_connected(&self) -> bool {
        self.attempts.iter().any(|a| a.failed.is_none())
    }

    /// `host:port`.
    pub(in crate::client) fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl Prober {
    /// # Errors
    /// When the settings are wrong for any client.
    pub(in crate::client) fn new(config: &ConnectionConfig, limit: Duration) -> Result<Self> {
        let properties = config.client_properties()?;
        Ok(Self {
            settings: Settings::new(config, &properties)?,
            security: Security::new(&properties, None, limit)?,
            limit,
        })
    }

    /// Why this client cannot protect connections and log in as the settings ask.
    pub(in crate::client) fn unsupported(&self) -> Option<&str> {
        self.security.as_ref().err().map(String::as_str)
    }

    /// The hosts and ports of `bootstrap.servers`.
    pub(in crate::client) fn bootstrap(&self) -> &[(String, u16)] {
        &self.settings.bootstrap
    }

    pub(in crate::client) fn rack(&self) -> &str {
        &self.settings.rack
    }

    pub(in crate::client) fn trust(&self) -> Trust {
        self.security
            .as_ref()
            .map_or_else(|_| Trust::default(), Security::trust)
    }

    /// The mechanism of the login.
    pub(in crate::client) fn mechanism(&self) -> Option<&'static str> {
        self.security.as_ref().ok().and_then(Security::mechanism)
    }

    /// Connects to a broker as far as possible.
    pub(in crate::client) async fn probe(&self, host: &str, port: u16) -> Probe {
        let begun = Instant::now();
        let addresses = self.resolve(host, port).await;
        let mut probe = Probe {
            host: host.to_owned(),
            port,
            resolved_in: begun.elapsed(),
            attempts: Vec::new(),
            tls: Stage::NotReached,
            refused: Shown::default(),
            versions: Stage::NotReached,
            login: Stage::NotReached,
            offered: Vec::new(),
            addresses,
        };
        let Ok(addresses) = &probe.addresses else {
            return probe;
        };
        let tried = addresses.iter().take(ADDRESSES_MOST);
        let mut first = None;
        for (attempt, stream) in join_all(tried.map(|a| self.connect(*a))).await {
            first = first.or(stream);
            probe.attempts.push(attempt);
        }
        if let Some(stream) = first {
            self.secure(&mut probe, stream).await;
        }
        probe
    }

    async fn resolve(&self, host: &str, port: u16) -> std::result::Result<Vec<SocketAddr>, String> {
        let looking = tokio::net::lookup_host((host, port));
        let found = match tokio::time::timeout(self.limit, looking).await {
            Ok(Ok(found)) => found,
            Ok(Err(e)) => return Err(format!("cannot resolve '{host}': {e}")),
            Err(_) => {
                let reason = format!("resolving '{host}' takes more than {}", self.limit_text());
                return Err(reason);
            }
        };
        let family = self.settings.address_family;
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in found.filter(|a| family.allows(a)) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        match addresses.is_empty() {
            true => Err(format!(
                "'{host}' has no address that 'broker.address.family' allows"
            )),
            false => Ok(addresses),
        }
    }

    async fn connect(&self, address: SocketAddr) -> (Attempt, Option<TcpStream>) {
        let limit = self.limit.min(self.settings.setup_timeout);
        let begun = Instant::now();
        let outcome = tokio::time::timeout(limit, TcpStream::connect(address)).await;
        let mut attempt = Attempt {
            address,
            took: begun.elapsed(),
            failed: None,
            silent: outcome.is_err(),
        };
        match outcome {
            Ok(Ok(stream)) => (attempt, Some(stream)),
            Ok(Err(e)) => {
                attempt.failed = Some(e.to_string());
                (attempt, None)
            }
            Err(_) => {
                attempt.failed = Some(format!("no answer within {} ms", limit.as_millis()));
                (attempt, None)
            }
        }
    }

    /// TLS, versions and login on a TCP connection.
    async fn secure(&self, probe: &mut Probe, stream: TcpStream) {
        let Ok(security) = &self.security else {
            return;
        };
        let (host, port) = (probe.host.clone(), probe.port);
        let shaking = security.inspect(stream, &host);
        let transport = match tokio::time::timeout(self.limit, shaking).await {
            Err(_) => {
                probe.tls = Stage::Failed(self.silence("the TLS handshake"));
                return;
            }
            Ok((Err(trouble), shown)) => {
                probe.tls = Stage::Failed(trouble.reason().to_owned());
                probe.refused = shown;
                return;
            }
            Ok((Ok(transport), shown)) => {
                probe.tls = match security.has_tls() {
                    true => Stage::Done(shown),
                    false => Stage::NotWanted,
                };
                transport
            }
        };
        let mut connection = Connection::over(transport, &host, port, &self.settings, security);
        let asked = self.within(connection.ask_versions(), "ApiVersions").await;
        probe.versions = match asked {
            Ok(()) => Stage::Done(connection.versions.announced()),
            Err(reason) => Stage::Failed(reason),
        };
        if probe.versions.done().is_none() {
            return;
        }
        let logged_in = self.within(connection.log_in(security), "the login").await;
        let now = Instant::now();
        let lifetime = connection.expires();
        let lifetime = lifetime.map(|at| at.saturating_duration_since(now));
        probe.login = match logged_in {
            Ok(()) if security.mechanism().is_none() => Stage::NotWanted,
            Ok(()) => Stage::Done(lifetime),
            Err(reason) => Stage::Failed(reason),
        };
        probe.offered = std::mem::take(&mut connection.offered);
    }

    async fn within<T>(
        &self,
        step: impl Future<Output = std::result::Result<T, Trouble>>,
        what: &str,
    ) -> std::result::Result<T, String> {
        match tokio::time::timeout(self.limit, step).await {
            Ok(outcome) => outcome.map_err(|trouble| trouble.reason().to_owned()),
            Err(_) => Err(self.silence(what)),
        }
    }

    fn silence(&self, what: &str) -> String {
        let limit = self.limit_text();
        format!("the broker accepts the connection, but does not answer {what} within {limit}")
    }

    fn limit_text(&self) -> String {
        format!("{} ms", self.limit.as_millis())
    }
}
