//! Sessions: handles that fetch, bounded in number, leased to one stream at a time.
//!
//! ```text
//! stream A ── Lease ──> Fetching { Session, started partitions }   polled: keeps it
//! stream B ── Lease ──> Fetching { … }                             not polled for 20 ms: may lose it
//! stream C ── waits ──> takes a free session, makes one, or takes B's
//! ```
//!
//! So any number of streams makes progress with few sessions, whatever the order in which they are
//! polled: a merge that needs a first batch of each of 500 streams cannot lock itself up. A stream
//! that lost its session knows its position and asks for another when it is polled again. What
//! librdkafka had fetched ahead for it is dropped and fetched again.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::ffi::{Handle, Messages, Queue, Topic};
use super::{common, handle};
use crate::client::ReadRequest;
use crate::config::ConnectionConfig;
use crate::error::{Error, Result};
use crate::range::{IsolationLevel, OffsetRange};

/// How long a stream that has yielded a batch keeps its session although others wait.
const IDLE_KEEPS: Duration = Duration::from_millis(20);
/// How long a stream that waits for data keeps it without being polled.
const WAITING_KEEPS: Duration = Duration::from_millis(500);
/// How often a waiting stream looks for a session to take over.
const WAIT_TICK: Duration = Duration::from_millis(5);
/// How long a free session keeps its connections.
const FREE_KEEPS: Duration = Duration::from_secs(60);

/// Up to so many offsets (of the request, or of its ranges on average) small fetches are used.
const SMALL_OFFSETS: i64 = 10_000;
/// What librdkafka allocates for each queued message beside its payload.
const MESSAGE_OVERHEAD_BYTES: usize = 320;
/// What a small record takes in a Fetch response: some fifty bytes of payload. A topic of smaller
/// ones exceeds the bound by what librdkafka allocates for each.
const RECORD_LEAST_BYTES: usize = 64;

/// How much is fetched at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Profile {
    /// Few records, or many small ranges: little is fetched that is not read, several ranges at
    /// a time.
    Small,
    /// Long ranges, one after another.
    Large,
}

impl Profile {
    pub(super) fn of(request: &ReadRequest) -> Self {
        let ranges = request.ranges.iter().filter(|r| r.start < r.end);
        let (count, offsets) = ranges.fold((0i64, 0i64), |(n, sum), r| {
            (n + 1, sum.saturating_add(r.end - r.start))
        });
        let few = |n: i64| n <= SMALL_OFFSETS;
        let limit = request.limit.map(|l| i64::try_from(l).unwrap_or(i64::MAX));
        if few(offsets / count.max(1)) || limit.is_some_and(few) {
            Self::Small
        } else {
            Self::Large
        }
    }

    /// How long the broker may hold a Fetch at the end of the log, in ms.
    ///
    /// The end of a partition shows in the Fetch after the last record, and a range that starts
    /// meanwhile waits for that Fetch; on the other hand a stream that is held open there asks
    /// again so often.
    fn fetch_wait_ms(self) -> u32 {
        match self {
            Self::Small => 2,
            Self::Large => 5,
        }
    }

    /// How many ranges may be fetched at a time, the one that is read included.
    pub(super) fn depth(self) -> usize {
        match self {
            Self::Small => 8,
            Self::Large => 2,
        }
    }
}

/// The sizes of a profile's fetches and queues; measured, see the constants' comments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    /// The most that one Fetch brings of a partition, one larger record batch excepted.
    fetch_bytes: usize,
    /// No Fetch is sent while so much payload is queued.
    queued_bytes: usize,
    /// No Fetch is sent while so many messages are queued.
    queued_messages: usize,
}

impl Sizes {
    fn of(profile: Profile, buffer_bytes: usize) -> Self {
        match profile {
            Profile::Large => Self {
                // 1 MiB reads as fast as 4 MiB here and needs a quarter of the queue.
                fetch_bytes: (buffer_bytes / 16).clamp(16 << 10, 4 << 20),
                queued_bytes: buffer_bytes / 4,
                queued_messages: (buffer_bytes / 800).max(1000),
            },
            Profile::Small => Self {
                fetch_bytes: (buffer_bytes / 128).clamp(16 << 10, 256 << 10),
                queued_bytes: (buffer_bytes / 128).max(16 << 10),
                queued_messages: 1000,
            },
        }
    }

    /// The most that one partition's queue holds: what a last Fetch adds to a queue just below
    /// its limits.
    fn most_bytes(self) -> usize {
        let payload = self.queued_bytes + self.fetch_bytes;
        let messages = self.queued_messages + self.fetch_bytes / RECORD_LEAST_BYTES;
        payload + messages * MESSAGE_OVERHEAD_BYTES
    }
}

/// What a session was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SessionKind {
    pub(super) profile: Profile,
    pub(super) isolation: IsolationLevel,
}

/// A handle that fetches.
pub(super) struct Session {
    kind: SessionKind,
    handle: Arc<Handle>,
    topics: HashMap<Arc<str>, Topic>,
}

