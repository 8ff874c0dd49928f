//! Copies a topic from Kafka to Kafka, possibly to another cluster. Readers of committed records see each
//! record once.

use std::sync::Arc;

use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::driver::{MicroBatch, RunSummary, Stop, Trigger};
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::sink::{BoxError, KafkaSink, KafkaSinkOptions};

/// The topic `target` must exist.
pub async fn run(
    brokers: &str,
    topic: &str,
    target_brokers: &str,
    target: &str,
    checkpoint: &str,
) -> Result<RunSummary, BoxError> {
    let context = KafkaSessionBuilder::new()
        .connection(ConnectionConfig::new(brokers))
        .build()?;
    let source = format!("CREATE EXTERNAL TABLE records STORED AS KAFKA LOCATION '{topic}'");
    context.sql(&source).await?;

    // One transaction per batch, with its rows and the job's offsets.
    let mut config = ConnectionConfig::new(target_brokers);
    config.set("compression.type", "lz4")?;
    let sink = KafkaSink::new(&config, target, KafkaSinkOptions::default())?;

    let mut job = MicroBatch::builder(context, "copy")
        .checkpoint(checkpoint)
        .sink("target", Arc::new(sink))?
        // A header says where a record came from.
        .insert(
            "INSERT INTO target
             SELECT key, value, timestamp,
                    make_array(named_struct(
                        'key', 'from',
                        'value', concat(topic, '[', partition, ']@', offset)
                    )) AS headers
             FROM records",
        )
        .trigger(Trigger::AvailableNow)
        .build()
        .await?;
    Ok(job.run(&Stop::new()).await?)
}
