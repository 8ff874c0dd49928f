//! A Kafka table as the source of a job: from its positions to the next batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::intent::SourceIntent;
use super::policy::{Backlog, BatchPolicy, PartitionBacklog};
use super::progress::Behind;
use super::reconcile::{Part, Reconciled, is_recreated, reconcile, refuse_stale};
use crate::client::GroupCommits;
use crate::client::epochs::{self, Mark, Sought, Stands};
use crate::error::{Error, Result};
use crate::range::{OnDataLoss, Snapshot, SnapshotRange, TopicPartition};
use crate::sink::Position;
use crate::table::{KafkaTable, Limits, LogView};

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
    /// The leader epochs under which the positions were compared with the log, which since then only
    /// grew. Empty when the positions come from elsewhere.
    pub(crate) compared: BTreeMap<TopicPartition, i32>,
    /// Partitions of which it was said that their positions cannot be compared.
    pub(crate) said: BTreeSet<TopicPartition>,
    /// Those of them that no batch has named yet.
    pub(crate) uncompared: Vec<TopicPartition>,
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
    /// As [`Source::compared`], after this look.
    pub(crate) compared: BTreeMap<TopicPartition, i32>,
    /// Partitions whose positions could not be compared with the log.
    pub(crate) uncompared: Vec<TopicPartition>,
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
            compared: BTreeMap::new(),
            said: BTreeSet::new(),
            uncompared: vec![],
        }
    }

    /// Whether offsets may be lost.
    pub(crate) fn skips_losses(&self) -> bool {
        self.table.on_data_loss() == OnDataLoss::Skip
    }

    /// Where the table's range starts, as it is now: the job's first positions.
    pub(crate) async fn first_positions(&self) -> Result<Positions> {
        let snapshot = self.table.resolved().await?;
        let starts: Vec<_> = snapshot
            .ranges()
            .iter()
            .map(|r| (r.range.topic_partition(), r.range.start(), r.log_start))
            .collect();
        let leader_epochs = epochs::look_up(self.table.client().as_ref(), &starts).await?;
        let topic_ids = snapshot.topic_ids();
        let position = |(range, leader_epoch): (&SnapshotRange, Option<i32>)| {
            let position = Position {
                next: range.range.start(),
                topic_id: topic_ids.get(range.range.topic()).cloned(),
                leader_epoch,
            };
            (range.range.topic_partition(), position)
        };
        let ranges = snapshot.ranges().iter();
        Ok(ranges.zip(leader_epochs).map(position).collect())
    }

    /// Looks at the log and chooses the next ranges.
    pub(crate) async fn next(&self, now_ms: i64) -> Result<NextRanges> {
        let view = self.table.view().await?;
        let client = self.table.client();
        refuse_stale(client.as_ref(), &self.name, &self.positions, &view).await?;
        let stands = self.compare(&view).await?;
        let reconciled = reconcile(
            &self.name,
            &self.positions,
            &view,
            &stands,
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
        let mut ranges: Vec<SnapshotRange> = reconciled
            .parts
            .iter()
            .zip(ends)
            .map(|(part, end)| part.until(end))
            .collect::<Result<_>>()?;
        let behind = Behind::of(
            ranges
                .iter()
                .map(|r| r.log_end.saturating_sub(r.range.end())),
        );
        // No sink has recorded anything of a source before its first batch.
        let joined: Vec<TopicPartition> = reconciled
            .parts
            .iter()
            .filter(|part| part.joins || self.first)
            .map(|part| part.partition.clone())
            .collect();
        let has_offsets = ranges.iter().any(|r| !r.range.is_empty());
        let restarts = reconciled.lost.iter().any(|lost| lost.reason.restarts());
        let is_news = has_offsets || restarts;
        if is_news {
            self.note_epochs(&reconciled.parts, &mut ranges).await?;
        }
        let leaders = view.partitions.iter();
        Ok(NextRanges {
            compared: leaders
                .filter_map(|(partition, found)| Some((partition.clone(), found.leader_epoch?)))
                .collect(),
            uncompared: self.uncompared(&view, &stands),
            behind,
            is_news,
            intent: SourceIntent {
                source: self.name.clone(),
                snapshot: Snapshot::try_new(
                    view.cluster_id,
                    self.table.isolation(),
                    now_ms,
                    reconciled.topics,
                    ranges,
                )?,
                joined,
                lost: reconciled.lost,
                window: vec![],
                decoding: self.table.decoding().map(str::to_owned),
            },
        })
    }

    /// Compares the positions with the logs, as far as these may not be the ones that they were taken
    /// from: under the leader that they were compared with before, or that wrote the record before
    /// them, a log has only grown.
    async fn compare(&self, view: &LogView) -> Result<BTreeMap<TopicPartition, Stands>> {
        let marks: Vec<Mark> = self
            .positions
            .iter()
            .filter_map(|(partition, position)| {
                let found = view.partitions.get(partition)?;
                let epoch = position.leader_epoch?;
                let known = found.leader_epoch.is_some_and(|leader| {
                    leader <= epoch || self.compared.get(partition) == Some(&leader)
                });
                let recreated = is_recreated(position, view.topic_id(&partition.topic));
                (!known && !recreated).then(|| Mark {
                    partition: partition.clone(),
                    offset: position.next,
                    epoch,
                    leader_epoch: found.leader_epoch,
                })
            })
            .collect();
        let stands = epochs::compare(self.table.client().as_ref(), &marks).await?;
        let partitions = marks.into_iter().map(|mark| mark.partition);
        Ok(partitions.zip(stands).collect())
    }

    /// Notes the leader epochs at the ends of ranges. One leader tells an end and its epoch, so that
    /// both are of one log.
    async fn note_epochs(&self, parts: &[Part], ranges: &mut [SnapshotRange]) -> Result<()> {
        let mut sought = vec![];
        let mut places = vec![];
        for (place, (part, range)) in parts.iter().zip(ranges.iter_mut()).enumerate() {
            let end = range.range.end();
            // All behind a record of the leader's own epoch is of that epoch.
            let is_own = part.leader_epoch == part.epoch;
            range.leader_epoch = range.leader_epoch.or(part.epoch.filter(|_| is_own));
            if let Some(leader_epoch) = part.leader_epoch
                && range.leader_epoch.is_none()
                && end > part.log.start
            {
                places.push(place);
                sought.push(Sought {
                    partition: part.partition.clone(),
                    offset: end,
                    leader_epoch,
                    above: part.epoch.map_or(-1, |epoch| epoch.max(0) - 1),
                });
            }
        }
        let found = epochs::before(self.table.client().as_ref(), &sought).await?;
        for (place, epoch) in places.into_iter().zip(found) {
            ranges[place].leader_epoch = epoch;
        }
        Ok(())
    }

    /// The positions that nothing tells from those of another log: an earlier version has recorded them
    /// without a leader epoch, or the brokers tell none.
    fn uncompared(
        &self,
        view: &LogView,
        stands: &BTreeMap<TopicPartition, Stands>,
    ) -> Vec<TopicPartition> {
        let uncompared = |(partition, position): &(&TopicPartition, &Position)| {
            let log = view.partitions.get(*partition).map(|found| found.log);
            let has_records_before = log.is_some_and(|log| log.start < position.next);
            let told = match position.leader_epoch {
                Some(_) => stands.get(*partition) != Some(&Stands::Untold),
                None => self.compared.contains_key(*partition),
            };
            // Before the first batch nothing was taken over.
            !self.first && has_records_before && !told && !self.said.contains(*partition)
        };
        let positions = self.positions.iter().filter(uncompared);
        positions.map(|(partition, _)| partition.clone()).collect()
    }

    /// Takes over what a look has found out about leader epochs.
    pub(crate) fn looked(&mut self, next: &NextRanges) {
        self.compared.clone_from(&next.compared);
        if let Some(first) = next.uncompared.first() {
            log::warn!(
                "source '{}': the positions of {} and {} other partitions cannot be compared with the log by \
                 leader epochs: if it was cut and has grown again since they were recorded, nobody noticed",
                self.name,
                first,
                next.uncompared.len() - 1
            );
        }
        self.said.extend(next.uncompared.iter().cloned());
        self.uncompared.extend(next.uncompared.iter().cloned());
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
            Some(part) if !self.skips_losses() => Err(Error::DataLoss {
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
        self.uncompared.clear();
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
