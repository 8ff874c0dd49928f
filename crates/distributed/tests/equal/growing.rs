//! Statements over a topic that grows meanwhile: all mentions of it end at the same offsets.

use std::time::Duration;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;
use datafusion_kafka::client::memory::{MemoryCluster, Record};

use super::{Sessions, planned};
use crate::engines::brokers;

const PARTITIONS: i32 = 4;

/// Queries of one row whose numbers are equal if all scans have the same end.
const SAME: [&str; 4] = [
    "SELECT (SELECT count(*) FROM growing) AS n, count(*), count(a.\"offset\"), count(b.\"offset\") FROM growing a \
     FULL JOIN growing b ON a.partition = b.partition AND a.\"offset\" = b.\"offset\"",
    "SELECT count(*), (SELECT count(*) FROM (SELECT partition, \"offset\" FROM growing INTERSECT SELECT partition, \"offset\" \
     FROM growing)) AS n FROM growing",
    "WITH ends AS (SELECT partition, max(\"offset\") AS last FROM growing GROUP BY partition) \
     SELECT sum(last + 1), (SELECT count(*) FROM growing) AS n FROM ends",
    "SELECT max(n), count(*) FROM (SELECT row_number() OVER (ORDER BY partition, \"offset\" DESC) AS n FROM growing \
     WHERE \"offset\" IN (SELECT \"offset\" FROM growing))",
];

fn append(cluster: &MemoryCluster, n: i32) {
    let record = Record::new(format!("{n}")).with_key(format!("k{}", n % 7));
    cluster.append("growing", n % PARTITIONS, record).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mentions_of_a_growing_topic_end_alike() {
    let cluster = brokers();
    cluster.create_topic("growing", PARTITIONS).unwrap();
    (0..100).for_each(|n| append(&cluster, n));
    let sessions = Sessions::over(cluster.clone()).await;
    let writer = tokio::spawn({
        let cluster = cluster.clone();
        async move {
            for n in 0.. {
                append(&cluster, n);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let mut counts = vec![];
    for _ in 0..3 {
        for session in sessions.all() {
            for sql in SAME {
                counts.push(same(session, sql, || ()).await.unwrap());
            }
        }
    }
    writer.abort();
    assert!(writer.await.is_err(), "it wrote until then");
    assert!(counts.first() < counts.last(), "it grew: {counts:?}");

    // What comes between planning and execution is not read.
    for session in sessions.all() {
        for sql in SAME {
            let before = same(session, sql, || ()).await.unwrap();
            let between = || (0..50).for_each(|n| append(&cluster, n));
            assert_eq!(same(session, sql, between).await, Ok(before), "{sql}");
        }
    }
}

/// The number that all columns of the query's row have.
async fn same(session: &SessionContext, sql: &str, between: impl FnOnce()) -> Result<i64, String> {
    let (plan, context) = planned(session, sql).await?;
    between();
    let rows = collect(plan, context).await.map_err(|e| e.to_string())?;
    let row = rows
        .iter()
        .find(|batch| batch.num_rows() == 1)
        .ok_or("no row")?;
    let number = |column: usize| {
        let column = cast(row.column(column), &DataType::Int64);
        column.unwrap().as_primitive::<Int64Type>().value(0)
    };
    let numbers: Vec<i64> = (0..row.num_columns()).map(number).collect();
    match numbers.iter().all(|n| *n == numbers[0]) {
        true => Ok(numbers[0]),
        false => Err(format!("{sql}: {numbers:?}")),
    }
}
