//! OpenLineage events of each batch, into a file or to an HTTP endpoint.
//!
//! ```text
//! driver ─▶ JobLineage (a listener) ─▶ queue ─▶ task ─▶ a line of the file, or a POST
//! ```
//!
//! - A batch never waits for its events: they are made when it is committed, and a task of their own sends them.
//! - An endpoint that does not answer is asked again, with growing pauses. Events that find the queue full are dropped,
//!   counted and named in the log. So lineage may miss a batch; the offset log has it.
//! - Events come after the commit. One that the process could not send before it died is lost.

mod endpoint;
mod event;
mod naming;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datafusion_kafka::driver::{BatchProgress, OffsetLog, ProgressListener, Retry};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use endpoint::Endpoint;
pub use event::LineageJob;

/// Events that wait to be sent: the batches of some minutes of a busy service.
const QUEUED_EVENTS: usize = 1024;
/// How long the end of the service waits for events that are not sent yet.
const LAST_EVENTS: Duration = Duration::from_secs(5);

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file, to which each event adds a line of JSON.
    File(PathBuf),
    /// A URL that takes a POST for each event, with the bearer token if there is one.
    Url {
        /// The URL, `http` or `https`.
        url: String,
        /// What is sent as `Authorization: Bearer …`.
        token: Option<Token>,
    },
}

/// A secret, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What sends the events of all jobs.
#[derive(Debug)]
pub struct Lineage {
    queue: mpsc::Sender<Message>,
    task: JoinHandle<()>,
    dropped: Arc<AtomicU64>,
}

/// What the queue holds: events are made by the task, which may ask the offset log first.
#[derive(Debug)]
enum Message {
    Committed(Arc<JobLineageState>, Box<BatchProgress>, Timestamp),
    Failed(Arc<JobLineageState>, Option<u64>, u32, String, Timestamp),
}

#[derive(Debug)]
struct JobLineageState {
    job: LineageJob,
    log: Option<OffsetLog>,
}

/// A job that reports its batches; a listener of its driver.
#[derive(Debug, Clone)]
pub struct JobLineage {
    state: Arc<JobLineageState>,
    queue: mpsc::Sender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Lineage {
    /// Starts the task that sends events. It needs a tokio runtime.
    ///
    /// # Errors
    /// When the file cannot be opened or the URL is none, in words for the operator.
    pub fn start(destination: &Destination) -> Result<Self, String> {
        let mut endpoint = Endpoint::open(destination)?;
        let (queue, mut messages) = mpsc::channel::<Message>(QUEUED_EVENTS);
        let task = tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                for event in message.events().await {
                    endpoint.send(&event).await;
                }
            }
        });
        Ok(Self {
            queue,
            task,
            dropped: Arc::default(),
        })
    }

    /// The listener of a job that starts. `servers` names the brokers of each source, `connection` those of the job;
    /// `log` is the offset log, for receipts.
    #[must_use]
    pub fn job(
        &self,
        namespace: &str,
        name: &str,
        statements: &[String],
        connection: &str,
        servers: Vec<(String, String)>,
        log: Option<OffsetLog>,
    ) -> JobLineage {
        let statements = statements.iter();
        let sql = statements.map(|sql| datafusion_kafka::statement::without_secrets(sql));
        let job = LineageJob {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            sql: sql.collect::<Vec<_>>().join(";\n"),
            servers,
            connection: connection.to_owned(),
            start: Uuid::new_v4(),
        };
        JobLineage {
            state: Arc::new(JobLineageState { job, log }),
            queue: self.queue.clone(),
            dropped: Arc::clone(&self.dropped),
        }
    }

    /// How many events found the queue full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Sends what waits, for some seconds at most. Jobs that still have their listener keep the queue open.
    pub async fn close(self) {
        drop(self.queue);
        if tokio::time::timeout(LAST_EVENTS, self.task).await.is_err() {
            log::warn!("lineage: events that could not be sent in time are dropped");
        }
    }
}

impl JobLineage {
    /// The job has ended with an error that is not tried again.
    pub fn failed(&self, batch: Option<u64>, attempt: u32, message: &str) {
        let state = Arc::clone(&self.state);
        self.send(Message::Failed(
            state,
            batch,
            attempt,
            message.to_owned(),
            Timestamp::now(),
        ));
    }

    fn send(&self, message: Message) {
        if self.queue.try_send(message).is_err() {
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

impl ProgressListener for JobLineage {
    fn committed(&self, progress: &BatchProgress) {
        let state = Arc::clone(&self.state);
        let progress = Box::new(progress.clone());
        self.send(Message::Committed(state, progress, Timestamp::now()));
    }

    fn retrying(&self, retry: &Retry<'_>) {
        let attempt = retry.failed.saturating_sub(1);
        self.failed(retry.batch, attempt, &retry.error.to_string());
    }
}

impl Message {
    async fn events(self) -> Vec<Value> {
        let events = match self {
            Self::Committed(state, progress, now) => {
                let receipt = state.receipt(progress.batch).await;
                Vec::from(state.job.committed(&progress, receipt, now))
            }
            Self::Failed(state, batch, attempt, message, now) => {
                vec![state.job.failed(batch, attempt, &message, now)]
            }
        };
        // Strings, numbers and lists of them.
        events
            .iter()
            .filter_map(|event| serde_json::to_value(event).ok())
            .collect()
    }
}

impl JobLineageState {
    /// What the offset log holds of a batch, as far as it can be read: topic ids, ranges, epochs.
    async fn receipt(&self, batch: u64) -> Option<Value> {
        let log = self.log.as_ref()?;
        let intent = log.intent(batch).await.ok()?;
        let commit = log.commit(batch).await.ok()??;
        Some(json!({
            "offsetLog": log.url(),
            "intent": intent,
            "committedMs": commit.committed_ms,
        }))
    }
}

#[cfg(test)]
mod tests;
