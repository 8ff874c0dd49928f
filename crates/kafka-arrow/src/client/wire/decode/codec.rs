//! Unpacks the records of compressed batches. Contexts and memory are reused.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::answer::Malformed;
use super::batch::Codec;
use crate::client::Held;

/// The least factor by which a batch is expected to grow when unpacked.
const GROWTH: usize = 4;
/// Memory grows in steps of at least this many bytes.
const STEP_BYTES: usize = 64 << 10;
/// The most unused memory to keep: the number of pieces, and the bytes in total.
const KEPT_MOST: usize = 64;
pub(super) const KEPT_BYTES: usize = 8 << 20;
/// The largest batch whose memory needs no grant, because it counts among the stream's buffers.
const FREE_BYTES: usize = 1 << 20;

/// Why records were not unpacked.
#[derive(Debug)]
pub(crate) enum Packed {
    /// They are corrupt.
    Broken(Malformed),
    /// They exceed the size in bytes that the settings allow.
    TooLarge(usize),
    /// This many bytes were requested and refused.
    NoMemory(usize),
}

impl From<Malformed> for Packed {
    fn from(malformed: Malformed) -> Self {
        Self::Broken(malformed)
    }
}

/// Decompressors by codec; see the module's documentation.
pub(crate) struct Unpacker {
    /// The largest batch that may be unpacked, in bytes.
    most: usize,
    /// The factor by which the previous batch grew, and its unpacked size.
    growth: usize,
    last: usize,
    snappy: snap::raw::Decoder,
    zstd: Option<zstd_safe::DCtx<'static>>,
    slabs: Slabs,
}

/// Memory that returns here when the last column that points into it is dropped.
type Slabs = Arc<Mutex<Vec<Vec<u8>>>>;

struct Slab {
    bytes: Vec<u8>,
    used: usize,
    home: Slabs,
    /// Given back together with the memory.
    _held: Held,
}

impl AsRef<[u8]> for Slab {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        let mut kept = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: usize = kept.iter().map(Vec::len).sum();
        if kept.len() < KEPT_MOST && bytes + self.bytes.len() <= KEPT_BYTES {
            kept.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// Where records are unpacked: memory that is initialized once and then only overwritten.
struct Target<'a> {
    bytes: Vec<u8>,
    used: usize,
    most: usize,
    held: &'a mut Held,
}

impl Target<'_> {
    /// Room for at least `least` more bytes, or an error if that exceeds the limit.
    fn room(&mut self, least: usize) -> Result<&mut [u8], Packed> {
        let end = self.used.saturating_add(least);
        if end > self.most {
            return Err(Packed::TooLarge(self.most));
        }
        if self.bytes.len() < end {
            let doubled = self.bytes.len().saturating_mul(2).min(self.most);
            self.grow(doubled.max(end))?;
        }
        Ok(&mut self.bytes[self.used..])
    }

    fn grow(&mut self, bytes: usize) -> Result<(), Packed> {
        if bytes > FREE_BYTES.max(self.held.bytes()) {
            let held = self.held.try_hold(bytes);
            held.map_err(|_| Packed::NoMemory(bytes))?;
        }
        self.bytes.resize(bytes, 0);
        Ok(())
    }

    /// Room for data of unknown size. When the limit is used up it has one extra byte, which distinguishes
    /// "just enough" from "too much".
    fn any_room(&mut self) -> Result<&mut [u8], Packed> {
        self.finished()?;
        if self.bytes.len() <= self.used {
            let step = self.bytes.len().max(STEP_BYTES);
            let allowed = self.most.saturating_add(1);
            self.grow(self.used.saturating_add(step).min(allowed))?;
        }
        Ok(&mut self.bytes[self.used..])
    }

    fn finished(&self) -> Result<(), Packed> {
        if self.used > self.most {
            return Err(Packed::TooLarge(self.most));
        }
        Ok(())
    }
}

