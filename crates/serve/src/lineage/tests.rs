//! Events of batches, as their readers get them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use datafusion_kafka::driver::{SinkProgress, SourceProgress};
use datafusion_kafka::range::OffsetRange;
use serde_json::{Value, json};

use super::*;
use crate::config::Config;

fn progress(batch: u64) -> BatchProgress {
    let mut source = SourceProgress::default();
    source.source = "orders".to_owned();
    source.ranges = vec![
        OffsetRange::try_new("orders", 0, 700, 800).unwrap(),
        OffsetRange::try_new("orders", 1, 5, 9).unwrap(),
    ];
    source.records = 98;
    source.bytes = 10_200;
    source.ledger.delivered = 98;
    source.ledger.control = 6;
    let mut sink = SinkProgress::default();
    sink.target = "postgres://db:5432/shop/orders".to_owned();
    sink.rows = 98;
    let mut progress = BatchProgress::default();
    progress.job = "landing".to_owned();
    progress.batch = batch;
    progress.run = "r".repeat(32);
    progress.duration_ms = 1500.0;
    progress.sources = vec![source];
    progress.sinks = vec![sink];
    progress
}

fn intent(batch: u64) -> Intent {
    let json = json!({
        "version": 1, "job": "landing", "batch": batch, "run": "r".repeat(32), "created_ms": 0, "sources": [],
    });
    serde_json::from_value(json).unwrap()
}

fn config(text: &str) -> LineageConfig {
    let text = format!("[lineage]\nnamespace = \"prod\"\n{text}");
    Config::parse(&text, Path::new("/"))
        .unwrap()
        .lineage
        .unwrap()
}

/// A folder with a job, and the lineage that goes to a file in it.
fn to_file() -> (tempfile::TempDir, PathBuf, Lineage) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lineage.ndjson");
    let lineage = Lineage::start(&config(&format!("file = {:?}", file.display().to_string())));
    (folder, file, lineage.unwrap())
}

fn job(lineage: &Lineage, folder: &Path) -> Arc<JobLineage> {
    let file = folder.join("landing.sql");
    let sql = "CREATE EXTERNAL TABLE o STORED AS KAFKA LOCATION 'o' OPTIONS ('sasl.password' 'hunter2'); INSERT INTO t SELECT 1";
    std::fs::write(&file, sql).unwrap();
    lineage.job("landing", &file, "broker:9092")
}

fn read(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_batch_is_a_run_with_inputs_and_outputs() {
    let (folder, file, lineage) = to_file();
    let job = job(&lineage, folder.path());
    job.began(&intent(7));
    job.failed("orders[0]@700: no");
    job.failed("the next start fails before a batch is fixed");
    job.began(&intent(7));
    job.committed(&progress(7));
    job.began(&intent(8));
    job.committed(&progress(8));
    lineage.close().await;

    let events = read(&file);
    let types = events.iter().map(|e| e["eventType"].as_str().unwrap());
    let expected = ["START", "FAIL", "START", "COMPLETE", "START", "COMPLETE"];
    assert_eq!(types.collect::<Vec<_>>(), expected);
    let run = |event: usize| events[event]["run"]["runId"].as_str().unwrap();
    assert_eq!(run(0), run(1));
    assert_ne!(run(1), run(2), "an attempt that failed has ended");
    assert_eq!(run(2), run(3));
    assert_ne!(run(3), run(4));
    let message = &events[1]["run"]["facets"]["errorMessage"]["message"];
    assert_eq!(message, "orders[0]@700: no");

    let event = &events[3];
    assert_eq!(event["job"]["namespace"], "prod");
    assert_eq!(event["job"]["name"], "landing");
    let [input] = event["inputs"].as_array().unwrap().as_slice() else {
        panic!("{event}");
    };
    assert_eq!(input["namespace"], "kafka://broker:9092");
    assert_eq!(input["name"], "orders");
    let ranges = &input["inputFacets"]["kafkaSql_ranges"];
    assert_eq!(ranges["ranges"][0]["end"], 800);
    assert_eq!(ranges["ledger"]["control"], 6);
    let statistics = &input["inputFacets"]["inputStatistics"];
    assert_eq!(statistics["rowCount"], 98);
    let output = &event["outputs"][0];
    assert_eq!(output["namespace"], "postgres://db:5432");
    assert_eq!(output["name"], "shop.public.orders");
    let statistics = &output["outputFacets"]["outputStatistics"];
    assert_eq!(statistics["rowCount"], 98);
    let facets = &event["run"]["facets"];
    assert_eq!(facets["kafkaSql_batch"]["batch"], 7);
    assert_eq!(facets["kafkaSql_receipt"]["intent"]["batch"], 7);
    let sql = event["job"]["facets"]["sql"]["query"].as_str().unwrap();
    assert!(
        sql.contains("[redacted]") && !sql.contains("hunter2"),
        "{sql}"
    );
}

#[tokio::test]
async fn topics_of_another_cluster_have_its_name() {
    let (folder, file, lineage) = to_file();
    let job = job(&lineage, folder.path());
    let elsewhere = vec![("others".to_owned(), "elsewhere:9092".to_owned())];
    job.about.elsewhere.set(elsewhere).unwrap();
    let mut committed = progress(0);
    committed.sources[0].source = "others".to_owned();
    let more = OffsetRange::try_new("b", 0, 0, 1).unwrap();
    committed.sources[0].ranges.push(more);
    job.began(&intent(0));
    job.committed(&committed);
    lineage.close().await;

    let events = read(&file);
    let inputs = events[1]["inputs"].as_array().unwrap().iter();
    let named: Vec<_> = inputs
        .map(|input| {
            let counts = input["inputFacets"].get("inputStatistics");
            (&input["namespace"], &input["name"], counts.is_some())
        })
        .collect();
    let namespace = json!("kafka://elsewhere:9092");
    let names = [json!("b"), json!("orders")];
    // The counts are of both topics, and stand once.
    let expected = [
        (&namespace, &names[0], true),
        (&namespace, &names[1], false),
    ];
    assert_eq!(named, expected);
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_made_anew() {
    let (folder, file, lineage) = to_file();
    let job = job(&lineage, folder.path());
    job.began(&intent(0));
    while std::fs::read_to_string(&file).unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    std::fs::rename(&file, folder.path().join("old")).unwrap();
    job.committed(&progress(0));
    lineage.close().await;
    assert_eq!(read(&file)[0]["eventType"], "COMPLETE");
}

/// Answers requests in turn, and returns them.
fn server(answers: &'static [&'static str]) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/v1/lineage", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let answer = |answer: &&str| {
            let (mut stream, _) = listener.accept().unwrap();
            let request = request(&mut stream);
            let head =
                format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            request
        };
        answers.iter().map(answer).collect()
    });
    (url, thread)
}

