//! Answers that are written here, byte by byte, and taken apart again.

use std::io::Write;

use arrow::array::{Array, AsArray};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::client::{PassedOffsets, RawBatch, RawColumns, TimestampBounds, TimestampType};
use crate::range::{IsolationLevel, TopicPartition};
use IsolationLevel::{ReadCommitted, ReadUncommitted};

const LIMITS: Limits = Limits {
    batch_rows: 8192,
    batch_bytes: 8 << 20,
    unpacked_bytes: 1 << 20,
    check_crcs: true,
};

type Headers = Vec<(String, Option<Vec<u8>>)>;

/// A record as it is written and as it is expected back.
#[derive(Debug, Clone, PartialEq)]
struct Record {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Headers,
}

fn record(offset: i64, value: &str) -> Record {
    Record {
        offset,
        timestamp: 1_000 + offset,
        key: Some(format!("key {offset}").into_bytes()),
        value: Some(value.as_bytes().to_vec()),
        headers: vec![],
    }
}

/// A record batch to be written.
#[derive(Debug, Clone)]
struct Batch {
    base: i64,
    /// The last offset, where that is not the last record's.
    last: i64,
    records: Vec<Record>,
    codec: u8,
    log_append_time: Option<i64>,
    producer: i64,
    transactional: bool,
    /// A control batch that aborts or commits.
    control: Option<bool>,
}

fn batch(records: Vec<Record>) -> Batch {
    Batch {
        base: records.first().map_or(0, |r| r.offset),
        last: records.last().map_or(0, |r| r.offset),
        records,
        codec: 0,
        log_append_time: None,
        producer: -1,
        transactional: false,
        control: None,
    }
}

fn marker(offset: i64, producer: i64, abort: bool) -> Batch {
    let mut control = batch(vec![record(offset, "")]);
    control.control = Some(abort);
    control.producer = producer;
    control.transactional = true;
    control
}

fn numbered(from: i64, to: i64) -> Batch {
    batch(
        (from..to)
            .map(|n| record(n, &format!("a value of some length {n}")))
            .collect(),
    )
}

fn put_varint(to: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        to.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    to.push(zigzag as u8);
}

fn put_bytes(to: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varint(to, bytes.map_or(-1, |b| b.len() as i64));
    to.extend(bytes.unwrap_or_default());
}

impl Batch {
    fn records(&self) -> Vec<u8> {
        let base_timestamp = self.base_timestamp();
        let mut all = Vec::new();
        for r in &self.records {
            let mut one = vec![0];
            put_varint(&mut one, r.timestamp - base_timestamp);
            put_varint(&mut one, r.offset - self.base);
            let kind = self.control.map(|abort| vec![0, 0, 0, u8::from(!abort)]);
            put_bytes(&mut one, kind.as_deref().or(r.key.as_deref()));
            put_bytes(&mut one, r.value.as_deref());
            put_varint(&mut one, r.headers.len() as i64);
            for (name, value) in &r.headers {
                put_bytes(&mut one, Some(name.as_bytes()));
                put_bytes(&mut one, value.as_deref());
            }
            put_varint(&mut all, one.len() as i64);
            all.extend(one);
        }
        all
    }

    fn base_timestamp(&self) -> i64 {
        self.records.first().map_or(-1, |r| r.timestamp)
    }

