//! Passes the offsets that an index rules out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::Expr;

use super::pruning::{Conditions, Expressions};
use super::reading::Reading;
use super::resolve::Selection;
use super::{KafkaTable, TopicSource, cut, masked};
use crate::client::epochs::{self, Mark, Stands};
use crate::decode::OnBadRow;
use crate::error::{Error, External as _, Result};
use crate::formats::Formats;
use crate::index::{Covered, Definition, Index, Row};
use crate::range::{IntervalSet, IsolationLevel, OffsetRange, Snapshot, TopicPartition};
use crate::scan::{IndexUse, Pruned, PrunedBy, ScanRange};

/// The most pieces that a partition's range is cut into: a plan names each, and each costs a Fetch. Beyond that the
/// smallest gaps between them are read.
const MOST_PIECES: usize = 512;

/// The index that a table names, and what it must be of.
#[derive(Debug, Clone)]
pub(super) struct Indexed {
    location: String,
    isolation: IsolationLevel,
    decoding: Option<String>,
    on_bad_row: OnBadRow,
}

impl Indexed {
    /// # Errors
    /// When the table counts what an index would skip.
    pub(super) fn new(location: String, selection: &Selection, formats: &Formats) -> Result<Self> {
        if formats.bad_rows.limit.is_some() {
            return Err(Error::invalid(
                "'index' skips records, and 'bad.row.limit' counts all of them: leave one of them out",
            ));
        }
        Ok(Self {
            location,
            isolation: selection.isolation,
            decoding: decoding(formats, selection)?,
            on_bad_row: formats.bad_rows.on,
        })
    }

    /// Refuses an index of other rows than the table's.
    fn check(&self, index: &Index) -> Result<()> {
        let Definition {
            isolation,
            decoding,
            on_bad_row,
            ..
        } = &index.definition;
        let refused = |what: String| {
            let next = "make one of this table with CREATE INDEX in an empty folder, or leave the option 'index' out";
            Err(Error::invalid(format!(
                "'index': {} {what}: {next}",
                index.url()
            )))
        };
        // What read_uncommitted sees, read_committed sees a part of.
        if *isolation != self.isolation.to_string()
            && *isolation != IsolationLevel::ReadUncommitted.to_string()
        {
            let reads = self.isolation;
            return refused(format!(
                "was made under {isolation}, the table reads under {reads}"
            ));
        }
        if *decoding != self.decoding {
            let named = |decoding: &Option<String>| decoding.clone().unwrap_or("of bytes".into());
            return refused(format!(
                "was made of rows with another decoding: {} there, {} here",
                named(decoding),
                named(&self.decoding)
            ));
        }
        let serves = match on_bad_row.parse()? {
            // There are no bad records where the index was made.
            OnBadRow::Fail => true,
            OnBadRow::Null => matches!(self.on_bad_row, OnBadRow::Null | OnBadRow::Skip),
            _ => self.on_bad_row == OnBadRow::Skip,
        };
        if !serves {
            return refused(format!(
                "was made with 'on.bad.row' = '{on_bad_row}', so it may skip records that do not decode, and the \
                 table has '{}'",
                self.on_bad_row
            ));
        }
        Ok(())
    }
}

impl KafkaTable {
    /// How records become rows, whatever becomes of bad ones; `None` where payloads stay bytes.
    pub(crate) fn index_decoding(&self) -> Result<Option<String>> {
        decoding(self.formats(), &self.reading.selection)
    }
}

fn decoding(formats: &Formats, selection: &Selection) -> Result<Option<String>> {
    let mut formats = formats.clone();
    formats.bad_rows.on = OnBadRow::Fail;
    let decoder = formats.decoder()?;
    let masks = masked::masks(selection);
    Ok(masked::described(
        formats.description(&decoder),
        masks.as_ref(),
    ))
}

/// Offsets, each from the first to before the last.
type Intervals = Vec<(i64, i64)>;

/// What an index says of a partition.
#[derive(Debug, Default)]
struct Found {
    covered: Vec<Covered>,
    /// Blocks that may match, and the others.
    read: Intervals,
    skipped: Intervals,
}

