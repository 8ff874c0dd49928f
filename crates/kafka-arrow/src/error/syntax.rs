//! Why the text of a range is refused.

use std::fmt;

/// How many characters of the input a message repeats.
const EXCERPT_CHARS: usize = 200;

/// The text of a range does not follow the grammar of [`RangeSpec`](crate::range::RangeSpec).
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
    pub(crate) fn new(
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
pub(crate) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_CHARS) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}
