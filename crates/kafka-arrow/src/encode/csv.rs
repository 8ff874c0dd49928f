//! Encodes rows as comma-separated values, without a header and without a line end.
//!
//! NULL and `''` are both an empty field, because CSV cannot tell them apart. Fields that contain separators,
//! quotes or line ends are quoted.

use arrow::array::{ArrayRef, BinaryViewArray};
use arrow::datatypes::FieldRef;

use super::cells::{Cells, like_fields};
use super::text::{Text, text};
use super::{Misfit, PayloadEncoder, cells_of, each_row};
use crate::error::{Error, Result};
use crate::line::quoted;

/// See the module's documentation.
#[derive(Debug)]
pub struct CsvEncoder {
    names: Vec<String>,
    delimiter: u8,
}

impl CsvEncoder {
    /// # Errors
    /// When a column has a type that a CSV field cannot hold.
    pub fn new(fields: &[FieldRef], delimiter: u8) -> Result<Self> {
        for member in like_fields(fields.iter().map(AsRef::as_ref)).map_err(Error::schema)? {
            if matches!(
                member.cells,
                Cells::Struct(..) | Cells::List(..) | Cells::Map(..)
            ) {
                return Err(Error::schema(format!(
                    "column '{}': CSV has no fields for {}; write it as text",
                    member.name,
                    member.cells.title()
                )));
            }
        }
        Ok(Self {
            names: fields.iter().map(|field| field.name().clone()).collect(),
            delimiter,
        })
    }
}

impl PayloadEncoder for CsvEncoder {
    fn encode(
        &self,
        columns: &[ArrayRef],
        rows: usize,
        absent: &dyn Fn(usize) -> bool,
    ) -> Result<BinaryViewArray, Misfit> {
        let cells = cells_of(columns)?;
        each_row(rows, absent, |row, out| {
            for (place, (name, cells)) in self.names.iter().zip(&cells).enumerate() {
                if place > 0 {
                    out.push(self.delimiter);
                }
                if cells.is_null(row) {
                    continue;
                }
                match text(cells, row)
                    .transpose()
                    .map_err(|fault| fault.of(name))?
                {
                    None => {}
                    Some(Text::Slice(text)) => quoted(text.as_bytes(), self.delimiter, out),
                    Some(Text::Bare(text) | Text::Quoted(text)) => {
                        quoted(text.as_bytes(), self.delimiter, out);
                    }
                }
            }
            if out.is_empty() {
                // A line has at least one byte.
                out.extend_from_slice(b"\"\"");
            }
            Ok(())
        })
    }
}
