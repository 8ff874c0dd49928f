//! Decompresses record batches, and walks through the offsets of their records.

use std::io::Read;

use crate::Result;

const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// A batch that is larger when decompressed is not one that `fill` wrote.
const MOST_BYTES: usize = 64 << 20;

/// Keeps its buffer and contexts between batches.
#[derive(Default)]
pub struct Inflater {
    inflated: Vec<u8>,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

/// The result of walking through a batch.
pub struct Walked {
    pub last_offset: i64,
    /// The bytes of its records.
    pub bytes: u64,
}

impl Inflater {
    /// Walks through the `count` records of a batch that begins at offset `base`.
    pub fn walk(&mut self, codec: u8, records: &[u8], base: i64, count: u64) -> Result<Walked> {
        let plain = match codec {
            0 => records,
            3 => self.lz4(records)?,
            4 => self.zstd(records)?,
            other => return Err(format!("batch at {base}: codec {other} is not known").into()),
        };
        let mut at = 0;
        let mut last_offset = base - 1;
        for _ in 0..count {
            let length = varint(plain, &mut at)?;
            let end = at + usize::try_from(length)?;
            at += 1; // attributes
            varint(plain, &mut at)?; // timestamp
            last_offset = base + varint(plain, &mut at)?;
            at = end;
        }
        if at != plain.len() {
            return Err(format!("batch at {base}: its records do not fill it").into());
        }
        Ok(Walked {
            last_offset,
            bytes: plain.len() as u64,
        })
    }

    fn zstd(&mut self, from: &[u8]) -> Result<&[u8]> {
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(zstd::bulk::Decompressor::new()?),
        };
        // Frames may omit their size. If the buffer is too small, a larger one is tried.
        loop {
            match zstd.decompress_to_buffer(from, &mut self.inflated) {
                Ok(_) => return Ok(&self.inflated),
                Err(error) if self.inflated.capacity() >= MOST_BYTES => return Err(error.into()),
                Err(_) => {
                    let more = (2 * self.inflated.capacity()).max(1 << 20);
                    self.inflated = Vec::with_capacity(more);
                }
            }
        }
    }

    /// Kafka's clients write frames with independent blocks and without a size. These are decompressed block
    /// by block into the kept buffer. Other frames go through the general decoder.
    fn lz4(&mut self, from: &[u8]) -> Result<&[u8]> {
        const INDEPENDENT: u8 = 0x20;
        const BLOCK_CHECKSUM: u8 = 0x10;
        const CONTENT_SIZE: u8 = 0x08;
        let (Some(magic), Some(&flags), Some(&sizes)) = (from.get(..4), from.get(4), from.get(5))
        else {
            return Err("an lz4 frame is cut".into());
        };
        if magic != LZ4_MAGIC
            || flags & (INDEPENDENT | BLOCK_CHECKSUM | CONTENT_SIZE) != INDEPENDENT
        {
            self.inflated.clear();
            lz4_flex::frame::FrameDecoder::new(from).read_to_end(&mut self.inflated)?;
            return Ok(&self.inflated);
        }
        let block_bytes = match (sizes >> 4) & 7 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            other => return Err(format!("an lz4 frame has block size {other}").into()),
        };
        let (mut at, mut length) = (7, 0);
        loop {
            let head = from.get(at..at + 4).ok_or("an lz4 frame is cut")?;
            let head = u32::from_le_bytes(head.try_into()?);
            at += 4;
            if head == 0 {
                break;
            }
            let (plain, bytes) = (head >> 31 == 1, (head & 0x7fff_ffff) as usize);
            let block = from.get(at..at + bytes).ok_or("an lz4 block is cut")?;
            at += bytes;
            if self.inflated.len() < length + block_bytes {
                self.inflated.resize(length + block_bytes, 0);
            }
            let room = &mut self.inflated[length..length + block_bytes];
            length += if plain {
                room[..bytes].copy_from_slice(block);
                bytes
            } else {
                lz4_flex::block::decompress_into(block, room)?
            };
        }
        Ok(&self.inflated[..length])
    }
}

/// A zigzag number of up to ten bytes.
fn varint(bytes: &[u8], at: &mut usize) -> Result<i64> {
    let (mut value, mut shift) = (0u64, 0);
    while shift < 64 {
        let byte = *bytes.get(*at).ok_or("a record is cut")?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
        shift += 7;
    }
    Err("a number in a record has more than ten bytes".into())
}
