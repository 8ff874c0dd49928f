//! How far the scans of a running plan have come.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;

use super::{KafkaScanExec, metrics, scans};

/// Sums over all [`KafkaScanExec`] nodes of a plan; cheap, and callable while the plan runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScanProgress {
    /// Offsets that the positions have passed.
    pub offsets_done: u64,
    /// Offsets of all ranges.
    pub offsets_total: u64,
    /// Records received.
    pub records: u64,
    /// Payload bytes received.
    pub bytes: u64,
    /// Offsets below the log start that were skipped because the user allowed it.
    pub lost_offsets: u64,
    /// Records that did not decode, where that is no error.
    pub bad_rows: u64,
    /// Time that brokers held the client back by quotas, in ms, summed over the streams that waited.
    pub throttled_ms: u64,
}

impl ScanProgress {
    /// Reads the metrics of the plan's scans.
    pub fn of(plan: &Arc<dyn ExecutionPlan>) -> Self {
        let mut progress = Self::default();
        progress.add(plan, &|_| true);
        progress
    }

    /// Adds what the plan's scans of one source of a job did.
    #[cfg(feature = "jobs")]
    pub(crate) fn add_source(&mut self, plan: &Arc<dyn ExecutionPlan>, name: &str) {
        self.add(plan, &|scan| scan.reads_source(name));
    }

    fn add(&mut self, plan: &Arc<dyn ExecutionPlan>, counts: &dyn Fn(&KafkaScanExec) -> bool) {
        for scan in scans(plan).filter(|scan| counts(scan)) {
            self.offsets_total += scan.offsets();
            if let Some(set) = scan.metrics() {
                self.offsets_done += counter(&set, metrics::OFFSETS);
                self.records += counter(&set, metrics::RECORDS);
                self.bytes += counter(&set, metrics::BYTES);
                self.lost_offsets += counter(&set, metrics::LOST);
                self.bad_rows += counter(&set, metrics::BAD_ROWS);
                self.throttled_ms += counter(&set, metrics::THROTTLE) / 1_000_000;
            }
        }
    }
}

fn counter(set: &MetricsSet, name: &str) -> u64 {
    set.sum_by_name(name).map_or(0, |value| {
        u64::try_from(value.as_usize()).unwrap_or(u64::MAX)
    })
}
