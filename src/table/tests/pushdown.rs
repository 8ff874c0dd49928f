//! What a query leaves to the scan: predicates, columns, limits and orders, and what that saves.

use super::*;

#[tokio::test]
async fn disjoint_predicates_read_exactly_their_offsets() {
    let cluster = orders();
    let context = over(&cluster, "orders");
    let sql = "SELECT count(*) FROM orders \
               WHERE (partition = 0 AND offset >= 90) OR (partition = 1 AND offset < 5)";
    assert_eq!(count(&context, sql).await, 15);
    let stats = cluster.stats();
    assert_eq!(stats.records, 15);
    assert_eq!(stats.partition("orders", 2).fetches, 0);

    let plan = plan(&context, sql).await;
    assert!(plan.contains("orders[0] 90..100"), "{plan}");
    assert!(plan.contains("orders[1] 0..5"), "{plan}");
    assert!(
        plan.contains("pruned_by_partition=[orders[2] 0..100, orders[3] 0..100]"),
        "{plan}"
    );
    assert!(
        plan.contains("pruned_by_offset=[orders[0] 0..90, orders[1] 5..100]"),
        "{plan}"
    );
    assert!(!plan.contains("FilterExec"), "{plan}");
}

#[tokio::test]
async fn predicates_on_topic_and_partition_may_be_any_expression() {
    let cluster = orders();
    let context = over(&cluster, "orders");
    let sql = "SELECT count(*) FROM orders WHERE partition % 2 = 1 AND topic LIKE 'ord%'";
    assert_eq!(count(&context, sql).await, 200);
    assert_eq!(cluster.stats().records, 200);
    assert_eq!(
        count(&context, "SELECT count(*) FROM orders WHERE topic = 'x'").await,
        0
    );
    assert_eq!(cluster.stats().records, 200);
}

/// What a query may never evaluate must not fail it, nor be taken over by the scan.
#[tokio::test]
async fn predicates_that_may_fail_stay_in_the_plan() {
    let context = over(&orders(), "orders");
    let sql = |filter: &str| format!("SELECT count(*) FROM orders WHERE {filter}");
    let found = count(&context, &sql("partition <> 0 AND 6 / partition > 2")).await;
    assert_eq!(found, 200);
    let guarded = "CASE WHEN partition = 0 THEN false ELSE 6 / partition > 2 END";
    assert_eq!(count(&context, &sql(guarded)).await, 200);
    assert!(query(&context, &sql("6 / partition > 2")).await.is_err());
}

#[tokio::test]
async fn timestamp_predicates_do_not_hide_that_offsets_are_gone() {
    let cluster = orders();
    let table = builder(&cluster).topic("orders").build().await.unwrap();
    let snapshot = table.snapshot().await.unwrap();
    let context = session();
    let pinned = table.at(snapshot).unwrap();
    context.register_table("pinned", Arc::new(pinned)).unwrap();
    let sql = "SELECT count(*) FROM pinned WHERE partition = 0 AND timestamp >= to_timestamp_millis(80000)";
    assert_eq!(count(&context, sql).await, 20);
    cluster.truncate_before("orders", 0, 50).unwrap();
    let error = query(&context, sql).await.unwrap_err();
    assert!(
        matches!(
            Error::find(&error),
            Some(Error::BelowLogStart { lost: 50, .. })
        ),
        "{error}"
    );
    cluster.recreate_topic("orders").unwrap();
    let error = query(&context, sql).await.unwrap_err();
    assert!(Error::find(&error).is_some(), "{error}");
}

#[tokio::test]
async fn random_functions_are_not_evaluated_once() {
    let context = over(&orders(), "orders");
    let sql = "SELECT count(*) FROM orders WHERE random() < 0.5 AND partition >= 0";
    let found = count(&context, sql).await;
    assert!((1..400).contains(&found), "{found}");
}

