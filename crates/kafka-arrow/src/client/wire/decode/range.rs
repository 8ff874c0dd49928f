//! Goes through record batches: of which rows are made, which are passed, and where a range ends.

mod heads;
mod search;
mod short;

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::aborted::Aborted;
use super::answer::Malformed;
use super::batch::{BatchHead, Codec, HEAD_BYTES};
use super::codec::{KEPT_BYTES, Packed, Unpacker};
use super::columns::{Columns, Region};
use super::limits::Limits;
use super::old;
use super::walk::{Place, Purpose, Records, Walked};
use crate::client::needle::Search;
use crate::client::{Held, PassedOffsets, RawBatch, RawColumns, TimestampBounds};
use crate::range::{IsolationLevel, TopicPartition};
pub(crate) use short::{ShortOf, Shortage};

/// What a call of [`RangeDecoder::step`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The batch is full: [`finish`](RangeDecoder::finish) it.
    Full,
    /// The position has reached the end of the range.
    RangeEnd,
    /// All records that were fed are used up.
    Empty,
    /// The next record batch is not unpacked: see [`RangeDecoder::shortage`].
    Short,
    /// The record at this offset is of a later epoch than the range can have: others stood there.
    Cut(i64),
}

/// The rows of a range, decoded from the record batches that a partition's part of an answer holds.
///
/// - [`position`](Self::position) only rises, and never beyond the range's end.
/// - Rows, and the offsets counted in the `passed` of its batches, are what the position has passed.
pub(crate) struct RangeDecoder {
    limits: Limits,
    isolation: IsolationLevel,
    columns: Columns,
    unpacker: Unpacker,
    bounds: TimestampBounds,
    /// For what every wanted record contains.
    search: Option<Search>,
    place: Place,
    /// Whether the range had offsets before that hold nothing.
    gaps: bool,
    /// The epoch of the last batch that was walked, to notice a truncated log (KIP-595).
    epoch: i32,
    /// The newest epoch that a record of the range can have.
    newest_epoch: i32,
    aborted: Aborted,
    /// The head of the last batch of the part that was looked at.
    seen: Option<BatchHead>,
    /// Where the broker says that its log ends.
    log_end: i64,
    /// Whether two batches of a part contradict each other, of which the first may be the wrong one.
    contradicted: bool,
    /// What was fed and is not walked.
    fed: Option<Region>,
    at: usize,
    /// What follows messages of an old format, of which `fed` holds a copy in the new one.
    behind_old: Option<Bytes>,
    walk: Option<Walk>,
    /// Where the memory of large batches is asked for; it goes with the rows.
    unpacked: Held,
    shortage: Option<Shortage>,
    decode: Duration,
}

/// A batch whose records are walked.
struct Walk {
    records: Records,
    /// Where they lie, if they were unpacked.
    unpacked: Option<Region>,
    /// Where the next batch begins in what was fed.
    batch_end: usize,
}

impl RangeDecoder {
    pub(crate) fn new(wanted: RawColumns, isolation: IsolationLevel, limits: Limits) -> Self {
        Self {
            limits,
            isolation,
            columns: Columns::new(wanted, limits.batch_rows),
            unpacker: Unpacker::new(limits.unpacked_bytes),
            bounds: TimestampBounds::default(),
            search: None,
            place: Place::default(),
            gaps: false,
            epoch: -1,
            newest_epoch: i32::MAX,
            aborted: Aborted::default(),
            seen: None,
            log_end: i64::MAX,
            contradicted: false,
            fed: None,
            at: 0,
            behind_old: None,
            walk: None,
            unpacked: Held::unlimited(),
            shortage: None,
            decode: Duration::ZERO,
        }
    }

    /// The same, which asks for the memory that large record batches are unpacked to.
    pub(crate) fn within(self, unpacked: Held) -> Self {
        Self { unpacked, ..self }
    }

    /// Hands over memory for the next record batch.
    pub(crate) fn grant(&mut self, unpacked: Held) {
        self.unpacked = unpacked;
    }

