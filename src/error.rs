//! Errors of this crate within those of DataFusion, and the reverse.

use datafusion::error::DataFusionError;

pub(crate) use kafka_arrow::nearest_names;
pub use kafka_arrow::{Cause, Error, ErrorKind, Result};

/// An error of this crate as DataFusion carries it. [`Error::find`] finds it again.
pub fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The same for results.
pub(crate) trait External<T> {
    fn external(self) -> T;
}

impl External<DataFusionError> for Error {
    fn external(self) -> DataFusionError {
        external(self)
    }
}

impl<T> External<std::result::Result<T, DataFusionError>> for Result<T> {
    fn external(self) -> std::result::Result<T, DataFusionError> {
        self.map_err(External::external)
    }
}

/// The error inside one of DataFusion's, or a refusal of the query.
pub(crate) fn query_error(error: DataFusionError) -> Error {
    match Error::find(&error) {
        Some(found) => found.clone(),
        None => out_of_memory(&error)
            .unwrap_or_else(|| Error::query(error.strip_backtrace()).because(error)),
    }
}

/// The error of a query that the session's memory does not suffice for, if it is one.
pub(crate) fn out_of_memory(error: &DataFusionError) -> Option<Error> {
    let DataFusionError::ResourcesExhausted(message) = error.find_root() else {
        return None;
    };
    Some(Error::Memory {
        place: "the query".to_owned(),
        message: message.lines().next().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_refused_query_keeps_its_cause_and_says_it_once() {
        let refused = DataFusionError::Plan("no such table".to_owned());
        let error = query_error(refused);
        let source = std::error::Error::source(&error).unwrap();
        assert!(source.is::<DataFusionError>());
        assert_eq!(error.to_string().matches("no such table").count(), 1);
    }

    #[test]
    fn found_through_context_and_sharing() {
        let inner: DataFusionError = Error::invalid("x").external();
        let wrapped = DataFusionError::Shared(Arc::new(inner.context("while planning")));
        assert_eq!(
            Error::find(&wrapped).map(Error::kind),
            Some(ErrorKind::Query)
        );
    }
}