    fn packed(&self) -> Vec<u8> {
        let plain = self.records();
        match self.codec {
            0 => plain,
            1 => {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Default::default());
                gzip.write_all(&plain).unwrap();
                gzip.finish().unwrap()
            }
            2 => {
                // As snappy-java frames it, in two blocks.
                let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
                for block in plain.chunks(plain.len().div_ceil(2).max(1)) {
                    let packed = snap::raw::Encoder::new().compress_vec(block).unwrap();
                    framed.extend((packed.len() as u32).to_be_bytes());
                    framed.extend(packed);
                }
                framed
            }
            3 => {
                let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
                lz4.write_all(&plain).unwrap();
                lz4.finish().unwrap()
            }
            _ => {
                let mut packed = Vec::with_capacity(zstd_safe::compress_bound(plain.len()));
                zstd_safe::compress(&mut packed, &plain, 1).unwrap();
                packed
            }
        }
    }

    fn write(&self) -> Vec<u8> {
        let max_timestamp = self.records.iter().map(|r| r.timestamp).max().unwrap_or(-1);
        let attributes = i16::from(self.codec)
            | i16::from(self.log_append_time.is_some()) << 3
            | i16::from(self.transactional) << 4
            | i16::from(self.control.is_some()) << 5;
        let mut checked = Vec::new();
        checked.extend(attributes.to_be_bytes());
        checked.extend(i32::try_from(self.last - self.base).unwrap().to_be_bytes());
        checked.extend(self.base_timestamp().to_be_bytes());
        checked.extend(self.log_append_time.unwrap_or(max_timestamp).to_be_bytes());
        checked.extend(self.producer.to_be_bytes());
        checked.extend([0; 6]);
        checked.extend((self.records.len() as i32).to_be_bytes());
        checked.extend(self.packed());
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &checked) as u32;
        let mut all = Vec::new();
        all.extend(self.base.to_be_bytes());
        all.extend((checked.len() as i32 + 9).to_be_bytes());
        all.extend(7i32.to_be_bytes()); // leader epoch
        all.push(2);
        all.extend(crc.to_be_bytes());
        all.extend(checked);
        all
    }
}

/// What a range came to.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    records: Vec<Record>,
    passed: PassedOffsets,
    position: i64,
}

fn add(outcome: &mut Outcome, batch: &RawBatch) {
    for row in 0..batch.offsets.len() {
        let bytes = |column: &Option<arrow::array::BinaryViewArray>| {
            let column = column.as_ref()?;
            column.is_valid(row).then(|| column.value(row).to_vec())
        };
        let mut record = Record {
            offset: batch.offsets.value(row),
            timestamp: 0,
            key: bytes(&batch.keys),
            value: bytes(&batch.values),
            headers: vec![],
        };
        if let Some(timestamps) = &batch.timestamps {
            record.timestamp = if timestamps.is_valid(row) {
                timestamps.value(row)
            } else {
                -1
            };
        }
        if let Some(headers) = &batch.headers {
            let entries = headers.value(row);
            let entries = entries.as_struct();
            let names = entries.column(0).as_string::<i32>();
            let values = entries.column(1).as_binary::<i32>();
            for i in 0..entries.len() {
                let value = values.is_valid(i).then(|| values.value(i).to_vec());
                record.headers.push((names.value(i).to_owned(), value));
            }
        }
        outcome.records.push(record);
    }
    outcome.passed.control += batch.passed.control;
    outcome.passed.aborted += batch.passed.aborted;
    outcome.passed.gap += batch.passed.gap;
    outcome.passed.filtered += batch.passed.filtered;
    outcome.position = batch.next_offset;
}

struct Read {
    range: (i64, i64),
    wanted: RawColumns,
    isolation: IsolationLevel,
    limits: Limits,
    bounds: TimestampBounds,
    aborted: Vec<(i64, i64)>,
}

fn read(start: i64, end: i64) -> Read {
    Read {
        range: (start, end),
        wanted: RawColumns::ALL,
        isolation: ReadCommitted,
        limits: LIMITS,
        bounds: TimestampBounds::default(),
        aborted: vec![],
    }
}

impl Read {
    fn of(self, batches: &[Batch]) -> Result<Outcome, Malformed> {
        let bytes: Vec<u8> = batches.iter().flat_map(Batch::write).collect();
        self.of_bytes(&[bytes])
    }

