//! What a batch takes: Spark's cases.

use std::time::Duration;

use super::super::{Backlog, BatchPolicy, Window};
use super::*;

#[tokio::test]
async fn fifteen_records_by_five_are_three_batches() {
    let mut world = World::new(1);
    world.limits.max_offsets = Some(5);
    world.produce(0, 15);
    let summary = world.run().await.unwrap();
    assert_eq!(summary.batches, 3);
    assert_eq!(summary.rows, 15);
    world.assert_exactly(&[15]);
}

#[tokio::test]
async fn nothing_new_is_no_batch() {
    let world = World::new(2);
    assert_eq!(world.run().await.unwrap().batches, 0);
    world.produce(1, 3);
    assert_eq!(world.run().await.unwrap().batches, 1);
    assert_eq!(world.run().await.unwrap().batches, 0);
    world.assert_exactly(&[0, 3]);
}

#[tokio::test]
async fn once_ignores_limits() {
    let mut world = World::new(1);
    world.limits.max_offsets = Some(5);
    world.produce(0, 15);
    let job = world.builder("job").insert(INSERT).trigger(Trigger::Once);
    let summary = job.build().await.unwrap().run(&Stop::new()).await.unwrap();
    assert_eq!((summary.batches, summary.rows), (1, 15));
}

#[tokio::test]
async fn available_now_leaves_what_comes_later() {
    let mut world = World::new(1);
    world.limits.max_offsets = Some(5);
    world.produce(0, 10);
    let mut job = world.job().await;
    assert!(job.step().await.unwrap().is_some());
    world.produce(0, 7);
    world.cluster.add_partitions("orders", 2).unwrap();
    world.produce(1, 4);
    let rest = job.run(&Stop::new()).await.unwrap();
    assert_eq!(rest.rows, 5);
    world.assert_exactly(&[10, 0]);
    world.run().await.unwrap();
    world.assert_exactly(&[17, 4]);
}

#[tokio::test]
async fn a_partition_joins_at_its_log_start() {
    let mut world = World::new(1);
    world.range = "end".to_owned();
    world.produce(0, 5);
    // The first run finds nothing, and fixes that it starts at 5.
    assert_eq!(world.run().await.unwrap().batches, 0);
    world.produce(0, 2);
    world.cluster.add_partitions("orders", 2).unwrap();
    world.produce(1, 3);
    world.run().await.unwrap();
    assert_eq!(world.held(), [(0, 5), (0, 6), (1, 0), (1, 1), (1, 2)]);
}

#[tokio::test]
async fn listed_partitions_stay_alone() {
    let mut world = World::new(2);
    world.range = "1=2:".to_owned();
    world.produce(0, 5);
    world.produce(1, 5);
    world.run().await.unwrap();
    world.cluster.add_partitions("orders", 3).unwrap();
    world.produce(2, 5);
    world.run().await.unwrap();
    assert_eq!(world.held(), [(1, 2), (1, 3), (1, 4)]);
}

#[tokio::test]
async fn a_source_with_an_end_is_refused() {
    let mut world = World::new(1);
    world.range = "0:10".to_owned();
    let error = world
        .builder("job")
        .insert(INSERT)
        .build()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("must not end"), "{error}");
}

#[tokio::test]
async fn two_sources_have_limits_of_their_own() {
    let world = World::new(1);
    world.cluster.create_topic("payments", 1).unwrap();
    world.produce(0, 10);
    for _ in 0..10 {
        world
            .cluster
            .append("payments", 0, Record::new("p"))
            .unwrap();
    }
    let limited = |max: u64| Limits {
        max_offsets: Some(max),
        ..Limits::default()
    };
    let context = world.context();
    let payments = world.table("payments").build_lazy().unwrap();
    context
        .register_table("payments", Arc::new(payments))
        .unwrap();
    let mut job = MicroBatch::builder(context, "job")
        .checkpoint(world.checkpoint().to_str().unwrap())
        .sink("out", Arc::new(world.sink.clone()))
        .unwrap()
        .insert(INSERT)
        .insert("INSERT INTO out SELECT CAST(value AS VARCHAR) AS value, \"offset\", partition + 100 AS partition FROM payments")
        .source_limits("orders", limited(3))
        .source_limits("payments", limited(7))
        .trigger(Trigger::AvailableNow)
        .build()
        .await
        .unwrap();
    let first = job.step().await.unwrap().unwrap();
    assert_eq!(taken(&first), [(0, 0, 3), (0, 0, 7)]);
    assert_eq!(first.sinks.len(), 1, "one target is one sink");
    job.run(&Stop::new()).await.unwrap();
    let held = world.held();
    assert_eq!(held.len(), 20);
    assert_eq!(held.iter().filter(|(p, _)| *p == 100).count(), 10);
}

