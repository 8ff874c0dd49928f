//! What became of every offset: the ledgers of scans over logs with everything in them.

use std::collections::BTreeMap;

use datafusion::physical_plan::{collect, execute_stream};
use futures::StreamExt;
use futures::stream::BoxStream;
use proptest::prelude::*;

use super::*;
use crate::client::memory::MemoryClient;
use crate::client::{
    ClusterDescription, OffsetAnswer, OffsetQuery, RawBatch, ReadRequest, TopicSelection,
    TopicSettings,
};
use crate::range::{Ledger, LedgerCounts, OffsetRange, RangeLedger};

/// One partition: plain 0..10, aborted 10..15 and their end at 15, plain 16..18, of which 17 was
/// compacted away, committed 18..20 and their end at 20, plain 21..25.
fn mixed() -> MemoryCluster {
    let cluster = MemoryCluster::builder().fetch_records(4).build();
    cluster.create_topic("t", 1).unwrap();
    let record = |n: i64| Record::new(format!("value {n}")).with_timestamp_ms(1000 * n);
    let plain = |from: i64, to: i64| {
        let records: Vec<Record> = (from..to).map(record).collect();
        cluster.append_all("t", 0, records).unwrap();
    };
    let transaction = |from: i64, to: i64| {
        let mut transaction = cluster.begin();
        for n in from..to {
            transaction.append("t", 0, record(n)).unwrap();
        }
        transaction
    };
    plain(0, 10);
    transaction(10, 15).abort().unwrap();
    plain(16, 18);
    transaction(18, 20).commit().unwrap();
    plain(21, 25);
    assert!(cluster.remove("t", 0, 17).unwrap());
    cluster
}

/// The ledger of a statement that was run to its end, checked to add up.
async fn ledger(context: &SessionContext, sql: &str) -> Ledger {
    let plan = planned(context, sql).await;
    collect(Arc::clone(&plan), context.task_ctx())
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
    let ledger = crate::scan::ledger(&plan);
    for range in &ledger.ranges {
        range.validate().unwrap();
    }
    ledger
}

fn shown(ledger: &Ledger) -> Vec<String> {
    let show = |range: &RangeLedger| format!("{}: {}", range.range, range.counts);
    ledger.ranges.iter().map(show).collect()
}

#[tokio::test]
async fn every_offset_has_its_class() {
    let context = over(&mixed(), "t");
    assert_eq!(
        shown(&ledger(&context, "SELECT count(*) FROM t").await),
        ["t[0] 0..25: 17 delivered, 2 control, 5 aborted, 1 gap"]
    );
    let sql = "SELECT value FROM t WHERE offset BETWEEN 12 AND 15 OR offset >= 17";
    assert_eq!(
        shown(&ledger(&context, sql).await),
        [
            "t[0] 12..16: 0 delivered, 1 control, 3 aborted",
            "t[0] 17..25: 6 delivered, 1 control, 1 gap"
        ]
    );
    let analyzed = rows(&context, "EXPLAIN ANALYZE SELECT count(*) FROM t").await;
    for metric in [
        "offsets_read=25",
        "records=17",
        "skipped_offsets=8",
        "control_offsets=2",
        "aborted_offsets=5",
        "gap_offsets=1",
        "untold_offsets=0",
        "lost_offsets=0",
    ] {
        assert!(
            analyzed.join("\n").contains(metric),
            "{metric}: {analyzed:?}"
        );
    }
}

#[tokio::test]
async fn a_plan_that_was_not_executed_has_read_nothing() {
    let context = over(&mixed(), "t");
    let plan = planned(&context, "SELECT * FROM t").await;
    assert_eq!(
        shown(&crate::scan::ledger(&plan)),
        ["t[0] 0..25: 0 delivered, 25 unread"]
    );
    // Executed twice, the second time counts.
    for _ in 0..2 {
        collect(Arc::clone(&plan), context.task_ctx())
            .await
            .unwrap();
        assert_eq!(crate::scan::ledger(&plan).total().delivered, 17);
        assert_eq!(crate::scan::ledger(&plan).total().total(), 25);
    }
}

