//! What a scan counts, for EXPLAIN ANALYZE and for progress displays.

use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, Time,
};

use super::position::Step;
use crate::client::RawBatch;

/// The counter of offsets that the position has passed; [`super::ScanProgress`] reads it.
pub(super) const OFFSETS: &str = "offsets_read";
/// The counter of records received.
pub(super) const RECORDS: &str = "records";
/// The counter of payload bytes received.
pub(super) const BYTES: &str = "bytes_read";
/// The counter of offsets below the log start that were skipped by choice.
pub(super) const LOST: &str = "lost_offsets";

/// The time of waiting for the broker.
const FETCH_WAIT: &str = "fetch_wait";
/// The time of building columns.
const DECODE: &str = "decode_time";
/// The time that brokers held the client back.
pub(super) const THROTTLE: &str = "throttle_time";
/// Those of the scan's own that are times.
pub(super) const TIMES: [&str; 3] = [FETCH_WAIT, DECODE, THROTTLE];
/// The counter of records that do not decode.
pub(super) const BAD_ROWS: &str = "bad_rows";

/// The metrics of one execution partition.
#[derive(Debug)]
pub(super) struct ScanMetrics {
    /// Output rows and the time spent in this node.
    pub(super) baseline: BaselineMetrics,
    /// Offsets that the position has passed, with or without a visible record.
    offsets: Count,
    /// Records that the client delivered.
    records: Count,
    /// Offsets without a visible record: the sum of the next four and of those that are lost.
    skipped_offsets: Count,
    /// Control records.
    control_offsets: Count,
    /// Records of aborted transactions.
    aborted_offsets: Count,
    /// Offsets that hold nothing.
    gap_offsets: Count,
    /// One of these three: the client cannot tell which.
    untold_offsets: Count,
    /// Offsets that lay below the log start and were skipped because the user allowed it.
    lost_offsets: Count,
    /// Records outside the `@T1:T2` of the table's range, or ruled out by the scan's conditions.
    filtered_records: Count,
    /// Records that do not decode, where that is no error.
    bad_rows: Count,
    /// Payload bytes that the client received for the records.
    bytes: Count,
    /// Waiting for the broker.
    fetch_wait: Time,
    /// Building columns, in the client and here.
    decode: Time,
    /// Being held back by the brokers' quotas.
    throttle: Time,
}

impl ScanMetrics {
    pub(super) fn new(set: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let counter = |name: &'static str| MetricBuilder::new(set).counter(name, partition);
        Self {
            baseline: BaselineMetrics::new(set, partition),
            offsets: counter(OFFSETS),
            records: counter(RECORDS),
            skipped_offsets: counter("skipped_offsets"),
            control_offsets: counter("control_offsets"),
            aborted_offsets: counter("aborted_offsets"),
            gap_offsets: counter("gap_offsets"),
            untold_offsets: counter("untold_offsets"),
            lost_offsets: counter(LOST),
            filtered_records: counter("filtered_records"),
            bad_rows: counter(BAD_ROWS),
            bytes: counter(BYTES),
            fetch_wait: MetricBuilder::new(set).subset_time(FETCH_WAIT, partition),
            decode: MetricBuilder::new(set).subset_time(DECODE, partition),
            throttle: MetricBuilder::new(set).subset_time(THROTTLE, partition),
        }
    }

    /// Counts what the client delivered; `step` lies between the position before and after.
    pub(super) fn received(&self, raw: &RawBatch, step: Step) {
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let (passed, lost) = (raw.passed, u64::try_from(raw.lost_offsets).unwrap_or(0));
        self.records.add(raw.offsets.len());
        self.offsets.add(count(step.offsets()));
        self.skipped_offsets
            .add(count(passed.total() - passed.filtered + lost));
        self.control_offsets.add(count(passed.control));
        self.aborted_offsets.add(count(passed.aborted));
        self.gap_offsets.add(count(passed.gap));
        self.untold_offsets.add(count(passed.untold));
        self.lost_offsets.add(count(lost));
        self.filtered_records.add(count(passed.filtered));
        self.bytes.add(raw.bytes + raw.passed_bytes);
        self.fetch_wait
            .add_duration(std::time::Duration::from_nanos(raw.fetch_wait_ns));
        self.decode
            .add_duration(std::time::Duration::from_nanos(raw.decode_ns));
        if raw.throttle_ns > 0 {
            self.throttle
                .add_duration(std::time::Duration::from_nanos(raw.throttle_ns));
        }
    }

    pub(super) fn filtered(&self, records: usize) {
        self.filtered_records.add(records);
    }

    pub(super) fn bad(&self, records: usize) {
        self.bad_rows.add(records);
    }

    pub(super) fn decode_timer(&self) -> datafusion::physical_plan::metrics::ScopedTimerGuard<'_> {
        self.decode.timer()
    }
}
