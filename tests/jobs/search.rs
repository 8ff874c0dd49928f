//! `search` on real brokers: what it finds, what it says that it looked at, and its exit code.

use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};
use std::sync::OnceLock;

use crate::export::{err, kafka_sql, ok};
use crate::support::produce::{held_back, produce};
use crate::support::{Record, Transaction, admin, shared, topic_to_compact};

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
fn what_was_not_looked_at_is_said() {
    let topic = rough();
    let json = ["--option", "value.format=json", "--where", "n = 44"];
    let lenient = [&json[..], &["--option", "on.bad.row=null"]].concat();
    let skip = ["--option", "on.data.loss=skip", "--contains"];
    let lost = |text| [&skip[..], &[text]].concat();
    let not_all = "kafka-sql: there is no hit, but not all that was asked for could be looked at";
    for client in CLIENTS {
        for (range, args, code, hits, said) in [
            (
                "0=0:end",
                vec!["--key", "k3"],
                5,
                "",
                "kafka-sql: T[0]@0: ".to_owned(),
            ),
            (
                "0=0:end",
                lost("\"n\": 33"),
                0,
                "0@33",
                "1 hit, looked at 40 of 60 offsets of T[0]: 40 records, 20 lost".to_owned(),
            ),
            (
                "0=0:end",
                lost("none"),
                5,
                "",
                format!(
                    "none in what can be read: looked at 40 of 60 offsets of T[0]: 40 records, 20 lost\n{not_all}"
                ),
            ),
            (
                "3=start:end",
                vec!["--key", "k3"],
                9,
                "",
                "none: no record in these ranges matches; 0 offsets of T[3], all looked at"
                    .to_owned(),
            ),
            (
                "start:end",
                lenient.clone(),
                0,
                "0@44",
                "1 hit, looked at 56 of 56 offsets of T[0..4]: ".to_owned(),
            ),
            ("start:end", json.to_vec(), 1, "", "cut short: ".to_owned()),
            (
                "start:end",
                vec!["--key", "k3", "--where", "offset < 30 AND partition < 2"],
                0,
                "0@23",
                "1 hit in 22 offsets of T[0..2], all looked at".to_owned(),
            ),
            (
                "1=start:end",
                vec![
                    "--contains",
                    "needle",
                    "-X",
                    "isolation.level=read_uncommitted",
                ],
                0,
                "1@5 1@6 1@7 1@8 1@9",
                "5 hits in 12 offsets of T[1], all looked at".to_owned(),
            ),
        ] {
            let args = [&[range], &args[..]].concat();
            let output = search(client, topic, &args);
            let (code_found, found, text) = found(&output, topic);
            // Rows may have come before a record that does not decode.
            let found = if code == 1 { "" } else { &found };
            assert_eq!(
                (code_found, found),
                (code, hits),
                "{client} {args:?}: {text}"
            );
            assert!(text.starts_with(&said), "{client} {args:?}: {text}");
            match code {
                1 => assert!(text.contains("\nkafka-sql: T["), "{text}"),
                0 if args.contains(&"on.bad.row=null") => {
                    assert!(text.ends_with("; 9 records do not decode"), "{text}");
                }
                0 if args.contains(&"-X") => assert!(text.contains("11 records, 1 "), "{text}"),
                0 if args.contains(&"--where") => {
                    assert!(
                        text.ends_with("; ruled out: 30 offsets by offset, 4 offsets by partition"),
                        "{text}"
                    );
                }
                _ => {}
            }
        }
    }
}

#[test]
fn the_first_hits_are_the_newest_from_the_end_and_the_rest_is_named() {
    let topic = admin::unique_topic("first");
    let brokers = shared().bootstrap();
    admin::create_topic(brokers, &topic, 1, &[]);
    let filling = crate::support::produce::Fill {
        records: 200_000,
        partitions: 1,
        value_bytes: 20,
        settings: &[],
    };
    crate::support::produce::fill(brokers, &topic, filling);
    for (args, hits) in [
        (vec!["--first", "2"], "0@7 0@17"),
        (vec!["--first", "2", "--reverse"], "0@199987 0@199997"),
        (vec!["--first", "1", "--reverse"], "0@199997"),
    ] {
        let args = [&args[..], &["--regex", "^[0-9]{15}7"]].concat();
        let (code, found, said) = found(&search("wire", &topic, &args), &topic);
        assert_eq!((code, found.as_str()), (0, hits), "{args:?}: {said}");
        let hits = if hits.contains(' ') {
            "2 hits, stopped after the first 2"
        } else {
            "1 hit, stopped after the first 1"
        };
        let rest = said
            .strip_prefix(&format!("{hits}: looked at "))
            .unwrap_or_else(|| panic!("{said}"));
        let looked = rest.split(' ').next().expect("a number").replace(',', "");
        let looked: i64 = looked.parse().expect("a number");
        assert!((3..200_000).contains(&looked), "{said}");
        let unread = match args.contains(&"--reverse") {
            true => format!("0..{}", 200_000 - looked),
            false => format!("{looked}..200000"),
        };
        let expected = format!(
            " of 200,000 offsets of T[0], so there may be more; not looked at: T[0] {unread}"
        );
        assert!(rest.ends_with(&expected), "{said}");
    }
    let all = search(
        "wire",
        &topic,
        &[
            "--contains",
            "0000000000000007",
            "--reverse",
            "--first",
            "9",
        ],
    );
    let said = found(&all, &topic).2;
    assert_eq!(said, "1 hit in 200,000 offsets of T[0], all looked at");
    // Within a partition the newest comes first, and others may have newer ones.
    let several = search(
        "wire",
        rough(),
        &["--regex", ".", "--first", "1", "--reverse"],
    );
    let said = err(&several);
    assert!(
        said.contains("so there may be more, in other partitions also newer ones"),
        "{said}"
    );
    let newest = ok(&search(
        "wire",
        rough(),
        &["--key", "k3", "--reverse", "--select", "offset"],
    ));
    assert_eq!(
        newest,
        "{\"offset\":53}\n{\"offset\":43}\n{\"offset\":33}\n{\"offset\":23}\n"
    );
}