impl Unpacker {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            growth: GROWTH,
            last: 0,
            snappy: snap::raw::Decoder::new(),
            zstd: None,
            slabs: Slabs::default(),
        }
    }

    /// The records in `packed`. `held` accounts for the memory that they take.
    ///
    /// # Errors
    /// When they do not unpack, or their size is not allowed or not granted.
    pub(crate) fn unpack(
        &mut self,
        codec: Codec,
        packed: &[u8],
        held: &mut Held,
    ) -> Result<Bytes, Packed> {
        let kept = self.slabs.lock().map(|mut kept| kept.pop());
        let mut target = Target {
            bytes: kept.ok().flatten().unwrap_or_default(),
            used: 0,
            most: self.most,
            held,
        };
        // One batch's growth says little about the next, so the guess is at most one doubling.
        let likely = packed.len().saturating_mul(self.growth);
        let likely = likely.min(self.last.saturating_mul(2));
        let guess = likely
            .max(packed.len().saturating_mul(GROWTH))
            .min(self.most);
        if target.bytes.len() < guess && target.grow(guess).is_err() {
            // Next time it may need less.
            self.growth = GROWTH;
        }
        match codec {
            Codec::None => {
                target.room(packed.len())?[..packed.len()].copy_from_slice(packed);
                target.used = packed.len();
            }
            Codec::Gzip => {
                let decoder = flate2::bufread::MultiGzDecoder::new(packed);
                read_all(decoder, &mut target, "gzip")?;
            }
            Codec::Lz4 => lz4(packed, &mut target)?,
            Codec::Snappy => self.snappy(packed, &mut target)?,
            Codec::Zstd => self.zstd(packed, &mut target)?,
        }
        target.finished()?;
        self.growth = target.used.div_ceil(packed.len().max(1)).max(GROWTH);
        self.last = target.used;
        // The rows of a small batch would keep a much larger slab alive, at least 64 KiB for LZ4.
        let is_small = target.used <= FREE_BYTES && target.used < target.bytes.len() / 8;
        let copied = is_small.then(|| Bytes::copy_from_slice(&target.bytes[..target.used]));
        let slab = Slab {
            bytes: target.bytes,
            used: target.used,
            home: Arc::clone(&self.slabs),
            _held: target.held.part(),
        };
        Ok(copied.unwrap_or_else(|| Bytes::from_owner(slab)))
    }

    /// Unpacks plain snappy, and the frames of snappy-java that Kafka's Java producers write.
    fn snappy(&mut self, packed: &[u8], target: &mut Target<'_>) -> Result<(), Packed> {
        const FRAMED: &[u8] = b"\x82SNAPPY\0";
        // The magic bytes and two version numbers.
        const FRAME_HEAD: usize = 16;
        if !packed.starts_with(FRAMED) {
            return self.snappy_block(packed, target);
        }
        let mut rest = packed.get(FRAME_HEAD..).unwrap_or_default();
        while let Some((size, blocks)) = rest.split_first_chunk::<4>() {
            let size = usize::try_from(u32::from_be_bytes(*size)).unwrap_or(usize::MAX);
            let (block, others) = blocks
                .split_at_checked(size)
                .ok_or_else(|| broken("snappy", &"a block is cut off"))?;
            self.snappy_block(block, target)?;
            rest = others;
        }
        match rest {
            [] => Ok(()),
            _ => Err(broken("snappy", &"a block is cut off").into()),
        }
    }

    fn snappy_block(&mut self, block: &[u8], target: &mut Target<'_>) -> Result<(), Packed> {
        let size = snap::raw::decompress_len(block).map_err(|e| broken("snappy", &e))?;
        let room = target.room(size)?;
        target.used += self
            .snappy
            .decompress(block, room)
            .map_err(|e| broken("snappy", &e))?;
        Ok(())
    }

    fn zstd(&mut self, packed: &[u8], target: &mut Target<'_>) -> Result<(), Packed> {
        let context = self.zstd.get_or_insert_with(zstd_safe::DCtx::create);
        let failed = |code| broken("zstd", &zstd_safe::get_error_name(code));
        context
            .reset(zstd_safe::ResetDirective::SessionOnly)
            .map_err(failed)?;
        let mut input = zstd_safe::InBuffer::around(packed);
        // Some producers store the size, which avoids finding it by doubling.
        if let Ok(Some(size)) = zstd_safe::get_frame_content_size(packed) {
            target.room(usize::try_from(size).unwrap_or(usize::MAX))?;
        }
        loop {
            let room = target.any_room()?;
            let mut output = zstd_safe::OutBuffer::around(room);
            let hint = context
                .decompress_stream(&mut output, &mut input)
                .map_err(failed)?;
            let full = output.pos() == output.capacity();
            target.used += output.pos();
            match (hint, input.pos() == packed.len()) {
                (0, true) => return Ok(()),
                // Several frames may follow one another.
                (0, false) => {}
                (_, true) if !full => return Err(broken("zstd", &"the frame is cut off").into()),
                _ => {}
            }
        }
    }
}

