//! As in the crate, so that the decoder finds what it needs at the same paths.

#[path = "../../../src/client/wire/decode/mod.rs"]
pub mod decode;
