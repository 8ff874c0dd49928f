//! Ranges are exact, whatever is appended in the meantime.

use datafusion_kafka::{Error, ErrorKind};

use super::{error, filled, rows, session, table, topic, with_table};
use crate::support::{Record, admin, produce, shared};

async fn count(topic: &str, range: &str) -> String {
    let context = session();
    let sql = format!("SELECT count(*) FROM kafka('{topic}', '{range}')");
    rows(&context, &sql).await.remove(0)
}

fn append(topic: &str, partition: i32, count: usize) {
    let records = vec![Record::new(partition).value("more"); count];
    produce::produce(shared().bootstrap(), topic, &records);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_exact_while_more_arrives() {
    let topic = filled(1, 18);
    assert_eq!(count(&topic, "0:18").await, "18");
    assert_eq!(count(&topic, "18:18").await, "0");
    append(&topic, 0, 5);
    assert_eq!(count(&topic, "0:18").await, "18");
    assert_eq!(count(&topic, "18:18").await, "0");
    assert_eq!(count(&topic, "18:19").await, "1");
    let sql = format!("SELECT offset, CAST(value AS VARCHAR) FROM kafka('{topic}', '18:19')");
    assert_eq!(rows(&session(), &sql).await, ["18 more"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn range_past_the_end_names_partition_and_end() {
    let topic = filled(2, 5);
    for range in ["0:6", "6:", "1=0:6"] {
        let sql = format!("SELECT * FROM kafka('{topic}', '{range}')");
        let found = error(&session(), &sql).await;
        assert!(
            matches!(
                &found,
                Error::PastLogEnd {
                    asked: 6,
                    available: 5,
                    ..
                }
            ),
            "{range}: {found}"
        );
        assert!(
            found.to_string().starts_with(&format!("{topic}[")),
            "{found}"
        );
        assert_eq!(found.kind(), ErrorKind::DataUnavailable);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn relative_and_partition_ranges() {
    let topic = filled(3, 20);
    for (range, expected) in [
        ("-5", "15"),
        ("+5", "45"),
        (":3", "9"),
        ("0=1:3,2=18:", "4"),
        ("start:end,1=0:0", "40"),
        ("end", "0"),
        ("-1000", "60"),
    ] {
        assert_eq!(count(&topic, range).await, expected, "{range}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_topic_and_empty_partitions_give_no_rows_at_once() {
    let topic = topic(3);
    append(&topic, 1, 2);
    let begun = std::time::Instant::now();
    assert_eq!(count(&topic, "start:end").await, "2");
    assert_eq!(count(&topic, "0=start:end").await, "0");
    // Far below any timeout: an empty range never waits.
    assert!(begun.elapsed().as_secs() < 15, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn log_start_moved_is_an_error_or_counted() {
    let topic = filled(1, 50);
    admin::delete_records(shared().bootstrap(), &topic, 0, 30);
    let sql = format!("SELECT * FROM kafka('{topic}', '10:40')");
    let found = error(&session(), &sql).await;
    assert!(
        matches!(
            &found,
            Error::BelowLogStart {
                asked: 10,
                available: 30,
                lost: 20,
                ..
            }
        ),
        "{found}"
    );
    let skip = |sql: &str| sql.replace("OPTION", "failOnDataLoss=false");
    let sql = format!("SELECT min(offset), count(*) FROM kafka('{topic}', '10:40', 'OPTION')");
    assert_eq!(rows(&session(), &skip(&sql)).await, ["30 10"]);
    let analyzed = rows(&session(), &skip(&format!("EXPLAIN ANALYZE {sql}")))
        .await
        .join("\n");
    assert!(analyzed.contains("lost_offsets=20"), "{analyzed}");
    let sql = format!("SELECT count(*) FROM kafka('{topic}', '0:10', 'on.data.loss=skip')");
    assert_eq!(rows(&session(), &sql).await, ["0"]);
    // Past the end, Spark's option yields what exists, and this crate's own fails.
    let sql = format!("SELECT min(offset), count(*) FROM kafka('{topic}', '20:99', 'OPTION')");
    assert_eq!(rows(&session(), &skip(&sql)).await, ["30 20"]);
    let strict = sql.replace("OPTION", "on.data.loss=skip");
    let found = error(&session(), &strict).await;
    assert!(
        matches!(found, Error::PastLogEnd { asked: 99, .. }),
        "{found}"
    );
}

/// The log start moves after planning, which the reader must notice.
#[tokio::test(flavor = "multi_thread")]
async fn retention_between_planning_and_reading_is_noticed() {
    let topic = filled(1, 50);
    let table = table(&topic).build().await.expect("the topic is there");
    let snapshot = table.snapshot().await.expect("a snapshot");
    admin::delete_records(shared().bootstrap(), &topic, 0, 30);
    let context = session();
    let pinned = table.at(snapshot).expect("the same isolation");
    context
        .register_table("t", std::sync::Arc::new(pinned))
        .expect("the name is free");
    let found = error(&context, "SELECT * FROM t").await;
    assert!(
        matches!(
            &found,
            Error::BelowLogStart {
                asked: 0,
                available: 30,
                lost: 30,
                ..
            }
        ),
        "{found}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn recreated_topic_is_refused() {
    let topic = filled(1, 5);
    let table = table(&topic).build().await.expect("the topic is there");
    let snapshot = table.snapshot().await.expect("a snapshot");
    assert!(
        snapshot.topic_id(&topic).is_some(),
        "Kafka 4 gives topic ids"
    );
    admin::delete_topic(shared().bootstrap(), &topic);
    admin::create_topic(shared().bootstrap(), &topic, 1, &[]);
    append(&topic, 0, 10);
    let context = session();
    let pinned = table.at(snapshot).expect("the same isolation");
    context
        .register_table("t", std::sync::Arc::new(pinned))
        .expect("the name is free");
    let found = error(&context, "SELECT * FROM t").await;
    assert!(matches!(&found, Error::TopicRecreated { .. }), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_statement_reads_one_snapshot_of_a_growing_topic() {
    let topic = filled(2, 100);
    let writing = topic.clone();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            append(&writing, 0, 20);
        }
    });
    let context = session();
    for _ in 0..20 {
        let sql = format!(
            "SELECT count(*) FROM \"{topic}\" a FULL JOIN \"{topic}\" b \
             ON a.partition = b.partition AND a.offset = b.offset \
             WHERE a.offset IS NULL OR b.offset IS NULL"
        );
        assert_eq!(rows(&context, &sql).await, ["0"]);
        let sql = format!(
            "SELECT count(DISTINCT n) FROM (SELECT count(*) n FROM kafka('{topic}') \
             UNION ALL SELECT count(*) FROM kafka('{topic}') \
             UNION ALL SELECT count(*) FROM \"{topic}\")"
        );
        assert_eq!(rows(&context, &sql).await, ["1"]);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().expect("the writer ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn spark_offsets_must_match_the_partitions() {
    let topic = filled(2, 10);
    let create = |options: &str| {
        format!(
            "CREATE OR REPLACE EXTERNAL TABLE s STORED AS KAFKA LOCATION '' \
             OPTIONS ('subscribe' '{topic}', {options})"
        )
    };
    let context = session();
    let good = format!("'startingOffsets' '{{\"{topic}\":{{\"0\":3,\"1\":-2}}}}'");
    rows(&context, &create(&good)).await;
    assert_eq!(rows(&context, "SELECT count(*) FROM s").await, ["17"]);

    let missing = format!("'startingOffsets' '{{\"{topic}\":{{\"0\":3}}}}'");
    rows(&context, &create(&missing)).await;
    let found = error(&context, "SELECT count(*) FROM s").await;
    assert!(
        found
            .to_string()
            .contains("KAFKA_START_OFFSET_DOES_NOT_MATCH_ASSIGNED"),
        "{found}"
    );
    let reversed = format!(
        "'startingOffsets' '{{\"{topic}\":{{\"0\":8,\"1\":0}}}}', \
         'endingOffsets' '{{\"{topic}\":{{\"0\":3,\"1\":5}}}}'"
    );
    rows(&context, &create(&reversed)).await;
    let found = error(&context, "SELECT count(*) FROM s").await;
    assert!(
        found.to_string().contains(&format!("{topic}[0]")),
        "{found}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn split_options_make_execution_partitions() {
    let topic = filled(1, 20);
    let context = with_table(table(&topic).min_partitions(3)).await;
    let plan = super::plan(&context, "SELECT offset FROM t").await;
    let pieces = format!("[{topic}[0] 0..6], [{topic}[0] 6..13], [{topic}[0] 13..20]");
    assert!(plan.contains(&pieces), "{plan}");
    assert_eq!(rows(&context, "SELECT count(*) FROM t").await, ["20"]);
}
