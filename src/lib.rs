#![deny(unsafe_code, rustdoc::broken_intra_doc_links)]
#![warn(missing_docs, unreachable_pub, clippy::clone_on_ref_ptr)]
//! SQL over exact Kafka offset ranges.

pub mod client;
pub mod config;
mod error;
pub mod range;

pub use error::{Error, ErrorKind, Result};
