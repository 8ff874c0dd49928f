//! What a connection has after its login.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datafusion::prelude::SessionContext;
use pgwire::api::results::FieldInfo;
use pgwire::api::{ClientInfo, ConnectionGuard, ConnectionHandle, METADATA_USER};
use pgwire::error::PgWireResult;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::current::Current;
use super::run::Running;
use super::settings::Settings;
use super::{Shared, sqlstate};
use crate::logs;

/// The most prepared statements, bound ones and open cursors of a connection.
const MOST_PREPARED: usize = 1000;
const MOST_BOUND: usize = 100;
const MOST_CURSORS: usize = 50;
/// The most bytes of the messages that made them.
const MOST_HELD_BYTES: usize = 32 << 20;

pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    /// What it was made of.
    current: Arc<Current>,
    pub(super) context: SessionContext,
    pub(super) user: String,
    pub(super) client: SocketAddr,
    pub(super) settings: Arc<Settings>,
    /// The longest that a statement of the user may run.
    pub(super) longest: Option<Duration>,
    /// Hears of cancel requests, for as long as the guard lives.
    cancel: Arc<ConnectionHandle>,
    _guard: ConnectionGuard,
    _place: OwnedSemaphorePermit,
    /// Whether the statement that runs is cancelled.
    cancelled: Arc<AtomicBool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Names of prepared statements, and of bound ones, with the bytes of their messages.
    prepared: HashMap<String, usize>,
    bound: HashMap<String, usize>,
    cursors: HashMap<String, Cursor>,
}

/// A statement that has sent some of its rows.
pub(super) struct Cursor {
    pub(super) running: Running,
    pub(super) until: Until,
    /// When it was left open.
    read: Instant,
}

impl Cursor {
    pub(super) fn new(running: Running, until: Until) -> Self {
        Self {
            running,
            until,
            read: Instant::now(),
        }
    }
}

/// How long a cursor may stay open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// A portal outside of a transaction: its Sync.
    Sync,
    TransactionEnd,
    Closed,
}

impl Session {
    /// The session of a client that has logged in.
    ///
    /// # Errors
    /// When there is no place for it, and when it cannot be made.
    pub(super) fn open(shared: &Arc<Shared>, client: &dyn ClientInfo) -> PgWireResult<Self> {
        let place = shared.admit()?;
        let current = shared.current();
        let name = client.metadata().get(METADATA_USER);
        let user = name.and_then(|name| current.logins.user(name));
        let user = user.ok_or_else(|| {
            sqlstate::fatal(sqlstate::INVALID_AUTHORIZATION, "there is no such user")
        })?;
        let settings = Arc::new(Settings::default());
        for (name, value) in client.metadata() {
            // Others, such as `user`, are not settings.
            let _ = settings.set(name, Some(value));
        }
        let failed = |message: String| {
            log::error!(target: logs::SERVICE, "no session for {}: {message}", user.name);
            sqlstate::fatal(sqlstate::INTERNAL_ERROR, format!("no session: {message}"))
        };
        let context = (current.sessions)(user).map_err(|e| failed(e.to_string()))?;
        let equipped = current.catalog.equip(&context, &user.name, &settings);
        equipped.map_err(|e| failed(e.strip_backtrace()))?;
        let (pid, key) = client.pid_and_secret_key();
        let (cancel, guard) = shared.cancels.register(pid, key);
        let session = Self {
            shared: Arc::clone(shared),
            context,
            user: user.name.clone(),
            current: Arc::clone(&current),
            client: client.socket_addr(),
            settings,
            longest: user.budget.time,
            cancel,
            _guard: guard,
            _place: place,
            cancelled: Arc::default(),
            state: Mutex::default(),
        };
        session.apply_time_zone()?;
        Ok(session)
    }

    /// Whether it would be made the same way now: the user may have another password, and the connection a mask.
    pub(super) fn is_current(&self) -> bool {
        self.shared.current().is_for(&self.user, &self.current)
    }

    /// Does the work unless the client cancels it or it takes longer than `statement_timeout`.
    ///
    /// # Errors
    /// Those of the work, and when it was ended.
    pub(super) async fn cancellable<T>(
        &self,
        work: impl Future<Output = PgWireResult<T>>,
    ) -> PgWireResult<T> {
        self.cancelled.store(false, Ordering::Relaxed);
        let cancelled = self.cancel.start_query().await;
        let timeout = self.settings.statement_timeout();
        // Dropped after its journal can tell why.
        tokio::pin!(work);
        let why = tokio::select! {
            done = &mut work => return done,
            Ok(()) = cancelled => "user request",
            () = sleep(timeout.unwrap_or_default()), if timeout.is_some() => "statement timeout",
        };
        self.cancelled.store(true, Ordering::Relaxed);
        let message = format!("canceling statement due to {why}");
        Err(sqlstate::error(sqlstate::QUERY_CANCELED, message))
    }

