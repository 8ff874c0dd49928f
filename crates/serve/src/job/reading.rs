//! How far a batch has read while it runs.

use std::fmt;
use std::time::Instant;

use datafusion_kafka::driver::Reads;
use datafusion_kafka::range::{Ledger, OffsetRange};

/// How many partitions a message names.
const MOST_NAMED: usize = 5;

/// How far the queries of a batch have read, as of the last look.
#[derive(Debug, Default)]
pub(super) struct Reading {
    batch: Option<u64>,
    ranges: Vec<OffsetRange>,
    reads: Option<Reads>,
    /// What the queries had read when somebody looked last; nothing before they begin.
    ledger: Ledger,
    /// The most offsets that an attempt at the batch had passed. One that reads again what an earlier one had read is no
    /// progress.
    passed: u64,
    moved: Option<Instant>,
}

impl Reading {
    /// A batch begins, or begins again.
    pub(super) fn begin(&mut self, batch: u64, ranges: &[OffsetRange]) {
        if self.batch != Some(batch) {
            *self = Self {
                batch: Some(batch),
                ..Self::default()
            };
        }
        self.ranges = ranges.to_vec();
        self.reads = None;
    }

    /// Its queries begin to read.
    pub(super) fn follow(&mut self, reads: Reads) {
        self.reads = Some(reads);
    }

    /// Looks how far they are.
    pub(super) fn look(&mut self) {
        let Some(ledger) = self.reads.as_ref().map(Reads::ledger) else {
            return;
        };
        // They have failed: what was seen last stays.
        if ledger.is_empty() {
            return;
        }
        let passed = ledger.total().passed();
        if passed > self.passed {
            self.passed = passed;
            self.moved = Some(Instant::now());
        }
        self.ledger = ledger;
    }

    /// Since when no look has found that more was read; `None` if nothing was.
    pub(super) fn moved(&self) -> Option<Instant> {
        self.moved
    }
}

/// What a batch waits for, after its number.
impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ledger.is_empty() {
            let ranges: Vec<String> = self.ranges.iter().map(ToString::to_string).collect();
            return write!(f, "is at {}", listed(ranges));
        }
        let unread = self
            .ledger
            .ranges
            .iter()
            .filter(|ledger| ledger.counts.unread > 0);
        let unread: Vec<String> = unread
            .map(|ledger| {
                let (range, passed) = (&ledger.range, ledger.passed());
                let at = match ledger.backward {
                    true => passed.start(),
                    false => passed.end(),
                };
                format!(
                    "{}@{at} of {}..{}",
                    range.topic_partition(),
                    range.start(),
                    range.end()
                )
            })
            .collect();
        match unread.is_empty() {
            true => f.write_str("has read all and is not committed"),
            false => write!(f, "has read no further than {}", listed(unread)),
        }
    }
}

fn listed(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(MOST_NAMED);
    names.truncate(MOST_NAMED);
    match more {
        0 => names.join(", "),
        more => format!("{} and {more} others", names.join(", ")),
    }
}
