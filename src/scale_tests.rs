//! What 1,000 and 10,000 partitions cost on one machine, compared with `docs/scale.md`.
//!
//! Sizes and counts are those of the page. Times are printed: `cargo test --release scale_tests -- --include-ignored
//! --nocapture`.

#[path = "../tests/support/documented.rs"]
#[allow(unreachable_pub, unused_imports, reason = "other tests use it too")]
mod documented;
/// What `wide` uses.
mod kafka {
    pub(super) use crate::{Error, Result, client, range};
    pub(super) use arrow::array;
}
#[path = "../tests/support/wide.rs"]
#[allow(unreachable_pub, dead_code, reason = "other tests use it too")]
mod wide;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use datafusion::execution::context::SessionContext;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::SessionConfig;

use crate::client::{ClientPool, KafkaClient};
use crate::config::ConnectionConfig;
use crate::driver::{MicroBatch, Trigger};
use crate::export::{Export, ExportProgress};
use crate::range::Snapshot;
use crate::receipt::{Receipt, Verdict, with_checksums};
use crate::scan;
use crate::session::KafkaSessionBuilder;
use crate::sink::MemorySink;
use crate::table::KafkaTable;
use documented::Table;
use wide::{Wide, size};

fn repository() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// What was measured, by the rows of the page.
#[derive(Default)]
struct Figures(BTreeMap<&'static str, String>);

impl Figures {
    fn note(&mut self, row: &'static str, cell: String) {
        self.0.insert(row, cell);
    }

    fn bytes(&mut self, row: &'static str, bytes: usize) {
        self.note(row, size(bytes));
    }
}

/// Prints how long something took.
async fn timed<T>(partitions: i32, what: &str, run: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let done = run.await;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    println!("{partitions:>7} partitions: {what}: {took:.1} ms");
    done
}

fn session(wide: &Arc<Wide>) -> SessionContext {
    let wide = Arc::clone(wide);
    let pool = ClientPool::with_factory(move |_| {
        let client: Arc<dyn KafkaClient> = Arc::clone(&wide) as _;
        Ok(client)
    });
    let builder = KafkaSessionBuilder::new()
        .connection(ConnectionConfig::new("wide:9092"))
        .pool(pool)
        .config(SessionConfig::new().with_target_partitions(8));
    builder.build().unwrap()
}

fn table(wide: &Arc<Wide>, range: &str) -> KafkaTable {
    let table = KafkaTable::builder_with_client(Arc::clone(wide) as _);
    table.topic("orders").range(range).build_lazy().unwrap()
}

async fn planned(session: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    let frame = session.sql(sql).await.unwrap();
    frame.create_physical_plan().await.unwrap()
}

fn file(folder: &Path, name: &str) -> usize {
    usize::try_from(std::fs::metadata(folder.join(name)).unwrap().len()).unwrap()
}

async fn queries(partitions: i32, figures: &mut Figures) {
    let wide = Arc::new(Wide::new(partitions));
    let client: Arc<dyn KafkaClient> = Arc::clone(&wide) as _;
    let session = session(&wide);

    let all = table(&wide, "start:end");
    let snapshot = timed(partitions, "snapshot", all.snapshot()).await.unwrap();
    let json = timed(partitions, "snapshot to JSON", async { snapshot.to_json() }).await;
    let read = timed(partitions, "snapshot from JSON", async {
        json.parse::<Snapshot>()
    })
    .await;
    assert_eq!(read.unwrap(), snapshot);
    figures.bytes("snapshot", json.len());

    let (described, listed) = (&wide.described, &wide.listed);
    let before = (
        described.load(Ordering::Relaxed),
        listed.load(Ordering::Relaxed),
    );
    let sql = "SELECT count(*) FROM orders";
    let plan = timed(partitions, "plan", planned(&session, sql)).await;
    let questions = format!(
        "{} + {}",
        described.load(Ordering::Relaxed) - before.0,
        listed.load(Ordering::Relaxed) - before.1
    );
    figures.note("questions_of_a_statement", questions);
    let filtered = "SELECT count(*) FROM orders WHERE partition % 7 = 3 AND \"offset\" > 1000500 \
                    AND timestamp > '2024-01-01'";
    timed(
        partitions,
        "plan with predicates",
        planned(&session, filtered),
    )
    .await;
    figures.bytes(
        "explain",
        displayable(plan.as_ref()).indent(false).to_string().len(),
    );
    figures.bytes(
        "explain_verbose",
        displayable(plan.as_ref()).indent(true).to_string().len(),
    );

    let frame = session.sql(sql).await.unwrap();
    let task = Arc::new(with_checksums(frame.task_ctx()));
    let run = collect(Arc::clone(&plan), task);
    timed(partitions, "run, without records", run)
        .await
        .unwrap();
    let ledger = timed(partitions, "ledger", async { scan::ledger(&plan) }).await;
    assert_eq!(
        ledger.total().gap,
        u64::try_from(partitions).unwrap() * 1_000_000
    );
    let mut receipt = Receipt::new();
    receipt.add(sql, &plan).unwrap();
    let json = receipt.to_json();
    figures.bytes("receipt", json.len());
    let rerun = timed(partitions, "receipt read again", receipt.rerun(&client)).await;
    assert_eq!(rerun.unwrap().verdict(), Verdict::Identical);

    let offsets = session
        .sql("SELECT count(*) FROM kafka_offsets('orders')")
        .await
        .unwrap();
    timed(partitions, "kafka_offsets", offsets.collect())
        .await
        .unwrap();
}

async fn jobs(partitions: i32, figures: &mut Figures) {
    let wide = Arc::new(Wide::new(partitions));
    let folder = tempfile::tempdir().unwrap();
    let context = KafkaSessionBuilder::new().build().unwrap();
    context
        .register_table("orders", Arc::new(table(&wide, "start")))
        .unwrap();
    let job = MicroBatch::builder(context, "job")
        .checkpoint(folder.path().to_str().unwrap())
        .sink("out", Arc::new(MemorySink::new("out")))
        .unwrap()
        .insert("INSERT INTO out SELECT partition, \"offset\", value FROM orders")
        .trigger(Trigger::Continuous);
    let mut job = job.build().await.unwrap();
    for batch in ["first batch", "second batch"] {
        let progress = timed(partitions, batch, job.step()).await.unwrap();
        let phases = progress.expect("there are offsets").phases_ms;
        println!("{partitions:>7} partitions: {batch}: {phases:?}");
        wide.grow(10);
    }
    for (row, kind) in [("intent", "intent"), ("commit", "commit")] {
        figures.bytes(row, file(folder.path(), &format!("{kind}/{:020}", 1)));
    }
    figures.bytes("start_of_a_job", file(folder.path(), "start.json"));
}

async fn exports(partitions: i32, figures: &mut Figures) {
    let wide = Arc::new(Wide::new(partitions));
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().to_str().unwrap();
    let export = Export::builder("orders", table(&wide, "start:end"), target);
    let export = export.max_file_offsets(1_000_000).build().unwrap();
    let progress = Arc::new(ExportProgress::default());
    timed(partitions, "export, without records", export.run(&progress))
        .await
        .unwrap();
    figures.bytes(
        "plan_of_an_export",
        file(folder.path(), "_export/plan.json"),
    );
    figures.bytes("manifest", file(folder.path(), "manifest.json"));
}

/// Compares what is measured with the page. An export of each partition alone is left to slow tests: it
/// writes a file for each, and syncs it.
async fn compare(partitions: i32, column: &str, with_exports: bool) {
    let mut figures = Figures::default();
    queries(partitions, &mut figures).await;
    jobs(partitions, &mut figures).await;
    if with_exports {
        exports(partitions, &mut figures).await;
    }
    let Figures(figures) = figures;
    println!("{figures:#?}");
    let table = Table::read("scale.md", "On one machine", &[column]);
    for (row, found) in &figures {
        table.check(row, async |_| found.clone()).await;
    }
    if with_exports {
        table.lists(&figures.into_keys().collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_partitions() {
    compare(1_000, "1,000", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_partitions() {
    compare(10_000, "10,000", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: make test-slow"]
async fn ten_thousand_partitions_exported() {
    compare(10_000, "10,000", true).await;
}
