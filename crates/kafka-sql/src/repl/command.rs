//! The shell's backslash commands.

use clap::ValueEnum;

use crate::failure::Failure;
use crate::output::{BytesAs, Expanded, Format, MaxRows, MostWidth, parse_max_rows};

/// What `\?` prints.
pub(super) const HELP: &str = r"Statements end with ; and may span lines. Ctrl-C stops a statement, Ctrl-D leaves.

  \d                       tables
  \d TABLE                 columns of a table
  \topics [PATTERN]        topics
  \describe TOPIC          partitions, log bounds, settings and columns of a topic
  \offsets TOPIC [RANGE]   the offsets that a range means, for each partition
  \doctor [TOPIC …]        what is wrong with the connection, step by step
  \options [PART]          the options of a table, or those whose names or meanings have PART in them
  \jobs URL                the batches of a job, by the folder or URL of its offset log
  \timing [on|off]         show the time that a statement took
  \ledger [on|off]         show what became of the offsets of a statement's ranges
  \pset [NAME VALUE]       format table|csv|tsv|json|ndjson, bytes auto|utf8|base64|hex, maxrows N|all;
                           of tables: width auto|all|N, wrap on|off, null TEXT, pager on|off
  \x [on|off|auto]         show each row as a list of its columns; auto: where it has too many columns
  \i FILE                  run the statements of a file
  \q                       leave
  \?                       this help";

/// The names, for completion.
pub(super) const NAMES: [&str; 14] = [
    "\\d",
    "\\describe",
    "\\doctor",
    "\\i",
    "\\jobs",
    "\\ledger",
    "\\offsets",
    "\\options",
    "\\pset",
    "\\q",
    "\\timing",
    "\\topics",
    "\\x",
    "\\?",
];

/// A command and its arguments.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Quit,
    Help,
    Tables,
    Columns(String),
    Topics(Option<String>),
    Describe(String),
    Offsets(String, Option<String>),
    Doctor(Vec<String>),
    Options(String),
    Jobs(String),
    Timing(Option<bool>),
    Ledger(Option<bool>),
    Format(Format),
    Bytes(BytesAs),
    MaxRows(MaxRows),
    Width(MostWidth),
    Wrap(bool),
    Null(String),
    Pager(bool),
    Expanded(Option<Expanded>),
    ShowSettings,
    Include(String),
}

impl Command {
    /// Reads a line; `None` if it is a statement.
    ///
    /// # Errors
    /// When the command does not exist or its arguments are wrong.
    pub(super) fn parse(line: &str) -> Result<Option<Self>, Failure> {
        let line = line.trim();
        if matches!(line.trim_end_matches(';').trim_end(), "quit" | "exit") {
            return Ok(Some(Self::Quit));
        }
        let Some(rest) = line.strip_prefix('\\') else {
            return Ok(None);
        };
        // As in psql, a semicolon after a command does no harm.
        let rest = rest.trim_end_matches(';');
        let mut words = rest.split_whitespace();
        let name = words.next().unwrap_or_default();
        let arguments: Vec<&str> = words.collect();
        let command = match (name, arguments.as_slice()) {
            ("q" | "quit", []) => Self::Quit,
            ("?" | "h" | "help", []) => Self::Help,
            ("d" | "dt", []) => Self::Tables,
            ("d", [table]) => Self::Columns((*table).to_owned()),
            ("topics", []) => Self::Topics(None),
            ("topics", [pattern]) => Self::Topics(Some((*pattern).to_owned())),
            ("describe", [topic]) => Self::Describe((*topic).to_owned()),
            ("offsets", [topic]) => Self::Offsets((*topic).to_owned(), None),
            ("offsets", [topic, range @ ..]) => {
                Self::Offsets((*topic).to_owned(), Some(range.join(" ")))
            }
            ("doctor", topics) => Self::Doctor(topics.iter().map(|t| (*t).to_owned()).collect()),
            ("options", part) => Self::Options(part.join(" ")),
            ("jobs", [url]) => Self::Jobs((*url).to_owned()),
            ("timing", []) => Self::Timing(None),
            ("timing", ["on"]) => Self::Timing(Some(true)),
            ("timing", ["off"]) => Self::Timing(Some(false)),
            ("ledger", []) => Self::Ledger(None),
            ("ledger", ["on"]) => Self::Ledger(Some(true)),
            ("ledger", ["off"]) => Self::Ledger(Some(false)),
            ("pset", []) => Self::ShowSettings,
            ("pset", ["format", format]) => match super::text_format(format) {
                Some(format) => Self::Format(format),
                None => {
                    return Err(wrong(
                        "\\pset format",
                        format,
                        "table, csv, tsv, json or ndjson",
                    ));
                }
            },
            ("pset", ["bytes", bytes]) => match BytesAs::from_str(bytes, true) {
                Ok(bytes) => Self::Bytes(bytes),
                Err(_) => return Err(wrong("\\pset bytes", bytes, "auto, utf8, base64 or hex")),
            },
            ("pset", ["maxrows", rows]) => {
                Self::MaxRows(parse_max_rows(rows).map_err(Failure::usage)?)
            }
            ("pset", ["width", width]) => Self::Width(match *width {
                "auto" => MostWidth::Auto,
                "all" => MostWidth::Any,
                number => match number.parse() {
                    Ok(columns) if columns > 0 => MostWidth::Columns(columns),
                    _ => return Err(wrong("\\pset width", number, "auto, all or a number")),
                },
            }),
            ("pset", ["wrap", on]) => Self::Wrap(switch("\\pset wrap", on)?),
            ("pset", ["pager", on]) => Self::Pager(switch("\\pset pager", on)?),
            ("pset", ["null"]) => Self::Null(String::new()),
            ("pset", ["null", text]) => Self::Null(text.trim_matches('\'').to_owned()),
            ("x", []) | ("pset", ["expanded"]) => Self::Expanded(None),
            ("x", [on]) | ("pset", ["expanded", on]) => match Expanded::from_str(on, true) {
                Ok(expanded) => Self::Expanded(Some(expanded)),
                Err(_) => return Err(wrong("\\x", on, "on, off or auto")),
            },
            ("i", [_, ..]) => Self::Include(rest.trim_start_matches('i').trim().to_owned()),
            _ if NAMES.iter().any(|n| n[1..] == *name) => {
                return Err(Failure::usage(format!(
                    "\\{name}: wrong arguments; \\? shows what it takes"
                )));
            }
            _ => {
                return Err(Failure::usage(format!(
                    "\\{name} is not a command; \\? lists them"
                )));
            }
        };
        Ok(Some(command))
    }
}

