//! Prints a topic's records as Arrow batches, using only kafka-arrow:
//!
//! ```sh
//! cargo run -p kafka-arrow --no-default-features --example print -- localhost:9092 orders
//! ```

use std::error::Error;
use std::sync::Arc;

use arrow::util::pretty::print_batches;
use futures::TryStreamExt;
use kafka_arrow::client::{
    KafkaClient, OffsetAt, OffsetQuery, ReadRequest, TopicSelection, WireClient,
};
use kafka_arrow::config::ConnectionConfig;
use kafka_arrow::decode::{Column, RecordDecoder};
use kafka_arrow::range::{IsolationLevel, OffsetRange, OnDataLoss, TopicPartition};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(brokers), Some(topic)) = (args.next(), args.next()) else {
        return Err("usage: print BROKERS TOPIC".into());
    };
    let client = WireClient::connect(&ConnectionConfig::new(brokers))?;
    let isolation = IsolationLevel::ReadCommitted;

    // Where the partitions currently begin and end.
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

    // Exactly these offsets, as columns.
    let columns = vec![
        Column::Partition,
        Column::Offset,
        Column::Key,
        Column::Value,
    ];
    let decoder = RecordDecoder::raw(columns);
    let all: Vec<usize> = (0..decoder.columns().len()).collect();
    let mut batches = client.read(ReadRequest {
        ranges,
        topic_ids: Default::default(),
        columns: decoder.raw_columns(&all),
        isolation,
        batch_rows: 1024,
        batch_bytes: 1 << 20,
        limit: None,
        on_data_loss: OnDataLoss::Fail,
        timestamps: Default::default(),
    });
    while let Some(batch) = batches.try_next().await? {
        let rows = decoder.decode(&batch, &all, decoder.schema())?;
        print_batches(&[rows.batch])?;
    }
    Ok(())
}
