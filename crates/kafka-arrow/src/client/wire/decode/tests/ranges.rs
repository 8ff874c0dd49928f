//! Ranges cut out of logs: their rows, and the reasons for passed offsets.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::super::range::Shortage;
use super::*;
use crate::client::{Held, MemoryBudget};

#[test]
fn records_come_back_in_every_codec() {
    let mut records: Vec<Record> = (5..200)
        .map(|n| record(n, &"x".repeat(n as usize)))
        .collect();
    records[3].key = None;
    records[4].value = None;
    records[5].value = Some(vec![]);
    records[6].headers = vec![("a".into(), Some(vec![1])), ("a".into(), None)];
    for codec in 0..5 {
        let packed = Batch {
            codec,
            ..batch(records.clone())
        };
        let outcome = read(5, 200).of(&[packed]).unwrap();
        assert_eq!(outcome.records, records, "codec {codec}");
        assert_eq!(outcome.passed, PassedOffsets::default());
    }
}

#[test]
fn range_cuts_batches_at_both_ends() {
    let batches = [numbered(0, 10), numbered(10, 20), numbered(20, 30)];
    for wanted in [RawColumns::ALL, RawColumns::default()] {
        for (start, end) in [(0, 30), (3, 7), (9, 11), (10, 20), (15, 30), (29, 30)] {
            let outcome = Read {
                wanted,
                ..read(start, end)
            }
            .of(&batches)
            .unwrap();
            assert_eq!(offsets(&outcome), (start..end).collect::<Vec<_>>());
            assert_eq!(outcome.position, end);
        }
    }
}

#[test]
fn batches_of_rows_are_bounded_by_rows_and_bytes() {
    let batches = [numbered(0, 10), numbered(10, 20)];
    for batch_rows in [1, 3, 10, 11] {
        let limits = Limits {
            batch_rows,
            ..LIMITS
        };
        let outcome = Read {
            limits,
            ..read(0, 20)
        }
        .of(&batches)
        .unwrap();
        assert_eq!(outcome.records.len(), 20);
        let heads = Read {
            limits,
            wanted: RawColumns::default(),
            ..read(0, 20)
        };
        assert_eq!(heads.of(&batches).unwrap().records.len(), 20);
    }
    let limits = Limits {
        batch_bytes: 1,
        ..LIMITS
    };
    assert_eq!(
        Read {
            limits,
            ..read(0, 20)
        }
        .of(&batches)
        .unwrap()
        .records
        .len(),
        20
    );
}

#[test]
fn holes_are_counted_as_gaps() {
    // Compaction has removed 3..7 from the first batch, 9 at its end, and the whole batch 10..20.
    let mut first = numbered(0, 9);
    first.records.retain(|r| !(3..7).contains(&r.offset));
    first.last = 9;
    let outcome = read(0, 25).of(&[first.clone(), numbered(20, 30)]).unwrap();
    assert_eq!(offsets(&outcome), [0, 1, 2, 7, 8, 20, 21, 22, 23, 24]);
    assert_eq!(
        outcome.passed,
        PassedOffsets {
            gap: 4 + 1 + 10,
            ..Default::default()
        }
    );
    // A range that ends in a hole is finished.
    let outcome = read(2, 5).of(&[first]).unwrap();
    assert_eq!(
        (offsets(&outcome), outcome.position, outcome.passed.gap),
        (vec![2], 5, 2)
    );
}

#[test]
fn aborted_transactions_are_counted_and_not_decoded() {
    let of = |mut b: Batch, producer| {
        b.producer = producer;
        b.transactional = true;
        b
    };
    let log = [
        of(numbered(0, 3), 1),
        of(numbered(3, 6), 2),
        marker(6, 1, true),
        of(numbered(7, 9), 1),
        marker(9, 2, false),
        marker(10, 1, false),
        numbered(11, 13),
    ];
    let aborted = vec![(1, 0)];
    let outcome = Read {
        aborted: aborted.clone(),
        ..read(0, 13)
    }
    .of(&log)
    .unwrap();
    assert_eq!(offsets(&outcome), [3, 4, 5, 7, 8, 11, 12]);
    let expected = PassedOffsets {
        aborted: 3,
        control: 3,
        ..Default::default()
    };
    assert_eq!(outcome.passed, expected);
    // A start within the aborted transaction: its records are never read, even when broken.
    let mut broken = log.clone();
    broken[0].codec = 4;
    let outcome = Read {
        aborted,
        ..read(1, 8)
    }
    .of(&broken)
    .unwrap();
    assert_eq!(offsets(&outcome), [3, 4, 5, 7]);
    assert_eq!((outcome.passed.aborted, outcome.passed.control), (2, 1));
    let all = Read {
        isolation: ReadUncommitted,
        ..read(0, 13)
    }
    .of(&log)
    .unwrap();
    assert_eq!((all.records.len(), all.passed.control), (10, 3));
}

