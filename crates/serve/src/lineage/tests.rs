//! Events of batches, as their readers get them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use datafusion_kafka::driver::{SinkProgress, SourceProgress};
use datafusion_kafka::range::OffsetRange;

use super::*;

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

fn listener(lineage: &Lineage) -> JobLineage {
    let secret = "INSERT INTO t SELECT * FROM kafka('orders', 'sasl.password=hunter2')";
    lineage.job(
        "prod",
        "landing",
        &[secret.to_owned()],
        "broker:9092",
        vec![("others".to_owned(), "elsewhere:9092".to_owned())],
        None,
    )
}

fn read(file: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_batch_is_a_run_with_inputs_and_outputs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lineage.ndjson");
    let lineage = Lineage::start(&Destination::File(file.clone())).unwrap();
    let job = listener(&lineage);
    job.failed(Some(7), 0, "orders[0]@700: no");
    let mut committed = progress(7);
    committed.retries = 1;
    job.committed(&committed);
    job.committed(&progress(8));
    drop(job);
    lineage.close().await;

    let events = read(&file);
    let types: Vec<_> = events.iter().map(|e| e["eventType"].as_str().unwrap()).collect();
    assert_eq!(types, ["FAIL", "START", "COMPLETE", "START", "COMPLETE"]);
    let run = |event: usize| events[event]["run"]["runId"].as_str().unwrap();
    assert_eq!(run(1), run(2));
    assert_ne!(run(0), run(1), "an attempt that failed is a run of its own");
    assert_ne!(run(2), run(4));
    assert_eq!(
        events[0]["run"]["facets"]["errorMessage"]["message"],
        "orders[0]@700: no"
    );

    let event = &events[2];
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
    assert_eq!(input["inputFacets"]["inputStatistics"]["rowCount"], 98);
    let output = &event["outputs"][0];
    assert_eq!(output["namespace"], "postgres://db:5432");
    assert_eq!(output["name"], "shop.public.orders");
    assert_eq!(output["outputFacets"]["outputStatistics"]["rowCount"], 98);
    assert_eq!(event["run"]["facets"]["kafkaSql_batch"]["batch"], 7);
    let time = |event: usize| -> Timestamp { events[event]["eventTime"].as_str().unwrap().parse().unwrap() };
    let lasted = time(2).as_millisecond() - time(1).as_millisecond();
    assert_eq!(lasted, 1500);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn topics_of_another_cluster_have_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lineage.ndjson");
    let lineage = Lineage::start(&Destination::File(file.clone())).unwrap();
    let job = listener(&lineage);
    let mut committed = progress(0);
    committed.sources[0].source = "others".to_owned();
    committed.sources[0].ranges.push(OffsetRange::try_new("b", 0, 0, 1).unwrap());
    job.committed(&committed);
    drop(job);
    lineage.close().await;
    let events = read(&file);
    let named = |n: usize| {
        let input = &events[1]["inputs"][n];
        let facets = input["inputFacets"].as_object().unwrap();
        (input["namespace"].clone(), input["name"].clone(), facets.contains_key("inputStatistics"))
    };
    // The counts are of both topics, and stand once.
    assert_eq!(named(0), (json!("kafka://elsewhere:9092"), json!("b"), true));
    assert_eq!(named(1), (json!("kafka://elsewhere:9092"), json!("orders"), false));
}

/// Answers requests in turn, and returns them.
fn server(answers: &'static [&'static str]) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}/api/v1/lineage", listener.local_addr().unwrap().port());
    let thread = std::thread::spawn(move || {
        let answer = |answer: &&str| {
            let (mut stream, _) = listener.accept().unwrap();
            let request = request(&mut stream);
            write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
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
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
            });
            if body.len() >= length.unwrap().unwrap() {
                return text;
            }
        }
        assert_ne!(read, 0, "the request is cut: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_busy_is_asked_again() {
    let (url, thread) = server(&["503 Service Unavailable", "201 Created", "400 Bad Request", "201 Created"]);
    let token = Some(Token("s3cret".to_owned()));
    let destination = Destination::Url { url, token };
    assert!(!format!("{destination:?}").contains("s3cret"));
    let lineage = Lineage::start(&destination).unwrap();
    let job = listener(&lineage);
    job.committed(&progress(1));
    job.failed(Some(2), 0, "no");
    drop(job);
    lineage.close().await;
    let requests = thread.join().unwrap();
    let types: Vec<_> = requests
        .iter()
        .map(|request| {
            assert!(request.starts_with("POST /api/v1/lineage HTTP/1.1\r\n"), "{request}");
            assert!(request.contains("authorization: Bearer s3cret\r\n"), "{request}");
            let (_, body) = request.split_once("\r\n\r\n").unwrap();
            let event: Value = serde_json::from_str(body).unwrap();
            event["eventType"].as_str().unwrap().to_owned()
        })
        .collect();
    // A refusal is final, and the next event comes.
    assert_eq!(types, ["START", "START", "COMPLETE", "FAIL"]);
}

#[tokio::test]
async fn what_is_no_place_for_events_is_refused() {
    for (url, says) in [
        ("nonsense", "lineage.url is not a URL: relative URL without a base"),
        ("ftp://host/x", "lineage.url: expected http://… or https://…, found the scheme 'ftp'"),
    ] {
        let destination = Destination::Url { url: url.to_owned(), token: None };
        assert_eq!(Lineage::start(&destination).unwrap_err(), says);
    }
    let file = Destination::File("/nonexistent/lineage.ndjson".into());
    assert!(Lineage::start(&file).unwrap_err().starts_with("/nonexistent/lineage.ndjson: "));
}

/// The facets that have a definition of ours are as it says: no field is missing there or here.
#[test]
fn facets_are_as_their_definitions_say() {
    let lineage = LineageJob {
        namespace: "n".to_owned(),
        name: "j".to_owned(),
        sql: String::new(),
        servers: vec![],
        connection: "h:1".to_owned(),
        start: Uuid::nil(),
    };
    let receipt = Some(json!({ "intent": {} }));
    let [_, event] = lineage.committed(&progress(0), receipt, Timestamp::UNIX_EPOCH);
    let event = serde_json::to_value(event).unwrap();
    let schema: Value = serde_json::from_str(include_str!("facets.json")).unwrap();
    let facets = [
        &event["run"]["facets"]["kafkaSql_batch"],
        &event["run"]["facets"]["kafkaSql_receipt"],
        &event["inputs"][0]["inputFacets"]["kafkaSql_ranges"],
    ];
    for facet in facets {
        let (_, name) = facet["_schemaURL"].as_str().unwrap().rsplit_once('/').unwrap();
        let fields = facet.as_object().unwrap();
        let known = schema["$defs"][name]["properties"].as_object().unwrap();
        assert_eq!(
            fields.keys().collect::<std::collections::BTreeSet<_>>(),
            known.keys().collect(),
            "{name}"
        );
    }
}
