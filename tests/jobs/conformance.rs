//! The promises of every sink, as one suite that each sink runs.
//!
//! ```ignore
//! sink_conformance!(fixture().await);
//! ```
//!
//! makes a test of every case. The expression is a [`Fixture`], which makes sinks and reads back what a
//! reader of their targets sees.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_kafka::sink::{
    BatchRanges, Committed, Ends, Position, Sink, SinkJob, SourcePartition, SourceRange, Staged,
};
use datafusion_kafka::{Error, ErrorKind, Result};
use futures::{FutureExt, StreamExt, stream};

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
    SinkJob {
        name: name.to_owned(),
        schema: schema(),
    }
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
        let sink = sink();
        let found = sink.open(&job("job")).await.unwrap();
        let found = found.and_then(|found| found.ends.into_values().next());
        let found = found.map(|position| (position.next, position.leader_epoch));
        (sink, found)
    };
    let write = async |sink: &Arc<dyn Sink>, number, previous, end| {
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

/// Stages each slice of ids as a separate execution partition.
pub async fn stage(
    sink: &Arc<dyn Sink>,
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
pub async fn deliver(sink: &Arc<dyn Sink>, batch: &BatchRanges, ids: &[&[i64]]) -> Result<()> {
    let staged = stage(sink, batch, ids).await?;
    sink.commit(batch, staged).await
}

/// Opens and delivers, and repeats that while the sink says that it may help.
async fn deliver_at_last(sink: &Arc<dyn Sink>, batch: &BatchRanges, ids: &[&[i64]]) {
    for _ in 0..20 {
        let batch = again(batch);
        let delivered = async {
            sink.open(&job("job")).await?;
            deliver(sink, &batch, ids).await
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
    Some(Committed {
        batch: batch.batch,
        ends: batch.ends(),
    })
}

pub async fn a_batch_is_seen_once_it_is_committed(fixture: &Fixture) {
    let target = "seen";
    let sink = fixture.sink(target).await;
    assert_eq!(sink.open(&job("job")).await.unwrap(), None);
    let first = batch(0, &[(0, None, 3), (1, None, 2)]);
    let staged = stage(&sink, &first, &[&[1, 2, 3], &[4, 5]]).await.unwrap();
    let counts: Vec<_> = staged.iter().map(|s| (s.partition, s.rows)).collect();
    assert_eq!(counts, [(0, 3), (1, 2)]);
    assert!(fixture.ids(target).await.is_empty(), "seen too early");
    sink.commit(&first, staged).await.unwrap();
    assert_eq!(fixture.ids(target).await, [1, 2, 3, 4, 5]);
    assert_eq!(sink.open(&job("job")).await.unwrap(), committed(&first));
    let other = fixture.sink(target).await;
    assert_eq!(other.open(&job("job")).await.unwrap(), committed(&first));
}

pub async fn rows_come_back_as_they_were_staged(fixture: &Fixture) {
    let target = "asstaged";
    let sink = fixture.sink(target).await;
    sink.open(&job("job")).await.unwrap();
    let first = batch(0, &[(0, None, 9)]);
    let ids: Vec<i64> = vec![i64::MIN, -1, 0, 1, i64::MAX];
    deliver(&sink, &first, &[&ids]).await.unwrap();
    let mut found = (fixture.rows)(target.to_owned()).await;
    found.sort();
    let expected: Vec<Row> = ids.iter().map(|id| (*id, name(*id))).collect();
    assert_eq!(found, expected);
}

pub async fn batches_follow_one_another(fixture: &Fixture) {
    let target = "follow";
    let sink = fixture.sink(target).await;
    sink.open(&job("job")).await.unwrap();
    let mut previous = None;
    let mut expected = Vec::new();
    for number in 0..4 {
        let end = (number as i64 + 1) * 2;
        let ids = [end - 1, end];
        let next = batch(number, &[(0, previous, end)]);
        deliver(&sink, &next, &[&ids]).await.unwrap();
        expected.extend(ids);
        previous = Some(end);
        assert_eq!(fixture.ids(target).await, expected);
    }
    let found = sink.open(&job("job")).await.unwrap();
    assert_eq!(found, committed(&batch(3, &[(0, Some(6), 8)])));
}

pub async fn a_repeated_commit_changes_nothing(fixture: &Fixture) {
    let target = "repeated";
    let sink = fixture.sink(target).await;
    sink.open(&job("job")).await.unwrap();
    let first = batch(0, &[(0, None, 2)]);
    let staged = stage(&sink, &first, &[&[1, 2]]).await.unwrap();
    sink.commit(&first, staged.clone()).await.unwrap();
    sink.commit(&first, staged).await.unwrap();
    assert_eq!(fixture.ids(target).await, [1, 2]);
    assert_eq!(sink.open(&job("job")).await.unwrap(), committed(&first));
}

pub async fn a_batch_run_again_after_its_commit_changes_nothing(fixture: &Fixture) {
    let target = "runagain";
    let first = batch(0, &[(0, None, 2)]);
    let second = batch(1, &[(0, Some(2), 4)]);
    let sink = fixture.sink(target).await;
    sink.open(&job("job")).await.unwrap();
    deliver(&sink, &first, &[&[1, 2]]).await.unwrap();
    deliver(&sink, &second, &[&[3, 4]]).await.unwrap();
    deliver(&sink, &again(&second), &[&[3, 4]]).await.unwrap();
    let other = fixture.sink(target).await;
    other.open(&job("job")).await.unwrap();
    deliver(&other, &again(&second), &[&[3, 4]]).await.unwrap();
    assert_eq!(fixture.ids(target).await, [1, 2, 3, 4]);
    assert_eq!(other.open(&job("job")).await.unwrap(), committed(&second));
}

pub async fn an_overtaken_batch_is_refused(fixture: &Fixture) {
    let target = "overtaken";
    let slow = fixture.sink(target).await;
    slow.open(&job("job")).await.unwrap();
    let first = batch(0, &[(0, None, 2)]);
    deliver(&slow, &first, &[&[1, 2]]).await.unwrap();
    // The first process stops after staging, while another continues.
    let late = batch(1, &[(0, Some(2), 4)]);
    let staged = stage(&slow, &late, &[&[3, 4]]).await.unwrap();
    let fast = fixture.sink(target).await;
    fast.open(&job("job")).await.unwrap();
    let other = batch(1, &[(0, Some(2), 5)]);
    deliver(&fast, &other, &[&[3, 4, 5]]).await.unwrap();
    refused(slow.commit(&late, staged).await);
    assert_eq!(fixture.ids(target).await, [1, 2, 3, 4, 5]);
    assert_eq!(fast.open(&job("job")).await.unwrap(), committed(&other));
}

pub async fn half_of_a_batch_is_refused(fixture: &Fixture) {
    let target = "half";
    let sink = fixture.sink(target).await;
    sink.open(&job("job")).await.unwrap();
    let first = batch(0, &[(0, None, 2), (1, None, 2)]);
    deliver(&sink, &first, &[&[1, 2]]).await.unwrap();
    let one = batch(1, &[(0, Some(2), 4), (1, Some(2), 2)]);
    deliver(&sink, &one, &[&[3]]).await.unwrap();
    let both = batch(1, &[(0, Some(2), 4), (1, Some(2), 4)]);
    refused(deliver(&sink, &both, &[&[3, 4]]).await);
    assert_eq!(fixture.ids(target).await, [1, 2, 3]);
    assert_eq!(sink.open(&job("job")).await.unwrap(), committed(&one));
}

pub async fn a_gap_is_refused(fixture: &Fixture) {
    let target = "gap";
    let sink = fixture.sink(target).await;
    sink.open(&job("job")).await.unwrap();
    refused(deliver(&sink, &batch(1, &[(0, Some(2), 4)]), &[&[3, 4]]).await);
    assert_eq!(sink.open(&job("job")).await.unwrap(), None);
    let first = batch(0, &[(0, None, 2)]);
    deliver(&sink, &first, &[&[1, 2]]).await.unwrap();
    refused(deliver(&sink, &batch(2, &[(0, Some(3), 4)]), &[&[4]]).await);
    refused(deliver(&sink, &batch(0, &[(0, None, 1)]), &[&[1]]).await);
    assert_eq!(fixture.ids(target).await, [1, 2]);
    assert_eq!(sink.open(&job("job")).await.unwrap(), committed(&first));
}

pub async fn a_batch_without_rows_moves_the_ends(fixture: &Fixture) {
    let target = "norows";
    let sink = fixture.sink(target).await;
    sink.open(&job("job")).await.unwrap();
    let first = batch(0, &[(0, None, 7)]);
    deliver(&sink, &first, &[&[], &[]]).await.unwrap();
    assert_eq!(sink.open(&job("job")).await.unwrap(), committed(&first));
    let second = batch(1, &[(0, Some(7), 9)]);
    let nothing = sink
        .stage(&second, 0, stream_of(Vec::<RecordBatch>::new()))
        .await
        .unwrap();
    assert_eq!(nothing.rows, 0);
    sink.commit(&second, vec![nothing]).await.unwrap();
    let third = batch(2, &[(0, Some(9), 10)]);
    sink.commit(&third, vec![]).await.unwrap();
    assert_eq!(sink.open(&job("job")).await.unwrap(), committed(&third));
    assert!(fixture.ids(target).await.is_empty());
}

pub async fn a_batch_that_moves_nothing_keeps_its_number(fixture: &Fixture) {
    let target = "movesnothing";
    let sink = fixture.sink(target).await;
    sink.open(&job("job")).await.unwrap();
    deliver(&sink, &batch(0, &[(0, None, 2)]), &[&[1, 2]])
        .await
        .unwrap();
    let still = batch(1, &[(0, Some(2), 2)]);
    deliver(&sink, &still, &[&[]]).await.unwrap();
    assert_eq!(sink.open(&job("job")).await.unwrap(), committed(&still));
    let other = fixture.sink(target).await;
    assert_eq!(other.open(&job("job")).await.unwrap(), committed(&still));
}

pub async fn a_partition_joins(fixture: &Fixture) {
    let target = "joins";
    let sink = fixture.sink(target).await;
    sink.open(&job("job")).await.unwrap();
    deliver(&sink, &batch(0, &[(0, None, 2)]), &[&[1, 2]])
        .await
        .unwrap();
    let joined = batch(1, &[(0, Some(2), 2), (1, None, 1), (2, None, 0)]);
    deliver(&sink, &joined, &[&[3]]).await.unwrap();
    assert_eq!(sink.open(&job("job")).await.unwrap(), committed(&joined));
    // The partition has joined already, and must not join again.
    refused(deliver(&sink, &batch(2, &[(0, Some(2), 4), (1, None, 4)]), &[&[4]]).await);
    assert_eq!(fixture.ids(target).await, [1, 2, 3]);
}

pub async fn sources_of_one_topic_are_told_apart(fixture: &Fixture) {
    let target = "sources";
    let sink = fixture.sink(target).await;
    sink.open(&job("job")).await.unwrap();
    let mut both = batch(0, &[(0, None, 5), (0, None, 3)]);
    both.ranges[1].partition.source = "it's \"another\"\\".into();
    both.ranges[1].topic_id = None;
    both.ranges[1].leader_epoch = None;
    deliver(&sink, &both, &[&[1]]).await.unwrap();
    let found = sink.open(&job("job")).await.unwrap();
    let ends: Ends = both
        .ranges
        .iter()
        .map(|range| {
            let position = Position {
                next: range.end,
                topic_id: range.topic_id.clone(),
                leader_epoch: range.leader_epoch,
            };
            (range.partition.clone(), position)
        })
        .collect();
    assert_eq!(ends.len(), 2);
    assert_eq!(found, Some(Committed { batch: 0, ends }));
}

pub async fn an_aborted_batch_leaves_nothing(fixture: &Fixture) {
    let target = "aborted";
    let sink = fixture.sink(target).await;
    sink.open(&job("job")).await.unwrap();
    let first = batch(0, &[(0, None, 2)]);
    stage(&sink, &first, &[&[1, 2], &[3]]).await.unwrap();
    sink.abort(&first).await.unwrap();
    sink.abort(&first).await.unwrap();
    assert!(fixture.ids(target).await.is_empty());
    assert_eq!(sink.open(&job("job")).await.unwrap(), None);
    deliver(&sink, &again(&first), &[&[1, 2]]).await.unwrap();
    assert_eq!(fixture.ids(target).await, [1, 2]);
}

pub async fn a_failing_stream_leaves_nothing(fixture: &Fixture) {
    let target = "failing";
    let sink = fixture.sink(target).await;
    sink.open(&job("job")).await.unwrap();
    let first = batch(0, &[(0, None, 2)]);
    let broken = DataFusionError::External(Box::new(Error::BadRow {
        topic: "orders".to_owned(),
        partition: 0,
        offset: 1,
        message: "not JSON".to_owned(),
    }));
    let stream = stream::iter([Ok(rows(&[1])), Err(broken)]);
    let stream = Box::pin(RecordBatchStreamAdapter::new(schema(), stream));
    let error = sink.stage(&first, 0, stream).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadRow, "{error}");
    sink.abort(&first).await.unwrap();
    assert!(fixture.ids(target).await.is_empty());
    deliver_at_last(&sink, &first, &[&[1, 2]]).await;
    assert_eq!(fixture.ids(target).await, [1, 2]);
}

/// Stages rows from a stream that never ends, until the sink waits for more. Then drops it.
async fn stage_and_drop(sink: &Arc<dyn Sink>, batch: &BatchRanges) {
    let (asked, mut waits) = tokio::sync::mpsc::channel::<()>(1);
    let endless = stream::iter([Ok(rows(&[1])), Ok(rows(&[2]))]).chain(
        async move {
            let _ = asked.send(()).await;
            std::future::pending().await
        }
        .into_stream(),
    );
    let endless = Box::pin(RecordBatchStreamAdapter::new(schema(), endless));
    let staging = sink.stage(batch, 0, endless);
    tokio::select! {
        _ = staging => panic!("the stream has no end"),
        _ = waits.recv() => {}
    }
}

pub async fn a_dropped_stage_leaves_nothing(fixture: &Fixture) {
    let target = "droppedstage";
    let sink = fixture.sink(target).await;
    sink.open(&job("job")).await.unwrap();
    let first = batch(0, &[(0, None, 2)]);
    stage_and_drop(&sink, &first).await;
    assert!(fixture.ids(target).await.is_empty());
    deliver_at_last(&sink, &first, &[&[1, 2]]).await;
    assert_eq!(fixture.ids(target).await, [1, 2]);
}

pub async fn a_dropped_sink_leaves_nothing(fixture: &Fixture) {
    let target = "droppedsink";
    let first = batch(0, &[(0, None, 2)]);
    {
        let sink = fixture.sink(target).await;
        sink.open(&job("job")).await.unwrap();
        stage_and_drop(&sink, &first).await;
    }
    let sink = fixture.sink(target).await;
    assert_eq!(sink.open(&job("job")).await.unwrap(), None);
    deliver_at_last(&sink, &first, &[&[1, 2]]).await;
    assert_eq!(fixture.ids(target).await, [1, 2]);
    // Between staging and commit.
    let second = batch(1, &[(0, Some(2), 3)]);
    stage(&sink, &second, &[&[3]]).await.unwrap();
    drop(sink);
    let sink = fixture.sink(target).await;
    assert_eq!(sink.open(&job("job")).await.unwrap(), committed(&first));
    deliver_at_last(&sink, &second, &[&[3]]).await;
    assert_eq!(fixture.ids(target).await, [1, 2, 3]);
}

pub async fn another_job_is_refused(fixture: &Fixture) {
    let target = "otherjob";
    let sink = fixture.sink(target).await;
    sink.open(&job("job")).await.unwrap();
    let first = batch(0, &[(0, None, 2)]);
    deliver(&sink, &first, &[&[1, 2]]).await.unwrap();
    let other = fixture.sink(target).await;
    let error = other.open(&job("stranger")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let message = error.to_string();
    assert!(message.contains("job 'job'"), "{message}");
    assert!(message.contains("'shared' = 'true'"), "{message}");
    assert_eq!(sink.open(&job("job")).await.unwrap(), committed(&first));
}

pub async fn jobs_share_a_target_that_allows_it(fixture: &Fixture) {
    let target = "shared";
    let sink = fixture.shared(target).await;
    sink.open(&job("job")).await.unwrap();
    let first = batch(0, &[(0, None, 2)]);
    deliver(&sink, &first, &[&[1, 2]]).await.unwrap();
    let other = fixture.shared(target).await;
    assert_eq!(other.open(&job("second job")).await.unwrap(), None);
    let mut theirs = batch(0, &[(0, None, 1)]);
    theirs.job = "second job".to_owned();
    deliver(&other, &theirs, &[&[3]]).await.unwrap();
    assert_eq!(fixture.ids(target).await, [1, 2, 3]);
    assert_eq!(
        other.open(&job("second job")).await.unwrap(),
        committed(&theirs)
    );
    let again = fixture.shared(target).await;
    assert_eq!(again.open(&job("job")).await.unwrap(), committed(&first));
}

pub async fn two_drivers_race_for_the_first_batch(fixture: &Fixture) {
    for round in 0..5 {
        let target = format!("race{round}");
        let (one, other) = (fixture.sink(&target).await, fixture.sink(&target).await);
        let first = batch(0, &[(0, None, 2), (1, None, 1)]);
        let ids: &[&[i64]] = &[&[1, 2], &[3]];
        tokio::join!(
            deliver_at_last(&one, &first, ids),
            deliver_at_last(&other, &first, ids)
        );
        assert_eq!(fixture.ids(&target).await, [1, 2, 3], "round {round}");
        assert_eq!(one.open(&job("job")).await.unwrap(), committed(&first));
    }
}

pub async fn many_partitions_are_staged_at_once(fixture: &Fixture) {
    let target = "partitions";
    let sink = fixture.sink(target).await;
    sink.open(&job("job")).await.unwrap();
    let first = batch(0, &[(0, None, 800)]);
    let staging = (0..8usize).map(|partition| {
        let (sink, first) = (Arc::clone(&sink), first.clone());
        async move {
            let start = partition as i64 * 100;
            let batches = (0..10).map(move |piece| {
                let from = start + piece * 10;
                rows(&(from..from + 10).collect::<Vec<_>>())
            });
            sink.stage(&first, partition, stream_of(batches)).await
        }
    });
    let staged = futures::future::join_all(staging).await;
    let staged: Vec<Staged> = staged.into_iter().map(Result::unwrap).collect();
    assert_eq!(staged.iter().map(|s| s.rows).sum::<u64>(), 800);
    sink.commit(&first, staged).await.unwrap();
    assert_eq!(fixture.ids(target).await, (0..800).collect::<Vec<i64>>());
}