    /// Goes over to `start..end`, of which records within `bounds` are wanted. What was fed is kept:
    /// the range may lie in it.
    pub(crate) fn begin(&mut self, start: i64, end: i64, bounds: TimestampBounds) {
        self.place.position = start;
        self.place.end = end;
        self.bounds = bounds;
        self.gaps = false;
    }

    /// Sets the newest leader epoch that a record of the range can have.
    pub(crate) fn expect_up_to(&mut self, newest_epoch: i32) {
        self.newest_epoch = newest_epoch;
    }

    /// Forgets what was fed, before a part of another partition or of another answer.
    pub(crate) fn clear(&mut self) {
        self.fed = None;
        self.behind_old = None;
        self.walk = None;
        self.aborted = Aborted::default();
        self.seen = None;
        self.log_end = i64::MAX;
    }

    /// Begins a partition's part of an answer; `aborted` holds producer ids and first offsets.
    pub(crate) fn begin_part(&mut self, aborted: &[(i64, i64)]) {
        self.clear();
        self.aborted = Aborted::new(aborted);
    }

    /// Notes where the log ends by the answer whose part has begun: no record batch may reach beyond.
    pub(crate) fn log_ends_at(&mut self, log_end: i64) {
        if log_end >= 0 {
            self.log_end = log_end;
        }
    }

    /// Whether the last error says that rows before it may have wrong offsets.
    pub(crate) fn is_contradicted(&self) -> bool {
        self.contradicted
    }

    /// Hands over whole record batches, when [`step`](Self::step) has used up those before.
    pub(crate) fn feed(&mut self, batches: Bytes) {
        self.fed = Some(Region::new(batches));
        self.at = 0;
    }

    /// The next offset to read.
    pub(crate) fn position(&self) -> i64 {
        self.place.position
    }

    /// The leader epoch of the last batch walked; -1 before the first.
    pub(crate) fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(crate) fn forget_epoch(&mut self) {
        self.epoch = -1;
    }

    /// Whether there is anything to hand out: rows, or offsets passed without one.
    pub(crate) fn has_news(&self) -> bool {
        self.columns.rows() > 0 || self.place.passed != PassedOffsets::default()
    }

    /// Whether the range has offsets so far that hold nothing, as compaction leaves them.
    pub(crate) fn has_gaps(&self) -> bool {
        self.gaps || self.place.passed.gap > 0
    }

    /// Passes the rest of the range, in which the log holds nothing.
    pub(crate) fn pass_gap(&mut self) {
        self.place.pass_gap(self.place.end);
    }

    /// Moves to `offset` without counting: the caller does.
    pub(crate) fn skip_to(&mut self, offset: i64) {
        self.place.position = offset.min(self.place.end);
    }

    /// Hands out the rows, and what was passed since the batch before.
    ///
    /// # Errors
    /// Arrow's, which the checks before rule out.
    pub(crate) fn finish(
        &mut self,
        partition: TopicPartition,
    ) -> Result<RawBatch, arrow::error::ArrowError> {
        let started = Instant::now();
        let mut batch = self.columns.finish(partition, self.place.position)?;
        self.gaps = self.has_gaps();
        batch.passed = std::mem::take(&mut self.place.passed);
        batch.passed_bytes = std::mem::take(&mut self.place.passed_bytes);
        let decode = std::mem::take(&mut self.decode) + started.elapsed();
        batch.decode_ns = u64::try_from(decode.as_nanos()).unwrap_or(u64::MAX);
        Ok(batch)
    }

    /// Walks on until a batch is full, the range has ended or nothing is left.
    ///
    /// # Errors
    /// When records are corrupt; the text names the offset. Rows before it are kept.
    pub(crate) fn step(&mut self) -> Result<Step, Malformed> {
        let started = Instant::now();
        // That of a step whose rows were handed out first: this one tries again.
        self.shortage = None;
        let step = self.walk_on();
        self.decode += started.elapsed();
        step
    }

