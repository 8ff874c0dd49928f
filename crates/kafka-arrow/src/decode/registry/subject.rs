//! The subjects under which the schemas of a topic's records are registered.

use std::str::FromStr;

use crate::error::{Error, Result};

/// How subjects are named, with the strategies of Confluent's serializers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SubjectNames {
    /// By the topic: `orders-key` and `orders-value`.
    #[default]
    Topic,
    /// By the record's full name: `com.example.Order`.
    Record,
    /// By both: `orders-com.example.Order`.
    TopicRecord,
}

impl SubjectNames {
    /// The subject of a topic's keys or values; `record` is the full name of the record's type.
    ///
    /// # Errors
    /// When the record's name is needed and not given.
    pub fn subject(self, topic: &str, key: bool, record: Option<&str>) -> Result<String> {
        let needed = || {
            record.ok_or_else(|| {
                Error::invalid(format!(
                    "subjects that are named by records need the record's full name; name it, or the \
                     schema's id or file, for topic '{topic}'"
                ))
            })
        };
        Ok(match self {
            Self::Topic if key => format!("{topic}-key"),
            Self::Topic => format!("{topic}-value"),
            Self::Record => needed()?.to_owned(),
            Self::TopicRecord => format!("{topic}-{}", needed()?),
        })
    }
}

impl FromStr for SubjectNames {
    type Err = Error;

    /// Reads `topic`, `record`, `topic-record`, or the name of Confluent's class for one of them.
    fn from_str(text: &str) -> Result<Self> {
        let class = text.rsplit('.').next().unwrap_or_default();
        match class {
            "topic" | "TopicNameStrategy" => Ok(Self::Topic),
            "record" | "RecordNameStrategy" => Ok(Self::Record),
            "topic-record" | "TopicRecordNameStrategy" => Ok(Self::TopicRecord),
            _ => Err(Error::invalid(format!(
                "subject name strategy '{text}' is not known; the strategies are 'topic', 'record' and \
                 'topic-record'"
            ))),
        }
    }
}
