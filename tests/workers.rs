//! Statements and jobs on workers, which are processes that die: real brokers, real kills. And the tests of `sql` once
//! more, with their statements on workers.

#[path = "workers/crossed.rs"]
mod crossed;
#[path = "workers/exports.rs"]
mod exports;
#[path = "workers/jobs.rs"]
mod jobs;
#[path = "workers/losses.rs"]
mod losses;
#[path = "workers/secrets.rs"]
mod secrets;
mod sql;
mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use support::produce::{Fill, fill};
use support::{admin, shared};

use datafusion_kafka::client::ClientPool;
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka_distributed::{
    Coordinator, CoordinatorOptions, OwnConnections, Worker, Workers,
};

/// The tests of `sql` whose statements run here, and why.
const HERE: [(&str, &str); 5] = [
    (
        "sql::failures::broker_killed_in_mid_scan_and_started_again_gives_the_exact_result",
        "without ORDER BY, rows have no order between workers",
    ),
    (
        "sql::formats::the_first_bad_record_is_named",
        "the message also names the worker",
    ),
    (
        "sql::logins::settings_that_need_librdkafka_choose_it",
        LOGINS,
    ),
    (
        "sql::security::java_client_properties_work_unchanged",
        LOGINS,
    ),
    (
        "sql::security::describe_and_read_on_the_topic_are_enough",
        LOGINS,
    ),
];
const LOGINS: &str = "a worker takes logins from its own connections";

/// Where the sessions of `sql` run their statements: on 2, 3 and 8 workers in turn.
fn elsewhere(builder: KafkaSessionBuilder) -> KafkaSessionBuilder {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    if HERE.iter().any(|(name, _)| *name == test) {
        return builder;
    }
    let coordinators = coordinators();
    let next = NEXT.fetch_add(1, Ordering::Relaxed) % coordinators.len();
    let coordinator = coordinators[next].clone();
    builder.extend(move |state| coordinator.apply(state))
}

/// Coordinators of 2, 3 and 8 workers in this process, on threads of their own: a connection lives as long as
/// the runtime that made it.
fn coordinators() -> &'static [Coordinator] {
    static COORDINATORS: OnceLock<Vec<Coordinator>> = OnceLock::new();
    COORDINATORS.get_or_init(|| {
        let (to, from) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("threads");
            runtime.block_on(async {
                let pool = ClientPool::new();
                let mut addresses = vec![];
                for _ in 0..8 {
                    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
                    let listener = listener.expect("a port");
                    addresses.push(listener.local_addr().expect("an address").to_string());
                    let worker = Worker::new(OwnConnections::new([], pool.clone()));
                    tokio::spawn(worker.serve(listener, std::future::pending()));
                }
                for workers in [2, 3, 8] {
                    let listed = Workers::Listed(addresses[..workers].to_vec());
                    let mut options = CoordinatorOptions::new(listed);
                    options.offsets_per_task = 1;
                    to.send(Coordinator::connect(options).await.expect("workers"))
                        .expect("somebody waits");
                }
                drop(to);
                std::future::pending::<()>().await;
            });
        });
        from.iter().collect()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_sql_plan_for_workers() {
    let topic = sql::filled(2, 3);
    for _ in coordinators() {
        let sql = format!("SELECT count(*) FROM \"{topic}\"");
        let plan = sql::plan(&sql::session(), &sql).await;
        assert!(plan.contains("task 1 -> worker"), "{plan}");
    }
}

const PARTITIONS: i32 = 6;
const RECORDS: usize = 1_200_000;

/// A topic that takes a while to read.
fn topic() -> &'static str {
    static TOPIC: OnceLock<String> = OnceLock::new();
    TOPIC.get_or_init(|| {
        let topic = admin::unique_topic("workers");
        let brokers = shared().bootstrap();
        admin::create_topic(brokers, &topic, PARTITIONS, &[]);
        fill(
            brokers,
            &topic,
            Fill {
                partitions: PARTITIONS,
                records: RECORDS,
                value_bytes: 100,
                settings: &[],
            },
        );
        topic
    })
}

fn kafka_sql() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-sql"));
    command
        .env_remove("KAFKA_SQL_BOOTSTRAP_SERVERS")
        .env_remove("KAFKA_SQL_CONFIG")
        .env_remove("KAFKA_SQL_WORKERS")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

