//! Which records of transactions are visible, and that control records never are.
//!
//! The end of a transaction takes one offset in each of its partitions.

use std::time::{Duration, Instant};

use datafusion_kafka::client::memory::Record;
use datafusion_kafka::client::{OffsetAt, ReadRequest};
use datafusion_kafka::range::{IsolationLevel, TopicPartition};
use datafusion_kafka::{Error, ErrorKind};
use futures::StreamExt;

use super::reading::{
    Outcome, ReadCommitted, ReadUncommitted, offset, range, read, read_as, request, span,
};
use super::{Codec, End, Fixture, Need, Transaction, can, numbered, partition, topic};

/// A client must not wait longer than this for a tail without visible records. One that waits in it does so for 60 s.
const TAIL_LIMIT: Duration = Duration::from_secs(15);

/// Writes `records` numbered records in a separate transaction, and ends it.
async fn transact(fixture: &dyn Fixture, partition: &TopicPartition, records: usize, end: End) {
    open(fixture, partition, records).await.end(end).await;
}

async fn open(
    fixture: &dyn Fixture,
    partition: &TopicPartition,
    records: usize,
) -> Box<dyn Transaction> {
    let mut transaction = fixture.begin().await;
    transaction.write(partition, &numbered(records)).await;
    transaction
}

/// Plain records 0..3, a transaction 3..8 with its control record at 8, and plain records 9..12.
async fn one_transaction(fixture: &dyn Fixture, end: End) -> TopicPartition {
    let partition = partition(fixture, "one-transaction").await;
    fixture.produce(&partition, &numbered(3), Codec::None).await;
    transact(fixture, &partition, 5, end).await;
    fixture.produce(&partition, &numbered(3), Codec::None).await;
    partition
}

async fn sees(fixture: &dyn Fixture, end: End, isolation: IsolationLevel, expected: Vec<i64>) {
    if !can(fixture, Need::Transactions) {
        return;
    }
    let partition = one_transaction(fixture, end).await;
    let outcome = read_as(fixture, &partition, 0, 12, isolation).await;
    assert_eq!(outcome.offsets(), expected);
}

fn without_the_control_record() -> Vec<i64> {
    [span(0, 8), span(9, 12)].concat()
}

pub async fn committed_is_read_committed(fixture: &dyn Fixture) {
    sees(
        fixture,
        End::Commit,
        ReadCommitted,
        without_the_control_record(),
    )
    .await;
}

pub async fn committed_is_read_uncommitted(fixture: &dyn Fixture) {
    sees(
        fixture,
        End::Commit,
        ReadUncommitted,
        without_the_control_record(),
    )
    .await;
}

pub async fn aborted_is_hidden_when_committed_is_asked_for(fixture: &dyn Fixture) {
    let expected = [span(0, 3), span(9, 12)].concat();
    sees(fixture, End::Abort, ReadCommitted, expected).await;
}

pub async fn aborted_is_seen_when_uncommitted_is_asked_for(fixture: &dyn Fixture) {
    sees(
        fixture,
        End::Abort,
        ReadUncommitted,
        without_the_control_record(),
    )
    .await;
}

pub async fn open_ends_the_log_before_it(fixture: &dyn Fixture) {
    if !can(fixture, Need::Transactions) {
        return;
    }
    let partition = partition(fixture, "open").await;
    fixture.produce(&partition, &numbered(3), Codec::None).await;
    let transaction = open(fixture, &partition, 2).await;
    fixture.produce(&partition, &numbered(4), Codec::None).await;
    assert_eq!(read(fixture, &partition, 0, 3).await.offsets(), span(0, 3));
    // After it has ended, the records behind it can be read too.
    transaction.end(End::Commit).await;
    let expected = span(0, 9);
    assert_eq!(read(fixture, &partition, 0, 10).await.offsets(), expected);
}

pub async fn open_is_seen_when_uncommitted_is_asked_for(fixture: &dyn Fixture) {
    if !can(fixture, Need::Transactions) {
        return;
    }
    let partition = partition(fixture, "open-uncommitted").await;
    let transaction = open(fixture, &partition, 4).await;
    let outcome = read_as(fixture, &partition, 0, 4, ReadUncommitted).await;
    assert_eq!(outcome.offsets(), span(0, 4));
    transaction.end(End::Abort).await;
}

pub async fn open_range_is_past_the_log_end(fixture: &dyn Fixture) {
    if !can(fixture, Need::Transactions) {
        return;
    }
    let partition = partition(fixture, "open-past-end").await;
    fixture.produce(&partition, &numbered(3), Codec::None).await;
    let transaction = open(fixture, &partition, 4).await;
    let error = read(fixture, &partition, 0, 7).await.failure();
    assert_eq!(error.kind(), ErrorKind::DataUnavailable, "{error:?}");
    let Error::PastLogEnd {
        asked, available, ..
    } = error
    else {
        panic!("expected the log's end, found {error:?}");
    };
    assert_eq!((asked, available), (7, 3));
    transaction.end(End::Commit).await;
}

fn assert_quickly(outcome: &Outcome, expected: &[i64]) {
    assert_eq!(outcome.offsets(), expected);
    assert!(outcome.took < TAIL_LIMIT, "took {:?}", outcome.took);
}

pub async fn control_record_alone_yields_nothing(fixture: &dyn Fixture) {
    if !can(fixture, Need::Transactions) {
        return;
    }
    let partition = one_transaction(fixture, End::Commit).await;
    for isolation in [ReadCommitted, ReadUncommitted] {
        let outcome = read_as(fixture, &partition, 8, 9, isolation).await;
        assert_quickly(&outcome, &[]);
    }
}

