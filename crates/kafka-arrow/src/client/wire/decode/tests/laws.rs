//! Laws for any log, any range and any damage.

use proptest::prelude::*;

use super::answers::answer;
use super::*;

fn records(from: i64) -> impl Strategy<Value = Vec<Record>> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    let headers = proptest::collection::vec(("[a-zé]{0,5}", bytes()), 0..3);
    let one = (1..4i64, 0..10_000i64, bytes(), bytes(), headers);
    proptest::collection::vec(one, 0..30).prop_map(move |all| {
        let mut offset = from - 1;
        let record = |(step, timestamp, key, value, headers)| {
            offset += step;
            Record {
                offset,
                timestamp,
                key,
                value,
                headers,
            }
        };
        all.into_iter().map(record).collect()
    })
}

pub(super) fn logs() -> impl Strategy<Value = Vec<Batch>> {
    let one = (records(0), 0..5u8, 0..3i64, 0..3i64, 0..3u8, any::<bool>());
    proptest::collection::vec(one, 1..8).prop_map(|all| {
        let mut next = 0;
        let mut log = Vec::new();
        for (mut records, codec, before, after, producer, abort) in all {
            let base = next + before;
            for r in &mut records {
                r.offset += base;
            }
            let last = records.last().map_or(base, |r| r.offset) + after;
            next = last + 1;
            let plain = Batch {
                base,
                last,
                codec,
                ..batch(records)
            };
            if producer == 0 {
                log.push(plain);
                continue;
            }
            let (producer, transactional) = (producer.into(), true);
            log.push(Batch {
                producer,
                transactional,
                ..plain
            });
            log.push(marker(next, producer, abort));
            next += 1;
        }
        log
    })
}

/// Producer and first offset of each aborted transaction.
pub(super) fn aborted(log: &[Batch]) -> Vec<(i64, i64)> {
    log.windows(2)
        .filter(|pair| pair[1].control == Some(true))
        .map(|pair| (pair[0].producer, pair[0].base))
        .collect()
}

