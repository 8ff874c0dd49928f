//! A partition's log as bytes: record batches, or messages in older formats, encoded field by field.
//!
//! Nothing is validated, so a test can write what no broker would.

use std::io::Write;

use bytes::Bytes;
use datafusion_kafka::client::memory::Record;

use crate::conformance::Codec;

/// A record batch to write.
#[derive(Debug, Clone)]
pub struct Batch {
    pub base: i64,
    /// The last offset, if it is not that of the last record.
    pub last: i64,
    /// Offsets and records.
    pub records: Vec<(i64, Record)>,
    pub codec: Codec,
    pub epoch: i32,
    pub producer: i64,
    pub transactional: bool,
    /// Set for a control batch: whether it aborts.
    pub control: Option<bool>,
    /// The message format: 2, or 0 and 1 from before Kafka 0.11.
    pub magic: u8,
}

impl Batch {
    /// Records at successive offsets.
    pub fn new(base: i64, records: &[Record]) -> Self {
        let records: Vec<_> = (base..).zip(records.iter().cloned()).collect();
        Self {
            base,
            last: records.last().map_or(base, |(offset, _)| *offset),
            records,
            codec: Codec::None,
            epoch: 0,
            producer: -1,
            transactional: false,
            control: None,
            magic: 2,
        }
    }

    /// The end of a transaction.
    pub fn marker(base: i64, producer: i64, abort: bool) -> Self {
        Self {
            producer,
            transactional: true,
            control: Some(abort),
            ..Self::new(base, &[Record::default()])
        }
    }

    pub fn of_producer(self, producer: i64) -> Self {
        Self {
            producer,
            transactional: true,
            ..self
        }
    }

    pub fn packed(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }

    pub fn in_format(self, magic: u8) -> Self {
        Self { magic, ..self }
    }

    fn timestamps(&self) -> impl Iterator<Item = i64> {
        self.records
            .iter()
            .map(|(_, r)| r.timestamp_ms.unwrap_or(-1))
    }

    /// The batch, encoded as in the log.
    pub fn write(&self) -> Vec<u8> {
        if self.magic < 2 {
            return self.write_messages();
        }
        let base_timestamp = self.timestamps().next().unwrap_or(-1);
        let attributes = self.codec as i16
            | i16::from(self.transactional) << 4
            | i16::from(self.control.is_some()) << 5;
        let mut checked = Vec::new();
        checked.extend(attributes.to_be_bytes());
        checked.extend(i32::try_from(self.last - self.base).unwrap().to_be_bytes());
        checked.extend(base_timestamp.to_be_bytes());
        checked.extend(self.timestamps().max().unwrap_or(-1).to_be_bytes());
        checked.extend(self.producer.to_be_bytes());
        // Producer epoch and base sequence.
        checked.extend([0; 6]);
        checked.extend(i32::try_from(self.records.len()).unwrap().to_be_bytes());
        checked.extend(pack(self.codec, &self.records(base_timestamp)));
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &checked) as u32;
        let mut all = Vec::new();
        all.extend(self.base.to_be_bytes());
        all.extend(i32::try_from(checked.len() + 9).unwrap().to_be_bytes());
        all.extend(self.epoch.to_be_bytes());
        // Message format v2.
        all.push(2);
        all.extend(crc.to_be_bytes());
        all.extend(checked);
        all
    }

    /// The messages one after another; if compressed, within one message that has the last offset.
    fn write_messages(&self) -> Vec<u8> {
        let relative = match (self.magic, self.codec) {
            (0, _) | (_, Codec::None) => 0,
            _ => self.base,
        };
        let plain: Vec<u8> = self
            .records
            .iter()
            .flat_map(|(offset, r)| self.message(Codec::None, offset - relative, r))
            .collect();
        if matches!(self.codec, Codec::None) {
            return plain;
        }
        let outer = Record {
            key: None,
            value: Some(pack(self.codec, &plain)),
            timestamp_ms: self.timestamps().max(),
            ..Record::default()
        };
        self.message(self.codec, self.last, &outer)
    }

    fn message(&self, codec: Codec, offset: i64, record: &Record) -> Vec<u8> {
        let mut checked = vec![self.magic, codec as u8];
        if self.magic > 0 {
            checked.extend(record.timestamp_ms.unwrap_or(-1).to_be_bytes());
        }
        for field in [&record.key, &record.value] {
            let length = field
                .as_ref()
                .map_or(-1, |f| i32::try_from(f.len()).unwrap());
            checked.extend(length.to_be_bytes());
            checked.extend(field.iter().flatten());
        }
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &checked) as u32;
        let mut all = offset.to_be_bytes().to_vec();
        all.extend(i32::try_from(checked.len() + 4).unwrap().to_be_bytes());
        all.extend(crc.to_be_bytes());
        all.extend(checked);
        all
    }

    fn records(&self, base_timestamp: i64) -> Vec<u8> {
        let mut all = Vec::new();
        for (offset, r) in &self.records {
            let mut one = vec![0];
            put_varint(&mut one, r.timestamp_ms.unwrap_or(-1) - base_timestamp);
            put_varint(&mut one, offset - self.base);
            // Version, then 0 for an abort and 1 for a commit.
            let kind = self.control.map(|abort| [0, 0, 0, u8::from(!abort)]);
            let key = kind.as_ref().map(<[u8; 4]>::as_slice);
            put_bytes(&mut one, key.or(r.key.as_deref()));
            put_bytes(&mut one, r.value.as_deref());
            put_varint(&mut one, i64::try_from(r.headers.len()).unwrap());
            for (name, value) in &r.headers {
                put_bytes(&mut one, Some(name.as_bytes()));
                put_bytes(&mut one, value.as_deref());
            }
            put_varint(&mut all, i64::try_from(one.len()).unwrap());
            all.extend(one);
        }
        all
    }
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
    put_varint(to, bytes.map_or(-1, |b| i64::try_from(b.len()).unwrap()));
    to.extend(bytes.unwrap_or_default());
}

