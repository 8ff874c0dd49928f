//! Tiered storage (KIP-405): records that the broker fetches from a remote storage, which here is a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use datafusion_kafka::Error;
use datafusion_kafka::client::{ClientPool, OffsetAt, OffsetQuery, ReadRequest};
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::range::TopicPartition;
use tokio::task::block_in_place;

use crate::conformance::Fixture;
use crate::conformance::kafka::KafkaFixture;
use crate::conformance::reading::{Outcome, ReadCommitted, range, request, run};
use crate::support::documented::documented;
use crate::support::{
    KafkaOptions, KafkaServer, Record, Release, Transaction, admin, produce, wait_until,
};

documented!(
    "brokers.md",
    "Tiered storage",
    ["wire", "librdkafka"],
    [
        range_in_the_remote_part,
        range_across_the_boundary,
        offsets_by_time_and_bounds,
    ],
    slow [
        transactions_in_the_remote_part,
        remote_storage_slow_for_three_seconds,
        remote_storage_silent,
        remote_segment_gone,
        remote_segment_cut_off,
        remote_segment_damaged,
    ]
);

/// The first release with tiered storage for production.
mod kafka_3_9 {
    use super::*;

    documented!(
        "brokers.md",
        "Tiered storage",
        ["wire, 3.9", "librdkafka, 3.9"],
        [],
        slow [
            range_in_the_remote_part,
            range_across_the_boundary,
            offsets_by_time_and_bounds,
            transactions_in_the_remote_part,
            remote_storage_slow_for_three_seconds,
            remote_storage_silent,
            remote_segment_gone,
            remote_segment_cut_off,
            remote_segment_damaged,
        ]
    );
}

/// Records of a log, of which at least [`REMOTE`] are only in the remote storage.
const RECORDS: i64 = 5000;
const REMOTE: i64 = 2500;
const FIRST_MS: i64 = 1_704_067_200_000;
const VALUE_BYTES: usize = 900;
const LIMIT: Duration = Duration::from_secs(60);

/// A broker whose remote storage is the folder `remote` within its own.
fn broker(release: Release) -> &'static KafkaServer {
    static BROKERS: [OnceLock<KafkaServer>; Release::ALL.len()] =
        [const { OnceLock::new() }; Release::ALL.len()];
    block_in_place(|| {
        BROKERS[release as usize].get_or_init(|| {
            let manager = "org.apache.kafka.server.log.remote.storage.LocalTieredStorage";
            let replication = "rlmm.config.remote.log.metadata.topic.replication.factor";
            let partitions = "rlmm.config.remote.log.metadata.topic.num.partitions";
            let options = KafkaOptions::default()
                .release(release)
                .property("remote.log.storage.system.enable", "true")
                .property("remote.log.storage.manager.class.name", manager)
                .property("remote.log.metadata.manager.listener.name", "PLAINTEXT")
                .property("remote.log.manager.task.interval.ms", "300")
                .property("rsm.config.dir", "{folder}/remote")
                // Those that wait for one segment must not keep those of others waiting.
                .property("remote.log.reader.threads", "50")
                .property(replication, "1")
                .property(partitions, "1");
            KafkaServer::start(options)
        })
    })
}

/// A topic with one partition, and where its log is.
struct Tiered {
    broker: &'static KafkaServer,
    partition: TopicPartition,
    fixture: KafkaFixture,
}

fn value(number: i64) -> Vec<u8> {
    produce::fill_value(usize::try_from(number).expect("an offset"), VALUE_BYTES)
}

impl Tiered {
    /// A topic with [`RECORDS`] records a second apart, once the broker has removed the older ones from its
    /// own disk.
    fn filled(column: &str) -> Self {
        Self::written(column, |bootstrap, topic| {
            let record = |n: i64| {
                Record::new(0)
                    .value(value(n))
                    .timestamp_ms(FIRST_MS + 1000 * n)
            };
            let records: Vec<Record> = (0..RECORDS).map(record).collect();
            produce::produce_with(bootstrap, topic, &records, &[("batch.num.messages", "25")]);
        })
    }

