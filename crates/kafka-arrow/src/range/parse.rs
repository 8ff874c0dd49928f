//! Parses the grammar of ranges, with one small function for each of its parts.

use std::collections::BTreeMap;

use super::spark;
use super::spec::{Bound, Form, Interval, RangeSpec};
use super::syntax::{Part, RangeSyntaxError};
use super::time::{self, TimeProblem, TimeRef};

type Parsed<T> = Result<T, RangeSyntaxError>;

const GROUP: &str = "group:";
const A_RANGE: &str = "a range such as 'start:end', '100:200', '-10', '@-1h' or '0=100:200'";
const A_BOUND: &str =
    "an offset, '+N', '-N', 'start', 'end', '@' and a time, or 'group:' and a name";
const AN_END: &str = "an offset, '+N', '-N', 'end', or '@' and a time";
const AN_OFFSET: &str = "an offset up to 9223372036854775807";

/// The whole text of a range.
pub(super) fn range(input: &str) -> Parsed<RangeSpec> {
    let text = Part::whole(input).trim();
    if text.is_empty() {
        return Err(text.error_at_text(A_RANGE));
    }
    if text.text().starts_with('{') {
        return spark::parse_offsets_json(text);
    }
    if let Some(options) = text.text().strip_prefix(spark::PREFIX) {
        let (_, json) = text.split_at(text.text().len() - options.len());
        return spark::parse_options_json(json.trim());
    }
    list(text)
}

/// Items separated by commas.
fn list(text: Part<'_>) -> Parsed<RangeSpec> {
    let mut rest = None;
    let mut partitions = BTreeMap::new();
    let mut remaining = Some(text);
    while let Some(part) = remaining {
        let (raw, after) = match part.split_once(',') {
            Some((item, after)) => (item, Some(after)),
            None => (part, None),
        };
        remaining = after;
        let item = raw.trim();
        if item.is_empty() {
            return Err(item.error_at_char(A_RANGE));
        }
        match numbered(item)? {
            Some((partition, text)) => {
                let interval = interval(text.trim())?;
                if partitions.insert(partition, interval).is_some() {
                    return Err(item.error_found(
                        0,
                        "each partition once",
                        format!("partition {partition} again"),
                    ));
                }
            }
            None => {
                let interval = interval(item)?;
                if rest.replace(interval).is_some() {
                    return Err(item.error_at_text(
                        "a partition and '=' (one range may stand for all others)",
                    ));
                }
            }
        }
    }
    Ok(RangeSpec(Form::Listed { rest, partitions }))
}

/// The number and the text of `N=…`; `None` for an item without a number.
fn numbered(item: Part<'_>) -> Parsed<Option<(i32, Part<'_>)>> {
    if item.text().starts_with(GROUP) {
        return Ok(None);
    }
    let Some((number, text)) = item.split_once('=') else {
        return Ok(None);
    };
    let number = number.trim();
    let digits = number.text();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(number.error_at_text("the number of a partition before '='"));
    }
    let partition = digits
        .parse()
        .map_err(|_| number.error_at_text("the number of a partition, up to 2147483647"))?;
    Ok(Some((partition, text)))
}

/// One range.
fn interval(text: Part<'_>) -> Parsed<Interval> {
    if let Some(times) = text.strip('@') {
        return time_interval(times);
    }
    if text.text().starts_with(GROUP) {
        return group(text);
    }
    offset_interval(text).map_err(|error| {
        // "-1h" and "2026-01-14" would be times if they had an '@'.
        match time_interval(text) {
            Ok(_) => text.error_at_text("'@' before a time"),
            Err(_) => error,
        }
    })
}

fn group(text: Part<'_>) -> Parsed<Interval> {
    let name = text.split_at(GROUP.len()).1.trim();
    if name.is_empty() {
        return Err(name.error_at_char("the name of a consumer group"));
    }
    Ok(Interval {
        start: Bound::Group(name.text().to_owned()),
        end: Bound::LogEnd,
    })
}

/// A range whose start is not a time.
fn offset_interval(text: Part<'_>) -> Parsed<Interval> {
    let (start, rest) = match text.strip(':') {
        Some(_) => (Bound::LogStart, text),
        None => {
            let (kcat, start, rest) = first_bound(text)?;
            let rest = rest.trim();
            if rest.is_empty() && kcat == Some('e') {
                return Ok(Interval {
                    start: Bound::LogStart,
                    end: start,
                });
            }
            if kcat == Some('e') {
                return Err(rest.error_at_char("nothing more after an end 'e@'"));
            }
            (start, rest)
        }
    };
    if rest.is_empty() {
        return Ok(Interval {
            start,
            end: Bound::LogEnd,
        });
    }
    let Some(end) = rest.strip(':') else {
        return Err(rest.error_at_char("':'"));
    };
    let end = end.trim();
    if end.is_empty() {
        return Ok(Interval {
            start,
            end: Bound::LogEnd,
        });
    }
    let end = end_bound(end, &start)?;
    Ok(Interval { start, end })
}