    /// Feeds pieces of whole batches and hands out batch after batch.
    fn of_bytes(self, pieces: &[Vec<u8>]) -> Result<Outcome, Malformed> {
        let mut decoder = RangeDecoder::new(self.wanted, self.isolation, self.limits);
        decoder.begin(self.range.0, self.range.1, self.bounds);
        decoder.begin_part(&self.aborted);
        let partition = TopicPartition::new("t", 0);
        let mut outcome = Outcome::default();
        let mut pieces = pieces.iter();
        loop {
            match decoder.step()? {
                Step::Full => {
                    let batch = decoder.finish(partition.clone()).unwrap();
                    assert!(batch.offsets.len() <= self.limits.batch_rows);
                    assert!(!batch.offsets.is_empty());
                    add(&mut outcome, &batch);
                }
                Step::RangeEnd => break,
                Step::Empty => match pieces.next() {
                    Some(piece) => decoder.feed(Bytes::copy_from_slice(piece)),
                    None => break,
                },
            }
        }
        let batch = decoder.finish(partition).unwrap();
        add(&mut outcome, &batch);
        let delivered = outcome.records.len() as u64;
        assert_eq!(
            delivered + outcome.passed.total(),
            (outcome.position - self.range.0) as u64,
            "{outcome:?}"
        );
        Ok(outcome)
    }
}

fn offsets(outcome: &Outcome) -> Vec<i64> {
    outcome.records.iter().map(|r| r.offset).collect()
}

#[test]
fn records_come_back_in_every_codec() {
    let mut records: Vec<Record> = (5..200)
        .map(|n| record(n, &"x".repeat(n as usize)))
        .collect();
    records[3].key = None;
    records[4].value = None;
    records[5].value = Some(vec![]);
    records[6].headers = vec![("a".into(), Some(vec![1])), ("a".into(), None)];
    for codec in 0..5 {
        let packed = Batch {
            codec,
            ..batch(records.clone())
        };
        let outcome = read(5, 200).of(&[packed]).unwrap();
        assert_eq!(outcome.records, records, "codec {codec}");
        assert_eq!(outcome.passed, PassedOffsets::default());
    }
}

#[test]
fn range_cuts_batches_at_both_ends() {
    let batches = [numbered(0, 10), numbered(10, 20), numbered(20, 30)];
    for wanted in [RawColumns::ALL, RawColumns::default()] {
        for (start, end) in [(0, 30), (3, 7), (9, 11), (10, 20), (15, 30), (29, 30)] {
            let outcome = Read {
                wanted,
                ..read(start, end)
            }
            .of(&batches)
            .unwrap();
            assert_eq!(offsets(&outcome), (start..end).collect::<Vec<_>>());
            assert_eq!(outcome.position, end);
        }
    }
}

#[test]
fn batches_of_rows_are_bounded_by_rows_and_bytes() {
    let batches = [numbered(0, 10), numbered(10, 20)];
    for batch_rows in [1, 3, 10, 11] {
        let limits = Limits {
            batch_rows,
            ..LIMITS
        };
        let outcome = Read {
            limits,
            ..read(0, 20)
        }
        .of(&batches)
        .unwrap();
        assert_eq!(outcome.records.len(), 20);
        let heads = Read {
            limits,
            wanted: RawColumns::default(),
            ..read(0, 20)
        };
        assert_eq!(heads.of(&batches).unwrap().records.len(), 20);
    }
    let limits = Limits {
        batch_bytes: 1,
        ..LIMITS
    };
    assert_eq!(
        Read {
            limits,
            ..read(0, 20)
        }
        .of(&batches)
        .unwrap()
        .records
        .len(),
        20
    );
}

#[test]
fn holes_are_counted_as_gaps() {
    // 3..7 were compacted out of the first batch, and 9 at its end; a whole batch 10..20 is gone.
    let mut first = numbered(0, 9);
    first.records.retain(|r| !(3..7).contains(&r.offset));
    first.last = 9;
    let outcome = read(0, 25).of(&[first.clone(), numbered(20, 30)]).unwrap();
    assert_eq!(offsets(&outcome), [0, 1, 2, 7, 8, 20, 21, 22, 23, 24]);
    assert_eq!(
        outcome.passed,
        PassedOffsets {
            gap: 4 + 1 + 10,
            ..Default::default()
        }
    );
    // A range that ends in a hole has reached its end.
    let outcome = read(2, 5).of(&[first]).unwrap();
    assert_eq!(
        (offsets(&outcome), outcome.position, outcome.passed.gap),
        (vec![2], 5, 2)
    );
}

