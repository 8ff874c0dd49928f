//! Offsets below the log start: an error by default, counted where they may be skipped.

use datafusion_kafka::Error;
use datafusion_kafka::client::{OffsetAt, OnDataLoss, ReadRequest};
use datafusion_kafka::range::{OffsetRange, TopicPartition};

use super::reading::{Outcome, ReadCommitted, offset, range, read, request, run, span};
use super::{Fixture, Need, can, filled};

/// 100 records of which the first 40 are deleted.
async fn truncated(fixture: &dyn Fixture) -> Option<TopicPartition> {
    if !can(fixture, Need::DeleteRecords) {
        return None;
    }
    let partition = filled(fixture, "truncated", 100).await;
    fixture.delete_records(&partition, 40).await;
    Some(partition)
}

async fn read_skipping(fixture: &dyn Fixture, ranges: Vec<OffsetRange>) -> Outcome {
    let skipping = ReadRequest {
        on_data_loss: OnDataLoss::Skip,
        ..request(ranges)
    };
    run(fixture.client(), skipping).await
}

async fn fails(fixture: &dyn Fixture, start: i64, end: i64, gone: i64) {
    let Some(partition) = truncated(fixture).await else {
        return;
    };
    let error = read(fixture, &partition, start, end).await.failure();
    let Error::BelowLogStart {
        topic,
        partition: number,
        asked,
        available,
        lost,
    } = error
    else {
        panic!("expected the log start, found {error:?}");
    };
    assert_eq!((&*topic, number), (&*partition.topic, 0));
    assert_eq!((asked, available, lost), (start, 40, gone));
}

pub async fn start_below_the_log_start_fails_with_counts(fixture: &dyn Fixture) {
    fails(fixture, 30, 60, 10).await;
}

pub async fn range_wholly_below_the_log_start_fails_with_counts(fixture: &dyn Fixture) {
    fails(fixture, 5, 25, 20).await;
}

async fn skips(fixture: &dyn Fixture, start: i64, end: i64, gone: i64) {
    let Some(partition) = truncated(fixture).await else {
        return;
    };
    let outcome = read_skipping(fixture, vec![range(&partition, start, end)]).await;
    assert_eq!(outcome.offsets(), span((start + gone).min(end), end));
    assert_eq!(outcome.lost_offsets, gone);
}

pub async fn skipped_offsets_are_counted(fixture: &dyn Fixture) {
    skips(fixture, 30, 60, 10).await;
}

pub async fn range_wholly_below_the_log_start_is_skipped_and_counted(fixture: &dyn Fixture) {
    skips(fixture, 5, 25, 20).await;
}

pub async fn nothing_is_lost_at_the_log_start(fixture: &dyn Fixture) {
    let Some(partition) = truncated(fixture).await else {
        return;
    };
    assert_eq!(
        read(fixture, &partition, 40, 100).await.offsets(),
        span(40, 100)
    );
    let outcome = read_skipping(fixture, vec![range(&partition, 40, 100)]).await;
    assert_eq!(
        (outcome.offsets(), outcome.lost_offsets),
        (span(40, 100), 0)
    );
}

pub async fn emptied_log_has_its_end_left(fixture: &dyn Fixture) {
    if !can(fixture, Need::DeleteRecords) {
        return;
    }
    let partition = filled(fixture, "emptied", 20).await;
    fixture.delete_records(&partition, 20).await;
    for at in [OffsetAt::Earliest, OffsetAt::Latest] {
        let found = offset(fixture, &partition, at, ReadCommitted).await;
        assert_eq!(found, Some(20));
    }
    let outcome = read_skipping(fixture, vec![range(&partition, 0, 20)]).await;
    assert_eq!((outcome.offsets(), outcome.lost_offsets), (vec![], 20));
}

pub async fn skipping_in_several_ranges_adds_up(fixture: &dyn Fixture) {
    let Some(partition) = truncated(fixture).await else {
        return;
    };
    let ranges = [(0, 10), (35, 45), (90, 100)];
    let ranges = ranges.map(|(start, end)| range(&partition, start, end));
    let outcome = read_skipping(fixture, ranges.to_vec()).await;
    assert_eq!(outcome.offsets(), [span(40, 45), span(90, 100)].concat());
    assert_eq!(outcome.lost_offsets, 10 + 5);
}
