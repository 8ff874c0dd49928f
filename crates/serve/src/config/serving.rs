//! What is served, where, and to whom.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::values::{self, Secret};
use crate::problem::Problem;

/// The HTTP port: page, API, metrics, probes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HttpConfig {
    /// The address, `host:port`.
    pub listen: String,
    /// What whoever changes something must have; without one nobody may. Beyond this machine, also whoever looks.
    pub token: Option<Secret>,
    /// The certificate; without one the port speaks HTTP in clear.
    pub tls: Option<TlsConfig>,
    /// Whether the port may be reached from other machines without TLS and a token.
    #[serde(default)]
    pub insecure: bool,
    /// The names under which browsers reach the port besides this machine's own, say by a proxy.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The connection whose topics the page shows; the only one unless set.
    pub connection: Option<String>,
}

/// A certificate and its key, as PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TlsConfig {
    /// The certificate, with those between it and the authority behind it.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The PostgreSQL port.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PostgresConfig {
    /// The address, `host:port`.
    pub listen: String,
    /// The connection whose topics are tables.
    pub connection: String,
    /// A file of statements that make tables and views.
    pub catalog: Option<PathBuf>,
    /// The certificate.
    pub tls: Option<TlsConfig>,
    /// Whether the port may be reached from other machines without TLS.
    #[serde(default)]
    pub insecure: bool,
    /// How many statements run at once; more wait.
    pub max_statements: Option<usize>,
    /// How many may wait.
    pub max_queued: Option<usize>,
    /// How long a statement waits at most.
    #[serde(default, deserialize_with = "values::optional_time")]
    pub queue_timeout: Option<Duration>,
    /// How many clients may be connected at once.
    pub max_connections: Option<usize>,
    /// How long a client may take to log in.
    #[serde(default, deserialize_with = "values::optional_time")]
    pub login_timeout: Option<Duration>,
    /// How long a connection may be without a statement.
    #[serde(default, deserialize_with = "values::optional_time")]
    pub idle_timeout: Option<Duration>,
    /// How long a client may leave unread what it is sent, and a cursor half read.
    #[serde(default, deserialize_with = "values::optional_time")]
    pub stalled_timeout: Option<Duration>,
    /// Who may log in.
    #[serde(default)]
    pub users: BTreeMap<String, UserConfig>,
}

/// A user of the PostgreSQL port. Budgets are written as those of connections are: `10_000_000`, `"10M"`, `"30s"`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct UserConfig {
    /// The password.
    pub password: Secret,
    /// The most records that a statement may read.
    #[serde(default, deserialize_with = "values::optional_count")]
    pub max_scan_records: Option<String>,
    /// The most bytes.
    #[serde(default, deserialize_with = "values::optional_count")]
    pub max_scan_bytes: Option<String>,
    /// The longest time.
    #[serde(default, deserialize_with = "values::optional_count")]
    pub max_scan_time: Option<String>,
}

/// Where events of OpenLineage go: a file or a URL.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LineageConfig {
    /// A file to which a line is added for each event.
    pub file: Option<PathBuf>,
    /// An endpoint that gets each event.
    pub url: Option<String>,
    /// The bearer token of the endpoint.
    pub token: Option<Secret>,
    /// The namespace of the jobs.
    pub namespace: Option<String>,
}

impl HttpConfig {
    /// A port in clear without a token.
    pub fn new(listen: impl Into<String>) -> Self {
        Self {
            listen: listen.into(),
            token: None,
            tls: None,
            insecure: false,
            hosts: vec![],
            connection: None,
        }
    }

    pub(super) fn resolve(&mut self, folder: &Path) -> Result<(), Problem> {
        resolve_tls(&mut self.tls, folder);
        check_address(&self.listen)
    }
}

impl PostgresConfig {
    pub(super) fn resolve(&mut self, folder: &Path) -> Result<(), Problem> {
        resolve_tls(&mut self.tls, folder);
        if let Some(catalog) = &mut self.catalog {
            *catalog = folder.join(&*catalog);
        }
        if self.users.is_empty() {
            return Err(Problem::new(
                "nobody could log in; write a section [postgres.users.NAME] with a password",
            ));
        }
        check_address(&self.listen)
    }
}

impl LineageConfig {
    pub(super) fn resolve(&mut self, folder: &Path) -> Result<(), Problem> {
        if let Some(file) = &mut self.file {
            *file = folder.join(&*file);
        }
        match (&self.file, &self.url) {
            (Some(_), None) | (None, Some(_)) => Ok(()),
            _ => Err(Problem::new("give either a file or a url for the events")),
        }
    }
}

fn resolve_tls(tls: &mut Option<TlsConfig>, folder: &Path) {
    if let Some(tls) = tls {
        tls.cert = folder.join(&tls.cert);
        tls.key = folder.join(&tls.key);
    }
}

fn check_address(listen: &str) -> Result<(), Problem> {
    let port = listen.rsplit_once(':').map(|(_, port)| port);
    match port.and_then(|port| port.parse::<u16>().ok()) {
        Some(_) => Ok(()),
        None => Err(Problem::new(format!(
            "listen = '{listen}': expected host:port, for example 127.0.0.1:8080"
        ))),
    }
}
