//! Metrics in Prometheus' text format.
//!
//! All numbers come from the [`Board`], so that they are those of the API. How far a job is behind is asked of the
//! cluster before each answer. The PostgreSQL port adds its own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, NoLabelSet,
    prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::job::{Board, JobState, Measured, PHASES, age, now_ms};
use crate::process;

/// The type of the answer.
pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// The label of all partitions of a job that have none of their own.
const OTHER: &str = "other";

/// The metrics of all jobs, of the PostgreSQL port and of the process, now.
pub async fn text(board: &Arc<Board>) -> String {
    // What was known before stays; the job itself says what is wrong.
    board.glance().await;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Answer(Arc::clone(board))));
    if let Some(postgres) = board.postgres() {
        postgres.register(&mut registry);
    }
    let mut text = String::new();
    // Writing to a text does not fail.
    let _ = prometheus_text::encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Answer(Arc<Board>);

impl Collector for Answer {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let monitors = self.0.monitors();
        let jobs: Vec<(&str, Measured)> = monitors
            .iter()
            .map(|monitor| (monitor.name(), monitor.measured()))
            .collect();
        let to = &mut to;
        let build = [("version", env!("CARGO_PKG_VERSION"))];
        gauge(
            to,
            "kafka_sql_build_info",
            "The version that runs",
            [(build, 1)],
        )?;
        self.states(to, &jobs)?;
        self.lags(to, &jobs)?;
        counts(to, &jobs)?;
        durations(to, &jobs)?;
        process(to)
    }
}

impl Answer {
    fn states(
        &self,
        to: &mut DescriptorEncoder<'_>,
        jobs: &[(&str, Measured)],
    ) -> Result<(), fmt::Error> {
        let states = jobs.iter().flat_map(|(job, measured)| {
            JobState::ALL.into_iter().map(move |state| {
                let labels = [("job", *job), ("state", state.name())];
                (labels, i64::from(measured.state == state))
            })
        });
        let help = "What the job does now: one state is 1";
        gauge(to, "kafka_sql_job_state", help, states)?;
        let commits = jobs.iter().filter_map(|(job, measured)| {
            let seconds = seconds(measured.last_commit_ms?);
            Some(([("job", *job)], seconds))
        });
        let help = "When the job has committed a batch last";
        gauge(
            to,
            "kafka_sql_job_last_commit_timestamp_seconds",
            help,
            commits,
        )
    }

    fn lags(
        &self,
        to: &mut DescriptorEncoder<'_>,
        jobs: &[(&str, Measured)],
    ) -> Result<(), fmt::Error> {
        let mut records = vec![];
        let mut ages = vec![];
        for (job, measured) in jobs {
            for ((topic, partition), lag) in partitions(measured, self.0.max_partition_labels()) {
                let labels = [
                    ("job", (*job).to_owned()),
                    ("topic", topic),
                    ("partition", partition),
                ];
                if let Some(age) = lag.age {
                    ages.push((labels.clone(), age));
                }
                records.push((labels, lag.records));
            }
        }
        let help = "Offsets that are not delivered yet";
        gauge(to, "kafka_sql_job_lag_records", help, records)?;
        let help = "The age of the first record that is not delivered yet, by its timestamp";
        gauge(to, "kafka_sql_job_lag_seconds", help, ages)
    }
}

/// How far a label is behind.
#[derive(Clone, Copy)]
struct Lag {
    records: i64,
    /// `None` where it is not known.
    age: Option<f64>,
}

/// The lags by topic and partition: the `most` that are furthest behind, and the others together.
fn partitions(measured: &Measured, most: usize) -> Vec<((String, String), Lag)> {
    let now_ms = now_ms();
    let lags = measured.lag.iter().flat_map(|lag| &lag.partitions);
    // Two sources of a job may read one topic.
    let mut by_partition: BTreeMap<(String, i32), Lag> = BTreeMap::new();
    for lag in lags {
        let key = (lag.partition.topic.to_string(), lag.partition.partition);
        let more = Lag {
            records: lag.behind,
            age: age(lag, now_ms),
        };
        by_partition
            .entry(key)
            .and_modify(|known| {
                known.records = known.records.max(more.records);
                known.age = older(known.age, more.age);
            })
            .or_insert(more);
    }
    let mut all: Vec<_> = by_partition.into_iter().collect();
    if all.len() > most {
        all.sort_by_key(|(_, lag)| std::cmp::Reverse(lag.records));
    }
    let others = all.split_off(most.min(all.len()));
    let mut labelled: Vec<_> = all
        .into_iter()
        .map(|((topic, partition), lag)| ((topic, partition.to_string()), lag))
        .collect();
    let others = others.into_iter().map(|(_, lag)| lag);
    if let Some(sum) = others.reduce(|a, b| Lag {
        records: a.records.saturating_add(b.records),
        age: older(a.age, b.age),
    }) {
        labelled.push(((OTHER.to_owned(), OTHER.to_owned()), sum));
    }
    labelled
}

