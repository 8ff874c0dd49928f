//! Why something does not work, for people and for programs.

use std::fmt;

use datafusion_kafka::{Error, ErrorKind};
use serde::Serialize;

/// A message that is complete, and what programs make of it. It never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Problem {
    /// What was asked, what there is, what to do next.
    pub message: String,
    /// What one can do about it; `None` where only the message says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<ErrorKind>,
    /// The topic that it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// The offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
}

impl Problem {
    /// A problem of which there is no more than a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            kind: None,
            topic: None,
            partition: None,
            offset: None,
        }
    }

    /// Says before the message what it is about.
    #[must_use]
    pub fn of(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let place = error.coordinates();
        Self {
            message: error.to_string(),
            kind: Some(error.kind()),
            topic: place.map(|(topic, _, _)| topic.to_owned()),
            partition: place.map(|(_, partition, _)| partition),
            offset: place.and_then(|(_, _, offset)| offset),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}
