//! Committed, aborted and open transactions, and compacted topics.

use datafusion_kafka::range::IsolationLevel;

use super::{error, rows, session, table, topic, with_table};
use crate::support::{Record, Transaction, admin, produce, shared};

fn records(count: usize, value: &str) -> Vec<Record> {
    vec![Record::new(0).value(value); count]
}

async fn counts(topic: &str) -> (Vec<String>, Vec<String>) {
    let sql = "SELECT CAST(value AS VARCHAR) v, count(*) FROM t GROUP BY v ORDER BY v";
    let committed = with_table(table(topic)).await;
    let all = with_table(table(topic).isolation(IsolationLevel::ReadUncommitted)).await;
    (rows(&committed, sql).await, rows(&all, sql).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn read_committed_sees_exactly_what_was_committed() {
    let topic = topic(1);
    let bootstrap = shared().bootstrap();
    produce::produce(bootstrap, &topic, &records(3, "plain"));
    let first = Transaction::begin(bootstrap, &format!("{topic}-a"));
    first.produce(&topic, &records(4, "committed"));
    first.commit();
    let second = Transaction::begin(bootstrap, &format!("{topic}-b"));
    second.produce(&topic, &records(5, "aborted"));
    second.abort();
    let (committed, all) = counts(&topic).await;
    assert_eq!(committed, ["committed 4", "plain 3"]);
    assert_eq!(all, ["aborted 5", "committed 4", "plain 3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_transaction_ends_the_log_for_read_committed() {
    let topic = topic(1);
    let bootstrap = shared().bootstrap();
    produce::produce(bootstrap, &topic, &records(3, "before"));
    let open = Transaction::begin(bootstrap, &format!("{topic}-open"));
    open.produce(&topic, &records(2, "open"));
    produce::produce(bootstrap, &topic, &records(4, "behind"));
    let (committed, all) = counts(&topic).await;
    assert_eq!(committed, ["before 3"]);
    assert_eq!(all, ["before 3", "behind 4", "open 2"]);

    let sql = format!(
        "SELECT end_offset, last_stable_offset, high_watermark FROM kafka_offsets('{topic}')"
    );
    assert_eq!(rows(&session(), &sql).await, ["3 3 9"]);
    let beyond = format!("SELECT * FROM kafka('{topic}', '0:5')");
    let found = error(&session(), &beyond).await.to_string();
    assert!(found.contains("ends at 3 (read_committed)"), "{found}");
    open.commit();
    let (committed, _) = counts(&topic).await;
    assert_eq!(committed, ["before 3", "behind 4", "open 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn range_without_a_visible_record_ends() {
    let topic = topic(1);
    let bootstrap = shared().bootstrap();
    let aborted = Transaction::begin(bootstrap, &format!("{topic}-c"));
    aborted.produce(&topic, &records(50, "aborted"));
    aborted.abort();
    produce::produce(bootstrap, &topic, &records(1, "after"));
    let begun = std::time::Instant::now();
    for (range, expected) in [("0:51", "0"), ("50:51", "0"), ("10:20", "0"), ("0:52", "1")] {
        let sql = format!("SELECT count(*) FROM kafka('{topic}', '{range}')");
        assert_eq!(rows(&session(), &sql).await, [expected], "{range}");
    }
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    let sql = format!("EXPLAIN ANALYZE SELECT count(*) FROM kafka('{topic}', '0:52')");
    let analyzed = rows(&session(), &sql).await.join("\n");
    assert!(analyzed.contains("skipped_offsets=51"), "{analyzed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn compacted_range_gives_the_survivors() {
    let topic = admin::unique_topic("compacted");
    let bootstrap = shared().bootstrap();
    admin::create_compacted_topic(bootstrap, &topic, 1);
    let keyed: Vec<Record> = (0..200)
        .map(|n| {
            Record::new(0)
                .key(format!("k{}", n % 10))
                .value(format!("v{n}"))
        })
        .collect();
    produce::produce(bootstrap, &topic, &keyed);
    let survivors = admin::compact(bootstrap, &topic, 0);
    let expected: Vec<String> = survivors.iter().map(|r| r.offset.to_string()).collect();
    assert!(expected.len() < 200, "the log was not compacted");
    let end: i64 = survivors.last().expect("the marker is last").offset + 1;
    let sql = format!("SELECT offset FROM kafka('{topic}', '0:{end}') ORDER BY offset");
    assert_eq!(rows(&session(), &sql).await, expected);
    let sql = format!("SELECT count(*) FROM kafka('{topic}', '0:{end}')");
    assert_eq!(rows(&session(), &sql).await, [expected.len().to_string()]);
    // A range inside a hole.
    let hole = (1..end)
        .find(|o| !survivors.iter().any(|r| r.offset == *o))
        .expect("a hole");
    let sql = format!(
        "SELECT count(*) FROM kafka('{topic}', '{hole}:{}')",
        hole + 1
    );
    assert_eq!(rows(&session(), &sql).await, ["0"]);
}
