//! Random topics, read by both clients and by librdkafka's plain consumer. All must read the same records.
//!
//! There is no model of what was written, so logs can hold what no model foresees: cleaned transactions,
//! records up to 2 MB, deleted records, open transactions.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion_kafka::client::memory::Record;
use datafusion_kafka::client::{
    ClientPool, KafkaClient, OffsetAt, OffsetQuery, OnDataLoss, RawColumns, ReadRequest,
};
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::range::{IsolationLevel, OffsetRange, TopicPartition};

use super::kafka::KafkaFixture;
use super::model::Random;
use super::reading::{ReadCommitted, ReadUncommitted, Row, range, request, run};
use super::{Codec, End, FIRST_TIMESTAMP_MS, Fixture, TopicSpec, unique};
use crate::support::read::{Isolation, read};

const PARTITIONS: i32 = 2;
const STEPS: usize = 20;
const REQUESTS: usize = 20;
/// Adds another seed to the fixed ones.
const SEED: &str = "KAFKA_SQL_TEST_SEED";

/// What is special about a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    LogAppendTime,
    Compacted,
    /// The log start is moved up.
    Shortened,
}

/// Fills a topic from the seed, and compares random requests.
pub async fn compare(bootstrap: &str, kind: Kind, seed: u64) {
    let given = std::env::var(SEED).ok();
    let seed = given.map_or(seed, |text| text.parse().expect("a number"));
    let case = format!("{kind:?}, {SEED}={seed}");
    // A generator of this kind would never leave 0.
    let mut random = Random(seed | 1);
    let clients = clients(bootstrap);
    let fixture = KafkaFixture::new(bootstrap, Arc::clone(&clients[0].1));
    let spec = TopicSpec {
        name: unique("differential"),
        partitions: PARTITIONS,
        log_append_time: kind == Kind::LogAppendTime,
        compacted: kind == Kind::Compacted,
    };
    fixture.create_topic(&spec).await;
    fill(&fixture, &mut random, &spec.name, kind).await;
    let stays_open = random.below(2) == 0;
    let mut open = fixture.begin().await;
    if stays_open {
        for number in 0..PARTITIONS {
            let partition = TopicPartition::new(&*spec.name, number);
            open.write(&partition, &records(&mut random, kind)).await;
        }
    }
    let log = Log::look(bootstrap, &clients, &spec.name, &case).await;
    for number in 0..REQUESTS {
        let request = log.request(&mut random);
        let expected = log.expected(&request);
        let most = request.limit.unwrap_or(usize::MAX);
        let mut types = Vec::new();
        for (name, client) in &clients {
            let case = format!("{case}, request {number} by {name}: {request:?}");
            let outcome = run(Arc::clone(client), request.clone()).await;
            assert!(outcome.error.is_none(), "{case}: {:?}", outcome.error);
            let rows = &outcome.rows[..outcome.rows.len().min(most)];
            same(rows, &expected[..expected.len().min(most)], &case);
            assert_eq!(outcome.lost_offsets, log.lost(&request), "{case}");
            types.push(rows.iter().map(|r| r.timestamp_type).collect::<Vec<_>>());
        }
        let equal = types.windows(2).all(|pair| pair[0] == pair[1]);
        assert!(
            equal,
            "{case}, request {number}: types of timestamps differ"
        );
    }
    open.end(End::Commit).await;
}

/// The clients to compare: the wire client with its defaults, one that fetches little and takes turns, and
/// the one over librdkafka.
fn clients(bootstrap: &str) -> Vec<(&'static str, Arc<dyn KafkaClient>)> {
    let client = |settings: &[(&str, &str)]| {
        let mut config = ConnectionConfig::new(bootstrap);
        for (key, value) in settings {
            config.set(key, value).unwrap();
        }
        ClientPool::global().client(&config).unwrap()
    };
    let small = [
        ("kafka.client", "wire"),
        ("fetch.message.max.bytes", "3000"),
    ];
    vec![
        ("wire", client(&[("kafka.client", "wire")])),
        ("wire with small answers", client(&small)),
        ("librdkafka", client(&[("kafka.client", "librdkafka")])),
    ]
}