/// The bound at the beginning of the text: kcat's letter if it has the form `s@` or `e@`, the bound, and the
/// rest.
fn first_bound(text: Part<'_>) -> Parsed<(Option<char>, Bound, Part<'_>)> {
    let (word, rest) = text.take_while(|c| c.is_ascii_alphabetic());
    if word.is_empty() {
        let (bound, rest) = counted(text)?;
        return Ok((None, bound, rest));
    }
    let bound = match word.text().to_ascii_lowercase().as_str() {
        "start" | "earliest" | "beginning" | "oldest" => Bound::LogStart,
        "end" | "latest" | "newest" => Bound::LogEnd,
        "stored" => {
            return Err(word.error_at_text(
                "'group:NAME' (which consumer group's stored offsets must be said)",
            ));
        }
        side @ ("s" | "e") if rest.text().starts_with('@') => {
            let side = side.chars().next();
            let (digits, after) = rest.split_at(1).1.take_while(|c| c.is_ascii_digit());
            let time = digits
                .text()
                .parse()
                .map_err(|_| TimeProblem::Digits)
                .and_then(time::instant_ms)
                .map_err(|_| digits.error_at_text("milliseconds since 1970 after '@'"))?;
            return Ok((side, Bound::Time(time), after));
        }
        _ => return Err(word.error_at_text(A_BOUND)),
    };
    Ok((None, bound, rest))
}

/// `N`, `+N` or `-N`, and the rest.
fn counted(text: Part<'_>) -> Parsed<(Bound, Part<'_>)> {
    let (bound, unsigned): (fn(i64) -> Bound, _) = match (text.strip('+'), text.strip('-')) {
        (Some(rest), _) => (Bound::AfterStart, rest),
        (_, Some(rest)) => (Bound::BeforeEnd, rest),
        _ => (Bound::Offset, text),
    };
    let (digits, rest) = unsigned.take_while(|c| c.is_ascii_digit());
    if digits.is_empty() {
        let signed = unsigned.text().len() < text.text().len();
        return Err(unsigned.error_at_char(if signed { "digits" } else { A_BOUND }));
    }
    let number = digits
        .text()
        .parse()
        .map_err(|_| digits.error_at_text(AN_OFFSET))?;
    Ok((bound(number), rest))
}

/// The whole text after the separator is one bound.
fn end_bound(text: Part<'_>, start: &Bound) -> Parsed<Bound> {
    if let Some(time) = text.strip('@') {
        return end_time(time, matches!(start, Bound::Time(_)));
    }
    if text.text().starts_with(GROUP) {
        return Err(text.error_at_text(AN_END));
    }
    let (kcat, end, rest) = first_bound(text)?;
    if !rest.is_empty() {
        return Err(rest.error_at_char("the end of the range"));
    }
    match (kcat, start, &end) {
        (Some('s'), ..) => Err(text.error_at_text("an end; 's@' starts a range")),
        // Only kcat's forms can get here with a time as start.
        (_, Bound::Time(_), Bound::Time(_) | Bound::LogEnd) => Ok(end),
        (_, Bound::Time(_), _) => Err(text.error_at_text("'end' or a time to end at")),
        _ => Ok(end),
    }
}

/// What follows a leading `@`: `T`, `T1:T2`, `T1:` or `:T2`.
fn time_interval(text: Part<'_>) -> Parsed<Interval> {
    let text = text.trim();
    if let Some(end) = text.strip(':') {
        return Ok(Interval {
            start: Bound::LogStart,
            end: end_time(unmarked(end), false)?,
        });
    }
    // The longest first time wins: the whole text, then each ':' from the right.
    if let Ok(start) = first_time(text.text()) {
        return Ok(Interval {
            start: Bound::Time(start),
            end: Bound::LogEnd,
        });
    }
    let mut right_error = None;
    for (colon, _) in text.text().rmatch_indices(':') {
        let (left, right) = text.split_at(colon);
        let Ok(start) = first_time(left.text()) else {
            continue;
        };
        let right = right.split_at(1).1;
        match time_end(right) {
            Ok(end) => {
                return Ok(Interval {
                    start: Bound::Time(start),
                    end,
                });
            }
            // The most useful error is the one about the longest first time.
            Err(error) => right_error = right_error.or(Some(error)),
        }
    }
    Err(right_error.unwrap_or_else(|| first_time_error(text)))
}

/// The end of `@T1:T2`: a time, the end of the log, or nothing.
fn time_end(text: Part<'_>) -> Parsed<Bound> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(Bound::LogEnd);
    }
    match text.text().to_ascii_lowercase().as_str() {
        "end" | "latest" | "newest" => Ok(Bound::LogEnd),
        _ => end_time(unmarked(text), true),
    }
}

/// Removes an extra `@`: `@T1:@T2` means the same as `@T1:T2`.
fn unmarked(text: Part<'_>) -> Part<'_> {
    let text = text.trim();
    text.strip('@').unwrap_or(text)
}

/// A time as an end. `counted` says whether there is a first time from which a duration can count.
fn end_time(text: Part<'_>, counted: bool) -> Parsed<Bound> {
    let text = text.trim();
    match time::parse(text.text()) {
        Ok(TimeRef::After(_)) if !counted => Err(text.error_at_text(
            "a time, or a duration before now such as '-1h' (there is no first time to count from)",
        )),
        Ok(time) => Ok(Bound::Time(time)),
        Err(problem) => Err(text.error_at_text(problem.expected())),
    }
}

/// A time as a start. It cannot count from a first time.
fn first_time(text: &str) -> Result<TimeRef, Option<TimeProblem>> {
    match time::parse(text) {
        Ok(TimeRef::After(_)) => Err(None),
        other => other.map_err(Some),
    }
}

/// The error when no beginning of the text is a time, as precise as one of them allows.
fn first_time_error(text: Part<'_>) -> RangeSyntaxError {
    let first = text.split_once(':').map_or(text, |(first, _)| first).trim();
    for part in [first, text] {
        match first_time(part.text()) {
            Err(None) => {
                return part.error_at_text("a time, or a duration before now such as '-1h'");
            }
            Err(Some(problem)) if problem != TimeProblem::NotATime => {
                return part.error_at_text(problem.expected());
            }
            _ => {}
        }
    }
    text.error_at_text(TimeProblem::NotATime.expected())
}
