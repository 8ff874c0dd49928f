//! A value that a database can keep, and its text.

use std::fmt;

use arrow::datatypes::i256;

pub(super) const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    Float32(f32),
    Float64(f64),
    /// The number times 10^scale.
    Decimal(i256, i8),
    Text(&'a str),
    Json(&'a str),
    Bytes(&'a [u8]),
    /// Days since 1970-01-01.
    Date(i64),
    /// Since midnight, in ns.
    Time(i64),
    /// Since 1970-01-01 00:00:00, in units of which a second has `per_second`.
    Timestamp {
        value: i64,
        per_second: i64,
        utc: bool,
    },
    Interval {
        months: i32,
        days: i32,
        nanos: i128,
    },
    List(Vec<Value<'a>>),
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) | Self::Date(value) => write!(f, "{value}"),
            Self::Unsigned(value) => write!(f, "{value}"),
            Self::Float32(value) => write!(f, "{value}"),
            Self::Float64(value) => write!(f, "{value}"),
            Self::Decimal(value, scale) => f.write_str(&decimal_text(*value, *scale)),
            Self::Text(value) | Self::Json(value) => write!(f, "'{value}'"),
            Self::Bytes(value) => write!(f, "of {} bytes", value.len()),
            Self::Time(value) => write!(f, "{value} ns"),
            Self::Timestamp {
                value, per_second, ..
            } => write!(f, "{value} (in 1/{per_second} s since 1970)"),
            Self::Interval {
                months,
                days,
                nanos,
            } => {
                write!(f, "{months} months {days} days {nanos} ns")
            }
            Self::List(values) => write!(f, "of {} items", values.len()),
        }
    }
}

/// A decimal as text, exact.
pub(crate) fn decimal_text(value: i256, scale: i8) -> String {
    let text = value.to_string();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits.to_owned()),
        None => ("", text),
    };
    let Ok(scale) = usize::try_from(scale) else {
        let zeros = if digits == "0" {
            0
        } else {
            scale.unsigned_abs().into()
        };
        return format!("{sign}{digits}{}", "0".repeat(zeros));
    };
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// The date and time, in UTC, of nanoseconds since 1970; `None` beyond the years -9999 to 9999.
pub(crate) fn date_time(nanos: i128) -> Option<jiff::civil::DateTime> {
    let seconds = i64::try_from(nanos.div_euclid(NANOS_PER_SECOND)).ok()?;
    let rest = i32::try_from(nanos.rem_euclid(NANOS_PER_SECOND)).ok()?;
    // An instant of jiff ends a day before.
    let epoch = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);
    let since = jiff::SignedDuration::new(seconds, rest);
    epoch.checked_add(since).ok()
}

/// A span of time as ISO 8601 has it, by months, days and seconds.
pub(crate) fn interval_text(months: i32, days: i32, nanos: i128) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let fraction = if rest == 0 {
        String::new()
    } else {
        format!(".{rest:09}").trim_end_matches('0').to_owned()
    };
    format!("P{months}M{days}DT{sign}{seconds}{fraction}S")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_written_exactly() {
        let text = |value: i128, scale| decimal_text(i256::from_i128(value), scale);
        assert_eq!(text(12345, 2), "123.45");
        assert_eq!(text(-5, 2), "-0.05");
        assert_eq!(text(0, 2), "0.00");
        assert_eq!(text(7, -3), "7000");
        assert_eq!(text(0, -3), "0");
        assert_eq!(text(-12, 0), "-12");
    }
}
