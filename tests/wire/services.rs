//! What speaks Kafka and is not Apache Kafka, as far as its documentation or its source says how it answers.
//! docs/brokers.md names the sources. All of it is simulated: no such service was asked.

use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion_kafka::client::librdkafka::LibrdkafkaClient;
use datafusion_kafka::client::{OffsetAt, OffsetQuery, OnDataLoss, TopicSelection};
use datafusion_kafka::driver::Stop;
use datafusion_kafka::{Error, ErrorKind};
use kafka_protocol::messages::ApiKey;

use super::broker::State;
use super::*;
use crate::conformance::FIRST_TIMESTAMP_MS;
use crate::conformance::reading::ReadCommitted;
use crate::support::documented::documented;

documented!(
    "brokers.md",
    "What is not Apache Kafka",
    ["wire", "librdkafka"],
    [
        azure_event_hubs,
        redpanda,
        warpstream,
        streamnative_ursa,
        alibaba_cloud,
        msk_serverless_confluent_cloud_automq,
    ],
    slow []
);

async fn azure_event_hubs(client: &str) -> String {
    outcome(client, Release::EventHubs, |_| {}).await
}

async fn redpanda(client: &str) -> String {
    outcome(client, Release::Redpanda, |_| {}).await
}

/// Partitions have no leaders: Metadata names a different agent each time, and each agent serves all.
async fn warpstream(client: &str) -> String {
    outcome(client, Release::Leaderless, |setup| {
        setup.cluster.state().partition(TOPIC, 0).anywhere = true;
        let metadata = setup.cluster.on(ApiKey::Metadata).always();
        metadata.change(|state| {
            let partition = state.partition(TOPIC, 0);
            partition.leader = 3 - partition.leader;
        });
    })
    .await
}

async fn streamnative_ursa(client: &str) -> String {
    outcome(client, Release::Leaderless, |_| {}).await
}

async fn alibaba_cloud(client: &str) -> String {
    outcome(client, Release::ZeroEpochs, |_| {}).await
}

/// These run Apache Kafka's own code, with quotas for each cluster: every third answer throttles.
async fn msk_serverless_confluent_cloud_automq(client: &str) -> String {
    outcome(client, Release::V3_1, |setup| {
        const THROTTLE: Duration = Duration::from_millis(100);
        let every = || setup.cluster.on_fetch().every(3);
        every().fetch(|answer| {
            answer.throttle_time_ms = 100;
            answer.responses.clear();
        });
        every().deliver(script::Delivery::Hold(THROTTLE));
    })
    .await
}

/// What comes of queries, look-ups and a job of a client.
async fn outcome(client: &str, service: Release, quirk: impl Fn(&Setup)) -> String {
    let setup = async || {
        let settings = [("fetch.message.max.bytes", "4000")];
        let mut setup = Setup::with(&[service; 2], vec![plain_log()], &settings).await;
        if client == "librdkafka" {
            let settings = [
                ("kafka.client", client),
                ("fetch.message.max.bytes", "4000"),
            ];
            let config = config(&setup.cluster, &settings);
            setup.client = Arc::new(LibrdkafkaClient::connect(&config).unwrap());
        }
        let plain = |state: &mut State| {
            state.topics.get_mut(TOPIC).unwrap().cleanup_policy = "delete";
        };
        plain(&mut setup.cluster.state());
        quirk(&setup);
        setup
    };
    setup().await.reads_all().await;
    look_ups(&setup().await).await;
    job(&setup().await).await
}

async fn look_ups(setup: &Setup) {
    let described = setup.client.describe(TopicSelection::All).await.unwrap();
    assert_eq!(&*described.topics[0].name, TOPIC);
    let query = |at| OffsetQuery {
        partition: TopicPartition::new(TOPIC, 0),
        at,
    };
    let asked = [
        (OffsetAt::Earliest, Some(0)),
        (OffsetAt::Latest, Some(END)),
        // The first record of a batch: fake brokers look no further.
        (OffsetAt::Timestamp(FIRST_TIMESTAMP_MS + 20_000), Some(20)),
        (OffsetAt::Timestamp(i64::MAX), None),
    ];
    let queries = asked.map(|(at, _)| query(at));
    let found = setup.client.list_offsets(&queries, ReadCommitted).await;
    let found: Vec<_> = found.unwrap().iter().map(|a| a.offset).collect();
    assert_eq!(found, asked.map(|(_, offset)| offset));
    // A range below the log start is an error, or a loss that is counted.
    setup.cluster.state().partition(TOPIC, 0).log.start = 100;
    let error = setup.read(50, END).await.failure();
    assert_eq!(error.kind(), ErrorKind::DataUnavailable, "{error}");
    let skipping = ReadRequest {
        on_data_loss: OnDataLoss::Skip,
        ..request(vec![of_partition(0, 50, END)])
    };
    let outcome = setup.run(skipping).await;
    assert_eq!((outcome.whole().len(), outcome.lost_offsets), (200, 50));
}

/// A job that goes on after the topic has grown.
async fn job(setup: &Setup) -> String {
    let (sink, log) = (MemorySink::new("out"), tempfile::tempdir().unwrap());
    let run = async || setup.job(&sink, &log).await.run(&Stop::new()).await;
    assert_eq!(run().await.unwrap().rows, 300);
    let grow = |log: &mut Log| log.extend(&numbered(40), BATCH);
    grow(&mut setup.cluster.state().partition(TOPIC, 0).log);
    match run().await {
        Ok(summary) => {
            let rows: usize = sink.rows().iter().map(RecordBatch::num_rows).sum();
            assert_eq!((summary.rows, rows), (40, 340));
            "exact".to_owned()
        }
        Err(Error::Truncated { .. }) => "exact, jobs stop with Truncated".to_owned(),
        Err(error) => error.to_string(),
    }
}
