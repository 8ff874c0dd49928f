//! Writes Protobuf's tags, varints and lengths.

/// How a value is encoded on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Delimited = 2,
    GroupStart = 3,
    GroupEnd = 4,
    Fixed32 = 5,
}

pub(super) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

pub(super) fn tag(number: u32, wire: Wire, out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | wire as u64, out);
}

/// Appends a length, then what `write` appends.
pub(super) fn delimited<E>(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let mut inner = Vec::new();
    write(&mut inner)?;
    varint(inner.len() as u64, out);
    out.extend_from_slice(&inner);
    Ok(())
}
