//! Why a command failed, and the exit code that says so to the calling program.
//!
//! This is the one place where errors become exit codes.

use std::fmt;
use std::io;
use std::process::ExitCode;

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion_kafka::{Error, ErrorKind, statement};

use crate::ui;

/// The exit codes of `kafka-sql`; success is 0, also without rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// A statement, option or range is wrong, or the query failed while it ran.
    Query = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No broker could be reached, or it refused the credentials.
    Connection = 3,
    /// The principal may not do what was asked.
    Authorization = 4,
    /// A topic, partition or offset does not exist, or no longer.
    DataUnavailable = 5,
    /// More records do not decode than `bad.row.limit` allows.
    BadRowLimit = 6,
    /// The memory that the session may use is exhausted, or the statement would read or has read more than it may.
    Budget = 7,
    /// A sink, an offset log or an export belongs to another job or has gone on without this one.
    Conflict = 8,
    /// A search has looked at everything, and there is no hit.
    Absent = 9,
    /// The user interrupted the command.
    Interrupted = 130,
}

impl Exit {
    fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Connection => Self::Connection,
            ErrorKind::Authorization => Self::Authorization,
            ErrorKind::DataUnavailable => Self::DataUnavailable,
            ErrorKind::BadRowLimit => Self::BadRowLimit,
            ErrorKind::Memory | ErrorKind::Budget => Self::Budget,
            ErrorKind::Conflict => Self::Conflict,
            // `ErrorKind` may grow; what is not known here is a failed query.
            _ => Self::Query,
        }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It failed with a message for the user.
    Failed {
        /// The exit code.
        exit: Exit,
        /// Where the failing statement starts, for example `orders.sql:12`.
        place: Option<String>,
        /// What happened, without a trailing newline.
        message: String,
        /// More about it, printed with `-v`.
        detail: Option<String>,
        /// The error of the library, if it was one; a service tells more of it.
        #[cfg_attr(not(feature = "serve"), allow(dead_code, reason = "see above"))]
        error: Option<Box<Error>>,
    },
    /// The statement would read more than the budget of the interactive shell, whose user can be asked.
    OverBudget {
        /// About how much it would read.
        estimate: String,
        /// What is said where the user does not want it.
        refusal: Error,
    },
    /// The reader of our output went away, as `head` does: that is success.
    ClosedPipe,
    /// The user pressed Ctrl-C, or the process got a signal to end.
    Interrupted,
    /// A search has found nothing, which it has said.
    Absent,
}

impl Failure {
    /// A failure with a code and a message.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self::Failed {
            exit,
            place: None,
            message: message.into(),
            detail: None,
            error: None,
        }
    }

    /// The command line asks for something impossible.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// An I/O error on something that has a name.
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::ClosedPipe;
        }
        Self::new(Exit::Query, format!("{what}: {error}"))
    }

    /// Says where the failing statement starts.
    pub(crate) fn at(mut self, statement: impl Into<String>) -> Self {
        if let Self::Failed { place, .. } = &mut self {
            place.get_or_insert_with(|| statement.into());
        }
        self
    }

    /// Prints the failure on standard error: one line, and the detail if `verbose`, whose lines are
    /// set in so that none looks like another message.
    pub(crate) fn report(&self, verbose: bool) {
        if let Self::Failed { detail, .. } = self {
            ui::note(format_args!("kafka-sql: {}", self.text(false)));
            for line in detail.iter().filter(|_| verbose).flat_map(|d| d.lines()) {
                ui::note(format_args!("  {line}"));
            }
        }
    }

    /// The message as [`report`](Self::report) prints it after the program's name.
    pub(crate) fn text(&self, verbose: bool) -> String {
        match self {
            Self::Failed {
                place,
                message,
                detail,
                ..
            } => {
                let mut text = match place {
                    Some(place) => format!("{place}: {message}"),
                    None => message.clone(),
                };
                if let (true, Some(detail)) = (verbose, detail) {
                    text.push('\n');
                    text.push_str(detail);
                }
                text
            }
            Self::OverBudget { refusal, .. } => refusal.to_string(),
            Self::ClosedPipe => "the output was closed".to_owned(),
            Self::Interrupted => "interrupted".to_owned(),
            Self::Absent => "no record matches".to_owned(),
        }
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Failed { exit, .. } => *exit as u8,
            Self::OverBudget { .. } => Exit::Budget as u8,
            Self::ClosedPipe => 0,
            Self::Interrupted => Exit::Interrupted as u8,
            Self::Absent => Exit::Absent as u8,
        }
    }
}

