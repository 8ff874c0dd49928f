//! Writes values in Avro's binary encoding.

use arrow::datatypes::{Decimal256Type, DecimalType, IntervalMonthDayNano, TimeUnit, i256};

use super::plan::{Part, Write};
use crate::encode::cells::{Cells, in_unit};
use crate::encode::scalar::{double, float, integer, unfit, utf8, uuid};
use crate::encode::{Fault, Outcome};

/// The most digits that a power of ten can have here.
const MAX_SHIFT: u32 = 76;

impl Write {
    /// Appends a value. NULL needs a type that allows it.
    pub(super) fn value(&self, cells: &Cells, row: usize, out: &mut Vec<u8>) -> Outcome {
        let null = cells.is_null(row);
        match self {
            Self::Nullable {
                null: place,
                branch,
                of,
            } => {
                if !null {
                    long(*branch as i64, out);
                    return of.value(cells, row, out);
                }
                long(place.ok_or_else(no_null)? as i64, out);
                return Ok(());
            }
            Self::Members { null: place, .. } if null => {
                long(place.ok_or_else(no_null)? as i64, out);
                return Ok(());
            }
            Self::Null if null => return Ok(()),
            _ if null => return Err(no_null()),
            _ => {}
        }
        match (self, cells) {
            (Self::Boolean, Cells::Bool(array)) => out.push(array.value(row).into()),
            (Self::Int, _) => long(integer::<i32>(cells, row)?.into(), out),
            (Self::Long, _) => long(integer(cells, row)?, out),
            (Self::Float, _) => out.extend(float(cells, row)?.to_le_bytes()),
            (Self::Double, _) => out.extend(double(cells, row)?.to_le_bytes()),
            (Self::Bytes, Cells::Bytes(array)) => bytes(array.value(row), out),
            (Self::Bytes, Cells::Text(array)) => bytes(array.value(row).as_bytes(), out),
            (Self::Text, _) => bytes(utf8(cells, row)?.as_bytes(), out),
            (Self::Uuid { binary: true }, _) => out.extend(uuid(cells, row)?.as_bytes()),
            (Self::Uuid { binary: false }, _) => {
                bytes(uuid(cells, row)?.hyphenated().to_string().as_bytes(), out);
            }
            (Self::Date, Cells::Date(array)) => long(array.value(row).into(), out),
            (Self::Moment(unit), Cells::Time(array, from)) => {
                let value = array.value(row);
                let day = 0..86_400 * crate::encode::cells::per_second(*from);
                if !day.contains(&value) {
                    return Err(Fault::new("the time is not one of a day"));
                }
                long(moment(value, *from, *unit)?, out);
            }
            (Self::Moment(unit), Cells::Timestamp(array, from, _)) => {
                long(moment(array.value(row), *from, *unit)?, out);
            }
            (
                Self::Decimal {
                    precision,
                    scale,
                    size,
                },
                _,
            ) => {
                decimal(cells, row, *precision, *scale, *size, out)?;
            }
            (Self::Duration, Cells::Interval(array)) => duration(array.value(row), out)?,
            (Self::Enum(symbols), Cells::Text(array)) => {
                let symbol = array.value(row);
                let place = symbols.get(symbol).ok_or_else(|| {
                    let shown: String = symbol.chars().take(40).collect();
                    Fault::new(format!("'{shown}' is not a symbol of the enum"))
                })?;
                long(*place as i64, out);
            }
            (Self::Fixed(size), Cells::Bytes(array)) => {
                let value = array.value(row);
                if value.len() != *size {
                    return Err(Fault::new(format!(
                        "{} bytes, where the schema has {size}",
                        value.len()
                    )));
                }
                out.extend_from_slice(value);
            }
            (Self::Array(items), Cells::List(ranges, cells)) => {
                let range = ranges.of(row);
                if !range.is_empty() {
                    long(range.len() as i64, out);
                    for item in range {
                        items.value(cells, item, out)?;
                    }
                }
                out.push(0);
            }
            (Self::Map(values), Cells::Map(ranges, entries)) => {
                let range = ranges.of(row);
                if !range.is_empty() {
                    long(range.len() as i64, out);
                    for entry in range {
                        bytes(utf8(&entries.0, entry)?.as_bytes(), out);
                        values.value(&entries.1, entry, out)?;
                    }
                }
                out.push(0);
            }
            (Self::Record(parts), Cells::Struct(_, members)) => {
                for part in parts {
                    match part {
                        Part::Member(place, name, write) => write
                            .value(&members[*place].cells, row, out)
                            .map_err(|fault| fault.of(name))?,
                        Part::Constant(bytes) => out.extend_from_slice(bytes),
                    }
                }
            }
            (Self::Members { null, branches }, Cells::Struct(_, members)) => {
                let mut given = branches
                    .iter()
                    .filter(|branch| !members[branch.member].cells.is_null(row));
                match (given.next(), given.next()) {
                    (None, _) => long(null.ok_or_else(no_null)? as i64, out),
                    (Some(branch), None) => {
                        long(branch.place as i64, out);
                        branch
                            .write
                            .value(&members[branch.member].cells, row, out)
                            .map_err(|fault| fault.of(&branch.name))?;
                    }
                    (Some(first), Some(second)) => {
                        return Err(Fault::new(format!(
                            "a union has one value, but neither '{}' nor '{}' is NULL",
                            first.name, second.name
                        )));
                    }
                }
            }
            _ => return Err(unfit(cells, "another kind of value")),
        }
        Ok(())
    }
}

