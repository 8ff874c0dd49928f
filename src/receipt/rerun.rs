//! Reads the ranges of a receipt again, and compares them.
//!
//! It reads the ranges and does not run the statement. It uses the topic ids, isolation level, timestamp
//! bounds and columns in the receipt, and reads no further than the scan did. So it needs none of the tables,
//! settings or functions of the session that made the receipt.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt, stream};

use super::{HashedColumn, Receipt, ReceiptScan, masks};
use crate::client::{ClusterDescription, KafkaClient, TopicSelection, epochs};
use crate::decode::{Column, RecordDecoder};
use crate::error::{Error, ErrorKind, Result};
use crate::range::{
    LedgerCounts, OffsetRange, OnDataLoss, RowsChecksum, Snapshot, SnapshotRange, TopicPartition,
};
use crate::scan::{KafkaScanExec, ScanRange, ScanSource};
use crate::table::DEFAULT_BATCH_BYTES;

/// How many partitions are read at the same time.
const AT_A_TIME: usize = 4;

/// The result of reading a receipt's ranges again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rerun {
    /// The partitions of every scan, in the receipt's order.
    pub partitions: Vec<PartitionRerun>,
}

/// A partition that a scan has read, and what it holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionRerun {
    /// The statement's place in the receipt, from 0.
    pub statement: usize,
    /// The scan's place in the statement, from 0.
    pub scan: usize,
    /// The partition.
    pub partition: TopicPartition,
    /// The parts of ranges that the scan passed.
    pub parts: Vec<OffsetRange>,
    /// How the partition compares now.
    pub verdict: PartitionVerdict,
}

/// How a partition compares with its receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartitionVerdict {
    /// It has the same records, and the same reasons where there are none.
    Identical,
    /// It can no longer be read, for this reason.
    Unavailable(String),
    /// It holds something else, as described.
    Changed(String),
}

/// How all partitions together compare with the receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Every partition is identical.
    Identical,
    /// Some can no longer be read. The others are identical.
    Unavailable,
    /// Some hold something else.
    Changed,
}

impl PartitionVerdict {
    /// The verdict without its reason.
    pub fn kind(&self) -> Verdict {
        match self {
            Self::Identical => Verdict::Identical,
            Self::Unavailable(_) => Verdict::Unavailable,
            Self::Changed(_) => Verdict::Changed,
        }
    }

    /// Why the partition is not identical.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Identical => None,
            Self::Unavailable(reason) | Self::Changed(reason) => Some(reason),
        }
    }
}

impl Verdict {
    /// `identical`, `unavailable` or `changed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Unavailable => "unavailable",
            Self::Changed => "changed",
        }
    }
}

impl Rerun {
    /// The worst verdict of all partitions; identical if nothing was read.
    pub fn verdict(&self) -> Verdict {
        let kinds = self.partitions.iter().map(|p| p.verdict.kind());
        kinds.max().unwrap_or(Verdict::Identical)
    }
}

/// The counts of a partition, in the receipt or now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Found {
    counts: LedgerCounts,
    rows: RowsChecksum,
}

impl Receipt {
    /// Reads the ranges of the receipt again, with a client of the same cluster.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the receipt is inconsistent, and errors of the client. Missing data is not an
    /// error but a verdict.
    pub async fn rerun(&self, client: &Arc<dyn KafkaClient>) -> Result<Rerun> {
        self.validate()?;
        let mut work = vec![];
        for (statement, of) in self.statements.iter().enumerate() {
            for (number, scan) in of.scans.iter().enumerate() {
                check_masks(client, scan)?;
                let cluster = describe(client, &scan.snapshot).await?;
                let snapshot = Arc::new(scan.snapshot.clone());
                let partitions = by_partition(scan);
                let parts = partitions.values().flat_map(|(parts, _)| parts).cloned();
                let ranges = ScanRange::in_snapshot(&snapshot, &parts.collect::<Vec<_>>());
                let mut ranges = ranges.into_iter();
                for (partition, (parts, recorded)) in partitions {
                    let ranges = ranges.by_ref().take(parts.len()).collect();
                    let gone = missing(&scan.snapshot, &cluster, &partition);
                    let rerun = PartitionRerun {
                        statement,
                        scan: number,
                        partition,
                        parts,
                        verdict: gone
                            .map_or(PartitionVerdict::Identical, PartitionVerdict::Unavailable),
                    };
                    let snapshot = Arc::clone(&snapshot);
                    work.push(check(client, scan, snapshot, ranges, recorded, rerun));
                }
            }
        }
        let partitions = stream::iter(work).buffered(AT_A_TIME).try_collect();
        Ok(Rerun {
            partitions: partitions.await?,
        })
    }
}

