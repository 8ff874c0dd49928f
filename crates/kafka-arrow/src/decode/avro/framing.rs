//! Frames: the bytes before a datum that name the schema it was written with.

use super::super::payload::BadPayload;

/// Precedes the schema id in a registry's frame.
const MAGIC: u8 = 0;
/// Precedes a fingerprint in single-object encoding.
const MARKER: [u8; 2] = [0xc3, 0x01];

/// The id of a registry's frame.
pub(super) fn registry_id(payload: &[u8]) -> Option<i32> {
    match payload {
        [MAGIC, a, b, c, d, ..] => Some(i32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// The id and the datum of a registry's frame.
pub(super) fn registry(row: usize, payload: &[u8]) -> Result<(i32, &[u8]), BadPayload> {
    match payload {
        [] => Err(empty(row)),
        [MAGIC, a, b, c, d, datum @ ..] => Ok((i32::from_be_bytes([*a, *b, *c, *d]), datum)),
        [MAGIC, ..] => Err(frame(
            row,
            format!(
                "{} bytes are too short for a registry's frame, which has 5",
                payload.len()
            ),
        )),
        [first, ..] => Err(frame(
            row,
            format!(
                "begins with the byte 0x{first:02x}, not with a registry's frame: a byte 0 and a schema \
                 id of 4 bytes; was it written without the registry?"
            ),
        )),
    }
}

/// The fingerprint and the datum of single-object encoding.
pub(super) fn single_object(row: usize, payload: &[u8]) -> Result<(u64, &[u8]), BadPayload> {
    if payload.is_empty() {
        return Err(empty(row));
    }
    let framed = payload.strip_prefix(&MARKER);
    let Some((print, datum)) = framed.and_then(|rest| rest.split_first_chunk()) else {
        return Err(frame(
            row,
            "does not begin as single-object encoding does: the bytes 0xc3 0x01 and a fingerprint of 8 \
             bytes",
        ));
    };
    Ok((u64::from_le_bytes(*print), datum))
}

pub(super) fn empty(row: usize) -> BadPayload {
    BadPayload::new(row, "empty", "the payload has no bytes")
}

fn frame(row: usize, message: impl Into<String>) -> BadPayload {
    BadPayload::new(row, "frame", message)
}
