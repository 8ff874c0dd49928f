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
    /// Whether the bytes are text in JSON, where an escape may stand for any part of them. A record with one may be
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
        self.in_json && escape(part).is_some() || memmem::find(part, &self.bytes).is_some()
    }
}

/// Where the first escape of JSON is. A backslash before anything else is an error in JSON, and among the bytes that
/// frame records a number: the offset of a record batch's 47th record is written as one.
fn escape(bytes: &[u8]) -> Option<usize> {
    let escaped = |at: &usize| {
        bytes
            .get(at + 1)
            .is_some_and(|next| br#""\/bfnrtu"#.contains(next))
    };
    memchr::memchr_iter(b'\\', bytes).find(escaped)
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

    /// Where in records that is what may make one wanted.
    pub(super) fn first(&self, records: &[u8]) -> Traces {
        Traces {
            needle: self.needle(records, 0),
            escape: self.escape(records, 0),
        }
    }

    fn needle(&self, records: &[u8], from: usize) -> usize {
        let rest = records.get(from..).unwrap_or_default();
        self.finder.find(rest).map_or(usize::MAX, |at| from + at)
    }

    fn escape(&self, records: &[u8], from: usize) -> usize {
        let rest = records.get(from..).unwrap_or_default();
        let found = self.in_json.then(|| escape(rest)).flatten();
        found.map_or(usize::MAX, |at| from + at)
    }

    /// Notes how many of a batch's records had the needle.
    pub(super) fn found(&mut self, records: usize, hits: usize) {
        if hits * FREQUENT > records {
            self.rest = REST_BATCHES;
        }
    }
}

/// Where the needle is next, and in JSON an escape, which may hide it; `usize::MAX` where they are not. Bytes that frame
/// records can look like an escape: a few records are delivered in vain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traces {
    needle: usize,
    escape: usize,
}

impl Traces {
    /// The nearer of the two.
    pub(super) fn next(self) -> usize {
        self.needle.min(self.escape)
    }

    /// The same in memory where the records begin at `at`.
    pub(super) fn behind(self, at: usize) -> Self {
        Self {
            needle: self.needle.saturating_add(at),
            escape: self.escape.saturating_add(at),
        }
    }

    /// Leaves behind what is before `from`.
    #[inline(always)]
    pub(super) fn move_to(&mut self, search: &Search, records: &[u8], from: usize) {
        if self.needle < from {
            self.needle = search.needle(records, from);
        }
        if self.escape < from {
            self.escape = search.escape(records, from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_in_json_may_stand_for_the_needle() {
        let plain = Needle::new("order");
        assert!(plain.may_be_in(b"an order") && !plain.may_be_in(br"\u006frder"));
        let json = plain.in_json();
        assert!(json.may_be_in(br"\u006frder") && !json.may_be_in(b"ordeR"));
        assert!(json.may_be_in(br"\x\u006frder") && json.may_be_in(br"\\"));
        assert!(!json.may_be_in(br"\x6frder") && !json.may_be_in(b"a\\"));
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
