//! One execution partition's ranges as a stream of record batches, first offset first.
//!
//! ```text
//! client.read ─▶ RawBatch ─▶ decode projected columns ─▶ @T1:T2 filter ─▶ join small ones ─▶ limit
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, stream};

use super::metrics::ScanMetrics;
use super::ScanSource;
use crate::client::{RawBatch, ReadRequest, TimestampBounds};
use crate::range::OffsetRange;

/// What both directions of reading need.
pub(super) struct Reader {
    pub(super) source: Arc<ScanSource>,
    /// Indices into the table's schema.
    pub(super) projection: Arc<[usize]>,
    /// The projected schema.
    pub(super) schema: SchemaRef,
    pub(super) batch_rows: usize,
    pub(super) metrics: ScanMetrics,
    reservation: MemoryReservation,
}

impl Reader {
    pub(super) fn new(
        source: Arc<ScanSource>,
        projection: Arc<[usize]>,
        schema: SchemaRef,
        metrics: ScanMetrics,
        partition: usize,
        context: &TaskContext,
    ) -> Self {
        let consumer = MemoryConsumer::new(format!("KafkaScanExec[{partition}]"));
        Self {
            source,
            projection,
            schema,
            batch_rows: context.session_config().batch_size(),
            metrics,
            reservation: consumer.register(context.memory_pool()),
        }
    }

    /// Opens the client's stream over `ranges` and reserves what it may buffer.
    pub(super) fn open(
        &self,
        ranges: Vec<OffsetRange>,
        limit: Option<usize>,
    ) -> Result<BoxStream<'static, crate::Result<RawBatch>>> {
        let mut columns = self.source.decoder.raw_columns(&self.projection);
        columns.timestamp |= !self.source.record_filters.is_empty();
        // A filter may drop any number of records: the limit says nothing about reading then.
        let limit = limit.filter(|_| self.source.record_filters.is_empty());
        let request = ReadRequest {
            ranges,
            topic_ids: self.source.topic_ids.clone(),
            columns,
            isolation: self.source.isolation,
            batch_rows: self.batch_rows,
            batch_bytes: self.source.batch_bytes,
            limit,
            on_data_loss: self.source.on_data_loss,
            timestamps: self.source.record_filters.clone(),
        };
        self.reservation
            .try_resize(self.source.client.read_buffer_bytes(&request))?;
        Ok(self.source.client.read(request).fuse().boxed())
    }

    /// Accounts for rows that are held until they can be emitted.
    pub(super) fn hold(&self, bytes: usize) -> Result<()> {
        self.reservation.try_grow(bytes)
    }

    pub(super) fn release(&self) {
        self.reservation.free();
    }

    /// Decodes a raw batch and applies the range's own timestamp bounds.
    pub(super) fn decode(&self, raw: &RawBatch, passed: usize) -> Result<RecordBatch> {
        self.metrics.received(raw, passed);
        let _timer = self.metrics.decode_timer();
        let batch = self
            .source
            .decoder
            .decode(raw, &self.projection, &self.schema)?;
        match self.source.record_filters.get(&raw.partition) {
            Some(bounds) => {
                let kept = filter_record_batch(&batch, &within(*bounds, raw))?;
                self.metrics.filtered(batch.num_rows() - kept.num_rows());
                Ok(kept)
            }
            None => Ok(batch),
        }
    }
}

/// Which records lie in `from_ms..to_ms`; one without a timestamp does not.
fn within(bounds: TimestampBounds, raw: &RawBatch) -> BooleanArray {
    let from = bounds.from_ms.unwrap_or(i64::MIN);
    let to = bounds.to_ms.unwrap_or(i64::MAX);
    match &raw.timestamps {
        Some(timestamps) => timestamps
            .iter()
            .map(|t| Some(t.is_some_and(|t| from <= t && t < to)))
            .collect(),
        // The reader was asked for timestamps: a client that builds none has no records.
        None => BooleanArray::from(vec![false; raw.offsets.len()]),
    }
}

/// The position of a stream over several ranges, to tell how many offsets a batch has passed.
pub(super) struct Position {
    ranges: VecDeque<OffsetRange>,
    next: i64,
}

impl Position {
    pub(super) fn new(ranges: &[OffsetRange]) -> Self {
        Self {
            ranges: ranges.iter().cloned().collect(),
            next: ranges.first().map_or(0, |r| r.start),
        }
    }

