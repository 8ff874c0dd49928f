//! The task of one job: open, run, wait, again.

use std::sync::Arc;

use datafusion_kafka::driver::{CommitRecord, MicroBatch, Stop};
use kafka_arrow::Backoff;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::Service;
use crate::config::{Connection, JobConfig};
use crate::job::{JobState, Monitor};
use crate::logs::{self, Fields};
use crate::planning::beside;
use crate::problem::Problem;

/// How many batches before this process are shown.
const SHOWN_BEFORE: usize = 20;

/// What a job is made of. A job whose definition changes starts again.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Definition {
    pub(super) config: JobConfig,
    pub(super) connection: Connection,
    /// The text of its file, as far as it can be read: only to see that it changes.
    text: Option<String>,
}

impl Definition {
    pub(super) fn new(config: JobConfig, connection: Connection) -> Self {
        let text = std::fs::read_to_string(&config.file).ok();
        Self {
            config,
            connection,
            text,
        }
    }
}

/// What is wanted of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Run,
    Pause,
    Stop,
    /// It is no longer in the file, or the service ends.
    Leave,
}

/// A job's task, and how to talk to it.
pub(super) struct Task {
    control: Arc<Control>,
    monitor: Arc<Monitor>,
    handle: JoinHandle<()>,
}

struct Control {
    want: watch::Sender<Want>,
    definition: watch::Sender<Definition>,
    retry: Notify,
}

impl Task {
    pub(super) fn start(
        service: Arc<Service>,
        monitor: Arc<Monitor>,
        definition: Definition,
    ) -> Self {
        let want = match definition.config.paused {
            true => Want::Pause,
            false => Want::Run,
        };
        let control = Arc::new(Control {
            want: watch::Sender::new(want),
            definition: watch::Sender::new(definition),
            retry: Notify::new(),
        });
        let running = keep_running(service, Arc::clone(&monitor), Arc::clone(&control));
        Self {
            control,
            monitor,
            handle: tokio::spawn(running),
        }
    }

    pub(super) fn want(&self, want: Want) {
        self.control.want.send_replace(want);
    }

    pub(super) fn retry(&self) {
        self.control.want.send_if_modified(|want| {
            let rests = matches!(want, Want::Pause | Want::Stop);
            if rests {
                *want = Want::Run;
            }
            rests
        });
        self.control.retry.notify_one();
    }

    /// Gives the job another definition; whether it is another.
    pub(super) fn define(&self, definition: Definition) -> bool {
        let is_paused = definition.config.paused;
        let pauses = is_paused != self.control.definition.borrow().config.paused;
        let was_leaving = self.control.want.send_if_modified(|want| {
            let leaves = *want == Want::Leave;
            if leaves || pauses {
                *want = match is_paused {
                    true => Want::Pause,
                    false => Want::Run,
                };
            }
            leaves || pauses
        });
        let changes = self.control.definition.send_if_modified(|known| {
            let changes = *known != definition;
            if changes {
                *known = definition;
            }
            changes
        });
        was_leaving || changes
    }

    /// Whether nothing will happen unless somebody asks for it.
    pub(super) fn is_at_its_end(&self) -> bool {
        let rests = self.monitor.state() == JobState::Stopped;
        self.handle.is_finished() || (rests && *self.control.want.borrow() == Want::Stop)
    }

    pub(super) fn is_leaving(&self) -> bool {
        *self.control.want.borrow() == Want::Leave
    }

    pub(super) async fn ended(self) {
        let _ = self.handle.await;
    }
}

