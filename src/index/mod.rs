//! An index beside a topic: which blocks of offsets may hold a value.
//!
//! The index is made by a job, whose sink is [`IndexSink`], and is the folder of a parquet sink with rows of two kinds:
//!
//! | kind | says |
//! |---|---|
//! | `range` | the job has looked at all offsets from `start` to `end` of the topic with this id |
//! | `block` | of the records that a reader can see, some with offsets from `start` to `end` have timestamps between these two, and values that are in these filters |
//!
//! So an offset that lies in a `range` may be passed unless a `block` around it may hold a match. Further rows can only
//! make less be passed: a batch that ends within a block, two streams that share one, or the records of a log that was
//! cut or of a topic that was deleted need no care. `_index.json` says what the filters are of.

mod bloom;
mod read;
mod rows;
mod sink;

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};

pub(crate) use bloom::{may_hold, slice_of};
pub(crate) use read::{Block, Covered, Index, Row, Slice};
pub(crate) use sink::IndexSink;

/// The offsets of a block, unless the index says otherwise.
pub(crate) const BLOCK_OFFSETS: i64 = 16_384;
/// More would make filters of more than 2 MiB.
pub(crate) const MOST_BLOCK_OFFSETS: i64 = 1 << 20;

/// The version that this build reads and writes.
const VERSION: u32 = 1;
/// The file with the [`Definition`].
const DEFINITION: &str = "_index.json";

/// What an index is of. It never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Definition {
    version: u32,
    /// The topics of the table that was indexed.
    pub(crate) topics: String,
    /// Under which the records were read.
    pub(crate) isolation: String,
    pub(crate) block_offsets: i64,
    /// How records became rows, apart from bad ones; `None` where payloads stay bytes.
    pub(crate) decoding: Option<String>,
    /// What became of records that do not decode.
    pub(crate) on_bad_row: String,
    pub(crate) expressions: Vec<Indexed>,
}

/// An expression over the columns of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Indexed {
    pub(crate) sql: String,
    pub(crate) kind: Kind,
}

/// Values that are hashed alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Text and bytes.
    Bytes,
    Integer,
    Boolean,
}

impl Definition {
    pub(crate) fn new(
        topics: String,
        isolation: String,
        block_offsets: i64,
        decoding: Option<String>,
        on_bad_row: String,
        expressions: Vec<Indexed>,
    ) -> Self {
        Self {
            version: VERSION,
            topics,
            isolation,
            block_offsets,
            decoding,
            on_bad_row,
            expressions,
        }
    }

    /// The texts of the expressions.
    pub(crate) fn names(&self) -> String {
        let names: Vec<&str> = self.expressions.iter().map(|e| e.sql.as_str()).collect();
        names.join(", ")
    }

    fn parse(file: &str, bytes: &[u8]) -> Result<Self> {
        let parsed: Self = serde_json::from_slice(bytes)
            .map_err(|e| Error::corrupt(file, format!("no description of an index: {e}")))?;
        if parsed.version != VERSION {
            return Err(Error::corrupt(
                file,
                format!(
                    "version {} of an index, this build reads {VERSION}",
                    parsed.version
                ),
            ));
        }
        Ok(parsed)
    }

    /// What another definition says otherwise, for messages: both sides of the first difference.
    fn difference(&self, other: &Self) -> Option<String> {
        let bytes = |decoding: &Option<String>| decoding.clone().unwrap_or("of bytes".to_owned());
        let sides = [
            ("topics", self.topics.clone(), other.topics.clone()),
            (
                "isolation level",
                self.isolation.clone(),
                other.isolation.clone(),
            ),
            ("expressions", self.names(), other.names()),
            (
                "offsets of a block",
                self.block_offsets.to_string(),
                other.block_offsets.to_string(),
            ),
            ("decoding", bytes(&self.decoding), bytes(&other.decoding)),
            (
                "on.bad.row",
                self.on_bad_row.clone(),
                other.on_bad_row.clone(),
            ),
        ];
        let differs = sides.into_iter().find(|(_, mine, others)| mine != others);
        match differs {
            Some((what, mine, others)) => Some(format!("{what}: {mine} there, {others} here")),
            None => (self != other).then(|| "the types of the expressions".to_owned()),
        }
    }
}

impl Kind {
    /// The kind of a type; `None` if values that are equal may have several forms.
    pub(crate) fn of(data_type: &DataType) -> Option<Self> {
        use DataType::{
            Binary, BinaryView, Boolean, Int8, Int16, Int32, Int64, LargeBinary, LargeUtf8, UInt8,
            UInt16, UInt32, Utf8, Utf8View,
        };
        Some(match data_type {
            Utf8 | Utf8View | LargeUtf8 | Binary | BinaryView | LargeBinary => Self::Bytes,
            Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 => Self::Integer,
            Boolean => Self::Boolean,
            _ => return None,
        })
    }

    /// The hashes of an array's values.
    pub(crate) fn hashes(self, values: &ArrayRef) -> Result<Hashes> {
        let to = match self {
            Self::Bytes => DataType::BinaryView,
            Self::Integer => DataType::Int64,
            Self::Boolean => DataType::Boolean,
        };
        let values = cast(values, &to)
            .map_err(|e| Error::internal(format!("values of an index: {e}")).because(e))?;
        Ok(match self {
            Self::Bytes => Hashes::Bytes(values.as_binary_view().clone()),
            Self::Integer => Hashes::Integers(values.as_primitive::<Int64Type>().clone()),
            Self::Boolean => Hashes::Booleans(values.as_boolean().clone()),
        })
    }
}

/// An array's values, by their hashes.
#[derive(Debug)]
pub(crate) enum Hashes {
    Bytes(BinaryViewArray),
    Integers(Int64Array),
    Booleans(BooleanArray),
}

impl Hashes {
    /// Takes the hash of each value of these rows that is not NULL.
    pub(crate) fn each(&self, rows: Range<usize>, mut take: impl FnMut(u64)) {
        match self {
            Self::Bytes(values) => (rows.filter(|row| values.is_valid(*row)))
                .for_each(|row| take(xxh3_64(values.value(row)))),
            Self::Integers(values) => (rows.filter(|row| values.is_valid(*row)))
                .for_each(|row| take(xxh3_64(&values.value(row).to_le_bytes()))),
            Self::Booleans(values) => (rows.filter(|row| values.is_valid(*row)))
                .for_each(|row| take(xxh3_64(&[u8::from(values.value(row))]))),
        }
    }
}

/// The name of the column with a slice of the filters of an expression.
fn slice_column(expression: usize, slice: usize) -> String {
    format!("filter_{expression}_{slice:02}")
}