#[tokio::test]
async fn a_self_join_reads_one_snapshot() {
    let world = World::new(1);
    world.produce(0, 4);
    let job = world.builder("job").insert(
        "INSERT INTO out SELECT a.partition, b.\"offset\", 'x' AS value \
         FROM orders a JOIN orders b ON a.\"offset\" = b.\"offset\"",
    );
    let mut job = job.build().await.unwrap();
    let first = job.step().await.unwrap().unwrap();
    assert_eq!(first.sources.len(), 1);
    assert_eq!(first.rows(), 4);
    world.produce(0, 2);
}

#[tokio::test]
async fn views_and_subqueries_read_the_batch() {
    let world = World::new(1);
    let context = world.context();
    context
        .sql("CREATE VIEW v AS SELECT * FROM orders WHERE \"offset\" IN (SELECT max(\"offset\") FROM orders)")
        .await
        .unwrap();
    let mut job = MicroBatch::builder(context, "job")
        .checkpoint(world.checkpoint().to_str().unwrap())
        .sink("out", Arc::new(world.sink.clone()))
        .unwrap()
        .insert("INSERT INTO out SELECT partition, \"offset\", 'x' AS value FROM v")
        .build()
        .await
        .unwrap();
    for _ in 0..3 {
        world.produce(0, 5);
        job.step().await.unwrap().unwrap();
    }
    assert_eq!(world.held(), [(0, 4), (0, 9), (0, 14)]);
}

#[tokio::test]
async fn a_policy_of_ones_own_decides() {
    #[derive(Debug)]
    struct OneEach;
    impl BatchPolicy for OneEach {
        fn ends(&self, backlog: &Backlog) -> Option<Vec<i64>> {
            Some(backlog.partitions.iter().map(|p| p.start + 1).collect())
        }
    }
    let world = World::new(2);
    world.produce(0, 3);
    world.produce(1, 1);
    let job = world.builder("job").insert(INSERT);
    let mut job = job
        .policy("orders", Arc::new(OneEach))
        .build()
        .await
        .unwrap();
    assert_eq!(job.run(&Stop::new()).await.unwrap().batches, 3);
    world.assert_exactly(&[3, 1]);
}

#[tokio::test]
async fn a_window_reads_earlier_batches_and_replays_exactly() {
    let world = World::new(1);
    let insert = "INSERT INTO out SELECT CAST(0 AS INT) AS partition, count(*) AS \"offset\", 'n' AS value FROM orders";
    let job = world
        .builder("job")
        .insert(insert)
        .window(Window::Batches(2));
    let mut job = job.trigger(Trigger::Continuous).build().await.unwrap();
    for expected in [2, 4, 4, 4] {
        world.produce(0, 2);
        let progress = job.step().await.unwrap().unwrap();
        let counted = world.sink.rows().last().map(offsets).unwrap();
        assert_eq!(counted[0].1, expected, "batch {}", progress.batch);
    }
    let difference = &job.replay_diff(2).await.unwrap()[0];
    assert_eq!((difference.missing, difference.extra), (Some(0), Some(0)));
    let rows = job
        .replay(1)
        .await
        .unwrap()
        .remove(0)
        .collect()
        .await
        .unwrap();
    assert_eq!(offsets(&rows[0])[0].1, 4);
}

