//! The functions that SQL has for keys, values and headers.

pub(crate) mod bytes;
pub(crate) mod from_payload;
pub(crate) mod header;
