//! The service: one task for each job of the file, and what others ask of them.

mod reload;
mod runner;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionContext;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion_kafka::driver::ProgressListener;
use futures::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, broadcast, watch};

pub use reload::Reloaded;
use runner::{Definition, Task, Want};

use crate::config::Config;
use crate::http::Port;
use crate::job::{Board, Event, JobStatus, Monitor};
use crate::lineage::Lineage;
use crate::logs::{self, Fields};
use crate::notify::{Notifier, NotifyState};
use crate::opener::{Access, Opener};
use crate::pg::PgPort;
use crate::problem::Problem;

/// How often the supervisor looks around.
const TICK: Duration = Duration::from_millis(500);

/// How often the cluster is asked how far jobs are behind, if nobody else asks.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How many pages may read from the cluster at a time.
pub(crate) const PAGES_THAT_READ: usize = 4;

/// How many clients may follow the events at a time: less than a port has connections.
pub(crate) const FOLLOWERS: usize = 64;

/// The part of the memory that the page and the PostgreSQL port have beside jobs, as a divisor.
const PART_OF_READERS: usize = 4;

/// Jobs that run side by side, and all that is served about them.
pub struct Service {
    path: PathBuf,
    opener: Arc<dyn Opener>,
    config: RwLock<Arc<Config>>,
    /// The memory that all jobs share.
    runtime: Arc<RuntimeEnv>,
    /// The memory of statements of others, which take none from jobs.
    readers: Arc<RuntimeEnv>,
    places: Semaphore,
    followers: Arc<Semaphore>,
    board: Arc<Board>,
    listeners: RwLock<Vec<Arc<dyn ProgressListener>>>,
    /// Where the events of lineage go, if anywhere.
    lineage: OnceLock<Lineage>,
    tasks: Mutex<BTreeMap<String, Task>>,
    closing: watch::Sender<bool>,
    /// Whether the jobs have ended, too.
    ended: watch::Sender<bool>,
    /// When the supervisor looked around last.
    turned: Mutex<Instant>,
    port: Mutex<Option<Arc<Port>>>,
    postgres: Mutex<Option<PgPort>>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("path", &self.path)
            .field("board", &self.board)
            .finish_non_exhaustive()
    }
}

/// What somebody wants of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// To wait after this batch, until it is resumed.
    Pause,
    /// To go on.
    Resume,
    /// To end after this batch, until it is resumed or the service starts again.
    Stop,
    /// Not to wait for the next attempt.
    Retry,
}

impl Action {
    /// The action of a name: `pause`, `resume`, `stop` or `retry`.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "pause" => Some(Self::Pause),
            "resume" => Some(Self::Resume),
            "stop" => Some(Self::Stop),
            "retry" => Some(Self::Retry),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Stop => "stop",
            Self::Retry => "retry",
        }
    }
}

/// There is no such job, or not for long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What was asked and what there is.
    pub message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

impl Service {
    /// A service of a file that has been read. Nothing runs yet.
    ///
    /// # Errors
    /// When the limit of memory cannot be set.
    pub fn new(
        path: impl Into<PathBuf>,
        config: Config,
        opener: Arc<dyn Opener>,
    ) -> Result<Arc<Self>, Problem> {
        let (runtime, readers) = runtimes(&config)
            .map_err(|e| Problem::new(format!("service.memory_limit: {}", e.strip_backtrace())))?;
        let board = Board::new(config.service.max_partition_labels, config.service.history);
        Ok(Arc::new(Self {
            path: path.into(),
            opener,
            config: RwLock::new(Arc::new(config)),
            runtime,
            readers,
            places: Semaphore::new(PAGES_THAT_READ),
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
            board: Arc::new(board),
            listeners: RwLock::default(),
            lineage: OnceLock::new(),
            tasks: Mutex::default(),
            closing: watch::Sender::new(false),
            ended: watch::Sender::new(false),
            turned: Mutex::new(Instant::now()),
            port: Mutex::default(),
            postgres: Mutex::default(),
        }))
    }

