//! SQL functions for the keys, values and headers of Kafka's records.

pub(crate) mod bytes;
mod find;
pub(crate) mod from_payload;
pub(crate) mod header;
