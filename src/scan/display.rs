//! How EXPLAIN shows a scan: the pieces read, what was pruned and why, and where it is read. Of long lists it shows
//! the beginning, EXPLAIN VERBOSE shows all.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan};

use super::{Direction, IndexUse, KafkaScanExec, PrunedBy, ScanRange, needle};
use crate::mask::Masks;
use crate::range::{OffsetRange, TopicPartition};

/// How many ranges or partitions of a list are shown.
const MOST: usize = 64;

pub(super) fn scan(
    scan: &KafkaScanExec,
    t: DisplayFormatType,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let (separator, open) = match t {
        DisplayFormatType::Default | DisplayFormatType::Verbose => (", ", "KafkaScanExec: "),
        DisplayFormatType::TreeRender => ("\n", ""),
    };
    let most = match t {
        DisplayFormatType::Verbose => usize::MAX,
        DisplayFormatType::Default | DisplayFormatType::TreeRender => MOST,
    };
    let each = each(most, scan.partitions.len());
    let lists = scan.partitions.iter().map(|ranges| {
        let ranges = ranges.iter().map(|r| &r.range);
        format!("[{}]", List(ranges, ", ", each))
    });
    write!(f, "{open}ranges=[{}", List(lists, ", ", most))?;
    write!(f, "]{separator}offsets={}", scan.offsets())?;
    if let Some(estimate) = scan.share.estimate().filter(|estimate| estimate.is_sized) {
        write!(f, "{separator}bytes=~{}", estimate.amount.bytes)?;
    }
    pruned(scan, separator, most, f)?;
    if let Some(index) = &scan.source.index {
        let IndexUse {
            read,
            skipped,
            not_covered,
        } = index;
        write!(
            f,
            "{separator}index={{blocks_read={read}, blocks_skipped={skipped}, offsets_not_covered={not_covered}}}"
        )?;
    }
    let read = by_kafka_partition(scan);
    selected(&read, separator, most, f)?;
    leaders(&read, separator, most, f)?;
    let schema = scan.schema();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    write!(f, "{separator}projection=[{}]", names.join(", "))?;
    conditions(scan, separator, f)?;
    if let Some(masks) = masks(scan) {
        write!(f, "{separator}masked=[{masks}]")?;
    }
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

/// The conditions that the scan applies, and those that nodes above fill while they run.
fn conditions(scan: &KafkaScanExec, separator: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let lists = [
        ("conditions", &scan.conditions.taken),
        ("hints", &scan.conditions.hints),
    ];
    for (name, list) in lists {
        if !list.is_empty() {
            write!(
                f,
                "{separator}{name}=[{}]",
                List(list.iter(), ", ", usize::MAX)
            )?;
        }
    }
    let needle = needle::needle(&scan.conditions, &scan.projection, &scan.source.decoder);
    match needle.filter(|_| masks(scan).is_none()) {
        Some(needle) => write!(f, "{separator}searched_for={needle}"),
        None => Ok(()),
    }
}

/// What is hidden of the topics that are read. The client then looks for no needle.
fn masks(scan: &KafkaScanExec) -> Option<Masks> {
    let topics = scan.partitions.iter().flatten();
    let mut topics: Vec<Arc<str>> = topics.map(|r| Arc::clone(r.range.topic())).collect();
    topics.dedup();
    scan.source.client.masks()?.among(Some(&topics))
}

/// So much of each of some lists that `most` are shown in all, and something of each.
fn each(most: usize, lists: usize) -> usize {
    (most / lists.max(1)).max(1)
}

/// A list with what is between its items, and how many of them are shown.
struct List<I>(I, &'static str, usize);

impl<T: fmt::Display, I: ExactSizeIterator<Item = T> + Clone> fmt::Display for List<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(items, between, most) = self;
        for (i, item) in items.clone().take(*most).enumerate() {
            let between = if i == 0 { "" } else { *between };
            write!(f, "{between}{item}")?;
        }
        match items.len().saturating_sub(*most) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

fn pruned(
    scan: &KafkaScanExec,
    separator: &str,
    most: usize,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let mut reasons: BTreeMap<PrunedBy, Vec<&OffsetRange>> = BTreeMap::new();
    for pruned in &scan.source.pruned {
        let pieces = reasons.entry(pruned.by).or_default();
        pieces.push(&pruned.range);
    }
    for (by, pieces) in reasons {
        let pieces = List(pieces.iter(), ", ", most);
        write!(f, "{separator}pruned_by_{}=[{pieces}]", by.name())?;
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
    most: usize,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let selected = (read.iter()).filter_map(|(p, range)| Some((p, range.selected?)));
    let all = selected.clone().count();
    for (partition, selected) in selected.take(most) {
        let bound = |ms: Option<i64>| ms.map(|ms| ms.to_string()).unwrap_or_default();
        let (from, to) = (bound(selected.from_ms), bound(selected.to_ms));
        write!(f, "{separator}timestamp_ms={partition} {from}..{to}")?;
    }
    match all.saturating_sub(most) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

/// Broker ids, each with the partitions among `read` that it leads.
fn leaders(
    read: &BTreeMap<TopicPartition, &ScanRange>,
    separator: &str,
    most: usize,
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
    let each = each(most, by_leader.len());
    let shown = by_leader
        .iter()
        .map(|(leader, partitions)| format!("{leader}: {}", List(partitions.iter(), " ", each)));
    write!(f, "{separator}leaders={{{}}}", List(shown, ", ", most))
}
