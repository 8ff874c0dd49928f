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
//! - A connection that has not shown the password of a user reaches no session. Without TLS, where TLS is
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

mod answer;
mod catalog;
mod connection;
mod copy;
mod current;
mod handler;
mod information_schema;
mod journal;
mod login;
mod meter;
mod notice;
mod prepared;
mod run;
mod session;
mod settings;
mod sqlstate;
mod statement;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionContext;
use datafusion_kafka::config::ScanBudget;
use pgwire::api::{ConnectionManager, RandomPidSecretKeyGenerator};
use pgwire::error::PgWireResult;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use current::Current;
use meter::Counts;
pub(crate) use meter::Meter;

use crate::config::{Connection, PostgresConfig, Secret, UserConfig};
use crate::opener::Opener;
use crate::pipe::accept;
use crate::problem::Problem;
use crate::tls::{Certificate, Protection};

/// How long clients may take to hear of the end.
const FINISH: Duration = Duration::from_secs(5);

/// How long the tables of a catalog file may take when the file is read again: meanwhile the service looks after nothing
/// else.
const RENEWED_WITHIN: Duration = Duration::from_secs(10);

/// Who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    name: String,
    password: Secret,
    /// What each statement of the user may read.
    budget: ScanBudget,
}

impl User {
    fn of(name: &str, config: &UserConfig) -> Result<Self, Problem> {
        let mut user = Self {
            name: name.to_owned(),
            password: config.password.clone(),
            budget: ScanBudget::default(),
        };
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
struct Options {
    /// With one, connections without TLS are refused.
    certificate: Option<Certificate>,
    /// How many clients may have logged in, and how many more may be about to.
    max_connections: usize,
    /// How many statements may run at a time.
    max_statements: usize,
    /// How many more may wait for that, and how long.
    max_queued: usize,
    queue_timeout: Duration,
    /// How long a client may take until it has logged in.
    login_timeout: Duration,
    /// How long a connection may be without a statement.
    idle_timeout: Duration,
    /// How long a client may leave unread what it is sent, and a cursor half read.
    stalled_timeout: Duration,
}

impl Options {
    fn of(config: &PostgresConfig) -> Result<Self, Problem> {
        let seconds =
            |given: Option<Duration>, default| given.unwrap_or(Duration::from_secs(default));
        Ok(Self {
            certificate: config.tls.as_ref().map(Certificate::read).transpose()?,
            max_connections: config.max_connections.unwrap_or(100),
            max_statements: config.max_statements.unwrap_or(8),
            max_queued: config.max_queued.unwrap_or(100),
            queue_timeout: seconds(config.queue_timeout, 60),
            login_timeout: seconds(config.login_timeout, 10),
            idle_timeout: seconds(config.idle_timeout, 60 * 60),
            stalled_timeout: seconds(config.stalled_timeout, 60),
        })
    }
}

fn users(config: &PostgresConfig) -> Result<Vec<User>, Problem> {
    let users = config.users.iter();
    users.map(|(name, user)| User::of(name, user)).collect()
}

/// Makes the session of a connection for the user who has logged in. It asks no cluster.
type Sessions = Arc<dyn Fn(&User) -> Result<SessionContext, Problem> + Send + Sync>;

/// What all connections share.
struct Shared {
    options: Options,
    current: RwLock<Arc<Current>>,
    cancels: Arc<ConnectionManager>,
    pids: Arc<RandomPidSecretKeyGenerator>,
    connections: Arc<Semaphore>,
    places: Arc<Semaphore>,
    queued: AtomicUsize,
    counts: Counts,
}

impl Shared {
    fn current(&self) -> Arc<Current> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }

    /// A place for a client that logs in.
    ///
    /// # Errors
    /// When there is none.
    fn admit(&self) -> PgWireResult<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.connections).try_acquire_owned();
        place.map_err(|_| {
            let most = self.options.max_connections;
            let message = format!("there are {most} connections already: try again later");
            sqlstate::fatal(sqlstate::TOO_MANY_CONNECTIONS, message)
        })
    }
}

