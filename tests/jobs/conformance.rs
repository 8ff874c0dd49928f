//! The promises of every sink, as one suite that each sink runs.
//!
//! ```ignore
//! sink_conformance!(fixture().await);
//! ```
//!
//! makes a test of every case. The expression is a [`Fixture`], which makes sinks and reads back what a
//! reader of their targets sees.

#[path = "conformance/promises.rs"]
mod promises;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_kafka::sink::{
    BatchRanges, Committed, Ends, OpenSink, Opened, Position, Sink, SinkJob, SourcePartition,
    SourceRange, Staged,
};
use datafusion_kafka::{Error, ErrorKind, Result};
use futures::{FutureExt, StreamExt, stream};

pub use promises::*;

/// A row of the suite: columns `id` (Int64) and `name` (Utf8, NULL allowed).
pub type Row = (i64, Option<String>);

type Later<T> = Pin<Box<dyn Future<Output = T>>>;

/// Makes a sink for a target, which may be shared.
type MakeSink = dyn Fn(String, bool) -> Later<Arc<dyn Sink>>;

/// Reads a target.
type ReadRows = dyn Fn(String) -> Later<Vec<Row>>;

/// A kind of sink under test.
pub struct Fixture {
    sink: Box<MakeSink>,
    rows: Box<ReadRows>,
}

impl Fixture {
    /// `sink(target, shared)` makes a new sink for a target. The target is a word such as `repeated`: the
    /// name of a table, a folder or a topic, which need not exist. Two sinks for one target act like two
    /// processes. `rows(target)` returns what a reader sees, in any order; nothing if the target does not
    /// exist.
    pub fn new<S, SF, R, RF>(sink: S, rows: R) -> Self
    where
        S: Fn(String, bool) -> SF + 'static,
        SF: Future<Output = Arc<dyn Sink>> + 'static,
        R: Fn(String) -> RF + 'static,
        RF: Future<Output = Vec<Row>> + 'static,
    {
        Self {
            sink: Box::new(move |target, shared| Box::pin(sink(target, shared))),
            rows: Box::new(move |target| Box::pin(rows(target))),
        }
    }

    async fn sink(&self, target: &str) -> Arc<dyn Sink> {
        (self.sink)(target.to_owned(), false).await
    }

    async fn shared(&self, target: &str) -> Arc<dyn Sink> {
        (self.sink)(target.to_owned(), true).await
    }

    /// A new sink on a target, and what takes the batches of the job `job`.
    async fn opened(&self, target: &str) -> (Arc<dyn Sink>, Arc<dyn OpenSink>) {
        let sink = self.sink(target).await;
        let opened = open(&sink).await.sink;
        (sink, opened)
    }

    /// The ids that a reader sees, sorted.
    async fn ids(&self, target: &str) -> Vec<i64> {
        let rows = (self.rows)(target.to_owned()).await;
        let mut ids: Vec<i64> = rows.into_iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }
}

/// Makes a test of each case in the suite for one kind of sink.
#[macro_export]
macro_rules! sink_conformance {
    ($fixture:expr) => {
        $crate::sink_conformance!($fixture, fencing);
        $crate::sink_conformance!($fixture; two_drivers_race_for_the_first_batch);
    };
    // Leaves out the race of two drivers, for sinks where opening fences the others.
    ($fixture:expr, fencing) => {
        $crate::sink_conformance!($fixture;
            a_batch_is_seen_once_it_is_committed
            rows_come_back_as_they_were_staged
            batches_follow_one_another
            a_repeated_commit_changes_nothing
            a_batch_run_again_after_its_commit_changes_nothing
            an_overtaken_batch_is_refused
            half_of_a_batch_is_refused
            a_gap_is_refused
            a_batch_without_rows_moves_the_ends
            a_batch_that_moves_nothing_keeps_its_number
            a_partition_joins
            sources_of_one_topic_are_told_apart
            an_aborted_batch_leaves_nothing
            a_failing_stream_leaves_nothing
            a_dropped_stage_leaves_nothing
            a_dropped_sink_leaves_nothing
            another_job_is_refused
            jobs_share_a_target_that_allows_it
            many_partitions_are_staged_at_once
        );
    };
    ($fixture:expr; $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                $crate::conformance::$case(&$fixture).await;
            }
        )*
    };
}

/// The columns of the suite's rows.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
    ]))
}

/// A job with the suite's columns.
pub fn job(name: &str) -> SinkJob {
    SinkJob::new(name, schema())
}

/// Partition `number` of the topic `orders`.
pub fn partition(number: i32) -> SourcePartition {
    SourcePartition {
        source: "orders".into(),
        topic: "orders".into(),
        partition: number,
    }
}