fn bytes(random: &mut Random, most: usize) -> Vec<u8> {
    let length = random.below(most + 1);
    // Half of it compresses well.
    let noise = random.below(256) as u8;
    (0..length)
        .map(|i| {
            if i % 64 < 32 {
                noise
            } else {
                random.below(256) as u8
            }
        })
        .collect()
}

fn records(random: &mut Random, kind: Kind) -> Vec<Record> {
    let count = 1 + random.below(60);
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let most = match random.below(400) {
            0 => 2_000_000,
            1..8 => 20_000,
            8..80 => 500,
            80..120 => 0,
            _ => 40,
        };
        // Compacted topics reject records without a key. With few keys there is something to compact.
        let key = match (kind, random.below(4)) {
            (Kind::Compacted, _) => Some(format!("key {}", random.below(40)).into_bytes()),
            (_, 0) => None,
            (_, 1) => Some(Vec::new()),
            _ => Some(bytes(random, 30)),
        };
        let mut record = Record {
            timestamp_ms: Some(FIRST_TIMESTAMP_MS + random.below(1_000_000) as i64),
            key,
            value: (random.below(12) > 0).then(|| bytes(random, most)),
            headers: Vec::new(),
        };
        for _ in 0..random.below(6).saturating_sub(3) {
            let value = (random.below(3) > 0).then(|| bytes(random, 20));
            record = record.with_header(format!("h{}", random.below(3)), value.as_deref());
        }
        all.push(record);
    }
    all
}

async fn fill(fixture: &KafkaFixture, random: &mut Random, topic: &str, kind: Kind) {
    const CODECS: [Codec; 5] = [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];
    for _ in 0..STEPS {
        let number = i32::try_from(random.below(2)).unwrap();
        let partition = TopicPartition::new(topic, number);
        match random.below(5) {
            0 => {
                let mut transaction = fixture.begin().await;
                for _ in 0..=random.below(2) {
                    let records = records(random, kind);
                    transaction.write(&partition, &records).await;
                }
                let end = [End::Commit, End::Abort][random.below(2)];
                transaction.end(end).await;
            }
            _ => {
                let codec = CODECS[random.below(CODECS.len())];
                fixture
                    .produce(&partition, &records(random, kind), codec)
                    .await;
            }
        }
    }
    for number in 0..PARTITIONS {
        let partition = TopicPartition::new(topic, number);
        match kind {
            Kind::Compacted => drop(fixture.compact(&partition).await),
            Kind::Shortened => {
                let before = i64::try_from(random.below(100)).unwrap();
                fixture.delete_records(&partition, before).await;
            }
            Kind::Plain | Kind::LogAppendTime => {}
        }
    }
}

/// A topic as the plain consumer reads it.
struct Log {
    topic: String,
    /// By partition and isolation level.
    seen: BTreeMap<(i32, bool), Seen>,
}

struct Seen {
    start: i64,
    end: i64,
    records: Vec<(i64, Record)>,
}

