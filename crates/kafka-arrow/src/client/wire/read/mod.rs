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
//! stream that is not polled never holds a connection that others wait for.
//!
//! A range ends when the position reaches its end, never by time. Answers come at once even if they
//! are empty, so nothing ever waits at the end of a range.

mod ends;
mod fetch;
mod ids;
mod plan;
mod progress;
#[cfg(test)]
mod tests;
mod trouble;
mod turn;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::stream::{self, BoxStream, StreamExt};

use self::fetch::{Fetch, Line};
use self::ids::Ids;
use self::progress::{Failures, Progress, Report};
use self::verdict::Begun;
use super::chunks::CHUNK_BYTES;
use super::cluster::Cluster;
use super::code;
use super::connection::Trouble;
use super::decode::{Event, Limits, PartitionHead, RangeDecoder, ShortOf, Step, mean_bytes};
use crate::client::{Held, MemoryBudget, RawBatch, ReadRequest};
use crate::error::{Error, Result};
use crate::range::{OffsetRange, TopicPartition};

/// A batch is closed here whatever was asked for: headers are counted in 32 bits.
const MAX_BATCH_BYTES: usize = 1 << 30;

/// The stream of a request, which asks `memory` for what large records take.
pub(super) fn stream(
    cluster: Arc<Cluster>,
    mut request: ReadRequest,
    memory: Arc<dyn MemoryBudget>,
) -> BoxStream<'static, Result<RawBatch>> {
    request.ranges.retain(|r| !r.is_empty());
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
            .searching(request.needle.as_ref())
            .within(Held::nothing_of(&memory)),
        arriving: Held::nothing_of(&memory),
        memory,
        partition_bytes: cluster.settings.partition_bytes,
        rows_left: request.limit,
        cluster,
        request,
        at: 0,
        state: State::Idle(None),
        ids: Ids::new(),
        replicas: BTreeMap::new(),
        received: false,
        progress: Progress::new(),
        failures: Failures::none(),
        report: Report::default(),
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

/// What a stream has of a broker between two steps. While it waits before another attempt it is idle.
enum State {
    /// No answer is under way; perhaps there is the connection of the last one.
    Idle(Option<Line>),
    /// An answer arrives.
    Arriving(Box<Fetch>),
    /// The rows before an error were handed out; the error is next, and the end.
    Failed(Error),
}

impl State {
    /// The connection between two answers.
    fn take_line(&mut self) -> Option<Line> {
        match self {
            Self::Idle(line) => line.take(),
            _ => None,
        }
    }
}

