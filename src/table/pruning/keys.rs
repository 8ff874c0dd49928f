//! Which partitions can hold a key.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::ScalarValue;

use crate::decode::Format;
use crate::range::{KeyPartitioner, TopicPartition};

/// How the keys of a table choose partitions.
#[derive(Debug, Clone, Copy)]
pub(in crate::table) struct Keys {
    pub(in crate::table) partitioner: KeyPartitioner,
    format: Format,
}

impl Keys {
    pub(in crate::table) fn new(partitioner: KeyPartitioner, format: Format) -> Self {
        Self {
            partitioner,
            format,
        }
    }

    /// The bytes of the records whose key has this value; `None` if there are several spellings, as of UUIDs, or the
    /// value is no key's.
    fn bytes(self, value: &ScalarValue) -> Option<Vec<u8>> {
        use ScalarValue::{Binary, BinaryView, Int32, Int64, LargeBinary, Utf8, Utf8View};
        Some(match (self.format, value) {
            (_, Binary(Some(bytes)) | BinaryView(Some(bytes)) | LargeBinary(Some(bytes))) => {
                bytes.clone()
            }
            (Format::Text, Utf8(Some(text)) | Utf8View(Some(text))) => text.clone().into_bytes(),
            (Format::Int32, Int32(Some(number))) => number.to_be_bytes().to_vec(),
            (Format::Int64, Int64(Some(number))) => number.to_be_bytes().to_vec(),
            _ => return None,
        })
    }
}

/// Where the keys of topics are.
#[derive(Debug)]
pub(in crate::table) struct Homes {
    pub(in crate::table) keys: Keys,
    /// How many partitions each topic has.
    pub(in crate::table) counts: BTreeMap<Arc<str>, u32>,
}

impl Homes {
    /// The partition that a key of a topic lies in; `None` if it may be in any.
    pub(in crate::table) fn of(&self, topic: &str, key: &[u8]) -> Option<i32> {
        let partitions = *self.counts.get(topic)?;
        self.keys.partitioner.partition(key, partitions)
    }

    /// Whether the partition can hold a key that equals one of the values.
    pub(in crate::table) fn may_hold(
        &self,
        partition: &TopicPartition,
        values: &[&ScalarValue],
    ) -> bool {
        values.iter().any(|value| {
            // Nothing equals NULL.
            if value.is_null() {
                return false;
            }
            let key = self.keys.bytes(value);
            let home = key.and_then(|key| self.of(&partition.topic, &key));
            home.is_none_or(|home| home == partition.partition)
        })
    }
}