    /// On the release that the column names after the client, or else on the newest.
    fn written(column: &str, write: impl FnOnce(&str, &str)) -> Self {
        let (client, release) = match column.split_once(", ") {
            Some((client, version)) => (client, Release::of(version)),
            None => (column, Release::default()),
        };
        let broker = broker(release);
        let bootstrap = broker.bootstrap();
        let topic = admin::unique_topic("tiered");
        let settings = [
            ("remote.storage.enable", "true"),
            ("segment.bytes", "1048576"),
            ("local.retention.bytes", "1"),
            ("file.delete.delay.ms", "100"),
        ];
        block_in_place(|| {
            admin::create_topic(bootstrap, &topic, 1, &settings);
            write(bootstrap, &topic);
        });
        let tiered = Self {
            broker,
            partition: TopicPartition::new(topic, 0),
            fixture: fixture(bootstrap, client),
        };
        block_in_place(|| {
            wait_until(LIMIT, "the segments are remote", || {
                (tiered.local_start() >= REMOTE).then_some(())
            });
        });
        tiered
    }

    /// The first offset on the broker's own disk.
    fn local_start(&self) -> i64 {
        let log = format!("data/{}-0", self.partition.topic);
        let bases = offsets(&self.broker.folder().join(log));
        bases.iter().map(|(offset, _)| *offset).min().unwrap_or(0)
    }

    /// The segment in the remote storage that holds an offset.
    fn remote_segment(&self, offset: i64) -> PathBuf {
        let storage = self.broker.folder().join("remote/kafka-tiered-storage");
        let prefix = format!("{}-0-", self.partition.topic);
        let mut folders = fs::read_dir(&storage).expect("a storage").flatten();
        let folder = folders.find(|f| f.file_name().to_string_lossy().starts_with(&prefix));
        let segments = offsets(&folder.expect("the partition is there").path());
        let below = segments.into_iter().filter(|(base, _)| *base <= offset);
        below.max().expect("a segment").1
    }

    async fn read(&self, start: i64, end: i64) -> Outcome {
        self.run(request(vec![range(&self.partition, start, end)]))
            .await
    }

    async fn run(&self, request: ReadRequest) -> Outcome {
        run(self.fixture.client(), request).await
    }

    /// `exact` if these are the records of the range.
    async fn reads(&self, start: i64, end: i64) -> String {
        told(self.read(start, end).await, start, end)
    }
}

fn fixture(bootstrap: &str, client: &str) -> KafkaFixture {
    let mut config = ConnectionConfig::new(bootstrap);
    for (key, value) in [("kafka.client", client), ("read.timeout.ms", "10000")] {
        config.set(key, value).expect("a setting");
    }
    let client = ClientPool::global().client(&config);
    KafkaFixture::new(bootstrap, client.expect("the settings are valid"))
}

/// The base offsets of segments in a folder.
fn offsets(folder: &Path) -> Vec<(i64, PathBuf)> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let base = |file: fs::DirEntry| {
        let path = file.path();
        let is_log = path.extension().is_some_and(|e| e == "log");
        let digits = path.file_name()?.to_str()?.get(..20)?.parse().ok()?;
        is_log.then_some((digits, path))
    };
    files.filter_map(base).collect()
}

/// What came of reading a range: `exact`, or the error after the records before it.
fn told(outcome: Outcome, start: i64, end: i64) -> String {
    let rows = outcome.rows.len() as u64;
    let asked = (start..end).count() as u64;
    let reached = start + i64::try_from(rows).expect("few");
    let right =
        (outcome.rows.iter()).all(|row| row.record.value.as_deref() == Some(&*value(row.offset)));
    let in_order = outcome.rows.is_sorted_by(|a, b| a.offset < b.offset);
    let passed = outcome.passed;
    match outcome.error {
        _ if !right || !in_order => "wrong rows".to_owned(),
        None if rows == asked => "exact".to_owned(),
        None if rows + passed.gap == asked => "a gap in the ledger".to_owned(),
        None if rows + passed.untold == asked => "a gap, untold in the ledger".to_owned(),
        None => format!("{rows} rows of {asked}, {passed:?}"),
        // librdkafka reports an error before it has handed on all records that it has.
        Some(Error::Corrupted { offset, .. }) if offset >= reached => "Corrupted".to_owned(),
        Some(Error::Read { offset, .. }) if offset >= reached => "Read".to_owned(),
        Some(Error::Stalled { .. }) => "Stalled".to_owned(),
        Some(error) => format!("{error:?}"),
    }
}

async fn range_in_the_remote_part(column: &str) -> String {
    Tiered::filled(column).reads(100, 2400).await
}

async fn range_across_the_boundary(column: &str) -> String {
    let tiered = Tiered::filled(column);
    let boundary = tiered.local_start();
    let near = tiered.reads(boundary - 3, boundary + 3).await;
    if near != "exact" {
        return format!("near {boundary}: {near}");
    }
    tiered.reads(0, RECORDS).await
}

