//! What takes the dead letters of a table: a sink into their topic, or one into their folder.

use std::collections::HashMap;
use std::sync::Arc;

use super::KafkaSink;
use crate::decode::LETTER_COLUMNS;
use crate::error::{Error, Result};
use crate::range::TopicPartition;
use crate::sink::{ParquetOptions, ParquetSink, Sink, parquet};
use crate::store::Store;
use crate::table::{DeadLetters, KafkaSinkOptions, KafkaTable, TopicSource};

/// The sink of the table's dead letters, if it sets any aside.
///
/// # Errors
/// When the place is one that the table reads, or cannot be used.
pub(crate) fn sink(table: &KafkaTable) -> Result<Option<Arc<dyn Sink>>> {
    Ok(match table.letter_place() {
        None => None,
        Some(DeadLetters::Topic(topic)) => Some(Arc::new(into_topic(table, topic)?)),
        Some(DeadLetters::Location(location)) => {
            let store = Store::open(location, &HashMap::new())?;
            let options = ParquetOptions {
                shared: true,
                ..ParquetOptions::default()
            };
            Some(Arc::new(ParquetSink::new(store, options)))
        }
    })
}

/// Checks that the place of dead letters is there, and that a folder holds nothing else.
///
/// # Errors
/// [`Error::NoLetterTopic`], or [`Error::Conflict`] where other rows lie there.
pub(crate) async fn check_place(table: &KafkaTable) -> Result<()> {
    match table.letter_place() {
        None => Ok(()),
        Some(DeadLetters::Topic(topic)) => {
            let checked = into_topic(table, topic)?.check_topic().await;
            checked.map_err(|error| match error {
                Error::UnknownTopic { topic, nearest } => Error::NoLetterTopic {
                    topic,
                    nearest,
                    hosts: table
                        .connection()
                        .map_or_else(String::new, |config| config.bootstrap_servers().to_owned()),
                },
                other => other,
            })
        }
        Some(DeadLetters::Location(location)) => {
            let store = Store::open(location, &HashMap::new())?;
            let found = parquet::recorded_columns(&store).await?;
            let letters = table.decoder().dead_letters(&LETTER_COLUMNS, None);
            let known = letters.schema().fields();
            match found.as_ref().and_then(|(columns, _)| {
                let mut names = columns.fields().iter().map(|field| field.name());
                names.find(|name| known.find(name).is_none())
            }) {
                None => Ok(()),
                Some(other) => Err(Error::Conflict {
                    target: store.url().to_owned(),
                    message: format!(
                        "dead letters cannot lie among other rows, and the files there have a column \
                         '{other}': name a folder of its own by 'dlq.location'"
                    ),
                }),
            }
        }
    }
}

fn into_topic(table: &KafkaTable, topic: &Arc<str>) -> Result<KafkaSink> {
    let reads = match table.topics() {
        TopicSource::Named(names) => names.contains(topic),
        other => other.covers(&TopicPartition::new(Arc::clone(topic), 0)),
    };
    if reads {
        return Err(Error::invalid(format!(
            "'dlq.topic' = '{topic}' is a topic that the table reads: its dead letters would come \
             back to it; name another"
        )));
    }
    let Some(config) = table.connection() else {
        return Err(Error::invalid(format!(
            "'dlq.topic' = '{topic}': a table that was made of a client cannot write to its cluster; \
             make it of settings, or name a 'dlq.location'"
        )));
    };
    // Several jobs and sources may have one place for what went wrong.
    let options = KafkaSinkOptions {
        shared: true,
        ..table.sink_options().clone()
    };
    KafkaSink::with_client(
        config,
        Arc::clone(table.client()),
        Arc::clone(topic),
        options,
    )
}
