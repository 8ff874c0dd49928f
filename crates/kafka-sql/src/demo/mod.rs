//! `kafka-sql demo`: an embedded broker with sample data, for trying things and for tests.

mod broker;
mod client;
mod data;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use broker::Broker;
use datafusion_kafka::client::ClientPool;
use datafusion_kafka::client::librdkafka::LibrdkafkaClient;

use crate::failure::{Exit, Failure};
use crate::script::Outcome;

/// What the interactive shell begins with.
pub(crate) const BANNER: &str = "An embedded broker runs in this process with the topics orders, customers, payments and changes.\n\
                                 Try: SELECT partition, count(*), min(offset), max(offset) FROM orders GROUP BY partition;";

/// One file of examples.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Example {
    pub(crate) path: PathBuf,
    /// The comment at its top, without the dashes.
    pub(crate) comment: String,
    /// The rest, as it is shown.
    pub(crate) sql: String,
    /// All of it, so that messages name the file's own lines.
    pub(crate) text: String,
    /// The number of rows its last result has, from a line `-- expect: N rows`.
    pub(crate) expected_rows: Option<u64>,
}

/// Clients for the embedded broker; see [`client::DemoClient`].
pub(crate) fn pool() -> ClientPool {
    ClientPool::with_factory(|config| {
        let client = LibrdkafkaClient::connect(config)?;
        Ok(Arc::new(client::DemoClient::new(Arc::new(client))))
    })
}

/// The `.sql` files of a folder, by name.
///
/// # Errors
/// When the folder cannot be read or has no such file.
pub(crate) fn examples(folder: &Path) -> Result<Vec<Example>, Failure> {
    let cannot =
        |e: &std::io::Error| Failure::io(format_args!("cannot read {}", folder.display()), e);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| cannot(&e))? {
        let path = entry.map_err(|e| cannot(&e))?.path();
        if path.extension().is_some_and(|e| e == "sql") {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(Failure::usage(format!(
            "{} has no .sql files",
            folder.display()
        )));
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path)
                .map_err(|e| Failure::io(format_args!("cannot read {}", path.display()), &e))?;
            Example::parse(path, &text)
        })
        .collect()
}

impl Example {
    fn parse(path: PathBuf, text: &str) -> Result<Self, Failure> {
        let top = text.lines().take_while(|l| l.starts_with("--")).count();
        let comment = text
            .lines()
            .take(top)
            .map(|l| l.trim_start_matches('-').trim())
            .collect::<Vec<_>>()
            .join("\n");
        let sql = text.lines().skip(top).collect::<Vec<_>>().join("\n");
        let mut expected_rows = None;
        for line in text.lines() {
            let Some(expected) = line.trim().strip_prefix("-- expect:") else {
                continue;
            };
            let words: Vec<&str> = expected.split_whitespace().collect();
            expected_rows = match words.as_slice() {
                [n, "row" | "rows"] => n.parse().ok(),
                _ => None,
            };
            if expected_rows.is_none() {
                return Err(Failure::new(
                    Exit::Query,
                    format!(
                        "{}: expected '-- expect: N rows', found '{}'",
                        path.display(),
                        line.trim()
                    ),
                ));
            }
        }
        Ok(Self {
            path,
            comment,
            sql: sql.trim().to_owned(),
            text: text.to_owned(),
            expected_rows,
        })
    }

    /// Compares the outcome with what the file expects.
    ///
    /// # Errors
    /// When the number of rows differs.
    pub(crate) fn check(&self, outcome: Outcome) -> Result<(), Failure> {
        match self.expected_rows {
            Some(expected) if expected != outcome.rows => Err(Failure::new(
                Exit::Query,
                format!(
                    "{}: expected {expected} rows, found {}",
                    self.path.display(),
                    outcome.rows
                ),
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_has_comment_statements_and_expectation() {
        let text = "-- What it shows.\n-- Second line.\n\nSELECT 1;\n-- expect: 1 row\n";
        let example = Example::parse("a.sql".into(), text).unwrap();
        assert_eq!(example.comment, "What it shows.\nSecond line.");
        assert_eq!(example.sql, "SELECT 1;\n-- expect: 1 row");
        assert_eq!(example.expected_rows, Some(1));
        assert!(
            example
                .check(Outcome {
                    results: 1,
                    rows: 1
                })
                .is_ok()
        );
        assert!(
            example
                .check(Outcome {
                    results: 1,
                    rows: 2
                })
                .is_err()
        );
    }

    #[test]
    fn an_expectation_that_cannot_be_read_is_an_error() {
        assert!(Example::parse("a.sql".into(), "SELECT 1; \n-- expect: some rows").is_err());
    }
}
