//! Turns the bytes of Fetch answers into Arrow columns, without a socket.
//!
//! Fetch is the request that reads records from a broker.
//!
//! ```text
//! bytes ─▶ FetchAnswer ─▶ whole record batches ─▶ RangeDecoder ─▶ RawBatch
//! ```
//!
//! Several callers feed it bytes: connections, the fake broker of the tests, and the fuzzer. All of it is
//! safe Rust except for one line (`unchecked`). No input makes it panic, loop or allocate more than the
//! input's size and [`Limits`] justify. Bytes that are not an answer, or contradict themselves, are an error
//! that names the offset.
//!
//! A [`RangeDecoder`] also keeps accounts: every offset that it passes becomes a row, or is counted by the
//! reason why it has none.

mod aborted;
mod answer;
mod batch;
mod codec;
mod columns;
mod cursor;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod laws;
mod layout;
mod limits;
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
pub(crate) use limits::Limits;
pub(crate) use range::{RangeDecoder, ShortOf, Step};
