//! The statement that a search runs: one that `query` would find the same records with.

use datafusion::common::utils::quote_identifier;
use datafusion::sql::parser::DFParserBuilder;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use regex::bytes::Regex;

use super::SearchArgs;
use crate::failure::Failure;
use crate::inspect::literal;

/// The columns that are printed unless others are asked for.
const COLUMNS: [&str; 7] = [
    "topic",
    "partition",
    "offset",
    "timestamp",
    "key",
    "value",
    "headers",
];

/// One execution partition for each Kafka partition, so that each is read from its end.
const WHOLE_PARTITIONS: &str = "max.records.per.partition=9223372036854775807";

/// The statement.
///
/// # Errors
/// When a condition does not parse.
pub(super) fn statement(
    args: &SearchArgs,
    topics: &str,
    range: Option<&str>,
) -> Result<String, Failure> {
    let mut table = vec![literal(topics)];
    table.extend(range.map(literal));
    table.extend(args.options.iter().map(|option| literal(option)));
    if args.reverse {
        table.push(literal(WHOLE_PARTITIONS));
    }
    let prefix = prefix(&args.options);
    let column = |name: &str| quote_identifier(&format!("{prefix}{name}")).into_owned();
    let columns = match &args.select {
        Some(columns) => format!("{columns}\n"),
        None if args.options.is_empty() => COLUMNS.map(column).join(", "),
        None => "*".to_owned(),
    };
    let mut sql = format!("SELECT {columns} FROM kafka({})", table.join(", "));
    let conditions = conditions(args, &column)?;
    sql.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
    if args.reverse {
        sql.push_str(&format!(" ORDER BY {} DESC", column("offset")));
    }
    if let Some(first) = args.first {
        sql.push_str(&format!(" LIMIT {first}"));
    }
    Ok(sql)
}

fn conditions(args: &SearchArgs, column: &dyn Fn(&str) -> String) -> Result<Vec<String>, Failure> {
    let (key, value, headers) = (column("key"), column("value"), column("headers"));
    let bytes = |option: &str, text: &str| match args.hex {
        true => hexadecimal(option, text),
        false => Ok(literal(text)),
    };
    let mut all = vec![];
    let keys = args.key.iter().map(|key| bytes("--key", key));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    match keys.as_slice() {
        [] => {}
        [one] => all.push(format!("{key} = {one}")),
        several => all.push(format!("{key} IN ({})", several.join(", "))),
    }
    if let Some(text) = &args.contains {
        let text = bytes("--contains", text)?;
        all.push(format!(
            "(contains({value}, {text}) OR contains({key}, {text}))"
        ));
    }
    if let Some(regex) = &args.regex {
        Regex::new(regex).map_err(|error| {
            Failure::usage(format!("--regex: {}", one_line(&error.to_string())))
        })?;
        let regex = literal(regex);
        all.push(format!(
            "(regexp_like({value}, {regex}) OR regexp_like({key}, {regex}))"
        ));
    }
    for header in &args.header {
        let Some((name, wanted)) = header.split_once('=') else {
            return Err(Failure::usage(format!(
                "--header '{header}': expected NAME=VALUE"
            )));
        };
        let (name, wanted) = (literal(name), bytes("--header", wanted)?);
        all.push(format!("has_header({headers}, {name}, {wanted})"));
    }
    if let Some(condition) = &args.condition {
        one_expression(condition)?;
        // A comment at its end ends with its line.
        all.push(format!("({condition}\n)"));
    }
    Ok(all)
}

/// What columns of Kafka's are called in the table that the options make.
fn prefix(options: &[String]) -> &str {
    let named = |option: &&String| {
        let name = option.split('=').next().unwrap_or_default();
        let name = name.to_ascii_lowercase().replace(['.', '-', '_'], "");
        name.trim() == "metadataprefix"
    };
    let given = options.iter().rfind(named);
    let value = given.and_then(|option| option.split_once('='));
    value.map_or("", |(_, prefix)| prefix.trim())
}

