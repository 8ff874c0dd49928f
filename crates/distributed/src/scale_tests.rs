//! What 1,000, 10,000 and 100,000 partitions cost over 1,000 workers, compared with `docs/scale.md`.
//!
//! The planner, the placement and the encoders are the real ones; the cluster is one of `tests/support/wide.rs`, and
//! the workers exist by name alone. Times are printed.

#[path = "../../../tests/support/documented.rs"]
#[allow(unreachable_pub, unused_imports, reason = "other tests use it too")]
mod documented;
/// What `wide` uses.
mod kafka {
    pub(super) use datafusion::arrow::array;
    pub(super) use datafusion_kafka::{Error, Result, client, range};
}
#[path = "../../../tests/support/wide.rs"]
#[allow(unreachable_pub, dead_code, reason = "other tests use it too")]
mod wide;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_kafka::client::{ClientPool, KafkaClient};
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::range::TopicPartition;
use datafusion_kafka::scan::{self, KafkaScanExec, ScanReport};
use datafusion_kafka::session::KafkaSessionBuilder;
use url::Url;

use crate::coordinator::{Coordinator, WorkerInfo};
use crate::planner::scans_of;
use crate::reports::RunReport;
use documented::Table;
use wide::{Wide, size};

const WORKERS: usize = 1_000;
const SQL: &str = "SELECT count(*) FROM orders";

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Workers `w0`, `w1` and so on, in the racks of the brokers.
fn workers(which: impl Fn(usize) -> bool) -> Vec<WorkerInfo> {
    let worker = |n: usize| WorkerInfo {
        url: Url::parse(&format!("http://w{n}:7000")).unwrap(),
        rack: Some(format!("r{}", n % 3)),
        host: format!("w{n}"),
        cores: 4,
    };
    (0..WORKERS).filter(|n| which(*n)).map(worker).collect()
}

struct World {
    wide: Arc<Wide>,
    coordinator: Coordinator,
}

impl World {
    fn new(wide: Wide) -> Self {
        Self {
            wide: Arc::new(wide),
            coordinator: Coordinator::of_workers(workers(|_| true)),
        }
    }

    fn builder(&self) -> KafkaSessionBuilder {
        let wide = Arc::clone(&self.wide);
        let pool = ClientPool::with_factory(move |_| {
            let client: Arc<dyn KafkaClient> = Arc::clone(&wide) as _;
            Ok(client)
        });
        KafkaSessionBuilder::new()
            .connection(ConnectionConfig::new("wide:9092"))
            .pool(pool)
            .config(SessionConfig::new().with_target_partitions(8))
    }

    async fn plan(&self) -> Arc<dyn ExecutionPlan> {
        // However long the plan before took, the workers were asked a moment ago.
        let workers = self.coordinator.known_workers();
        self.coordinator.set_workers(workers);
        let coordinator = self.coordinator.clone();
        let builder = self.builder();
        let session = builder.extend(move |state| coordinator.apply(state));
        planned(&session.build().unwrap()).await
    }

    /// Lets the coordinator know what a statement has received.
    async fn learn(&self) {
        let session = self.builder().build().unwrap();
        let plan = planned(&session).await;
        let task = session.task_ctx();
        collect(Arc::clone(&plan), task).await.unwrap();
        let report = scan_of(&plan).report();
        let received = report.received.iter();
        self.coordinator.learn(scan_of(&plan), received);
    }
}

async fn planned(session: &SessionContext) -> Arc<dyn ExecutionPlan> {
    let frame = session.sql(SQL).await.unwrap();
    frame.create_physical_plan().await.unwrap()
}

fn scan_of(plan: &Arc<dyn ExecutionPlan>) -> &KafkaScanExec {
    match plan.downcast_ref() {
        Some(scan) => scan,
        None => scan_of(plan.children()[0]),
    }
}

/// The tasks of a plan, and what they would read.
struct Placed {
    tasks: Vec<(Url, KafkaScanExec)>,
    wide: Arc<Wide>,
}

impl Placed {
    fn of(world: &World, plan: &Arc<dyn ExecutionPlan>) -> Self {
        let mut scans = scans_of(plan).unwrap();
        assert_eq!(scans.len(), 1);
        Self {
            tasks: scans.remove(0).tasks,
            wide: Arc::clone(&world.wide),
        }
    }

