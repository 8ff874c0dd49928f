//! Takes messages off the queues of librdkafka and appends them to the batch.

use std::sync::Arc;
use std::time::Instant;

use super::Reader;
use crate::client::librdkafka::ffi::{Message, code};
use crate::client::librdkafka::session::{Fetching, Profile};
use crate::error::Result;

/// The most messages taken off a queue at once: their headers alone are 1.2 MB.
const TAKE_MOST: usize = 4096;
/// The next range is started when the current one has this many offsets left.
const AHEAD_OFFSETS: i64 = 20_000;

/// What a step came to.
pub(super) enum Step {
    /// The batch is full.
    Full,
    /// The position has reached the range's end.
    RangeEnd,
    /// Nothing is there.
    Empty,
    /// The stream has no session.
    NoSession,
    /// librdkafka reported an error.
    Fault(i32, String),
    /// The record at this offset is of a later epoch than the range can have: others stood there.
    Cut(i64),
}

impl Reader {
    /// Appends what is there.
    pub(super) fn step(&mut self) -> Result<Step> {
        let started = Instant::now();
        let lease = Arc::clone(&self.lease);
        let mut guard = lease.lock();
        let Some(fetching) = guard.as_mut() else {
            return Ok(Step::NoSession);
        };
        self.start_ranges(fetching)?;
        let step = self.drain(fetching);
        self.decode += started.elapsed();
        Ok(step)
    }

    /// Starts the current range and those that are fetched ahead.
    fn start_ranges(&mut self, fetching: &mut Fetching) -> Result<()> {
        let at = self.at;
        if !fetching.is_started(at) {
            fetching.start(at, &self.request.ranges[at], self.position, &self.wake)?;
        }
        let depth = self.kind.profile.depth();
        if fetching.started_count() >= depth
            || (self.kind.profile == Profile::Large
                && self.range().end() - self.position > AHEAD_OFFSETS)
        {
            return Ok(());
        }
        let ahead = self
            .request
            .ranges
            .iter()
            .enumerate()
            .skip(at + 1)
            .take(depth - 1);
        for (index, range) in ahead {
            if fetching.started_count() >= depth {
                break;
            }
            // A partition is fetched once at a time; a later range of it waits for its turn.
            if !fetching.is_started(index) && !fetching.has_partition(range) {
                fetching.start(index, range, range.start(), &self.wake)?;
            }
        }
        Ok(())
    }

    fn drain(&mut self, fetching: &mut Fetching) -> Step {
        let end = self.range().end();
        let rows = self.request.batch_rows;
        self.columns
            .reserve(rows.min(usize::try_from(end - self.position).unwrap_or(rows)));
        loop {
            if self.position >= end {
                return Step::RangeEnd;
            }
            if self.columns.rows() >= rows || self.columns.bytes() >= self.request.batch_bytes {
                return Step::Full;
            }
            if fetching.messages.is_empty() {
                let room = (self.request.batch_bytes - self.columns.bytes()) / self.mean_bytes + 1;
                let left = usize::try_from(end - self.position).unwrap_or(usize::MAX);
                let count = (rows - self.columns.rows())
                    .min(room)
                    .min(left)
                    .min(TAKE_MOST);
                if fetching.take(self.at, count) == 0 {
                    let passed = fetching.passed(&self.request.ranges[self.at]).min(end);
                    if passed <= self.position {
                        return Step::Empty;
                    }
                    self.position = passed;
                    self.moved();
                    continue;
                }
            }
            let before = self.position;
            if let Some(cut) = self.cut(fetching, end) {
                return Step::Cut(cut);
            }
            let fault = self.append(fetching, end);
            // Reports are no progress: a fault that is reported for ever is a stalled broker.
            if self.position > before {
                self.moved();
                if !self.received {
                    self.received = true;
                    fetching.succeeded();
                }
            }
            if let Some(fault) = fault {
                return fault;
            }
        }
    }

    /// The first record whose epoch shows that the log was cut within the range. Epochs rise with the offsets, so the
    /// last record decides.
    fn cut(&self, fetching: &Fetching, end: i64) -> Option<i64> {
        let newest_epoch = self.request.newest_epoch(&self.partition());
        let records = || {
            let wanted = self.position..end;
            let messages = fetching.messages.rest();
            messages.filter(move |m| m.code() == code::OK && wanted.contains(&m.offset()))
        };
        let is_later = |message: &Message<'_>| message.leader_epoch() > newest_epoch;
        records().last().filter(is_later)?;
        records().find(is_later).map(|message| message.offset())
    }

    /// Appends messages until the batch is full, the range ends or none is left.
    fn append(&mut self, fetching: &mut Fetching, end: i64) -> Option<Step> {
        let rows_most = self.request.batch_rows;
        let bytes_most = self.request.batch_bytes;
        let (rows_before, bytes_before) = (self.columns.rows(), self.columns.bytes());
        let log_end = fetching.log_end(self.range());
        let mut read = 0;
        let mut fault = None;
        let (mut reported, mut ended) = (fetching.reported, fetching.ended);
        for message in fetching.messages.rest() {
            let c = message.code();
            let offset = message.offset();
            if c != code::OK {
                reported = reported.max(offset.saturating_add(1));
            }
            if c == code::OK {
                // No checksum covers the offset of a record batch.
                if log_end >= 0 && offset >= log_end {
                    let reason =
                        format!("a record has offset {offset}, and the log ends at {log_end}");
                    fault = Some(Step::Fault(code::BAD_MSG, reason));
                    break;
                }
                if offset >= end {
                    // An answer with an error says that it ends nowhere.
                    if log_end < 0 {
                        let reason = format!(
                            "a record has offset {offset}, and it is not known where the log ends"
                        );
                        fault = Some(Step::Fault(code::UNKNOWN, reason));
                        break;
                    }
                    self.position = end;
                    break;
                }
                if self.columns.rows() >= rows_most || self.columns.bytes() >= bytes_most {
                    break;
                }
                if message.is_misread() {
                    fault = Some(Step::Fault(code::NOT_IMPLEMENTED, String::new()));
                    break;
                }
                // Below: of a gap between two ranges, or delivered again after a leader change.
                if offset >= self.position {
                    self.columns.append(message);
                    self.position = offset + 1;
                }
            } else if c == code::PARTITION_EOF {
                // What is there below has come.
                ended = ended.max(offset);
                self.position = self.position.max(offset.min(end));
            } else {
                let text = message.value().map(String::from_utf8_lossy);
                fault = Some(Step::Fault(c, text.unwrap_or_default().into_owned()));
                read += 1;
                break;
            }
            read += 1;
            if self.position >= end {
                break;
            }
        }
        fetching.messages.advance(read);
        fetching.reported = reported;
        fetching.ended = ended;
        let rows = self.columns.rows() - rows_before;
        if let Some(mean) = (self.columns.bytes() - bytes_before).checked_div(rows) {
            self.mean_bytes = mean.max(1);
        }
        fault
    }
}