/// Runs a job again and again, as it is wanted.
async fn keep_running(service: Arc<Service>, monitor: Arc<Monitor>, control: Arc<Control>) {
    let pauses = service.config().service.clone();
    let mut backoff = Backoff::new(pauses.first_pause, pauses.longest_pause);
    let mut want = control.want.subscribe();
    let mut definition = control.definition.subscribe();
    loop {
        let wanted = *want.borrow_and_update();
        match wanted {
            Want::Leave => match service.leave(monitor.name()) {
                true => return,
                // It is in the file again.
                false => continue,
            },
            Want::Pause | Want::Stop => {
                monitor.set_config(definition.borrow_and_update().config.clone());
                monitor.set_state(match wanted {
                    Want::Pause => JobState::Paused,
                    _ => JobState::Stopped,
                });
                // The senders live in `control`, so that waiting cannot fail.
                tokio::select! {
                    _ = want.changed() => {}
                    _ = definition.changed() => {}
                }
                continue;
            }
            Want::Run => {}
        }
        let defined = definition.borrow_and_update().clone();
        monitor.set_config(defined.config.clone());
        monitor.set_state(JobState::Starting);
        let stop = Stop::new();
        let attempt = run_once(
            Arc::clone(&service),
            Arc::clone(&monitor),
            defined,
            stop.clone(),
        );
        // A task of its own: a fault in it ends this attempt and nothing else.
        let mut attempt = tokio::spawn(attempt);
        let ended = loop {
            tokio::select! {
                ended = &mut attempt => break ended,
                _ = want.changed() => {}
                _ = definition.changed() => {}
                () = control.retry.notified() => {
                    if monitor.state() != JobState::Retrying {
                        continue;
                    }
                }
            }
            stop.after_this_batch();
            if monitor.state() == JobState::Starting {
                attempt.abort();
            }
        };
        let problem = match ended {
            Ok(Ok(Ended::Told)) => {
                backoff.reset();
                continue;
            }
            Ok(Ok(Ended::Itself)) => {
                let fields = Fields::of(monitor.name());
                logs::with(fields, || {
                    log::info!(target: logs::JOBS, "{}: is at its end", monitor.name());
                });
                control.want.send_if_modified(|want| {
                    let runs = *want == Want::Run;
                    if runs {
                        *want = Want::Stop;
                    }
                    runs
                });
                continue;
            }
            Ok(Err(problem)) => problem,
            Err(error) if error.is_cancelled() => continue,
            Err(error) => Problem::new(format!(
                "a fault in this program or a library: {error}; please report it"
            )),
        };
        if monitor.progressed_since_start() {
            backoff.reset();
        }
        let pause = backoff.pause();
        monitor.failed(problem, backoff.failed(), pause);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = control.retry.notified() => {}
            _ = want.changed() => {}
            _ = definition.changed() => backoff.reset(),
        }
    }
}

/// Why a run has ended without an error.
enum Ended {
    /// It was told to.
    Told,
    /// Its trigger has an end.
    Itself,
}

async fn run_once(
    service: Arc<Service>,
    monitor: Arc<Monitor>,
    definition: Definition,
    stop: Stop,
) -> Result<Ended, Problem> {
    let planned = beside({
        let (service, monitor) = (Arc::clone(&service), Arc::clone(&monitor));
        let Definition {
            config, connection, ..
        } = definition.clone();
        async move {
            let (name, runtime) = (monitor.name(), service.runtime());
            service
                .opener
                .job(name, &config, &connection, runtime)
                .await
        }
    });
    let planned = planned.await.map_err(|e| Problem::new(e.to_string()))??;
    let (name, config) = (monitor.name(), &definition.config);
    let mut builder = config.apply(planned).listener(Arc::clone(&monitor) as _);
    for listener in service.listeners() {
        builder = builder.listener(listener);
    }
    let lineage = service.lineage.get().map(|lineage| {
        let name = config.name.as_deref().unwrap_or(name);
        let servers = definition.connection.config.bootstrap_servers();
        lineage.job(name, &config.file, servers)
    });
    if let Some(lineage) = &lineage {
        builder = builder.listener(Arc::clone(lineage) as _);
    }
    let mut job = builder.build().await?;
    monitor.planned(job.lags(), before(&job).await?);
    if let Some(lineage) = &lineage {
        lineage.planned(&job);
    }
    let ended = job.run(&stop).await;
    if let (Some(lineage), Err(error)) = (&lineage, &ended) {
        lineage.failed(&error.to_string());
    }
    ended?;
    Ok(match stop.is_stopping() {
        true => Ended::Told,
        false => Ended::Itself,
    })
}

/// The last batches that the log has.
async fn before(job: &MicroBatch) -> Result<Vec<CommitRecord>, Problem> {
    let batches = job.log().intents().await?;
    let first = batches.len().saturating_sub(SHOWN_BEFORE);
    let mut before = vec![];
    for batch in batches.into_iter().skip(first) {
        before.extend(job.log().commit(batch).await?);
    }
    Ok(before)
}
