//! Kafka as a target: the sink of a topic, that of a table, and that of a table's dead letters.
//!
//! It stands above tables, whose formats and options it writes with. librdkafka has the producer; without
//! it every sink is refused.

#[cfg(not(feature = "librdkafka"))]
#[path = "absent.rs"]
mod producer;
#[cfg(feature = "librdkafka")]
mod producer;

pub(crate) mod letters;

use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::sink::*;
use crate::table::{KafkaTable, TopicSource};

pub use crate::table::{
    DEFAULT_STATE_TOPIC, DEFAULT_TRANSACTIONAL_ID_PREFIX, Delivery, KafkaSinkOptions,
};
pub use producer::KafkaSink;

impl KafkaSink {
    /// What writes a job's rows into the topic of a table, in its formats.
    ///
    /// # Errors
    /// When the table has several topics, single partitions, or a client of its own.
    pub fn of_table(table: &KafkaTable) -> Result<Self> {
        let Some(config) = table.connection() else {
            return Err(Error::invalid(format!(
                "the table of {} was made of a client and cannot be written: make it of settings",
                table.topics()
            )));
        };
        let topic = match table.topics() {
            TopicSource::Named(names) if names.len() == 1 => Arc::clone(&names[0]),
            several => {
                return Err(Error::invalid(format!(
                    "rows are written to a table of one topic, this one has {several}; a column 'topic' can \
                     name others for single rows"
                )));
            }
        };
        let (client, options) = (Arc::clone(table.client()), table.sink_options().clone());
        let sink = Self::with_client(config, client, topic, options)?;
        Ok(sink.with_write_formats(table.formats().clone()))
    }
}
