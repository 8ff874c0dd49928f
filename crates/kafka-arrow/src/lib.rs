//! Exact Kafka offset ranges as Arrow record batches.
//!
//! Kafka keeps records in numbered partitions and numbers the records of each: a record's number is its
//! *offset*. A [range](range::OffsetRange) is the part of a partition between two offsets. A
//! [client](client::KafkaClient) finds out where ranges begin and end, and reads them. The same range yields
//! the same records, or an error that names what is missing. [`decode`] turns keys and values into columns.
//! This crate knows no query engine; `datafusion-kafka` turns ranges into tables.

#![deny(unsafe_code, rustdoc::broken_intra_doc_links)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(missing_docs, unreachable_pub, clippy::clone_on_ref_ptr)]

mod backoff;
mod cache;
pub mod client;
pub mod config;
pub mod decode;
#[doc(hidden)]
pub mod encode;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
#[doc(hidden)]
pub mod hex;
#[cfg(any(feature = "oidc", feature = "registry"))]
mod http;
mod line;
pub mod mask;
#[doc(hidden)]
pub mod path;
pub mod policy;
pub mod range;
pub mod raw;
#[cfg(test)]
mod spoil;
pub mod text;
#[cfg(any(feature = "oidc", feature = "registry", feature = "ssl"))]
mod trust;

pub use backoff::Backoff;
#[doc(hidden)]
pub use cache::BoundedCache;
#[doc(hidden)]
pub use error::nearest_names;
pub use error::{Cause, Error, ErrorKind, Result};
