//! A job: its file, and the flags of `kafka-sql run`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use datafusion_kafka::driver::{JobOptions, MicroBatchBuilder, Trigger, Window};
use serde::Deserialize;

use super::values;

/// A job. The keys mean what the flags of `kafka-sql run` mean.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct JobConfig {
    /// The file with its statements.
    pub file: PathBuf,
    /// The connection whose topics its statements name.
    pub connection: String,
    /// The name by which sinks and log know the job; that of the section unless set.
    pub name: Option<String>,
    /// When batches are made.
    #[serde(default = "continuous", deserialize_with = "values::trigger")]
    pub trigger: Trigger,
    /// The folder or URL of the offset log; the file's name with `.checkpoint` unless set.
    pub checkpoint: Option<String>,
    /// Whether the offset log is synced to disk.
    #[serde(default = "yes")]
    pub fsync: bool,
    /// Whether the job goes on from the recorded ends although its queries have changed.
    #[serde(default)]
    pub allow_changed_query: bool,
    /// About the most offsets in a batch.
    pub max_offsets: Option<u64>,
    /// The most offsets of each partition in a batch.
    pub max_offsets_per_partition: Option<u64>,
    /// About the most key and value bytes in a batch.
    pub max_bytes: Option<u64>,
    /// How many new offsets are waited for.
    pub min_offsets: Option<u64>,
    /// For how long they are.
    #[serde(default, deserialize_with = "values::optional_time")]
    pub max_delay: Option<Duration>,
    /// A batch ends at the first record that is younger.
    #[serde(default, deserialize_with = "values::optional_time")]
    pub lag: Option<Duration>,
    /// How far before now the queries of a batch also read.
    #[serde(default, deserialize_with = "values::optional_time")]
    pub window: Option<Duration>,
    /// How many batches the queries of a batch read, this one included.
    pub window_batches: Option<u64>,
    /// How long a batch is tried again while a broker or a sink is down, before the job counts as failed.
    #[serde(default, deserialize_with = "values::optional_time")]
    pub retry_for: Option<Duration>,
    /// A consumer group that shows the positions to lag tools.
    pub commit_group: Option<String>,
    /// Within this time the job must have committed a batch or found nothing new; else it is not ready.
    #[serde(default, deserialize_with = "values::optional_time")]
    deadline: Option<Duration>,
    /// Whether the job waits until somebody resumes it.
    #[serde(default)]
    pub paused: bool,
}

fn continuous() -> Trigger {
    Trigger::Continuous
}

fn yes() -> bool {
    true
}

/// What a job is allowed beside the time between two of its ticks.
const DEADLINE: Duration = Duration::from_secs(5 * 60);

impl JobConfig {
    /// A job of a file, with defaults for everything else.
    pub fn new(file: impl Into<PathBuf>, connection: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            connection: connection.into(),
            name: None,
            trigger: Trigger::Continuous,
            checkpoint: None,
            fsync: true,
            allow_changed_query: false,
            max_offsets: None,
            max_offsets_per_partition: None,
            max_bytes: None,
            min_offsets: None,
            max_delay: None,
            lag: None,
            window: None,
            window_batches: None,
            retry_for: None,
            commit_group: None,
            deadline: None,
            paused: false,
        }
    }

    /// Within what time the job must have committed a batch or found nothing new: five minutes after its tick
    /// unless set.
    pub fn deadline(&self) -> Duration {
        let tick = match self.trigger {
            Trigger::Every(every) => every,
            _ => Duration::ZERO,
        };
        self.deadline.unwrap_or(DEADLINE.saturating_add(tick))
    }

    /// The offset log's place.
    pub fn checkpoint(&self) -> String {
        match &self.checkpoint {
            Some(url) => url.clone(),
            None => self.file.with_extension("checkpoint").display().to_string(),
        }
    }

    /// The trigger as the file has it.
    pub fn trigger_text(&self) -> String {
        values::trigger_text(self.trigger)
    }

    pub(super) fn resolve(&mut self, folder: &Path) {
        self.file = folder.join(&self.file);
        if let Some(checkpoint) = &mut self.checkpoint
            && !checkpoint.contains("://")
        {
            *checkpoint = folder.join(&*checkpoint).display().to_string();
        }
    }

    /// Gives a planned job all that does not stand in its statements.
    pub fn apply(&self, builder: MicroBatchBuilder) -> MicroBatchBuilder {
        builder
            .trigger(self.trigger)
            .checkpoint(self.checkpoint())
            .fsync(self.fsync)
            .allow_changed_query(self.allow_changed_query)
            .options(self.options())
    }

    fn options(&self) -> JobOptions {
        let mut options = JobOptions::default();
        options.limits.max_offsets = self.max_offsets;
        options.limits.max_offsets_per_partition = self.max_offsets_per_partition;
        options.limits.max_bytes = self.max_bytes;
        options.limits.min_offsets = self.min_offsets;
        options.limits.max_delay = self.max_delay;
        options.limits.lag = self.lag;
        let batches = self.window_batches.map(Window::Batches);
        options.window = self.window.map(Window::Time).or(batches);
        options.retry_for = self.retry_for;
        options.commit_group.clone_from(&self.commit_group);
        options
    }
}
