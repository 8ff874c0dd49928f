//! One execution partition's ranges as a stream of record batches, first offset first.
//!
//! ```text
//! client.read ─▶ RawBatch ─▶ timestamps wanted ─▶ decode ─▶ join small ones ─▶ limit
//! ```

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{concat_batches, filter, not};
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, stream};

use super::account::{Books, Entry, Received};
use super::budget::Spending;
use super::filter::{Chosen, Filter};
use super::hash::{hashes, wants_checksums};
use super::keys::WantedKeys;
use super::metrics::ScanMetrics;
use super::position::{Position, Step};
use super::rows::{Rows, raw_bytes};
use super::{ScanRange, ScanSource};
use crate::client::{
    Held, MemoryBudget, Needle, RawBatch, RawColumns, ReadRequest, TimestampBounds,
};
use crate::decode::{BadRowPart, BatchLimits, Rows as Decoded};
use crate::error::{Error, External as _};
use crate::memory;

/// Batches are joined up to this part of `batch.bytes`: more is worth no copy.
const JOINED_PART: usize = 8;

/// What both directions of reading need.
pub(super) struct Reader {
    pub(super) source: Arc<ScanSource>,
    /// Indices into the table's schema.
    pub(super) projection: Arc<[usize]>,
    /// The projected schema.
    pub(super) schema: SchemaRef,
    pub(super) batch_rows: usize,
    /// What the client closes a batch at.
    pub(super) limits: BatchLimits,
    pub(super) metrics: ScanMetrics,
    /// They note what became of the offsets.
    pub(super) books: Arc<Books>,
    /// The columns that checksums cover, where they are asked for.
    hashed: Option<RawColumns>,
    /// The timestamps of records that are decoded and are rows, for each of the books' ranges.
    timestamps: Vec<Option<TimestampBounds>>,
    bad_rows: BadRowPart,
    spending: Spending,
    filter: Option<Filter>,
    /// What every record contains that is a row.
    needle: Option<Needle>,
    wanted_keys: Option<WantedKeys>,
    memory: Arc<dyn MemoryBudget>,
}