#[test]
fn aborted_batch_with_holes_is_counted_exactly() {
    let mut log = numbered(0, 10);
    log.records.retain(|r| r.offset % 3 == 0);
    log.last = 9;
    (log.producer, log.transactional) = (1, true);
    let aborted = vec![(1, 0)];
    let whole = Read {
        aborted: aborted.clone(),
        ..read(0, 10)
    }
    .of(&[log.clone()])
    .unwrap();
    assert_eq!((whole.passed.aborted, whole.passed.gap), (4, 6));
    let part = Read {
        aborted,
        ..read(2, 7)
    }
    .of(&[log])
    .unwrap();
    assert_eq!((part.passed.aborted, part.passed.gap), (2, 3));
}

#[test]
fn batches_outside_the_timestamps_are_passed_by_their_heads() {
    let log = [numbered(0, 10), numbered(10, 20)];
    let bounds = TimestampBounds {
        from_ms: Some(1_010),
        to_ms: None,
    };
    let outcome = Read {
        bounds,
        ..read(0, 20)
    }
    .of(&log)
    .unwrap();
    assert_eq!(offsets(&outcome), (10..20).collect::<Vec<_>>());
    assert_eq!(outcome.passed.filtered, 10);
    // Under CreateTime a later record may be older, so an upper bound cannot rule out a batch.
    let bounds = TimestampBounds {
        from_ms: None,
        to_ms: Some(5),
    };
    assert_eq!(
        Read {
            bounds,
            ..read(0, 20)
        }
        .of(&log)
        .unwrap()
        .records
        .len(),
        20
    );
    let stamped = [Batch {
        log_append_time: Some(7),
        ..numbered(0, 10)
    }];
    assert_eq!(
        Read {
            bounds,
            ..read(0, 10)
        }
        .of(&stamped)
        .unwrap()
        .passed
        .filtered,
        10
    );
}

#[test]
fn log_append_time_is_that_of_the_batch() {
    let stamped = [Batch {
        log_append_time: Some(77),
        ..numbered(0, 3)
    }];
    for value in [true, false] {
        let wanted = RawColumns {
            value,
            ..RawColumns::ALL
        };
        let outcome = Read {
            wanted,
            ..read(0, 3)
        }
        .of(&stamped)
        .unwrap();
        assert!(outcome.records.iter().all(|r| r.timestamp == 77));
    }
    let mut decoder = RangeDecoder::new(RawColumns::ALL, ReadCommitted, LIMITS);
    decoder.begin(0, 3, TimestampBounds::default());
    decoder.feed(stamped[0].write().into());
    assert_eq!(decoder.step(), Ok(Step::RangeEnd));
    let types = decoder
        .finish(TopicPartition::new("t", 0))
        .unwrap()
        .timestamp_types;
    assert_eq!(types, Some(vec![TimestampType::LogAppendTime; 3]));
}

#[test]
fn next_range_goes_on_in_what_was_fed() {
    let mut decoder = RangeDecoder::new(RawColumns::ALL, ReadCommitted, LIMITS);
    let bytes = [numbered(0, 10), numbered(10, 20)]
        .iter()
        .flat_map(Batch::write)
        .collect();
    let mut seen = Vec::new();
    decoder.begin(2, 4, TimestampBounds::default());
    decoder.feed(Bytes::from_iter::<Vec<u8>>(bytes));
    for next in [(6, 7), (7, 12), (19, 20)] {
        assert_eq!(decoder.step(), Ok(Step::RangeEnd));
        let batch = decoder.finish(TopicPartition::new("t", 0)).unwrap();
        seen.extend_from_slice(batch.offsets.values());
        decoder.begin(next.0, next.1, TimestampBounds::default());
    }
    assert_eq!(decoder.step(), Ok(Step::RangeEnd));
    let batch = decoder.finish(TopicPartition::new("t", 0)).unwrap();
    seen.extend_from_slice(batch.offsets.values());
    assert_eq!(seen, [2, 3, 6, 7, 8, 9, 10, 11, 19]);
}

