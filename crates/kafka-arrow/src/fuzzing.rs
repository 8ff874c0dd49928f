//! Entry points for `fuzz/`. Each accepts any bytes, and panics where a decoder breaks its laws.

use crate::client::laws as fetch;
use crate::decode::laws as payloads;

/// Answers to Fetch, the request that reads records from a broker.
pub fn answer(data: &[u8]) {
    fetch::answer(data);
}

/// Record batches.
pub fn records(data: &[u8]) {
    fetch::records(data);
}

/// JSON payloads.
pub fn json(data: &[u8]) {
    payloads::json(data);
}

/// CSV payloads.
pub fn csv(data: &[u8]) {
    payloads::csv(data);
}

/// Avro payloads.
pub fn avro(data: &[u8]) {
    payloads::avro(data);
}

/// Protobuf payloads.
pub fn protobuf(data: &[u8]) {
    payloads::protobuf(data);
}

/// Payloads that hold a single value.
pub fn scalar(data: &[u8]) {
    payloads::scalar(data);
}

/// Schemas, and declared columns.
pub fn schemas(data: &[u8]) {
    payloads::schemas(data);
}
