//! The columns hold what a record was produced with.

use std::time::{SystemTime, UNIX_EPOCH};

use datafusion_kafka::client::memory::Record;
use datafusion_kafka::client::{RawColumns, ReadRequest, TimestampType};
use datafusion_kafka::range::TopicPartition;

use super::reading::{Outcome, range, read, request, run, span};
use super::{
    Codec, FIRST_TIMESTAMP_MS, Fixture, Need, TopicSpec, can, filled, numbered, partition, unique,
};

/// Produces records, reads them back and compares them.
async fn round_trip(fixture: &dyn Fixture, records: &[Record], codec: Codec) -> Outcome {
    let partition = partition(fixture, "round-trip").await;
    fixture.produce(&partition, records, codec).await;
    let end = i64::try_from(records.len()).unwrap();
    let outcome = read(fixture, &partition, 0, end).await;
    let read = outcome.records();
    assert_eq!(read.len(), records.len());
    for (offset, (read, produced)) in read.iter().zip(records).enumerate() {
        // `assert_eq` would print values of several megabytes.
        assert!(read.key == produced.key, "key at {offset}");
        assert!(read.value == produced.value, "value at {offset}");
        assert_eq!(read.headers, produced.headers, "headers at {offset}");
        assert_eq!(
            read.timestamp_ms, produced.timestamp_ms,
            "timestamp at {offset}"
        );
    }
    outcome
}

fn stamped(record: Record) -> Record {
    record.with_timestamp_ms(FIRST_TIMESTAMP_MS)
}

pub async fn only_those_asked_for(fixture: &dyn Fixture) {
    let partition = filled(fixture, "projection", 10).await;
    for bits in 0..64_u8 {
        let bit = |n: u8| bits & (1 << n) != 0;
        let columns = RawColumns {
            timestamp: bit(0),
            timestamp_type: bit(1),
            key: bit(2),
            value: bit(3),
            headers: bit(4),
            leader_epoch: bit(5),
        };
        let projected = ReadRequest {
            columns,
            ..request(vec![range(&partition, 0, 10)])
        };
        // `run` checks for every batch that the others are `None`.
        let outcome = run(fixture.client(), projected).await;
        assert_eq!(outcome.offsets(), span(0, 10));
        for (read, produced) in outcome.records().iter().zip(numbered(10)) {
            let expected = Record {
                timestamp_ms: produced.timestamp_ms.filter(|_| columns.timestamp),
                key: produced.key.filter(|_| columns.key),
                value: produced.value.filter(|_| columns.value),
                headers: if columns.headers {
                    produced.headers
                } else {
                    vec![]
                },
            };
            assert_eq!(*read, expected);
        }
    }
}

pub async fn null_is_not_empty(fixture: &dyn Fixture) {
    let both = [None, Some(vec![]), Some(b"x".to_vec())];
    let pairs = both
        .iter()
        .flat_map(|key| both.iter().map(move |value| (key, value)));
    let records: Vec<Record> = pairs
        .map(|(key, value)| {
            stamped(Record {
                key: key.clone(),
                value: value.clone(),
                ..Record::default()
            })
        })
        .collect();
    round_trip(fixture, &records, Codec::None).await;
}

pub async fn tombstones_are_rows(fixture: &dyn Fixture) {
    let records = [
        stamped(Record::new("set").with_key("k")),
        stamped(Record::tombstone("k")),
    ];
    let outcome = round_trip(fixture, &records, Codec::None).await;
    assert_eq!(outcome.rows[1].record.value, None);
}

pub async fn headers_keep_order_duplicates_and_nulls(fixture: &dyn Fixture) {
    let records = [
        stamped(Record::new("none")),
        stamped(Record::new("some"))
            .with_header("b", Some(b"1"))
            .with_header("a", None)
            .with_header("b", Some(b""))
            .with_header("b", Some(&[0xff, 0x00]))
            .with_header("", Some(b"empty name")),
        stamped(Record::new("none again")),
        stamped(Record::new("one")).with_header("schl\u{fc}ssel", Some(b"\n")),
    ];
    round_trip(fixture, &records, Codec::None).await;
}

pub async fn missing_timestamp_is_null(fixture: &dyn Fixture) {
    let records = [
        Record::new("without"),
        stamped(Record::new("with")),
        Record::new("without"),
    ];
    let outcome = round_trip(fixture, &records, Codec::None).await;
    let types: Vec<_> = outcome.rows.iter().map(|row| row.timestamp_type).collect();
    let (none, create) = (TimestampType::NotAvailable, TimestampType::CreateTime);
    assert_eq!(types, [Some(none), Some(create), Some(none)]);
}

pub async fn timestamps_are_the_producers(fixture: &dyn Fixture) {
    let at = |ms: i64| Record::new("x").with_timestamp_ms(ms);
    let records = [at(FIRST_TIMESTAMP_MS), at(1), at(FIRST_TIMESTAMP_MS - 1)];
    let outcome = round_trip(fixture, &records, Codec::None).await;
    let create = Some(TimestampType::CreateTime);
    assert!(outcome.rows.iter().all(|row| row.timestamp_type == create));
}

