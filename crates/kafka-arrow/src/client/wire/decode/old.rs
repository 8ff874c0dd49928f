//! Rewrites messages in the formats from before Kafka 0.11 (v0 and v1) as record batches, so that the rest of
//! the decoder only knows one format. Brokers up to 3.9 send old messages as they were written.

use bytes::Bytes;

use super::answer::Malformed;
use super::batch::{Codec, MAGIC_AT};
use super::codec::{Packed, Unpacker};
use super::cursor::Cursor;
use crate::client::Held;

/// The size of the smallest message: format v0 without key and value.
pub(super) const BYTES_LEAST: usize = 26;
/// Uncompressed messages are combined up to this many bytes.
const TOGETHER_BYTES: usize = 64 << 10;
const CODEC: u8 = 7;
const LOG_APPEND_TIME: u8 = 8;

/// Whether a message in an old format begins here, rather than a record batch.
pub(super) fn is_old(bytes: &[u8]) -> bool {
    bytes.get(MAGIC_AT).is_some_and(|magic| *magic < 2)
}

/// One message. If it is compressed, it contains others.
struct Message<'a> {
    magic: u8,
    attributes: u8,
    offset: i64,
    /// -1 for a message without a timestamp.
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    size: usize,
}

impl<'a> Message<'a> {
    /// Parses the message at the front of `bytes`.
    fn parse(bytes: &'a [u8], check_crcs: bool) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let offset = cursor.i64().ok_or_else(|| broken(-1, "is cut off"))?;
        let parsed = Self::fields(&mut cursor, bytes, offset);
        let (message, crc) = parsed.ok_or_else(|| broken(offset, "is cut off"))?;
        let checked = &bytes[MAGIC_AT..message.size];
        let found = || crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, checked);
        if check_crcs && found() != u64::from(crc) {
            return Err(broken(offset, "does not match its checksum"));
        }
        if message.magic > 1 || message.offset < 0 {
            return Err(broken(offset, "is of another format than those around it"));
        }
        Ok(message)
    }

    fn fields(cursor: &mut Cursor<'a>, bytes: &[u8], offset: i64) -> Option<(Self, u32)> {
        let size = usize::try_from(cursor.i32()?).ok()?.checked_add(12)?;
        if size > bytes.len() || size < BYTES_LEAST {
            return None;
        }
        let crc = u32::from_be_bytes(cursor.array()?);
        let [magic, attributes] = cursor.array()?;
        let timestamp = if magic == 0 { -1 } else { cursor.i64()? };
        let mut field = || {
            let length = cursor.i32()?;
            match usize::try_from(length) {
                Ok(length) => cursor.bytes(length).map(Some),
                Err(_) => Some(None),
            }
        };
        let (key, value) = (field()?, field()?);
        let message = Self {
            magic,
            attributes,
            offset,
            timestamp,
            key,
            value,
            size,
        };
        (cursor.at() <= size).then_some((message, crc))
    }

    fn is_log_append_time(&self) -> bool {
        self.magic > 0 && self.attributes & LOG_APPEND_TIME != 0
    }
}

/// Rewrites messages at the front of `bytes`: several uncompressed ones, or a single compressed one. Returns
/// how many bytes they took.
///
/// # Errors
/// When the bytes are not messages in an old format, or do not unpack.
pub(super) fn rewrite(
    bytes: &[u8],
    unpacker: &mut Unpacker,
    held: &mut Held,
    check_crcs: bool,
) -> Result<(Bytes, usize), Packed> {
    let first = Message::parse(bytes, check_crcs)?;
    let codec = match first.attributes & CODEC {
        0 => Codec::None,
        1 => Codec::Gzip,
        2 => Codec::Snappy,
        3 => Codec::Lz4,
        _ => {
            return Err(broken(first.offset, "has a codec that its format does not know").into());
        }
    };
    let mut batch = Batch::default();
    if codec != Codec::None {
        let packed = first.value.unwrap_or_default();
        let unpacked = unpacker.unpack(codec, packed, held).map_err(|e| match e {
            Packed::Broken(e) => broken(first.offset, &e.0).into(),
            short => short,
        })?;
        batch.unpacked(&first, &unpacked)?;
        return Ok((batch.write(first.offset)?, first.size));
    }
    let mut at = 0;
    while at < TOGETHER_BYTES && is_old(&bytes[at..]) {
        let message = Message::parse(&bytes[at..], check_crcs)?;
        if message.attributes & CODEC != 0 || !batch.takes(&message) {
            break;
        }
        at += message.size;
        batch.push(&message);
    }
    Ok((batch.write(first.offset)?, at))
}

/// A record batch under construction.
#[derive(Default)]
struct Batch {
    base_offset: i64,
    last_offset: i64,
    log_append_time: bool,
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
    records: Vec<u8>,
}

