//! Unpacks the records of compressed batches; contexts are kept from batch to batch.

use std::io::Read;

use super::answer::Malformed;
use super::batch::Codec;

/// What a batch is guessed to grow by when it is unpacked.
const GROWTH: usize = 4;

/// Unpackers by codec; see the module's documentation.
pub(crate) struct Unpacker {
    /// The largest batch that is unpacked, in bytes.
    most: usize,
    snappy: snap::raw::Decoder,
    zstd: Option<zstd_safe::DCtx<'static>>,
    /// The size of the last batch unpacked, so that the next one's buffer is allocated once.
    last: usize,
}

impl Unpacker {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            snappy: snap::raw::Decoder::new(),
            zstd: None,
            last: 0,
        }
    }

    /// The records in `packed`.
    ///
    /// # Errors
    /// When they do not unpack, or to more than is allowed.
    pub(crate) fn unpack(&mut self, codec: Codec, packed: &[u8]) -> Result<Vec<u8>, Malformed> {
        let guess = packed.len().saturating_mul(GROWTH).max(self.last);
        let mut out = Vec::with_capacity(guess.min(self.most));
        match codec {
            Codec::None => out.extend_from_slice(packed),
            Codec::Gzip => {
                let decoder = flate2::bufread::MultiGzDecoder::new(packed);
                self.read_all(decoder, &mut out, "gzip")?;
            }
            Codec::Lz4 => {
                let decoder = lz4_flex::frame::FrameDecoder::new(packed);
                self.read_all(decoder, &mut out, "lz4")?;
            }
            Codec::Snappy => self.snappy(packed, &mut out)?,
            Codec::Zstd => self.zstd(packed, &mut out)?,
        }
        self.last = out.len();
        Ok(out)
    }

    fn read_all(
        &self,
        decoder: impl Read,
        out: &mut Vec<u8>,
        codec: &str,
    ) -> Result<(), Malformed> {
        // One more than allowed, to tell "just" from "too much".
        let most = u64::try_from(self.most).unwrap_or(u64::MAX);
        decoder
            .take(most.saturating_add(1))
            .read_to_end(out)
            .map_err(|e| broken(codec, &e))?;
        check(out.len(), self.most)
    }

    /// Plain, or in the frames of snappy-java, as Kafka's Java producers write it.
    fn snappy(&mut self, packed: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        const FRAMED: &[u8] = b"\x82SNAPPY\0";
        // After the magic come two versions.
        const FRAME_HEAD: usize = 16;
        if !packed.starts_with(FRAMED) {
            return self.snappy_block(packed, out);
        }
        let mut rest = packed.get(FRAME_HEAD..).unwrap_or_default();
        while let Some((size, blocks)) = rest.split_first_chunk::<4>() {
            let size = usize::try_from(u32::from_be_bytes(*size)).unwrap_or(usize::MAX);
            let (block, others) = blocks
                .split_at_checked(size)
                .ok_or_else(|| broken("snappy", &"a block is cut off"))?;
            self.snappy_block(block, out)?;
            rest = others;
        }
        match rest {
            [] => Ok(()),
            _ => Err(broken("snappy", &"a block is cut off")),
        }
    }

    fn snappy_block(&mut self, block: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        let size = snap::raw::decompress_len(block).map_err(|e| broken("snappy", &e))?;
        let before = out.len();
        check(before.saturating_add(size), self.most)?;
        out.resize(before + size, 0);
        let written = self
            .snappy
            .decompress(block, &mut out[before..])
            .map_err(|e| broken("snappy", &e))?;
        out.truncate(before + written);
        Ok(())
    }

    fn zstd(&mut self, packed: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        let most = self.most;
        let context = self.zstd.get_or_insert_with(zstd_safe::DCtx::create);
        let failed = |code| broken("zstd", &zstd_safe::get_error_name(code));
        context
            .reset(zstd_safe::ResetDirective::SessionOnly)
            .map_err(failed)?;
        let mut input = zstd_safe::InBuffer::around(packed);
        loop {
            if out.len() == out.capacity() {
                out.reserve(out.len().max(64 << 10));
            }
            let at = out.len();
            let mut output = zstd_safe::OutBuffer::around_pos(out, at);
            let hint = context
                .decompress_stream(&mut output, &mut input)
                .map_err(failed)?;
            let full = output.pos() == output.capacity();
            check(out.len(), most)?;
            let all_read = input.pos() == packed.len();
            match (hint, all_read) {
                (0, true) => return Ok(()),
                // Frames may follow one another.
                (0, false) => {}
                (_, true) if !full => return Err(broken("zstd", &"the frame is cut off")),
                _ => {}
            }
        }
    }
}

fn check(size: usize, most: usize) -> Result<(), Malformed> {
    if size <= most {
        return Ok(());
    }
    Err(Malformed(format!(
        "a record batch unpacks to more than {most} bytes; \
         'receive.message.max.bytes' sets how much is allowed"
    )))
}

fn broken(codec: &str, reason: &dyn std::fmt::Display) -> Malformed {
    Malformed(format!("{codec}: {reason}"))
}
