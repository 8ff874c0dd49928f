//! All sessions of a client: which stream gets the next one, and when idle ones close.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::sizes::{Profile, Sizes};
use super::{Fetching, Lease, Session, SessionKind};
use crate::client::librdkafka::ffi::{Handle, Kind, Messages};
use crate::client::librdkafka::{Given, common, handle};
use crate::config::ConnectionConfig;
use crate::error::Result;

/// How often a waiting stream looks for a session to take over.
const WAIT_TICK: Duration = Duration::from_millis(5);
/// How long a free session keeps its connections.
pub(crate) const FREE_KEEPS: Duration = Duration::from_secs(60);

/// All sessions of a client.
pub(crate) struct SessionPool {
    given: Given,
    buffer_bytes: usize,
    max: usize,
    /// How long a free session keeps its connections.
    free_keeps: Duration,
    epoch: Instant,
    state: Mutex<PoolState>,
    freed: Notify,
}

#[derive(Default)]
struct PoolState {
    /// Sessions that are not leased, with the time since when. The last was used most recently.
    free: Vec<(Session, Instant)>,
    /// The number of all sessions, free or leased.
    count: usize,
    leases: Vec<Weak<Lease>>,
    /// Whether a thread is waiting to close free sessions.
    sweeping: bool,
}

impl fmt::Debug for SessionPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPool")
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

impl SessionPool {
    pub(crate) fn new(config: &ConnectionConfig, given: Given, free_keeps: Duration) -> Self {
        Self {
            given,
            buffer_bytes: config.read_buffer_bytes(),
            max: config.sessions_max().max(1),
            free_keeps,
            epoch: Instant::now(),
            state: Mutex::default(),
            freed: Notify::new(),
        }
    }

    /// The most bytes that a stream holds in queues, for uncompressed records.
    ///
    /// librdkafka unpacks a Fetch as a whole, so highly compressed batches exceed this: records of 100 bytes
    /// that compressed to a seventieth held 400 MB per stream, where this says 34. A smaller
    /// `read.buffer.bytes` or `fetch.message.max.bytes` lowers it in proportion.
    pub(crate) fn buffer_bytes(&self, profile: Profile) -> usize {
        let mut sizes = Sizes::of(profile, self.buffer_bytes);
        let user = |key: &str| {
            self.given
                .properties
                .get(key)
                .and_then(|v| v.parse::<usize>().ok())
        };
        sizes.fetch_bytes = user("fetch.message.max.bytes").unwrap_or(sizes.fetch_bytes);
        sizes.queued_messages = user("queued.min.messages").unwrap_or(sizes.queued_messages);
        if let Some(kbytes) = user("queued.max.messages.kbytes") {
            sizes.queued_bytes = kbytes.saturating_mul(1024);
        }
        sizes.most_bytes() * profile.depth()
    }

    pub(super) fn now_ms(&self, later: Duration) -> u64 {
        u64::try_from((self.epoch.elapsed() + later).as_millis()).unwrap_or(u64::MAX)
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a session of a kind, and puts it into the lease.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        kind: SessionKind,
        lease: &Arc<Lease>,
    ) -> Result<()> {
        loop {
            if let Some(session) = self.try_acquire(kind)? {
                let mut state = self.state();
                state.leases.retain(|l| l.strong_count() > 0);
                if !state
                    .leases
                    .iter()
                    .any(|l| std::ptr::eq(l.as_ptr(), Arc::as_ptr(lease)))
                {
                    state.leases.push(Arc::downgrade(lease));
                }
                drop(state);
                lease.busy(self);
                *lease.lock() = Some(Fetching {
                    session: Some(session),
                    started: Vec::new(),
                    messages: Messages::new(),
                    reported: -1,
                    ended: -1,
                    pool: Arc::clone(self),
                    broken: false,
                });
                return Ok(());
            }
            let _ = tokio::time::timeout(WAIT_TICK, self.freed.notified()).await;
        }
    }

    fn try_acquire(self: &Arc<Self>, kind: SessionKind) -> Result<Option<Session>> {
        let mut old = None;
        {
            let mut state = self.state();
            if let Some(at) = state.free.iter().rposition(|(s, _)| s.kind == kind) {
                return Ok(Some(state.free.remove(at).0));
            }
            if state.count < self.max {
                state.count += 1;
            } else if !state.free.is_empty() {
                // It is of another kind: the least recently used one makes room.
                old = Some(state.free.remove(0));
            } else {
                drop(state);
                return self.take_over(kind);
            }
        }
        drop(old);
        self.make(kind).map(Some)
    }

