//! Exports whose workers and coordinators die or stand still: complete, and each row once.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::crossed::{Reads, without_worker};
use super::jobs::{Driver, READER};
use super::support::{admin, s3, wait_until};
use super::*;

/// What `verify` says of an export of the [`topic`], and how many rows another reader finds in a bucket.
fn check(target: &str, environment: &[(String, String)]) {
    let verified = kafka_sql()
        .envs(environment.iter().cloned())
        .args([
            "-b",
            shared().bootstrap(),
            "verify",
            target,
            "--against-kafka",
        ])
        .output()
        .expect("the shell runs");
    let said = text(&verified);
    assert_eq!(verified.status.code(), Some(0), "{said}");
    assert!(said.contains("1,200,000 rows the same in Kafka"), "{said}");
    if let Some(place) = target.strip_prefix("s3://") {
        let others = Command::new(s3::python())
            .args(["-c", READER, &format!("{place}/{}", topic())])
            .envs(environment.iter().cloned())
            .output()
            .expect("Python starts");
        assert_eq!(text(&others).trim(), format!("{RECORDS},{RECORDS}"));
    }
}

/// An export with as many signals to its workers and its coordinator.
fn completes_while_all_die(target: &str, environment: Vec<(String, String)>, signals: usize) {
    let start = |listen: &str| RunningWorker::start_in(&environment, listen, &["--streams", "1"]);
    let mut workers: Vec<_> = (0..3).map(|_| start("127.0.0.1:0")).collect();
    let all = addresses(&workers);
    // It takes a while.
    let client = admin::unique_topic("slowly");
    admin::limit_client(
        shared().bootstrap(),
        &client,
        "consumer_byte_rate",
        8_000_000,
    );
    let (folder, known) = (target.to_owned(), environment.clone());
    let mut coordinator = Driver::start(move || {
        let mut export = kafka_sql();
        export
            .envs(known.iter().cloned())
            .args(["-b", shared().bootstrap(), "--workers", &all])
            .args([
                "-X",
                &format!("client.id={client}"),
                "export",
                topic(),
                "-o",
                &folder,
            ])
            .args(["--max-file-offsets", "10000", "--resume"])
            .stderr(Stdio::null())
            .stdout(Stdio::null());
        export
    });
    for n in 0..signals {
        std::thread::sleep(Duration::from_millis(400 + 61 * n as u64 % 300));
        assert!(
            !coordinator.is_done(),
            "the export was over after {n} signals"
        );
        let victim = n % workers.len();
        match n % 6 {
            2 | 4 => {
                let _ = coordinator.child.kill();
                coordinator.replace().wait().expect("it ends");
            }
            // It goes on when another worker has its pieces.
            3 if n < 6 => signal_to(&workers[victim].child, "STOP"),
            _ => {
                workers[victim].kill();
                let address = workers[victim].address.clone();
                workers[victim] = start(&address);
            }
        }
    }
    wait_until(Duration::from_secs(300), "the export ends", || {
        coordinator.is_done().then_some(())
    });
    for worker in &workers {
        signal_to(&worker.child, "CONT");
    }
    std::thread::sleep(Duration::from_secs(1));
    check(target, &environment);
}

#[test]
fn an_export_to_a_folder_completes_while_workers_and_coordinator_die() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("out");
    completes_while_all_die(target.to_str().expect("UTF-8"), vec![], 12);
}

#[test]
fn an_export_to_s3_completes_while_workers_and_coordinator_die() {
    let target = format!("s3://{}/{}", s3::BUCKET, admin::unique_topic("export"));
    completes_while_all_die(&target, s3::shared().environment(), 12);
}

/// What is refused or written by the coordinator itself, and what it says of it.
#[test]
fn what_workers_do_not_export_is_said() {
    let workers = start(2);
    let all = addresses(&workers);
    let folder = tempfile::tempdir().expect("a folder");
    let out = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let grouped = format!("SELECT count(*) FROM \"{}\"", topic());
    let same = [None, Some(all.as_str())].map(|workers| {
        let reads = Reads {
            workers,
            settings: &[],
        };
        reads.said(&["export", topic(), "-o", &out("grouped"), "--sql", &grouped])
    });
    assert_eq!(same[1], same[0]);
    assert!(same[0].contains("must work row by row"), "{}", same[0]);
    let there = Path::new(&out("grouped")).join("manifest.json");
    assert!(!there.exists(), "{}", there.display());
    for (workers, target, code, says) in [
        (
            all.as_str(),
            "memory:///x",
            0,
            "this machine writes the export itself",
        ),
        ("127.0.0.1:1", &*out("nobody"), 3, "finding workers failed"),
    ] {
        let reads = Reads {
            workers: Some(workers),
            settings: &[],
        };
        let output = reads
            .command()
            .args(["export", topic(), "0=0:9", "-o", target])
            .output();
        let output = output.expect("the shell runs");
        let said = without_worker(&text(&output));
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(says), "{said}");
    }
}
