//! What statements, exports and jobs may read.

use crate::support::{code, demo, err, ok};

/// Orders have 1,000 records.
#[test]
fn a_budget_is_a_flag_a_setting_and_an_option() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (out, job, database) = (path("out"), path("job.sql"), path("out.db"));
    let text = format!(
        "CREATE EXTERNAL TABLE out STORED AS SQLITE LOCATION '{database}' OPTIONS ('table' 'held');\n\
         INSERT INTO out SELECT partition, \"offset\" FROM orders;\n"
    );
    std::fs::write(&job, text).unwrap();
    let count = "SELECT count(*) FROM orders";
    let flag = ["--max-scan-records", "999"];
    let twice = "SELECT count(*) FROM orders UNION ALL SELECT count(*) FROM kafka('orders')";
    let set = format!("SET kafka.max.scan.records = 999; {count}");
    let lifted = format!("SET kafka.max.scan.records = none; {count}");
    let option = "SELECT count(*) FROM kafka('orders', 'max.scan.records=999')";
    let export = ["export", "orders", "-o", &out];
    let run = ["run", &job, "--available-now"];
    let cases: [(Vec<&str>, i32, &str); 15] = [
        (vec!["query", count], 0, ""),
        (
            [&["query", count][..], &flag].concat(),
            7,
            "reads up to 1,000 records of orders, and 'max.scan.records' allows 999",
        ),
        (vec!["query", count, "-X", "max.scan.records=1k"], 0, ""),
        (
            vec!["query", twice, "-X", "max.scan.records=1999"],
            7,
            "reads up to 2,000 records of orders",
        ),
        (vec!["query", &set], 7, "line 1: nothing was read"),
        ([&["query", &lifted][..], &flag].concat(), 0, ""),
        (vec!["query", option], 7, "of the table allows 999"),
        (
            vec!["query", count, "--max-scan-bytes", "10k"],
            7,
            "'max.scan.bytes' allows 10.0 KiB",
        ),
        (
            vec![
                "query",
                "SELECT * FROM orders LIMIT 5",
                "--max-scan-bytes",
                "10k",
            ],
            0,
            "",
        ),
        (
            vec![
                "query",
                "EXPLAIN SELECT * FROM orders",
                "--max-scan-bytes",
                "10k",
            ],
            0,
            "",
        ),
        (
            [&export[..], &flag].concat(),
            7,
            "reads up to 1,000 records of orders",
        ),
        (
            [&run[..], &flag].concat(),
            7,
            "reads up to 1,000 records of orders",
        ),
        (
            vec!["query", count, "--max-scan-time", "soon"],
            2,
            "such as '30s' or '10m'",
        ),
        (
            [&["doctor"][..], &flag].concat(),
            2,
            "'doctor' runs none of them",
        ),
        (
            vec!["query", count, "--restricted", "-X", "max.scan.records=999"],
            7,
            "allows 999",
        ),
    ];
    for (arguments, expected, message) in cases {
        let output = demo(&arguments);
        let said = err(&output);
        assert_eq!(code(&output), expected, "{arguments:?}: {said}");
        assert!(said.contains(message), "{arguments:?}: {said}");
    }
    // Text in a restricted session cannot raise it.
    let raised = demo(&[
        "query",
        &lifted,
        "--restricted",
        "--max-scan-records",
        "999",
    ]);
    assert_ne!(code(&raised), 0);
    assert!(err(&raised).contains("is fixed"), "{}", err(&raised));
    let explained = ok(&demo(&[
        "query",
        "EXPLAIN SELECT * FROM orders",
        "--format",
        "csv",
    ]));
    assert!(explained.contains("offsets=1000, bytes=~"), "{explained}");
}

/// What was shown before is not taken for a result: a file does not appear.
#[test]
fn a_statement_that_is_stopped_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv").display().to_string();
    // The topic has smaller records where it is looked at than all in all, or the time is over.
    let arguments = [
        "query",
        "SELECT * FROM orders",
        "-o",
        &file,
        "--max-scan-time",
        "1ns",
    ];
    let output = demo(&arguments);
    assert_eq!(code(&output), 7, "{}", err(&output));
    assert!(err(&output).contains("stopped after"), "{}", err(&output));
    assert!(crate::support::names(folder.path()).is_empty());
}

/// A pipe has no width, whatever a variable says of a terminal.
#[test]
fn tables_have_their_full_width_where_there_is_no_terminal() {
    let mut command = crate::support::kafka_sql();
    command.args([
        "demo",
        "query",
        "SELECT * FROM payments WHERE offset < 2",
        "--format",
        "table",
    ]);
    command.env("COLUMNS", "40").env("PAGER", "echo paged");
    let output = command.output().unwrap();
    let text = ok(&output);
    assert!(
        !text.contains('…') && !text.contains("paged") && !text.contains('\u{1b}'),
        "{text}"
    );
    let lines: Vec<usize> = text.lines().map(str::len).collect();
    assert!(
        lines.len() == 12 && lines.iter().all(|length| *length > 160),
        "{text}"
    );
}
