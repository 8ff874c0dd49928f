//! The newest records first, without reading the rest of the range.
//!
//! Kafka reads forward only. For `ORDER BY "offset" DESC` the range is cut into pieces from its
//! end; each piece is read forward and emitted backward. With a LIMIT the first piece is as long
//! as the limit, and grows while holes leave too few records.

use std::collections::{BTreeMap, VecDeque};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use datafusion::error::Result;
use futures::{Stream, StreamExt, stream};

use super::ScanRange;
use super::position::{Position, Step};
use super::rows::{Rows, raw_bytes};
use super::stream::Reader;
use crate::client::{Held, RawBatch};
use crate::error::{Error, External as _};
use crate::range::TopicPartition;

/// The longest piece, in offsets; and the shortest that a LIMIT begins with.
const MAX_PIECE_OFFSETS: i64 = 1 << 20;
pub(super) const MIN_PIECE_OFFSETS: i64 = 64;
/// A piece is held whole before its last row goes out: this many bytes, or one record.
pub(super) const MAX_PIECE_BYTES: usize = 16 << 20;
/// The same where many partitions are read side by side.
pub(super) const MIN_PIECE_BYTES: usize = 1 << 20;
/// The first piece without a limit, in offsets: its bytes tell how long the next may be.
const FIRST_PIECE_OFFSETS: i64 = 4096;

/// The ranges of each Kafka partition.
pub(super) fn by_kafka_partition(ranges: &[ScanRange]) -> BTreeMap<TopicPartition, Vec<ScanRange>> {
    let mut groups: BTreeMap<TopicPartition, Vec<ScanRange>> = BTreeMap::new();
    for range in ranges {
        let group = groups.entry(range.range.topic_partition()).or_default();
        group.push(range.clone());
    }
    groups
}

struct Reverse {
    rows: Rows,
    /// What is left, first offset first; pieces are cut from the end of the last range.
    left: Vec<ScanRange>,
    /// Whether it is known what is needed of that.
    begun: bool,
    piece_offsets: i64,
    piece_bytes: usize,
    /// Read and not yet decoded, in offset order.
    ready: VecDeque<(RawBatch, Step)>,
    /// The memory of these.
    held: Held,
    remaining: Option<usize>,
}

/// Reads the ranges of one Kafka partition in descending offset order, in pieces of about
/// `piece_bytes`; no more than `fetch` rows.
pub(super) fn reverse(
    mut reader: Reader,
    ranges: Vec<ScanRange>,
    fetch: Option<usize>,
    piece_bytes: usize,
) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let piece_offsets = fetch.map_or(FIRST_PIECE_OFFSETS, |n| {
        i64::try_from(n)
            .unwrap_or(i64::MAX)
            .clamp(MIN_PIECE_OFFSETS, MAX_PIECE_OFFSETS)
    });
    let batch_bytes = &mut reader.limits.batch_bytes;
    *batch_bytes = (*batch_bytes).min(piece_bytes);
    let state = Reverse {
        held: reader.nothing_held(),
        rows: Rows::new(reader),
        left: ranges,
        begun: false,
        piece_offsets,
        piece_bytes,
        ready: VecDeque::new(),
        remaining: fetch,
    };
    stream::try_unfold(state, |mut state| async move {
        let batch = state.next().await?;
        Ok(batch.map(|batch| (batch, state)))
    })
}

