//! One job, as its driver and its supervisor tell of it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datafusion_kafka::driver::{
    BatchProgress, CommitRecord, Intent, Lags, ProgressListener, Reads, Retry,
};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tokio::sync::broadcast;

use super::reading::Reading;
use super::{Event, JobError, JobLag, JobState, JobStatus, PHASES, RunningBatch, Totals, now_ms};
use crate::config::JobConfig;
use crate::logs::{self, Fields};
use crate::problem::Problem;

/// How often the batches of a job are worth a line in the log.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// How long the cluster may take to say how far a job is behind.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// How long whoever asks for the job waits for that. What comes later is an event.
const GLANCE_WITHIN: Duration = Duration::from_millis(500);
/// How old what the cluster has said may be for whoever asks for the job.
const YOUNG: Duration = Duration::from_secs(1);

/// Knows one job: listens to its driver, and answers everybody else.
pub struct Monitor {
    name: Arc<str>,
    events: broadcast::Sender<Event>,
    /// How many batches and errors are kept.
    history: usize,
    known: Mutex<Known>,
    /// One look at the cluster at a time.
    look: tokio::sync::Mutex<()>,
    durations: [Histogram; PHASES.len()],
}

/// What changes.
#[derive(Debug)]
struct Known {
    config: JobConfig,
    state: JobState,
    since_ms: i64,
    running: Option<RunningBatch>,
    /// How far the batch that runs, or was tried last, has read.
    reading: Reading,
    last_commit_ms: Option<i64>,
    /// When a batch was committed, or nothing new was found.
    last_progress: Option<(Instant, i64)>,
    /// When the present state was entered, or again.
    begun: Instant,
    /// When the job was started last.
    started: Instant,
    next_attempt_ms: Option<i64>,
    totals: Totals,
    lags: Option<Lags>,
    lag: Option<Arc<JobLag>>,
    /// When the cluster was asked last, also if it did not answer.
    looked: Option<Instant>,
    /// Whether a batch was committed since the cluster was asked.
    moved: bool,
    batches: VecDeque<Arc<BatchProgress>>,
    errors: VecDeque<Arc<JobError>>,
    /// What the log has not said yet.
    unsaid: Totals,
    said: Option<Instant>,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Monitor {
    pub(super) fn new(
        name: &str,
        config: JobConfig,
        events: broadcast::Sender<Event>,
        history: usize,
    ) -> Self {
        let buckets = || Histogram::new(exponential_buckets(0.001, 4.0, 10));
        Self {
            name: name.into(),
            events,
            history,
            known: Mutex::new(Known {
                config,
                state: JobState::Starting,
                since_ms: now_ms(),
                running: None,
                reading: Reading::default(),
                last_commit_ms: None,
                last_progress: None,
                begun: Instant::now(),
                started: Instant::now(),
                next_attempt_ms: None,
                totals: Totals::default(),
                lags: None,
                lag: None,
                looked: None,
                moved: false,
                batches: VecDeque::new(),
                errors: VecDeque::new(),
                unsaid: Totals::default(),
                said: None,
            }),
            look: tokio::sync::Mutex::default(),
            durations: std::array::from_fn(|_| buckets()),
        }
    }

    /// The job's name: that of its section in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the job does now.
    pub fn state(&self) -> JobState {
        self.known().state
    }

    /// The job's settings.
    pub fn config(&self) -> JobConfig {
        self.known().config.clone()
    }

    /// All that is known.
    pub fn status(&self) -> JobStatus {
        let mut known = self.known();
        known.reading.look();
        JobStatus {
            name: self.name.to_string(),
            job: known.config.name.clone().unwrap_or(self.name.to_string()),
            file: known.config.file.display().to_string(),
            connection: known.config.connection.clone(),
            checkpoint: known.config.checkpoint(),
            trigger: known.config.trigger_text(),
            state: known.state,
            since_ms: known.since_ms,
            running: known.running.clone(),
            last_commit_ms: known.last_commit_ms,
            last_progress_ms: known.last_progress.map(|(_, ms)| ms),
            next_attempt_ms: known.next_attempt_ms,
            deadline_ms: u64::try_from(known.config.deadline().as_millis()).unwrap_or(u64::MAX),
            stuck: known.stuck(),
            totals: known.totals.clone(),
            lag: known.lag.as_deref().cloned(),
            batches: known.batches.iter().cloned().collect(),
            errors: known.errors.iter().cloned().collect(),
        }
    }

    /// Why the job is not ready: it has never made progress, or not within its deadline. A batch that reads on makes
    /// progress.
    pub fn not_ready(&self) -> Option<String> {
        let mut known = self.known();
        known.reading.look();
        match known.progressed() {
            _ if known.state.is_at_rest() => None,
            None => Some(format!("has not looked yet{}", known.why())),
            Some(_) => known.stuck(),
        }
    }

    /// Whether a batch or the start of the job hangs: it neither ends, fails nor reads on within the deadline. A cluster
    /// or a sink that is down makes no job hang.
    pub fn hangs(&self) -> bool {
        let mut known = self.known();
        known.reading.look();
        let since = known.reading.moved().max(Some(known.begun));
        matches!(known.state, JobState::Starting | JobState::Running)
            && since.is_some_and(|since| since.elapsed() > known.config.deadline())
    }

    /// Whether the job has committed or found nothing new since it was started last.
    pub(crate) fn progressed_since_start(&self) -> bool {
        let known = self.known();
        known
            .last_progress
            .is_some_and(|(at, _)| at >= known.started)
    }

    /// What metrics show, as of one moment.
    pub(crate) fn measured(&self) -> Measured {
        let known = self.known();
        Measured {
            state: known.state,
            last_commit_ms: known.last_commit_ms,
            lag: known.lag.clone(),
            totals: known.totals.clone(),
            durations: self.durations.clone(),
        }
    }

    /// Asks the cluster how far the job is behind, and waits no longer than whoever asks for the job should: what was
    /// known before stays.
    pub(crate) async fn glance(self: &Arc<Self>) {
        let monitor = Arc::clone(self);
        // It goes on when nobody waits any more, so that others share its end.
        let looking = tokio::spawn(async move {
            if let Err(problem) = monitor.look(YOUNG).await {
                log::debug!("how far {} is behind: {problem}", monitor.name);
            }
        });
        let _ = tokio::time::timeout(GLANCE_WITHIN, looking).await;
    }

    /// Asks the cluster how far the job is behind, unless it was asked less than `young` ago.
    ///
    /// # Errors
    /// When the cluster does not answer; what was known before stays.
    pub async fn look(&self, young: Duration) -> Result<(), Problem> {
        let _one = self.look.lock().await;
        let (lags, earlier) = {
            let mut known = self.known();
            let is_young = known.looked.is_some_and(|at| at.elapsed() < young);
            if is_young && !std::mem::take(&mut known.moved) {
                return Ok(());
            }
            let Some(lags) = known.lags.clone() else {
                return Ok(());
            };
            known.moved = false;
            (lags, known.lag.clone())
        };
        let earlier = earlier.as_deref().map_or(&[][..], |lag| &lag.partitions);
        let looked = tokio::time::timeout(2 * LOOK_WITHIN, lags.look(earlier, LOOK_WITHIN)).await;
        self.known().looked = Some(Instant::now());
        let partitions = looked
            .map_err(|_| Problem::new("the cluster does not say in time where its logs end"))??;
        if partitions.is_empty() {
            return Ok(());
        }
        let lag = Arc::new(JobLag {
            at_ms: now_ms(),
            partitions,
        });
        self.known().lag = Some(Arc::clone(&lag));
        self.tell(Event::Lag {
            job: Arc::clone(&self.name),
            lag,
        });
        Ok(())
    }

    /// Gives the job other settings.
    pub(crate) fn set_config(&self, config: JobConfig) {
        self.known().config = config;
    }

    /// The job is planned: this tells how far it is behind, and these are its batches before this process.
    pub fn planned(&self, lags: Lags, before: Vec<CommitRecord>) {
        let mut known = self.known();
        known.lags = Some(lags);
        if known.batches.is_empty() {
            known.last_commit_ms = before.last().map(|record| record.committed_ms);
            let before = before.into_iter().map(|record| Arc::new(record.progress));
            known.batches = before.collect();
        }
    }

    /// The job does something else now.
    pub fn set_state(&self, state: JobState) {
        let mut known = self.known();
        if !matches!(state, JobState::Running | JobState::Retrying) {
            known.running = None;
        }
        if state != JobState::Failed {
            known.next_attempt_ms = None;
        }
        known.begun = Instant::now();
        if state == JobState::Starting {
            known.started = known.begun;
        }
        if known.state == state {
            return;
        }
        known.state = state;
        known.since_ms = now_ms();
        drop(known);
        log::debug!("{}: {}", self.name, state.name());
        self.tell(Event::State {
            job: Arc::clone(&self.name),
            state,
        });
    }

    /// The job has ended with an error, and is started again after a pause.
    pub fn failed(&self, problem: Problem, failed: u32, wait: Duration) {
        let error = {
            let mut known = self.known();
            known.totals.failed += 1;
            JobError {
                at_ms: now_ms(),
                batch: known.running.as_ref().map(|running| running.batch),
                retrying: false,
                failed,
                wait_ms: millis(wait),
                problem,
            }
        };
        self.set_state(JobState::Failed);
        self.note(error);
    }

    fn note(&self, error: JobError) {
        let wait = Duration::from_millis(error.wait_ms).as_secs_f64();
        let next = match error.retrying {
            true => format!("the batch is tried again in {wait:.1} s"),
            false => format!("the job starts again in {wait:.1} s"),
        };
        let message = format!("{}: {}; {next}", self.name, error.problem);
        let fields = Fields::of(&self.name)
            .batch(error.batch)
            .problem(&error.problem);
        match error.retrying {
            true => logs::with(fields, || log::warn!(target: logs::JOBS, "{message}")),
            false => logs::with(fields, || log::error!(target: logs::JOBS, "{message}")),
        }
        let error = Arc::new(error);
        {
            let mut known = self.known();
            known.next_attempt_ms = now_ms().checked_add_unsigned(error.wait_ms);
            push(&mut known.errors, Arc::clone(&error), self.history);
        }
        self.tell(Event::Error {
            job: Arc::clone(&self.name),
            error,
        });
    }

    fn tell(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What metrics show of a job.
pub(crate) struct Measured {
    pub(crate) state: JobState,
    pub(crate) last_commit_ms: Option<i64>,
    pub(crate) lag: Option<Arc<JobLag>>,
    pub(crate) totals: Totals,
    /// By [`PHASES`].
    pub(crate) durations: [Histogram; PHASES.len()],
}

impl Known {
    /// When a batch was committed, nothing new was found, or the batch that runs had read more, as far as was looked.
    fn progressed(&self) -> Option<Instant> {
        let ended = self.last_progress.map(|(at, _)| at);
        ended.max(self.reading.moved())
    }

    fn stuck(&self) -> Option<String> {
        let since = self.progressed().unwrap_or(self.begun);
        let waited = since.elapsed();
        if self.state.is_at_rest() || waited <= self.config.deadline() {
            return None;
        }
        let waited = waited.as_secs();
        Some(format!("no progress for {waited} s{}", self.why()))
    }

    /// What the job is at, and its last error, which names the partition.
    fn why(&self) -> String {
        let mut why = String::new();
        if let Some(running) = &self.running {
            why = format!(", batch {} {}", running.batch, self.reading);
        } else if let Some(lag) = &self.lag {
            let oldest = lag.partitions.iter().filter(|lag| lag.behind > 0);
            if let Some(oldest) = oldest.min_by_key(|lag| lag.waiting_since_ms.unwrap_or(i64::MAX))
            {
                why = format!(", {}@{} waits", oldest.partition, oldest.position);
            }
        }
        let is_failing = matches!(self.state, JobState::Failed | JobState::Retrying);
        if let Some(error) = self.errors.back().filter(|_| is_failing) {
            why = format!("{why}: {}", error.problem);
        }
        why
    }
}

fn push<T>(list: &mut VecDeque<T>, item: T, most: usize) {
    list.push_back(item);
    while list.len() > most {
        list.pop_front();
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl ProgressListener for Monitor {
    fn began(&self, intent: &Intent) {
        let ranges = intent.sources.iter().flat_map(|s| s.snapshot.ranges());
        let ranges = ranges.map(|range| range.range.clone());
        let ranges: Vec<_> = ranges.filter(|range| !range.is_empty()).collect();
        {
            let mut known = self.known();
            known.reading.begin(intent.batch, &ranges);
            known.running = Some(RunningBatch {
                batch: intent.batch,
                since_ms: now_ms(),
                ranges,
            });
        }
        self.set_state(JobState::Running);
    }

    fn reads(&self, reads: &Reads) {
        self.known().reading.follow(reads.clone());
    }

    fn committed(&self, progress: &BatchProgress) {
        for ((_, phase), durations) in PHASES.iter().zip(&self.durations) {
            durations.observe(phase(&progress.phases_ms) / 1e3);
        }
        let progress = Arc::new(progress.clone());
        let said = {
            let mut known = self.known();
            known.moved = true;
            known.totals.add(&progress);
            known.unsaid.add(&progress);
            known.last_commit_ms = Some(now_ms());
            known.last_progress = Some((Instant::now(), now_ms()));
            push(&mut known.batches, Arc::clone(&progress), self.history);
            let is_due = known.said.is_none_or(|said| said.elapsed() >= SAID_EVERY);
            is_due.then(|| {
                known.said = Some(Instant::now());
                std::mem::take(&mut known.unsaid)
            })
        };
        let fields = Fields::of(&self.name).batch(Some(progress.batch));
        logs::with(fields, || {
            let (name, batch) = (&self.name, progress.batch);
            if let Some(said) = said {
                let (batches, records) = (said.committed, said.records);
                let rows: u64 = said.rows.values().sum();
                log::info!(
                    target: logs::JOBS,
                    "{name}: committed batch {batch} ({batches} since the last line, {records} records in, {rows} rows out)"
                );
            }
            let lost: u64 = progress.sources.iter().map(|s| s.lost_offsets).sum();
            if lost > 0 {
                log::warn!(target: logs::JOBS, "{name}: batch {batch}: {lost} offsets were gone and are missing in the sinks");
            }
        });
        self.set_state(JobState::Idle);
        self.tell(Event::Batch {
            job: Arc::clone(&self.name),
            progress,
        });
    }

    fn retrying(&self, retry: &Retry<'_>) {
        {
            let mut known = self.known();
            known.totals.retries += 1;
        }
        self.set_state(JobState::Retrying);
        self.note(JobError {
            at_ms: now_ms(),
            batch: retry.batch,
            retrying: true,
            failed: retry.failed,
            wait_ms: retry.wait_ms,
            problem: Problem::from(retry.error),
        });
    }

    fn idle(&self) {
        self.known().last_progress = Some((Instant::now(), now_ms()));
        self.set_state(JobState::Idle);
    }
}

#[cfg(test)]
mod tests;