fn switch(what: &str, word: &str) -> Result<bool, Failure> {
    match word {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(wrong(what, word, "on or off")),
    }
}

fn wrong(what: &str, found: &str, expected: &str) -> Failure {
    Failure::usage(format!("{what}: expected {expected}, found '{found}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Command {
        Command::parse(line).unwrap().unwrap()
    }

    #[test]
    fn commands_and_their_arguments() {
        assert_eq!(parse("\\q"), Command::Quit);
        assert_eq!(parse("exit;"), Command::Quit);
        assert_eq!(parse(" \\d "), Command::Tables);
        assert_eq!(parse("\\d my-topic;"), Command::Columns("my-topic".into()));
        assert_eq!(parse("\\topics ord*"), Command::Topics(Some("ord*".into())));
        assert_eq!(
            parse("\\offsets orders 0=1:2, 1=3:"),
            Command::Offsets("orders".into(), Some("0=1:2, 1=3:".into()))
        );
        assert_eq!(parse("\\doctor"), Command::Doctor(vec![]));
        assert_eq!(
            parse("\\doctor a b;"),
            Command::Doctor(vec!["a".into(), "b".into()])
        );
        assert_eq!(parse("\\options"), Command::Options(String::new()));
        assert_eq!(
            parse("\\options dead letters"),
            Command::Options("dead letters".into())
        );
        assert_eq!(
            parse("\\jobs a.checkpoint"),
            Command::Jobs("a.checkpoint".into())
        );
        assert_eq!(parse("\\timing off"), Command::Timing(Some(false)));
        assert_eq!(parse("\\ledger on"), Command::Ledger(Some(true)));
        assert_eq!(parse("\\pset format csv"), Command::Format(Format::Csv));
        assert_eq!(parse("\\pset bytes hex"), Command::Bytes(BytesAs::Hex));
        assert_eq!(parse("\\pset maxrows all"), Command::MaxRows(MaxRows(None)));
        assert_eq!(parse("\\x"), Command::Expanded(None));
        assert_eq!(parse("\\x auto;"), Command::Expanded(Some(Expanded::Auto)));
        assert_eq!(
            parse("\\pset width 80"),
            Command::Width(MostWidth::Columns(80))
        );
        assert_eq!(parse("\\pset wrap on"), Command::Wrap(true));
        assert_eq!(parse("\\pset null '-'"), Command::Null("-".into()));
        assert_eq!(parse("\\pset pager off"), Command::Pager(false));
        assert_eq!(parse("\\i a b.sql"), Command::Include("a b.sql".into()));
    }

    #[test]
    fn statements_are_not_commands() {
        assert_eq!(Command::parse("SELECT 1;").unwrap(), None);
        assert_eq!(Command::parse("SELECT 'quit'").unwrap(), None);
    }

    #[test]
    fn wrong_commands_say_what_is_expected() {
        let message = |line| Command::parse(line).unwrap_err().text(false);
        assert_eq!(
            message("\\nosuch"),
            "\\nosuch is not a command; \\? lists them"
        );
        assert_eq!(
            message("\\offsets"),
            "\\offsets: wrong arguments; \\? shows what it takes"
        );
        assert_eq!(
            message("\\pset format parquet"),
            "\\pset format: expected table, csv, tsv, json or ndjson, found 'parquet'"
        );
    }

    #[test]
    fn help_names_every_command() {
        for name in NAMES {
            assert!(HELP.contains(name), "{name}");
        }
    }
}