#[tokio::test]
async fn filtered_and_lost_offsets_are_told_from_holes() {
    let cluster = mixed();
    cluster.truncate_before("t", 0, 4).unwrap();
    let range = "@1970-01-01T00:00:06Z:1970-01-01T00:00:19Z";
    let timed = builder(&cluster).topic("t").range(range);
    let context = session();
    context
        .register_table("timed", Arc::new(timed.build().await.unwrap()))
        .unwrap();
    // The look-up begins at offset 6; what is at or behind 19 s is read and left out.
    assert_eq!(
        shown(&ledger(&context, "SELECT value FROM timed").await),
        ["t[0] 6..25: 6 delivered, 5 filtered, 2 control, 5 aborted, 1 gap"]
    );
    let skipping = builder(&cluster).topic("t").range("0=1:8");
    let skipping = skipping.on_data_loss(OnDataLoss::Skip);
    context
        .register_table("rest", Arc::new(skipping.build().await.unwrap()))
        .unwrap();
    assert_eq!(
        shown(&ledger(&context, "SELECT value FROM rest").await),
        ["t[0] 1..8: 4 delivered, 3 lost"]
    );
}

#[tokio::test]
async fn what_a_limit_leaves_is_unread() {
    let context = over(&mixed(), "t");
    let of = |limit: usize| format!("SELECT value FROM t LIMIT {limit}");
    assert_eq!(
        shown(&ledger(&context, &of(3)).await),
        ["t[0] 0..25: 3 delivered, 22 unread"]
    );
    let all = ledger(&context, &of(11)).await;
    assert_eq!(all.total().delivered, 11);
    // The last row is at 16; its batch has also passed the gap behind it.
    assert_eq!(all.ranges[0].passed().end(), 18);
    assert_eq!(
        shown(&ledger(&context, &of(100)).await),
        ["t[0] 0..25: 17 delivered, 2 control, 5 aborted, 1 gap"]
    );
}

#[tokio::test]
async fn reading_backward_leaves_the_start_unread() {
    let context = over(&mixed(), "t");
    let of = |limit: usize| format!("SELECT offset FROM t ORDER BY offset DESC LIMIT {limit}");
    let last = ledger(&context, &of(5)).await;
    assert!(last.ranges[0].backward);
    // 24, 23, 22, 21 and 19, past the control record at 20.
    assert_eq!(last.ranges[0].passed().start(), 19);
    assert_eq!(
        shown(&last),
        ["t[0] 0..25: 5 delivered, 1 control, 19 unread"]
    );
    let whole = ledger(&context, "SELECT offset FROM t ORDER BY offset DESC").await;
    assert_eq!(
        shown(&whole),
        ["t[0] 0..25: 17 delivered, 2 control, 5 aborted, 1 gap"]
    );
}

#[tokio::test]
async fn split_ranges_are_one_again() {
    let cluster = orders();
    let table = builder(&cluster)
        .topic("orders")
        .max_records_per_partition(7);
    let context = session();
    context
        .register_table("orders", Arc::new(table.build().await.unwrap()))
        .unwrap();
    let expected: Vec<String> = (0..4)
        .map(|p| format!("orders[{p}] 0..100: 100 delivered"))
        .collect();
    let all = ledger(&context, "SELECT count(*) FROM orders").await;
    assert_eq!(shown(&all), expected);
    // A self-join reads twice.
    let sql = "SELECT count(*) FROM orders a JOIN orders b ON a.key = b.key";
    assert_eq!(ledger(&context, sql).await.total().delivered, 800);
}

#[tokio::test]
async fn a_stream_that_is_dropped_leaves_the_rest_unread() {
    let config = SessionConfig::new().with_batch_size(10);
    let context = KafkaSessionBuilder::new().config(config).build().unwrap();
    let table = builder(&orders()).topic("orders").build_lazy().unwrap();
    context.register_table("orders", Arc::new(table)).unwrap();
    let plan = planned(&context, "SELECT offset FROM orders WHERE partition = 0").await;
    let mut stream = execute_stream(Arc::clone(&plan), context.task_ctx()).unwrap();
    let first = stream.next().await.unwrap().unwrap();
    drop(stream);
    let counts = crate::scan::ledger(&plan).total();
    assert!(counts.delivered >= first.num_rows() as u64, "{counts}");
    assert_eq!(counts.delivered + counts.unread, 100, "{counts}");
    assert!(counts.unread > 0, "{counts}");
}

