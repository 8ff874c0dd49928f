//! Reads ranges one after another as batches.
//!
//! ```text
//! plan ─▶ send Fetch ─▶ bytes ─▶ FetchAnswer ─▶ RangeDecoder ─▶ batch
//!  ▲                                 │ end of the answer
//!  └─────────────────────────────────┘
//! ```
//!
//! A stream decodes inside its own poll, straight from the socket: while it works on what has
//! arrived the kernel receives more, so that the size of a Fetch costs no memory. It keeps its
//! connection as long as there are no more streams than connections. Further streams take turns
//! on a few more connections; their answers are received whole by a task of their own, so that a
//! stream which nobody polls never holds a connection that others wait for.
//!
//! A range ends when the position reaches its end, never by time. Answers come at once even if they
//! are empty, so nothing ever waits at the end of a range.

mod fetch;
mod trouble;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::stream::{self, BoxStream, StreamExt};
use uuid::Uuid;

use self::fetch::{Fetch, Line, Part};
use super::chunks::CHUNK_BYTES;
use super::cluster::Cluster;
use super::connection::Trouble;
use super::decode::{Event, Limits, PartitionHead, RangeDecoder, ShortOf, Step, mean_bytes};
use crate::client::{Held, MemoryBudget, RawBatch, ReadRequest};
use crate::error::{Error, Result};
use crate::range::{IsolationLevel, OffsetRange, TopicPartition};

/// A batch is closed here whatever was asked for: headers are counted in 32 bits.
const MAX_BATCH_BYTES: usize = 1 << 30;

/// The stream of a request, which asks `memory` for what large records take.
pub(super) fn stream(
    cluster: Arc<Cluster>,
    mut request: ReadRequest,
    memory: Arc<dyn MemoryBudget>,
) -> BoxStream<'static, Result<RawBatch>> {
    if let Some(e) = request.ranges.iter().find_map(|r| r.check().err()) {
        return stream::once(std::future::ready(Err(e))).boxed();
    }
    request.ranges.retain(|r| r.start < r.end);
    if request.ranges.is_empty() {
        return stream::empty().boxed();
    }
    let limits = Limits {
        // More rows than the limit are never asked for.
        batch_rows: request
            .batch_rows
            .min(request.limit.unwrap_or(usize::MAX))
            .max(1),
        batch_bytes: request.batch_bytes.clamp(1, MAX_BATCH_BYTES),
        unpacked_bytes: cluster.settings.answer_bytes_most,
        check_crcs: cluster.settings.check_crcs,
    };
    let reader = Reader {
        decoder: RangeDecoder::new(request.columns, request.isolation, limits)
            .within(Held::nothing_of(&memory)),
        arriving: Held::nothing_of(&memory),
        memory,
        partition_bytes: cluster.settings.partition_bytes,
        rows_left: request.limit,
        cluster,
        request,
        at: 0,
        requested: Instant::now(),
        ids: HashMap::new(),
        line: None,
        fetch: None,
        replicas: BTreeMap::new(),
        by_name: false,
        delivered: false,
        received: false,
        progress: Instant::now(),
        position: -1,
        yielded: None,
        retries: 0,
        empties: 0,
        last_reason: None,
        corrupt_at: None,
        pending: None,
        lost: 0,
        fetch_wait: Duration::ZERO,
        held: Duration::ZERO,
        served: 0,
        throttle: Duration::ZERO,
    };
    stream::try_unfold(Some(reader), |reader| async {
        let Some(mut reader) = reader else {
            return Ok(None);
        };
        let batch = reader.next().await?;
        Ok(batch.map(|b| (b, Some(reader))))
    })
    .boxed()
}

