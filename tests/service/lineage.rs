//! Events of OpenLineage: what they say of the batches, and that its own client reads them.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::running::{Files, LIMIT, Running, assert_no_secret, new_topic, produce_to, section};
use crate::support::{repository, s3, shared, wait_until};

#[test]
fn each_batch_is_told_with_its_ranges_and_sinks() {
    let topic = new_topic();
    produce_to(shared().bootstrap(), &topic, 300);
    let files = Files::new();
    files.job("orders", &topic);
    let lineage = "[lineage]\nfile = \"lineage.ndjson\"\nnamespace = \"tests\"\n";
    files.service(&(section("orders", "max_offsets = 100") + lineage));
    let running = Running::start(&files);
    files.wait_for_each_once("orders", 300);

    // A sink that somebody holds: an attempt fails, and the batch is tried again.
    let database = files.path("orders.db");
    let locked = rusqlite::Connection::open(&database).expect("a database");
    locked.execute_batch("BEGIN EXCLUSIVE").expect("a lock");
    produce_to(shared().bootstrap(), &topic, 60);
    wait_until(LIMIT, "an attempt fails", || {
        let totals = &running.job("orders")["totals"];
        (totals["retries"] != 0 || totals["failed"] != 0).then_some(())
    });
    locked.execute_batch("ROLLBACK").expect("it is held");
    drop(locked);
    files.wait_for_each_once("orders", 360);
    let (ended, said) = running.end();
    assert!(ended.success(), "{said}");

    let file = files.path("lineage.ndjson");
    let text = std::fs::read_to_string(&file).expect("events");
    assert_no_secret([text.as_str()]);
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    // Each run begins once and ends once.
    let mut runs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for event in &events {
        let run = event["run"]["runId"].as_str().expect("an id");
        let what = event["eventType"].as_str().expect("a type");
        runs.entry(run).or_default().push(what);
    }
    let fits = |run: &Vec<&str>| matches!(run[..], ["START", "COMPLETE" | "FAIL"]);
    assert!(runs.values().all(fits), "{runs:?}");
    assert!(runs.values().any(|run| run[1] == "FAIL"), "{runs:?}");

    // The ranges of the batches follow each other without a gap, and have all records.
    let mut ends: BTreeMap<i64, i64> = BTreeMap::new();
    let (mut read, mut written) = (0, 0);
    for event in events
        .iter()
        .filter(|event| event["eventType"] == "COMPLETE")
    {
        assert_eq!(event["job"]["namespace"], "tests");
        assert_eq!(event["job"]["name"], "orders");
        let input = &event["inputs"][0];
        let servers = shared().bootstrap();
        assert_eq!(input["namespace"], format!("kafka://{servers}"));
        assert_eq!(input["name"], topic.as_str());
        let facets = &input["inputFacets"];
        read += facets["inputStatistics"]["rowCount"]
            .as_i64()
            .expect("a count");
        let ranges = facets["kafkaSql_ranges"]["ranges"].as_array();
        for range in ranges.expect("ranges") {
            let number = |field: &str| range[field].as_i64().expect("a number");
            let end = ends.entry(number("partition")).or_default();
            assert_eq!(*end, number("start"), "{event}");
            *end = number("end");
        }
        let receipt = &event["run"]["facets"]["kafkaSql_receipt"]["intent"];
        let snapshot = &receipt["sources"][0]["snapshot"];
        assert!(snapshot.to_string().contains(&topic), "{receipt}");
        let output = &event["outputs"][0];
        assert_eq!(output["namespace"], "file");
        assert_eq!(output["name"], format!("{}#out", database.display()));
        let statistics = &output["outputFacets"]["outputStatistics"];
        written += statistics["rowCount"].as_i64().expect("a count");
    }
    assert_eq!(ends.values().sum::<i64>(), 360);
    assert_eq!((read, written), (360, 360));

    let checked = Command::new(s3::python())
        .arg(repository().join("tests/python/lineage.py"))
        .arg(&file)
        .output()
        .expect("Python starts");
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(
        checked.status.success(),
        "{said}\nWithout openlineage: run `make setup`, it fetches what the tests need of Python"
    );
    let counted = String::from_utf8_lossy(&checked.stdout);
    assert_eq!(counted.trim(), events.len().to_string());
}
