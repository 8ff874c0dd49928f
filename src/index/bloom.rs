//! Split-block Bloom filters, cut into slices.
//!
//! A filter is a power of two of blocks of 256 bits, as parquet's filters are. A value sets one bit in each of the eight
//! words of one block. The highest bits of a value's hash choose the block, so the first four of them choose one of
//! sixteen *slices* of neighbouring blocks. A slice is a column of the index: whoever looks for a value reads a
//! sixteenth of the filters.

/// The slices of a filter.
pub(crate) const SLICES: usize = 16;

/// Eight words of 32 bits.
type Block = [u32; 8];
const BLOCK_BYTES: usize = size_of::<Block>();
/// At two bytes a value, one lookup in 1,500 finds what is not there; see the test.
const BYTES_PER_VALUE: usize = 2;

/// Parquet's constants.
const SALT: Block = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// The bits of a value in its block.
fn bits(hash: u64) -> Block {
    // The lower half; the upper one chooses the block.
    let low = hash as u32;
    SALT.map(|salt| 1 << (low.wrapping_mul(salt) >> 27))
}

/// The slice that a value is in.
pub(crate) fn slice_of(hash: u64) -> usize {
    (hash >> 60) as usize
}

/// Whether a slice may hold a value that belongs into it.
pub(crate) fn may_hold(slice: &[u8], hash: u64) -> bool {
    let blocks = (slice.len() / BLOCK_BYTES) as u64;
    let within = u64::from(((hash >> 32) as u32) << 4);
    let at = ((within * blocks) >> 32) as usize * BLOCK_BYTES;
    let Some(block) = slice.get(at..at + BLOCK_BYTES) else {
        // What is no slice says nothing.
        return !slice.is_empty();
    };
    let words = block.as_chunks::<4>().0.iter();
    let words = words.map(|word| u32::from_le_bytes(*word));
    words.zip(bits(hash)).all(|(word, bit)| word & bit != 0)
}

/// A filter that is being filled.
#[derive(Debug)]
pub(super) struct Filter {
    blocks: Vec<Block>,
}

impl Filter {
    /// A filter for so many values.
    pub(super) fn new(values: usize) -> Self {
        let blocks = (values * BYTES_PER_VALUE).div_ceil(BLOCK_BYTES);
        let blocks = blocks.next_power_of_two().max(SLICES);
        Self {
            blocks: vec![Block::default(); blocks],
        }
    }

    /// The bytes of a filter for so many values.
    pub(super) fn bytes(values: usize) -> usize {
        (values * BYTES_PER_VALUE)
            .next_power_of_two()
            .max(SLICES * BLOCK_BYTES)
    }

    pub(super) fn insert(&mut self, hash: u64) {
        let at = ((hash >> 32) * self.blocks.len() as u64) >> 32;
        let block = &mut self.blocks[at as usize];
        for (word, bit) in block.iter_mut().zip(bits(hash)) {
            *word |= bit;
        }
    }

    /// The slices, as short as the values allow; `None` where nothing is in a slice.
    pub(super) fn into_slices(mut self) -> [Option<Vec<u8>>; SLICES] {
        while self.blocks.len() > SLICES {
            let folded = self.blocks.chunks_exact(2);
            let folded =
                folded.map(|pair| std::array::from_fn(|word| pair[0][word] | pair[1][word]));
            let folded: Vec<Block> = folded.collect();
            let ones = folded.iter().flatten().map(|word| word.count_ones());
            // Half of the bits set: one lookup in 256 finds what is not there.
            if ones.map(u64::from).sum::<u64>() > folded.len() as u64 * 128 {
                break;
            }
            self.blocks = folded;
        }
        let of_slice = self.blocks.len() / SLICES;
        std::array::from_fn(|slice| {
            let words = self.blocks[slice * of_slice..][..of_slice].iter().flatten();
            let is_empty = words.clone().all(|word| *word == 0);
            (!is_empty).then(|| words.flat_map(|word| word.to_le_bytes()).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    fn hash(value: u64) -> u64 {
        xxh3_64(&value.to_le_bytes())
    }

    /// For each number of values: what was put in is found, few others are, and small sets are small.
    #[test]
    fn what_was_put_in_is_found_and_little_else() {
        for values in [0, 1, 5, 200, 1000, 8192, 16_384, 20_000] {
            let mut filter = Filter::new(16_384);
            (0..values).for_each(|value| filter.insert(hash(value)));
            let slices = filter.into_slices();
            let finds = |value| {
                let slice = slices[slice_of(hash(value))].as_deref();
                slice.is_some_and(|slice| may_hold(slice, hash(value)))
            };
            assert!((0..values).all(finds), "{values}");
            let wrong = (1_000_000..1_100_000).filter(|v| finds(*v)).count();
            assert!(wrong < 100_000 / 150, "{values}: {wrong}");
            let bytes: usize = slices.iter().flatten().map(Vec::len).sum();
            assert!(
                bytes as u64 <= 512.max(values * 4).min(32 << 10),
                "{values}: {bytes}"
            );
        }
    }

    #[test]
    fn bytes_that_are_no_slice_rule_nothing_out() {
        for length in [1, 31] {
            assert!(may_hold(&vec![0; length], hash(1)));
        }
        assert!(!may_hold(&[], hash(1)));
        assert!(!may_hold(&[0; 100], hash(1)), "whole blocks count");
    }
}
