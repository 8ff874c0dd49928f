//! Records that must contain a text: none is lost, whatever the log and its damage, and every offset is accounted for.

use proptest::prelude::*;

use super::laws::{aborted, logs};
use super::*;

fn has(record: &Record, needle: &Needle) -> bool {
    let mut parts = [&record.key, &record.value].into_iter().flatten();
    parts.any(|part| needle.may_be_in(part))
}

fn searched(needle: &str, batches: &[Batch]) -> Outcome {
    let end = batches.last().map_or(0, |batch| batch.last + 1);
    let needle = Some(Needle::new(needle));
    let all = Read {
        needle,
        ..read(0, end)
    };
    all.of(batches).unwrap()
}

#[test]
fn only_the_records_around_a_hit_become_rows() {
    for codec in 0..5 {
        let batches = [(0, 100), (100, 200), (200, 300)];
        let batches = batches.map(|(from, to)| Batch {
            codec,
            ..numbered(from, to)
        });
        let outcome = searched("length 150", &batches);
        assert_eq!(offsets(&outcome), [150], "codec {codec}");
        assert_eq!((outcome.position, outcome.passed.filtered), (300, 299));
        // A key counts as well, and a text that most records have is not searched for.
        assert_eq!(
            offsets(&searched("key 7", &batches)),
            [7, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79]
        );
        assert_eq!(offsets(&searched("a value", &batches)).len(), 300);
        assert_eq!(offsets(&searched("no such text", &batches)).len(), 0);
    }
}

#[test]
fn a_backslash_in_json_keeps_its_record() {
    let first = record(0, r#"{"a":"\u006frder"}"#);
    let others = (1..10).map(|offset| record(offset, "{}"));
    let escaped = batch(std::iter::once(first).chain(others).collect());
    let plain = batch(vec![record(10, "{}"), record(11, r#"{"a":"order"}"#)]);
    let needle = Some(Needle::new("order").in_json());
    let outcome = Read {
        needle,
        ..read(0, 12)
    };
    let outcome = outcome.of(&[escaped, plain]).unwrap();
    assert_eq!(offsets(&outcome), [0, 11]);
    assert_eq!(outcome.passed.filtered, 10);
}

/// What becomes of a batch without the text is told by its head, which the other reasons must not change.
#[test]
fn transactions_gaps_and_stamps_of_the_broker_are_told_apart() {
    let mut gone = numbered(10, 20);
    gone.records.retain(|record| record.offset % 3 == 0);
    (gone.base, gone.last) = (10, 19);
    let dropped = Batch {
        producer: 1,
        transactional: true,
        ..numbered(20, 30)
    };
    let stamped = Batch {
        log_append_time: Some(77),
        ..numbered(31, 40)
    };
    let batches = [gone, dropped, marker(30, 1, true), stamped];
    for (start, end) in [(10, 40), (13, 35), (11, 12), (25, 33)] {
        let read = |needle: Option<&str>| {
            let all = Read {
                needle: needle.map(Needle::new),
                aborted: vec![(1, 20)],
                ..read(start, end)
            };
            all.of(&batches).unwrap()
        };
        let (plain, found) = (read(None), read(Some("length 33")));
        let expected = plain.records.iter().filter(|r| r.offset == 33);
        assert_eq!(found.records, expected.cloned().collect::<Vec<_>>());
        let mut passed = found.passed;
        assert_eq!(
            passed.filtered as usize,
            plain.records.len() - found.records.len()
        );
        passed.filtered = 0;
        assert_eq!((passed, found.position), (plain.passed, plain.position));
    }
}

proptest! {
    #[test]
    fn a_search_finds_what_a_reader_of_all_records_finds(
        log in logs(),
        (from, to) in (0..200i64, 0..200i64),
        batch_rows in 1..50usize,
        bytes in prop::collection::vec(any::<u8>(), 0..3),
        in_json in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let end = log.last().map_or(0, |b| b.last + 1);
        let (start, end) = (from.min(to).min(end), from.max(to).min(end));
        let needle = Needle { in_json, ..Needle::new(bytes) };
        let mut all: Vec<u8> = log.iter().flat_map(Batch::write).collect();
        for (index, with) in damage {
            let at = index.index(all.len());
            all[at] ^= with;
        }
        let limits = Limits { batch_rows, check_crcs: false, ..LIMITS };
        let read = |needle| Read { needle, limits, aborted: aborted(&log), ..read(start, end) };
        let read = |needle| read(needle).of_bytes(std::slice::from_ref(&all));
        // What is broken may lie in a batch that a search passes.
        let Ok(plain) = read(None) else { return Ok(()) };
        let found = read(Some(needle.clone())).unwrap();
        prop_assert_eq!(found.position, plain.position);
        let hits = plain.records.iter().filter(|record| has(record, &needle));
        for hit in hits {
            prop_assert!(found.records.contains(hit), "{} is lost", hit.offset);
        }
        for record in &found.records {
            prop_assert!(plain.records.contains(record), "{} is made up", record.offset);
        }
        let passed = PassedOffsets { filtered: 0, ..found.passed };
        prop_assert_eq!(passed, plain.passed);
    }
}
