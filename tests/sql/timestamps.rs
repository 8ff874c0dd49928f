//! Ranges and predicates by time, compared with the broker's index and the records.

use super::{error, filled, plan, rows, session, table, topic, with_table};
use crate::support::{Record, admin, produce, shared};

/// The record at offset n has the timestamp 1000 * (n + 1) ms, and one late record is at the end.
fn with_late_record() -> String {
    let topic = filled(1, 100);
    let late = Record::new(0).value("late").timestamp_ms(5500);
    produce::produce(shared().bootstrap(), &topic, &[late]);
    topic
}

#[tokio::test(flavor = "multi_thread")]
async fn predicate_on_time_reads_from_the_look_up_and_loses_nothing() {
    let topic = with_late_record();
    let context = session();
    let sql = |filter: &str| format!("SELECT count(*) FROM \"{topic}\" WHERE {filter}");
    let early = sql("timestamp < '1970-01-01T00:00:06Z'");
    assert_eq!(rows(&context, &early).await, ["6"]);
    let window = sql("timestamp >= '1970-01-01T00:00:05Z' AND timestamp < '1970-01-01T00:00:07Z'");
    assert_eq!(rows(&context, &window).await, ["3"]);
    let shown = plan(&context, &window).await;
    assert!(shown.contains(&format!("[{topic}[0] 4..101]")), "{shown}");
    assert!(
        shown.contains(&format!("pruned_by_timestamp=[{topic}[0] 0..4]")),
        "{shown}"
    );
    let future = sql("timestamp >= '2100-01-01T00:00:00Z'");
    assert_eq!(rows(&context, &future).await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn range_by_time_selects_records() {
    let topic = with_late_record();
    let context = session();
    let count = |range: &str| format!("SELECT count(*) FROM kafka('{topic}', '{range}')");
    for (range, expected) in [
        ("@1970-01-01T00:00:05Z:1970-01-01T00:00:07Z", "3"),
        ("@1970-01-01T00:00:05Z:2s", "3"),
        ("@:6", "6"),
        ("@90:", "11"),
        ("@-1h:end", "0"),
        ("0=@90:92", "2"),
    ] {
        assert_eq!(rows(&context, &count(range)).await, [expected], "{range}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_append_time_cuts_the_start_and_a_minute_after_the_end() {
    let topic = admin::unique_topic("appended");
    let settings = [("message.timestamp.type", "LogAppendTime")];
    admin::create_topic(shared().bootstrap(), &topic, 1, &settings);
    let one = |value: &str| {
        produce::produce(shared().bootstrap(), &topic, &[Record::new(0).value(value)])
    };
    for n in 0..10 {
        one(&n.to_string());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let context = with_table(table(&topic)).await;
    let sql = "SELECT CAST(timestamp AS VARCHAR), timestamp_type FROM t WHERE offset IN (3, 6) ORDER BY offset";
    let found = rows(&context, sql).await;
    let stamp = |row: &String| row.split(' ').next().expect("a timestamp").to_owned();
    assert!(found[0].ends_with("LogAppendTime"), "{found:?}");
    let (from, to) = (stamp(&found[0]), stamp(&found[1]));
    let sql = format!("SELECT offset FROM t WHERE timestamp >= '{from}' AND timestamp < '{to}'");
    assert_eq!(rows(&context, &sql).await, ["3", "4", "5"]);
    let shown = plan(&context, &sql).await;
    assert!(shown.contains(&format!("{topic}[0] 3..10")), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn spark_timestamps_are_offsets_by_look_up() {
    let topic = with_late_record();
    let context = session();
    let create = |options: &str| {
        format!(
            "CREATE OR REPLACE EXTERNAL TABLE s STORED AS KAFKA LOCATION '{topic}' OPTIONS ({options})"
        )
    };
    // There is no filter: the late record lies within the offsets.
    rows(&context, &create("'startingTimestamp' '99000'")).await;
    assert_eq!(rows(&context, "SELECT count(*) FROM s").await, ["3"]);
    rows(
        &context,
        &create("'startingTimestamp' '5000', 'endingTimestamp' '7000'"),
    )
    .await;
    assert_eq!(rows(&context, "SELECT count(*) FROM s").await, ["2"]);

    let never = i64::MAX;
    let by_partition = format!(
        "'startingTimestamp' '5000', 'endingOffsetsByTimestamp' '{{\"{topic}\":{{\"0\":{never}}}}}'"
    );
    rows(&context, &create(&by_partition)).await;
    assert_eq!(rows(&context, "SELECT count(*) FROM s").await, ["97"]);

    let by_partition = format!("'startingOffsetsByTimestamp' '{{\"{topic}\":{{\"0\":50000}}}}'");
    rows(&context, &create(&by_partition)).await;
    assert_eq!(rows(&context, "SELECT count(*) FROM s").await, ["52"]);

    let never = "'startingTimestamp' '4102444800000'";
    rows(&context, &create(never)).await;
    let found = error(&context, "SELECT count(*) FROM s").await.to_string();
    assert!(found.contains(&format!("{topic}[0]")), "{found}");
    let latest = format!("{never}, 'startingOffsetsByTimestampStrategy' 'latest'");
    rows(&context, &create(&latest)).await;
    assert_eq!(rows(&context, "SELECT count(*) FROM s").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn timestamps_survive_and_have_a_type() {
    let topic = topic(1);
    let record = Record::new(0).value("x").timestamp_ms(1_700_000_000_123);
    produce::produce(shared().bootstrap(), &topic, &[record]);
    let sql = format!("SELECT timestamp, timestamp_type, leader_epoch FROM \"{topic}\"");
    assert_eq!(
        rows(&session(), &sql).await,
        ["2023-11-14T22:13:20.123Z CreateTime 0"]
    );
}