struct Reader {
    cluster: Arc<Cluster>,
    request: ReadRequest,
    /// The range that is read.
    at: usize,
    decoder: RangeDecoder,
    memory: Arc<dyn MemoryBudget>,
    /// The memory of a record batch that is larger than a chunk, while it arrives.
    arriving: Held,
    /// When the stream was asked for.
    requested: Instant,
    /// The ids of the topics that are read.
    ids: HashMap<Arc<str>, Uuid>,
    /// The connection, between two answers.
    line: Option<Line>,
    /// The answer under way.
    fetch: Option<Fetch>,
    /// Replicas that brokers asked to read from (KIP-392), and since when.
    replicas: BTreeMap<TopicPartition, (i32, Instant)>,
    /// How much is asked for of a partition; grows where a record batch is larger.
    partition_bytes: usize,
    /// Rows that may still be asked for.
    rows_left: Option<usize>,
    /// A broker was asked by topic name: it is too old for ids.
    by_name: bool,
    /// A batch was handed out.
    delivered: bool,
    /// Something was received for this stream.
    received: bool,
    /// When the position last moved; later by the time since then in which nobody polled, or a
    /// broker held this client back.
    progress: Instant,
    /// When the last batch was handed out, if nobody has polled since.
    yielded: Option<Instant>,
    /// Where it was then.
    position: i64,
    /// Attempts since the last progress that came to nothing.
    retries: u32,
    /// Empty answers since the last progress.
    empties: u32,
    last_reason: Option<String>,
    /// Where records did not decode since the last progress.
    corrupt_at: Option<(TopicPartition, i64)>,
    /// What is to be said after the rows before it.
    pending: Option<Error>,
    lost: i64,
    fetch_wait: Duration,
    /// How long brokers have held this client back since the last progress.
    held: Duration,
    /// What the broker had served this client when it was last waited for.
    served: usize,
    /// The same since the last batch.
    throttle: Duration,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<RawBatch>> {
        if let Some(error) = self.pending.take() {
            return Err(error);
        }
        if self.position < 0 {
            self.begin_range();
        }
        // Time that nobody polled is no time without progress.
        if let Some(yielded) = self.yielded.take() {
            self.progress += yielded.elapsed();
        }
        let batch = self.next_batch().await;
        self.yielded = Some(Instant::now());
        match batch {
            Ok(batch) => {
                self.delivered |= batch.is_some();
                if let (Some(left), Some(batch)) = (&mut self.rows_left, &batch) {
                    *left = left.saturating_sub(batch.offsets.len());
                }
                Ok(batch)
            }
            // What was read before the error is not lost with it.
            Err(error) if self.has_news() => {
                self.pending = Some(error);
                self.finish().map(Some)
            }
            Err(error) => Err(error),
        }
    }

    async fn next_batch(&mut self) -> Result<Option<RawBatch>> {
        while self.at < self.request.ranges.len() {
            match self.decoder.step() {
                Ok(Step::Full) => return self.finish().map(Some),
                Ok(Step::RangeEnd) => {
                    let batch = self.has_news().then(|| self.finish()).transpose()?;
                    self.next_range().await?;
                    if batch.is_some() {
                        return Ok(batch);
                    }
                }
                Ok(Step::Empty) => {
                    self.more().await?;
                    // What has come is not held back with what is to come, and the time is told.
                    if !self.throttle.is_zero() {
                        return self.finish().map(Some);
                    }
                }
                // Rows before it are handed out first: they take memory, too.
                Ok(Step::Short) if self.has_news() => return self.finish().map(Some),
                Ok(Step::Short) => self.unpack_later().await?,
                Err(malformed) => self.corrupt(malformed).await?,
            }
        }
        Ok(None)
    }

    /// Waits until there is memory for the record batch that was not unpacked.
    async fn unpack_later(&mut self) -> Result<()> {
        let Some(shortage) = self.decoder.shortage() else {
            return Ok(());
        };
        let bytes = match shortage.kind {
            ShortOf::Memory(bytes) => bytes,
            ShortOf::Limit(most) => {
                return Err(self.too_large(
                    shortage.offset,
                    format!(
                        "the record batch unpacks to more than {most} bytes; \
                         'receive.message.max.bytes' sets how much is allowed"
                    ),
                ));
            }
        };
        let mut held = Held::nothing_of(&self.memory);
        let started = Instant::now();
        held.hold(bytes).await.map_err(|reason| {
            let message = format!("unpacking the record batch takes {bytes} bytes: {reason}");
            self.too_large(shortage.offset, message)
        })?;
        self.decoder.grant(held);
        // Waiting for memory is no silence, and no progress either.
        self.progress += started.elapsed();
        Ok(())
    }

