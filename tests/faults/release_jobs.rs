//! Jobs, exports and old formats on brokers of older releases.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use arrow::array::AsArray;
use datafusion::prelude::SessionContext;
use datafusion_kafka::client::{ClientPool, GroupCommits};
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::driver::{MicroBatch, Stop, Trigger};
use datafusion_kafka::range::TopicPartition;
use datafusion_kafka::session::KafkaSessionBuilder;
use tokio::task::block_in_place;

use crate::driver::World;
use crate::export::{err, ok};
use crate::support::documented::documented;
use crate::support::read::{Isolation, read};
use crate::support::{
    KafkaServer, Record, Release, Transaction, admin, of_release, produce, wait_until,
};

documented!(
    "brokers.md",
    "Jobs, exports and old formats",
    ["0.11", "1.1", "2.1", "2.8", "3.3", "3.9"],
    [],
    slow [
        job_from_topic_to_topic,
        export_and_verify,
        offsets_committed_to_a_group,
        message_format_v0,
        message_format_v1,
        topic_recreated_with_more_records,
    ]
);

const CLIENTS: [&str; 2] = ["wire", "librdkafka"];

fn broker(release: &str) -> &'static KafkaServer {
    block_in_place(|| of_release(Release::of(release)))
}

fn topic(bootstrap: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
    let topic = admin::unique_topic("release");
    admin::create_topic(bootstrap, &topic, partitions, settings);
    topic
}

fn config(bootstrap: &str, client: &str) -> ConnectionConfig {
    let mut config = ConnectionConfig::new(bootstrap);
    config.set("kafka.client", client).expect("a client");
    config
}

fn session(bootstrap: &str, client: &str) -> SessionContext {
    let builder = KafkaSessionBuilder::new().connection(config(bootstrap, client));
    builder.build().expect("the settings are valid")
}

/// One word if it holds for both clients.
fn of_both(outcomes: [String; 2]) -> String {
    let [wire, librdkafka] = outcomes;
    if wire == librdkafka {
        wire
    } else {
        format!("wire: {wire}; librdkafka: {librdkafka}")
    }
}

/// A job copies a topic with open and aborted transactions in transactions of its own, in two runs.
async fn job_from_topic_to_topic(release: &str) -> String {
    let bootstrap = broker(release).bootstrap();
    let mut outcomes = CLIENTS.map(str::to_owned);
    for outcome in &mut outcomes {
        let (source, target) = (topic(bootstrap, 2, &[]), topic(bootstrap, 2, &[]));
        let folder = tempfile::tempdir().expect("a folder");
        let context = session(bootstrap, outcome);
        let create = format!("CREATE EXTERNAL TABLE target STORED AS KAFKA LOCATION '{target}'");
        context.sql(&create).await.expect("the table is made");
        let run = async || {
            let insert = format!("INSERT INTO target SELECT key, value FROM \"{source}\"");
            let mut job = MicroBatch::builder(context.clone(), "copy")
                .checkpoint(folder.path().to_str().expect("UTF-8"))
                .insert(insert)
                .trigger(Trigger::AvailableNow)
                .build()
                .await
                .expect("the job is valid");
            job.run(&Stop::new()).await.expect("the job runs")
        };
        let values = |from: usize| -> Vec<Record> {
            let record = |n: usize| {
                let partition = i32::from(n.is_multiple_of(2));
                Record::new(partition).key("k").value(format!("{n}"))
            };
            (from..from + 20).map(record).collect()
        };
        produce::produce(bootstrap, &source, &values(0));
        let transaction = Transaction::begin(bootstrap, &admin::unique_topic("tx"));
        transaction.produce(&source, &values(20));
        transaction.abort();
        let first = run().await;
        let transaction = Transaction::begin(bootstrap, &admin::unique_topic("tx"));
        transaction.produce(&source, &values(40));
        transaction.commit();
        let second = run().await;
        let mut copied = vec![];
        // Readers learn of the end of a transaction a little after the writer.
        wait_until(
            std::time::Duration::from_secs(30),
            "all is committed",
            || {
                copied = (0..2)
                    .flat_map(|p| read(bootstrap, &target, p, Isolation::ReadCommitted))
                    .map(|record| {
                        String::from_utf8(record.value.expect("a value")).expect("a number")
                    })
                    .collect();
                (copied.len() >= 40).then_some(())
            },
        );
        copied.sort_by_key(|value: &String| value.parse::<usize>().expect("a number"));
        let expected: Vec<String> = (0..20).chain(40..60).map(|n| n.to_string()).collect();
        *outcome = if copied == expected && (first.rows, second.rows) == (20, 20) {
            "exact".to_owned()
        } else {
            format!("{copied:?} in {} and {} rows", first.rows, second.rows)
        };
    }
    of_both(outcomes)
}

/// The shell exports a topic with every codec of the release, and compares the files with the topic.
async fn export_and_verify(release: &str) -> String {
    let bootstrap = broker(release).bootstrap();
    let topic = topic(bootstrap, 1, &[]);
    let mut codecs = vec!["none", "gzip", "snappy", "lz4"];
    if Release::of(release) >= Release::V2_1 {
        codecs.push("zstd");
    }
    for codec in &codecs {
        let records: Vec<Record> = (0..50).map(|n| crate::export::record(0, n)).collect();
        produce::produce_with(bootstrap, &topic, &records, &[("compression.type", codec)]);
    }
    let rows = format!("{} rows", 50 * codecs.len());
    let outcomes = CLIENTS.map(|client| {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("out");
        let shell = |arguments: &[&str]| {
            let output = Command::new(env!("CARGO_BIN_EXE_kafka-sql"))
                .args(["-b", bootstrap, "-X", &format!("kafka.client={client}")])
                .args(arguments)
                .env_remove("KAFKA_SQL_CONFIG")
                .stdin(Stdio::null())
                .output()
                .expect("the shell runs");
            ok(&output);
            err(&output)
        };
        let target = target.to_str().expect("UTF-8");
        let exported = shell(&["export", &topic, "-o", target]);
        assert!(exported.contains(&rows), "{exported}");
        let verified = shell(&["verify", target, "--against-kafka"]);
        assert!(verified.contains(&format!("{rows} the same")), "{verified}");
        "exact".to_owned()
    });
    of_both(outcomes)
}

