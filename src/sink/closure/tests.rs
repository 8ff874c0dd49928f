//! Closures are called in their order, and their errors keep what they say.

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

use super::*;

fn rows(count: i64) -> SendableRecordBatchStream {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
    let schema = batch.schema();
    let stream = futures::stream::iter([Ok(batch)]);
    Box::pin(RecordBatchStreamAdapter::new(schema, stream))
}

fn batch(number: u64, attempt: &str) -> BatchRanges {
    let previous = number.checked_sub(1).map(|_| 10 * number.cast_signed());
    BatchRanges {
        job: "j".to_owned(),
        batch: number,
        attempt: attempt.to_owned(),
        ranges: vec![SourceRange {
            partition: SourcePartition {
                source: "s".into(),
                topic: "t".into(),
                partition: 0,
            },
            previous,
            start: previous.unwrap_or(0),
            end: 10 * (number.cast_signed() + 1),
            topic_id: None,
            leader_epoch: None,
        }],
    }
}

async fn open<T: Send + 'static>(sink: &ForEachBatch<T>) -> Opened {
    let schema = rows(0).schema();
    let job = SinkJob {
        name: "j".to_owned(),
        schema,
    };
    sink.open(&job).await.unwrap()
}

/// A sink that returns the number of rows, and what its commits were given.
type Counted = Arc<Mutex<Vec<Vec<usize>>>>;

fn counts() -> (ForEachBatch<usize>, Counted) {
    use futures::StreamExt;
    let given: Arc<Mutex<Vec<Vec<usize>>>> = Arc::default();
    let commits = Arc::clone(&given);
    let sink = ForEachBatch::new("counts", |_, _, rows: SendableRecordBatchStream| async {
        let counts = rows.map(|batch| batch.map_or(0, |b| b.num_rows()));
        Ok(counts.fold(0, |sum, n| async move { sum + n }).await)
    });
    let sink = sink.on_commit(move |_, results| {
        commits.lock().unwrap().push(results);
        async { Ok(()) }
    });
    (sink, given)
}

#[tokio::test]
async fn results_of_all_partitions_reach_the_commit_in_order_and_once() {
    let (sink, given) = counts();
    let sink = open(&sink).await.sink;
    let first = batch(0, "a");
    let later = sink.stage(&first, 1, rows(5)).await.unwrap();
    let earlier = sink.stage(&first, 0, rows(3)).await.unwrap();
    assert_eq!((earlier.rows, later.rows), (3, 5));
    sink.commit(&first, vec![earlier, later]).await.unwrap();
    sink.commit(&first, vec![]).await.unwrap();
    assert_eq!(*given.lock().unwrap(), [[3, 5]]);
}

#[tokio::test]
async fn an_aborted_attempt_leaves_nothing_to_the_next() {
    let (sink, given) = counts();
    let sink = open(&sink).await.sink;
    let staged = sink.stage(&batch(0, "a"), 0, rows(3)).await.unwrap();
    sink.abort(&batch(0, "a")).await.unwrap();
    let refused = sink.commit(&batch(0, "a"), vec![staged]).await.unwrap_err();
    assert!(
        matches!(
            refused,
            Error::Sink {
                transient: true,
                ..
            }
        ),
        "{refused}"
    );
    let staged = sink.stage(&batch(0, "b"), 0, rows(4)).await.unwrap();
    sink.commit(&batch(0, "b"), vec![staged]).await.unwrap();
    assert_eq!(*given.lock().unwrap(), [[4]]);
}

#[tokio::test]
async fn a_batch_that_does_not_continue_the_recorded_ends_is_a_conflict() {
    let (sink, given) = counts();
    let sink = sink.recorded(|_| async {
        let ends = batch(4, "x").ends();
        Ok(Some(Committed { batch: 4, ends }))
    });
    let opened = open(&sink).await;
    assert_eq!(opened.committed.unwrap().batch, 4);
    let sink = opened.sink;
    sink.commit(&batch(4, "a"), vec![]).await.unwrap();
    assert!(given.lock().unwrap().is_empty(), "it is committed already");
    let refused = sink.commit(&batch(7, "a"), vec![]).await.unwrap_err();
    assert!(matches!(refused, Error::Conflict { .. }), "{refused}");
    sink.commit(&batch(5, "a"), vec![]).await.unwrap();
    assert_eq!(given.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn errors_of_closures_keep_what_they_say() {
    let conflict = || Error::Conflict {
        target: "mine".to_owned(),
        message: "overtaken".to_owned(),
    };
    let ours: ForEachBatch =
        ForEachBatch::new("ours", move |_, _, _| async move { Err(conflict().into()) });
    let error = open(&ours)
        .await
        .sink
        .stage(&batch(0, "a"), 0, rows(1))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "mine: overtaken");
    let foreign: ForEachBatch =
        ForEachBatch::new("foreign", |_, _, _| async { Err("no room".into()) });
    let error = open(&foreign)
        .await
        .sink
        .stage(&batch(0, "a"), 2, rows(1))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "for_each_batch 'foreign': partition 2 of batch 0 failed: no room"
    );
}
