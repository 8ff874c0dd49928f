#![deny(unsafe_code, rustdoc::broken_intra_doc_links)]
#![warn(missing_docs, unreachable_pub, clippy::clone_on_ref_ptr)]
#![doc = include_str!("../README.md")]

mod bytes;
pub mod client;
pub mod config;
#[cfg(all(test, feature = "sqlite"))]
mod crossings;
pub mod decode;
pub mod driver;
mod encode;
mod error;
pub mod export;
mod fault;
mod from_payload;
mod header;
mod hex;
mod memory;
pub mod policy;
pub mod range;
pub mod receipt;
mod redact;
pub mod scan;
pub mod session;
pub mod sink;
#[cfg(test)]
mod spoil;
pub mod statement;
pub mod store;
pub mod table;
pub mod text;

pub use error::{Error, ErrorKind, Result};
