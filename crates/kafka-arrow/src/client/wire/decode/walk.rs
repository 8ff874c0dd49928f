//! Walks the records of a batch, which become rows or are counted.

use super::answer::Malformed;
use super::batch::BatchHead;
use super::columns::{Columns, Region};
use super::limits::Limits;
use super::record::{Record, headers, record};
use crate::client::PassedOffsets;
use crate::client::needle::{Search, Traces};

/// How far a range is read, and what was passed without a row since the batch of rows before.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The next offset to read.
    pub(super) position: i64,
    /// The end of the range, which the position never passes.
    pub(super) end: i64,
    pub(super) passed: PassedOffsets,
    /// Bytes without a row since then: of records, or of record batches as they came.
    pub(super) passed_bytes: usize,
}

impl Place {
    /// Moves up to `offset`, or to the range's end, and counts what lies between.
    pub(super) fn pass(
        &mut self,
        offset: i64,
        counter: impl FnOnce(&mut PassedOffsets) -> &mut u64,
    ) {
        let to = offset.min(self.end);
        if to > self.position {
            *counter(&mut self.passed) += u64::try_from(to - self.position).unwrap_or(0);
            self.position = to;
        }
    }

    /// Moves up to `offset`, before which the log holds nothing.
    pub(super) fn pass_gap(&mut self, offset: i64) {
        self.pass(offset, |passed| &mut passed.gap);
    }

    /// Moves up to `end` and counts so many records before it; the other offsets hold nothing. Does nothing and gives
    /// `false` where the range ends before, or they are more than offsets.
    pub(super) fn pass_records(&mut self, records: i32, end: i64, purpose: Purpose) -> bool {
        let gap = end - self.position - i64::from(records);
        let (Ok(records), Ok(gap), true) =
            (u64::try_from(records), u64::try_from(gap), end <= self.end)
        else {
            return false;
        };
        *purpose.counter(&mut self.passed) += records;
        self.passed.gap += gap;
        self.position = end;
        true
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.position >= self.end
    }
}

/// What becomes of a batch's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// They are rows.
    Rows,
    /// They are counted as aborted.
    Aborted,
    /// They are counted as filtered.
    Filtered,
}

impl Purpose {
    pub(super) fn counter(self, passed: &mut PassedOffsets) -> &mut u64 {
        match self {
            Self::Aborted => &mut passed.aborted,
            Self::Filtered | Self::Rows => &mut passed.filtered,
        }
    }
}

/// Where a walk has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walked {
    /// To the batch's last record.
    Whole,
    /// To the end of the range, before the batch's.
    RangeEnd,
    /// To a record for which the batch of rows has no room.
    Full,
}

/// The records of a batch that are still to be walked.
pub(super) struct Records {
    head: BatchHead,
    purpose: Purpose,
    /// Where the next one begins in the memory that they lie in.
    at: usize,
    /// Where the last one ends.
    end: usize,
    left: i32,
    /// The delta of the last record walked.
    last_delta: i32,
    /// What a search for the needle has found, where there is one.
    found: Option<Found>,
}

/// What a search in the records of a batch has found.
#[derive(Debug, Clone, Copy)]
struct Found {
    /// What is next; no earlier than the record that was walked last.
    next: Traces,
    /// The records that have something.
    records: usize,
}

impl Records {
    /// All records of a batch, which lie at `at..end` of their memory.
    pub(super) fn new(head: BatchHead, purpose: Purpose, at: usize, end: usize) -> Self {
        Self {
            head,
            purpose,
            at,
            end,
            left: head.records,
            last_delta: -1,
            found: None,
        }
    }

    /// Only records that a search has found something in become rows.
    pub(super) fn search(&mut self, next: Traces) {
        self.found = Some(Found { next, records: 0 });
    }

    /// How many records a search has looked at, and how many of them have the needle.
    pub(super) fn searched(&self) -> Option<(usize, usize)> {
        let records = usize::try_from(self.head.records - self.left).unwrap_or(0);
        self.found.map(|found| (records, found.records))
    }

    /// Walks on in `region`, the memory that they lie in.
    ///
    /// # Errors
    /// When a record is corrupt. Those before it were walked.
    pub(super) fn walk(
        &mut self,
        region: &mut Region,
        columns: &mut Columns,
        place: &mut Place,
        limits: &Limits,
        search: Option<&Search>,
    ) -> Result<Walked, Malformed> {
        let walked = self.walk_on(region, columns, place, limits, search);
        // Also of the rows before a corrupt record.
        if self.purpose == Purpose::Rows {
            columns.push_head(&self.head);
        }
        if let Ok(Walked::Whole) = walked {
            place.pass_gap(self.head.end());
        }
        walked
    }

