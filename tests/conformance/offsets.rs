//! Looking up offsets follows Kafka's definitions and the order of the queries.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use datafusion_kafka::client::OffsetAt::{Earliest, Latest, Timestamp};
use datafusion_kafka::client::memory::Record;
use datafusion_kafka::client::{EpochEnd, EpochQuery, OffsetAt, OffsetQuery};
use datafusion_kafka::range::TopicPartition;
use datafusion_kafka::{Error, ErrorKind, Result};

use super::reading::{ReadCommitted, ReadUncommitted, offset};
use super::{Codec, End, FIRST_TIMESTAMP_MS, Fixture, Need, can, filled, numbered, partition};
use super::{topic, unique};

/// The time limit for thousands of look-ups.
const MANY_LIMIT: Duration = Duration::from_secs(20);

/// Checks one look-up at read_committed.
async fn finds(
    fixture: &dyn Fixture,
    partition: &TopicPartition,
    at: OffsetAt,
    expected: Option<i64>,
) {
    let found = offset(fixture, partition, at, ReadCommitted).await;
    assert_eq!(found, expected, "{at:?}");
}

pub async fn of_an_empty_log(fixture: &dyn Fixture) {
    let partition = partition(fixture, "empty-offsets").await;
    finds(fixture, &partition, Earliest, Some(0)).await;
    finds(fixture, &partition, Latest, Some(0)).await;
    if can(fixture, Need::TimestampLookUp) {
        finds(fixture, &partition, Timestamp(0), None).await;
    }
}

pub async fn earliest_and_latest(fixture: &dyn Fixture) {
    let partition = filled(fixture, "bounds", 25).await;
    finds(fixture, &partition, Earliest, Some(0)).await;
    finds(fixture, &partition, Latest, Some(25)).await;
}

/// The leader's own epoch ends at the end of its log. A leader with another epoch does not answer.
pub async fn leader_epochs_and_their_ends(fixture: &dyn Fixture) {
    if !can(fixture, Need::LeaderEpochs) {
        return;
    }
    let partitions = [
        filled(fixture, "epochs", 25).await,
        filled(fixture, "epochs", 5).await,
    ];
    let client = fixture.client();
    let latest = partitions.clone().map(|partition| OffsetQuery {
        partition,
        at: Latest,
    });
    let found = client.list_offsets(&latest, ReadUncommitted).await.unwrap();
    let epochs = [0, 1].map(|place: usize| found[place].leader_epoch.unwrap());
    let query = |place: usize, leader_epoch: Option<i32>| EpochQuery {
        partition: partitions[place].clone(),
        leader_epoch,
        epoch: epochs[place],
    };
    let asked = [
        query(1, None),
        query(0, Some(epochs[0])),
        query(1, Some(epochs[1])),
    ];
    let ends = client.epoch_ends(&asked).await.unwrap();
    let end = |place: usize, end: i64| {
        Some(EpochEnd {
            epoch: epochs[place],
            end,
        })
    };
    assert_eq!(ends, [end(1, 5), end(0, 25), end(1, 5)]);
    let refused = client.epoch_ends(&[query(0, Some(epochs[0] + 1))]).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Connection);
}

pub async fn earliest_is_the_log_start(fixture: &dyn Fixture) {
    if !can(fixture, Need::DeleteRecords) {
        return;
    }
    let partition = filled(fixture, "log-start", 25).await;
    fixture.delete_records(&partition, 7).await;
    finds(fixture, &partition, Earliest, Some(7)).await;
    finds(fixture, &partition, Latest, Some(25)).await;
}

pub async fn latest_is_the_last_stable_offset_or_the_high_watermark(fixture: &dyn Fixture) {
    if !can(fixture, Need::Transactions) {
        return;
    }
    let partition = filled(fixture, "stable", 5).await;
    let mut transaction = fixture.begin().await;
    transaction.write(&partition, &numbered(3)).await;
    fixture.produce(&partition, &numbered(2), Codec::None).await;
    finds(fixture, &partition, Latest, Some(5)).await;
    let high = offset(fixture, &partition, Latest, ReadUncommitted).await;
    assert_eq!(high, Some(10));
    transaction.end(End::Commit).await;
    finds(fixture, &partition, Latest, Some(11)).await;
}

/// Looks up a time in ten records that are one second apart.
async fn time(fixture: &dyn Fixture, after_first_ms: i64, expected: Option<i64>) {
    if can(fixture, Need::TimestampLookUp) {
        let partition = filled(fixture, "timestamps", 10).await;
        let at = Timestamp(FIRST_TIMESTAMP_MS + after_first_ms);
        finds(fixture, &partition, at, expected).await;
    }
}

pub async fn timestamp_of_a_record(fixture: &dyn Fixture) {
    time(fixture, 4_000, Some(4)).await;
}

pub async fn timestamp_between_records(fixture: &dyn Fixture) {
    time(fixture, 4_001, Some(5)).await;
}

pub async fn timestamp_after_all_records(fixture: &dyn Fixture) {
    time(fixture, 9_001, None).await;
}

pub async fn timestamp_before_all_records(fixture: &dyn Fixture) {
    time(fixture, -1, Some(0)).await;
}

/// On the wire, negative times have special meanings: -1 is the end, -2 the start.
pub async fn timestamp_before_the_epoch(fixture: &dyn Fixture) {
    if can(fixture, Need::TimestampLookUp) {
        let partition = filled(fixture, "before-epoch", 10).await;
        for ms in [-1, -2, -3, -4, -5, -1_000_000, i64::MIN] {
            finds(fixture, &partition, Timestamp(ms), Some(0)).await;
        }
    }
}

