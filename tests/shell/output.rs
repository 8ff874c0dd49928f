//! Formats, files and pipes.

use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{code, demo, err, kafka_sql, names, ok};

const FIRST_THREE: &str = "SELECT partition, offset, key, value IS NULL AS gone FROM orders WHERE partition = 0 AND offset < 3 ORDER BY offset";

/// More rows than any pipe or test would wait for.
const ENDLESS: &str = "SELECT a.offset AS x, b.offset AS y, c.value FROM orders a CROSS JOIN orders b CROSS JOIN orders c";

fn first_three(format: &str) -> String {
    ok(&demo(&["query", FIRST_THREE, "--format", format]))
}

#[test]
fn ndjson_is_the_default_on_a_pipe() {
    let text = ok(&demo(&["query", FIRST_THREE]));
    let rows: Vec<serde_json::Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(rows.len(), 3);
    for (i, row) in rows.iter().enumerate() {
        assert_eq!(row["partition"], 0);
        assert_eq!(row["offset"], i);
        assert!(row["key"].as_str().unwrap().starts_with("c-"), "{row}");
        assert_eq!(row["gone"], false);
    }
}

#[test]
fn text_formats_hold_the_same_rows() {
    let json: serde_json::Value = serde_json::from_str(&first_three("json")).unwrap();
    let keys: Vec<&str> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["key"].as_str().unwrap())
        .collect();
    let csv = first_three("csv");
    assert_eq!(csv.lines().next(), Some("partition,offset,key,gone"));
    assert_eq!(
        csv.lines().nth(2),
        Some(format!("0,1,{},false", keys[1]).as_str())
    );
    let tsv = first_three("tsv");
    assert_eq!(
        tsv.lines().nth(3),
        Some(format!("0\t2\t{}\tfalse", keys[2]).as_str())
    );
    let table = first_three("table");
    assert!(
        table.contains("| partition | offset | key   | gone  |"),
        "{table}"
    );
    assert_eq!(table.lines().filter(|l| l.starts_with("| 0 ")).count(), 3);
}

