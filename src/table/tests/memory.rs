//! Memory: what a session's limit allows is read, and what it does not is an error that names the
//! record.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::{DataType, Field};
use datafusion::execution::memory_pool::{
    GreedyMemoryPool, MemoryLimit, MemoryPool, MemoryReservation,
};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;

use super::*;
use crate::decode::Format;

const MB: usize = 1 << 20;

/// A pool that remembers the most that was reserved.
#[derive(Debug)]
struct Watched {
    pool: GreedyMemoryPool,
    peak: AtomicUsize,
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("watched")
    }
}

impl MemoryPool for Watched {
    fn name(&self) -> &str {
        "watched"
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
        self.peak.fetch_max(self.pool.reserved(), Ordering::Relaxed);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
    }

    fn try_grow(
        &self,
        reservation: &MemoryReservation,
        additional: usize,
    ) -> datafusion::error::Result<()> {
        self.pool.try_grow(reservation, additional)?;
        self.peak.fetch_max(self.pool.reserved(), Ordering::Relaxed);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.pool.memory_limit()
    }
}

/// A topic of `partitions` partitions with `records` records of `bytes` bytes in each; a record is
/// JSON with its offset and a text.
fn large(partitions: i32, records: i64, bytes: usize) -> MemoryCluster {
    let cluster = MemoryCluster::builder().fetch_records(16).build();
    cluster.create_topic("t", partitions).unwrap();
    for partition in 0..partitions {
        for offset in 0..records {
            let text = "x".repeat(bytes - 20);
            let json = format!("{{\"n\":{offset},\"text\":\"{text}\"}}");
            cluster.append("t", partition, Record::new(json)).unwrap();
        }
    }
    cluster
}

/// A session of so many bytes, where `t` is that topic, with columns of JSON or as it is.
async fn limited(
    cluster: &MemoryCluster,
    bytes: usize,
    json: bool,
) -> (SessionContext, Arc<Watched>) {
    let pool = Arc::new(Watched {
        pool: GreedyMemoryPool::new(bytes),
        peak: AtomicUsize::new(0),
    });
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::clone(&pool) as _)
        .build_arc()
        .unwrap();
    let config = SessionConfig::new().with_target_partitions(2);
    let session = KafkaSessionBuilder::new().config(config).runtime(runtime);
    let context = session.build().unwrap();
    let mut table = builder(cluster).topic("t");
    if json {
        let number = Field::new("n", DataType::Int64, true);
        let text = Field::new("text", DataType::Utf8View, true);
        table = table.value_format(Format::Json).fields(vec![number, text]);
    }
    let table = table.build().await.unwrap();
    context.register_table("t", Arc::new(table)).unwrap();
    (context, pool)
}

/// The rows of a query, and the most bytes of a batch.
async fn stream(context: &SessionContext, sql: &str) -> (usize, usize) {
    let mut stream = context
        .sql(sql)
        .await
        .unwrap()
        .execute_stream()
        .await
        .unwrap();
    let (mut rows, mut most) = (0, 0);
    while let Some(batch) = futures::StreamExt::next(&mut stream).await {
        let batch = batch.unwrap();
        rows += batch.num_rows();
        most = most.max(crate::memory::payload_bytes(&batch));
    }
    (rows, most)
}

#[tokio::test]
async fn batches_are_joined_up_to_bytes() {
    // 40 MB in all, far fewer records than the session's batch size.
    let cluster = large(1, 200, MB / 5);
    for (json, sql) in [
        (false, "SELECT value FROM t"),
        (true, "SELECT n, text FROM t"),
    ] {
        let (context, pool) = limited(&cluster, 32 * MB, json).await;
        let (rows, most) = stream(&context, sql).await;
        assert_eq!(rows, 200);
        assert!(most < 9 * MB, "{sql}: {most}");
        let peak = pool.peak.load(Ordering::Relaxed);
        assert!((most..24 * MB).contains(&peak), "{sql}: {peak}");
        assert_eq!(pool.reserved(), 0, "{sql}");
    }
}

