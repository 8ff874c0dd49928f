//! Where the records go that do not decode: `on.bad.row` = `dlq`.
//!
//! Dead letters are a function of offset ranges, as rows are: a second reading of a batch's ranges
//! yields exactly the records that the first one left out. So they are rows of one more sink of the
//! job, which commits them with its own record of the offsets.

#[cfg(feature = "jobs")]
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::KafkaTable;
#[cfg(feature = "jobs")]
use super::{KafkaSinkOptions, TopicSource};
use crate::decode::{BadRowLimit, Column, LETTER_COLUMNS, LETTER_RECORD, OnBadRow};
use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::redact::without_login;
#[cfg(feature = "jobs")]
use crate::sink::parquet;
#[cfg(feature = "jobs")]
use crate::sink::{KafkaSink, ParquetOptions, ParquetSink, Sink};
#[cfg(feature = "jobs")]
use crate::store::Store;

/// Where dead letters go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadLetters {
    /// `dlq.topic`: a topic of the table's cluster, which must be there. A record has the key, the
    /// value and the headers of the one that does not decode, and further headers, all of them text:
    /// `dlq.topic`, `dlq.partition`, `dlq.offset`, `dlq.timestamp` (ms), `dlq.error.class`,
    /// `dlq.error.message` and, where it names one, `dlq.schema.id`.
    Topic(Arc<str>),
    /// `dlq.location`: a folder or an object store's URL, for Parquet files with the columns `topic`,
    /// `partition`, `offset`, `timestamp`, `headers`, `key`, `value`, `error_class`, `error_message`
    /// and `schema_id`.
    Location(String),
}

impl fmt::Display for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(topic) => write!(f, "topic {topic}"),
            Self::Location(place) => f.write_str(&without_login(place)),
        }
    }
}

impl DeadLetters {
    /// A topic, or a folder or URL: names of topics have no slash.
    pub(super) fn parse(text: &str) -> Self {
        match text.contains(['/', '\\']) {
            true => Self::Location(text.to_owned()),
            false => Self::Topic(text.into()),
        }
    }

    /// Refuses a folder or URL that the policy does not allow.
    pub(super) fn check_allowed(&self, policy: &Policy) -> Result<()> {
        match self {
            Self::Topic(_) => Ok(()),
            Self::Location(place) => policy.check_location("the place of dead letters", place),
        }
    }

    /// The columns of the letters.
    fn columns(&self) -> &'static [Column] {
        match self {
            Self::Topic(_) => &LETTER_RECORD,
            Self::Location(_) => &LETTER_COLUMNS,
        }
    }
}

/// Checks that a place is named where one is needed, and nowhere else.
pub(super) fn check(on_bad_row: OnBadRow, place: Option<&DeadLetters>) -> Result<()> {
    match (on_bad_row, place) {
        (OnBadRow::Dlq, None) => Err(Error::invalid(
            "'on.bad.row' = 'dlq' needs a place for the records that do not decode: name a topic by \
             'dlq.topic' or a folder by 'dlq.location'",
        )),
        (OnBadRow::Dlq, Some(_)) | (_, None) => Ok(()),
        (_, Some(_)) => Err(Error::invalid(
            "'dlq.topic' and 'dlq.location' take the records that do not decode only with \
             'on.bad.row' = 'dlq'",
        )),
    }
}

impl KafkaTable {
    /// The table of its dead letters, which have the columns of their sink and are bounded by `limit`.
    pub(crate) fn dead_letters(&self, limit: Option<BadRowLimit>) -> Option<Self> {
        let place = self.letters.as_ref()?;
        let mut table = self.clone();
        table.reading.decoder = self.decoder().dead_letters(place.columns(), limit);
        // Not the source's name: whoever asks what was read of the source means its rows.
        table.source_name = None;
        table.letters = None;
        Some(table)
    }

    /// How records become rows and where those go that do not decode, in words.
    pub(crate) fn decoding_and_place(&self) -> Option<String> {
        let decoding = self.decoding()?;
        Some(match &self.letters {
            Some(place) => format!("{decoding}; dead letters to {place}"),
            None => decoding.to_owned(),
        })
    }

    /// This table for a reader that sees to its dead letters.
    pub(crate) fn minding_letters(&self) -> Self {
        Self {
            letters_minded: true,
            ..self.clone()
        }
    }

    /// Refuses to leave out records that nobody would see to.
    pub(super) fn check_letters_minded(&self) -> Result<()> {
        if self.letters.is_none() || self.letters_minded {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{}: with 'on.bad.row' = 'dlq' the records that do not decode are set aside, together \
             with the rows of a job (kafka-sql run) or an export (kafka-sql export); in a query choose \
             'fail', 'null' or 'skip'",
            self.topics()
        )))
    }

    /// Checks that the place of dead letters is there, and that a folder holds nothing else.
    ///
    /// # Errors
    /// [`Error::NoLetterTopic`], or [`Error::Conflict`] where other rows lie there.
    #[cfg(feature = "jobs")]
    pub(crate) async fn check_letter_place(&self) -> Result<()> {
        match &self.letters {
            None => Ok(()),
            Some(DeadLetters::Topic(topic)) => {
                let checked = self.letter_topic(topic)?.check_topic().await;
                checked.map_err(|error| match error {
                    Error::UnknownTopic { topic, nearest } => Error::NoLetterTopic {
                        topic,
                        nearest,
                        hosts: self
                            .writing
                            .as_ref()
                            .map_or_else(String::new, |(config, _)| {
                                config.bootstrap_servers().to_owned()
                            }),
                    },
                    other => other,
                })
            }
            Some(DeadLetters::Location(location)) => {
                let store = Store::open(location, &HashMap::new())?;
                let found = parquet::recorded_columns(&store).await?;
                let letters = self.decoder().dead_letters(&LETTER_COLUMNS, None);
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

    /// What takes the table's dead letters.
    ///
    /// # Errors
    /// When the place is one that the table reads, or cannot be used.
    #[cfg(feature = "jobs")]
    pub(crate) fn letter_sink(&self) -> Result<Option<Arc<dyn Sink>>> {
        Ok(match &self.letters {
            None => None,
            Some(DeadLetters::Topic(topic)) => Some(Arc::new(self.letter_topic(topic)?)),
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

    #[cfg(feature = "jobs")]
    fn letter_topic(&self, topic: &Arc<str>) -> Result<KafkaSink> {
        let reads = match &self.selection.topics {
            TopicSource::Named(names) => names.contains(topic),
            other => other.covers(&crate::range::TopicPartition::new(Arc::clone(topic), 0)),
        };
        if reads {
            return Err(Error::invalid(format!(
                "'dlq.topic' = '{topic}' is a topic that the table reads: its dead letters would come \
                 back to it; name another"
            )));
        }
        let Some((config, options)) = &self.writing else {
            return Err(Error::invalid(format!(
                "'dlq.topic' = '{topic}': a table that was made of a client cannot write to its cluster; \
                 make it of settings, or name a 'dlq.location'"
            )));
        };
        // Several jobs and sources may have one place for what went wrong.
        let options = KafkaSinkOptions {
            shared: true,
            ..options.clone()
        };
        let client = Arc::clone(&self.selection.client);
        KafkaSink::with_client(config, client, Arc::clone(topic), options)
    }
}
