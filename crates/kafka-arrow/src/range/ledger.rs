//! Accounts for every offset of the ranges that were read.
//!
//! ```text
//! orders[0] 0..100:  90 delivered   8 aborted   2 control                       = 100
//! orders[1] 0..100:  40 delivered  10 lost                   50 unread          = 100
//!                    ╰── passed: from the start up to 50 ──╯ ╰─ a LIMIT stopped
//! ```
//!
//! Reading has *passed* one part of a range, from its start on, or down from its end for a range that was
//! read backward. The rest is unread. Every passed offset has one of the classes of [`LedgerCounts`]. All
//! classes together add up to `end - start`. The scan compares this with what the client reports for each
//! batch, and fails on a difference.

use std::fmt;
use std::iter::Sum;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::{OffsetRange, RowsChecksum};
use crate::error::{Error, Result};

/// How many offsets of a range ended up in each class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct LedgerCounts {
    /// Records that the scan returned.
    pub delivered: u64,
    /// Records outside the times `@T1:T2` of the range.
    pub filtered: u64,
    /// Control records: the ends of transactions.
    pub control: u64,
    /// Records of aborted transactions, under `read_committed`.
    pub aborted: u64,
    /// Offsets without a record: compacted away, or never written.
    pub gap: u64,
    /// Offsets below the log start, skipped because the user allows it.
    pub lost: u64,
    /// Records that do not decode and were passed over. None today: such a record ends the scan
    /// with an error.
    pub bad: u64,
    /// `control`, `aborted` or `gap`: the client cannot tell which.
    pub untold: u64,
    /// Offsets that were not read: a LIMIT was reached, or the consumer of the rows stopped.
    pub unread: u64,
}

impl LedgerCounts {
    /// The names of the classes, in the order of [`values`](Self::values).
    pub const NAMES: [&str; 9] = [
        "delivered",
        "filtered",
        "control",
        "aborted",
        "gap",
        "lost",
        "bad",
        "untold",
        "unread",
    ];

    /// The counts in the order of [`NAMES`](Self::NAMES).
    pub fn values(&self) -> [u64; 9] {
        [
            self.delivered,
            self.filtered,
            self.control,
            self.aborted,
            self.gap,
            self.lost,
            self.bad,
            self.untold,
            self.unread,
        ]
    }

    /// All offsets.
    pub fn total(&self) -> u64 {
        self.values().iter().sum()
    }

    /// The offsets that reading has passed.
    pub fn passed(&self) -> u64 {
        self.total() - self.unread
    }

    /// Offsets without a record for this reader: `control`, `aborted`, `gap` and `untold`.
    pub fn without_record(&self) -> u64 {
        self.control + self.aborted + self.gap + self.untold
    }

    /// Whether there are no offsets.
    pub fn is_empty(&self) -> bool {
        self.total() == 0
    }
}

impl AddAssign for LedgerCounts {
    fn add_assign(&mut self, more: Self) {
        self.delivered += more.delivered;
        self.filtered += more.filtered;
        self.control += more.control;
        self.aborted += more.aborted;
        self.gap += more.gap;
        self.lost += more.lost;
        self.bad += more.bad;
        self.untold += more.untold;
        self.unread += more.unread;
    }
}

impl Sum for LedgerCounts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }
}

/// The classes that are not zero: `90 delivered, 8 aborted, 2 control`.
impl fmt::Display for LedgerCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} delivered", self.delivered)?;
        for (name, count) in Self::NAMES.iter().zip(self.values()).skip(1) {
            if count > 0 {
                write!(f, ", {count} {name}")?;
            }
        }
        Ok(())
    }
}

/// One range, and what happened to its offsets.
///
/// - The [`counts`](Self::counts) add up to the length of the range.
/// - Unread offsets lie at the end of the range, or at its start if it was read backward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RangeLedger {
    /// The range that was to be read.
    #[serde(flatten)]
    pub range: OffsetRange,
    /// Whether the range was read from its end, for `ORDER BY offset DESC`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backward: bool,
    /// What happened to its offsets.
    #[serde(flatten)]
    pub counts: LedgerCounts,
    /// The checksum of the delivered records, if it was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<RowsChecksum>,
}

impl RangeLedger {
    /// The ledger of a range of which nothing has been read yet.
    pub fn unread(range: OffsetRange, backward: bool) -> Self {
        let unread = u64::try_from(range.len()).unwrap_or(0);
        Self {
            range,
            backward,
            counts: LedgerCounts {
                unread,
                ..LedgerCounts::default()
            },
            rows: None,
        }
    }

    /// The part of the range that reading has passed; empty if nothing was read.
    pub fn passed(&self) -> OffsetRange {
        let unread = i64::try_from(self.counts.unread).unwrap_or(i64::MAX);
        let mut part = self.range.clone();
        if self.backward {
            part.start = part.start.saturating_add(unread).min(part.end);
        } else {
            part.end = part.end.saturating_sub(unread).max(part.start);
        }
        part
    }

    /// Records offsets that reading has passed.
    ///
    /// # Errors
    /// [`Error::Unaccounted`] when there are more of them than unread offsets.
    pub fn pass(&mut self, counts: LedgerCounts, rows: Option<RowsChecksum>) -> Result<()> {
        let passed = counts.passed();
        let Some(unread) = self.counts.unread.checked_sub(passed) else {
            let position = self.passed().end;
            return Err(Error::Unaccounted {
                topic: self.range.topic.to_string(),
                partition: self.range.partition,
                start: position,
                end: self.range.end,
                message: format!("{passed} offsets are reported for it"),
            });
        };
        self.counts += counts;
        self.counts.unread = unread;
        if let Some(rows) = rows {
            *self.rows.get_or_insert_default() += rows;
        }
        Ok(())
    }