/// Records that are shown in another way have other checksums.
fn check_masks(client: &Arc<dyn KafkaClient>, scan: &ReceiptScan) -> Result<()> {
    let now = masks(client.as_ref(), &scan.snapshot);
    if now == scan.masks {
        return Ok(());
    }
    let named = |masks: &Option<String>| masks.clone().unwrap_or_else(|| "nothing".to_owned());
    Err(Error::invalid(format!(
        "receipt: it was made where {} was masked, and this connection masks {}: checksums can only be compared under the \
         same masks",
        named(&scan.masks),
        named(&now)
    )))
}

/// Reads the partition, unless it is known to be gone.
async fn check(
    client: &Arc<dyn KafkaClient>,
    scan: &ReceiptScan,
    snapshot: Arc<Snapshot>,
    ranges: Vec<ScanRange>,
    recorded: Found,
    mut rerun: PartitionRerun,
) -> Result<PartitionRerun> {
    if rerun.verdict == PartitionVerdict::Identical {
        let verdict = match read(client, scan, snapshot, ranges).await {
            Ok(now) => compare(&recorded, &now),
            Err(error) if error.kind() == ErrorKind::DataUnavailable => {
                PartitionVerdict::Unavailable(error.to_string())
            }
            Err(error) => return Err(error),
        };
        rerun.verdict = match verdict {
            PartitionVerdict::Changed(what) => match cut(client, scan, &rerun).await? {
                Some(error) => PartitionVerdict::Changed(format!("{error}; {what}")),
                None => PartitionVerdict::Changed(what),
            },
            PartitionVerdict::Unavailable(why) => match cut(client, scan, &rerun).await? {
                Some(error) => PartitionVerdict::Unavailable(format!("{error}; {why}")),
                None => PartitionVerdict::Unavailable(why),
            },
            identical => identical,
        };
    }
    Ok(rerun)
}

/// Reports that the log was cut, where leader epochs show it.
async fn cut(
    client: &Arc<dyn KafkaClient>,
    scan: &ReceiptScan,
    rerun: &PartitionRerun,
) -> Result<Option<Error>> {
    let of = |range: &&SnapshotRange| range.range.topic_partition() == rerun.partition;
    let ranges = scan.snapshot.ranges().iter().filter(of).cloned();
    let snapshot = scan.snapshot.with_ranges(ranges.collect())?;
    let end = rerun.parts.iter().map(|part| part.end()).max();
    let next = "these are not the records of the receipt";
    let cut = epochs::cut_ranges(client.as_ref(), &snapshot, next).await?;
    // A scan that ended early may not have reached the cut.
    let concerns =
        |error: &Error| !matches!(error, Error::Truncated { cut, .. } if Some(*cut) >= end);
    Ok(cut.into_iter().find(concerns))
}

/// What a scan has passed and counted in each partition.
fn by_partition(scan: &ReceiptScan) -> BTreeMap<TopicPartition, (Vec<OffsetRange>, Found)> {
    let mut found: BTreeMap<TopicPartition, (Vec<OffsetRange>, Found)> = BTreeMap::new();
    for ledger in &scan.ledger.ranges {
        let part = ledger.passed();
        if part.is_empty() {
            continue;
        }
        let (parts, sum) = found.entry(part.topic_partition()).or_default();
        parts.push(part);
        sum.counts += LedgerCounts {
            unread: 0,
            ..ledger.counts
        };
        sum.rows += ledger.rows.unwrap_or_default();
    }
    found
}

async fn describe(
    client: &Arc<dyn KafkaClient>,
    snapshot: &Snapshot,
) -> Result<ClusterDescription> {
    let topics: Vec<Arc<str>> = snapshot
        .topics()
        .iter()
        .map(|topic| Arc::clone(&topic.topic))
        .collect();
    client.describe(TopicSelection::Named(&topics)).await
}

