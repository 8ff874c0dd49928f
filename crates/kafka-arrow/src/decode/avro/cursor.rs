//! Reads the bytes of one datum (an Avro value) from the front.

use super::fault::Fault;
use super::schema::MAX_DEPTH;
use crate::decode::budget::Budget;

/// How many values without bytes a datum may have as items of arrays or as records.
///
/// The payload's length does not limit them: four bytes may announce an array of 2^27 nulls, which would
/// take memory and time.
const MAX_EMPTY: u64 = 4_096;

pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    /// How many more values without bytes are allowed.
    empty: u64,
    /// How many more levels of nesting are allowed.
    levels: usize,
    budget: Budget,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(datum: &'a [u8]) -> Self {
        Self::with(datum, Budget::of(datum.len()))
    }

    /// A cursor over a default value, which comes from the reader's schema and not from a payload.
    pub(super) const fn of_default(datum: &'a [u8]) -> Self {
        Self::with(datum, Budget::unlimited())
    }

    const fn with(datum: &'a [u8], budget: Budget) -> Self {
        Self {
            rest: datum,
            empty: MAX_EMPTY,
            levels: MAX_DEPTH,
            budget,
        }
    }

    /// Charges the payload for bytes of columns.
    #[inline]
    pub(super) fn charge(&self, bytes: usize) -> Result<(), Fault> {
        Ok(self.budget.spend(bytes)?)
    }

    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(super) fn take(&mut self, bytes: usize, what: &str) -> Result<&'a [u8], Fault> {
        match self.rest.split_at_checked(bytes) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(ends_in(what)),
        }
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Fault> {
        match self.rest.split_first_chunk() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(ends_in(what)),
        }
    }

    #[inline]
    pub(super) fn boolean(&mut self) -> Result<bool, Fault> {
        match self.array::<1>("a boolean")? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(Fault::syntax(format!(
                "a boolean is 0 or 1, found {other}; was it written with another schema?"
            ))),
        }
    }

    #[inline]
    pub(super) fn int(&mut self) -> Result<i32, Fault> {
        let value = self.long()?;
        i32::try_from(value)
            .map_err(|_| Fault::syntax(format!("{value} does not fit an int of 32 bits")))
    }

    #[inline]
    pub(super) fn long(&mut self) -> Result<i64, Fault> {
        let raw = match *self.rest {
            [first, ref rest @ ..] if first < 0x80 => {
                self.rest = rest;
                u64::from(first)
            }
            [first, second, ref rest @ ..] if second < 0x80 => {
                self.rest = rest;
                u64::from(first & 0x7f) | u64::from(second) << 7
            }
            _ => self.varint()?,
        };
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for (place, byte) in self.rest.iter().take(10).enumerate() {
            // The tenth byte has only one bit left.
            if place == 9 && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if *byte < 0x80 {
                self.rest = &self.rest[place + 1..];
                return Ok(value);
            }
        }
        match self.rest.len() {
            ..10 => Err(ends_in("a number")),
            _ => Err(Fault::syntax("a number is longer than 64 bits")),
        }
    }

    /// Reads bytes or text, preceded by their length.
    #[inline]
    pub(super) fn bytes(&mut self, what: &str) -> Result<&'a [u8], Fault> {
        let length = self.long()?;
        match usize::try_from(length) {
            Ok(length) if length <= self.rest.len() => self.take(length, what),
            Ok(length) => Err(Fault::syntax(format!(
                "{what} of {length} bytes does not fit the {} bytes that are left",
                self.rest.len()
            ))),
            Err(_) => Err(Fault::syntax(format!("{what} has the length {length}"))),
        }
    }

    #[inline]
    pub(super) fn text(&mut self) -> Result<&'a [u8], Fault> {
        let bytes = self.bytes("text")?;
        match std::str::from_utf8(bytes) {
            Ok(_) => Ok(bytes),
            Err(_) => Err(Fault::syntax("text is not UTF-8")),
        }
    }

    /// Reads the place of a branch or a symbol among `count`.
    #[inline]
    pub(super) fn place(&mut self, count: usize, what: &str) -> Result<usize, Fault> {
        let place = self.long()?;
        match usize::try_from(place) {
            Ok(place) if place < count => Ok(place),
            _ => Err(Fault::syntax(format!(
                "{what} {place} of {count} (counted from 0)"
            ))),
        }
    }

    /// Reads the head of the next block of an array or a map: its number of items, which is zero at the
    /// end, and its length in bytes if the writer gave it.
    pub(super) fn block(&mut self) -> Result<(u64, Option<usize>), Fault> {
        let count = self.long()?;
        if count >= 0 {
            return Ok((count.unsigned_abs(), None));
        }
        let length = self.long()?;
        match usize::try_from(length) {
            Ok(length) if length <= self.rest.len() => Ok((count.unsigned_abs(), Some(length))),
            _ => Err(Fault::syntax(format!(
                "a block of {length} bytes does not fit the {} bytes that are left",
                self.rest.len()
            ))),
        }
    }

    /// Counts values that take no bytes.
    pub(super) fn spend(&mut self, empty: u64) -> Result<(), Fault> {
        self.empty = self.empty.checked_sub(empty).ok_or_else(|| {
            Fault::syntax(format!("more than {MAX_EMPTY} values that have no bytes"))
        })?;
        Ok(())
    }

    /// Goes one level down while `inside` reads.
    pub(super) fn nested<T>(
        &mut self,
        inside: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.levels = self.levels.checked_sub(1).ok_or_else(|| {
            Fault::syntax(format!("values are nested deeper than {MAX_DEPTH} levels"))
        })?;
        let read = inside(self);
        self.levels += 1;
        read
    }
}

#[cold]
fn ends_in(what: &str) -> Fault {
    Fault::syntax(format!("the payload ends within {what}"))
}
