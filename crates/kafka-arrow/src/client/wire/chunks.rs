//! Memory for receiving answers, reused again and again.
//!
//! A chunk is filled from its front. Decoding splits off parts, which Arrow's columns keep alive, while the
//! rest is filled further. Once no part is in use any more, the whole chunk is filled again. So a scan keeps
//! touching the same few megabytes.

use std::sync::{Mutex, PoisonError};

use bytes::BytesMut;

/// The size of a chunk, in bytes.
pub(super) const CHUNK_BYTES: usize = 1 << 20;
/// The most chunks to keep.
const KEPT_MOST: usize = 64;
/// How many of the kept chunks to check for a free one.
const LOOKED_AT: usize = 8;

/// The chunks of a client; see the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    kept: Mutex<std::collections::VecDeque<BytesMut>>,
}

impl Chunks {
    /// An empty chunk with room for at least `least` bytes.
    pub(super) fn take(&self, least: usize) -> BytesMut {
        if least <= CHUNK_BYTES {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let last = kept.len().saturating_sub(LOOKED_AT)..kept.len();
            // The most recently used chunk is most likely in the processor's caches.
            for at in last.rev().chain([0]) {
                let free = kept.get_mut(at).is_some_and(|c| c.try_reclaim(CHUNK_BYTES));
                if let Some(chunk) = free.then(|| kept.remove(at)).flatten() {
                    return chunk;
                }
            }
        }
        BytesMut::with_capacity(least.max(CHUNK_BYTES))
    }

    /// Returns the rest of a chunk, whose other parts may still be in use. A chunk made for a `large` record
    /// batch is not kept.
    pub(super) fn give_back(&self, mut rest: BytesMut, large: bool) {
        if large {
            return;
        }
        rest.clear();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_MOST {
            kept.pop_front();
        }
        kept.push_back(rest);
    }
}
