//! Writes every record of a topic as a row in parquet files, in Hive folders by day.

use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::driver::{Limits, MicroBatch, RunSummary, Stop, Trigger};
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::sink::BoxError;

/// `folder` is local or a URL of an object store, such as `s3://bucket/orders/`.
pub async fn run(
    brokers: &str,
    topic: &str,
    folder: &str,
    checkpoint: &str,
) -> Result<RunSummary, BoxError> {
    let context = KafkaSessionBuilder::new()
        .connection(ConnectionConfig::new(brokers))
        .build()?;

    // SQL tables: the source begins at the log start, and only this job writes to the sink.
    let source = format!("CREATE EXTERNAL TABLE records STORED AS KAFKA LOCATION '{topic}'");
    context.sql(&source).await?;
    let sink = format!(
        "CREATE EXTERNAL TABLE landing STORED AS PARQUET PARTITIONED BY (day) LOCATION '{folder}'"
    );
    context.sql(&sink).await?;

    // A long backlog is processed in batches, and each becomes visible when it is committed.
    let mut limits = Limits::default();
    limits.max_offsets = Some(10_000_000);

    let mut job = MicroBatch::builder(context, "landing")
        .checkpoint(checkpoint)
        .insert(
            "INSERT INTO landing
             SELECT CAST(timestamp AS DATE) AS day, topic, partition, offset, timestamp,
                    kafka_text(key) AS key, kafka_text(value) AS value
             FROM records",
        )
        .limits(limits)
        .trigger(Trigger::AvailableNow)
        .build()
        .await?;
    Ok(job.run(&Stop::new()).await?)
}
