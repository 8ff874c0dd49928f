//! Many partitions, many ranges, many streams.

use datafusion_kafka::client::ReadRequest;
use datafusion_kafka::range::TopicPartition;
use futures::future::join_all;

use super::reading::{range, request, run, span};
use super::{Codec, Fixture, filled, numbered, topic};

pub async fn five_hundred_partitions_in_one_request(fixture: &dyn Fixture) {
    let name = topic(fixture, "partitions", 500).await;
    let partitions: Vec<_> = (0..500)
        .map(|number| TopicPartition::new(&*name, number))
        .collect();
    for partition in &partitions {
        fixture.produce(partition, &numbered(2), Codec::None).await;
    }
    let ranges = partitions.iter().map(|p| range(p, 0, 2)).collect();
    let outcome = run(fixture.client(), request(ranges)).await;
    let read: Vec<_> = outcome
        .whole()
        .iter()
        .map(|row| (row.partition.partition, row.offset))
        .collect();
    let expected: Vec<_> = (0..500).flat_map(|p| [(p, 0), (p, 1)]).collect();
    assert_eq!(read, expected);
}

pub async fn a_thousand_small_ranges(fixture: &dyn Fixture) {
    let partition = filled(fixture, "small-ranges", 5_000).await;
    let ranges = (0..1_000).map(|i| range(&partition, i * 5 + 1, i * 5 + 4));
    let outcome = run(fixture.client(), request(ranges.collect())).await;
    let expected: Vec<i64> = span(0, 5_000)
        .into_iter()
        .filter(|offset| matches!(offset % 5, 1..=3))
        .collect();
    assert_eq!(outcome.offsets(), expected);
}

pub async fn fifty_streams_at_once(fixture: &dyn Fixture) {
    let partition = filled(fixture, "streams", 2_000).await;
    let streams = (0..50).map(|i| {
        let request = ReadRequest {
            batch_rows: 100,
            ..request(vec![range(&partition, i * 10, 2_000 - i * 10)])
        };
        run(fixture.client(), request)
    });
    for (i, outcome) in (0..).zip(join_all(streams).await) {
        assert_eq!(
            outcome.offsets(),
            span(i * 10, 2_000 - i * 10),
            "stream {i}"
        );
    }
}
