//! Protobuf's wire format: tags, numbers and lengths, with every bound checked.

use std::borrow::Cow;
use std::fmt;

use crate::decode::budget::{self, Budget, Exceeded};

/// How deep groups within skipped fields may be nested.
pub(super) const MAX_DEPTH: usize = 100;

/// How a value is encoded on the wire: the lower three bits of its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Varint,
    Fixed64,
    Delimited,
    Group,
    GroupEnd,
    Fixed32,
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Varint => "a varint",
            Self::Fixed64 => "8 bytes",
            Self::Delimited => "bytes of a given length",
            Self::Group => "a group",
            Self::GroupEnd => "the end of a group",
            Self::Fixed32 => "4 bytes",
        })
    }
}

/// A fault of a payload, and its place in the message.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) class: &'static str,
    reason: Cow<'static, str>,
    /// Names of fields, joined by dots; empty for the message itself.
    path: String,
}

/// Boxed, because faults are rare and results are passed around for every value.
pub(super) type Outcome<T> = Result<T, Box<Fault>>;

impl Fault {
    fn new(class: &'static str, reason: impl Into<Cow<'static, str>>) -> Box<Self> {
        Box::new(Self {
            class,
            reason: reason.into(),
            path: String::new(),
        })
    }

    #[cold]
    pub(super) fn syntax(reason: impl Into<Cow<'static, str>>) -> Box<Self> {
        Self::new("syntax", reason)
    }

    #[cold]
    pub(super) fn of_type(reason: impl Into<Cow<'static, str>>) -> Box<Self> {
        Self::new("type", reason)
    }

    #[cold]
    pub(super) fn range(reason: impl Into<Cow<'static, str>>) -> Box<Self> {
        Self::new("range", reason)
    }

    #[cold]
    fn truncated() -> Box<Self> {
        Self::syntax("the bytes end within a value")
    }

    /// The same fault, located within the message that holds the field.
    #[cold]
    pub(super) fn within(mut self: Box<Self>, field: &str) -> Box<Self> {
        if !self.path.is_empty() {
            self.path.insert(0, '.');
        }
        self.path.insert_str(0, field);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "field '{}': ", self.path)?;
        }
        f.write_str(&self.reason)
    }
}

impl Wire {
    /// Rejects a value whose encoding does not match its field's type.
    #[inline]
    pub(super) fn expect(self, expected: Self) -> Outcome<()> {
        if self == expected {
            return Ok(());
        }
        Err(Fault::of_type(format!(
            "found {self}, where the schema has {expected}"
        )))
    }
}

impl From<Exceeded> for Box<Fault> {
    #[cold]
    fn from(exceeded: Exceeded) -> Self {
        Fault::new(budget::CLASS, exceeded.to_string())
    }
}

