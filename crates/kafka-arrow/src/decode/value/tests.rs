//! Which values fit which columns.

use super::*;
use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{Decimal128Type, Float32Type, Int64Type, TimeUnit};

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
