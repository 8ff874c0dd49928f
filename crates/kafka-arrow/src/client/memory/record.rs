//! Records as they are appended, and what the log keeps of them.

use crate::client::TimestampType;

/// A record to append.
///
/// `None` differs from empty: a record without a key is not one with an empty key, and a value of `None` is a
/// tombstone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The producer's timestamp in ms since the epoch; `None` for a record without one.
    ///
    /// A topic with `LogAppendTime` replaces it with the cluster's clock.
    pub timestamp_ms: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// Names and values, in order; names may occur more than once.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// A record that only has a value, not even a timestamp.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self {
            value: Some(value.into()),
            ..Self::default()
        }
    }

    /// A tombstone: a key without a value.
    pub fn tombstone(key: impl Into<Vec<u8>>) -> Self {
        Self {
            key: Some(key.into()),
            ..Self::default()
        }
    }

    /// Adds a key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a timestamp, in ms since the epoch.
    #[must_use]
    pub fn with_timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: Option<&[u8]>) -> Self {
        self.headers.push((name.into(), value.map(<[u8]>::to_vec)));
        self
    }

    /// The bytes of key and value, which count towards the size of a batch.
    pub(super) fn key_value_bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len)
    }

    /// The bytes of key, value and headers.
    pub(super) fn payload_bytes(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len))
            .sum();
        self.key_value_bytes() + headers
    }
}

/// A transaction's number, unique in its cluster.
pub(super) type TransactionId = u64;

/// What the log holds at an offset. An offset without an entry is a hole.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) offset: i64,
    /// Ms since the epoch. Control records have a timestamp too, and look-ups find them, as in Kafka.
    pub(super) timestamp_ms: Option<i64>,
    pub(super) timestamp_type: TimestampType,
    pub(super) leader_epoch: i32,
    /// The transaction that the record belongs to.
    pub(super) transaction: Option<TransactionId>,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Record(Record),
    /// The end of a transaction. It takes up an offset, and readers never see it.
    Control,
}

impl Entry {
    pub(super) fn record(&self) -> Option<&Record> {
        match &self.content {
            Content::Record(record) => Some(record),
            Content::Control => None,
        }
    }
}
