//! Keys that choose partitions: only those that can hold a key are read, and never fewer.

use std::collections::BTreeSet;

use datafusion::physical_plan::collect;

use super::*;
use crate::decode::{Column, Format};
use crate::range::KeyPartitioner;

const PARTITIONS: u32 = 8;
const KEYS: i64 = 200;

/// `events`: each key `k-N` of 200 twice, where `partitioner` puts it, among records without keys.
fn events(partitioner: KeyPartitioner, key: impl Fn(i64) -> Vec<u8>) -> MemoryCluster {
    let cluster = MemoryCluster::builder().build();
    cluster
        .create_topic("events", PARTITIONS.cast_signed())
        .unwrap();
    for n in 0..2 * KEYS {
        let key = key(n % KEYS);
        let partition = partitioner.partition(&key, PARTITIONS).unwrap();
        let record = Record::new(format!("{n}")).with_key(key);
        cluster.append("events", partition, record).unwrap();
        cluster
            .append("events", (n % 8) as i32, Record::new("no key"))
            .unwrap();
    }
    cluster
}

fn text(n: i64) -> Vec<u8> {
    format!("k-{n}").into_bytes()
}

fn keyed(
    cluster: &MemoryCluster,
    partitioner: Option<KeyPartitioner>,
    format: Format,
) -> SessionContext {
    let context = session();
    let mut table = builder(cluster).topic("events").key_format(format);
    if let Some(partitioner) = partitioner {
        table = table.key_partitioner(partitioner);
    }
    let table = table.columns(Column::ALL.to_vec()).build_lazy().unwrap();
    context.register_table("events", Arc::new(table)).unwrap();
    context
}

/// Conditions, and how many of the partitions they leave: all (8), or one for each key.
const CONDITIONS: [(&str, &[i64]); 12] = [
    ("key = 'k-7'", &[7]),
    ("'k-7' = key", &[7]),
    (
        "key IN ('k-1', 'k-2', 'k-3', 'k-4', 'k-5')",
        &[1, 2, 3, 4, 5],
    ),
    ("key = 'k-7' OR key = 'k-8'", &[7, 8]),
    ("key = 'k-7' AND value IS NOT NULL", &[7]),
    ("key IN ('k-7', NULL)", &[7]),
    ("NOT (key <> 'k-7')", &[7]),
    ("key = 'absent'", &[-1]),
    ("key <> 'k-7'", &[]),
    ("NOT (key = 'k-7')", &[]),
    ("key IS NULL OR key = 'k-7'", &[]),
    ("key NOT IN ('k-7', 'k-8')", &[]),
];

#[tokio::test]
async fn conditions_on_keys_read_the_partitions_that_can_hold_them() {
    use KeyPartitioner::{ConsistentRandom, Fnv1a, Murmur2};
    for partitioner in [Murmur2, ConsistentRandom, Fnv1a] {
        let cluster = events(partitioner, text);
        for format in [Format::Raw, Format::Text] {
            let all = keyed(&cluster, None, format);
            let pruned = keyed(&cluster, Some(partitioner), format);
            for (condition, keys) in CONDITIONS {
                let sql =
                    format!("SELECT partition, offset FROM events WHERE {condition} ORDER BY 1, 2");
                let expected = rows(&all, &sql).await;
                assert_eq!(rows(&pruned, &sql).await, expected, "{partitioner:?} {sql}");
                let homes: BTreeSet<i32> = keys
                    .iter()
                    .map(|n| match n {
                        -1 => partitioner.partition(b"absent", PARTITIONS).unwrap(),
                        n => partitioner.partition(&text(*n), PARTITIONS).unwrap(),
                    })
                    .collect();
                let plan = plan(&pruned, &sql).await;
                for partition in 0..8 {
                    let is_read = homes.is_empty() || homes.contains(&partition);
                    let ranges = plan.split("ranges=").nth(1).unwrap();
                    let read = ranges.split("offsets=").next().unwrap();
                    let shown = read.contains(&format!("events[{partition}]"));
                    assert_eq!(shown, is_read, "{partitioner:?} {condition}: {plan}");
                }
                assert_eq!(plan.contains("pruned_by_key"), !homes.is_empty(), "{plan}");
            }
        }
    }
}