#[tokio::test]
async fn timestamp_lower_bound_starts_at_the_look_up() {
    let cluster = orders();
    let context = over(&cluster, "orders");
    let sql = "SELECT count(*) FROM orders WHERE timestamp >= TIMESTAMP '1970-01-01 00:01:30Z'";
    assert_eq!(count(&context, sql).await, 40);
    assert_eq!(cluster.stats().records, 40);
}

/// Times with a zone are of nanoseconds and in UTC, the column is of milliseconds and in UTC.
#[tokio::test]
async fn instants_written_in_any_way_bound_timestamps() {
    let instants = [
        "'1970-01-01T00:01:30Z'",
        "TIMESTAMPTZ '1970-01-01 01:01:30+01:00'",
        "CAST('1970-01-01T00:01:30Z' AS TIMESTAMP(6) WITH TIME ZONE)",
        "to_timestamp('1970-01-01T00:01:30Z')",
        "TIMESTAMP '1970-01-01 00:01:30'",
    ];
    for instant in instants {
        let cluster = orders();
        let context = over(&cluster, "orders");
        let sql = format!("SELECT count(*) FROM orders WHERE timestamp >= {instant}");
        assert_eq!(count(&context, &sql).await, 40, "{instant}");
        assert_eq!(cluster.stats().records, 40, "{instant}");
        let sql = format!("SELECT count(*) FROM orders WHERE timestamp < {instant}");
        assert_eq!(count(&context, &sql).await, 360, "{instant}");
    }
}

#[tokio::test]
async fn now_bounds_timestamps() {
    let cluster = orders();
    let context = over(&cluster, "orders");
    let sql = "SELECT count(*) FROM orders WHERE timestamp > now() - INTERVAL '1 day'";
    assert_eq!(count(&context, sql).await, 0);
    assert_eq!(cluster.stats().records, 0);
    let sql = "SELECT count(*) FROM orders WHERE timestamp < now()";
    assert_eq!(count(&context, sql).await, 400);
}

#[tokio::test]
async fn late_record_is_not_lost_under_create_time() {
    let cluster = orders();
    let late = Record::new("late").with_timestamp_ms(5);
    cluster.append("orders", 0, late).unwrap();
    let context = over(&cluster, "orders");
    let sql = "SELECT count(*) FROM orders WHERE partition = 0 AND timestamp < TIMESTAMP '1970-01-01 00:00:01Z'";
    assert_eq!(count(&context, sql).await, 2);
}

#[tokio::test]
async fn log_append_time_cuts_the_end_as_well() {
    let cluster = MemoryCluster::new();
    let options = TopicOptions::default().log_append_time();
    cluster.create_topic_with("appended", 1, options).unwrap();
    for ms in 0..100 {
        cluster.set_clock_ms(Some(ms * 100_000));
        cluster.append("appended", 0, Record::new("x")).unwrap();
    }
    let context = over(&cluster, "appended");
    let sql = "SELECT count(*) FROM appended WHERE timestamp BETWEEN \
               TIMESTAMP '1970-01-01 00:16:40Z' AND TIMESTAMP '1970-01-01 00:33:20Z'";
    assert_eq!(count(&context, sql).await, 11);
    assert_eq!(cluster.stats().records, 11);
}

#[tokio::test]
async fn log_append_time_of_a_leader_whose_clock_is_behind_loses_no_record() {
    let cluster = MemoryCluster::new();
    let options = TopicOptions::default().log_append_time();
    cluster.create_topic_with("appended", 1, options).unwrap();
    for ms in [100_000, 200_000, 150_000, 400_000, 500_000] {
        cluster.set_clock_ms(Some(ms));
        cluster.append("appended", 0, Record::new("x")).unwrap();
    }
    let context = over(&cluster, "appended");
    let sql = "SELECT count(*) FROM appended WHERE timestamp < TIMESTAMP '1970-01-01 00:02:40Z'";
    assert_eq!(count(&context, sql).await, 2);
    assert_eq!(cluster.stats().records, 3);
}

