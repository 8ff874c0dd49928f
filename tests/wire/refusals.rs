//! Answers that refuse, or that are not about what was asked for.

use kafka_protocol::messages::ApiKey;

use super::broker::Release;
use super::{END, Setup, code, of_partition, plain_log};
use crate::conformance::reading::request;

/// Codes after which another attempt may succeed.
const PASSING: [i16; 13] = [
    -1, // unknown server error
    code::OFFSET_OUT_OF_RANGE,
    code::UNKNOWN_TOPIC_OR_PARTITION,
    5, // leader not available
    code::NOT_LEADER_OR_FOLLOWER,
    7, // request timed out
    9, // replica not available
    code::KAFKA_STORAGE_ERROR,
    code::FENCED_LEADER_EPOCH,
    code::UNKNOWN_LEADER_EPOCH,
    code::OFFSET_NOT_AVAILABLE,
    code::UNKNOWN_TOPIC_ID,
    103, // inconsistent topic id
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partition_refused_for_a_moment() {
    for code in PASSING {
        for skip in [0, 1] {
            let setup = Setup::new().await;
            setup.cluster.on_fetch().after(skip).times(2).refuse(code);
            println!("code {code}, Fetch {skip}");
            setup.reads_all().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_request_refused_for_a_moment() {
    for code in PASSING.into_iter().chain([70, 71, 106]) {
        let setup = Setup::new().await;
        setup
            .cluster
            .on_fetch()
            .after(1)
            .times(2)
            .fetch(move |answer| {
                answer.error_code = code;
                answer.responses.clear();
            });
        println!("code {code}");
        setup.reads_all().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lasting_refusals_are_errors_with_coordinates() {
    for (code, expected) in [
        (-1, "UnknownServerError"),
        (code::NOT_LEADER_OR_FOLLOWER, "no progress for "),
        (code::KAFKA_STORAGE_ERROR, "no progress for "),
        (
            code::UNKNOWN_TOPIC_ID,
            "the broker does not know the partition",
        ),
        (code::OFFSET_OUT_OF_RANGE, "OffsetOutOfRange"),
        (2, "CorruptMessage"),
        (code::UNSUPPORTED_VERSION, "UnsupportedVersion"),
        (999, "error 999 of the broker"),
    ] {
        let setup = Setup::new().await;
        setup.cluster.on_fetch().after(2).always().refuse(code);
        let (rows, error) = setup.fails().await;
        assert!(rows > 0, "the answers before it had records");
        let text = error.to_string();
        assert!(text.starts_with(&format!("orders[0]@{rows}: ")), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denied_topic_is_an_error_at_once() {
    let setup = Setup::new().await;
    setup
        .cluster
        .on_fetch()
        .always()
        .refuse(code::TOPIC_AUTHORIZATION_FAILED);
    let (_, error) = setup.fails().await;
    let text = error.to_string();
    assert!(
        text.starts_with("not authorized: READ on topic orders: "),
        "{text}"
    );
    assert_eq!(setup.cluster.fetches().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answer_without_the_partition_is_asked_for_again() {
    let setup = Setup::new().await;
    setup
        .cluster
        .on_fetch()
        .after(1)
        .times(2)
        .fetch(|answer| answer.responses.clear());
    setup.reads_all().await;
    let setup = Setup::new().await;
    setup
        .cluster
        .on_fetch()
        .after(1)
        .always()
        .fetch(|answer| answer.responses.clear());
    let (rows, error) = setup.fails().await;
    assert!(
        error
            .to_string()
            .starts_with(&format!("orders[0]@{rows}: ")),
        "{error}"
    );
    assert!(
        setup.cluster.fetches().len() < 50,
        "it asked without a pause"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answer_for_another_partition_is_an_error() {
    let setup = Setup::new().await;
    setup
        .cluster
        .on_fetch()
        .always()
        .parts(|part| part.partition_index = 7);
    let (_, error) = setup.fails().await;
    let text = error.to_string();
    assert!(
        text.starts_with("orders[0]@0: the broker answers with "),
        "{text}"
    );
    assert!(text.ends_with("[7] instead"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_in_another_order_than_asked() {
    let logs = vec![plain_log(); 6];
    let setup = Setup::with(&[Release::V4_1], logs, &[]).await;
    setup.cluster.on_fetch().always().fetch(|answer| {
        answer
            .responses
            .iter_mut()
            .for_each(|t| t.partitions.reverse());
    });
    let ranges: Vec<_> = (0..6).map(|p| of_partition(p, 10, 20)).collect();
    let outcome = setup.run(request(ranges)).await;
    assert_eq!(
        outcome.offsets(),
        [10, 11, 12, 13, 14, 15, 16, 17, 18, 19].repeat(6)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusal_of_one_partition_does_not_harm_the_others() {
    let logs = vec![plain_log(); 6];
    let setup = Setup::with(&[Release::V4_1], logs, &[]).await;
    setup.cluster.on_fetch().times(3).parts(|part| {
        if part.partition_index % 2 == 1 {
            part.error_code = code::NOT_LEADER_OR_FOLLOWER;
            part.records = None;
        }
    });
    let ranges: Vec<_> = (0..6).map(|p| of_partition(p, 10, 20)).collect();
    let outcome = setup.run(request(ranges)).await;
    assert_eq!(
        outcome.offsets(),
        [10, 11, 12, 13, 14, 15, 16, 17, 18, 19].repeat(6)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_look_ups_are_asked_again() {
    for code in [
        5,
        code::NOT_LEADER_OR_FOLLOWER,
        code::UNKNOWN_LEADER_EPOCH,
        code::OFFSET_NOT_AVAILABLE,
    ] {
        let setup = Setup::new().await;
        setup
            .cluster
            .on(ApiKey::ListOffsets)
            .times(2)
            .offsets(move |answer| {
                for part in answer.topics.iter_mut().flat_map(|t| &mut t.partitions) {
                    part.error_code = code;
                    part.offset = -1;
                }
            });
        let query = datafusion_kafka::client::OffsetQuery {
            partition: of_partition(0, 0, 0).topic_partition(),
            at: datafusion_kafka::client::OffsetAt::Latest,
        };
        let isolation = crate::conformance::reading::ReadCommitted;
        let answers = setup
            .client
            .list_offsets(&[query], isolation)
            .await
            .unwrap();
        assert_eq!(answers[0].offset, Some(END));
    }
}