async fn offsets_committed_to_a_group(release: &str) -> String {
    let bootstrap = broker(release).bootstrap();
    let topic = topic(bootstrap, 2, &[]);
    produce::produce(bootstrap, &topic, &vec![Record::new(1).value("x"); 9]);
    let group = admin::unique_topic("lag");
    let commits = GroupCommits::connect(&ConnectionConfig::new(bootstrap), &group);
    let partition = |number| TopicPartition::new(&*topic, number);
    let next = BTreeMap::from([(partition(0), 0), (partition(1), 7)]);
    let commits = commits.expect("the settings are valid");
    // The first commit to a broker waits for the group's coordinator, on a busy machine in vain.
    let mut tried = 1;
    while let Err(error) = commits.commit(&next).await {
        assert!(tried < 5, "{error}");
        tried += 1;
    }
    let mut outcomes = CLIENTS.map(str::to_owned);
    for outcome in &mut outcomes {
        let client = ClientPool::global().client(&config(bootstrap, outcome));
        let client = client.expect("the settings are valid");
        let asked = [partition(0), partition(1)];
        let found = client.group_offsets(&group, &asked).await;
        let found = found.expect("an answer");
        *outcome = if found == next {
            "exact".to_owned()
        } else {
            format!("{found:?}")
        };
    }
    of_both(outcomes)
}

async fn message_format_v0(release: &str) -> String {
    formats(release, "0.9.0").await
}

async fn message_format_v1(release: &str) -> String {
    formats(release, "0.10.0").await
}

/// A topic whose records the broker keeps in an old message format, written with each codec that it had.
async fn formats(release: &str, version: &str) -> String {
    let bootstrap = broker(release).bootstrap();
    let topic = topic(bootstrap, 1, &[("message.format.version", version)]);
    let mut expected = vec![];
    for codec in ["none", "gzip", "snappy", "lz4"] {
        let record = |n: usize| {
            Record::new(0)
                .key(format!("k{n}"))
                .value(format!("{codec} {n}"))
                .timestamp_ms(1_704_067_200_000)
        };
        let records: Vec<Record> = (0..20).map(record).collect();
        produce::produce_with(bootstrap, &topic, &records, &[("compression.type", codec)]);
        expected.extend((0..20).map(|n| format!("k{n} {codec} {n}")));
    }
    let mut outcomes = CLIENTS.map(str::to_owned);
    for outcome in &mut outcomes {
        let sql = format!(
            "SELECT concat(CAST(key AS VARCHAR), ' ', CAST(value AS VARCHAR)) AS record, timestamp \
             FROM \"{topic}\" ORDER BY \"offset\""
        );
        let context = session(bootstrap, outcome);
        let frame = context.sql(&sql).await.expect("the statement is valid");
        *outcome = match frame.collect().await {
            Err(error) if error.to_string().contains("from before Kafka 0.11") => {
                "refused, naming the other client".to_owned()
            }
            Err(error) => error.to_string(),
            Ok(batches) => {
                let rows = batches.iter().flat_map(|batch| {
                    let records =
                        arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8);
                    let records = records.expect("text");
                    let owned = records.as_string::<i32>().iter();
                    owned
                        .map(|r| r.expect("no NULL").to_owned())
                        .collect::<Vec<_>>()
                });
                let same = rows.collect::<Vec<_>>() == expected;
                let untimed: usize = batches.iter().map(|b| b.column(1).null_count()).sum();
                // Format 0 has no timestamps, nor has a release that has given up the formats.
                match (same, untimed) {
                    (true, 0) => "exact".to_owned(),
                    (true, 80) => "exact, timestamps are NULL".to_owned(),
                    _ => format!("other rows, {untimed} without timestamps"),
                }
            }
        };
    }
    of_both(outcomes)
}

/// A topic is deleted, and another one with its name grows beyond the position of a job.
async fn topic_recreated_with_more_records(release: &str) -> String {
    let bootstrap = broker(release).bootstrap();
    let mut outcomes = CLIENTS.map(str::to_owned);
    for (outcome, client) in outcomes.iter_mut().zip(CLIENTS) {
        let topic = topic(bootstrap, 1, &[]);
        let world = World::reading(bootstrap, &topic, client);
        world.produce(0, 3);
        world.run().await.expect("the job runs");
        admin::delete_topic(bootstrap, &topic);
        if Release::of(release) < Release::V2_8 {
            // The controller forgets a topic somewhat later than the broker.
            std::thread::sleep(std::time::Duration::from_secs(3));
        }
        admin::create_topic(bootstrap, &topic, 1, &[]);
        world.produce(0, 8);
        *outcome = match world.run().await {
            Err(error) if error.to_string().contains("recreated") => "known".to_owned(),
            Err(error) => error.to_string(),
            Ok(_) if world.held().len() == 8 => "not known".to_owned(),
            Ok(summary) => format!("{summary:?}"),
        };
    }
    of_both(outcomes)
}
