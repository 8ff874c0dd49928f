//! What statements may read: one budget for all scans of one, whatever their shape.

use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use super::*;
use crate::config::ScanBudget;
use crate::scan::{ScanEstimate, lift_budget, over_budget};

/// What becomes of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It runs to its end.
    Runs,
    /// Nothing is read.
    Refused,
    /// It reads, and ends with the error.
    Stopped,
}
use Fate::{Refused, Runs, Stopped};

fn limited(settings: &[(&str, &str)]) -> ScanBudget {
    let mut budget = ScanBudget::default();
    for (key, value) in settings {
        budget.set(key, value).unwrap();
    }
    budget
}

/// `orders` twice and `few` (`orders` with a limit of 250 records of its own) over 400 records, in a session with this
/// setting.
fn session_with(cluster: &MemoryCluster, setting: Option<(&str, &str)>) -> SessionContext {
    let context = over(cluster, "orders");
    let again = builder(cluster).topic("orders").build_lazy().unwrap();
    context.register_table("again", Arc::new(again)).unwrap();
    let few = builder(cluster).topic("orders");
    let few = few.scan_budget(limited(&[("max.scan.records", "250")]));
    let few = few.build_lazy().unwrap();
    context.register_table("few", Arc::new(few)).unwrap();
    if let Some((key, value)) = setting {
        let state = context.state_ref();
        let mut state = state.write();
        let options = state.config_mut().options_mut();
        options.set(&format!("kafka.{key}"), value).unwrap();
    }
    context
}

async fn fate(cluster: &MemoryCluster, context: &SessionContext, sql: &str) -> (Fate, String) {
    let plan = planned(context, sql).await;
    cluster.reset_stats();
    let mut rows = match execute_stream(plan, context.task_ctx()) {
        Ok(rows) => rows,
        Err(error) => return of_error(cluster, &error),
    };
    while let Some(batch) = rows.next().await {
        if let Err(error) = batch {
            return of_error(cluster, &error);
        }
    }
    (Runs, String::new())
}

fn of_error(cluster: &MemoryCluster, error: &DataFusionError) -> (Fate, String) {
    let found = Error::find(error).unwrap_or_else(|| panic!("{error}"));
    assert_eq!(found.kind(), ErrorKind::Budget, "{found}");
    let fate = match cluster.stats().fetches {
        0 => Refused,
        _ => Stopped,
    };
    (fate, found.to_string())
}

#[tokio::test]
async fn one_statement_has_one_budget_for_all_its_scans() {
    let cluster = orders();
    const RECORDS: &str = "max.scan.records";
    for (setting, sql, expected) in [
        // Of a single scan, on the record.
        ((RECORDS, "400"), "SELECT * FROM orders", Runs),
        ((RECORDS, "399"), "SELECT * FROM orders", Refused),
        (
            (RECORDS, "100"),
            "SELECT * FROM orders WHERE partition = 1",
            Runs,
        ),
        (
            (RECORDS, "99"),
            "SELECT count(*) FROM orders WHERE partition = 1",
            Refused,
        ),
        ((RECORDS, "none"), "SELECT * FROM orders", Runs),
        // Several scans of one statement.
        (
            (RECORDS, "799"),
            "SELECT * FROM orders a JOIN orders b ON a.key = b.key",
            Refused,
        ),
        (
            (RECORDS, "800"),
            "SELECT * FROM orders a JOIN orders b ON a.key = b.key",
            Runs,
        ),
        (
            (RECORDS, "799"),
            "SELECT key FROM orders UNION ALL SELECT key FROM again",
            Refused,
        ),
        (
            (RECORDS, "800"),
            "SELECT key FROM orders UNION ALL SELECT key FROM again",
            Runs,
        ),
        (
            (RECORDS, "799"),
            "WITH o AS (SELECT * FROM orders) SELECT count(*) FROM o, again",
            Refused,
        ),
        (
            (RECORDS, "799"),
            "SELECT * FROM orders WHERE key IN (SELECT key FROM again)",
            Refused,
        ),
        (
            (RECORDS, "799"),
            "SELECT (SELECT count(*) FROM again), key FROM orders",
            Refused,
        ),
        (
            (RECORDS, "450"),
            "SELECT * FROM orders WHERE partition = 0 UNION ALL SELECT * FROM again WHERE partition = 1",
            Runs,
        ),
        // LIMIT needs few records, and may find them late.
        ((RECORDS, "20"), "SELECT * FROM orders LIMIT 5", Runs),
        (
            (RECORDS, "300"),
            "SELECT * FROM orders WHERE value = 'value 99' LIMIT 5",
            Refused,
        ),
        (
            (RECORDS, "300"),
            "SELECT * FROM orders ORDER BY \"offset\" DESC LIMIT 3",
            Runs,
        ),
        (
            (RECORDS, "300"),
            "(SELECT * FROM orders LIMIT 200) UNION ALL (SELECT * FROM again LIMIT 200)",
            Refused,
        ),
        // The table's own, in addition.
        ((RECORDS, "none"), "SELECT * FROM few", Refused),
        ((RECORDS, "1M"), "SELECT * FROM few", Refused),
        (
            (RECORDS, "none"),
            "SELECT * FROM few WHERE partition < 2",
            Runs,
        ),
        (
            (RECORDS, "199"),
            "SELECT * FROM few WHERE partition < 2",
            Refused,
        ),
        (
            (RECORDS, "none"),
            "SELECT * FROM few WHERE partition < 2 UNION ALL SELECT * FROM few WHERE partition = 3",
            Refused,
        ),
        (
            (RECORDS, "none"),
            "SELECT * FROM few WHERE partition < 2 UNION ALL SELECT * FROM orders",
            Runs,
        ),
        // 10.9 bytes a record: 4,360 in all, of which a sample has seen most.
        (
            ("max.scan.bytes", "5k"),
            "SELECT count(*) FROM orders",
            Runs,
        ),
        (
            ("max.scan.bytes", "4k"),
            "SELECT count(*) FROM orders",
            Refused,
        ),
        (
            ("max.scan.bytes", "8k"),
            "SELECT key FROM orders UNION ALL SELECT key FROM again",
            Refused,
        ),
        (("max.scan.bytes", "1G"), "SELECT * FROM orders", Runs),
    ] {
        let context = session_with(&cluster, Some(setting));
        let (found, why) = fate(&cluster, &context, sql).await;
        assert_eq!(found, expected, "{setting:?} {sql}: {why}");
    }
}

