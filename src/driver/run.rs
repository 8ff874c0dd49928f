//! The loop: recover, then batch after batch until the run ends.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::execution::context::SessionContext;
use kafka_arrow::Backoff;
use tokio::sync::watch;

use super::batch::{self, Done, ms};
use super::builder::Retries;
use super::intent::{
    CommitRecord, Intent, SourceIntent, SourceStart, Start, StartPosition, VERSION,
};
use super::job::Plan;
use super::lag::Shown;
use super::log::OffsetLog;
use super::output::OpenOutput;
use super::progress::{BatchProgress, Behind, ProgressListener, Retry, SourceProgress};
use super::recover;
use super::source::{Positions, Source, SourcePolicy};
use super::ticks::Ticks;
use super::window::Window;
use crate::error::{ErrorKind, Result};
use crate::fault;
use crate::table::{KafkaTable, Limits, now_ms};

/// When batches are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trigger {
    /// One batch of everything there is; limits do not apply. Spark's `Once`.
    Once,
    /// Everything that was there at the start, in batches within the limits. Spark's
    /// `AvailableNow`.
    AvailableNow,
    /// A batch on each tick. A tick that comes while a batch runs is skipped, never made up for.
    Every(Duration),
    /// A batch as soon as there is something new.
    Continuous,
}

