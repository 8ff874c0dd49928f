//! Formats whose payload is a single value: text, and the output of Kafka's own serializers.

use arrow::array::{ArrayRef, BinaryViewArray};
use arrow::datatypes::Field;

use super::cells::Cells;
use super::{Fault, Misfit, Outcome, PayloadEncoder, cells_of, each_row};
use crate::decode::Format;
use crate::error::{Error, Result};

/// Encodes a column of single values; NULL stays NULL.
#[derive(Debug)]
pub struct ScalarEncoder {
    format: Format,
    name: String,
}

impl ScalarEncoder {
    /// # Errors
    /// When the format cannot write the column's type.
    pub fn new(format: Format, field: &Field) -> Result<Self> {
        let name = field.name().clone();
        let like = Cells::like(field.data_type())
            .map_err(|e| Error::invalid(format!("column '{name}': {e}")))?;
        let (fits, expected) = match format {
            Format::Text => (matches!(like, Cells::Text(_) | Cells::Bytes(_)), "text"),
            Format::Uuid => (
                matches!(like, Cells::Text(_) | Cells::Bytes(_)),
                "text or 16 bytes",
            ),
            Format::Int32 | Format::Int64 => (
                matches!(like, Cells::Whole(_) | Cells::Unsigned(_)),
                "whole numbers",
            ),
            Format::Float => (
                matches!(like, Cells::Whole(_) | Cells::Float(_)),
                "REAL or whole numbers",
            ),
            Format::Double => (
                matches!(like, Cells::Whole(_) | Cells::Float(_) | Cells::Double(_)),
                "DOUBLE, REAL or whole numbers",
            ),
            _ => (false, "a single value"),
        };
        if !fits && !matches!(like, Cells::Null) {
            return Err(Error::invalid(format!(
                "the column '{name}' has the type {}, and the format '{format}' takes {expected}: CAST it",
                field.data_type()
            )));
        }
        Ok(Self { format, name })
    }

    fn value(&self, cells: &Cells, row: usize, out: &mut Vec<u8>) -> Outcome {
        match self.format {
            Format::Text => out.extend_from_slice(utf8(cells, row)?.as_bytes()),
            Format::Uuid => {
                out.extend_from_slice(uuid(cells, row)?.hyphenated().to_string().as_bytes())
            }
            Format::Int32 => out.extend(integer::<i32>(cells, row)?.to_be_bytes()),
            Format::Int64 => out.extend(integer::<i64>(cells, row)?.to_be_bytes()),
            Format::Float => out.extend(float(cells, row)?.to_be_bytes()),
            _ => out.extend(double(cells, row)?.to_be_bytes()),
        }
        Ok(())
    }
}

impl PayloadEncoder for ScalarEncoder {
    fn encode(
        &self,
        columns: &[ArrayRef],
        rows: usize,
        absent: &dyn Fn(usize) -> bool,
    ) -> Result<BinaryViewArray, Misfit> {
        let cells = cells_of(columns)?;
        let [cells] = &cells[..] else {
            return Err(Misfit {
                row: 0,
                message: format!(
                    "{} columns for the single value '{}'",
                    cells.len(),
                    self.name
                ),
            });
        };
        let absent = |row| cells.is_null(row) || absent(row);
        each_row(rows, &absent, |row, out| {
            self.value(cells, row, out)
                .map_err(|fault| fault.of(&self.name))
        })
    }
}

/// Text, or bytes that are UTF-8.
pub(super) fn utf8(cells: &Cells, row: usize) -> Result<&str, Fault> {
    match cells {
        Cells::Text(array) => Ok(array.value(row)),
        Cells::Bytes(array) => std::str::from_utf8(array.value(row))
            .map_err(|_| Fault::new("the bytes are not UTF-8 text")),
        other => Err(unfit(other, "text")),
    }
}

/// A UUID as text or as its 16 bytes.
pub(super) fn uuid(cells: &Cells, row: usize) -> Result<uuid::Uuid, Fault> {
    let parsed = match cells {
        Cells::Text(array) => uuid::Uuid::try_parse(array.value(row)),
        Cells::Bytes(array) if array.value(row).len() == 16 => {
            uuid::Uuid::from_slice(array.value(row))
        }
        Cells::Bytes(array) => uuid::Uuid::try_parse_ascii(array.value(row)),
        other => return Err(unfit(other, "a UUID")),
    };
    parsed.map_err(|e| Fault::new(format!("not a UUID: {e}")))
}

/// A whole number, if it fits the type.
pub(super) fn integer<T: TryFrom<i128>>(cells: &Cells, row: usize) -> Result<T, Fault> {
    let value = cells
        .whole(row)
        .ok_or_else(|| unfit(cells, "a whole number"))?;
    T::try_from(value).map_err(|_| {
        let bits = 8 * size_of::<T>();
        // Among the types of formats, unsigned ones never hold -1; 2^63 only fits unsigned 64 bits.
        let kind = if T::try_from(-1).is_ok() {
            ""
        } else {
            " unsigned"
        };
        Fault::new(format!("{value} does not fit into{kind} {bits} bits"))
    })
}

/// A number that single precision holds exactly.
pub(super) fn float(cells: &Cells, row: usize) -> Result<f32, Fault> {
    match cells {
        Cells::Float(array) => Ok(array.value(row)),
        Cells::Whole(array) => {
            let value = array.value(row);
            match value.unsigned_abs() <= 1 << f32::MANTISSA_DIGITS {
                true => Ok(value as f32),
                false => Err(Fault::new(format!("{value} has more digits than a float"))),
            }
        }
        other => Err(unfit(other, "a REAL")),
    }
}

/// A number that double precision holds exactly.
pub(super) fn double(cells: &Cells, row: usize) -> Result<f64, Fault> {
    match cells {
        Cells::Double(array) => Ok(array.value(row)),
        Cells::Float(array) => Ok(array.value(row).into()),
        Cells::Whole(array) => {
            let value = array.value(row);
            match value.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS {
                true => Ok(value as f64),
                false => Err(Fault::new(format!("{value} has more digits than a double"))),
            }
        }
        other => Err(unfit(other, "a DOUBLE")),
    }
}

/// A value of another kind than the schema's. Plans rule this out.
#[cold]
pub(super) fn unfit(cells: &Cells, expected: &str) -> Fault {
    Fault::new(format!("{} where {expected} is written", cells.title()))
}
