//! What a scan counted on another machine, and how it becomes part of the scan that was planned here.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{
    ExecutionPlanMetricsSet, MetricBuilder, MetricValue, MetricsSet,
};
use serde::{Deserialize, Serialize};

use super::estimate::Amount;
use super::{KafkaScanExec, metrics};
use crate::error::{Error, ErrorKind, Result};
use crate::range::{Ledger, RangeLedger, TopicPartition};

/// What a scan has counted so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanReport {
    /// The ledgers of its ranges.
    pub ranges: Vec<RangeLedger>,
    /// Its metrics by name, summed over execution partitions; times in ns.
    pub metrics: BTreeMap<String, u64>,
    /// What was received of its Kafka partitions.
    #[serde(default)]
    pub received: Vec<PartitionBytes>,
    /// One of its records that do not decode, and what is wrong with it, where their number is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_example: Option<String>,
}

/// What was received of a Kafka partition: how large its records are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionBytes {
    /// The partition.
    #[serde(flatten)]
    pub partition: TopicPartition,
    /// The offsets that were passed.
    pub offsets: u64,
    /// The bytes of their records, as they came.
    pub bytes: u64,
}

/// An error of a scan, as it travels between machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanFailure {
    kind: ErrorKind,
    message: String,
    transient: bool,
}

impl ScanFailure {
    /// What travels of an error.
    pub fn of(error: &Error) -> Self {
        Self {
            kind: error.kind(),
            message: error.to_string(),
            transient: error.may_pass(),
        }
    }

    /// The error here, which came from this machine.
    pub fn on(self, machine: String) -> Error {
        Error::Elsewhere {
            machine,
            kind: self.kind,
            message: self.message,
            transient: self.transient,
        }
    }
}

impl KafkaScanExec {
    /// What the scan has counted in its last execution; cheap, and callable while it runs.
    pub fn report(&self) -> ScanReport {
        let mut metrics: BTreeMap<String, u64> = BTreeMap::new();
        for metric in self.metrics().iter().flat_map(MetricsSet::iter) {
            // Moments cannot be added.
            if !matches!(
                metric.value(),
                MetricValue::StartTimestamp(_) | MetricValue::EndTimestamp(_)
            ) {
                let value = u64::try_from(metric.value().as_usize()).unwrap_or(u64::MAX);
                *metrics.entry(metric.value().name().to_owned()).or_default() += value;
            }
        }
        ScanReport {
            ranges: self.ledger().ranges,
            metrics,
            received: self.received(),
            bad_example: self.counted.bad_rows.example().map(str::to_owned),
        }
    }

    fn received(&self) -> Vec<PartitionBytes> {
        let mut sums: BTreeMap<TopicPartition, (u64, u64)> = BTreeMap::new();
        for books in self.counted.books.iter() {
            let books = books.lock().unwrap_or_else(PoisonError::into_inner);
            for (passed, bytes) in books.iter().flat_map(|books| books.bytes()) {
                let (offsets, sum) = sums.entry(passed.topic_partition()).or_default();
                *offsets += u64::try_from(passed.len()).unwrap_or(0);
                *sum += bytes;
            }
        }
        let received = sums.into_iter().filter(|(_, (offsets, _))| *offsets > 0);
        let received = received.map(|(partition, (offsets, bytes))| PartitionBytes {
            partition,
            offsets,
            bytes,
        });
        received.collect()
    }

    /// Takes over what the parts of this scan, which are executed elsewhere, have counted. It replaces what was
    /// taken over before, and what the scan has counted itself.
    pub fn set_reports(&self, reports: Vec<ScanReport>) {
        *self.elsewhere() = reports;
    }

    /// Compares the bad records of all parts with the limit of the table, of which each part knows only its own.
    ///
    /// # Errors
    /// [`Error::BadRowLimit`] when there are more.
    pub fn check_bad_rows(&self, at_end: bool) -> Result<()> {
        let Some(limit) = self.source.decoder.bad_rows().limit else {
            return Ok(());
        };
        let reports = self.elsewhere();
        let sum = |name: &str| reports.iter().filter_map(|r| r.metrics.get(name)).sum();
        let (records, bad) = (sum(metrics::RECORDS), sum(metrics::BAD_ROWS));
        if !limit.is_exceeded(records, bad, at_end) {
            return Ok(());
        }
        let example = reports.iter().find_map(|report| report.bad_example.clone());
        Err(Error::BadRowLimit {
            limit: limit.to_string(),
            records,
            bad,
            example: example.unwrap_or_default(),
        })
    }

    /// What other machines have read of this scan.
    pub(super) fn read_elsewhere(&self) -> Amount {
        let reports = self.elsewhere();
        let sum = |name: &str| reports.iter().filter_map(|r| r.metrics.get(name)).sum();
        Amount {
            records: sum(metrics::RECORDS),
            bytes: sum(metrics::BYTES),
        }
    }

    fn elsewhere(&self) -> MutexGuard<'_, Vec<ScanReport>> {
        let elsewhere = self.counted.elsewhere.lock();
        elsewhere.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ledger_elsewhere(&self) -> Option<Ledger> {
        let reports = self.elsewhere();
        let all: Vec<RangeLedger> = reports.iter().flat_map(|r| r.ranges.clone()).collect();
        (!reports.is_empty()).then(|| Ledger::of_scan(all))
    }

    pub(super) fn metrics_elsewhere(&self) -> Option<MetricsSet> {
        let reports = self.elsewhere();
        if reports.is_empty() {
            return None;
        }
        let set = ExecutionPlanMetricsSet::new();
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, value) in reports.iter().flat_map(|report| &report.metrics) {
            *sums.entry(name).or_default() += value;
        }
        for (name, sum) in sums {
            let count = usize::try_from(sum).unwrap_or(usize::MAX);
            let duration = std::time::Duration::from_nanos(sum);
            match name {
                "output_rows" => MetricBuilder::new(&set).output_rows(0).add(count),
                "elapsed_compute" => MetricBuilder::new(&set)
                    .elapsed_compute(0)
                    .add_duration(duration),
                _ if metrics::TIMES.contains(&name) => MetricBuilder::new(&set)
                    .subset_time(name.to_owned(), 0)
                    .add_duration(duration),
                _ => MetricBuilder::new(&set)
                    .counter(name.to_owned(), 0)
                    .add(count),
            }
        }
        Some(set.clone_inner())
    }
}
