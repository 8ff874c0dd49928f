//! A range yields exactly its records, or an error that says where and why it does not.

use std::collections::BTreeMap;
use std::time::Duration;

use datafusion_kafka::Error;
use datafusion_kafka::client::{ReadRequest, TopicSelection};
use datafusion_kafka::range::TopicPartition;
use futures::StreamExt;

use super::reading::{Outcome, range, read, request, run, span};
use super::{Codec, Fixture, Need, can, filled, numbered, partition, topic, unique};

/// Reads `start..end` of 100 records, and compares the records with those produced.
async fn exactly(fixture: &dyn Fixture, start: i64, end: i64) {
    let partition = filled(fixture, "exactly", 100).await;
    let outcome = read(fixture, &partition, start, end).await;
    assert_eq!(outcome.offsets(), span(start, end));
    let (from, to) = (
        usize::try_from(start).unwrap(),
        usize::try_from(end).unwrap(),
    );
    assert_eq!(outcome.records(), numbered(100)[from..to]);
}

pub async fn whole_log(fixture: &dyn Fixture) {
    exactly(fixture, 0, 100).await;
}

pub async fn empty_log(fixture: &dyn Fixture) {
    let partition = partition(fixture, "empty").await;
    assert!(read(fixture, &partition, 0, 0).await.whole().is_empty());
}

pub async fn first_record_alone(fixture: &dyn Fixture) {
    exactly(fixture, 0, 1).await;
}

pub async fn last_record_alone(fixture: &dyn Fixture) {
    exactly(fixture, 99, 100).await;
}

pub async fn middle(fixture: &dyn Fixture) {
    exactly(fixture, 37, 61).await;
}

/// Record batches on the broker hold several records. A range may start and end anywhere within them.
pub async fn middle_in_every_position(fixture: &dyn Fixture) {
    let partition = filled(fixture, "positions", 12).await;
    for start in 0..=12 {
        for end in start..=12 {
            let outcome = read(fixture, &partition, start, end).await;
            assert_eq!(outcome.offsets(), span(start, end), "{start}..{end}");
        }
    }
}

pub async fn empty_range_costs_no_fetch(fixture: &dyn Fixture) {
    let partition = filled(fixture, "empty-range", 10).await;
    let before = fixture.fetches();
    let ranges = vec![range(&partition, 0, 0), range(&partition, 10, 10)];
    assert!(
        run(fixture.client(), request(ranges))
            .await
            .whole()
            .is_empty()
    );
    assert_eq!(fixture.fetches(), before);
}

pub async fn no_ranges(fixture: &dyn Fixture) {
    let outcome = run(fixture.client(), request(vec![])).await;
    assert!(outcome.whole().is_empty());
}

fn assert_past_end(outcome: Outcome, partition: &TopicPartition, end: i64, log_end: i64) {
    match outcome.failure() {
        Error::PastLogEnd {
            topic,
            partition: number,
            asked,
            available,
            isolation,
        } => {
            assert_eq!((&*topic, number), (&*partition.topic, partition.partition));
            assert_eq!((asked, available), (end, log_end));
            assert_eq!(isolation, "read_committed");
        }
        other => panic!("expected the log's end, found {other:?}"),
    }
}

pub async fn end_past_the_log_end_fails_with_coordinates(fixture: &dyn Fixture) {
    let partition = filled(fixture, "past-end", 10).await;
    assert_past_end(read(fixture, &partition, 5, 11).await, &partition, 11, 10);
}

pub async fn start_past_the_log_end_fails(fixture: &dyn Fixture) {
    let partition = filled(fixture, "start-past-end", 10).await;
    let outcome = read(fixture, &partition, 1_000, 2_000).await;
    assert_past_end(outcome, &partition, 2_000, 10);
}