fn older(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

fn counts(to: &mut DescriptorEncoder<'_>, jobs: &[(&str, Measured)]) -> Result<(), fmt::Error> {
    let records = jobs.iter().flat_map(|(job, measured)| {
        let ledger = measured.totals.ledger;
        let classes = datafusion_kafka::range::LedgerCounts::NAMES;
        let classes = classes.into_iter().zip(ledger.values());
        classes.map(move |(class, count)| ([("job", *job), ("class", class)], count))
    });
    let help = "What became of the offsets that were read, by class of the ledger";
    counter(to, "kafka_sql_job_records", help, records)?;
    let of = |count: fn(&Measured) -> u64| {
        let jobs = jobs.iter();
        jobs.map(move |(job, measured)| ([("job", *job)], count(measured)))
    };
    let help = "Records that did not decode";
    let bad_rows = of(|measured| measured.totals.bad_rows);
    counter(to, "kafka_sql_job_bad_rows", help, bad_rows)?;
    let batches = jobs.iter().flat_map(|(job, measured)| {
        let totals = &measured.totals;
        [
            ([("job", *job), ("result", "committed")], totals.committed),
            ([("job", *job), ("result", "failed")], totals.failed),
        ]
    });
    let help = "Batches that were committed, and ends of the job with an error";
    counter(to, "kafka_sql_job_batches", help, batches)?;
    let rows = jobs.iter().flat_map(|(job, measured)| {
        let rows = measured.totals.rows.iter();
        rows.map(move |(sink, rows)| ([("job", *job), ("sink", sink.as_str())], *rows))
    });
    let help = "Rows that were committed";
    counter(to, "kafka_sql_job_sink_rows", help, rows)?;
    let help = "Attempts at batches that were repeated";
    let retries = of(|measured| measured.totals.retries);
    counter(to, "kafka_sql_job_retries", help, retries)
}

fn durations(to: &mut DescriptorEncoder<'_>, jobs: &[(&str, Measured)]) -> Result<(), fmt::Error> {
    let mut metric = to.encode_descriptor(
        "kafka_sql_job_batch_duration_seconds",
        "How long committed batches took, by phase",
        None,
        MetricType::Histogram,
    )?;
    for (job, measured) in jobs {
        for ((phase, _), durations) in PHASES.iter().zip(&measured.durations) {
            let labels = [("job", *job), ("phase", *phase)];
            durations.encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn process(to: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let usage = process::usage();
    if let Some(seconds) = usage.cpu_seconds {
        to.encode_descriptor(
            "process_cpu_seconds",
            "CPU time of the process",
            None,
            MetricType::Counter,
        )?
        .encode_counter::<NoLabelSet, _, f64>(&seconds, None)?;
    }
    for (name, help, value) in usage.gauges() {
        if let Some(value) = value {
            to.encode_descriptor(name, help, None, MetricType::Gauge)?
                .encode_gauge(&value)?;
        }
    }
    Ok(())
}

fn gauge<L: AsRef<str>, V: EncodeGaugeValue, const N: usize>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = ([(&'static str, L); N], V)>,
) -> Result<(), fmt::Error> {
    let mut metric = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        let labels = labels
            .each_ref()
            .map(|(name, label)| (*name, label.as_ref()));
        metric.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

/// The format adds `_total` to the name.
fn counter<L: AsRef<str>, V: EncodeCounterValue, const N: usize>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = ([(&'static str, L); N], V)>,
) -> Result<(), fmt::Error> {
    let mut metric = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        let labels = labels
            .each_ref()
            .map(|(name, label)| (*name, label.as_ref()));
        metric
            .encode_family(&labels)?
            .encode_counter::<NoLabelSet, _, f64>(&value, None)?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of our times fit")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1e3
}

#[cfg(test)]
mod tests;
