//! The columns of a Kafka table.
//!
//! A record in Kafka is a key and a value, both plain bytes, with a time and headers. It lies at a numbered
//! position, its *offset*, in one of the *partitions* of a *topic*. Each of these is a column here.

use std::sync::Arc;
use std::sync::LazyLock;

use arrow::datatypes::{DataType, TimeUnit};

use crate::client::headers_type;

/// A column of a Kafka table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Column {
    /// Utf8View, not null.
    Topic,
    /// Int32, not null.
    Partition,
    /// Int64, not null.
    Offset,
    /// Timestamp(ms, UTC); NULL when the record has none.
    Timestamp,
    /// Utf8View: `CreateTime`, `LogAppendTime` or NULL.
    TimestampType,
    /// BinaryView, or another type by `key.format`; NULL is not empty.
    Key,
    /// BinaryView, or another type by `value.format`; NULL is a tombstone.
    Value,
    /// `List<Struct<key: Utf8, value: Binary>>` in wire order; empty for a record without headers.
    Headers,
    /// Int32; NULL where the client does not know it.
    LeaderEpoch,
    /// A field of the key, by its place among the fields of the format.
    KeyField(usize),
    /// A field of the value, by its place among the fields of the format.
    ValueField(usize),
    /// Int32: the registry's id of the key's schema; NULL where the key names none.
    KeySchemaId,
    /// Int32: the registry's id of the value's schema; NULL where the value names none.
    ValueSchemaId,
    /// Utf8View: why fields of the record are NULL; NULL where all fields decode.
    BadReason,
    /// Utf8View: what kind of fault a dead letter has.
    BadClass,
    /// Int32: the registry's id of the schema that a dead letter names; NULL where it names none.
    BadSchemaId,
    /// Utf8View: the id of the topic that a dead letter comes from; NULL where the broker gives none.
    TopicId,
    /// As [`Headers`](Self::Headers), with those that say where a dead letter comes from and why.
    DeadLetterHeaders,
}

impl Column {
    /// The columns that every record has, in the order of the table.
    pub const ALL: [Self; 9] = [
        Self::Topic,
        Self::Partition,
        Self::Offset,
        Self::Timestamp,
        Self::TimestampType,
        Self::Key,
        Self::Value,
        Self::Headers,
        Self::LeaderEpoch,
    ];

    /// The column's name without a prefix. A format's fields have the names that the format gives them.
    pub fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Partition => "partition",
            Self::Offset => "offset",
            Self::Timestamp => "timestamp",
            Self::TimestampType => "timestamp_type",
            Self::Key => "key",
            Self::Value => "value",
            Self::Headers => "headers",
            Self::LeaderEpoch => "leader_epoch",
            Self::KeyField(_) => "field of the key",
            Self::ValueField(_) => "field of the value",
            Self::KeySchemaId => "key_schema_id",
            Self::ValueSchemaId => "value_schema_id",
            Self::BadReason => "_error",
            Self::BadClass => "error_class",
            Self::TopicId => "topic_id",
            Self::BadSchemaId => "schema_id",
            Self::DeadLetterHeaders => "headers",
        }
    }

    /// The type, leaving formats aside, and whether it can be NULL.
    pub(super) fn data_type(self) -> (DataType, bool) {
        match self {
            Self::Topic => (DataType::Utf8View, false),
            Self::Partition => (DataType::Int32, false),
            Self::Offset => (DataType::Int64, false),
            Self::Timestamp => (timestamp_type(), true),
            Self::TimestampType | Self::BadReason | Self::BadClass | Self::TopicId => {
                (DataType::Utf8View, true)
            }
            Self::Key | Self::Value => (DataType::BinaryView, true),
            Self::Headers | Self::DeadLetterHeaders => (headers_type(), false),
            Self::LeaderEpoch | Self::KeySchemaId | Self::ValueSchemaId | Self::BadSchemaId => {
                (DataType::Int32, true)
            }
            Self::KeyField(_) | Self::ValueField(_) => (DataType::Null, true),
        }
    }
}

pub(super) fn timestamp_type() -> DataType {
    static UTC: LazyLock<Arc<str>> = LazyLock::new(|| "UTC".into());
    DataType::Timestamp(TimeUnit::Millisecond, Some(Arc::clone(&UTC)))
}
