//! One execution partition's ranges as a stream of record batches, first offset first.
//!
//! ```text
//! client.read ─▶ RawBatch ─▶ timestamps wanted ─▶ decode ─▶ join small ones ─▶ limit
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{concat_batches, filter, not};
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, stream};

use super::ScanSource;
use super::account::{Books, Entry, Position, Received};
use super::hash::{WithChecksums, hashes};
use super::metrics::ScanMetrics;
use crate::client::{RawBatch, RawColumns, ReadRequest, TimestampBounds};
use crate::decode::{BadRowCount, Rows};
use crate::error::Error;
use crate::range::{OffsetRange, TopicPartition};

/// What both directions of reading need.
pub(super) struct Reader {
    pub(super) source: Arc<ScanSource>,
    /// Indices into the table's schema.
    pub(super) projection: Arc<[usize]>,
    /// The projected schema.
    pub(super) schema: SchemaRef,
    pub(super) batch_rows: usize,
    pub(super) metrics: ScanMetrics,
    /// Where it is noted what became of the offsets.
    pub(super) books: Arc<Books>,
    /// The columns that checksums cover, where they are asked for.
    hashed: Option<RawColumns>,
    /// The timestamps of records that are of any use, by partition: a client may leave others out.
    useful: BTreeMap<TopicPartition, TimestampBounds>,
    /// The timestamps of records that are decoded and are rows.
    timestamps: BTreeMap<TopicPartition, TimestampBounds>,
    bad_rows: Arc<BadRowCount>,
    reservation: MemoryReservation,
}

impl Reader {
    pub(super) fn new(
        source: Arc<ScanSource>,
        projection: Arc<[usize]>,
        schema: SchemaRef,
        metrics: ScanMetrics,
        books: Arc<Books>,
        bad_rows: Arc<BadRowCount>,
        partition: usize,
        context: &TaskContext,
    ) -> Self {
        let checksums = context.session_config().get_extension::<WithChecksums>();
        let consumer = MemoryConsumer::new(format!("KafkaScanExec[{partition}]"));
        let hashed = checksums.map(|_| source.decoder.raw_columns(&projection));
        let mut useful = source.record_filters.clone();
        // What the predicates rule out beyond that must make no difference to a checksum.
        if hashed.is_none() {
            narrow(&mut useful, &source.timestamps);
        }
        let timestamps = if source.decoder.has_formats() {
            // A record that is of no use is not asked whether it decodes.
            useful.clone()
        } else {
            source.record_filters.clone()
        };
        Self {
            hashed,
            useful,
            timestamps,
            bad_rows,
            source,
            projection,
            schema,
            batch_rows: context.session_config().batch_size(),
            metrics,
            books,
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
        columns.timestamp |= !self.timestamps.is_empty();
        // Any number of records may be no rows: the limit says nothing about reading then.
        let leaves_out = self.source.decoder.bad_rows().on.leaves_out();
        let limit = limit.filter(|_| self.timestamps.is_empty() && !leaves_out);
        let request = ReadRequest {
            ranges,
            topic_ids: self.source.topic_ids.clone(),
            columns,
            isolation: self.source.isolation,
            batch_rows: self.batch_rows,
            batch_bytes: self.source.batch_bytes,
            limit,
            on_data_loss: self.source.on_data_loss,
            timestamps: self.useful.clone(),
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

    /// Checks a raw batch, drops records with timestamps that are not wanted, and decodes the others.
    pub(super) async fn receive(
        &self,
        raw: &RawBatch,
        position: &mut Position,
    ) -> Result<Received> {
        let step = position.advance(raw)?;
        self.metrics.received(raw, step);
        let within_bounds;
        let records = match self.timestamps.get(&raw.partition) {
            Some(bounds) => {
                within_bounds = raw.filter(&within(*bounds, raw))?;
                let dropped = raw.offsets.len() - within_bounds.offsets.len();
                self.metrics.filtered(dropped);
                &within_bounds
            }
            None => raw,
        };
        let decoder = &self.source.decoder;
        decoder.prepare(records, &self.projection).await?;
        let _timer = self.metrics.decode_timer();
        let Rows {
            batch,
            kept,
            bad,
            first_bad,
        } = decoder.decode(records, &self.projection, &self.schema)?;
        self.metrics.bad(bad);
        let count = records.offsets.len() as u64;
        self.bad_rows.add(count, bad as u64, first_bad)?;
        let hashes = self.hashed.map(|columns| hashes(records, columns));
        let Some(good) = kept else {
            let kept = records.offsets.clone();
            let none = Int64Array::from_iter_values([]);
            return Ok(Received::new(raw, step, batch, kept, none, hashes));
        };
        if hashes.is_some() {
            return Err(Error::invalid(
                "a receipt covers every record that was read, and 'on.bad.row' = 'skip' leaves out \
                 some: choose 'null' or 'fail'",
            )
            .into());
        }
        let offsets = |mask: &BooleanArray| {
            let offsets = filter(&records.offsets, mask)?;
            Ok::<Int64Array, arrow::error::ArrowError>(offsets.as_primitive().clone())
        };
        let kept = offsets(&good)?;
        // Where dead letters are the rows, what is left out is not bad.
        let dropped = match decoder.keeps_bad() {
            true => Int64Array::from_iter_values([]),
            false => offsets(&not(&good)?)?,
        };
        Ok(Received::new(raw, step, batch, kept, dropped, None))
    }

    /// A stream has come to its end.
    pub(super) fn end(&self) -> Result<()> {
        Ok(self.bad_rows.end()?)
    }
}

/// Narrows bounds by others: what lies outside of either is not wanted.
fn narrow(
    bounds: &mut BTreeMap<TopicPartition, TimestampBounds>,
    by: &BTreeMap<TopicPartition, TimestampBounds>,
) {
    for (partition, by) in by {
        let both = bounds.entry(partition.clone()).or_default();
        both.from_ms = both.from_ms.max(by.from_ms);
        both.to_ms = match (both.to_ms, by.to_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
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
        let mut entries: Vec<Entry> = vec![];
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
                self.position.finish()?;
                self.reader.end()?;
                break;
            };
            let received = self.reader.receive(&item?, &mut self.position).await?;
            let left = self
                .remaining
                .map_or(usize::MAX, |remaining| remaining - rows);
            let taken = received.rows().min(left);
            entries.push(received.first(taken));
            if taken == 0 {
                continue;
            }
            rows += taken;
            joined.push(received.batch.slice(0, taken));
            // Joining copies: a batch that is half full already is better passed on.
            if rows * 2 >= wanted {
                break;
            }
        }
        self.raw = Some(raw);
        for entry in &entries {
            self.reader.books.post(entry)?;
        }
        let Some(first) = joined.first() else {
            self.reader.release();
            return Ok(None);
        };
        let batch = if joined.len() == 1 {
            first.clone()
        } else {
            concat_batches(&self.reader.schema, &joined)?
        };
        if let Some(remaining) = &mut self.remaining {
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