impl Log {
    /// Reads the topic, and compares the bounds that the clients report.
    async fn look(
        bootstrap: &str,
        clients: &[(&'static str, Arc<dyn KafkaClient>)],
        topic: &str,
        case: &str,
    ) -> Self {
        let mut seen = BTreeMap::new();
        for number in 0..PARTITIONS {
            let at = [
                OffsetAt::Earliest,
                OffsetAt::Latest,
                OffsetAt::Timestamp(FIRST_TIMESTAMP_MS + 500_000),
                OffsetAt::Timestamp(FIRST_TIMESTAMP_MS + 999_000),
            ];
            let query = |at| OffsetQuery {
                partition: TopicPartition::new(topic, number),
                at,
            };
            let queries = at.map(query);
            for (isolation, plain) in [
                (ReadCommitted, Isolation::ReadCommitted),
                (ReadUncommitted, Isolation::ReadUncommitted),
            ] {
                let mut listed = Vec::new();
                for (_, client) in clients {
                    listed.push(client.list_offsets(&queries, isolation).await.unwrap());
                }
                let equal = listed.windows(2).all(|pair| pair[0] == pair[1]);
                assert!(
                    equal,
                    "{case}: {topic}[{number}], {isolation:?}: {listed:?}"
                );
                let records = tokio::task::block_in_place(|| read(bootstrap, topic, number, plain));
                let record = |r: crate::support::read::ReadRecord| {
                    let record = Record {
                        timestamp_ms: r.timestamp_ms,
                        key: r.key,
                        value: r.value,
                        headers: r.headers,
                    };
                    (r.offset, record)
                };
                let seen_here = Seen {
                    start: listed[0][0].offset.unwrap(),
                    end: listed[0][1].offset.unwrap(),
                    records: records.into_iter().map(record).collect(),
                };
                seen.insert((number, isolation == ReadCommitted), seen_here);
            }
        }
        let topic = topic.to_owned();
        Self { topic, seen }
    }

    fn of(&self, number: i32, isolation: IsolationLevel) -> &Seen {
        &self.seen[&(number, isolation == ReadCommitted)]
    }

    fn request(&self, random: &mut Random) -> ReadRequest {
        let isolation = [ReadCommitted, ReadUncommitted][random.below(2)];
        let mut ranges: Vec<OffsetRange> = Vec::new();
        for number in 0..PARTITIONS {
            let end = usize::try_from(self.of(number, isolation).end).unwrap();
            let mut cuts: Vec<usize> = (0..2 * random.below(4))
                .map(|_| random.below(end + 1))
                .collect();
            cuts.sort_unstable();
            let partition = TopicPartition::new(&*self.topic, number);
            ranges.extend(cuts.chunks(2).map(|cut| {
                let [start, end] = [cut[0], cut[1]].map(|n| i64::try_from(n).unwrap());
                range(&partition, start, end)
            }));
        }
        let mut wanted = || random.below(3) > 0;
        let columns = RawColumns {
            timestamp: wanted(),
            timestamp_type: wanted(),
            key: wanted(),
            value: wanted(),
            headers: wanted(),
            leader_epoch: wanted(),
        };
        ReadRequest {
            isolation,
            columns,
            batch_rows: [1, 7, 100, 8192][random.below(4)],
            batch_bytes: [1, 1_000, 1 << 20][random.below(3)],
            limit: (random.below(3) == 0).then(|| 1 + random.below(50)),
            on_data_loss: OnDataLoss::Skip,
            ..request(ranges)
        }
    }

    /// How many offsets of a request lie below the log start.
    fn lost(&self, request: &ReadRequest) -> i64 {
        let lost = |r: &OffsetRange| {
            let start = self.of(r.partition(), request.isolation).start;
            (start.min(r.end()) - r.start()).max(0)
        };
        request.ranges.iter().map(lost).sum()
    }

    fn expected(&self, request: &ReadRequest) -> Vec<(i32, i64, Record)> {
        let columns = request.columns;
        let mut rows = Vec::new();
        for r in &request.ranges {
            let seen = self.of(r.partition(), request.isolation);
            for (offset, record) in &seen.records {
                if r.contains(*offset) {
                    let mut record = record.clone();
                    if !columns.timestamp {
                        record.timestamp_ms = None;
                    }
                    if !columns.key {
                        record.key = None;
                    }
                    if !columns.value {
                        record.value = None;
                    }
                    if !columns.headers {
                        record.headers.clear();
                    }
                    rows.push((r.partition(), *offset, record));
                }
            }
        }
        rows
    }
}

/// # Panics
/// On the first difference. The message leaves out the records, which may be too large.
fn same(rows: &[Row], expected: &[(i32, i64, Record)], case: &str) {
    for (row, (partition, offset, record)) in rows.iter().zip(expected) {
        let place = (row.partition.partition, row.offset);
        assert_eq!(place, (*partition, *offset), "{case}");
        assert!(
            row.record == *record,
            "{case}: the record at {partition}@{offset} differs"
        );
    }
    assert_eq!(rows.len(), expected.len(), "{case}");
}
