//! Building blocks of Arrow columns that all clients share.

use arrow::array::{Int32Array, TimestampMillisecondArray};

pub(super) use crate::raw::{Headers, nulls};

/// The longest value that a view itself can hold.
pub(super) const INLINE: usize = 12;
const INLINE_AND_MORE: usize = INLINE + 1;

/// Arrow's view: the length, then either the value itself, or its first four bytes, its buffer and its offset
/// in the buffer.
///
/// It is assembled in registers. Writing a view in parts and reading it as a whole stalls the processor for
/// longer than the rest of a record takes.
#[inline(always)]
pub(super) fn view(value: &[u8], buffer: u32, offset: u32) -> u128 {
    let length = value.len() as u128;
    let at = |byte: usize| 32 + 8 * byte as u32;
    let word = |from: usize| match value.get(from..).and_then(<[u8]>::first_chunk::<4>) {
        Some(bytes) => u128::from(u32::from_le_bytes(*bytes)),
        None => 0,
    };
    let byte = |index: usize| u128::from(value.get(index).copied().unwrap_or_default());
    // The parts overlap, and agree where they do.
    let rest = match value.len() {
        INLINE_AND_MORE.. => word(0) << at(0) | u128::from(buffer) << 64 | u128::from(offset) << 96,
        n @ 8.. => word(0) << at(0) | word(4) << at(4) | word(n - 4) << at(n - 4),
        n @ 4.. => word(0) << at(0) | word(n - 4) << at(n - 4),
        n @ 1.. => byte(0) << at(0) | byte(n / 2) << at(n / 2) | byte(n - 1) << at(n - 1),
        0 => 0,
    };
    length | rest
}

/// The column of timestamps; one below 0 says that the record has none.
pub(super) fn timestamps(ms: Vec<i64>) -> TimestampMillisecondArray {
    let nulls = nulls(&ms, |ms| *ms >= 0);
    TimestampMillisecondArray::new(ms.into(), nulls).with_timezone("UTC")
}

/// The column of leader epochs; one below 0 says that it is unknown.
pub(super) fn leader_epochs(epochs: Vec<i32>) -> Int32Array {
    let nulls = nulls(&epochs, |epoch| *epoch >= 0);
    Int32Array::new(epochs.into(), nulls)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, BinaryViewArray, make_view};

    use super::*;

    #[test]
    fn views_are_those_of_arrow() {
        let bytes: Vec<u8> = (1..=40).collect();
        for length in 0..=bytes.len() {
            let value = &bytes[..length];
            assert_eq!(
                view(value, 7, 99),
                make_view(value, 7, 99),
                "{length} bytes"
            );
        }
        let views = vec![view(&bytes[..5], 0, 0), view(&bytes, 0, 0)];
        let array = BinaryViewArray::try_new(views.into(), vec![bytes.clone().into()], None);
        let array = array.expect("valid views");
        assert_eq!((array.len(), array.value(1)), (2, &bytes[..]));
    }
}
