//! Arrow's types in PostgreSQL: which column keeps which values, and their binary form.
//!
//! A column is accepted if it keeps every value of the type as it is, but for the limits that
//! [`Value::to_sql`](ToSql::to_sql) checks value by value. The table is in `docs/sinks.md`.

use std::error::Error as StdError;

use arrow::datatypes::{DataType, TimeUnit, i256};
use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, Kind, ToSql, Type, to_sql_checked};

use crate::sink::rows::{Lists, Unfit, is_nested, item_of};
use crate::sink::value::{Value, decimal_text};

/// PostgreSQL counts from 2000-01-01.
pub(super) const EPOCH_DAYS: i64 = 10_957;
pub(super) const EPOCH_MICROS: i64 = EPOCH_DAYS * 86_400_000_000;

/// The first and the last moment of `timestamp`, in µs from 2000-01-01: 4714 BC to the year 294276.
const TIMESTAMPS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

/// The first and the last day of `date`, from 2000-01-01: 4714 BC to the year 5874897.
const DATES: std::ops::Range<i64> = -2_451_545..2_145_031_949;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// A column's type.
#[derive(Debug, Clone)]
pub(super) struct ColumnType {
    /// That of the values on the wire; a domain's base type.
    pub(super) wire: Type,
    /// Length, precision and scale as PostgreSQL packs them; -1 if there are none.
    pub(super) modifier: i32,
}

/// Precision and scale of a `numeric` with this modifier; `None` if it has none.
pub(super) fn numeric(modifier: i32) -> Option<(i32, i32)> {
    if modifier < 4 {
        return None;
    }
    let packed = modifier - 4;
    // The scale is a signed number of 11 bits.
    Some(((packed >> 16) & 0xffff, ((packed & 0x7ff) ^ 1024) - 1024))
}

/// The most characters of a text in the column; `None` if there is no limit.
pub(super) fn most_characters(column: &ColumnType) -> Option<usize> {
    let limited = column.wire == Type::VARCHAR && column.modifier > 4;
    limited.then(|| (column.modifier - 4) as usize)
}

/// Whether a column keeps values of an Arrow type as they are.
pub(super) fn fits(data_type: &DataType, column: &ColumnType) -> bool {
    use DataType as T;
    let wire = &column.wire;
    let is = |types: &[Type]| types.contains(wire);
    let digits = |whole: i32, fraction: i32| {
        *wire == Type::NUMERIC
            && numeric(column.modifier)
                .is_none_or(|(precision, scale)| scale >= fraction && precision - scale >= whole)
    };
    let unit = |unit: &TimeUnit| {
        let needed = match unit {
            TimeUnit::Second => 0,
            TimeUnit::Millisecond => 3,
            TimeUnit::Microsecond | TimeUnit::Nanosecond => 6,
        };
        column.modifier < 0 || column.modifier >= needed
    };
    match data_type {
        T::Dictionary(_, value) => fits(value, column),
        T::RunEndEncoded(_, value) => fits(value.data_type(), column),
        T::Null => true,
        nested if is_nested(nested, Lists::Arrays) => is(&[Type::JSON, Type::JSONB]),
        T::Boolean => is(&[Type::BOOL]),
        T::Int8 | T::UInt8 => is(&[Type::INT2, Type::INT4, Type::INT8]) || digits(3, 0),
        T::Int16 => is(&[Type::INT2, Type::INT4, Type::INT8]) || digits(5, 0),
        T::UInt16 => is(&[Type::INT4, Type::INT8]) || digits(5, 0),
        T::Int32 => is(&[Type::INT4, Type::INT8]) || digits(10, 0),
        T::UInt32 => is(&[Type::INT8]) || digits(10, 0),
        T::Int64 => is(&[Type::INT8]) || digits(19, 0),
        T::UInt64 => is(&[Type::INT8]) || digits(20, 0),
        T::Float16 | T::Float32 => is(&[Type::FLOAT4, Type::FLOAT8]),
        T::Float64 => is(&[Type::FLOAT8]),
        T::Decimal32(precision, scale)
        | T::Decimal64(precision, scale)
        | T::Decimal128(precision, scale)
        | T::Decimal256(precision, scale) => {
            let (precision, scale) = (i32::from(*precision), i32::from(*scale));
            digits(precision - scale, scale)
        }
        T::Utf8 | T::LargeUtf8 | T::Utf8View => {
            is(&[
                Type::TEXT,
                Type::VARCHAR,
                Type::JSON,
                Type::JSONB,
                Type::UUID,
            ]) || matches!(wire.kind(), Kind::Enum(_))
        }
        T::FixedSizeBinary(16) => is(&[Type::BYTEA, Type::UUID]),
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => is(&[Type::BYTEA]),
        T::Date32 | T::Date64 => is(&[Type::DATE]),
        T::Time32(precision) | T::Time64(precision) => is(&[Type::TIME]) && unit(precision),
        T::Timestamp(precision, None) => is(&[Type::TIMESTAMP]) && unit(precision),
        T::Timestamp(precision, Some(_)) => is(&[Type::TIMESTAMPTZ]) && unit(precision),
        T::Interval(_) | T::Duration(_) => is(&[Type::INTERVAL]) && column.modifier < 0,
        other => match (item_of(other), wire.kind()) {
            (Some(item), Kind::Array(member)) => {
                let member = ColumnType {
                    wire: member.clone(),
                    modifier: column.modifier,
                };
                fits(item.data_type(), &member)
            }
            _ => false,
        },
    }
}