    /// Moves on to the position of `raw` and returns the offsets of the ranges in between.
    pub(super) fn advance(&mut self, raw: &RawBatch) -> usize {
        let mut passed = 0;
        while let Some(range) = self.ranges.front() {
            let here = range.topic == raw.partition.topic
                && range.partition == raw.partition.partition
                && raw.next_offset <= range.end;
            let to = if here { raw.next_offset } else { range.end };
            passed += (to - self.next).max(0);
            self.next = to.max(self.next);
            if self.next < range.end {
                break;
            }
            self.ranges.pop_front();
            self.next = self.ranges.front().map_or(0, |r| r.start);
            if here {
                break;
            }
        }
        usize::try_from(passed).unwrap_or(0)
    }

    /// Moves to the end and returns the offsets that no batch has reported.
    pub(super) fn finish(&mut self) -> usize {
        let first = self.ranges.pop_front().map_or(0, |r| r.end - self.next);
        let others: i64 = self.ranges.drain(..).map(|r| r.len()).sum();
        usize::try_from(first + others).unwrap_or(0)
    }
}

struct Forward {
    reader: Reader,
    ranges: Vec<OffsetRange>,
    raw: Option<BoxStream<'static, crate::Result<RawBatch>>>,
    position: Position,
    remaining: Option<usize>,
}

/// Reads `ranges` in their order; no more than `fetch` rows.
pub(super) fn forward(
    reader: Reader,
    ranges: Vec<OffsetRange>,
    fetch: Option<usize>,
) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let state = Forward {
        reader,
        position: Position::new(&ranges),
        ranges,
        raw: None,
        remaining: fetch,
    };
    stream::try_unfold(state, |mut state| async move {
        let batch = state.next().await?;
        Ok(batch.map(|batch| (batch, state)))
    })
}

impl Forward {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        if self.remaining == Some(0) {
            return Ok(None);
        }
        let mut raw = match self.raw.take() {
            Some(raw) => raw,
            None if self.ranges.is_empty() => return Ok(None),
            None => self
                .reader
                .open(std::mem::take(&mut self.ranges), self.remaining)?,
        };
        let mut joined: Vec<RecordBatch> = vec![];
        let mut rows = 0;
        let wanted = self
            .remaining
            .map_or(self.reader.batch_rows, |r| r.min(self.reader.batch_rows));
        loop {
            // Small batches are joined while more is there at once; nothing waits for company.
            let item = if joined.is_empty() {
                raw.next().await
            } else {
                match raw.next().now_or_never() {
                    Some(item) => item,
                    None => break,
                }
            };
            let Some(item) = item else {
                self.reader.metrics.passed(self.position.finish());
                break;
            };
            let item = item?;
            let passed = self.position.advance(&item);
            let batch = self.reader.decode(&item, passed)?;
            if batch.num_rows() == 0 {
                continue;
            }
            rows += batch.num_rows();
            joined.push(batch);
            // Joining copies: a batch that is half full already is better passed on.
            if rows * 2 >= wanted {
                break;
            }
        }
        self.raw = Some(raw);
        let Some(first) = joined.first() else {
            self.reader.release();
            return Ok(None);
        };
        let mut batch = if joined.len() == 1 {
            first.clone()
        } else {
            concat_batches(&self.reader.schema, &joined)?
        };
        if let Some(remaining) = &mut self.remaining {
            batch = batch.slice(0, batch.num_rows().min(*remaining));
            *remaining -= batch.num_rows();
            if *remaining == 0 {
                // Dropping the client's stream stops the fetch.
                self.raw = None;
                self.reader.release();
            }
        }
        self.reader.metrics.baseline.record_output(batch.num_rows());
        Ok(Some(batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::PassedOffsets;
    use crate::range::TopicPartition;
    use arrow::array::Int64Array;

    fn range(partition: i32, start: i64, end: i64) -> OffsetRange {
        OffsetRange {
            topic: "t".into(),
            partition,
            start,
            end,
        }
    }

    fn at(partition: i32, next_offset: i64) -> RawBatch {
        RawBatch {
            partition: TopicPartition::new("t", partition),
            next_offset,
            offsets: Int64Array::from(Vec::<i64>::new()),
            timestamps: None,
            timestamp_types: None,
            keys: None,
            values: None,
            headers: None,
            leader_epochs: None,
            bytes: 0,
            lost_offsets: 0,
            passed: PassedOffsets::default(),
            fetch_wait_ns: 0,
            decode_ns: 0,
        }
    }

    #[test]
    fn position_counts_holes_and_unreported_ranges() {
        let ranges = [range(0, 5, 10), range(0, 20, 30), range(1, 0, 3)];
        let mut position = Position::new(&ranges);
        assert_eq!(position.advance(&at(0, 7)), 2);
        assert_eq!(position.advance(&at(0, 25)), 3 + 5);
        assert_eq!(position.advance(&at(1, 1)), 5 + 1);
        assert_eq!(position.finish(), 2);
        assert_eq!(position.finish(), 0);
    }
}