/// Statements that join `events` with some keys, and which keys that are. Without any, all partitions are read.
const JOINS: [(&str, &[i64]); 9] = [
    (
        "events JOIN (VALUES ('k-7'), ('k-8')) AS w (k) ON key = k",
        &[7, 8],
    ),
    (
        "(VALUES ('k-7')) AS w (k) JOIN events ON k = key AND partition >= 0",
        &[7],
    ),
    (
        "events WHERE key IN (SELECT k FROM (VALUES ('k-1'), ('k-2'), (NULL)) AS w (k))",
        &[1, 2],
    ),
    (
        "events WHERE EXISTS (SELECT 1 FROM (VALUES ('k-3')) AS w (k) WHERE k = key)",
        &[3],
    ),
    ("events JOIN (VALUES ('absent')) AS w (k) ON key = k", &[-1]),
    ("events LEFT JOIN (VALUES ('k-7')) AS w (k) ON key = k", &[]),
    (
        "events WHERE key NOT IN (SELECT k FROM (VALUES ('k-7')) AS w (k))",
        &[],
    ),
    (
        "events JOIN (VALUES ('k-7'), (NULL)) AS w (k) ON key IS NOT DISTINCT FROM k",
        &[],
    ),
    (
        "events JOIN (VALUES ('x k-7')) AS w (k) ON 'x ' || key = k",
        &[],
    ),
];

/// The partitions of `events` that a statement reads anything of.
async fn read(context: &SessionContext, sql: &str) -> BTreeSet<i32> {
    let plan = planned(context, sql).await;
    let rows = collect(Arc::clone(&plan), context.task_ctx()).await;
    rows.unwrap();
    let ledger = crate::scan::ledger(&plan);
    let read = ledger.ranges.iter().filter(|r| r.counts.passed() > 0);
    read.map(|r| r.range.partition()).collect()
}

#[tokio::test]
async fn joins_read_the_partitions_that_can_hold_their_keys() {
    let partitioner = KeyPartitioner::Murmur2;
    let cluster = events(partitioner, text);
    for (format, backward, split) in [
        (Format::Text, false, false),
        (Format::Text, false, true),
        (Format::Text, true, false),
        (Format::Raw, false, false),
    ] {
        let all = keyed(&cluster, None, format);
        let pruned = keyed(&cluster, Some(partitioner), format);
        for context in [&all, &pruned] {
            // Joins whose sides are cut into partitions may have no lists of keys.
            let most = if split { 0 } else { 1_000_000 };
            for setting in ["", "_rows"] {
                let name = format!("optimizer.hash_join_single_partition_threshold{setting}");
                let set = format!("SET datafusion.{name} = {most}");
                query(context, &set).await.unwrap();
            }
        }
        let order = if backward { "offset DESC, 1" } else { "1, 2" };
        for (from, keys) in JOINS {
            if format == Format::Raw && from.contains("||") {
                continue;
            }
            let sql = format!("SELECT partition, offset FROM {from} ORDER BY {order}");
            assert_eq!(rows(&pruned, &sql).await, rows(&all, &sql).await, "{sql}");
            let home = |n: &i64| {
                let key = if *n < 0 { b"absent".to_vec() } else { text(*n) };
                partitioner.partition(&key, PARTITIONS).unwrap()
            };
            let homes: BTreeSet<i32> = keys.iter().map(home).collect();
            let homes = match homes.is_empty() {
                true => (0..PARTITIONS.cast_signed()).collect(),
                false => homes,
            };
            let read = read(&pruned, &sql).await;
            if split {
                assert!(read.is_superset(&homes), "{sql}: {read:?}");
            } else {
                assert_eq!(read, homes, "{format:?} {sql}");
            }
        }
    }
}

#[tokio::test]
async fn joins_find_keys_that_lie_elsewhere() {
    let cluster = events(KeyPartitioner::Fnv1a, text);
    let context = keyed(&cluster, Some(KeyPartitioner::Murmur2), Format::Text);
    let sql = "SELECT * FROM events JOIN (VALUES ('k-7')) AS w (k) ON key = k";
    let error = query(&context, sql).await.unwrap_err().to_string();
    assert!(
        error.contains("by 'key.partitioner' = 'murmur2'"),
        "{error}"
    );
}

