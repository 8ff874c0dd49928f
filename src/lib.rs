#![deny(unsafe_code, rustdoc::broken_intra_doc_links)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(missing_docs, unreachable_pub, clippy::clone_on_ref_ptr)]
// The first definition of a link counts, so that those of README lead to the same pages from here.
#![doc = include_str!("links.md")]
#![doc = include_str!("../README.md")]

#[cfg(all(test, feature = "sqlite"))]
mod crossings;
#[cfg(feature = "jobs")]
pub mod driver;
mod error;
#[cfg(feature = "jobs")]
pub mod export;
#[cfg(feature = "jobs")]
mod exported;
#[cfg(feature = "jobs")]
mod fault;
mod formats;
mod functions;
#[cfg(test)]
mod house;
#[cfg(feature = "jobs")]
mod index;
#[cfg(feature = "jobs")]
mod kafka_sink;
mod memory;
pub mod policy;
pub mod receipt;
mod redact;
#[cfg(all(test, feature = "jobs"))]
mod scale_tests;
pub mod scan;
pub mod session;
#[cfg(feature = "jobs")]
pub mod sink;
#[cfg(test)]
#[path = "../crates/kafka-arrow/src/spoil.rs"]
mod spoil;
pub mod statement;
#[cfg(feature = "jobs")]
pub mod store;
#[cfg(test)]
#[allow(dead_code)]
#[path = "../crates/kafka-arrow/src/decode/registry/tests/stub.rs"]
mod stub;
pub mod table;

pub use error::{Cause, Error, ErrorKind, Result, external};
#[cfg(all(feature = "jobs", feature = "librdkafka"))]
use kafka_arrow::encode;
use kafka_arrow::hex;
pub use kafka_arrow::{client, config, decode, mask, range, text};