impl Reading {
    /// Cuts what the table's index rules out from the pieces that predicates leave.
    pub(super) async fn cut_by_index(
        &self,
        pieces: Vec<ScanRange>,
        filters: &[Expr],
        snapshot: &Snapshot,
        state: &dyn Session,
        pruned: &mut Vec<Pruned>,
    ) -> datafusion::error::Result<(Vec<ScanRange>, Option<IndexUse>)> {
        let indexed = match &self.index {
            Some(indexed) if !filters.is_empty() => indexed,
            _ => return Ok((pieces, None)),
        };
        let index = Index::open(&indexed.location).await.external()?;
        indexed.check(&index).external()?;
        let expressions = self.expressions(&index, state)?;
        let Some(conditions) = Conditions::of(filters, &expressions, &self.decoder) else {
            return Ok((pieces, None));
        };
        let mut found: BTreeMap<TopicPartition, Found> = BTreeMap::new();
        let ranges: Vec<OffsetRange> = pieces.iter().map(|piece| piece.range.clone()).collect();
        let streams = state.config().target_partitions();
        let visit = |partition: &TopicPartition, row: Row<'_>| {
            let found = found.entry(partition.clone()).or_default();
            match row {
                Row::Range(covered) => found.covered.push(covered),
                Row::Block(block) => match conditions.may_match(&block) {
                    true => found.read.push((block.start, block.end)),
                    false => found.skipped.push((block.start, block.end)),
                },
            }
        };
        if !ranges.is_empty() {
            let runtime = state.runtime_env();
            let visited = index.visit(&ranges, &conditions.slices, runtime, streams, visit);
            visited.await.external()?;
        }
        self.keep_valid(&mut found, &index, snapshot)
            .await
            .external()?;
        let (kept, used) = cut_all(pieces, found, pruned);
        Ok((kept, Some(used)))
    }

    /// The expressions of the index over the columns of this table.
    fn expressions<'a>(
        &self,
        index: &Index,
        state: &'a dyn Session,
    ) -> datafusion::error::Result<Expressions<'a>> {
        let schema = DFSchema::try_from(Arc::clone(self.decoder.schema()))?;
        let refused = |sql: &str, error: &dyn std::fmt::Display| {
            let url = index.url();
            Error::invalid(format!(
                "'index': {url} is of {sql}, which this table does not have: {error}"
            ))
            .external()
        };
        let Some(session) = state.as_any().downcast_ref::<SessionState>() else {
            return Err(Error::internal("an index needs DataFusion's own session").external());
        };
        let indexed = index.definition.expressions.iter().map(|indexed| {
            let expr = session.create_logical_expr(&indexed.sql, &schema);
            let expr = expr.map_err(|e| refused(&indexed.sql, &e.strip_backtrace()))?;
            Ok((expr, indexed.kind))
        });
        let indexed: Vec<_> = indexed.collect::<datafusion::error::Result<_>>()?;
        Expressions::new(state, schema, indexed).map_err(|e| {
            let names = index.definition.names();
            refused(&names, &e.strip_backtrace())
        })
    }

    /// Leaves only the ranges of the log that is there now.
    ///
    /// # Errors
    /// When the index is of another topic, or of one that was deleted and created again.
    async fn keep_valid(
        &self,
        found: &mut BTreeMap<TopicPartition, Found>,
        index: &Index,
        snapshot: &Snapshot,
    ) -> Result<()> {
        let of_index = &index.definition.topics;
        // Single partitions that were assigned are written in another way.
        let source = (!of_index.starts_with('{')).then(|| TopicSource::parse(of_index).ok());
        let has = |partition: &TopicPartition| {
            let source = source.as_ref().and_then(Option::as_ref);
            source.is_none_or(|source| source.covers(partition))
        };
        let mut partitions = snapshot.offset_ranges().map(OffsetRange::topic_partition);
        if !snapshot.ranges().is_empty() && !partitions.any(|partition| has(&partition)) {
            return Err(Error::invalid(format!(
                "'index': {} is of {of_index} and has nothing of {}",
                index.url(),
                self.selection.topics
            )));
        }
        let mut others: BTreeMap<Arc<str>, String> = BTreeMap::new();
        let mut ours: BTreeSet<Arc<str>> = BTreeSet::new();
        for (partition, found) in found.iter_mut() {
            let now = snapshot.topic_id(&partition.topic);
            // Without ids, it cannot be told whether the topic is the same: nothing counts as covered.
            let is_ours = |covered: &Covered| now.is_some() && now == covered.topic_id.as_deref();
            let mut ids = found.covered.iter().filter_map(|c| c.topic_id.clone());
            if found.covered.iter().any(is_ours) {
                ours.insert(Arc::clone(&partition.topic));
            } else if let (Some(_), Some(id)) = (now, ids.next()) {
                others.insert(Arc::clone(&partition.topic), id);
            }
            let is_of_it = has(partition);
            // Nor can it without epochs whether the log is the one that was looked at.
            let is_known = |covered: &Covered| covered.leader_epoch.is_some();
            found
                .covered
                .retain(|covered| is_of_it && is_ours(covered) && is_known(covered));
        }
        if let Some((topic, id)) = others.iter().find(|(topic, _)| !ours.contains(*topic)) {
            return Err(Error::invalid(format!(
                "'index': {} is of another topic {topic}, with the id {id}: {topic} was deleted and created again and \
                 now has the id {}; make an index of it in an empty folder",
                index.url(),
                snapshot.topic_id(topic).unwrap_or("unknown")
            )));
        }
        // Within an epoch a log only grows: the last end in it tells of those before.
        let mut marks: BTreeMap<(&TopicPartition, i32), i64> = BTreeMap::new();
        for (partition, found) in found.iter() {
            for covered in &found.covered {
                if let Some(epoch) = covered.leader_epoch {
                    let last = marks.entry((partition, epoch)).or_default();
                    *last = covered.end.max(*last);
                }
            }
        }
        let marks = marks.into_iter().map(|((partition, epoch), offset)| Mark {
            partition: partition.clone(),
            offset,
            epoch,
            leader_epoch: None,
        });
        let marks: Vec<Mark> = marks.collect();
        // In doubt, the log is read.
        let stands = epochs::ask(self.selection.client.as_ref(), &marks).await?;
        for (mark, stands) in marks.into_iter().zip(stands) {
            let valid_to = match stands {
                Stands::Same => continue,
                Stands::Cut(cut, epoch) if epoch == mark.epoch => cut,
                Stands::Cut(..) | Stands::Gone | Stands::Untold => i64::MIN,
            };
            if let Some(found) = found.get_mut(&mark.partition) {
                let is_gone = |covered: &Covered| {
                    covered.leader_epoch == Some(mark.epoch) && covered.end > valid_to
                };
                found.covered.retain(|covered| !is_gone(covered));
            }
        }
        Ok(())
    }
}