#[cold]
fn no_null() -> Fault {
    Fault::new("NULL, which the schema does not have here")
}

/// A whole number as a zigzag varint, seven bits per byte.
pub(super) fn long(value: i64, out: &mut Vec<u8>) {
    let mut rest = (value << 1 ^ value >> 63).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub(super) fn bytes(value: &[u8], out: &mut Vec<u8>) {
    long(value.len() as i64, out);
    out.extend_from_slice(value);
}

fn moment(value: i64, from: TimeUnit, to: TimeUnit) -> Result<i64, Fault> {
    in_unit(value, from, to).ok_or_else(|| {
        Fault::new(format!(
            "the schema has {to:?}s, which do not hold the value's {from:?}s; cut it with date_trunc, or \
             CAST it"
        ))
    })
}

/// A decimal's digits in the schema's scale, in as few bytes of two's complement as possible.
fn decimal(
    cells: &Cells,
    row: usize,
    precision: u8,
    scale: i8,
    size: Option<usize>,
    out: &mut Vec<u8>,
) -> Outcome {
    let (value, own) = cells
        .unscaled(row)
        .ok_or_else(|| unfit(cells, "a DECIMAL"))?;
    let misfit = || {
        let shown = cells.decimal_text(row).unwrap_or_else(|| value.to_string());
        Fault::new(format!(
            "{shown} does not fit a decimal of {precision} digits, {scale} of them after the point"
        ))
    };
    let value = rescaled(value, own, scale)
        .filter(|v| Decimal256Type::is_valid_decimal_precision(*v, precision))
        .ok_or_else(misfit)?;
    let all = value.to_be_bytes();
    let sign = if value < i256::ZERO { 0xff } else { 0 };
    // A byte is not needed when the next one already begins with the sign bit.
    let spare = (0..all.len() - 1)
        .take_while(|i| all[*i] == sign && (all[*i + 1] ^ sign) < 0x80)
        .count();
    let least = &all[spare..];
    match size {
        None => bytes(least, out),
        Some(size) if size >= least.len() => {
            out.extend(std::iter::repeat_n(sign, size - least.len()));
            out.extend_from_slice(least);
        }
        Some(_) => return Err(misfit()),
    }
    Ok(())
}

/// `None` when a digit would be lost, or there are too many.
pub(super) fn rescaled(value: i256, from: i8, to: i8) -> Option<i256> {
    let shift = i16::from(to) - i16::from(from);
    let power = u32::from(shift.unsigned_abs());
    if value == i256::ZERO {
        return Some(value);
    }
    if power > MAX_SHIFT {
        return None;
    }
    let power = i256::from_i128(10).checked_pow(power)?;
    match shift >= 0 {
        true => value.checked_mul(power),
        false => (value.checked_rem(power)? == i256::ZERO).then_some(value.checked_div(power)?),
    }
}

/// Months, days and milliseconds, four bytes each.
fn duration(value: IntervalMonthDayNano, out: &mut Vec<u8>) -> Outcome {
    let misfit = || {
        Fault::new("an interval is written in whole months, days and milliseconds, none below 0")
    };
    let part = |value: i64| u32::try_from(value).map_err(|_| misfit());
    if value.nanoseconds % 1_000_000 != 0 {
        return Err(misfit());
    }
    let parts = [
        part(value.months.into())?,
        part(value.days.into())?,
        part(value.nanoseconds / 1_000_000)?,
    ];
    out.extend(parts.into_iter().flat_map(u32::to_le_bytes));
    Ok(())
}
