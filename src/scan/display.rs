//! How EXPLAIN shows a scan: every piece read, what was pruned and why, and where it is read.

use std::collections::BTreeMap;
use std::fmt;

use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan};

use super::{Direction, KafkaScanExec, PrunedBy, ScanRange};
use crate::range::{OffsetRange, TopicPartition};

pub(super) fn scan(
    scan: &KafkaScanExec,
    t: DisplayFormatType,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let (separator, open) = match t {
        DisplayFormatType::Default | DisplayFormatType::Verbose => (", ", "KafkaScanExec: "),
        DisplayFormatType::TreeRender => ("\n", ""),
    };
    write!(f, "{open}ranges=[")?;
    for (i, ranges) in scan.partitions.iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        write!(f, "{comma}[{}]", Pieces(ranges.iter().map(|r| &r.range)))?;
    }
    write!(f, "]{separator}offsets={}", scan.offsets())?;
    pruned(scan, separator, f)?;
    let read = by_kafka_partition(scan);
    selected(&read, separator, f)?;
    leaders(&read, separator, f)?;
    let schema = scan.schema();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    write!(f, "{separator}projection=[{}]", names.join(", "))?;
    if scan.direction == Direction::Reverse {
        write!(f, "{separator}order=offset DESC")?;
    }
    if let Some(fetch) = scan.fetch {
        write!(f, "{separator}fetch={fetch}")?;
    }
    write!(f, "{separator}isolation={}", scan.source.isolation)?;
    if t == DisplayFormatType::TreeRender {
        writeln!(f)?;
    }
    Ok(())
}

struct Pieces<I>(I);

impl<'a, I: Iterator<Item = &'a OffsetRange> + Clone> fmt::Display for Pieces<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.clone().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

fn pruned(scan: &KafkaScanExec, separator: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut reasons: BTreeMap<PrunedBy, Vec<&OffsetRange>> = BTreeMap::new();
    for pruned in &scan.source.pruned {
        let pieces = reasons.entry(pruned.by).or_default();
        pieces.push(&pruned.range);
    }
    for (by, pieces) in reasons {
        let reason = match by {
            PrunedBy::Partition => "pruned_by_partition",
            PrunedBy::Key => "pruned_by_key",
            PrunedBy::Offset => "pruned_by_offset",
            PrunedBy::Timestamp => "pruned_by_timestamp",
        };
        write!(
            f,
            "{separator}{reason}=[{}]",
            Pieces(pieces.iter().copied())
        )?;
    }
    Ok(())
}

/// A piece of each Kafka partition that is read; what is known of the partition is the same for all of them.
fn by_kafka_partition(scan: &KafkaScanExec) -> BTreeMap<TopicPartition, &ScanRange> {
    let read = scan.partitions.iter().flatten();
    read.map(|r| (r.range.topic_partition(), r)).collect()
}

/// The timestamps that select records, where a range has any.
fn selected(
    read: &BTreeMap<TopicPartition, &ScanRange>,
    separator: &str,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    for (partition, range) in read {
        let Some(selected) = range.selected else {
            continue;
        };
        let bound = |ms: Option<i64>| ms.map(|ms| ms.to_string()).unwrap_or_default();
        let (from, to) = (bound(selected.from_ms), bound(selected.to_ms));
        write!(f, "{separator}timestamp_ms={partition} {from}..{to}")?;
    }
    Ok(())
}

/// Broker ids, each with the partitions among `read` that it leads.
fn leaders(
    read: &BTreeMap<TopicPartition, &ScanRange>,
    separator: &str,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let mut by_leader: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for (partition, range) in read {
        if let Some(leader) = range.leader {
            let led = by_leader.entry(leader).or_default();
            led.push(partition.to_string());
        }
    }
    if by_leader.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = by_leader
        .iter()
        .map(|(leader, partitions)| format!("{leader}: {}", partitions.join(" ")))
        .collect();
    write!(f, "{separator}leaders={{{}}}", shown.join(", "))
}