    fn bytes(&self) -> Vec<u64> {
        let bytes = self.tasks.iter().map(|(_, scan)| {
            let ranges = scan.ranges().into_iter().flatten();
            let bytes = ranges.map(|r| r.len().unsigned_abs() * (self.wide.bytes)(r.partition()));
            bytes.sum()
        });
        bytes.collect()
    }

    /// Largest by mean, of the bytes of workers.
    fn balance(&self) -> f64 {
        let bytes = self.bytes();
        let mean = bytes.iter().sum::<u64>() as f64 / bytes.len() as f64;
        *bytes.iter().max().unwrap() as f64 / mean
    }

    /// The most connections of a broker: a stream reads from one broker at a time, and has at most one to it.
    fn connections(&self) -> usize {
        let mut of_brokers: HashMap<i32, usize> = HashMap::new();
        for stream in self.tasks.iter().flat_map(|(_, scan)| scan.ranges()) {
            let leaders = stream.iter().map(|r| self.wide.leader(r.partition()));
            for leader in leaders.collect::<BTreeSet<_>>() {
                *of_brokers.entry(leader).or_default() += 1;
            }
        }
        of_brokers.into_values().max().unwrap_or(0)
    }

    /// The part of the offsets that are read in the rack of their leader.
    fn near(&self) -> f64 {
        let (mut near, mut all) = (0, 0);
        for (worker, scan) in &self.tasks {
            let number: i32 = worker.host_str().unwrap()[1..].parse().unwrap();
            for range in scan.ranges().into_iter().flatten() {
                let leader = self.wide.leader(range.partition());
                all += range.len();
                if Wide::rack(leader) == format!("r{}", number % 3) {
                    near += range.len();
                }
            }
        }
        near as f64 / all as f64
    }

    fn workers(&self) -> BTreeMap<TopicPartition, BTreeSet<&Url>> {
        let mut workers: BTreeMap<TopicPartition, BTreeSet<&Url>> = BTreeMap::new();
        for (worker, scan) in &self.tasks {
            for range in scan.ranges().into_iter().flatten() {
                let of = workers.entry(range.topic_partition()).or_default();
                of.insert(worker);
            }
        }
        workers
    }

    /// The part of the partitions that have other workers than before.
    fn moved(&self, before: &Self) -> f64 {
        let (then, now) = (before.workers(), self.workers());
        let moved = now
            .iter()
            .filter(|(p, workers)| then.get(p) != Some(workers));
        moved.count() as f64 / now.len() as f64
    }
}

