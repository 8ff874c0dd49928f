//! How much memory a payload may take in columns.
//!
//! Elements of lists and maps take memory even where they are empty: two bytes can be a message of a thousand
//! fields. So each element is charged the least that it takes, and a payload is bad if it would take more
//! than its length justifies. What a row takes once is free, however short its payload, because the table
//! chose its columns.

use std::cell::Cell;
use std::fmt;

use arrow::datatypes::DataType;

/// What a payload may take beyond its length, so that a list of a few wide but empty elements is good.
pub(super) const FREE_BYTES: usize = 64 << 10;

/// How many bytes of charged elements each byte of a payload may produce.
pub(super) const PER_BYTE: usize = 96;

/// Elements up to this size are not charged, as each takes at least a byte of the payload. Together with
/// [`PER_BYTE`], a byte of a payload produces at most 128 bytes of columns.
pub(super) const ELEMENT_FREE_BYTES: usize = 32;

/// The error class of payloads that take too much memory.
pub(super) const CLASS: &str = "size";

/// What is left of a payload's memory.
#[derive(Debug)]
pub(super) struct Budget {
    left: Cell<usize>,
}

/// A payload takes too much memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exceeded;

impl Budget {
    pub(super) const fn of(payload_bytes: usize) -> Self {
        let bytes = payload_bytes.saturating_mul(PER_BYTE);
        Self {
            left: Cell::new(bytes.saturating_add(FREE_BYTES)),
        }
    }

    /// For values that do not come from a payload.
    pub(super) const fn unlimited() -> Self {
        Self {
            left: Cell::new(usize::MAX),
        }
    }

    #[inline]
    pub(super) fn spend(&self, bytes: usize) -> Result<(), Exceeded> {
        let left = self.left.get().checked_sub(bytes).ok_or(Exceeded)?;
        self.left.set(left);
        Ok(())
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "elements of lists and maps would take more than {PER_BYTE} times the payload's bytes and \
             {} KiB for fields that they do not have; declare the columns that you want, with fewer \
             fields in them",
            FREE_BYTES >> 10
        )
    }
}

/// The least that a value of a type takes in a column, for example when it is NULL.
pub(super) fn width(data_type: &DataType) -> usize {
    // One byte for whether it is NULL.
    1 + match data_type {
        DataType::Null => 0,
        DataType::Struct(fields) => fields.iter().map(|f| width(f.data_type())).sum(),
        DataType::Utf8View | DataType::BinaryView => 16,
        DataType::FixedSizeBinary(bytes) => usize::try_from(*bytes).unwrap_or(0),
        // During building, offsets and narrow numbers take eight bytes too.
        other => other.primitive_width().unwrap_or(0).max(8),
    }
}

/// How many bytes of columns each byte of `batch.bytes` may become.
const COLUMN_BYTES: usize = 8;

/// The size at which clients close a batch, so that its rows take a bounded amount of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The most rows of a batch.
    pub rows: usize,
    /// The most bytes of keys and values of a batch.
    pub bytes: usize,
}

impl BatchLimits {
    /// Limits for payloads of up to `batch_bytes` that become columns of the given types.
    pub(super) fn of<'a>(
        types: impl Iterator<Item = &'a DataType> + Clone,
        batch_bytes: usize,
    ) -> Self {
        let most = batch_bytes.saturating_mul(COLUMN_BYTES);
        let row_bytes: usize = types.clone().map(width).sum();
        let rows = most / row_bytes.max(1);
        let mut types = types;
        // In such columns a few bytes may become many.
        let (rows, bytes) = match types.any(is_charged) {
            true => (
                rows.min(most / FREE_BYTES),
                most / (PER_BYTE + ELEMENT_FREE_BYTES),
            ),
            false => (rows, batch_bytes),
        };
        Self {
            rows: rows.max(1),
            bytes: bytes.max(1),
        }
    }
}

/// Whether a column of this type has elements that are charged.
fn is_charged(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(element) | DataType::Map(element, _) => {
            charge(width(element.data_type())) > 0 || is_charged(element.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|f| is_charged(f.data_type())),
        _ => false,
    }
}

/// The charge for an element that takes at least `bytes` bytes.
pub(super) const fn charge(bytes: usize) -> usize {
    if bytes > ELEMENT_FREE_BYTES { bytes } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_ends_exactly() {
        let budget = Budget::of(2);
        let all = FREE_BYTES + 2 * PER_BYTE;
        assert_eq!(budget.spend(all - 1), Ok(()));
        assert_eq!(budget.spend(2), Err(Exceeded));
        assert_eq!(budget.spend(1), Ok(()), "what was refused took nothing");
        assert_eq!(budget.spend(1), Err(Exceeded));
        assert!(Budget::of(usize::MAX).spend(usize::MAX).is_ok());
        assert!(Budget::unlimited().spend(usize::MAX).is_ok());
    }

    #[test]
    fn batches_are_shorter_where_rows_are_wide_or_payloads_may_grow() {
        let of = |types: &[DataType]| BatchLimits::of(types.iter(), 8 << 20);
        let plain = of(&[DataType::Utf8View, DataType::Int64]);
        assert_eq!(plain.bytes, 8 << 20);
        assert!(plain.rows > 1 << 20);
        let wide = of(&vec![DataType::Int64; 100_000]);
        assert_eq!((wide.rows, wide.bytes), (74, 8 << 20));
        let names = ["a", "b", "c"];
        let fields = names.map(|name| arrow::datatypes::Field::new(name, DataType::Utf8View, true));
        let list = DataType::new_list(DataType::Struct(fields.to_vec().into()), true);
        let lists = of(&[list]);
        assert_eq!((lists.rows, lists.bytes), (1024, 512 << 10));
    }

    #[test]
    fn narrow_elements_are_free() {
        assert_eq!(charge(width(&DataType::Decimal128(38, 2))), 0);
        assert_eq!(charge(width(&DataType::Utf8View)), 0);
        assert_eq!(charge(width(&DataType::FixedSizeBinary(100))), 101);
    }
}