fn read_all(mut from: impl Read, target: &mut Target<'_>, codec: &str) -> Result<(), Packed> {
    loop {
        match from.read(target.any_room()?) {
            Ok(0) => return Ok(()),
            Ok(n) => target.used += n,
            Err(e) => return Err(broken(codec, &e).into()),
        }
    }
}

/// Unpacks the frames that Kafka's producers write, block by block. Other frames go through the library's
/// reader, which copies once more. LZ4's own checksums are ignored, because the batch has one.
fn lz4(packed: &[u8], target: &mut Target<'_>) -> Result<(), Packed> {
    let mut rest = packed;
    // Several frames may follow one another.
    while !rest.is_empty() {
        rest = match lz4_usual(rest) {
            Some((flags, sizes)) => lz4_frame(rest, flags, sizes, target)?,
            None => {
                let reader = lz4_flex::frame::FrameDecoder::new(rest);
                return read_all(reader, target, "lz4");
            }
        };
    }
    Ok(())
}

/// The flags and block sizes of a frame of version 1 with independent blocks and no dictionary.
fn lz4_usual(frame: &[u8]) -> Option<(u8, u8)> {
    const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
    const VERSION_INDEPENDENT_DICTIONARY: u8 = 0b1110_0001;
    const VERSION_1_INDEPENDENT: u8 = 0b0110_0000;
    let (flags, sizes) = match frame.strip_prefix(&MAGIC)? {
        [flags, sizes, ..] => (*flags, *sizes),
        _ => return None,
    };
    (flags & VERSION_INDEPENDENT_DICTIONARY == VERSION_1_INDEPENDENT).then_some((flags, sizes))
}

/// Unpacks a frame, and returns what follows it.
fn lz4_frame<'a>(
    frame: &'a [u8],
    flags: u8,
    sizes: u8,
    target: &mut Target<'_>,
) -> Result<&'a [u8], Packed> {
    const BLOCK_CHECKSUM: u8 = 0b0001_0000;
    const CONTENT_SIZE: u8 = 0b0000_1000;
    const CONTENT_CHECKSUM: u8 = 0b0000_0100;
    const STORED: u32 = 1 << 31;
    let cut = || broken("lz4", &"the frame is cut off");
    let checksum = |flag: u8| if flags & flag != 0 { 4 } else { 0 };
    let block_most = match sizes >> 4 & 7 {
        size @ 4..=7 => 1usize << (8 + 2 * size),
        _ => return Err(broken("lz4", &"LZ4 has no such block size").into()),
    };
    // Magic, flags, sizes and a checksum, and possibly the size of the content.
    let head = if flags & CONTENT_SIZE != 0 { 15 } else { 7 };
    let mut rest = frame.get(head..).ok_or_else(cut)?;
    loop {
        let (size, blocks) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let size = u32::from_le_bytes(*size);
        if size == 0 {
            return Ok(blocks.get(checksum(CONTENT_CHECKSUM)..).ok_or_else(cut)?);
        }
        let length = usize::try_from(size & !STORED).unwrap_or(usize::MAX);
        let (block, others) = blocks.split_at_checked(length).ok_or_else(cut)?;
        if size & STORED != 0 {
            target.room(length)?[..length].copy_from_slice(block);
            target.used += length;
        } else {
            target.used += lz4_block(block, block_most, target)?;
        }
        rest = others.get(checksum(BLOCK_CHECKSUM)..).ok_or_else(cut)?;
    }
}

fn lz4_block(block: &[u8], most: usize, target: &mut Target<'_>) -> Result<usize, Packed> {
    let allowed = target.most.saturating_sub(target.used);
    let room = target.room(most.min(allowed))?;
    match lz4_flex::block::decompress_into(block, room) {
        Ok(size) => Ok(size),
        Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) if allowed < most => {
            Err(Packed::TooLarge(target.most))
        }
        Err(e) => Err(broken("lz4", &e).into()),
    }
}

fn broken(codec: &str, reason: &dyn std::fmt::Display) -> Malformed {
    Malformed(format!("{codec}: {reason}"))
}