/// A range that is being fetched.
pub(super) struct Started {
    /// Its place in the request.
    pub(super) index: usize,
    topic: Arc<str>,
    partition: i32,
    queue: Queue,
}

/// A leased session and what it fetches. Dropped, it stops and gives the session back.
pub(super) struct Fetching {
    /// `None` only while it is dropped.
    session: Option<Session>,
    started: Vec<Started>,
    /// Taken off the first queue, not read yet.
    pub(super) messages: Messages,
    /// The position counts a report at an offset, such as the end of the partition, like a record
    /// there. Up to here it says nothing about records.
    pub(super) reported: i64,
    pool: Arc<SessionPool>,
    /// The session is not to be used again.
    broken: bool,
}

impl Fetching {
    pub(super) fn is_started(&self, index: usize) -> bool {
        self.started.iter().any(|s| s.index == index)
    }

    /// Whether a partition is being fetched, for whatever range.
    pub(super) fn has_partition(&self, range: &OffsetRange) -> bool {
        self.started
            .iter()
            .any(|s| s.partition == range.partition && s.topic == range.topic)
    }

    pub(super) fn started_count(&self) -> usize {
        self.started.len()
    }

    /// Starts fetching a range at an offset.
    pub(super) fn start(
        &mut self,
        index: usize,
        range: &OffsetRange,
        offset: i64,
        wake: &Arc<Notify>,
    ) -> Result<()> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let failed = |reason| Error::Read {
            topic: range.topic.to_string(),
            partition: range.partition,
            offset,
            reason,
        };
        if !session.topics.contains_key(&range.topic) {
            let topic = Topic::new(&session.handle, &range.topic).map_err(failed)?;
            session.topics.insert(Arc::clone(&range.topic), topic);
        }
        let queue = Queue::new(&session.handle, Some(Arc::clone(wake)));
        session.topics[&range.topic]
            .start(range.partition, offset, &queue)
            .map_err(failed)?;
        self.started.push(Started {
            index,
            topic: Arc::clone(&range.topic),
            partition: range.partition,
            queue,
        });
        Ok(())
    }

    /// Stops fetching a range; what was fetched and not read is dropped.
    pub(super) fn stop(&mut self, index: usize) {
        self.messages.clear();
        self.reported = -1;
        if let Some(at) = self.started.iter().position(|s| s.index == index) {
            let stopped = self.started.remove(at);
            if let Some(topic) = self
                .session
                .as_ref()
                .and_then(|s| s.topics.get(&stopped.topic))
            {
                topic.stop(stopped.partition);
            }
        }
    }

    /// Goes on with another range of the same partition, from where this one ended.
    pub(super) fn rename(&mut self, from: usize, to: usize) {
        if let Some(started) = self.started.iter_mut().find(|s| s.index == from) {
            started.index = to;
        }
    }

    /// Takes messages of a range off its queue.
    pub(super) fn take(&mut self, index: usize, count: usize) -> usize {
        match self.started.iter().find(|s| s.index == index) {
            Some(started) => self.messages.take(&started.queue, count),
            None => 0,
        }
    }

    /// The offset that reading has come to, control records included.
    pub(super) fn position(&self, range: &OffsetRange) -> Option<i64> {
        self.session
            .as_ref()?
            .handle
            .position(&range.topic, range.partition)
    }

    /// What the session reported about its connections.
    pub(super) fn health(&self) -> super::ffi::Health {
        self.session
            .as_ref()
            .map(|s| s.handle.health().clone())
            .unwrap_or_default()
    }

    /// The connections worked.
    pub(super) fn succeeded(&self) {
        if let Some(session) = &self.session {
            let mut health = session.handle.health();
            health.refused = None;
            health.down = false;
        }
    }

    /// Closes the session instead of giving it back.
    pub(super) fn discard(mut self) {
        self.broken = true;
    }

    fn stop_all(&mut self) {
        while let Some(started) = self.started.first() {
            let index = started.index;
            self.stop(index);
        }
        self.messages.clear();
    }

    /// Stops and hands the session over.
    fn into_session(mut self) -> Option<Session> {
        self.stop_all();
        self.session.take()
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.stop_all();
        if let Some(session) = self.session.take() {
            self.pool.give_back(session, self.broken);
        }
    }
}

/// A stream's hold on a session, which others may take when it is not used.
pub(super) struct Lease {
    fetching: Mutex<Option<Fetching>>,
    /// When the session may be taken, in ms since [`SessionPool::epoch`].
    takeable_ms: AtomicU64,
}

impl Lease {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            fetching: Mutex::new(None),
            takeable_ms: AtomicU64::new(0),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Fetching>> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream is being polled.
    pub(super) fn busy(&self, pool: &SessionPool) {
        self.takeable_ms
            .store(pool.now_ms(WAITING_KEEPS), Ordering::Release);
    }

    /// The stream has yielded; nobody knows when it is polled again.
    pub(super) fn idle(&self, pool: &SessionPool) {
        self.takeable_ms
            .store(pool.now_ms(IDLE_KEEPS), Ordering::Release);
    }
}

