//! Reads ranges one after another as batches.
//!
//! A stream is a loop of short steps: take messages off the range's queue, append them, and when
//! the queue is empty wait to be woken. Everything happens inside the stream's own poll: there is
//! no thread, no channel, and dropping the stream is the stop.
//!
//! A range ends when the *position* reaches its end, which shows as a record at or beyond the last
//! offset, as librdkafka's position (it passes control records), or as an end-of-partition report
//! at or beyond the end; aborted records show by what follows them only. Silence never ends a range: after a second of it the log's bounds are
//! looked up, to tell a truncated log from a slow broker.

mod take;
mod trouble;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::Notify;

use self::take::Step;
use self::trouble::{DOUBT, RENEW};
use super::columns::Columns;
use super::meta::Meta;
use super::session::{Lease, Profile, SessionKind, SessionPool};
use crate::backoff::Backoff;
use crate::client::deadline::backoff;
use crate::client::{RawBatch, ReadRequest};
use crate::error::{Error, Result};
use crate::range::{OffsetRange, TopicPartition};

/// A batch is closed here whatever was asked for, because its buffers have 32-bit offsets.
const MAX_BATCH_BYTES: usize = 1 << 30;
/// How long a begun batch waits for more records before it is handed out as it is.
const LINGER: Duration = Duration::from_millis(5);
/// How often an empty wait looks at the connections' health.
const TICK: Duration = Duration::from_millis(50);
/// How old an answer about topic ids may be before the first Fetch.
const IDS_RECENT: Duration = Duration::from_secs(1);
/// A gap of up to this many offsets between two ranges of a partition is read over.
const GAP_MOST: i64 = 500;

/// The stream of a request.
pub(crate) fn stream(
    meta: Arc<Meta>,
    pool: Arc<SessionPool>,
    timeout: Duration,
    mut request: ReadRequest,
) -> BoxStream<'static, Result<RawBatch>> {
    let requested = Instant::now();
    request.ranges.retain(|r| !r.is_empty());
    if request.ranges.is_empty() {
        return stream::empty().boxed();
    }
    // More rows than the limit are never asked for.
    request.batch_rows = request
        .batch_rows
        .min(request.limit.unwrap_or(usize::MAX))
        .max(1);
    request.batch_bytes = request.batch_bytes.clamp(1, MAX_BATCH_BYTES);
    let kind = SessionKind {
        profile: Profile::of(&request),
        isolation: request.isolation,
    };
    let reader = Reader {
        meta,
        lease: Lease::new(),
        pool,
        kind,
        timeout,
        columns: Columns::new(request.columns),
        position: request.ranges[0].start(),
        accounted: request.ranges[0].start(),
        request,
        at: 0,
        requested,
        begun: false,
        verified: false,
        wake: Arc::new(Notify::new()),
        progress: Instant::now(),
        doubt: DOUBT,
        renewed: 0,
        received: false,
        restarts: backoff(),
        damaged: false,
        last_reason: None,
        mean_bytes: 64,
        lost: 0,
        fetch_wait: Duration::ZERO,
        decode: Duration::ZERO,
        held: Duration::ZERO,
        throttle: Duration::ZERO,
    };
    stream::try_unfold(Some(reader), |reader| async {
        let Some(mut reader) = reader else {
            return Ok(None);
        };
        reader.lease.busy(&reader.pool);
        let batch = match reader.next().await {
            Ok(batch) => batch,
            Err(e) => {
                reader.abandon(&e);
                return Err(e);
            }
        };
        reader.lease.idle(&reader.pool);
        Ok(batch.map(|b| (b, Some(reader))))
    })
    .boxed()
}

struct Reader {
    meta: Arc<Meta>,
    pool: Arc<SessionPool>,
    lease: Arc<Lease>,
    kind: SessionKind,
    /// `read.timeout.ms`.
    timeout: Duration,
    request: ReadRequest,
    /// The range that is read.
    at: usize,
    /// The next offset to read of it.
    position: i64,
    /// Up to here the batches so far account for the offsets.
    accounted: i64,
    /// When the stream was asked for.
    requested: Instant,
    /// The first poll has happened.
    begun: bool,
    /// The topics' ids were compared with an answer that was asked for after `requested`.
    verified: bool,
    /// Woken when a queue of the stream's becomes non-empty.
    wake: Arc<Notify>,
    columns: Columns,
    /// When the position last moved.
    progress: Instant,
    /// The time without progress that is next taken for doubtful.
    doubt: Duration,
    /// How often another session was tried since the last progress.
    renewed: u32,
    /// Something was received for this stream.
    received: bool,
    /// How often the partition was restarted since the last progress.
    restarts: Backoff,
    /// Damaged records were met since the last progress.
    damaged: bool,
    last_reason: Option<String>,
    /// The mean size of a record, to take no more off the queue than a batch holds.
    mean_bytes: usize,
    lost: i64,
    fetch_wait: Duration,
    decode: Duration,
    /// How long brokers have held this stream back since the last progress.
    held: Duration,
    /// For how long they have said so since the last batch.
    throttle: Duration,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<RawBatch>> {
        if !self.begun {
            self.begun = true;
            // An older answer will do here: it only spares a wait for what is long gone.
            let since = self.requested.checked_sub(IDS_RECENT);
            self.verify_ids(since.unwrap_or(self.requested)).await?;
        }
        let batch = self.next_batch().await?;
        // Not a row goes out before the topics are known to have been the ones asked for.
        if batch.is_some() && !self.verified {
            self.verify_ids(self.requested).await?;
            self.verified = true;
        }
        Ok(batch)
    }