/// The estimate knows neither what retention leaves of LIMIT's records nor how large those are that no sample saw.
#[tokio::test]
async fn what_no_estimate_sees_is_stopped_while_it_is_read() {
    let cluster = MemoryCluster::builder().fetch_records(16).build();
    cluster.create_topic("orders", 1).unwrap();
    for offset in 0..1000 {
        let size = if (100..400).contains(&offset) {
            5000
        } else {
            10
        };
        let record = Record::new("x".repeat(size));
        cluster.append("orders", 0, record).unwrap();
    }
    let context = session_with(&cluster, Some(("max.scan.bytes", "100k")));
    let (found, why) = fate(&cluster, &context, "SELECT value FROM orders").await;
    assert_eq!(found, Stopped);
    let expected = "'max.scan.bytes' allows 100 KiB; rows that came before are not the whole result; narrow it with a \
                    range ('@-1h:end', '-1000') or a condition on \"offset\", timestamp or partition, or raise the \
                    limit: SET kafka.max.scan.…, or --max-scan-…";
    assert!(
        why.starts_with("stopped after ") && why.ends_with(expected),
        "{why}"
    );
    let read = cluster.stats().bytes;
    assert!((100 << 10..300 << 10).contains(&read), "{read}");

    // Each of two scans stays below it.
    let sql = "SELECT count(*) FROM orders a WHERE \"offset\" BETWEEN 90 AND 104 UNION ALL \
               SELECT count(*) FROM again WHERE \"offset\" BETWEEN 90 AND 116";
    let (found, why) = fate(&cluster, &context, sql).await;
    assert_eq!(found, Stopped, "{why}");
    let sql = "SELECT count(*) FROM orders a WHERE \"offset\" BETWEEN 90 AND 116";
    assert_eq!(fate(&cluster, &context, sql).await.0, Runs);

    let context = session_with(&cluster, Some(("max.scan.time", "1ns")));
    let (found, why) = fate(&cluster, &context, "SELECT value FROM orders").await;
    assert_ne!(found, Runs);
    assert!(why.contains("'max.scan.time' allows 1ns"), "{why}");
}

