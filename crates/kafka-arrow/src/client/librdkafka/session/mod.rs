//! Sessions: handles that fetch records. Their number is bounded, and each is leased to one stream at a time.
//!
//! ```text
//! stream A ── Lease ──> Fetching { Session, started partitions }   polled: keeps it
//! stream B ── Lease ──> Fetching { … }                             not polled for 20 ms: may lose it
//! stream C ── waits ──> takes a free session, makes one, or takes B's
//! ```
//!
//! So any number of streams makes progress with few sessions, in whatever order they are polled. A merge that
//! needs a first batch from each of 500 streams cannot deadlock. A stream that lost its session knows its
//! position, and asks for another session when it is polled again. What librdkafka had prefetched for it is
//! dropped and fetched again.

mod pool;
mod sizes;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::ffi::{Handle, Health, Messages, Queue, Topic};
use crate::error::{Error, Result};
use crate::range::{IsolationLevel, OffsetRange};

pub(crate) use pool::{FREE_KEEPS, SessionPool};
pub(crate) use sizes::Profile;

/// How long a stream that has yielded a batch keeps its session while others wait.
const IDLE_KEEPS: Duration = Duration::from_millis(20);
/// How long a stream that waits for data keeps its session without being polled.
const WAITING_KEEPS: Duration = Duration::from_millis(500);

/// What a session was created for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionKind {
    pub(crate) profile: Profile,
    pub(crate) isolation: IsolationLevel,
}

/// A handle that fetches.
pub(crate) struct Session {
    kind: SessionKind,
    handle: Arc<Handle>,
    topics: HashMap<Arc<str>, Topic>,
}

/// A range being fetched.
pub(crate) struct Started {
    /// Its place in the request.
    pub(crate) index: usize,
    topic: Arc<str>,
    partition: i32,
    queue: Queue,
}

/// A leased session with its fetches. Dropping it stops them and returns the session.
pub(crate) struct Fetching {
    /// `None` only while being dropped.
    session: Option<Session>,
    started: Vec<Started>,
    /// Messages taken off the first queue but not read yet.
    pub(crate) messages: Messages,
    /// librdkafka's position counts a report, such as the end of the partition, like a record at its offset.
    /// Up to here, the position therefore says nothing about records.
    pub(crate) reported: i64,
    /// The end of the partition was reported here, so no record below will follow. librdkafka reports each
    /// end once, so this is kept for later ranges of the partition.
    pub(crate) ended: i64,
    pool: Arc<SessionPool>,
    /// The session must not be used again.
    broken: bool,
}

impl Fetching {
    pub(crate) fn is_started(&self, index: usize) -> bool {
        self.started.iter().any(|s| s.index == index)
    }

    /// Whether a partition is being fetched, for any range.
    pub(crate) fn has_partition(&self, range: &OffsetRange) -> bool {
        self.started
            .iter()
            .any(|s| s.partition == range.partition() && s.topic == *range.topic())
    }

    pub(crate) fn started_count(&self) -> usize {
        self.started.len()
    }

    /// Starts fetching a range at an offset.
    pub(crate) fn start(
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
            topic: range.topic().to_string(),
            partition: range.partition(),
            offset,
            reason,
            transient: false,
        };
        if !session.topics.contains_key(range.topic()) {
            let topic = Topic::new(&session.handle, range.topic()).map_err(failed)?;
            session.topics.insert(Arc::clone(range.topic()), topic);
        }
        let queue = Queue::new(&session.handle, Some(Arc::clone(wake)));
        session.topics[range.topic()]
            .start(range.partition(), offset, &queue)
            .map_err(failed)?;
        self.started.push(Started {
            index,
            topic: Arc::clone(range.topic()),
            partition: range.partition(),
            queue,
        });
        Ok(())
    }

    /// Stops fetching a range. Unread messages are dropped.
    pub(crate) fn stop(&mut self, index: usize) {
        self.messages.clear();
        self.reported = -1;
        self.ended = -1;
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

    /// Continues with another range of the same partition, from where this one ended.
    pub(crate) fn rename(&mut self, from: usize, to: usize) {
        if let Some(started) = self.started.iter_mut().find(|s| s.index == from) {
            started.index = to;
        }
    }

    /// Takes messages of a range off its queue.
    pub(crate) fn take(&mut self, index: usize, count: usize) -> usize {
        match self.started.iter().find(|s| s.index == index) {
            Some(started) => self.messages.take(&started.queue, count),
            None => 0,
        }
    }

    /// The offset that reading has reached once all delivered messages were read. It also passes control
    /// records, which librdkafka does not deliver.
    pub(crate) fn passed(&self, range: &OffsetRange) -> i64 {
        let session = self.session.as_ref();
        let position = session.and_then(|s| s.handle.position(range.topic(), range.partition()));
        // One behind the log is that of a damaged record, and an answer with an error names no end.
        let log_end = self.log_end(range);
        let position = position.filter(|p| *p > self.reported && *p <= log_end);
        self.ended.max(position.unwrap_or(-1))
    }

    /// Where the log ends by the last answer; negative where unknown.
    pub(crate) fn log_end(&self, range: &OffsetRange) -> i64 {
        let session = self.session.as_ref();
        session.map_or(-1, |s| s.handle.log_end(range.topic(), range.partition()))
    }

    /// What the session has reported about its connections.
    pub(crate) fn health(&self) -> Health {
        self.session
            .as_ref()
            .map(|s| s.handle.health().clone())
            .unwrap_or_default()
    }

    /// For how long brokers have announced throttling since the last call, and for how long they still
    /// throttle.
    pub(crate) fn take_held(&self) -> (Duration, Duration) {
        let Some(session) = &self.session else {
            return Default::default();
        };
        let mut health = session.handle.health();
        let left = health.held_until.map_or(Duration::ZERO, |at| {
            at.saturating_duration_since(Instant::now())
        });
        (std::mem::take(&mut health.held), left)
    }

    /// Notes that the connections worked.
    pub(crate) fn succeeded(&self) {
        if let Some(session) = &self.session {
            let mut health = session.handle.health();
            health.refused = None;
            health.down = false;
            health.worked = true;
        }
    }

    /// Closes the session instead of returning it.
    pub(crate) fn discard(mut self) {
        self.broken = true;
    }

    fn stop_all(&mut self) {
        while let Some(started) = self.started.first() {
            let index = started.index;
            self.stop(index);
        }
        self.messages.clear();
    }

    /// Stops all fetches and hands over the session.
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

/// A stream's hold on a session. Others may take the session while it is not used.
pub(crate) struct Lease {
    fetching: Mutex<Option<Fetching>>,
    /// The time from which the session may be taken, in ms since [`SessionPool::epoch`].
    takeable_ms: AtomicU64,
}

impl Lease {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            fetching: Mutex::new(None),
            takeable_ms: AtomicU64::new(0),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Fetching>> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the stream is being polled.
    pub(crate) fn busy(&self, pool: &SessionPool) {
        self.takeable_ms
            .store(pool.now_ms(WAITING_KEEPS), Ordering::Release);
    }

    /// Notes that the stream has yielded. It may not be polled again for a long time.
    pub(crate) fn idle(&self, pool: &SessionPool) {
        self.takeable_ms
            .store(pool.now_ms(IDLE_KEEPS), Ordering::Release);
    }
}