impl Batch {
    /// Adds the messages within `outer`.
    fn unpacked(&mut self, outer: &Message<'_>, inner: &[u8]) -> Result<(), Malformed> {
        let (mut rest, mut last) = (inner, 0);
        while !rest.is_empty() {
            let message = Message::parse(rest, false)?;
            last = message.offset;
            rest = &rest[message.size..];
        }
        // In v1, inner offsets count from the first message, and the outer offset is that of the last.
        let shift = match outer.magic {
            0 => 0,
            _ => outer.offset.saturating_sub(last),
        };
        self.records.reserve(inner.len());
        rest = inner;
        while !rest.is_empty() {
            // The checksum of the outer message covers all of them.
            let mut message = Message::parse(rest, false)?;
            if message.attributes & CODEC != 0 {
                return Err(broken(
                    outer.offset,
                    "holds compressed messages in compressed ones",
                ));
            }
            rest = &rest[message.size..];
            if outer.is_log_append_time() {
                message.timestamp = outer.timestamp;
                message.attributes |= LOG_APPEND_TIME;
                message.magic = outer.magic;
            }
            let shifted = message.offset.checked_add(shift);
            message.offset = shifted.unwrap_or(-1);
            if message.offset < 0 || !self.takes(&message) {
                return Err(broken(outer.offset, "holds messages that are not in order"));
            }
            self.push(&message);
        }
        Ok(())
    }

    /// Whether the message may follow the ones already added.
    fn takes(&self, message: &Message<'_>) -> bool {
        self.count == 0
            || message.offset > self.last_offset
                && i32::try_from(message.offset - self.base_offset).is_ok()
                && self.count < i32::MAX
                && message.is_log_append_time() == self.log_append_time
                // A batch has one timestamp for all of them.
                && (!self.log_append_time || message.timestamp == self.max_timestamp)
    }

    fn push(&mut self, message: &Message<'_>) {
        if self.count == 0 {
            self.base_offset = message.offset;
            self.log_append_time = message.is_log_append_time();
            self.base_timestamp = message.timestamp;
            self.max_timestamp = message.timestamp;
        }
        self.last_offset = message.offset;
        self.max_timestamp = self.max_timestamp.max(message.timestamp);
        self.count += 1;
        let mut head = vec![0]; // attributes
        varint(
            &mut head,
            message.timestamp.wrapping_sub(self.base_timestamp),
        );
        varint(&mut head, message.offset - self.base_offset);
        let length = |field: Option<&[u8]>| field.map_or(-1, |field| field.len() as i64);
        varint(&mut head, length(message.key));
        let key = message.key.unwrap_or_default();
        let mut middle = Vec::new();
        varint(&mut middle, length(message.value));
        let value = message.value.unwrap_or_default();
        let size = head.len() + key.len() + middle.len() + value.len() + 1;
        varint(&mut self.records, size as i64);
        for part in [&head, key, &middle, value, &[0]] {
            self.records.extend_from_slice(part);
        }
    }

    /// The finished batch. `at` is the offset of the message that it was made from.
    fn write(&self, at: i64) -> Result<Bytes, Malformed> {
        let length = i32::try_from(self.records.len() + 49);
        let (Ok(length), 1..) = (length, self.count) else {
            return Err(broken(at, "holds no messages, or too many"));
        };
        let mut checked = Vec::with_capacity(self.records.len() + 40);
        let attributes = i16::from(self.log_append_time) * i16::from(LOG_APPEND_TIME);
        checked.extend(attributes.to_be_bytes());
        // `takes` has checked that it fits.
        checked.extend(((self.last_offset - self.base_offset) as i32).to_be_bytes());
        checked.extend(self.base_timestamp.to_be_bytes());
        checked.extend(self.max_timestamp.to_be_bytes());
        checked.extend((-1i64).to_be_bytes()); // producer
        checked.extend((-1i16).to_be_bytes()); // its epoch
        checked.extend((-1i32).to_be_bytes()); // base sequence
        checked.extend(self.count.to_be_bytes());
        checked.extend_from_slice(&self.records);
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &checked) as u32;
        let mut batch = Vec::with_capacity(checked.len() + 21);
        batch.extend(self.base_offset.to_be_bytes());
        batch.extend(length.to_be_bytes());
        batch.extend((-1i32).to_be_bytes()); // leader epoch
        batch.push(2); // magic
        batch.extend(crc.to_be_bytes());
        batch.append(&mut checked);
        Ok(batch.into())
    }
}

fn varint(to: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        to.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    to.push(zigzag as u8);
}

fn broken(offset: i64, reason: &str) -> Malformed {
    Malformed(format!(
        "the message at {offset}, in a format from before Kafka 0.11, {reason}"
    ))
}
