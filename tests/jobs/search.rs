//! `search` on real brokers: what it finds, what it says that it looked at, and its exit code.

#[path = "search/covered.rs"]
mod covered;

use std::process::Output;
use std::sync::OnceLock;

use crate::export::{err, kafka_sql, ok};
use crate::support::produce::produce;
use crate::support::{Record, Transaction, admin, shared};

const CLIENTS: [&str; 2] = ["wire", "librdkafka"];

fn search(client: &str, topic: &str, args: &[&str]) -> Output {
    let mut command = kafka_sql();
    command.args(["-X", &format!("client={client}"), "search", topic]);
    command.args(args).output().expect("the shell starts")
}

/// The exit code, the hits as `partition@offset`, sorted, and what is said on standard error, in which the topic
/// is `T`.
fn found(output: &Output, topic: &str) -> (i32, String, String) {
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    let hits = text.lines().map(|line| {
        let hit: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let number = |name: &str| hit[name].as_i64().expect("a number");
        (number("partition"), number("offset"))
    });
    let mut hits: Vec<(i64, i64)> = hits.collect();
    hits.sort_unstable();
    let hits: Vec<String> = hits.iter().map(|(p, o)| format!("{p}@{o}")).collect();
    let code = output.status.code().expect("it was not killed");
    let said = err(output).replace(topic, "T");
    (code, hits.join(" "), said.trim_end().to_owned())
}

