//! Encodes each row as a JSON object, in the form that the decoder reads back.
//!
//! - Every column is written; NULL is `null`.
//! - Floats have a point or an exponent, and decimals have all digits of their scale. So a reader that infers
//!   columns from records finds the same kinds. NaN and infinities are errors, because JSON has neither.
//! - Dates and times are ISO 8601, instants are in UTC with `Z`, bytes are base64.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, BinaryViewArray};
use arrow::datatypes::FieldRef;

use super::cells::{Cells, Member, like_fields};
use super::text::{Text, text};
use super::{Fault, Misfit, Outcome, PayloadEncoder, cells_of, each_row, frame};
use crate::error::{Error, Result};

/// See the module's documentation.
#[derive(Debug)]
pub struct JsonEncoder {
    /// Each name as JSON, with the colon.
    names: Vec<(String, String)>,
    /// What precedes each object.
    frame: Vec<u8>,
}

impl JsonEncoder {
    /// `id` is the schema's id in a registry, where payloads have its frame.
    ///
    /// # Errors
    /// When JSON cannot represent a column's type.
    pub fn new(fields: &[FieldRef], id: Option<i32>) -> Result<Self> {
        let members = like_fields(fields.iter().map(AsRef::as_ref)).map_err(Error::invalid)?;
        check_members(&members).map_err(|Fault(e)| Error::invalid(e))?;
        Ok(Self {
            names: fields
                .iter()
                .map(|f| (f.name().clone(), key(f.name())))
                .collect(),
            frame: id.map(frame).unwrap_or_default(),
        })
    }
}

impl PayloadEncoder for JsonEncoder {
    fn encode(
        &self,
        columns: &[ArrayRef],
        rows: usize,
        absent: &dyn Fn(usize) -> bool,
    ) -> Result<BinaryViewArray, Misfit> {
        let cells = cells_of(columns)?;
        each_row(rows, absent, |row, out| {
            out.extend_from_slice(&self.frame);
            out.push(b'{');
            for (place, ((name, key), cells)) in self.names.iter().zip(&cells).enumerate() {
                separate(place, out);
                out.extend_from_slice(key.as_bytes());
                value(cells, row, out).map_err(|fault| fault.of(name))?;
            }
            out.push(b'}');
            Ok(())
        })
    }

    fn set_id(&mut self, id: i32) {
        self.frame = frame(id);
    }
}

/// Checks that names are unique: readers keep only one value of a name that comes twice.
fn check_members(members: &[Member]) -> Outcome {
    let mut names = HashSet::with_capacity(members.len());
    members.iter().try_for_each(|m| {
        let checked = match names.insert(&m.name) {
            true => check(&m.cells),
            false => Err(Fault::new(
                "occurs twice, but a JSON object can have each name only once: rename one",
            )),
        };
        checked.map_err(|fault| fault.of(&m.name))
    })
}

/// Checks that names are unique, and that maps have keys that can be names.
fn check(cells: &Cells) -> Outcome {
    match cells {
        Cells::Struct(_, members) => check_members(members),
        Cells::List(_, items) => check(items),
        Cells::Map(_, entries) => match entries.0 {
            Cells::Text(_) => check(&entries.1),
            _ => Err(Fault::new(
                "the keys of a map are names in JSON: make them VARCHAR",
            )),
        },
        _ => Ok(()),
    }
}

fn separate(place: usize, out: &mut Vec<u8>) {
    if place > 0 {
        out.push(b',');
    }
}

fn value(cells: &Cells, row: usize, out: &mut Vec<u8>) -> Outcome {
    if cells.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match cells {
        Cells::Struct(_, members) => object(members, row, out),
        Cells::List(ranges, items) => {
            out.push(b'[');
            for (place, item) in ranges.of(row).enumerate() {
                separate(place, out);
                value(items, item, out)?;
            }
            out.push(b']');
            Ok(())
        }
        Cells::Map(ranges, entries) => {
            let (Cells::Text(keys), values) = (&entries.0, &entries.1) else {
                return Err(Fault::new("the keys of a map are not text"));
            };
            out.push(b'{');
            for (place, entry) in ranges.of(row).enumerate() {
                if keys.is_null(entry) {
                    return Err(Fault::new("a key of a map is NULL"));
                }
                separate(place, out);
                quote(keys.value(entry), out);
                out.push(b':');
                value(values, entry, out)?;
            }
            out.push(b'}');
            Ok(())
        }
        scalar => {
            match text(scalar, row) {
                None => out.extend_from_slice(b"null"),
                Some(written) => match written? {
                    Text::Bare(text) => out.extend_from_slice(text.as_bytes()),
                    Text::Quoted(text) => quote(&text, out),
                    Text::Slice(text) => quote(text, out),
                },
            }
            Ok(())
        }
    }
}

fn object(members: &[Member], row: usize, out: &mut Vec<u8>) -> Outcome {
    out.push(b'{');
    for (place, member) in members.iter().enumerate() {
        separate(place, out);
        quote(&member.name, out);
        out.push(b':');
        value(&member.cells, row, out).map_err(|fault| fault.of(&member.name))?;
    }
    out.push(b'}');
    Ok(())
}

fn key(name: &str) -> String {
    let mut key = Vec::new();
    quote(name, &mut key);
    key.push(b':');
    String::from_utf8_lossy(&key).into_owned()
}

/// Text as a JSON string.
fn quote(text: &str, out: &mut Vec<u8>) {
    // Any text can be written as JSON, and writing to a vector does not fail.
    let _ = serde_json::to_writer(out, text);
}