    /// Asks for the memory of a record batch of so many bytes, of which the rest is to arrive.
    async fn arrives(&mut self, bytes: usize) -> Result<()> {
        let large = if bytes > CHUNK_BYTES { bytes } else { 0 };
        if large == self.arriving.bytes() {
            return Ok(());
        }
        let started = Instant::now();
        let granted = self.arriving.hold(large).await;
        self.progress += started.elapsed();
        granted.map_err(|reason| {
            let message = format!("the record batch takes {bytes} bytes: {reason}");
            self.too_large(self.decoder.position(), message)
        })
    }

    fn nothing_arrives(&mut self) {
        // Less is always granted.
        let _ = self.arriving.try_hold(0);
    }

    fn too_large(&self, offset: i64, message: String) -> Error {
        let place = format!("{}@{offset}", self.partition());
        Error::Memory { place, message }
    }

    fn range(&self) -> &OffsetRange {
        &self.request.ranges[self.at]
    }

    fn partition(&self) -> TopicPartition {
        self.range().topic_partition()
    }

    fn has_news(&self) -> bool {
        self.lost > 0 || self.decoder.has_news()
    }

    fn finish(&mut self) -> Result<RawBatch> {
        let partition = self.partition();
        let finished = self.decoder.finish(partition);
        let mut batch = finished.map_err(|e| self.read_error(e.to_string()))?;
        batch.lost_offsets = std::mem::take(&mut self.lost);
        let wait = std::mem::take(&mut self.fetch_wait);
        batch.fetch_wait_ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let throttle = std::mem::take(&mut self.throttle);
        batch.throttle_ns = u64::try_from(throttle.as_nanos()).unwrap_or(u64::MAX);
        Ok(batch)
    }

    fn begin_range(&mut self) {
        let range = &self.request.ranges[self.at];
        let bounds = self.request.timestamps.get(&range.topic_partition());
        let bounds = bounds.copied().unwrap_or_default();
        self.decoder.begin(range.start, range.end, bounds);
        self.moved();
    }

    /// Goes over to the next range, within the answer if it is there.
    async fn next_range(&mut self) -> Result<()> {
        let done = self.partition();
        let part = self.fetch.as_ref().and_then(|fetch| fetch.current.as_ref());
        if let Some(part) = part.filter(|part| part.mean > 0) {
            self.cluster.learn_mean(&part.partition.topic, part.mean);
        }
        self.at += 1;
        if self.at == self.request.ranges.len() {
            self.abandon();
            if let Some(line) = self.line.take() {
                line.give_back(0);
            }
            return self.verify_ids_at_the_end().await;
        }
        let next = self.partition();
        let position = self.decoder.position();
        let goes_on = next == done && self.range().start >= position;
        let leaves_out = self.range().start > position;
        self.begin_range();
        if goes_on {
            if leaves_out {
                // What is left out may be of later epochs: the broker would take that for a cut log.
                self.decoder.forget_epoch();
            }
            return Ok(());
        }
        self.decoder.clear();
        self.decoder.forget_epoch();
        if let Some(fetch) = &mut self.fetch {
            fetch.answer.skip_records();
            fetch.current = None;
            let start = self.request.ranges[self.at].start;
            if !fetch.parts.iter().any(|part| part.holds(&next, start)) {
                self.abandon();
            }
        }
        Ok(())
    }

    /// Notes progress, if there was any.
    fn moved(&mut self) {
        let position = self.decoder.position();
        if position != self.position {
            self.position = position;
            self.progress = Instant::now();
            self.retries = 0;
            self.empties = 0;
            self.held = Duration::ZERO;
            self.corrupt_at = None;
        }
    }