/// The type of a column that is created for an Arrow type.
pub(super) fn declared(data_type: &DataType) -> String {
    use DataType as T;
    let name = match data_type {
        T::Dictionary(_, value) => return declared(value),
        T::RunEndEncoded(_, value) => return declared(value.data_type()),
        nested if is_nested(nested, Lists::Arrays) => "jsonb",
        T::Boolean => "boolean",
        T::Int8 | T::UInt8 | T::Int16 => "smallint",
        T::UInt16 | T::Int32 => "integer",
        T::UInt32 | T::Int64 | T::UInt64 => "bigint",
        T::Float16 | T::Float32 => "real",
        T::Float64 => "double precision",
        T::Decimal32(precision, scale)
        | T::Decimal64(precision, scale)
        | T::Decimal128(precision, scale)
        | T::Decimal256(precision, scale) => {
            return if (0..=i16::from(*precision)).contains(&i16::from(*scale)) {
                format!("numeric({precision},{scale})")
            } else {
                "numeric".to_owned()
            };
        }
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => "bytea",
        T::Date32 | T::Date64 => "date",
        T::Time32(_) | T::Time64(_) => "time",
        T::Timestamp(_, None) => "timestamp",
        T::Timestamp(_, Some(_)) => "timestamptz",
        T::Interval(_) | T::Duration(_) => "interval",
        other => match item_of(other) {
            Some(item) => return format!("{}[]", declared(item.data_type())),
            // Texts, and NULL alone.
            None => "text",
        },
    };
    name.to_owned()
}

/// The types that values of an Arrow type go into, for messages.
pub(super) fn accepted(data_type: &DataType) -> String {
    use DataType as T;
    match data_type {
        T::Dictionary(_, value) => accepted(value),
        T::RunEndEncoded(_, value) => accepted(value.data_type()),
        T::Null => "any type".to_owned(),
        T::Utf8 | T::LargeUtf8 | T::Utf8View => {
            "text, varchar, json, jsonb, uuid or an enum".to_owned()
        }
        nested if is_nested(nested, Lists::Arrays) => "jsonb or json".to_owned(),
        T::Float16 | T::Float32 => "real or double precision".to_owned(),
        T::Int8 | T::UInt8 | T::Int16 => {
            "smallint, integer, bigint or a wide enough numeric".to_owned()
        }
        T::UInt16 | T::Int32 => "integer, bigint or a wide enough numeric".to_owned(),
        T::UInt32 | T::Int64 | T::UInt64 => "bigint or a wide enough numeric".to_owned(),
        other => declared(other),
    }
}

/// A value on its way into a column.
#[derive(Debug)]
pub(super) struct Cell<'a> {
    pub(super) value: Value<'a>,
    pub(super) column: &'a str,
    pub(super) most_characters: Option<usize>,
}

type Encoded = Result<IsNull, Box<dyn StdError + Sync + Send>>;

