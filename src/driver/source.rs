//! A Kafka table as the source of a job: from its positions to the next batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::intent::{Lost, LostBecause, SourceIntent};
use super::policy::{Backlog, BatchPolicy, Limits, PartitionBacklog};
use super::progress::Behind;
use crate::client::GroupCommits;
use crate::error::{Error, Result};
use crate::range::{
    LogBounds, OffsetRange, OnDataLoss, Snapshot, SnapshotRange, SnapshotTopic, TopicPartition,
};
use crate::sink::Position;
use crate::table::{KafkaTable, LogView};

/// The next offset of each partition of one source.
pub(crate) type Positions = BTreeMap<TopicPartition, Position>;

/// A source of a job.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) table: KafkaTable,
    pub(crate) policy: SourcePolicy,
    pub(crate) positions: Positions,
    /// Positions at which the batches end that are allowed; set by a run that ends.
    pub(crate) last: Option<BTreeMap<TopicPartition, i64>>,
    /// When this driver last made a batch of this source.
    pub(crate) last_batch: Instant,
    /// Whether this job never had a batch of this source.
    pub(crate) first: bool,
    /// Key and value bytes of an offset, in earlier batches.
    pub(crate) bytes_per_offset: Option<f64>,
    /// What shows the positions to lag tools.
    pub(crate) group: Option<GroupCommits>,
}

/// What decides where a source's batches end.
#[derive(Debug, Clone)]
pub(crate) enum SourcePolicy {
    /// Limits, which a run that ends may loosen.
    Limits(Limits),
    /// A policy of the user's own.
    Own(Arc<dyn BatchPolicy>),
}

impl SourcePolicy {
    fn get(&self) -> &dyn BatchPolicy {
        match self {
            Self::Limits(limits) => limits,
            Self::Own(policy) => policy.as_ref(),
        }
    }
}

/// What a source has for the next batch.
#[derive(Debug)]
pub(crate) struct NextRanges {
    pub(crate) intent: SourceIntent,
    pub(crate) behind: Option<Behind>,
    /// Whether anything is to be done: offsets, or a topic that starts anew.
    pub(crate) is_news: bool,
}

impl Source {
    pub(crate) fn new(name: String, table: KafkaTable, policy: SourcePolicy) -> Self {
        Self {
            name,
            table,
            policy,
            positions: Positions::new(),
            last: None,
            last_batch: Instant::now(),
            first: true,
            bytes_per_offset: None,
            group: None,
        }
    }

    /// Where the table's range starts, as it is now: the job's first positions.
    pub(crate) async fn first_positions(&self) -> Result<Positions> {
        let snapshot = self.table.snapshot().await?;
        let position = |range: &SnapshotRange| Position {
            next: range.range.start,
            topic_id: snapshot.topic_id(&range.range.topic).map(str::to_owned),
        };
        Ok(snapshot
            .ranges
            .iter()
            .map(|range| (range.range.topic_partition(), position(range)))
            .collect())
    }

    /// Looks at the log and chooses the next ranges.
    pub(crate) async fn next(&self, now_ms: i64) -> Result<NextRanges> {
        let view = self.table.view().await?;
        let reconciled = reconcile(
            &self.name,
            &self.positions,
            &view,
            self.table.takes_new_partitions(),
            self.table.on_data_loss(),
        )?;
        self.check_last(&reconciled.parts)?;
        let backlog = self.backlog(&reconciled, now_ms).await?;
        let ends = self.policy.get().ends(&backlog);
        // A policy that waits keeps every partition where it is.
        let ends = ends.unwrap_or_else(|| reconciled.parts.iter().map(|p| p.start).collect());
        if ends.len() != reconciled.parts.len() {
            return Err(Error::invalid(format!(
                "source '{}': the batch policy answered {} ends for {} partitions",
                self.name,
                ends.len(),
                reconciled.parts.len()
            )));
        }
        let ranges: Vec<SnapshotRange> = reconciled
            .parts
            .iter()
            .zip(ends)
            .map(|(part, end)| part.until(end))
            .collect();
        let behind = Behind::of(ranges.iter().map(|r| r.log_end.saturating_sub(r.range.end)));
        // No sink has recorded anything of a source before its first batch.
        let joined: Vec<TopicPartition> = reconciled
            .parts
            .iter()
            .filter(|part| part.joins || self.first)
            .map(|part| part.partition.clone())
            .collect();
        let has_offsets = ranges.iter().any(|r| !r.range.is_empty());
        let restarts = reconciled
            .lost
            .iter()
            .any(|lost| lost.reason == LostBecause::Recreated);
        Ok(NextRanges {
            behind,
            is_news: has_offsets || restarts,
            intent: SourceIntent {
                source: self.name.clone(),
                snapshot: Snapshot {
                    cluster_id: view.cluster_id,
                    isolation_level: self.table.isolation(),
                    created_ms: now_ms,
                    topics: reconciled.topics,
                    ranges,
                },
                joined,
                lost: reconciled.lost,
                window: vec![],
                decoding: self.table.decoding().map(str::to_owned),
            },
        })
    }