/// All sessions of a client.
pub(super) struct SessionPool {
    user: BTreeMap<String, String>,
    buffer_bytes: usize,
    max: usize,
    epoch: Instant,
    state: Mutex<PoolState>,
    freed: Notify,
}

#[derive(Default)]
struct PoolState {
    /// Not leased, with the time since when; the last is the one used last.
    free: Vec<(Session, Instant)>,
    /// All that exist, free or leased.
    count: usize,
    leases: Vec<Weak<Lease>>,
}

impl fmt::Debug for SessionPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPool")
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

impl SessionPool {
    pub(super) fn new(config: &ConnectionConfig, user: BTreeMap<String, String>) -> Self {
        Self {
            user,
            buffer_bytes: config.read_buffer_bytes(),
            max: config.sessions_max().max(1),
            epoch: Instant::now(),
            state: Mutex::default(),
            freed: Notify::new(),
        }
    }

    /// The most that a stream holds in queues. Compressed record batches are counted as they are
    /// sent; those that inflate a lot may exceed it.
    pub(super) fn buffer_bytes(&self, profile: Profile) -> usize {
        let mut sizes = Sizes::of(profile, self.buffer_bytes);
        let user = |key: &str| self.user.get(key).and_then(|v| v.parse::<usize>().ok());
        sizes.fetch_bytes = user("fetch.message.max.bytes").unwrap_or(sizes.fetch_bytes);
        sizes.queued_messages = user("queued.min.messages").unwrap_or(sizes.queued_messages);
        if let Some(kbytes) = user("queued.max.messages.kbytes") {
            sizes.queued_bytes = kbytes.saturating_mul(1024);
        }
        sizes.most_bytes() * profile.depth()
    }

    fn now_ms(&self, later: Duration) -> u64 {
        u64::try_from((self.epoch.elapsed() + later).as_millis()).unwrap_or(u64::MAX)
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a session of a kind and puts it into the lease.
    pub(super) async fn acquire(
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
                // Of another kind: the one that was not used the longest makes room.
                old = Some(state.free.remove(0));
            } else {
                drop(state);
                return self.take_over(kind);
            }
        }
        drop(old);
        self.make(kind).map(Some)
    }

    /// Takes the session of the stream that has not used its own for the longest, if any may lose it.
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

    /// Makes a session, which the count already includes.
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
            // Corruption must not pass as data; costs about 10 ns a KiB.
            ("check.crcs", "true".to_owned()),
            (
                "fetch.wait.max.ms",
                kind.profile.fetch_wait_ms().to_string(),
            ),
            // How long a full queue is not fetched for, even when it is drained meanwhile.
            ("fetch.queue.backoff.ms", "1".to_owned()),
            ("fetch.error.backoff.ms", "50".to_owned()),
            ("fetch.message.max.bytes", sizes.fetch_bytes.to_string()),
            ("fetch.max.bytes", fetch_max.to_string()),
            // A record batch larger than a fetch comes whole.
            ("receive.message.max.bytes", "1000000000".to_owned()),
            ("queued.min.messages", sizes.queued_messages.to_string()),
            (
                "queued.max.messages.kbytes",
                (sizes.queued_bytes / 1024).max(1).to_string(),
            ),
        ] {
            conf.insert(key.to_owned(), value);
        }
        // Raised together, so that one setting of the user's is enough.
        if let Some(fetch) = self
            .user
            .get("fetch.message.max.bytes")
            .and_then(|v| v.parse().ok())
        {
            conf.insert("fetch.max.bytes".into(), fetch_max.max(fetch).to_string());
        }
        let forced = [
            ("isolation.level", kind.isolation.as_str()),
            ("enable.partition.eof", "true"),
            // An offset that is gone must be an error, never another offset.
            ("auto.offset.reset", "error"),
            // A producer's setting; librdkafka demands that fetch.max.bytes is not below it.
            ("message.max.bytes", "1000"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("allow.auto.create.topics", "false"),
        ];
        handle(conf, &self.user, &forced)
    }

    fn give_back(&self, session: Session, broken: bool) {
        let mut closing = Vec::new();
        {
            let mut state = self.state();
            if broken {
                state.count -= 1;
                closing.push(session);
            } else {
                state.free.push((session, Instant::now()));
            }
            while state
                .free
                .first()
                .is_some_and(|(_, since)| since.elapsed() > FREE_KEEPS)
            {
                closing.push(state.free.remove(0).0);
                state.count -= 1;
            }
        }
        self.freed.notify_one();
        drop(closing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_just_below_its_limits_fits_the_bound() {
        let sizes = Sizes::of(Profile::Large, 16 << 20);
        // 100-byte records take about 107 bytes in a response.
        let messages = sizes.queued_messages + sizes.fetch_bytes / 107;
        assert!(messages * (MESSAGE_OVERHEAD_BYTES + 100) <= 16 << 20);
        assert!(messages * (MESSAGE_OVERHEAD_BYTES + 100) <= sizes.most_bytes());
    }
}
