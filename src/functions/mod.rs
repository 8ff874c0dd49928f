//! SQL functions for the keys, values and headers of Kafka's records.

pub(crate) mod bytes;
pub(crate) mod from_payload;
pub(crate) mod header;