pub async fn timestamps_are_the_brokers_under_log_append_time(fixture: &dyn Fixture) {
    if !can(fixture, Need::LogAppendTime) {
        return;
    }
    let spec = TopicSpec {
        name: unique("append-time"),
        partitions: 1,
        log_append_time: true,
        compacted: false,
    };
    fixture.create_topic(&spec).await;
    let partition = TopicPartition::new(spec.name, 0);
    let now = || {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i64::try_from(since_epoch.as_millis()).unwrap()
    };
    let before = now();
    let records = [Record::new("a").with_timestamp_ms(5), Record::new("b")];
    fixture.produce(&partition, &records, Codec::None).await;
    let outcome = read(fixture, &partition, 0, 2).await;
    for row in outcome.whole() {
        assert_eq!(row.timestamp_type, Some(TimestampType::LogAppendTime));
        let timestamp = row.record.timestamp_ms.unwrap();
        // A broker's clock may be coarser.
        assert!(
            (before - 100..=now() + 100).contains(&timestamp),
            "{timestamp}"
        );
    }
}

/// Compressible records, including ones without key, value and headers.
async fn codec_keeps_the_records(fixture: &dyn Fixture, codec: Codec) {
    let mut records = numbered(300);
    records.push(stamped(Record::default()));
    records.push(stamped(Record::new(vec![b'z'; 100_000])));
    round_trip(fixture, &records, codec).await;
}

pub async fn no_compression(fixture: &dyn Fixture) {
    codec_keeps_the_records(fixture, Codec::None).await;
}

pub async fn gzip(fixture: &dyn Fixture) {
    codec_keeps_the_records(fixture, Codec::Gzip).await;
}

pub async fn snappy(fixture: &dyn Fixture) {
    codec_keeps_the_records(fixture, Codec::Snappy).await;
}

pub async fn lz4(fixture: &dyn Fixture) {
    codec_keeps_the_records(fixture, Codec::Lz4).await;
}

pub async fn zstd(fixture: &dyn Fixture) {
    if !can(fixture, Need::Zstd) {
        return;
    }
    codec_keeps_the_records(fixture, Codec::Zstd).await;
}

pub async fn mixed_codecs_in_one_log(fixture: &dyn Fixture) {
    if !can(fixture, Need::Zstd) {
        return;
    }
    let partition = partition(fixture, "mixed-codecs").await;
    let records = numbered(50);
    let codecs = [
        Codec::Zstd,
        Codec::None,
        Codec::Lz4,
        Codec::Gzip,
        Codec::Snappy,
    ];
    for (chunk, codec) in records.chunks(10).zip(codecs) {
        fixture.produce(&partition, chunk, codec).await;
    }
    let outcome = read(fixture, &partition, 5, 45).await;
    assert_eq!(outcome.records(), records[5..45]);
}

async fn size(fixture: &dyn Fixture, bytes: usize, count: usize) {
    let value = |i: usize| -> Vec<u8> { (0..bytes).map(|b| (b * 31 + i) as u8).collect() };
    let records: Vec<Record> = (0..count).map(|i| stamped(Record::new(value(i)))).collect();
    round_trip(fixture, &records, Codec::None).await;
}

pub async fn empty_values(fixture: &dyn Fixture) {
    size(fixture, 0, 20).await;
}

pub async fn one_byte_values(fixture: &dyn Fixture) {
    size(fixture, 1, 20).await;
}

pub async fn one_mebibyte_value(fixture: &dyn Fixture) {
    size(fixture, 1 << 20, 3).await;
}

pub async fn ten_mebibyte_value(fixture: &dyn Fixture) {
    size(fixture, 10 << 20, 2).await;
}

/// Reads 100 records in batches of this many rows. Reading checks the limit of each batch.
async fn batches_of(fixture: &dyn Fixture, batch_rows: usize) {
    let partition = filled(fixture, "batch-rows", 100).await;
    let bounded = ReadRequest {
        batch_rows,
        ..request(vec![range(&partition, 0, 100)])
    };
    let outcome = run(fixture.client(), bounded).await;
    assert_eq!(outcome.records(), numbered(100));
    assert!(outcome.batches.len() >= 100_usize.div_ceil(batch_rows));
}

pub async fn batches_of_one_row(fixture: &dyn Fixture) {
    batches_of(fixture, 1).await;
}

pub async fn batches_of_seven_rows(fixture: &dyn Fixture) {
    batches_of(fixture, 7).await;
}

pub async fn batches_are_bounded_by_bytes(fixture: &dyn Fixture) {
    let partition = filled(fixture, "batch-bytes", 100).await;
    let bounded = ReadRequest {
        batch_bytes: 40,
        ..request(vec![range(&partition, 0, 100)])
    };
    let outcome = run(fixture.client(), bounded).await;
    assert_eq!(outcome.records(), numbered(100));
    // A record has at least 12 bytes of key and value: "key 0" and "value 0".
    assert!(
        outcome.batches.iter().all(|rows| *rows <= 4),
        "{:?}",
        outcome.batches
    );
}

pub async fn record_larger_than_a_batch_fits(fixture: &dyn Fixture) {
    let partition = partition(fixture, "larger-than-batch").await;
    let large = |bytes| stamped(Record::new(vec![b'x'; bytes]));
    let records = [large(10), large(5_000), large(10)];
    fixture.produce(&partition, &records, Codec::None).await;
    let bounded = ReadRequest {
        batch_bytes: 100,
        ..request(vec![range(&partition, 0, 3)])
    };
    let outcome = run(fixture.client(), bounded).await;
    assert_eq!(outcome.records(), records);
    assert!(outcome.batches.len() >= 2, "{:?}", outcome.batches);
}