fn pack(codec: Codec, plain: &[u8]) -> Vec<u8> {
    match codec {
        Codec::None => plain.to_vec(),
        Codec::Gzip => {
            let level = flate2::Compression::fast();
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
            gzip.write_all(plain).unwrap();
            gzip.finish().unwrap()
        }
        Codec::Snappy => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
        Codec::Lz4 => {
            let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
            lz4.write_all(plain).unwrap();
            lz4.finish().unwrap()
        }
        Codec::Zstd => {
            let mut packed = Vec::with_capacity(zstd_safe::compress_bound(plain.len()));
            zstd_safe::compress(&mut packed, plain, 1).unwrap();
            packed
        }
    }
}

/// The log of a partition.
#[derive(Debug, Clone, Default)]
pub struct Log {
    pub batches: Vec<Written>,
    pub start: i64,
    pub end: i64,
    /// The aborted transactions.
    pub aborted: Vec<Aborted>,
    /// Where committed readers must stop while a transaction is open.
    pub stable: Option<i64>,
}

/// A batch in the log.
#[derive(Debug, Clone)]
pub struct Written {
    pub base: i64,
    pub last: i64,
    pub max_timestamp: i64,
    pub bytes: Bytes,
}

/// An aborted transaction.
#[derive(Debug, Clone, Copy)]
pub struct Aborted {
    pub producer: i64,
    pub first: i64,
    pub marker: i64,
}

impl Log {
    /// A log with these batches.
    pub fn of(batches: &[Batch]) -> Self {
        let mut log = Self::default();
        for batch in batches {
            log.push(batch);
        }
        log
    }

    /// Appends records in batches of this size, at successive offsets from the log's end on.
    pub fn extend(&mut self, records: &[Record], batch: usize) {
        for records in records.chunks(batch) {
            self.push(&Batch::new(self.end, records));
        }
    }

    /// Appends a batch. It may leave out offsets before itself.
    pub fn push(&mut self, batch: &Batch) {
        if batch.control == Some(true) {
            let of_producer = |w: &&Written| {
                let bytes: [u8; 8] = w.bytes[43..51].try_into().unwrap();
                let is_control = w.bytes[22] & 32 != 0;
                !is_control && i64::from_be_bytes(bytes) == batch.producer
            };
            let first = self.batches.iter().find(of_producer);
            self.aborted.push(Aborted {
                producer: batch.producer,
                first: first.map_or(batch.base, |w| w.base),
                marker: batch.base,
            });
        }
        self.batches.push(Written {
            base: batch.base,
            last: batch.last,
            max_timestamp: batch.timestamps().max().unwrap_or(-1),
            bytes: batch.write().into(),
        });
        self.end = batch.last + 1;
    }

    /// Where a reader must stop.
    pub fn bound(&self, committed: bool) -> i64 {
        match self.stable {
            Some(stable) if committed => stable.min(self.end),
            _ => self.end,
        }
    }

    /// The batches from the one with `offset` on. As with brokers, they are cut off after `most` bytes, even
    /// within a batch. With `whole`, the first batch is complete.
    pub fn slice(&self, offset: i64, committed: bool, most: usize, whole: bool) -> Bytes {
        let bound = self.bound(committed);
        let mut bytes = Vec::new();
        let from = self
            .batches
            .iter()
            .filter(|w| w.last >= offset && w.base < bound);
        for (number, batch) in from.enumerate() {
            if number == 0 && batch.bytes.len() > most {
                if whole {
                    bytes.extend_from_slice(&batch.bytes);
                }
                break;
            }
            bytes.extend_from_slice(&batch.bytes);
            if bytes.len() >= most {
                bytes.truncate(most);
                break;
            }
        }
        bytes.into()
    }
}
