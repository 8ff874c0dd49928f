//! Exact Kafka offset ranges as Arrow record batches.
//!
//! A [range](range::OffsetRange) is a part of one partition's log, from an offset to an offset. A
//! [client](client::KafkaClient) resolves where ranges begin and end, and reads them: the same range
//! gives the same records, or an error that names what is missing. [`decode`] makes columns of keys and
//! values. Nothing here knows a query engine; `datafusion-kafka` makes tables of it.

#![deny(unsafe_code, rustdoc::broken_intra_doc_links)]
#![warn(missing_docs, unreachable_pub, clippy::clone_on_ref_ptr)]

mod backoff;
mod cache;
pub mod client;
pub mod config;
pub mod decode;
#[doc(hidden)]
pub mod encode;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[doc(hidden)]
pub mod hex;
#[doc(hidden)]
pub mod path;
pub mod policy;
pub mod range;
#[cfg(test)]
mod spoil;
pub mod text;

pub use backoff::Backoff;
#[doc(hidden)]
pub use cache::BoundedCache;
#[doc(hidden)]
pub use error::nearest_names;
pub use error::{Error, ErrorKind, Result};
