//! Appends a single value, given as text, to a column if it fits the type.
//!
//! A value that does not fit exactly is a fault of the payload: a fraction in a column of whole numbers, a
//! number that overflows, digits that the column's unit would lose.

mod moment;
#[cfg(test)]
mod tests;

use arrow::datatypes::DataType;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use self::moment::{moment, per_second};
use super::budget::{self, Exceeded};
use super::builder::{Builder, Values};

/// Why a payload is bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) class: &'static str,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(class: &'static str, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
        }
    }

    /// A value of a kind that does not match the column.
    pub(super) fn expected(data_type: &DataType, found: &str) -> Self {
        Self::new("type", format!("expected {data_type}, found {found}"))
    }

    fn range(data_type: &DataType, found: &str) -> Self {
        let shown: String = found.chars().take(40).collect();
        Self::new("range", format!("{shown} does not fit {data_type}"))
    }

    /// Whether only a value does not fit its column, so that the rest of the payload can still be read.
    pub(super) fn is_of_value(&self) -> bool {
        matches!(self.class, "type" | "range")
    }

    /// The same fault, attributed to the value called `name`.
    pub(super) fn of(self, name: &str) -> Self {
        Self {
            message: format!("field '{name}': {}", self.message),
            ..self
        }
    }
}

impl From<Exceeded> for Fault {
    fn from(exceeded: Exceeded) -> Self {
        Self::new(budget::CLASS, exceeded.to_string())
    }
}

type Outcome = std::result::Result<(), Fault>;

/// Appends a number as JSON writes it. Timestamps and times take numbers in their own unit, dates take days.
pub(super) fn number(to: &mut Builder, text: &str) -> Outcome {
    let (data_type, values) = to.parts();
    let misfit = || Fault::range(data_type, text);
    match values {
        Values::Whole(values) => {
            let value = whole(text).ok_or_else(misfit)?;
            let (least, most) = bounds(data_type);
            if !(least..=most).contains(&value) {
                return Err(misfit());
            }
            values.push(value);
        }
        Values::Unsigned(values) => {
            let value = match text.parse::<u64>() {
                Ok(value) => Some(value),
                Err(_) => scaled(text, 0).and_then(|v| u64::try_from(v).ok()),
            };
            values.push(value.ok_or_else(misfit)?);
        }
        Values::Float(values) => {
            let value = match data_type {
                // Going through the wider type would round twice.
                DataType::Float32 => text.parse::<f32>().map(f64::from),
                _ => text.parse(),
            };
            let value = value.ok().filter(|value| value.is_finite());
            values.push(value.ok_or_else(misfit)?);
        }
        Values::Decimal(values) => {
            let DataType::Decimal128(precision, scale) = *data_type else {
                return Err(misfit());
            };
            let value = scaled(text, scale.into()).ok_or_else(misfit)?;
            let fits = value.unsigned_abs() < 10u128.pow(precision.into());
            values.push(fits.then_some(value).ok_or_else(misfit)?);
        }
        _ => return Err(Fault::expected(data_type, "a number")),
    }
    to.end_row();
    Ok(())
}

/// Appends a number of at most 18 digits, of which `places` follow the point. Returns false if that needs
/// more than this fast path.
#[inline]
pub(super) fn short(to: &mut Builder, digits: i64, places: usize) -> bool {
    /// The powers of ten that floats represent exactly.
    const TENS: [f64; 19] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
        1e17, 1e18,
    ];
    let (data_type, values) = to.parts();
    match (values, places, TENS.get(places)) {
        (Values::Whole(values), 0, _) => {
            let (least, most) = bounds(data_type);
            if !(least..=most).contains(&digits) {
                return false;
            }
            values.push(digits);
        }
        // Dividing two exact floats gives the nearest float. For two floats of 24 bits this holds even with
        // rounding to 53 bits before rounding to 24.
        (Values::Float(values), _, Some(tens)) => {
            let exact = match data_type {
                DataType::Float32 => {
                    digits.unsigned_abs() < 1 << f32::MANTISSA_DIGITS && places <= 10
                }
                _ => digits.unsigned_abs() < 1 << f64::MANTISSA_DIGITS,
            };
            if !exact {
                return false;
            }
            values.push(digits as f64 / tens);
        }
        _ => return false,
    }
    to.end_row();
    true
}

pub(super) fn boolean(to: &mut Builder, value: bool) -> Outcome {
    let Values::Bool(values) = &mut to.values else {
        return Err(Fault::expected(to.data_type(), "a boolean"));
    };
    values.push(value);
    to.end_row();
    Ok(())
}

