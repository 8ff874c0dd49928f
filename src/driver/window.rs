//! Batches whose queries read more than they take over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::intent::SourceIntent;
use super::log::{KEPT_BATCHES, OffsetLog};
use super::source::Source;
use crate::error::{Error, Result};
use crate::range::{OffsetRange, SnapshotRange, TopicPartition};

/// How far back a batch's queries read, besides the offsets that the batch takes over.
///
/// The offsets of the window are fixed in the intent, so that a replay reads the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Window {
    /// Back to the first record that is younger than this by its timestamp, counted from the
    /// moment at which the batch is fixed.
    Time(Duration),
    /// The last so many batches, this one among them; at most [`KEPT_BATCHES`].
    Batches(u64),
}

impl Window {
    /// Refuses what cannot be.
    pub(crate) fn check(self) -> Result<()> {
        match self {
            Self::Batches(0) => Err(Error::invalid("a window of 0 batches reads nothing")),
            Self::Batches(batches) if batches > KEPT_BATCHES => Err(Error::invalid(format!(
                "a window of {batches} batches: the offset log keeps {KEPT_BATCHES}"
            ))),
            Self::Time(span) if span.is_zero() => {
                Err(Error::invalid("a window of no time reads nothing"))
            }
            _ => Ok(()),
        }
    }

    /// Adds the window to a batch that is about to be fixed.
    pub(crate) async fn add(
        self,
        source: &Source,
        intent: &mut SourceIntent,
        batch: u64,
        log: &OffsetLog,
        now_ms: i64,
    ) -> Result<()> {
        let starts = match self {
            Self::Time(span) => {
                let span_ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
                let there: BTreeSet<TopicPartition> = intent
                    .snapshot
                    .ranges()
                    .iter()
                    .filter(|r| r.leader.is_some())
                    .map(|r| r.range.topic_partition())
                    .collect();
                let found = source
                    .table
                    .offsets_at(&there, now_ms.saturating_sub(span_ms))
                    .await?;
                found
                    .into_iter()
                    .filter_map(|(partition, offset)| Some((partition, offset?)))
                    .collect()
            }
            Self::Batches(batches) => earlier_starts(source, batch, batches, log).await?,
        };
        intent.window = windows(intent, &starts)?;
        Ok(())
    }
}

/// Where the first batch of the window started.
async fn earlier_starts(
    source: &Source,
    batch: u64,
    batches: u64,
    log: &OffsetLog,
) -> Result<BTreeMap<TopicPartition, i64>> {
    let first = batch.saturating_sub(batches - 1);
    if first == batch {
        return Ok(BTreeMap::new());
    }
    let mut starts = BTreeMap::new();
    let mut begun_anew = BTreeSet::new();
    let kept = log.intents().await?;
    // The newest first: what an older one says replaces it.
    for number in kept.into_iter().rev().filter(|n| *n >= first && *n < batch) {
        let intent = log.intent(number).await?;
        let Some(found) = intent.sources.iter().find(|s| s.source == source.name) else {
            continue;
        };
        for range in found.snapshot.offset_ranges() {
            let key = range.topic_partition();
            // Before a topic that was recreated, or a log that was cut, are offsets of another log.
            if starts.get(&key).is_some_and(|start| range.end() != *start) {
                begun_anew.insert(key.clone());
            }
            if !begun_anew.contains(&key) {
                starts.insert(key, range.start());
            }
        }
    }
    Ok(starts)
}

fn windows(
    intent: &SourceIntent,
    starts: &BTreeMap<TopicPartition, i64>,
) -> Result<Vec<OffsetRange>> {
    let window = |range: &SnapshotRange| {
        let start = *starts.get(&range.range.topic_partition())?;
        // What retention has taken is no part of a window.
        let start = start.max(range.log_start);
        let (range, end) = (&range.range, range.range.start());
        let window = || OffsetRange::try_new(&**range.topic(), range.partition(), start, end);
        (start < end).then(window)
    };
    intent.snapshot.ranges().iter().filter_map(window).collect()
}
