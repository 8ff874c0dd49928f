//! Single values as JSON and CSV write them, in forms that [`decode`](crate::decode) reads back.

use std::fmt::Write;

use arrow::datatypes::{IntervalMonthDayNano, TimeUnit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::{Date, DateTime, Time};
use jiff::{SignedDuration, Span};

use super::Fault;
use super::cells::{Cells, Zoned, per_second};

/// A value as text.
pub(super) enum Text<'a> {
    /// A number, `true` or `false`: JSON writes it without quotes.
    Bare(String),
    /// Any other value.
    Quoted(String),
    /// Text, unchanged.
    Slice(&'a str),
}

/// A scalar that is not NULL; `None` for nested values.
pub(super) fn text(cells: &Cells, row: usize) -> Option<Result<Text<'_>, Fault>> {
    Some(Ok(match cells {
        Cells::Bool(array) => Text::Bare(array.value(row).to_string()),
        Cells::Whole(array) => Text::Bare(array.value(row).to_string()),
        Cells::Unsigned(array) => Text::Bare(array.value(row).to_string()),
        Cells::Float(array) => {
            return Some(number(array.value(row).into(), || {
                // `Debug` prints the fewest digits that identify the number, and always a point or an
                // exponent.
                format!("{:?}", array.value(row))
            }));
        }
        Cells::Double(array) => {
            return Some(number(array.value(row), || {
                format!("{:?}", array.value(row))
            }));
        }
        Cells::Decimal(..) | Cells::LongDecimal(..) => Text::Bare(cells.decimal_text(row)?),
        Cells::Text(array) => Text::Slice(array.value(row)),
        Cells::Bytes(array) => Text::Quoted(STANDARD.encode(array.value(row))),
        Cells::Date(array) => return Some(quoted(date(array.value(row)), "the date")),
        Cells::Time(array, unit) => return Some(quoted(time(array.value(row), *unit), "the time")),
        Cells::Timestamp(array, unit, zoned) => {
            return Some(quoted(
                timestamp(array.value(row), *unit, *zoned),
                "the timestamp",
            ));
        }
        Cells::Duration(array, unit) => Text::Quoted(duration(array.value(row), *unit)),
        Cells::Interval(array) => Text::Quoted(interval(array.value(row))),
        Cells::Null | Cells::Struct(..) | Cells::List(..) | Cells::Map(..) => return None,
    }))
}

fn number(value: f64, text: impl Fn() -> String) -> Result<Text<'static>, Fault> {
    match value.is_finite() {
        true => Ok(Text::Bare(text())),
        false => Err(Fault::new(format!(
            "{value} is not a number in this format; write NULL in its place, for example with \
             CASE WHEN isnan(x) THEN NULL ELSE x END"
        ))),
    }
}

fn quoted(text: Option<String>, what: &str) -> Result<Text<'static>, Fault> {
    text.map(Text::Quoted).ok_or_else(|| {
        Fault::new(format!(
            "{what} lies outside of the years -9999 to 9999, or of a day"
        ))
    })
}

fn date(days: i32) -> Option<String> {
    let days = Span::new().try_days(days).ok()?;
    let date = Date::constant(1970, 1, 1).checked_add(days).ok()?;
    Some(date.to_string())
}

fn time(value: i64, unit: TimeUnit) -> Option<String> {
    let (seconds, nanosecond) = split(value, unit);
    let part = |value: i64| i8::try_from(value).ok();
    let time = Time::new(
        part(seconds / 3600)?,
        part(seconds / 60 % 60)?,
        part(seconds % 60)?,
        nanosecond,
    );
    Some(time.ok()?.to_string())
}

fn timestamp(value: i64, unit: TimeUnit, zoned: Zoned) -> Option<String> {
    let (seconds, nanosecond) = split(value, unit);
    // Does not use jiff's instants, which end a day before the year 9999 does.
    let since = SignedDuration::new(seconds, nanosecond);
    let epoch = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    let shown = epoch.checked_add(since).ok()?;
    Some(match zoned {
        Zoned::Instant => format!("{shown}Z"),
        Zoned::Local => shown.to_string(),
    })
}

/// Whole seconds, and the nanoseconds within the second, which are never negative.
pub(super) fn split(value: i64, unit: TimeUnit) -> (i64, i32) {
    let each = per_second(unit);
    // The result is below 10^9.
    let rest = (value.rem_euclid(each) * (1_000_000_000 / each)) as i32;
    (value.div_euclid(each), rest)
}

/// ISO 8601, for example `PT1H30M`.
fn duration(value: i64, unit: TimeUnit) -> String {
    let (seconds, nanosecond) = split(value, unit);
    SignedDuration::new(seconds, nanosecond).to_string()
}

/// ISO 8601, for example `P1M2DT3.5S`. Months, days and seconds are not converted into each other.
fn interval(value: IntervalMonthDayNano) -> String {
    let mut text = String::from("P");
    // Writing to a string does not fail.
    if value.months != 0 {
        let _ = write!(text, "{}M", value.months);
    }
    if value.days != 0 {
        let _ = write!(text, "{}D", value.days);
    }
    let nanos = value.nanoseconds.unsigned_abs();
    if nanos != 0 || text.len() == 1 {
        let sign = if value.nanoseconds < 0 { "-" } else { "" };
        let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        let _ = write!(text, "T{sign}{seconds}");
        if rest != 0 {
            let digits = format!("{rest:09}");
            let _ = write!(text, ".{}", digits.trim_end_matches('0'));
        }
        text.push('S');
    }
    text
}
