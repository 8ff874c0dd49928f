//! Writes values in Protobuf's wire format.

use std::collections::HashMap;

use super::plan::{Absent, FieldPlan, MessagePlan, Scalar, Shape, Value};
use super::wire::{Wire, delimited, tag, varint, zigzag};
use crate::encode::cells::{Cells, Member};
use crate::encode::scalar::{double, float, integer, unfit, utf8};
use crate::encode::text::split;
use crate::encode::{Fault, Outcome};

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, the first and the last second of a timestamp.
const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// 10,000 years, by the definition of the type.
const DURATION_SECONDS: std::ops::RangeInclusive<i64> = -315_576_000_000..=315_576_000_000;

impl MessagePlan {
    /// Appends the fields of a message.
    pub(super) fn write(&self, members: &[Member], row: usize, out: &mut Vec<u8>) -> Outcome {
        for oneof in &self.oneofs {
            let mut set = oneof
                .iter()
                .map(|place| &self.fields[*place])
                .filter(|field| !members[field.member].cells.is_null(row));
            if let (Some(first), Some(second)) = (set.next(), set.next()) {
                return Err(Fault::new(format!(
                    "'{}' and '{}' belong to one oneof, and neither is NULL",
                    first.name, second.name
                )));
            }
        }
        for field in &self.fields {
            field
                .write(&members[field.member].cells, row, out)
                .map_err(|fault| fault.of(&field.name))?;
        }
        Ok(())
    }
}

impl FieldPlan {
    fn write(&self, cells: &Cells, row: usize, out: &mut Vec<u8>) -> Outcome {
        let null = cells.is_null(row);
        match (&self.shape, cells) {
            (Shape::One { absent, .. }, _) if null => match absent {
                Absent::Null => Ok(()),
                Absent::Default => Err(Fault::new(
                    "NULL, which the field cannot represent: it would be read as its default; write a value \
                     with coalesce, or make the field 'optional' in the schema",
                )),
                Absent::Broken => Err(Fault::new("NULL, and the field is required")),
            },
            _ if null => Ok(()),
            (Shape::One { value, absent }, cells) => {
                let before = out.len();
                value.tagged(self.number, cells, row, out)?;
                if *absent == Absent::Default && value.is_default(cells, row) {
                    // Leaving it out means the same.
                    out.truncate(before);
                }
                Ok(())
            }
            (Shape::List { items, packed }, Cells::List(ranges, cells)) => {
                let range = ranges.of(row);
                if range.clone().any(|item| cells.is_null(item)) {
                    return Err(Fault::new(
                        "an item of the list is NULL, which Protobuf does not allow",
                    ));
                }
                if *packed && !range.is_empty() {
                    tag(self.number, Wire::Delimited, out);
                    return delimited(out, |out| {
                        range
                            .into_iter()
                            .try_for_each(|item| items.bare(cells, item, out))
                    });
                }
                range
                    .into_iter()
                    .try_for_each(|item| items.tagged(self.number, cells, item, out))
            }
            (Shape::Map { keys, values }, Cells::Map(ranges, entries)) => {
                for entry in ranges.of(row) {
                    if entries.1.is_null(entry) {
                        return Err(Fault::new(
                            "a value of the map is NULL, which Protobuf does not allow",
                        ));
                    }
                    tag(self.number, Wire::Delimited, out);
                    delimited(out, |out| {
                        keys.tagged(1, &entries.0, entry, out)?;
                        values.tagged(2, &entries.1, entry, out)
                    })?;
                }
                Ok(())
            }
            (_, cells) => Err(unfit(cells, "a list or a map")),
        }
    }
}

impl Value {
    fn wire(&self) -> Wire {
        match self {
            Self::Scalar(scalar) => scalar.wire(),
            Self::Enum(_) => Wire::Varint,
            Self::Message { group: true, .. } => Wire::GroupStart,
            _ => Wire::Delimited,
        }
    }

    fn tagged(&self, number: u32, cells: &Cells, row: usize, out: &mut Vec<u8>) -> Outcome {
        tag(number, self.wire(), out);
        self.bare(cells, row, out)?;
        if self.wire() == Wire::GroupStart {
            tag(number, Wire::GroupEnd, out);
        }
        Ok(())
    }