    async fn next_batch(&mut self) -> Result<Option<RawBatch>> {
        self.progress = Instant::now();
        while self.at < self.request.ranges.len() {
            match self.step()? {
                Step::Full => return self.finish().map(Some),
                Step::RangeEnd => {
                    // Also without rows: it accounts for the offsets up to the end.
                    let batch = self.finish()?;
                    self.next_range().await?;
                    return Ok(Some(batch));
                }
                Step::Empty => {
                    if let Some(batch) = self.wait().await? {
                        return Ok(Some(batch));
                    }
                }
                Step::NoSession => self.acquire().await?,
                Step::Fault(c, reason) => self.fault(c, reason).await?,
                Step::Cut(offset) => return Err(ReadRequest::cut_within(self.range(), offset)),
            }
        }
        Ok(None)
    }

    fn range(&self) -> &OffsetRange {
        &self.request.ranges[self.at]
    }

    fn partition(&self) -> TopicPartition {
        let range = self.range();
        TopicPartition::new(Arc::clone(range.topic()), range.partition())
    }

    /// Compares the topics' ids with an answer that was asked for at `since` or later.
    async fn verify_ids(&self, since: Instant) -> Result<()> {
        if self.request.topic_ids.is_empty() {
            return Ok(());
        }
        let read = |t: &Arc<str>| self.request.ranges.iter().any(|r| r.topic() == t);
        let ids = self.request.topic_ids.iter().filter(|(t, _)| read(t));
        self.meta
            .verify_ids(
                &ids.map(|(t, id)| (Arc::clone(t), id.clone())).collect(),
                since,
            )
            .await
    }

    /// Moves on; at the very end makes sure that the topics were the ones asked for all along.
    async fn next_range(&mut self) -> Result<()> {
        let done = self.at;
        self.at += 1;
        self.moved();
        if self.at == self.request.ranges.len() {
            self.give_back();
            self.verify_ids(Instant::now()).await?;
            self.verified = true;
            return Ok(());
        }
        let (old, next) = (&self.request.ranges[done], &self.request.ranges[self.at]);
        let gap = next.start() - self.position;
        let same = next.topic() == old.topic() && next.partition() == old.partition();
        self.position = next.start();
        self.accounted = next.start();
        if let Some(fetching) = self.lease.lock().as_mut() {
            if same && (0..=GAP_MOST).contains(&gap) {
                fetching.rename(done, self.at);
            } else {
                fetching.stop(done);
            }
        }
        Ok(())
    }

    /// The stream ends with an error: a session that may be at fault is not used again.
    fn abandon(&self, error: &Error) {
        let suspect = matches!(
            error,
            Error::Authentication { .. }
                | Error::Stalled { .. }
                | Error::Read { .. }
                | Error::Corrupted { .. }
        );
        let fetching = self.lease.lock().take();
        match fetching {
            Some(fetching) if suspect => fetching.discard(),
            fetching => drop(fetching),
        }
    }

    /// Stops fetching and frees the session.
    fn give_back(&self) {
        let fetching = self.lease.lock().take();
        drop(fetching);
    }

    async fn acquire(&mut self) -> Result<()> {
        let started = Instant::now();
        self.pool.acquire(self.kind, &self.lease).await?;
        self.fetch_wait += started.elapsed();
        // Waiting for others' sessions is no silence of the broker's.
        self.progress = Instant::now();
        Ok(())
    }

    fn moved(&mut self) {
        self.progress = Instant::now();
        self.doubt = DOUBT;
        self.renewed = 0;
        self.restarts.reset();
        self.held = Duration::ZERO;
        self.damaged = false;
    }

    /// Waits for the queue; hands out a batch that has waited long enough.
    async fn wait(&mut self) -> Result<Option<RawBatch>> {
        let started = Instant::now();
        let begun = self.columns.rows() > 0;
        let most = if begun { LINGER } else { TICK };
        let woken = tokio::time::timeout(most, self.wake.notified())
            .await
            .is_ok();
        self.fetch_wait += started.elapsed();
        self.lease.busy(&self.pool);
        if woken {
            return Ok(None);
        }
        if begun {
            return self.finish().map(Some);
        }
        self.check_health()?;
        let held = self.is_held(started)?;
        // Under a quota, too: librdkafka does not report that the log starts behind the position.
        let quiet = self.progress.elapsed() + self.held;
        if quiet >= self.doubt {
            self.doubt = quiet * 2;
            self.look_up().await?;
        }
        if held {
            return self.finish().map(Some);
        }
        let silent = self.progress.elapsed();
        if silent >= RENEW * (self.renewed + 1) {
            self.renewed += 1;
            if let Some(fetching) = self.lease.lock().take() {
                fetching.discard();
            }
        }
        if silent >= self.timeout {
            let stalled = self.stalled(silent);
            let partition = self.partition();
            return Err(self.meta.gave_up(&partition, silent, stalled).await);
        }
        Ok(None)
    }

    fn finish(&mut self) -> Result<RawBatch> {
        let started = Instant::now();
        let finished = self.columns.finish(self.partition(), self.position);
        let mut batch = finished.map_err(|e| self.read_error(e.to_string(), false))?;
        self.decode += started.elapsed();
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        batch.lost_offsets = std::mem::take(&mut self.lost);
        // Control records, aborted ones and gaps look alike from here: no record is delivered.
        let advance = self.position - std::mem::replace(&mut self.accounted, self.position);
        let rows = i64::try_from(batch.offsets.len()).unwrap_or(i64::MAX);
        let untold = advance - rows - batch.lost_offsets;
        batch.passed.untold = u64::try_from(untold).unwrap_or(0);
        batch.fetch_wait_ns = nanos(std::mem::take(&mut self.fetch_wait));
        batch.decode_ns = nanos(std::mem::take(&mut self.decode));
        batch.throttle_ns = nanos(std::mem::take(&mut self.throttle));
        Ok(batch)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.give_back();
    }
}
