//! Counts the records of a topic on AWS MSK, with an IAM login:
//!
//! ```sh
//! cargo run --release -- client.properties eu-central-1 orders
//! ```
//!
//! with `bootstrap.servers`, `security.protocol=SASL_SSL` and `sasl.mechanism=OAUTHBEARER` in the file.

mod msk;

use std::error::Error;
use std::sync::Arc;

use futures::TryStreamExt;
use kafka_arrow::client::{
    KafkaClient, OffsetAt, OffsetQuery, ReadRequest, TopicSelection, WireClient,
};
use kafka_arrow::config::ConnectionConfig;
use kafka_arrow::range::{IsolationLevel, OffsetRange, TopicPartition};

use self::msk::Msk;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(file), Some(region), Some(topic)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: msk-iam FILE REGION TOPIC".into());
    };
    let config = ConnectionConfig::from_file(file)?;
    let tokens = Msk::new(region).await.map_err(|e| e as Box<dyn Error>)?;
    let client = WireClient::connect_with_tokens(&config, Arc::new(tokens))?;
    let isolation = IsolationLevel::ReadCommitted;
    let topic: Arc<str> = topic.into();
    let named = [Arc::clone(&topic)];
    let cluster = client.describe(TopicSelection::Named(&named)).await?;
    let described = cluster.topics.first().ok_or("there is no such topic")?;
    let mut ranges = vec![];
    for partition in &described.partitions {
        let ends = [OffsetAt::Earliest, OffsetAt::Latest].map(|at| OffsetQuery {
            partition: TopicPartition::new(Arc::clone(&topic), partition.partition),
            at,
        });
        let found = client.list_offsets(&ends, isolation).await?;
        if let [Some(start), Some(end)] = [found[0].offset, found[1].offset] {
            let topic = Arc::clone(&topic);
            ranges.push(OffsetRange::try_new(
                topic,
                partition.partition,
                start,
                end,
            )?);
        }
    }
    let mut records = 0;
    let mut batches = client.read(ReadRequest {
        isolation,
        ..ReadRequest::new(ranges)
    });
    while let Some(batch) = batches.try_next().await? {
        records += batch.offsets.len();
    }
    println!("{topic}: {records} records");
    Ok(())
}
