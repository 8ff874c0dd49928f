//! The bytes of a file on their way: in pieces that are let go one by one, not in one that doubles.

use std::io;

use bytes::Bytes;

/// Small writes are gathered up to this size.
const BLOCK_BYTES: usize = 1 << 20;

/// A writer whose bytes are [taken](Self::take) as they come.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    whole: Vec<Bytes>,
    last: Vec<u8>,
}

impl Blocks {
    /// What was written since the last time.
    pub(crate) fn take(&mut self) -> Vec<Bytes> {
        self.end_block();
        std::mem::take(&mut self.whole)
    }

    fn end_block(&mut self) {
        if !self.last.is_empty() {
            self.whole.push(std::mem::take(&mut self.last).into());
        }
    }
}

impl From<Vec<u8>> for Blocks {
    fn from(last: Vec<u8>) -> Self {
        let whole = vec![];
        Self { whole, last }
    }
}

impl io::Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.last.len() + bytes.len() > BLOCK_BYTES {
            self.end_block();
        }
        if bytes.len() >= BLOCK_BYTES {
            self.whole.push(Bytes::copy_from_slice(bytes));
        } else {
            self.last.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn bytes_come_back_in_their_order_in_blocks() {
        let mut blocks = Blocks::from(vec![1; 3]);
        for (size, byte) in [(5, 2), (BLOCK_BYTES - 1, 3), (BLOCK_BYTES + 9, 4), (1, 5)] {
            blocks.write_all(&vec![byte; size]).unwrap();
        }
        let taken = blocks.take();
        let sizes: Vec<usize> = taken.iter().map(Bytes::len).collect();
        assert_eq!(sizes, [8, BLOCK_BYTES - 1, BLOCK_BYTES + 9, 1]);
        assert!(taken.concat().is_sorted());
        assert!(blocks.take().is_empty());
    }
}
