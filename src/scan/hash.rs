//! Hashes of records, for checksums that do not depend on the order of records.
//!
//! A record's hash is XXH3-128 with seed 0 over these bytes, numbers in little-endian order, columns
//! only if they are read:
//!
//! ```text
//! offset            i64
//! timestamp         00, or 01 and an i64 in ms
//! timestamp_type    00 none, 01 CreateTime, 02 LogAppendTime
//! key, value        00 for NULL, or 01, the length as u32 and the bytes
//! headers           their number as u32; each: the name's length as u32, the name, a value as above
//! ```
//!
//! `leader_epoch` is not part of it: not every client knows it.

use arrow::array::{Array, AsArray, BinaryViewArray, ListArray};
use datafusion::execution::TaskContext;
use xxhash_rust::xxh3::xxh3_128;

use crate::client::{RawBatch, RawColumns, TimestampType};

/// Asks the scans of a session or task for checksums: an extension of its `SessionConfig`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WithChecksums;

/// Whether the scans of a task are asked for checksums, as a receipt asks.
pub fn wants_checksums(context: &TaskContext) -> bool {
    let config = context.session_config();
    config.get_extension::<WithChecksums>().is_some()
}

/// The hashes of all records.
pub(super) fn hashes(raw: &RawBatch, columns: RawColumns) -> Vec<u128> {
    let mut bytes = Vec::with_capacity(256);
    (0..raw.offsets.len())
        .map(|row| {
            bytes.clear();
            write(raw, columns, row, &mut bytes);
            xxh3_128(&bytes)
        })
        .collect()
}

fn write(raw: &RawBatch, columns: RawColumns, row: usize, to: &mut Vec<u8>) {
    to.extend(raw.offsets.value(row).to_le_bytes());
    if columns.timestamp {
        match raw.timestamps.as_ref().filter(|t| t.is_valid(row)) {
            Some(timestamps) => {
                to.push(1);
                to.extend(timestamps.value(row).to_le_bytes());
            }
            None => to.push(0),
        }
    }
    if columns.timestamp_type {
        let found = raw.timestamp_types.as_ref().and_then(|t| t.get(row));
        to.push(match found {
            None | Some(TimestampType::NotAvailable) => 0,
            Some(TimestampType::CreateTime) => 1,
            Some(TimestampType::LogAppendTime) => 2,
        });
    }
    let cell = |column: &Option<BinaryViewArray>, to: &mut Vec<u8>| {
        let column = column.as_ref().filter(|c| c.is_valid(row));
        nullable(column.map(|c| c.value(row)), to);
    };
    if columns.key {
        cell(&raw.keys, to);
    }
    if columns.value {
        cell(&raw.values, to);
    }
    if columns.headers {
        headers(raw.headers.as_ref(), row, to);
    }
}

fn headers(column: Option<&ListArray>, row: usize, to: &mut Vec<u8>) {
    let Some(column) = column else {
        return length(0, to);
    };
    let ends = column.value_offsets();
    // Arrow's offsets are not negative and rise.
    let (from, end) = (ends[row] as usize, ends[row + 1] as usize);
    length(end - from, to);
    let entries = column.values().as_struct();
    let names = entries.column(0).as_string::<i32>();
    let values = entries.column(1).as_binary::<i32>();
    for entry in from..end {
        let name = names.value(entry).as_bytes();
        length(name.len(), to);
        to.extend_from_slice(name);
        nullable(values.is_valid(entry).then(|| values.value(entry)), to);
    }
}

fn nullable(bytes: Option<&[u8]>, to: &mut Vec<u8>) {
    let Some(bytes) = bytes else {
        return to.push(0);
    };
    to.push(1);
    length(bytes.len(), to);
    to.extend_from_slice(bytes);
}

/// Kafka's lengths are i32.
fn length(length: usize, to: &mut Vec<u8>) {
    to.extend((length as u32).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::memory::{MemoryCluster, Record};
    use crate::client::{KafkaClient, ReadRequest};
    use crate::range::OffsetRange;
    use futures::StreamExt;

    async fn batch() -> RawBatch {
        let cluster = MemoryCluster::new();
        cluster.create_topic("t", 1).unwrap();
        let whole = Record::new("value")
            .with_key("")
            .with_timestamp_ms(1000)
            .with_header("a", Some(b"1"))
            .with_header("a", None);
        let bare = Record {
            value: None,
            ..Record::new("")
        };
        cluster.append_all("t", 0, [whole, bare]).unwrap();
        let request = ReadRequest {
            batch_rows: 10,
            ..ReadRequest::new(vec![OffsetRange::try_new("t", 0, 0, 2).unwrap()])
        };
        let mut stream = cluster.client().read(request);
        stream.next().await.unwrap().unwrap()
    }

    /// The bytes are part of the format of receipts: others compute them too.
    #[tokio::test]
    async fn bytes_and_hashes_are_pinned() {
        let raw = batch().await;
        let bytes = |columns, row| {
            let mut bytes = vec![];
            write(&raw, columns, row, &mut bytes);
            bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()
        };
        let all = RawColumns::ALL;
        assert_eq!(
            bytes(all, 0),
            concat!(
                "0000000000000000",   // offset 0
                "01e803000000000000", // 1000 ms
                "01",                 // CreateTime
                "0100000000",         // an empty key
                "010500000076616c7565",
                "02000000", // two headers
                "0100000061",
                "010100000031",
                "0100000061",
                "00",
            )
        );
        assert_eq!(
            bytes(all, 1),
            concat!("0100000000000000", "00", "00", "00", "00", "00000000")
        );
        assert_eq!(bytes(RawColumns::default(), 1), "0100000000000000");
        let hex = |hashes: Vec<u128>| -> Vec<String> {
            hashes.iter().map(|h| format!("{h:032x}")).collect()
        };
        let pinned = hex(hashes(&raw, all));
        // The same as Python's xxhash.xxh3_128 of these bytes.
        assert_eq!(
            pinned,
            [
                "ed2596152135b9c24f24faad9c70b077",
                "137ec3075546cf034a4fe11e9c4a1079"
            ]
        );
        let second = raw.filter(&vec![false, true].into()).unwrap();
        assert_eq!(hex(hashes(&second, all)), pinned[1..]);
    }
}