/// Tells a run to stop; every clone tells the same run.
#[derive(Debug, Clone)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Stop {
    /// A handle that has not told anything yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the batch that runs be the last one.
    pub fn after_this_batch(&self) {
        self.0.send_replace(true);
    }

    /// Whether the run was told to stop.
    pub fn is_stopping(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits, but no longer than until the run is told to stop.
    pub(super) async fn sleep(&self, time: Duration) {
        let mut stopping = self.0.subscribe();
        // The sender lives in `self`, so that waiting for it cannot fail.
        let _ = tokio::time::timeout(time, stopping.wait_for(|stop| *stop)).await;
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunSummary {
    /// Batches that were committed.
    pub batches: u64,
    /// Records that were read.
    pub records: u64,
    /// Rows that were committed, over all sinks.
    pub rows: u64,
}

/// A job that is ready to run; see the [module](crate::driver)'s documentation.
pub struct MicroBatch {
    pub(super) context: SessionContext,
    pub(super) name: String,
    /// 32 hexadecimal digits.
    pub(super) run: String,
    pub(super) plan: Plan,
    pub(super) log: OffsetLog,
    pub(super) trigger: Trigger,
    pub(super) window: Option<Window>,
    pub(super) retries: Retries,
    pub(super) listeners: Vec<Arc<dyn ProgressListener>>,
    pub(super) allow_changed_query: bool,
    /// Whether the run has taken the log over.
    pub(super) owns: bool,
    /// Attempts that have failed since the last batch.
    pub(super) failed: u32,
    /// The batch that was fixed and is not committed.
    pub(super) fixed: Option<u64>,
    /// What the last attempt at this batch had staged, whose commit has failed: it may be there all the same.
    pub(super) unanswered: Option<(Intent, Done)>,
    pub(super) state: State,
    /// The positions for those who ask how far the job is behind.
    pub(super) shown: Shown,
}

impl fmt::Debug for MicroBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MicroBatch")
            .field("name", &self.name)
            .field("run", &self.run)
            .field("log", &self.log)
            .field("trigger", &self.trigger)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Where a job stands.
#[derive(Debug)]
pub(super) enum State {
    /// The sinks were not asked yet, or a batch failed: find out.
    Recover,
    Open(Open),
}

/// A job whose sinks are open.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) outputs: Vec<OpenOutput>,
    pub(super) next: Next,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// This batch was fixed and is not committed.
    Rerun(Box<Intent>),
    /// A batch of this number is to be fixed.
    New(u64),
}

/// How often the owner of a log may lose a race against a driver that it has overtaken: that one
/// stops before its next batch.
const LOST_RACES: u32 = 5;

/// How long the owner leaves such a driver for its last step.
const AFTER_LOST_RACE: Duration = Duration::from_millis(100);

/// How long a run that waits for data sleeps between looks: at first, and at most.
const IDLE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

impl MicroBatch {
    /// The job's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sources: their names in the job, and their tables.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &KafkaTable)> {
        let sources = self.plan.sources.iter();
        sources.map(|source| (source.name.as_str(), &source.table))
    }

    /// The offset log.
    pub fn log(&self) -> &OffsetLog {
        &self.log
    }

    /// Runs batches until the trigger's end or `stop`.
    ///
    /// Dropping the future abandons the batch that runs: the next run repeats it.
    ///
    /// # Errors
    /// [`Error::Conflict`](crate::Error::Conflict) when another driver has gone on with the job or a sink belongs to
    /// another one; what the sources, queries and sinks report. Failures that may pass are retried
    /// first, see [`Retries`].
    pub async fn run(&mut self, stop: &Stop) -> Result<RunSummary> {
        let mut summary = RunSummary::default();
        let mut idle = Backoff::new(IDLE.0, IDLE.1);
        let mut ticks = Ticks::new(self.trigger);
        self.limit_to_trigger();
        while !stop.is_stopping() {
            ticks.wait(stop).await;
            if stop.is_stopping() {
                break;
            }
            let progress = self.step_with_retries(stop).await?;
            if let Some(progress) = &progress {
                summary.batches += 1;
                summary.records += progress.records();
                summary.rows += progress.rows();
                idle.reset();
            }
            match (self.trigger, progress) {
                (Trigger::Once, Some(progress)) if !progress.recovered => break,
                (Trigger::Once | Trigger::AvailableNow, None) => break,
                (Trigger::Continuous, None) => {
                    stop.sleep(idle.pause()).await;
                }
                _ => {}
            }
        }
        Ok(summary)
    }

    /// Makes one batch, if there is anything new: the first one completes what an earlier run
    /// left. `None` when there is nothing to do.
    ///
    /// # Errors
    /// As [`run`](Self::run), without retries.
    pub async fn step(&mut self) -> Result<Option<BatchProgress>> {
        let begun = Instant::now();
        // Until the step has succeeded, a failure or a dropped future leaves the job to be recovered.
        let mut open = match std::mem::replace(&mut self.state, State::Recover) {
            State::Recover => {
                let open = recover::recover(self).await?;
                self.show(&open.next);
                open
            }
            State::Open(open) => open,
        };
        let progress = self.step_open(&mut open, begun).await?;
        self.state = State::Open(open);
        Ok(progress)
    }

    async fn step_open(
        &mut self,
        open: &mut Open,
        begun: Instant,
    ) -> Result<Option<BatchProgress>> {
        let (intent, behind, look_ms, log_ms) = match &open.next {
            Next::Rerun(intent) => (intent.as_ref().clone(), vec![], 0.0, 0.0),
            Next::New(batch) => {
                let Some((intent, behind)) = self.fix(*batch).await? else {
                    for listener in &self.listeners {
                        listener.idle();
                    }
                    return Ok(None);
                };
                let look_ms = ms(begun);
                let logging = Instant::now();
                self.log.check_owner(&self.run).await?;
                self.log.write_intent(&intent).await?;
                fault::point("after-intent");
                let log_ms = ms(logging);
                (intent, behind, look_ms, log_ms)
            }
        };
        self.fixed = Some(intent.batch);
        for listener in &self.listeners {
            listener.began(&intent);
        }
        let attempt = uuid::Uuid::new_v4().simple().to_string();
        let mut done = Done::default();
        let ran = batch::run(
            &self.context,
            &self.plan.sources,
            &mut open.outputs,
            &intent,
            &attempt,
            &self.listeners,
            &mut done,
        )
        .await;
        if let Some((of, earlier)) = &self.unanswered
            && *of == intent
        {
            done.recall(earlier);
        }
        if let Err(error) = ran {
            if !done.sinks.is_empty() {
                self.unanswered = Some((intent, done));
            }
            return Err(error);
        }
        self.unanswered = None;
        done.phases.look = look_ms;
        done.phases.log_intent = log_ms;

        let mut progress = BatchProgress {
            job: self.name.clone(),
            batch: intent.batch,
            run: self.run.clone(),
            created_ms: intent.created_ms,
            duration_ms: ms(begun),
            recovered: intent.run != self.run,
            retries: self.failed,
            phases_ms: done.phases,
            sources: self.source_progress(&intent, &behind, &done),
            sinks: done.sinks,
        };
        let logging = Instant::now();
        self.note(&intent, &progress).await?;
        progress.phases_ms.log_commit = ms(logging);
        progress.duration_ms = ms(begun);

        for source in &mut self.plan.sources {
            if let Some(taken) = intent.sources.iter().find(|s| s.source == source.name) {
                let read = done.read.get(&source.name);
                source.advance(taken, read.map_or(0, |read| read.bytes));
            }
        }
        self.fixed = None;
        open.next = Next::New(recover::after(intent.batch)?);
        self.show(&open.next);
        for source in &self.plan.sources {
            source.show_lag().await;
        }
        for listener in &self.listeners {
            listener.committed(&progress);
        }
        Ok(Some(progress))
    }

    /// Notes the batch as committed and removes what is too old.
    async fn note(&self, intent: &Intent, progress: &BatchProgress) -> Result<()> {
        let commit = CommitRecord {
            version: VERSION,
            job: self.name.clone(),
            batch: intent.batch,
            run: self.run.clone(),
            committed_ms: now_ms(),
            progress: progress.clone(),
        };
        self.log.write_commit(&commit).await?;
        fault::point("after-log-commit");
        self.log.prune(intent.batch).await
    }

    /// Looks at the sources and fixes the next batch; `None` when there is nothing new.
    async fn fix(&mut self, batch: u64) -> Result<Option<(Intent, Vec<Option<Behind>>)>> {
        let now_ms = now_ms();
        if self.trigger == Trigger::AvailableNow {
            for source in &mut self.plan.sources {
                source.fix_last().await?;
            }
        }
        let looks = self.plan.sources.iter().map(|source| source.next(now_ms));
        let mut looked = futures::future::try_join_all(looks).await?;
        for (source, next) in self.plan.sources.iter_mut().zip(&looked) {
            source.looked(next);
        }
        // Spark's rule S5: a batch without any offset is never logged.
        if !looked.iter().any(|next| next.is_news) {
            return Ok(None);
        }
        if let Some(window) = self.window {
            for (source, next) in self.plan.sources.iter().zip(&mut looked) {
                window
                    .add(source, &mut next.intent, batch, &self.log, now_ms)
                    .await?;
            }
        }
        let behind = looked.iter().map(|next| next.behind).collect();
        let intent = Intent {
            version: VERSION,
            job: self.name.clone(),
            batch,
            run: self.run.clone(),
            created_ms: now_ms,
            sources: looked.into_iter().map(|next| next.intent).collect(),
        };
        Ok(Some((intent, behind)))
    }

    async fn step_with_retries(&mut self, stop: &Stop) -> Result<Option<BatchProgress>> {
        let begun = Instant::now();
        self.failed = 0;
        let mut lost_races = 0;
        let mut is_gone = false;
        let mut backoff = Backoff::new(self.retries.first_wait, self.retries.longest_wait);
        loop {
            let error = match self.step().await {
                Ok(progress) => return Ok(progress),
                Err(error) => error,
            };
            // A driver that was overtaken may still finish its last step before ours, or between
            // two looks of ours.
            let lost_race = error.kind() == ErrorKind::Conflict
                && lost_races < LOST_RACES
                && self.owns
                && self.log.check_owner(&self.run).await.is_ok();
            if lost_race {
                lost_races += 1;
                stop.sleep(AFTER_LOST_RACE).await;
                continue;
            }
            // Where that is allowed, recovery fixes a batch again of which the log has lost the records.
            if error.kind() == ErrorKind::DataUnavailable
                && self.fixed.is_some()
                && self.plan.sources.iter().any(Source::skips_losses)
                && !std::mem::replace(&mut is_gone, true)
            {
                continue;
            }
            let wait = backoff.pause();
            if !error.may_pass() || begun.elapsed() + wait > self.retries.give_up_after {
                return Err(error);
            }
            self.failed = backoff.failed();
            let retry = Retry {
                batch: self.fixed,
                failed: self.failed,
                wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                error: &error,
            };
            for listener in &self.listeners {
                listener.retrying(&retry);
            }
            stop.sleep(wait).await;
            if stop.is_stopping() {
                // The listeners know why; the next run repeats the batch.
                return Ok(None);
            }
        }
    }

    /// A run that ends waits for nothing, and `Once` takes everything (Spark's rules).
    fn limit_to_trigger(&mut self) {
        for source in &mut self.plan.sources {
            match (self.trigger, &mut source.policy) {
                (Trigger::Once, policy) => *policy = SourcePolicy::Limits(Limits::default()),
                (Trigger::AvailableNow, SourcePolicy::Limits(limits)) => {
                    *limits = limits.without_waiting();
                }
                _ => {}
            }
        }
    }

    /// The positions as a start that can be logged.
    pub(super) fn start_record(&self, batch: u64, from_sink: bool) -> Start {
        let positions = |positions: &Positions| {
            positions
                .iter()
                .map(|(partition, position)| StartPosition {
                    partition: partition.clone(),
                    position: position.clone(),
                })
                .collect()
        };
        Start {
            version: VERSION,
            job: self.name.clone(),
            batch,
            created_ms: now_ms(),
            from_sink,
            sources: self
                .plan
                .sources
                .iter()
                .map(|source| SourceStart {
                    source: source.name.clone(),
                    positions: positions(&source.positions),
                })
                .collect(),
        }
    }

    fn source_progress(
        &self,
        intent: &Intent,
        behind: &[Option<Behind>],
        done: &Done,
    ) -> Vec<SourceProgress> {
        let progress = |(number, source): (usize, &SourceIntent)| {
            let read = done.read.get(&source.source).copied().unwrap_or_default();
            let known = self.plan.sources.iter().find(|s| s.name == source.source);
            let taken =
                || (source.snapshot.ranges().iter()).filter(|taken| !taken.range.is_empty());
            SourceProgress {
                source: source.source.clone(),
                ranges: taken().map(|taken| taken.range.clone()).collect(),
                leader_epochs: match taken().any(|taken| taken.leader_epoch.is_some()) {
                    true => taken().map(|taken| taken.leader_epoch).collect(),
                    false => vec![],
                },
                uncompared: known.map_or(vec![], |known| known.uncompared.clone()),
                records: read.records,
                bytes: read.bytes,
                ledger: done
                    .ledgers
                    .get(&source.source)
                    .copied()
                    .unwrap_or_default(),
                behind: behind.get(number).copied().flatten(),
                lost_offsets: read.lost_offsets,
                bad_rows: read.bad_rows,
                throttled_ms: read.throttled_ms,
                lost: source.lost.clone(),
            }
        };
        intent.sources.iter().enumerate().map(progress).collect()
    }
}
