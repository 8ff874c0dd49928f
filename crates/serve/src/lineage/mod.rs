//! OpenLineage events of each batch, into a file or to an HTTP endpoint.
//!
//! ```text
//! driver ─▶ JobLineage (a listener) ─▶ queue ─▶ task ─▶ a line of the file, or a POST
//! ```
//!
//! - A batch never waits for its events, and none fails because of them: a task of their own sends them.
//! - An endpoint that does not answer is asked again, with growing pauses. Events that find the queue full are dropped,
//!   counted and named in the log. So lineage may miss a batch; the offset log has it.
//! - The end of a batch is told after its commit. If the process dies in between, it is never told.

mod endpoint;
mod event;
mod naming;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use datafusion_kafka::driver::{BatchProgress, Intent, MicroBatch, ProgressListener, Retry};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::config::LineageConfig;
use crate::problem::Problem;
use endpoint::Endpoint;
use event::{About, Event};

/// Events that wait to be sent: the batches of some minutes of a busy service.
const QUEUED_EVENTS: usize = 1024;
/// How long the end of the service waits for events that are not sent yet.
const LAST_EVENTS: Duration = Duration::from_secs(5);
/// The namespace of jobs unless the operator chooses one.
const NAMESPACE: &str = "kafka-sql";

/// What sends the events of all jobs.
#[derive(Debug)]
pub struct Lineage {
    namespace: String,
    queue: Queue,
    /// What tells the task to end, and the task.
    task: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

/// A job that reports its batches; a listener of its driver.
#[derive(Debug)]
pub struct JobLineage {
    about: About,
    queue: Queue,
    /// The attempt that runs: its id, and its ranges.
    current: Mutex<Option<(Uuid, Intent)>>,
}

#[derive(Debug, Clone)]
struct Queue {
    sender: mpsc::Sender<Event>,
    dropped: Arc<AtomicU64>,
}

impl Lineage {
    /// Starts the task that sends events. It needs a tokio runtime.
    ///
    /// # Errors
    /// When the file cannot be opened or the URL is none.
    pub fn start(config: &LineageConfig) -> Result<Self, Problem> {
        let mut endpoint = Endpoint::open(config)?;
        let (sender, mut events) = mpsc::channel::<Event>(QUEUED_EVENTS);
        let (closing, mut closed) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = events.recv() => match event {
                        Some(event) => endpoint.send(&event).await,
                        None => return,
                    },
                    _ = &mut closed, if !events.is_closed() => events.close(),
                }
            }
        });
        Ok(Self {
            namespace: config.namespace.as_deref().unwrap_or(NAMESPACE).to_owned(),
            queue: Queue {
                sender,
                dropped: Arc::default(),
            },
            task: Mutex::new(Some((closing, task))),
        })
    }

    /// The listener of a job that starts: its name, its file, and the brokers of its connection.
    pub fn job(&self, name: &str, file: &Path, servers: &str) -> Arc<JobLineage> {
        // What refers to the environment stays a reference. The driver says what is wrong with the file.
        let sql = std::fs::read_to_string(file).unwrap_or_default();
        Arc::new(JobLineage {
            about: About {
                namespace: self.namespace.clone(),
                name: name.to_owned(),
                sql: datafusion_kafka::statement::without_secrets(&sql),
                servers: servers.to_owned(),
                elsewhere: OnceLock::new(),
            },
            queue: self.queue.clone(),
            current: Mutex::default(),
        })
    }

    /// How many events found the queue full.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped.load(Ordering::Relaxed)
    }

    /// Sends what waits, for some seconds at most. Later events are dropped.
    pub async fn close(&self) {
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some((closing, task)) = task else { return };
        // A task that has ended needs no word.
        let _ = closing.send(());
        if tokio::time::timeout(LAST_EVENTS, task).await.is_err() {
            log::warn!("lineage: events that could not be sent in time are dropped");
        }
    }
}

impl JobLineage {
    /// The job is planned: its sources may read other clusters than that of its connection.
    pub fn planned(&self, job: &MicroBatch) {
        let servers = job.sources().filter_map(|(name, table)| {
            let servers = table.connection()?.bootstrap_servers();
            (servers != self.about.servers).then(|| (name.to_owned(), servers.to_owned()))
        });
        // A job is planned once; another start has another listener.
        let _ = self.about.elsewhere.set(servers.collect());
    }

    /// The job has ended with an error that the driver does not try again.
    pub fn failed(&self, message: &str) {
        if let Some((run, _)) = self.take() {
            self.queue
                .send(self.about.failed(run, message, Timestamp::now()));
        }
    }

    fn take(&self) -> Option<(Uuid, Intent)> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.take()
    }
}

impl ProgressListener for JobLineage {
    fn began(&self, intent: &Intent) {
        let run = Uuid::new_v4();
        let current = Some((run, intent.clone()));
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = current;
        self.queue.send(self.about.started(run, Timestamp::now()));
    }

    fn committed(&self, progress: &BatchProgress) {
        if let Some((run, intent)) = self.take() {
            let now = Timestamp::now();
            self.queue
                .send(self.about.committed(run, &intent, progress, now));
        }
    }

    fn retrying(&self, retry: &Retry<'_>) {
        self.failed(&retry.error.to_string());
    }
}

impl Queue {
    fn send(&self, event: Event) {
        if self.sender.try_send(event).is_err() {
            let before = self.dropped.fetch_add(1, Ordering::Relaxed);
            // Once for each thousand: an endpoint may be down for days.
            if before.is_multiple_of(1000) {
                log::warn!(
                    "lineage: {} events dropped: the endpoint does not take them in time",
                    before + 1
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
