//! What the fuzzer drives the decoders with, and what must hold whatever the bytes are.
//!
//! [`fetch`] has it for Fetch answers, the crate's `decode::laws` for payloads.

// The decoders serve a crate that uses more of them.
#![allow(dead_code, unused_imports)]

mod client;
mod decode;
mod error;
mod fetch;
mod range;

pub use fetch::{answer, records};

pub fn json(data: &[u8]) {
    decode::laws::json(data);
}

pub fn csv(data: &[u8]) {
    decode::laws::csv(data);
}

pub fn avro(data: &[u8]) {
    decode::laws::avro(data, Some(|| decode::registry::Registry));
}

pub fn protobuf(data: &[u8]) {
    decode::laws::protobuf(data);
}

pub fn scalar(data: &[u8]) {
    decode::laws::scalar(data);
}

pub fn schemas(data: &[u8]) {
    decode::laws::schemas(data);
}