    /// Gets the next records, or whatever brings them nearer.
    async fn more(&mut self) -> Result<()> {
        self.moved();
        let Some(fetch) = &mut self.fetch else {
            return self.begin_fetch().await;
        };
        match fetch.answer.next(&mut fetch.buffer) {
            Ok(Event::More(bytes)) => {
                self.arrives(bytes).await?;
                let started = Instant::now();
                let received = self.receive(bytes).await;
                self.fetch_wait += started.elapsed();
                match received {
                    Ok(()) => self.received = true,
                    Err(trouble) => self.trouble(trouble).await?,
                }
            }
            Ok(Event::Head(head)) => {
                fetch.hold(head.throttle());
                if !fetch.throttled
                    && let Some(broker) = self.cluster.node(fetch.node)
                {
                    broker.served.fetch_add(1, Ordering::Relaxed);
                }
                if head.error != super::code::OK {
                    self.refused(head.error).await?;
                }
            }
            Ok(Event::Partition(head)) => self.part(&head).await?,
            Ok(Event::Records(batches)) => {
                if let Some(current) = &mut fetch.current {
                    current.bytes += batches.len();
                    current.mean = mean_bytes(&batches);
                    self.decoder.feed(batches);
                }
            }
            Ok(Event::PartitionEnd(end)) => {
                if let Some(part) = fetch.current.take() {
                    self.part_end(part, end).await?;
                }
            }
            Ok(Event::End) => {
                // A broker that holds a client back leaves the partitions out.
                let lacking = !fetch.throttled && fetch.parts.iter().any(|part| part.first);
                self.end_fetch();
                if lacking {
                    self.attempts("the broker's answer lacks the partition", true)
                        .await?;
                }
            }
            Err(malformed) => {
                // The bytes that follow mean nothing any more.
                self.fetch = None;
                return Err(self.read_error(malformed.to_string()));
            }
        }
        Ok(())
    }

    /// A partition's part of the answer begins.
    async fn part(&mut self, head: &PartitionHead) -> Result<()> {
        let Some(fetch) = &mut self.fetch else {
            return Ok(());
        };
        let here = self.request.ranges[self.at].topic_partition();
        let position = self.decoder.position();
        let named = |part: &Part| part.is_named(&head.topic, head.partition);
        let part = fetch.parts.iter().position(named);
        let part = part.and_then(|index| fetch.parts.remove(index));
        match part {
            Some(mut part) if part.holds(&here, position) => {
                part.end_seen = match head.last_stable_offset {
                    stable
                        if stable >= 0
                            && self.request.isolation == IsolationLevel::ReadCommitted =>
                    {
                        stable
                    }
                    _ => head.high_watermark,
                };
                part.start = position;
                part.preferred_replica = head.preferred_replica;
                if head.error != super::code::OK {
                    return self.refused(head.error).await;
                }
                self.decoder.begin_part(&head.aborted);
                fetch.current = Some(part);
            }
            // Of a range behind one that is not complete yet.
            Some(_) => fetch.answer.skip_records(),
            None => {
                let found = format!("{:?}[{}]", head.topic, head.partition);
                self.fetch = None;
                return Err(self.read_error(format!("the broker answers with {found} instead")));
            }
        }
        Ok(())
    }

    fn end_fetch(&mut self) {
        if let Some(fetch) = self.fetch.take() {
            self.cluster.chunks.give_back(fetch.buffer, fetch.large);
            self.line = fetch.line;
        }
    }

    /// Gives up the answer under way. The connection is kept if its rest is short.
    fn abandon(&mut self) {
        self.decoder.clear();
        self.nothing_arrives();
        let Some(fetch) = self.fetch.take() else {
            return;
        };
        let rest = fetch.answer.left().saturating_sub(fetch.buffer.len());
        self.cluster.chunks.give_back(fetch.buffer, fetch.large);
        if let Some(line) = fetch.line {
            line.give_back(rest);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.abandon();
        if let Some(line) = self.line.take() {
            line.give_back(0);
        }
    }
}

/// What reading came to that is no error of the range.
type Attempt<T> = std::result::Result<T, Trouble>;
