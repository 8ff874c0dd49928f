//! Instants, days and times of the day, as text in ISO 8601.

use arrow::datatypes::{DataType, TimeUnit};
use jiff::SignedDuration;
use jiff::civil::{DateTime, Time};
use jiff::fmt::temporal::Pieces;

use super::{Fault, quoted};

pub(super) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// An instant, a date or a time of day in the type's unit, converted to UTC if it has an offset. A date may
/// stand for the instant at which it begins. A leap second is an error, because no unit can represent it.
pub(super) fn moment(text: &str, data_type: &DataType) -> std::result::Result<i64, Fault> {
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
