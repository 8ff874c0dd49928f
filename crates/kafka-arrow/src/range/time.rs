//! Times in ranges: instants, `now`, and durations that count from either.

use std::fmt;

use jiff::civil::{Date, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{Span, Timestamp};

/// A longer text is not a time. This keeps the search for the separating `:` linear.
const MAX_TEXT_BYTES: usize = 100;

/// Up to this many digits are seconds, which reaches the year 2286.
const MAX_SECOND_DIGITS: usize = 10;

/// Exactly this many digits are milliseconds: the years 2001 to 2286.
const MILLISECOND_DIGITS: usize = 13;

/// A point in time, as the user wrote it.
///
/// | text | meaning |
/// |---|---|
/// | `1768348800` | seconds since 1970, up to ten digits |
/// | `1768348800000` | ms since 1970, exactly thirteen digits |
/// | `2026-01-14` | midnight UTC |
/// | `2026-01-14T10:00`, `2026-01-14 10:00:30.5`, `2026-01-14T10:00:00+02:00` | RFC 3339; seconds and fractions may be left out, without a zone it is UTC |
/// | `now` | the time at which the range is resolved |
/// | `-1h30m`, `-7d`, `2 hours ago` | this long before now |
/// | `500ms`, `1h`, `2w` | this long after the first time of the range |
///
/// Durations have jiff's friendly or ISO 8601 form, without `:` or `,`. Months and years follow the calendar
/// in UTC. Kafka's timestamps are whole milliseconds, so an instant between two of them is rounded up. This
/// selects the same records both as a start and as an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeRef {
    /// An instant, in ms since the epoch; never negative.
    Instant(i64),
    /// The time at which the range is resolved.
    Now,
    /// This long before [`Now`](Self::Now).
    Ago(Period),
    /// This long after the first time of the range.
    After(Period),
}

/// A duration: calendar months, then milliseconds. Neither is negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Period {
    months: i64,
    ms: i64,
}

impl Period {
    /// Whole calendar months; a year is twelve.
    pub fn months(&self) -> i64 {
        self.months
    }

    /// The milliseconds to add to the months.
    pub fn ms(&self) -> i64 {
        self.ms
    }

    fn span(self) -> Option<Span> {
        Span::new()
            .try_months(self.months)
            .and_then(|span| span.try_milliseconds(self.ms))
            .ok()
    }
}

/// Why a text is not a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeProblem {
    /// It has none of the known forms.
    NotATime,
    /// The digits are neither seconds nor milliseconds.
    Digits,
    /// The form is right but a field is not: month 13.
    NoSuchTime,
    /// Kafka has no negative timestamps.
    BeforeEpoch,
    /// The duration is not a whole number of milliseconds.
    TooFine,
    /// A signed number lacks a unit.
    NoUnit,
}

impl TimeProblem {
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::NotATime => {
                "a time (epoch seconds or milliseconds, a date, RFC 3339, a duration or 'now')"
            }
            Self::Digits => "epoch seconds (up to 10 digits) or epoch milliseconds (13 digits)",
            Self::NoSuchTime => "a date and time that exist",
            Self::BeforeEpoch => "a time from 1970-01-01 on, as Kafka's timestamps are",
            Self::TooFine => "a duration of whole milliseconds",
            Self::NoUnit => "a duration with its unit, such as '-1h' or '-30m'",
        }
    }
}

