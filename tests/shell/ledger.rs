//! The summary of offsets on standard error, and receipts.

use crate::support::{code, demo, err, names, ok};

const COUNT: &str = "SELECT count(*) AS n FROM orders";

#[test]
fn nothing_is_said_in_scripts_unless_asked_for() {
    let output = demo(&["query", COUNT]);
    assert_eq!(ok(&output), "{\"n\":1000}\n");
    assert_eq!(err(&output), "");
}

#[test]
fn a_table_of_ranges_and_a_line() {
    let output = demo(&["query", COUNT, "--ledger", "--format", "csv"]);
    assert_eq!(ok(&output), "n\n1000\n");
    let text = err(&output);
    let header = "| topic  | partition | start | end | delivered |";
    assert!(text.contains(header), "{text}");
    assert_eq!(
        text.lines().filter(|l| l.starts_with("| orders ")).count(),
        4
    );
    assert_eq!(
        text.lines().last(),
        Some("4 ranges, 1,000 offsets: 1,000 delivered"),
        "{text}"
    );
    let output = demo(&["query", "SELECT 1", "--ledger", "--format", "csv"]);
    assert_eq!(err(&output), "");
}

#[test]
fn json_of_ranges_where_results_are_json() {
    let sql = "SELECT offset FROM orders WHERE partition = 2 LIMIT 7";
    let output = demo(&["query", sql, "--ledger"]);
    assert_eq!(ok(&output).lines().count(), 7);
    let text = err(&output);
    let ledger: serde_json::Value = serde_json::from_str(text.trim_end()).expect("one object");
    assert_eq!(
        (&ledger["topic"], &ledger["partition"]),
        (&"orders".into(), &2.into())
    );
    assert_eq!(
        (&ledger["start"], &ledger["delivered"]),
        (&0.into(), &7.into())
    );
    let unread = ledger["end"].as_i64().unwrap() - 7;
    assert_eq!(ledger["unread"], unread);
}

#[test]
fn a_receipt_appears_once_and_only_for_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("r.json");
    let path = file.to_str().unwrap();
    let script = format!("SET datafusion.execution.batch_size = 100; {COUNT}");
    ok(&demo(&["query", &script, "--receipt", path]));
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(json["version"], 1);
    let statements = json["statements"].as_array().unwrap();
    assert_eq!(statements.len(), 1);
    assert_eq!(statements[0]["sql"], COUNT);
    assert_eq!(
        statements[0]["scans"][0]["ledger"]
            .as_array()
            .unwrap()
            .len(),
        4
    );

    let again = demo(&["query", COUNT, "--receipt", path]);
    assert_eq!(code(&again), 2, "{}", err(&again));
    ok(&demo(&["query", COUNT, "--receipt", path, "--overwrite"]));

    let other = folder.path().join("other.json");
    for (sql, expected) in [("SELECT 1", 2), ("SELECT * FROM nosuch", 5)] {
        let output = demo(&["query", sql, "--receipt", other.to_str().unwrap()]);
        assert_eq!(code(&output), expected, "{}", err(&output));
    }
    assert_eq!(names(folder.path()), ["r.json"]);
}

#[test]
fn a_rerun_needs_a_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("r.json");
    let path = file.to_str().unwrap();
    let missing = demo(&["rerun", path]);
    assert_eq!(code(&missing), 2);
    assert!(
        err(&missing).ends_with("r.json: no such file\n"),
        "{}",
        err(&missing)
    );
    std::fs::write(&file, "{\"version\":9}").unwrap();
    let unknown = demo(&["rerun", path]);
    assert_eq!(code(&unknown), 1);
    assert!(
        err(&unknown).contains("version 9 is unknown"),
        "{}",
        err(&unknown)
    );
}