/// Every hit among what was looked at is printed, and what was not looked at is named.
#[test]
fn an_interrupted_search_says_what_it_has_covered() {
    for client in CLIENTS {
        let id = admin::unique_topic("search-client");
        let (topic, records) = held_back(shared().bootstrap(), &id);
        let folder = tempfile::tempdir().expect("a folder");
        let receipt = folder.path().join("receipt.json").display().to_string();
        let mut command = kafka_sql();
        command.args([
            "-X",
            &format!("client.id={id}"),
            "-X",
            &format!("client={client}"),
        ]);
        command.args([
            "search",
            &topic,
            "--regex",
            "^[0-9]{15}[05]",
            "--receipt",
            &receipt,
        ]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut hits = BufReader::new(child.stdout.take().expect("piped"));
        let mut first = String::new();
        hits.read_line(&mut first)
            .expect("a hit, long before the end");
        let sent = std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
        let mut stdout = first.into_bytes();
        std::io::Read::read_to_end(&mut hits, &mut stdout).expect("the rest");
        let output = Output {
            stdout,
            ..child.wait_with_output().expect("it ends")
        };
        let (code, found, said) = found(&output, &topic);
        assert_eq!(code, 130, "{said}");
        let looked = said
            .split("looked at ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let looked: usize = looked
            .expect("a number")
            .replace(',', "")
            .parse()
            .expect("a number");
        assert!(looked < records, "{said}");
        let expected: Vec<String> = (0..looked).step_by(5).map(|n| format!("0@{n}")).collect();
        assert_eq!(found, expected.join(" "), "{client}: {said}");
        let n = expected.len();
        let line = format!("interrupted: {n} hits so far, looked at ");
        assert!(said.starts_with(&line), "{said}");
        assert!(
            said.ends_with(&format!("; not looked at: T[0] {looked}..{records}")),
            "{said}"
        );
        assert_eq!(
            std::fs::read_dir(folder.path())
                .expect("the folder")
                .count(),
            0
        );
    }
}

/// Hits and progress share a terminal.
#[test]
fn a_terminal_shows_hits_and_how_far_the_search_is() {
    let id = admin::unique_topic("search-client");
    let (topic, _) = held_back(shared().bootstrap(), &id);
    let mut command = kafka_sql();
    command.args(["-X", &format!("client.id={id}"), "search", &topic]);
    command.args(["--regex", "^[0-9]{15}[05]", "--select", "offset, partition"]);
    let mut session =
        rexpect::session::spawn_command(command, Some(30_000)).expect("the shell starts");
    for text in ["offset\tpartition", "5\t0", "of the offset span  ETA "] {
        session.exp_string(text).expect(text);
    }
    session.send_control('c').expect("it reads");
    session.exp_string("interrupted: ").expect("it says so");
    session
        .exp_string("; not looked at: ")
        .expect("and what is left");
    session.exp_eof().expect("it ends");
}

#[test]
fn absence_is_proven_until_the_records_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("absent.json").display().to_string();
    let topic = topic_to_compact();
    let brokers = shared().bootstrap();
    let absent = ["0:200", "--contains", "it's absent", "--receipt", &file];
    let (code, _, said) = found(&search("wire", &topic, &absent), &topic);
    assert_eq!(code, 9, "{said}");
    let receipt = std::fs::read_to_string(&file).expect("a receipt");
    assert!(
        receipt.contains("contains(value, 'it''s absent')"),
        "{receipt}"
    );
    let json: serde_json::Value = serde_json::from_str(&receipt).expect("JSON");
    let sql = json["statements"][0]["sql"].as_str().expect("a statement");
    let again = kafka_sql()
        .args(["query", sql])
        .output()
        .expect("it starts");
    assert_eq!(ok(&again), "");
    let rerun = || {
        kafka_sql()
            .args(["rerun", &file])
            .output()
            .expect("it starts")
    };
    ok(&rerun());
    produce(
        brokers,
        &topic,
        &[Record::new(0).key("later").value("it's absent no more")],
    );
    ok(&rerun());
    let kept = search("wire", &topic, &absent);
    assert_eq!(kept.status.code(), Some(2), "{}", err(&kept));

    admin::compact(brokers, &topic, 0);
    let changed = rerun();
    assert_eq!(changed.status.code(), Some(1), "{}", err(&changed));
    let left = search("wire", &topic, &["0:200", "--regex", "^v19[0-9]$"]);
    let (code, hits, said) = found(&left, &topic);
    assert_eq!(code, 0, "{said}");
    let expected: Vec<String> = (190..200).map(|n| format!("0@{n}")).collect();
    assert_eq!(hits, expected.join(" "));
    assert_eq!(
        said,
        "10 hits in 200 offsets of T[0], all looked at: 10 records, 190 gap"
    );
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