#[test]
fn aborted_transactions_are_counted_and_not_decoded() {
    let of = |mut b: Batch, producer| {
        b.producer = producer;
        b.transactional = true;
        b
    };
    let log = [
        of(numbered(0, 3), 1),
        of(numbered(3, 6), 2),
        marker(6, 1, true),
        of(numbered(7, 9), 1),
        marker(9, 2, false),
        marker(10, 1, false),
        numbered(11, 13),
    ];
    let aborted = vec![(1, 0)];
    let outcome = Read {
        aborted: aborted.clone(),
        ..read(0, 13)
    }
    .of(&log)
    .unwrap();
    assert_eq!(offsets(&outcome), [3, 4, 5, 7, 8, 11, 12]);
    let expected = PassedOffsets {
        aborted: 3,
        control: 3,
        ..Default::default()
    };
    assert_eq!(outcome.passed, expected);
    // From within the aborted transaction on; broken records of it are never looked at.
    let mut broken = log.clone();
    broken[0].codec = 4;
    let outcome = Read {
        aborted,
        ..read(1, 8)
    }
    .of(&broken)
    .unwrap();
    assert_eq!(offsets(&outcome), [3, 4, 5, 7]);
    assert_eq!((outcome.passed.aborted, outcome.passed.control), (2, 1));
    let all = Read {
        isolation: ReadUncommitted,
        ..read(0, 13)
    }
    .of(&log)
    .unwrap();
    assert_eq!((all.records.len(), all.passed.control), (10, 3));
}

#[test]
fn aborted_batch_with_holes_is_counted_exactly() {
    let mut log = numbered(0, 10);
    log.records.retain(|r| r.offset % 3 == 0);
    log.last = 9;
    (log.producer, log.transactional) = (1, true);
    let aborted = vec![(1, 0)];
    let whole = Read {
        aborted: aborted.clone(),
        ..read(0, 10)
    }
    .of(&[log.clone()])
    .unwrap();
    assert_eq!((whole.passed.aborted, whole.passed.gap), (4, 6));
    let part = Read {
        aborted,
        ..read(2, 7)
    }
    .of(&[log])
    .unwrap();
    assert_eq!((part.passed.aborted, part.passed.gap), (2, 3));
}

#[test]
fn batches_outside_the_timestamps_are_passed_by_their_heads() {
    let log = [numbered(0, 10), numbered(10, 20)];
    let bounds = TimestampBounds {
        from_ms: Some(1_010),
        to_ms: None,
    };
    let outcome = Read {
        bounds,
        ..read(0, 20)
    }
    .of(&log)
    .unwrap();
    assert_eq!(offsets(&outcome), (10..20).collect::<Vec<_>>());
    assert_eq!(outcome.passed.filtered, 10);
    // Under CreateTime a later record may be older: an upper bound rules no batch out.
    let bounds = TimestampBounds {
        from_ms: None,
        to_ms: Some(5),
    };
    assert_eq!(
        Read {
            bounds,
            ..read(0, 20)
        }
        .of(&log)
        .unwrap()
        .records
        .len(),
        20
    );
    let stamped = [Batch {
        log_append_time: Some(7),
        ..numbered(0, 10)
    }];
    assert_eq!(
        Read {
            bounds,
            ..read(0, 10)
        }
        .of(&stamped)
        .unwrap()
        .passed
        .filtered,
        10
    );
}

#[test]
fn log_append_time_is_that_of_the_batch() {
    let stamped = [Batch {
        log_append_time: Some(77),
        ..numbered(0, 3)
    }];
    for value in [true, false] {
        let wanted = RawColumns {
            value,
            ..RawColumns::ALL
        };
        let outcome = Read {
            wanted,
            ..read(0, 3)
        }
        .of(&stamped)
        .unwrap();
        assert!(outcome.records.iter().all(|r| r.timestamp == 77));
    }
    let mut decoder = RangeDecoder::new(RawColumns::ALL, ReadCommitted, LIMITS);
    decoder.begin(0, 3, TimestampBounds::default());
    decoder.feed(stamped[0].write().into());
    assert_eq!(decoder.step(), Ok(Step::RangeEnd));
    let types = decoder
        .finish(TopicPartition::new("t", 0))
        .unwrap()
        .timestamp_types;
    assert_eq!(types, Some(vec![TimestampType::LogAppendTime; 3]));
}

