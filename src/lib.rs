#![deny(unsafe_code, rustdoc::broken_intra_doc_links)]
#![warn(missing_docs, unreachable_pub, clippy::clone_on_ref_ptr)]
//! SQL over exact Kafka offset ranges.

mod bytes;
pub mod client;
pub mod config;
pub mod decode;
mod error;
pub mod range;
pub mod scan;
pub mod session;
pub mod table;

pub use error::{Error, ErrorKind, Result};
