//! Collects what a [`MicroBatch`] is made of.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::context::SessionContext;

use super::job::Plan;
use super::log::OffsetLog;
use super::policy::BatchPolicy;
use super::progress::ProgressListener;
use super::run::{MicroBatch, State, Trigger};
use super::source::SourcePolicy;
use super::window::Window;
use crate::error::{Error, Result, query_error};
use crate::sink::{Sink, SinkTable};
use crate::store::Store;
use crate::table::Limits;

/// How long failures that may pass are retried: a database that is down, a broker that does not
/// answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// The wait before the second attempt. It doubles from attempt to attempt, and each is changed by up to a fifth at
    /// random.
    pub first_wait: Duration,
    /// The longest wait between two attempts.
    pub longest_wait: Duration,
    /// After so long without success the run fails.
    pub give_up_after: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(10),
            give_up_after: Duration::from_secs(5 * 60),
        }
    }
}

/// What a job's user may choose beside its statements and its trigger; what is not set keeps its default.
///
/// It is what flags and files hold of a job, see [`MicroBatchBuilder::options`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobOptions {
    /// Limits of every source, unless none is set: then those of the tables' options hold.
    pub limits: Limits,
    /// What the queries of a batch also read.
    pub window: Option<Window>,
    /// For how long a batch is tried again, see [`Retries::give_up_after`].
    pub retry_for: Option<Duration>,
    /// The consumer group that shows the positions.
    pub commit_group: Option<String>,
}

/// Collects what a [`MicroBatch`] is made of.
#[must_use]
pub struct MicroBatchBuilder {
    context: SessionContext,
    name: String,
    checkpoint: Option<String>,
    checkpoint_options: HashMap<String, String>,
    fsync: bool,
    statements: Vec<String>,
    policies: BTreeMap<String, SourcePolicy>,
    default_policy: Option<SourcePolicy>,
    trigger: Trigger,
    window: Option<Window>,
    retries: Retries,
    listeners: Vec<Arc<dyn ProgressListener>>,
    allow_changed_query: bool,
    group: Option<String>,
}

impl fmt::Debug for MicroBatchBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MicroBatchBuilder")
            .field("name", &self.name)
            .field("statements", &self.statements)
            .field("trigger", &self.trigger)
            .finish_non_exhaustive()
    }
}

impl MicroBatch {
    /// A job in a session that has the tables of its sources; see
    /// [`KafkaSessionBuilder`](crate::session::KafkaSessionBuilder).
    ///
    /// `name` is what log and sinks know the job by: a job under another name is another job.
    pub fn builder(context: SessionContext, name: impl Into<String>) -> MicroBatchBuilder {
        MicroBatchBuilder {
            context,
            name: name.into(),
            checkpoint: None,
            checkpoint_options: HashMap::new(),
            fsync: true,
            statements: vec![],
            policies: BTreeMap::new(),
            default_policy: None,
            trigger: Trigger::Continuous,
            window: None,
            retries: Retries::default(),
            listeners: vec![],
            allow_changed_query: false,
            group: None,
        }
    }
}

impl MicroBatchBuilder {
    /// Where the offset log lies: a directory or an object store's URL, for this job alone.
    pub fn checkpoint(mut self, url: impl Into<String>) -> Self {
        self.checkpoint = Some(url.into());
        self
    }

    /// A setting of the checkpoint's store, see [`Store::open`].
    pub fn checkpoint_option(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.checkpoint_options.insert(key.into(), value.into());
        self
    }

    /// Whether the offset log is synced to local disks; it is unless set, see
    /// [`OffsetLog::fsync`].
    pub fn fsync(mut self, fsync: bool) -> Self {
        self.fsync = fsync;
        self
    }

    /// An `INSERT INTO sink SELECT …` statement, or `CREATE INDEX ON topic (key, …) WITH (location = 'URL')`; a job may
    /// have several.
    pub fn insert(mut self, sql: impl Into<String>) -> Self {
        self.statements.push(sql.into());
        self
    }

