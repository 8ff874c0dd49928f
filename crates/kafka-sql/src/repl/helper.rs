//! What the line editor asks while the user types: is this complete, and how could it go on?

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use datafusion::common::utils::quote_identifier;
use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;
use datafusion_kafka::text::visible;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Result};

use super::command;
use super::highlight::colored;
use crate::statements;

/// Table functions and functions that are written often.
const FUNCTIONS: [&str; 12] = [
    "kafka(",
    "kafka_offsets(",
    "kafka_topics()",
    "count(",
    "sum(",
    "avg(",
    "min(",
    "max(",
    "date_trunc(",
    "date_bin(",
    "now()",
    "coalesce(",
];

/// What `\\pset` sets.
const SETTINGS: [&str; 8] = [
    "format", "bytes", "maxrows", "width", "wrap", "null", "pager", "expanded",
];

/// The columns of every topic.
const KAFKA_COLUMNS: [&str; 9] = [
    "topic",
    "partition",
    "offset",
    "timestamp",
    "timestamp_type",
    "key",
    "value",
    "headers",
    "leader_epoch",
];

/// The names that completion offers; filled while the shell runs.
#[derive(Debug, Default)]
pub(super) struct Names {
    topics: RwLock<Vec<String>>,
    tables: RwLock<Vec<String>>,
    columns: RwLock<BTreeSet<String>>,
}

impl Names {
    pub(super) fn set_topics(&self, mut topics: Vec<String>) {
        topics.retain(|name| can_be_offered(name));
        // A lock is poisoned only by a panic elsewhere; the names are whole in any case.
        *self.topics.write().unwrap_or_else(PoisonError::into_inner) = topics;
    }

    /// Replaces the tables made in this session, each with its columns.
    pub(super) fn set_tables(&self, tables: Vec<(String, Vec<String>)>) {
        let mut columns = BTreeSet::new();
        let mut names = Vec::new();
        for (table, its_columns) in tables {
            if can_be_offered(&table) {
                names.push(table);
            }
            columns.extend(its_columns.into_iter().filter(|name| can_be_offered(name)));
        }
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = names;
        *self.columns.write().unwrap_or_else(PoisonError::into_inner) = columns;
    }

    fn relations(&self) -> BTreeSet<String> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        topics.iter().chain(tables.iter()).cloned().collect()
    }

    fn columns(&self) -> BTreeSet<String> {
        let columns = self.columns.read().unwrap_or_else(PoisonError::into_inner);
        KAFKA_COLUMNS
            .iter()
            .map(|c| (*c).to_owned())
            .chain(columns.iter().cloned())
            .collect()
    }
}

/// Whether a name can stand in the line that is edited: the terminal obeys what is in it.
fn can_be_offered(name: &str) -> bool {
    visible(name, &[]) == name
}

/// The line editor's helper.
pub(super) struct Helper {
    names: Arc<Names>,
    files: FilenameCompleter,
}

impl Helper {
    pub(super) fn new(names: Arc<Names>) -> Self {
        Self {
            names,
            files: FilenameCompleter::new(),
        }
    }
}

/// Where the word before the cursor starts, and what it could become.
fn candidates(names: &Names, line: &str, pos: usize) -> (usize, Vec<String>) {
    let before = &line[..pos];
    if let Some(command) = before.trim_start().strip_prefix('\\') {
        return command_candidates(names, before, command);
    }
    let start = before
        .char_indices()
        .rev()
        .take_while(|(_, c)| c.is_alphanumeric() || *c == '_')
        .last()
        .map_or(pos, |(at, _)| at);
    // Inside an open quoted identifier only relations fit, and the word may hold any character.
    if before.matches('"').count() % 2 == 1 {
        let quote = before.rfind('"').unwrap_or(start);
        let typed = &before[quote + 1..];
        let found = names
            .relations()
            .into_iter()
            .filter(|n| n.starts_with(typed));
        return (
            quote,
            found
                .map(|n| format!("\"{}\"", n.replace('"', "\"\"")))
                .collect(),
        );
    }
    let word = &before[start..];
    if word.is_empty() {
        return (start, Vec::new());
    }
    let matches = |name: &str| {
        name.len() > word.len()
            && name
                .get(..word.len())
                .is_some_and(|p| p.eq_ignore_ascii_case(word))
    };
    let mut found: Vec<String> = Vec::new();
    found.extend(
        names
            .relations()
            .into_iter()
            .filter(|n| matches(n))
            .map(|n| quote_identifier(&n).into_owned()),
    );
    found.extend(names.columns().into_iter().filter(|n| matches(n)));
    found.extend(
        FUNCTIONS
            .iter()
            .filter(|n| matches(n))
            .map(|n| (*n).to_owned()),
    );
    // Keywords follow the case of what was typed.
    let lower = word.chars().any(char::is_lowercase);
    for keyword in ALL_KEYWORDS.iter().filter(|k| matches(k)) {
        let keyword = if lower {
            keyword.to_lowercase()
        } else {
            (*keyword).to_owned()
        };
        if !found.contains(&keyword) {
            found.push(keyword);
        }
    }
    (start, found)
}

