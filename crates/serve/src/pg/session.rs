//! What a connection has after its login.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use datafusion::prelude::SessionContext;
use pgwire::api::results::FieldInfo;
use pgwire::api::{ClientInfo, ConnectionGuard, ConnectionHandle, METADATA_USER};
use pgwire::error::PgWireResult;
use tokio::time::sleep;

use super::run::Running;
use super::settings::Settings;
use super::{Shared, sqlstate};
use crate::logs;

/// The most prepared statements and open cursors of a connection.
const MOST_PREPARED: usize = 1000;
const MOST_CURSORS: usize = 50;

pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) context: SessionContext,
    pub(super) user: String,
    pub(super) client: SocketAddr,
    pub(super) settings: Arc<Settings>,
    /// Hears of cancel requests, for as long as the guard lives.
    cancel: Arc<ConnectionHandle>,
    _guard: ConnectionGuard,
    /// Whether the statement that runs is cancelled.
    cancelled: Arc<AtomicBool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    prepared: HashSet<String>,
    cursors: HashMap<String, Cursor>,
}

/// A statement that has sent some of its rows.
pub(super) struct Cursor {
    pub(super) running: Running,
    pub(super) until: Until,
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
    /// When it cannot be made.
    pub(super) fn open(shared: &Arc<Shared>, client: &dyn ClientInfo) -> PgWireResult<Self> {
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
            client: client.socket_addr(),
            settings,
            cancel,
            _guard: guard,
            cancelled: Arc::default(),
            state: Mutex::default(),
        };
        session.apply_time_zone()?;
        Ok(session)
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

    /// Notes the name of a prepared statement.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn prepare(&self, name: &str) -> PgWireResult<()> {
        let mut state = self.state();
        if state.prepared.len() >= MOST_PREPARED && !state.prepared.contains(name) {
            let message = format!(
                "a connection may have {MOST_PREPARED} prepared statements: DEALLOCATE some"
            );
            return Err(sqlstate::error(sqlstate::INSUFFICIENT_RESOURCES, message));
        }
        state.prepared.insert(name.to_owned());
        Ok(())
    }

    /// Forgets a prepared statement, or all. Returns their names.
    pub(super) fn unprepare(&self, name: Option<&str>) -> Vec<String> {
        let prepared = &mut self.state().prepared;
        match name {
            Some(name) => prepared.take(name).into_iter().collect(),
            None => prepared.drain().collect(),
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
    pub(super) fn keep_cursor(&self, name: &str, cursor: Cursor) -> PgWireResult<()> {
        let cursors = &mut self.state().cursors;
        if cursors.len() >= MOST_CURSORS {
            let message = format!("a connection may have {MOST_CURSORS} open cursors: CLOSE some");
            return Err(sqlstate::error(sqlstate::INSUFFICIENT_RESOURCES, message));
        }
        cursors.insert(name.to_owned(), cursor);
        Ok(())
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