/// Reads one time.
pub(super) fn parse(text: &str) -> Result<TimeRef, TimeProblem> {
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_TEXT_BYTES {
        return Err(TimeProblem::NotATime);
    }
    if text.eq_ignore_ascii_case("now") {
        return Ok(TimeRef::Now);
    }
    if is_digits(text) {
        return epoch(text);
    }
    if let Some((date, rest)) = civil_date(text) {
        return rfc3339(date?, rest).map(TimeRef::Instant);
    }
    if is_digits(text.trim_start_matches(['+', '-'])) {
        return Err(TimeProblem::NoUnit);
    }
    duration(text)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn epoch(digits: &str) -> Result<TimeRef, TimeProblem> {
    let number: i64 = digits.parse().map_err(|_| TimeProblem::Digits)?;
    match digits.len() {
        ..=MAX_SECOND_DIGITS => Ok(TimeRef::Instant(number * 1000)),
        MILLISECOND_DIGITS => Ok(TimeRef::Instant(number)),
        _ => Err(TimeProblem::Digits),
    }
}

/// An instant in ms, if it can be printed as a date.
pub(super) fn instant_ms(ms: i64) -> Result<TimeRef, TimeProblem> {
    if ms < 0 {
        return Err(TimeProblem::BeforeEpoch);
    }
    match Timestamp::from_millisecond(ms) {
        Ok(_) => Ok(TimeRef::Instant(ms)),
        Err(_) => Err(TimeProblem::NoSuchTime),
    }
}

/// A leading `YYYY-MM-DD` and the rest; `None` when the text has another shape.
fn civil_date(text: &str) -> Option<(Result<Date, TimeProblem>, &str)> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() >= 10
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && [0, 1, 2, 3, 5, 6, 8, 9]
            .iter()
            .all(|&i: &usize| bytes[i].is_ascii_digit());
    if !shaped {
        return None;
    }
    // The first ten bytes are ASCII, so these are all boundaries between characters.
    let date = number(&text[..4])
        .zip(number(&text[5..7]))
        .zip(number(&text[8..10]))
        .and_then(|((year, month), day)| {
            Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
        });
    Some((date.ok_or(TimeProblem::NoSuchTime), &text[10..]))
}

/// The time of day and the zone after a date, as ms since the epoch.
fn rfc3339(date: Date, rest: &str) -> Result<i64, TimeProblem> {
    let (time, zone) = match rest.strip_prefix(['T', 't', ' ']) {
        Some(clock) => clock_time(clock)?,
        None if rest.is_empty() => (Time::midnight(), ""),
        None => return Err(TimeProblem::NotATime),
    };
    let offset = zone_offset(zone)?;
    let at = offset
        .to_timestamp(date.to_datetime(time))
        .map_err(|_| TimeProblem::NoSuchTime)?;
    let ns = at.as_nanosecond();
    if ns < 0 {
        return Err(TimeProblem::BeforeEpoch);
    }
    let ms = (ns + 999_999) / 1_000_000;
    i64::try_from(ms).map_err(|_| TimeProblem::NoSuchTime)
}

/// `HH:MM[:SS[.fraction]]` and the rest.
fn clock_time(text: &str) -> Result<(Time, &str), TimeProblem> {
    let (hour, rest) = two_digits(text)?;
    let (minute, mut rest) = two_digits(rest.strip_prefix(':').ok_or(TimeProblem::NotATime)?)?;
    let mut second = 0;
    let mut nanosecond = 0;
    if let Some(seconds) = rest.strip_prefix(':') {
        (second, rest) = two_digits(seconds)?;
        if let Some(fraction) = rest.strip_prefix('.') {
            let end = fraction
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(fraction.len());
            let (digits, after) = fraction.split_at(end);
            if digits.is_empty() || digits.len() > 9 {
                return Err(TimeProblem::NotATime);
            }
            nanosecond = format!("{digits:0<9}")
                .parse()
                .map_err(|_| TimeProblem::NotATime)?;
            rest = after;
        }
    }
    let time = Time::new(hour, minute, second, nanosecond).map_err(|_| TimeProblem::NoSuchTime)?;
    Ok((time, rest))
}

/// Nothing, `Z`, `+HH:MM` or `+HHMM`.
fn zone_offset(text: &str) -> Result<Offset, TimeProblem> {
    if text.is_empty() || text.eq_ignore_ascii_case("z") {
        return Ok(Offset::UTC);
    }
    let sign = match text.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return Err(TimeProblem::NotATime),
    };
    let (hours, rest) = two_digits(&text[1..])?;
    let (minutes, rest) = two_digits(rest.strip_prefix(':').unwrap_or(rest))?;
    if !rest.is_empty() {
        return Err(TimeProblem::NotATime);
    }
    if hours > 23 || minutes > 59 {
        return Err(TimeProblem::NoSuchTime);
    }
    Offset::from_seconds(sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60))
        .map_err(|_| TimeProblem::NoSuchTime)
}

