//! The PostgreSQL port: topics as tables for psql, DBeaver, Grafana and notebooks.
//!
//! ```text
//! accept ─▶ connection: TLS, deadlines, sizes ─▶ login: SCRAM ─▶ session: a SessionContext of its own
//!                                                                   │
//!            statement: what is it, is it allowed? ◀── handler ◀────┘
//!                │ a query
//!            run: a place in the queue ─▶ plan ─▶ rows, one batch at a time ─▶ ledger as a NOTICE, a line in the log
//! ```
//!
//! What it promises:
//!
//! - A connection that has not shown a password of [`PgOptions::users`] reaches no session. Without TLS, where TLS is
//!   configured, it does not reach the login either.
//! - No statement writes, reaches a file or another host, or changes how the cluster is reached.
//! - A result is whole, or its statement ends with an error.
//! - Memory is bounded for each connection: rows are sent batch by batch, and a client that does not read them is
//!   disconnected.
//!
//! Parts of pgwire and datafusion-postgres are not used, for these reasons: `Portal::fetch` collects all rows before it
//! sends the first; `process_socket` has no deadline after the login, and treats bytes from before a TLS handshake as
//! the client's; a cancel request ends planning but not the rows; `DfSessionService` has one session for all, and runs
//! whatever it is sent.

mod catalog;
mod connection;
mod copy;
mod handler;
mod login;
mod notice;
mod pipe;
mod run;
mod session;
mod settings;
mod sqlstate;
mod statement;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use datafusion::prelude::SessionContext;
use datafusion_kafka::config::ScanBudget;
use datafusion_kafka::{Error, Result};
use pgwire::api::{ConnectionManager, RandomPidSecretKeyGenerator};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use catalog::{Tables, sessions};

/// How many connections beyond the limit are told that there are too many, at a time. Others are closed without a word.
const REFUSED_POLITELY: usize = 16;

/// Who may log in.
#[derive(Clone)]
pub struct PgUser {
    /// The name.
    pub name: String,
    password: String,
    /// What each statement of the user may read.
    pub budget: ScanBudget,
}

impl PgUser {
    /// A user without a budget.
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            password: password.into(),
            budget: ScanBudget::default(),
        }
    }
}

impl fmt::Debug for PgUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgUser")
            .field("name", &self.name)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

/// How the port serves.
#[derive(Debug, Clone)]
pub struct PgOptions {
    /// Who may log in.
    pub users: Vec<PgUser>,
    /// The certificate and key. With them, connections without TLS are refused.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether an address that other hosts reach may be served without TLS.
    pub insecure: bool,
    /// How many connections there may be.
    pub max_connections: usize,
    /// How many statements may run at a time.
    pub max_statements: usize,
    /// How many more may wait for that.
    pub max_queued: usize,
    /// How long a statement may wait for that.
    pub queue_timeout: Duration,
    /// How long a client may take until it has logged in.
    pub startup_timeout: Duration,
    /// How long a connection may be without a statement.
    pub idle_timeout: Duration,
    /// How long a client may leave unread what it is sent, and a cursor half read.
    pub stalled_timeout: Duration,
}

impl Default for PgOptions {
    fn default() -> Self {
        Self {
            users: vec![],
            tls: None,
            insecure: false,
            max_connections: 100,
            max_statements: 8,
            max_queued: 100,
            queue_timeout: Duration::from_secs(60),
            startup_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60 * 60),
            stalled_timeout: Duration::from_secs(60),
        }
    }
}

/// Makes the session of a connection for the user who has logged in. It asks no cluster.
pub type Sessions = Arc<dyn Fn(&PgUser) -> Result<SessionContext> + Send + Sync>;

/// What all connections share.
struct Shared {
    options: PgOptions,
    sessions: Sessions,
    tls: Option<TlsAcceptor>,
    logins: Arc<login::Logins>,
    catalog: catalog::PgCatalog,
    cancels: Arc<ConnectionManager>,
    pids: Arc<RandomPidSecretKeyGenerator>,
    places: Arc<Semaphore>,
    queued: AtomicUsize,
}

/// A port that listens.
pub struct PgPort {
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl PgPort {
    /// Listens on `address`.
    ///
    /// # Errors
    /// When nobody could log in, when other hosts reach the address and there is no TLS, and when the address is taken.
    pub async fn bind(
        address: SocketAddr,
        options: PgOptions,
        sessions: Sessions,
    ) -> Result<Self> {
        if options.users.is_empty() {
            return Err(Error::invalid(
                "the PostgreSQL port has no users: add [postgres.users.NAME] with a password",
            ));
        }
        if !address.ip().is_loopback() && options.tls.is_none() && !options.insecure {
            return Err(Error::invalid(format!(
                "the PostgreSQL port on {address} is reached from other hosts and has no TLS: set certificate and key, \
                 listen on 127.0.0.1, or allow it with insecure = true"
            )));
        }
        let listener = TcpListener::bind(address).await.map_err(|e| {
            Error::invalid(format!("cannot listen on {address} for PostgreSQL: {e}")).because(e)
        })?;
        let tls = options.tls.as_deref().cloned().map(|mut config| {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
            TlsAcceptor::from(Arc::new(config))
        });
        let shared = Shared {
            logins: Arc::new(login::Logins::new(&options.users)),
            catalog: catalog::PgCatalog::new(&options.users)?,
            places: Arc::new(Semaphore::new(options.max_statements)),
            queued: AtomicUsize::new(0),
            cancels: Arc::default(),
            pids: Arc::default(),
            tls,
            options,
            sessions,
        };
        Ok(Self {
            listener,
            shared: Arc::new(shared),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then tells the clients and ends their statements.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let connections = Arc::new(Semaphore::new(self.shared.options.max_connections));
        let refusals = Arc::new(Semaphore::new(REFUSED_POLITELY));
        let (stopping, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = tasks.join_next() => continue,
                () = &mut stop => break,
            };
            let tcp = match accepted {
                Ok((tcp, _)) => tcp,
                Err(error) => {
                    // Of descriptors, say: those in use become free.
                    log::warn!("the PostgreSQL port cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let free = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_owned().ok();
            let (place, is_full): (OwnedSemaphorePermit, bool) =
                match (free(&connections), free(&refusals)) {
                    (Some(place), _) => (place, false),
                    (None, Some(place)) => (place, true),
                    (None, None) => continue,
                };
            let (shared, stopped) = (Arc::clone(&self.shared), stopped.clone());
            tasks.spawn(async move {
                connection::serve(tcp, &shared, is_full, stopped).await;
                drop(place);
            });
        }
        drop(self.listener);
        let _ = stopping.send(true);
        while tasks.join_next().await.is_some() {}
    }
}