/// Passes everything on, but takes an offset from what the last batch reports.
#[derive(Debug)]
struct Careless(MemoryClient);

#[async_trait]
impl KafkaClient for Careless {
    async fn describe(&self, topics: TopicSelection<'_>) -> Result<ClusterDescription> {
        self.0.describe(topics).await
    }

    async fn list_offsets(
        &self,
        queries: &[OffsetQuery],
        isolation: IsolationLevel,
    ) -> Result<Vec<OffsetAnswer>> {
        self.0.list_offsets(queries, isolation).await
    }

    async fn group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        self.0.group_offsets(group, partitions).await
    }

    async fn topic_settings(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicSettings>>> {
        self.0.topic_settings(topics).await
    }

    fn read(&self, request: ReadRequest) -> BoxStream<'static, Result<RawBatch>> {
        let forget = |batch: Result<RawBatch>| {
            batch.map(|mut batch| {
                batch.passed.gap = 0;
                batch
            })
        };
        self.0.read(request).map(forget).boxed()
    }

    fn read_buffer_bytes(&self, request: &ReadRequest) -> usize {
        self.0.read_buffer_bytes(request)
    }
}

#[tokio::test]
async fn a_client_that_forgets_an_offset_fails_the_query() {
    let client = Arc::new(Careless(mixed().client()));
    let table = KafkaTable::builder_with_client(client).topic("t");
    let context = session();
    context
        .register_table("t", Arc::new(table.build().await.unwrap()))
        .unwrap();
    for sql in [
        "SELECT count(*) FROM t",
        "SELECT offset FROM t ORDER BY offset DESC",
    ] {
        let error = query(&context, sql).await.unwrap_err();
        let found = Error::find(&error).expect("an error of ours");
        assert!(matches!(found, Error::Unaccounted { .. }), "{found:?}");
        assert_eq!(found.kind(), ErrorKind::Internal);
        assert!(
            found
                .to_string()
                .contains("passed, 0 lost); the client that reads is at fault"),
            "{found}"
        );
    }
}

/// What happens to a log.
#[derive(Debug, Clone)]
enum Event {
    Plain(usize),
    Commit(usize),
    Abort(usize),
    /// Removes one of the offsets so far, by a share of 256.
    Remove(u8),
    /// Moves the log start, by a share of 256 of a fifth of the log.
    Truncate(u8),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (1..8usize).prop_map(Event::Plain),
        2 => (1..5usize).prop_map(Event::Commit),
        2 => (1..5usize).prop_map(Event::Abort),
        4 => any::<u8>().prop_map(Event::Remove),
        1 => any::<u8>().prop_map(Event::Truncate),
    ];
    prop::collection::vec(event, 1..25)
}