/// Appends text to a column: as it is, as an instant, a date or a time in ISO 8601, as base64, or as a
/// decimal number. Many programs write decimals as text so that no reader takes them for binary numbers.
pub(super) fn text(to: &mut Builder, text: &str) -> Outcome {
    let (data_type, values) = to.parts();
    match values {
        Values::Text(slices) => slices.push(text.as_bytes()),
        Values::Binary(slices) => {
            let bytes = STANDARD.decode(text);
            slices.push(&bytes.map_err(|_| Fault::expected(data_type, "text that is not base64"))?);
        }
        Values::Whole(values) => values.push(moment(text, data_type)?),
        Values::Decimal(_) if is_plain_number(text) => return number(to, text),
        _ => return Err(Fault::expected(data_type, &quoted(text))),
    }
    to.end_row();
    Ok(())
}

/// Appends a value from a format that has only text, such as CSV.
pub(super) fn any_text(to: &mut Builder, value: &str) -> Outcome {
    let numeric = match &to.values {
        Values::Bool(_) => {
            let value = match value.to_ascii_lowercase().as_str() {
                "true" | "t" | "1" => true,
                "false" | "f" | "0" => false,
                _ => return Err(Fault::expected(to.data_type(), &quoted(value))),
            };
            return boolean(to, value);
        }
        // `2026-01-14` has only characters that occur in numbers.
        Values::Whole(_) if to.data_type().is_temporal() => value.parse::<i64>().is_ok(),
        Values::Whole(_) => is_number(value),
        Values::Unsigned(_) | Values::Float(_) | Values::Decimal(_) => true,
        _ => false,
    };
    if !numeric {
        return text(to, value);
    }
    if !is_number(value) {
        return Err(Fault::expected(to.data_type(), &quoted(value)));
    }
    number(to, value)
}

/// Whether text is a number as in JSON or CSV: without words such as `inf`, and without spaces.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.bytes().any(|b| b.is_ascii_digit())
        && digits
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'))
}

/// Whether text is a number without an exponent.
fn is_plain_number(text: &str) -> bool {
    is_number(text) && !text.contains(['e', 'E'])
}

/// Text as error messages show it.
pub(super) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(40).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("the text '{shown}{more}'")
}

fn whole(text: &str) -> Option<i64> {
    match text.parse::<i64>() {
        Ok(value) => Some(value),
        // `1.0` and `1e3` are whole numbers too.
        Err(_) => scaled(text, 0).and_then(|v| i64::try_from(v).ok()),
    }
}

/// A decimal number times ten to the power of `scale`, if that is a whole number of at most 38 digits.
fn scaled(text: &str, scale: i64) -> Option<i128> {
    let (digits, negative) = match text.strip_prefix('-') {
        Some(digits) => (digits, true),
        None => (text.strip_prefix('+').unwrap_or(text), false),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (digits, 0),
    };
    let (before, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut value = 0i128;
    // How many digits of the value follow the point.
    let mut places = 0i64;
    let mut zeros = 0u32;
    for (index, digit) in before.bytes().chain(behind.bytes()).enumerate() {
        let digit = digit.is_ascii_digit().then(|| i128::from(digit - b'0'))?;
        // A zero counts only when another digit follows: it may be the end of a fraction.
        if digit == 0 {
            zeros += 1;
            continue;
        }
        value = value.checked_mul(10i128.checked_pow(zeros + 1)?)?;
        value = value.checked_add(digit)?;
        zeros = 0;
        places = i64::try_from(index + 1).ok()? - i64::try_from(before.len()).ok()?;
    }
    if value == 0 {
        return Some(0);
    }
    let shift = scale.checked_add(exponent)?.checked_sub(places)?;
    // Fails if the number has more digits after the point than the scale.
    let shift = u32::try_from(shift).ok()?;
    let value = value.checked_mul(10i128.checked_pow(shift)?)?;
    let fits = value < 10i128.pow(38);
    fits.then_some(if negative { -value } else { value })
}

fn bounds(data_type: &DataType) -> (i64, i64) {
    match data_type {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 | DataType::Date32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::UInt8 => (0, u8::MAX.into()),
        DataType::UInt16 => (0, u16::MAX.into()),
        DataType::UInt32 => (0, u32::MAX.into()),
        DataType::Time32(unit) | DataType::Time64(unit) => (0, 86_400 * per_second(*unit) - 1),
        _ => (i64::MIN, i64::MAX),
    }
}
