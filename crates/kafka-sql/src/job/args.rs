//! The flags of jobs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use datafusion_kafka::driver::{JobOptions, MicroBatchBuilder, Trigger, Window};

/// Which job.
#[derive(Debug, Clone, Args)]
pub(crate) struct JobArgs {
    /// The job: tables, views, and INSERT INTO sink SELECT … statements
    #[arg(value_name = "JOB.sql")]
    pub(crate) file: PathBuf,
    /// The name by which sinks and log know the job [default: the file's name without .sql]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The folder or URL of the job's offset log [default: the file's name with .checkpoint]
    #[arg(long, value_name = "URL")]
    checkpoint: Option<String>,
    /// Go on from the recorded ends although the queries have changed
    #[arg(long)]
    pub(crate) allow_changed_query: bool,
    /// Do not sync the offset log to disk
    #[arg(long)]
    pub(crate) no_fsync: bool,
}

impl JobArgs {
    /// The name that metrics have for the job.
    #[cfg(feature = "serve")]
    pub(super) fn label(&self) -> Option<String> {
        self.name.clone().or_else(|| stem(&self.file))
    }

    /// The offset log's place.
    pub(crate) fn checkpoint(&self) -> String {
        match &self.checkpoint {
            Some(url) => url.clone(),
            None => self.file.with_extension("checkpoint").display().to_string(),
        }
    }
}

/// `kafka-sql run`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) job: JobArgs,
    /// One batch of everything there is, without limits, then end
    #[arg(long, group = "trigger")]
    once: bool,
    /// Everything that is there now, in batches within the limits, then end
    #[arg(long, group = "trigger")]
    available_now: bool,
    /// A batch each time this has passed, for example 5s or 250ms; late ones are skipped
    #[arg(long, group = "trigger", value_name = "TIME", value_parser = time)]
    every: Option<Duration>,
    /// About the most offsets in a batch, shared out by the partitions' backlogs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_offsets: Option<u64>,
    /// The most offsets of each partition in a batch
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_offsets_per_partition: Option<u64>,
    /// About the most key and value bytes in a batch, estimated from earlier batches
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_bytes: Option<u64>,
    /// Wait until there are this many new offsets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    min_offsets: Option<u64>,
    /// Wait for them no longer than this [default: 15m]
    #[arg(long, value_name = "TIME", value_parser = time, requires = "min_offsets")]
    max_delay: Option<Duration>,
    /// End a batch at the first record whose timestamp is younger than this
    #[arg(long, value_name = "TIME", value_parser = time)]
    lag: Option<Duration>,
    /// Let the queries of a batch also read earlier offsets, back to this long before now
    #[arg(long, value_name = "TIME", value_parser = time, group = "windows")]
    window: Option<Duration>,
    /// Let the queries of a batch read the last N batches, including this one
    #[arg(long, value_name = "N", group = "windows")]
    window_batches: Option<u64>,
    /// Try again for this long while a broker or a sink is down [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = time)]
    retry_for: Option<Duration>,
    /// Commit the positions to a consumer group after each batch, for lag tools; the job never reads them
    #[arg(long, value_name = "GROUP")]
    commit_group: Option<String>,
    /// Write a line of JSON for each batch to a file, `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) progress: Option<PathBuf>,
    /// Serve metrics and probes of the job on an address of this machine, say 127.0.0.1:9464
    #[cfg(feature = "serve")]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<String>,
}

impl RunArgs {
    /// Gives the flags to the job.
    pub(crate) fn apply(&self, builder: MicroBatchBuilder) -> MicroBatchBuilder {
        let trigger = if self.once {
            Trigger::Once
        } else if self.available_now {
            Trigger::AvailableNow
        } else {
            self.every.map_or(Trigger::Continuous, Trigger::Every)
        };
        builder.trigger(trigger).options(self.options())
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

/// `kafka-sql replay`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) job: JobArgs,
    /// The batch to compute again
    #[arg(long, value_name = "N")]
    pub(crate) batch: u64,
    /// Compare with what the sinks hold instead of printing the rows; exit 5 if they differ
    #[arg(long)]
    pub(crate) diff: bool,
}

/// `kafka-sql jobs`.
#[derive(Debug, Clone, Args)]
pub(crate) struct JobsArgs {
    /// A job's offset log, or a folder of several
    #[arg(value_name = "URL")]
    pub(crate) checkpoint: String,
}

/// Reads a time span such as `5s`, `250ms` or `1h 30m`.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text
        .parse()
        .map_err(|_| format!("expected a time such as 250ms, 5s or 15m, found '{text}'"))?;
    Duration::try_from(span)
        .map_err(|_| format!("expected a time that has not passed, found '{text}'"))
}

/// The stem of a file's name.
pub(crate) fn stem(path: &Path) -> Option<String> {
    Some(path.file_stem()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(time("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(time("1h 30m"), Ok(Duration::from_secs(5400)));
        for bad in ["5", "-5s", "soon", ""] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
