//! Reads a datum into columns, by a plan made from the writer's and the reader's schema.

use std::sync::Arc;

use arrow::datatypes::{Decimal128Type, Decimal256Type, DecimalType, IntervalMonthDayNano, i256};

use super::column::{Column, misfit};
use super::cursor::Cursor;
use super::fault::Fault;
use super::schema::{Definition, Primitive, Schema, Type};

/// How a value that was written with one type is read as another.
///
/// A variant that is named after a type reads that type from the bytes. Numbers become what the column takes.
#[derive(Debug)]
pub(super) enum Read {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    /// Moments and times of day whose column has a finer unit than the bytes.
    Time(Time),
    Bytes,
    Text,
    Fixed(usize),
    /// For each symbol of the writer, that of the reader.
    Enum(Vec<Result<Box<str>, String>>),
    Decimal(Decimal),
    Duration,
    /// As 16 bytes.
    Uuid,
    Array {
        items: Box<Self>,
        /// Whether an item takes bytes.
        sized: bool,
        /// What each item is charged.
        charge: usize,
    },
    Map {
        values: Box<Self>,
        /// What each entry is charged.
        charge: usize,
    },
    Record(Vec<Step>),
    /// For each branch of the writer: how to read it, or why the reader has no such branch.
    Union(Vec<Result<Self, String>>),
    /// A branch of a reader's union. It is a member of a struct, if the table selects it.
    Member(Option<usize>, Box<Self>),
    /// Read, but not part of any column.
    Skip(Type),
    /// A field that only the reader has: its default, in the bytes that a writer would have written.
    Default(Box<Supplied>),
}

#[derive(Debug)]
pub(super) struct Supplied {
    pub(super) bytes: Vec<u8>,
    pub(super) read: Read,
    pub(super) reader: Arc<Schema>,
}

/// A field of the writer's record, or a default.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: Box<str>,
    /// The column's place among those of the record.
    pub(super) column: Option<usize>,
    pub(super) read: Read,
}

#[derive(Debug)]
pub(super) struct Time {
    /// Whether it is written as a long; otherwise as an int.
    pub(super) long: bool,
    pub(super) factor: i64,
    /// The end of the day in the column's unit, for times of day, which must lie below it.
    pub(super) end: Option<i64>,
}

#[derive(Debug)]
pub(super) struct Decimal {
    /// The length of a value of type fixed.
    pub(super) size: Option<usize>,
    /// How many more digits the column has after the point.
    pub(super) shift: u8,
    pub(super) precision: u8,
    pub(super) scale: i8,
}

