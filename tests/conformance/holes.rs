//! Offsets emptied by compaction are skipped. They neither end a range early nor block it.

use std::time::Duration;

use datafusion_kafka::client::memory::Record;
use datafusion_kafka::range::TopicPartition;

use super::reading::read;
use super::{Codec, FIRST_TIMESTAMP_MS, Fixture, Need, TopicSpec, can, unique};

const TAIL_LIMIT: Duration = Duration::from_secs(15);

/// Compacts a partition. Returns the offsets that are left, at least three, with holes between them.
async fn compacted(fixture: &dyn Fixture) -> Option<(TopicPartition, Vec<i64>)> {
    if !can(fixture, Need::Compaction) {
        return None;
    }
    let spec = TopicSpec {
        name: unique("compacted"),
        partitions: 1,
        log_append_time: false,
        compacted: true,
    };
    fixture.create_topic(&spec).await;
    let partition = TopicPartition::new(spec.name, 0);
    // Every tenth record has its own key; the others share one.
    let record = |i: i64| {
        let key = if i % 10 == 0 {
            format!("own {i}")
        } else {
            "shared".to_owned()
        };
        let record = Record::new(format!("value {i}")).with_key(key);
        record.with_timestamp_ms(FIRST_TIMESTAMP_MS + i)
    };
    let records: Vec<Record> = (0..100).map(record).collect();
    fixture.produce(&partition, &records, Codec::None).await;
    let left = fixture.compact(&partition).await;
    let own = |offset: &&i64| **offset < 100 && **offset % 10 == 0;
    assert_eq!(left.iter().filter(own).count(), 10, "left: {left:?}");
    assert!(
        left.windows(2).any(|pair| pair[1] > pair[0] + 1),
        "left: {left:?}"
    );
    Some((partition, left))
}

/// Reads `start..end` and compares it with what compaction has left.
async fn what_is_left(
    fixture: &dyn Fixture,
    partition: &TopicPartition,
    left: &[i64],
    start: i64,
    end: i64,
) {
    let outcome = read(fixture, partition, start, end).await;
    let expected = left.iter().copied().filter(|o| (start..end).contains(o));
    assert_eq!(
        outcome.offsets(),
        expected.collect::<Vec<_>>(),
        "{start}..{end}"
    );
    assert!(
        outcome.took < TAIL_LIMIT,
        "{start}..{end} took {:?}",
        outcome.took
    );
    assert_eq!(outcome.lost_offsets, 0, "a hole is no data loss");
}

pub async fn in_the_middle_are_passed_over(fixture: &dyn Fixture) {
    if let Some((partition, left)) = compacted(fixture).await {
        let end = left.last().unwrap() + 1;
        what_is_left(fixture, &partition, &left, 0, end).await;
        what_is_left(fixture, &partition, &left, 5, 45).await;
    }
}

pub async fn at_the_tail_of_a_range_end_it(fixture: &dyn Fixture) {
    if let Some((partition, left)) = compacted(fixture).await {
        for end in [31, 35, 40] {
            what_is_left(fixture, &partition, &left, 0, end).await;
        }
    }
}

pub async fn range_within_a_hole_yields_nothing(fixture: &dyn Fixture) {
    if let Some((partition, left)) = compacted(fixture).await {
        what_is_left(fixture, &partition, &left, 31, 39).await;
        what_is_left(fixture, &partition, &left, 35, 36).await;
    }
}
