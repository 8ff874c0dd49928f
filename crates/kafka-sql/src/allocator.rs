//! mimalloc, with large blocks returned to the system at once.
//!
//! By itself mimalloc keeps freed blocks for a second, in case they are needed again: a few records of
//! 60 MB would then hold several times their size. The feature `override` gives librdkafka's C code the same allocator.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::mi_collect;
use mimalloc::MiMalloc;

/// Blocks from this size on are large: mapping them costs little compared with filling them.
const LARGE_BYTES: usize = 16 << 20;

pub(crate) struct Allocator;

// SAFETY: memory comes from mimalloc and goes back to it, by its own implementation of the trait.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that are asked for.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let moved = unsafe { MiMalloc.realloc(block, layout, size) };
        give_back(layout);
        moved
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(block, layout) }
        give_back(layout);
    }
}

#[inline]
fn give_back(freed: Layout) {
    if freed.size() >= LARGE_BYTES {
        // SAFETY: it may be called at any time, from any thread.
        unsafe { mi_collect(true) }
    }
}
