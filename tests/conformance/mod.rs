//! One suite for every implementation of `KafkaClient`.
//!
//! A [`Fixture`] provides a client, and fills the cluster that the client reads. The cases are functions over
//! a fixture. `conformance_suite!` makes a test of each, so that no implementation can leave one out. A
//! fixture reports what its server cannot do in [`Fixture::lacks`]. Such cases print that they are skipped
//! and why. Only fixtures of mocks and of old releases may do so.

pub mod columns;
pub mod describe;
pub mod differential;
pub mod holes;
pub mod kafka;
pub mod ledger;
pub mod loss;
pub mod memory;
pub mod model;
pub mod offsets;
pub mod ranges;
pub mod reading;
pub mod scale;
pub mod transactions;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use datafusion_kafka::client::KafkaClient;
use datafusion_kafka::client::memory::Record;
use datafusion_kafka::range::TopicPartition;
use futures::StreamExt;
use futures::future::BoxFuture;

/// A cluster to fill, and a client to read it with. Methods panic when the cluster fails.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The client under test.
    fn client(&self) -> Arc<dyn KafkaClient>;

    /// Why the server behind the client cannot do something; `None` if it can.
    fn lacks(&self, _need: Need) -> Option<&'static str> {
        None
    }

    /// Whether the client reports why offsets have no row, and not only how many there are.
    fn tells_reasons(&self) -> bool {
        true
    }

    /// The number of fetches that the client has made so far, if they are counted.
    fn fetches(&self) -> Option<u64> {
        None
    }

    async fn create_topic(&self, topic: &TopicSpec);

    async fn delete_topic(&self, name: &str);

    /// Appends records in order and waits until they may be read.
    async fn produce(&self, partition: &TopicPartition, records: &[Record], codec: Codec);

    async fn begin(&self) -> Box<dyn Transaction>;

    /// Moves the log start up to an offset.
    async fn delete_records(&self, partition: &TopicPartition, before: i64);

    /// Has the log cleaned by key. Returns the offsets that still hold records, as seen by another client
    /// than the one under test. May append records to roll the log.
    async fn compact(&self, partition: &TopicPartition) -> Vec<i64>;

    async fn commit_group_offset(&self, group: &str, partition: &TopicPartition, offset: i64);
}

/// A producer's transaction.
#[async_trait]
pub trait Transaction: Send {
    /// Appends records and waits until the broker has them.
    async fn write(&mut self, partition: &TopicPartition, records: &[Record]);

    /// Ends the transaction and waits until its control records are in the log.
    async fn end(self: Box<Self>, end: End);
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Commit,
    Abort,
}

/// A capability that some servers lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Compaction,
    DeleteRecords,
    GroupOffsets,
    LeaderEpochs,
    LogAppendTime,
    TimestampLookUp,
    TopicDeletion,
    TopicIds,
    TopicSettings,
    Transactions,
    Zstd,
}

/// A topic to create.
#[derive(Debug, Clone)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: i32,
    pub log_append_time: bool,
    pub compacted: bool,
}

/// A record batch's codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Whether a case can run. If not, prints the reason.
pub fn can(fixture: &dyn Fixture, need: Need) -> bool {
    match fixture.lacks(need) {
        None => true,
        Some(reason) => {
            println!("SKIPPED: needs {need:?}: {reason}");
            false
        }
    }
}

/// A name that no other topic has, in this test run or another.
pub fn unique(stem: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let run = since_epoch.as_millis() % 1_000_000_000;
    format!("{stem}-{run}-{}-{number}", std::process::id())
}

/// Creates an ordinary topic with a unique name.
pub async fn topic(fixture: &dyn Fixture, stem: &str, partitions: i32) -> String {
    let spec = TopicSpec {
        name: unique(stem),
        partitions,
        log_append_time: false,
        compacted: false,
    };
    fixture.create_topic(&spec).await;
    spec.name
}

/// Creates a topic of one partition.
pub async fn partition(fixture: &dyn Fixture, stem: &str) -> TopicPartition {
    TopicPartition::new(topic(fixture, stem, 1).await, 0)
}

/// Creates a topic with one partition and `records` records, as [`numbered`] makes them.
pub async fn filled(fixture: &dyn Fixture, stem: &str, records: usize) -> TopicPartition {
    let partition = partition(fixture, stem).await;
    let records = numbered(records);
    fixture.produce(&partition, &records, Codec::None).await;
    partition
}

/// The timestamp of the first record of [`numbered`]: 2024-01-01 in ms since the epoch.
pub const FIRST_TIMESTAMP_MS: i64 = 1_704_067_200_000;

/// Records that differ in key, value and timestamp. Their timestamps are a second apart.
pub fn numbered(count: usize) -> Vec<Record> {
    let record = |i: usize| {
        let seconds = i64::try_from(i).unwrap();
        Record::new(format!("value {i}"))
            .with_key(format!("key {i}"))
            .with_timestamp_ms(FIRST_TIMESTAMP_MS + 1_000 * seconds)
            .with_header("number", Some(i.to_string().as_bytes()))
    };
    (0..count).map(record).collect()
}