#[tokio::test]
async fn a_record_that_does_not_fit_is_named() {
    let cluster = large(1, 3, 100);
    cluster
        .append("t", 0, Record::new(vec![b'x'; 24 * MB]))
        .unwrap();
    let (context, pool) = limited(&cluster, 16 * MB, false).await;
    let error = query(&context, "SELECT value FROM t").await.unwrap_err();
    let found = crate::Error::find(&error).expect("ours");
    assert_eq!(found.kind(), ErrorKind::Memory);
    let text = found.to_string();
    assert!(
        text.starts_with("t[0]@3: the record of 25165824 bytes takes "),
        "{text}"
    );
    assert!(text.contains("may use 16777216 bytes of memory"), "{text}");
    assert_eq!(pool.reserved(), 0);
    // What is not asked for need not fit.
    assert_eq!(count(&context, "SELECT count(*) FROM t").await, 4);
}

#[tokio::test]
async fn streams_wait_for_each_others_memory() {
    // A record of each partition would be 20 MB.
    let cluster = large(2, 4, 10 * MB);
    let (context, pool) = limited(&cluster, 18 * MB, false).await;
    let sql = "SELECT sum(octet_length(value)) FROM t";
    assert_eq!(count(&context, sql).await as usize / MB, 79);
    assert!(pool.peak.load(Ordering::Relaxed) > 10 * MB);
    assert_eq!(pool.reserved(), 0);
}

#[tokio::test]
async fn reading_backwards_holds_bytes_not_offsets() {
    let cluster = large(1, 200, MB / 5);
    for (json, sql) in [
        (false, "SELECT offset, value FROM t ORDER BY offset DESC"),
        (true, "SELECT offset, text FROM t ORDER BY offset DESC"),
        (
            false,
            "SELECT offset, value FROM t ORDER BY offset DESC LIMIT 150",
        ),
    ] {
        let (context, pool) = limited(&cluster, 64 * MB, json).await;
        let mut stream = context
            .sql(sql)
            .await
            .unwrap()
            .execute_stream()
            .await
            .unwrap();
        let mut offsets: Vec<i64> = vec![];
        while let Some(batch) = futures::StreamExt::next(&mut stream).await {
            let batch = batch.unwrap();
            offsets.extend(batch.column(0).as_primitive::<Int64Type>().values());
        }
        drop(stream);
        let expected: Vec<i64> = (0..200).rev().collect();
        let rows = if sql.contains("LIMIT") { 150 } else { 200 };
        assert_eq!(offsets, expected[..rows], "{sql}");
        let peak = pool.peak.load(Ordering::Relaxed);
        assert!(peak < 60 * MB, "{sql}: {peak}");
        assert_eq!(pool.reserved(), 0, "{sql}");
    }
}

#[tokio::test]
async fn pieces_that_are_read_again_are_counted_once() {
    // The first piece, of all offsets, is too long; so is the next, where records are larger.
    let cluster = large(1, 50, 1000);
    for _ in 0..30 {
        cluster.append("t", 0, Record::new(vec![b'x'; MB])).unwrap();
    }
    let (context, _) = limited(&cluster, 64 * MB, false).await;
    let sql = "SELECT offset, value FROM t ORDER BY offset DESC";
    let plan = planned(&context, sql).await;
    let batches = datafusion::physical_plan::collect(Arc::clone(&plan), context.task_ctx());
    let batches = batches.await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 80);
    let ledger = crate::scan::ledger(&plan).total();
    assert_eq!((ledger.delivered, ledger.unread), (80, 0), "{ledger:?}");
    let progress = crate::scan::ScanProgress::of(&plan);
    assert_eq!((progress.offsets_done, progress.records), (80, 80));
}

#[tokio::test]
async fn a_merge_of_reversed_scans_is_read_little_ahead() {
    let (context, _) = limited(&large(2, 4, 100), 16 * MB, false).await;
    let sql = "SELECT offset, value FROM t ORDER BY offset DESC";
    let plan = plan(&context, sql).await;
    assert!(plan.contains("BufferExec: capacity=16777216"), "{plan}");
    assert_eq!(rows(&context, sql).await.len(), 8);
}

#[tokio::test]
async fn what_passes_a_filter_is_not_gathered_by_rows() {
    let cluster = large(1, 200, MB / 5);
    let (context, _) = limited(&cluster, 32 * MB, false).await;
    let sql = "SELECT value FROM t WHERE octet_length(value) % 2 >= 0";
    let (rows, most) = stream(&context, sql).await;
    assert_eq!(rows, 200);
    assert!(most < 20 * MB, "{most}");
    let plan = plan(
        &context,
        "SELECT count(*) FROM t WHERE octet_length(value) > 1",
    )
    .await;
    assert!(!plan.contains("RoundRobin"), "{plan}");
}