struct RunningWorker {
    address: String,
    child: Child,
    said: Arc<Mutex<String>>,
}

impl RunningWorker {
    /// A worker at an address; port 0 is any.
    fn start(listen: &str, more: &[&str]) -> Self {
        Self::start_in(&[], listen, more)
    }

    fn start_in(environment: &[(String, String)], listen: &str, more: &[&str]) -> Self {
        let mut child = kafka_sql()
            .envs(environment.iter().cloned())
            .args(["worker", "--listen", listen])
            .args(more)
            .spawn()
            .expect("the shell starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let line = lines.next().expect("a line").expect("text");
        let address = line.rsplit("listens on ").next().expect("an address");
        let address = address.to_owned();
        let said = Arc::<Mutex<String>>::default();
        let to = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut said = to.lock().expect("nobody panics with it");
                said.push_str(&line);
                said.push('\n');
            }
        });
        Self {
            address,
            child,
            said,
        }
    }

    /// What it has said since on standard error.
    fn said(&self) -> String {
        self.said.lock().expect("nobody panics with it").clone()
    }

    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for RunningWorker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(workers: usize) -> Vec<RunningWorker> {
    let start = |_| RunningWorker::start("127.0.0.1:0", &[]);
    (0..workers).map(start).collect()
}

fn addresses(workers: &[RunningWorker]) -> String {
    let all: Vec<&str> = workers.iter().map(|w| w.address.as_str()).collect();
    all.join(",")
}

fn query(workers: Option<&str>, sql: &str, more: &[&str]) -> Command {
    let mut command = kafka_sql();
    command.args(["-b", shared().bootstrap(), "--format", "csv"]);
    if let Some(workers) = workers {
        command.args(["--workers", workers, "--offsets-per-task", "1000"]);
    }
    command.args(["query", sql]).args(more);
    command
}

fn text(output: &Output) -> String {
    let [out, error] = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b));
    format!("{out}{error}")
}

fn heavy() -> String {
    format!(
        "SELECT partition, count(*), sum(octet_length(value)), max(value) FROM \"{}\" GROUP BY partition ORDER BY 1",
        topic()
    )
}

#[test]
fn rows_ledger_and_receipt_are_those_of_one_machine() {
    let workers = start(3);
    let all = addresses(&workers);
    let folder = tempfile::tempdir().expect("a folder");
    let receipt = folder.path().join("receipt.json");
    let receipt = receipt.to_str().expect("a path");
    let sql = heavy();
    let run = |workers| {
        let _ = std::fs::remove_file(receipt);
        let output = query(workers, &sql, &["--ledger", "--receipt", receipt]).output();
        let output = output.expect("the shell runs");
        assert!(output.status.success(), "{}", text(&output));
        let ledger = String::from_utf8_lossy(&output.stderr).into_owned();
        let ledger: BTreeSet<String> = ledger
            .lines()
            .filter(|line| line.contains("delivered"))
            .map(str::to_owned)
            .collect();
        (String::from_utf8_lossy(&output.stdout).into_owned(), ledger)
    };
    let local = run(None);
    assert!(!local.1.is_empty());
    assert_eq!(run(Some(&all)), local);
    let rerun = kafka_sql()
        .args(["-b", shared().bootstrap(), "rerun", receipt])
        .output()
        .expect("the shell runs");
    assert!(text(&rerun).contains("identical"), "{}", text(&rerun));

    let explained = query(Some(&all), &format!("EXPLAIN {sql}"), &[]).output();
    let explained = text(&explained.expect("the shell runs"));
    for worker in &workers {
        assert!(explained.contains(&worker.address), "{explained}");
    }
}

/// What comes of a query one of whose workers gets a signal after a while.
fn signalled(signal: &str, after_ms: u64, retries: &str, expected: &str) -> &'static str {
    let workers = start(3);
    let all = addresses(&workers);
    let started = Instant::now();
    let query = query(Some(&all), &heavy(), &["--retries", retries]).spawn();
    let query = query.expect("the shell runs");
    std::thread::sleep(Duration::from_millis(after_ms));
    signal_to(&workers[1].child, signal);
    let output = query.wait_with_output().expect("it ends");
    // What hangs is noticed by pings, and the workers that are left do the work.
    assert!(
        started.elapsed() < Duration::from_secs(120),
        "{}",
        text(&output)
    );
    if output.status.success() {
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        return "exact";
    }
    let said = text(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains(&workers[1].address), "{said}");
    assert!(said.contains(topic()), "it names no range: {said}");
    "named"
}

