//! Answers that refuse, or are empty, damaged, or not what was requested.

use std::sync::atomic::{AtomicBool, Ordering};

use std::sync::Arc;

use bytes::Bytes;
use datafusion_kafka::ErrorKind;
use datafusion_kafka::client::memory::Record;
use datafusion_kafka::client::{MemoryBudget, OnDataLoss, ReadRequest};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::fetch_response::{EpochEndOffset, PartitionData};

use super::broker::Release;
use super::log::{Batch, Log};
use super::script::Delivery;
use super::{BATCH, END, READ_TIMEOUT, RECORDS, Setup, TOPIC, code, of_partition, plain_log};
use crate::conformance::Codec;
use crate::conformance::numbered;
use crate::conformance::reading::{ReadUncommitted, request, span};

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

/// Changes a byte in the second batch.
pub(super) fn damage(part: &mut PartitionData) {
    if let Some(records) = part.records.as_mut().filter(|r| !r.is_empty()) {
        let mut damaged = records.to_vec();
        // In the second batch, so that rows come before the error.
        let first = 12 + u32::from_be_bytes(damaged[8..12].try_into().unwrap()) as usize;
        damaged[first + 100] ^= 1;
        *records = damaged.into();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_records_are_asked_for_again() {
    let setup = Setup::new().await;
    setup.cluster.on_fetch().after(1).parts(damage);
    setup.reads_all().await;
    // The same when the attempt before failed for another reason.
    let setup = Setup::new().await;
    setup
        .cluster
        .on_fetch()
        .after(1)
        .refuse(code::NOT_LEADER_OR_FOLLOWER);
    setup.cluster.on_fetch().after(2).parts(damage);
    setup.reads_all().await;
    // The same with damage at several places.
    let setup = Setup::new().await;
    setup.cluster.on_fetch().every(2).parts(damage);
    setup.reads_all().await;
}

/// Damage in one partition says nothing about the same offset in another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_damaged_once_at_one_offset_of_two_partitions() {
    let settings = [("fetch.message.max.bytes", "4000")];
    let setup = Setup::with(&[Release::V4_1], vec![plain_log(); 2], &settings).await;
    let damaged = [const { AtomicBool::new(false) }; 2];
    setup.cluster.on_fetch().always().parts(move |part| {
        let base = part.records.as_ref().and_then(|r| r.get(..8));
        let at_start = base.is_some_and(|base| base == [0; 8]);
        let partition = usize::try_from(part.partition_index).unwrap();
        if at_start && !damaged[partition].swap(true, Ordering::Relaxed) {
            damage(part);
        }
    });
    let ranges = vec![of_partition(0, 0, END), of_partition(1, 0, END)];
    let outcome = setup.run(request(ranges)).await;
    assert_eq!(outcome.whole().len(), 2 * RECORDS);
}

/// Changes a byte in the third batch of the log.
pub(super) fn damage_value(part: &mut PartitionData) {
    if let Some(records) = &mut part.records {
        let mut damaged = records.to_vec();
        if let Some(at) = damaged.windows(9).position(|w| w == b"value 25\x02") {
            damaged[at] ^= 1;
        }
        *records = damaged.into();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_stay_damaged_are_an_error() {
    let setup = Setup::new().await;
    setup.cluster.on_fetch().always().parts(damage_value);
    let (rows, error) = setup.fails().await;
    assert_eq!(rows, 20);
    assert_eq!(
        error.to_string(),
        "orders[0]@20: the record batch at 20 does not match its checksum, twice in succession; if \
         it stays so, the log of the partition's leader is damaged: move the leader to another \
         replica, or read around it with a range behind it"
    );
    assert!(error.may_pass());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_before_those_asked_for_are_passed_over() {
    let first = |part: &mut PartitionData| {
        part.records = Some(plain_log().slice(0, true, 3000, true));
    };
    let setup = Setup::new().await;
    setup.cluster.on_fetch().after(1).times(2).parts(first);
    setup.reads_all().await;
    let setup = Setup::new().await;
    setup.cluster.on_fetch().after(1).always().parts(first);
    let (rows, error) = setup.fails().await;
    let expected = format!("orders[0]@{rows}: the broker sends other records than asked for");
    assert_eq!(error.to_string(), expected);
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
async fn batch_larger_than_what_is_asked_for() {
    let mut log = Log::default();
    let records = numbered(1000);
    log.extend(&records[..20], 10);
    log.extend(&records[20..980], 960);
    log.extend(&records[980..], 10);
    let setup = Setup::with(
        &[Release::V4_1],
        vec![log],
        &[("fetch.message.max.bytes", "2000")],
    )
    .await;
    let outcome = setup.read(0, 1000).await;
    assert_eq!(outcome.records(), records);
    assert!(
        setup.cluster.fetches().len() < 8,
        "{:?}",
        setup.cluster.fetches()
    );
}

/// Brokers send at least one whole batch. If one does not, the client immediately asks for more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batch_cut_by_the_limit_is_asked_for_with_a_larger_one() {
    let mut log = Log::default();
    log.extend(&numbered(RECORDS), RECORDS);
    let whole = log.batches[0].bytes.clone();
    let cut = move |part: &mut PartitionData, most: usize| {
        part.records = Some(whole.slice(..whole.len().min(most)));
    };
    let small = [("fetch.message.max.bytes", "1000")];
    let setup = Setup::with(&[Release::V4_1], vec![log.clone()], &small).await;
    let cut_once = cut.clone();
    setup
        .cluster
        .on_fetch()
        .times(3)
        .parts(move |part| cut_once(part, 1000));
    setup.reads_all().await;
    let asked: Vec<i32> = setup
        .cluster
        .fetches()
        .iter()
        .map(|f| f.max_bytes)
        .collect();
    assert_eq!(asked, [1000, 2000, 4000, 8000]);
    let settings = [small[0], ("receive.message.max.bytes", "5000")];
    let setup = Setup::with(&[Release::V4_1], vec![log], &settings).await;
    setup
        .cluster
        .on_fetch()
        .always()
        .parts(move |part| cut(part, 1000));
    let (_, error) = setup.fails().await;
    assert_eq!(
        error.to_string(),
        "orders[0]@0: a record batch is larger than 5000 bytes; \
         'receive.message.max.bytes' sets how much is allowed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codecs_holes_and_transactions() {
    let of = |base, producer| Batch::new(base, &numbered(5)).of_producer(producer);
    let mut holes = Batch::new(40, &numbered(10));
    holes.records.retain(|(offset, _)| offset % 2 == 0);
    let log = Log::of(&[
        of(0, 1).packed(Codec::Gzip),
        of(5, 2).packed(Codec::Snappy),
        Batch::marker(10, 1, true),
        of(11, 1).packed(Codec::Lz4),
        Batch::marker(16, 2, false),
        Batch::marker(17, 1, false),
        Batch::new(20, &vec![Record::new("x"); 20]).packed(Codec::Zstd),
        holes,
    ]);
    for most in ["100", "400", "100000"] {
        let settings = [("fetch.message.max.bytes", most)];
        let setup = Setup::with(&[Release::V4_1], vec![log.clone()], &settings).await;
        setup.cluster.on_fetch().every(2).deliver(Delivery::Close);
        let outcome = setup.read(0, 50).await;
        let mut expected = span(5, 10);
        expected.extend(span(11, 16));
        expected.extend(span(20, 40));
        expected.extend([40, 42, 44, 46, 48]);
        assert_eq!(outcome.offsets(), expected);
        let passed = outcome.passed;
        assert_eq!((passed.aborted, passed.control, passed.gap), (5, 3, 2 + 5));
        let all = ReadRequest {
            isolation: ReadUncommitted,
            ..request(vec![of_partition(0, 0, 50)])
        };
        assert_eq!(setup.run(all).await.offsets().len(), expected.len() + 5);
    }
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

/// Grants at most this many bytes at a time.
#[derive(Debug)]
struct Most(usize);

#[async_trait::async_trait]
impl MemoryBudget for Most {
    fn try_take(&self, bytes: usize) -> Result<(), String> {
        let granted = bytes <= self.0;
        granted.then_some(()).ok_or_else(|| "it is too much".into())
    }

    async fn take(&self, bytes: usize) -> Result<(), String> {
        self.try_take(bytes)
    }

    fn give_back(&self, _bytes: usize) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_batch_that_takes_more_memory_than_is_granted_is_named() {
    let large = [Record::new(vec![0; 4 << 20])];
    for (codec, taking) in [
        (Codec::Zstd, "unpacking the record batch takes 41943"),
        (Codec::None, "the record batch takes 41943"),
    ] {
        let log = Log::of(&[
            Batch::new(0, &numbered(5)),
            Batch::new(5, &large).packed(codec),
            Batch::new(6, &numbered(5)),
        ]);
        let setup = Setup::with(&[Release::V4_1], vec![log], &[]).await;
        let read = async |most| {
            let wanted = request(vec![of_partition(0, 0, 11)]);
            let mut batches = setup.client.read_within(wanted, Arc::new(Most(most)));
            let mut rows = 0;
            while let Some(batch) = futures::StreamExt::next(&mut batches).await {
                match batch {
                    Ok(batch) => rows += batch.offsets.len(),
                    Err(error) => return (rows, Some(error)),
                }
            }
            (rows, None)
        };
        let (rows, error) = read(2 << 20).await;
        let error = error.expect("it does not fit");
        assert_eq!(error.kind(), datafusion_kafka::ErrorKind::Memory);
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("orders[0]@5: {taking}")),
            "{text}"
        );
        assert!(text.ends_with(": it is too much"), "{text}");
        assert_eq!(rows, 5, "the rows before it");
        let (rows, error) = read(8 << 20).await;
        assert!(rows == 11 && error.is_none(), "{rows} {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_batch_that_unpacks_to_more_than_the_setting_is_named() {
    let large = [Record::new(vec![0; 4 << 20])];
    let log = Log::of(&[
        Batch::new(0, &numbered(5)),
        Batch::new(5, &large).packed(Codec::Gzip),
    ]);
    let settings = [("receive.message.max.bytes", "2000000")];
    let setup = Setup::with(&[Release::V4_1], vec![log], &settings).await;
    let outcome = setup.read(0, 6).await;
    assert_eq!(outcome.rows.len(), 5);
    assert_eq!(
        outcome.failure().to_string(),
        "orders[0]@5: the record batch unpacks to more than 2000000 bytes; \
         'receive.message.max.bytes' sets how much is allowed"
    );
}
