//! Record batches that are not unpacked, because they are too large.

use super::super::answer::Malformed;
use super::super::codec::Packed;
use super::RangeDecoder;

/// Why a record batch is not unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// Where the batch begins.
    pub(crate) offset: i64,
    pub(crate) kind: ShortOf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ShortOf {
    /// It comes to more bytes than [`Limits::unpacked_bytes`], which are these.
    Limit(usize),
    /// The memory budget did not grant this many bytes.
    Memory(usize),
}

impl RangeDecoder {
    /// What the last [`Step::Short`] lacked; another step tries again.
    pub(crate) fn shortage(&mut self) -> Option<Shortage> {
        self.shortage.take()
    }

    pub(super) fn fall_short(&mut self, offset: i64, packed: Packed) -> Result<(), Malformed> {
        let kind = match packed {
            Packed::Broken(e) => return Err(e),
            Packed::TooLarge(most) => ShortOf::Limit(most),
            Packed::NoMemory(bytes) => ShortOf::Memory(bytes),
        };
        // Less is always granted.
        let _ = self.unpacked.try_hold(0);
        self.shortage = Some(Shortage { offset, kind });
        Ok(())
    }
}