/// A topic with all that logs have: a start that has moved, keys, headers, bytes that are no text, a transaction
/// that was aborted, and a partition without a record.
fn rough() -> &'static str {
    static TOPIC: OnceLock<String> = OnceLock::new();
    TOPIC.get_or_init(|| {
        let (brokers, topic) = (shared().bootstrap(), admin::unique_topic("rough-search"));
        admin::create_topic(brokers, &topic, 4, &[]);
        let keyed = |n: i32| {
            Record::new(0)
                .key(format!("k{}", n % 10))
                .value(format!(r#"{{"n": {n}, "item": "i{}"}}"#, n % 7))
                .header("trace", Some(b"first"))
                .header("trace", Some(format!("t{n}").as_bytes()))
        };
        produce(brokers, &topic, &(0..60).map(keyed).collect::<Vec<_>>());
        admin::delete_records(brokers, &topic, 0, 20);
        let plain = |text: &str, count: usize| vec![Record::new(1).value(text); count];
        produce(brokers, &topic, &plain("plain", 5));
        let aborted = Transaction::begin(brokers, &format!("{topic}-aborted"));
        aborted.produce(&topic, &plain("needle in vain", 5));
        aborted.abort();
        produce(brokers, &topic, &plain("after", 1));
        let hostile = [
            Record::new(2).key([0xff, 0]).value(r#"it's 100% _a\b "q""#),
            Record::new(2)
                .key("k'k; DROP TABLE x; --")
                .value([0xfe, b'n', b'e', b'e', b'd', b'l', b'e']),
            Record::new(2).key("needle"),
            Record::new(2).value("näh"),
        ];
        produce(brokers, &topic, &hostile);
        topic
    })
}

#[test]
fn each_condition_finds_what_meets_it_and_says_what_was_looked_at() {
    let topic = rough();
    for client in CLIENTS {
        // Offsets 20 to 60 of the first partition, 0 to 12 of the second with five aborted ones and the end of their
        // transaction, and 0 to 4 of the third.
        let whole = match client {
            "wire" => "56 offsets of T[0..4], all looked at: 50 records, 1 control, 5 aborted",
            _ => "56 offsets of T[0..4], all looked at: 50 records, 6 untold",
        };
        for (args, hits) in [
            (&["--key", "k3"][..], "0@23 0@33 0@43 0@53"),
            (
                &["--key", "k3", "--key", "k'k; DROP TABLE x; --"],
                "0@23 0@33 0@43 0@53 2@1",
            ),
            (&["--key", "k3", "--contains", "\"n\": 4"], "0@43"),
            (&["--key", "ff00", "--hex"], "2@0"),
            (&["--contains", "needle"], "2@1 2@2"),
            (&["--contains", "100% _a\\b \"q"], "2@0"),
            (&["--contains", "it's"], "2@0"),
            (&["--contains", "_"], "2@0"),
            (&["--contains", "fe6e", "--hex"], "2@1"),
            (&["--contains", "-- "], ""),
            (&["--regex", "^n.h$"], "2@3"),
            (&["--regex", r"(?-u)^\xfe"], "2@1"),
            (&["--regex", "'"], "2@0 2@1"),
            // Any of a record's headers, not only the last of the name.
            (&["--header", "trace=t33"], "0@33"),
            (&["--header", "trace=743333", "--hex"], "0@33"),
            (
                &["--header", "trace=first", "--key", "k9"],
                "0@29 0@39 0@49 0@59",
            ),
            (&["--header", "trace=t33", "--header", "trace=t34"], ""),
            (
                &["--where", "value LIKE '%\"n\": 33%' OR false -- 'x"],
                "0@33",
            ),
        ] {
            let (code, found, said) = found(&search(client, topic, args), topic);
            let expected = match hits.split_whitespace().count() {
                0 => format!("none: no record in these ranges matches; {whole}"),
                1 => format!("1 hit in {whole}"),
                n => format!("{n} hits in {whole}"),
            };
            let expected = (if hits.is_empty() { 9 } else { 0 }, hits, expected.as_str());
            assert_eq!(
                (code, found.as_str(), said.as_str()),
                expected,
                "{client} {args:?}"
            );
        }
    }
}

#[test]
fn topics_are_named_matched_and_corrected() {
    let (one, brokers) = (admin::unique_topic("several-a"), shared().bootstrap());
    let two = one.replace("several-a", "several-b");
    for (topic, values) in [(&one, ["x1", "y"]), (&two, ["x2", "x3"])] {
        admin::create_topic(brokers, topic, 1, &[]);
        produce(
            brokers,
            topic,
            &values.map(|value| Record::new(0).value(value)),
        );
    }
    let glob = one.replace("several-a", "several-?");
    let regex = format!("/{}/", one.replace("several-a", "several-[ab]"));
    let typo = one.replace("several-a", "several-aa");
    for (places, code, hits, said) in [
        (
            vec![&*one, &*two],
            0,
            3,
            format!("3 hits in 4 offsets of {one}[0], {two}[0], all looked at"),
        ),
        (
            vec![&*one, &*glob, "start"],
            0,
            3,
            format!("3 hits in 4 offsets of {one}[0], {two}[0], all looked at"),
        ),
        (
            vec![&*regex, "-1"],
            0,
            1,
            format!("1 hit in 2 offsets of {one}[0], {two}[0], all looked at"),
        ),
        (
            vec![&*one, "1=0:1"],
            5,
            0,
            format!("kafka-sql: {one}[1] does not exist"),
        ),
        (
            vec![&*typo],
            5,
            0,
            format!(
                "kafka-sql: topic '{typo}' does not exist or may not be described; did you mean {one}"
            ),
        ),
        (vec!["/no-such-.*/"], 5, 0, "kafka-sql: topic '".to_owned()),
        (
            vec![&*one, "@-1hh"],
            1,
            0,
            "kafka-sql: range \"@-1hh\"".to_owned(),
        ),
        (
            vec!["/(/"],
            2,
            0,
            "kafka-sql: /(/ is no regular expression".to_owned(),
        ),
    ] {
        let mut command = kafka_sql();
        let output =
            command
                .arg("search")
                .args(&places)
                .args(["--contains", "x", "--select", "value"]);
        let output = output.output().expect("it starts");
        let text = err(&output);
        assert_eq!(output.status.code(), Some(code), "{places:?}: {text}");
        assert!(text.starts_with(&said), "{places:?}: {text}");
        assert_eq!(
            output.stdout.iter().filter(|b| **b == b'\n').count(),
            hits,
            "{places:?}"
        );
    }
    let subquery = format!(
        "offset = (SELECT offset FROM kafka('{one}') WHERE value LIKE 'x%' ORDER BY offset DESC LIMIT 1)"
    );
    for (args, code, said) in [
        (
            vec!["-b", "127.0.0.1:1", "-X", "request.timeout.ms=500"],
            3,
            "cannot reach Kafka at 127.0.0.1:1",
        ),
        (vec!["--where", "nosuch = 1"], 1, "nosuch"),
        (vec!["--select", "count(*)"], 2, "--select: "),
        // A condition that reads other records sees all of them.
        (vec!["--reverse", "--where", &subquery], 0, "1 hit in "),
        (vec!["--where", "x) OR (true"], 2, "--where: "),
        (vec!["--regex", "("], 2, "--regex: unclosed group"),
        (
            vec!["--option", "nosuch=1"],
            1,
            "option 'nosuch' is not known",
        ),
        (vec!["--restricted"], 0, "1 hit in 2 offsets"),
    ] {
        let mut command = kafka_sql();
        let output = command
            .args(["search", &one, "--contains", "x"])
            .args(&args);
        let output = output.output().expect("it starts");
        let text = err(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(said), "{args:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn hits_are_written_in_every_format() {
    let topic = rough();
    let folder = tempfile::tempdir().expect("a folder");
    for (format, beginning, lines) in [
        (
            "csv",
            "topic,partition,offset,timestamp,key,value,headers\n",
            5,
        ),
        (
            "tsv",
            "topic\tpartition\toffset\ttimestamp\tkey\tvalue\theaders\n",
            5,
        ),
        ("ndjson", "{\"topic\":\"", 4),
        ("json", "[{\"topic\":\"", 1),
        ("table", "+-", 8),
    ] {
        let text = ok(&search("wire", topic, &["--key", "k3", "--format", format]));
        assert!(text.starts_with(beginning), "{text}");
        assert_eq!(text.lines().count(), lines, "{text}");
        assert!(text.contains("t33"), "{text}");
    }
    for format in ["parquet", "arrow"] {
        let file = folder.path().join(format!("hits.{format}"));
        let file = file.display().to_string();
        ok(&search("wire", topic, &["--key", "k3", "-o", &file]));
        let stored = if format == "arrow" {
            "ARROW"
        } else {
            "PARQUET"
        };
        let sql = format!(
            "CREATE EXTERNAL TABLE h STORED AS {stored} LOCATION '{file}'; SELECT count(*) AS n FROM h"
        );
        let rows = kafka_sql()
            .args(["query", &sql])
            .output()
            .expect("it starts");
        assert_eq!(ok(&rows), "{\"n\":4}\n");
    }
    let cut = search(
        "wire",
        topic,
        &["--key", "k3", "--format", "table", "--maxrows", "2"],
    );
    let said = found_in_table(&cut);
    assert!(
        said.starts_with("2 hits, stopped after the first 2: looked at "),
        "{said}"
    );
}

fn found_in_table(output: &Output) -> String {
    ok(output);
    err(output)
}

/// The demo's customers lie where Java's producers put their keys.
#[test]
fn a_key_is_looked_for_where_it_can_be() {
    let mut command = kafka_sql();
    command.args([
        "demo",
        "-X",
        "key.partitioner=murmur2",
        "search",
        "customers",
        "--key",
        "c-007",
    ]);
    let output = command.output().expect("it starts");
    assert_eq!(ok(&output).lines().count(), 2);
    let said = err(&output);
    assert!(said.starts_with("2 hits in "), "{said}");
    assert!(said.contains(" offsets of customers["), "{said}");
    assert!(said.trim_end().ends_with(" offsets by key"), "{said}");
}