#[tokio::test]
async fn numbers_are_hashed_as_they_are_encoded() {
    let partitioner = KeyPartitioner::Murmur2;
    for format in [Format::Int32, Format::Int64] {
        let cluster = events(partitioner, |n| match format {
            Format::Int32 => (n as i32).to_be_bytes().to_vec(),
            _ => n.to_be_bytes().to_vec(),
        });
        let context = keyed(&cluster, Some(partitioner), format);
        for key in ["7", "CAST(7 AS BIGINT)", "CAST(7 AS SMALLINT)", "3 + 4"] {
            let sql = format!("SELECT count(*) FROM events WHERE key = {key}");
            assert_eq!(count(&context, &sql).await, 2, "{format:?} {key}");
            let plan = plan(&context, &sql).await;
            assert!(plan.contains("pruned_by_key"), "{format:?} {key}: {plan}");
        }
    }
}

/// A UUID has two spellings, and a JSON object any number.
#[tokio::test]
async fn values_with_several_spellings_leave_all_partitions() {
    let uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let partitioner = KeyPartitioner::Murmur2;
    let cluster = events(partitioner, |n| match n % 2 {
        0 => uuid.as_bytes().to_vec(),
        _ => uuid::Uuid::parse_str(uuid).unwrap().as_bytes().to_vec(),
    });
    let context = keyed(&cluster, Some(partitioner), Format::Uuid);
    let sql = format!("SELECT count(*) FROM events WHERE key = '{uuid}'");
    assert_eq!(count(&context, &sql).await, 2 * KEYS);
}

#[tokio::test]
async fn keys_in_other_partitions_are_an_error_with_one_of_them() {
    let cluster = events(KeyPartitioner::Fnv1a, text);
    let context = keyed(&cluster, Some(KeyPartitioner::Murmur2), Format::Raw);
    let sql = "SELECT count(*) FROM events WHERE key = 'k-7'";
    let error = query(&context, sql).await.unwrap_err().to_string();
    for part in [
        "events[",
        "\"k-",
        "of 8 by 'key.partitioner' = 'murmur2'",
        "'none'",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    // What names no key needs none to be in its place.
    let sql = "SELECT count(*) FROM events WHERE partition = 1";
    assert!(query(&context, sql).await.is_ok());
}

#[tokio::test]
async fn keys_are_looked_at_once_and_again_when_partitions_were_added() {
    let cluster = events(KeyPartitioner::Murmur2, text);
    let context = keyed(&cluster, Some(KeyPartitioner::Murmur2), Format::Raw);
    let sql = "SELECT count(*) FROM events WHERE key = 'k-7'";
    let mut records = vec![];
    for _ in 0..3 {
        assert_eq!(count(&context, sql).await, 2);
        records.push(cluster.stats().records);
    }
    let [first, second, third] = records[..] else {
        panic!("three runs")
    };
    assert!(
        first > second - first,
        "the first looks at keys: {records:?}"
    );
    assert_eq!(second - first, third - second, "{records:?}");

    cluster.add_partitions("events", 9).unwrap();
    let error = query(&context, sql).await.unwrap_err().to_string();
    assert!(error.contains("partitions were added"), "{error}");
}

/// Compaction may leave nothing at the beginning, in the middle and at the end of a log.
#[tokio::test]
async fn keys_between_holes_are_looked_at() {
    let cluster = MemoryCluster::builder().build();
    cluster.create_topic("events", 2).unwrap();
    let partitioner = KeyPartitioner::Murmur2;
    for n in 0..200 {
        let wrong = (0..)
            .map(text)
            .find(|k| partitioner.partition(k, 2) == Some(1));
        let record = Record::new("v").with_key(wrong.unwrap());
        let offset = cluster.append("events", 0, record).unwrap();
        assert_eq!(offset, n);
    }
    cluster
        .compact("events", 0, |offset, _| (40..60).contains(&offset))
        .unwrap();
    let context = keyed(&cluster, Some(partitioner), Format::Raw);
    let error = query(&context, "SELECT * FROM events WHERE key = 'k-7'").await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("events[0]@40"), "{error}");
}