    fn walk_on(
        &mut self,
        region: &mut Region,
        columns: &mut Columns,
        place: &mut Place,
        limits: &Limits,
        search: Option<&Search>,
    ) -> Result<Walked, Malformed> {
        // A clone, so that the region itself can be marked as used.
        let bytes = region.bytes.clone();
        let records = bytes.get(..self.end).unwrap_or_default();
        let rows = self.purpose == Purpose::Rows;
        let search = search.filter(|_| self.found.is_some());
        let mut stretches = rows && search.is_none() && columns.takes_stretches(&self.head);
        while self.left > 0 {
            let here = place.position;
            if stretches && self.next_offset() == here {
                let Some(room) = limits.room(columns) else {
                    return Ok(Walked::Full);
                };
                stretches = self.stretch(region, columns, place, room);
                continue;
            }
            if self.has_no_more(search, records) && self.pass_rest(place) {
                break;
            }
            let record = record(records, self.at).ok_or_else(|| self.broken(here))?;
            let delta = record.offset_delta;
            if delta <= self.last_delta || delta > self.head.last_offset_delta {
                return Err(self.broken(here));
            }
            let offset = self.head.base_offset + i64::from(delta);
            if offset >= place.end {
                // Kept for the next range, which may begin here.
                place.pass_gap(place.end);
                return Ok(Walked::RangeEnd);
            }
            if offset >= place.position {
                if rows && self.is_found(record.end) {
                    if limits.is_full_for(columns, record.size()) {
                        return Ok(Walked::Full);
                    }
                    self.row(records, &record, region, columns)
                        .ok_or_else(|| self.broken(here))?;
                    if let Some(found) = &mut self.found {
                        found.records += 1;
                    }
                } else {
                    *self.purpose.counter(&mut place.passed) += 1;
                    place.passed_bytes += record.size();
                }
                place.passed.gap += u64::try_from(offset - place.position).unwrap_or(0);
                place.position = offset + 1;
            }
            self.last_delta = delta;
            self.at = record.end;
            self.left -= 1;
        }
        Ok(Walked::Whole)
    }

    /// Whether a search finds nothing from the next record on.
    #[inline(always)]
    fn has_no_more(&mut self, search: Option<&Search>, records: &[u8]) -> bool {
        let (Some(search), Some(found)) = (search, &mut self.found) else {
            return false;
        };
        found.next.move_to(search, records, self.at);
        found.next.next() == usize::MAX
    }

    /// Whether the next record, which ends there, may have the needle.
    #[inline(always)]
    fn is_found(&self, end: usize) -> bool {
        self.found.is_none_or(|found| found.next.next() < end)
    }

    /// Counts the records that are left by the batch's head, if they all lie in the range.
    fn pass_rest(&mut self, place: &mut Place) -> bool {
        let here = place.position == self.next_offset();
        let passed = here && place.pass_records(self.left, self.head.end(), self.purpose);
        if passed {
            place.passed_bytes += self.end - self.at;
            self.left = 0;
        }
        passed
    }

    /// The offset that follows that of the last record walked.
    #[inline(always)]
    fn next_offset(&self) -> i64 {
        self.head.base_offset + i64::from(self.last_delta) + 1
    }

    /// Makes rows of as many consecutive usual records as there is room for. `false` when the next one is
    /// not of that kind.
    #[inline]
    fn stretch(
        &mut self,
        region: &mut Region,
        columns: &mut Columns,
        place: &mut Place,
        (rows, bytes): (usize, usize),
    ) -> bool {
        let rows = rows.min(self.left as usize);
        let rows = rows.min(usize::try_from(place.end - place.position).unwrap_or(rows));
        let delta = self.last_delta + 1;
        let taken =
            columns.push_stretch(region, &self.head, (self.at, self.end), delta, rows, bytes);
        let records = taken.records as i32;
        self.at = taken.at;
        self.last_delta += records;
        self.left -= records;
        place.position += i64::from(records);
        records > 0
    }

    /// Makes a row of a record; `None` when its headers do not fit.
    #[inline(always)]
    fn row(
        &self,
        records: &[u8],
        record: &Record<'_>,
        region: &mut Region,
        columns: &mut Columns,
    ) -> Option<()> {
        // Looked at first: a row that turns out broken must not be there in part.
        if columns.wanted.headers {
            let (at, end) = (record.headers_at, record.end);
            headers(records, at, end, |_, _| {})?;
            let before = columns.headers.bytes();
            headers(records, at, end, |name, value| {
                columns.headers.push(name, value)
            });
            columns.headers.end_row();
            columns.bytes += columns.headers.bytes() - before;
        }
        columns.push(region, &self.head, record);
        columns.bytes += record.size();
        Some(())
    }

    #[cold]
    fn broken(&self, behind: i64) -> Malformed {
        Malformed(format!(
            "the record batch at {} is corrupt behind offset {behind}",
            self.head.base_offset
        ))
    }
}
