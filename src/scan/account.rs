//! Accounts for every offset of the ranges of an execution partition while they are read.
//!
//! ```text
//! RawBatch ─ Position::advance: do its rows and reasons add up? ─▶ Step ─┐
//! rows that pass the @T1:T2 filter ──────────────────────────────────────┴▶ Received
//! Received, all of it or the part before a LIMIT ─ Books::post ─▶ RangeLedger
//! ```
//!
//! A batch is posted when its rows are handed on, not when they arrive: rows that a LIMIT cuts off,
//! or that wait when the stream is dropped, stay unread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Int64Array, RecordBatch};

use super::position::Step;
use crate::client::{PassedOffsets, RawBatch};
use crate::error::Result;
use crate::range::{LedgerCounts, OffsetRange, RangeLedger, RowsChecksum};

/// The ledgers of ranges that are read one after another, shared with those who look.
#[derive(Debug)]
pub(super) struct Books {
    ledgers: Mutex<Vec<RangeLedger>>,
    /// The bytes that were received of each range.
    bytes: Vec<AtomicU64>,
}

impl Books {
    pub(super) fn new<'a>(
        ranges: impl Iterator<Item = &'a OffsetRange>,
        backward: bool,
    ) -> Arc<Self> {
        let ledgers = ranges.map(|range| RangeLedger::unread(range.clone(), backward));
        let ledgers: Vec<RangeLedger> = ledgers.collect();
        Arc::new(Self {
            bytes: ledgers.iter().map(|_| AtomicU64::new(0)).collect(),
            ledgers: Mutex::new(ledgers),
        })
    }

    /// Counts the bytes of a batch of the range at this place.
    pub(super) fn received(&self, range: usize, bytes: usize) {
        if let Some(sum) = self.bytes.get(range) {
            sum.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// The bytes that were received of each range, in their order.
    pub(super) fn bytes(&self) -> Vec<(OffsetRange, u64)> {
        let ledgers = self.lock();
        let bytes = self.bytes.iter().map(|sum| sum.load(Ordering::Relaxed));
        let ranges = ledgers.iter().map(RangeLedger::passed);
        ranges.zip(bytes).collect()
    }

    /// Books the offsets of an entry as passed.
    ///
    /// # Errors
    /// When its range has fewer unread offsets than that.
    pub(super) fn post(&self, entry: &Entry) -> Result<()> {
        let mut ledgers = self.lock();
        match ledgers.get_mut(entry.range) {
            Some(ledger) => ledger.pass(entry.counts, entry.rows),
            None => Ok(()),
        }
    }

    pub(super) fn ledgers(&self) -> Vec<RangeLedger> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<RangeLedger>> {
        // A ledger is whole after any panic: an entry is added by sums that do not panic.
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is booked of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// The range's place among those of the books.
    range: usize,
    counts: LedgerCounts,
    rows: Option<RowsChecksum>,
}

/// A batch of rows that may be handed on, with all that its entry in the books needs.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) batch: RecordBatch,
    step: Step,
    /// The offsets of the client's rows.
    offsets: Int64Array,
    /// Those of the rows in `batch`.
    kept: Int64Array,
    /// Those of records that do not decode and are therefore no rows.
    bad: Int64Array,
    /// Records that nodes above have no use for. They count as delivered: which ones these are depends on how fast the
    /// nodes are.
    unneeded: u64,
    passed: PassedOffsets,
    lost: u64,
    /// The hashes of the rows in `batch`, where a checksum is asked for.
    hashes: Option<Vec<u128>>,
}

impl Received {
    pub(super) fn new(
        raw: &RawBatch,
        step: Step,
        batch: RecordBatch,
        kept: Int64Array,
        bad: Int64Array,
        hashes: Option<Vec<u128>>,
    ) -> Self {
        Self {
            batch,
            step,
            offsets: raw.offsets.clone(),
            kept,
            bad,
            unneeded: 0,
            passed: raw.passed,
            lost: u64::try_from(raw.lost_offsets).unwrap_or(0),
            hashes,
        }
    }

    /// The same where so many records are no rows because nodes above have no use for them. No LIMIT cuts such a batch.
    pub(super) fn without_unneeded(self, records: usize) -> Self {
        let unneeded = records as u64;
        Self { unneeded, ..self }
    }

    pub(super) fn rows(&self) -> usize {
        self.kept.len()
    }

    /// The entry when all rows are handed on.
    pub(super) fn whole(&self) -> Entry {
        let (delivered, bad) = (self.kept.len() as u64, self.bad.len() as u64);
        let delivered = delivered + self.unneeded;
        let counts = LedgerCounts {
            delivered,
            bad,
            filtered: self.offsets.len() as u64 - delivered - bad + self.passed.filtered,
            control: self.passed.control,
            aborted: self.passed.aborted,
            gap: self.passed.gap,
            untold: self.passed.untold,
            lost: self.lost,
            ..LedgerCounts::default()
        };
        self.entry(counts, 0, self.kept.len())
    }

    /// The entry when the first `rows` are handed on and the rest counts as unread.
    pub(super) fn first(&self, rows: usize) -> Entry {
        if rows >= self.kept.len() {
            return self.whole();
        }
        let Some(last) = rows.checked_sub(1) else {
            return self.entry(LedgerCounts::default(), 0, 0);
        };
        let cut = self.kept.value(last) + 1;
        let received = below(&self.offsets, cut);
        let bad = below(&self.bad, cut);
        let counts = self.part(cut - self.step.from, received, rows, bad);
        self.entry(counts, 0, rows)
    }

    /// The entry when the last `rows` are handed on and those before count as unread.
    pub(super) fn last(&self, rows: usize) -> Entry {
        let all = self.kept.len();
        if rows >= all {
            return self.whole();
        }
        if rows == 0 {
            return self.entry(LedgerCounts::default(), 0, 0);
        }
        let cut = self.kept.value(all - rows);
        let received = self.offsets.len() - below(&self.offsets, cut);
        let bad = self.bad.len() - below(&self.bad, cut);
        let counts = self.part(self.step.to - cut, received, rows, bad);
        self.entry(counts, all - rows, all)
    }

    /// The counts of a part of the batch that has these numbers of offsets, records, delivered rows and bad
    /// rows.
    ///
    /// The reasons are known for the batch as a whole. Where only some of the offsets without a row
    /// lie in the part, and there is more than one reason, they are untold.
    fn part(&self, offsets: i64, received: usize, delivered: usize, bad: usize) -> LedgerCounts {
        let offsets = u64::try_from(offsets).unwrap_or(0);
        let (received, delivered, bad) = (received as u64, delivered as u64, bad as u64);
        let without_row = offsets.saturating_sub(received);
        let PassedOffsets {
            control,
            aborted,
            gap,
            filtered,
            untold,
        } = self.passed;
        let of = |reason: u64| {
            let only = reason == self.passed.total() + self.lost;
            if only { without_row } else { 0 }
        };
        let mut counts = LedgerCounts {
            delivered,
            bad,
            filtered: received - delivered - bad,
            ..LedgerCounts::default()
        };
        if without_row == self.passed.total() + self.lost {
            counts.control = control;
            counts.aborted = aborted;
            counts.gap = gap;
            counts.untold = untold;
            counts.filtered += filtered;
            counts.lost = self.lost;
        } else {
            counts.control = of(control);
            counts.aborted = of(aborted);
            counts.gap = of(gap);
            counts.filtered += of(filtered);
            counts.lost = of(self.lost);
            counts.untold = offsets.saturating_sub(counts.total());
        }
        counts
    }

    fn entry(&self, counts: LedgerCounts, from: usize, to: usize) -> Entry {
        let rows = self.hashes.as_ref().map(|hashes| {
            let mut sum = RowsChecksum::default();
            for hash in &hashes[from..to] {
                sum += RowsChecksum(*hash);
            }
            sum
        });
        Entry {
            range: self.step.range,
            counts,
            rows,
        }
    }
}

/// How many offsets lie below `cut`.
fn below(offsets: &Int64Array, cut: i64) -> usize {
    offsets.values().partition_point(|offset| *offset < cut)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;

    use super::super::position::Position;
    use super::super::position::tests::{batch_to, gap, range};
    use super::*;

    /// Offsets 0..10 with rows 1, 3, 4, 7, of which 3 was filtered here.
    fn received(passed: PassedOffsets) -> Received {
        let raw = batch_to(0, 10, &[1, 3, 4, 7], passed);
        let step = Position::new(&[range(0, 0, 10)]).advance(&raw).unwrap();
        let kept = Int64Array::from(vec![1, 4, 7]);
        let bad = Int64Array::from_iter_values([]);
        let batch = RecordBatch::new_empty(Arc::new(Schema::empty()));
        Received::new(&raw, step, batch, kept, bad, Some(vec![1, 10, 100]))
    }

    #[test]
    fn the_whole_batch_has_its_reasons() {
        let passed = PassedOffsets {
            control: 2,
            filtered: 1,
            gap: 3,
            ..PassedOffsets::default()
        };
        let entry = received(passed).whole();
        assert_eq!(
            entry.counts.to_string(),
            "3 delivered, 2 filtered, 2 control, 3 gap"
        );
        assert_eq!(entry.rows, Some(RowsChecksum(111)));
    }

    #[test]
    fn a_part_of_a_batch_has_the_only_reason_or_an_untold_one() {
        let one = received(gap(6));
        let entry = one.first(2);
        // 0..5: rows 1 and 4, 3 filtered, gaps at 0 and 2.
        assert_eq!(entry.counts.to_string(), "2 delivered, 1 filtered, 2 gap");
        assert_eq!(entry.rows, Some(RowsChecksum(11)));
        // 4..10: rows 4 and 7, gaps at 5, 6, 8 and 9.
        let entry = one.last(2);
        assert_eq!(entry.counts.to_string(), "2 delivered, 4 gap");
        assert_eq!(entry.rows, Some(RowsChecksum(110)));

        let two = received(PassedOffsets {
            control: 1,
            gap: 5,
            ..PassedOffsets::default()
        });
        assert_eq!(
            two.first(2).counts.to_string(),
            "2 delivered, 1 filtered, 2 untold"
        );
        assert_eq!(two.last(1).counts.to_string(), "1 delivered, 2 untold");
        assert_eq!(two.first(3).counts, two.whole().counts);
        assert!(two.first(0).counts.is_empty() && two.last(0).counts.is_empty());
    }
}
