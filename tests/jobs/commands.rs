//! `run`, `replay` and `jobs`, called as a user would.

use std::process::Output;

use crate::crash::{sqlite_held, sqlite_job};
use crate::job::{Job, text};
use crate::support::{self, Record, produce};

fn put(job: &Job, records: usize) {
    let records: Vec<Record> = (0..records)
        .map(|n| Record::new(0).value(format!("{n}")))
        .collect();
    produce::produce(support::shared().bootstrap(), &job.topic, &records);
}

fn shell(job: &Job, command: &str, arguments: &[&str]) -> Output {
    job.shell(command, arguments).output().expect("it starts")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_replay_shows_the_rows_and_finds_what_a_sink_has_lost() {
    let job = sqlite_job();
    put(&job, 3);
    job.finish();
    put(&job, 2);
    job.finish();
    let rows = shell(&job, "replay", &["--batch", "1", "--format", "csv"]);
    assert!(rows.status.success(), "{}", text(&rows));
    assert_eq!(out(&rows), "partition,offset,value\n0,3,0\n0,4,1\n");
    let same = shell(
        &job,
        "replay",
        &["--batch", "1", "--diff", "--format", "csv"],
    );
    assert!(same.status.success(), "{}", text(&same));
    assert!(out(&same).ends_with(",2,0,\n"), "{}", text(&same));

    let file = job.folder.path().join("out.db");
    let connection = rusqlite::Connection::open(file).expect("a database");
    connection
        .execute("DELETE FROM out WHERE \"offset\" = 4", [])
        .expect("a row less");
    let differs = shell(
        &job,
        "replay",
        &["--batch", "1", "--diff", "--format", "csv"],
    );
    assert_eq!(differs.status.code(), Some(5), "{}", text(&differs));
    assert!(out(&differs).ends_with(",2,1,\n"), "{}", text(&differs));
    assert!(text(&differs).contains("offset: 4"), "{}", text(&differs));

    let unknown = shell(&job, "replay", &["--batch", "9"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", text(&unknown));
    assert!(
        text(&unknown).contains("it has batches 0 to 1"),
        "{}",
        text(&unknown)
    );
}

#[test]
fn jobs_lists_the_batches() {
    let job = sqlite_job();
    put(&job, 3);
    job.finish();
    put(&job, 2);
    job.finish();
    let checkpoint = job.folder.path().join("job.checkpoint");
    let folder = job.folder.path().to_path_buf();
    for place in [checkpoint, folder] {
        let list = std::process::Command::new(env!("CARGO_BIN_EXE_kafka-sql"))
            .arg("jobs")
            .arg(&place)
            .output()
            .expect("it starts");
        assert!(list.status.success(), "{}", text(&list));
        let lines: Vec<serde_json::Value> = out(&list)
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["job"], "job");
        assert_eq!(lines[1]["state"], "committed");
        assert_eq!(lines[1]["rows"], 2);
        assert_eq!(lines[1]["ranges"], format!("{}[0] 3..5", job.topic));
    }
}

#[test]
fn a_job_of_another_name_is_refused_with_exit_code_8() {
    let job = sqlite_job();
    put(&job, 3);
    job.finish();
    let fresh = job.folder.path().join("fresh");
    let fresh = fresh.to_str().expect("a path of text");
    let other = shell(
        &job,
        "run",
        &["--once", "--name", "other", "--checkpoint", fresh],
    );
    assert_eq!(other.status.code(), Some(8), "{}", text(&other));
    assert!(
        text(&other).contains("holds rows of job 'job'"),
        "{}",
        text(&other)
    );
    // Losing the log of the same name does no harm.
    put(&job, 2);
    let fresh = job.folder.path().join("fresher");
    let fresh = fresh.to_str().expect("a path of text");
    let same = shell(&job, "run", &["--once", "--checkpoint", fresh]);
    assert!(same.status.success(), "{}", text(&same));
    assert_eq!(sqlite_held(&job), job.expected());
}

#[test]
fn mistakes_in_a_job_name_their_line() {
    for (text_of_job, part) in [
        ("SELECT 1;", "job.sql:1: a job has CREATE, SET and INSERT"),
        ("SET x.y = 1;\n\nSELECT 1;", "job.sql:1: "),
        ("-- nothing\n", "has no INSERT INTO"),
        (
            "CREATE EXTERNAL TABLE t\nSTORED AS SQLITE LOCATION '${NO_SUCH_VARIABLE}';",
            "NO_SUCH_VARIABLE is not set",
        ),
        ("INSERT INTO nowhere SELECT 1;", "there is no such table"),
    ] {
        let job = sqlite_job();
        std::fs::write(job.folder.path().join("job.sql"), text_of_job).expect("a file");
        let refused = shell(&job, "run", &["--once"]);
        assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
        assert!(
            text(&refused).contains(part),
            "{text_of_job}: {}",
            text(&refused)
        );
    }
}
