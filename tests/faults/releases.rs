//! Brokers of older releases, down to the oldest that runs on a current Java.

use std::sync::Arc;

use datafusion_kafka::client::TopicSelection;
use tokio::task::block_in_place;

use crate::conformance::{Fixture, failing};
use crate::support::documented::documented;
use crate::support::{Release, of_release};

documented!(
    "brokers.md",
    "Releases of Apache Kafka",
    ["wire", "librdkafka"],
    [],
    slow [kafka_0_10_2, kafka_0_11_0, kafka_1_1, kafka_2_1, kafka_2_8, kafka_3_3, kafka_3_9]
);

/// The whole suite of conformance of clients.
async fn suite(version: &str, client: &str) -> String {
    let release = Release::of(version);
    let server = block_in_place(|| of_release(release));
    let fixture = crate::client::on(server.bootstrap(), client).of_release(release);
    match &failing(Arc::new(fixture)).await[..] {
        [] => "exact".to_owned(),
        failing => format!("failing: {}", failing.join(", ")),
    }
}

async fn kafka_0_10_2(client: &str) -> String {
    let server = block_in_place(|| of_release(Release::of("0.10")));
    let fixture = crate::client::on(server.bootstrap(), client);
    match fixture.client().describe(TopicSelection::All).await {
        Err(error) if error.to_string().contains("is older than Kafka 0.11") => "refused".into(),
        other => format!("{other:?}"),
    }
}

async fn kafka_0_11_0(client: &str) -> String {
    suite("0.11", client).await
}

async fn kafka_1_1(client: &str) -> String {
    suite("1.1", client).await
}

async fn kafka_2_1(client: &str) -> String {
    suite("2.1", client).await
}

async fn kafka_2_8(client: &str) -> String {
    suite("2.8", client).await
}

async fn kafka_3_3(client: &str) -> String {
    suite("3.3", client).await
}

async fn kafka_3_9(client: &str) -> String {
    suite("3.9", client).await
}
