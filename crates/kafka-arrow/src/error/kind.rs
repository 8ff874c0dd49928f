//! The classes of errors that programs act on.

use serde::{Deserialize, Serialize};

use super::Error;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The query, a range, an option or a setting is wrong: change what was asked.
    Query,
    /// The cluster or a sink could not be reached, or refused the credentials.
    Connection,
    /// The cluster knows the principal and denies the operation.
    Authorization,
    /// The topic, partition or offsets that were asked for are not there (any more).
    DataUnavailable,
    /// A record does not decode.
    BadRow,
    /// More records do not decode than the limit allows.
    BadRowLimit,
    /// A sink, an offset log or an export belongs to another job or has gone on without this one.
    Conflict,
    /// A sink or a store failed.
    Sink,
    /// The memory that the session may use does not suffice.
    Memory,
    /// The statement would read more than its budget allows, or has read as much.
    Budget,
    /// A fault of the broker, the client library or this crate.
    Internal,
}

impl Error {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RangeSyntax(_)
            | Self::Invalid { .. }
            | Self::UnknownOption { .. }
            | Self::OptionValue { .. }
            | Self::Schema { .. }
            | Self::MissingFeature { .. }
            | Self::Query { .. }
            | Self::Config { .. } => ErrorKind::Query,
            Self::Connection { .. }
            | Self::NoLeader { .. }
            | Self::Authentication { .. }
            | Self::Registry { .. }
            | Self::Unavailable { .. }
            | Self::Read {
                transient: true, ..
            }
            | Self::Stalled { .. } => ErrorKind::Connection,
            Self::Authorization { .. } => ErrorKind::Authorization,
            Self::UnknownTopic { .. }
            | Self::NoLetterTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::BelowLogStart { .. }
            | Self::PastLogEnd { .. }
            | Self::Truncated { .. }
            | Self::DataLoss { .. }
            | Self::TopicRecreated { .. } => ErrorKind::DataUnavailable,
            Self::BadRow { .. } => ErrorKind::BadRow,
            Self::BadRowLimit { .. } => ErrorKind::BadRowLimit,
            Self::Memory { .. } => ErrorKind::Memory,
            Self::Budget { .. } => ErrorKind::Budget,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Sink {
                transient: true, ..
            } => ErrorKind::Connection,
            Self::Sink { .. } | Self::Corrupt { .. } => ErrorKind::Sink,
            Self::Elsewhere { kind, .. } => *kind,
            Self::Read { .. }
            | Self::Corrupted { .. }
            | Self::Unaccounted { .. }
            | Self::Kafka { .. }
            | Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// The topic, partition and offset that the error is about, as far as it is about one.
    pub fn coordinates(&self) -> Option<(&str, i32, Option<i64>)> {
        match self {
            Self::NoLeader {
                topic, partition, ..
            }
            | Self::UnknownPartition {
                topic, partition, ..
            } => Some((topic, *partition, None)),
            Self::BelowLogStart {
                topic,
                partition,
                asked: offset,
                ..
            }
            | Self::PastLogEnd {
                topic,
                partition,
                asked: offset,
                ..
            }
            | Self::Truncated {
                topic,
                partition,
                offset,
                ..
            }
            | Self::DataLoss {
                topic,
                partition,
                offset,
                ..
            }
            | Self::Stalled {
                topic,
                partition,
                offset,
                ..
            }
            | Self::BadRow {
                topic,
                partition,
                offset,
                ..
            }
            | Self::Read {
                topic,
                partition,
                offset,
                ..
            }
            | Self::Corrupted {
                topic,
                partition,
                offset,
                ..
            }
            | Self::Unaccounted {
                topic,
                partition,
                start: offset,
                ..
            } => Some((topic, *partition, Some(*offset))),
            _ => None,
        }
    }

    /// Whether the same attempt may succeed later although nobody changes anything: a job tries such
    /// errors again, as jobs do. `docs/jobs.md` has the table.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Connection { .. }
            | Self::NoLeader { .. }
            | Self::Unavailable { .. }
            | Self::Stalled { .. }
            // On its way, or by a replica that is not asked next time.
            | Self::Corrupted { .. } => true,
            Self::Registry { transient, .. }
            | Self::Read { transient, .. }
            | Self::Sink { transient, .. }
            | Self::Elsewhere { transient, .. } => *transient,
            Self::RangeSyntax(_)
            | Self::Invalid { .. }
            | Self::UnknownOption { .. }
            | Self::OptionValue { .. }
            | Self::Schema { .. }
            | Self::MissingFeature { .. }
            | Self::Query { .. }
            | Self::Config { .. }
            // Wrong credentials do not become right.
            | Self::Authentication { .. }
            | Self::Authorization { .. }
            | Self::UnknownTopic { .. }
            | Self::NoLetterTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::BelowLogStart { .. }
            | Self::PastLogEnd { .. }
            | Self::Truncated { .. }
            | Self::DataLoss { .. }
            | Self::TopicRecreated { .. }
            | Self::BadRow { .. }
            | Self::BadRowLimit { .. }
            | Self::Memory { .. }
            | Self::Budget { .. }
            | Self::Unaccounted { .. }
            | Self::Conflict { .. }
            | Self::Corrupt { .. }
            | Self::Kafka { .. }
            | Self::Internal { .. } => false,
        }
    }
}
