//! What a client asks for, and whether it may: a list of the statements that are allowed.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::sql::sqlparser::ast::{
    self, CloseCursor, CopyLegacyCsvOption, CopyLegacyOption, CopyOption, CopySource, CopyTarget,
    Declare, DeclareType, Expr, FetchDirection, Ident, ObjectName, Reset, Set, Value,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use pgwire::error::PgWireResult;

use super::copy::CopyFormat;
use super::sqlstate;

/// Makes of PostgreSQL's own queries, such as those of psql's `\d`, queries that DataFusion plans.
static COMPATIBLE: LazyLock<PostgresCompatibilityParser> =
    LazyLock::new(PostgresCompatibilityParser::new);

/// A statement that is allowed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Statement {
    Query(Query),
    /// `COPY … TO STDOUT`
    Copy(Query, CopyFormat),
    /// Names and values; without a value, as it was at first.
    Set(Vec<(String, Option<String>)>),
    ResetAll,
    Show(String),
    Begin,
    Commit,
    Rollback,
    Declare {
        cursor: String,
        query: Query,
        /// Whether it outlives the transaction.
        hold: bool,
    },
    Fetch {
        cursor: String,
        /// How many rows; `None` is all.
        rows: Option<usize>,
    },
    /// A cursor, or all.
    Close(Option<String>),
    /// A prepared statement, or all.
    Deallocate(Option<String>),
    DiscardAll,
    /// Has no effect here, and this tag.
    Nothing(&'static str),
}

/// A query as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Query {
    pub(super) text: String,
    /// Whether it shows a plan.
    pub(super) explains: bool,
}

impl Query {
    /// The query in a form that DataFusion may understand where it does not understand the text.
    pub(super) fn compatible(&self) -> Option<String> {
        let text = with_function_names(&self.text);
        let mut statements = COMPATIBLE.parse(&text).ok()?;
        let statement = statements.pop()?;
        let is_query = matches!(
            statement,
            ast::Statement::Query(_) | ast::Statement::Explain { .. }
        );
        (statements.is_empty() && is_query).then(|| statement.to_string())
    }
}

/// The text with names of functions in place of `'pg_catalog.array_in'::regproc`: names are what `pg_type.typinput` and
/// other columns of this type hold here.
fn with_function_names(text: &str) -> Cow<'_, str> {
    if !text.to_lowercase().contains("regproc") {
        return text.into();
    }
    let Ok(mut statements) = Parser::parse_sql(&PostgreSqlDialect {}, text) else {
        return text.into();
    };
    let _: ControlFlow<()> = ast::visit_expressions_mut(&mut statements, |expr| {
        if let Expr::Cast {
            expr: cast,
            data_type,
            ..
        } = expr
            && data_type.to_string().eq_ignore_ascii_case("regproc")
            && let Expr::Value(value) = cast.as_ref()
            && let Value::SingleQuotedString(name) = &value.value
        {
            let name = name.strip_prefix("pg_catalog.").unwrap_or(name);
            *expr = Expr::value(Value::SingleQuotedString(name.to_owned()));
        }
        ControlFlow::Continue(())
    });
    let statements: Vec<String> = statements.iter().map(ToString::to_string).collect();
    statements.join("; ").into()
}

/// The statements of a text.
///
/// # Errors
/// When it is not SQL, and when one of them is not allowed.
pub(super) fn read(text: &str) -> PgWireResult<Vec<Statement>> {
    let parsed = Parser::new(&PostgreSqlDialect {})
        .try_with_sql(text)
        .and_then(|mut parser| parser.parse_statements());
    let parsed = match parsed {
        Ok(parsed) => parsed,
        // `ABORT`, which the parser does not know.
        Err(error) => COMPATIBLE.parse(text).map_err(|_| {
            let message = error.to_string();
            let message = message
                .strip_prefix("sql parser error: ")
                .unwrap_or(&message);
            sqlstate::error(sqlstate::SYNTAX_ERROR, message)
        })?,
    };
    match <[_; 1]>::try_from(parsed) {
        Ok([statement]) => {
            let text = text.trim().trim_end_matches(';').trim_end();
            Ok(vec![allowed(statement, Some(text))?])
        }
        Err(several) => several
            .into_iter()
            .map(|statement| allowed(statement, None))
            .collect(),
    }
}

