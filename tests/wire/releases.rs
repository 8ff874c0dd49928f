//! Brokers of other releases, which support other versions of the requests.

use datafusion_kafka::client::{EpochQuery, OffsetAt, OffsetQuery, TopicSelection};
use datafusion_kafka::range::TopicPartition;
use kafka_protocol::messages::ApiKey;

use super::broker::Release;
use super::{END, RECORDS, Setup, TOPIC, of_partition, plain_log};
use crate::conformance::reading::{ReadCommitted, request};

const ALL: [(Release, i16); 5] = [
    (Release::V1_0, 6),
    (Release::V2_1, 10),
    (Release::V2_8, 12),
    (Release::V3_1, 13),
    (Release::V4_1, 17),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_read_in_its_newest_version() {
    for (release, version) in ALL {
        let settings = [("fetch.message.max.bytes", "4000")];
        let setup = Setup::with(&[release], vec![plain_log()], &settings).await;
        setup.reads_all().await;
        let fetches = setup.cluster.fetches();
        assert!(fetches.iter().all(|f| f.version == version), "{release:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_described_and_asked_for_offsets() {
    for (release, _) in ALL {
        let setup = Setup::with(&[release; 2], vec![plain_log(); 3], &[]).await;
        let described = setup.client.describe(TopicSelection::All).await.unwrap();
        let topic = &described.topics[0];
        assert_eq!((&*topic.name, topic.partitions.len()), (TOPIC, 3));
        let gives_ids = !matches!(release, Release::V1_0 | Release::V2_1);
        assert_eq!(topic.id.is_some(), gives_ids, "{release:?}");
        let second = TopicPartition::new(TOPIC, 1);
        let at = [
            OffsetAt::Earliest,
            OffsetAt::Latest,
            OffsetAt::Timestamp(i64::MAX),
        ];
        let queries = at.map(|at| OffsetQuery {
            partition: second.clone(),
            at,
        });
        let answers = setup
            .client
            .list_offsets(&queries, ReadCommitted)
            .await
            .unwrap();
        let offsets: Vec<_> = answers.iter().map(|a| a.offset).collect();
        assert_eq!(offsets, [Some(0), Some(END), None], "{release:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_partitions_of_each() {
    for (release, _) in ALL {
        let setup = Setup::with(&[release; 3], vec![plain_log(); 7], &[]).await;
        let ranges = (0..7).map(|p| of_partition(p, 5, END)).collect();
        let outcome = setup.run(request(ranges)).await;
        assert_eq!(outcome.whole().len(), 7 * (RECORDS - 5), "{release:?}");
    }
}

/// There are more streams than connections, so a task receives an answer. It makes its request before it
/// knows the version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_in_turns_on_each() {
    for (release, _) in ALL {
        let settings = [
            ("client.sessions.max", "1"),
            ("fetch.message.max.bytes", "4000"),
        ];
        let setup = Setup::with(&[release], vec![plain_log()], &settings).await;
        let reads = (0..4).map(|_| setup.reads_all());
        futures::future::join_all(reads).await;
    }
}

/// Brokers that do not know the request cannot tell where leader epochs end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_epochs_of_brokers_that_do_not_tell_them() {
    let setup = Setup::with(&[Release::V1_0], vec![plain_log()], &[]).await;
    let partition = TopicPartition::new(TOPIC, 0);
    let query = EpochQuery {
        partition: partition.clone(),
        leader_epoch: None,
        epoch: 5,
    };
    assert_eq!(setup.client.epoch_ends(&[query]).await.unwrap(), [None]);
    let latest = OffsetQuery {
        partition,
        at: OffsetAt::Latest,
    };
    let end = setup.client.list_offsets(&[latest], ReadCommitted).await;
    assert_eq!(end.unwrap()[0].leader_epoch, None);
}

/// They would create a topic that a client names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_from_before_0_11_are_refused_by_name() {
    let setup = Setup::with(&[Release::V0_10], vec![plain_log()], &[]).await;
    let described = setup.client.describe(TopicSelection::All).await;
    let (read, error) = setup.fails().await;
    assert_eq!(read, 0);
    for error in [error, described.unwrap_err()] {
        let broker = setup.cluster.bootstrap();
        let expected = format!(
            "broker {broker} is older than Kafka 0.11, the oldest release that can be read"
        );
        assert!(error.to_string().ends_with(&expected), "{error}");
    }
}

/// Before Kafka 2.4, brokers may tell a leader's former epoch for ever (KAFKA-9212).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_leader_epochs_of_old_brokers_are_not_sent_back() {
    let setup = Setup::with(&[Release::V2_1], vec![plain_log()], &[]).await;
    let metadata = setup.cluster.on(ApiKey::Metadata).always();
    metadata.metadata(|answer| {
        let partitions = answer.topics.iter_mut().flat_map(|t| &mut t.partitions);
        partitions.for_each(|p| p.leader_epoch -= 1);
    });
    let latest = OffsetQuery {
        partition: TopicPartition::new(TOPIC, 0),
        at: OffsetAt::Latest,
    };
    let found = setup.client.list_offsets(&[latest], ReadCommitted).await;
    assert_eq!(found.unwrap()[0].offset, Some(END));
    setup.reads_all().await;
}

/// During an upgrade, a cluster has brokers of two releases.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_in_the_midst_of_an_upgrade() {
    let releases = [Release::V2_8, Release::V4_1];
    let settings = [("fetch.message.max.bytes", "4000")];
    let setup = Setup::with(&releases, vec![plain_log()], &settings).await;
    setup.cluster.on_fetch().every(4).change(|state| {
        let other = 3 - state.partition(TOPIC, 0).leader;
        state.move_leader(TOPIC, other);
    });
    setup.reads_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newer_versions_are_given_up_where_the_broker_does_not_know_them() {
    let setup = Setup::with(&[Release::V1_0], vec![plain_log()], &[]).await;
    setup.reads_all().await;
    // The first connection asks twice: in version 3, which is refused, then in version 0.
    let asked = setup.cluster.state().requests[&(ApiKey::ApiVersions as i16)];
    assert_eq!(asked % 2, 0);
}
