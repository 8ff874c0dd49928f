//! Commands, statements from files and pipes, and exit codes.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{code, demo, err, kafka_sql, ok, with_input};

/// The message, which must be one line that starts with the program's name.
#[track_caller]
fn one_line(output: &std::process::Output) -> String {
    let text = err(output);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("kafka-sql: "), "{text}");
    for dump in ["Error(\"", "ParserError", "Some(", "backtrace", "panicked"] {
        assert!(!text.contains(dump), "{text}");
    }
    text
}

#[test]
fn topics_match_a_pattern() {
    let all = ok(&demo(&["topics", "--format", "csv"]));
    let names: Vec<&str> = all
        .lines()
        .skip(1)
        .filter_map(|l| l.split(',').next())
        .collect();
    assert_eq!(names, ["changes", "customers", "orders", "payments"]);
    for (pattern, count) in [
        ("ord", 1),
        ("*s", 4),
        ("/orders|payments/", 2),
        ("o?ders", 1),
        ("none*", 0),
    ] {
        let text = ok(&demo(&["topics", pattern]));
        assert_eq!(text.lines().count(), count, "{pattern}: {text}");
    }
}

#[test]
fn describe_shows_partitions_and_columns() {
    let rows = ok(&demo(&["describe", "orders"]));
    assert_eq!(rows.lines().count(), 4, "{rows}");
    let first: serde_json::Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    assert_eq!(first["topic"], "orders");
    assert_eq!(first["log_start_offset"], 0);
    assert!(first["high_watermark"].as_i64().unwrap() > 0);
    assert_eq!(first["replicas"].as_array().unwrap().len(), 3);
    let table = ok(&demo(&["describe", "orders", "--format", "table"]));
    for word in [
        "topic id",
        "cleanup policy",
        "high_watermark",
        "column_name",
        "timestamp_type",
    ] {
        assert!(table.contains(word), "{word}: {table}");
    }
}

#[test]
fn describe_learns_columns_and_writes_the_statement() {
    let statement = ok(&demo(&["describe", "orders", "--infer"]));
    for part in [
        "CREATE EXTERNAL TABLE orders (\n",
        "  quantity BIGINT",
        "  amount DOUBLE",
        "STORED AS KAFKA LOCATION 'orders'",
        "'value.format' 'json'",
    ] {
        assert!(statement.contains(part), "{part}: {statement}");
    }
    // The output is a valid statement, tried here under a free name.
    let named = statement.replace("TABLE orders", "TABLE typed");
    let sql = format!("{named} SELECT count(amount) AS n FROM typed");
    assert_eq!(ok(&demo(&["query", &sql])), "{\"n\":1000}\n");
}

#[test]
fn offsets_resolve_a_range() {
    let rows = ok(&demo(&["offsets", "orders", "-10"]));
    assert_eq!(rows.lines().count(), 4);
    for line in rows.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let (start, end) = (
            row["start_offset"].as_i64().unwrap(),
            row["end_offset"].as_i64().unwrap(),
        );
        assert_eq!(end - start, 10);
        assert_eq!(row["high_watermark"], end);
    }
}

#[test]
fn statements_on_standard_input_run_in_order() {
    let input = "-- two results; one view\nCREATE VIEW v AS SELECT ';' AS x;\nSELECT x FROM v;\nSELECT 2 AS y";
    for args in [&["demo"][..], &["demo", "query", "-f", "-"]] {
        let output = with_input(args, input);
        assert_eq!(ok(&output), "{\"x\":\";\"}\n{\"y\":2}\n");
    }
}