/// The statement, if it is on the list. `text` is how it was written, where that is known.
fn allowed(statement: ast::Statement, text: Option<&str>) -> PgWireResult<Statement> {
    use ast::Statement as Parsed;
    let query = |statement: &Parsed, explains| {
        let text = text.map_or_else(|| statement.to_string(), ToOwned::to_owned);
        Query { text, explains }
    };
    Ok(match statement {
        Parsed::Query(_) | Parsed::ShowTables { .. } | Parsed::ShowColumns { .. } => {
            Statement::Query(query(&statement, false))
        }
        Parsed::ExplainTable { .. } => Statement::Query(query(&statement, false)),
        Parsed::Explain {
            statement: ref explained,
            ..
        } => match explained.as_ref() {
            Parsed::Query(_) => Statement::Query(query(&statement, true)),
            other => return Err(refused(other)),
        },
        Parsed::Copy {
            ref source,
            to: true,
            target: CopyTarget::Stdout,
            ref options,
            ref legacy_options,
            ..
        } => {
            let text = match source {
                CopySource::Query(query) => query.to_string(),
                CopySource::Table {
                    table_name,
                    columns,
                } if columns.is_empty() => format!("SELECT * FROM {table_name}"),
                CopySource::Table {
                    table_name,
                    columns,
                } => {
                    let columns: Vec<String> = columns.iter().map(Ident::to_string).collect();
                    format!("SELECT {} FROM {table_name}", columns.join(", "))
                }
            };
            let explains = false;
            Statement::Copy(Query { text, explains }, format(options, legacy_options)?)
        }
        Parsed::Set(set) => allowed_set(set)?,
        Parsed::Reset(reset) => match reset.reset {
            Reset::ALL => Statement::ResetAll,
            Reset::ConfigurationParameter(name) => Statement::Set(vec![(setting(&name), None)]),
        },
        Parsed::ShowVariable { variable } => {
            let words: Vec<String> = variable.into_iter().map(|word| word.value).collect();
            let name = words.join(" ").to_lowercase();
            Statement::Show(match name.as_str() {
                "transaction isolation level" => "transaction_isolation".to_owned(),
                "time zone" => "timezone".to_owned(),
                "session authorization" => "session_authorization".to_owned(),
                _ => words.join("."),
            })
        }
        Parsed::StartTransaction { statements, .. } if statements.is_empty() => Statement::Begin,
        Parsed::Commit { .. } => Statement::Commit,
        Parsed::Rollback {
            savepoint: None, ..
        } => Statement::Rollback,
        Parsed::Rollback { .. } => Statement::Nothing("ROLLBACK"),
        Parsed::Savepoint { .. } => Statement::Nothing("SAVEPOINT"),
        Parsed::ReleaseSavepoint { .. } => Statement::Nothing("RELEASE"),
        Parsed::UNLISTEN { .. } => Statement::Nothing("UNLISTEN"),
        Parsed::Discard { .. } => Statement::DiscardAll,
        Parsed::Deallocate { name, .. } => Statement::Deallocate(unless_all(name)),
        Parsed::Declare { ref stmts } => match stmts.as_slice() {
            [declared] => declare(declared)?.ok_or_else(|| refused(&statement))?,
            _ => return Err(refused(&statement)),
        },
        Parsed::Fetch {
            name,
            direction,
            into: None,
            ..
        } => Statement::Fetch {
            cursor: folded(name),
            rows: rows(&direction)?,
        },
        Parsed::Close { cursor } => Statement::Close(match cursor {
            CloseCursor::All => None,
            CloseCursor::Specific { name } => Some(folded(name)),
        }),
        other => return Err(refused(&other)),
    })
}

fn unless_all(name: Ident) -> Option<String> {
    let is_all = name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all");
    (!is_all).then(|| folded(name))
}

/// A name in lower case, unless it is quoted.
fn folded(name: Ident) -> String {
    match name.quote_style {
        Some(_) => name.value,
        None => name.value.to_lowercase(),
    }
}

/// `DECLARE … CURSOR`, if it is that.
fn declare(declared: &Declare) -> PgWireResult<Option<Statement>> {
    let unsupported = |option| {
        let message = format!("{option} cursors are not supported: rows are read once, forward");
        Err(sqlstate::error(sqlstate::NOT_SUPPORTED, message))
    };
    if declared.scroll == Some(true) {
        return unsupported("SCROLL");
    }
    if declared.binary == Some(true) {
        return unsupported("BINARY");
    }
    let (Some(DeclareType::Cursor), Some(name), Some(query)) = (
        &declared.declare_type,
        declared.names.first(),
        &declared.for_query,
    ) else {
        return Ok(None);
    };
    Ok(Some(Statement::Declare {
        cursor: folded(name.clone()),
        query: Query {
            text: query.to_string(),
            explains: false,
        },
        hold: declared.hold == Some(true),
    }))
}

/// Why a statement is not allowed.
fn refused(statement: &ast::Statement) -> pgwire::error::PgWireError {
    use ast::Statement as Parsed;
    let text = statement.to_string();
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    let word = words.first().copied().unwrap_or_default().to_uppercase();
    match statement {
        Parsed::Copy { to: true, .. } => sqlstate::error(
            sqlstate::INSUFFICIENT_PRIVILEGE,
            "COPY to a file or a program of the server is not allowed; COPY … TO STDOUT and psql's \\copy are",
        ),
        Parsed::Prepare { .. } | Parsed::Execute { .. } | Parsed::LISTEN { .. } => sqlstate::error(
            sqlstate::NOT_SUPPORTED,
            format!("{word} is not supported on this port"),
        ),
        Parsed::Insert(_)
        | Parsed::Update(_)
        | Parsed::Delete(_)
        | Parsed::Merge(_)
        | Parsed::Truncate(_)
        | Parsed::Copy { .. } => sqlstate::error(
            sqlstate::READ_ONLY,
            format!("cannot execute {word}: this port only reads"),
        ),
        _ => sqlstate::error(
            sqlstate::READ_ONLY,
            format!(
                "cannot execute {}: this port runs queries only",
                words.join(" ").to_uppercase()
            ),
        ),
    }
}