    fn walk_on(&mut self) -> Result<Step, Malformed> {
        loop {
            if self.place.is_at_end() {
                return Ok(Step::RangeEnd);
            }
            // Before the next batch is unpacked, which may be large.
            if self.columns.rows() > 0 && self.limits.room(&self.columns).is_none() {
                return Ok(Step::Full);
            }
            if let Some(mut walk) = self.walk.take() {
                let Some(region) = walk.unpacked.as_mut().or(self.fed.as_mut()) else {
                    return Err(cut(self.place.position));
                };
                let (columns, place) = (&mut self.columns, &mut self.place);
                let search = self.search.as_ref();
                match walk
                    .records
                    .walk(region, columns, place, &self.limits, search)?
                {
                    Walked::Whole => {
                        self.at = walk.batch_end;
                        if let (Some((records, hits)), Some(search)) =
                            (walk.records.searched(), &mut self.search)
                        {
                            search.found(records, hits);
                        }
                    }
                    Walked::RangeEnd => self.walk = Some(walk),
                    Walked::Full => {
                        self.walk = Some(walk);
                        return Ok(if self.place.is_at_end() {
                            Step::RangeEnd
                        } else {
                            Step::Full
                        });
                    }
                }
                continue;
            }
            let Some(fed) = &self.fed else {
                return Ok(Step::Empty);
            };
            let Some(batch) = fed.bytes.get(self.at..).filter(|b| !b.is_empty()) else {
                self.fed = None;
                if let Some(rest) = self.behind_old.take() {
                    self.feed(rest);
                    continue;
                }
                return Ok(Step::Empty);
            };
            if old::is_old(batch) {
                let (check_crcs, held) = (self.limits.check_crcs, &mut self.unpacked);
                let rewritten = old::rewrite(batch, &mut self.unpacker, held, check_crcs);
                let (batches, taken) = match rewritten {
                    Ok(rewritten) => rewritten,
                    Err(packed) => {
                        self.fall_short(self.place.position, packed)?;
                        return Ok(Step::Short);
                    }
                };
                let rest = fed.bytes.slice(self.at + taken..);
                self.feed(batches);
                self.behind_old = Some(rest);
                continue;
            }
            let size = batch
                .get(8..12)
                .and_then(|b| b.try_into().ok())
                .map_or(0, u32::from_be_bytes);
            let size = usize::try_from(size).unwrap_or(0).saturating_add(12);
            let batch = batch.get(..size).ok_or_else(|| cut(self.place.position))?;
            let batch = fed.bytes.slice_ref(batch);
            if let Some(cut) = self.begin_batch(&batch)? {
                return Ok(Step::Cut(cut));
            }
            if self.shortage.is_some() {
                return Ok(Step::Short);
            }
        }
    }

    /// Decides about a whole batch: it is passed, or a walk of it begins. Returns its first offset in the range if it
    /// cannot belong there.
    fn begin_batch(&mut self, batch: &Bytes) -> Result<Option<i64>, Malformed> {
        let head = BatchHead::parse(batch)?;
        self.check_place(&head)?;
        let next = self.at + batch.len();
        self.aborted.reach(&head);
        if head.end() <= self.place.position {
            // The batch that holds the position begins before it; one before that is of no use.
            self.note_control(&head, batch);
            self.at = next;
            return Ok(None);
        }
        if head.base_offset >= self.place.end {
            self.pass_gap();
            return Ok(None);
        }
        if head.leader_epoch > self.newest_epoch {
            return Ok(Some(head.base_offset.max(self.place.position)));
        }
        self.epoch = head.leader_epoch;
        self.place.pass_gap(head.base_offset);
        let committed = self.isolation == IsolationLevel::ReadCommitted;
        if head.is_control() {
            self.check(&head, batch)?;
            self.note_control(&head, batch);
            // A marker has one offset; cleaning may have left the batch without it.
            let marker = if head.records > 0 {
                head.end()
            } else {
                head.base_offset
            };
            self.place.pass(marker, |passed| &mut passed.control);
            self.place.pass_gap(head.end());
            self.leave(&head, next);
            return Ok(None);
        }
        let purpose = if committed && self.aborted.holds(&head) {
            Purpose::Aborted
        } else if self.is_filtered(&head) {
            Purpose::Filtered
        } else {
            Purpose::Rows
        };
        if purpose == Purpose::Rows {
            if head.is_dense() && self.is_told_by_head(&head) {
                self.rows_of_head(&head, next, batch.len());
                return Ok(None);
            }
        } else if self.pass_whole(&head, purpose, batch.len()) {
            self.leave(&head, next);
            return Ok(None);
        }
        self.begin_walk(head, batch, next, purpose)?;
        Ok(None)
    }