#[test]
fn a_worker_that_dies_or_hangs_is_named_or_replaced() {
    let expected = query(None, &heavy(), &[]).output().expect("the shell runs");
    let expected = String::from_utf8_lossy(&expected.stdout).into_owned();
    let mut named = 0;
    for signal in ["KILL", "STOP"] {
        for after_ms in [150, 300, 600] {
            let found = signalled(signal, after_ms, "0", &expected);
            eprintln!("SIG{signal} after {after_ms} ms: {found}");
            named += usize::from(found == "named");
            let found = signalled(signal, after_ms, "3", &expected);
            assert_eq!(
                found, "exact",
                "SIG{signal} after {after_ms} ms, with retries"
            );
        }
    }
    assert!(named > 0, "no signal met a query");
    // One that is asked to end finishes what it has.
    let workers = start(3);
    let begun = Instant::now();
    let usual = query(Some(&addresses(&workers)), &heavy(), &[]).output();
    assert!(usual.expect("the shell runs").status.success());
    let half_ms = u64::try_from(begun.elapsed().as_millis() / 2).expect("a short time");
    drop(workers);
    for after_ms in [half_ms, half_ms * 4 / 3] {
        let found = signalled("TERM", after_ms, "0", &expected);
        assert_eq!(found, "exact", "SIGTERM after {after_ms} ms");
    }
}

fn signal_to(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-s", name, &pid]).status();
    assert!(sent.expect("kill runs").success());
}

/// The manifests of Kubernetes call the shell as it is.
#[test]
fn manifests_call_the_shell_with_flags_that_it_has() {
    let folder = support::repository().join("deploy/kubernetes");
    let output = Command::new(support::s3::python())
        .arg(support::repository().join("tests/python/manifests.py"))
        .arg("--commands")
        .arg(folder)
        .output()
        .expect("Python starts");
    let commands = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(commands.lines().count(), 3, "{}", text(&output));
    for command in commands.lines() {
        let mut arguments: Vec<String> = serde_json::from_str(command).expect("JSON");
        for (more, code) in [("--help", 0), ("--no-such-flag", 2)] {
            arguments.push(more.to_owned());
            let output = kafka_sql().args(&arguments).output();
            let output = output.expect("the shell runs");
            assert_eq!(
                output.status.code(),
                Some(code),
                "{command}: {}",
                text(&output)
            );
            arguments.pop();
        }
    }
}

#[test]
fn what_is_wrong_with_workers_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "right\n").expect("a file");
    let token = format!("file:{}", token.display());
    let worker = RunningWorker::start("127.0.0.1:0", &["--token", &token]);
    let sql = format!("SELECT count(*) FROM \"{}\"", topic());
    for (workers, more, code, says) in [
        (worker.address.as_str(), vec![], 3, "asks for a token"),
        (
            worker.address.as_str(),
            vec!["--token", "right"],
            2,
            "expected env:NAME or file:PATH",
        ),
        ("127.0.0.1:1", vec![], 3, "finding workers failed"),
        ("nonsense", vec![], 2, "expected host:port"),
        ("file:/nonexistent", vec![], 2, "/nonexistent"),
    ] {
        let output = query(Some(workers), &sql, &more).output();
        let output = output.expect("the shell runs");
        let said = text(&output);
        assert!(said.contains(says), "{workers} {more:?}: {said}");
        assert_eq!(
            output.status.code(),
            Some(code),
            "{workers} {more:?}: {said}"
        );
    }
    let output = query(Some(&worker.address), &sql, &["--token", &token]).output();
    let output = output.expect("the shell runs");
    assert!(
        text(&output).contains(&RECORDS.to_string()),
        "{}",
        text(&output)
    );
    let open = kafka_sql()
        .args(["worker", "--listen", "0.0.0.0:0"])
        .output();
    let open = text(&open.expect("the shell runs"));
    assert!(open.contains("give it a certificate"), "{open}");
}