#[test]
fn the_first_failing_statement_stops_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job.sql");
    std::fs::write(
        &file,
        "SELECT 1 AS a;\n\nSELECT nosuch\n  FROM orders;\nSELECT 3 AS c;\n",
    )
    .unwrap();
    let output = demo(&["query", "-f", file.to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{\"a\":1}\n");
    let message = one_line(&output);
    assert!(message.contains("job.sql:3: "), "{message}");
    assert!(message.contains("nosuch"), "{message}");
}

#[test]
fn exit_1_for_bad_sql_and_bad_ranges() {
    for sql in [
        "SELEC 1",
        "SELECT 'open",
        "SELECT nosuch FROM orders",
        "SELECT * FROM kafka('orders', 'x=y')",
        "SELECT 1; SELECT * FROM orders WHERE offset < 'x' || ",
    ] {
        let output = demo(&["query", sql]);
        assert_eq!(code(&output), 1, "{sql}: {}", err(&output));
        one_line(&output);
    }
}

#[test]
fn exit_2_for_bad_flags() {
    for args in [
        &["--nosuch"][..],
        &["query"],
        &["query", "SELECT 1", "--format", "xml"],
        &["query", "-f", "/no/such/file.sql"],
        &["demo", "--examples", "d", "query", "x"],
        &["query", "SELECT 1", "-X", "nosuch.setting=1"],
        &["query", "SELECT 1", "-X", "no-equals-sign"],
    ] {
        let output = kafka_sql().args(args).output().unwrap();
        assert_eq!(code(&output), 2, "{args:?}: {}", err(&output));
        assert!(!err(&output).is_empty());
    }
}

#[test]
fn exit_3_when_no_broker_answers() {
    let started = Instant::now();
    // Nothing listens on port 1.
    let output = kafka_sql()
        .args(["-b", "127.0.0.1:1", "query", "SELECT * FROM orders"])
        .output()
        .unwrap();
    assert_eq!(code(&output), 3, "{}", err(&output));
    assert!(
        started.elapsed() < Duration::from_secs(16),
        "{:?}",
        started.elapsed()
    );
    let line = one_line(&output);
    assert!(line.contains("127.0.0.1:1"), "{line}");
    assert!(line.contains("; 'kafka-sql doctor' checks"), "{line}");
}

#[test]
fn the_demo_is_healthy() {
    let output = demo(&["doctor", "--topic", "orders"]);
    let text = ok(&output);
    assert!(text.contains("\n✓ read orders: READ is allowed"), "{text}");
    let output = demo(&["doctor", "--topic", "ordres", "--json"]);
    assert_eq!(code(&output), 1, "{}", err(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let checks = document["checks"].as_array().unwrap();
    let failed = checks.iter().find(|c| c["outcome"] == "failed").unwrap();
    assert_eq!(failed["check"], "topic");
    assert!(failed.to_string().contains("orders"), "{failed}");
}

#[test]
fn exit_5_for_what_is_not_there() {
    let output = demo(&["query", "SELECT * FROM ordres"]);
    assert_eq!(code(&output), 5, "{}", err(&output));
    let message = one_line(&output);
    assert!(
        message.contains("'ordres'") && message.contains("orders"),
        "{message}"
    );
    let output = demo(&["offsets", "nosuch"]);
    assert_eq!(code(&output), 5, "{}", err(&output));
    let output = demo(&["describe", "nosuch"]);
    assert_eq!(code(&output), 5, "{}", err(&output));
    let output = demo(&["query", "SELECT * FROM kafka('orders', '0=0:1000000')"]);
    assert_eq!(code(&output), 5, "{}", err(&output));
}

#[test]
fn no_cluster_is_needed_for_plain_sql() {
    let output = kafka_sql()
        .args(["query", "SELECT 1 + 1 AS two"])
        .output()
        .unwrap();
    assert_eq!(ok(&output), "{\"two\":2}\n");
}

#[test]
fn an_empty_result_is_success() {
    assert_eq!(
        ok(&demo(&["query", "SELECT * FROM orders WHERE offset < 0"])),
        ""
    );
    assert_eq!(
        ok(&demo(&[
            "query",
            "SELECT key FROM orders WHERE offset < 0",
            "--format",
            "csv"
        ])),
        "key\n"
    );
    assert_eq!(
        ok(&demo(&[
            "query",
            "SELECT key FROM orders WHERE offset < 0",
            "--format",
            "json"
        ])),
        "[]\n"
    );
}

#[test]
fn secrets_are_masked() {
    let output = kafka_sql()
        .args([
            "-b",
            "h:9092",
            "-X",
            "sasl.password=hunter2",
            "-X",
            "client.id=me",
            "-X",
            "dump",
        ])
        .output()
        .unwrap();
    let text = ok(&output);
    assert!(text.contains("client.id=me"), "{text}");
    assert!(text.contains("sasl.password="), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn the_environment_gives_way_to_flags() {
    let dump = |args: &[&str]| {
        let output = kafka_sql()
            .env("KAFKA_SQL_BOOTSTRAP_SERVERS", "from-env:1")
            .args(args)
            .args(["-X", "dump"])
            .output()
            .unwrap();
        ok(&output)
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.properties");
    std::fs::write(
        &file,
        "bootstrap.servers=from-file:1\nclient.id=from-file\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    assert!(dump(&[]).contains("bootstrap.servers=from-env:1"));
    assert!(dump(&["-b", "from-flag:1"]).contains("bootstrap.servers=from-flag:1"));
    let both = dump(&["-F", file]);
    assert!(
        both.contains("bootstrap.servers=from-env:1") && both.contains("client.id=from-file"),
        "{both}"
    );
}

#[test]
fn every_example_runs_and_has_the_rows_it_expects() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql-examples");
    let output = demo(&["--examples", folder.to_str().unwrap()]);
    let text = ok(&output);
    // Its folders contain jobs, which run against their own servers.
    let entries = std::fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().path());
    let files: Vec<_> = entries.filter(|path| path.is_file()).collect();
    let shown = text.lines().filter(|l| l.starts_with("## ")).count();
    assert_eq!(shown, files.len());
    for path in files {
        let sql = std::fs::read_to_string(&path).unwrap();
        assert!(sql.starts_with("-- "), "{path:?} has no leading comment");
        assert!(sql.contains("-- expect: "), "{path:?} expects nothing");
    }
}

#[test]
fn an_example_with_other_rows_fails() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("a.sql"),
        "-- Wrong.\nSELECT 1;\n-- expect: 2 rows\n",
    )
    .unwrap();
    let output = demo(&["--examples", folder.path().to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    assert!(
        err(&output).contains("expected 2 rows, found 1"),
        "{}",
        err(&output)
    );
}
