//! What a search has looked at, in words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use datafusion_kafka::range::{Ledger, LedgerCounts, OffsetRange, TopicPartition};
use datafusion_kafka::scan;

use crate::session;
use crate::ui::{number, thousands};

/// How many topics, runs of partitions and ranges a line names.
const NAMED: usize = 8;

/// How a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By itself: there is no more to look at, or these hits were enough.
    Itself,
    /// It was interrupted, and has printed all hits in what was looked at.
    Interrupted,
    /// It failed, or was left in its middle.
    Failed,
}

/// What was asked for, what was looked at, and what was found.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    hits: u64,
    /// Whether these were all that were asked for. What was looked at may then hold more.
    enough: bool,
    /// Whether partitions were read from their ends.
    reverse: bool,
    /// The partitions that were to be looked at, those without an offset too unless some are ruled out.
    partitions: BTreeSet<TopicPartition>,
    counts: LedgerCounts,
    /// What was not looked at, because the search ended before.
    unread: Vec<OffsetRange>,
    /// Records whose fields are not known.
    bad_rows: u64,
    /// What the conditions rule out without reading, by the kind of condition.
    pruned: BTreeMap<&'static str, u64>,
}

impl Coverage {
    /// What the plan's scans have done up to now.
    pub(super) fn of(
        plan: &Arc<dyn ExecutionPlan>,
        hits: u64,
        enough: bool,
        reverse: bool,
    ) -> Self {
        let ledger = scan::ledger(plan);
        let mut this = Self {
            hits,
            enough,
            reverse,
            counts: ledger.total(),
            unread: unread(&ledger),
            bad_rows: session::scan_progress(plan).bad_rows,
            ..Self::default()
        };
        let read = ledger.ranges.iter().map(|r| r.range.topic_partition());
        let read: BTreeSet<TopicPartition> = read.collect();
        for scan in scan::scans(plan) {
            let asked = scan.snapshot().offset_ranges();
            this.partitions
                .extend(asked.map(OffsetRange::topic_partition));
            for (range, by) in scan.pruned() {
                *this.pruned.entry(by).or_default() += u64::try_from(range.len()).unwrap_or(0);
            }
        }
        if ["partition", "key"]
            .iter()
            .any(|by| this.pruned.contains_key(by))
        {
            this.partitions = read;
        }
        this
    }

    /// Whether every record that could be a hit was looked at.
    pub(super) fn is_complete(&self) -> bool {
        let LedgerCounts {
            unread, lost, bad, ..
        } = self.counts;
        !self.enough && unread + lost + bad + self.bad_rows == 0
    }

    /// The number of hits.
    pub(super) fn hits(&self) -> u64 {
        self.hits
    }

    /// The line that says so.
    pub(super) fn line(&self, end: End) -> String {
        let hits = match (self.hits, end) {
            (0, End::Itself) => "none".to_owned(),
            (0, _) => "no hit".to_owned(),
            (1, _) => "1 hit".to_owned(),
            (n, _) => format!("{} hits", thousands(n)),
        };
        let total = self.counts.total();
        let offsets = number(total, "offset");
        let places = places(&self.partitions);
        let looked = total - self.counts.unread - self.counts.lost;
        let part = format!("looked at {} of {offsets} of {places}", thousands(looked));
        let mut line = match end {
            End::Interrupted => format!("interrupted: {hits} so far, {part}"),
            // Hits in what the scans had handed out may be lost.
            End::Failed => format!(
                "cut short: {hits} until then, {}",
                part.replacen("looked", "looked at most", 1)
            ),
            End::Itself if self.enough || self.counts.unread > 0 => {
                let stopped = match self.hits {
                    1 => "stopped at the first".to_owned(),
                    n => format!("stopped after the first {}", thousands(n)),
                };
                let newer = match self.reverse && self.partitions.len() > 1 {
                    true => ", in other partitions also newer ones",
                    false => "",
                };
                format!("{hits}, {stopped}: {part}, so there may be more{newer}")
            }
            End::Itself if self.hits > 0 && self.is_complete() => {
                format!("{hits} in {offsets} of {places}, all looked at")
            }
            End::Itself if self.hits > 0 => format!("{hits}, {part}"),
            End::Itself if self.is_complete() => {
                format!(
                    "none: no record in these ranges matches; {offsets} of {places}, all looked at"
                )
            }
            End::Itself => format!("none in what can be read: {part}"),
        };
        line.push_str(&self.classes());
        let ruled_out = self.pruned.iter();
        let ruled_out = ruled_out.map(|(by, n)| format!("{} by {by}", number(*n, "offset")));
        let ruled_out: Vec<String> = ruled_out.collect();
        if !ruled_out.is_empty() {
            line.push_str(&format!("; ruled out: {}", ruled_out.join(", ")));
        }
        if self.bad_rows > 0 {
            line.push_str(&format!(
                "; {} not decode",
                match self.bad_rows {
                    1 => "1 record does".to_owned(),
                    n => format!("{} records do", thousands(n)),
                }
            ));
        }
        if end != End::Failed && !self.unread.is_empty() {
            line.push_str(&format!("; not looked at: {}", list(self.unread.iter())));
        }
        line
    }

    /// `: 990 records, 2 control, 8 aborted`, unless all offsets that were looked at are records.
    fn classes(&self) -> String {
        let mut text = String::new();
        let records = ["delivered", "filtered", "unread"];
        for (name, count) in LedgerCounts::NAMES.iter().zip(self.counts.values()) {
            if count > 0 && !records.contains(name) {
                text.push_str(&format!(", {} {name}", thousands(count)));
            }
        }
        match text.is_empty() {
            true => text,
            false => format!(
                ": {}{text}",
                number(self.counts.delivered + self.counts.filtered, "record")
            ),
        }
    }
}

