//! What the service costs beside `run`: the same job in both, side by side over the same records, without visitors.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::running::{Files, PARTITIONS, Running, kafka_sql, new_topic, section};
use crate::support::produce::{Fill, fill};
use crate::support::shared;

/// What the service may cost more, of one core and of memory.
const MOST_CPU: f64 = 0.03;
const MOST_MB: f64 = 30.0;

/// `KAFKA_SQL_TEST_PROGRAM` is another build of the shell than that of the tests, say an optimised one.
fn program() -> Command {
    let mut command = kafka_sql();
    if let Some(program) = std::env::var_os("KAFKA_SQL_TEST_PROGRAM") {
        command = Command::new(program);
        command
            .env("TEST_TOKEN", crate::running::TOKEN)
            .env("TEST_PASSWORD", crate::running::PASSWORD)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    }
    command
}

/// What a process has used so far: seconds of processors, and the MB that it holds now.
fn used(process: &Child) -> (f64, f64) {
    let read = |name: &str| {
        let path = format!("/proc/{}/{name}", process.id());
        std::fs::read_to_string(path).expect("it runs, on Linux")
    };
    let (stat, status) = (read("stat"), read("status"));
    // The name before them may hold anything but this bracket.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks: Vec<f64> = (fields.split_whitespace().skip(11).take(2))
        .map(|ticks| ticks.parse().expect("a number"))
        .collect();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = rss.and_then(|rss| rss.split_whitespace().next()?.parse::<f64>().ok());
    // Linux counts a hundred ticks a second for programs.
    (
        ticks.iter().sum::<f64>() / 100.0,
        kb.expect("its memory") / 1024.0,
    )
}

/// A process that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `KAFKA_SQL_TEST_MINUTES` measures for longer.
#[test]
#[ignore = "slow: measures for three minutes"]
fn the_service_costs_little_beside_run() {
    let minutes = std::env::var("KAFKA_SQL_TEST_MINUTES");
    let minutes: f64 = minutes.map_or(3.0, |text| text.parse().expect("minutes"));
    let (files, topic, brokers) = (Files::new(), new_topic(), shared().bootstrap());
    let produce = |records| {
        let fill_with = Fill {
            records,
            partitions: PARTITIONS,
            value_bytes: 100,
            settings: &[],
        };
        fill(brokers, &topic, fill_with);
    };
    files.service(&section("served", "trigger = \"every 1s\""));
    files.job("served", &topic);
    files.job("ran", &topic);
    produce(1_000);
    let mut serve = program();
    let service = Running::spawn(serve.arg("serve").arg(files.path("serve.toml")));
    let mut run = program();
    run.args(["-b", brokers, "-q", "run", "--every", "1s"]);
    let run = Ended(run.arg(files.path("ran.sql")).spawn().expect("it runs"));
    for job in ["served", "ran"] {
        files.wait_for_each_once(job, 1_000);
    }
    let mut records = 1_000;
    let mut last = [(0.0, 0.0); 2];
    // The second part is measured: by then allocators and caches are warm.
    for (part, minutes) in [("warming", 0.5), ("measured", minutes)] {
        let processes = [&service.child, &run.0];
        let (begun, before, first) = (Instant::now(), processes.map(used), records);
        while begun.elapsed() < Duration::from_secs_f64(60.0 * minutes) {
            produce(2_000);
            records += 2_000;
            std::thread::sleep(Duration::from_millis(500));
        }
        let (elapsed, after) = (begun.elapsed().as_secs_f64(), processes.map(used));
        last = [0, 1].map(|n| ((after[n].0 - before[n].0) / elapsed, after[n].1));
        let [(serve_cpu, serve_mb), (run_cpu, run_mb)] = last;
        println!(
            "{part}, {elapsed:.0} s, {:.0} records/s: serve {:.2} % of a core and {serve_mb:.1} MB, run {:.2} % and {run_mb:.1} MB",
            (records - first) as f64 / elapsed,
            100.0 * serve_cpu,
            100.0 * run_cpu,
        );
    }
    for job in ["served", "ran"] {
        files.wait_for_each_once(job, records);
    }
    let [(serve_cpu, serve_mb), (run_cpu, run_mb)] = last;
    assert!(serve_cpu - run_cpu < MOST_CPU, "{last:?}");
    assert!(serve_mb - run_mb < MOST_MB, "{last:?}");
}
