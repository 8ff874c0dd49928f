//! Random logs and random ranges, compared with a model: the list of what was produced.

use datafusion_kafka::client::memory::Record;
use datafusion_kafka::client::{PassedOffsets, ReadRequest};
use datafusion_kafka::range::{OffsetRange, TopicPartition};

use super::ledger::told;
use super::reading::{ReadCommitted, ReadUncommitted, request, run};
use super::{Codec, End, FIRST_TIMESTAMP_MS, Fixture, Need, topic};

const PARTITIONS: usize = 3;
const STEPS: usize = 60;
const REQUESTS: usize = 150;
const SEEDS: [u64; 3] = [1, 20_260_114, 0xfeed_5eed];

/// What the log holds at one offset.
#[derive(Debug, Clone)]
struct Slot {
    record: Record,
    /// `None` for a control record; otherwise whether committed readers see it.
    visible: Option<bool>,
}

/// The xorshift64* generator. The same seed reproduces a failure.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let word = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        usize::try_from(word >> 33).unwrap() % bound
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = match self.below(10) {
            0 => return None,
            1 => 0,
            2 => 2_000 + self.below(3_000),
            _ => self.below(40),
        };
        Some((0..length).map(|_| self.below(256) as u8).collect())
    }

    fn record(&mut self) -> Record {
        let headers = (0..self.below(3)).map(|_| {
            let name = format!("h{}", self.below(2));
            (name, self.bytes())
        });
        let headers = headers.collect();
        Record {
            timestamp_ms: Some(FIRST_TIMESTAMP_MS + self.below(100_000) as i64),
            key: self.bytes(),
            value: self.bytes(),
            headers,
        }
    }

    fn records(&mut self) -> Vec<Record> {
        (0..=self.below(40)).map(|_| self.record()).collect()
    }
}

/// Fills the log of each partition, and returns what it must hold.
async fn fill(fixture: &dyn Fixture, random: &mut Random, name: &str) -> Vec<Vec<Slot>> {
    let transactions = fixture.lacks(Need::Transactions).is_none();
    let mut logs = vec![Vec::new(); PARTITIONS];
    for _ in 0..STEPS {
        let number = random.below(PARTITIONS);
        let partition = TopicPartition::new(name, i32::try_from(number).unwrap());
        let records = random.records();
        let end = match random.below(6) {
            0 if transactions => Some(End::Commit),
            1 if transactions => Some(End::Abort),
            _ => None,
        };
        let visible = Some(end != Some(End::Abort));
        logs[number].extend(records.iter().map(|record| Slot {
            record: record.clone(),
            visible,
        }));
        let Some(end) = end else {
            let codecs = [
                Codec::None,
                Codec::Lz4,
                Codec::Zstd,
                Codec::Gzip,
                Codec::Snappy,
            ];
            let codec = codecs[random.below(codecs.len())];
            fixture.produce(&partition, &records, codec).await;
            continue;
        };
        let mut transaction = fixture.begin().await;
        transaction.write(&partition, &records).await;
        transaction.end(end).await;
        logs[number].push(Slot {
            record: Record::default(),
            visible: None,
        });
    }
    logs
}

/// Disjoint ranges of random partitions, in any order.
fn ranges(random: &mut Random, name: &str, logs: &[Vec<Slot>]) -> Vec<OffsetRange> {
    let mut ranges = Vec::new();
    for (number, log) in logs.iter().enumerate() {
        let mut cuts: Vec<usize> = (0..2 * random.below(4))
            .map(|_| random.below(log.len() + 1))
            .collect();
        cuts.sort_unstable();
        let at = |cut: usize| i64::try_from(cut).unwrap();
        let partition = i32::try_from(number).unwrap();
        ranges.extend(
            (cuts.chunks(2))
                .map(|cut| OffsetRange::try_new(name, partition, at(cut[0]), at(cut[1])).unwrap()),
        );
    }
    for i in (1..ranges.len()).rev() {
        ranges.swap(i, random.below(i + 1));
    }
    ranges
}

/// The rows that a request must yield, according to the model.
fn expected(request: &ReadRequest, logs: &[Vec<Slot>]) -> Vec<(i32, i64, Record)> {
    let mut rows = Vec::new();
    for range in &request.ranges {
        let log = &logs[usize::try_from(range.partition()).unwrap()];
        for offset in range.start()..range.end() {
            let slot = &log[usize::try_from(offset).unwrap()];
            let seen = slot
                .visible
                .is_some_and(|committed| committed || request.isolation == ReadUncommitted);
            if seen {
                rows.push((range.partition(), offset, slot.record.clone()));
            }
        }
    }
    rows
}

/// Why the other offsets of a request have no row.
fn reasons(fixture: &dyn Fixture, request: &ReadRequest, logs: &[Vec<Slot>]) -> PassedOffsets {
    let (mut control, mut aborted) = (0, 0);
    for range in &request.ranges {
        let log = &logs[usize::try_from(range.partition()).unwrap()];
        for offset in range.start()..range.end() {
            match log[usize::try_from(offset).unwrap()].visible {
                None => control += 1,
                Some(false) if request.isolation == ReadCommitted => aborted += 1,
                Some(_) => {}
            }
        }
    }
    told(fixture, control, aborted, 0)
}

pub async fn random_ranges(fixture: &dyn Fixture) {
    for seed in SEEDS {
        let mut random = Random(seed);
        let name = topic(fixture, "model", i32::try_from(PARTITIONS).unwrap()).await;
        let logs = fill(fixture, &mut random, &name).await;
        for number in 0..REQUESTS {
            let request = ReadRequest {
                isolation: [ReadCommitted, ReadUncommitted][random.below(2)],
                batch_rows: [1, 10, 8192][random.below(3)],
                batch_bytes: [500, 1 << 20][random.below(2)],
                ..request(ranges(&mut random, &name, &logs))
            };
            let outcome = run(fixture.client(), request.clone()).await;
            let rows: Vec<_> = outcome
                .whole()
                .iter()
                .map(|row| (row.partition.partition, row.offset, row.record.clone()))
                .collect();
            assert!(
                rows == expected(&request, &logs),
                "seed {seed}, request {number}: {request:?}"
            );
            let expected = reasons(fixture, &request, &logs);
            assert_eq!(
                outcome.passed, expected,
                "seed {seed}, request {number}: {request:?}"
            );
        }
    }
}