    /// The file in effect: that of the start, or of the last reload.
    pub fn config(&self) -> Arc<Config> {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&config)
    }

    /// All jobs.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// What is known of each job.
    pub fn jobs(&self) -> Vec<JobStatus> {
        self.board.statuses()
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.board.follow()
    }

    /// Adds what is told of the batches of all jobs that start from now on.
    pub fn listen(&self, listener: Arc<dyn ProgressListener>) {
        let mut listeners = self
            .listeners
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.push(listener);
    }

    /// What opens sessions.
    pub fn opener(&self) -> &Arc<dyn Opener> {
        &self.opener
    }

    /// The memory that all jobs share.
    pub fn runtime(&self) -> &Arc<RuntimeEnv> {
        &self.runtime
    }

    /// A place among the pages that read, if one is free.
    pub(crate) fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.places.try_acquire().ok()
    }

    /// A place among those who follow the events, if one is free.
    pub(crate) fn follower(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.followers).try_acquire_owned().ok()
    }

    /// A session over a connection of the file.
    ///
    /// # Errors
    /// When there is no such connection, or its settings do not fit together.
    pub fn session(&self, connection: &str, access: Access) -> Result<SessionContext, Problem> {
        let config = self.config();
        let connection = config.connection(connection)?;
        let runtime = match access {
            Access::Operator => &self.runtime,
            Access::Reader => &self.readers,
        };
        self.opener.session(connection, runtime, access)
    }

    /// Lets the batch of a job that runs be the last one for now.
    ///
    /// # Errors
    /// When there is no such job, or it is no longer in the file. `by` is whoever wants it, for the log.
    pub fn pause(&self, job: &str, by: &str) -> Result<(), Refused> {
        self.act(job, Action::Pause, by)
    }

    /// Lets a job that was paused or stopped go on.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub fn resume(&self, job: &str, by: &str) -> Result<(), Refused> {
        self.act(job, Action::Resume, by)
    }

    /// Ends a job after the batch that runs.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub fn stop_after_this_batch(&self, job: &str, by: &str) -> Result<(), Refused> {
        self.act(job, Action::Stop, by)
    }

    /// Starts the next attempt of a job now, if it waits for one.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub fn retry_now(&self, job: &str, by: &str) -> Result<(), Refused> {
        self.act(job, Action::Retry, by)
    }

    /// Does what somebody wants of a job, and logs who it was.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub fn act(&self, job: &str, action: Action, by: &str) -> Result<(), Refused> {
        let tasks = self.tasks();
        let Some(task) = tasks.get(job) else {
            let names: Vec<&str> = tasks.keys().map(String::as_str).collect();
            return Err(Refused {
                message: format!("there is no job '{job}'; there are: {}", names.join(", ")),
            });
        };
        if task.is_leaving() {
            return Err(Refused {
                message: format!(
                    "the job '{job}' is no longer in the file and leaves after the batch that runs"
                ),
            });
        }
        let fields = Fields::of(job)
            .field("action", action.name())
            .field("by", by);
        logs::with(fields, || {
            log::warn!(target: logs::JOBS, "{job}: {} by {by}", action.name());
        });
        match action {
            Action::Pause => task.want(Want::Pause),
            Action::Resume => task.want(Want::Run),
            Action::Stop => task.want(Want::Stop),
            Action::Retry => task.retry(),
        }
        Ok(())
    }

    /// Why the service is not ready: a line for each job that is not, or that it ends.
    pub fn not_ready(&self) -> Vec<String> {
        match *self.closing.borrow() {
            true => vec![
                "draining: the service was told to end, and its jobs complete their batches"
                    .to_owned(),
            ],
            false => not_ready(&self.board),
        }
    }

    /// Whether the supervisor turns: it looked around within this time.
    pub fn turns(&self, within: Duration) -> bool {
        let turned = self.turned.lock().unwrap_or_else(PoisonError::into_inner);
        turned.elapsed() < within
    }

    /// Lets the batches that run be the last ones, and ends [`run`](Self::run).
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Is true from the moment on at which the service was told to end: its jobs complete the batches that run.
    pub fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// Is true from the moment on at which the jobs have ended, too; for whoever holds connections of the HTTP port open.
    pub fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    /// Opens the ports, runs the jobs, and ends when it was told to [`close`](Self::close) and the batches that ran
    /// are through; also when all jobs are at their ends and no port is open. Until then the HTTP port answers. `reload`
    /// says when to read the file again.
    ///
    /// # Errors
    /// When a port cannot be opened or would be open to everybody. That jobs fail ends nothing.
    pub async fn run(
        self: &Arc<Self>,
        notifier: &Notifier,
        mut reload: watch::Receiver<()>,
    ) -> Result<(), Problem> {
        let config = self.config();
        if let Some(lineage) = &config.lineage {
            // The service runs once.
            let _ = self.lineage.set(Lineage::start(lineage)?);
        }
        let port = match &config.http {
            Some(http) => Some(Port::open(http, self.ended()).await?),
            None => None,
        };
        let postgres = match &config.postgres {
            Some(postgres) => {
                let connection = config.connection(&postgres.connection)?;
                Some(PgPort::open(postgres, connection, &self.opener, &self.readers).await?)
            }
            None => None,
        };
        let asking = postgres.map(|port| {
            log::info!(target: logs::SERVICE, "PostgreSQL on {}", port.address());
            self.board.add_postgres(port.meter());
            *self.postgres.lock().unwrap_or_else(PoisonError::into_inner) = Some(port.clone());
            let mut closing = self.closing();
            let closed = async move {
                let _ = closing.wait_for(|closing| *closing).await;
            };
            tokio::spawn(port.serve(closed))
        });
        let serving = port.map(|port| {
            let port = Arc::new(port);
            *self.port.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&port));
            let router = crate::http::of_service(self, port.guard());
            tokio::spawn(async move { port.serve(router).await })
        });
        for (name, definition) in self.definitions(&config) {
            self.start(&name, definition);
        }
        notifier.tell(&[NotifyState::Ready]);
        log::info!(target: logs::SERVICE, "jobs that run: {}", config.jobs.len());
        let serves = serving.is_some() || asking.is_some();
        self.supervise(notifier, &mut reload, serves).await;
        notifier.tell(&[NotifyState::Stopping]);
        self.end_jobs().await;
        if let Some(lineage) = self.lineage.get() {
            lineage.close().await;
        }
        self.close();
        self.ended.send_replace(true);
        // They end by themselves.
        if let Some(serving) = serving {
            let _ = serving.await;
        }
        if let Some(asking) = asking {
            let _ = asking.await;
        }
        Ok(())
    }

    async fn supervise(
        self: &Arc<Self>,
        notifier: &Notifier,
        reload: &mut watch::Receiver<()>,
        serves: bool,
    ) {
        let mut closing = self.closing();
        let mut tick = ticks();
        let mut looked = Instant::now();
        loop {
            tokio::select! {
                () = closed(&mut closing) => return,
                Ok(()) = reload.changed() => {
                    notifier.reloading();
                    self.reload().await;
                    notifier.tell(&[NotifyState::Ready]);
                }
                _ = tick.tick() => {}
            }
            self.turn();
            let monitors = self.board.monitors();
            // Each is asked: it notices what its batch has read meanwhile.
            let hanging = monitors.iter().filter(|monitor| monitor.hangs()).count();
            if notifier.watches() && hanging == 0 {
                notifier.tell(&[NotifyState::Watchdog]);
            }
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                tokio::spawn(look(monitors));
            }
            if !serves && self.tasks().values().all(Task::is_at_its_end) {
                log::info!(target: logs::SERVICE, "all jobs are at their ends, and no port is open");
                return;
            }
        }
    }

    async fn end_jobs(&self) {
        let tasks = std::mem::take(&mut *self.tasks());
        for task in tasks.values() {
            task.want(Want::Leave);
        }
        let mut ended = std::pin::pin!(join_all(tasks.into_values().map(Task::ended)));
        let mut tick = ticks();
        loop {
            tokio::select! {
                _ = &mut ended => return,
                _ = tick.tick() => self.turn(),
            }
        }
    }

    /// Notes that the supervisor looks around.
    fn turn(&self) {
        *self.turned.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn start(self: &Arc<Self>, name: &str, definition: Definition) {
        let monitor = self.board.add(name, definition.config.clone());
        let task = Task::start(Arc::clone(self), monitor, definition);
        self.tasks().insert(name.to_owned(), task);
    }

    fn definitions(&self, config: &Config) -> BTreeMap<String, Definition> {
        let definition = |(name, job): (&String, &crate::config::JobConfig)| {
            // The file has been checked: its jobs have their connections.
            let connection = config.connection(&job.connection).ok()?.clone();
            Some((name.clone(), Definition::new(job.clone(), connection)))
        };
        config.jobs.iter().filter_map(definition).collect()
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<String, Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory of jobs, and that of the page and the PostgreSQL port; one and the same where there is only one of them.
fn runtimes(config: &Config) -> Result<(Arc<RuntimeEnv>, Arc<RuntimeEnv>), DataFusionError> {
    let Some(bytes) = config.service.memory_limit else {
        let all = RuntimeEnvBuilder::new().build_arc()?;
        return Ok((Arc::clone(&all), all));
    };
    let has_readers = config.http.is_some() || config.postgres.is_some();
    let of_readers = match has_readers && !config.jobs.is_empty() {
        true => bytes / PART_OF_READERS,
        false => 0,
    };
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(bytes - of_readers, 1.0);
    let runtime = runtime.build_arc()?;
    let readers = match of_readers {
        0 => Arc::clone(&runtime),
        bytes => RuntimeEnvBuilder::from_runtime_env(&runtime)
            .with_memory_limit(bytes, 1.0)
            .build_arc()?,
    };
    Ok((runtime, readers))
}

fn ticks() -> tokio::time::Interval {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick
}

/// Waits until the service ends.
pub(crate) async fn closed(closing: &mut watch::Receiver<bool>) {
    // If nobody can tell any more, it has ended too.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Why jobs are not ready, a line for each.
pub(crate) fn not_ready(board: &Board) -> Vec<String> {
    let monitors = board.monitors();
    let why = monitors.iter().filter_map(|monitor| {
        let why = monitor.not_ready()?;
        Some(format!("{}: {why}", monitor.name()))
    });
    why.collect()
}

/// Asks how far jobs are behind.
async fn look(monitors: Vec<Arc<Monitor>>) {
    for looked in join_all(monitors.iter().map(|monitor| monitor.look(LOOK_EVERY / 2))).await {
        if let Err(problem) = looked {
            log::debug!("how far a job is behind: {problem}");
        }
    }
}

#[cfg(test)]
mod tests;
