//! Reads ranges one after another as batches.
//!
//! A stream is a loop of short steps: take messages off the range's queue, append them, and when
//! the queue is empty wait to be woken. Everything happens inside the stream's own poll: there is
//! no thread, no channel, and dropping the stream is the stop.
//!
//! A range ends when the *position* reaches its end, which shows as a record at or beyond the last
//! offset, as librdkafka's position (it passes control records), or as an end-of-partition report
//! at or beyond the end. Silence never ends a range: after a second of it the log's bounds are
//! looked up, to tell a truncated log from a slow broker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::Notify;

use super::columns::Columns;
use super::ffi::code;
use super::meta::{Meta, denied};
use super::session::{Fetching, Lease, Profile, SessionKind, SessionPool};
use crate::client::{OffsetAt, OffsetQuery, OnDataLoss, RawBatch, ReadRequest};
use crate::error::{Error, Result};
use crate::range::{OffsetRange, TopicPartition};

/// The most messages taken off a queue at once: their headers alone are 1.2 MB.
const TAKE_MOST: usize = 4096;
/// A batch is closed here whatever was asked for, because its buffers have 32-bit offsets.
const BATCH_BYTES_MOST: usize = 1 << 30;
/// How long a begun batch waits for more records before it is handed out as it is.
const LINGER: Duration = Duration::from_millis(5);
/// How often an empty wait looks at the connections' health.
const TICK: Duration = Duration::from_millis(50);
/// How long without progress before the log's bounds are looked up; doubled each time.
const DOUBT: Duration = Duration::from_secs(1);
/// How long such a look-up may take.
const DOUBT_LOOKUP: Duration = Duration::from_secs(5);
/// How long without progress before another session is tried.
const RENEW: Duration = Duration::from_secs(10);
/// Reads on over a gap of so many offsets between two ranges of a partition.
const GAP_MOST: i64 = 500;
/// The next range is started when the current one has so many offsets left.
const AHEAD_OFFSETS: i64 = 20_000;
/// How often a partition is started anew after a fault that the log's bounds do not explain.
const RESTARTS_MOST: u32 = 5;