/// A request with its body, whose length it says.
fn request(stream: &mut TcpStream) -> String {
    let mut bytes = vec![];
    loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).unwrap();
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut headers = head.lines().filter_map(|line| line.split_once(':'));
            let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            if body.len() >= length.unwrap().1.trim().parse::<usize>().unwrap() {
                return text;
            }
        }
        assert_ne!(read, 0, "the request is cut: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_busy_is_asked_again() {
    let (url, thread) = server(&[
        "503 Service Unavailable",
        "201 Created",
        "400 Bad Request",
        "201 Created",
    ]);
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "s3cret").unwrap();
    let config = config(&format!(
        "url = {url:?}\ntoken = \"file:{}\"",
        token.display()
    ));
    assert!(!format!("{config:?}").contains("s3cret"));
    let lineage = Lineage::start(&config).unwrap();
    let job = job(&lineage, folder.path());
    job.began(&intent(1));
    job.committed(&progress(1));
    job.began(&intent(2));
    lineage.close().await;
    let requests = thread.join().unwrap();
    let types = requests.iter().map(|request| {
        assert!(
            request.starts_with("POST /api/v1/lineage HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(
            request.contains("authorization: Bearer s3cret\r\n"),
            "{request}"
        );
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        let event: Value = serde_json::from_str(body).unwrap();
        event["eventType"].as_str().unwrap().to_owned()
    });
    // A refusal is final, and the next event comes.
    let expected = ["START", "START", "COMPLETE", "START"];
    assert_eq!(types.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn what_is_no_place_for_events_is_refused() {
    for (place, says) in [
        (
            "url = 'nonsense'",
            "lineage.url: not a URL: relative URL without a base",
        ),
        (
            "url = 'ftp://host/x'",
            "lineage.url: expected http://… or https://…, found the scheme 'ftp'",
        ),
        (
            "file = '/nonexistent/lineage.ndjson'",
            "lineage.file: /nonexistent/lineage.ndjson: No such file or directory (os error 2)",
        ),
    ] {
        let problem = Lineage::start(&config(place)).unwrap_err();
        assert_eq!(problem.message, says);
    }
}

/// The facets of ours are as their definitions say: no field is missing there or here.
#[test]
fn facets_are_as_their_definitions_say() {
    let about = About {
        namespace: "n".to_owned(),
        name: "j".to_owned(),
        sql: String::new(),
        servers: "h:1".to_owned(),
        elsewhere: OnceLock::new(),
    };
    let event = about.committed(Uuid::nil(), &intent(0), &progress(0), Timestamp::UNIX_EPOCH);
    let event = serde_json::to_value(event).unwrap();
    let schema: Value = serde_json::from_str(include_str!("facets.json")).unwrap();
    let facets = [
        &event["run"]["facets"]["kafkaSql_batch"],
        &event["run"]["facets"]["kafkaSql_receipt"],
        &event["inputs"][0]["inputFacets"]["kafkaSql_ranges"],
    ];
    for facet in facets {
        let schema_url = facet["_schemaURL"].as_str().unwrap();
        let (_, name) = schema_url.rsplit_once('/').unwrap();
        let mut fields: Vec<_> = facet.as_object().unwrap().keys().collect();
        let known = schema["$defs"][name]["properties"].as_object().unwrap();
        let mut known: Vec<_> = known.keys().collect();
        fields.sort();
        known.sort();
        assert_eq!(fields, known, "{name}");
    }
}
