//! Record batches that are damaged, larger than expected, packed, or not those asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion_kafka::client::memory::Record;
use datafusion_kafka::client::{MemoryBudget, ReadRequest};
use kafka_protocol::messages::fetch_response::PartitionData;

use super::broker::Release;
use super::log::{Batch, Log};
use super::script::Delivery;
use super::{END, RECORDS, Setup, code, of_partition, plain_log};
use crate::conformance::reading::{ReadUncommitted, request, span};
use crate::conformance::{Codec, numbered};

/// Changes a byte in the second batch.
fn damage(part: &mut PartitionData) {
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
fn damage_value(part: &mut PartitionData) {
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
