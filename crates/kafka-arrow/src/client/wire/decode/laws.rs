//! Laws for answers and record batches, whatever the bytes. The unit tests and `fuzz/` check them.
//!
//! Nothing panics or loops forever, and every offset is accounted for: the rows of a range, plus the offsets
//! passed without a row, add up to the offsets that the position has passed.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    DescribeConfigsRequest, FindCoordinatorRequest, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, SaslAuthenticateRequest,
    SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Decodable, Request};

use super::{
    Event, FETCH_VERSION_MOST, FetchAnswer, Limits, RangeDecoder, Step, api_versions, check,
};
use crate::client::{Needle, PassedOffsets, RawColumns, TimestampBounds};
use crate::range::{IsolationLevel, TopicPartition};

/// The end of the range: far enough for offsets to matter, and near enough to be reached.
const END: i64 = 1 << 40;
/// A record takes at least one byte, so an input cannot need more steps than this per byte.
const STEPS_PER_BYTE: usize = 1 << 12;

const LIMITS: Limits = Limits {
    batch_rows: 64,
    batch_bytes: 1 << 16,
    unpacked_bytes: 1 << 20,
    check_crcs: false,
};

/// A Fetch answer: a byte for the version, one for options, one for how much arrives at once.
pub(crate) fn answer(data: &[u8]) {
    let [version, options, piece, bytes @ ..] = data else {
        return;
    };
    let versions = i16::from(*version) % (FETCH_VERSION_MOST - 3);
    let mut parser = FetchAnswer::new(4 + versions, bytes.len());
    let mut decoder = Reading::new(*options, RawColumns::ALL);
    let mut buffer = BytesMut::new();
    let mut rest = bytes;
    for _ in 0..(bytes.len() + 1) * STEPS_PER_BYTE {
        match parser.next(&mut buffer) {
            Ok(Event::More(wanted)) => {
                assert!(
                    !rest.is_empty(),
                    "asks for {wanted} more of an answer that is whole"
                );
                assert!(
                    wanted > buffer.len(),
                    "asks for {wanted} and has {}",
                    buffer.len()
                );
                assert!(wanted <= parser.left(), "asks for more than there is");
                let (now, later) = rest.split_at(rest.len().min(1 + usize::from(*piece)));
                buffer.extend_from_slice(now);
                rest = later;
            }
            Ok(Event::Partition(head)) => decoder.decoder.begin_part(&head.aborted),
            Ok(Event::Records(batches)) => {
                assert!(!batches.is_empty(), "records without a record batch");
                if !decoder.feed(batches) {
                    parser.skip_records();
                }
            }
            Ok(Event::End) => {
                assert_eq!(parser.left(), 0, "an answer ends before its end");
                return decoder.end();
            }
            Ok(_) => {}
            Err(_) => return decoder.end(),
        }
    }
    panic!("it does not end");
}

/// Record batches: a byte for options, one for the start of the range.
pub(crate) fn records(data: &[u8]) {
    let [options, start, batches @ ..] = data else {
        return;
    };
    let run = |columns, options| {
        let mut reading = Reading::new(options, columns);
        let start = i64::from(*start);
        reading.start = start;
        reading
            .decoder
            .begin(start, END, TimestampBounds::default());
        reading.decoder.begin_part(&[(7, 0), (9, 1 << 10)]);
        let whole = reading.feed(Bytes::copy_from_slice(batches));
        reading.end();
        whole.then_some(reading)
    };
    let all = run(RawColumns::ALL, *options);
    let offsets = run(RawColumns::default(), *options & !SEARCHES);
    let Some(all) = all else {
        return;
    };
    if *options & SEARCHES == 0 {
        // Where the heads suffice, they agree with the records.
        let offsets = offsets.expect("records decode, and their offsets do not");
        assert_eq!(all.offsets, offsets.offsets);
        assert_eq!(all.passed, offsets.passed);
    } else if let Some(offsets) = offsets {
        // A search only leaves records out.
        let known = |offset| offsets.offsets.binary_search(offset).is_ok();
        assert!(all.offsets.iter().all(known));
        assert_eq!(all.position, offsets.position);
    }
}

