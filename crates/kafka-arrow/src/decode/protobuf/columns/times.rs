//! Columns of `google.protobuf.Timestamp` and `google.protobuf.Duration`.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use super::Column;
use super::scalar::{Int64, Numbers};
use crate::decode::protobuf::wire::{Fault, Input, Outcome, Wire};
use crate::error::Result;

/// What seconds and nanoseconds mean, and the unit in which they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::decode::protobuf) enum Unit {
    TimestampMicros,
    TimestampNanos,
    DurationMicros,
}

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, the first and the last second of a timestamp.
const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// 10,000 years, by the definition of the type.
const DURATION_SECONDS: std::ops::RangeInclusive<i64> = -315_576_000_000..=315_576_000_000;

const NANOS: i32 = 1_000_000_000;

impl Unit {
    fn value(self, seconds: i64, nanos: i32) -> Outcome<i64> {
        let value = match self {
            Self::TimestampMicros | Self::TimestampNanos => {
                if !TIMESTAMP_SECONDS.contains(&seconds) || !(0..NANOS).contains(&nanos) {
                    return Err(Fault::range(
                        "the timestamp is not between the years 1 and 9999",
                    ));
                }
                if self == Self::TimestampMicros {
                    in_units(seconds, 1_000_000, nanos / 1000)
                } else {
                    in_units(seconds, 1_000_000_000, nanos)
                }
            }
            Self::DurationMicros => {
                let signs_differ = seconds.signum() * i64::from(nanos.signum()) < 0;
                let fits = DURATION_SECONDS.contains(&seconds) && nanos > -NANOS && nanos < NANOS;
                if !fits || signs_differ {
                    return Err(Fault::range(
                        "the duration is invalid or longer than 10,000 years",
                    ));
                }
                in_units(seconds, 1_000_000, nanos / 1000)
            }
        };
        value.ok_or_else(|| {
            Fault::range("the timestamp does not fit in nanoseconds, which end in the year 2262")
        })
    }
}

fn in_units(seconds: i64, per_second: i64, rest: i32) -> Option<i64> {
    // In 128 bits, because the product may overflow 64 bits while the sum with `rest` fits.
    let value = i128::from(seconds) * i128::from(per_second) + i128::from(rest);
    i64::try_from(value).ok()
}

/// A column of timestamps or durations.
#[derive(Debug)]
pub(in crate::decode::protobuf) struct Times {
    values: Numbers<Int64>,
    /// Seconds and nanoseconds of the last row, kept because a message that comes twice is merged.
    last: (i64, i32),
    unit: Unit,
}

impl Times {
    pub(in crate::decode::protobuf) fn new(unit: Unit, data_type: DataType, rows: usize) -> Self {
        Self {
            values: Numbers::new(false, data_type, rows),
            last: (0, 0),
            unit,
        }
    }
}

impl Column for Times {
    fn read(&mut self, row: usize, input: &mut Input<'_>, wire: Wire) -> Outcome<()> {
        wire.expect(Wire::Delimited)?;
        let mut input = input.within()?;
        if !self.values.holds(row) {
            self.last = (0, 0);
        }
        while !input.is_empty() {
            let (number, wire) = input.tag()?;
            match number {
                1 => {
                    wire.expect(Wire::Varint).map_err(|f| f.within("seconds"))?;
                    self.last.0 = input.varint()?.cast_signed();
                }
                2 => {
                    wire.expect(Wire::Varint).map_err(|f| f.within("nanos"))?;
                    self.last.1 = input.varint()? as i32;
                }
                _ => input.skip(number, wire)?,
            }
        }
        let value = self.unit.value(self.last.0, self.last.1)?;
        self.values.set(row, value);
        Ok(())
    }

    fn present(&mut self, row: usize) -> Outcome<()> {
        if !self.values.holds(row) {
            self.last = (0, 0);
        }
        self.values.present(row)
    }

    fn close(&mut self, _: usize) -> Outcome<()> {
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
    }

    fn finish(&mut self, rows: usize) -> Result<ArrayRef> {
        self.values.finish(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_types() {
        use Unit::{DurationMicros, TimestampMicros, TimestampNanos};
        for (unit, seconds, nanos, expected) in [
            (TimestampMicros, 0, 1_999, Some(1)),
            (TimestampMicros, -1, 999_999_999, Some(-1)),
            (
                TimestampMicros,
                -62_135_596_800,
                0,
                Some(-62_135_596_800_000_000),
            ),
            (TimestampMicros, -62_135_596_801, 0, None),
            (
                TimestampMicros,
                253_402_300_799,
                999_999_999,
                Some(253_402_300_799_999_999),
            ),
            (TimestampMicros, 253_402_300_800, 0, None),
            (TimestampMicros, 0, -1, None),
            (TimestampMicros, 0, 1_000_000_000, None),
            (TimestampMicros, i64::MIN, i32::MIN, None),
            (TimestampNanos, 1, 7, Some(1_000_000_007)),
            (TimestampNanos, 9_223_372_036, 854_775_807, Some(i64::MAX)),
            (TimestampNanos, 9_223_372_036, 854_775_808, None),
            (TimestampNanos, -9_223_372_037, 145_224_192, Some(i64::MIN)),
            (TimestampNanos, -9_223_372_037, 145_224_191, None),
            (DurationMicros, -1, -500_000_000, Some(-1_500_000)),
            (DurationMicros, 0, -1_999, Some(-1)),
            (DurationMicros, 1, -1, None),
            (DurationMicros, -1, 1, None),
            (
                DurationMicros,
                315_576_000_000,
                0,
                Some(315_576_000_000_000_000),
            ),
            (DurationMicros, 315_576_000_001, 0, None),
            (DurationMicros, 0, i32::MIN, None),
            (DurationMicros, i64::MIN, 0, None),
        ] {
            let found = unit.value(seconds, nanos);
            let class = found.as_ref().err().map(|f| f.class);
            assert_eq!(found.ok(), expected, "{unit:?} of {seconds} s, {nanos} ns");
            assert!(class.is_none_or(|c| c == "range"));
        }
    }
}