impl ToSql for Cell<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Encoded {
        let text = match self.value {
            Value::Text(text) => text,
            _ => "",
        };
        let named = |unfit: Unfit| unfit.column(self.column);
        if let Some(most) = self.most_characters
            && text.chars().count() > most
        {
            let expected = format!("is longer than {most} characters");
            return Err(named(Unfit::new(&self.value, &expected)).into());
        }
        self.value.to_sql(ty, out).map_err(|error| {
            let named = error.downcast::<Unfit>().map(|unfit| named(*unfit).into());
            named.unwrap_or_else(|error| error)
        })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl ToSql for Value<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Encoded {
        match self {
            Value::Null => return Ok(IsNull::Yes),
            Value::Bool(value) => out.put_u8((*value).into()),
            Value::Int(value) => integer((*value).into(), ty, out)?,
            Value::Unsigned(value) => integer((*value).into(), ty, out)?,
            Value::Float32(value) if *ty == Type::FLOAT8 => out.put_f64((*value).into()),
            Value::Float32(value) => out.put_f32(*value),
            Value::Float64(value) => out.put_f64(*value),
            Value::Decimal(value, scale) => decimal(&decimal_text(*value, *scale), out)?,
            Value::Text(text) => return text_value(self, text, ty, out),
            Value::Json(text) => {
                if *ty == Type::JSONB {
                    out.put_u8(JSONB_VERSION);
                }
                out.put_slice(text.as_bytes());
            }
            Value::Bytes(bytes) => out.put_slice(bytes),
            Value::Date(days) => {
                let from_epoch = days.checked_sub(EPOCH_DAYS).filter(|d| DATES.contains(d));
                let from_epoch = from_epoch.and_then(|days| i32::try_from(days).ok());
                let days = from_epoch.ok_or_else(|| {
                    Unfit::new(self, "(days since 1970) is beyond the dates of PostgreSQL")
                })?;
                out.put_i32(days);
            }
            Value::Time(nanos) => {
                let micros = whole_micros(self, (*nanos).into())?;
                if !(0..=MICROS_PER_DAY).contains(&micros) {
                    return Err(Unfit::new(self, "is no time of a day").into());
                }
                out.put_i64(micros);
            }
            Value::Timestamp {
                value, per_second, ..
            } => {
                let beyond = || Unfit::new(self, "is beyond the timestamps of PostgreSQL");
                let nanos = i128::from(*value) * i128::from(1_000_000_000 / per_second);
                let micros = if *per_second > 1_000_000 {
                    whole_micros(self, nanos)?
                } else {
                    i64::try_from(nanos / 1_000).map_err(|_| beyond())?
                };
                let micros = micros.checked_sub(EPOCH_MICROS);
                let micros = micros.filter(|micros| TIMESTAMPS.contains(micros));
                out.put_i64(micros.ok_or_else(beyond)?);
            }
            Value::Interval {
                months,
                days,
                nanos,
            } => {
                out.put_i64(whole_micros(self, *nanos)?);
                out.put_i32(*days);
                out.put_i32(*months);
            }
            Value::List(values) => return values.to_sql(ty, out),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// The binary form of `jsonb` begins with its version.
const JSONB_VERSION: u8 = 1;

/// PostgreSQL keeps µs; what is finer is refused, not cut off.
fn whole_micros(value: &Value<'_>, nanos: i128) -> Result<i64, Unfit> {
    if nanos % 1_000 != 0 {
        return Err(Unfit::new(
            value,
            "is finer than a microsecond: round it with date_trunc('microsecond', …)",
        ));
    }
    i64::try_from(nanos / 1_000)
        .map_err(|_| Unfit::new(value, "is beyond what PostgreSQL keeps in microseconds"))
}

fn integer(value: i128, ty: &Type, out: &mut BytesMut) -> Result<(), Unfit> {
    let above = |_| Unfit::new(&value, &format!("is beyond the range of {ty}"));
    match *ty {
        Type::INT2 => out.put_i16(i16::try_from(value).map_err(above)?),
        Type::INT4 => out.put_i32(i32::try_from(value).map_err(above)?),
        Type::NUMERIC => decimal(&decimal_text(i256::from_i128(value), 0), out)?,
        _ => out.put_i64(i64::try_from(value).map_err(above)?),
    }
    Ok(())
}

fn text_value(value: &Value<'_>, text: &str, ty: &Type, out: &mut BytesMut) -> Encoded {
    if text.contains('\0') {
        return Err(Unfit::new(
            value,
            "holds a NUL character, which PostgreSQL's texts cannot: remove it with \
             replace(…, chr(0), ''), or cast the column to BYTEA",
        )
        .into());
    }
    match *ty {
        Type::UUID => {
            let uuid = uuid::Uuid::parse_str(text).map_err(|_| Unfit::new(value, "is no UUID"))?;
            out.put_slice(uuid.as_bytes());
        }
        Type::JSONB => {
            out.put_u8(JSONB_VERSION);
            out.put_slice(text.as_bytes());
        }
        _ => out.put_slice(text.as_bytes()),
    }
    Ok(IsNull::No)
}

/// The binary form of `numeric`: groups of four decimal digits, the first one's weight, the sign and
/// the number of digits after the point.
fn decimal(text: &str, out: &mut BytesMut) -> Result<(), Unfit> {
    const GROUP: usize = 4;
    const NEGATIVE: u16 = 0x4000;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole_width = whole.len().next_multiple_of(GROUP);
    let fraction_width = fraction.len().next_multiple_of(GROUP);
    let padded = format!("{whole:0>whole_width$}{fraction:0<fraction_width$}");
    // Four ASCII digits are below 10000.
    let groups: Vec<i16> = padded
        .as_bytes()
        .chunks(GROUP)
        .map(|group| {
            group
                .iter()
                .fold(0, |n, digit| n * 10 + i16::from(digit - b'0'))
        })
        .collect();
    let leading = groups.iter().take_while(|group| **group == 0).count();
    let used = groups.len() - groups.iter().rev().take_while(|group| **group == 0).count();
    let significant = groups.get(leading..used).unwrap_or(&[]);
    let weight = (whole_width / GROUP) as i64 - 1 - leading as i64;
    let small = |n: i64| i16::try_from(n).map_err(|_| Unfit::new(&text, "has too many digits"));
    out.put_i16(small(significant.len() as i64)?);
    out.put_i16(if significant.is_empty() {
        0
    } else {
        small(weight)?
    });
    out.put_u16(if negative && !significant.is_empty() {
        NEGATIVE
    } else {
        0
    });
    out.put_i16(small(fraction.len() as i64)?);
    for group in significant {
        out.put_i16(*group);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Field;

    use super::*;

    fn column(wire: Type, modifier: i32) -> ColumnType {
        ColumnType { wire, modifier }
    }

    fn modifier(precision: i32, scale: i32) -> i32 {
        ((precision << 16) | (scale & 0x7ff)) + 4
    }

    fn bytes_of(text: &str) -> Vec<i16> {
        let mut out = BytesMut::new();
        decimal(text, &mut out).unwrap();
        out.chunks(2)
            .map(|pair| i16::from_be_bytes([pair[0], pair[1]]))
            .collect()
    }

    #[test]
    fn numerics_are_groups_of_four_digits() {
        assert_eq!(bytes_of("0"), [0, 0, 0, 0]);
        assert_eq!(bytes_of("0.00"), [0, 0, 0, 2]);
        assert_eq!(bytes_of("1"), [1, 0, 0, 0, 1]);
        assert_eq!(bytes_of("-12345.678"), [3, 1, 0x4000, 3, 1, 2345, 6780]);
        assert_eq!(bytes_of("10000"), [1, 1, 0, 0, 1]);
        assert_eq!(bytes_of("0.00005"), [1, -2, 0, 5, 5000]);
    }

    #[test]
    fn a_column_must_keep_every_value() {
        assert!(fits(&DataType::Int32, &column(Type::INT8, -1)));
        assert!(!fits(&DataType::Int64, &column(Type::INT4, -1)));
        assert!(fits(
            &DataType::Decimal128(10, 2),
            &column(Type::NUMERIC, modifier(12, 2))
        ));
        assert!(!fits(
            &DataType::Decimal128(10, 2),
            &column(Type::NUMERIC, modifier(10, 1))
        ));
        assert!(!fits(
            &DataType::Decimal128(10, 2),
            &column(Type::NUMERIC, modifier(10, 3))
        ));
        assert!(fits(
            &DataType::Decimal128(10, 2),
            &column(Type::NUMERIC, -1)
        ));
        assert!(!fits(
            &DataType::Int64,
            &column(Type::NUMERIC, modifier(18, 0))
        ));
        let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
        assert!(fits(&millis, &column(Type::TIMESTAMP, 3)));
        assert!(!fits(&millis, &column(Type::TIMESTAMP, 0)));
        assert!(!fits(&millis, &column(Type::TIMESTAMPTZ, -1)));
        let list = DataType::List(Arc::new(Field::new("item", DataType::Int32, true)));
        assert!(fits(&list, &column(Type::INT4_ARRAY, -1)));
        assert!(!fits(&list, &column(Type::TEXT_ARRAY, -1)));
        let nested = DataType::List(Arc::new(Field::new("item", list, true)));
        assert!(fits(&nested, &column(Type::JSONB, -1)));
        assert_eq!(declared(&nested), "jsonb");
        assert!(!fits(&DataType::Utf8, &column(Type::BPCHAR, -1)));
    }

    #[test]
    fn packed_modifiers_are_read() {
        assert_eq!(numeric(modifier(10, 2)), Some((10, 2)));
        assert_eq!(numeric(modifier(5, -3)), Some((5, -3)));
        assert_eq!(numeric(-1), None);
    }
}