async fn offsets_by_time_and_bounds(column: &str) -> String {
    let tiered = Tiered::filled(column);
    let boundary = tiered.local_start();
    let time = |offset: i64| OffsetAt::Timestamp(FIRST_MS + 1000 * offset);
    let asked = [
        (OffsetAt::Earliest, Some(0)),
        (OffsetAt::Latest, Some(RECORDS)),
        (time(0), Some(0)),
        (time(777), Some(777)),
        (time(boundary - 1), Some(boundary - 1)),
        (time(boundary), Some(boundary)),
        (time(RECORDS - 1), Some(RECORDS - 1)),
        (time(RECORDS), None),
    ];
    let query = |(at, _): &(OffsetAt, Option<i64>)| OffsetQuery {
        partition: tiered.partition.clone(),
        at: *at,
    };
    let queries: Vec<OffsetQuery> = asked.iter().map(query).collect();
    let found = tiered
        .fixture
        .client()
        .list_offsets(&queries, ReadCommitted)
        .await;
    let found: Vec<_> = found.expect("an answer").iter().map(|a| a.offset).collect();
    let expected: Vec<_> = asked.iter().map(|(_, offset)| *offset).collect();
    if found == expected {
        "exact".to_owned()
    } else {
        format!("{found:?} instead of {expected:?}")
    }
}

/// The transaction index is remote, too.
async fn transactions_in_the_remote_part(column: &str) -> String {
    const EACH: i64 = 500;
    let tiered = Tiered::written(column, |bootstrap, topic| {
        let id = admin::unique_topic("tx");
        for number in 0..RECORDS / EACH {
            let records: Vec<Record> = (0..EACH).map(|n| Record::new(0).value(value(n))).collect();
            let transaction = Transaction::begin(bootstrap, &id);
            transaction.produce(topic, &records);
            if number % 2 == 0 {
                transaction.commit();
            } else {
                transaction.abort();
            }
        }
    });
    // Each transaction ends with a control record.
    let step = EACH + 1;
    let end = step * RECORDS / EACH;
    let offsets = tiered.read(0, end).await.offsets();
    let committed = (0..end).filter(|o| o / step % 2 == 0 && o % step != EACH);
    if offsets == committed.collect::<Vec<_>>() {
        "exact".to_owned()
    } else {
        format!("{} rows", offsets.len())
    }
}

/// Replaces the remote segment in the middle of the range by a pipe, in which the broker waits for bytes.
/// It comes back after some time, or when the read has given up.
async fn slow(column: &str, time: Option<Duration>) -> String {
    let tiered = Tiered::filled(column);
    let segment = tiered.remote_segment(1500);
    let kept = segment.with_extension("kept");
    fs::rename(&segment, &kept).expect("a segment");
    let made = Command::new("mkfifo").arg(&segment).status();
    assert!(made.expect("mkfifo runs").success());
    let come_back = || {
        // Brokers' threads that wait for the pipe get to its end.
        let pipe = fs::OpenOptions::new().read(true).write(true).open(&segment);
        fs::rename(&kept, &segment).expect("the segment comes back");
        drop(pipe);
    };
    let reading = tiered.read(0, 2400);
    let outcome = match time {
        None => {
            let outcome = reading.await;
            come_back();
            outcome
        }
        Some(time) => {
            let later = async {
                tokio::time::sleep(time).await;
                come_back();
            };
            tokio::join!(reading, later).0
        }
    };
    assert!(outcome.took < LIMIT, "{:?}", outcome.took);
    told(outcome, 0, 2400)
}

async fn remote_storage_slow_for_three_seconds(column: &str) -> String {
    slow(column, Some(Duration::from_secs(3))).await
}

async fn remote_storage_silent(column: &str) -> String {
    slow(column, None).await
}

async fn remote_segment_gone(column: &str) -> String {
    let tiered = Tiered::filled(column);
    fs::remove_file(tiered.remote_segment(1500)).expect("a segment");
    tiered.reads(0, 2400).await
}

async fn remote_segment_cut_off(column: &str) -> String {
    let tiered = Tiered::filled(column);
    let segment = fs::OpenOptions::new()
        .write(true)
        .open(tiered.remote_segment(1500));
    let segment = segment.expect("a segment");
    let bytes = segment.metadata().expect("a size").len();
    segment.set_len(bytes / 2).expect("it is cut off");
    tiered.reads(0, 2400).await
}

async fn remote_segment_damaged(column: &str) -> String {
    let tiered = Tiered::filled(column);
    let path = tiered.remote_segment(1500);
    let mut bytes = fs::read(&path).expect("a segment");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("a segment");
    tiered.reads(0, 2400).await
}