impl Read {
    /// Reads one value; `writer` is the schema that the bytes follow.
    ///
    /// # Errors
    /// When the bytes do not follow it, or the value does not fit. The column may then hold a part of the
    /// value.
    pub(super) fn read(
        &self,
        cursor: &mut Cursor<'_>,
        column: &mut Column,
        writer: &Schema,
    ) -> Result<(), Fault> {
        match self {
            Self::Record(steps) => {
                for step in steps {
                    let read = match step.column {
                        None => step.read.read(cursor, &mut Column::Skip, writer),
                        Some(place) => step.read.read(cursor, column.child(place)?, writer),
                    };
                    read.map_err(|fault| fault.in_field(&step.name))?;
                }
                column.end()
            }
            Self::Union(branches) => {
                let place = cursor.place(branches.len(), "there is no branch")?;
                match &branches[place] {
                    Ok(read) => read.read(cursor, column, writer),
                    Err(reason) => Err(Fault::schema(reason.as_str())),
                }
            }
            Self::Null => {
                column.push_null();
                Ok(())
            }
            Self::Boolean => {
                let value = cursor.boolean()?;
                match column {
                    Column::Boolean(values, valid) => {
                        values.append(value);
                        valid.append_non_null();
                    }
                    Column::Skip => {}
                    _ => return Err(misfit("boolean")),
                }
                Ok(())
            }
            Self::Int => {
                let value = cursor.int()?;
                match column {
                    Column::Int32(values) => values.push(value),
                    Column::Int64(values) => values.push(value.into()),
                    Column::Float32(values) => values.push(value as f32),
                    Column::Float64(values) => values.push(value.into()),
                    Column::Skip => {}
                    _ => return Err(misfit("int")),
                }
                Ok(())
            }
            Self::Long => {
                let value = cursor.long()?;
                match column {
                    Column::Int64(values) => values.push(value),
                    Column::Float32(values) => values.push(value as f32),
                    Column::Float64(values) => values.push(value as f64),
                    Column::Skip => {}
                    _ => return Err(misfit("long")),
                }
                Ok(())
            }
            Self::Float => {
                let value = f32::from_le_bytes(cursor.array("a float")?);
                match column {
                    Column::Float32(values) => values.push(value),
                    Column::Float64(values) => values.push(value.into()),
                    Column::Skip => {}
                    _ => return Err(misfit("float")),
                }
                Ok(())
            }
            Self::Double => {
                let value = f64::from_le_bytes(cursor.array("a double")?);
                match column {
                    Column::Float64(values) => values.push(value),
                    Column::Skip => {}
                    _ => return Err(misfit("double")),
                }
                Ok(())
            }
            Self::Text => push_bytes(column, cursor.text()?),
            Self::Bytes => push_bytes(column, cursor.bytes("a value")?),
            Self::Fixed(size) => {
                let value = cursor.take(*size, "a fixed value")?;
                match column {
                    Column::Fixed(values) => {
                        values.push(value);
                        Ok(())
                    }
                    column => push_bytes(column, value),
                }
            }
            Self::Enum(symbols) => {
                let place = cursor.place(symbols.len(), "there is no symbol")?;
                match &symbols[place] {
                    Ok(symbol) => {
                        // The reader's symbol may be longer than its number in the payload.
                        cursor.charge(symbol.len())?;
                        push_bytes(column, symbol.as_bytes())
                    }
                    Err(reason) => Err(Fault::schema(reason.as_str())),
                }
            }
            Self::Time(time) => time.read(cursor, column),
            Self::Decimal(decimal) => decimal.read(cursor, column),
            Self::Duration => duration(cursor, column),
            Self::Uuid => {
                let bytes = cursor.array("a uuid")?;
                let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
                let text = uuid::Uuid::from_bytes(bytes)
                    .hyphenated()
                    .encode_lower(&mut text);
                push_bytes(column, text.as_bytes())
            }
            Self::Array {
                items,
                sized,
                charge,
            } => loop {
                let (count, _) = cursor.block()?;
                if count == 0 {
                    return column.end();
                }
                if !sized {
                    cursor.spend(count)?;
                }
                for _ in 0..count {
                    cursor.charge(*charge)?;
                    items.read(cursor, column.child(0)?, writer)?;
                }
            },
            Self::Map { values, charge } => loop {
                let (count, _) = cursor.block()?;
                if count == 0 {
                    return column.end();
                }
                for _ in 0..count {
                    cursor.charge(*charge)?;
                    push_bytes(column.child(0)?, cursor.text()?)?;
                    values.read(cursor, column.child(1)?, writer)?;
                }
            },
            Self::Member(place, read) => {
                let member = match (place, &mut *column) {
                    (Some(place), column) => column.child(*place)?,
                    (None, _) => &mut Column::Skip,
                };
                read.read(cursor, member, writer)?;
                column.end_member(*place)
            }
            Self::Skip(of) => skip(cursor, writer, of),
            Self::Default(default) => {
                let mut cursor = Cursor::of_default(&default.bytes);
                default.read.read(&mut cursor, column, &default.reader)
            }
        }
    }
}

impl Read {
    /// What such an element is charged besides the width of its column: its defaults, which take no byte of
    /// the payload, and its fields, which take time even where they take nothing else.
    pub(super) fn extra(&self) -> usize {
        match self {
            Self::Record(steps) => steps.iter().map(|step| 1 + step.read.extra()).sum(),
            Self::Union(branches) => {
                let branches = branches.iter().flatten();
                branches.map(Self::extra).max().unwrap_or_default()
            }
            Self::Member(_, read) => read.extra(),
            Self::Default(default) => {
                let each = 1 + default.read.widest();
                default.bytes.len().saturating_mul(each)
            }
            _ => 0,
        }
    }

