//! Estimates how many offsets make a file of the requested size.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::StreamExt;

use super::encode::Encoder;
use super::pieces;
use super::query::Query;
use super::query::planning;
use super::write::{Writing, by_folder};
use crate::error::{Error, Result};
use crate::range::{OffsetRange, Snapshot};

/// How many ranges to sample, the longest first.
const RANGES: usize = 3;
/// How many offsets to read from the middle of each.
const OFFSETS: i64 = 20_000;
/// The size of the sample's file at which reading a range stops.
const ENOUGH_BYTES: usize = 4 << 20;

/// The number of offsets for files of about `max_bytes`. It encodes a sample of the rows exactly as the
/// export will.
pub(super) async fn offsets(
    query: &Query,
    writing: &Writing,
    snapshot: &Snapshot,
    max_bytes: u64,
) -> Result<u64> {
    let mut ranges: Vec<&OffsetRange> =
        snapshot.offset_ranges().filter(|r| !r.is_empty()).collect();
    ranges.sort_by_key(|range| -range.len());
    let (mut offsets, mut bytes) = (0, 0);
    for range in ranges.into_iter().take(RANGES) {
        let start = range.start() + (range.len() - OFFSETS).max(0) / 2;
        let sample = range.part(start, start.saturating_add(OFFSETS));
        let (read, written) = one(query, writing, &sample).await?;
        offsets += read;
        bytes += written;
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let per_offset = bytes as f64 / (offsets.max(1) as f64);
    Ok(pieces::offsets_for(max_bytes, per_offset))
}

/// How many offsets were read, and the bytes that their rows take.
async fn one(query: &Query, writing: &Writing, sample: &OffsetRange) -> Result<(i64, usize)> {
    let plan = query.of_piece(sample).await?;
    let stream = plan.execute(0, query.state.task_ctx());
    let mut stream = stream.map_err(|e| planning(&e))?;
    let schema = &writing.columns.schema;
    let none = RecordBatch::new_empty(Arc::clone(schema));
    let mut encoder = Encoder::new(writing.format, writing.bytes, schema, &none, sample)
        .map_err(Error::invalid)?;
    let size = |blocks: Vec<Bytes>| blocks.iter().map(Bytes::len).sum::<usize>();
    let mut bytes = size(encoder.take());
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|e| planning(&e))?;
        for (_, rows) in by_folder(&writing.columns, &batch)? {
            encoder.write(&rows).map_err(Error::invalid)?;
        }
        if encoder.open_bytes() >= ENOUGH_BYTES {
            encoder.end_group().map_err(Error::invalid)?;
        }
        bytes += size(encoder.take());
        if bytes >= ENOUGH_BYTES {
            break;
        }
    }
    drop(stream);
    bytes += size(encoder.finish().map_err(Error::invalid)?);
    let read = crate::scan::ScanProgress::of(&Arc::clone(&plan)).offsets_done;
    Ok((i64::try_from(read).unwrap_or(sample.len()).max(1), bytes))
}
