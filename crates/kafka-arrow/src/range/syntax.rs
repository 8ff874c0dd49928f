//! Why the text of a range is refused, and the parts of text that the parser works on.

use std::fmt;

/// How many characters of the input a message repeats.
const EXCERPT_CHARS: usize = 200;

/// The text of a range does not follow the grammar of [`RangeSpec`](super::RangeSpec).
///
/// ```
/// # use kafka_arrow::range::RangeSpec;
/// let error = "0=100-200".parse::<RangeSpec>().unwrap_err();
/// assert_eq!(error.to_string(), r#"range "0=100-200": expected ':' at column 6, found '-'"#);
/// assert_eq!(error.column(), 6);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeSyntaxError {
    input: String,
    column: usize,
    expected: String,
    found: String,
}

impl RangeSyntaxError {
    /// `at` is a byte position in `input`.
    pub(super) fn new(
        input: &str,
        at: usize,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        let before = input.get(..at).unwrap_or(input);
        Self {
            input: input.to_owned(),
            column: before.chars().count() + 1,
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// The whole text as the user gave it.
    pub fn input(&self) -> &str {
        &self.input
    }

    /// Where the text stops making sense: the number of a character, counted from 1.
    pub fn column(&self) -> usize {
        self.column
    }

    /// What would be valid there.
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// What is there instead.
    pub fn found(&self) -> &str {
        &self.found
    }
}

impl fmt::Display for RangeSyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "range {:?}: expected {} at column {}, found {}",
            excerpt(&self.input),
            self.expected,
            self.column,
            self.found
        )
    }
}

impl std::error::Error for RangeSyntaxError {}

/// The text, or its beginning if it is long.
pub(super) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_CHARS) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// A part of the input that knows its position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    input: &'a str,
    at: usize,
    len: usize,
}

impl<'a> Part<'a> {
    pub(super) fn whole(input: &'a str) -> Self {
        Self {
            input,
            at: 0,
            len: input.len(),
        }
    }

    pub(super) fn text(self) -> &'a str {
        &self.input[self.at..self.at + self.len]
    }

    pub(super) fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The part without surrounding white space.
    pub(super) fn trim(self) -> Self {
        let text = self.text();
        let start = text.len() - text.trim_start().len();
        Self {
            at: self.at + start,
            len: text.trim().len(),
            ..self
        }
    }

    /// The first `bytes` of the part and the rest. `bytes` must be a boundary between characters.
    pub(super) fn split_at(self, bytes: usize) -> (Self, Self) {
        let head = Self { len: bytes, ..self };
        let tail = Self {
            at: self.at + bytes,
            len: self.len - bytes,
            ..self
        };
        (head, tail)
    }

    /// The rest after a prefix, if the part begins with it.
    pub(super) fn strip(self, prefix: char) -> Option<Self> {
        self.text()
            .starts_with(prefix)
            .then(|| self.split_at(prefix.len_utf8()).1)
    }

    /// The text before and after the first occurrence of a character.
    pub(super) fn split_once(self, separator: char) -> Option<(Self, Self)> {
        let (before, after) = self.split_at(self.text().find(separator)?);
        Some((before, after.strip(separator)?))
    }

    /// The leading characters that satisfy a condition, and the rest.
    pub(super) fn take_while(self, condition: impl Fn(char) -> bool) -> (Self, Self) {
        let text = self.text();
        let end = text.find(|c| !condition(c)).unwrap_or(text.len());
        self.split_at(end)
    }

    /// An error at the part's first character, which it quotes.
    pub(super) fn error_at_char(self, expected: impl Into<String>) -> RangeSyntaxError {
        let found = self.text().chars().next().map(|c| format!("'{c}'"));
        self.error(expected, found)
    }

    /// An error at the part's first character that quotes the whole part.
    pub(super) fn error_at_text(self, expected: impl Into<String>) -> RangeSyntaxError {
        let text = self.text();
        self.error(
            expected,
            (!text.is_empty()).then(|| format!("'{}'", excerpt(text))),
        )
    }

    /// An error `offset` bytes into the part, with a given description of what was found.
    pub(super) fn error_found(
        self,
        offset: usize,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> RangeSyntaxError {
        RangeSyntaxError::new(self.input, self.at + offset, expected, found)
    }

    fn error(self, expected: impl Into<String>, found: Option<String>) -> RangeSyntaxError {
        let found = found.unwrap_or_else(|| {
            if self.at >= self.input.len() {
                "the end of the text".to_owned()
            } else {
                // The part before a separator is empty, so the separator is what was found.
                let next = self.input[self.at..].chars().next().unwrap_or(' ');
                format!("'{next}'")
            }
        });
        RangeSyntaxError::new(self.input, self.at, expected, found)
    }
}