#[test]
fn damage_is_named_and_rows_before_it_are_kept() {
    let mut bytes = numbered(0, 10).write();
    let good = bytes.len();
    bytes.extend(numbered(10, 20).write());
    bytes[good + 100] ^= 1;
    let error = read(0, 20).of_bytes(&[bytes.clone()]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the record batch at 10 does not match its checksum"
    );

    let mut decoder = RangeDecoder::new(RawColumns::ALL, ReadCommitted, LIMITS);
    decoder.begin(0, 20, TimestampBounds::default());
    decoder.feed(bytes.into());
    assert!(decoder.step().is_err());
    let kept = decoder.finish(TopicPartition::new("t", 0)).unwrap();
    assert_eq!((kept.offsets.len(), kept.next_offset), (10, 10));
}

/// For each codec, a decoder fed with a batch of 2 MiB.
fn of_big_batch(limits: Limits) -> impl Iterator<Item = (RangeDecoder, u8)> {
    let big = batch(vec![record(0, &"x".repeat(2 << 20))]);
    (1..5).map(move |codec| {
        let bytes = Batch {
            codec,
            ..big.clone()
        };
        let mut decoder = RangeDecoder::new(RawColumns::ALL, ReadCommitted, limits);
        decoder.begin(0, 1, TimestampBounds::default());
        decoder.feed(bytes.write().into());
        (decoder, codec)
    })
}

#[test]
fn batch_that_unpacks_to_too_much_is_refused() {
    for (mut decoder, codec) in of_big_batch(LIMITS) {
        assert_eq!(decoder.step(), Ok(Step::Short), "codec {codec}");
        let kind = ShortOf::Limit(LIMITS.unpacked_bytes);
        let expected = Some(Shortage { offset: 0, kind });
        assert_eq!(decoder.shortage(), expected, "codec {codec}");
    }
}

/// Grants this much memory and no more.
#[derive(Debug)]
struct Purse(std::sync::atomic::AtomicUsize);

#[async_trait::async_trait]
impl MemoryBudget for Purse {
    fn try_take(&self, bytes: usize) -> Result<(), String> {
        let taken = self
            .0
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes));
        taken
            .map(drop)
            .map_err(|left| format!("{left} bytes are left"))
    }

    async fn take(&self, bytes: usize) -> Result<(), String> {
        self.try_take(bytes)
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_add(bytes, Relaxed);
    }
}

#[test]
fn a_large_batch_is_unpacked_when_memory_is_granted_which_its_rows_give_back() {
    let limits = Limits {
        unpacked_bytes: 100 << 20,
        ..LIMITS
    };
    for (decoder, codec) in of_big_batch(limits) {
        let purse = Arc::new(Purse(0.into()));
        let memory: Arc<dyn MemoryBudget> = Arc::clone(&purse) as _;
        let mut decoder = decoder.within(Held::nothing_of(&memory));
        assert_eq!(decoder.step(), Ok(Step::Short), "codec {codec}");
        let shortage = decoder.shortage().unwrap();
        let ShortOf::Memory(bytes) = shortage.kind else {
            panic!("codec {codec}: {shortage:?}");
        };
        assert!(
            bytes > 1 << 20 && shortage.offset == 0,
            "codec {codec}: {shortage:?}"
        );
        assert!(!decoder.has_news(), "codec {codec}");
        purse.give_back(8 << 20);
        if codec % 2 == 0 {
            let mut held = Held::nothing_of(&memory);
            held.try_hold(4 << 20).unwrap();
            decoder.grant(held);
        }
        assert_eq!(decoder.step(), Ok(Step::RangeEnd), "codec {codec}");
        let rows = decoder.finish(TopicPartition::new("t", 0)).unwrap();
        assert_eq!(
            rows.values.unwrap().value(0).len(),
            2 << 20,
            "codec {codec}"
        );
        decoder.clear();
        assert_eq!(purse.0.load(Relaxed), 8 << 20, "codec {codec}");
    }
}