pub async fn timestamp_is_found_by_offset_order(fixture: &dyn Fixture) {
    if !can(fixture, Need::TimestampLookUp) {
        return;
    }
    let partition = partition(fixture, "unordered").await;
    let times = [50, 10, 40, 20, 60, 30];
    let records = times.map(|ms| Record::new("x").with_timestamp_ms(FIRST_TIMESTAMP_MS + ms));
    fixture.produce(&partition, &records, Codec::None).await;
    for (ms, expected) in [(5, Some(0)), (50, Some(0)), (51, Some(4)), (61, None)] {
        let at = Timestamp(FIRST_TIMESTAMP_MS + ms);
        finds(fixture, &partition, at, expected).await;
    }
}

pub async fn timestamp_below_the_log_start_is_not_found_there(fixture: &dyn Fixture) {
    if !can(fixture, Need::TimestampLookUp) || !can(fixture, Need::DeleteRecords) {
        return;
    }
    let partition = filled(fixture, "time-below-start", 10).await;
    fixture.delete_records(&partition, 6).await;
    let at = Timestamp(FIRST_TIMESTAMP_MS + 2_000);
    finds(fixture, &partition, at, Some(6)).await;
}

async fn list(fixture: &dyn Fixture, queries: &[OffsetQuery]) -> Result<Vec<Option<i64>>> {
    let client = fixture.client();
    let answers = client.list_offsets(queries, ReadCommitted).await?;
    Ok(answers.iter().map(|answer| answer.offset).collect())
}

fn query(partition: &TopicPartition, at: OffsetAt) -> OffsetQuery {
    OffsetQuery {
        partition: partition.clone(),
        at,
    }
}

/// A topic whose partition `p` holds `p` records.
async fn staircase(fixture: &dyn Fixture, partitions: i32) -> Vec<TopicPartition> {
    let name = topic(fixture, "staircase", partitions).await;
    let partitions: Vec<_> = (0..partitions)
        .map(|number| TopicPartition::new(&*name, number))
        .collect();
    for (records, partition) in partitions.iter().enumerate().skip(1) {
        fixture
            .produce(partition, &numbered(records), Codec::None)
            .await;
    }
    partitions
}

pub async fn answers_come_in_the_order_of_the_queries(fixture: &dyn Fixture) {
    let partitions = staircase(fixture, 8).await;
    let order = [5, 0, 7, 3, 3, 1, 6, 2, 4];
    let queries: Vec<_> = order
        .iter()
        .map(|p| query(&partitions[*p], Latest))
        .collect();
    let expected: Vec<_> = order.iter().map(|p| Some(*p as i64)).collect();
    assert_eq!(list(fixture, &queries).await.unwrap(), expected);
}

pub async fn no_queries(fixture: &dyn Fixture) {
    assert_eq!(list(fixture, &[]).await.unwrap(), []);
}

/// Kafka refuses a request that names a partition twice, so a client must distribute such queries.
pub async fn thousands_of_queries(fixture: &dyn Fixture) {
    let partitions = staircase(fixture, 20).await;
    let (mut queries, mut expected) = (Vec::new(), Vec::new());
    for round in 0..75_usize {
        for (records, partition) in partitions.iter().enumerate() {
            queries.push(query(partition, Earliest));
            expected.push(Some(0));
            queries.push(query(partition, Latest));
            expected.push(Some(records as i64));
            if fixture.lacks(Need::TimestampLookUp).is_none() {
                let second = round % 20;
                let at = Timestamp(FIRST_TIMESTAMP_MS + 1_000 * second as i64);
                queries.push(query(partition, at));
                expected.push((second < records).then_some(second as i64));
            }
        }
    }
    let started = Instant::now();
    assert_eq!(list(fixture, &queries).await.unwrap(), expected);
    let took = started.elapsed();
    assert!(took < MANY_LIMIT, "{} queries took {took:?}", queries.len());
}

pub async fn unknown_topic_fails(fixture: &dyn Fixture) {
    let missing = TopicPartition::new(unique("missing"), 0);
    let error = list(fixture, &[query(&missing, Latest)]).await.unwrap_err();
    assert!(matches!(error, Error::UnknownTopic { .. }), "{error:?}");
}

pub async fn unknown_partition_fails(fixture: &dyn Fixture) {
    let partition = filled(fixture, "few", 1).await;
    let missing = TopicPartition::new(partition.topic, 3);
    let error = list(fixture, &[query(&missing, Latest)]).await.unwrap_err();
    let Error::UnknownPartition { partition, .. } = error else {
        panic!("expected an unknown partition, found {error:?}");
    };
    assert_eq!(partition, 3);
}

pub async fn committed_offsets_of_a_group(fixture: &dyn Fixture) {
    if !can(fixture, Need::GroupOffsets) {
        return;
    }
    let name = topic(fixture, "group", 3).await;
    let partitions: Vec<_> = (0..3)
        .map(|number| TopicPartition::new(&*name, number))
        .collect();
    fixture
        .produce(&partitions[1], &numbered(10), Codec::None)
        .await;
    let group = unique("group");
    let client = fixture.client();
    let before = client.group_offsets(&group, &partitions).await.unwrap();
    assert_eq!(before, BTreeMap::new());
    fixture.commit_group_offset(&group, &partitions[1], 7).await;
    let after = client.group_offsets(&group, &partitions).await.unwrap();
    assert_eq!(after, BTreeMap::from([(partitions[1].clone(), 7)]));
}
