//! Messages in formats v0 and v1.

use super::*;

/// A message at an offset. Formats without timestamps or headers leave them out.
fn message(magic: u8, attributes: u8, offset: i64, record: &Record) -> Vec<u8> {
    let mut checked = vec![magic, attributes];
    if magic > 0 {
        checked.extend(record.timestamp.to_be_bytes());
    }
    for field in [&record.key, &record.value] {
        checked.extend(field.as_ref().map_or(-1, |f| f.len() as i32).to_be_bytes());
        checked.extend(field.iter().flatten());
    }
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &checked) as u32;
    let mut all = offset.to_be_bytes().to_vec();
    all.extend((checked.len() as i32 + 4).to_be_bytes());
    all.extend(crc.to_be_bytes());
    all.extend(checked);
    all
}

/// Records as messages: one after another, or within one compressed message that has the last offset.
fn messages(magic: u8, codec: u8, records: &[Record]) -> Vec<u8> {
    let first = records[0].offset;
    let relative = if magic > 0 && codec > 0 { first } else { 0 };
    let plain: Vec<u8> = records
        .iter()
        .flat_map(|r| message(magic, 0, r.offset - relative, r))
        .collect();
    if codec == 0 {
        return plain;
    }
    let last = records.last().unwrap();
    let value = Some(pack(codec, &plain));
    let outer = Record {
        value,
        key: None,
        ..last.clone()
    };
    message(magic, codec, last.offset, &outer)
}

/// The records as they should come back: v0 has no timestamps.
fn expected(magic: u8, records: &[Record]) -> Vec<Record> {
    let timestamp = |r: &Record| if magic == 0 { -1 } else { r.timestamp };
    let all = records.iter().map(|r| Record {
        timestamp: timestamp(r),
        ..r.clone()
    });
    all.collect()
}

#[test]
fn old_messages_are_read_in_every_codec() {
    let mut records = numbered(3, 40).records;
    records[1].key = None;
    records[2].value = None;
    records[4].key = Some(vec![]);
    // Compaction has left holes.
    records.remove(7);
    for magic in [0, 1] {
        for codec in 0..4 {
            let bytes = messages(magic, codec, &records);
            let outcome = read(3, 40).of_bytes(&[bytes]).unwrap();
            assert_eq!(
                outcome.records,
                expected(magic, &records),
                "v{magic}, {codec}"
            );
            assert_eq!((outcome.position, outcome.passed.gap), (40, 1));
        }
    }
}

#[test]
fn all_formats_follow_one_another_in_a_log() {
    let pieces = [
        messages(0, 0, &numbered(0, 5).records),
        messages(0, 1, &numbered(5, 9).records),
        messages(1, 2, &numbered(9, 12).records),
        messages(1, 0, &numbered(12, 20).records),
        numbered(20, 30).write(),
    ];
    let all: Vec<u8> = pieces.concat();
    let mut few = read(7, 28);
    few.limits.batch_rows = 4;
    let outcome = few.of_bytes(&[all]).unwrap();
    assert_eq!(offsets(&outcome), (7..28).collect::<Vec<_>>());
    let timestamps: Vec<i64> = outcome.records.iter().map(|r| r.timestamp).collect();
    assert_eq!(timestamps[..3], [-1, -1, 1009]);
}

#[test]
fn the_brokers_time_holds_for_what_it_has_wrapped() {
    let records = numbered(0, 3).records;
    let plain: Vec<u8> = records
        .iter()
        .flat_map(|r| message(1, 0, r.offset, r))
        .collect();
    let mut outer = record(2, "");
    outer.value = Some(pack(1, &plain));
    outer.timestamp = 5_000;
    let outcome = read(0, 3)
        .of_bytes(&[message(1, 1 | 8, 2, &outer)])
        .unwrap();
    let timestamps: Vec<i64> = outcome.records.iter().map(|r| r.timestamp).collect();
    assert_eq!(timestamps, [5_000; 3]);
}

#[test]
fn damaged_old_messages_are_errors() {
    let records = numbered(4, 6).records;
    let mut damaged = messages(1, 0, &records);
    *damaged.last_mut().unwrap() ^= 1;
    let error = read(4, 6).of_bytes(&[damaged]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the message at 5, in a format from before Kafka 0.11, does not match its checksum"
    );
    // Offsets that overflow.
    let plain: Vec<u8> = [i64::MAX - 1, 0]
        .iter()
        .flat_map(|offset| message(1, 0, *offset, &record(0, "a")))
        .collect();
    let mut outer = record(0, "");
    outer.value = Some(pack(1, &plain));
    read(0, 9)
        .of_bytes(&[message(1, 1, i64::MAX, &outer)])
        .unwrap_err();
}

#[test]
fn no_bytes_of_old_messages_panic() {
    for magic in [0, 1] {
        for codec in 0..4 {
            let bytes = messages(magic, codec, &numbered(0, 4).records);
            for at in 0..bytes.len() {
                for flip in [1, 0x80, 0xff] {
                    let mut changed = bytes.clone();
                    changed[at] ^= flip;
                    let mut unchecked = read(0, 4);
                    unchecked.limits.check_crcs = false;
                    let _ = unchecked.of_bytes(&[changed]);
                }
            }
        }
    }
}
