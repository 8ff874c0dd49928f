//! Receipts record what a query read, so that it can be checked again later.
//!
//! A [`Receipt`] names the ranges that each scan of a statement has passed, what happened to their offsets
//! ([`LedgerCounts`]), and a checksum of the records that the scan delivered
//! ([`RowsChecksum`](crate::range::RowsChecksum)). It is plain JSON. [`Receipt::rerun`] reads the same ranges
//! of the same topics again, and says whether they still hold the same records.
//!
//! - Checksums cost a hash per record, but only where they are requested: [`with_checksums`] asks a task for
//!   them.
//! - Batch sizes, execution partitions and the client make no difference.
//! - What a connection hides is in no checksum. A receipt names the masks, and is compared under the same.
//! - Offsets that were not read, because of a LIMIT or because the consumer stopped, are not part of a
//!   receipt.
//! - A receipt records a statement as text, without anything that looks like a secret. It does not record
//!   connection settings.
//!
//! ```
//! use std::sync::Arc;
//!
//! use datafusion::physical_plan::collect;
//! use datafusion_kafka::client::KafkaClient;
//! use datafusion_kafka::client::memory::{MemoryCluster, Record};
//! use datafusion_kafka::receipt::{Receipt, Verdict, with_checksums};
//! use datafusion_kafka::session::KafkaSessionBuilder;
//! use datafusion_kafka::table::KafkaTable;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = MemoryCluster::new();
//! cluster.create_topic("orders", 1)?;
//! cluster.append_all("orders", 0, (0..5).map(|n| Record::new(format!("order {n}")).with_key("k")))?;
//! let client: Arc<dyn KafkaClient> = Arc::new(cluster.client());
//! let ctx = KafkaSessionBuilder::new().build()?;
//! let table = KafkaTable::builder_with_client(Arc::clone(&client)).topic("orders");
//! ctx.register_table("orders", Arc::new(table.build().await?))?;
//!
//! let sql = "SELECT count(*) FROM orders WHERE value LIKE '%3'";
//! let frame = ctx.sql(sql).await?;
//! let task = Arc::new(with_checksums(frame.task_ctx()));
//! let plan = frame.create_physical_plan().await?;
//! collect(Arc::clone(&plan), task).await?;
//! let mut receipt = Receipt::new();
//! receipt.add(sql, &plan)?;
//! let json = receipt.to_json();
//!
//! let receipt: Receipt = json.parse()?;
//! assert_eq!(receipt.rerun(&client).await?.verdict(), Verdict::Identical);
//! cluster.compact_by_key("orders", 0)?;
//! assert_eq!(receipt.rerun(&client).await?.verdict(), Verdict::Changed);
//! # Ok(())
//! # }
//! ```

mod json;
mod rerun;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::client::{KafkaClient, RawColumns, epochs};
use crate::error::{Error, Result};
use crate::range::{Ledger, LedgerCounts, Snapshot};
use crate::redact;
use crate::scan::{self, WithChecksums};
use crate::table::now_ms;

pub use rerun::{PartitionRerun, PartitionVerdict, Rerun, Verdict};

/// The same task, in which scans of Kafka topics also compute checksums of the records they deliver.
pub fn with_checksums(task: TaskContext) -> TaskContext {
    let config = task.session_config().clone();
    task.with_session_config(config.with_extension(Arc::new(WithChecksums)))
}

/// What the statements of a program have read; see the [module](self)'s documentation.
///
/// The JSON says `"version": 1`. Other versions are refused, unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// When the receipt was made, in ms since the epoch.
    pub created_ms: i64,
    /// What made it, for example `datafusion-kafka 0.1.0`.
    pub program: String,
    /// The statements that have read Kafka topics.
    pub statements: Vec<ReceiptStatement>,
}

/// A statement, and what it has read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReceiptStatement {
    /// The statement, without secrets.
    pub sql: String,
    /// The SHA-256 of this text in UTF-8, as 64 hexadecimal digits.
    pub sql_sha256: String,
    /// Its scans, one for each mention of a table.
    pub scans: Vec<ReceiptScan>,
}

/// What one scan has read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReceiptScan {
    /// The client that was used, by [`KafkaClient::name`].
    pub client: String,
    /// What was hidden of the records ([`mask`](crate::mask)). Their checksums are of what was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masks: Option<String>,
    /// The cluster, topic ids, isolation level and ranges that the scan was planned with. Predicates may have
    /// narrowed the ranges.
    pub snapshot: Snapshot,
    /// The columns that were read and are part of the checksums, in addition to the offset.
    pub columns: Vec<HashedColumn>,
    /// The ranges, what happened to their offsets, and the checksums.
    pub ledger: Ledger,
}