fn setting(name: &ObjectName) -> String {
    let parts = name.0.iter().filter_map(|part| part.as_ident());
    let parts: Vec<&str> = parts.map(|ident| ident.value.as_str()).collect();
    parts.join(".").to_lowercase()
}

fn allowed_set(set: Set) -> PgWireResult<Statement> {
    let one = |name: &str, value| Statement::Set(vec![(name.to_owned(), Some(value))]);
    match set {
        Set::SingleAssignment {
            variable, values, ..
        } => {
            let values: Vec<String> = values.iter().map(value).collect();
            Ok(one(&setting(&variable), values.join(", ")))
        }
        Set::SetTimeZone { value: zone, .. } => Ok(one("timezone", value(&zone))),
        Set::SetNames { charset_name, .. } => Ok(one("client_encoding", charset_name.value)),
        Set::SetNamesDefault {} => Ok(Statement::Set(vec![("client_encoding".to_owned(), None)])),
        // Whatever they are, they only read.
        Set::SetTransaction { .. } => Ok(Statement::Nothing("SET")),
        other => Err(sqlstate::error(
            sqlstate::INSUFFICIENT_PRIVILEGE,
            format!("{other} is not allowed on this port"),
        )),
    }
}

/// A value of SET: `'UTC'`, `UTC`, `3`, `on`.
fn value(expr: &Expr) -> String {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Boolean(is_on) => if *is_on { "on" } else { "off" }.to_owned(),
            Value::Number(number, _) => number.clone(),
            other => other
                .clone()
                .into_string()
                .unwrap_or_else(|| other.to_string()),
        },
        Expr::Identifier(ident) => ident.value.clone(),
        other => other.to_string(),
    }
}

fn rows(direction: &FetchDirection) -> PgWireResult<Option<usize>> {
    let number = |value: &ast::ValueWithSpan| match &value.value {
        Value::Number(number, _) => number.parse::<usize>().ok(),
        _ => None,
    };
    let forward = match direction {
        FetchDirection::Next | FetchDirection::Forward { limit: None } => Some(Some(1)),
        FetchDirection::Count { limit } | FetchDirection::Forward { limit: Some(limit) } => {
            number(limit).map(Some)
        }
        FetchDirection::All | FetchDirection::ForwardAll => Some(None),
        _ => None,
    };
    forward.ok_or_else(|| sqlstate::error("55000", "cursor can only scan forward"))
}

fn format(options: &[CopyOption], legacy: &[CopyLegacyOption]) -> PgWireResult<CopyFormat> {
    let is_csv = |name: &Ident| name.value.eq_ignore_ascii_case("csv");
    let csv = options
        .iter()
        .any(|option| matches!(option, CopyOption::Format(name) if is_csv(name)))
        || legacy
            .iter()
            .any(|option| matches!(option, CopyLegacyOption::Csv(_)));
    let mut format = CopyFormat::new(csv);
    let refuse = |option: String| {
        sqlstate::error(
            sqlstate::NOT_SUPPORTED,
            format!(
                "COPY with {option} is not supported: there are FORMAT text and csv, HEADER, DELIMITER, NULL and QUOTE"
            ),
        )
    };
    for option in options {
        match option {
            CopyOption::Format(name) if is_csv(name) => {}
            CopyOption::Format(name) if name.value.eq_ignore_ascii_case("text") => {}
            CopyOption::Header(header) => format.header = *header,
            CopyOption::Delimiter(delimiter) => format.delimiter = *delimiter,
            CopyOption::Null(null) => format.null.clone_from(null),
            CopyOption::Quote(quote) if csv => format.quote = *quote,
            CopyOption::Escape(escape) if *escape == format.quote => {}
            CopyOption::Encoding(name) if name.to_lowercase().starts_with("utf") => {}
            other => return Err(refuse(other.to_string())),
        }
    }
    for option in legacy {
        match option {
            CopyLegacyOption::Delimiter(delimiter) => format.delimiter = *delimiter,
            CopyLegacyOption::Null(null) => format.null.clone_from(null),
            CopyLegacyOption::Csv(options) => {
                for option in options {
                    match option {
                        CopyLegacyCsvOption::Header => format.header = true,
                        CopyLegacyCsvOption::Quote(quote) => format.quote = *quote,
                        other => return Err(refuse(other.to_string())),
                    }
                }
            }
            other => return Err(refuse(other.to_string())),
        }
    }
    Ok(format)
}

#[cfg(test)]
mod tests;
