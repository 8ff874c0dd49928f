//! Reads Kafka's primitive types from a slice that may end too early.

/// A position in a slice. Every read returns `None` when the slice is too short.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    missing: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let (at, missing) = (0, 0);
        Self { bytes, at, missing }
    }

    /// The number of bytes before the position.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// How many bytes the last failed read lacked.
    pub(super) fn missing(&self) -> usize {
        self.missing
    }

    /// Whether this many bytes follow.
    pub(super) fn has(&mut self, bytes: usize) -> bool {
        let there = self.bytes.len() - self.at;
        self.missing = bytes.saturating_sub(there);
        self.missing == 0
    }

    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        if !self.has(length) {
            return None;
        }
        let bytes = &self.bytes[self.at..self.at + length];
        self.at += length;
        Some(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(super) fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// An unsigned varint of at most five bytes. Bits beyond 32 are dropped.
    pub(super) fn uvarint(&mut self) -> Option<u32> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Some(value)
    }

    /// Passes the tagged fields at the end of a structure (KIP-482).
    pub(super) fn skip_tagged_fields(&mut self) -> Option<()> {
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let size = usize::try_from(self.uvarint()?).ok()?;
            self.bytes(size)?;
        }
        Some(())
    }
}