impl Reverse {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.rows.handed_on().await;
        if !std::mem::replace(&mut self.begun, true) {
            let ranges = std::mem::take(&mut self.left);
            self.left = self.rows.reader.needed(ranges).await?;
        }
        loop {
            if self.remaining == Some(0) {
                self.ready.clear();
                self.left.clear();
            }
            if let Some((raw, step)) = self.ready.pop_back() {
                // The memory of its payload goes over to the rows.
                self.let_go(raw_bytes(&raw));
                let (received, _) = self.rows.decode(&raw, step, 0).await?;
                let rows = received.rows();
                let taken = self.remaining.map_or(rows, |remaining| remaining.min(rows));
                self.rows
                    .reader
                    .books
                    .post(&received.last(taken))
                    .external()?;
                if taken == 0 {
                    continue;
                }
                let batch = reversed(&received.batch.slice(rows - taken, taken))?;
                if let Some(remaining) = &mut self.remaining {
                    *remaining -= taken;
                }
                let metrics = &self.rows.reader.metrics;
                metrics.baseline.record_output(batch.num_rows());
                return Ok(Some(batch));
            }
            self.let_go(usize::MAX);
            let Some((piece, place)) = self.cut() else {
                self.rows.handed_on().await;
                self.rows.reader.end()?;
                return Ok(None);
            };
            self.read(piece, place).await?;
        }
    }

    async fn hold(&mut self, raw: &RawBatch) -> Result<()> {
        let bytes = self.held.bytes() + raw_bytes(raw);
        let held = self.held.hold(bytes).await;
        held.map_err(|reason| {
            let place = format!("{}@{}", raw.partition, raw.next_offset);
            let message = format!("reading backwards holds {bytes} bytes: {reason}");
            Error::Memory { place, message }.external()
        })
    }

    fn let_go(&mut self, bytes: usize) {
        // Less is always granted.
        let _ = self.held.try_hold(self.held.bytes().saturating_sub(bytes));
    }

    /// The last piece of what is left, and the place of its range.
    fn cut(&mut self) -> Option<(ScanRange, usize)> {
        let mut whole = self.left.pop()?;
        while whole.range.is_empty() {
            whole = self.left.pop()?;
        }
        // Ranges are used up from the last one on, so that the others keep their places.
        let place = self.left.len();
        let (start, end) = (whole.range.start(), whole.range.end());
        let cut = start.max(end.saturating_sub(self.piece_offsets));
        if start < cut {
            self.left.push(whole.piece(start, cut));
        }
        Some((whole.piece(cut, end), place))
    }

    /// Puts a piece back that turned out to be too long.
    fn uncut(&mut self, piece: ScanRange, place: usize) {
        match self.left.get_mut(place) {
            Some(left) => left.range = left.range.hull(&piece.range),
            None => self.left.push(piece),
        }
    }

    async fn read(&mut self, piece: ScanRange, place: usize) -> Result<()> {
        let mut position = Position::of_piece(&piece.range, place);
        let mut buffers = self.rows.reader.nothing_held();
        let reader = &self.rows.reader;
        let mut raw = reader
            .open(std::slice::from_ref(&piece), None, &mut buffers)
            .await?;
        let droppable = reader.every_record_is_a_row();
        let (mut rows, mut bytes) = (0, 0);
        while let Some(item) = raw.next().await {
            let item = item.external()?;
            let step = position.advance(&item).external()?;
            let size = raw_bytes(&item);
            bytes += size;
            if self.held.bytes() + size > self.piece_bytes && item.next_offset < piece.range.end() {
                self.ready.clear();
                self.let_go(usize::MAX);
                // Shorter than before, so that this ends.
                let read = item.next_offset - piece.range.start();
                self.resize(bytes, read, piece.range.len() / 2);
                self.uncut(piece, place);
                return Ok(());
            }
            self.hold(&item).await?;
            rows += item.offsets.len();
            self.ready.push_back((item, step));
            // Rows that the limit cannot reach are dropped again.
            while let (Some(limit), Some((first, _)), true) =
                (self.remaining, self.ready.front(), droppable)
            {
                if rows - first.offsets.len() < limit {
                    break;
                }
                rows -= first.offsets.len();
                let size = raw_bytes(first);
                self.ready.pop_front();
                self.let_go(size);
            }
        }
        position.finish().external()?;
        let most = match self.remaining {
            Some(_) => self.piece_offsets.saturating_mul(2),
            None => MAX_PIECE_OFFSETS,
        };
        self.resize(bytes, piece.range.len(), most);
        Ok(())
    }

    /// Sizes the next piece, of no more than `most` offsets: these `offsets` took these `bytes`.
    fn resize(&mut self, bytes: usize, offsets: i64, most: i64) {
        let per_offset = bytes.div_ceil(usize::try_from(offsets).unwrap_or(1).max(1));
        // Room for records that are larger than those before: a piece too long is read in vain.
        let fitting = self.piece_bytes / 4 * 3 / per_offset.max(1);
        self.piece_offsets = i64::try_from(fitting)
            .unwrap_or(i64::MAX)
            .min(most)
            .clamp(1, MAX_PIECE_OFFSETS);
    }
}

fn reversed(batch: &RecordBatch) -> Result<RecordBatch> {
    // A batch is bounded by the session's batch size, far below u32.
    let rows = u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
    let indices: UInt32Array = (0..rows).rev().collect();
    Ok(take_record_batch(batch, &indices)?)
}