fn command_candidates(names: &Names, before: &str, command: &str) -> (usize, Vec<String>) {
    let start = before.rfind(char::is_whitespace).map_or(0, |at| {
        at + before[at..].chars().next().map_or(1, char::len_utf8)
    });
    let word = &before[start..];
    let arguments: Vec<&str> = command.split_whitespace().collect();
    let finished = if word.is_empty() {
        arguments.len()
    } else {
        arguments.len().saturating_sub(1)
    };
    let choices: Vec<String> = match (finished, arguments.first().copied().unwrap_or_default()) {
        (0, _) => command::NAMES.iter().map(|n| (*n).to_owned()).collect(),
        (1, "d" | "describe" | "offsets" | "topics") => names.relations().into_iter().collect(),
        (1, "ledger" | "timing") => vec!["on".into(), "off".into()],
        (1, "x") => vec!["on".into(), "off".into(), "auto".into()],
        (1, "pset") => SETTINGS.map(String::from).to_vec(),
        (2, "pset") if arguments[1] == "format" => ["table", "csv", "tsv", "json", "ndjson"]
            .map(String::from)
            .to_vec(),
        (2, "pset") if arguments[1] == "bytes" => {
            ["auto", "utf8", "base64", "hex"].map(String::from).to_vec()
        }
        _ => Vec::new(),
    };
    (
        start,
        choices
            .into_iter()
            .filter(|c| c.starts_with(word))
            .collect(),
    )
}

impl Completer for Helper {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> Result<(usize, Vec<Pair>)> {
        if line.trim_start().starts_with("\\i ") {
            return self.files.complete_path(line, pos);
        }
        let (start, found) = candidates(&self.names, line, pos);
        let pairs = found
            .into_iter()
            .map(|text| Pair {
                display: text.clone(),
                replacement: text,
            })
            .collect();
        Ok((start, pairs))
    }
}

impl Validator for Helper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        Ok(if is_finished(context.input()) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

/// Whether Enter ends the input: commands are one line, statements end with `;`.
fn is_finished(input: &str) -> bool {
    let trimmed = input.trim();
    trimmed.is_empty()
        || trimmed.starts_with('\\')
        || matches!(trimmed, "quit" | "exit")
        || statements::is_complete(input)
}

impl Hinter for Helper {
    type Hint = String;
}

impl Highlighter for Helper {
    fn highlight<'l>(&self, line: &'l str, _pos: usize) -> Cow<'l, str> {
        colored(line, &KAFKA_COLUMNS)
    }

    fn highlight_char(&self, _line: &str, _pos: usize, _kind: CmdKind) -> bool {
        true
    }
}

impl rustyline::Helper for Helper {}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let names = Names::default();
        names.set_topics(vec!["orders".into(), "order-items".into(), "Other".into()]);
        names.set_tables(vec![("typed".into(), vec!["amount".into()])]);
        names
    }

    fn complete(line: &str) -> (usize, Vec<String>) {
        candidates(&names(), line, line.len())
    }

    #[test]
    fn topics_come_first_and_are_quoted_where_needed() {
        let (start, found) = complete("SELECT * FROM ord");
        assert_eq!(start, 14);
        assert_eq!(found[..2], ["\"order-items\"", "orders"]);
        assert!(found.contains(&"order".to_owned()));
        assert_eq!(complete("SELECT * FROM \"order-").1, ["\"order-items\""]);
        assert_eq!(complete("select * from oth").1[0], "\"Other\"");
    }

    #[test]
    fn columns_functions_and_keywords() {
        assert!(complete("SELECT amo").1.contains(&"amount".to_owned()));
        assert!(
            complete("SELECT timest")
                .1
                .contains(&"timestamp".to_owned())
        );
        assert!(
            complete("SELECT * FROM kafka_o")
                .1
                .contains(&"kafka_offsets(".to_owned())
        );
        assert_eq!(complete("SELEC").1, ["SELECT"]);
        assert_eq!(complete("selec").1, ["select"]);
        assert!(complete("").1.is_empty());
    }

    #[test]
    fn commands_complete_names_and_arguments() {
        assert_eq!(complete("\\to"), (0, vec!["\\topics".to_owned()]));
        assert_eq!(complete("\\offsets ord").1, ["order-items", "orders"]);
        assert_eq!(
            complete("\\pset format nd"),
            (13, vec!["ndjson".to_owned()])
        );
        assert_eq!(complete("\\pset m").1, ["maxrows"]);
    }

    #[test]
    fn any_cursor_in_any_text_is_safe() {
        let line = "SELECT \"ü-ñ\" FROM ordérs \\d ß";
        for (at, _) in line.char_indices() {
            let _ = candidates(&names(), line, at);
        }
        let _ = complete("\\d\u{3000}ü");
    }

    #[test]
    fn enter_ends_commands_and_complete_statements() {
        assert!(is_finished("\\d"));
        assert!(is_finished("SELECT 1;"));
        assert!(is_finished("quit"));
        assert!(is_finished(" \n"));
        assert!(!is_finished("SELECT 1"));
        assert!(!is_finished("SELECT ';"));
    }
}
