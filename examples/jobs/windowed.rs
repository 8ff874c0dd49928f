//! Counts the records of each minute in the last hour. Each batch counts again, and writes to SQLite.

use std::sync::Arc;
use std::time::Duration;

use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::driver::{MicroBatch, RunSummary, Stop, Trigger, Window};
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::sink::BoxError;
use datafusion_kafka::sink::sqlite::SqliteSink;

/// Creates the table `per_minute` in a file, which is created if it is missing.
pub async fn run(
    brokers: &str,
    topic: &str,
    file: &str,
    checkpoint: &str,
) -> Result<RunSummary, BoxError> {
    let context = KafkaSessionBuilder::new()
        .connection(ConnectionConfig::new(brokers))
        .build()?;
    let source = format!("CREATE EXTERNAL TABLE records STORED AS KAFKA LOCATION '{topic}'");
    context.sql(&source).await?;

    // A minute's new count replaces the older one.
    let counts = SqliteSink::new(file, "per_minute")?.with_upsert_key(vec!["minute".to_owned()]);

    let mut job = MicroBatch::builder(context, "windowed")
        .checkpoint(checkpoint)
        .sink("per_minute", Arc::new(counts))?
        // In addition to its new records, a batch's query reads one hour back, so that it never counts part
        // of a minute. The condition leaves out the minute in which that hour begins.
        .window(Window::Time(Duration::from_secs(3600)))
        .insert(
            "INSERT INTO per_minute
             SELECT date_trunc('minute', timestamp) AS minute, count(*) AS records
             FROM records
             WHERE timestamp >= date_trunc('minute', now() - INTERVAL '59 minutes')
             GROUP BY 1",
        )
        .trigger(Trigger::AvailableNow)
        .build()
        .await?;
    Ok(job.run(&Stop::new()).await?)
}
