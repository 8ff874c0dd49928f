//! Declares columns from random bytes.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

/// Names that the schemas of the cases have, and a few that they do not.
const NAMES: [&str; 24] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s",
    "v", "w1", "A", "", "string",
];

/// Types at this depth are not nested further.
const DEEPEST: usize = 4;

/// The columns that bytes stand for. Left-over bytes are ignored.
pub(super) fn fields(bytes: &mut &[u8], depth: usize) -> Fields {
    let count = next(bytes) % 5;
    (0..count).map(|_| field(bytes, depth)).collect()
}

fn next(bytes: &mut &[u8]) -> u8 {
    match bytes {
        [first, rest @ ..] => {
            *bytes = rest;
            *first
        }
        [] => 0,
    }
}

fn field(bytes: &mut &[u8], depth: usize) -> Field {
    let name = NAMES[usize::from(next(bytes)) % NAMES.len()];
    Field::new(name, data_type(bytes, depth), true)
}

fn unit(bytes: &mut &[u8]) -> TimeUnit {
    match next(bytes) % 4 {
        0 => TimeUnit::Second,
        1 => TimeUnit::Millisecond,
        2 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

fn data_type(bytes: &mut &[u8], depth: usize) -> DataType {
    let kind = next(bytes) % 27;
    match kind {
        0 => DataType::Boolean,
        1 => DataType::Int8,
        2 => DataType::Int16,
        3 => DataType::Int32,
        4 => DataType::Int64,
        5 => DataType::UInt8,
        6 => DataType::UInt16,
        7 => DataType::UInt32,
        8 => DataType::UInt64,
        9 => DataType::Float32,
        10 => DataType::Float64,
        11 => DataType::Utf8,
        12 => DataType::Utf8View,
        13 => DataType::LargeUtf8,
        14 => DataType::Binary,
        15 => DataType::BinaryView,
        16 => DataType::Date32,
        17 => match next(bytes) % 2 {
            0 => DataType::Time32(TimeUnit::Second),
            _ => DataType::Time32(TimeUnit::Millisecond),
        },
        18 => match next(bytes) % 2 {
            0 => DataType::Time64(TimeUnit::Microsecond),
            _ => DataType::Time64(TimeUnit::Nanosecond),
        },
        19 => DataType::Timestamp(unit(bytes), None),
        20 => DataType::Timestamp(unit(bytes), Some("UTC".into())),
        21 => {
            let precision = 1 + next(bytes) % 38;
            let scale = next(bytes) % (precision + 1);
            DataType::Decimal128(precision, scale.cast_signed())
        }
        22 => DataType::Decimal256(1 + next(bytes) % 76, 0),
        23 => DataType::FixedSizeBinary(i32::from(next(bytes))),
        24 if depth < DEEPEST => DataType::Struct(fields(bytes, depth + 1)),
        25 if depth < DEEPEST => DataType::List(Arc::new(field(bytes, depth + 1))),
        26 if depth < DEEPEST => {
            let key = match next(bytes) % 4 {
                0 => data_type(bytes, DEEPEST),
                _ => DataType::Utf8,
            };
            let value = data_type(bytes, depth + 1);
            let entry = vec![
                Field::new("key", key, false),
                Field::new("value", value, true),
            ];
            let entry = DataType::Struct(entry.into());
            DataType::Map(Arc::new(Field::new("entries", entry, false)), false)
        }
        _ => DataType::Null,
    }
}
