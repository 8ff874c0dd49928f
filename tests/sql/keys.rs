//! Joins that read only the partitions of their keys give the rows that they give without.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::range::KeyPartitioner;
use datafusion_kafka::scan::{self, ScanProgress};

use super::{error, plan, rows, session_with};
use crate::support::{Record, Transaction, admin, produce, shared};

const PARTITIONS: u32 = 4;
const CLIENTS: [&str; 2] = ["wire", "librdkafka"];
const LEVELS: [&str; 2] = ["read_committed", "read_uncommitted"];

/// Statements over the topic `{t}` and a topic `{u}` with a few of its keys, and the keys that the other side has.
/// Without any, all partitions are read.
const STATEMENTS: [(&str, &[&str]); 12] = [
    (
        "{t} e JOIN (VALUES ('k-7'), ('k-8')) AS w (k) ON e.key = w.k",
        &["k-7", "k-8"],
    ),
    (
        "{t} e JOIN (VALUES ('k-7'), (NULL)) AS w (k) ON e.key = w.k",
        &["k-7"],
    ),
    ("{t} e JOIN (VALUES ('')) AS w (k) ON e.key = w.k", &[""]),
    (
        "{t} e JOIN (VALUES ('absent')) AS w (k) ON e.key = w.k",
        &["absent"],
    ),
    (
        "{t} e WHERE key IN (SELECT k FROM (VALUES ('k-1'), (NULL)) AS w (k))",
        &["k-1"],
    ),
    (
        "{t} e WHERE EXISTS (SELECT 1 FROM (VALUES ('k-3')) AS w (k) WHERE w.k = e.key)",
        &["k-3"],
    ),
    ("{t} e JOIN {u} u ON e.key = u.key", &["k-2", "k-9"]),
    ("{t} e WHERE e.key = 'k-7'", &["k-7"]),
    (
        "{t} e LEFT JOIN (VALUES ('k-7')) AS w (k) ON e.key = w.k",
        &[],
    ),
    (
        "{t} e JOIN (VALUES ('k-7'), (NULL)) AS w (k) ON e.key IS NOT DISTINCT FROM w.k",
        &[],
    ),
    (
        "{t} e WHERE key NOT IN (SELECT k FROM (VALUES ('k-7')) AS w (k))",
        &[],
    ),
    ("{t} e WHERE key IS NULL OR key = 'k-7'", &[]),
];

fn home(key: &str, partitions: u32) -> i32 {
    let home = KeyPartitioner::Murmur2.partition(key.as_bytes(), partitions);
    home.expect("each key has one")
}

/// Keys and records without keys, committed, aborted and in between, where `home` says.
fn filled(keys: &[String], value_bytes: usize) -> String {
    let brokers = shared().bootstrap();
    let topic = admin::unique_topic("keys").replace('-', "_");
    admin::create_topic(brokers, &topic, PARTITIONS.cast_signed(), &[]);
    let records = |value: &str| -> Vec<Record> {
        let value = format!("{value}{}", "x".repeat(value_bytes));
        let keyed = keys.iter().map(|key| {
            let record = Record::new(home(key, PARTITIONS)).key(key.as_str());
            record.value(value.as_str())
        });
        let without = (0..PARTITIONS.cast_signed()).map(|p| Record::new(p).value(value.as_str()));
        keyed.chain(without).collect()
    };
    produce::produce_with(
        brokers,
        &topic,
        &records("first"),
        &[("batch.size", "8000")],
    );
    let aborted = Transaction::begin(brokers, &format!("{topic}-aborted"));
    aborted.produce(&topic, &records("aborted"));
    aborted.abort();
    produce::produce_with(brokers, &topic, &records("last"), &[("batch.size", "8000")]);
    topic
}

fn names(numbers: impl IntoIterator<Item = i32>) -> Vec<String> {
    let names = numbers.into_iter().map(|n| format!("k-{n}"));
    names.chain([String::new()]).collect()
}

fn session(
    client: &str,
    isolation: &str,
    partitioner: &str,
    more: &[(&str, &str)],
) -> SessionContext {
    let mut config = ConnectionConfig::new(shared().bootstrap());
    let own = [
        ("kafka.client", client),
        ("isolation.level", isolation),
        ("key.partitioner", partitioner),
    ];
    for (key, value) in own.iter().chain(more) {
        config.set(key, value).expect("the setting is valid");
    }
    session_with(config)
}

/// Whether statements run there, where nobody hears what a join has learned.
async fn is_on_workers(context: &SessionContext, topic: &str) -> bool {
    plan(context, &format!("SELECT * FROM {topic}"))
        .await
        .contains("worker")
}