pub async fn control_record_at_the_tail_ends_the_range(fixture: &dyn Fixture) {
    if !can(fixture, Need::Transactions) {
        return;
    }
    let partition = partition(fixture, "tail").await;
    transact(fixture, &partition, 5, End::Commit).await;
    for isolation in [ReadCommitted, ReadUncommitted] {
        let outcome = read_as(fixture, &partition, 0, 6, isolation).await;
        assert_quickly(&outcome, &span(0, 5));
    }
}

pub async fn many_control_records_at_the_tail(fixture: &dyn Fixture) {
    if !can(fixture, Need::Transactions) {
        return;
    }
    let partition = partition(fixture, "many-controls").await;
    transact(fixture, &partition, 1, End::Commit).await;
    for _ in 0..3 {
        transact(fixture, &partition, 1, End::Abort).await;
    }
    let committed = read(fixture, &partition, 0, 8).await;
    assert_quickly(&committed, &[0]);
    let uncommitted = read_as(fixture, &partition, 0, 8, ReadUncommitted).await;
    assert_quickly(&uncommitted, &[0, 2, 4, 6]);
}

/// The end of the log is known before the last range begins.
pub async fn tail_without_records_in_several_ranges(fixture: &dyn Fixture) {
    if !can(fixture, Need::Transactions) {
        return;
    }
    let partition = partition(fixture, "tail-ranges").await;
    fixture.produce(&partition, &numbered(6), Codec::None).await;
    transact(fixture, &partition, 5, End::Abort).await;
    for cut in 6..12 {
        let small_batches = ReadRequest {
            batch_rows: 3,
            ..request(vec![range(&partition, 0, cut), range(&partition, cut, 12)])
        };
        let mut stream = fixture.client().read(small_batches);
        let mut offsets = Vec::new();
        let started = Instant::now();
        while let Some(batch) = stream.next().await {
            let batch = batch.unwrap();
            assert!(batch.next_offset <= 12);
            offsets.extend_from_slice(batch.offsets.values());
            // Meanwhile everything up to the end of the log arrives.
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        assert_eq!(offsets, span(0, 6), "cut at {cut}");
        assert!(
            started.elapsed() < TAIL_LIMIT,
            "took {:?}",
            started.elapsed()
        );
    }
}

pub async fn fully_aborted_range_yields_nothing(fixture: &dyn Fixture) {
    if !can(fixture, Need::Transactions) {
        return;
    }
    let partition = partition(fixture, "fully-aborted").await;
    transact(fixture, &partition, 500, End::Abort).await;
    assert_quickly(&read(fixture, &partition, 0, 501).await, &[]);
}

pub async fn range_ends_inside_an_aborted_transaction(fixture: &dyn Fixture) {
    sees_part(fixture, 0, 5, &[0, 1, 2]).await;
}

pub async fn range_starts_inside_an_aborted_transaction(fixture: &dyn Fixture) {
    sees_part(fixture, 6, 12, &[9, 10, 11]).await;
}

async fn sees_part(fixture: &dyn Fixture, start: i64, end: i64, expected: &[i64]) {
    if !can(fixture, Need::Transactions) {
        return;
    }
    let partition = one_transaction(fixture, End::Abort).await;
    let outcome = read(fixture, &partition, start, end).await;
    assert_quickly(&outcome, expected);
}

pub async fn interleaved_transactions_are_told_apart(fixture: &dyn Fixture) {
    if !can(fixture, Need::Transactions) {
        return;
    }
    let partition = partition(fixture, "interleaved").await;
    let mut kept = fixture.begin().await;
    let mut dropped = fixture.begin().await;
    for _ in 0..3 {
        kept.write(&partition, &[Record::new("kept")]).await;
        dropped.write(&partition, &[Record::new("dropped")]).await;
    }
    let stable = offset(fixture, &partition, OffsetAt::Latest, ReadCommitted).await;
    assert_eq!(stable, Some(0));
    kept.end(End::Commit).await;
    // The first of the dropped transactions begins at offset 1 and is still open.
    let stable = offset(fixture, &partition, OffsetAt::Latest, ReadCommitted).await;
    assert_eq!(stable, Some(1));
    dropped.end(End::Abort).await;
    assert_quickly(&read(fixture, &partition, 0, 8).await, &[0, 2, 4]);
    let all = read_as(fixture, &partition, 0, 8, ReadUncommitted).await;
    assert_quickly(&all, &span(0, 6));
}

pub async fn one_transaction_over_several_partitions(fixture: &dyn Fixture) {
    if !can(fixture, Need::Transactions) {
        return;
    }
    let name = topic(fixture, "over-partitions", 3).await;
    let mut transaction = fixture.begin().await;
    for number in 0..2 {
        let partition = TopicPartition::new(&*name, number);
        transaction.write(&partition, &numbered(4)).await;
    }
    transaction.end(End::Commit).await;
    for (number, end) in [(0, 5), (1, 5), (2, 0)] {
        let partition = TopicPartition::new(&*name, number);
        let latest = offset(fixture, &partition, OffsetAt::Latest, ReadCommitted).await;
        assert_eq!(latest, Some(end));
        let outcome = read(fixture, &partition, 0, end).await;
        assert_quickly(&outcome, &span(0, (end - 1).max(0)));
    }
}

pub async fn plain_records_between_transactions_are_read(fixture: &dyn Fixture) {
    if !can(fixture, Need::Transactions) {
        return;
    }
    let partition = partition(fixture, "between").await;
    let transaction = open(fixture, &partition, 1).await;
    fixture.produce(&partition, &numbered(2), Codec::None).await;
    transaction.end(End::Abort).await;
    fixture.produce(&partition, &numbered(1), Codec::None).await;
    assert_quickly(&read(fixture, &partition, 0, 5).await, &[1, 2, 4]);
}
