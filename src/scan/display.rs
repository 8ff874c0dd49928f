//! How EXPLAIN shows a scan: every piece read, what was pruned and why, and where it is read.

use std::collections::BTreeMap;
use std::fmt;

use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan};

use super::{Direction, KafkaScanExec, PrunedBy};
use crate::range::OffsetRange;

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
        write!(f, "{comma}[{}]", Pieces(ranges))?;
    }
    write!(f, "]{separator}offsets={}", scan.offsets())?;
    pruned(scan, separator, f)?;
    leaders(scan, separator, f)?;
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

struct Pieces<'a>(&'a [OffsetRange]);

impl fmt::Display for Pieces<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

fn pruned(scan: &KafkaScanExec, separator: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut reasons: BTreeMap<PrunedBy, Vec<OffsetRange>> = BTreeMap::new();
    for pruned in &scan.source.pruned {
        let pieces = reasons.entry(pruned.by).or_default();
        pieces.push(pruned.range.clone());
    }
    for (by, pieces) in reasons {
        let reason = match by {
            PrunedBy::Partition => "pruned_by_partition",
            PrunedBy::Offset => "pruned_by_offset",
            PrunedBy::Timestamp => "pruned_by_timestamp",
        };
        write!(f, "{separator}{reason}=[{}]", Pieces(&pieces))?;
    }
    for (partition, filter) in &scan.source.record_filters {
        let bound = |ms: Option<i64>| ms.map(|ms| ms.to_string()).unwrap_or_default();
        let (from, to) = (bound(filter.from_ms), bound(filter.to_ms));
        write!(f, "{separator}timestamp_ms={partition} {from}..{to}")?;
    }
    Ok(())
}

/// Broker ids with the partitions that they lead, as far as these are read.
fn leaders(scan: &KafkaScanExec, separator: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut by_leader: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    let mut read: Vec<_> = scan
        .partitions
        .iter()
        .flatten()
        .map(OffsetRange::topic_partition)
        .collect();
    read.sort();
    read.dedup();
    for partition in read {
        if let Some(leader) = scan.source.leaders.get(&partition) {
            let led = by_leader.entry(*leader).or_default();
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
