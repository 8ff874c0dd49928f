//! Columns that grow by one field value at a time, straight from the wire.
//!
//! A message is read field by field, in the order of its bytes, and a field may come twice or not at all. So
//! each value goes to a numbered *row* of its column. The last row stays open until its message ends:
//!
//! ```text
//! read(7), read(7)   row 7 has the later value; for lists and messages, both values merged
//! close(7)           row 7 gets NULL, the default or an empty list, if nothing was read
//! read(7)            the message continues: it came twice itself, and is merged
//! truncate(7)        removes row 7 and everything below it
//! ```
//!
//! A column may be shorter than its message has rows; the missing rows are NULL. This makes absent messages
//! cheap, and `truncate` alone rolls back a bad payload.

mod nested;
mod scalar;
mod times;

use std::fmt;
use std::hash::Hash;

use arrow::array::{ArrayRef, NullBufferBuilder};

use super::wire::{Input, Outcome, Wire};
use crate::error::{Error, Result};

pub(super) use nested::{List, Map, Message, Wrapped};
pub(super) use scalar::{
    Bytes, Double, EnumNames, Enums, Fixed32, Fixed64, Flags, Float, Int32, Int64, Numbers,
    Sfixed32, Sfixed64, Sint32, Sint64, Uint32, Uint64,
};
pub(super) use times::{Times, Unit};

/// The values of a field.
pub(super) trait Column: fmt::Debug + Send {
    /// Reads a value, whose tag is already read, into a row: the last one or the next.
    fn read(&mut self, row: usize, input: &mut Input<'_>, wire: Wire) -> Outcome<()>;

    /// Gives the row its type's default, unless it has a value.
    fn present(&mut self, row: usize) -> Outcome<()>;

    /// Ends the message that the row belongs to.
    fn close(&mut self, row: usize) -> Outcome<()>;

    /// Removes all rows from this one on.
    fn truncate(&mut self, rows: usize);

    /// The column of the first `rows` rows.
    ///
    /// # Errors
    /// When Arrow rejects what was built, which is a fault of this crate.
    fn finish(&mut self, rows: usize) -> Result<ArrayRef>;

    /// How an element is encoded in a packed list, for types that can be packed.
    fn packed(&self) -> Option<Wire> {
        None
    }

    /// The row's value as a map's key; `None` where the row has no value.
    fn key(&self, row: usize) -> Option<Key<'_>> {
        let _ = row;
        None
    }
}

/// A map's key. Two keys are equal when these values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key<'a> {
    /// Booleans, and the bits of integers of any type.
    Number(u64),
    Text(&'a [u8]),
}

/// A field that is checked but not kept. It is read exactly as if it were kept, so that both ways find the
/// same payloads bad, and is dropped at the end of its row.
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

/// Whether the row exists and is not NULL.
fn holds(valid: &NullBufferBuilder, row: usize) -> bool {
    row < valid.len() && valid.is_valid(row)
}

/// An error for what cannot happen.
pub(super) fn broken(reason: impl fmt::Display) -> Error {
    Error::Kafka {
        operation: "decoding Protobuf".into(),
        reason: reason.to_string(),
    }
}