    async fn backlog(&self, reconciled: &Reconciled, now_ms: i64) -> Result<Backlog> {
        let young = match self.policy.get().lag() {
            Some(lag) => self.young(reconciled, now_ms, lag).await?,
            None => BTreeMap::new(),
        };
        let part = |part: &Part| PartitionBacklog {
            partition: part.partition.clone(),
            start: part.start,
            end: self.last_of(part).min(part.log.end),
            young: young.get(&part.partition).copied(),
        };
        Ok(Backlog {
            partitions: reconciled.parts.iter().map(part).collect(),
            waited: self.last_batch.elapsed(),
            first: self.first,
            bytes_per_offset: self.bytes_per_offset,
        })
    }

    /// The end of what this run may take of a partition.
    fn last_of(&self, part: &Part) -> i64 {
        match &self.last {
            // What joined after the run began is left to the next one.
            Some(last) => last.get(&part.partition).copied().unwrap_or(part.start),
            None => part.log.end,
        }
    }

    /// Spark's case D11: what was there when the run began must not be gone when its turn comes.
    fn check_last(&self, parts: &[Part]) -> Result<()> {
        let Some(last) = &self.last else {
            return Ok(());
        };
        let shrunk = parts.iter().find(|part| {
            let end = last.get(&part.partition).copied().unwrap_or(part.start);
            part.log.end < end
        });
        match shrunk {
            Some(part) if self.table.on_data_loss() == OnDataLoss::Fail => Err(Error::DataLoss {
                topic: part.partition.topic.to_string(),
                partition: part.partition.partition,
                offset: part.start,
                message: format!(
                    "the log ended beyond {} when this run began and ends there now: records were lost \
                     (source '{}'); start again, and go on with what is there",
                    part.log.end, self.name
                ),
            }),
            _ => Ok(()),
        }
    }

    async fn young(
        &self,
        reconciled: &Reconciled,
        now_ms: i64,
        lag: Duration,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let partitions: BTreeSet<TopicPartition> = reconciled
            .parts
            .iter()
            .filter(|part| part.start < part.log.end)
            .map(|part| part.partition.clone())
            .collect();
        let lag_ms = i64::try_from(lag.as_millis()).unwrap_or(i64::MAX);
        let found = self
            .table
            .offsets_at(&partitions, now_ms.saturating_sub(lag_ms))
            .await?;
        // No such record: all are older.
        Ok(found
            .into_iter()
            .map(|(partition, offset)| (partition, offset.unwrap_or(i64::MAX)))
            .collect())
    }

    /// Fixes the ends of a run that stops when it has reached them, if that was not done.
    ///
    /// Not before a batch that an earlier run left is through (Spark's rule S6).
    pub(crate) async fn fix_last(&mut self) -> Result<()> {
        if self.last.is_some() {
            return Ok(());
        }
        let view = self.table.view().await?;
        let ends = view.partitions.iter();
        self.last = Some(ends.map(|(p, view)| (p.clone(), view.log.end)).collect());
        Ok(())
    }

    /// Shows the positions to lag tools. Nothing depends on it, so that a failure is only logged.
    pub(crate) async fn show_lag(&self) {
        let Some(group) = &self.group else { return };
        let positions = self.positions.iter();
        let next = positions.map(|(partition, position)| (partition.clone(), position.next));
        if let Err(error) = group.commit(&next.collect()).await {
            log::warn!("source '{}': committing to the group: {error}", self.name);
        }
    }

    /// Takes over the positions that a batch ends at.
    pub(crate) fn advance(&mut self, intent: &SourceIntent, bytes: u64) {
        self.positions = intent.ends();
        self.first = false;
        let offsets = intent.snapshot.len();
        if offsets > 0 {
            self.last_batch = Instant::now();
            // Estimates: the digits that a float drops do not matter.
            #[expect(clippy::cast_precision_loss)]
            let bytes_per_offset = bytes as f64 / offsets as f64;
            self.bytes_per_offset = Some(bytes_per_offset);
        }
    }
}

/// A partition of a source, compared with the log.
#[derive(Debug)]
struct Part {
    partition: TopicPartition,
    start: i64,
    joins: bool,
    log: LogBounds,
    leader: Option<i32>,
}

impl Part {
    fn until(&self, end: i64) -> SnapshotRange {
        SnapshotRange {
            range: OffsetRange {
                topic: Arc::clone(&self.partition.topic),
                partition: self.partition.partition,
                start: self.start,
                end: end.min(self.log.end).max(self.start),
            },
            from_ms: None,
            to_ms: None,
            log_start: self.log.start,
            log_end: self.log.end.max(self.start),
            leader: self.leader,
        }
    }
}