    /// Compares a batch's offsets with what else the answer says. Its checksum does not cover them.
    fn check_place(&mut self, head: &BatchHead) -> Result<(), Malformed> {
        if head.end() > self.log_end {
            return Err(Malformed(format!(
                "the record batch at {} reaches to {}, and the log ends at {}",
                head.base_offset,
                head.end(),
                self.log_end
            )));
        }
        // A batch may be looked at again, for the next range or when there is memory for it.
        if let Some(seen) = self.seen.filter(|seen| seen != head)
            && head.base_offset < seen.end()
        {
            self.contradicted = true;
            return Err(Malformed(format!(
                "the record batch at {} follows one that ends at {}: offsets were changed on their way",
                head.base_offset,
                seen.end()
            )));
        }
        self.seen = Some(*head);
        Ok(())
    }

    /// Goes over to the next batch, unless this one reaches beyond the range: the next range may
    /// begin in it.
    fn leave(&mut self, head: &BatchHead, next: usize) {
        if head.end() <= self.place.end {
            self.at = next;
        }
    }

    fn check(&self, head: &BatchHead, batch: &[u8]) -> Result<(), Malformed> {
        if self.limits.check_crcs && !head.checks(batch) {
            return Err(Malformed(format!(
                "the record batch at {} does not match its checksum",
                head.base_offset
            )));
        }
        Ok(())
    }

    fn begin_walk(
        &mut self,
        head: BatchHead,
        batch: &Bytes,
        next: usize,
        purpose: Purpose,
    ) -> Result<(), Malformed> {
        self.check(&head, batch)?;
        let codec = head.codec()?;
        let packed = batch.get(HEAD_BYTES..).unwrap_or_default();
        let (unpacked, at, records_end) = if codec == Codec::None {
            (None, self.at + HEAD_BYTES, next)
        } else {
            let offset = head.base_offset;
            let records = match self.unpacker.unpack(codec, packed, &mut self.unpacked) {
                Ok(records) => records,
                Err(Packed::Broken(e)) => {
                    return Err(Malformed(format!("the record batch at {offset}: {e}")));
                }
                Err(packed) => return self.fall_short(offset, packed),
            };
            let size = records.len();
            let unpacked = Region::new(records).budgeted(size > KEPT_BYTES);
            (Some(unpacked), 0, size)
        };
        let bytes = unpacked.as_ref().map_or(packed, |region| &region.bytes[..]);
        let mut records = Records::new(head, purpose, at, records_end);
        if purpose == Purpose::Rows {
            match self.look_for_needle(bytes) {
                Some(traces) if traces.next() < usize::MAX => records.search(traces.behind(at)),
                Some(_) if self.pass_whole(&head, Purpose::Filtered, batch.len()) => {
                    self.leave(&head, next);
                    return Ok(());
                }
                Some(_) => {
                    records = Records::new(head, Purpose::Filtered, at, records_end);
                }
                None => {
                    let rows = usize::try_from(head.records).unwrap_or(0);
                    self.columns.reserve(rows.min(records_end - at));
                }
            }
        }
        self.walk = Some(Walk {
            records,
            unpacked,
            batch_end: next,
        });
        Ok(())
    }
}

fn cut(position: i64) -> Malformed {
    Malformed(format!("the record batch that holds {position} is cut off"))
}