/// An answer to any request but Fetch: a byte for the request, one for the version.
///
/// What the check of lengths accepts, the decoder can be trusted with: it reserves no more than the answer
/// justifies. The fuzzer limits memory.
pub(crate) fn answers(data: &[u8]) {
    fn law<R: Request>(version: u8, mut body: Bytes) {
        let known = R::VERSIONS.max - R::VERSIONS.min + 1;
        let version = R::VERSIONS.min + i16::from(version) % known;
        if let Ok(length) = check(R::KEY, version, &body) {
            assert!(length <= body.len(), "more than there is");
            let _ = R::Response::decode(&mut body, version);
        }
    }
    let [request, version, body @ ..] = data else {
        return;
    };
    let body = Bytes::copy_from_slice(body);
    match request % 10 {
        0 => law::<ListOffsetsRequest>(*version, body),
        1 => law::<MetadataRequest>(*version, body),
        2 => law::<OffsetFetchRequest>(*version, body),
        3 => law::<FindCoordinatorRequest>(*version, body),
        4 => law::<SaslHandshakeRequest>(*version, body),
        5 => law::<OffsetForLeaderEpochRequest>(*version, body),
        6 => law::<DescribeConfigsRequest>(*version, body),
        7 => law::<SaslAuthenticateRequest>(*version, body),
        9 => law::<OffsetCommitRequest>(*version, body),
        _ => drop(api_versions(&body, i16::from(*version % 5))),
    }
}

/// The option of a search for a text.
const SEARCHES: u8 = 64;

/// A range being read, with its accounts.
struct Reading {
    decoder: RangeDecoder,
    start: i64,
    offsets: Vec<i64>,
    passed: PassedOffsets,
    position: i64,
}

impl Reading {
    fn new(options: u8, columns: RawColumns) -> Self {
        let isolation = if options & 1 == 0 {
            IsolationLevel::ReadUncommitted
        } else {
            IsolationLevel::ReadCommitted
        };
        let limits = Limits {
            batch_rows: if options & 2 == 0 { 1 << 13 } else { 3 },
            batch_bytes: if options & 4 == 0 {
                LIMITS.batch_bytes
            } else {
                10
            },
            check_crcs: options & 8 != 0,
            ..LIMITS
        };
        let bounds = TimestampBounds {
            from_ms: (options & 16 != 0).then_some(1 << 20),
            to_ms: (options & 32 != 0).then_some(1 << 41),
        };
        let needle = (options & SEARCHES != 0).then(|| Needle::new("a"));
        let needle = needle.map(|needle| match options & 128 {
            0 => needle,
            _ => needle.in_json(),
        });
        let decoder = RangeDecoder::new(columns, isolation, limits);
        let mut decoder = decoder.searching(needle.as_ref());
        decoder.begin(0, END, bounds);
        Self {
            decoder,
            start: 0,
            offsets: Vec::new(),
            passed: PassedOffsets::default(),
            position: 0,
        }
    }

    /// Returns whether all of it decodes.
    fn feed(&mut self, batches: Bytes) -> bool {
        let steps = (batches.len() + 1) * STEPS_PER_BYTE;
        self.decoder.feed(batches);
        for _ in 0..steps {
            match self.decoder.step() {
                Ok(Step::Full) => {
                    assert!(self.finish() > 0, "a full batch without a row");
                    // A head can claim any number of offsets at no cost, so there is a limit.
                    if self.offsets.len() > 1 << 20 {
                        return false;
                    }
                }
                Ok(Step::Empty) => return true,
                Ok(Step::RangeEnd | Step::Short | Step::Cut(_)) | Err(_) => return false,
            }
        }
        panic!("it does not end");
    }

    fn finish(&mut self) -> usize {
        let partition = TopicPartition::new("t", 0);
        let batch = self
            .decoder
            .finish(partition)
            .expect("columns are of one length");
        assert!(batch.offsets.len() <= 1 << 13);
        self.offsets.extend(batch.offsets.values());
        self.passed += batch.passed;
        self.position = batch.next_offset;
        // Reads every value, so that a view beyond its buffer would be noticed.
        let views = [&batch.keys, &batch.values].into_iter().flatten();
        let bytes: usize = views
            .flat_map(|v| v.iter().flatten())
            .map(<[u8]>::len)
            .sum();
        assert!(bytes <= batch.bytes || batch.keys.is_none());
        batch.offsets.len()
    }

    fn end(&mut self) {
        self.finish();
        assert!(
            self.offsets.is_sorted_by(|a, b| a < b),
            "offsets out of order"
        );
        assert!((self.start..=END).contains(&self.position));
        let told = self.offsets.len() as u64 + self.passed.total();
        assert_eq!(
            told,
            (self.position - self.start) as u64,
            "{:?}",
            self.passed
        );
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    fn each_seed(target: &str, law: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
        let mut seeds = 0;
        for seed in fs::read_dir(folder.join(target)).unwrap() {
            law(&fs::read(seed.unwrap().path()).unwrap());
            seeds += 1;
        }
        assert!(seeds > 0);
    }

    #[test]
    fn the_seeds_of_answers_obey() {
        each_seed("answer", super::answer);
    }

    #[test]
    fn the_seeds_of_records_obey() {
        each_seed("records", super::records);
    }
}
