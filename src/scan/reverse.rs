//! The newest records first, without reading the rest of the range.
//!
//! Kafka reads forward only. For `ORDER BY "offset" DESC` the range is cut into pieces from its
//! end; each piece is read forward and emitted backward. With a LIMIT the first piece is as long
//! as the limit, and grows while holes leave too few records.

use std::collections::VecDeque;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use datafusion::error::Result;
use futures::{Stream, StreamExt, stream};

use super::account::{Position, Received};
use super::stream::Reader;
use crate::range::OffsetRange;

/// The shortest and the longest piece, in offsets.
const PIECE_OFFSETS: std::ops::RangeInclusive<i64> = 64..=1 << 20;
/// Without a limit a piece is held whole: it is sized to about so many bytes.
const PIECE_BYTES: i64 = 16 << 20;
/// The first piece without a limit, in offsets: its bytes tell how long the next may be.
const FIRST_PIECE: i64 = 4096;

struct Reverse {
    reader: Reader,
    /// What is left, first offset first; pieces are cut from the end of the last range.
    left: Vec<OffsetRange>,
    piece_offsets: i64,
    /// Read and not yet emitted, in offset order.
    ready: VecDeque<Received>,
    remaining: Option<usize>,
}

/// Reads the ranges of one Kafka partition in descending offset order; no more than `fetch` rows.
pub(super) fn reverse(
    reader: Reader,
    ranges: Vec<OffsetRange>,
    fetch: Option<usize>,
) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let piece_offsets = fetch.map_or(FIRST_PIECE, |n| {
        i64::try_from(n)
            .unwrap_or(i64::MAX)
            .clamp(*PIECE_OFFSETS.start(), *PIECE_OFFSETS.end())
    });
    let state = Reverse {
        reader,
        left: ranges,
        piece_offsets,
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
        loop {
            if self.remaining == Some(0) {
                self.ready.clear();
                self.left.clear();
            }
            if let Some(received) = self.ready.pop_back() {
                let rows = received.rows();
                let taken = self.remaining.map_or(rows, |remaining| remaining.min(rows));
                self.reader.books.post(&received.last(taken))?;
                if taken == 0 {
                    continue;
                }
                let batch = reversed(&received.batch.slice(rows - taken, taken))?;
                if let Some(remaining) = &mut self.remaining {
                    *remaining -= taken;
                }
                self.reader.metrics.baseline.record_output(batch.num_rows());
                return Ok(Some(batch));
            }
            let Some((piece, range)) = self.cut() else {
                self.reader.release();
                self.reader.end()?;
                return Ok(None);
            };
            self.read(piece, range).await?;
        }
    }

    /// The last piece of what is left, and the place of its range.
    fn cut(&mut self) -> Option<(OffsetRange, usize)> {
        let mut range = self.left.pop()?;
        // Ranges are used up from the last one on, so that the others keep their places.
        let place = self.left.len();
        let start = range
            .start
            .max(range.end.saturating_sub(self.piece_offsets));
        let piece = OffsetRange {
            start,
            ..range.clone()
        };
        if range.start < start {
            range.end = start;
            self.left.push(range);
        }
        Some((piece, place))
    }

    async fn read(&mut self, piece: OffsetRange, place: usize) -> Result<()> {
        let mut position = Position::of_piece(&piece, place);
        let mut raw = self.reader.open(vec![piece.clone()], None)?;
        let mut rows = 0;
        let mut bytes = 0;
        while let Some(item) = raw.next().await {
            let item = item?;
            let received = self.reader.receive(&item, &mut position).await?;
            bytes += item.bytes;
            self.reader.hold(received.batch.get_array_memory_size())?;
            rows += received.rows();
            self.ready.push_back(received);
            // Rows that the limit cannot reach are dropped again.
            while let (Some(limit), Some(first)) = (self.remaining, self.ready.front()) {
                if rows - first.rows() < limit {
                    break;
                }
                rows -= first.rows();
                self.ready.pop_front();
            }
        }
        position.finish()?;
        self.piece_offsets = if self.remaining.is_some() {
            self.piece_offsets.saturating_mul(2)
        } else {
            let per_offset = i64::try_from(bytes).unwrap_or(i64::MAX) / piece.len().max(1);
            PIECE_BYTES / per_offset.max(1)
        }
        .clamp(*PIECE_OFFSETS.start(), *PIECE_OFFSETS.end());
        Ok(())
    }
}

fn reversed(batch: &RecordBatch) -> Result<RecordBatch> {
    // A batch is bounded by the session's batch size, far below u32.
    let rows = u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
    let indices: UInt32Array = (0..rows).rev().collect();
    Ok(take_record_batch(batch, &indices)?)
}
