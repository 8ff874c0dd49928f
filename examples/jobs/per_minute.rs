//! Counts records and bytes per minute in PostgreSQL, correctly however late a record arrives.
//!
//! Each batch adds its share of each minute as a separate row, and readers add up the shares:
//!
//! ```sql
//! SELECT minute, sum(records), sum(bytes) FROM minute_shares GROUP BY minute
//! ```

use std::sync::Arc;

use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::driver::{MicroBatch, RunSummary, Stop, Trigger};
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::sink::BoxError;
use datafusion_kafka::sink::postgres::PostgresSink;

/// `database` is a URL such as `postgres://etl@localhost:5432/shop`; the password may come from
/// the environment, `PGPASSWORD`.
pub async fn run(
    brokers: &str,
    topic: &str,
    database: &str,
    checkpoint: &str,
) -> Result<RunSummary, BoxError> {
    let context = KafkaSessionBuilder::new()
        .connection(ConnectionConfig::new(brokers))
        .build()?;
    let source = format!("CREATE EXTERNAL TABLE records STORED AS KAFKA LOCATION '{topic}'");
    context.sql(&source).await?;

    // Created by the first batch, with the columns of the query. Rows and offsets are committed in one
    // transaction, so no share is missing or duplicated.
    let shares = PostgresSink::new(database, "minute_shares")?;

    let mut job = MicroBatch::builder(context, "per-minute")
        .checkpoint(checkpoint)
        .sink("shares", Arc::new(shares))?
        .insert(
            "INSERT INTO shares
             SELECT date_trunc('minute', timestamp) AS minute, count(*) AS records,
                    sum(octet_length(value)) AS bytes
             FROM records
             GROUP BY 1",
        )
        .trigger(Trigger::AvailableNow)
        .build()
        .await?;
    Ok(job.run(&Stop::new()).await?)
}
