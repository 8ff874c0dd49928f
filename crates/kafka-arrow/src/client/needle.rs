//! Bytes that a record must contain to be wanted.

use std::fmt;

use memchr::memmem::{self, Finder};

/// Bytes that the key or the value of every wanted record contains.
///
/// A client may leave out records that do not contain them, and counts these as
/// [`filtered`](crate::client::PassedOffsets::filtered). It may also deliver them: the caller looks again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needle {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether the bytes are text in JSON, where a backslash may stand for any part of them. A record with one may be
    /// wanted whatever it contains.
    pub in_json: bool,
}

impl Needle {
    /// Bytes that wanted records contain as they are.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: bytes.into(),
            in_json: false,
        }
    }

    /// The same as text in JSON.
    pub fn in_json(self) -> Self {
        Self {
            in_json: true,
            ..self
        }
    }

    /// Whether a record with this part may be wanted.
    pub fn may_be_in(&self, part: &[u8]) -> bool {
        self.in_json && part.contains(&b'\\') || memmem::find(part, &self.bytes).is_some()
    }
}

impl fmt::Display for Needle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.bytes.escape_ascii())
    }
}

/// Where a needle is in the records of a batch.
#[derive(Debug)]
pub(super) struct Search {
    finder: Finder<'static>,
    in_json: bool,
    /// Record batches to read without a search, since most records of one before had the needle.
    rest: u32,
}

/// A search costs more than it saves where more than one record in this many has the needle.
const FREQUENT: usize = 8;
/// So many record batches are then read before the next one is searched.
const REST_BATCHES: u32 = 16;

impl Search {
    pub(super) fn new(needle: &Needle) -> Self {
        Self {
            finder: Finder::new(&needle.bytes).into_owned(),
            in_json: needle.in_json,
            rest: 0,
        }
    }

    /// Whether the records of the next batch are worth a search.
    pub(super) fn is_worth_it(&mut self) -> bool {
        match self.rest.checked_sub(1) {
            Some(left) => {
                self.rest = left;
                false
            }
            None => true,
        }
    }

    /// Whether records may be wanted although they do not contain the needle.
    pub(super) fn is_blind_to(&self, records: &[u8]) -> bool {
        self.in_json && memchr::memchr(b'\\', records).is_some()
    }

    /// Where the needle begins, at or behind `from`; `usize::MAX` where it is not.
    pub(super) fn next(&self, records: &[u8], from: usize) -> usize {
        let rest = records.get(from..).unwrap_or_default();
        self.finder.find(rest).map_or(usize::MAX, |at| from + at)
    }

    /// Notes how many of a batch's records had the needle.
    pub(super) fn found(&mut self, records: usize, hits: usize) {
        if hits * FREQUENT > records {
            self.rest = REST_BATCHES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backslash_in_json_may_stand_for_the_needle() {
        let plain = Needle::new("order");
        assert!(plain.may_be_in(b"an order") && !plain.may_be_in(br"\u006frder"));
        let json = plain.in_json();
        assert!(json.may_be_in(br"\u006frder") && !json.may_be_in(b"ordeR"));
        assert_eq!(Needle::new("a'\n").to_string(), r"'a\'\n'");
    }

    #[test]
    fn frequent_needles_are_not_searched_for_in_every_batch() {
        let mut search = Search::new(&Needle::new("x"));
        assert!(search.is_worth_it());
        search.found(100, 50);
        let worth = (0..20).filter(|_| search.is_worth_it()).count();
        assert_eq!(worth, 20 - REST_BATCHES as usize);
        search.found(100, 1);
        assert!(search.is_worth_it());
    }
}
