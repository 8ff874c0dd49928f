use std::time::Duration;

use super::*;
use crate::testing::{INSERT, World, until};

/// The value of a series.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series))?;
    line.trim().parse().ok()
}

#[tokio::test]
async fn metrics_are_what_the_sink_holds() {
    let world = World::new();
    world.configure("[jobs.orders]\nfile = \"orders.sql\"\nconnection = \"main\"\n");
    world.write("orders.sql", INSERT);
    world.produce(0, 3);
    world.produce(1, 2);
    let (service, ended) = world.run();
    until("all is delivered", || {
        let job = service.board().monitor("orders");
        job.is_some_and(|job| job.status().totals.records == 5)
    })
    .await;
    assert_eq!(world.rows(), 5);
    let text = text(service.board()).await;
    let expected = [
        (
            "kafka_sql_job_records_total{job=\"orders\",class=\"delivered\"}",
            5.0,
        ),
        (
            "kafka_sql_job_records_total{job=\"orders\",class=\"lost\"}",
            0.0,
        ),
        ("kafka_sql_job_bad_rows_total{job=\"orders\"}", 0.0),
        (
            "kafka_sql_job_batches_total{job=\"orders\",result=\"failed\"}",
            0.0,
        ),
        ("kafka_sql_job_retries_total{job=\"orders\"}", 0.0),
        (
            "kafka_sql_job_lag_records{job=\"orders\",topic=\"orders\",partition=\"0\"}",
            0.0,
        ),
        (
            "kafka_sql_job_lag_seconds{job=\"orders\",topic=\"orders\",partition=\"1\"}",
            0.0,
        ),
        ("kafka_sql_job_state{job=\"orders\",state=\"failed\"}", 0.0),
    ];
    for (series, expected) in expected {
        assert_eq!(value(&text, series), Some(expected), "{series} in\n{text}");
    }
    let target = service.jobs()[0].totals.rows.keys().next().unwrap().clone();
    let rows = format!("kafka_sql_job_sink_rows_total{{job=\"orders\",sink=\"{target}\"}}");
    assert_eq!(value(&text, &rows), Some(5.0), "{text}");
    let batches = value(
        &text,
        "kafka_sql_job_batches_total{job=\"orders\",result=\"committed\"}",
    );
    let count = value(
        &text,
        "kafka_sql_job_batch_duration_seconds_count{job=\"orders\",phase=\"stage\"}",
    );
    assert_eq!(batches, count);
    let commit = value(
        &text,
        "kafka_sql_job_last_commit_timestamp_seconds{job=\"orders\"}",
    );
    assert!(commit.is_some_and(|at| at > 1.7e9), "{text}");
    assert!(text.contains("kafka_sql_build_info{version=\""), "{text}");
    #[cfg(target_os = "linux")]
    for name in [
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_cpu_seconds_total",
    ] {
        assert!(
            value(&text, name).is_some_and(|value| value >= 0.0),
            "{name} in\n{text}"
        );
    }
    service.close();
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn lag_is_the_age_of_the_record_that_waits_and_labels_are_bounded() {
    let world = World::new();
    world.configure(
        "max_partition_labels = 1\n[jobs.orders]\nfile = \"orders.sql\"\nconnection = \"main\"\n",
    );
    world.write("orders.sql", INSERT);
    let (service, ended) = world.run();
    let job = || service.board().monitor("orders").unwrap();
    until("it looks", || {
        !service.jobs().is_empty() && service.not_ready().is_empty()
    })
    .await;
    // Nothing is delivered from here on.
    world.sink.fail("commit", u32::MAX, true);
    let since = now_ms();
    world.produce(0, 3);
    world.produce(1, 2);
    until("it tries again", || job().status().totals.retries > 0).await;
    job().look(Duration::ZERO).await.unwrap();
    let text = text(service.board()).await;
    let series = |name: &str, topic: &str, partition: &str| {
        let labels = format!("{{job=\"orders\",topic=\"{topic}\",partition=\"{partition}\"}}");
        value(&text, &format!("kafka_sql_job_lag_{name}{labels}"))
    };
    assert_eq!(series("records", "orders", "0"), Some(3.0), "{text}");
    assert_eq!(series("records", "orders", "1"), None, "{text}");
    assert_eq!(series("records", "other", "other"), Some(2.0), "{text}");
    let most = seconds(now_ms() - since);
    for (topic, partition) in [("orders", "0"), ("other", "other")] {
        let age = series("seconds", topic, partition).unwrap();
        assert!(
            (0.0..=most + 0.001).contains(&age),
            "{age} of {most}\n{text}"
        );
    }
    service.close();
    ended.await.unwrap().unwrap();
}
