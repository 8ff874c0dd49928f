//! The head of a record batch (message format v2, KIP-98). It tells much about the batch without reading its
//! records.

use super::answer::Malformed;
use super::cursor::Cursor;

/// The size of a head. The records follow, possibly compressed.
pub(crate) const HEAD_BYTES: usize = 61;
/// The position of the format's version.
pub(crate) const MAGIC_AT: usize = 16;
/// The position where the checksummed part begins.
const CHECKED_FROM: usize = 21;
/// The smallest record: six varints and the attributes.
const RECORD_BYTES_LEAST: usize = 7;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// See the module's documentation.
///
/// - `base_offset + last_offset_delta` does not overflow, and no record lies beyond it.
/// - `records` is no larger than the offsets spanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHead {
    pub(crate) base_offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) crc: u32,
    attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) records: i32,
}

impl BatchHead {
    /// The head of the whole batch in `batch`.
    ///
    /// # Errors
    /// When the head contradicts itself.
    pub(crate) fn parse(batch: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(batch);
        let head = Self::fields(&mut cursor)
            .ok_or_else(|| Malformed("a record batch is shorter than its head".into()))?;
        let spans = i64::from(head.last_offset_delta) + 1;
        let fits = head.base_offset >= 0
            && head.last_offset_delta >= 0
            && head.base_offset.checked_add(spans).is_some()
            && (0..=spans).contains(&i64::from(head.records));
        let least = usize::try_from(head.records).unwrap_or(usize::MAX);
        let has_room = head.codec()? != Codec::None
            || least.saturating_mul(RECORD_BYTES_LEAST) <= batch.len() - HEAD_BYTES;
        if !fits || !has_room {
            return Err(Malformed(format!(
                "a record batch of {} bytes at {} claims {} records in {spans} offsets",
                batch.len(),
                head.base_offset,
                head.records
            )));
        }
        Ok(head)
    }

    fn fields(cursor: &mut Cursor<'_>) -> Option<Self> {
        let base_offset = cursor.i64()?;
        cursor.i32()?; // length
        let leader_epoch = cursor.i32()?;
        cursor.bytes(1)?; // magic
        let crc = u32::from_be_bytes(cursor.array()?);
        let attributes = cursor.i16()?;
        let last_offset_delta = cursor.i32()?;
        let base_timestamp = cursor.i64()?;
        let max_timestamp = cursor.i64()?;
        let producer_id = cursor.i64()?;
        cursor.i16()?; // producer epoch
        cursor.i32()?; // base sequence
        let records = cursor.i32()?;
        Some(Self {
            base_offset,
            leader_epoch,
            crc,
            attributes,
            last_offset_delta,
            base_timestamp,
            max_timestamp,
            producer_id,
            records,
        })
    }

    /// # Errors
    /// When the codec does not exist in Kafka.
    pub(crate) fn codec(&self) -> Result<Codec, Malformed> {
        Ok(match self.attributes & 7 {
            0 => Codec::None,
            1 => Codec::Gzip,
            2 => Codec::Snappy,
            3 => Codec::Lz4,
            4 => Codec::Zstd,
            other => {
                return Err(Malformed(format!(
                    "a record batch at {} is compressed by codec {other}, which Kafka does not have",
                    self.base_offset
                )));
            }
        })
    }

    /// Whether the broker stamped the records, all of which then have `max_timestamp`.
    pub(crate) fn is_log_append_time(&self) -> bool {
        self.attributes & 8 != 0
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & 16 != 0
    }

    /// Whether the batch holds the end of a transaction instead of records.
    pub(crate) fn is_control(&self) -> bool {
        self.attributes & 32 != 0
    }

    /// The first offset that cannot belong to the batch.
    pub(crate) fn end(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta) + 1
    }

    /// Whether every offset in the batch's span holds a record.
    pub(crate) fn is_dense(&self) -> bool {
        self.records - 1 == self.last_offset_delta
    }

    /// Whether the checksum of `batch` matches its head (CRC-32C, KIP-98).
    pub(crate) fn checks(&self, batch: &[u8]) -> bool {
        let checked = batch.get(CHECKED_FROM..).unwrap_or_default();
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, checked);
        crc == u64::from(self.crc)
    }
}

/// The mean size of a record in the first of some whole batches; 0 where unknown.
pub(crate) fn mean_bytes(batches: &[u8]) -> usize {
    let head = match batches.get(MAGIC_AT) {
        Some(2) => BatchHead::parse(batches).ok(),
        _ => None,
    };
    let size = batches
        .get(8..12)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_be_bytes);
    head.map_or(0, |head| size as usize / head.records.max(1) as usize)
}

/// Whether a control batch aborts its transaction; `None` for other control records.
pub(crate) fn aborts(records: &[u8]) -> Option<bool> {
    let mut cursor = Cursor::new(records);
    // Length, attributes, timestamp delta, offset delta, key length: all zigzag varints.
    for _ in 0..5 {
        while cursor.array::<1>()?[0] >= 0x80 {}
    }
    let version = cursor.i16()?;
    match (version >= 0, cursor.i16()?) {
        (true, 0) => Some(true),
        (true, 1) => Some(false),
        _ => None,
    }
}