#[tokio::test]
async fn a_window_of_time_looks_offsets_up() {
    let world = World::new(1);
    let now = jiff::Timestamp::now().as_millisecond();
    for (number, age_s) in [7200, 1800, 60].into_iter().enumerate() {
        let record = Record::new(format!("{number}")).with_timestamp_ms(now - age_s * 1000);
        world.cluster.append("orders", 0, record).unwrap();
    }
    let insert = "INSERT INTO out SELECT CAST(0 AS INT) AS partition, count(*) AS \"offset\", 'n' AS value FROM orders";
    let limits = Limits {
        max_offsets: Some(2),
        ..Limits::default()
    };
    let job = world.builder("job").insert(insert).limits(limits);
    let mut job = job
        .window(Window::Time(Duration::from_secs(3600)))
        .build()
        .await
        .unwrap();
    assert_eq!(job.run(&Stop::new()).await.unwrap().batches, 2);
    let counts: Vec<i64> = world.sink.rows().iter().map(|r| offsets(r)[0].1).collect();
    // Offsets 0 and 1; then offset 2 with offset 1, which is half an hour old.
    assert_eq!(counts, [2, 2]);
}

#[tokio::test]
async fn a_lag_leaves_young_records() {
    let mut world = World::new(1);
    world.limits.lag = Some(Duration::from_secs(300));
    let now = jiff::Timestamp::now().as_millisecond();
    for age_s in [900, 600, 10] {
        let record = Record::new("x").with_timestamp_ms(now - age_s * 1000);
        world.cluster.append("orders", 0, record).unwrap();
    }
    world.run().await.unwrap();
    world.assert_exactly(&[2]);
}

#[tokio::test]
async fn transactions_leave_empty_batches_that_move_on() {
    let world = World::new(1);
    let mut transaction = world.cluster.begin();
    transaction.append("orders", 0, Record::new("a")).unwrap();
    transaction.abort().unwrap();
    let mut job = world.job().await;
    let first = job.step().await.unwrap().unwrap();
    assert_eq!(taken(&first), [(0, 0, 2)]);
    assert_eq!(first.rows(), 0);
    world.produce(0, 1);
    world.run().await.unwrap();
    assert_eq!(world.held(), [(0, 2)]);
}

#[tokio::test]
async fn progress_says_how_far_behind() {
    let mut world = World::new(2);
    world.limits.max_offsets_per_partition = Some(2);
    world.produce(0, 10);
    world.produce(1, 2);
    let progress = world.job().await.step().await.unwrap().unwrap();
    let behind = progress.sources[0].behind.unwrap();
    assert_eq!((behind.min, behind.max, behind.mean), (0, 8, 4.0));
    assert_eq!(progress.records(), 4);
    let line: serde_json::Value = serde_json::from_str(&progress.to_json()).unwrap();
    assert_eq!(line["sources"][0]["ranges"][0]["end"], 2);
    assert_eq!(line["sinks"][0]["rows"], 4);
}

#[tokio::test]
async fn late_ticks_are_skipped() {
    let world = World::new(1);
    world.produce(0, 1);
    let stop = Stop::new();
    let job = world.builder("job").insert(INSERT);
    let mut job = job
        .trigger(Trigger::Every(Duration::from_millis(20)))
        .build()
        .await
        .unwrap();
    let stopping = stop.clone();
    let running = tokio::spawn(async move { job.run(&stopping).await });
    while world.held().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.produce(0, 2);
    while world.held().len() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.after_this_batch();
    let summary = running.await.unwrap().unwrap();
    assert_eq!(summary.rows, 3);
}

#[tokio::test]
async fn statements_that_are_no_inserts_are_refused() {
    let world = World::new(1);
    for (sql, part) in [
        ("SELECT 1", "INSERT INTO sink SELECT"),
        (
            "INSERT INTO nowhere SELECT * FROM orders",
            "there is no such table",
        ),
        (
            "INSERT INTO orders SELECT * FROM orders",
            "cannot be written",
        ),
        (
            "INSERT INTO out SELECT 1 AS a, 2 AS a FROM orders",
            "same name",
        ),
        ("INSERT INTO out SELECT 1 AS a", "read no Kafka topic"),
        (
            "INSERT INTO out (a, b) SELECT value FROM orders",
            "names 2 columns",
        ),
        ("INSERT OVERWRITE out SELECT value FROM orders", ""),
    ] {
        let job = world.builder("job").insert(sql).build().await;
        let error = job.unwrap_err().to_string();
        assert!(error.contains(part), "{sql}: {error}");
    }
}