    /// Registers a sink as a table of the session, so that an INSERT can name it.
    ///
    /// # Errors
    /// When the session has such a table.
    pub fn sink(self, table: &str, sink: Arc<dyn Sink>) -> Result<Self> {
        let schema = Arc::new(arrow::datatypes::Schema::empty());
        let provider = Arc::new(SinkTable::new(sink, schema));
        self.context
            .register_table(table, provider)
            .map_err(query_error)?;
        Ok(self)
    }

    /// When batches are made; [`Trigger::Continuous`] unless set.
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.trigger = trigger;
        self
    }

    /// Limits of every source that has none of its own here; those of the tables' options unless
    /// set.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.default_policy = Some(SourcePolicy::Limits(limits));
        self
    }

    /// Limits of one source, by its table's name.
    pub fn source_limits(mut self, source: impl Into<String>, limits: Limits) -> Self {
        self.policies
            .insert(source.into(), SourcePolicy::Limits(limits));
        self
    }

    /// A policy of your own for one source, by its table's name.
    pub fn policy(mut self, source: impl Into<String>, policy: Arc<dyn BatchPolicy>) -> Self {
        self.policies
            .insert(source.into(), SourcePolicy::Own(policy));
        self
    }

    /// Lets each batch's queries read more than the batch takes over.
    pub fn window(mut self, window: Window) -> Self {
        self.window = Some(window);
        self
    }

    /// How long failures that may pass are retried.
    pub fn retries(mut self, retries: Retries) -> Self {
        self.retries = retries;
        self
    }

    /// Gets the progress of each batch; a job may have several listeners.
    pub fn listener(mut self, listener: Arc<dyn ProgressListener>) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Goes on from the recorded offsets although the queries are not those of the log.
    pub fn allow_changed_query(mut self, allow: bool) -> Self {
        self.allow_changed_query = allow;
        self
    }

    /// Commits the positions to a consumer group after each batch, for the tools that show lag. They
    /// are never read back, and that they cannot be committed fails no batch.
    pub fn commit_group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Sets what these options set.
    pub fn options(mut self, options: JobOptions) -> Self {
        if options.limits != Limits::default() {
            self = self.limits(options.limits);
        }
        self.window = options.window.or(self.window);
        self.group = options.commit_group.or(self.group);
        if let Some(give_up_after) = options.retry_for {
            self.retries.give_up_after = give_up_after;
        }
        self
    }

    /// Plans the queries. Sinks and log are not touched before the first batch.
    ///
    /// # Errors
    /// When the name or a statement is not usable, a source has an end, or the checkpoint's store
    /// cannot be used.
    pub async fn build(self) -> Result<MicroBatch> {
        check_name(&self.name)?;
        if let Some(window) = self.window {
            window.check()?;
        }
        let Some(checkpoint) = &self.checkpoint else {
            return Err(Error::invalid(
                "a job needs a checkpoint: a directory or a URL for its offset log",
            ));
        };
        let store = Store::open(checkpoint, &self.checkpoint_options)?;
        let mut plan = Plan::new(
            &self.context,
            &self.statements,
            &self.policies,
            self.default_policy.as_ref(),
        )
        .await?;
        if let Some(group) = &self.group {
            for source in &mut plan.sources {
                source.group = Some(source.table.group_commits(group)?);
            }
        }
        Ok(MicroBatch {
            context: self.context,
            name: self.name,
            run: uuid::Uuid::new_v4().simple().to_string(),
            plan,
            log: OffsetLog::new(store).fsync(self.fsync),
            trigger: self.trigger,
            window: self.window,
            retries: self.retries,
            listeners: self.listeners,
            allow_changed_query: self.allow_changed_query,
            owns: false,
            failed: 0,
            fixed: None,
            unanswered: None,
            state: State::Recover,
            shown: Arc::default(),
        })
    }
}

/// A name becomes part of file names and ids: letters, digits, `.`, `_` and `-`.
fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 100 || !name.chars().all(fits) || name.starts_with('.') {
        return Err(Error::invalid(format!(
            "'{name}' cannot be a job's name: up to 100 letters, digits, '.', '_' and '-', not starting with '.'"
        )));
    }
    Ok(())
}
