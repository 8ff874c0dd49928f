//! What a statement has read, in a line for people: the summary of its ledger.

use std::collections::BTreeMap;

use datafusion_kafka::range::{Ledger, LedgerCounts};

/// The most ranges that a line of the log names.
const MOST_RANGES: usize = 20;

/// A line for each topic: `read 1,200 offsets of orders: 1,190 records, 10 gap`.
pub(super) fn summaries(ledger: &Ledger) -> Vec<String> {
    let mut topics: BTreeMap<&str, LedgerCounts> = BTreeMap::new();
    for range in &ledger.ranges {
        *topics.entry(range.range.topic().as_ref()).or_default() += range.counts;
    }
    let lines = topics.into_iter().map(|(topic, counts)| {
        let mut line = format!(
            "read {} of {topic}: {}",
            number(counts.passed(), "offset"),
            number(counts.delivered, "record")
        );
        for (name, count) in LedgerCounts::NAMES.iter().zip(counts.values()).skip(1) {
            if count > 0 {
                line.push_str(&format!(", {} {name}", thousands(count)));
            }
        }
        line
    });
    lines.collect()
}

/// The ranges, for the log.
pub(super) fn ranges(ledger: &Ledger) -> String {
    let shown = ledger.ranges.iter().take(MOST_RANGES);
    let mut shown: Vec<String> = shown.map(|range| range.range.to_string()).collect();
    let more = ledger.ranges.len().saturating_sub(MOST_RANGES);
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    shown.join(", ")
}

fn number(n: u64, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {what}{plural}", thousands(n))
}

/// `1234567` as `1,234,567`.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let parts = digits.as_bytes().rchunks(3).rev();
    let parts: Vec<_> = parts.map(String::from_utf8_lossy).collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use datafusion_kafka::range::{OffsetRange, RangeLedger};

    use super::*;

    #[test]
    fn a_line_says_what_became_of_the_offsets_of_a_topic() {
        let ledger = |topic: &str, partition, counts: LedgerCounts| {
            let end = i64::try_from(counts.total()).unwrap();
            let range = OffsetRange::try_new(topic, partition, 0, end).unwrap();
            let mut ledger = RangeLedger::unread(range, false);
            ledger.counts = counts;
            ledger
        };
        let counts = |delivered, gap, unread| LedgerCounts {
            delivered,
            gap,
            unread,
            ..LedgerCounts::default()
        };
        let all = Ledger {
            ranges: vec![
                ledger("orders", 0, counts(1_000, 10, 0)),
                ledger("orders", 1, counts(190, 0, 5)),
                ledger("a", 0, counts(1, 0, 0)),
            ],
        };
        assert_eq!(
            summaries(&all),
            [
                "read 1 offset of a: 1 record",
                "read 1,200 offsets of orders: 1,190 records, 10 gap, 5 unread"
            ]
        );
        assert_eq!(
            ranges(&all),
            "orders[0] 0..1010, orders[1] 0..195, a[0] 0..1"
        );
    }
}