    /// Takes the session that has been unused for the longest time, if its stream may lose it.
    fn take_over(self: &Arc<Self>, kind: SessionKind) -> Result<Option<Session>> {
        let now = self.now_ms(Duration::ZERO);
        let leases: Vec<Arc<Lease>> = self
            .state()
            .leases
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        let mut takeable: Vec<(u64, &Arc<Lease>)> = leases
            .iter()
            .map(|l| (l.takeable_ms.load(Ordering::Acquire), l))
            .filter(|(at, _)| *at <= now)
            .collect();
        takeable.sort_by_key(|(at, _)| *at);
        for (at, lease) in takeable {
            let Ok(mut fetching) = lease.fetching.try_lock() else {
                continue;
            };
            // Polled in the meantime?
            if lease.takeable_ms.load(Ordering::Acquire) != at {
                continue;
            }
            let Some(session) = fetching.take().and_then(Fetching::into_session) else {
                continue;
            };
            if session.kind == kind {
                return Ok(Some(session));
            }
            drop(session);
            return self.make(kind).map(Some);
        }
        Ok(None)
    }

    /// Makes a session that the count already includes.
    fn make(&self, kind: SessionKind) -> Result<Session> {
        let made = self.session_handle(kind);
        if made.is_err() {
            self.state().count -= 1;
            self.freed.notify_one();
        }
        Ok(Session {
            kind,
            handle: made?,
            topics: HashMap::new(),
        })
    }

    fn session_handle(&self, kind: SessionKind) -> Result<Arc<Handle>> {
        let sizes = Sizes::of(kind.profile, self.buffer_bytes);
        let mut conf = BTreeMap::new();
        common(&mut conf);
        let fetch_max = sizes.fetch_bytes * kind.profile.depth();
        for (key, value) in [
            // Corruption must not pass as data. The check costs about 10 ns per KiB.
            ("check.crcs", "true".to_owned()),
            (
                "fetch.wait.max.ms",
                kind.profile.fetch_wait_ms().to_string(),
            ),
            // How long a full queue is not fetched for, even if it is drained in the meantime.
            ("fetch.queue.backoff.ms", "1".to_owned()),
            ("fetch.error.backoff.ms", "50".to_owned()),
            ("fetch.message.max.bytes", sizes.fetch_bytes.to_string()),
            ("fetch.max.bytes", fetch_max.to_string()),
            // A record batch larger than a Fetch still arrives whole.
            ("receive.message.max.bytes", "1000000000".to_owned()),
            ("queued.min.messages", sizes.queued_messages.to_string()),
            (
                "queued.max.messages.kbytes",
                (sizes.queued_bytes / 1024).max(1).to_string(),
            ),
        ] {
            conf.insert(key.to_owned(), value);
        }
        // These follow it, so that the user only needs to change one setting.
        if let Some(fetch) = self
            .given
            .properties
            .get("fetch.message.max.bytes")
            .and_then(|v| v.parse().ok())
        {
            conf.insert("fetch.max.bytes".into(), fetch_max.max(fetch).to_string());
        }
        let forced = [
            ("isolation.level", kind.isolation.as_str()),
            ("enable.partition.eof", "true"),
            // An offset that no longer exists must be an error, never another offset.
            ("auto.offset.reset", "error"),
            // A setting for producers, which librdkafka requires not to exceed fetch.max.bytes.
            ("message.max.bytes", "1000"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("allow.auto.create.topics", "false"),
        ];
        handle(Kind::Consumer, conf, &self.given, &forced)
    }

    pub(super) fn give_back(self: &Arc<Self>, session: Session, broken: bool) {
        let closing = {
            let mut state = self.state();
            if broken {
                state.count -= 1;
                Some(session)
            } else {
                state.free.push((session, Instant::now()));
                None
            }
        };
        self.freed.notify_one();
        drop(closing);
        self.sweep_later();
    }

    /// Makes sure that sessions that stay free get closed.
    ///
    /// A separate thread does this and ends with the last of them: a process may read only once, and the
    /// runtime that it used may be gone.
    fn sweep_later(self: &Arc<Self>) {
        {
            let mut state = self.state();
            if state.sweeping || state.free.is_empty() {
                return;
            }
            state.sweeping = true;
        }
        let pool = Arc::downgrade(self);
        let mut next = self.free_keeps;
        let thread = std::thread::Builder::new().name("kafka-idle".into());
        let spawned = thread.stack_size(256 << 10).spawn(move || {
            loop {
                std::thread::sleep(next);
                match pool.upgrade().and_then(|pool| pool.sweep()) {
                    Some(wait) => next = wait,
                    None => return,
                }
            }
        });
        if spawned.is_err() {
            // The next session that is returned tries again.
            self.state().sweeping = false;
        }
    }

    /// Closes the sessions that were free for long enough. Returns when the next one is due.
    fn sweep(&self) -> Option<Duration> {
        let mut closing = Vec::new();
        let mut state = self.state();
        while let Some((_, since)) = state.free.first()
            && since.elapsed() >= self.free_keeps
        {
            closing.push(state.free.remove(0));
            state.count -= 1;
        }
        let oldest = state.free.first().map(|(_, since)| since.elapsed());
        state.sweeping = oldest.is_some();
        drop(state);
        if !closing.is_empty() {
            self.freed.notify_waiters();
        }
        oldest.map(|free| self.free_keeps.saturating_sub(free))
    }

    /// The number of sessions, leased or free.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.state().count
    }
}