/// A decoder fed with two records of 2 MB, each packed in its own batch.
fn two_large_batches(batch_bytes: usize, purse: &Arc<Purse>) -> RangeDecoder {
    let value = "x".repeat(2 << 20);
    let batches = (0..2).map(|n| Batch {
        codec: 4,
        ..batch(vec![record(n, &value)])
    });
    let log: Vec<u8> = batches.flat_map(|batch| batch.write()).collect();
    let limits = Limits {
        batch_bytes,
        unpacked_bytes: 100 << 20,
        ..LIMITS
    };
    let memory: Arc<dyn MemoryBudget> = Arc::clone(purse) as _;
    let decoder = RangeDecoder::new(RawColumns::ALL, ReadCommitted, limits);
    let mut decoder = decoder.within(Held::nothing_of(&memory));
    decoder.begin(0, 2, TimestampBounds::default());
    decoder.feed(log.into());
    decoder
}

#[test]
fn the_next_batch_is_not_unpacked_before_a_full_one_is_handed_out() {
    let purse = Arc::new(Purse((8 << 20).into()));
    let mut decoder = two_large_batches(1 << 10, &purse);
    assert_eq!(decoder.step(), Ok(Step::Full));
    let taken = (8 << 20) - purse.0.load(Relaxed);
    assert!((2 << 20..=4 << 20).contains(&taken), "{taken}");
    let rows = decoder.finish(TopicPartition::new("t", 0)).unwrap();
    assert_eq!(rows.offsets.len(), 1);
    assert_eq!(decoder.step(), Ok(Step::RangeEnd));
}

/// Rows are handed out first; the memory they give back suffices for the next batch.
#[test]
fn a_batch_that_was_refused_memory_is_unpacked_by_the_next_step() {
    let purse = Arc::new(Purse((3 << 20).into()));
    let mut decoder = two_large_batches(100 << 20, &purse);
    assert_eq!(decoder.step(), Ok(Step::Short));
    let partition = TopicPartition::new("t", 0);
    let rows = decoder.finish(partition.clone()).unwrap();
    assert_eq!(rows.offsets.len(), 1);
    drop(rows);
    assert_eq!(decoder.step(), Ok(Step::RangeEnd));
    assert_eq!(decoder.finish(partition).unwrap().offsets.len(), 1);
}

#[test]
fn few_rows_keep_little_memory() {
    let records = (0..1000).map(|n| record(n, &"x".repeat(1000))).collect();
    let limits = Limits {
        batch_rows: 3,
        ..LIMITS
    };
    let mut decoder = RangeDecoder::new(RawColumns::ALL, ReadCommitted, limits);
    decoder.begin(0, 1000, TimestampBounds::default());
    decoder.feed(batch(records).write().into());
    assert_eq!(decoder.step(), Ok(Step::Full));
    let rows = decoder.finish(TopicPartition::new("t", 0)).unwrap();
    let values = rows.values.unwrap();
    let kept: usize = values.data_buffers().iter().map(|b| b.len()).sum();
    assert_eq!(kept, 3000);
}

#[test]
fn record_with_broken_headers_is_no_row() {
    let mut log = numbered(0, 3);
    log.records[2].headers = vec![("name".into(), Some(vec![1, 2, 3]))];
    let mut bytes = log.write();
    // Changes the length of the last header's value to exceed the record.
    let at = bytes.len() - 4;
    assert_eq!(bytes[at], 6);
    bytes[at] = 100;
    let limits = Limits {
        check_crcs: false,
        ..LIMITS
    };
    let mut decoder = RangeDecoder::new(RawColumns::ALL, ReadCommitted, limits);
    decoder.begin(0, 3, TimestampBounds::default());
    decoder.feed(bytes.into());
    assert!(decoder.step().is_err());
    let kept = decoder.finish(TopicPartition::new("t", 0)).unwrap();
    assert_eq!((kept.offsets.len(), kept.next_offset), (2, 2));
    assert_eq!(kept.headers.map(|h| h.len()), Some(2));
}