/// Checks that a text is one expression: it stands between brackets, which it could close.
fn one_expression(text: &str) -> Result<(), Failure> {
    let usage = |error: datafusion::error::DataFusionError| match Failure::from(error) {
        Failure::Failed {
            message,
            detail,
            error,
            ..
        } => Failure::Failed {
            exit: crate::failure::Exit::Usage,
            place: Some("--where".to_owned()),
            message,
            detail,
            error,
        },
        other => other,
    };
    let parser = DFParserBuilder::new(text).with_dialect(&PostgreSqlDialect {});
    let parsed = parser
        .build()
        .and_then(|mut parser| parser.parse_into_expr());
    let parsed = parsed.map_err(usage)?;
    match parsed.alias {
        None => Ok(()),
        Some(alias) => Err(Failure::usage(format!(
            "--where: Expected: an operator or the end, found: {alias}"
        ))),
    }
}

/// Bytes as an SQL literal.
fn hexadecimal(option: &str, digits: &str) -> Result<String, Failure> {
    let digits = digits.trim_start_matches("0x");
    if digits.len().is_multiple_of(2) && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(format!("X'{digits}'"));
    }
    Err(Failure::usage(format!(
        "{option}: '{digits}' is not an even number of hexadecimal digits, as --hex asks for"
    )))
}

/// A message of several lines that draw a place in the pattern, as its last one, which says what is wrong.
fn one_line(message: &str) -> String {
    let last = message.lines().last().unwrap_or(message);
    last.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        search: SearchArgs,
    }

    fn made(args: &[&str]) -> Result<String, Failure> {
        let line = ["search", "t"].iter().chain(args);
        let args = Line::try_parse_from(line).unwrap().search;
        statement(&args, "t", None)
    }

    #[test]
    fn conditions_become_quoted_sql() {
        let start =
            "SELECT topic, partition, offset, timestamp, key, value, headers FROM kafka('t') WHERE";
        for (args, expected) in [
            (vec!["--key", "it's"], "key = 'it''s'"),
            (vec!["--key", "a", "--key", "b"], "key IN ('a', 'b')"),
            (vec!["--key", "ff00", "--hex"], "key = X'ff00'"),
            (
                vec!["--contains", r"%_\'"],
                r"(contains(value, '%_\''') OR contains(key, '%_\'''))",
            ),
            (
                vec!["--regex", "a'|b"],
                "(regexp_like(value, 'a''|b') OR regexp_like(key, 'a''|b'))",
            ),
            (
                vec!["--header", "a=b=c", "--header", "d="],
                "has_header(headers, 'a', 'b=c') AND has_header(headers, 'd', '')",
            ),
            (
                vec!["--where", "x = 1 OR true -- all", "--first", "3"],
                "(x = 1 OR true -- all\n) LIMIT 3",
            ),
        ] {
            assert_eq!(
                made(&args).unwrap(),
                format!("{start} {expected}"),
                "{args:?}"
            );
        }
        let reverse = made(&["--key", "k", "--reverse", "--option", "metadata.prefix=_"]).unwrap();
        assert_eq!(
            reverse,
            "SELECT * FROM kafka('t', 'metadata.prefix=_', 'max.records.per.partition=9223372036854775807') \
             WHERE _key = 'k' ORDER BY _offset DESC"
        );
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for (args, expected) in [
            (vec!["--where", "true) OR (true"], "--where: "),
            (vec!["--where", "a b"], "--where: "),
            (vec!["--where", ""], "--where: "),
            (vec!["--where", "'x"], "--where: "),
            (vec!["--where", "a /* b"], "--where: "),
            (vec!["--regex", "("], "--regex: unclosed group"),
            (vec!["--header", "a"], "--header 'a': expected NAME=VALUE"),
            (
                vec!["--key", "abc", "--hex"],
                "--key: 'abc' is not an even number",
            ),
            (
                vec!["--key", "xy", "--hex"],
                "--key: 'xy' is not an even number",
            ),
        ] {
            let failure = made(&args).unwrap_err();
            assert_eq!(failure.exit_code(), 2, "{args:?}");
            let text = failure.text(false);
            assert!(text.starts_with(expected), "{args:?}: {text}");
        }
    }
}
