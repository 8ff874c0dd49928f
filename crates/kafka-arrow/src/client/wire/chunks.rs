//! Memory that answers are received in, used again and again.
//!
//! A chunk is filled from its front. What has been decoded is split off, and Arrow's columns keep
//! that part alive; the rest is filled further. When nobody holds a part of it any more the chunk
//! can be filled anew, so that a scan touches the same few megabytes all the time.

use std::sync::{Mutex, PoisonError};

use bytes::BytesMut;

/// The size of a chunk, in bytes.
pub(super) const CHUNK_BYTES: usize = 1 << 20;
/// The most chunks that are kept for use.
const KEPT_MOST: usize = 64;
/// How many kept chunks are looked at for one that is free.
const LOOKED_AT: usize = 8;

/// Chunks of a client; see the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    kept: Mutex<std::collections::VecDeque<BytesMut>>,
}

impl Chunks {
    /// A chunk with room for at least `least` bytes, empty.
    pub(super) fn take(&self, least: usize) -> BytesMut {
        if least <= CHUNK_BYTES {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let last = kept.len().saturating_sub(LOOKED_AT)..kept.len();
            // The one used last is the likeliest to be in the processor's caches.
            for at in last.rev().chain([0]) {
                let free = kept.get_mut(at).is_some_and(|c| c.try_reclaim(CHUNK_BYTES));
                if let Some(chunk) = free.then(|| kept.remove(at)).flatten() {
                    return chunk;
                }
            }
        }
        BytesMut::with_capacity(least.max(CHUNK_BYTES))
    }

    /// Takes back the rest of a chunk, whose other parts may still be in use. One that was made for
    /// a `large` record batch is not kept.
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