pub async fn stays_the_same_while_more_is_appended(fixture: &dyn Fixture) {
    let partition = filled(fixture, "appended", 100).await;
    let small_batches = ReadRequest {
        batch_rows: 10,
        ..request(vec![range(&partition, 0, 100)])
    };
    let mut stream = fixture.client().read(small_batches);
    let mut offsets = Vec::new();
    while let Some(batch) = stream.next().await {
        offsets.extend_from_slice(batch.unwrap().offsets.values());
        fixture.produce(&partition, &numbered(5), Codec::None).await;
    }
    assert_eq!(offsets, span(0, 100));
}

pub async fn reads_the_same_twice(fixture: &dyn Fixture) {
    let partition = filled(fixture, "twice", 50).await;
    let first = read(fixture, &partition, 10, 40).await;
    fixture
        .produce(&partition, &numbered(50), Codec::None)
        .await;
    let second = read(fixture, &partition, 10, 40).await;
    assert_eq!(first.whole(), second.whole());
}

pub async fn disjoint_ranges_of_one_partition(fixture: &dyn Fixture) {
    let partition = filled(fixture, "disjoint", 100).await;
    let ranges = [(3, 7), (20, 21), (90, 100)];
    let ranges = ranges.map(|(start, end)| range(&partition, start, end));
    let outcome = run(fixture.client(), request(ranges.to_vec())).await;
    let expected = [span(3, 7), span(20, 21), span(90, 100)].concat();
    assert_eq!(outcome.offsets(), expected);
}

pub async fn ranges_in_the_order_given(fixture: &dyn Fixture) {
    let partition = filled(fixture, "backwards", 100).await;
    let ranges = vec![range(&partition, 60, 70), range(&partition, 10, 20)];
    let outcome = run(fixture.client(), request(ranges)).await;
    assert_eq!(outcome.offsets(), [span(60, 70), span(10, 20)].concat());
}

pub async fn ranges_of_several_topics(fixture: &dyn Fixture) {
    let one = filled(fixture, "several-one", 10).await;
    let other = filled(fixture, "several-other", 20).await;
    let ranges = vec![
        range(&other, 15, 20),
        range(&one, 0, 10),
        range(&other, 0, 5),
    ];
    let outcome = run(fixture.client(), request(ranges)).await;
    assert_eq!(
        outcome.offsets(),
        [span(15, 20), span(0, 10), span(0, 5)].concat()
    );
    let topics: Vec<_> = outcome.rows.iter().map(|row| &row.partition).collect();
    let expected = [vec![&other; 5], vec![&one; 10], vec![&other; 5]].concat();
    assert_eq!(topics, expected);
}

pub async fn adjacent_ranges_join_seamlessly(fixture: &dyn Fixture) {
    let partition = filled(fixture, "adjacent", 100).await;
    let pieces = (0..10).map(|i| range(&partition, i * 10, i * 10 + 10));
    let outcome = run(fixture.client(), request(pieces.collect())).await;
    assert_eq!(outcome.records(), numbered(100));
}

pub async fn unknown_topic_fails(fixture: &dyn Fixture) {
    let missing = TopicPartition::new(unique("missing"), 0);
    let error = read(fixture, &missing, 0, 1).await.failure();
    let Error::UnknownTopic { topic, .. } = &error else {
        panic!("expected an unknown topic, found {error:?}");
    };
    assert_eq!(**topic, *missing.topic);
}

pub async fn unknown_partition_fails(fixture: &dyn Fixture) {
    let partition = filled(fixture, "one-partition", 1).await;
    let missing = TopicPartition::new(partition.topic, 1);
    let error = read(fixture, &missing, 0, 1).await.failure();
    let Error::UnknownPartition { partition, .. } = error else {
        panic!("expected an unknown partition, found {error:?}");
    };
    assert_eq!(partition, 1);
}

