//! What a scan counts, for EXPLAIN ANALYZE and for progress displays.

use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, Time,
};

use crate::client::RawBatch;

/// The counter of offsets that the position has passed; [`super::ScanProgress`] reads it.
pub(super) const OFFSETS: &str = "offsets_read";
/// The counter of records received.
pub(super) const RECORDS: &str = "records";
/// The counter of payload bytes received.
pub(super) const BYTES: &str = "bytes_read";
/// The counter of offsets below the log start that were skipped by choice.
pub(super) const LOST: &str = "lost_offsets";

/// The metrics of one execution partition.
#[derive(Debug)]
pub(super) struct ScanMetrics {
    /// Output rows and the time spent in this node.
    pub(super) baseline: BaselineMetrics,
    /// Offsets that the position has passed, with or without a visible record.
    offsets: Count,
    /// Records that the client delivered.
    records: Count,
    /// Offsets without a visible record: control records, aborted, compacted or lost ones.
    skipped_offsets: Count,
    /// Offsets that lay below the log start and were skipped because the user allowed it.
    lost_offsets: Count,
    /// Records outside the `@T1:T2` of the table's range.
    filtered_records: Count,
    /// Payload bytes that the client received for the records.
    bytes: Count,
    /// Waiting for the broker.
    fetch_wait: Time,
    /// Building columns, in the client and here.
    decode: Time,
}

impl ScanMetrics {
    pub(super) fn new(set: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let counter = |name: &'static str| MetricBuilder::new(set).counter(name, partition);
        Self {
            baseline: BaselineMetrics::new(set, partition),
            offsets: counter(OFFSETS),
            records: counter(RECORDS),
            skipped_offsets: counter("skipped_offsets"),
            lost_offsets: counter(LOST),
            filtered_records: counter("filtered_records"),
            bytes: counter(BYTES),
            fetch_wait: MetricBuilder::new(set).subset_time("fetch_wait", partition),
            decode: MetricBuilder::new(set).subset_time("decode_time", partition),
        }
    }

    /// Counts what the client delivered; `passed` offsets lie between the position before and after.
    pub(super) fn received(&self, raw: &RawBatch, passed: usize) {
        let rows = raw.offsets.len();
        self.records.add(rows);
        self.offsets.add(passed);
        self.skipped_offsets.add(passed.saturating_sub(rows));
        self.lost_offsets
            .add(usize::try_from(raw.lost_offsets).unwrap_or(0));
        self.bytes.add(raw.bytes);
        self.fetch_wait
            .add_duration(std::time::Duration::from_nanos(raw.fetch_wait_ns));
        self.decode
            .add_duration(std::time::Duration::from_nanos(raw.decode_ns));
    }

    /// Counts offsets that were passed without a batch: no visible record lay there.
    pub(super) fn passed(&self, offsets: usize) {
        self.offsets.add(offsets);
        self.skipped_offsets.add(offsets);
    }

    pub(super) fn filtered(&self, records: usize) {
        self.filtered_records.add(records);
    }

    pub(super) fn decode_timer(&self) -> datafusion::physical_plan::metrics::ScopedTimerGuard<'_> {
        self.decode.timer()
    }
}