    /// Whether the statement that runs is cancelled, as of any moment.
    pub(super) fn cancelled(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancelled)
    }

    /// Makes the time zone of the settings that of times without one.
    ///
    /// # Errors
    /// When the setting is none.
    pub(super) fn apply_time_zone(&self) -> PgWireResult<()> {
        let zone = self.settings.show("timezone")?;
        let state = self.context.state_ref();
        let mut state = state.write();
        state.config_mut().options_mut().execution.time_zone = Some(zone);
        Ok(())
    }

    /// Notes a prepared statement.
    ///
    /// # Errors
    /// When there are too many, or all of them are too long.
    pub(super) fn prepare(&self, name: &str, bytes: usize) -> PgWireResult<()> {
        let mut state = self.state();
        let bound = state.bound.values().sum();
        note(&mut state.prepared, name, bytes, (MOST_PREPARED, bound))
    }

    /// Notes a statement that has got its parameters.
    ///
    /// # Errors
    /// As for [`prepare`](Self::prepare).
    pub(super) fn bind(&self, name: &str, bytes: usize) -> PgWireResult<()> {
        let mut state = self.state();
        let prepared = state.prepared.values().sum();
        note(&mut state.bound, name, bytes, (MOST_BOUND, prepared))
    }

    /// Forgets a bound statement, or all.
    pub(super) fn unbind(&self, name: Option<&str>) {
        let bound = &mut self.state().bound;
        match name {
            Some(name) => drop(bound.remove(name)),
            None => bound.clear(),
        }
    }

    /// Forgets a prepared statement, or all. Returns their names.
    pub(super) fn unprepare(&self, name: Option<&str>) -> Vec<String> {
        let prepared = &mut self.state().prepared;
        match name {
            Some(name) => prepared
                .remove_entry(name)
                .into_iter()
                .map(|(name, _)| name)
                .collect(),
            None => prepared.drain().map(|(name, _)| name).collect(),
        }
    }

    /// Takes a cursor, to read it on or to drop it.
    pub(super) fn take_cursor(&self, name: &str) -> Option<Cursor> {
        self.state().cursors.remove(name)
    }

    /// The columns of a cursor, if it is open.
    pub(super) fn cursor_fields(&self, name: &str) -> Option<Vec<FieldInfo>> {
        let state = self.state();
        let cursor = state.cursors.get(name)?;
        Some(cursor.running.fields().to_vec())
    }

    /// Leaves a cursor open.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn keep_cursor(&self, name: &str, mut cursor: Cursor) -> PgWireResult<()> {
        cursor.read = Instant::now();
        let cursors = &mut self.state().cursors;
        let with_places = cursors.values().filter(|open| open.running.has_place());
        let places = (self.shared.options.max_statements / 2).max(1);
        let most = match cursor.running.has_place() && with_places.count() >= places {
            true => places,
            false if cursors.len() >= MOST_CURSORS => MOST_CURSORS,
            false => {
                cursors.insert(name.to_owned(), cursor);
                return Ok(());
            }
        };
        let message = format!(
            "a connection may have {most} open cursors: CLOSE some, or read them to their ends"
        );
        Err(sqlstate::error(sqlstate::INSUFFICIENT_RESOURCES, message))
    }

    /// Closes the cursors that nobody has read for long while others wait for their places.
    pub(super) fn close_forgotten(&self) {
        let most = self.shared.options.stalled_timeout;
        let is_read = |open: &Cursor| !open.running.has_place() || open.read.elapsed() < most;
        self.state().cursors.retain(|_, open| is_read(open));
    }

    /// Closes the cursors that do not outlive this.
    pub(super) fn close_cursors(&self, ends: Until) {
        self.state().cursors.retain(|_, cursor| match ends {
            Until::Sync => cursor.until != Until::Sync,
            Until::TransactionEnd => cursor.until == Until::Closed,
            Until::Closed => false,
        });
    }

    /// How long the connection may be without a message: less while a cursor holds what others wait for.
    pub(super) fn idle_timeout(&self) -> Duration {
        let options = &self.shared.options;
        let state = self.state();
        match state.cursors.values().any(|open| open.running.has_place()) {
            true => options.stalled_timeout.min(options.idle_timeout),
            false => options.idle_timeout,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole after any panic: sets and maps in which entries come and go.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes what a message has made, unless that is too much beside `others` bytes.
fn note(
    noted: &mut HashMap<String, usize>,
    name: &str,
    bytes: usize,
    (most, others): (usize, usize),
) -> PgWireResult<()> {
    let before = noted.remove(name).unwrap_or(0);
    let held: usize = noted.values().sum::<usize>() + others;
    let what = if noted.len() >= most {
        format!("{most} prepared or bound statements")
    } else if held + bytes > MOST_HELD_BYTES {
        format!("{} MiB of statements and parameters", MOST_HELD_BYTES >> 20)
    } else {
        noted.insert(name.to_owned(), bytes);
        return Ok(());
    };
    if before > 0 {
        noted.insert(name.to_owned(), before);
    }
    let message = format!("a connection may have {what}: DEALLOCATE or Close some");
    Err(sqlstate::error(sqlstate::INSUFFICIENT_RESOURCES, message))
}