impl From<Failure> for ExitCode {
    fn from(failure: Failure) -> Self {
        Self::from(failure.exit_code())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed {
            exit: Exit::of(error.kind()),
            place: None,
            message: format!("{error}{}", hint(&error)),
            detail: None,
            error: Some(Box::new(error)),
        }
    }
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Self {
        if let Some(ours) = Error::find(&error) {
            let message = ours.to_string();
            let whole = error.strip_backtrace();
            return Self::Failed {
                exit: Exit::of(ours.kind()),
                place: None,
                detail: (!whole.ends_with(&message)).then_some(whole),
                message: message + hint(ours),
                error: Some(Box::new(ours.clone())),
            };
        }
        let root = error.find_root();
        if let DataFusionError::IoError(io) = root {
            return Self::io("reading or writing failed", io);
        }
        let exit = match root {
            DataFusionError::ResourcesExhausted(_) => Exit::Budget,
            _ => Exit::Query,
        };
        let text = match root {
            DataFusionError::SQL(parser, _) => match parser.as_ref() {
                ParserError::ParserError(text) | ParserError::TokenizerError(text) => text.clone(),
                ParserError::RecursionLimitExceeded => {
                    "the statement is nested too deeply".to_owned()
                }
            },
            other => other.message().into_owned(),
        };
        let text = match root {
            DataFusionError::SchemaError(schema, _) => unknown_column(schema).unwrap_or(text),
            _ => text,
        };
        let text = of_bytes(text);
        let whole = error.strip_backtrace();
        // A message of several lines (a list of candidate signatures, say) is cut to its first one;
        // the rest is the detail.
        let text = strip_backtrace(&text);
        let (message, rest) = match text.split_once('\n') {
            Some((first, rest)) => (
                first.trim_end().to_owned(),
                Some(rest.trim_end().to_owned()),
            ),
            None => (text.to_owned(), None),
        };
        let detail = match rest {
            Some(rest) if !rest.is_empty() => Some(rest),
            _ => (!whole.ends_with(&message)).then_some(whole),
        };
        Self::Failed {
            exit,
            place: None,
            message,
            detail,
            error: None,
        }
    }
}

impl From<arrow::error::ArrowError> for Failure {
    fn from(error: arrow::error::ArrowError) -> Self {
        match error {
            arrow::error::ArrowError::IoError(_, io) => Self::io("writing the result failed", &io),
            // What the text formats say of a value that is no text.
            arrow::error::ArrowError::InvalidArgumentError(message) => {
                Self::new(Exit::Query, message)
            }
            // A stream's own error comes back through Arrow's writers.
            arrow::error::ArrowError::ExternalError(inner) => match inner.downcast::<io::Error>() {
                Ok(io) => Self::io("writing the result failed", &io),
                Err(other) => Self::new(Exit::Query, other.to_string()),
            },
            other => Self::new(Exit::Query, other.to_string()),
        }
    }
}

impl From<datafusion::parquet::errors::ParquetError> for Failure {
    fn from(error: datafusion::parquet::errors::ParquetError) -> Self {
        use datafusion::parquet::errors::ParquetError;
        match error {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(io) => Self::io("writing the Parquet file failed", &io),
                Err(other) => Self::new(Exit::Query, format!("writing Parquet: {other}")),
            },
            other => Self::new(Exit::Query, format!("writing Parquet: {other}")),
        }
    }
}

/// What finds the cause of an error, where that is not the statement or the data.
fn hint(error: &Error) -> &'static str {
    match error {
        Error::Connection { .. } | Error::Authentication { .. } => {
            "; 'kafka-sql doctor' checks the connection step by step"
        }
        _ => "",
    }
}

