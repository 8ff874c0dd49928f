//! Entry points for `fuzz/`. Each accepts any bytes, and panics where a decoder breaks its laws.

use crate::client::laws as wire;
use crate::config::ConnectionConfig;
use crate::decode::laws as payloads;
use crate::range::{RangeSpec, Snapshot};

#[cfg(test)]
mod tests;

/// Answers to Fetch, the request that reads records from a broker.
pub fn answer(data: &[u8]) {
    wire::answer(data);
}

/// Answers to all other requests.
pub fn answers(data: &[u8]) {
    wire::answers(data);
}

/// Record batches.
pub fn records(data: &[u8]) {
    wire::records(data);
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

/// Texts that people write or programs store: a byte for the kind, and the text. Ranges and snapshots that
/// parse are written as a text that parses to the same.
pub fn texts(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    match kind % 3 {
        0 => drop(ConnectionConfig::from_text(text, "client.properties")),
        1 => {
            if let Ok(range) = text.parse::<RangeSpec>() {
                assert_eq!(range.to_string().parse::<RangeSpec>().as_ref(), Ok(&range));
            }
        }
        _ => {
            if let Ok(snapshot) = text.parse::<Snapshot>() {
                let again = serde_json::to_string(&snapshot).expect("it is JSON");
                assert_eq!(again.parse::<Snapshot>().expect("parses again"), snapshot);
            }
        }
    }
}
