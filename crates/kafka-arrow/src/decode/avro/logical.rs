//! Logical types: what a value means beyond its type.
//!
//! Unknown ones, and those that do not fit their type, are ignored, as the specification asks.

use arrow::datatypes::{DECIMAL256_MAX_PRECISION, TimeUnit};
use serde_json::Value;

use super::schema::Primitive;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logical {
    Date,
    Time(TimeUnit),
    /// An instant.
    Timestamp(TimeUnit),
    /// A date with a time of day, in no particular time zone.
    LocalTimestamp(TimeUnit),
    Decimal {
        precision: u8,
        scale: i8,
    },
    Uuid,
    Duration,
}

impl Logical {
    pub(crate) fn of_primitive(json: &Value, of: Primitive) -> Option<Self> {
        let Some(name) = json.get("logicalType").and_then(Value::as_str) else {
            return of_connect(json, of);
        };
        match (of, name) {
            (Primitive::Int, "date") => Some(Self::Date),
            (Primitive::Int, "time-millis") => Some(Self::Time(TimeUnit::Millisecond)),
            (Primitive::Long, "time-micros") => Some(Self::Time(TimeUnit::Microsecond)),
            (Primitive::Long, name) => {
                let (local, name) = match name.strip_prefix("local-") {
                    Some(name) => (true, name),
                    None => (false, name),
                };
                let unit = match name {
                    "timestamp-millis" => TimeUnit::Millisecond,
                    "timestamp-micros" => TimeUnit::Microsecond,
                    "timestamp-nanos" => TimeUnit::Nanosecond,
                    _ => return None,
                };
                Some(match local {
                    true => Self::LocalTimestamp(unit),
                    false => Self::Timestamp(unit),
                })
            }
            (Primitive::Bytes, "decimal") => decimal(json, u64::MAX),
            (Primitive::String, "uuid") => Some(Self::Uuid),
            _ => None,
        }
    }

    pub(crate) fn of_fixed(json: &Value, size: usize) -> Option<Self> {
        match json.get("logicalType")?.as_str()? {
            "decimal" => {
                // The digits of the largest number that fits into `size` bytes with its sign.
                let bits = (size * 8).saturating_sub(1);
                decimal(json, (bits as f64 * 2f64.log10()) as u64)
            }
            "duration" if size == 12 => Some(Self::Duration),
            "uuid" if size == 16 => Some(Self::Uuid),
            _ => None,
        }
    }

    pub(crate) fn title(self) -> String {
        let unit = |unit| match unit {
            TimeUnit::Nanosecond => "nanos",
            TimeUnit::Microsecond => "micros",
            TimeUnit::Millisecond | TimeUnit::Second => "millis",
        };
        match self {
            Self::Date => "date".to_owned(),
            Self::Time(of) => format!("time-{}", unit(of)),
            Self::Timestamp(of) => format!("timestamp-{}", unit(of)),
            Self::LocalTimestamp(of) => format!("local-timestamp-{}", unit(of)),
            Self::Decimal { precision, scale } => format!("decimal {precision},{scale}"),
            Self::Uuid => "uuid".to_owned(),
            Self::Duration => "duration".to_owned(),
        }
    }
}

/// What Kafka Connect's type names say. Debezium's own types for times have no logical type in Avro.
///
/// Times of day stay numbers, because MySQL's go beyond a day and Arrow's cannot.
fn of_connect(json: &Value, of: Primitive) -> Option<Logical> {
    let name = json.get("connect.name")?.as_str()?;
    match (of, name.strip_prefix("io.debezium.time.")?) {
        (Primitive::Int, "Date") => Some(Logical::Date),
        (Primitive::Long, "Timestamp") => Some(Logical::LocalTimestamp(TimeUnit::Millisecond)),
        (Primitive::Long, "MicroTimestamp") => Some(Logical::LocalTimestamp(TimeUnit::Microsecond)),
        (Primitive::Long, "NanoTimestamp") => Some(Logical::LocalTimestamp(TimeUnit::Nanosecond)),
        _ => None,
    }
}

/// A decimal of at most `digits` digits; `None` when Arrow has no decimal of that length.
fn decimal(json: &Value, digits: u64) -> Option<Logical> {
    let precision = json.get("precision")?.as_u64()?;
    let scale = json.get("scale").map_or(Some(0), Value::as_u64)?;
    let fits = precision > 0
        && precision <= digits
        && precision <= u64::from(DECIMAL256_MAX_PRECISION)
        && scale <= precision;
    if !fits {
        return None;
    }
    Some(Logical::Decimal {
        precision: u8::try_from(precision).ok()?,
        scale: i8::try_from(scale).ok()?,
    })
}
