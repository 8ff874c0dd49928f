//! Reads `CREATE EXTERNAL TABLE` with nested columns, which DataFusion's dialects do not.

use std::any::TypeId;

use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, TokenizerError};

use super::{bounds, maps};
use crate::error::External as _;

/// PostgreSQL's dialect, extended by `STRUCT<a INT, …>` and `MAP<K, V>` as far as table definitions need it.
#[derive(Debug)]
struct Definitions;

impl Dialect for Definitions {
    // The parser has special cases for PostgreSQL, which shall apply here as well.
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn is_identifier_start(&self, c: char) -> bool {
        PostgreSqlDialect {}.is_identifier_start(c)
    }

    fn is_identifier_part(&self, c: char) -> bool {
        PostgreSqlDialect {}.is_identifier_part(c)
    }

    fn is_delimited_identifier_start(&self, c: char) -> bool {
        PostgreSqlDialect {}.is_delimited_identifier_start(c)
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }

    fn supports_string_escape_constant(&self) -> bool {
        true
    }

    fn supports_array_typedef_with_brackets(&self) -> bool {
        true
    }

    fn supports_struct_literal(&self) -> bool {
        true
    }

    // The same rule makes the parser accept the type.
    fn supports_map_literal_with_angle_brackets(&self) -> bool {
        true
    }
}

/// The plan of a `CREATE EXTERNAL TABLE`, in the dialect with these types. `None` if the text is something
/// else, or invalid; the usual path then has the usual message.
pub(super) async fn defined(state: &SessionState, text: &str) -> Result<Option<LogicalPlan>> {
    let mut words = text.split_whitespace().map(str::to_ascii_uppercase);
    let defines =
        words.next().as_deref() == Some("CREATE") && words.take(3).any(|word| word == "EXTERNAL");
    if !defines {
        return Ok(None);
    }
    bounds::check(text, &Definitions).external()?;
    match parsed(text) {
        Some(mut statement) => {
            maps::hide(&mut statement)?;
            let plan = state.statement_to_plan(statement).await?;
            maps::restore(plan).map(Some)
        }
        None => Ok(None),
    }
}

/// The statement, if the text has exactly one.
pub(super) fn parsed(text: &str) -> Option<Statement> {
    let parser = DFParserBuilder::new(tokens(text).ok()?).with_dialect(&Definitions);
    let mut statements = parser.build().ok()?.parse_statements().ok()?;
    let statement = statements.pop_front()?;
    statements.is_empty().then_some(statement)
}

/// The tokens of a definition. A token that closes two types at once is split, because the parser would
/// attach a following `[]` to the inner type.
fn tokens(text: &str) -> Result<Vec<TokenWithSpan>, TokenizerError> {
    let mut tokens = vec![];
    let (mut open, mut opens) = (0usize, false);
    for token in Tokenizer::new(&Definitions, text).tokenize_with_location()? {
        match &token.token {
            Token::Whitespace(_) => {}
            Token::Word(word) => {
                let nests = [Keyword::ARRAY, Keyword::MAP, Keyword::STRUCT];
                opens = nests.contains(&word.keyword);
            }
            Token::Lt if opens => open += 1,
            Token::Gt => open = open.saturating_sub(1),
            Token::ShiftRight if open > 1 => {
                open -= 2;
                tokens
                    .extend([Token::Gt, Token::Gt].map(|one| TokenWithSpan::new(one, token.span)));
                continue;
            }
            _ => opens = false,
        }
        tokens.push(token);
    }
    Ok(tokens)
}