/// A batch of the job `job` over partitions of one topic: (partition, previous end, end).
pub fn batch(number: u64, ranges: &[(i32, Option<i64>, i64)]) -> BatchRanges {
    BatchRanges {
        job: "job".to_owned(),
        batch: number,
        attempt: attempt(),
        ranges: ranges
            .iter()
            .map(|&(number, previous, end)| SourceRange {
                partition: partition(number),
                previous,
                start: previous.unwrap_or(0),
                end,
                topic_id: Some("dGhlIHRvcGljJ3MgaWQ".to_owned()),
                leader_epoch: Some(7),
            })
            .collect(),
    }
}

/// The table of offsets was made by an earlier version, which also wrote to it after this version did. An
/// epoch only counts for the offset that it was recorded with.
pub async fn takes_over_earlier_offsets(
    sink: impl Fn() -> Arc<dyn Sink>,
    offsets: &str,
    sql: impl Fn(String),
) {
    let open = async || {
        let opened = open(&sink()).await;
        let found = opened
            .committed
            .and_then(|found| found.ends.into_values().next());
        let found = found.map(|position| (position.next, position.leader_epoch));
        (opened.sink, found)
    };
    let write = async |sink: &Arc<dyn OpenSink>, number, previous, end| {
        let batch = batch(number, &[(0, previous, end)]);
        deliver(sink, &batch, &[&[end]]).await.unwrap();
    };
    write(&open().await.0, 0, None, 5).await;
    for column in ["leader_epoch", "epoch_offset"] {
        sql(format!("ALTER TABLE {offsets} DROP COLUMN {column}"));
    }
    let (upgraded, found) = open().await;
    assert_eq!(found, Some((5, None)));
    write(&upgraded, 1, Some(5), 9).await;
    let (again, found) = open().await;
    assert_eq!(found, Some((9, Some(7))));
    drop(again);
    sql(format!(
        "UPDATE {offsets} SET next_offset = 12 WHERE topic = 'orders'"
    ));
    let (after_rollback, found) = open().await;
    assert_eq!(found, Some((12, None)));
    write(&after_rollback, 2, Some(12), 15).await;
    assert_eq!(open().await.1, Some((15, Some(7))));
}

/// The same batch, run again.
pub fn again(batch: &BatchRanges) -> BatchRanges {
    BatchRanges {
        attempt: attempt(),
        ..batch.clone()
    }
}

fn attempt() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static ATTEMPTS: AtomicU64 = AtomicU64::new(0);
    let process = u64::from(std::process::id()) << 32;
    let attempt = process + ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    format!("{attempt:032x}")
}

/// Rows with these ids; every third one has no name.
pub fn rows(ids: &[i64]) -> RecordBatch {
    let names: StringArray = ids.iter().map(|id| name(*id)).collect();
    RecordBatch::try_new(
        schema(),
        vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(names)],
    )
    .expect("the columns are as long as each other")
}

fn name(id: i64) -> Option<String> {
    (id % 3 != 0).then(|| format!("name {id}"))
}

/// A stream of batches of rows.
pub fn stream_of(
    batches: impl IntoIterator<Item = RecordBatch, IntoIter: Send + 'static>,
) -> SendableRecordBatchStream {
    let batches = stream::iter(batches.into_iter().map(Ok));
    Box::pin(RecordBatchStreamAdapter::new(schema(), batches))
}

/// Opens a sink for the job `job`.
pub async fn open(sink: &Arc<dyn Sink>) -> Opened {
    sink.open(&job("job")).await.unwrap()
}

/// Stages each slice of ids as a separate execution partition.
pub async fn stage(
    sink: &Arc<dyn OpenSink>,
    batch: &BatchRanges,
    ids: &[&[i64]],
) -> Result<Vec<Staged>> {
    let mut staged = Vec::new();
    for (partition, ids) in ids.iter().enumerate() {
        staged.push(sink.stage(batch, partition, stream_of([rows(ids)])).await?);
    }
    Ok(staged)
}

/// Stages and commits.
pub async fn deliver(sink: &Arc<dyn OpenSink>, batch: &BatchRanges, ids: &[&[i64]]) -> Result<()> {
    let staged = stage(sink, batch, ids).await?;
    sink.commit(batch, staged).await
}

/// Opens and delivers, and repeats that while the sink says that it may help.
async fn deliver_at_last(sink: &Arc<dyn Sink>, batch: &BatchRanges, ids: &[&[i64]]) {
    for _ in 0..20 {
        let batch = again(batch);
        let delivered = async {
            let open = sink.open(&job("job")).await?.sink;
            deliver(&open, &batch, ids).await
        };
        match delivered.await {
            Err(Error::Sink {
                transient: true, ..
            }) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            other => return other.expect("the batch is the next one or committed"),
        }
    }
    panic!("the sink did not recover");
}

fn refused(result: Result<()>) {
    let error = result.expect_err("the batch does not continue what is recorded");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

fn committed(batch: &BatchRanges) -> Option<Committed> {
    Some(Committed::new(batch.batch, batch.ends()))
}