/// Makes a test of every case. `$fixture` is an expression that yields a future of a fixture. Each test
/// evaluates it once.
macro_rules! conformance_suite {
    ($fixture:expr) => {
        conformance_suite! { @list @tests $fixture; }
    };
    (@list $($then:tt)*) => {
        conformance_suite! { $($then)*
            ranges: [
                whole_log,
                empty_log,
                first_record_alone,
                last_record_alone,
                middle,
                middle_in_every_position,
                empty_range_costs_no_fetch,
                no_ranges,
                end_past_the_log_end_fails_with_coordinates,
                start_past_the_log_end_fails,
                stays_the_same_while_more_is_appended,
                reads_the_same_twice,
                disjoint_ranges_of_one_partition,
                ranges_in_the_order_given,
                ranges_of_several_topics,
                adjacent_ranges_join_seamlessly,
                unknown_topic_fails,
                unknown_partition_fails,
                error_in_a_later_range_comes_after_the_rows_before_it,
                limit_still_gives_the_first_rows,
                dropped_stream_stops,
                recreated_topic_is_refused_by_id,
                right_topic_id_is_accepted,
            ],
            columns: [
                only_those_asked_for,
                null_is_not_empty,
                tombstones_are_rows,
                headers_keep_order_duplicates_and_nulls,
                missing_timestamp_is_null,
                timestamps_are_the_producers,
                timestamps_are_the_brokers_under_log_append_time,
                no_compression,
                gzip,
                snappy,
                lz4,
                zstd,
                mixed_codecs_in_one_log,
                empty_values,
                one_byte_values,
                one_mebibyte_value,
                ten_mebibyte_value,
                batches_of_one_row,
                batches_of_seven_rows,
                batches_are_bounded_by_bytes,
                record_larger_than_a_batch_fits,
            ],
            transactions: [
                committed_is_read_committed,
                committed_is_read_uncommitted,
                aborted_is_hidden_when_committed_is_asked_for,
                aborted_is_seen_when_uncommitted_is_asked_for,
                open_ends_the_log_before_it,
                open_is_seen_when_uncommitted_is_asked_for,
                open_range_is_past_the_log_end,
                control_record_alone_yields_nothing,
                control_record_at_the_tail_ends_the_range,
                many_control_records_at_the_tail,
                tail_without_records_in_several_ranges,
                fully_aborted_range_yields_nothing,
                range_ends_inside_an_aborted_transaction,
                range_starts_inside_an_aborted_transaction,
                interleaved_transactions_are_told_apart,
                one_transaction_over_several_partitions,
                plain_records_between_transactions_are_read,
            ],
            holes: [
                in_the_middle_are_passed_over,
                at_the_tail_of_a_range_end_it,
                range_within_a_hole_yields_nothing,
            ],
            loss: [
                start_below_the_log_start_fails_with_counts,
                range_wholly_below_the_log_start_fails_with_counts,
                skipped_offsets_are_counted,
                range_wholly_below_the_log_start_is_skipped_and_counted,
                nothing_is_lost_at_the_log_start,
                emptied_log_has_its_end_left,
                skipping_in_several_ranges_adds_up,
            ],
            offsets: [
                of_an_empty_log,
                earliest_and_latest,
                earliest_is_the_log_start,
                latest_is_the_last_stable_offset_or_the_high_watermark,
                leader_epochs_and_their_ends,
                timestamp_of_a_record,
                timestamp_between_records,
                timestamp_after_all_records,
                timestamp_before_all_records,
                timestamp_before_the_epoch,
                timestamp_is_found_by_offset_order,
                timestamp_below_the_log_start_is_not_found_there,
                answers_come_in_the_order_of_the_queries,
                no_queries,
                thousands_of_queries,
                unknown_topic_fails,
                unknown_partition_fails,
                committed_offsets_of_a_group,
            ],
            describe: [
                all_topics,
                named_topics,
                missing_topic_is_absent_and_stays_so,
                reading_and_listing_create_nothing,
                legal_names,
                topic_ids_differ,
                leaders_are_brokers,
                settings_of_topics,
            ],
            scale: [
                five_hundred_partitions_in_one_request,
                a_thousand_small_ranges,
                fifty_streams_at_once,
            ],
            model: [
                random_ranges,
            ],
            ledger: [
                nothing_is_passed_in_a_plain_log,
                control_records,
                aborted_records,
                aborted_records_are_rows_when_uncommitted_is_asked_for,
                aborted_and_control_records_in_batches_of_one_row,
                every_cut_through_a_transaction,
                gaps,
                lost_offsets_are_no_gap,
                ranges_without_a_row,
            ],
        }
    };
    (@table; $($theme:ident: [$($case:ident,)*],)*) => {
        vec![$($((
            concat!(stringify!($theme), "::", stringify!($case)),
            (|fixture| Box::pin(crate::conformance::$theme::$case(fixture))) as crate::conformance::Case,
        ),)*)*]
    };
    (@tests $fixture:expr; $($theme:ident: [$($case:ident,)*],)*) => {
        $(mod $theme {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let fixture = $fixture.await;
                crate::conformance::$theme::$case(&fixture).await;
            }
        )*})*
    };
}

/// A case of the suite, which panics when the fixture's client breaks a promise.
pub type Case = for<'a> fn(&'a dyn Fixture) -> BoxFuture<'a, ()>;

/// Runs every case, several at once, and returns the names of those that failed. Their panics are printed.
pub async fn failing(fixture: Arc<dyn Fixture>) -> Vec<&'static str> {
    const AT_ONCE: usize = 4;
    let cases: Vec<(&str, Case)> = conformance_suite!(@list @table;);
    let run = |(name, case): (&'static str, Case)| {
        let fixture = Arc::clone(&fixture);
        async move {
            let ended = tokio::spawn(async move { case(&*fixture).await }).await;
            ended.is_err().then_some(name)
        }
    };
    let ended = futures::stream::iter(cases).map(run);
    let failing = ended
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready);
    failing.collect().await
}