/// Why a partition cannot be the receipt's, as far as the cluster's description shows.
fn missing(
    snapshot: &Snapshot,
    cluster: &ClusterDescription,
    partition: &TopicPartition,
) -> Option<String> {
    if let (Some(then), Some(now)) = (snapshot.cluster_id(), &cluster.cluster_id)
        && then != now
    {
        return Some(format!(
            "the receipt is of the cluster {then}, this one is {now}"
        ));
    }
    let Some(topic) = cluster.topics.iter().find(|t| t.name == partition.topic) else {
        let gone = Error::UnknownTopic {
            topic: partition.topic.to_string(),
            nearest: vec![],
        };
        return Some(gone.to_string());
    };
    if let (Some(expected), Some(found)) = (snapshot.topic_id(&topic.name), &topic.id)
        && expected != found
    {
        let recreated = Error::TopicRecreated {
            topic: topic.name.to_string(),
            expected: expected.to_owned(),
            found: found.clone(),
        };
        return Some(recreated.to_string());
    }
    // They are numbered from 0 on.
    let number = partition.partition;
    if usize::try_from(number).is_ok_and(|number| number < topic.partitions.len()) {
        return None;
    }
    let gone = Error::UnknownPartition {
        topic: topic.name.to_string(),
        partition: number,
        available: format!("{} partitions", topic.partitions.len()),
    };
    Some(gone.to_string())
}

/// Reads parts of a partition as the scan did, which took them from `snapshot`.
async fn read(
    client: &Arc<dyn KafkaClient>,
    scan: &ReceiptScan,
    snapshot: Arc<Snapshot>,
    parts: Vec<ScanRange>,
) -> Result<Found> {
    let columns: Vec<Column> = scan.columns.iter().copied().map(Column::from).collect();
    let projection = (0..columns.len()).collect();
    let source = ScanSource {
        name: None,
        client: Arc::clone(client),
        decoder: RecordDecoder::raw(columns),
        isolation: scan.snapshot.isolation_level(),
        // Lost offsets are counted and compared, so that one partition does not hide the others.
        on_data_loss: OnDataLoss::Skip,
        batch_bytes: DEFAULT_BATCH_BYTES,
        pruned: vec![],
        index: None,
        snapshot,
        #[cfg(feature = "jobs")]
        origin: None,
        checksums: true,
        may_cut: false,
        ordered: true,
        key_places: None,
    };
    let source = Arc::new(source);
    let found = async {
        let plan = KafkaScanExec::try_new(source, vec![parts], projection, None)?;
        let mut rows = plan.execute(0, Arc::default())?;
        while rows.try_next().await?.is_some() {}
        let ledger = plan.ledger();
        let rows = ledger.ranges.iter().filter_map(|range| range.rows);
        Ok::<_, datafusion::error::DataFusionError>(Found {
            counts: ledger.total(),
            rows: rows.fold(RowsChecksum::default(), |mut sum, rows| {
                sum += rows;
                sum
            }),
        })
    };
    found.await.map_err(|error| match Error::find(&error) {
        Some(found) => found.clone(),
        None => Error::query(error.strip_backtrace()).because(error),
    })
}

impl From<HashedColumn> for Column {
    fn from(column: HashedColumn) -> Self {
        match column {
            HashedColumn::Timestamp => Self::Timestamp,
            HashedColumn::TimestampType => Self::TimestampType,
            HashedColumn::Key => Self::Key,
            HashedColumn::Value => Self::Value,
            HashedColumn::Headers => Self::Headers,
        }
    }
}

fn compare(then: &Found, now: &Found) -> PartitionVerdict {
    let lost = now.counts.lost.saturating_sub(then.counts.lost);
    if lost > 0 {
        return PartitionVerdict::Unavailable(format!(
            "{lost} of its offsets lie below the log start now"
        ));
    }
    let mut differences = vec![];
    let mut differ = |what: &str, then: u64, now: u64| {
        if then != now {
            differences.push(format!("{what}: {then} then, {now} now"));
        }
    };
    differ("delivered", then.counts.delivered, now.counts.delivered);
    differ("filtered", then.counts.filtered, now.counts.filtered);
    differ("lost", then.counts.lost, now.counts.lost);
    differ("bad", then.counts.bad, now.counts.bad);
    if then.counts.untold == 0 && now.counts.untold == 0 {
        differ("control", then.counts.control, now.counts.control);
        differ("aborted", then.counts.aborted, now.counts.aborted);
        differ("gap", then.counts.gap, now.counts.gap);
    } else {
        differ(
            "without a record",
            then.counts.without_record(),
            now.counts.without_record(),
        );
    }
    if then.rows != now.rows && then.counts.delivered == now.counts.delivered {
        differences.push(format!(
            "the delivered records differ: checksum {} then, {} now",
            then.rows, now.rows
        ));
    }
    if differences.is_empty() {
        PartitionVerdict::Identical
    } else {
        PartitionVerdict::Changed(differences.join("; "))
    }
}
