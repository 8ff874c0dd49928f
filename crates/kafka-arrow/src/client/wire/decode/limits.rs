//! What decoding may use, and how much a batch may hold.

use super::columns::Columns;

/// What decoding may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The most rows of a batch, at least 1.
    pub(crate) batch_rows: usize,
    /// The bytes of keys and values after which a batch is closed; one larger record still fits.
    pub(crate) batch_bytes: usize,
    /// The largest record batch, unpacked, in bytes.
    pub(crate) unpacked_bytes: usize,
    /// Whether checksums are compared.
    pub(crate) check_crcs: bool,
}

impl Limits {
    /// The rows and bytes that a batch has room for; `None` when it is full.
    pub(super) fn room(&self, columns: &Columns) -> Option<(usize, usize)> {
        let rows = self.batch_rows.checked_sub(columns.rows())?;
        let bytes = self.batch_bytes.checked_sub(columns.bytes)?;
        (rows > 0).then_some((rows, bytes))
    }

    /// Whether a batch has no room for a record of `bytes`.
    #[inline(always)]
    pub(super) fn is_full_for(&self, columns: &Columns, bytes: usize) -> bool {
        let rows = columns.rows();
        rows >= self.batch_rows || rows > 0 && columns.bytes + bytes > self.batch_bytes
    }
}