fn two_digits(text: &str) -> Result<(i8, &str), TimeProblem> {
    let digits = text.get(..2).filter(|t| is_digits(t));
    let value = digits.and_then(|t| t.parse().ok());
    value.map(|v| (v, &text[2..])).ok_or(TimeProblem::NotATime)
}

fn number(text: &str) -> Option<i16> {
    text.parse().ok()
}

fn duration(text: &str) -> Result<TimeRef, TimeProblem> {
    if text.contains([':', ',']) {
        return Err(TimeProblem::NotATime);
    }
    let span: Span = text.parse().map_err(|_| TimeProblem::NotATime)?;
    // Not taken from the span: a span of zero has no sign, and "-0s" counts from now.
    let backwards = text.starts_with('-') || text.ends_with("ago");
    let span = span.abs();
    let months = i64::from(span.get_years()) * 12 + i64::from(span.get_months());
    let below_day_ns =
        i128::from(span.get_microseconds()) * 1000 + i128::from(span.get_nanoseconds());
    let ms = i128::from(span.get_weeks()) * 7 * 86_400_000
        + i128::from(span.get_days()) * 86_400_000
        + i128::from(span.get_hours()) * 3_600_000
        + i128::from(span.get_minutes()) * 60_000
        + i128::from(span.get_seconds()) * 1000
        + i128::from(span.get_milliseconds())
        + below_day_ns / 1_000_000;
    if below_day_ns % 1_000_000 != 0 {
        return Err(TimeProblem::TooFine);
    }
    let period = Period {
        months,
        ms: i64::try_from(ms).map_err(|_| TimeProblem::NotATime)?,
    };
    // Only resolution can tell whether the calendar reaches that far. Whether the units hold it can be
    // checked now.
    if period.span().is_none() {
        return Err(TimeProblem::NotATime);
    }
    Ok(if backwards {
        TimeRef::Ago(period)
    } else {
        TimeRef::After(period)
    })
}

impl TimeRef {
    /// The instant in ms since the epoch. `first_ms` is the first time of the range, if it has one.
    ///
    /// `None` when it lies beyond the calendar, or counts from a first time that does not exist. A time
    /// before 1970 becomes 1970, because no record is older.
    pub(super) fn resolve(self, now_ms: i64, first_ms: Option<i64>) -> Option<i64> {
        match self {
            Self::Instant(ms) => Some(ms),
            Self::Now => Some(now_ms.max(0)),
            Self::Ago(period) => {
                let now = calendar(now_ms)?;
                // If the calendar does not reach back that far, the time is before 1970 too.
                let then = now.checked_sub(period.span()?);
                Some(then.map_or(0, |t| t.timestamp().as_millisecond().max(0)))
            }
            Self::After(period) => {
                let then = calendar(first_ms?)?.checked_add(period.span()?).ok()?;
                Some(then.timestamp().as_millisecond())
            }
        }
    }
}

fn calendar(ms: i64) -> Option<jiff::Zoned> {
    Some(
        Timestamp::from_millisecond(ms)
            .ok()?
            .to_zoned(TimeZone::UTC),
    )
}

/// An instant as text: RFC 3339 in UTC.
pub(super) fn instant_text(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |at| at.to_string())
}

impl fmt::Display for TimeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instant(ms) => f.write_str(&instant_text(*ms)),
            Self::Now => f.write_str("now"),
            Self::Ago(period) => write!(f, "-{period}"),
            Self::After(period) => write!(f, "{period}"),
        }
    }
}

