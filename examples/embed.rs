//! Reads a range of a topic as a DataFusion table, with the smallest set of features:
//!
//! ```sh
//! cargo run -p datafusion-kafka --no-default-features --example embed -- localhost:9092 orders @-1h:end
//! ```

use std::error::Error;
use std::sync::Arc;

use datafusion::prelude::SessionContext;
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::table::KafkaTable;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, topic, range] = &args[..] else {
        return Err("usage: embed BROKERS TOPIC RANGE".into());
    };
    let config = ConnectionConfig::new(brokers);
    let table = KafkaTable::builder(&config).topic(topic).range(range);
    let table = table.build().await?;

    let ctx = SessionContext::new();
    ctx.register_table("records", Arc::new(table))?;
    let found = ctx.sql("SELECT partition, \"offset\", value FROM records");
    found.await?.show().await?;
    Ok(())
}
