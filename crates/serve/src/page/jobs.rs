//! The pages of jobs, made of what is known of them.

use std::collections::BTreeMap;

use askama::Template;
use datafusion_kafka::driver::{BatchProgress, PartitionLag};
use datafusion_kafka::sink::Ends;

use super::chart::{self, Bars, Chart};
use super::words::{When, duration, number, rate, seconds, segment, shown};
use super::{VERSION, advice};
use crate::job::{JobError, JobState, JobStatus, age, now_ms};

/// The time over which the rate is measured.
const RATE_MS: i64 = 60_000;

/// Where the page of a job is.
pub(super) fn href(job: &str) -> String {
    format!("/jobs/{}", segment(job))
}

#[derive(Template)]
#[template(path = "jobs.html")]
pub(super) struct Jobs {
    here: &'static str,
    version: &'static str,
    jobs: Vec<Row>,
}

impl Jobs {
    pub(super) fn new(jobs: &[JobStatus]) -> Self {
        let now_ms = now_ms();
        Self {
            here: "jobs",
            version: VERSION,
            jobs: jobs.iter().map(|job| Row::new(job, now_ms)).collect(),
        }
    }
}

/// What both pages say of a job.
struct Row {
    name: String,
    href: String,
    state: &'static str,
    behind: String,
    late: String,
    rate: String,
    last_commit: When,
    spark: Bars,
    problem: Option<String>,
}

impl Row {
    fn new(job: &JobStatus, now_ms: i64) -> Self {
        let batches: Vec<&BatchProgress> = job.batches.iter().map(AsRef::as_ref).collect();
        let href = href(&job.name);
        let unknown = || "?".to_owned();
        Self {
            name: shown(&job.name),
            state: job.state.name(),
            behind: job
                .lag
                .as_ref()
                .map_or_else(unknown, |lag| number(lag.behind())),
            late: job
                .lag
                .as_ref()
                .map_or_else(unknown, |lag| seconds(lag.seconds(now_ms))),
            rate: rate(records_per_second(&batches, now_ms)),
            last_commit: When::new(job.last_commit_ms, now_ms),
            spark: chart::spark(&href, &batches),
            problem: trouble(job).map(|problem| problem.message),
            href,
        }
    }
}

/// Records a second of the batches that ended within the last minute.
fn records_per_second(batches: &[&BatchProgress], now_ms: i64) -> f64 {
    let recent = batches.iter().filter(|batch| {
        let passed = now_ms.saturating_sub(ended_ms(batch));
        (0..RATE_MS).contains(&passed)
    });
    let records = recent.fold(0, |sum: u64, batch| sum.saturating_add(batch.records()));
    #[expect(clippy::cast_precision_loss, reason = "a rate to look at")]
    let records = records as f64;
    records * 1_000.0 / RATE_MS as f64
}

/// When a batch was committed, in ms since the epoch.
fn ended_ms(batch: &BatchProgress) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "cut where it is too large")]
    let lasted_ms = batch.duration_ms as i64;
    batch.created_ms.saturating_add(lasted_ms)
}

#[derive(Template)]
#[template(path = "job.html")]
pub(super) struct Job {
    here: &'static str,
    version: &'static str,
    job: Row,
    trigger: String,
    file: String,
    connection: String,
    since: When,
    actions: Vec<Button>,
    may_act: bool,
    trouble: Option<Trouble>,
    committed: String,
    failed: String,
    retries: String,
    lost: String,
    bad: String,
    charts: Vec<Chart>,
    batches: Vec<BatchRow>,
    partitions: Vec<Partition>,
    sinks: Vec<Sink>,
    errors: Vec<ErrorRow>,
}

/// What somebody may do.
struct Button {
    path: String,
    label: &'static str,
}

/// What is wrong now.
struct Trouble {
    message: String,
    advice: Option<&'static str>,
    next: Option<When>,
}

struct BatchRow {
    number: u64,
    href: String,
    at: When,
    records: String,
    rows: String,
    duration: String,
    retries: u32,
}

struct Partition {
    name: String,
    href: String,
    position: String,
    log_end: String,
    behind: String,
    late: String,
    lost: String,
    bad: String,
}

struct Sink {
    target: String,
    rows: String,
    batch: Option<u64>,
    ends: Vec<String>,
}

struct ErrorRow {
    at: When,
    batch: Option<u64>,
    place: Option<Place>,
    outcome: String,
    message: String,
    advice: Option<&'static str>,
}

/// A record, or where it should be.
struct Place {
    name: String,
    href: String,
}

impl Job {
    pub(super) fn new(job: &JobStatus, ends: &Ends, may_act: bool) -> Self {
        let now_ms = now_ms();
        let batches: Vec<&BatchProgress> = job.batches.iter().map(AsRef::as_ref).collect();
        let row = Row::new(job, now_ms);
        Self {
            here: "jobs",
            version: VERSION,
            trigger: job.trigger.clone(),
            file: shown(&job.file),
            connection: shown(&job.connection),
            since: When::new(Some(job.since_ms), now_ms),
            actions: actions(job),
            may_act,
            trouble: trouble(job),
            committed: number(job.totals.committed),
            failed: number(job.totals.failed),
            retries: number(job.totals.retries),
            lost: number(job.totals.ledger.lost),
            bad: number(job.totals.bad_rows),
            charts: chart::of_batches(&row.href, &batches),
            batches: batches
                .iter()
                .rev()
                .map(|batch| BatchRow {
                    number: batch.batch,
                    href: format!("{}/batches/{}", row.href, batch.batch),
                    at: When::new(Some(ended_ms(batch)), now_ms),
                    records: number(batch.records()),
                    rows: number(batch.rows()),
                    duration: duration(batch.duration_ms),
                    retries: batch.retries,
                })
                .collect(),
            partitions: partitions(job, &batches, now_ms),
            sinks: sinks(job, &batches, ends),
            errors: job
                .errors
                .iter()
                .rev()
                .map(|error| ErrorRow::new(error, now_ms))
                .collect(),
            job: row,
        }
    }
}

