//! The content of exported files.

use super::*;
use crate::support::Transaction;

#[test]
fn parquet_has_every_record_as_the_topic_has_it() {
    let world = World::new(2);
    world.produce(2, 50);
    let summary = err(&{
        let output = world.export(&["--max-file-offsets", "20"]);
        assert_eq!(ok(&output), "");
        output
    });
    assert!(summary.starts_with("6 files, 100 rows, "), "{summary}");
    let topic = &world.topic;
    assert_eq!(
        world.files()[..3],
        [
            format!("{topic}/partition=0/00000000000000000000-00000000000000000020.parquet"),
            format!("{topic}/partition=0/00000000000000000020-00000000000000000040.parquet"),
            format!("{topic}/partition=0/00000000000000000040-00000000000000000050.parquet"),
        ]
    );
    let columns = "topic, partition, offset, timestamp, timestamp_type, key, value, headers";
    let table = format!("\"{topic}\"");
    for (left, right) in [("e", table.as_str()), (table.as_str(), "e")] {
        let sql = format!("SELECT {columns} FROM {left} EXCEPT SELECT {columns} FROM {right}");
        let rows = world.query(topic, &sql);
        assert_eq!(rows, Vec::<String>::new(), "{left} without {right}");
    }
    let sql = "SELECT count(*) n, count(DISTINCT partition * 1000 + offset) d FROM e";
    assert_eq!(world.query(topic, sql), ["{\"n\":100,\"d\":100}"]);
    let verified = world.verify(&["--against-kafka"]);
    assert_eq!(ok(&verified), "");
    assert!(
        err(&verified).contains("100 rows the same in Kafka"),
        "{}",
        err(&verified)
    );
}

#[test]
fn text_formats_have_the_lines_of_the_shell() {
    let world = World::new(1);
    world.produce(1, 30);
    for format in ["csv", "ndjson"] {
        let world = World::of(world.topic.clone());
        ok(&world.export(&["--format", format, "--max-file-offsets", "30"]));
        let file = world.folder.path().join("out").join(&world.files()[0]);
        let query = kafka_sql()
            .args(["query", &format!("SELECT * FROM \"{}\"", world.topic)])
            .args(["--format", format])
            .output()
            .unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), ok(&query));
        let verified = world.verify(&["--against-kafka"]);
        ok(&verified);
        assert!(
            err(&verified).contains("30 rows the same"),
            "{}",
            err(&verified)
        );
    }
}

#[test]
fn the_query_runs_over_each_piece() {
    let world = World::new(1);
    world.produce(1, 40);
    let sql = format!(
        "SELECT offset AS o, kafka_text(value) v FROM \"{}\" WHERE offset % 4 = 3 AND offset > 10",
        world.topic
    );
    ok(&world.export(&[
        "--sql",
        &sql,
        "--max-file-offsets",
        "10",
        "--format",
        "ndjson",
    ]));
    let manifest = world.json("manifest.json");
    assert_eq!(manifest["rows"], 8);
    // The first piece has no rows and therefore no file.
    assert_eq!(manifest["pieces"][0]["rows"], 0);
    assert_eq!(manifest["pieces"][0]["files"].as_array().unwrap().len(), 0);
    assert_eq!(manifest["pieces"][1]["files"][0]["min_offset"], 11);
    assert_eq!(world.files().len(), 3);
    let text = world.folder.path().join("out").join(&world.files()[0]);
    assert_eq!(
        std::fs::read_to_string(text).unwrap(),
        "{\"o\":11,\"v\":\"value 11\"}\n{\"o\":15,\"v\":\"value 15\"}\n{\"o\":19,\"v\":\"value 19\"}\n"
    );
    ok(&world.verify(&["--against-kafka"]));
}

#[test]
fn hive_folders_hold_the_rows_of_their_value() {
    let world = World::new(1);
    const RECORDS: i64 = 20_010;
    let records: Vec<Record> = (0..RECORDS)
        .map(|n| {
            let day = 86_400_000 * (n % 25);
            let record = Record::new(0).timestamp_ms(1_768_348_800_000 + day);
            record.value(format!("{n}"))
        })
        .collect();
    produce::produce(support::shared().bootstrap(), &world.topic, &records);
    let by = "date_trunc('day', timestamp)";
    ok(&world.export(&["--partition-by", by, "--max-file-offsets", "20000"]));
    let files = world.files();
    let folder = format!("{}/day=2026-01-14/partition=0", world.topic);
    // There are more days than files may be open. The first day comes again and gets another file.
    let second = format!("{folder}/00000000000000000000-00000000000000020000.1.parquet");
    assert!(files.contains(&second), "{files:?}");
    let sql = "SELECT count(*) n, count(DISTINCT offset) d, max(offset % 25) o FROM e";
    assert_eq!(world.query(&folder, sql), ["{\"n\":801,\"d\":801,\"o\":0}"]);
    let verified = world.verify(&["--against-kafka"]);
    ok(&verified);
    let same = err(&verified);
    assert!(same.contains("20,010 rows the same"), "{same}");
}