/// A column of records that a checksum may cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HashedColumn {
    /// The timestamp in ms.
    Timestamp,
    /// Who set the timestamp.
    TimestampType,
    /// The key's bytes.
    Key,
    /// The value's bytes.
    Value,
    /// The headers.
    Headers,
}

impl HashedColumn {
    fn of(columns: RawColumns) -> Vec<Self> {
        [
            (columns.timestamp, Self::Timestamp),
            (columns.timestamp_type, Self::TimestampType),
            (columns.key, Self::Key),
            (columns.value, Self::Value),
            (columns.headers, Self::Headers),
        ]
        .into_iter()
        .filter_map(|(read, column)| read.then_some(column))
        .collect()
    }
}

impl Default for Receipt {
    fn default() -> Self {
        Self::new()
    }
}

impl Receipt {
    /// A receipt without statements, made now.
    pub fn new() -> Self {
        Self {
            created_ms: now_ms(),
            program: concat!("datafusion-kafka ", env!("CARGO_PKG_VERSION")).to_owned(),
            statements: vec![],
        }
    }

    /// Adds what a statement's plan has read. Returns whether it contains any scan of a Kafka topic.
    ///
    /// The plan must have been executed in a task of [`with_checksums`], to its end or as far as its rows
    /// were needed.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the plan was executed without checksums.
    pub fn add(&mut self, sql: &str, plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
        let mut scans = vec![];
        for scan in scan::scans(plan) {
            let ledger = scan.ledger();
            let lacks = |range: &crate::range::RangeLedger| {
                range.rows.is_none() && range.counts.delivered > 0
            };
            if let Some(range) = ledger.ranges.iter().find(|range| lacks(range)) {
                return Err(Error::invalid(format!(
                    "{}: the plan was executed without checksums; execute it in a task of \
                     receipt::with_checksums",
                    range.range
                )));
            }
            scans.push(ReceiptScan {
                client: scan.client().name().to_owned(),
                masks: masks(scan.client().as_ref(), scan.snapshot()),
                snapshot: scan.snapshot().clone(),
                columns: HashedColumn::of(scan.hashed_columns()),
                ledger,
            });
        }
        if scans.is_empty() {
            return Ok(false);
        }
        let sql = redact::without_secrets(sql);
        self.statements.push(ReceiptStatement {
            sql_sha256: sha256(&sql),
            sql,
            scans,
        });
        Ok(true)
    }

    /// Like [`add`](Self::add), but also records the leader epochs at the ends of the ranges. With them,
    /// [`rerun`](Self::rerun) detects that a log was cut and has grown again.
    ///
    /// # Errors
    /// As [`add`](Self::add). A cluster that does not answer is not an error; the receipt then has no epochs.
    pub async fn add_with_epochs(
        &mut self,
        sql: &str,
        plan: &Arc<dyn ExecutionPlan>,
    ) -> Result<bool> {
        if !self.add(sql, plan)? {
            return Ok(false);
        }
        let added = self.statements.last_mut();
        let scans = added.into_iter().flat_map(|statement| &mut statement.scans);
        for (recorded, scan) in scans.zip(scan::scans(plan)) {
            let noted = epochs::note_ends(scan.client().as_ref(), &mut recorded.snapshot).await;
            if let Err(error) = noted {
                log::warn!("the receipt has no leader epochs: {error}");
            }
        }
        Ok(true)
    }

    /// The total counts of all ranges of all scans.
    pub fn counts(&self) -> LedgerCounts {
        let scans = self.statements.iter().flat_map(|s| &s.scans);
        scans.map(|scan| scan.ledger.total()).sum()
    }

    /// The receipt as JSON on several lines, for people to read.
    pub fn to_json(&self) -> String {
        // It only contains strings and numbers, which JSON can always represent.
        serde_json::to_string_pretty(self).expect("strings and numbers are JSON")
    }
}

/// What a client hides of the snapshot's topics.
fn masks(client: &dyn KafkaClient, snapshot: &Snapshot) -> Option<String> {
    let topics = snapshot.topics().iter();
    let topics: Vec<Arc<str>> = topics.map(|topic| Arc::clone(&topic.topic)).collect();
    let masks = client.masks()?.among(Some(&topics));
    masks.map(|masks| masks.description())
}

fn sha256(text: &str) -> String {
    crate::hex::hex(&Sha256::digest(text.as_bytes()))
}
