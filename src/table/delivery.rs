//! How a job's rows get into a topic, where a table is written.

use crate::config::ConnectionConfig;
use crate::error::{Error, Result};
#[cfg(feature = "jobs")]
use crate::formats::Formats;

/// The topic that holds what the jobs of a cluster have committed, unless a sink names another.
pub const DEFAULT_STATE_TOPIC: &str = "_kafka_sql_jobs";
/// What a transactional id begins with, unless a sink says otherwise.
pub const DEFAULT_TRANSACTIONAL_ID_PREFIX: &str = "kafka-sql:";

/// How a job writes a table.
#[derive(Debug, Clone)]
pub(super) struct Writing {
    /// The settings of a producer; `None` where the table was made of a client alone.
    pub(super) connection: Option<ConnectionConfig>,
    pub(super) options: KafkaSinkOptions,
    /// The formats of what is written. A table that can be read is read in the same.
    #[cfg(feature = "jobs")]
    pub(super) formats: Formats,
}

/// How rows get into the topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delivery {
    /// In transactions.
    #[default]
    ExactlyOnce,
    /// As they come; what was written of a batch that fails is written again.
    AtLeastOnce,
}

impl std::str::FromStr for Delivery {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().replace('_', "-").as_str() {
            "exactly-once" => Ok(Self::ExactlyOnce),
            "at-least-once" => Ok(Self::AtLeastOnce),
            _ => Err(Error::option_value(
                "delivery",
                text,
                "'exactly-once' or 'at-least-once'",
            )),
        }
    }
}

/// How a [`KafkaSink`](crate::sink::KafkaSink) writes, besides its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSinkOptions {
    /// How rows get into the topic.
    pub delivery: Delivery,
    /// Whether several jobs may write to the topic.
    pub shared: bool,
    /// The topic of the recorded ends.
    pub state_topic: String,
    /// What the transactional id begins with. Jobs of one name and topic with different prefixes
    /// do not fence each other.
    pub transactional_id_prefix: String,
}

impl Default for KafkaSinkOptions {
    fn default() -> Self {
        Self {
            delivery: Delivery::default(),
            shared: false,
            state_topic: DEFAULT_STATE_TOPIC.to_owned(),
            transactional_id_prefix: DEFAULT_TRANSACTIONAL_ID_PREFIX.to_owned(),
        }
    }
}