/// The class of each offset, as its name in `LedgerCounts::NAMES`.
fn build(cluster: &MemoryCluster, events: &[Event]) -> Vec<&'static str> {
    let mut classes: Vec<&'static str> = vec![];
    let record = |n: usize| Record::new(format!("{n}")).with_timestamp_ms(1000 * (n as i64 % 9));
    for event in events {
        let len = classes.len();
        match event {
            Event::Plain(count) => {
                for n in len..len + count {
                    cluster.append("t", 0, record(n)).unwrap();
                    classes.push("delivered");
                }
            }
            Event::Commit(count) | Event::Abort(count) => {
                let mut transaction = cluster.begin();
                let commits = matches!(event, Event::Commit(_));
                for n in len..len + count {
                    transaction.append("t", 0, record(n)).unwrap();
                    classes.push(if commits { "delivered" } else { "aborted" });
                }
                if commits {
                    transaction.commit().unwrap();
                } else {
                    transaction.abort().unwrap();
                }
                classes.push("control");
            }
            Event::Remove(share) if len > 0 => {
                let offset = len * usize::from(*share) / 256;
                if cluster.remove("t", 0, offset as i64).unwrap() {
                    classes[offset] = "gap";
                }
            }
            Event::Truncate(share) => {
                let start = len * usize::from(*share) / 256 / 5;
                cluster.truncate_before("t", 0, start as i64).unwrap();
                classes[..start].fill("lost");
            }
            Event::Remove(_) => {}
        }
    }
    classes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the log, the range, the batches and the limit: every offset is counted once, and as
    /// what it is. Where a limit cuts a batch, classes may be untold but never wrong.
    #[test]
    fn ledgers_add_up(
        events in events(),
        cuts in (any::<u16>(), any::<u16>()),
        fetch in 1..9usize,
        batch in 1..9usize,
        limit in prop::option::of(1..12usize),
        backward in any::<bool>(),
        until in prop::option::of(0..9i64),
    ) {
        let cluster = MemoryCluster::builder().fetch_records(fetch).build();
        cluster.create_topic("t", 1).unwrap();
        let mut classes = build(&cluster, &events);
        let len = classes.len();
        let (a, b) = (usize::from(cuts.0) % (len + 1), usize::from(cuts.1) % (len + 1));
        let (start, end) = (a.min(b), a.max(b));
        if let Some(until) = until {
            for (n, class) in classes.iter_mut().enumerate() {
                if *class == "delivered" && n as i64 % 9 >= until {
                    *class = "filtered";
                }
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let ledger = runtime.block_on(async {
            let table = builder(&cluster).topic("t").on_data_loss(OnDataLoss::Skip);
            let table = table.build().await.unwrap();
            let snapshot = table.snapshot().await.unwrap();
            let mut ranges = snapshot.ranges().to_vec();
            ranges[0].range = OffsetRange::try_new("t", 0, start as i64, end as i64).unwrap();
            ranges[0].to_ms = until.map(|seconds| 1000 * seconds);
            let snapshot = snapshot.with_ranges(ranges).unwrap();
            let config = SessionConfig::new().with_target_partitions(2).with_batch_size(batch);
            let context = KafkaSessionBuilder::new().config(config).build().unwrap();
            context.register_table("t", Arc::new(table.at(snapshot).unwrap())).unwrap();
            let order = if backward { " ORDER BY offset DESC" } else { "" };
            let limit = limit.map(|n| format!(" LIMIT {n}")).unwrap_or_default();
            ledger(&context, &format!("SELECT offset FROM t{order}{limit}")).await
        });
        if start == end {
            prop_assert!(ledger.is_empty());
            return Ok(());
        }
        prop_assert_eq!(ledger.ranges.len(), 1);
        let found = &ledger.ranges[0];
        prop_assert_eq!((found.range.start(), found.range.end()), (start as i64, end as i64));
        prop_assert_eq!(found.counts.total(), (end - start) as u64);
        let passed = found.passed();
        let within = &classes[passed.start() as usize..passed.end() as usize];
        let count = |class: &str| within.iter().filter(|c| **c == class).count() as u64;
        let expected = LedgerCounts {
            delivered: count("delivered"),
            filtered: count("filtered"),
            control: count("control"),
            aborted: count("aborted"),
            gap: count("gap"),
            lost: count("lost"),
            unread: found.counts.unread,
            ..LedgerCounts::default()
        };
        if found.counts.untold == 0 {
            prop_assert_eq!(found.counts, expected);
        } else {
            prop_assert!(limit.is_some());
            prop_assert_eq!(found.counts.delivered, expected.delivered);
            for (name, (found, expected)) in LedgerCounts::NAMES
                .iter()
                .zip(found.counts.values().into_iter().zip(expected.values()))
            {
                prop_assert!(*name == "untold" || found <= expected, "{name}");
            }
        }
        match limit {
            Some(limit) if found.counts.unread > 0 => {
                prop_assert_eq!(found.counts.delivered, limit as u64);
            }
            _ => prop_assert_eq!(found.counts.unread, 0),
        }
    }
}