/// The bytes of a message that are still to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a> {
    rest: &'a [u8],
    /// The memory that the whole payload may take; `None` where nothing goes into columns.
    budget: Option<&'a Budget>,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            budget: None,
        }
    }

    /// A payload whose values go into columns.
    pub(super) fn charged(bytes: &'a [u8], budget: &'a Budget) -> Self {
        Self {
            rest: bytes,
            budget: Some(budget),
        }
    }

    /// Charges the payload for bytes of columns.
    #[inline]
    pub(super) fn spend(&self, bytes: usize) -> Outcome<()> {
        match self.budget {
            Some(budget) if bytes > 0 => Ok(budget.spend(bytes)?),
            _ => Ok(()),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes that are left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Outcome<u64> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Outcome<u64> {
        const MAX_BYTES: usize = 10;
        let mut value = 0;
        for (i, byte) in self.rest.iter().take(MAX_BYTES).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                // The tenth byte has only room for the 64th bit.
                if i + 1 == MAX_BYTES && *byte > 1 {
                    break;
                }
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < MAX_BYTES {
            Fault::truncated()
        } else {
            Fault::syntax("a varint has more than 64 bits")
        })
    }

    /// A signed number, with the sign in its lowest bit.
    #[inline]
    pub(super) fn zigzag(&mut self) -> Outcome<i64> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    #[inline]
    pub(super) fn fixed32(&mut self) -> Outcome<[u8; 4]> {
        self.fixed()
    }

    #[inline]
    pub(super) fn fixed64(&mut self) -> Outcome<[u8; 8]> {
        self.fixed()
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(Fault::truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// Bytes, preceded by their length.
    #[inline]
    pub(super) fn delimited(&mut self) -> Outcome<&'a [u8]> {
        let len = self.varint()?;
        let (bytes, rest) = usize::try_from(len)
            .ok()
            .and_then(|len| self.rest.split_at_checked(len))
            .ok_or_else(Fault::truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Bytes, preceded by their length, as an input of their own.
    #[inline]
    pub(super) fn within(&mut self) -> Outcome<Self> {
        Ok(Self {
            rest: self.delimited()?,
            ..*self
        })
    }

    /// A field's number, and how its value is encoded.
    #[inline]
    pub(super) fn tag(&mut self) -> Outcome<(u32, Wire)> {
        /// This many bytes hold 32 bits; Google's parsers read no more.
        const MAX_BYTES: usize = 5;
        let before = self.rest.len();
        let tag = self.varint()?;
        let tag = u32::try_from(tag)
            .ok()
            .filter(|_| before - self.rest.len() <= MAX_BYTES)
            .ok_or_else(|| Fault::syntax("a tag has more than 32 bits"))?;
        let wire = match tag & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Delimited,
            3 => Wire::Group,
            4 => Wire::GroupEnd,
            5 => Wire::Fixed32,
            other => return Err(Fault::syntax(format!("there is no wire type {other}"))),
        };
        if tag >> 3 == 0 {
            return Err(Fault::syntax("there is no field number 0"));
        }
        Ok((tag >> 3, wire))
    }

    /// Passes over the value of a field whose tag was read.
    pub(super) fn skip(&mut self, number: u32, wire: Wire) -> Outcome<()> {
        self.skip_at(number, wire, 0)
    }

    fn skip_at(&mut self, number: u32, wire: Wire, depth: usize) -> Outcome<()> {
        match wire {
            Wire::Varint => self.varint().map(drop),
            Wire::Fixed64 => self.fixed64().map(drop),
            Wire::Delimited => self.delimited().map(drop),
            Wire::Fixed32 => self.fixed32().map(drop),
            Wire::GroupEnd => Err(Self::unopened()),
            Wire::Group if depth == MAX_DEPTH => Err(Fault::syntax(format!(
                "groups are nested more than {MAX_DEPTH} deep"
            ))),
            Wire::Group => loop {
                match self.tag()? {
                    (end, Wire::GroupEnd) if end == number => return Ok(()),
                    (inner, wire) => self.skip_at(inner, wire, depth + 1)?,
                }
            },
        }
    }

    /// The fault of a group's end that does not match the innermost open group.
    #[cold]
    pub(super) fn unopened() -> Box<Fault> {
        Fault::syntax("a group ends that is not open")
    }

    /// The fault of a message whose bytes end within a group.
    #[cold]
    pub(super) fn unclosed() -> Box<Fault> {
        Fault::truncated()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(bytes: &[u8]) -> Result<u64, String> {
        Input::new(bytes).varint().map_err(|f| f.to_string())
    }

    #[test]
    fn varints_have_64_bits_at_most() {
        assert_eq!(varint(&[0x96, 0x01]), Ok(150));
        let mut most = [0xff; 10];
        most[9] = 1;
        assert_eq!(varint(&most), Ok(u64::MAX));
        most[9] = 2;
        assert_eq!(varint(&most), Err("a varint has more than 64 bits".into()));
        assert_eq!(varint(&[0x80; 11]), varint(&most));
        assert_eq!(
            varint(&[0x80; 9]),
            Err("the bytes end within a value".into())
        );
        assert_eq!(varint(&[]), varint(&[0x80]));
    }

    #[test]
    fn tags_have_five_bytes_at_most() {
        let tag = |bytes: &[u8]| Input::new(bytes).tag().map_err(|f| f.to_string());
        assert_eq!(tag(&[0x88, 0x80, 0x80, 0x80, 0x00]), Ok((1, Wire::Varint)));
        for longer in [
            &[0x88, 0x80, 0x80, 0x80, 0x80, 0x00][..],
            &[0x88, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
            &[0x88, 0x80, 0x80, 0x80, 0x10],
        ] {
            assert_eq!(tag(longer), Err("a tag has more than 32 bits".into()));
        }
    }

    #[test]
    fn zigzag_has_both_ends() {
        for (bytes, value) in [
            (&[0][..], 0),
            (&[1], -1),
            (&[2], 1),
            (
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
                i64::MIN,
            ),
        ] {
            assert_eq!(Input::new(bytes).zigzag().unwrap(), value);
        }
    }

    #[test]
    fn groups_are_skipped_to_a_depth() {
        let nested = |depth: usize| {
            let mut bytes = vec![0x0b; depth];
            bytes.extend(vec![0x0c; depth]);
            bytes.push(7);
            bytes
        };
        let skip = |bytes: &[u8]| {
            let mut input = Input::new(bytes);
            let (number, wire) = input.tag().unwrap();
            input.skip(number, wire).map(|()| input.rest().to_vec())
        };
        assert_eq!(skip(&nested(100)).unwrap(), [7]);
        assert_eq!(
            skip(&nested(101)).unwrap_err().to_string(),
            "groups are nested more than 100 deep"
        );
        assert!(skip(&[0x0b, 0x14]).is_err(), "ends as another one");
        assert!(skip(&[0x0b, 0x08]).is_err(), "has no end");
    }
}