#[tokio::test]
async fn refusals_name_what_is_asked_the_limit_and_the_way_out() {
    let cluster = orders();
    let context = session_with(&cluster, Some(("max.scan.records", "300")));
    let sql = "SELECT * FROM orders UNION ALL SELECT * FROM again";
    assert_eq!(
        fate(&cluster, &context, sql).await.1,
        "nothing was read: the statement reads up to 800 records of orders, and 'max.scan.records' allows 300; narrow \
         it with a range ('@-1h:end', '-1000') or a condition on \"offset\", timestamp or partition, or raise the \
         limit: SET kafka.max.scan.…, or --max-scan-…"
    );
    let why = fate(&cluster, &context, "SELECT * FROM few WHERE partition < 3")
        .await
        .1;
    assert!(
        why.contains("'max.scan.records' of the table allows 250")
            && why.contains("raise the limit: an option of the table"),
        "{why}"
    );
}

/// A plan and a `DataFrame` may be executed again, and what is only shown costs nothing.
#[tokio::test]
async fn each_execution_has_its_budget() {
    let cluster = orders();
    let context = session_with(&cluster, Some(("max.scan.records", "400")));
    let frame = context.sql("SELECT * FROM orders").await.unwrap();
    for _ in 0..3 {
        let batches = frame.clone().collect().await.unwrap();
        assert_eq!(
            batches.iter().map(RecordBatch::num_rows).sum::<usize>(),
            400
        );
    }
    let plan = planned(&context, "SELECT * FROM orders").await;
    for _ in 0..3 {
        let rows = datafusion::physical_plan::collect(Arc::clone(&plan), context.task_ctx());
        rows.await.unwrap();
    }
    let sql = "SELECT * FROM orders UNION ALL SELECT * FROM again";
    rows(&context, &format!("EXPLAIN {sql}")).await;
    let plan = planned(&context, sql).await;
    assert!(over_budget(&plan).is_some());
    let estimate = ScanEstimate::of(&plan);
    assert_eq!((estimate.records, estimate.bytes), (800, None));
    assert_eq!(estimate.to_string(), "up to 800 records");
    // A user who was asked goes on.
    lift_budget(&plan);
    assert!(over_budget(&plan).is_none());
    let rows = datafusion::physical_plan::collect(plan, context.task_ctx());
    assert_eq!(
        rows.await
            .unwrap()
            .iter()
            .map(RecordBatch::num_rows)
            .sum::<usize>(),
        800
    );
    // That was for this statement.
    assert!(over_budget(&planned(&context, sql).await).is_some());
}

#[tokio::test]
async fn explain_shows_about_how_many_bytes_are_to_be_read() {
    let cluster = orders();
    let context = over(&cluster, "orders");
    let explained = |sql: &str| {
        let sql = format!("EXPLAIN {sql}");
        let context = context.clone();
        async move {
            let frame = crate::statement::sql(&context, &sql).await.unwrap();
            let batches = frame.collect().await.unwrap();
            pretty_format_batches(&batches).unwrap().to_string()
        }
    };
    cluster.reset_stats();
    let text = explained("SELECT * FROM orders").await;
    // Keys of 3 or 4 bytes, values of 7 or 8.
    assert!(text.contains("offsets=400, bytes=~4716, leaders"), "{text}");
    assert_eq!(cluster.stats().records, 4 * 96);
    // The size of a topic's records is asked for once.
    let text = explained("SELECT * FROM orders WHERE partition = 0 LIMIT 10").await;
    assert!(text.contains("offsets=100, bytes=~117, "), "{text}");
    assert_eq!(cluster.stats().records, 4 * 96);
    // And not at all by what is not explained.
    let plain = rows(&context, "EXPLAIN SELECT * FROM orders")
        .await
        .join("\n");
    assert!(!plain.contains("bytes="), "{plain}");
}

/// What is set for the session counts for its tables together, and is found by SET and SHOW.
#[tokio::test]
async fn settings_of_the_connection_become_the_sessions() {
    let mut config = ConnectionConfig::new("127.0.0.1:1");
    config.set("max.scan.records", "5M").unwrap();
    let context = KafkaSessionBuilder::new()
        .connection(config)
        .build()
        .unwrap();
    let shown = |key: &str| {
        let sql = format!("SELECT value FROM information_schema.df_settings WHERE name = '{key}'");
        let context = context.clone();
        async move { rows(&context, &sql).await }
    };
    assert_eq!(shown("kafka.max.scan.records").await, ["5000000"]);
    query(&context, "SET kafka.max.scan.bytes = '10G'")
        .await
        .unwrap();
    query(&context, "SET kafka.max.scan.records = none")
        .await
        .unwrap();
    assert_eq!(shown("kafka.max.scan.bytes").await, ["10737418240"]);
    assert_eq!(shown("kafka.max.scan.records").await, [""]);
    let error = query(&context, "SET kafka.max.scan.bytes = 'much'")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("such as 500M or 10G"), "{error}");
}