/// What was measured, by the rows of the page.
#[derive(Default)]
struct Figures(BTreeMap<&'static str, String>);

impl Figures {
    fn note(&mut self, row: &'static str, cell: String) {
        self.0.insert(row, cell);
    }

    fn percent(&mut self, row: &'static str, part: f64) {
        self.note(row, format!("{:.0} %", part * 100.0));
    }

    fn balance(&mut self, row: &'static str, balance: f64) {
        self.note(row, format!("{balance:.2}"));
    }
}

/// Prints how long something took since `begun`.
fn took(partitions: i32, what: &str, begun: Instant) {
    let took = begun.elapsed().as_secs_f64() * 1e3;
    println!("{partitions:>7} partitions: {what}: {took:.1} ms");
}

async fn equal(partitions: i32, figures: &mut Figures) {
    let world = World::new(Wide::new(partitions));
    let begun = Instant::now();
    let plan = world.plan().await;
    took(partitions, "plan", begun);
    let first = Placed::of(&world, &plan);
    figures.note("tasks", first.tasks.len().to_string());
    figures.balance("balance", first.balance());
    figures.percent("read_in_the_leader_s_rack", first.near());
    figures.note("connections_of_a_broker", first.connections().to_string());

    let begun = Instant::now();
    let encoded = first
        .tasks
        .iter()
        .map(|(_, scan)| scan.encode(false).unwrap().len());
    let encoded: Vec<usize> = encoded.collect();
    took(partitions, "plan to bytes", begun);
    let largest = encoded.iter().max().unwrap();
    figures.note("largest_task", size(*largest));
    figures.note("all_tasks", size(encoded.iter().sum::<usize>()));
    let begun = Instant::now();
    let lines = displayable(plan.as_ref()).indent(false).to_string();
    took(partitions, "EXPLAIN", begun);
    figures.note("explain", size(lines.len()));

    reports(partitions, &plan, &first, figures);

    world.wide.grow(10);
    let plan = world.plan().await;
    let grown = Placed::of(&world, &plan);
    figures.percent("moved_when_all_have_grown", grown.moved(&first));
    figures.balance("balance_when_all_have_grown", grown.balance());
    world.coordinator.set_workers(workers(|n| n % 3 != 0));
    let begun = Instant::now();
    let plan = world.plan().await;
    took(partitions, "plan without a rack", begun);
    let without = Placed::of(&world, &plan);
    figures.percent("moved_when_a_rack_is_lost", without.moved(&grown));
    figures.balance("balance_when_a_rack_is_lost", without.balance());
    world.coordinator.set_workers(workers(|_| true));
    let plan = world.plan().await;
    let back = Placed::of(&world, &plan);
    figures.percent("moved_when_it_is_back", back.moved(&without));
    figures.balance("balance_when_it_is_back", back.balance());
}

/// What workers answer once a second, and the coordinator's part of it.
fn reports(partitions: i32, plan: &Arc<dyn ExecutionPlan>, placed: &Placed, figures: &mut Figures) {
    let answers = placed.tasks.iter().enumerate().map(|(task, (_, scan))| {
        let tasks = vec![(task, scan.report())];
        let report = RunReport {
            tasks,
            failure: None,
        };
        serde_json::to_vec(&report).unwrap()
    });
    let answers: Vec<Vec<u8>> = answers.collect();
    let all = answers.iter().map(Vec::len).sum();
    figures.note("reports_a_second", size(all));
    let begun = Instant::now();
    let reports = answers.iter().flat_map(|answer| {
        let report: RunReport = serde_json::from_slice(answer).unwrap();
        report.tasks.into_iter().map(|(_, report)| report)
    });
    let reports: Vec<ScanReport> = reports.collect();
    let scans = scans_of(plan).unwrap();
    let whole: &KafkaScanExec = scans[0].scan.downcast_ref().unwrap();
    whole.set_reports(reports);
    took(partitions, "reports of a second", begun);
    let begun = Instant::now();
    let ledger = scan::ledger(plan);
    took(partitions, "ledger", begun);
    assert_eq!(ledger.total().unread, whole.offsets());
    whole.set_reports(vec![]);
}

/// Partitions of which one in a hundred has records, or offsets, that are a hundred times larger.
async fn skewed(partitions: i32, figures: &mut Figures) {
    let mut wide = Wide::new(partitions);
    wide.bytes = |partition| if partition % 100 == 7 { 10_000 } else { 100 };
    let world = World::new(wide);
    let unknown = Placed::of(&world, &world.plan().await);
    figures.balance("balance_with_large_records_at_first", unknown.balance());
    world.learn().await;
    let known = Placed::of(&world, &world.plan().await);
    figures.balance("balance_with_large_records_once_known", known.balance());

    let mut wide = Wide::new(partitions);
    wide.offsets = |partition| match partition % 100 {
        7 => 100_000_000,
        _ => 1_000_000,
    };
    let world = World::new(wide);
    let long = Placed::of(&world, &world.plan().await);
    figures.balance("balance_with_long_partitions", long.balance());
}

async fn compare(partitions: i32, column: &str) {
    let mut figures = Figures::default();
    equal(partitions, &mut figures).await;
    skewed(partitions, &mut figures).await;
    let Figures(figures) = figures;
    println!("{figures:#?}");
    let table = Table::read("scale.md", "Over 1,000 workers", &[column]);
    for (row, found) in &figures {
        table.check(row, async |_| found.clone()).await;
    }
    table.lists(&figures.into_keys().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_partitions() {
    compare(1_000, "1,000").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_partitions() {
    compare(10_000, "10,000").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: 100,000 partitions"]
async fn a_hundred_thousand_partitions() {
    compare(100_000, "100,000").await;
}
