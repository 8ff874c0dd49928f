//! Parses one record of a batch in place. Reading spends most of its time in this loop.

/// A record, with the fields that are always needed.
pub(super) struct Record<'a> {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) key_at: usize,
    pub(super) value: Option<&'a [u8]>,
    pub(super) value_at: usize,
    pub(super) headers_at: usize,
    pub(super) end: usize,
}

/// The record at `at`; `None` when it is incomplete or corrupt.
#[inline(always)]
pub(super) fn record(records: &[u8], at: usize) -> Option<Record<'_>> {
    let (length, at) = varint(records, at)?;
    let end = at.checked_add(usize::try_from(length).ok()?)?;
    // From here on, nothing beyond the record is read.
    let records = records.get(..end)?;
    // One byte of attributes, none of which has a meaning.
    let (timestamp_delta, at) = varlong(records, at + 1)?;
    let (offset_delta, at) = varint(records, at)?;
    let (key, key_at, at) = bytes(records, at)?;
    let (value, value_at, headers_at) = bytes(records, at)?;
    Some(Record {
        timestamp_delta,
        offset_delta,
        key,
        key_at,
        value,
        value_at,
        headers_at,
        end,
    })
}

/// Bytes with their length; -1 stands for NULL.
#[inline(always)]
fn bytes(records: &[u8], at: usize) -> Option<(Option<&[u8]>, usize, usize)> {
    let (length, at) = varint(records, at)?;
    if length < 0 {
        return (length == -1).then_some((None, at, at));
    }
    let end = at + length as usize;
    Some((Some(records.get(at..end)?), at, end))
}

/// Passes a record's headers to `each`, in order; `None` when they are corrupt.
pub(super) fn headers(
    records: &[u8],
    at: usize,
    end: usize,
    mut each: impl FnMut(&[u8], Option<&[u8]>),
) -> Option<()> {
    let records = records.get(..end)?;
    let (count, mut at) = varint(records, at)?;
    if count < 0 {
        return None;
    }
    for _ in 0..count {
        let (name, _, next) = bytes(records, at)?;
        let (value, _, next) = bytes(records, next)?;
        each(name?, value);
        at = next;
    }
    Some(())
}

/// A zigzag varint of 32 bits.
#[inline(always)]
fn varint(bytes: &[u8], at: usize) -> Option<(i32, usize)> {
    let first = *bytes.get(at)?;
    if first < 0x80 {
        return Some((zigzag(u32::from(first)), at + 1));
    }
    let second = *bytes.get(at + 1)?;
    if second < 0x80 {
        let value = u32::from(first & 0x7f) | u32::from(second) << 7;
        return Some((zigzag(value), at + 2));
    }
    let mut value = u32::from(first & 0x7f) | u32::from(second & 0x7f) << 7;
    let mut at = at + 2;
    for shift in [14, 21, 28] {
        let byte = *bytes.get(at)?;
        at += 1;
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((zigzag(value), at));
        }
    }
    None
}

#[inline(always)]
fn zigzag(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

/// A zigzag varint of 64 bits.
#[inline(always)]
fn varlong(bytes: &[u8], mut at: usize) -> Option<(i64, usize)> {
    let first = *bytes.get(at)?;
    if first < 0x80 {
        return Some((i64::from(zigzag(u32::from(first))), at + 1));
    }
    let second = *bytes.get(at + 1)?;
    if second < 0x80 {
        let value = u32::from(first & 0x7f) | u32::from(second) << 7;
        return Some((i64::from(zigzag(value)), at + 2));
    }
    let mut value = 0u64;
    for shift in 0..10 {
        let byte = *bytes.get(at)?;
        at += 1;
        value |= u64::from(byte & 0x7f) << (7 * shift);
        if byte < 0x80 {
            return Some(((value >> 1) as i64 ^ -((value & 1) as i64), at));
        }
    }
    None
}