impl fmt::Display for Period {
    /// Without spaces, largest unit first: `1mo2d3h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.months == 0 && self.ms == 0 {
            return f.write_str("0s");
        }
        if self.months > 0 {
            write!(f, "{}mo", self.months)?;
        }
        let mut rest = self.ms;
        for (unit, ms) in [
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1000),
            ("ms", 1),
        ] {
            if rest / ms > 0 {
                write!(f, "{}{unit}", rest / ms)?;
            }
            rest %= ms;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-14T00:00:00Z.
    const DAY_MS: i64 = 1_768_348_800_000;

    fn instant(text: &str) -> i64 {
        match parse(text) {
            Ok(TimeRef::Instant(ms)) => ms,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn instants() {
        for (text, ms) in [
            ("0", 0),
            ("1768348800", DAY_MS),
            ("9999999999", 9_999_999_999_000),
            ("1768348800000", DAY_MS),
            ("2026-01-14", DAY_MS),
            ("2026-01-14T00:00", DAY_MS),
            ("2026-01-14T00:00Z", DAY_MS),
            ("2026-01-14 00:00:01", DAY_MS + 1000),
            ("2026-01-14T00:00:00.5z", DAY_MS + 500),
            ("2026-01-14T02:00:00+02:00", DAY_MS),
            ("2026-01-13T18:30-0530", DAY_MS),
            // Rounded up: no record lies between two milliseconds.
            ("2026-01-14T00:00:00.000000001Z", DAY_MS + 1),
            ("2026-01-14T00:00:00.001Z", DAY_MS + 1),
        ] {
            assert_eq!(instant(text), ms, "{text}");
        }
    }

    #[test]
    fn refused_with_the_reason() {
        use TimeProblem::*;
        for (text, problem) in [
            ("", NotATime),
            ("12345678901", Digits),
            ("123456789012", Digits),
            ("12345678901234", Digits),
            ("99999999999999999999999", Digits),
            ("2026-13-01", NoSuchTime),
            ("2026-02-29", NoSuchTime),
            ("2026-01-14T24:00", NoSuchTime),
            ("2026-01-14T10", NotATime),
            ("2026-01-14T10:00:60", NoSuchTime),
            ("2026-01-14T10:00:00.1234567890", NotATime),
            ("2026-01-14T10:00+25:00", NoSuchTime),
            ("2026-01-14X", NotATime),
            ("1969-12-31", BeforeEpoch),
            ("-5", NoUnit),
            ("1us", TooFine),
            ("1day, 2h", NotATime),
            ("10:30:00", NotATime),
            ("yesterday", NotATime),
        ] {
            assert_eq!(parse(text), Err(problem), "{text}");
        }
    }

    #[test]
    fn durations_count_from_now_or_from_the_first_time() {
        let resolved = |text: &str, first| parse(text).unwrap().resolve(DAY_MS, first);
        for (text, first, ms) in [
            ("now", None, DAY_MS),
            ("-1h30m", None, DAY_MS - 5_400_000),
            ("2 hours ago", None, DAY_MS - 7_200_000),
            ("-PT1H", None, DAY_MS - 3_600_000),
            ("-0s", None, DAY_MS),
            ("0s ago", None, DAY_MS),
            ("-1mo", None, DAY_MS - 31 * 86_400_000),
            ("-900y", None, 0),
            ("-9999y", None, 0),
            ("500ms", Some(7), 507),
            ("7d", Some(0), 604_800_000),
            ("2w", Some(0), 1_209_600_000),
            ("1.5s", Some(0), 1500),
            ("1000us", Some(0), 1),
        ] {
            assert_eq!(resolved(text, first), Some(ms), "{text}");
        }
        assert_eq!(resolved("1h", None), None);
        assert_eq!(resolved("9999y", Some(DAY_MS)), None);
        assert_eq!(parse("-1h").unwrap().resolve(i64::MAX, None), None);
    }

    #[test]
    fn printed_canonically() {
        for (text, printed) in [
            ("2026-01-14", "2026-01-14T00:00:00Z"),
            ("2026-01-14T00:00:00.25Z", "2026-01-14T00:00:00.25Z"),
            ("2w", "14d"),
            ("-90m", "-1h30m"),
            ("-1y1ms", "-12mo1ms"),
            ("-0s", "-0s"),
            ("NOW", "now"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), printed);
        }
    }
}
