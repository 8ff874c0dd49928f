//! The log's lines, with fields that programs find again: job, batch, topic, partition, offset.
//!
//! Lines go through the crate `log`, whose records have no fields in this build. [`with`] keeps them for the thread while
//! a line is written, and the program's logger puts them in by [`line`].

use std::cell::RefCell;

use serde_json::{Map, Value};

use crate::config::LogFormat;
use crate::problem::Problem;

/// The target of lines about jobs.
pub const JOBS: &str = "kafka_sql::jobs";

/// The target of lines about the service and whoever talks to it.
pub const SERVICE: &str = "kafka_sql::service";

thread_local! {
    static FIELDS: RefCell<Fields> = RefCell::default();
}

/// What a line is about.
#[derive(Debug, Clone, Default)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// The fields of a line about a job.
    pub fn of(job: &str) -> Self {
        Self::default().field("job", job)
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Adds the batch, if there is one.
    #[must_use]
    pub fn batch(self, batch: Option<u64>) -> Self {
        match batch {
            Some(batch) => self.field("batch", batch),
            None => self,
        }
    }

    /// Adds the coordinates of a problem.
    #[must_use]
    pub fn problem(mut self, problem: &Problem) -> Self {
        if let Some(topic) = &problem.topic {
            self = self.field("topic", topic.as_str());
        }
        if let Some(partition) = problem.partition {
            self = self.field("partition", partition);
        }
        match problem.offset {
            Some(offset) => self.field("offset", offset),
            None => self,
        }
    }
}

/// Writes lines that have these fields.
pub fn with<T>(fields: Fields, write: impl FnOnce() -> T) -> T {
    let outer = FIELDS.replace(fields);
    let written = write();
    FIELDS.set(outer);
    written
}

/// A line of the log without its end; `message` has been made safe for terminals.
pub fn line(format: LogFormat, level: log::Level, target: &str, message: &str) -> String {
    let now = jiff::Timestamp::now();
    match format {
        LogFormat::Text => format!("{now:.3} {level:<5} {message}"),
        LogFormat::Json => {
            let mut line = Map::new();
            line.insert("time".to_owned(), format!("{now:.3}").into());
            line.insert("level".to_owned(), level.as_str().to_lowercase().into());
            line.insert("target".to_owned(), target.into());
            line.insert("message".to_owned(), message.into());
            FIELDS.with_borrow(|fields| line.extend(fields.0.clone()));
            Value::Object(line).to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_the_line_that_is_written() {
        let fields = Fields::of("orders").batch(Some(7));
        let (within, after) = (
            with(fields, || {
                line(LogFormat::Json, log::Level::Warn, JOBS, "a \"b\"")
            }),
            line(LogFormat::Json, log::Level::Info, SERVICE, "c"),
        );
        let within: Value = serde_json::from_str(&within).unwrap();
        assert_eq!(within["job"], "orders");
        assert_eq!(within["batch"], 7);
        assert_eq!(within["level"], "warn");
        assert_eq!(within["message"], "a \"b\"");
        let after: Value = serde_json::from_str(&after).unwrap();
        assert_eq!(after.get("job"), None);
    }
}
