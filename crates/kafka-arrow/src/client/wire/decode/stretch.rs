//! The common case of walking through records: consecutive records without gaps, all of them wanted.
//!
//! The fields before a record's key and value take few bytes, which are loaded as words and parsed in
//! registers. A record that does not fit this scheme, whether rare or corrupt, ends the stretch. Walking
//! [record by record](super::record) continues there and decides what it is.

use crate::client::views::{INLINE, view};

/// Consecutive records to append.
pub(super) struct Stretch<'a> {
    pub(super) records: &'a [u8],
    /// The offset of the first record, relative to its batch.
    pub(super) delta: u32,
    /// The most records to append.
    pub(super) most: usize,
    /// The most bytes of keys and values to append.
    pub(super) bytes_most: usize,
    /// Whether to stop at records with headers.
    pub(super) bare: bool,
    pub(super) base_timestamp: i64,
    /// The index of the records' memory among the buffers that the views point into.
    pub(super) block: u32,
}

/// Room for `most` rows in each wanted column.
#[derive(Default)]
pub(super) struct Room<'a> {
    pub(super) timestamps: Option<&'a mut [i64]>,
    pub(super) keys: Option<ViewRoom<'a>>,
    pub(super) values: Option<ViewRoom<'a>>,
}

#[derive(Default)]
pub(super) struct ViewRoom<'a> {
    pub(super) views: &'a mut [u128],
    pub(super) valid: &'a mut [bool],
    /// Bytes that the views point to.
    pub(super) viewed: usize,
}

/// What was appended.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) records: usize,
    /// The position of the next record.
    pub(super) at: usize,
    /// Bytes of keys and values, or of whole records if neither is wanted.
    pub(super) bytes: usize,
    /// The part of these that lies outside the views of keys, and of values.
    pub(super) viewed: (usize, usize),
}

impl Stretch<'_> {
    /// Appends the records from `at` on.
    pub(super) fn take(&self, at: usize, room: Room<'_>) -> Taken {
        let Room {
            timestamps,
            keys,
            values,
        } = room;
        let wanted = (timestamps.is_some(), keys.is_some(), values.is_some());
        let times = timestamps.unwrap_or_default();
        let (keys, values) = (keys.unwrap_or_default(), values.unwrap_or_default());
        // A separate loop for each set of columns, so that unwanted ones cost nothing.
        match wanted {
            (false, false, false) => self.walk::<false, false, false>(at, times, keys, values),
            (false, false, true) => self.walk::<false, false, true>(at, times, keys, values),
            (false, true, false) => self.walk::<false, true, false>(at, times, keys, values),
            (false, true, true) => self.walk::<false, true, true>(at, times, keys, values),
            (true, false, false) => self.walk::<true, false, false>(at, times, keys, values),
            (true, false, true) => self.walk::<true, false, true>(at, times, keys, values),
            (true, true, false) => self.walk::<true, true, false>(at, times, keys, values),
            (true, true, true) => self.walk::<true, true, true>(at, times, keys, values),
        }
    }

    #[inline(never)]
    fn walk<const TIMESTAMP: bool, const KEY: bool, const VALUE: bool>(
        &self,
        at: usize,
        timestamps: &mut [i64],
        mut keys: ViewRoom<'_>,
        mut values: ViewRoom<'_>,
    ) -> Taken {
        let records = self.records;
        let mut taken = Taken {
            at,
            ..Taken::default()
        };
        let mut one = |row: usize, taken: &mut Taken| {
            let record = Record::at(records, taken.at, self.delta + row as u32)?;
            let mut bytes = taken.bytes;
            if KEY || VALUE || self.bare {
                let (key, value) = record.key_and_value(records)?;
                bytes += key.bytes() + value.bytes();
                let bare = || value.end + 1 == record.end && records.get(value.end) == Some(&0);
                if bytes > self.bytes_most || self.bare && !bare() {
                    return None;
                }
                if KEY {
                    keys.put(row, records, &key, self.block)?;
                }
                if VALUE {
                    values.put(row, records, &value, self.block)?;
                }
            } else {
                bytes += record.end - taken.at;
            }
            if TIMESTAMP {
                let timestamp = self.base_timestamp.wrapping_add(record.timestamp_delta());
                *timestamps.get_mut(row)? = timestamp;
            }
            taken.at = record.end;
            taken.bytes = bytes;
            Some(())
        };
        while taken.records < self.most && one(taken.records, &mut taken).is_some() {
            taken.records += 1;
        }
        taken.viewed = (keys.viewed, values.viewed);
        taken
    }
}

