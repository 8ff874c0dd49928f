//! Texts of numbers, moments and JSON, each in one form that all texts of the same value share.

use arrow::datatypes::DataType;
use jiff::civil;
use serde_json::Value;

use crate::sink::item_of;

/// A decimal number without superfluous zeros and exponent; `None` if the text is none.
pub(super) fn number(text: &str) -> Option<String> {
    /// Numbers with more zeros have an exponent.
    const ZEROS: i64 = 80;
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let from_first = digits.trim_start_matches('0');
    let kept = from_first.trim_end_matches('0');
    if kept.is_empty() {
        return Some("0".to_owned());
    }
    let cut = from_first.len() - kept.len();
    let length = |length: usize| i64::try_from(length).ok();
    let exponent = exponent
        .checked_sub(length(fraction.len())?)?
        .checked_add(length(cut)?)?;
    Some(match usize::try_from(exponent.unsigned_abs()).ok()? {
        zeros if (0..=ZEROS).contains(&exponent) => format!("{sign}{kept}{}", "0".repeat(zeros)),
        scale if (-ZEROS..0).contains(&exponent) => {
            let digits = format!("{kept:0>width$}", width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            format!("{sign}{whole}.{fraction}")
        }
        _ => format!("{sign}{kept}e{exponent}"),
    })
}

/// A moment, date or time of day in ISO 8601, with the digits it needs.
pub(super) fn moment(text: &str, of: &DataType) -> Option<String> {
    Some(match of {
        DataType::Timestamp(_, Some(_)) => {
            let in_utc: civil::DateTime = match text.strip_suffix('Z') {
                Some(text) => text.parse().ok()?,
                None => {
                    let moment: jiff::Timestamp = text.parse().ok()?;
                    moment.to_zoned(jiff::tz::TimeZone::UTC).datetime()
                }
            };
            format!("{in_utc}Z")
        }
        DataType::Timestamp(_, None) => text.parse::<civil::DateTime>().ok()?.to_string(),
        DataType::Date32 | DataType::Date64 => text.parse::<civil::Date>().ok()?.to_string(),
        DataType::Time32(_) | DataType::Time64(_) => text.parse::<civil::Time>().ok()?.to_string(),
        _ => return None,
    })
}

/// A UUID as its hexadecimal digits.
pub(super) fn uuid(text: &str) -> String {
    text.replace('-', "").to_lowercase()
}

/// JSON with sorted names, no spaces, and values in the forms of a type, as far as that says which.
pub(super) fn json(text: &str, of: &DataType) -> String {
    match serde_json::from_str(&with_numbers_as_texts(text)) {
        Ok(value) => canonical(&value, of),
        Err(_) => text.to_owned(),
    }
}

/// What marks a text that was a number: JSON's own numbers would be rounded.
const NUMBER: char = '\0';

fn with_numbers_as_texts(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + 16);
    let mut rest = json;
    let (mut quoted, mut escaped) = (false, false);
    while let Some(next) = rest.chars().next() {
        if !quoted && (next == '-' || next.is_ascii_digit()) {
            let part = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
            let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
            let found = &rest[..end];
            let number = number(found);
            out.push_str("\"\\u0000");
            out.push_str(number.as_deref().unwrap_or(found));
            out.push('"');
            rest = &rest[end..];
            continue;
        }
        match next {
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = quoted && next == '\\' && !escaped;
        out.push(next);
        rest = &rest[next.len_utf8()..];
    }
    out
}

fn canonical(value: &Value, of: &DataType) -> String {
    let of = match of {
        DataType::Dictionary(_, values) => values.as_ref(),
        DataType::RunEndEncoded(_, values) => values.data_type(),
        other => other,
    };
    match value {
        Value::String(text) => match text.strip_prefix(NUMBER) {
            Some(number) => number.to_owned(),
            None => leaf(text, of),
        },
        Value::Array(items) => {
            let of = item_of(of).map_or(&DataType::Null, |item| item.data_type());
            let items: Vec<String> = items.iter().map(|item| canonical(item, of)).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            let fields: Vec<String> = fields
                .into_iter()
                .map(|(name, value)| {
                    let of = type_of(name, of).unwrap_or(&DataType::Null);
                    format!("{}:{}", Value::from(name.as_str()), canonical(value, of))
                })
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        other => other.to_string(),
    }
}

/// The type of a struct's field or a map's values.
fn type_of<'a>(name: &str, of: &'a DataType) -> Option<&'a DataType> {
    match of {
        DataType::Struct(fields) => fields.find(name).map(|(_, field)| field.data_type()),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(entry) => entry.get(1).map(|field| field.data_type()),
            _ => None,
        },
        _ => None,
    }
}

fn leaf(text: &str, of: &DataType) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    match of {
        // Databases and JSON disagree on how to write what is no number.
        DataType::Float16 | DataType::Float32 | DataType::Float64 => "null".to_owned(),
        of if of.is_numeric() => number(text).unwrap_or_else(|| quoted(text)),
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => quoted(text.strip_prefix("\\x").unwrap_or(text)),
        of => quoted(&moment(text, of).unwrap_or_else(|| text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, TimeUnit};

    use super::*;

    #[test]
    fn a_number_has_one_text() {
        let same = [
            ("1.50", "1.5"),
            ("-0.0", "0"),
            ("1e3", "1000"),
            ("007", "7"),
            ("1E-2", "0.01"),
            ("12345678901234567890.10", "12345678901234567890.1"),
        ];
        for (text, expected) in same {
            assert_eq!(number(text).as_deref(), Some(expected));
        }
        assert_eq!(number("1e300"), number(&format!("1{}", "0".repeat(300))));
        for none in ["", "-", "NaN", "1.2.3", "0x1", "1e"] {
            assert_eq!(number(none), None, "{none}");
        }
    }

    #[test]
    fn json_has_one_text_whoever_wrote_it() {
        let fields = vec![
            Field::new(
                "at",
                DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
                true,
            ),
            Field::new("b", DataType::Binary, true),
            Field::new("d", DataType::Decimal128(20, 2), true),
            Field::new("n", DataType::Int64, true),
        ];
        let item = Field::new("item", DataType::Struct(fields.into()), true);
        let of = DataType::List(Arc::new(item));
        let arrow = r#"[{"at":"2026-01-14T00:00:00.500Z","b":"00ff","d":"1.50","n":9007199254740993},null]"#;
        let postgres = r#"[{"n": 9007199254740993, "b": "\\x00ff", "d": 1.5, "at": "2026-01-14T01:00:00.5+01:00"}, null]"#;
        assert_eq!(json(arrow, &of), json(postgres, &of));
        let changed = postgres.replace("993", "992");
        assert_ne!(json(arrow, &of), json(&changed, &of));
        // A text is no number, and quotes in it end nothing.
        let untyped = |text| json(text, &DataType::Utf8);
        assert_ne!(untyped("[1]"), untyped("[\"1\"]"));
        assert_eq!(
            untyped(r#"{"b": "\" 1.0", "a": 1.0}"#),
            r#"{"a":1,"b":"\" 1.0"}"#
        );
        assert_eq!(untyped("no json"), "no json");
    }
}
