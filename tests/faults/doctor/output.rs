//! What the command prints, and how it ends.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::run::{at, doctor, text, with};
use super::servers::{closed_port, server};
use crate::support::PASSWORD;

/// Secrets are hidden; each other setting has its value and where it comes from.
#[test]
fn settings_have_their_sources() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("client.properties");
    let lines = format!(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username=file\nsasl.password={PASSWORD}\n"
    );
    std::fs::write(&file, lines).expect("written");
    let port = closed_port();
    let output = doctor(&[
        "-X".to_owned(),
        "sasl.username=me".to_owned(),
        "--json".to_owned(),
    ])
    .env("KAFKA_SQL_BOOTSTRAP_SERVERS", format!("127.0.0.1:{port}"))
    .env("KAFKA_SQL_CONFIG", &file)
    .output()
    .expect("the shell starts");
    let (out, err) = text(&output);
    assert!(!out.contains(PASSWORD), "{out}");
    let document: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    assert_eq!(document["version"], 1);
    assert_eq!(document["outcome"], "failed");
    let settings = document["checks"][0]["facts"]["settings"]
        .as_array()
        .expect("a list");
    let find = |key: &str| {
        let found = settings.iter().find(|s| s["key"] == key);
        let found = found.unwrap_or_else(|| panic!("no {key}: {out}"));
        (
            found["value"].as_str().expect("text"),
            found["source"].as_str().expect("text"),
        )
    };
    let of_file = format!("file {} of KAFKA_SQL_CONFIG", file.display());
    assert_eq!(find("sasl.username"), ("me", "option -X"));
    assert_eq!(find("sasl.mechanism"), ("PLAIN", of_file.as_str()));
    assert_eq!(find("sasl.password"), ("[redacted]", of_file.as_str()));
    let from = "environment KAFKA_SQL_BOOTSTRAP_SERVERS";
    assert_eq!(find("bootstrap.servers").1, from);
    assert_eq!(find("isolation.level"), ("read_committed", "default"));

    let given = vec!["-b".to_owned(), format!("localhost:{port}")];
    let output = doctor(&given)
        .env("KAFKA_SQL_BOOTSTRAP_SERVERS", "ignored:1")
        .output()
        .expect("the shell starts");
    let (out, _) = text(&output);
    let line = format!("    bootstrap.servers = localhost:{port} (option -b)\n");
    assert!(out.contains(&line), "{out}");
}

#[test]
fn text_has_a_line_a_check_and_what_to_do_below_it() {
    let args = at(&format!("127.0.0.1:{}", closed_port()));
    let output = doctor(&args).output().expect("the shell starts");
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(out.contains("\n✓ name 127.0.0.1: 127.0.0.1 in "), "{out}");
    assert!(out.contains("\n✗ connect 127.0.0.1:"), "{out}");
    assert!(out.contains("\n    → is a broker running there"), "{out}");
    assert!(out.contains("\n– login 127.0.0.1:"), "{out}");
    assert!(out.ends_with(" skipped\n"), "{out}");
    assert_eq!(err, "kafka-sql: a check failed\n");
    let none = doctor(&[]).output().expect("the shell starts");
    assert_eq!(none.status.code(), Some(2), "{}", text(&none).1);
    let formatted = doctor(&with(args, &["--format", "csv"]))
        .output()
        .expect("it starts");
    assert_eq!(formatted.status.code(), Some(2), "{}", text(&formatted).1);
}

#[test]
fn an_interrupt_ends_it_at_once() {
    let args = vec!["-b".to_owned(), server(b"")];
    let child = doctor(&with(args, &["--step-timeout", "10m"]))
        .spawn()
        .expect("it starts");
    std::thread::sleep(Duration::from_millis(1500));
    crate::job::signal(child.id(), "INT");
    let begun = Instant::now();
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{:?}", text(&output));
    assert!(begun.elapsed() < Duration::from_secs(60));
}
