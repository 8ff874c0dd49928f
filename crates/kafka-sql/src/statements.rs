//! Cuts a text into SQL statements, each with the line it starts on.
//!
//! The cuts are made on the tokens of the SQL parser itself, so a `;` in a string, a quoted
//! identifier, a dollar-quoted string or a comment never ends a statement.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer, TokenizerError};

use crate::failure::{Exit, Failure};

/// One statement of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    /// The statement without its `;`.
    pub(crate) text: String,
    /// The line of the text on which it starts, from 1.
    pub(crate) line: u64,
    /// The column on which it starts, from 1, in characters.
    pub(crate) column: u64,
}

impl Statement {
    /// The statement moved to its own place by blank lines and spaces, so that the positions in
    /// the parser's messages are those of the whole text.
    pub(crate) fn in_place(&self) -> String {
        let lines = usize::try_from(self.line - 1).unwrap_or(0);
        let columns = usize::try_from(self.column - 1).unwrap_or(0);
        format!("{}{}{}", "\n".repeat(lines), " ".repeat(columns), self.text)
    }
}

/// A text cut at its semicolons.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// The statements, also one at the end without `;`.
    pub(crate) statements: Vec<Statement>,
    /// Whether the last statement ended with `;` (true for a text without any statement).
    pub(crate) complete: bool,
}

/// Cuts `text` into statements. Comments between statements belong to none.
///
/// # Errors
/// When a string, identifier or comment is not closed; nothing of such a text is run.
pub(crate) fn split(text: &str) -> Result<Script, Failure> {
    cut(text).map_err(|error| {
        Failure::new(
            Exit::Query,
            format!(
                "{} at line {}, column {}",
                error.message, error.location.line, error.location.column
            ),
        )
    })
}

/// The first words of a statement, of those that the parser knows.
pub(crate) fn keywords(statement: &str) -> impl Iterator<Item = Keyword> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, statement).tokenize();
    let tokens = tokens.unwrap_or_default().into_iter();
    tokens.filter_map(|token| match token {
        Token::Whitespace(_) => None,
        Token::Word(word) => Some(word.keyword),
        _ => Some(Keyword::NoKeyword),
    })
}

/// Whether a statement makes an index.
pub(crate) fn makes_index(statement: &str) -> bool {
    keywords(statement)
        .take(2)
        .eq([Keyword::CREATE, Keyword::INDEX])
}

/// Whether the shell may run `text`: it ends with `;`, or can never become valid by going on.
pub(crate) fn is_complete(text: &str) -> bool {
    match cut(text) {
        Ok(script) => script.complete,
        // An open string, identifier or comment goes on in the next line.
        Err(_) => false,
    }
}

fn cut(text: &str) -> Result<Script, TokenizerError> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location()?;
    let index = LineIndex::new(text);
    let mut statements = Vec::new();
    let mut first: Option<Location> = None;
    let mut complete = true;
    for token in &tokens {
        match token.token {
            // Comments are whitespace to the tokenizer, too.
            Token::Whitespace(_) | Token::EOF => {}
            Token::SemiColon => {
                if let Some(start) = first.take() {
                    statements.push(index.statement(start, Some(token.span.start)));
                }
                complete = true;
            }
            _ => {
                first.get_or_insert(token.span.start);
                complete = false;
            }
        }
    }
    if let Some(start) = first {
        statements.push(index.statement(start, None));
    }
    Ok(Script {
        statements,
        complete,
    })
}

/// Finds byte positions for the tokenizer's lines and columns.
struct LineIndex<'a> {
    text: &'a str,
    /// Byte positions where lines start.
    lines: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    fn new(text: &'a str) -> Self {
        let lines = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self { text, lines }
    }

    fn byte(&self, location: Location) -> usize {
        let line = usize::try_from(location.line.saturating_sub(1)).unwrap_or(usize::MAX);
        let Some(&start) = self.lines.get(line) else {
            return self.text.len();
        };
        let column = usize::try_from(location.column.saturating_sub(1)).unwrap_or(usize::MAX);
        self.text[start..]
            .char_indices()
            .nth(column)
            .map_or(self.text.len(), |(at, _)| start + at)
    }

    fn statement(&self, start: Location, end: Option<Location>) -> Statement {
        let end = end.map_or(self.text.len(), |end| self.byte(end));
        Statement {
            text: self.text[self.byte(start)..end].trim_end().to_owned(),
            line: start.line,
            column: start.column,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<String> {
        split(sql)
            .unwrap()
            .statements
            .into_iter()
            .map(|s| s.text)
            .collect()
    }

    #[test]
    fn semicolons_inside_tokens_do_not_cut() {
        for whole in [
            "SELECT ';'",
            "SELECT 'it''s; here'",
            r#"SELECT ";" FROM t"#,
            "SELECT $$a;b$$",
            "SELECT $tag$a;$$;b$tag$",
            "SELECT 1 -- a; b\n + 1",
            "SELECT /* a; /* nested; */ b; */ 1",
            "SELECT E'a\\';b'",
        ] {
            assert_eq!(
                texts(&format!("{whole}; SELECT 2;")),
                [whole, "SELECT 2"],
                "{whole}"
            );
        }
    }

    #[test]
    fn lines_and_columns_are_those_of_the_text() {
        let script = split("-- one\nSELECT 1;\n\n  SELECT 'ü' ; SELECT 3").unwrap();
        let places: Vec<_> = script
            .statements
            .iter()
            .map(|s| (s.line, s.column, s.text.as_str()))
            .collect();
        assert_eq!(
            places,
            [
                (2, 1, "SELECT 1"),
                (4, 3, "SELECT 'ü'"),
                (4, 16, "SELECT 3")
            ]
        );
        assert!(!script.complete);
        assert_eq!(script.statements[1].in_place(), "\n\n\n  SELECT 'ü'");
    }

    #[test]
    fn empty_statements_and_comments_are_nothing() {
        assert_eq!(texts(""), Vec::<String>::new());
        assert_eq!(texts(" ;; -- x\n; /* y */ "), Vec::<String>::new());
        assert!(split("-- only a comment").unwrap().complete);
    }

    #[test]
    fn a_statement_is_complete_with_its_semicolon() {
        assert!(is_complete("SELECT 1;"));
        assert!(is_complete("SELECT 1; -- done"));
        assert!(is_complete(""));
        assert!(!is_complete("SELECT 1"));
        assert!(!is_complete("SELECT 'a;"));
        assert!(!is_complete("SELECT 1; SELECT 2"));
        assert!(!is_complete("/* open ;"));
    }

    #[test]
    fn open_string_names_its_place() {
        let message = split("SELECT 1;\nSELECT 'abc").unwrap_err().text(false);
        assert!(message.contains("line 2"), "{message}");
        assert!(message.to_lowercase().contains("unterminated"), "{message}");
    }

    #[test]
    fn cuts_at_any_character_boundary_without_panic() {
        let text = "SELECT 'ü;', \"é;\"; /* ñ */ SELECT $ä$;$ä$; ";
        for (at, _) in text.char_indices() {
            let _ = split(&text[..at]);
            let _ = split(&text[at..]);
        }
    }
}