impl ViewRoom<'_> {
    #[inline(always)]
    fn put(&mut self, row: usize, records: &[u8], field: &Field, block: u32) -> Option<()> {
        let value = records.get(field.at..field.end)?;
        *self.views.get_mut(row)? = view(value, block, field.at as u32);
        *self.valid.get_mut(row)? = !field.null;
        self.viewed += if value.len() > INLINE { value.len() } else { 0 };
        Some(())
    }
}

/// The fields of a record before its key, and the position of its end.
struct Record {
    /// In zigzag encoding.
    timestamp: u32,
    /// The rest of the word that holds the key's length.
    rest: Word,
    end: usize,
}

/// The place of a key or a value; empty if it is NULL.
struct Field {
    null: bool,
    at: usize,
    end: usize,
}

impl Record {
    /// The record at `at`, if its offset in the batch is `delta` and it lies within `records`.
    #[inline(always)]
    fn at(records: &[u8], at: usize, delta: u32) -> Option<Self> {
        let mut word = Word::load(records, at)?;
        let length = word.varint()?;
        let end = word.at + (length >> 1) as usize;
        word.skip_byte(); // attributes
        let timestamp = word.varint()?;
        let mut rest = Word::load(records, word.at)?;
        // Zigzag keeps the sign in the lowest bit.
        let fits = length & 1 == 0 && rest.varint()? == delta << 1 && end <= records.len();
        fits.then_some(Self {
            timestamp,
            rest,
            end,
        })
    }

    #[inline(always)]
    fn timestamp_delta(&self) -> i64 {
        i64::from((self.timestamp >> 1) as i32 ^ -((self.timestamp & 1) as i32))
    }

    #[inline(always)]
    fn key_and_value(&self, records: &[u8]) -> Option<(Field, Field)> {
        let mut word = self.rest;
        let key = word.field()?;
        if !key.null {
            word = Word::load(records, key.end)?;
        }
        let value = word.field()?;
        (key.end <= self.end && value.end <= self.end).then_some((key, value))
    }
}

impl Field {
    #[inline(always)]
    fn bytes(&self) -> usize {
        self.end - self.at
    }
}

/// Eight bytes of a record, some of them consumed. They are enough for two varints of up to three bytes and
/// what lies between them.
#[derive(Clone, Copy)]
struct Word {
    bytes: u64,
    /// The position of the next byte in the records.
    at: usize,
}

impl Word {
    #[inline(always)]
    fn load(records: &[u8], at: usize) -> Option<Self> {
        let bytes = records.get(at..)?.first_chunk()?;
        let bytes = u64::from_le_bytes(*bytes);
        Some(Self { bytes, at })
    }

    #[inline(always)]
    fn take(&mut self, bytes: usize) {
        self.bytes >>= 8 * bytes;
        self.at += bytes;
    }

    #[inline(always)]
    fn skip_byte(&mut self) {
        self.take(1);
    }

    /// A varint of up to three bytes, still in zigzag encoding.
    #[inline(always)]
    fn varint(&mut self) -> Option<u32> {
        let word = self.bytes as u32;
        let (value, bytes) = if word & 0x80 == 0 {
            (word & 0x7f, 1)
        } else if word & 0x8000 == 0 {
            (word & 0x7f | word >> 1 & 0x3f80, 2)
        } else if word & 0x80_0000 == 0 {
            (word & 0x7f | word >> 1 & 0x3f80 | word >> 2 & 0x1f_c000, 3)
        } else {
            return None;
        };
        self.take(bytes);
        Some(value)
    }

    /// The length of a key or a value (-1 for NULL) and the position after that length.
    #[inline(always)]
    fn field(&mut self) -> Option<Field> {
        let length = self.varint()?;
        let null = length == 1;
        if length & 1 != 0 && !null {
            return None;
        }
        let (at, length) = (self.at, (length >> 1) as usize);
        let end = at + length;
        Some(Field { null, at, end })
    }
}