#[test]
fn next_range_goes_on_in_what_was_fed() {
    let mut decoder = RangeDecoder::new(RawColumns::ALL, ReadCommitted, LIMITS);
    let bytes = [numbered(0, 10), numbered(10, 20)]
        .iter()
        .flat_map(Batch::write)
        .collect();
    let mut seen = Vec::new();
    decoder.begin(2, 4, TimestampBounds::default());
    decoder.feed(Bytes::from_iter::<Vec<u8>>(bytes));
    for next in [(6, 7), (7, 12), (19, 20)] {
        assert_eq!(decoder.step(), Ok(Step::RangeEnd));
        let batch = decoder.finish(TopicPartition::new("t", 0)).unwrap();
        seen.extend_from_slice(batch.offsets.values());
        decoder.begin(next.0, next.1, TimestampBounds::default());
    }
    assert_eq!(decoder.step(), Ok(Step::RangeEnd));
    let batch = decoder.finish(TopicPartition::new("t", 0)).unwrap();
    seen.extend_from_slice(batch.offsets.values());
    assert_eq!(seen, [2, 3, 6, 7, 8, 9, 10, 11, 19]);
}

#[test]
fn damage_is_named_and_rows_before_it_are_kept() {
    let mut bytes = numbered(0, 10).write();
    let good = bytes.len();
    bytes.extend(numbered(10, 20).write());
    bytes[good + 100] ^= 1;
    let error = read(0, 20).of_bytes(&[bytes.clone()]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the record batch at 10 does not match its checksum"
    );

    let mut decoder = RangeDecoder::new(RawColumns::ALL, ReadCommitted, LIMITS);
    decoder.begin(0, 20, TimestampBounds::default());
    decoder.feed(bytes.into());
    assert!(decoder.step().is_err());
    let kept = decoder.finish(TopicPartition::new("t", 0)).unwrap();
    assert_eq!((kept.offsets.len(), kept.next_offset), (10, 10));
}

#[test]
fn batch_that_unpacks_to_too_much_is_refused() {
    let big = batch(vec![record(0, &"x".repeat(2 << 20))]);
    for codec in 1..5 {
        let error = read(0, 1)
            .of(&[Batch {
                codec,
                ..big.clone()
            }])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the record batch at 0: a record batch unpacks to more than 1048576 bytes; \
             'receive.message.max.bytes' sets how much is allowed",
            "codec {codec}"
        );
    }
}

#[test]
fn few_rows_keep_little_memory() {
    let records = (0..1000).map(|n| record(n, &"x".repeat(1000))).collect();
    let limits = Limits {
        batch_rows: 3,
        ..LIMITS
    };
    let mut decoder = RangeDecoder::new(RawColumns::ALL, ReadCommitted, limits);
    decoder.begin(0, 1000, TimestampBounds::default());
    decoder.feed(batch(records).write().into());
    assert_eq!(decoder.step(), Ok(Step::Full));
    let rows = decoder.finish(TopicPartition::new("t", 0)).unwrap();
    let values = rows.values.unwrap();
    let kept: usize = values.data_buffers().iter().map(|b| b.len()).sum();
    assert_eq!(kept, 3000);
}

