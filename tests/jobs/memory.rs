//! The resident memory of the shell, for records that unpack to thousands of times their size and for large
//! payloads, in all ways that rows can take.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{self, Record, admin, produce};

const MB: usize = 1 << 20;
/// How large a process may become, with a pool of [`LIMIT`]. This is some 200 MB more than on an idle
/// machine.
const RESIDENT_MOST: usize = 640 * MB;
const LIMIT: &str = "256M";
/// The same while writing records of 60 MB as Parquet, whose pages are encoded outside the pool.
const WRITING_MOST: usize = 760 * MB;

/// A topic with two partitions, each with `records` records of `bytes` zeros, compressed with zstd.
fn zeros(records: usize, bytes: usize) -> String {
    let topic = admin::unique_topic("zeros");
    admin::create_topic(support::shared().bootstrap(), &topic, 2, &[]);
    let settings = [
        ("compression.type", "zstd"),
        ("message.max.bytes", "100000000"),
        ("batch.num.messages", "1"),
    ];
    for n in 0..2 * records {
        let record = Record::new(i32::from(n % 2 == 1)).value(vec![0; bytes]);
        produce::produce_with(support::shared().bootstrap(), &topic, &[record], &settings);
    }
    topic
}

/// Runs the shell. Returns its largest resident size in bytes, and its output.
fn peak(arguments: &[&str]) -> (usize, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kafka-sql"))
        .args(["-b", support::shared().bootstrap(), "--memory-limit", LIMIT])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the shell starts");
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().expect("a child").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<usize>().ok());
        most = most.max(kb.unwrap_or(0) << 10);
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("it has ended");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    write!(text, "{error}").expect("a text");
    (most, text)
}

#[track_caller]
fn within_bounds(arguments: &[&str]) -> String {
    within(RESIDENT_MOST, arguments)
}

#[track_caller]
fn within(bound: usize, arguments: &[&str]) -> String {
    let (most, text) = peak(arguments);
    println!("{} MB: {arguments:?}", most / MB);
    assert!(most > 10 * MB, "{arguments:?}: nothing was measured");
    assert!(most < bound, "{arguments:?}: {} MB", most / MB);
    text
}

#[test]
fn a_topic_of_zeros_is_read_exported_and_landed() {
    let topic = zeros(6, 60 * MB);
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let sum = format!("SELECT sum(octet_length(value)) AS n FROM \"{topic}\"");
    let all = format!("{{\"n\":{}}}", 12 * 60 * MB);
    assert!(within_bounds(&["query", &sum]).contains(&all));
    let backwards = format!(
        "SELECT max(length) AS n FROM (SELECT octet_length(value) AS length FROM \"{topic}\" \
         WHERE partition = 1 ORDER BY offset DESC LIMIT 5)"
    );
    within_bounds(&["query", &backwards]);
    let select = format!("SELECT \"offset\", value FROM \"{topic}\"");
    let out = path("out.parquet");
    within(WRITING_MOST, &["query", &select, "-o", &out]);
    within(WRITING_MOST, &["export", &topic, "-o", &path("export")]);
    let job = path("job.sql");
    let text = format!(
        "CREATE EXTERNAL TABLE lake STORED AS PARQUET LOCATION '{}'; \
         INSERT INTO lake SELECT partition, \"offset\", value FROM \"{topic}\";",
        path("lake")
    );
    std::fs::write(&job, text).expect("a file");
    within(WRITING_MOST, &["run", &job, "--available-now"]);
}

#[test]
fn large_logs_are_joined_by_bytes() {
    let topic = admin::unique_topic("logs");
    admin::create_topic(support::shared().bootstrap(), &topic, 2, &[]);
    let settings = [
        ("compression.type", "zstd"),
        ("message.max.bytes", "10000000"),
    ];
    let text = "a line of a log that is like all others; ".repeat(MB / 41);
    let records: Vec<Record> = (0..400)
        .map(|n| {
            let json = format!("{{\"level\":\"info\",\"n\":{n},\"text\":\"{text}\"}}");
            Record::new(n % 2).value(json)
        })
        .collect();
    for records in records.chunks(40) {
        produce::produce_with(support::shared().bootstrap(), &topic, records, &settings);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder
        .path()
        .join("export")
        .to_str()
        .expect("UTF-8")
        .to_owned();
    let option = ["--option", "value.format=json"];
    let sum = format!("SELECT sum(octet_length(value)) AS n FROM \"{topic}\"");
    within_bounds(&["query", &sum]);
    // librdkafka unpacks a Fetch as a whole, so it may only fetch little, as the guide says.
    let little = ["-X", "fetch.message.max.bytes=16384", "query", &sum];
    within_bounds(&[&["-X", "kafka.client=librdkafka"], &little[..]].concat());
    within_bounds(&["export", &topic, option[0], option[1], "-o", &out]);
}
