//! What the batches of a job add up to.

use std::collections::BTreeMap;

use datafusion_kafka::driver::{BatchProgress, Phases};
use datafusion_kafka::range::LedgerCounts;
use serde::Serialize;

/// Where a batch's time goes: the phases by name.
pub const PHASES: [(&str, fn(&Phases) -> f64); 6] = [
    ("look", |phases| phases.look),
    ("log_intent", |phases| phases.log_intent),
    ("plan", |phases| phases.plan),
    ("stage", |phases| phases.stage),
    ("commit", |phases| phases.commit),
    ("log_commit", |phases| phases.log_commit),
];

/// Counts of a job since the service runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// Batches that were committed.
    pub committed: u64,
    /// Times that the job has ended with an error.
    pub failed: u64,
    /// Attempts at batches that were repeated.
    pub retries: u64,
    /// Records that were read, each time the queries read them.
    pub records: u64,
    /// Key, value and header bytes that were read.
    pub bytes: u64,
    /// What became of the offsets.
    pub ledger: LedgerCounts,
    /// Records that did not decode and were NULL, left out or set aside.
    pub bad_rows: u64,
    /// Rows that were committed, by the sink's target.
    pub rows: BTreeMap<String, u64>,
}

impl Totals {
    pub(super) fn add(&mut self, progress: &BatchProgress) {
        self.committed += 1;
        self.records = self.records.saturating_add(progress.records());
        for source in &progress.sources {
            self.bytes = self.bytes.saturating_add(source.bytes);
            self.ledger += source.ledger;
            self.bad_rows = self.bad_rows.saturating_add(source.bad_rows);
        }
        for sink in &progress.sinks {
            let rows = self.rows.entry(sink.target.clone()).or_default();
            *rows = rows.saturating_add(sink.rows);
        }
    }
}