#[tokio::test]
async fn projection_reaches_the_reader() {
    let context = over(&orders(), "orders");
    let plan = plan(&context, "SELECT count(*) FROM orders").await;
    assert!(
        plan.contains("projection=[], isolation=read_committed"),
        "{plan}"
    );
    let plan = self::plan(&context, "SELECT sum(octet_length(value)) FROM orders").await;
    assert!(plan.contains("projection=[value]"), "{plan}");
}

#[tokio::test]
async fn limit_stops_the_fetch() {
    let cluster = orders();
    let context = over(&cluster, "orders");
    assert_eq!(
        rows(&context, "SELECT offset FROM orders LIMIT 10")
            .await
            .len(),
        10
    );
    assert!(
        cluster.stats().records <= 2 * 2 * 16,
        "{:?}",
        cluster.stats()
    );
}

#[tokio::test]
async fn limit_counts_rows_after_exact_filters() {
    let cluster = orders();
    let context = over(&cluster, "orders");
    let sql = "SELECT offset FROM orders WHERE offset >= 95 AND partition = 3 LIMIT 3";
    assert_eq!(rows(&context, sql).await, ["95", "96", "97"]);
}

#[tokio::test]
async fn newest_first_reads_the_tail_only() {
    let cluster = orders();
    for offset in [95, 96, 97] {
        cluster.remove("orders", 2, offset).unwrap();
    }
    let context = over(&cluster, "orders");
    let sql = "SELECT offset FROM orders WHERE partition = 2 ORDER BY offset DESC LIMIT 4";
    assert_eq!(rows(&context, sql).await, ["99", "98", "94", "93"]);
    assert!(cluster.stats().records < 70, "{:?}", cluster.stats());
    let plan = plan(&context, sql).await;
    assert!(plan.contains("order=offset DESC, fetch=4"), "{plan}");
    assert!(!plan.contains("SortExec"), "{plan}");
}

#[tokio::test]
async fn newest_first_over_all_partitions_is_sorted() {
    let cluster = orders();
    cluster.append("orders", 3, Record::new("newest")).unwrap();
    let context = over(&cluster, "orders");
    let sql = "SELECT offset, partition FROM orders ORDER BY offset DESC, partition LIMIT 2";
    assert_eq!(rows(&context, sql).await, ["100 3", "99 0"]);
    let sql = "SELECT offset FROM orders ORDER BY offset DESC LIMIT 6";
    assert_eq!(
        rows(&context, sql).await,
        ["100", "99", "99", "99", "99", "98"]
    );
    let all = rows(&context, "SELECT offset FROM orders ORDER BY offset DESC").await;
    let mut sorted: Vec<i64> = all.iter().map(|o| o.parse().unwrap()).collect();
    assert_eq!(sorted.len(), 401);
    assert!(sorted.is_sorted_by(|a, b| a >= b));
    sorted.dedup();
    assert_eq!(sorted.len(), 101);
}

#[tokio::test]
async fn ascending_order_needs_no_sort() {
    let context = over(&orders(), "orders");
    let sql = "SELECT offset FROM orders WHERE partition = 2 ORDER BY offset LIMIT 2";
    assert_eq!(rows(&context, sql).await, ["0", "1"]);
    let plan = plan(&context, sql).await;
    assert!(!plan.contains("SortExec"), "{plan}");
}

/// DataFusion rewrites `CAST(timestamp AS ns) < literal` to a comparison in ms and drops the
/// literal's digits below a millisecond. The scan must not lose records by that on top: under
/// CreateTime an upper bound cuts nothing, and lower bounds are rounded to the sound side.
#[tokio::test]
async fn digits_below_a_millisecond_prune_nothing_that_matches() {
    let cluster = orders();
    let context = over(&cluster, "orders");
    let at = |op: &str| {
        format!(
            "SELECT count(*) FROM orders WHERE timestamp {op} TIMESTAMP '1970-01-01 00:00:05.0005Z' AND partition = 0"
        )
    };
    // 5.000 s is the record at offset 5.
    assert_eq!(
        count(&context, &at(">=")).await + count(&context, &at("<")).await,
        100
    );
}
