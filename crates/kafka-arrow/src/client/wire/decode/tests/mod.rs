//! Answers that are encoded here byte by byte, and decoded again.

mod answers;
mod laws;
mod layouts;
mod old;
mod ranges;
mod search;

use std::io::Write;

use arrow::array::{Array, AsArray};
use bytes::{Bytes, BytesMut};

use super::*;
use crate::client::{Needle, PassedOffsets, RawBatch, RawColumns, TimestampBounds, TimestampType};
use crate::range::{IsolationLevel, TopicPartition};
use IsolationLevel::{ReadCommitted, ReadUncommitted};

const LIMITS: Limits = Limits {
    batch_rows: 8192,
    batch_bytes: 8 << 20,
    unpacked_bytes: 1 << 20,
    check_crcs: true,
};

type Headers = Vec<(String, Option<Vec<u8>>)>;

/// A record as it is written, and as it should be read back.
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

/// A record batch to write.
#[derive(Debug, Clone)]
struct Batch {
    base: i64,
    /// The last offset, if it is not that of the last record.
    last: i64,
    records: Vec<Record>,
    codec: u8,
    log_append_time: Option<i64>,
    producer: i64,
    transactional: bool,
    /// A control batch that aborts (true) or commits (false).
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
        pack(self.codec, &self.records())
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

fn pack(codec: u8, plain: &[u8]) -> Vec<u8> {
    match codec {
        0 => plain.to_vec(),
        1 => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Default::default());
            gzip.write_all(plain).unwrap();
            gzip.finish().unwrap()
        }
        2 => {
            // In two blocks, with the frame of snappy-java.
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
            lz4.write_all(plain).unwrap();
            lz4.finish().unwrap()
        }
        _ => {
            let mut packed = Vec::with_capacity(zstd_safe::compress_bound(plain.len()));
            zstd_safe::compress(&mut packed, plain, 1).unwrap();
            packed
        }
    }
}

/// The result of reading a range.
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
    needle: Option<Needle>,
}

fn read(start: i64, end: i64) -> Read {
    Read {
        range: (start, end),
        wanted: RawColumns::ALL,
        isolation: ReadCommitted,
        limits: LIMITS,
        bounds: TimestampBounds::default(),
        aborted: vec![],
        needle: None,
    }
}

impl Read {
    fn of(self, batches: &[Batch]) -> Result<Outcome, Malformed> {
        let bytes: Vec<u8> = batches.iter().flat_map(Batch::write).collect();
        self.of_bytes(&[bytes])
    }

    /// Feeds pieces with whole batches, and collects one output batch after another.
    fn of_bytes(self, pieces: &[Vec<u8>]) -> Result<Outcome, Malformed> {
        let mut decoder = RangeDecoder::new(self.wanted, self.isolation, self.limits)
            .searching(self.needle.as_ref());
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
                Step::Short => return Err(Malformed(format!("{:?}", decoder.shortage()))),
                Step::Cut(offset) => return Err(Malformed(format!("cut at {offset}"))),
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
