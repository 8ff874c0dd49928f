//! Brokers that throttle the client because its quota is used up (KIP-124, KIP-219). They answer immediately,
//! to Fetch without partitions, and leave the next request unread for a while.

use std::time::Duration;

use datafusion_kafka::{Error, ErrorKind};
use futures::StreamExt;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::FetchResponse;

use super::broker::Release;
use super::script::Delivery;
use super::{END, READ_TIMEOUT, RECORDS, Setup, of_partition, plain_log};
use crate::conformance::numbered;
use crate::conformance::reading::request;

/// Changes an answer to one that throttles the client, as brokers send it.
fn hold_back(throttle: Duration) -> impl Fn(&mut FetchResponse) + Send + Sync {
    move |answer| {
        answer.throttle_time_ms = i32::try_from(throttle.as_millis()).unwrap();
        answer.responses.clear();
    }
}

impl Setup {
    /// Throttles the client `times` times from the second Fetch on.
    fn hold_back(&self, times: usize, throttle: Duration) {
        let when = || self.cluster.on_fetch().after(1).times(times);
        when().fetch(hold_back(throttle));
        when().deliver(Delivery::Hold(throttle));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_without_partitions_are_waited_out() {
    let usual = Setup::new().await;
    usual.reads_all().await;
    let usual = usual.cluster.fetches().len();
    // More often than the client retries an answer without an explanation, and longer than a read may go
    // without progress.
    let (times, throttle) = (8, READ_TIMEOUT / 6);
    let setup = Setup::new().await;
    setup.hold_back(times, throttle);
    let outcome = setup.reads_all().await;
    assert_eq!(setup.cluster.fetches().len(), usual + times);
    let least = throttle * u32::try_from(times).unwrap();
    assert!(outcome.throttled >= least, "{:?}", outcome.throttled);
    assert!(outcome.throttled <= outcome.took);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_with_records_are_read_before_waiting() {
    let setup = Setup::new().await;
    let when = || setup.cluster.on_fetch().times(2);
    when().fetch(|answer| answer.throttle_time_ms = 100);
    when().deliver(Delivery::Hold(Duration::from_millis(100)));
    let outcome = setup.reads_all().await;
    assert!(outcome.throttled >= Duration::from_millis(200));
}

/// Before KIP-219 the answer itself comes late, so there is nothing left to wait for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_brokers_have_waited_already() {
    let settings = [("fetch.message.max.bytes", "4000")];
    let setup = Setup::with(&[Release::V1_0], vec![plain_log()], &settings).await;
    setup
        .cluster
        .on_fetch()
        .always()
        .fetch(|answer| answer.throttle_time_ms = 1_000_000);
    let outcome = setup.reads_all().await;
    assert_eq!(outcome.throttled, Duration::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_take_turns_are_held_back_together() {
    let settings = [
        ("client.sessions.max", "1"),
        ("fetch.message.max.bytes", "4000"),
    ];
    let setup = Setup::with(&[Release::V4_1], vec![plain_log(); 4], &settings).await;
    // While it exists, it keeps the only connection that a stream can have to itself.
    let mut keeper = setup.client.read(request(vec![of_partition(3, 0, END)]));
    keeper.next().await.unwrap().unwrap();
    let throttle = READ_TIMEOUT / 6;
    setup.hold_back(8, throttle);
    let reads = (0..3).map(|p| setup.run(request(vec![of_partition(p, 0, END)])));
    for outcome in futures::future::join_all(reads).await {
        assert_eq!(outcome.records(), numbered(RECORDS));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holding_back_for_hours_is_an_error_at_once() {
    let setup = Setup::new().await;
    setup.hold_back(usize::MAX, Duration::from_secs(10_000));
    let (rows, error) = setup.fails().await;
    let text = error.to_string();
    let start = format!("orders[0]@{rows}: no progress for ");
    assert!(text.starts_with(&start), "{text}");
    let port = setup.cluster.state().nodes[0].port;
    let reason = format!(": broker 127.0.0.1:{port} holds this client back (quota), now for ");
    assert!(text.contains(&reason), "{text}");
    assert_eq!(error.kind(), ErrorKind::Connection);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holding_back_without_end_is_an_error_in_time() {
    let settings = [("read.timeout.ms", "400")];
    let setup = Setup::with(&[Release::V4_1], vec![plain_log()], &settings).await;
    let always = || setup.cluster.on_fetch().always();
    always().fetch(hold_back(Duration::from_millis(160)));
    let (_, error) = setup.fails().await;
    let Error::Stalled { reason, .. } = &error else {
        panic!("{error}");
    };
    assert!(reason.contains("holds this client back (quota)"), "{error}");
    let fetches = setup.cluster.fetches().len();
    assert!((2..50).contains(&fetches), "{fetches} Fetches");
}

/// A question waits until the broker reads again. This waiting does not count as silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_wait_too() {
    let settings = [("request.timeout.ms", "1000")];
    let setup = Setup::with(&[Release::V4_1], vec![plain_log()], &settings).await;
    setup.end().await.unwrap();
    let offsets = || setup.cluster.on(ApiKey::ListOffsets);
    offsets().offsets(|answer| answer.throttle_time_ms = 2500);
    offsets().deliver(Delivery::Hold(Duration::from_millis(2500)));
    assert_eq!(setup.end().await.unwrap(), Some(END));
    assert_eq!(setup.end().await.unwrap(), Some(END));
}
