//! What a search says that it has and has not looked at.

use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};

use super::{CLIENTS, found, rough, search};
use crate::export::{err, kafka_sql, ok};
use crate::support::produce::{Fill, fill, held_back, produce};
use crate::support::{Record, admin, shared, topic_to_compact};

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
    let filling = Fill {
        records: 200_000,
        partitions: 1,
        value_bytes: 20,
        settings: &[],
    };
    fill(brokers, &topic, filling);
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
            "1 hit, stopped at the first"
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