/// A Fetch answer in `version` with one topic and one part for each list of batches.
fn answer(version: i16, parts: &[(i32, Vec<u8>, Vec<(i64, i64)>)]) -> Vec<u8> {
    use kafka_protocol::messages::fetch_response::{
        AbortedTransaction, FetchableTopicResponse, PartitionData,
    };
    use kafka_protocol::messages::{FetchResponse, ResponseHeader, TopicName};
    use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
    let part = |(partition, records, aborted): &(i32, Vec<u8>, Vec<(i64, i64)>)| {
        let aborted = aborted.iter().map(|(producer, first)| {
            AbortedTransaction::default()
                .with_producer_id((*producer).into())
                .with_first_offset(*first)
        });
        PartitionData::default()
            .with_partition_index(*partition)
            .with_high_watermark(99)
            .with_last_stable_offset(98)
            .with_log_start_offset(1)
            .with_aborted_transactions(Some(aborted.collect()))
            .with_records(Some(Bytes::copy_from_slice(records)))
    };
    let topic = FetchableTopicResponse::default().with_partitions(parts.iter().map(part).collect());
    let topic = if version >= 13 {
        topic.with_topic_id(uuid::Uuid::from_u128(5))
    } else {
        topic.with_topic(TopicName(StrBytes::from_static_str("orders")))
    };
    let answer = FetchResponse::default()
        .with_throttle_time_ms(3)
        .with_responses(vec![topic]);
    let mut bytes = BytesMut::new();
    let header = ResponseHeader::default();
    header
        .encode(&mut bytes, FetchResponse::header_version(version))
        .unwrap();
    answer.encode(&mut bytes, version).unwrap();
    bytes.split_off(4).to_vec()
}

/// What an answer holds: topics, partitions, and the bytes of whole batches.
fn take_apart(version: i16, bytes: &[u8], step: usize) -> Result<Vec<String>, Malformed> {
    let mut parser = FetchAnswer::new(version, bytes.len());
    let mut buffer = BytesMut::new();
    let mut rest = bytes;
    let mut seen = Vec::new();
    loop {
        match parser.next(&mut buffer)? {
            Event::More(least) => {
                assert!(least > buffer.len() || least == 1, "asks for what is there");
                assert!(!rest.is_empty(), "asks for more than there is");
                let (now, later) = rest.split_at(step.min(rest.len()));
                buffer.extend_from_slice(now);
                rest = later;
            }
            Event::Head(head) => seen.push(format!("throttled {}", head.throttle_ms)),
            Event::Partition(p) => seen.push(format!(
                "{:?} {} {} {} {} {:?} {}",
                p.topic,
                p.partition,
                p.high_watermark,
                p.last_stable_offset,
                p.log_start,
                p.aborted,
                p.record_bytes
            )),
            Event::Records(batches) => match seen.last_mut().filter(|s| s.starts_with("records")) {
                Some(last) => {
                    let before: usize = last["records ".len()..].parse().unwrap();
                    *last = format!("records {}", before + batches.len());
                }
                None => seen.push(format!("records {}", batches.len())),
            },
            Event::PartitionEnd(end) => seen.push(format!("end, cut: {}", end.cut)),
            Event::End => {
                assert_eq!((parser.left(), rest.len(), buffer.len()), (0, 0, 0));
                return Ok(seen);
            }
        }
    }
}

#[test]
fn answers_are_taken_apart_however_they_arrive() {
    let whole = numbered(0, 10).write();
    let mut cut = whole.clone();
    cut.extend(&numbered(10, 20).write()[..100]);
    let alone = whole[..70].to_vec();
    for version in 4..=FETCH_VERSION_MOST {
        let parts = [
            (3, cut.clone(), vec![(1, 2), (3, 4)]),
            (4, vec![], vec![]),
            (5, alone.clone(), vec![]),
        ];
        let bytes = answer(version, &parts);
        let topic = if version >= 13 {
            format!("Id({})", uuid::Uuid::from_u128(5))
        } else {
            "Name(\"orders\")".to_owned()
        };
        let start = if version >= 5 { 1 } else { -1 };
        let expected = [
            "throttled 3".to_owned(),
            format!("{topic} 3 99 98 {start} [(1, 2), (3, 4)] {}", cut.len()),
            format!("records {}", whole.len()),
            "end, cut: true".to_owned(),
            format!("{topic} 4 99 98 {start} [] 0"),
            "end, cut: false".to_owned(),
            format!("{topic} 5 99 98 {start} [] 70"),
            "end, cut: true".to_owned(),
        ];
        for step in [1, 7, 64, 1 << 20] {
            let seen = take_apart(version, &bytes, step).unwrap();
            assert_eq!(seen, expected, "version {version}, {step} bytes at once");
        }
    }
}