impl Reader {
    #[expect(
        clippy::too_many_arguments,
        reason = "called once, with what a plan node has"
    )]
    pub(super) fn new(
        source: Arc<ScanSource>,
        projection: Arc<[usize]>,
        schema: SchemaRef,
        metrics: ScanMetrics,
        ranges: &[ScanRange],
        books: Arc<Books>,
        bad_rows: BadRowPart,
        (filter, needle, wanted_keys): (Option<Filter>, Option<Needle>, Option<WantedKeys>),
        partition: usize,
        spending: Spending,
        context: &TaskContext,
    ) -> Self {
        let checksums = source.checksums || wants_checksums(context);
        let memory = format!("KafkaScanExec[{partition}]");
        let memory = memory::budget(context.memory_pool(), memory);
        let limits = source.decoder.batch_limits(&projection, source.batch_bytes);
        let hashed = checksums.then(|| source.decoder.raw_columns(&projection));
        // A record that is of no use is not asked whether it decodes.
        let has_formats = source.decoder.has_formats();
        let timestamps = ranges.iter().map(|range| match has_formats {
            true => useful(range, hashed.is_some()),
            false => range.selected,
        });
        Self {
            hashed,
            timestamps: timestamps.collect(),
            bad_rows,
            filter,
            needle,
            wanted_keys,
            source,
            projection,
            schema,
            batch_rows: context.session_config().batch_size(),
            limits,
            metrics,
            books,
            spending,
            memory,
        }
    }

    /// The ranges as far as nodes above need them, of which each keeps its place. To be called when rows are asked for.
    pub(super) async fn needed(&self, ranges: Vec<ScanRange>) -> Result<Vec<ScanRange>> {
        match &self.wanted_keys {
            Some(keys) => keys.cut(ranges).await.external(),
            None => Ok(ranges),
        }
    }

    /// Opens the client's stream over `ranges`; `buffers` holds what it may buffer.
    pub(super) async fn open(
        &self,
        ranges: &[ScanRange],
        limit: Option<usize>,
        buffers: &mut Held,
    ) -> Result<BoxStream<'static, crate::Result<RawBatch>>> {
        let mut columns = self.source.decoder.raw_columns(&self.projection);
        columns.timestamp |= self.filters_rows();
        let limit = limit.filter(|_| self.every_record_is_a_row());
        let topic_id = |r: &ScanRange| {
            let id = r.topic_id.as_ref()?;
            Some((Arc::clone(r.range.topic()), id.to_string()))
        };
        let timestamps = |r: &ScanRange| {
            let useful = useful(r, self.hashed.is_some())?;
            Some((r.range.topic_partition(), useful))
        };
        let newest_epoch = |r: &ScanRange| Some((r.range.topic_partition(), r.newest_epoch?));
        let request = ReadRequest {
            ranges: ranges.iter().map(|r| r.range.clone()).collect(),
            topic_ids: ranges.iter().filter_map(topic_id).collect(),
            columns,
            isolation: self.source.isolation,
            batch_rows: self.batch_rows.min(self.limits.batch_rows),
            batch_bytes: self.limits.batch_bytes,
            limit,
            on_data_loss: self.source.on_data_loss,
            timestamps: ranges.iter().filter_map(timestamps).collect(),
            newest_epochs: ranges.iter().filter_map(newest_epoch).collect(),
            needle: self.needle.clone(),
        };
        let bytes = self.source.client.read_buffer_bytes(&request);
        buffers
            .hold(bytes)
            .await
            .map_err(|reason| {
                let first = request.ranges.first();
                let place =
                    first.map(|range| format!("{}@{}", range.topic_partition(), range.start()));
                let message = format!("reading buffers {bytes} bytes: {reason}");
                let place = place.unwrap_or_default();
                Error::Memory { place, message }
            })
            .external()?;
        let memory = Arc::clone(&self.memory);
        let batches = self.source.client.read_within(request, memory);
        Ok(self.spending.within(batches).fuse().boxed())
    }

    /// Whether records are left out by their timestamps.
    fn filters_rows(&self) -> bool {
        self.timestamps.iter().any(Option::is_some)
    }

    /// Whether as many rows come as records are read.
    pub(super) fn every_record_is_a_row(&self) -> bool {
        let decoder = &self.source.decoder;
        !self.filters_rows() && self.filter.is_none() && !decoder.bad_rows().on.leaves_out()
    }

    /// Nothing yet of the stream's memory.
    pub(super) fn nothing_held(&self) -> Held {
        Held::nothing_of(&self.memory)
    }

    /// Drops records with timestamps that are not wanted, and decodes the others.
    pub(super) async fn receive(&self, raw: &RawBatch, step: Step) -> Result<Received> {
        self.metrics.received(raw, step);
        self.books
            .received(step.range, raw.bytes + raw.passed_bytes);
        let within_bounds;
        let records = match self.timestamps.get(step.range).copied().flatten() {
            Some(bounds) => {
                within_bounds = raw.filter(&within(bounds, raw))?;
                let dropped = raw.offsets.len() - within_bounds.offsets.len();
                self.metrics.filtered(dropped);
                &within_bounds
            }
            None => raw,
        };
        let decoder = &self.source.decoder;
        decoder
            .prepare(records, &self.projection)
            .await
            .external()?;
        let _timer = self.metrics.decode_timer();
        if let Some(filter) = &self.filter {
            return self.filtered(filter, raw, records, step);
        }
        let Decoded {
            batch,
            kept,
            bad,
            first_bad,
            ..
        } = decoder
            .decode(records, &self.projection, &self.schema)
            .external()?;
        self.count(records, bad, first_bad)?;
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
            .external());
        }
        let kept = offsets(records, &good)?;
        // Where dead letters are the rows, what is left out is not bad.
        let dropped = match decoder.keeps_bad() {
            true => Int64Array::from_iter_values([]),
            false => offsets(records, &not(&good)?)?,
        };
        Ok(Received::new(raw, step, batch, kept, dropped, None))
    }

    /// Decodes what satisfies the conditions.
    fn filtered(
        &self,
        filter: &Filter,
        raw: &RawBatch,
        records: &RawBatch,
        step: Step,
    ) -> Result<Received> {
        let decoder = &self.source.decoder;
        let Chosen {
            batch,
            rows,
            good,
            bad,
            first_bad,
            unneeded,
        } = filter.decode(decoder, records, &self.projection, &self.schema)?;
        self.count(records, bad, first_bad)?;
        let kept = offsets(records, &rows)?;
        let dropped = match good {
            Some(good) => offsets(records, &not(&good)?)?,
            None => Int64Array::from_iter_values([]),
        };
        let ruled_out = records.offsets.len() - kept.len() - dropped.len();
        self.metrics.filtered(ruled_out);
        let received = Received::new(raw, step, batch, kept, dropped, None);
        Ok(received.without_unneeded(unneeded))
    }

    /// Counts records and the bad ones among them.
    fn count(&self, records: &RawBatch, bad: usize, first_bad: Option<String>) -> Result<()> {
        self.metrics.bad(bad);
        let count = records.offsets.len() as u64;
        self.bad_rows.add(count, bad as u64, first_bad).external()
    }

    /// A stream has come to its end.
    pub(super) fn end(&self) -> Result<()> {
        self.bad_rows.end().external()
    }
}

/// The offsets of these records.
fn offsets(records: &RawBatch, mask: &BooleanArray) -> Result<Int64Array> {
    let offsets = filter(&records.offsets, mask)?;
    Ok(offsets.as_primitive().clone())
}

/// The timestamps of records that are of any use: a client may leave others out. What the predicates
/// rule out beyond the range's own bounds must make no difference to a checksum.
fn useful(range: &ScanRange, has_checksum: bool) -> Option<TimestampBounds> {
    let matching = range.matching.filter(|_| !has_checksum);
    match (range.selected, matching) {
        (Some(selected), Some(matching)) => Some(selected.and(matching)),
        (selected, matching) => selected.or(matching),
    }
}

