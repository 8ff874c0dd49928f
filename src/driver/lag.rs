//! How far a job is behind, partition by partition, asked while it runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::Array;
use futures::StreamExt;
use serde::Serialize;

use super::intent::Intent;
use super::run::MicroBatch;
use super::source::Source;
use crate::client::{RawColumns, ReadRequest};
use crate::error::Result;
use crate::range::{OffsetRange, OnDataLoss, TopicPartition};
use crate::table::KafkaTable;

/// How many partitions are read at once.
const SIDE_BY_SIDE: usize = 8;

/// Asks the cluster how far a job is behind, beside its run. Clones ask for the same job.
#[derive(Debug, Clone)]
pub struct Lags {
    tables: Arc<[(String, KafkaTable)]>,
    shown: Shown,
}

/// The next offset of each partition of each source, in the job's order; empty until the job knows them.
pub(super) type Shown = Arc<Mutex<Vec<BTreeMap<TopicPartition, i64>>>>;

/// How far a job is behind in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PartitionLag {
    /// The table's name in the job.
    pub source: String,
    /// The partition.
    #[serde(flatten)]
    pub partition: TopicPartition,
    /// The first offset that is not delivered.
    pub position: i64,
    /// The end of the log at the table's isolation level.
    pub log_end: i64,
    /// The offsets that are still to be delivered, those below the log start left out.
    pub behind: i64,
    /// The timestamp of the first record that is not delivered, in ms since the epoch: the record was read. `None`
    /// where there is no such record, it has no timestamp, or it could not be read in time.
    pub waiting_since_ms: Option<i64>,
}

impl Lags {
    /// Looks at the logs, and reads the first record of each partition that is not delivered. Empty until the job
    /// knows its positions.
    ///
    /// What an earlier answer says of a record is taken over while the position is the same. Records that are not
    /// there `within` this time are left out.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn look(
        &self,
        earlier: &[PartitionLag],
        within: Duration,
    ) -> Result<Vec<PartitionLag>> {
        let positions = self
            .shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut lags = vec![];
        let mut unknown = vec![];
        for ((source, table), positions) in self.tables.iter().zip(positions) {
            let view = table.view().await?;
            for (partition, found) in view.partitions {
                let position = match positions.get(&partition) {
                    Some(position) => *position,
                    // It joins with the next batch.
                    None if table.takes_new_partitions() => found.log.start,
                    None => continue,
                };
                let from = position.max(found.log.start);
                let mut lag = PartitionLag {
                    source: source.clone(),
                    partition,
                    position,
                    log_end: found.log.end,
                    behind: found.log.end.saturating_sub(from).max(0),
                    waiting_since_ms: None,
                };
                if lag.behind > 0 {
                    lag.waiting_since_ms = earlier
                        .iter()
                        .find(|known| lag.is_same_place(known))
                        .and_then(|known| known.waiting_since_ms);
                    if lag.waiting_since_ms.is_none() {
                        unknown.push((lags.len(), table, from));
                    }
                }
                lags.push(lag);
            }
        }
        let reads = unknown.into_iter().map(|(at, table, from)| {
            let (partition, end) = (lags[at].partition.clone(), lags[at].log_end);
            async move { (at, first_timestamp(table, partition, from, end).await) }
        });
        let reads: Vec<_> = reads.collect();
        let mut reads = futures::stream::iter(reads).buffer_unordered(SIDE_BY_SIDE);
        let all = async {
            while let Some((at, timestamp)) = reads.next().await {
                match timestamp {
                    Ok(timestamp) => lags[at].waiting_since_ms = timestamp,
                    // The job itself says what is wrong with the partition.
                    Err(error) => log::debug!("how long records wait: {error}"),
                }
            }
        };
        // What was not read by then stays unknown.
        let _ = tokio::time::timeout(within, all).await;
        Ok(lags)
    }
}

impl PartitionLag {
    fn is_same_place(&self, other: &Self) -> bool {
        self.source == other.source
            && self.partition == other.partition
            && self.position == other.position
    }
}

/// The timestamp of the first record from an offset on.
async fn first_timestamp(
    table: &KafkaTable,
    partition: TopicPartition,
    from: i64,
    end: i64,
) -> Result<Option<i64>> {
    let range = OffsetRange::try_new(partition.topic, partition.partition, from, end)?;
    let mut columns = RawColumns::default();
    columns.timestamp = true;
    let mut batches = table.client().read(ReadRequest {
        columns,
        isolation: table.isolation(),
        batch_rows: 1,
        limit: Some(1),
        on_data_loss: OnDataLoss::Skip,
        ..ReadRequest::new(vec![range])
    });
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        if batch.offsets.is_empty() {
            continue;
        }
        let first = batch.timestamps.filter(|timestamps| timestamps.is_valid(0));
        return Ok(first.map(|timestamps| timestamps.value(0)));
    }
    Ok(None)
}

impl MicroBatch {
    /// What tells how far the job is behind, also while it runs.
    pub fn lags(&self) -> Lags {
        let tables = self.plan.sources.iter();
        Lags {
            tables: tables.map(|s| (s.name.clone(), s.table.clone())).collect(),
            shown: Arc::clone(&self.shown),
        }
    }

    /// Shows the sources' positions to those who ask; those before `rerun` while that batch is not through.
    pub(super) fn show(&self, rerun: Option<&Intent>) {
        let of = |source: &Source| {
            let mut positions: BTreeMap<TopicPartition, i64> = source
                .positions
                .iter()
                .map(|(partition, position)| (partition.clone(), position.next))
                .collect();
            let taken = rerun.and_then(|i| i.sources.iter().find(|s| s.source == source.name));
            for range in taken.iter().flat_map(|taken| taken.snapshot.ranges()) {
                positions.insert(range.range.topic_partition(), range.range.start());
            }
            positions
        };
        let positions = self.plan.sources.iter().map(of).collect();
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = positions;
    }
}