/// The rows, the partitions of the topic that were read, and how long quotas held the client back, in ms.
async fn read(context: &SessionContext, sql: &str, topic: &str) -> (String, BTreeSet<i32>, u64) {
    let frame = context.sql(sql).await.expect("it is planned");
    let task = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await.expect("it is planned");
    let rows = collect(Arc::clone(&plan), task).await;
    let rows = rows.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let ledger = scan::ledger(&plan);
    let read = (ledger.ranges.iter())
        .filter(|range| &**range.range.topic() == topic && range.counts.passed() > 0)
        .map(|range| range.range.partition());
    let rows = pretty_format_batches(&rows).expect("printable").to_string();
    (rows, read.collect(), ScanProgress::of(&plan).throttled_ms)
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_read_the_partitions_of_their_keys_and_lose_no_row() {
    let (topic, few) = tokio::task::block_in_place(|| {
        let few = ["k-2", "k-9"].map(str::to_owned);
        (filled(&names(0..20), 0), filled(&few, 0))
    });
    for client in CLIENTS {
        for isolation in LEVELS {
            let all = session(client, isolation, "none", &[]);
            let pruned = session(client, isolation, "murmur2", &[]);
            let is_on_workers = is_on_workers(&pruned, &topic).await;
            for (from, keys) in STATEMENTS {
                let from = from.replace("{t}", &topic).replace("{u}", &few);
                let sql = format!(
                    "SELECT e.partition, e.\"offset\", kafka_text(e.value) AS v FROM {from} ORDER BY 1, 2, 3"
                );
                let what = format!("{client} {isolation} {sql}");
                let (expected, ..) = read(&all, &sql, &topic).await;
                let (found, read, _) = read(&pruned, &sql, &topic).await;
                assert_eq!(found, expected, "{what}");
                let aborted = expected.contains("aborted");
                let has_rows = expected.contains("first");
                assert_eq!(
                    aborted,
                    has_rows && isolation == "read_uncommitted",
                    "{what}"
                );
                assert_eq!(has_rows, !keys.contains(&"absent"), "{what}");
                let mut homes: BTreeSet<i32> =
                    keys.iter().map(|key| home(key, PARTITIONS)).collect();
                let is_planned = from.contains("e.key = 'k-7'");
                if homes.is_empty() || is_on_workers && !is_planned {
                    homes = (0..PARTITIONS.cast_signed()).collect();
                }
                assert_eq!(read, homes, "{what}");
            }
        }
    }
}

/// Keys that have the same home among five partitions as among four, and one that has not.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_were_added_lose_no_row() {
    let stays = |n: &i32| home(&format!("k-{n}"), 4) == home(&format!("k-{n}"), 5);
    let staying: Vec<i32> = (0..200).filter(stays).take(12).collect();
    let moving = (0..200).find(|n| !stays(n)).expect("most move");
    // The empty key has a home like any other.
    let keys: Vec<String> = names(staying)
        .into_iter()
        .filter(|key| !key.is_empty())
        .collect();
    let new = (0..200)
        .map(|n| format!("k-{n}"))
        .find(|key| home(key, 5) == 4);
    let new = new.expect("a fifth has");
    let brokers = shared().bootstrap();
    let (topic, other) =
        tokio::task::block_in_place(|| (filled(&keys, 0), filled(&[format!("k-{moving}")], 0)));
    let wanted = [&keys[0], &new].map(|key| format!("('{key}')")).join(", ");
    let join = |topic: &str, wanted: &str| {
        format!(
            "SELECT e.partition, e.\"offset\" FROM {topic} e JOIN (VALUES {wanted}) AS w (k) ON e.key = w.k ORDER BY 1, 2"
        )
    };
    let sql = join(&topic, &wanted);
    let sessions = CLIENTS
        .map(|client| ["none", "murmur2"].map(|by| session(client, "read_committed", by, &[])));
    for [all, pruned] in &sessions {
        // It relies on four partitions.
        assert_eq!(rows(pruned, &sql).await.len(), 2);
        assert_eq!(rows(all, &sql).await.len(), 2);
    }
    tokio::task::block_in_place(|| {
        for topic in [&topic, &other] {
            admin::grow_topic(brokers, topic, 5);
        }
        let added = Record::new(4).key(new.as_str()).value("added");
        produce::produce(brokers, &topic, &[added]);
    });
    for [all, pruned] in &sessions {
        let expected = rows(all, &sql).await;
        assert_eq!(expected.len(), 3, "{expected:?}");
        assert_eq!(rows(pruned, &sql).await, expected);
        // Where keys have moved, a part of the rows is never given for all.
        let moved = format!("('k-{moving}')");
        let at_planning = format!("SELECT * FROM {other} WHERE key = 'k-{moving}'");
        for (sql, is_planned) in [(join(&other, &moved), false), (at_planning, true)] {
            assert_eq!(rows(all, &sql).await.len(), 2, "{sql}");
            if is_planned || !is_on_workers(pruned, &topic).await {
                let found = error(pruned, &sql).await.to_string();
                assert!(found.contains("partitions were added"), "{sql}: {found}");
            } else {
                assert_eq!(rows(pruned, &sql).await.len(), 2, "{sql}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_holds_joins_back_and_loses_no_row() {
    const BYTES_A_SECOND: usize = 20_000;
    let clients = CLIENTS.map(|client| async move {
        let id = admin::unique_topic(client);
        let topic = tokio::task::block_in_place(|| {
            let brokers = shared().bootstrap();
            admin::limit_client(brokers, &id, "consumer_byte_rate", BYTES_A_SECOND);
            filled(&names(0..76), 1_000)
        });
        // Brokers may hold back each partition in turn, for up to their window of 11 s.
        let more = [("client.id", id.as_str()), ("read.timeout.ms", "6000")];
        let sql = format!(
            "SELECT e.partition, e.\"offset\" FROM {topic} e JOIN (VALUES ('k-7'), ('k-8')) AS w (k) ON e.key = w.k ORDER BY 1, 2"
        );
        let all = session(client, "read_committed", "none", &more);
        let (expected, _, throttled) = read(&all, &sql, &topic).await;
        assert!(throttled > 0, "{client} was not held back");
        let pruned = session(client, "read_committed", "murmur2", &more);
        let (found, read, _) = read(&pruned, &sql, &topic).await;
        assert_eq!(found, expected, "{client}");
        assert_eq!(found.lines().count(), 4 + 4, "{found}");
        assert!(!read.is_empty(), "{client}");
    });
    futures::future::join_all(clients).await;
}