fn actions(job: &JobStatus) -> Vec<Button> {
    let names: &[(&str, &str)] = match job.state {
        JobState::Paused | JobState::Stopped => &[("resume", "Resume")],
        JobState::Failed | JobState::Retrying => {
            &[("retry", "Retry now"), ("pause", "Pause"), ("stop", "Stop")]
        }
        _ => &[("pause", "Pause"), ("stop", "Stop after this batch")],
    };
    let button = |(action, label): &(&str, &'static str)| Button {
        path: format!("/api/jobs/{}/{action}", segment(&job.name)),
        label,
    };
    names.iter().map(button).collect()
}

/// The error that keeps the job from going on, or why it counts as stuck.
fn trouble(job: &JobStatus) -> Option<Trouble> {
    let now_ms = now_ms();
    let next = job.next_attempt_ms.map(|ms| When::new(Some(ms), now_ms));
    if matches!(job.state, JobState::Failed | JobState::Retrying)
        && let Some(error) = job.errors.last()
    {
        return Some(Trouble {
            message: shown(&error.problem.message),
            advice: advice::of(error.problem.kind),
            next,
        });
    }
    let stuck = job.stuck.as_ref()?;
    Some(Trouble {
        message: shown(stuck),
        advice: None,
        next,
    })
}

fn partitions(job: &JobStatus, batches: &[&BatchProgress], now_ms: i64) -> Vec<Partition> {
    let mut lost: BTreeMap<(&str, String), i64> = BTreeMap::new();
    let mut bad: BTreeMap<&str, u64> = BTreeMap::new();
    for source in batches.iter().flat_map(|batch| &batch.sources) {
        *bad.entry(&source.source).or_default() += source.bad_rows;
        for gone in &source.lost {
            let key = (source.source.as_str(), gone.partition.to_string());
            *lost.entry(key).or_default() += gone.to.saturating_sub(gone.from).max(0);
        }
    }
    let lags = job.lag.iter().flat_map(|lag| &lag.partitions);
    lags.map(|lag| {
        let name = lag.partition.to_string();
        let gone = lost.get(&(lag.source.as_str(), name.clone()));
        Partition {
            href: next_records_href(lag),
            position: number(lag.position),
            log_end: number(lag.log_end),
            behind: number(lag.behind),
            late: age(lag, now_ms).map_or_else(|| "?".to_owned(), seconds),
            lost: number(gone.copied().unwrap_or_default()),
            bad: number(bad.get(lag.source.as_str()).copied().unwrap_or_default()),
            name: match lag.source == *lag.partition.topic {
                true => shown(&name),
                false => shown(&format!("{}: {name}", lag.source)),
            },
        }
    })
    .collect()
}

/// How many records a link shows at most.
const MOST_RECORDS: i64 = 20;

/// The page of a topic, with the first records of a range.
pub(super) fn records_href(topic: &str, partition: i32, start: i64, end: i64) -> String {
    let end = end.min(start.saturating_add(MOST_RECORDS));
    let range = format!("{partition}={start}:{end}");
    format!("/topics/{}?range={}", segment(topic), segment(&range))
}

/// The same with what a job delivers next, or else with the last records.
fn next_records_href(lag: &PartitionLag) -> String {
    let (topic, partition) = (&lag.partition.topic, lag.partition.partition);
    if lag.behind > 0 {
        let start = lag.log_end.saturating_sub(lag.behind);
        return records_href(topic, partition, start, lag.log_end);
    }
    let range = format!("{partition}=-{MOST_RECORDS}");
    format!("/topics/{}?range={}", segment(topic), segment(&range))
}

fn sinks(job: &JobStatus, batches: &[&BatchProgress], ends: &Ends) -> Vec<Sink> {
    let mut rows = job.totals.rows.clone();
    for sink in batches.last().iter().flat_map(|batch| &batch.sinks) {
        rows.entry(sink.target.clone()).or_default();
    }
    let ends: Vec<String> = ends
        .iter()
        .map(|(partition, position)| shown(&format!("{partition} {}", position.next)))
        .collect();
    rows.into_iter()
        .map(|(target, rows)| {
            let writes = |batch: &&&BatchProgress| batch.sinks.iter().any(|s| s.target == target);
            Sink {
                batch: batches.iter().rev().find(writes).map(|batch| batch.batch),
                ends: ends.clone(),
                rows: number(rows),
                target: shown(&target),
            }
        })
        .collect()
}

impl ErrorRow {
    fn new(error: &JobError, now_ms: i64) -> Self {
        let problem = &error.problem;
        let place = problem.topic.as_ref().map(|topic| {
            let partition = problem.partition.unwrap_or_default();
            match problem.offset {
                Some(offset) => Place {
                    name: shown(&format!("{topic}[{partition}]@{offset}")),
                    href: records_href(topic, partition, offset, offset.saturating_add(1)),
                },
                None => Place {
                    name: shown(&format!("{topic}[{partition}]")),
                    href: format!("/topics/{}", segment(topic)),
                },
            }
        });
        #[expect(clippy::cast_precision_loss, reason = "a pause to look at")]
        let wait = duration(error.wait_ms as f64);
        Self {
            at: When::new(Some(error.at_ms), now_ms),
            batch: error.batch,
            place,
            outcome: match error.retrying {
                true => format!("the batch was tried again after {wait}"),
                false => format!("the job started again after {wait}"),
            },
            message: shown(&problem.message),
            advice: advice::of(problem.kind),
        }
    }
}
