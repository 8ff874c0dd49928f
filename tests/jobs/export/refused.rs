//! What exports refuse, and what verification finds.

use super::*;

#[test]
fn an_export_that_is_there_is_not_touched() {
    let world = World::new(1);
    world.produce(1, 10);
    ok(&world.export(&["--max-file-offsets", "4"]));
    let before = std::fs::read(world.folder.path().join("out/manifest.json")).unwrap();
    let again = failed(&world.export(&["--max-file-offsets", "4"]), 8);
    assert!(again.contains("--resume"), "{again}");
    for (arguments, what) in [
        (
            &["--max-file-offsets", "5"][..],
            "the size of files in offsets is 4 there and 5 here",
        ),
        (&["0:5", "--max-file-offsets", "4"], "the range is"),
        (
            &["--max-file-offsets", "4", "--format", "csv"],
            "the format is parquet there and csv here",
        ),
        (
            &["--max-file-offsets", "4", "--partition-by", "partition"],
            "the partitioning",
        ),
    ] {
        let mut with_resume = arguments.to_vec();
        with_resume.push("--resume");
        for arguments in [arguments, &with_resume] {
            let message = failed(&world.export(arguments), 8);
            assert!(
                message.contains("another export") && message.contains(what),
                "{message}"
            );
        }
    }
    let sql = format!("SELECT offset FROM \"{}\"", world.topic);
    let message = failed(
        &world.export(&["--max-file-offsets", "4", "--resume", "--sql", &sql]),
        8,
    );
    assert!(message.contains("the query is not set there"), "{message}");
    let other = World::new(1);
    let message = failed(
        &kafka_sql()
            .args(["export", &other.topic, "-o", &world.target(), "--resume"])
            .output()
            .unwrap(),
        8,
    );
    assert!(message.contains(&world.topic), "{message}");
    // The export is complete, so nothing is written again.
    let output = world.export(&["--max-file-offsets", "4", "--resume"]);
    ok(&output);
    assert!(
        err(&output).contains("3 of the files were there before"),
        "{}",
        err(&output)
    );
    let after = std::fs::read(world.folder.path().join("out/manifest.json")).unwrap();
    assert_eq!(before, after);
}

#[test]
fn a_folder_of_something_else_is_refused() {
    let world = World::new(1);
    std::fs::create_dir_all(world.folder.path().join("out/photos")).unwrap();
    let photo = world.folder.path().join("out/photos/cat.jpg");
    std::fs::write(&photo, "meow").unwrap();
    for arguments in [&[][..], &["--resume"]] {
        let message = failed(&world.export(arguments), 8);
        assert!(message.contains("photos/cat.jpg"), "{message}");
    }
    assert_eq!(std::fs::read_to_string(photo).unwrap(), "meow");
    let message = failed(&world.verify(&[]), 5);
    assert!(message.contains("1 problem"), "{message}");
}

#[test]
fn resume_begins_where_nothing_is() {
    let world = World::new(1);
    world.produce(1, 5);
    ok(&world.export(&["--resume"]));
    ok(&world.verify(&["--against-kafka"]));
}

#[test]
fn a_resumed_export_keeps_the_ranges_of_its_plan() {
    let world = World::new(1);
    world.produce(1, 10);
    let crash = world
        .command(&["--max-file-offsets", "4", "--parallel", "1"])
        .env("KAFKA_SQL_FAULT", "export-after-done:2")
        .output()
        .unwrap();
    assert!(!crash.status.success());
    world.produce(1, 10);
    let message = failed(&world.verify(&[]), 5);
    assert!(message.contains("1 problem"), "{message}");
    let output = world.export(&["--max-file-offsets", "4", "--resume"]);
    ok(&output);
    assert!(
        err(&output).contains("3 files, 10 rows"),
        "{}",
        err(&output)
    );
    assert!(
        err(&output).contains("2 of the files were there before"),
        "{}",
        err(&output)
    );
    ok(&world.verify(&["--against-kafka"]));
}

#[test]
fn queries_over_the_whole_and_bad_flags_are_refused_before_anything_is_written() {
    let world = World::new(1);
    world.produce(1, 3);
    let topic = format!("\"{}\"", world.topic);
    for (sql, reason) in [
        (format!("SELECT count(*) FROM {topic}"), "row by row"),
        (format!("SELECT offset FROM {topic} LIMIT 1"), "row by row"),
        (format!("SELECT nosuch FROM {topic}"), "nosuch"),
    ] {
        let message = failed(&world.export(&["--sql", &sql]), 1);
        assert!(message.contains(reason), "{message}");
    }
    failed(&world.export(&["--partition-by", "nosuch"]), 1);
    failed(&world.export(&["--max-file-size", "many"]), 2);
    failed(
        &world.export(&["--max-file-size", "1MB", "--max-file-offsets", "3"]),
        2,
    );
    failed(&world.export(&["--format", "tsv"]), 2);
    failed(&world.export(&["0:99"]), 5);
    failed(
        &kafka_sql().args(["export", &world.topic]).output().unwrap(),
        2,
    );
    let nosuch = kafka_sql()
        .args(["export", "nosuch-topic", "-o", &world.target()])
        .output()
        .unwrap();
    failed(&nosuch, 5);
    assert!(!world.folder.path().join("out/_export").exists());
}

#[test]
fn a_verification_names_each_damage() {
    let world = World::new(1);
    world.produce(1, 30);
    ok(&world.export(&["--max-file-offsets", "5", "--format", "csv"]));
    let files = world.files();
    let path = |index: usize| world.folder.path().join("out").join(&files[index]);
    std::fs::remove_file(path(0)).unwrap();
    let text = std::fs::read_to_string(path(1)).unwrap();
    std::fs::write(path(1), text.replace("CreateTime", "createTime")).unwrap();
    std::fs::write(path(2), "short").unwrap();
    std::fs::copy(path(3), path(3).with_extension("1.csv")).unwrap();
    let done = world
        .folder
        .path()
        .join("out/_export/done")
        .join(&world.topic);
    let record = std::fs::read_dir(done.join("partition=0")).unwrap();
    let mut records: Vec<_> = record.map(|e| e.unwrap().path()).collect();
    records.sort();
    std::fs::remove_file(&records[5]).unwrap();
    let output = world.verify(&[]);
    let message = failed(&output, 5);
    assert!(message.contains("5 problems"), "{message}");
    let rows = String::from_utf8(output.stdout).unwrap();
    let mut kinds: Vec<String> = rows
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            row["problem"].as_str().unwrap().to_owned()
        })
        .collect();
    kinds.sort();
    assert_eq!(
        kinds,
        ["checksum", "extra-file", "missing-file", "record", "size"]
    );
}

#[test]
fn rows_that_are_not_those_of_kafka_are_found() {
    let world = World::new(1);
    world.produce(1, 10);
    ok(&world.export(&[]));
    let name = world.topic.clone();
    let bootstrap = support::shared().bootstrap();
    admin::delete_topic(bootstrap, &name);
    admin::create_topic(bootstrap, &name, 1, &[]);
    world.produce(1, 10);
    ok(&world.verify(&[]));
    let output = world.verify(&["--against-kafka"]);
    let message = failed(&output, 5);
    assert!(message.contains("problem"), "{message}");
    let rows = String::from_utf8(output.stdout).unwrap();
    assert!(rows.contains("recreated"), "{rows}");
    let message = failed(&world.export(&["--resume"]), 5);
    assert!(message.contains("recreated"), "{message}");
}
