//! Appends a single value, given as text, to a column if it fits the type.
//!
//! A value that does not fit exactly is a fault of the payload: a fraction in a column of whole numbers, a
//! number that overflows, digits that the column's unit would lose.

use arrow::datatypes::{DataType, TimeUnit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use jiff::civil::{DateTime, Time};
use jiff::fmt::temporal::Pieces;

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

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// An instant, a date or a time of day in the type's unit, converted to UTC if it has an offset. A date may
/// stand for the instant at which it begins. A leap second is an error, because no unit can represent it.
fn moment(text: &str, data_type: &DataType) -> std::result::Result<i64, Fault> {
    const DAY_SECONDS: i64 = 86_400;
    let unread = || Fault::expected(data_type, &quoted(text));
    let misfit = || Fault::range(data_type, text);
    let on_first_day = match data_type {
        DataType::Time32(_) | DataType::Time64(_) => {
            let clock = text.strip_prefix(['T', 't']).unwrap_or(text);
            // Not the digits of a date, which could be read as hours and minutes.
            let digits = |b: u8| b.is_ascii_digit() || b == b'.';
            if clock.as_bytes().get(2) != Some(&b':') && !clock.bytes().all(digits) {
                return Err(unread());
            }
            Some(format!("1970-01-01T{clock}"))
        }
        _ => None,
    };
    let written = on_first_day.as_deref().unwrap_or(text);
    let pieces = Pieces::parse(written).map_err(|_| unread())?;
    // Without an offset it is in UTC. A zone's name alone does not give the offset.
    let offset = match (pieces.to_numeric_offset(), pieces.time_zone_annotation()) {
        (Some(_), _) if pieces.time().is_none() => return Err(unread()),
        (Some(offset), _) => i64::from(offset.seconds()),
        (None, None) => 0,
        (None, Some(_)) => return Err(unread()),
    };
    // jiff accepts offsets of up to 25 hours.
    if offset.abs() >= DAY_SECONDS {
        return Err(unread());
    }
    let time = pieces.time().unwrap_or_else(Time::midnight);
    if is_leap_second(written, time) {
        return Err(misfit());
    }
    let local = pieces.date().to_datetime(time);
    // Does not use jiff's instants, which end a day before the year 9999 does.
    let epoch = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    let since = local.duration_since(epoch);
    let since = since.checked_sub(SignedDuration::from_secs(offset));
    let since = since.ok_or_else(misfit)?;
    let (seconds, nanoseconds) = (since.as_secs(), i64::from(since.subsec_nanos()));
    match data_type {
        DataType::Date32 => {
            let begins = seconds % DAY_SECONDS == 0 && nanoseconds == 0;
            begins.then_some(seconds / DAY_SECONDS).ok_or_else(misfit)
        }
        DataType::Time32(unit) | DataType::Time64(unit) => {
            let day = SignedDuration::from_secs(DAY_SECONDS);
            let of_day = match since {
                before if before.is_negative() => before + day,
                behind if behind >= day => behind - day,
                within => within,
            };
            in_unit(of_day.as_secs(), of_day.subsec_nanos().into(), *unit).ok_or_else(misfit)
        }
        DataType::Timestamp(unit, _) => in_unit(seconds, nanoseconds, *unit).ok_or_else(misfit),
        _ => Err(unread()),
    }
}

/// Whether the text has 60 as its seconds, which jiff reads as 59.
fn is_leap_second(text: &str, read: Time) -> bool {
    if read.second() != 59 {
        return false;
    }
    let text = text.split('[').next().unwrap_or_default();
    let clock = text.rsplit(['T', 't', ' ']).next().unwrap_or_default();
    let end = clock.find(|c: char| !c.is_ascii_digit() && c != ':');
    let clock = &clock.as_bytes()[..end.unwrap_or(clock.len())];
    matches!(
        clock,
        [_, _, b':', _, _, b':', b'6', b'0'] | [_, _, _, _, b'6', b'0']
    )
}

/// `None` when the unit would lose digits, or overflows. Both parts have the same sign, or are 0.
fn in_unit(seconds: i64, nanoseconds: i64, unit: TimeUnit) -> Option<i64> {
    let per_second = per_second(unit);
    let nanoseconds_each = 1_000_000_000 / per_second;
    if nanoseconds % nanoseconds_each != 0 {
        return None;
    }
    seconds
        .checked_mul(per_second)?
        .checked_add(nanoseconds / nanoseconds_each)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray};
    use arrow::datatypes::{Decimal128Type, Float32Type, Int64Type};

    fn built(data_type: &DataType, push: impl Fn(&mut Builder) -> Outcome) -> Option<ArrayRef> {
        let mut builder = Builder::new(data_type).unwrap();
        push(&mut builder).ok()?;
        Some(builder.finish().unwrap())
    }

    fn shown(data_type: &DataType, value: &str) -> Option<String> {
        let array = built(data_type, |to| any_text(to, value))?;
        assert_eq!(array.data_type(), data_type);
        Some(arrow::util::display::array_value_to_string(&array, 0).unwrap())
    }

    #[test]
    fn whole_numbers_fit_exactly_or_not_at_all() {
        let cases = [
            ("1", Some("1")),
            ("-0", Some("0")),
            ("1.0", Some("1")),
            ("1e3", Some("1000")),
            ("12.50e1", Some("125")),
            ("100e-2", Some("1")),
            ("9223372036854775807", Some("9223372036854775807")),
            ("9223372036854775808", None),
            ("1.5", None),
            ("1e-1", None),
            ("1e99999999999", None),
            ("0e99999999999", Some("0")),
            ("", None),
            ("inf", None),
            ("--1", None),
        ];
        for (text, expected) in cases {
            let found = shown(&DataType::Int64, text);
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        assert_eq!(shown(&DataType::Int8, "128"), None);
        assert_eq!(shown(&DataType::UInt32, "-1"), None);
        assert_eq!(
            shown(&DataType::UInt64, "18446744073709551615").as_deref(),
            Some("18446744073709551615")
        );
        assert_eq!(shown(&DataType::Float32, "1e39"), None);
        assert_eq!(shown(&DataType::Float64, "1e309"), None);
        assert_eq!(shown(&DataType::Float64, "nan"), None);
    }

    #[test]
    fn decimals_keep_every_digit() {
        let data_type = DataType::Decimal128(10, 2);
        let value = |text: &str| {
            let array = built(&data_type, |to| any_text(to, text))?;
            Some(array.as_primitive::<Decimal128Type>().value(0))
        };
        assert_eq!(value("12.34"), Some(1234));
        assert_eq!(value("-0.010"), Some(-1));
        assert_eq!(value("1.2340e2"), Some(12340));
        assert_eq!(value("12.345"), None);
        assert_eq!(value("99999999.99"), Some(9_999_999_999));
        assert_eq!(value("100000000"), None);
    }

    #[test]
    fn decimals_may_be_text() {
        let data_type = DataType::Decimal128(10, 2);
        let value = |value: &str| {
            let array = built(&data_type, |to| text(to, value))?;
            Some(array.as_primitive::<Decimal128Type>().value(0))
        };
        assert_eq!(value("12.3"), Some(1230));
        assert_eq!(value("-0.01"), Some(-1));
        assert_eq!(value("+7"), Some(700));
        for bad in [
            "", "12.345", "1e2", "NaN", " 1", "1-2", "1.2.3", "0x1", "1,5",
        ] {
            assert_eq!(value(bad), None, "{bad}");
        }
        let mut builder = Builder::new(&data_type).unwrap();
        let fault = text(&mut builder, "NaN").unwrap_err();
        assert_eq!(
            fault.message,
            "expected Decimal128(10, 2), found the text 'NaN'"
        );
        assert!(built(&DataType::Int64, |to| text(to, "1")).is_none());
    }

    #[test]
    fn moments_lose_no_digits() {
        let utc = |unit| DataType::Timestamp(unit, Some("+00:00".into()));
        let ms = utc(TimeUnit::Millisecond);
        let same = [
            "2026-01-14T10:00:00.123Z",
            "2026-01-14T11:00:00.123+01:00",
            "2026-01-14 10:00:00.123",
            "1768384800123",
        ];
        for text in same {
            let found = shown(&ms, text);
            assert_eq!(found.as_deref(), Some("2026-01-14T10:00:00.123Z"), "{text}");
        }
        assert_eq!(shown(&ms, "2026-01-14T10:00:00.1234Z"), None);
        assert_eq!(shown(&ms, "yesterday"), None);
        assert!(shown(&utc(TimeUnit::Microsecond), "9999-12-30T00:00:00Z").is_some());
        assert_eq!(
            shown(&utc(TimeUnit::Nanosecond), "9999-12-30T00:00:00Z"),
            None
        );
        assert_eq!(
            shown(&DataType::Date32, "1969-12-31").as_deref(),
            Some("1969-12-31")
        );
        assert_eq!(
            shown(&DataType::Time64(TimeUnit::Microsecond), "23:59:59.5").as_deref(),
            Some("23:59:59.500")
        );
        assert_eq!(shown(&DataType::Time32(TimeUnit::Second), "86400"), None);
    }

    #[test]
    fn days_and_times_are_converted_exactly_or_bad() {
        let cases = [
            ("2026-01-14", Some("2026-01-14")),
            ("2026-01-14T00:00:00", Some("2026-01-14")),
            ("2026-01-14T00:00:00Z", Some("2026-01-14")),
            ("2026-01-13T19:00:00-05:00", Some("2026-01-14")),
            ("1969-12-31T00:00Z", Some("1969-12-31")),
            ("2026-01-14T23:30:00-05:00", None),
            ("2026-01-14T10:00:00", None),
            ("2026-01-14T00:00:00.5Z", None),
            ("2026-01-14T00:00:00-05:00", None),
            ("2026-01-14Z", None),
            ("2026-01-14[Europe/Berlin]", None),
            ("10:00:00", None),
        ];
        for (text, expected) in cases {
            let found = shown(&DataType::Date32, text);
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        let cases = [
            ("10:00:00", Some("10:00:00")),
            ("T10:00", Some("10:00:00")),
            ("10:00:00Z", Some("10:00:00")),
            ("10:00:00-08:00", Some("18:00:00")),
            ("20:00:00-08:00", Some("04:00:00")),
            ("01:00:00.250+02:00", Some("23:00:00.250")),
            ("23:59:59+23:59", Some("00:00:59")),
            ("10:00:00+24:00", None),
            ("10:00:00+25:00", None),
            ("10:00:00.0005", None),
            ("2026-01-14T10:00:00Z", None),
            ("2026-01-14", None),
            ("2026-01", None),
            ("10:00:00[Europe/Berlin]", None),
            ("25:00:00", None),
        ];
        for (text, expected) in cases {
            let found = shown(&DataType::Time32(TimeUnit::Millisecond), text);
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        let instant = DataType::Timestamp(TimeUnit::Second, None);
        assert_eq!(shown(&instant, "2026-01-14T10:00:00+25:00"), None);
    }

    #[test]
    fn reals_are_rounded_once() {
        let real = |text: &str| {
            let array = built(&DataType::Float32, |to| number(to, text))?;
            Some(array.as_primitive::<Float32Type>().value(0))
        };
        // Half-way between two floats except for its last digit, which 53 bits cannot hold.
        assert_eq!(real("1.000000178813934326171875"), Some(1.000_000_2));
        for text in [
            "1.00000017881393432617187499",
            "1.00000017881393432617187501",
            "0.1",
            "16777217",
            "3.4028234663852886e38",
            "1e-46",
        ] {
            assert_eq!(real(text), Some(text.parse().unwrap()), "{text}");
        }
        assert_eq!(real("1e39"), None);
        let glance = |digits, places| {
            let array = built(&DataType::Float32, |to| {
                let taken = short(to, digits, places);
                taken.then_some(()).ok_or_else(|| Fault::new("range", ""))
            })?;
            Some(array.as_primitive::<Float32Type>().value(0))
        };
        assert_eq!(glance(16_777_215, 3), Some(16_777.215));
        assert_eq!(glance(16_777_217, 0), None);
        assert_eq!(glance(1, 11), None);
    }

    #[test]
    fn instants_reach_the_ends_of_their_years_and_units() {
        let value = |unit, text: &str| {
            let data_type = DataType::Timestamp(unit, Some("UTC".into()));
            let array = built(&data_type, |to| any_text(to, text))?;
            let array = arrow::compute::cast(&array, &DataType::Int64).unwrap();
            Some(array.as_primitive::<Int64Type>().value(0))
        };
        use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
        let cases = [
            (Second, "9999-12-31T23:59:59Z", Some(253_402_300_799)),
            (
                Millisecond,
                "9999-12-31T23:59:59.999Z",
                Some(253_402_300_799_999),
            ),
            (
                Microsecond,
                "9999-12-31 23:59:59",
                Some(253_402_300_799_000_000),
            ),
            (Second, "9999-12-31T23:59:59-01:30", Some(253_402_306_199)),
            (Second, "9999-12-31T23:59:59+01:30", Some(253_402_295_399)),
            (Nanosecond, "9999-12-31T23:59:59Z", None),
            (Second, "0001-01-01T00:00:00Z", Some(-62_135_596_800)),
            (Second, "-009999-01-01T00:00:00Z", Some(-377_705_116_800)),
            (Second, "+010000-01-01T00:00:00Z", None),
            (Nanosecond, "2262-04-11T23:47:16.854775807Z", Some(i64::MAX)),
            (Nanosecond, "2262-04-11T23:47:16.854775808Z", None),
            (Nanosecond, "1677-09-21T00:12:43.145224192Z", Some(i64::MIN)),
            (Nanosecond, "1677-09-21T00:12:43.145224191Z", None),
            (Millisecond, "1969-12-31T23:59:59.5Z", Some(-500)),
            (Millisecond, "1970-01-01T00:59:59.5+01:00", Some(-500)),
            (Second, "1970-01-02", Some(86_400)),
            (Second, "1970-01-02Z", None),
            (
                Second,
                "2026-01-14T11:00:00+01:00[Europe/Berlin]",
                Some(1_768_384_800),
            ),
            (Second, "2026-01-14T11:00:00[Europe/Berlin]", None),
        ];
        for (unit, text, expected) in cases {
            assert_eq!(value(unit, text), expected, "{text} in {unit:?}");
        }
    }

    #[test]
    fn leap_seconds_are_bad() {
        let second = DataType::Timestamp(TimeUnit::Second, None);
        for text in [
            "2016-12-31T23:59:60Z",
            "2016-12-31 23:59:60.5",
            "2016-12-31t23:59:60+00:00[Europe/Berlin]",
            "20161231T235960Z",
        ] {
            assert_eq!(shown(&second, text), None, "{text}");
        }
        assert!(shown(&second, "2016-12-31T23:59:59+00:00:59").is_some());
        let time = DataType::Time32(TimeUnit::Millisecond);
        assert_eq!(shown(&time, "10:00:60"), None);
        assert_eq!(
            shown(&time, "10:00:59.600").as_deref(),
            Some("10:00:59.600")
        );
    }

    #[test]
    fn other_kinds_are_told() {
        let mut builder = Builder::new(&DataType::Boolean).unwrap();
        let fault = text(&mut builder, "yes").unwrap_err();
        assert_eq!(fault.message, "expected Boolean, found the text 'yes'");
        assert_eq!(shown(&DataType::Binary, "aGk=").as_deref(), Some("6869"));
        assert_eq!(shown(&DataType::Binary, "?"), None);
    }
}