/// An unknown column with those that there are.
fn unknown_column(error: &SchemaError) -> Option<String> {
    if !matches!(error, SchemaError::FieldNotFound { .. }) {
        return None;
    }
    let message = error.to_string();
    let first = message.lines().next().unwrap_or_default();
    Some(match statement::columns_there_are(error) {
        None => first.to_owned(),
        Some(columns) => format!("{first} {columns}"),
    })
}

/// Functions of text refuse bytes: what makes text of them.
fn of_bytes(message: String) -> String {
    let refuses = ["received Binary", "received LargeBinary"];
    let first = message.lines().next().unwrap_or_default();
    if !refuses.iter().any(|refuses| first.contains(refuses)) {
        return message;
    }
    let first = first.trim_end_matches('.');
    format!(
        "{first}: keys and values are bytes. kafka_text(value) makes text of them, and so does 'value.format' 'text' \
         for all of a table"
    )
}

fn strip_backtrace(text: &str) -> &str {
    text.split(DataFusionError::BACK_TRACE_SEP)
        .next()
        .unwrap_or(text)
        .trim_end()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn code_of(error: Error) -> u8 {
        let wrapped = DataFusionError::Shared(Arc::new(DataFusionError::External(Box::new(error))));
        Failure::from(wrapped.context("while planning")).exit_code()
    }

    #[test]
    fn each_kind_of_error_has_its_exit_code() {
        let unreachable = Error::Connection {
            hosts: "h:1".into(),
            reason: "refused".into(),
        };
        let denied = Error::Authorization {
            resource: "topic orders".into(),
            operation: "READ".into(),
            reason: "denied".into(),
        };
        let missing = Error::UnknownTopic {
            topic: "x".into(),
            nearest: vec![],
        };
        let bad_row = Error::BadRow {
            topic: "x".into(),
            partition: 0,
            offset: 7,
            message: "not JSON".into(),
        };
        assert_eq!(code_of(Error::invalid("x")), 1);
        assert_eq!(code_of(unreachable), 3);
        assert_eq!(code_of(denied), 4);
        assert_eq!(code_of(missing), 5);
        assert_eq!(code_of(bad_row), 1);
        let too_many = Error::BadRowLimit {
            limit: "1".into(),
            records: 10,
            bad: 2,
            example: String::new(),
        };
        assert_eq!(code_of(too_many), 6);
        let exhausted = DataFusionError::ResourcesExhausted("pool".into());
        assert_eq!(Failure::from(exhausted).exit_code(), 7);
        assert_eq!(Failure::Interrupted.exit_code(), 130);
        assert_eq!(Failure::Absent.exit_code(), 9);
        assert_eq!(Failure::ClosedPipe.exit_code(), 0);
        assert_eq!(Failure::usage("x").exit_code(), 2);
    }

    #[test]
    fn broken_pipe_is_told_from_other_io_errors() {
        let pipe = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(matches!(Failure::io("stdout", &pipe), Failure::ClosedPipe));
        let arrow = arrow::error::ArrowError::IoError(
            "x".into(),
            io::Error::from(io::ErrorKind::BrokenPipe),
        );
        assert!(matches!(Failure::from(arrow), Failure::ClosedPipe));
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(Failure::io("stdout", &full).exit_code(), 1);
    }

    #[test]
    fn message_is_one_line_without_debug_output() {
        let error = DataFusionError::SQL(
            Box::new(ParserError::ParserError("Expected: end, found: x".into())),
            None,
        );
        let failure = Failure::from(error).at("a.sql:3");
        assert_eq!(failure.text(false), "a.sql:3: Expected: end, found: x");
        let error = DataFusionError::Plan("first\nsecond".into());
        let failure = Failure::from(error);
        assert_eq!(failure.text(false), "first");
        assert_eq!(failure.text(true), "first\nsecond");
    }

    #[test]
    fn the_innermost_place_is_kept() {
        let failure = Failure::new(Exit::Query, "x").at("inner:1").at("outer:2");
        assert_eq!(failure.text(false), "inner:1: x");
    }
}
