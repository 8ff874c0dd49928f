//! Columns that grow by a field's value at a time, straight from the wire.
//!
//! A message is read field by field, in the order of its bytes, and a field may come twice or not at
//! all. So a value goes to a *row* of its column, and the last row is open until its message ends:
//!
//! ```text
//! read(7), read(7)   row 7 has the later value, or the values of both for lists and messages
//! close(7)           row 7 has NULL, the default or an empty list, if nothing was read
//! read(7)            the message goes on: it came twice itself, and is merged
//! truncate(7)        row 7 is gone, and all that lies below it
//! ```
//!
//! A column may end before the rows of its message do; what it does not have is NULL. This makes
//! absent messages cheap, and a bad payload is rolled back by `truncate` alone.

mod nested;
mod repeated;
mod scalar;
mod times;

use std::fmt;
use std::hash::Hash;

use arrow::array::{ArrayRef, NullBufferBuilder};

use super::wire::{Input, Outcome, Wire};
use crate::error::{Error, Result};

pub(super) use nested::{Message, Wrapped};
pub(super) use repeated::{List, Map};
pub(super) use scalar::{
    Bytes, Double, EnumNames, Enums, Fixed32, Fixed64, Flags, Float, Int32, Int64, Numbers,
    Sfixed32, Sfixed64, Sint32, Sint64, Uint32, Uint64,
};
pub(super) use times::{Times, Unit};

/// The values of a field.
pub(super) trait Column: fmt::Debug + Send {
    /// Reads a value behind its tag into a row, which is the last or the one after it.
    fn read(&mut self, row: usize, input: &mut Input<'_>, wire: Wire) -> Outcome<()>;

    /// Gives the row the default of its type, unless it has a value.
    fn present(&mut self, row: usize) -> Outcome<()>;

    /// The message that the row belongs to is at its end.
    fn close(&mut self, row: usize) -> Outcome<()>;

    /// Forgets all rows from this one on.
    fn truncate(&mut self, rows: usize);

    /// The values of `rows` rows.
    ///
    /// # Errors
    /// When Arrow refuses what was built, which is a fault of this crate.
    fn finish(&mut self, rows: usize) -> Result<ArrayRef>;

    /// How an element lies in a packed list, for types that can be packed.
    fn packed(&self) -> Option<Wire> {
        None
    }

    /// The value as a map's key; `None` where none is there.
    fn key(&self, row: usize) -> Option<Key<'_>> {
        let _ = row;
        None
    }
}

/// A map's key: keys are equal when these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key<'a> {
    /// Integers of any type, bit by bit, and booleans.
    Number(u64),
    Text(&'a [u8]),
}

/// A field that is checked and not kept: it is read as if it were kept, so that both agree on what is
/// bad, and forgotten at the end of its row.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) inner: Box<dyn Column>,
}

impl Column for Checked {
    fn read(&mut self, _: usize, input: &mut Input<'_>, wire: Wire) -> Outcome<()> {
        self.inner.read(0, input, wire)
    }

    fn present(&mut self, _: usize) -> Outcome<()> {
        Ok(())
    }

    fn close(&mut self, _: usize) -> Outcome<()> {
        self.inner.truncate(0);
        Ok(())
    }

    fn truncate(&mut self, _: usize) {
        self.inner.truncate(0);
    }

    fn finish(&mut self, _: usize) -> Result<ArrayRef> {
        Err(broken("a column that was not asked for"))
    }
}

/// Appends NULLs until there are `rows` rows.
fn pad(valid: &mut NullBufferBuilder, rows: usize) {
    let missing = rows.saturating_sub(valid.len());
    if missing > 0 {
        valid.append_n_nulls(missing);
    }
}

/// Whether the row is there and not NULL.
fn holds(valid: &NullBufferBuilder, row: usize) -> bool {
    row < valid.len() && valid.is_valid(row)
}

/// What must not happen.
pub(super) fn broken(reason: impl fmt::Display) -> Error {
    Error::internal(format!("decoding Protobuf: {reason}"))
}