/// Positions compared with the log.
#[derive(Debug)]
struct Reconciled {
    parts: Vec<Part>,
    lost: Vec<Lost>,
    topics: Vec<SnapshotTopic>,
}

/// Compares the positions of a job with the log: what joined, and what is gone.
///
/// The cases are Spark's D1 to D3 and D9, the last of which Spark cannot see.
fn reconcile(
    source: &str,
    positions: &Positions,
    view: &LogView,
    takes_new: bool,
    on_data_loss: OnDataLoss,
) -> Result<Reconciled> {
    let allowed = on_data_loss == OnDataLoss::Skip;
    let mut parts = vec![];
    let mut lost = vec![];
    let mut topics = view.topics.clone();
    for (partition, position) in positions {
        let loses = |to: i64, reason: LostBecause| Lost {
            partition: partition.clone(),
            from: position.next,
            to,
            reason,
        };
        let Some(found) = view.partitions.get(partition) else {
            if !allowed {
                return Err(vanished(source, partition, position.next));
            }
            lost.push(loses(position.next, LostBecause::Vanished));
            // It stays where it is: should it come back, the sinks still know the position.
            parts.push(Part {
                partition: partition.clone(),
                start: position.next,
                joins: false,
                log: LogBounds {
                    start: position.next,
                    end: position.next,
                },
                leader: None,
            });
            if !topics.iter().any(|t| t.topic == partition.topic) {
                topics.push(SnapshotTopic {
                    topic: Arc::clone(&partition.topic),
                    topic_id: position.topic_id.clone(),
                    log_append_time: false,
                });
            }
            continue;
        };
        let id = view.topic_id(&partition.topic);
        let recreated = match (&position.topic_id, id) {
            (Some(known), Some(found)) => known != found,
            _ => false,
        };
        let mut start = position.next;
        if recreated || found.log.end < position.next {
            if !allowed {
                return Err(shrunk(source, partition, position, id, found.log));
            }
            lost.push(loses(found.log.start, LostBecause::Recreated));
            start = found.log.start;
        } else if found.log.start > position.next {
            if !allowed {
                return Err(Error::BelowLogStart {
                    topic: partition.topic.to_string(),
                    partition: partition.partition,
                    asked: position.next,
                    available: found.log.start,
                    lost: found.log.start - position.next,
                });
            }
            lost.push(loses(found.log.start, LostBecause::Expired));
        }
        parts.push(Part {
            partition: partition.clone(),
            start,
            joins: false,
            log: found.log,
            leader: found.leader,
        });
    }
    for (partition, found) in &view.partitions {
        if positions.contains_key(partition) || !takes_new {
            continue;
        }
        let mut start = found.log.start;
        // A partition that joins is read from its beginning (Spark's rule S2). What is gone of
        // that before the job saw it is a loss (D2).
        if found.log.start > 0 {
            if !allowed {
                return Err(Error::BelowLogStart {
                    topic: partition.topic.to_string(),
                    partition: partition.partition,
                    asked: 0,
                    available: found.log.start,
                    lost: found.log.start,
                });
            }
            lost.push(Lost {
                partition: partition.clone(),
                from: 0,
                to: found.log.start,
                reason: LostBecause::Expired,
            });
            start = 0;
        }
        parts.push(Part {
            partition: partition.clone(),
            start,
            joins: true,
            log: found.log,
            leader: found.leader,
        });
    }
    parts.sort_by(|a, b| a.partition.cmp(&b.partition));
    Ok(Reconciled {
        parts,
        lost,
        topics,
    })
}

fn vanished(source: &str, partition: &TopicPartition, next: i64) -> Error {
    Error::DataLoss {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        offset: next,
        message: format!(
            "the partition is gone, the job '{source}' reads had come to this offset; \
             go on without it with 'on.data.loss' = 'skip' (failOnDataLoss = false)"
        ),
    }
}

fn shrunk(
    source: &str,
    partition: &TopicPartition,
    position: &Position,
    id: Option<&str>,
    log: LogBounds,
) -> Error {
    let what = match (&position.topic_id, id) {
        (Some(known), Some(found)) if known != found => {
            format!("the topic was recreated: its id was {known} and is {found}")
        }
        _ => format!(
            "the log ends at {}, before the job's position: the topic was recreated or lost records",
            log.end
        ),
    };
    Error::DataLoss {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        offset: position.next,
        message: format!(
            "{what} (source '{source}'); the log now has {} to {}: \
             read those and go on with 'on.data.loss' = 'skip' (failOnDataLoss = false), or start a new job",
            log.start, log.end
        ),
    }
}