    /// Appends the value without its tag, but with its length.
    fn bare(&self, cells: &Cells, row: usize, out: &mut Vec<u8>) -> Outcome {
        match (self, cells) {
            (Self::Scalar(scalar), _) => scalar.write(cells, row, out),
            (Self::Enum(names), _) => {
                let number = number_of(names, cells, row)?;
                varint(i64::from(number).cast_unsigned(), out);
                Ok(())
            }
            (Self::Wrapped(scalar), _) => delimited(out, |out| {
                if !scalar.is_default(cells, row) {
                    tag(1, scalar.wire(), out);
                    scalar.write(cells, row, out)?;
                }
                Ok(())
            }),
            (Self::Timestamp, Cells::Timestamp(array, unit, _)) => {
                let (seconds, nanos) = split(array.value(row), *unit);
                if !TIMESTAMP_SECONDS.contains(&seconds) {
                    return Err(Fault::new(
                        "the timestamp is not between the years 1 and 9999",
                    ));
                }
                moment(seconds, nanos, out)
            }
            (Self::Duration, Cells::Duration(array, unit)) => {
                let (mut seconds, mut nanos) = split(array.value(row), *unit);
                // Both parts have the same sign.
                if seconds < 0 && nanos > 0 {
                    (seconds, nanos) = (seconds + 1, nanos - 1_000_000_000);
                }
                if !DURATION_SECONDS.contains(&seconds) {
                    return Err(Fault::new("the duration is longer than 10,000 years"));
                }
                moment(seconds, nanos, out)
            }
            (Self::Message { plan, group: true }, Cells::Struct(_, members)) => {
                plan.write(members, row, out)
            }
            (Self::Message { plan, .. }, Cells::Struct(_, members)) => {
                delimited(out, |out| plan.write(members, row, out))
            }
            (_, cells) => Err(unfit(cells, "another kind of value")),
        }
    }

    fn is_default(&self, cells: &Cells, row: usize) -> bool {
        match self {
            Self::Scalar(scalar) => scalar.is_default(cells, row),
            Self::Enum(names) => number_of(names, cells, row) == Ok(0),
            _ => false,
        }
    }
}

impl Scalar {
    fn write(self, cells: &Cells, row: usize, out: &mut Vec<u8>) -> Outcome {
        match self {
            Self::Int32 => {
                // A negative number takes as many bytes as a 64-bit one.
                let value = i64::from(integer::<i32>(cells, row)?);
                varint(value.cast_unsigned(), out);
            }
            Self::Int64 => varint(integer::<i64>(cells, row)?.cast_unsigned(), out),
            Self::Uint32 => varint(integer::<u32>(cells, row)?.into(), out),
            Self::Uint64 => varint(integer(cells, row)?, out),
            Self::Sint32 => varint(zigzag(integer::<i32>(cells, row)?.into()), out),
            Self::Sint64 => varint(zigzag(integer(cells, row)?), out),
            Self::Fixed32 => out.extend(integer::<u32>(cells, row)?.to_le_bytes()),
            Self::Sfixed32 => out.extend(integer::<i32>(cells, row)?.to_le_bytes()),
            Self::Fixed64 => out.extend(integer::<u64>(cells, row)?.to_le_bytes()),
            Self::Sfixed64 => out.extend(integer::<i64>(cells, row)?.to_le_bytes()),
            Self::Float => out.extend(float(cells, row)?.to_le_bytes()),
            Self::Double => out.extend(double(cells, row)?.to_le_bytes()),
            Self::Bool => match cells {
                Cells::Bool(array) => out.push(array.value(row).into()),
                other => return Err(unfit(other, "a BOOLEAN")),
            },
            Self::Text => slice(utf8(cells, row)?.as_bytes(), out),
            Self::Bytes => match cells {
                Cells::Bytes(array) => slice(array.value(row), out),
                Cells::Text(array) => slice(array.value(row).as_bytes(), out),
                other => return Err(unfit(other, "bytes")),
            },
        }
        Ok(())
    }

    /// Whether the value is 0, `false` or empty. -0.0 does not count as 0.
    fn is_default(self, cells: &Cells, row: usize) -> bool {
        match cells {
            Cells::Bool(array) => !array.value(row),
            Cells::Float(array) => array.value(row).to_bits() == 0,
            Cells::Double(array) => array.value(row).to_bits() == 0,
            Cells::Text(array) => array.value(row).is_empty(),
            Cells::Bytes(array) => array.value(row).is_empty(),
            cells => cells.whole(row) == Some(0),
        }
    }
}

/// Seconds and nanoseconds, as a message.
fn moment(seconds: i64, nanos: i32, out: &mut Vec<u8>) -> Outcome {
    delimited(out, |out| {
        for (number, value) in [(1, seconds), (2, nanos.into())] {
            if value != 0 {
                tag(number, Wire::Varint, out);
                varint(value.cast_unsigned(), out);
            }
        }
        Ok(())
    })
}

fn slice(bytes: &[u8], out: &mut Vec<u8>) {
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// The number of an enum's name. Numbers are accepted as well, also as text, because the decoder yields them.
fn number_of(names: &HashMap<String, i32>, cells: &Cells, row: usize) -> Result<i32, Fault> {
    let Cells::Text(array) = cells else {
        return integer(cells, row);
    };
    let name = array.value(row);
    names
        .get(name)
        .copied()
        .or_else(|| name.parse().ok())
        .ok_or_else(|| {
            let shown: String = name.chars().take(40).collect();
            Fault::new(format!("'{shown}' is not a value of the enum"))
        })
}