    /// The most that one element or symbol within is charged.
    fn widest(&self) -> usize {
        match self {
            Self::Record(steps) => {
                let steps = steps.iter().map(|step| step.read.widest());
                steps.max().unwrap_or_default()
            }
            Self::Union(branches) => {
                let branches = branches.iter().flatten();
                branches.map(Self::widest).max().unwrap_or_default()
            }
            Self::Member(_, read) => read.widest(),
            Self::Enum(symbols) => {
                let symbols = symbols.iter().flatten();
                symbols.map(|symbol| symbol.len()).max().unwrap_or_default()
            }
            Self::Array { items, charge, .. } => items.widest().max(*charge),
            Self::Map { values, charge } => values.widest().max(*charge),
            _ => 0,
        }
    }
}

#[inline]
fn push_bytes(column: &mut Column, value: &[u8]) -> Result<(), Fault> {
    match column {
        Column::Bytes(values) => values.push(value),
        Column::Skip => Ok(()),
        _ => Err(misfit("bytes")),
    }
}

impl Time {
    fn read(&self, cursor: &mut Cursor<'_>, column: &mut Column) -> Result<(), Fault> {
        let written = match self.long {
            true => cursor.long()?,
            false => cursor.int()?.into(),
        };
        let value = written.checked_mul(self.factor).ok_or_else(|| {
            Fault::value(format!(
                "the moment {written} is too far away for the column's unit"
            ))
        })?;
        if let Some(end) = self.end
            && !(0..end).contains(&value)
        {
            return Err(Fault::value(format!("{written} is no time of a day")));
        }
        match column {
            Column::Int64(values) => values.push(value),
            // A time of day in milliseconds is below 2^27.
            Column::Int32(values) => values.push(value as i32),
            Column::Skip => {}
            _ => return Err(misfit("time")),
        }
        Ok(())
    }
}

impl Decimal {
    fn read(&self, cursor: &mut Cursor<'_>, column: &mut Column) -> Result<(), Fault> {
        let bytes = match self.size {
            Some(size) => cursor.take(size, "a decimal")?,
            None => cursor.bytes("a decimal")?,
        };
        match column {
            Column::Decimal128(values) => {
                values.push(self.short(bytes).ok_or_else(|| self.misfit())?);
            }
            Column::Decimal256(values) => {
                values.push(self.long(bytes).ok_or_else(|| self.misfit())?);
            }
            // Which columns are built must not decide whether a payload is bad. The longer type accepts both.
            Column::Skip => {
                self.long(bytes).ok_or_else(|| self.misfit())?;
            }
            _ => return Err(misfit("decimal")),
        }
        Ok(())
    }

    fn short(&self, bytes: &[u8]) -> Option<i128> {
        let value = i128::from_be_bytes(extended(bytes)?);
        let value = match self.shift {
            0 => value,
            shift => value.checked_mul(10i128.checked_pow(shift.into())?)?,
        };
        Decimal128Type::is_valid_decimal_precision(value, self.precision).then_some(value)
    }

    fn long(&self, bytes: &[u8]) -> Option<i256> {
        let value = i256::from_be_bytes(extended(bytes)?);
        let value = match self.shift {
            0 => value,
            shift => value.checked_mul(i256::from_i128(10).checked_pow(shift.into())?)?,
        };
        Decimal256Type::is_valid_decimal_precision(value, self.precision).then_some(value)
    }

    #[cold]
    fn misfit(&self) -> Fault {
        Fault::value(format!(
            "a decimal has more digits than a column of {},{} holds",
            self.precision, self.scale
        ))
    }
}