#[test]
fn empty_topics_and_ranges_give_an_export_without_files() {
    let world = World::new(2);
    ok(&world.export(&[]));
    assert_eq!(world.json("manifest.json")["rows"], 0);
    assert_eq!(world.files(), Vec::<String>::new());
    ok(&world.verify(&["--against-kafka"]));
}

#[test]
fn aborted_and_compacted_offsets_have_no_row_and_are_counted() {
    let topic = admin::unique_topic("export");
    let bootstrap = support::shared().bootstrap();
    admin::create_compacted_topic(bootstrap, &topic, 1);
    let world = World::of(topic);
    let aborted = Transaction::begin(bootstrap, &world.topic);
    aborted.produce(
        &world.topic,
        &vec![Record::new(0).key("a").value("aborted"); 10],
    );
    aborted.abort();
    let records: Vec<Record> = (0..20)
        .map(|n| {
            Record::new(0)
                .key(format!("{}", n % 5))
                .value(format!("{n}"))
        })
        .collect();
    produce::produce(bootstrap, &world.topic, &records);
    let output = world.export(&["--max-file-offsets", "5"]);
    ok(&output);
    assert!(err(&output).contains(", 20 rows, "), "{}", err(&output));
    assert!(
        err(&output).contains("11 offsets without a record"),
        "{}",
        err(&output)
    );
    ok(&world.verify(&["--against-kafka"]));
    // Later compaction is not a fault of the export.
    admin::compact(bootstrap, &world.topic, 0);
    let verified = world.verify(&["--against-kafka"]);
    ok(&verified);
    assert!(
        err(&verified).contains("that Kafka no longer has"),
        "{}",
        err(&verified)
    );
}

#[test]
fn expired_records_are_told_from_differences() {
    let world = World::new(1);
    world.produce(1, 20);
    ok(&world.export(&["--max-file-offsets", "6"]));
    admin::delete_records(support::shared().bootstrap(), &world.topic, 0, 8);
    let verified = world.verify(&["--against-kafka"]);
    ok(&verified);
    assert!(
        err(&verified).contains("12 rows the same in Kafka"),
        "{}",
        err(&verified)
    );
    assert!(
        err(&verified).contains("8 rows that Kafka no longer has"),
        "{}",
        err(&verified)
    );
}

#[test]
fn records_of_one_byte_and_of_ten_megabytes() {
    let topic = admin::unique_topic("export");
    let settings = [("max.message.bytes", "20000000")];
    admin::create_topic(support::shared().bootstrap(), &topic, 1, &settings);
    let world = World::of(topic);
    let records = [
        Record::new(0).value("x"),
        Record::new(0).value(vec![b'y'; 10_000_000]),
        Record::new(0).value("z"),
    ];
    let settings = [("message.max.bytes", "20000000")];
    let bootstrap = support::shared().bootstrap();
    produce::produce_with(bootstrap, &world.topic, &records, &settings);
    ok(&world.export(&["--max-file-size", "1MB"]));
    ok(&world.verify(&["--against-kafka"]));
    let sql = "SELECT length(value) l FROM e ORDER BY offset";
    let lengths = world.query(&world.topic, sql);
    assert_eq!(lengths, ["{\"l\":1}", "{\"l\":10000000}", "{\"l\":1}"]);
}

#[test]
fn a_size_cuts_files_of_about_that_size() {
    let world = World::new(1);
    let fill = produce::Fill {
        records: 60_000,
        partitions: 1,
        value_bytes: 100,
        settings: &[],
    };
    produce::fill(support::shared().bootstrap(), &world.topic, fill);
    ok(&world.export(&["--format", "ndjson", "--max-file-size", "2MB"]));
    let pieces = world.json("manifest.json")["pieces"].clone();
    let sizes: Vec<u64> = pieces
        .as_array()
        .unwrap()
        .iter()
        .map(|piece| piece["files"][0]["bytes"].as_u64().unwrap())
        .collect();
    assert!(sizes.len() > 3, "{sizes:?}");
    let (last, others) = sizes.split_last().unwrap();
    assert!(
        others.iter().all(|s| (1_500_000..2_300_000).contains(s)),
        "{sizes:?}"
    );
    assert!(*last < 2_300_000);
}
