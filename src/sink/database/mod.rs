//! What the sinks in databases share: options, the comparison of columns, values of rows, and the
//! table of offsets.
//!
//! The table of offsets, `kafka_offsets` unless an option names another, is in the database of the
//! rows, so that one transaction changes both. It has a row for each job, target, source, topic and
//! partition with the next offset, the topic's id and the leader epoch of the record before it, and for
//! each job and target one row more, whose partition is [`JOB_ROW`]: it keeps the number of the last
//! batch, and whoever commits holds its lock.

mod columns;
mod offsets;
mod options;
mod reader;

pub(crate) use columns::{TableColumn, compare};
pub(crate) use offsets::{
    JOB_ROW, OFFSETS_TABLE, OffsetRow, Step, add_columns, added_columns, committed, signed, step,
};
#[cfg_attr(not(feature = "postgres"), allow(unused_imports))]
pub(crate) use options::{Given, identifier, quoted, quoted_text};
pub(crate) use reader::{DatabaseReader, ReadRows, named};

use datafusion::error::DataFusionError;

use super::BatchRanges;
use crate::error::Error;

/// What the rows of a batch did to a sink that holds staged rows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Staging {
    /// The attempt that staged.
    pub(crate) attempt: String,
    /// The rows that have arrived.
    pub(crate) rows: u64,
}

impl Staging {
    pub(crate) fn of(attempt: &str) -> Self {
        Self {
            attempt: attempt.to_owned(),
            rows: 0,
        }
    }
}

/// The error of a commit whose staged rows are not there, or not all of them.
pub(crate) fn not_staged(target: &str, batch: u64, expected: u64, found: u64) -> Error {
    Error::Sink {
        target: target.to_owned(),
        operation: format!("committing batch {batch}"),
        reason: format!(
            "{expected} rows were staged and the connection holds {found} of them: \
             it was lost in between, or a part of the batch was given up"
        ),
        transient: true,
        source: None,
    }
}

/// The error of a step whose connection was lost, or whose attempt was given up for another one.
pub(crate) fn given_up(target: &str, operation: String) -> Error {
    Error::Sink {
        target: target.to_owned(),
        operation,
        reason: "the connection was lost, or another attempt has begun: the sink is opened again, and the \
                 batch staged again"
            .to_owned(),
        transient: true,
        source: None,
    }
}

/// The error of a commit that found other offsets than it had just read.
pub(crate) fn changed_underneath(target: &str, batch: &BatchRanges) -> Error {
    Error::Conflict {
        target: target.to_owned(),
        message: format!(
            "the offsets of job '{}' changed while batch {} was committed; nothing of it was written",
            batch.job, batch.batch
        ),
    }
}

/// The error of a stream of rows: this crate's own where there is one.
pub(crate) fn in_stream(error: &DataFusionError) -> Error {
    Error::find(error)
        .cloned()
        .unwrap_or_else(|| Error::query(error.to_string()))
}