/// A number as `N` bytes, from any number of bytes whose value fits.
fn extended<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let fill = if negative { 0xff } else { 0 };
    let mut out = [fill; N];
    if bytes.len() <= N {
        out[N - bytes.len()..].copy_from_slice(bytes);
        return Some(out);
    }
    let (sign, number) = bytes.split_at(bytes.len() - N);
    out.copy_from_slice(number);
    let fits = sign.iter().all(|byte| *byte == fill) && (number[0] >= 0x80) == negative;
    fits.then_some(out)
}

fn duration(cursor: &mut Cursor<'_>, column: &mut Column) -> Result<(), Fault> {
    let mut part = || cursor.array("a duration").map(u32::from_le_bytes);
    let (months, days, millis): (u32, u32, u32) = (part()?, part()?, part()?);
    let (Ok(months), Ok(days)) = (i32::try_from(months), i32::try_from(days)) else {
        return Err(Fault::value(format!(
            "a duration of {months} months and {days} days is no interval, which ends at 2^31 of each"
        )));
    };
    let value = IntervalMonthDayNano::new(months, days, i64::from(millis) * 1_000_000);
    match column {
        Column::Interval(values) => values.push(value),
        Column::Skip => {}
        _ => return Err(misfit("duration")),
    }
    Ok(())
}

/// Passes over a value and checks only its structure. The check is the same whichever columns a query
/// names, because a skipped value belongs to no column of the table.
fn skip(cursor: &mut Cursor<'_>, writer: &Schema, of: &Type) -> Result<(), Fault> {
    match of {
        Type::Primitive(primitive, _) => skip_primitive(cursor, *primitive),
        // There is nothing to read, however many records it holds.
        _ if !writer.takes_bytes(of) => Ok(()),
        _ => cursor.nested(|cursor| skip_within(cursor, writer, of)),
    }
}

fn skip_primitive(cursor: &mut Cursor<'_>, primitive: Primitive) -> Result<(), Fault> {
    match primitive {
        Primitive::Null => Ok(()),
        Primitive::Boolean => cursor.boolean().map(drop),
        Primitive::Int => cursor.int().map(drop),
        Primitive::Long => cursor.long().map(drop),
        Primitive::Float => cursor.take(4, "a float").map(drop),
        Primitive::Double => cursor.take(8, "a double").map(drop),
        Primitive::Bytes => cursor.bytes("a value").map(drop),
        Primitive::String => cursor.bytes("text").map(drop),
    }
}

fn skip_within(cursor: &mut Cursor<'_>, writer: &Schema, of: &Type) -> Result<(), Fault> {
    match of {
        Type::Primitive(primitive, _) => skip_primitive(cursor, *primitive),
        Type::Array(items) => {
            let sized = writer.takes_bytes(items);
            skip_blocks(cursor, sized, |cursor| skip(cursor, writer, items))
        }
        Type::Map(values) => skip_blocks(cursor, true, |cursor| {
            cursor.bytes("text")?;
            skip(cursor, writer, values)
        }),
        Type::Union(branches) => {
            let place = cursor.place(branches.len(), "there is no branch")?;
            skip(cursor, writer, &branches[place])
        }
        Type::Named(place) => match &writer.named(*place).definition {
            Definition::Enum { symbols, .. } => {
                cursor.place(symbols.len(), "there is no symbol").map(drop)
            }
            Definition::Fixed { size, .. } => cursor.take(*size, "a fixed value").map(drop),
            Definition::Record(fields) => {
                // Fields take time even without bytes.
                cursor.charge(fields.len())?;
                fields.iter().try_for_each(|field| {
                    skip(cursor, writer, &field.of).map_err(|fault| fault.in_field(&field.name))
                })
            }
        },
    }
}

fn skip_blocks(
    cursor: &mut Cursor<'_>,
    sized: bool,
    mut item: impl FnMut(&mut Cursor<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    loop {
        match cursor.block()? {
            (0, _) => return Ok(()),
            (_, Some(length)) => {
                cursor.take(length, "a block")?;
            }
            (count, None) => {
                if !sized {
                    cursor.spend(count)?;
                }
                for _ in 0..count {
                    item(cursor)?;
                }
            }
        }
    }
}
