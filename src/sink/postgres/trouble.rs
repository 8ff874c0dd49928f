//! What PostgreSQL's errors mean, and which pass.

use tokio_postgres::error::SqlState;

use super::connect::{HOST_VARIABLE, PASSWORD_VARIABLE};
use super::watch::AskedInClear;
use crate::error::{Cause, Error};
use crate::sink::rows::Unfit;

/// What goes wrong where both the client and this crate may refuse.
pub(super) enum Trouble {
    Own(Error),
    Postgres(tokio_postgres::Error),
}

impl Trouble {
    pub(super) fn into_error(self, target: &str, operation: &str) -> Error {
        match self {
            Self::Own(error) => error,
            Self::Postgres(error) => failure(target, operation, error),
        }
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Own(error)
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// An error of the client as one of a sink.
pub(super) fn failure(target: &str, operation: &str, error: tokio_postgres::Error) -> Error {
    Error::Sink {
        target: target.to_owned(),
        operation: operation.to_owned(),
        reason: reason(&error),
        transient: passes(&error),
        source: Some(Cause::new(error)),
    }
}

pub(super) fn reason(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        if let Some(unfit) = cause::<Unfit>(error) {
            return unfit.to_string();
        }
        if let Some(asked) = cause::<AskedInClear>(error) {
            return asked.to_string();
        }
        let text = chain(error);
        if text.contains("password missing") {
            return format!(
                "{text}: give the table its own by the option 'password', for example 'env:NAME'; \
                 {PASSWORD_VARIABLE} is that of the hosts in {HOST_VARIABLE} and of this machine"
            );
        }
        return if cause::<rustls::Error>(error).is_some() {
            format!(
                "{text}; name the authority that signed the server's certificate with the option \
                 'ssl.root.cert', or do without TLS with '?sslmode=disable'"
            )
        } else {
            text
        };
    };
    let mut text = format!("{} ({})", db.message(), db.code().code());
    for more in [db.detail(), db.hint(), db.where_()].into_iter().flatten() {
        text = format!("{text}; {}", more.replace('\n', " "));
    }
    text
}

/// Whether the same may succeed later: the server was not there or busy, nothing was wrong.
pub(super) fn passes(error: &tokio_postgres::Error) -> bool {
    if cause::<Unfit>(error).is_some()
        || cause::<rustls::Error>(error).is_some()
        || cause::<AskedInClear>(error).is_some()
    {
        return false;
    }
    let Some(db) = error.as_db_error() else {
        return error.is_closed() || cause::<std::io::Error>(error).is_some() || is_timeout(error);
    };
    let code = db.code();
    // Connection, transaction rollback, resources, operator intervention, system.
    let classes = ["08", "40", "53", "57", "58"];
    classes.contains(&code.code().get(..2).unwrap_or(""))
        || [
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::OBJECT_IN_USE,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            SqlState::IN_FAILED_SQL_TRANSACTION,
            // A server that was the primary one before.
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ]
        .contains(code)
}

fn is_timeout(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    text.starts_with("error connecting") || text.starts_with("timeout")
}

/// The cause of a type, however deep it lies; an I/O error may hold one.
fn cause<E: std::error::Error + 'static>(error: &tokio_postgres::Error) -> Option<&E> {
    let mut source = std::error::Error::source(error);
    while let Some(current) = source {
        if let Some(found) = current.downcast_ref::<E>() {
            return Some(found);
        }
        let inner = current.downcast_ref::<std::io::Error>();
        source = match inner.and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => current.source(),
        };
    }
    None
}