    /// Checks the promises of this type, for a ledger that was read from JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the counts do not add up to the range.
    pub fn validate(&self) -> Result<()> {
        let sum = self.counts.values().iter().copied().map(u128::from).sum();
        if u128::try_from(self.range.len()) == Ok(sum) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "ledger of {}: its counts add up to {sum}, the range has {} offsets",
            self.range,
            self.range.len()
        )))
    }

    /// Whether `next` begins where this range ends, and both can count as one range.
    fn continues_in(&self, next: &Self) -> bool {
        let wholly_unread = |ledger: &Self| ledger.counts.passed() == 0;
        self.range.topic == next.range.topic
            && self.range.partition == next.range.partition
            && self.range.end == next.range.start
            && self.backward == next.backward
            && if self.backward {
                next.counts.unread == 0 || wholly_unread(self)
            } else {
                self.counts.unread == 0 || wholly_unread(next)
            }
    }
}

/// What happened to the offsets of all ranges of a query.
///
/// `scan::ledger` in datafusion-kafka takes it from an executed plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ledger {
    /// The ranges that are not empty. A topic that a query reads twice appears twice.
    pub ranges: Vec<RangeLedger>,
}

impl Ledger {
    /// The ledger of one scan, by topic, partition and offset. Ranges that were only split for reading are
    /// joined again.
    pub fn of_scan(mut ranges: Vec<RangeLedger>) -> Self {
        ranges.retain(|ledger| !ledger.range.is_empty());
        ranges.sort_by(|a, b| a.range.cmp(&b.range));
        let mut joined: Vec<RangeLedger> = vec![];
        for next in ranges {
            match joined.last_mut() {
                Some(last) if last.continues_in(&next) => {
                    last.range.end = next.range.end;
                    last.counts += next.counts;
                    if let Some(rows) = next.rows {
                        *last.rows.get_or_insert_default() += rows;
                    }
                }
                _ => joined.push(next),
            }
        }
        Self { ranges: joined }
    }

    /// The counts of all ranges together.
    pub fn total(&self) -> LedgerCounts {
        self.ranges.iter().map(|ledger| ledger.counts).sum()
    }

    /// Whether no range has any offset.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(start: i64, end: i64, unread: u64, backward: bool) -> RangeLedger {
        let range = OffsetRange::try_new("t", 0, start, end).unwrap();
        let mut ledger = RangeLedger::unread(range, backward);
        ledger.counts.unread = unread;
        ledger.counts.delivered = u64::try_from(end - start).unwrap() - unread;
        ledger
    }

    fn spans(ledgers: Vec<RangeLedger>) -> Vec<(i64, i64, u64)> {
        let ledger = Ledger::of_scan(ledgers);
        let span = |l: &RangeLedger| (l.range.start, l.range.end, l.counts.unread);
        ledger.ranges.iter().map(span).collect()
    }

    #[test]
    fn json_is_pinned() {
        let mut range = ledger(10, 20, 3, false);
        range
            .pass(
                LedgerCounts {
                    control: 1,
                    untold: 2,
                    ..LedgerCounts::default()
                },
                None,
            )
            .unwrap();
        let json = serde_json::to_string(&range).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"topic":"t","partition":0,"start":10,"end":20,"delivered":7,"filtered":0,"#,
                r#""control":1,"aborted":0,"gap":0,"lost":0,"bad":0,"untold":2,"unread":0}"#
            )
        );
        assert_eq!(serde_json::from_str::<RangeLedger>(&json).unwrap(), range);
        assert_eq!(range.counts.to_string(), "7 delivered, 1 control, 2 untold");
    }

    #[test]
    fn more_than_the_range_holds_is_an_error() {
        let mut range = ledger(10, 20, 2, false);
        let counts = LedgerCounts {
            gap: 3,
            ..LedgerCounts::default()
        };
        let error = range.pass(counts, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "t[0] 18..20: 3 offsets are reported for it; the client that reads is at fault, please report this"
        );
        assert!(range.validate().is_ok());
        range.counts.gap = 1;
        assert!(
            range
                .validate()
                .unwrap_err()
                .to_string()
                .contains("add up to 11")
        );
    }

    #[test]
    fn the_passed_part_is_a_prefix_or_backward_a_suffix() {
        let part = |ledger: RangeLedger| {
            let passed = ledger.passed();
            (passed.start, passed.end)
        };
        assert_eq!(part(ledger(10, 20, 4, false)), (10, 16));
        assert_eq!(part(ledger(10, 20, 4, true)), (14, 20));
        assert_eq!(part(ledger(10, 20, 10, true)), (20, 20));
    }

    #[test]
    fn pieces_join_only_where_the_passed_part_stays_whole() {
        let f = |a, b, unread| ledger(a, b, unread, false);
        assert_eq!(spans(vec![f(5, 9, 0), f(0, 5, 0)]), [(0, 9, 0)]);
        assert_eq!(spans(vec![f(0, 5, 2), f(5, 9, 4)]), [(0, 9, 6)]);
        assert_eq!(spans(vec![f(0, 5, 2), f(5, 9, 0)]), [(0, 5, 2), (5, 9, 0)]);
        assert_eq!(spans(vec![f(0, 5, 0), f(6, 9, 0)]), [(0, 5, 0), (6, 9, 0)]);
        assert_eq!(spans(vec![f(3, 3, 0)]), []);
        let b = |a, b, unread| ledger(a, b, unread, true);
        assert_eq!(spans(vec![b(0, 5, 5), b(5, 9, 1)]), [(0, 9, 6)]);
        assert_eq!(spans(vec![b(0, 5, 0), b(5, 9, 1)]), [(0, 5, 0), (5, 9, 1)]);
    }
}