struct Reader {
    cluster: Arc<Cluster>,
    request: ReadRequest,
    /// The range that is read.
    at: usize,
    /// Rows that may still be asked for.
    rows_left: Option<usize>,
    state: State,
    decoder: RangeDecoder,
    memory: Arc<dyn MemoryBudget>,
    /// The memory of a record batch that is larger than a chunk, while it arrives.
    arriving: Held,
    ids: Ids,
    /// Replicas that brokers asked to read from (KIP-392), and since when.
    replicas: BTreeMap<TopicPartition, (i32, Instant)>,
    /// How much is asked for of a partition; grows where a record batch is larger.
    partition_bytes: usize,
    /// Something was received for this stream.
    received: bool,
    progress: Progress,
    failures: Failures,
    report: Report,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<RawBatch>> {
        if let State::Failed(error) = &self.state {
            return Err(error.clone());
        }
        if !self.progress.has_begun() {
            self.begin_range();
        }
        self.progress.polled();
        let batch = self.next_batch().await;
        self.progress.hand_out();
        match batch {
            Ok(batch) => {
                self.ids.delivered |= batch.is_some();
                if let (Some(left), Some(batch)) = (&mut self.rows_left, &batch) {
                    *left = left.saturating_sub(batch.offsets.len());
                }
                Ok(batch)
            }
            // Rows that were read before the error come first.
            Err(error) if self.has_news() => {
                self.let_go();
                self.state = State::Failed(error);
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
                // What a search has found is not kept until a batch is full.
                Ok(Step::Empty) if self.decoder.is_due() => return self.finish().map(Some),
                Ok(Step::Empty) => {
                    self.more().await?;
                    // Hands out what has come, and reports the time that the broker held this client back.
                    if !self.report.throttle.is_zero() {
                        return self.finish().map(Some);
                    }
                }
                // Rows before it are handed out first: they take memory, too.
                Ok(Step::Short) if self.has_news() => return self.finish().map(Some),
                Ok(Step::Short) => self.unpack_later().await?,
                Err(malformed) if self.decoder.is_contradicted() => {
                    return Err(self.corrupted(malformed.to_string()));
                }
                Ok(Step::Cut(offset)) => return Err(ReadRequest::cut_within(self.range(), offset)),
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
        self.progress.excuse(started.elapsed());
        Ok(())
    }

    /// Takes memory for a record batch of `bytes`, of which the rest has yet to arrive.
    async fn arrives(&mut self, bytes: usize) -> Result<()> {
        let large = if bytes > CHUNK_BYTES { bytes } else { 0 };
        if large == self.arriving.bytes() {
            return Ok(());
        }
        let started = Instant::now();
        let granted = self.arriving.hold(large).await;
        self.progress.excuse(started.elapsed());
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
        self.report.lost > 0 || self.decoder.has_news()
    }

    fn finish(&mut self) -> Result<RawBatch> {
        let partition = self.partition();
        let finished = self.decoder.finish(partition);
        let mut batch = finished.map_err(|e| self.read_error(e.to_string()))?;
        self.report.hand_over(&mut batch);
        Ok(batch)
    }

    fn begin_range(&mut self) {
        let range = &self.request.ranges[self.at];
        let bounds = self.request.timestamps.get(&range.topic_partition());
        let bounds = bounds.copied().unwrap_or_default();
        self.decoder.begin(range.start(), range.end(), bounds);
        let newest_epoch = self.request.newest_epoch(&range.topic_partition());
        self.decoder.expect_up_to(newest_epoch);
        self.moved();
    }

    /// Goes over to the next range, within the answer if it is there.
    async fn next_range(&mut self) -> Result<()> {
        let done = self.partition();
        if let State::Arriving(fetch) = &self.state
            && let Some(part) = fetch.current.as_ref().filter(|part| part.mean > 0)
        {
            self.cluster.learn_mean(&part.partition.topic, part.mean);
        }
        self.at += 1;
        if self.at == self.request.ranges.len() {
            self.let_go();
            return self.verify_ids_at_the_end().await;
        }
        let next = self.partition();
        let position = self.decoder.position();
        let goes_on = next == done && self.range().start() >= position;
        let leaves_out = self.range().start() > position;
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
        if let State::Arriving(fetch) = &mut self.state {
            fetch.answer.skip_records();
            fetch.current = None;
            let start = self.request.ranges[self.at].start();
            if !fetch.parts.iter().any(|part| part.holds(&next, start)) {
                self.abandon();
            }
        }
        Ok(())
    }

    /// Notes progress, if there was any.
    fn moved(&mut self) {
        if self.progress.reach(self.decoder.position()) {
            self.failures.forget();
        }
    }

    /// Gets the next records, or whatever brings them nearer.
    async fn more(&mut self) -> Result<()> {
        self.moved();
        let State::Arriving(fetch) = &mut self.state else {
            return self.begin_fetch().await;
        };
        match fetch.answer.next(&mut fetch.buffer) {
            Ok(Event::More(bytes)) => {
                self.arrives(bytes).await?;
                let started = Instant::now();
                let received = self.receive(bytes).await;
                self.report.fetch_wait += started.elapsed();
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
                if head.error != code::OK {
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
            // The bytes that follow mean nothing any more.
            Err(malformed) => self.garbled(malformed.to_string()).await?,
        }
        Ok(())
    }

    /// A partition's part of the answer begins.
    async fn part(&mut self, head: &PartitionHead) -> Result<()> {
        let here = self.partition();
        let (position, isolation) = (self.decoder.position(), self.request.isolation);
        let State::Arriving(fetch) = &mut self.state else {
            return Ok(());
        };
        match verdict::begin(&mut fetch.parts, head, &here, position, isolation) {
            Begun::Current(_) if head.error != code::OK => return self.refused(head.error).await,
            Begun::Current(part) => {
                self.decoder.begin_part(&head.aborted);
                self.decoder.log_ends_at(head.high_watermark);
                fetch.current = Some(part);
            }
            Begun::Later => fetch.answer.skip_records(),
            Begun::Strange => {
                let found = format!("{:?}[{}]", head.topic, head.partition);
                let reason = format!("the broker answers with {found} instead");
                return self.garbled(reason).await;
            }
        }
        Ok(())
    }

    /// The answer has ended: its connection is kept.
    fn end_fetch(&mut self) {
        if let State::Arriving(fetch) = std::mem::replace(&mut self.state, State::Idle(None)) {
            self.cluster.chunks.give_back(fetch.buffer, fetch.large);
            self.state = State::Idle(fetch.line);
        }
    }

    /// Gives up the answer under way. The connection goes back if the answer's rest is short.
    fn abandon(&mut self) {
        self.decoder.clear();
        self.nothing_arrives();
        if !matches!(self.state, State::Arriving(_)) {
            return;
        }
        if let State::Arriving(fetch) = std::mem::replace(&mut self.state, State::Idle(None)) {
            let rest = fetch.answer.left().saturating_sub(fetch.buffer.len());
            self.cluster.chunks.give_back(fetch.buffer, fetch.large);
            if let Some(line) = fetch.line {
                line.give_back(rest);
            }
        }
    }

    /// Gives up the answer under way and the connection.
    fn let_go(&mut self) {
        self.abandon();
        if let Some(line) = self.state.take_line() {
            line.give_back(0);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// What reading came to that is no error of the range.
type Attempt<T> = std::result::Result<T, Trouble>;
