//! Many partitions, ranges and queries: threads, connections and memory stay bounded.

use std::sync::Arc;

use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::session::KafkaSessionBuilder;

use super::{batches, filled, rows, session, session_with, topic};
use crate::support::produce::{self, Fill};
use crate::support::{Record, admin, shared};

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("Linux").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_partitions() {
    let topic = admin::unique_topic("wide");
    admin::create_topic(shared().bootstrap(), &topic, 500, &[]);
    let records: Vec<Record> = (0..1000)
        .map(|n| Record::new(n % 500).value(n.to_string()))
        .collect();
    produce::produce(shared().bootstrap(), &topic, &records);
    let context = session();
    let sql = format!(
        "SELECT count(*), count(DISTINCT partition), sum(CAST(CAST(value AS VARCHAR) AS BIGINT)) FROM \"{topic}\""
    );
    assert_eq!(rows(&context, &sql).await, ["1000 500 499500"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_small_ranges() {
    let topic = filled(4, 4000);
    let context = session();
    let wanted: Vec<String> = (0..1000).map(|n| (n * 4).to_string()).collect();
    let sql = format!(
        "SELECT count(*), min(offset), max(offset) FROM \"{topic}\" WHERE partition = 2 AND offset IN ({})",
        wanted.join(", ")
    );
    assert_eq!(rows(&context, &sql).await, ["1000 0 3996"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_queries_at_once_share_threads() {
    let topic = filled(4, 3000);
    let context = session_with(ConnectionConfig::new(shared().bootstrap()));
    // Runs one query first, so that the session's own threads do not count towards the fifty.
    let sql = format!("SELECT count(*), sum(offset) FROM \"{topic}\"");
    let expected = [format!("12000 {}", 4 * (0..3000).sum::<i64>())];
    assert_eq!(rows(&context, &sql).await, expected);
    let before = threads();
    let queries: Vec<_> = (0..50)
        .map(|_| {
            let (context, sql) = (context.clone(), sql.clone());
            tokio::spawn(async move { rows(&context, &sql).await })
        })
        .collect();
    let mut most = 0;
    for query in queries {
        most = most.max(threads());
        assert_eq!(query.await.expect("no panic"), expected);
    }
    // Eight sessions with a few threads each, and the same number of waiting streams.
    assert!(
        most < before + 80,
        "{before} threads before, {most} at most"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_reserved_in_the_pool() {
    let topic = topic(1);
    let fill = Fill {
        records: 50_000,
        partitions: 1,
        value_bytes: 100,
        settings: &[],
    };
    produce::fill(shared().bootstrap(), &topic, fill);
    let run = async |limit: usize| {
        let pool = Arc::new(GreedyMemoryPool::new(limit));
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(pool)
            .build_arc()
            .expect("a runtime");
        let context = KafkaSessionBuilder::new()
            .connection(ConnectionConfig::new(shared().bootstrap()))
            .runtime(runtime)
            .build()
            .expect("valid");
        batches(&context, &format!("SELECT count(*) FROM \"{topic}\"")).await
    };
    assert!(run(512 << 20).await.is_ok());
    let error = run(1 << 10)
        .await
        .expect_err("a scan does not fit into a kilobyte")
        .to_string();
    assert!(
        error.contains(&format!("{topic}[0]@0: reading buffers ")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn merge_over_more_partitions_than_sessions_does_not_block() {
    let topic = filled(12, 200);
    let mut config = ConnectionConfig::new(shared().bootstrap());
    config.set("client.sessions.max", "2").expect("valid");
    let session_config = datafusion::prelude::SessionConfig::new().with_target_partitions(12);
    let context = KafkaSessionBuilder::new()
        .connection(config)
        .config(session_config)
        .build()
        .expect("valid");
    let sql = format!("SELECT offset FROM \"{topic}\" ORDER BY offset");
    let found = rows(&context, &sql).await;
    assert_eq!(found.len(), 2400);
    assert!(found.is_sorted_by_key(|o| o.parse::<i64>().expect("an offset")));
}
