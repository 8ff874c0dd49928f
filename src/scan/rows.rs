//! Decodes batches within the memory that a scan may hold.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::DataType;
use datafusion::error::Result;

use super::account::Received;
use super::position::Step;
use super::stream::Reader;
use crate::client::{Held, RawBatch};
use crate::error::{Error, External as _};

/// The bytes that a row takes besides its key, value and headers.
const ROW_BYTES: usize = 64;

/// What the client's columns of a batch take.
pub(super) fn raw_bytes(raw: &RawBatch) -> usize {
    let has_payload = raw.keys.is_some() || raw.values.is_some() || raw.headers.is_some();
    let payload = if has_payload { raw.bytes } else { 0 };
    payload + raw.offsets.len() * ROW_BYTES
}

/// Of these what nothing else counts.
fn unbudgeted_bytes(raw: &RawBatch) -> usize {
    raw_bytes(raw).saturating_sub(raw.budgeted_bytes)
}

/// What the rows made of `raw` take beyond what is counted already: columns of bytes point into the client's, others are their own.
fn row_bytes(raw: &RawBatch, batch: &RecordBatch) -> usize {
    let (views, own): (Vec<_>, Vec<_>) =
        (batch.columns().iter()).partition(|column| *column.data_type() == DataType::BinaryView);
    let own: usize = own.iter().map(|c| c.get_array_memory_size()).sum();
    if views.is_empty() {
        own
    } else {
        own + unbudgeted_bytes(raw)
    }
}

/// Decodes batches within the memory that their rows may take.
pub(super) struct Rows {
    pub(super) reader: Reader,
    /// The memory of rows that are not handed on, and of the last that were.
    held: Held,
    /// The bytes that rows take for each byte of the client's columns, by the batch before.
    growth: f64,
    /// Bytes that were handed out since other tasks had their turn.
    in_turn: usize,
}

impl Rows {
    pub(super) fn new(reader: Reader) -> Self {
        let growth = if reader.source.decoder.has_formats() {
            1.0
        } else {
            0.0
        };
        let held = reader.nothing_held();
        Self {
            reader,
            held,
            growth,
            in_turn: 0,
        }
    }

    /// The rows that were handed out before are the caller's. After many bytes of them others have
    /// their turn: what lies in a channel would pile up there if this never waited.
    pub(super) async fn handed_on(&mut self) {
        self.in_turn += self.held.bytes();
        // Less is always granted.
        let _ = self.held.try_hold(0);
        if self.in_turn >= self.reader.source.batch_bytes {
            self.in_turn = 0;
            tokio::task::yield_now().await;
        }
    }

    /// An estimate of the bytes that decoding `raw` takes.
    fn expected(&self, raw: &RawBatch) -> usize {
        unbudgeted_bytes(raw) + (raw_bytes(raw) as f64 * self.growth) as usize
    }

    /// Whether `raw` can be decoded at once, next to `others` bytes of rows.
    pub(super) fn has_room(&mut self, raw: &RawBatch, others: usize) -> bool {
        let all = others.saturating_add(self.expected(raw));
        self.held.try_hold(all).is_ok()
    }

    /// The rows of `raw`, next to `others` bytes of them, and how many bytes these take.
    pub(super) async fn decode(
        &mut self,
        raw: &RawBatch,
        step: Step,
        others: usize,
    ) -> Result<(Received, usize)> {
        let expected = self.expected(raw);
        self.hold(raw, others, expected).await?;
        let received = self.reader.receive(raw, step).await?;
        let bytes = row_bytes(raw, &received.batch);
        self.hold(raw, others, bytes).await?;
        if self.reader.source.decoder.has_formats() && !raw.offsets.is_empty() {
            self.growth = bytes as f64 / raw_bytes(raw) as f64;
        }
        Ok((received, bytes))
    }

    async fn hold(&mut self, raw: &RawBatch, others: usize, bytes: usize) -> Result<()> {
        let all = others.saturating_add(bytes);
        if all == self.held.bytes() {
            return Ok(());
        }
        let granted = self.held.hold(all).await;
        granted.map_err(|reason| {
            let first = raw.offsets.values().first().copied();
            let place = format!("{}@{}", raw.partition, first.unwrap_or(raw.next_offset));
            let records = match raw.offsets.len() {
                1 => "the record of".to_owned(),
                n => format!("{n} records from here on, of"),
            };
            let message = format!(
                "{records} {} bytes takes {bytes} bytes in columns: {reason}",
                raw.bytes
            );
            Error::Memory { place, message }.external()
        })
    }
}