#[test]
fn old_message_formats_name_the_way_out() {
    let mut old = numbered(0, 3).write();
    old[16] = 1;
    let error = take_apart(4, &answer(4, &[(0, old, vec![])]), 1000).unwrap_err();
    assert_eq!(
        error.to_string(),
        "records in message format v1, from before Kafka 0.11; 'kafka.client' = 'librdkafka' reads them"
    );
}

fn records(from: i64) -> impl Strategy<Value = Vec<Record>> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    let headers = proptest::collection::vec(("[a-zé]{0,5}", bytes()), 0..3);
    let one = (1..4i64, 0..10_000i64, bytes(), bytes(), headers);
    proptest::collection::vec(one, 0..30).prop_map(move |all| {
        let mut offset = from - 1;
        let record = |(step, timestamp, key, value, headers)| {
            offset += step;
            Record {
                offset,
                timestamp,
                key,
                value,
                headers,
            }
        };
        all.into_iter().map(record).collect()
    })
}

fn logs() -> impl Strategy<Value = Vec<Batch>> {
    let one = (records(0), 0..5u8, 0..3i64, 0..3i64, 0..3u8, any::<bool>());
    proptest::collection::vec(one, 1..8).prop_map(|all| {
        let mut next = 0;
        let mut log = Vec::new();
        for (mut records, codec, before, after, producer, abort) in all {
            let base = next + before;
            for r in &mut records {
                r.offset += base;
            }
            let last = records.last().map_or(base, |r| r.offset) + after;
            next = last + 1;
            let plain = Batch {
                base,
                last,
                codec,
                ..batch(records)
            };
            if producer == 0 {
                log.push(plain);
                continue;
            }
            let (producer, transactional) = (producer.into(), true);
            log.push(Batch {
                producer,
                transactional,
                ..plain
            });
            log.push(marker(next, producer, abort));
            next += 1;
        }
        log
    })
}

/// Producer and first offset of each transaction that was aborted.
fn aborted(log: &[Batch]) -> Vec<(i64, i64)> {
    log.windows(2)
        .filter(|pair| pair[1].control == Some(true))
        .map(|pair| (pair[0].producer, pair[0].base))
        .collect()
}

