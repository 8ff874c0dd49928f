//! Looking up offsets when leaders are silent, refuse or are missing, and when only some of the hosts answer.

use std::time::Instant;

use datafusion_kafka::client::{OffsetAt, OffsetQuery, TopicSelection};
use datafusion_kafka::range::{IsolationLevel, TopicPartition};
use datafusion_kafka::{Error, ErrorKind};
use kafka_protocol::messages::ApiKey;

use super::broker::Release;
use super::leaders::expect_no_leader;
use super::script::Delivery;
use super::{END, SOON, Setup, TOPIC, code, plain_log};

impl Setup {
    /// The end of partition 0, or the error.
    pub async fn end(&self) -> Result<Option<i64>, Error> {
        let query = OffsetQuery {
            partition: TopicPartition::new(TOPIC, 0),
            at: OffsetAt::Latest,
        };
        let committed = IsolationLevel::ReadCommitted;
        let started = Instant::now();
        let answers = self.client.list_offsets(&[query], committed).await;
        assert!(started.elapsed() < SOON);
        Ok(answers?[0].offset)
    }

    /// `host:port (broker N)`, as errors name it.
    fn named(&self, node: i32) -> String {
        let port = self.cluster.state().node(node).port;
        format!("127.0.0.1:{port} (broker {node})")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partition_without_a_leader_is_named_with_its_replicas() {
    let setup = Setup::new().await;
    {
        let mut state = setup.cluster.state();
        state.move_leader(TOPIC, -1);
        state.partition(TOPIC, 0).followers = vec![2];
        // One of three hosts is down too.
        state.node(2).down = true;
    }
    expect_no_leader(&setup.end().await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_leader_is_named_with_what_was_asked() {
    let setup = Setup::new().await;
    let offsets = || setup.cluster.on(ApiKey::ListOffsets);
    offsets().at(1).always().deliver(Delivery::Silence);
    let error = setup.end().await.unwrap_err();
    let text = error.to_string();
    let start = format!(
        "cannot reach Kafka at {}: listing offsets of orders[0]: broker ",
        setup.named(1)
    );
    assert!(text.starts_with(&start), "{text}");
    assert!(text.contains(" does not answer within "), "{text}");
    assert!(text.contains("; gave up after "), "{text}");
    assert_eq!(error.kind(), ErrorKind::Connection);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn successor_of_a_silent_leader_is_asked() {
    let setup = Setup::new().await;
    let offsets = || setup.cluster.on(ApiKey::ListOffsets);
    offsets().at(1).always().deliver(Delivery::Silence);
    offsets().at(1).change(|state| state.move_leader(TOPIC, 2));
    assert_eq!(setup.end().await.unwrap(), Some(END));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_that_refuses_is_named_with_its_answer() {
    let setup = Setup::new().await;
    let offsets = || setup.cluster.on(ApiKey::ListOffsets);
    offsets().always().offsets(|answer| {
        answer.topics[0].partitions[0].error_code = code::NOT_LEADER_OR_FOLLOWER;
    });
    let error = setup.end().await.unwrap_err();
    let text = error.to_string();
    let start = format!(
        "cannot reach Kafka at {}: listing offsets of orders[0]: NotLeaderOrFollower; gave up after ",
        setup.named(1)
    );
    assert!(text.starts_with(&start), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_that_speaks_another_protocol_is_passed_over() {
    const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let setup = Setup::new().await;
    let versions = || setup.cluster.on(ApiKey::ApiVersions);
    versions()
        .at(1)
        .always()
        .deliver(Delivery::Bytes(HTTP.to_vec()));
    let described = setup.client.describe(TopicSelection::All).await.unwrap();
    assert_eq!(described.topics.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_never_answer_are_passed_over() {
    let setup = Setup::with(&[Release::V4_1; 5], vec![plain_log()], &[]).await;
    for silent in 1..=4 {
        let versions = setup.cluster.on(ApiKey::ApiVersions);
        versions.at(silent).always().deliver(Delivery::Silence);
    }
    let described = setup.client.describe(TopicSelection::All).await.unwrap();
    assert_eq!(described.brokers.len(), 5);
}

/// A broker that missed a change of leaders reports an older epoch. The newest of all counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newest_leader_epoch_is_asked_of_every_broker() {
    let setup = Setup::with(&[Release::V2_1; 2], vec![plain_log()], &[]).await;
    let stale = |node: i32| {
        let metadata = setup.cluster.on(ApiKey::Metadata).at(node).always();
        metadata.metadata(|answer| answer.topics[0].partitions[0].leader_epoch = 3);
    };
    let partitions = [TopicPartition::new(TOPIC, 0)];
    let newest = async || setup.client.newest_epochs(&partitions).await;
    stale(1);
    assert_eq!(newest().await.unwrap(), [Some(5)]);
    stale(2);
    assert_eq!(newest().await.unwrap(), [Some(3)]);
    // A broker that does not answer might know a newer epoch.
    let metadata = || setup.cluster.on(ApiKey::Metadata);
    metadata().at(2).always().deliver(Delivery::Silence);
    let error = newest().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
}