/// The stream of a request.
pub(super) fn stream(
    meta: Arc<Meta>,
    pool: Arc<SessionPool>,
    timeout: Duration,
    mut request: ReadRequest,
) -> BoxStream<'static, Result<RawBatch>> {
    request.ranges.retain(|r| r.start < r.end);
    if request.ranges.is_empty() {
        return stream::empty().boxed();
    }
    request.batch_rows = request.batch_rows.max(1);
    request.batch_bytes = request.batch_bytes.clamp(1, BATCH_BYTES_MOST);
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
        position: request.ranges[0].start,
        request,
        at: 0,
        begun: false,
        wake: Arc::new(Notify::new()),
        progress: Instant::now(),
        doubt: DOUBT,
        renewed: 0,
        received: false,
        restarts: 0,
        last_reason: None,
        mean_bytes: 64,
        lost: 0,
        fetch_wait: Duration::ZERO,
        decode: Duration::ZERO,
    };
    stream::try_unfold(Some(reader), |reader| async {
        let Some(mut reader) = reader else {
            return Ok(None);
        };
        reader.lease.busy(&reader.pool);
        let batch = reader.next().await?;
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
    /// The first poll has happened.
    begun: bool,
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
    restarts: u32,
    last_reason: Option<String>,
    /// The mean size of a record, to take no more off the queue than a batch holds.
    mean_bytes: usize,
    lost: i64,
    fetch_wait: Duration,
    decode: Duration,
}

/// What a step came to.
enum Step {
    /// The batch is full.
    Full,
    /// The position has reached the range's end.
    RangeEnd,
    /// Nothing is there.
    Empty,
    /// The stream has no session.
    NoSession,
    /// librdkafka reported an error.
    Fault(i32, String),
}

impl Reader {
    async fn next(&mut self) -> Result<Option<RawBatch>> {
        if !self.begun {
            self.begun = true;
            self.verify_ids().await?;
        }
        self.progress = Instant::now();
        while self.at < self.request.ranges.len() {
            match self.step()? {
                Step::Full => return self.finish().map(Some),
                Step::RangeEnd => {
                    let batch = self.finish()?;
                    self.next_range().await?;
                    if !batch.offsets.is_empty() || batch.lost_offsets > 0 {
                        return Ok(Some(batch));
                    }
                }
                Step::Empty => {
                    if let Some(batch) = self.wait().await? {
                        return Ok(Some(batch));
                    }
                }
                Step::NoSession => self.acquire().await?,
                Step::Fault(c, reason) => self.fault(c, reason).await?,
            }
        }
        Ok(None)
    }

    fn range(&self) -> &OffsetRange {
        &self.request.ranges[self.at]
    }

    fn partition(&self) -> TopicPartition {
        let range = self.range();
        TopicPartition::new(Arc::clone(&range.topic), range.partition)
    }

    async fn verify_ids(&self) -> Result<()> {
        if self.request.topic_ids.is_empty() {
            return Ok(());
        }
        let read = |t: &Arc<str>| self.request.ranges.iter().any(|r| r.topic == *t);
        let ids = self.request.topic_ids.iter().filter(|(t, _)| read(t));
        self.meta
            .verify_ids(&ids.map(|(t, id)| (Arc::clone(t), id.clone())).collect())
            .await
    }

    /// Moves on; at the very end makes sure that the topics were the ones asked for all along.
    async fn next_range(&mut self) -> Result<()> {
        let done = self.at;
        self.at += 1;
        self.moved();
        if self.at == self.request.ranges.len() {
            self.give_back();
            return self.verify_ids().await;
        }
        let (old, next) = (&self.request.ranges[done], &self.request.ranges[self.at]);
        let gap = next.start - self.position;
        let same = next.topic == old.topic && next.partition == old.partition;
        self.position = next.start;
        if let Some(fetching) = self.lease.lock().as_mut() {
            if same && (0..=GAP_MOST).contains(&gap) {
                fetching.rename(done, self.at);
            } else {
                fetching.stop(done);
            }
        }
        Ok(())
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

    /// Appends what is there.
    fn step(&mut self) -> Result<Step> {
        let started = Instant::now();
        let lease = Arc::clone(&self.lease);
        let mut guard = lease.lock();
        let Some(fetching) = guard.as_mut() else {
            return Ok(Step::NoSession);
        };
        self.start_ranges(fetching)?;
        let step = self.drain(fetching);
        self.decode += started.elapsed();
        Ok(step)
    }

    /// Starts the current range and those that are fetched ahead.
    fn start_ranges(&mut self, fetching: &mut Fetching) -> Result<()> {
        let at = self.at;
        if !fetching.is_started(at) {
            fetching.start(at, &self.request.ranges[at], self.position, &self.wake)?;
        }
        let depth = self.kind.profile.depth();
        if fetching.started_count() >= depth
            || (self.kind.profile == Profile::Large
                && self.range().end - self.position > AHEAD_OFFSETS)
        {
            return Ok(());
        }
        let ahead = self
            .request
            .ranges
            .iter()
            .enumerate()
            .skip(at + 1)
            .take(depth - 1);
        for (index, range) in ahead {
            if fetching.started_count() >= depth {
                break;
            }
            // A partition is fetched once at a time; a later range of it waits for its turn.
            if !fetching.is_started(index) && !fetching.has_partition(range) {
                fetching.start(index, range, range.start, &self.wake)?;
            }
        }
        Ok(())
    }

    fn drain(&mut self, fetching: &mut Fetching) -> Step {
        let end = self.range().end;
        let rows = self.request.batch_rows;
        self.columns
            .reserve(rows.min(usize::try_from(end - self.position).unwrap_or(rows)));
        loop {
            if self.position >= end {
                return Step::RangeEnd;
            }
            if self.columns.rows() >= rows || self.columns.bytes() >= self.request.batch_bytes {
                return Step::Full;
            }
            if fetching.messages.is_empty() {
                let room = (self.request.batch_bytes - self.columns.bytes()) / self.mean_bytes + 1;
                let left = usize::try_from(end - self.position).unwrap_or(usize::MAX);
                let count = (rows - self.columns.rows())
                    .min(room)
                    .min(left)
                    .min(TAKE_MOST);
                if fetching.take(self.at, count) == 0 {
                    // Control records are counted in the position and not delivered.
                    let range = &self.request.ranges[self.at];
                    match fetching.position(range) {
                        Some(p) if p > self.position && p > fetching.reported => {
                            self.position = p;
                            self.moved();
                            continue;
                        }
                        _ => return Step::Empty,
                    }
                }
                self.moved();
                if !self.received {
                    self.received = true;
                    fetching.succeeded();
                }
            }
            if let Some(step) = self.append(fetching, end) {
                return step;
            }
        }
    }

    /// Appends messages until the batch is full, the range ends or none is left.
    fn append(&mut self, fetching: &mut Fetching, end: i64) -> Option<Step> {
        let rows_most = self.request.batch_rows;
        let bytes_most = self.request.batch_bytes;
        let (rows_before, bytes_before) = (self.columns.rows(), self.columns.bytes());
        let mut read = 0;
        let mut fault = None;
        let mut reported = fetching.reported;
        for message in fetching.messages.rest() {
            let c = message.code();
            let offset = message.offset();
            if c != code::OK {
                reported = reported.max(offset.saturating_add(1));
            }
            if c == code::OK {
                if offset >= end {
                    self.position = end;
                    break;
                }
                if self.columns.rows() >= rows_most || self.columns.bytes() >= bytes_most {
                    break;
                }
                // Below: of a gap between two ranges, or delivered again after a leader change.
                if offset >= self.position {
                    self.columns.append(message);
                    self.position = offset + 1;
                }
            } else if c == code::PARTITION_EOF {
                // The log may have grown since; only an end at or beyond ours says anything.
                if offset >= end {
                    self.position = end;
                }
            } else {
                let text = message.value().map(String::from_utf8_lossy);
                fault = Some(Step::Fault(c, text.unwrap_or_default().into_owned()));
                read += 1;
                break;
            }
            read += 1;
            if self.position >= end {
                break;
            }
        }
        fetching.messages.advance(read);
        fetching.reported = reported;
        let rows = self.columns.rows() - rows_before;
        if let Some(mean) = (self.columns.bytes() - bytes_before).checked_div(rows) {
            self.mean_bytes = mean.max(1);
        }
        fault
    }

    fn moved(&mut self) {
        self.progress = Instant::now();
        self.doubt = DOUBT;
        self.renewed = 0;
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
        let silent = self.progress.elapsed();
        if silent >= self.doubt {
            self.doubt = silent * 2;
            self.look_up().await?;
        }
        let silent = self.progress.elapsed();
        if silent >= RENEW * (self.renewed + 1) {
            self.renewed += 1;
            if let Some(fetching) = self.lease.lock().take() {
                fetching.discard();
            }
        }
        if silent >= self.timeout {
            return Err(self.stalled(silent));
        }
        Ok(None)
    }

    fn stalled(&self, silent: Duration) -> Error {
        let range = self.range();
        Error::Stalled {
            topic: range.topic.to_string(),
            partition: range.partition,
            offset: self.position,
            end: range.end,
            waited_ms: u64::try_from(silent.as_millis()).unwrap_or(u64::MAX),
            reason: self
                .last_reason
                .clone()
                .unwrap_or_else(|| "the broker sends nothing".into()),
        }
    }

    fn check_health(&mut self) -> Result<()> {
        let Some(health) = self.lease.lock().as_ref().map(Fetching::health) else {
            return Ok(());
        };
        if let Some((_, reason)) = health.refused {
            return Err(Error::Authentication {
                hosts: self.meta.hosts().to_owned(),
                reason,
            });
        }
        if health.last.is_some() {
            self.last_reason = health.last;
        }
        Ok(())
    }

    /// Is the silence the log's end, or the broker's?
    async fn look_up(&mut self) -> Result<()> {
        let within = DOUBT_LOOKUP.min(self.timeout);
        match self.bounds(within).await {
            Ok((start, end)) => self.check_bounds(start, end),
            Err(e @ Error::Connection { .. }) => {
                // Never reached anything, and cannot now: waiting on is no use. A client that was
                // connected before may see a restart.
                let waited = self.progress.elapsed() >= self.meta.timeout();
                if !self.received && (waited || !self.meta.connected()) {
                    return Err(e);
                }
                self.last_reason = Some(e.to_string());
                Ok(())
            }
            Err(e @ (Error::Kafka { .. } | Error::Read { .. })) => {
                self.last_reason = Some(e.to_string());
                Ok(())
            }
            Err(e) => Err(e),
        }?;
        self.verify_ids().await.or_else(|e| match e {
            Error::Connection { .. } | Error::Kafka { .. } => Ok(()),
            e => Err(e),
        })
    }

    /// The log's start and its end by the isolation level.
    async fn bounds(&self, within: Duration) -> Result<(i64, i64)> {
        let query = |at| OffsetQuery {
            partition: self.partition(),
            at,
        };
        let queries = [query(OffsetAt::Earliest), query(OffsetAt::Latest)];
        let answers = self
            .meta
            .list_offsets(&queries, self.request.isolation, within)
            .await?;
        match (answers[0].offset, answers[1].offset) {
            (Some(start), Some(end)) => Ok((start, end)),
            _ => Err(Error::Kafka {
                operation: format!("listing offsets of {}", self.partition()),
                reason: "the broker named no offset".into(),
            }),
        }
    }

    /// # Errors
    /// When offsets of the range are gone and may not be skipped, or its end is beyond the log.
    fn check_bounds(&mut self, log_start: i64, log_end: i64) -> Result<()> {
        let (position, range_end) = (self.position, self.range().end);
        if position < log_start {
            let available = log_start.min(range_end);
            let lost = available - position;
            if self.request.on_data_loss == OnDataLoss::Fail {
                let range = self.range();
                return Err(Error::BelowLogStart {
                    topic: range.topic.to_string(),
                    partition: range.partition,
                    asked: position,
                    available: log_start,
                    lost,
                });
            }
            log::warn!(
                "{}@{position}: {lost} offsets are gone and are skipped",
                self.partition()
            );
            self.lost += lost;
            self.position = available;
            self.restart();
            self.moved();
        }
        if log_end < range_end {
            let range = self.range();
            return Err(Error::PastLogEnd {
                topic: range.topic.to_string(),
                partition: range.partition,
                asked: range_end,
                available: log_end,
                isolation: self.request.isolation.as_str(),
            });
        }
        Ok(())
    }

    /// Stops the range, so that the next step starts it at the position.
    fn restart(&self) {
        if let Some(fetching) = self.lease.lock().as_mut() {
            fetching.stop(self.at);
        }
    }

    async fn fault(&mut self, c: i32, reason: String) -> Result<()> {
        let partition = self.partition();
        match c {
            // librdkafka goes on by itself.
            c if code::RETRIABLE.contains(&c) || c == code::ALL_BROKERS_DOWN => {
                self.last_reason = Some(reason);
                return Ok(());
            }
            code::AUTHENTICATION | code::SSL | code::SASL_AUTHENTICATION_FAILED => {
                return Err(Error::Authentication {
                    hosts: self.meta.hosts().to_owned(),
                    reason,
                });
            }
            code::TOPIC_AUTHORIZATION_FAILED => {
                return Err(denied(format!("topic {}", partition.topic), "READ", c));
            }
            code::AUTO_OFFSET_RESET | code::OFFSET_OUT_OF_RANGE => {
                let position = self.position;
                let (start, end) = self.bounds(self.meta.timeout()).await?;
                self.check_bounds(start, end)?;
                if self.position != position {
                    return Ok(());
                }
            }
            code::UNKNOWN_TOPIC_LOCAL
            | code::UNKNOWN_PARTITION_LOCAL
            | code::UNKNOWN_TOPIC_OR_PART
            | code::UNKNOWN_TOPIC_ID => {
                self.verify_ids().await?;
                self.meta.expect_partition(&partition).await?;
            }
            _ => return Err(self.read_error(reason)),
        }
        // The log has the offset, and yet it was refused: a moment's disagreement of brokers.
        self.restarts += 1;
        if self.restarts > RESTARTS_MOST {
            return Err(self.read_error(reason));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.restart();
        self.last_reason = Some(reason);
        Ok(())
    }

    fn read_error(&self, reason: String) -> Error {
        let range = self.range();
        Error::Read {
            topic: range.topic.to_string(),
            partition: range.partition,
            offset: self.position,
            reason,
        }
    }

    fn finish(&mut self) -> Result<RawBatch> {
        let started = Instant::now();
        let finished = self.columns.finish(self.partition(), self.position);
        let mut batch = finished.map_err(|e| self.read_error(e.to_string()))?;
        self.decode += started.elapsed();
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        batch.lost_offsets = std::mem::take(&mut self.lost);
        batch.fetch_wait_ns = nanos(std::mem::take(&mut self.fetch_wait));
        batch.decode_ns = nanos(std::mem::take(&mut self.decode));
        Ok(batch)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.give_back();
    }
}