fn unread(ledger: &Ledger) -> Vec<OffsetRange> {
    let rest = ledger.ranges.iter().map(|ledger| {
        let (range, passed) = (&ledger.range, ledger.passed());
        let (start, end) = match ledger.backward {
            true => (range.start(), passed.start()),
            false => (passed.end(), range.end()),
        };
        OffsetRange::try_new(Arc::clone(range.topic()), range.partition(), start, end)
    });
    rest.flatten().filter(|range| !range.is_empty()).collect()
}

/// `orders[0..64], payments[1]`.
fn places(partitions: &BTreeSet<TopicPartition>) -> String {
    let mut runs: Vec<(&Arc<str>, i32, i32)> = vec![];
    for TopicPartition { topic, partition } in partitions {
        match runs.last_mut() {
            Some((last, _, end)) if *last == topic && *end == *partition => *end += 1,
            _ => runs.push((topic, *partition, partition.saturating_add(1))),
        }
    }
    let runs = runs.iter().map(|(topic, start, end)| match end - start {
        1 => format!("{topic}[{start}]"),
        _ => format!("{topic}[{start}..{end}]"),
    });
    match partitions.is_empty() {
        true => "no partition".to_owned(),
        false => list(runs),
    }
}

/// The first of several items, and how many more there are.
fn list<T: Display>(items: impl ExactSizeIterator<Item = T>) -> String {
    let more = items.len().saturating_sub(NAMED);
    let shown: Vec<String> = items.take(NAMED).map(|item| item.to_string()).collect();
    let mut text = shown.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(hits: u64, counts: LedgerCounts) -> Coverage {
        let partitions = [0, 1, 2, 5].map(|n| TopicPartition::new("orders", n));
        Coverage {
            hits,
            counts,
            partitions: partitions.into_iter().collect(),
            ..Coverage::default()
        }
    }

    #[test]
    fn a_line_says_what_was_looked_at_and_what_was_not() {
        let all = LedgerCounts {
            delivered: 1000,
            ..LedgerCounts::default()
        };
        let holes = LedgerCounts {
            delivered: 990,
            control: 2,
            aborted: 8,
            ..LedgerCounts::default()
        };
        let lost = LedgerCounts {
            delivered: 980,
            lost: 20,
            ..LedgerCounts::default()
        };
        let half = LedgerCounts {
            delivered: 500,
            unread: 500,
            ..LedgerCounts::default()
        };
        let places = "orders[0..3], orders[5]";
        for (hits, counts, end, complete, expected) in [
            (
                3,
                all,
                End::Itself,
                true,
                format!("3 hits in 1,000 offsets of {places}, all looked at"),
            ),
            (
                0,
                holes,
                End::Itself,
                true,
                format!(
                    "none: no record in these ranges matches; 1,000 offsets of {places}, all looked at: \
                     990 records, 2 control, 8 aborted"
                ),
            ),
            (
                0,
                lost,
                End::Itself,
                false,
                format!(
                    "none in what can be read: looked at 980 of 1,000 offsets of {places}: 980 records, 20 lost"
                ),
            ),
            (
                1,
                lost,
                End::Itself,
                false,
                format!("1 hit, looked at 980 of 1,000 offsets of {places}: 980 records, 20 lost"),
            ),
            (
                3,
                half,
                End::Itself,
                false,
                format!(
                    "3 hits, stopped after the first 3: looked at 500 of 1,000 offsets of {places}, so there may be \
                     more"
                ),
            ),
            (
                0,
                half,
                End::Interrupted,
                false,
                format!("interrupted: no hit so far, looked at 500 of 1,000 offsets of {places}"),
            ),
            (
                2,
                half,
                End::Failed,
                false,
                format!(
                    "cut short: 2 hits until then, looked at most at 500 of 1,000 offsets of {places}"
                ),
            ),
        ] {
            let coverage = coverage(hits, counts);
            assert_eq!(coverage.line(end), expected);
            assert_eq!(coverage.is_complete(), complete, "{expected}");
        }
    }

    #[test]
    fn what_stopped_at_the_last_offset_is_not_complete() {
        let counts = LedgerCounts {
            delivered: 40,
            ..LedgerCounts::default()
        };
        let mut coverage = coverage(3, counts);
        coverage.enough = true;
        assert!(!coverage.is_complete());
        assert_eq!(
            coverage.line(End::Itself),
            "3 hits, stopped after the first 3: looked at 40 of 40 offsets of orders[0..3], orders[5], so there may be \
             more"
        );
        coverage.reverse = true;
        let line = coverage.line(End::Itself);
        assert!(
            line.ends_with("so there may be more, in other partitions also newer ones"),
            "{line}"
        );
    }

    #[test]
    fn it_names_what_is_ruled_out_and_what_is_left() {
        let counts = LedgerCounts {
            delivered: 7,
            unread: 3,
            ..LedgerCounts::default()
        };
        let mut coverage = coverage(1, counts);
        coverage.pruned = BTreeMap::from([("key", 1200), ("offset", 1)]);
        coverage.unread = (0..10)
            .map(|n| OffsetRange::try_new("orders", n, 5, 6).unwrap())
            .collect();
        coverage.bad_rows = 1;
        let line = coverage.line(End::Itself);
        let expected = "so there may be more; ruled out: 1,200 offsets by key, 1 offset by offset; 1 record does not \
                        decode; not looked at: orders[0] 5..6, ";
        assert!(line.contains(expected), "{line}");
        assert!(line.ends_with("orders[7] 5..6 and 2 more"), "{line}");
        assert_eq!(
            Coverage::default().line(End::Itself),
            "none: no record in these ranges matches; 0 offsets of no partition, all looked at"
        );
    }
}
