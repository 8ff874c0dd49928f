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
//! - A connection that has not shown the password of one of [`PgOptions::users`] reaches no session. Without TLS, where TLS is
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
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionContext;
use datafusion_kafka::config::ScanBudget;
use pgwire::api::{ConnectionManager, RandomPidSecretKeyGenerator};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::config::{Connection, PostgresConfig, Secret, UserConfig};
use crate::logs;
use crate::opener::Opener;
use crate::problem::Problem;
use crate::tls::{Certificate, Protection};

/// How many connections beyond the limit are told that there are too many, at a time. Others are closed without a word.
const REFUSED_POLITELY: usize = 16;

/// The pause after a connection could not be accepted: descriptors may be short.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// Who may log in.
#[derive(Debug, Clone)]
pub struct PgUser {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Secret,
    /// What each statement of the user may read.
    pub budget: ScanBudget,
}

impl PgUser {
    /// A user without a budget.
    pub fn new(name: impl Into<String>, password: Secret) -> Self {
        Self {
            name: name.into(),
            password,
            budget: ScanBudget::default(),
        }
    }

    fn of(name: &str, config: &UserConfig) -> Result<Self, Problem> {
        let mut user = Self::new(name, config.password.clone());
        let given = [
            &config.max_scan_records,
            &config.max_scan_bytes,
            &config.max_scan_time,
        ];
        for (key, value) in ScanBudget::KEYS.into_iter().zip(given) {
            if let Some(value) = value {
                let set = user.budget.set(key, value);
                set.map_err(|e| Problem::from(e).of(format_args!("[postgres.users.{name}]")))?;
            }
        }
        Ok(user)
    }
}

/// How the port serves.
#[derive(Debug)]
pub struct PgOptions {
    /// Who may log in.
    pub users: Vec<PgUser>,
    /// The certificate. With one, connections without TLS are refused.
    pub certificate: Option<Certificate>,
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
            certificate: None,
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

impl PgOptions {
    fn of(config: &PostgresConfig) -> Result<Self, Problem> {
        let options = Self::default();
        Ok(Self {
            users: users(config)?,
            certificate: config.tls.as_ref().map(Certificate::read).transpose()?,
            insecure: config.insecure,
            max_connections: config.max_connections.unwrap_or(options.max_connections),
            max_statements: config.max_statements.unwrap_or(options.max_statements),
            ..options
        })
    }
}

fn users(config: &PostgresConfig) -> Result<Vec<PgUser>, Problem> {
    let users = config.users.iter();
    users.map(|(name, user)| PgUser::of(name, user)).collect()
}

/// Makes the session of a connection for the user who has logged in. It asks no cluster.
pub type Sessions = Arc<dyn Fn(&PgUser) -> Result<SessionContext, Problem> + Send + Sync>;

/// What all connections share.
struct Shared {
    options: PgOptions,
    sessions: Sessions,
    logins: RwLock<Arc<login::Logins>>,
    catalog: catalog::PgCatalog,
    cancels: Arc<ConnectionManager>,
    pids: Arc<RandomPidSecretKeyGenerator>,
    places: Arc<Semaphore>,
    queued: AtomicUsize,
}

impl Shared {
    fn logins(&self) -> Arc<login::Logins> {
        let logins = self.logins.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&logins)
    }
}

/// A port that listens. Clones are the same port.
#[derive(Clone)]
pub struct PgPort {
    listener: Arc<TcpListener>,
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl fmt::Debug for PgPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgPort")
            .field("address", &self.address)
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl PgPort {
    /// Checks what [`open`](Self::open) would, without listening and without the catalog file, whose statements may ask
    /// the cluster.
    ///
    /// # Errors
    /// As there.
    pub async fn check(config: &PostgresConfig) -> Result<(), Problem> {
        let options = PgOptions::of(config)?;
        let addresses = tokio::net::lookup_host(&config.listen).await;
        for address in addresses.map_err(|e| cannot_listen(&config.listen, &e))? {
            protection(&options).check("postgres", address)?;
        }
        Ok(())
    }

    /// Makes the tables of the catalog file, and listens.
    ///
    /// # Errors
    /// When a statement of the file fails, when the certificate is of no use, when other machines reach the address and
    /// there is no TLS, and when the address is taken.
    pub async fn open(
        config: &PostgresConfig,
        connection: &Connection,
        opener: &Arc<dyn Opener>,
        runtime: &Arc<RuntimeEnv>,
    ) -> Result<Self, Problem> {
        let options = PgOptions::of(config)?;
        let tables = match &config.catalog {
            Some(file) => Tables::load(opener, connection, runtime, file).await?,
            None => Tables::default(),
        };
        let sessions = sessions(opener, connection, runtime, tables);
        Self::bind(&config.listen, options, sessions).await
    }

    /// Listens on `address`.
    ///
    /// # Errors
    /// When other machines reach the address and there is no TLS, and when the address is taken.
    pub async fn bind(
        address: &str,
        options: PgOptions,
        sessions: Sessions,
    ) -> Result<Self, Problem> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|e| cannot_listen(address, &e))?;
        let address = listener
            .local_addr()
            .map_err(|e| cannot_listen(address, &e))?;
        protection(&options).check("postgres", address)?;
        let shared = Shared {
            logins: RwLock::new(Arc::new(login::Logins::new(&options.users))),
            catalog: catalog::PgCatalog::new(&options.users)?,
            places: Arc::new(Semaphore::new(options.max_statements)),
            queued: AtomicUsize::new(0),
            cancels: Arc::default(),
            pids: Arc::default(),
            options,
            sessions,
        };
        Ok(Self {
            listener: Arc::new(listener),
            address,
            shared: Arc::new(shared),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes over the users and the certificate of another file, for connections from now on.
    ///
    /// # Errors
    /// When a budget is none or the certificate is of no use; all stays as it was.
    pub fn renew(&self, config: &PostgresConfig) -> Result<(), Problem> {
        let logins = login::Logins::new(&users(config)?);
        if let Some(certificate) = &self.shared.options.certificate {
            certificate.renew()?;
        }
        let mut current = self
            .shared
            .logins
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(logins);
        Ok(())
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
                    log::warn!(target: logs::SERVICE, "the PostgreSQL port cannot accept a connection: {error}");
                    tokio::time::sleep(AFTER_FAILURE).await;
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

fn protection(options: &PgOptions) -> Protection {
    Protection {
        tls: options.certificate.is_some(),
        // Every user has a password.
        credential: true,
        insecure: options.insecure,
    }
}

fn cannot_listen(address: &str, error: &std::io::Error) -> Problem {
    Problem::new(format!("[postgres] listen = '{address}': {error}"))
}