/// A client may check all ranges before it reads the first. Otherwise rows come first, in order.
pub async fn error_in_a_later_range_comes_after_the_rows_before_it(fixture: &dyn Fixture) {
    let partition = filled(fixture, "later-error", 10).await;
    let ranges = vec![range(&partition, 0, 5), range(&partition, 5, 11)];
    let outcome = run(fixture.client(), request(ranges)).await;
    let rows: Vec<i64> = outcome.rows.iter().map(|row| row.offset).collect();
    assert!(span(0, 10).starts_with(&rows), "{rows:?}");
    assert_past_end(outcome, &partition, 11, 10);
}

pub async fn limit_still_gives_the_first_rows(fixture: &dyn Fixture) {
    let partition = filled(fixture, "limit", 100).await;
    let limited = ReadRequest {
        limit: Some(15),
        ..request(vec![range(&partition, 0, 10), range(&partition, 50, 100)])
    };
    let outcome = run(fixture.client(), limited).await;
    let expected = [span(0, 10), span(50, 55)].concat();
    assert_eq!(outcome.offsets()[..15], expected);
}

pub async fn dropped_stream_stops(fixture: &dyn Fixture) {
    let partition = filled(fixture, "dropped", 5_000).await;
    let small_batches = || ReadRequest {
        batch_rows: 10,
        ..request(vec![range(&partition, 0, 5_000)])
    };
    let mut stream = fixture.client().read(small_batches());
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first.offsets.value(0), 0);
    drop(stream);
    let after_drop = fixture.fetches();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(fixture.fetches(), after_drop);
    // A stream that was never polled costs nothing, and the client can still serve others.
    drop(fixture.client().read(small_batches()));
    let outcome = run(fixture.client(), small_batches()).await;
    assert_eq!(outcome.offsets(), span(0, 5_000));
}

async fn topic_id(fixture: &dyn Fixture, topic: &str) -> Option<String> {
    let client = fixture.client();
    let names = [topic.into()];
    let described = client.describe(TopicSelection::Named(&names)).await;
    described.unwrap().topics[0].id.clone()
}

/// Reads the topic with a given id, and returns the outcome.
async fn read_with_id(fixture: &dyn Fixture, partition: &TopicPartition, id: String) -> Outcome {
    let pinned = ReadRequest {
        topic_ids: BTreeMap::from([(partition.topic.clone(), id)]),
        ..request(vec![range(partition, 0, 10)])
    };
    run(fixture.client(), pinned).await
}

pub async fn recreated_topic_is_refused_by_id(fixture: &dyn Fixture) {
    if !can(fixture, Need::TopicDeletion) || !can(fixture, Need::TopicIds) {
        return;
    }
    let partition = filled(fixture, "recreated", 10).await;
    let Some(old) = topic_id(fixture, &partition.topic).await else {
        panic!("the server has topic ids but the client does not tell them");
    };
    fixture.delete_topic(&partition.topic).await;
    let again = super::TopicSpec {
        name: partition.topic.to_string(),
        partitions: 1,
        log_append_time: false,
        compacted: false,
    };
    fixture.create_topic(&again).await;
    fixture
        .produce(&partition, &numbered(10), Codec::None)
        .await;
    let error = read_with_id(fixture, &partition, old.clone())
        .await
        .failure();
    let Error::TopicRecreated {
        expected, found, ..
    } = error
    else {
        panic!("expected a recreated topic, found {error:?}");
    };
    assert_eq!(expected, old);
    assert_eq!(Some(found), topic_id(fixture, &partition.topic).await);
}

pub async fn right_topic_id_is_accepted(fixture: &dyn Fixture) {
    let name = topic(fixture, "same-id", 1).await;
    let partition = TopicPartition::new(name, 0);
    fixture
        .produce(&partition, &numbered(10), Codec::None)
        .await;
    // A server without ids provides none, so there is nothing to compare.
    if let Some(id) = topic_id(fixture, &partition.topic).await {
        let outcome = read_with_id(fixture, &partition, id).await;
        assert_eq!(outcome.offsets(), span(0, 10));
    }
}