/// Cuts each piece by what was found of its partition.
fn cut_all(
    pieces: Vec<ScanRange>,
    found: BTreeMap<TopicPartition, Found>,
    pruned: &mut Vec<Pruned>,
) -> (Vec<ScanRange>, IndexUse) {
    let mut used = IndexUse::default();
    let none = Found::default();
    let needed: BTreeMap<&TopicPartition, (IntervalSet, IntervalSet)> = found
        .iter()
        .map(|(partition, found)| {
            let covered = found.covered.iter().map(|c| c.start..=c.end - 1);
            let uncovered = covered.collect::<IntervalSet>().complement();
            let read = found.read.iter().map(|(start, end)| *start..=*end - 1);
            let needed = read.collect::<IntervalSet>().union(&uncovered);
            (partition, (uncovered, needed))
        })
        .collect();
    let all = (IntervalSet::full(), IntervalSet::full());
    let mut kept = vec![];
    for piece in pieces {
        let (start, end) = (piece.range.start(), piece.range.end());
        let partition = piece.range.topic_partition();
        let found = found.get(&partition).unwrap_or(&none);
        let (uncovered, needed) = needed.get(&partition).unwrap_or(&all);
        let not_covered = uncovered.cut(start, end).into_iter();
        used.not_covered += not_covered
            .map(|(from, to)| (to - from).unsigned_abs())
            .sum::<u64>();
        let is_in = |(from, to): &&(i64, i64)| *from < end && *to > start;
        used.read += found.read.iter().filter(is_in).count();
        for (from, to) in found.skipped.iter().filter(is_in) {
            // What does not count as covered is read, whatever a block says.
            match uncovered.cut(*from, *to).is_empty() {
                true => used.skipped += 1,
                false => used.read += 1,
            }
        }
        let left = at_most(needed.cut(start, end), MOST_PIECES);
        pruned.extend(cut::others(&piece, &left, PrunedBy::Index));
        kept.extend(left.into_iter().map(|(from, to)| piece.piece(from, to)));
    }
    (kept, used)
}

/// So many intervals at most, which take the smallest gaps in.
fn at_most(intervals: Intervals, most: usize) -> Intervals {
    if intervals.len() <= most {
        return intervals;
    }
    let gaps = intervals.windows(2).enumerate();
    let mut gaps: Vec<(i64, usize)> = gaps.map(|(at, pair)| (pair[1].0 - pair[0].1, at)).collect();
    gaps.sort_unstable();
    gaps.truncate(intervals.len() - most);
    let closed: BTreeSet<usize> = gaps.into_iter().map(|(_, at)| at).collect();
    let mut left: Intervals = vec![];
    for (at, (start, end)) in intervals.into_iter().enumerate() {
        match left.last_mut() {
            Some(last) if at > 0 && closed.contains(&(at - 1)) => last.1 = end,
            _ => left.push((start, end)),
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_gaps_are_closed() {
        let intervals = vec![(0, 12), (30, 50), (60, 61)];
        assert_eq!(at_most(intervals.clone(), 3), intervals);
        assert_eq!(at_most(intervals.clone(), 2), [(0, 12), (30, 61)]);
        assert_eq!(at_most(intervals, 1), [(0, 61)]);
    }
}
