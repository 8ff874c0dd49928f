//! Numbers, times and texts of others, as people read them.

use askama::Template;
use datafusion_kafka::text::visible;
use jiff::Timestamp;

/// A number with commas between its thousands.
pub(super) fn number(number: impl Into<i128>) -> String {
    let number = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 2);
    if number < 0 {
        text.push('-');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of which the order of magnitude matters: `0.4`, `17`, `12,345`.
pub(super) fn rate(rate: f64) -> String {
    match rate {
        rate if rate <= 0.0 || !rate.is_finite() => "0".to_owned(),
        rate if rate < 10.0 => format!("{rate:.1}"),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounded, and cut where it is too large"
        )]
        rate => number(rate.round() as i64),
    }
}

/// How long something took or has lasted: `3.2 ms`, `4.1 s`, `5 min 3 s`, `2 h 5 min`, `3 d 4 h`.
pub(super) fn duration(ms: f64) -> String {
    if !ms.is_finite() || ms <= 0.0 {
        return "0 s".to_owned();
    }
    if ms < 1_000.0 {
        return format!("{ms:.1} ms");
    }
    if ms < 60_000.0 {
        return format!("{:.1} s", ms / 1_000.0);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and cut where it is too large"
    )]
    let seconds = (ms / 1_000.0) as u64;
    let (large, small) = match seconds {
        0..3_600 => ((seconds / 60, "min"), (seconds % 60, "s")),
        3_600..86_400 => ((seconds / 3_600, "h"), (seconds / 60 % 60, "min")),
        _ => ((seconds / 86_400, "d"), (seconds / 3_600 % 24, "h")),
    };
    format!("{} {} {} {}", large.0, large.1, small.0, small.1)
}

/// The same in seconds.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds < 1.0 {
        true => "0 s".to_owned(),
        false => duration(seconds * 1_000.0),
    }
}

/// Bytes in the largest unit of which there is one.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64 / 1_000.0;
    let mut unit = 0;
    while value >= 1_000.0 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Text of records, brokers and errors: what a terminal would obey or a reader would not see is escaped.
pub(super) fn shown(text: &str) -> String {
    visible(text, &[]).into_owned()
}

/// A part of a path.
pub(super) fn segment(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                path.push(char::from(byte));
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

/// A moment, said as how long ago it was. The script counts on.
#[derive(Debug, Clone, Template)]
#[template(
    ext = "html",
    source = r#"{% if let Some(at) = at %}<time datetime="{{ at }}" data-ms="{{ ms }}" title="{{ at }}">{{ said }}</time>{% else %}never{% endif %}"#
)]
pub(super) struct When {
    at: Option<Timestamp>,
    ms: i64,
    said: String,
}

impl When {
    pub(super) fn new(ms: Option<i64>, now_ms: i64) -> Self {
        let at = ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let ms = ms.unwrap_or_default();
        Self {
            at,
            ms,
            said: ago(ms, now_ms),
        }
    }
}

fn ago(ms: i64, now_ms: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "seconds are shown")]
    let passed = now_ms.saturating_sub(ms) as f64;
    match passed {
        passed if passed < -999.0 => format!("in {}", seconds(-passed / 1_000.0)),
        passed if passed < 1_000.0 => "now".to_owned(),
        #[expect(clippy::cast_possible_truncation, reason = "less than a minute")]
        passed if passed < 60_000.0 => format!("{} s ago", (passed / 1_000.0) as i64),
        passed => format!("{} ago", duration(passed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_divided_at_thousands() {
        let shown = [0, 7, 999, 1_000, -1_234_567].map(|n: i64| number(n));
        assert_eq!(shown, ["0", "7", "999", "1,000", "-1,234,567"]);
        assert_eq!(number(u64::MAX), "18,446,744,073,709,551,615");
        let rates = [0.0, f64::NAN, 0.42, 9.96, 17.4, 12_345.6].map(rate);
        assert_eq!(rates, ["0", "0", "0.4", "10.0", "17", "12,346"]);
    }

    #[test]
    fn times_have_two_units_at_most() {
        let shown = [0.0, 3.21, 4_100.0, 303_000.0, 7_500_000.0, 270_000_000.0].map(duration);
        let expected = [
            "0 s",
            "3.2 ms",
            "4.1 s",
            "5 min 3 s",
            "2 h 5 min",
            "3 d 3 h",
        ];
        assert_eq!(shown, expected);
        let now = 1_000_000_000;
        let ago = [now, now - 2_900, now - 65_000, now + 30_000].map(|ms| ago(ms, now));
        assert_eq!(ago, ["now", "2 s ago", "1 min 5 s ago", "in 30.0 s"]);
        assert_eq!(When::new(None, now).to_string(), "never");
        assert_eq!(
            When::new(Some(0), 0).to_string(),
            r#"<time datetime="1970-01-01T00:00:00Z" data-ms="0" title="1970-01-01T00:00:00Z">now</time>"#
        );
    }

    #[test]
    fn texts_of_others_stay_texts() {
        assert_eq!(shown("a\u{202e}b\nc"), r"a\u202eb\nc");
        assert_eq!(segment("a b/ü?"), "a%20b%2F%C3%BC%3F");
        assert_eq!(
            [0, 999, 1_000, 2_500_000].map(bytes),
            ["0 B", "999 B", "1.0 kB", "2.5 MB"]
        );
    }
}
