//! What the head of a record batch says by itself, without its records.

use bytes::Bytes;

use super::super::batch::{BatchHead, HEAD_BYTES, aborts};
use super::super::walk::Purpose;
use super::RangeDecoder;
use crate::client::TimestampBounds;

impl RangeDecoder {
    /// Counts a batch that yields no rows by its head, if the head tells which offsets it holds.
    pub(super) fn pass_whole(&mut self, head: &BatchHead, purpose: Purpose, bytes: usize) -> bool {
        let place = &mut self.place;
        let passed = if head.is_dense() {
            place.pass(head.end(), |passed| purpose.counter(passed));
            true
        } else {
            let here = place.position == head.base_offset;
            here && place.pass_records(head.records, head.end(), purpose)
        };
        if passed {
            place.passed_bytes += bytes;
        }
        passed
    }

    /// Whether nothing of the records themselves is wanted.
    pub(super) fn is_told_by_head(&self, head: &BatchHead) -> bool {
        let wanted = &self.columns.wanted;
        let body = wanted.key || wanted.value || wanted.headers;
        let timestamp = wanted.timestamp || wanted.timestamp_type;
        !body && (!timestamp || head.is_log_append_time())
    }

    /// Offsets of a batch of which nothing else is wanted. Its records are neither unpacked nor
    /// compared with their checksum.
    pub(super) fn rows_of_head(&mut self, head: &BatchHead, next: usize, bytes: usize) {
        let to = head.end().min(self.place.end);
        let room = self.limits.batch_rows.saturating_sub(self.columns.rows());
        let room = i64::try_from(room).unwrap_or(i64::MAX);
        let until = to.min(self.place.position.saturating_add(room));
        self.columns
            .reserve(usize::try_from(until - self.place.position).unwrap_or(0));
        self.columns.push_offsets(head, self.place.position, until);
        self.place.position = until;
        if until == to {
            self.columns.bytes += bytes;
            self.leave(head, next);
        }
    }

    /// Whether no record of the batch lies within the timestamps that are wanted.
    pub(super) fn is_filtered(&self, head: &BatchHead) -> bool {
        let TimestampBounds { from_ms, to_ms } = self.bounds;
        let latest = head.max_timestamp;
        let before = from_ms.is_some_and(|from| latest < from);
        let without = (from_ms.is_some() || to_ms.is_some()) && latest < 0;
        let after = head.is_log_append_time() && to_ms.is_some_and(|to| latest >= to);
        before || without || after
    }

    pub(super) fn note_control(&mut self, head: &BatchHead, batch: &Bytes) {
        if head.is_control() && head.records > 0 {
            let records = batch.get(HEAD_BYTES..).unwrap_or_default();
            if aborts(records) == Some(true) {
                self.aborted.end(head.producer_id);
            }
        }
    }
}