proptest! {
    /// A naive reading of the same log is the oracle.
    #[test]
    fn any_log_is_read_as_it_was_written(
        log in logs(),
        (from, to) in (0..200i64, 0..200i64),
        batch_rows in 1..50usize,
        committed in any::<bool>(),
        cuts in proptest::collection::vec(any::<bool>(), 16),
    ) {
        let end = log.last().map_or(0, |b| b.last + 1);
        let (start, end) = (from.min(to).min(end), from.max(to).min(end));
        let dropped = aborted(&log);
        let visible = |b: &&Batch| {
            let is_aborted = dropped.iter().any(|(p, first)| *p == b.producer && *first == b.base);
            b.control.is_none() && !(committed && is_aborted && b.transactional)
        };
        let expected: Vec<Record> = log
            .iter()
            .filter(visible)
            .flat_map(|b| b.records.clone())
            .filter(|r| (start..end).contains(&r.offset))
            .collect();
        let mut pieces = vec![vec![]];
        for (b, cut) in log.iter().zip(cuts.iter().cycle()) {
            if *cut {
                pieces.push(vec![]);
            }
            if let Some(piece) = pieces.last_mut() {
                piece.extend(b.write());
            }
        }
        pieces.retain(|p| !p.is_empty());
        let isolation = if committed { ReadCommitted } else { ReadUncommitted };
        let limits = Limits { batch_rows, ..LIMITS };
        let all = Read { isolation, limits, aborted: dropped.clone(), ..read(start, end) };
        let outcome = all.of_bytes(&pieces).unwrap();
        prop_assert_eq!(&outcome.records, &expected);
        if start < end {
            prop_assert_eq!(outcome.position, end);
        }
        let wanted = RawColumns::default();
        let heads = Read { wanted, isolation, limits, aborted: dropped, ..read(start, end) };
        let heads = heads.of_bytes(&pieces).unwrap();
        prop_assert_eq!(offsets(&heads), offsets(&outcome));
        prop_assert_eq!(heads.passed, outcome.passed);
    }

    /// Ranges that follow one another in what was fed are read as if each were alone.
    #[test]
    fn ranges_that_share_batches_are_read_as_if_alone(
        log in logs(),
        cuts in proptest::collection::btree_set(0..200i64, 2..8),
        (committed, batch_rows) in (any::<bool>(), 1..50usize),
        from_ms in proptest::option::of(0..12_000i64),
    ) {
        let end = log.last().map_or(0, |b| b.last + 1);
        let cuts: Vec<i64> = cuts.into_iter().filter(|cut| *cut <= end).collect();
        let ranges = || cuts.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        let isolation = if committed { ReadCommitted } else { ReadUncommitted };
        let limits = Limits { batch_rows, ..LIMITS };
        let bounds = TimestampBounds { from_ms, to_ms: None };
        let bytes: Vec<u8> = log.iter().flat_map(Batch::write).collect();
        let partition = TopicPartition::new("t", 0);
        for wanted in [RawColumns::ALL, RawColumns::default()] {
            let mut decoder = RangeDecoder::new(wanted, isolation, limits);
            decoder.begin_part(&aborted(&log));
            decoder.feed(bytes.clone().into());
            for (start, end) in ranges() {
                let mut together = Outcome::default();
                decoder.begin(start, end, bounds);
                loop {
                    let step = decoder.step().unwrap();
                    add(&mut together, &decoder.finish(partition.clone()).unwrap());
                    if step != Step::Full {
                        break;
                    }
                }
                let aborted = aborted(&log);
                let alone = Read { wanted, isolation, limits, bounds, aborted, ..read(start, end) };
                prop_assert_eq!(together, alone.of_bytes(std::slice::from_ref(&bytes)).unwrap());
            }
        }
    }

    /// Damaged answers are errors, or other records; never a panic, a hang or a huge allocation.
    #[test]
    fn no_answer_panics(
        log in logs(),
        version in 4..=FETCH_VERSION_MOST,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        step in 1..5000usize,
        check_crcs in any::<bool>(),
    ) {
        let records: Vec<u8> = log.iter().flat_map(Batch::write).collect();
        let mut bytes = answer(version, &[(0, records, aborted(&log))]);
        for (index, with) in damage {
            let at = index.index(bytes.len());
            bytes[at] ^= with;
        }
        let mut parser = FetchAnswer::new(version, bytes.len());
        let limits = Limits { check_crcs, ..LIMITS };
        let mut decoder = RangeDecoder::new(RawColumns::ALL, ReadCommitted, limits);
        decoder.begin(0, 1000, TimestampBounds::default());
        let mut buffer = BytesMut::new();
        let mut rest = &bytes[..];
        let mut calls = 0;
        loop {
            calls += 1;
            prop_assert!(calls < 100_000, "it does not end");
            match parser.next(&mut buffer) {
                Ok(Event::More(_)) if rest.is_empty() => {
                    prop_assert!(false, "asks for more than there is");
                }
                Ok(Event::More(_)) => {
                    let (now, later) = rest.split_at(step.min(rest.len()));
                    buffer.extend_from_slice(now);
                    rest = later;
                }
                Ok(Event::Partition(head)) => decoder.begin_part(&head.aborted),
                Ok(Event::Records(batches)) => decoder.feed(batches),
                Ok(Event::End) | Err(_) => break,
                Ok(_) => {}
            }
            let mut steps = 0;
            while let Ok(Step::Full) = decoder.step() {
                let batch = decoder.finish(TopicPartition::new("t", 0)).unwrap();
                prop_assert!(batch.next_offset <= 1000);
                steps += 1;
                prop_assert!(steps < 100_000, "it does not end");
            }
        }
        let batch = decoder.finish(TopicPartition::new("t", 0)).unwrap();
        prop_assert!(batch.next_offset <= 1000);
    }
}
