//! Why offsets have no row: control records, aborted records and gaps, each reported where the client can
//! tell.
//!
//! `reading` checks for every batch of every case that rows and reasons add up.

use datafusion_kafka::client::{OnDataLoss, PassedOffsets, ReadRequest};
use datafusion_kafka::range::TopicPartition;

use super::reading::{ReadCommitted, ReadUncommitted, range, read, read_as, request, run};
use super::{
    Codec, End, FIRST_TIMESTAMP_MS, Fixture, Need, Record, TopicSpec, can, filled, numbered,
    partition, unique,
};

/// What this client must report where one that knows the reasons would report these counts.
pub fn told(fixture: &dyn Fixture, control: u64, aborted: u64, gap: u64) -> PassedOffsets {
    if fixture.tells_reasons() {
        PassedOffsets {
            control,
            aborted,
            gap,
            ..PassedOffsets::default()
        }
    } else {
        PassedOffsets {
            untold: control + aborted + gap,
            ..PassedOffsets::default()
        }
    }
}

pub async fn nothing_is_passed_in_a_plain_log(fixture: &dyn Fixture) {
    let partition = filled(fixture, "plain-ledger", 120).await;
    let outcome = read(fixture, &partition, 10, 110).await;
    assert_eq!(outcome.whole().len(), 100);
    assert_eq!(outcome.passed, PassedOffsets::default());
}

async fn transact(fixture: &dyn Fixture, partition: &TopicPartition, records: usize, end: End) {
    let mut transaction = fixture.begin().await;
    transaction.write(partition, &numbered(records)).await;
    transaction.end(end).await;
}

/// Plain records 0..3, aborted ones 3..8 with their control record at 8, committed ones 9..11 with theirs at
/// 11, and a plain one at 12.
async fn transactions(fixture: &dyn Fixture) -> Option<TopicPartition> {
    if !can(fixture, Need::Transactions) {
        return None;
    }
    let partition = partition(fixture, "transactions-ledger").await;
    fixture.produce(&partition, &numbered(3), Codec::None).await;
    transact(fixture, &partition, 5, End::Abort).await;
    transact(fixture, &partition, 2, End::Commit).await;
    fixture.produce(&partition, &numbered(1), Codec::None).await;
    Some(partition)
}

pub async fn control_records(fixture: &dyn Fixture) {
    if let Some(partition) = transactions(fixture).await {
        let outcome = read(fixture, &partition, 8, 13).await;
        assert_eq!(outcome.offsets(), [9, 10, 12]);
        assert_eq!(outcome.passed, told(fixture, 2, 0, 0));
    }
}

pub async fn aborted_records(fixture: &dyn Fixture) {
    if let Some(partition) = transactions(fixture).await {
        let outcome = read(fixture, &partition, 0, 13).await;
        assert_eq!(outcome.offsets(), [0, 1, 2, 9, 10, 12]);
        assert_eq!(outcome.passed, told(fixture, 2, 5, 0));
    }
}

pub async fn aborted_records_are_rows_when_uncommitted_is_asked_for(fixture: &dyn Fixture) {
    if let Some(partition) = transactions(fixture).await {
        let outcome = read_as(fixture, &partition, 0, 13, ReadUncommitted).await;
        assert_eq!(outcome.whole().len(), 11);
        assert_eq!(outcome.passed, told(fixture, 2, 0, 0));
    }
}

pub async fn aborted_and_control_records_in_batches_of_one_row(fixture: &dyn Fixture) {
    if let Some(partition) = transactions(fixture).await {
        let small = ReadRequest {
            batch_rows: 1,
            ..request(vec![range(&partition, 0, 13)])
        };
        let outcome = run(fixture.client(), small).await;
        assert_eq!(outcome.batches, [1; 6]);
        assert_eq!(outcome.passed, told(fixture, 2, 5, 0));
    }
}

pub async fn every_cut_through_a_transaction(fixture: &dyn Fixture) {
    let Some(partition) = transactions(fixture).await else {
        return;
    };
    let count = |of: &[i64], from: i64, to: i64| {
        of.iter().filter(|o| (from..to).contains(*o)).count() as u64
    };
    for cut in 1..13 {
        for (from, to) in [(0, cut), (cut, 13)] {
            let outcome = read_as(fixture, &partition, from, to, ReadCommitted).await;
            let control = count(&[8, 11], from, to);
            let aborted = count(&[3, 4, 5, 6, 7], from, to);
            let expected = told(fixture, control, aborted, 0);
            assert_eq!(outcome.passed, expected, "{from}..{to}");
        }
    }
}

pub async fn gaps(fixture: &dyn Fixture) {
    if !can(fixture, Need::Compaction) {
        return;
    }
    let spec = TopicSpec {
        name: unique("gaps-ledger"),
        partitions: 1,
        log_append_time: false,
        compacted: true,
    };
    fixture.create_topic(&spec).await;
    let partition = TopicPartition::new(spec.name, 0);
    let record = |i: i64| {
        let key = format!("key {}", i % 7);
        let record = Record::new(format!("value {i}")).with_key(key);
        record.with_timestamp_ms(FIRST_TIMESTAMP_MS + i)
    };
    let records: Vec<Record> = (0..100).map(record).collect();
    fixture.produce(&partition, &records, Codec::None).await;
    let left = fixture.compact(&partition).await;
    for (from, to) in [(0, 100), (0, 50), (90, 97), (40, 41)] {
        let outcome = read(fixture, &partition, from, to).await;
        let rows = left.iter().filter(|o| (from..to).contains(*o)).count();
        assert_eq!(outcome.whole().len(), rows, "{from}..{to}");
        let gap = u64::try_from(to - from).unwrap() - rows as u64;
        assert_eq!(outcome.passed, told(fixture, 0, 0, gap), "{from}..{to}");
    }
}

pub async fn lost_offsets_are_no_gap(fixture: &dyn Fixture) {
    if !can(fixture, Need::DeleteRecords) {
        return;
    }
    let partition = filled(fixture, "lost-ledger", 100).await;
    fixture.delete_records(&partition, 40).await;
    let skipping = ReadRequest {
        on_data_loss: OnDataLoss::Skip,
        ..request(vec![range(&partition, 0, 30), range(&partition, 30, 60)])
    };
    let outcome = run(fixture.client(), skipping).await;
    assert_eq!(outcome.whole().len(), 20);
    assert_eq!(outcome.lost_offsets, 40);
    assert_eq!(outcome.passed, PassedOffsets::default());
}

/// Ranges without any row are accounted for too, each by a separate batch.
pub async fn ranges_without_a_row(fixture: &dyn Fixture) {
    if let Some(partition) = transactions(fixture).await {
        let ranges = [(3, 5), (5, 5), (6, 9), (11, 12)];
        let ranges = ranges.map(|(start, end)| range(&partition, start, end));
        let outcome = run(fixture.client(), request(ranges.to_vec())).await;
        assert!(outcome.whole().is_empty());
        assert_eq!(outcome.passed, told(fixture, 2, 4, 0));
    }
}