#[test]
fn null_and_tombstones_are_explicit() {
    let text = ok(&demo(&[
        "query",
        "SELECT key, value FROM customers WHERE value IS NULL",
    ]));
    assert_eq!(text.lines().count(), 5);
    assert!(
        text.lines().all(|l| l.ends_with(r#""value":null}"#)),
        "{text}"
    );
}

#[test]
fn bytes_are_text_base64_or_hex() {
    let till = "SELECT h['value'] AS v FROM (SELECT unnest(headers) AS h FROM orders) WHERE h['key'] = 'till' LIMIT 1";
    let value = |bytes: &str| {
        let text = ok(&demo(&["query", till, "--bytes", bytes]));
        let row: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        row["v"].as_str().unwrap().to_owned()
    };
    assert!(value("auto").starts_with("/w"));
    assert!(value("base64").starts_with("/w"));
    assert!(value("hex").starts_with("ff0"));
    let refused = demo(&["query", till, "--bytes", "utf8"]);
    assert_eq!(code(&refused), 1);
    assert!(err(&refused).contains("is not UTF-8"), "{}", err(&refused));
}

#[test]
fn parquet_and_arrow_files_can_be_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let all = "SELECT partition, offset, timestamp, key, value, headers FROM orders";
    for name in ["orders.parquet", "orders.arrow"] {
        let path = folder.path().join(name);
        let path = path.to_str().unwrap();
        assert_eq!(ok(&demo(&["query", all, "-o", path])), "");
        let rows: usize = if name.ends_with("parquet") {
            use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
            let reader =
                ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
            reader.build().unwrap().map(|b| b.unwrap().num_rows()).sum()
        } else {
            let reader =
                arrow::ipc::reader::FileReader::try_new(fs::File::open(path).unwrap(), None)
                    .unwrap();
            reader.map(|b| b.unwrap().num_rows()).sum()
        };
        assert_eq!(rows, 1000, "{name}");
    }
    assert_eq!(names(folder.path()), ["orders.arrow", "orders.parquet"]);
}

#[test]
fn arrow_on_a_pipe_is_the_stream_format() {
    let output = demo(&["query", FIRST_THREE, "--format", "arrow"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let reader = arrow::ipc::reader::StreamReader::try_new(output.stdout.as_slice(), None).unwrap();
    assert_eq!(reader.map(|b| b.unwrap().num_rows()).sum::<usize>(), 3);
}

#[test]
fn an_existing_file_is_not_touched_without_overwrite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.csv");
    fs::write(&path, "precious").unwrap();
    let file = path.to_str().unwrap();
    let refused = demo(&["query", FIRST_THREE, "-o", file]);
    assert_eq!(code(&refused), 2);
    assert!(
        err(&refused).contains("exists; add --overwrite"),
        "{}",
        err(&refused)
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    ok(&demo(&["query", FIRST_THREE, "-o", file, "--overwrite"]));
    assert_eq!(fs::read_to_string(&path).unwrap(), first_three("csv"));
    assert_eq!(names(folder.path()), ["out.csv"]);
}

#[test]
fn a_failing_query_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.ndjson");
    // Fails in the middle of the result, because a key is not a number.
    let failing = "SELECT CAST(CAST(key AS VARCHAR) AS BIGINT) FROM orders";
    let output = demo(&["query", failing, "-o", file.to_str().unwrap()]);
    assert_eq!(code(&output), 1, "{}", err(&output));
    assert_eq!(names(folder.path()), [] as [&str; 0]);
}

#[test]
fn ctrl_c_ends_with_130_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.csv");
    let mut child = kafka_sql()
        .args(["demo", "query", ENDLESS, "-o", file.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let patience = Instant::now() + Duration::from_secs(30);
    let written = || {
        fs::read_dir(folder.path())
            .unwrap()
            .any(|e| e.unwrap().metadata().is_ok_and(|m| m.len() > 0))
    };
    while !written() {
        assert!(Instant::now() < patience, "nothing was written");
        std::thread::sleep(Duration::from_millis(20));
    }
    let sent = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(names(folder.path()), [] as [&str; 0]);
}

#[test]
fn a_closed_pipe_ends_quietly() {
    for format in ["ndjson", "csv", "json", "arrow"] {
        let mut child = kafka_sql()
            .args(["demo", "query", ENDLESS, "--format", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut reader = child.stdout.take().unwrap();
        // Like `head -c 100`: reads a little, then closes the pipe.
        let mut first = [0; 100];
        reader.read_exact(&mut first).unwrap();
        drop(reader);
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(&output), 0, "{format}: {}", err(&output));
        assert_eq!(err(&output), "", "{format}");
    }
}

#[test]
fn a_table_is_cut_and_says_so() {
    let text = ok(&demo(&[
        "query",
        "SELECT offset FROM orders",
        "--format",
        "table",
        "--maxrows",
        "5",
    ]));
    assert!(text.contains("The first 5 rows; there are more"), "{text}");
    let text = ok(&demo(&[
        "query",
        "SELECT offset FROM orders",
        "--format",
        "table",
        "--maxrows",
        "all",
    ]));
    assert_eq!(text.lines().filter(|l| l.starts_with("| ")).count(), 1001);
}

#[test]
fn a_file_holds_one_result() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.csv");
    let output = demo(&["query", "SELECT 1; SELECT 2", "-o", file.to_str().unwrap()]);
    assert_eq!(code(&output), 2);
    assert!(
        err(&output).contains("a file holds one result"),
        "{}",
        err(&output)
    );
    assert_eq!(names(folder.path()), [] as [&str; 0]);
}

/// Pipes and files get unchanged what a terminal must not be sent.
#[test]
fn pipes_get_every_byte() {
    let sql = "SELECT chr(27) || '[2J' || chr(155) || chr(13) AS v";
    let output = kafka_sql()
        .args(["query", sql, "--format", "csv"])
        .output()
        .unwrap();
    assert_eq!(ok(&output), "v\n\"\u{1b}[2J\u{9b}\r\"\n");
}