proptest! {
    /// A naive reader of the same log serves as the oracle.
    #[test]
    fn any_log_is_read_as_it_was_written(
        log in logs(),
        (from, to) in (0..200i64, 0..200i64),
        batch_rows in 1..50usize,
        committed in any::<bool>(),
        cuts in proptest::collection::vec(any::<bool>(), 16),
    ) {
        let end = log.last().map_or(0, |b| b.last + 1);
        let (start, end) = (from.min(to).min(end), from.max(to).min(end));
        let dropped = aborted(&log);
        let visible = |b: &&Batch| {
            let is_aborted = dropped.iter().any(|(p, first)| *p == b.producer && *first == b.base);
            b.control.is_none() && !(committed && is_aborted && b.transactional)
        };
        let expected: Vec<Record> = log
            .iter()
            .filter(visible)
            .flat_map(|b| b.records.clone())
            .filter(|r| (start..end).contains(&r.offset))
            .collect();
        let mut pieces = vec![vec![]];
        for (b, cut) in log.iter().zip(cuts.iter().cycle()) {
            if *cut {
                pieces.push(vec![]);
            }
            if let Some(piece) = pieces.last_mut() {
                piece.extend(b.write());
            }
        }
        pieces.retain(|p| !p.is_empty());
        let isolation = if committed { ReadCommitted } else { ReadUncommitted };
        let limits = Limits { batch_rows, ..LIMITS };
        let all = Read { isolation, limits, aborted: dropped.clone(), ..read(start, end) };
        let outcome = all.of_bytes(&pieces).unwrap();
        prop_assert_eq!(&outcome.records, &expected);
        if start < end {
            prop_assert_eq!(outcome.position, end);
        }
        let wanted = RawColumns::default();
        let heads = Read { wanted, isolation, limits, aborted: dropped, ..read(start, end) };
        let heads = heads.of_bytes(&pieces).unwrap();
        prop_assert_eq!(offsets(&heads), offsets(&outcome));
        prop_assert_eq!(heads.passed, outcome.passed);
    }

    /// Consecutive ranges over the same input read as if each were alone.
    #[test]
    fn ranges_that_share_batches_are_read_as_if_alone(
        log in logs(),
        cuts in proptest::collection::btree_set(0..200i64, 2..8),
        (committed, batch_rows) in (any::<bool>(), 1..50usize),
        from_ms in proptest::option::of(0..12_000i64),
    ) {
        let end = log.last().map_or(0, |b| b.last + 1);
        let cuts: Vec<i64> = cuts.into_iter().filter(|cut| *cut <= end).collect();
        let ranges = || cuts.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        let isolation = if committed { ReadCommitted } else { ReadUncommitted };
        let limits = Limits { batch_rows, ..LIMITS };
        let bounds = TimestampBounds { from_ms, to_ms: None };
        let bytes: Vec<u8> = log.iter().flat_map(Batch::write).collect();
        let partition = TopicPartition::new("t", 0);
        for wanted in [RawColumns::ALL, RawColumns::default()] {
            let mut decoder = RangeDecoder::new(wanted, isolation, limits);
            decoder.begin_part(&aborted(&log));
            decoder.feed(bytes.clone().into());
            for (start, end) in ranges() {
                let mut together = Outcome::default();
                decoder.begin(start, end, bounds);
                loop {
                    let step = decoder.step().unwrap();
                    add(&mut together, &decoder.finish(partition.clone()).unwrap());
                    if step != Step::Full {
                        break;
                    }
                }
                let aborted = aborted(&log);
                let alone = Read { wanted, isolation, limits, bounds, aborted, ..read(start, end) };
                prop_assert_eq!(together, alone.of_bytes(std::slice::from_ref(&bytes)).unwrap());
            }
        }
    }

    /// Damaged answers yield errors or other records, but never a panic, a hang or a huge allocation.
    #[test]
    fn no_answer_panics(
        log in logs(),
        version in 4..=FETCH_VERSION_MOST,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        step in 1..5000usize,
        check_crcs in any::<bool>(),
    ) {
        let records: Vec<u8> = log.iter().flat_map(Batch::write).collect();
        let mut bytes = answer(version, &[(0, records, aborted(&log))]);
        for (index, with) in damage {
            let at = index.index(bytes.len());
            bytes[at] ^= with;
        }
        let mut parser = FetchAnswer::new(version, bytes.len());
        let limits = Limits { check_crcs, ..LIMITS };
        let mut decoder = RangeDecoder::new(RawColumns::ALL, ReadCommitted, limits);
        decoder.begin(0, 1000, TimestampBounds::default());
        let mut buffer = BytesMut::new();
        let mut rest = &bytes[..];
        let mut calls = 0;
        loop {
            calls += 1;
            prop_assert!(calls < 100_000, "it does not end");
            match parser.next(&mut buffer) {
                Ok(Event::More(_)) if rest.is_empty() => {
                    prop_assert!(false, "asks for more than there is");
                }
                Ok(Event::More(_)) => {
                    let (now, later) = rest.split_at(step.min(rest.len()));
                    buffer.extend_from_slice(now);
                    rest = later;
                }
                Ok(Event::Partition(head)) => decoder.begin_part(&head.aborted),
                Ok(Event::Records(batches)) => decoder.feed(batches),
                Ok(Event::End) | Err(_) => break,
                Ok(_) => {}
            }
            let mut steps = 0;
            while let Ok(Step::Full) = decoder.step() {
                let batch = decoder.finish(TopicPartition::new("t", 0)).unwrap();
                prop_assert!(batch.next_offset <= 1000);
                steps += 1;
                prop_assert!(steps < 100_000, "it does not end");
            }
        }
        let batch = decoder.finish(TopicPartition::new("t", 0)).unwrap();
        prop_assert!(batch.next_offset <= 1000);
    }
}
