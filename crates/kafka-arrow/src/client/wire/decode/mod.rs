//! From the bytes of Fetch answers to Arrow columns, without a socket.
//!
//! ```text
//! bytes ─▶ FetchAnswer ─▶ whole record batches ─▶ RangeDecoder ─▶ RawBatch
//! ```
//!
//! Whoever has the bytes drives this code: the connection, the fake broker of the tests, the fuzzer.
//! All of it is safe Rust but for one line (`unchecked`). No input makes it panic, loop or allocate more than the input's own size
//! and the limits in [`Limits`]: bytes that are no answer, or whose parts contradict each other, are
//! an error that names the offset.
//!
//! A [`RangeDecoder`] also keeps the books: every offset that it passes is a row or is counted by
//! the reason why it is none.

mod aborted;
mod answer;
mod batch;
mod codec;
mod columns;
mod cursor;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod laws;
mod layout;
mod old;
mod range;
mod record;
mod stretch;
#[cfg(test)]
mod tests;
mod unchecked;
mod walk;

pub(crate) use answer::{
    Event, FETCH_VERSION_MOST, FetchAnswer, Malformed, PartitionEnd, PartitionHead, TopicRef,
    throttle_of,
};
pub(crate) use batch::mean_bytes;
pub(crate) use layout::{after_header, api_versions, check};
pub(crate) use range::{Limits, RangeDecoder, ShortOf, Step};
