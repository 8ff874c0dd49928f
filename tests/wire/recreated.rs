//! Topics that were deleted and created again, so that their offsets refer to other records.

use std::collections::BTreeMap;

use datafusion_kafka::Error;
use datafusion_kafka::client::{ReadRequest, TopicSelection};
use kafka_protocol::messages::ApiKey;

use super::broker::Release;
use super::log::Log;
use super::{END, Setup, TOPIC, of_partition, plain_log};
use crate::conformance::numbered;
use crate::conformance::reading::request;

const WITH_IDS: [Release; 3] = [Release::V2_8, Release::V3_1, Release::V4_1];

/// A client that already knows the topic, and a request with the topic's id.
async fn warm(release: Release) -> (Setup, ReadRequest) {
    let settings = [("fetch.message.max.bytes", "4000")];
    let setup = Setup::with(&[release], vec![plain_log()], &settings).await;
    setup.read(0, 10).await.whole();
    let described = setup.client.describe(TopicSelection::All).await.unwrap();
    let id = described.topics[0].id.clone().unwrap();
    let request = ReadRequest {
        topic_ids: BTreeMap::from([(TOPIC.into(), id)]),
        batch_rows: 50,
        ..request(vec![of_partition(0, 0, END)])
    };
    (setup, request)
}

/// Another log for the same topic name, longer than the first.
fn other_log() -> Log {
    let mut log = Log::default();
    let other = numbered(900).into_iter().rev();
    log.extend(&other.collect::<Vec<_>>(), 10);
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_read_is_refused_without_a_row() {
    for release in WITH_IDS {
        let (setup, request) = warm(release).await;
        setup.cluster.create(TOPIC, vec![other_log()]);
        let outcome = setup.run(request).await;
        assert_eq!(outcome.rows.len(), 0, "{release:?}");
        let error = outcome.failure();
        assert!(
            matches!(error, Error::TopicRecreated { .. }),
            "{release:?}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_midst_of_the_read_is_an_error() {
    for release in WITH_IDS {
        let (setup, request) = warm(release).await;
        let on = setup.cluster.on_fetch().after(2);
        on.change(|state| state.create(TOPIC, vec![other_log()]));
        let outcome = setup.run(request).await;
        let error = outcome.failure();
        assert!(
            matches!(error, Error::TopicRecreated { .. }),
            "{release:?}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_without_an_id_reads_the_new_topic() {
    for release in WITH_IDS {
        let (setup, _) = warm(release).await;
        setup.cluster.create(TOPIC, vec![other_log()]);
        let mut expected = numbered(900);
        expected.reverse();
        expected.truncate(300);
        let outcome = setup.read(0, END).await;
        assert_eq!(outcome.records(), expected, "{release:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_topic_is_an_error() {
    for release in WITH_IDS {
        let (setup, request) = warm(release).await;
        setup.cluster.on_fetch().after(1).change(|state| {
            state.topics.remove(TOPIC);
        });
        let error = setup.run(request).await.failure();
        let text = error.to_string();
        assert_eq!(
            text, "topic 'orders' does not exist or may not be described",
            "{release:?}"
        );
    }
}

/// A broker may learn about a new topic later than the one that described it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topic_that_a_leader_does_not_know_yet() {
    let setup = Setup::new().await;
    setup
        .cluster
        .on_fetch()
        .times(3)
        .refuse(super::code::UNKNOWN_TOPIC_ID);
    setup
        .cluster
        .on(ApiKey::Metadata)
        .times(1)
        .metadata(|answer| {
            answer.topics[0].error_code = 5;
            answer.topics[0].partitions.clear();
        });
    setup.reads_all().await;
}