/// Which records lie within the bounds; one without a timestamp does not.
fn within(bounds: TimestampBounds, raw: &RawBatch) -> BooleanArray {
    match &raw.timestamps {
        Some(timestamps) => timestamps
            .iter()
            .map(|t| Some(t.is_some_and(|t| bounds.contains(t))))
            .collect(),
        // The reader was asked for timestamps: a client that builds none has no records.
        None => BooleanArray::from(vec![false; raw.offsets.len()]),
    }
}

struct Forward {
    rows: Rows,
    ranges: Vec<ScanRange>,
    raw: Option<BoxStream<'static, crate::Result<RawBatch>>>,
    /// The memory of what the client buffers.
    buffers: Held,
    /// Received, but not decoded yet.
    waiting: Option<RawBatch>,
    position: Position,
    remaining: Option<usize>,
}

/// Reads `ranges` in their order; no more than `fetch` rows.
pub(super) fn forward(
    reader: Reader,
    ranges: Vec<ScanRange>,
    fetch: Option<usize>,
) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let state = Forward {
        buffers: reader.nothing_held(),
        rows: Rows::new(reader),
        position: Position::new::<ScanRange>(&[]),
        ranges,
        raw: None,
        waiting: None,
        remaining: fetch,
    };
    stream::try_unfold(state, |mut state| async move {
        let batch = state.next().await?;
        Ok(batch.map(|batch| (batch, state)))
    })
}

impl Forward {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.rows.handed_on().await;
        if self.remaining == Some(0) {
            return Ok(None);
        }
        let mut raw = match self.raw.take() {
            Some(raw) => raw,
            None if self.ranges.is_empty() => return Ok(None),
            None => {
                let ranges = std::mem::take(&mut self.ranges);
                let reader = &self.rows.reader;
                let mut ranges = reader.needed(ranges).await?;
                self.position = Position::new(&ranges);
                if reader.wanted_keys.is_some() {
                    ranges.retain(|range| !range.range.is_empty());
                }
                if ranges.is_empty() {
                    return Ok(None);
                }
                reader
                    .open(&ranges, self.remaining, &mut self.buffers)
                    .await?
            }
        };
        let mut joined: Vec<RecordBatch> = vec![];
        let mut entries: Vec<Entry> = vec![];
        let (mut rows, mut bytes) = (0, 0);
        let batch_rows = self.rows.reader.batch_rows;
        let wanted = self.remaining.map_or(batch_rows, |r| r.min(batch_rows));
        let joined_bytes = self.rows.reader.source.batch_bytes / JOINED_PART;
        let mut ended = false;
        loop {
            // Small batches are joined while more is there at once; nothing waits for company.
            let item = if let Some(waiting) = self.waiting.take() {
                Some(Ok(waiting))
            } else if joined.is_empty() {
                raw.next().await
            } else {
                match raw.next().now_or_never() {
                    Some(item) => item,
                    None => break,
                }
            };
            let Some(item) = item else {
                self.position.finish().external()?;
                self.rows.reader.end()?;
                ended = true;
                break;
            };
            let item = item.external()?;
            let large = raw_bytes(&item) > joined_bytes;
            if !joined.is_empty() && (large || !self.rows.has_room(&item, bytes)) {
                self.waiting = Some(item);
                break;
            }
            let step = self.position.advance(&item).external()?;
            let (received, added) = self.rows.decode(&item, step, bytes).await?;
            let left = self
                .remaining
                .map_or(usize::MAX, |remaining| remaining - rows);
            let taken = received.rows().min(left);
            let entry = received.first(taken);
            if taken == 0 && joined.is_empty() {
                // Nothing that is handed on comes before: a search shows how far it has come.
                self.rows.reader.books.post(&entry).external()?;
                tokio::task::coop::consume_budget().await;
                continue;
            }
            entries.push(entry);
            if taken == 0 {
                continue;
            }
            rows += taken;
            bytes += added;
            joined.push(received.batch.slice(0, taken));
            // Joining copies: a batch that is half full already is better passed on.
            if rows * 2 >= wanted || bytes >= joined_bytes || large {
                break;
            }
        }
        if !ended {
            self.raw = Some(raw);
        }
        for entry in &entries {
            self.rows.reader.books.post(entry).external()?;
        }
        let Some(first) = joined.first() else {
            self.rows.handed_on().await;
            self.buffers = self.rows.reader.nothing_held();
            return Ok(None);
        };
        let batch = if joined.len() == 1 {
            first.clone()
        } else {
            concat_batches(&self.rows.reader.schema, &joined)?
        };
        if let Some(remaining) = &mut self.remaining {
            *remaining -= batch.num_rows();
            if *remaining == 0 {
                // Dropping the client's stream stops the fetch.
                self.raw = None;
                self.buffers = self.rows.reader.nothing_held();
            }
        }
        let metrics = &self.rows.reader.metrics;
        metrics.baseline.record_output(batch.num_rows());
        Ok(Some(batch))
    }
}
