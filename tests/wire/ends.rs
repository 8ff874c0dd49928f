//! Answers without records, and logs that begin or end elsewhere than the reader expects: gaps, cleaned and cut
//! logs.

use bytes::Bytes;
use datafusion_kafka::ErrorKind;
use datafusion_kafka::client::{OnDataLoss, ReadRequest};
use datafusion_kafka::range::TopicPartition;
use kafka_protocol::messages::fetch_response::{EpochEndOffset, PartitionData};

use super::broker::Release;
use super::script::Delivery;
use super::{BATCH, END, READ_TIMEOUT, RECORDS, Setup, TOPIC, of_partition, plain_log};
use crate::conformance::reading::{request, span};

fn empty(part: &mut PartitionData) {
    part.records = Some(Bytes::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_answer_is_not_taken_for_a_gap() {
    let setup = Setup::new().await;
    setup.cluster.on_fetch().after(1).times(3).parts(empty);
    setup.reads_all().await;
}

/// A broker that reads too slowly from a remote tier sends an empty answer after the time that the request
/// allows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_answers_of_a_slow_tier_are_not_taken_for_a_gap() {
    let setup = Setup::new().await;
    let when = || setup.cluster.on_fetch().after(1).always();
    when().parts(empty);
    when().deliver(Delivery::Late(READ_TIMEOUT / 4));
    let (rows, error) = setup.fails().await;
    assert!(rows > 0 && rows < END);
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("orders[0]@{rows}: no progress for ")),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn end_of_a_range_that_was_cleaned_away_is_a_gap() {
    let mut log = plain_log();
    log.end += 50;
    let setup = Setup::with(&[Release::V4_1], vec![log], &[]).await;
    let outcome = setup.read(0, END + 50).await;
    assert_eq!(outcome.offsets(), span(0, END));
    assert_eq!(outcome.passed.gap, 50);
}

/// A broker, or something in between, that sends no record at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_answers_are_no_gap_where_a_look_up_names_a_record() {
    let setup = Setup::new().await;
    setup.cluster.on_fetch().always().parts(empty);
    let (rows, error) = setup.fails().await;
    assert_eq!(rows, 0);
    assert_eq!(
        error.to_string(),
        "orders[0]@0: the broker sends no records up to 300, and names 0 as a record's offset: it is \
         at fault, or what stands between"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_answers_are_no_gap_in_a_topic_that_is_not_compacted() {
    let setup = Setup::new().await;
    {
        let mut state = setup.cluster.state();
        state.topics.get_mut(TOPIC).unwrap().cleanup_policy = "delete";
    }
    setup.cluster.on_fetch().after(1).always().parts(empty);
    let (rows, error) = setup.fails().await;
    assert!(rows > 0);
    assert_eq!(
        error.to_string(),
        format!(
            "orders[0]@{rows}: the broker sends no records up to 300, although its log goes on and \
             the topic is not compacted ('cleanup.policy' is 'delete'): it is at fault, or what \
             stands between; if the topic was compacted before, end the range at {rows}"
        )
    );
}

/// Earlier gaps show that the log was compacted, whatever its policy is now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn end_of_a_range_that_was_cleaned_away_before_the_policy_was_changed_is_a_gap() {
    let mut log = plain_log();
    log.batches.remove(3);
    log.end += 50;
    let setup = Setup::with(&[Release::V4_1], vec![log], &[]).await;
    {
        let mut state = setup.cluster.state();
        state.topics.get_mut(TOPIC).unwrap().cleanup_policy = "delete";
    }
    let outcome = setup.read(0, END + 50).await;
    assert_eq!(outcome.whole().len(), RECORDS - BATCH);
    assert_eq!(outcome.passed.gap, 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_high_watermark_is_waited_out() {
    let setup = Setup::new().await;
    setup.cluster.on_fetch().after(1).times(6).parts(|part| {
        part.high_watermark = 40;
        part.last_stable_offset = 40;
        empty(part);
    });
    setup.reads_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn range_beyond_the_log_is_an_error() {
    let setup = Setup::new().await;
    let outcome = setup.read(290, END + 1).await;
    assert_eq!(outcome.rows.len(), 10);
    let text = outcome.failure().to_string();
    assert_eq!(
        text,
        "orders[0]@301: the range ends beyond the log, which ends at 300 (read_committed); \
         end the range at 300 or write 'end'"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn diverging_epoch_is_an_error() {
    let setup = Setup::new().await;
    setup.cluster.on_fetch().after(1).always().parts(|part| {
        empty(part);
        part.diverging_epoch = EpochEndOffset::default().with_epoch(4).with_end_offset(20);
    });
    let (rows, error) = setup.fails().await;
    assert_eq!(
        error.to_string(),
        format!(
            "orders[0]@{rows}: the log was cut at 20 by the loss of a leader: its records 20..{rows} are in \
             no log any more, and others may stand at these offsets; what was read before may be of \
             either log: run the query again"
        )
    );
    assert_eq!(error.kind(), ErrorKind::DataUnavailable);
}

/// When the range was taken, its last record was of epoch 5 or before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_a_later_epoch_than_the_range_can_have_are_an_error() {
    let setup = Setup::new().await;
    for batch in &mut setup.cluster.state().partition(TOPIC, 0).log.batches {
        let epoch: i32 = if batch.base < 200 { 5 } else { 6 };
        let mut bytes = batch.bytes.to_vec();
        // Behind the base offset and the length; the checksum does not cover it.
        bytes[12..16].copy_from_slice(&epoch.to_be_bytes());
        batch.bytes = bytes.into();
    }
    let mut request = request(vec![of_partition(0, 0, END)]);
    let partition = TopicPartition::new(TOPIC, 0);
    request.newest_epochs.insert(partition.clone(), 5);
    let outcome = setup.run(request.clone()).await;
    assert_eq!(outcome.rows.len(), 200);
    assert_eq!(
        outcome.failure().to_string(),
        "orders[0]@300: the log was cut at 200 by the loss of a leader: its records 200..300 are in no log any \
         more, and others may stand at these offsets; what was read before may be of either log: run \
         the query again"
    );
    request.newest_epochs.insert(partition, 6);
    assert_eq!(setup.run(request).await.rows.len(), RECORDS);
}

/// A leader assumes that the epoch in a request belongs to the record before the position.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_between_two_ranges_may_have_other_epochs() {
    let setup = Setup::new().await;
    let ranges = vec![of_partition(0, 0, 10), of_partition(0, 250, 260)];
    let outcome = setup.run(request(ranges)).await;
    assert_eq!(outcome.rows.len(), 20);
    let fetches = setup.cluster.fetches();
    let asked: Vec<(i64, i32)> = fetches
        .iter()
        .flat_map(|fetch| {
            fetch
                .parts
                .iter()
                .map(|part| (part.offset, part.last_epoch))
        })
        .collect();
    assert!(asked.contains(&(250, -1)), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_start_that_passes_the_reader_is_an_error_or_is_counted() {
    let cleaned = |setup: &Setup| {
        setup.cluster.on_fetch().after(1).change(|state| {
            let log = &mut state.partition(TOPIC, 0).log;
            log.start = 200;
            log.batches.retain(|b| b.base >= 200);
        });
    };
    let setup = Setup::new().await;
    cleaned(&setup);
    let (rows, error) = setup.fails().await;
    let lost = 200 - rows;
    let expected =
        format!("orders[0]@{rows}: the log now starts at 200, {lost} offsets of the range");
    assert!(error.to_string().starts_with(&expected), "{error}");
    let setup = Setup::new().await;
    cleaned(&setup);
    let outcome = setup
        .run(ReadRequest {
            on_data_loss: OnDataLoss::Skip,
            ..request(vec![of_partition(0, 0, END)])
        })
        .await;
    assert_eq!(outcome.lost_offsets, lost);
    assert_eq!(
        outcome.offsets().len(),
        RECORDS - usize::try_from(lost).unwrap()
    );
}
