//! An export that is killed at any moment and resumed equals one that ran undisturbed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;

const RECORDS: usize = 60_000;
const ARGUMENTS: [&str; 4] = ["--max-file-offsets", "1000", "--parallel", "2"];

fn filled() -> World {
    let world = World::new(2);
    let fill = produce::Fill {
        records: RECORDS,
        partitions: 2,
        value_bytes: 100,
        settings: &[],
    };
    produce::fill(support::shared().bootstrap(), &world.topic, fill);
    world
}

/// Range, rows and file names of each piece.
fn pieces(world: &World) -> Vec<String> {
    let manifest = world.json("manifest.json");
    let pieces = manifest["pieces"].as_array().unwrap();
    pieces
        .iter()
        .map(|piece| {
            let files = piece["files"].as_array().unwrap();
            let names: Vec<&str> = files.iter().filter_map(|f| f["path"].as_str()).collect();
            format!("{} {} {names:?}", piece["start"], piece["rows"])
        })
        .collect()
}

/// Every file, with the time of its last change.
fn changed(world: &World) -> BTreeMap<String, std::time::SystemTime> {
    let root = world.folder.path().join("out");
    let names = world.files().into_iter();
    names
        .filter_map(|name| {
            let changed = root.join(&name).metadata().ok()?.modified().ok()?;
            Some((name, changed))
        })
        .collect()
}

#[test]
fn killed_twenty_times_and_resumed_nothing_is_lost_repeated_or_redone() {
    let world = filled();
    let undisturbed = World::of(world.topic.clone());
    let began = Instant::now();
    ok(&undisturbed.export(&ARGUMENTS));
    let took = began.elapsed();

    let mut arguments = ARGUMENTS.to_vec();
    arguments.push("--resume");
    let (mut kills, mut midway) = (0, 0);
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut finished: BTreeMap<String, std::time::SystemTime> = BTreeMap::new();
    let done = |world: &World| {
        let folder = world
            .folder
            .path()
            .join("out/_export/done")
            .join(&world.topic);
        let mut names = vec![];
        if folder.exists() {
            collect(&folder, &folder, &mut names);
        }
        names.retain(|name| name.ends_with(".json"));
        names
    };
    while kills < 24 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let share = 0.05 + (seed >> 40) as f64 / (1u64 << 24) as f64 * 0.35;
        let mut child = world
            .command(&arguments)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(took.mul_f64(share));
        if child.try_wait().unwrap().is_some() {
            // It completed too early. Start over, because only runs that were killed count.
            std::fs::remove_dir_all(world.folder.path().join("out")).unwrap();
            finished.clear();
            continue;
        }
        // SIGKILL.
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        let files = changed(&world);
        for (name, when) in &finished {
            assert_eq!(files.get(name), Some(when), "{name} was written again");
        }
        let records = done(&world);
        midway += usize::from(!records.is_empty());
        for record in records {
            let name = format!("{}/{}", world.topic, record.replace(".json", ".parquet"));
            let when = files[&name];
            finished.insert(name, when);
        }
    }
    assert!(midway > 10, "{midway} kills met a part of the export");
    ok(&world.export(&arguments));
    let files = changed(&world);
    for (name, when) in &finished {
        assert_eq!(files.get(name), Some(when), "{name} was written again");
    }
    assert_eq!(pieces(&world), pieces(&undisturbed));
    assert_eq!(world.files(), undisturbed.files());
    let verified = world.verify(&["--against-kafka"]);
    ok(&verified);
    let same = err(&verified);
    assert!(same.contains("60,000 rows the same in Kafka"), "{same}");
}

#[test]
fn crashes_at_each_named_place_are_resumed() {
    for place in [
        "export-after-plan",
        "export-before-piece:2",
        "export-after-files:3",
        "export-after-done:3",
        "export-before-manifest",
        "export-after-manifest",
    ] {
        let world = World::new(2);
        world.produce(2, 30);
        let by = [
            "--max-file-offsets",
            "7",
            "--partition-by",
            "n=offset % 3",
            "--resume",
        ];
        let crash = world
            .command(&by)
            .env("KAFKA_SQL_FAULT", place)
            .output()
            .unwrap();
        assert!(
            !crash.status.success(),
            "{place} was not passed: {}",
            err(&crash)
        );
        ok(&world.export(&by));
        let verified = world.verify(&["--against-kafka"]);
        ok(&verified);
        assert!(
            err(&verified).contains("60 rows the same"),
            "{place}: {}",
            err(&verified)
        );
    }
}

#[test]
fn records_that_go_between_two_runs_leave_no_file_behind() {
    let world = World::new(1);
    world.produce(1, 20);
    let crash = world
        .command(&["--max-file-offsets", "5", "--parallel", "1"])
        .env("KAFKA_SQL_FAULT", "export-after-files:2")
        .output()
        .unwrap();
    assert!(!crash.status.success());
    assert_eq!(world.files().len(), 2);
    admin::delete_records(support::shared().bootstrap(), &world.topic, 0, 12);
    // The second piece is not done and its records are gone. This is an error, and the piece's file is
    // removed too.
    let message = failed(&world.export(&["--max-file-offsets", "5", "--resume"]), 5);
    assert!(message.contains("the log now starts at 12"), "{message}");
    assert!(
        !world.files().iter().any(|f| f.contains("00005-")),
        "{:?}",
        world.files()
    );
}

#[test]
fn ctrl_c_ends_with_130_and_names_resume() {
    let world = filled();
    let mut child = world
        .command(&["--max-file-offsets", "200", "--parallel", "1"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    support::wait_until(Duration::from_secs(30), "the first files are there", || {
        let folder = world.folder.path().join("out").join(&world.topic);
        folder.exists().then_some(())
    });
    let signal = Command::new("sh")
        .args(["-c", "kill -INT \"$1\"", "kill", &child.id().to_string()])
        .status();
    assert!(signal.unwrap().success());
    let mut text = String::new();
    std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{text}");
    assert!(text.contains("--resume continues"), "{text}");
    ok(&world.export(&["--max-file-offsets", "200", "--parallel", "1", "--resume"]));
    ok(&world.verify(&[]));
}

#[test]
fn a_second_process_is_kept_out() {
    let world = filled();
    let mut child = world
        .command(&["--max-file-offsets", "100", "--parallel", "1"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    support::wait_until(Duration::from_secs(30), "the first files are there", || {
        let folder = world.folder.path().join("out").join(&world.topic);
        folder.exists().then_some(())
    });
    let message = failed(
        &world.export(&["--max-file-offsets", "100", "--parallel", "1", "--resume"]),
        8,
    );
    assert!(message.contains("another process"), "{message}");
    assert!(child.wait().unwrap().success());
    ok(&world.verify(&[]));
}
