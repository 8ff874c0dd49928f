//! Where the records go that do not decode: `on.bad.row` = `dlq`.
//!
//! Dead letters are a function of offset ranges, as rows are: a second reading of a batch's ranges
//! yields exactly the records that the first one left out. So they are rows of one more sink of the
//! job, which commits them with its own record of the offsets.

use std::fmt;
use std::sync::Arc;

use super::TopicSource;
#[cfg(feature = "jobs")]
use super::{JobSource, KafkaTable};
use crate::decode::OnBadRow;
#[cfg(feature = "jobs")]
use crate::decode::{BadRowLimit, Column, LETTER_COLUMNS, LETTER_RECORD};
use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::redact::without_login;

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
    #[cfg(feature = "jobs")]
    fn columns(&self) -> &'static [Column] {
        match self {
            Self::Topic(_) => &LETTER_RECORD,
            Self::Location(_) => &LETTER_COLUMNS,
        }
    }
}

/// What becomes of the records of a table that do not decode.
#[derive(Debug, Clone)]
pub(super) enum Letters {
    /// None of them is set aside: `on.bad.row` is not `dlq`.
    None,
    /// They belong into this place, and no reader has promised to put them there.
    Unclaimed(DeadLetters),
    /// The reader puts them there, as jobs and exports do.
    #[cfg(feature = "jobs")]
    Claimed(DeadLetters),
}

impl Letters {
    /// # Errors
    /// When no place is named where one is needed, or one where none is.
    pub(super) fn new(on_bad_row: OnBadRow, place: Option<DeadLetters>) -> Result<Self> {
        match (on_bad_row, place) {
            (OnBadRow::Dlq, Some(place)) => Ok(Self::Unclaimed(place)),
            (OnBadRow::Dlq, None) => Err(Error::invalid(
                "'on.bad.row' = 'dlq' needs a place for the records that do not decode: name a topic by \
                 'dlq.topic' or a folder by 'dlq.location'",
            )),
            (_, None) => Ok(Self::None),
            (_, Some(_)) => Err(Error::invalid(
                "'dlq.topic' and 'dlq.location' take the records that do not decode only with \
                 'on.bad.row' = 'dlq'",
            )),
        }
    }

    /// Refuses to leave out records that no reader would put into their place.
    pub(super) fn check_claimed(&self, topics: &TopicSource) -> Result<()> {
        match self {
            Self::Unclaimed(_) => Err(Error::invalid(format!(
                "{topics}: with 'on.bad.row' = 'dlq' the records that do not decode are set aside, together \
                 with the rows of a job (kafka-sql run) or an export (kafka-sql export); in a query choose \
                 'fail', 'null' or 'skip'"
            ))),
            _ => Ok(()),
        }
    }

    pub(super) fn place(&self) -> Option<&DeadLetters> {
        match self {
            Self::None => None,
            Self::Unclaimed(place) => Some(place),
            #[cfg(feature = "jobs")]
            Self::Claimed(place) => Some(place),
        }
    }
}

#[cfg(feature = "jobs")]
impl KafkaTable {
    /// The table of its dead letters, which have the columns of their sink and are bounded by `limit`.
    pub(crate) fn dead_letters(&self, limit: Option<BadRowLimit>) -> Option<Self> {
        let place = self.letter_place()?;
        let mut table = self.clone();
        table.reading.decoder = self.decoder().dead_letters(place.columns(), limit);
        table.letters = Letters::None;
        // The name stands for the source's rows in ledgers and metrics, and letters are no rows of it.
        table.job = JobSource {
            name: None,
            ..table.job
        };
        Some(table)
    }

    /// How records become rows and where those go that do not decode, in words.
    pub(crate) fn decoding_and_place(&self) -> Option<String> {
        let decoding = self.decoding()?;
        Some(match self.letter_place() {
            Some(place) => format!("{decoding}; dead letters to {place}"),
            None => decoding.to_owned(),
        })
    }

    /// This table for a reader that puts its dead letters into their place.
    pub(crate) fn claiming_letters(mut self) -> Self {
        if let Letters::Unclaimed(place) = self.letters {
            self.letters = Letters::Claimed(place);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_with_a_place_are_refused_until_a_reader_claims_them() {
        let topics = TopicSource::Named(vec!["orders".into()]);
        let place = DeadLetters::parse("dead");
        let letters = Letters::new(OnBadRow::Dlq, Some(place.clone())).unwrap();
        assert_eq!(letters.place(), Some(&place));
        let refused = letters.check_claimed(&topics).unwrap_err().to_string();
        assert!(
            refused.starts_with("orders: with 'on.bad.row' = 'dlq'"),
            "{refused}"
        );
        #[cfg(feature = "jobs")]
        assert!(
            Letters::Claimed(place.clone())
                .check_claimed(&topics)
                .is_ok()
        );

        assert!(Letters::new(OnBadRow::Dlq, None).is_err());
        assert!(Letters::new(OnBadRow::Skip, Some(place)).is_err());
        let none = Letters::new(OnBadRow::Skip, None).unwrap();
        assert!(none.place().is_none() && none.check_claimed(&topics).is_ok());
    }
}
