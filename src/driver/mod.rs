//! The micro-batch driver: reruns queries over new offsets, and delivers each row once.
//!
//! A [`MicroBatch`] repeats five steps:
//!
//! ```text
//! look     where do the logs of the sources end?
//! fix      choose the batch's ranges and log them: intent/N
//! run      the queries over exactly these ranges; stage the rows in the sinks
//! commit   rows and ends together, in each sink
//! note     commit/N
//! ```
//!
//! Whatever crashes, the next run finds the last intent and repeats it with the same ranges; the
//! sinks know by their recorded ends whether they have its rows already (see [`Sink`](crate::sink::Sink)). It is
//! Koeninger's direct stream with Spark's log of offsets, and the log is not even the truth: a
//! sink's recorded ends are, so that a lost log loses nothing.

mod batch;
mod builder;
mod digest;
mod index;
mod intent;
mod job;
mod lag;
mod letters;
mod log;
mod normal;
mod output;
mod policy;
mod progress;
mod reconcile;
mod recover;
mod replay;
mod run;
mod source;
mod ticks;
mod window;

#[cfg(test)]
mod tests;

pub use crate::table::Limits;
pub use builder::{JobOptions, MicroBatchBuilder, Retries};
pub use index::create_index;
pub use intent::{CommitRecord, Intent, Lost, LostBecause, SourceIntent};
pub use lag::{Lags, PartitionLag};
pub use log::{KEPT_BATCHES, OffsetLog};
pub use policy::{Backlog, BatchPolicy, GUESSED_BYTES, MAX_DELAY, PartitionBacklog};
pub use progress::{
    BatchProgress, Behind, Phases, ProgressListener, Reads, Retry, SinkProgress, SourceProgress,
};
pub use replay::{Difference, Replay};
pub use run::{MicroBatch, RunSummary, Stop, Trigger};
pub use window::Window;