/// A port that listens. Clones are the same port.
#[derive(Clone)]
pub struct PgPort {
    listener: Arc<TcpListener>,
    address: SocketAddr,
    opener: Arc<dyn Opener>,
    runtime: Arc<RuntimeEnv>,
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
        Options::of(config)?;
        users(config)?;
        let addresses = tokio::net::lookup_host(&config.listen).await;
        for address in addresses.map_err(|e| cannot_listen(config, &e))? {
            protection(config).check("postgres", address)?;
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
        let options = Options::of(config)?;
        let current = Current::read(opener, runtime, config, connection, None).await?;
        let listener = TcpListener::bind(&config.listen).await;
        let listener = listener.map_err(|e| cannot_listen(config, &e))?;
        let address = listener
            .local_addr()
            .map_err(|e| cannot_listen(config, &e))?;
        protection(config).check("postgres", address)?;
        let shared = Shared {
            current: RwLock::new(Arc::new(current)),
            connections: Arc::new(Semaphore::new(options.max_connections)),
            places: Arc::new(Semaphore::new(options.max_statements)),
            queued: AtomicUsize::new(0),
            counts: Counts::default(),
            cancels: Arc::default(),
            pids: Arc::default(),
            options,
        };
        Ok(Self {
            listener: Arc::new(listener),
            address,
            opener: Arc::clone(opener),
            runtime: Arc::clone(runtime),
            shared: Arc::new(shared),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its numbers.
    pub(crate) fn meter(&self) -> Meter {
        Meter(Arc::clone(&self.shared))
    }

    /// Checks the users, the certificate, the connection and the catalog file of another file. What this returns takes
    /// them over, for connections from then on.
    ///
    /// # Errors
    /// When a budget is none, the certificate is of no use, or a statement of the catalog file fails or takes too long.
    pub async fn renew(
        &self,
        config: &PostgresConfig,
        connection: &Connection,
    ) -> Result<impl FnOnce(), Problem> {
        let shared = &self.shared;
        let before = shared.current();
        let (opener, runtime) = (&self.opener, &self.runtime);
        let current = Current::read(opener, runtime, config, connection, Some(&before));
        let current = tokio::time::timeout(RENEWED_WITHIN, current).await;
        let current = current.map_err(|_| {
            let seconds = RENEWED_WITHIN.as_secs();
            Problem::new(format!(
                "[postgres] catalog: its tables are not made within {seconds} s: see whether the cluster answers"
            ))
        })??;
        let certificate = shared.options.certificate.as_ref();
        let certificate = certificate.map(Certificate::renew).transpose()?;
        Ok(move || {
            if let Some(renew) = certificate {
                renew();
            }
            let mut renewed = shared
                .current
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            *renewed = Arc::new(current);
        })
    }

    /// Serves until `stop`, then tells the clients and ends their statements.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        // Whoever has not logged in when so many others have come goes, so that strangers keep out no user.
        let mut newest = VecDeque::new();
        let (stopping, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let (tcp, _) = tokio::select! {
                accepted = accept(&self.listener, "PostgreSQL") => accepted,
                Some(_) = tasks.join_next() => continue,
                () = &mut stop => break,
            };
            if newest.len() >= self.shared.options.max_connections {
                newest.pop_front();
            }
            let (newer, older) = oneshot::channel::<Infallible>();
            newest.push_back(newer);
            let (shared, stopped) = (Arc::clone(&self.shared), stopped.clone());
            tasks.spawn(connection::serve(tcp, shared, older, stopped));
        }
        drop(self.listener);
        let _ = stopping.send(true);
        // A client that does not read what it is told is left behind.
        let ended = async { while tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FINISH, ended).await;
    }
}

fn protection(config: &PostgresConfig) -> Protection {
    Protection {
        tls: config.tls.is_some(),
        // Every user has a password.
        credential: true,
        insecure: config.insecure,
    }
}

fn cannot_listen(config: &PostgresConfig, error: &std::io::Error) -> Problem {
    Problem::new(format!("[postgres] listen = '{}': {error}", config.listen))
}
