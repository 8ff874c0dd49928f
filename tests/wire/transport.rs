//! Connections that break, hang, or speak another protocol.

use datafusion_kafka::client::{OffsetAt, OffsetQuery, TopicSelection};
use datafusion_kafka::range::TopicPartition;
use kafka_protocol::messages::ApiKey;

use super::broker::Release;
use super::script::Delivery;
use super::{READ_TIMEOUT, SOON, Setup, TOPIC, plain_log};
use crate::conformance::reading::ReadCommitted;

const APIS: [ApiKey; 3] = [ApiKey::ApiVersions, ApiKey::Metadata, ApiKey::Fetch];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_closed_instead_of_an_answer() {
    for api in APIS {
        for skip in [0, 1] {
            let setup = Setup::new().await;
            setup.cluster.on(api).after(skip).deliver(Delivery::Close);
            setup.reads_all().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_cut_anywhere_within_an_answer() {
    for api in APIS {
        for bytes in [1, 4, 7, 8, 9, 15, 30, 50, 70, 100, 130, 700, 2000, 3990] {
            let setup = Setup::new().await;
            setup.cluster.on(api).deliver(Delivery::CloseAfter(bytes));
            setup.reads_all().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_last_for_half_an_answer_are_enough() {
    let setup = Setup::new().await;
    setup
        .cluster
        .on_fetch()
        .always()
        .deliver(Delivery::CloseAfter(2000));
    setup.reads_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_where_every_first_attempt_fails() {
    let setup = Setup::new().await;
    // Numbers without a common divisor, so that no request meets a closed connection every time.
    for (api, every) in APIS.into_iter().zip([3, 2, 2]) {
        setup.cluster.on(api).every(every).deliver(Delivery::Close);
    }
    setup.reads_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_never_give_records_are_an_error_in_time() {
    let setup = Setup::new().await;
    setup
        .cluster
        .on_fetch()
        .after(2)
        .always()
        .deliver(Delivery::Close);
    let (rows, error) = setup.fails().await;
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("orders[0]@{rows}: no progress for ")),
        "{text}"
    );
    let node = setup.cluster.state().nodes[0].port;
    let reason = format!("broker 127.0.0.1:{node} closed the connection");
    assert!(text.contains(&reason), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_in_small_pieces() {
    let setup = Setup::new().await;
    setup
        .cluster
        .on_fetch()
        .always()
        .deliver(Delivery::Pieces(13));
    setup.reads_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_come_late() {
    let settings = [("fetch.message.max.bytes", "2000")];
    let setup = Setup::with(&[Release::V4_1], vec![plain_log()], &settings).await;
    let late = READ_TIMEOUT / 6;
    setup
        .cluster
        .on_fetch()
        .times(8)
        .deliver(Delivery::Late(late));
    // Together they take longer than a read may go without progress.
    let outcome = setup.reads_all().await;
    assert!(outcome.took > READ_TIMEOUT, "it took {:?}", outcome.took);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_an_error_in_time() {
    for silence in [Delivery::Silence, Delivery::SilenceAfter(2000)] {
        let setup = Setup::new().await;
        setup.cluster.on_fetch().after(1).always().deliver(silence);
        let (rows, error) = setup.fails().await;
        assert!(rows > 0, "the answer before it had records");
        let text = error.to_string();
        let start = format!("orders[0]@{rows}: no progress for ");
        assert!(text.starts_with(&start), "{text}");
        assert!(
            text.contains(" the range ends at 300: the broker sends nothing"),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_broker_is_passed_over_by_questions() {
    let setup = Setup::new().await;
    setup
        .cluster
        .on(ApiKey::Metadata)
        .at(1)
        .always()
        .deliver(Delivery::Silence);
    let described = setup.client.describe(TopicSelection::All).await.unwrap();
    assert_eq!(described.topics.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_correlation_id_is_an_error() {
    let setup = Setup::new().await;
    let damaged = || setup.cluster.on_fetch().after(1);
    // Once may be a fault of the network.
    damaged().deliver(Delivery::OtherId);
    setup.reads_all().await;
    damaged().always().deliver(Delivery::OtherId);
    let (rows, error) = setup.fails().await;
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("orders[0]@{rows}: broker 127.0.0.1:")),
        "{text}"
    );
    assert!(
        text.contains("does not answer in Kafka's protocol"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn web_server_is_an_error_that_says_so() {
    const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let setup = Setup::new().await;
    let web = || Delivery::Bytes(HTTP.to_vec());
    setup
        .cluster
        .on(ApiKey::ApiVersions)
        .always()
        .deliver(web());
    let (_, error) = setup.fails().await;
    let text = error.to_string();
    assert!(text.contains("an answer of 1213486160 bytes"), "{text}");
    assert!(
        text.contains("is this the port of another listener or service?"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_an_error() {
    // A frame with the right length and id, but meaningless content.
    let frame = |correlation: u8| {
        let mut frame = vec![0, 0, 0, 204, 0, 0, 0, correlation];
        frame.extend((0..200u8).map(|n| n.wrapping_mul(37) ^ 0xa5));
        frame
    };
    for correlation in [2, 3] {
        let setup = Setup::new().await;
        let after = usize::from(correlation - 2);
        let damaged = || setup.cluster.on_fetch().after(after);
        // Once may be a fault of the network.
        damaged().deliver(Delivery::Bytes(frame(correlation)));
        setup.reads_all().await;
        let bytes = Delivery::Bytes(frame(correlation));
        damaged().always().deliver(bytes);
        let (rows, error) = setup.fails().await;
        let text = error.to_string();
        assert!(text.starts_with(&format!("orders[0]@{rows}: ")), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_broker_at_all_is_an_error_in_time() {
    let setup = Setup::new().await;
    for node in &mut setup.cluster.state().nodes {
        node.down = true;
    }
    let outcome = setup.read(0, 300).await;
    assert!(outcome.took < SOON);
    let text = outcome.failure().to_string();
    let bootstrap = setup.cluster.bootstrap();
    assert!(
        text.starts_with(&format!("cannot reach Kafka at {bootstrap}: ")),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_closed_between_two_reads_are_replaced() {
    let setup = Setup::new().await;
    setup.reads_all().await;
    // Brokers close connections that were idle for long.
    let close = || Delivery::Close;
    setup.cluster.on_fetch().deliver(close());
    setup.reads_all().await;
    setup.cluster.on(ApiKey::Metadata).deliver(close());
    let started = std::time::Instant::now();
    setup.client.describe(TopicSelection::All).await.unwrap();
    assert!(started.elapsed() < SOON);
}

/// `kafka-protocol` reserves memory for as many elements as an array announces. Two billion of them would end
/// the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_beyond_the_answer_are_an_error() {
    const COUNT: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x0f];
    for (api, before) in [
        // After the error; after the header's tagged fields and the throttle time.
        (ApiKey::ApiVersions, 2),
        (ApiKey::Metadata, 5),
        (ApiKey::ListOffsets, 5),
    ] {
        let setup = Setup::new().await;
        let body = [&vec![0; before][..], &COUNT[..], &[0; 20][..]].concat();
        setup.cluster.on(api).always().deliver(Delivery::Body(body));
        let partition = TopicPartition::new(TOPIC, 0);
        let at = OffsetAt::Latest;
        let queries = [OffsetQuery { partition, at }];
        let asked = setup.client.list_offsets(&queries, ReadCommitted);
        let text = asked.await.unwrap_err().to_string();
        let garbled = format!("the answer to {api:?} cannot be read: ");
        assert!(text.contains(&garbled), "{text}");
    }
}
