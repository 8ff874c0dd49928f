//! Errors as PostgreSQL's clients know them: a code that programs act on, a message, a detail and a hint.

use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion_kafka::{Error, ErrorKind, statement};
use pgwire::error::{ErrorInfo, PgWireError};

pub(super) const CONNECTION_FAILURE: &str = "08006";
pub(super) const PROTOCOL_VIOLATION: &str = "08P01";
pub(super) const NOT_SUPPORTED: &str = "0A000";
pub(super) const INVALID_PARAMETER: &str = "22023";
pub(super) const READ_ONLY: &str = "25006";
pub(super) const NO_TRANSACTION: &str = "25P01";
pub(super) const FAILED_TRANSACTION: &str = "25P02";
pub(super) const INVALID_AUTHORIZATION: &str = "28000";
pub(super) const INVALID_PASSWORD: &str = "28P01";
pub(super) const INVALID_CURSOR: &str = "34000";
pub(super) const INSUFFICIENT_PRIVILEGE: &str = "42501";
pub(super) const SYNTAX_ERROR: &str = "42601";
pub(super) const DUPLICATE_CURSOR: &str = "42P03";
pub(super) const UNDEFINED_OBJECT: &str = "42704";
pub(super) const INSUFFICIENT_RESOURCES: &str = "53000";
pub(super) const TOO_MANY_CONNECTIONS: &str = "53300";
pub(super) const OVER_BUDGET: &str = "53400";
pub(super) const TOO_COMPLEX: &str = "54001";
pub(super) const QUERY_CANCELED: &str = "57014";
pub(super) const ADMIN_SHUTDOWN: &str = "57P01";
pub(super) const IDLE_TIMEOUT: &str = "57P05";
pub(super) const INTERNAL_ERROR: &str = "XX000";

/// Ends a statement.
pub(super) fn error(code: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(info("ERROR", code, message)))
}

/// Ends a connection.
pub(super) fn fatal(code: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(info("FATAL", code, message)))
}

pub(super) fn info(severity: &str, code: &str, message: impl Into<String>) -> ErrorInfo {
    let mut info = ErrorInfo::new(severity.to_owned(), code.to_owned(), message.into());
    info.severity_nonlocalized = Some(severity.to_owned());
    info
}

/// The code of an error of datafusion-kafka.
fn code_of(error: &Error) -> &'static str {
    match error {
        Error::UnknownTopic { .. } => "42P01",
        Error::Authentication { .. } => "08004",
        Error::MissingFeature { .. } => NOT_SUPPORTED,
        Error::Query { .. } => "42000",
        _ => match error.kind() {
            ErrorKind::Query => INVALID_PARAMETER,
            ErrorKind::Connection => CONNECTION_FAILURE,
            ErrorKind::Authorization => INSUFFICIENT_PRIVILEGE,
            ErrorKind::DataUnavailable | ErrorKind::Conflict => "55000",
            ErrorKind::BadRow | ErrorKind::BadRowLimit => "22P02",
            ErrorKind::Sink => "58030",
            ErrorKind::Memory => "53200",
            ErrorKind::Budget => OVER_BUDGET,
            // `ErrorKind` may grow.
            _ => INTERNAL_ERROR,
        },
    }
}

/// What a statement has failed with.
pub(super) fn of_query(error: &DataFusionError) -> PgWireError {
    if let Some(ours) = Error::find(error) {
        return self::error(code_of(ours), ours.to_string());
    }
    let root = error.find_root();
    let text = match root {
        DataFusionError::SQL(parser, _) => parser.to_string(),
        other => other.message().into_owned(),
    };
    let text = text
        .split(DataFusionError::BACK_TRACE_SEP)
        .next()
        .unwrap_or_default()
        .trim_end();
    let (message, detail) = text.split_once('\n').unwrap_or((text, ""));
    let message = message
        .strip_prefix("sql parser error: ")
        .unwrap_or(message);
    let mut info = info("ERROR", code_of_query(root, message), message);
    info.detail = Some(detail.trim().to_owned()).filter(|detail| !detail.is_empty());
    info.hint = match root {
        DataFusionError::SchemaError(schema, _) => {
            statement::columns_there_are(schema).map(|columns| columns + ".")
        }
        _ => None,
    };
    PgWireError::UserError(Box::new(info))
}

fn code_of_query(error: &DataFusionError, message: &str) -> &'static str {
    match error {
        DataFusionError::SQL(..) => SYNTAX_ERROR,
        DataFusionError::NotImplemented(_) => NOT_SUPPORTED,
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { .. } => "42703",
            SchemaError::AmbiguousReference { .. } => "42702",
            _ => "42701",
        },
        DataFusionError::Plan(_) if message.starts_with("table '") => "42P01",
        DataFusionError::Plan(_) if message.starts_with("Invalid function") => "42883",
        DataFusionError::Plan(_) => "42000",
        DataFusionError::ResourcesExhausted(_) => "53200",
        DataFusionError::Configuration(_) => INVALID_PARAMETER,
        DataFusionError::Execution(_) => "22000",
        DataFusionError::IoError(_) | DataFusionError::ObjectStore(_) => "58030",
        DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
            ArrowError::DivideByZero => "22012",
            ArrowError::ArithmeticOverflow(_) => "22003",
            ArrowError::CastError(_) | ArrowError::ParseError(_) => "22P02",
            ArrowError::NotYetImplemented(_) => NOT_SUPPORTED,
            _ => "22000",
        },
        _ => INTERNAL_ERROR,
    }
}

/// What a value that PostgreSQL's types cannot hold fails with.
pub(super) fn of_encoding(error: PgWireError) -> PgWireError {
    match error {
        PgWireError::UserError(_) | PgWireError::IoError(_) => error,
        other => {
            let message = other.to_string();
            // The rest would be the values.
            let message = message.split(" and array").next().unwrap_or_default();
            self::error(
                NOT_SUPPORTED,
                format!("a value cannot be sent: {message}; CAST the column to another type"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(error: DataFusionError) -> (String, String) {
        match of_query(&error) {
            PgWireError::UserError(info) => (info.code, info.message),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn each_kind_of_error_has_its_code() {
        let topic = Error::UnknownTopic {
            topic: "orders".into(),
            nearest: vec![],
        };
        let bad = Error::BadRow {
            topic: "orders".into(),
            partition: 3,
            offset: 7,
            message: "not JSON".into(),
        };
        let budget = Error::Budget {
            message: "too much".into(),
        };
        let unreachable = Error::Connection {
            hosts: "h:1".into(),
            reason: "refused".into(),
        };
        for (error, code) in [
            (topic, "42P01"),
            (bad, "22P02"),
            (budget, "53400"),
            (unreachable, "08006"),
            (Error::invalid("x"), "22023"),
            (Error::internal("x"), "XX000"),
        ] {
            let message = error.to_string();
            let wrapped = datafusion_kafka::external(error).context("while planning");
            assert_eq!(shown(wrapped), (code.to_owned(), message));
        }
        let exhausted = DataFusionError::ResourcesExhausted("x".into());
        assert_eq!(shown(exhausted).0, "53200");
    }

    #[test]
    fn a_message_is_one_line() {
        let error = of_query(&DataFusionError::Plan("first\nsecond".into()));
        let PgWireError::UserError(info) = error else {
            panic!("{error}")
        };
        assert_eq!(info.message, "first");
        assert_eq!(info.detail.as_deref(), Some("second"));
    }
}
