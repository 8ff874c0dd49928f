//! Wall clocks that jump under a running process: `docs/faults.md`. Debian's `libfaketime` fakes the clock of this test's
//! own executable, which is started again for that; its monotonic clock stays. The shell does not start below that
//! library: docs/faults.md says why.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cluster_faults::bed::{Bed, Job, LIMIT, marked};
use crate::cluster_faults::gate::Gate;
use crate::cluster_faults::tried::{CLIENTS, Outcomes, Row, Tried, column, tried};
use crate::support::documented::documented;
use crate::support::{self, admin};

documented!(
    "faults.md",
    "The clock",
    [
        "query, wire",
        "query, librdkafka",
        "job, wire",
        "job, librdkafka",
        "export, wire",
        "export, librdkafka",
    ],
    [],
    slow [an_hour_forward, an_hour_back, forward_and_back_all_the_time]
);

const RECORDS: i64 = 600;
/// Where readers stand when the clock jumps.
const HELD_AT: i64 = 150;
/// What the process is told: the file that says how far the clock is off, the jumps, the brokers and the topic.
const TOLD: &str = "KAFKA_SQL_TEST_CLOCK";
const HOUR_S: i64 = 3600;

/// The library, where it is installed.
fn libfaketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let places = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    let mut places = places.chain([PathBuf::from("/usr/lib/faketime/libfaketime.so.1")]);
    places.find(|place| place.exists())
}

fn set_clock(file: &Path, offset_s: i64) {
    // By name, so that nobody reads half of it.
    let next = file.with_extension("next");
    std::fs::write(&next, format!("{offset_s:+}\n")).expect("a file");
    std::fs::rename(next, file).expect("a file");
}

/// What comes of readers in a process whose clock jumps so, in seconds from the real one.
async fn jumps(offsets_s: &str) -> Outcomes {
    let Some(library) = libfaketime() else {
        eprintln!("not run: libfaketime is not there (apt-get install faketime)");
        let columns = ["query", "job", "export"]
            .into_iter()
            .flat_map(|verb| CLIENTS.map(|client| column(verb, client)));
        return columns.map(|column| (column, "exact".to_owned())).collect();
    };
    tokio::task::block_in_place(|| {
        let bootstrap = support::shared().bootstrap();
        let topic = admin::unique_topic("clock");
        admin::create_topic(bootstrap, &topic, 1, &[]);
        let now_ms = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.expect("it is after 1970").as_millis()
        };
        let begun_ms = now_ms() - 1;
        Bed::of(bootstrap.to_owned(), topic.clone()).produce(0, RECORDS as usize, 'a');
        let range = format!("@{begun_ms}:{}", now_ms() + 1);
        let folder = tempfile::tempdir().expect("a folder");
        let clock = folder.path().join("clock");
        set_clock(&clock, 0);
        let told = [
            &clock.display().to_string(),
            offsets_s,
            bootstrap,
            &topic,
            &range,
        ]
        .join(" ");
        let output = Command::new(std::env::current_exe().expect("this is one"))
            .args([
                "--exact",
                "clock::readers_in_a_process_of_their_own",
                "--nocapture",
            ])
            .arg("--ignored")
            .env(TOLD, told)
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", &clock)
            .env("FAKETIME_NO_CACHE", "1")
            // The name before 0.9.10, and the one since then.
            .envs(["DONT_FAKE_MONOTONIC", "FAKETIME_DONT_FAKE_MONOTONIC"].map(|name| (name, "1")))
            .output()
            .expect("it starts");
        let text = crate::job::text(&output);
        assert!(output.status.success(), "{text}");
        let outcomes = text.lines().filter_map(|line| {
            let (column, outcome) = line.strip_prefix("clock: ")?.split_once(": ")?;
            Some((column.to_owned(), outcome.to_owned()))
        });
        outcomes.collect()
    })
}

/// Reads while the clock jumps, and prints what came of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the rows of the clock"]
async fn readers_in_a_process_of_their_own() {
    let Ok(told) = std::env::var(TOLD) else {
        return;
    };
    let told: Vec<&str> = told.split(' ').collect();
    let [clock, offsets_s, bootstrap, topic, range] = told[..] else {
        panic!("{told:?}");
    };
    let offsets_s: Vec<i64> = offsets_s
        .split(',')
        .map(|s| s.parse().expect("seconds"))
        .collect();
    let bed = Bed::of(bootstrap.to_owned(), topic.to_owned());
    let mut readers = vec![];
    for client in CLIENTS {
        let gate = || Gate::at(HELD_AT);
        let range = range.to_owned();
        readers.push(
            bed.reader(column("query", client), &gate(), async move |bed, gate| {
                bed.scan(client, &gate, &range).await
            }),
        );
        readers.push(
            bed.reader(column("job", client), &gate(), async move |bed, gate| {
                Job::new(&bed, client).run(&gate, 200).await
            }),
        );
        readers.push(
            bed.reader(column("export", client), &gate(), async move |bed, gate| {
                bed.export(client, &gate).await
            }),
        );
    }
    for reader in &mut readers {
        reader.stands().await;
    }
    let before = told_s();
    let ended = Arc::new(AtomicBool::new(false));
    let (clock, ending) = (PathBuf::from(clock), Arc::clone(&ended));
    let (first, last) = (offsets_s[0], offsets_s.len() - 1);
    set_clock(&clock, first);
    let off = told_s() - before;
    assert!(
        (off - first).abs() < 60,
        "the clock is off by {off} s instead of {first}"
    );
    let jumping = std::thread::spawn(move || {
        for offset_s in offsets_s.iter().cycle().take_while(|_| last > 0) {
            if ending.load(Ordering::Relaxed) {
                break;
            }
            set_clock(&clock, *offset_s);
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    for reader in &readers {
        reader.gate.open();
    }
    let expected: Vec<Row> = marked(0, 0, RECORDS, 'a');
    for reader in readers {
        let column = reader.column.clone();
        let read = reader.done(LIMIT).await;
        println!("clock: {column}: {}", bed.outcome(&read, &expected));
    }
    ended.store(true, Ordering::Relaxed);
    jumping.join().expect("it ends well");
}

/// The time by the clock that jumps.
fn told_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("it is after 1970").as_secs() as i64
}

async fn an_hour_forward(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    tried(&ALL, column, jumps(&HOUR_S.to_string())).await
}

async fn an_hour_back(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    tried(&ALL, column, jumps(&(-HOUR_S).to_string())).await
}

async fn forward_and_back_all_the_time(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    tried(&ALL, column, jumps(&format!("{HOUR_S},{},0", -HOUR_S))).await
}
