//! What the text of statements may do when it comes from the command line.

use std::path::Path;

use crate::support::{code, demo, err, kafka_sql, names, ok};

/// Runs a restricted session on the demo's cluster.
fn restricted(flags: &[&str], command: &[&str]) -> std::process::Output {
    demo(&[&["--restricted"], flags, command].concat())
}

#[track_caller]
fn refused(output: &std::process::Output) {
    assert_ne!(code(output), 0);
    let error = err(output);
    assert!(error.contains("restricted session"), "{error}");
}

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn restricted_queries_reach_the_cluster_and_what_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "rows.csv", "a\n1\n2\n");
    let sql = format!(
        "CREATE EXTERNAL TABLE rows STORED AS CSV LOCATION '{path}' OPTIONS ('has_header' 'true'); \
         SELECT count(*) AS n FROM rows"
    );
    refused(&restricted(&[], &["query", &sql]));
    let allowed = restricted(&["--allow-path", &path], &["query", &sql]);
    assert_eq!(ok(&allowed), "{\"n\":2}\n");
    let orders = restricted(&[], &["query", "SELECT count(*) AS n FROM orders"]);
    assert_eq!(ok(&orders), "{\"n\":1000}\n");

    // A file of statements is no way around the restriction.
    let script = written(folder.path(), "theirs.sql", &sql);
    refused(&restricted(&[], &["query", "-f", &script]));

    let elsewhere = "SELECT * FROM kafka('orders', ':', 'kafka.bootstrap.servers=127.0.0.1:1', \
                     'request.timeout.ms=200')";
    refused(&restricted(&[], &["query", elsewhere]));
    let known = restricted(&["--allow-host", "127.0.0.1:1"], &["query", elsewhere]);
    assert!(
        err(&known).contains("cannot reach Kafka"),
        "{}",
        err(&known)
    );
}

#[test]
fn restricted_jobs_exports_and_verifications_have_the_same_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let sink = folder.path().join("sink").display().to_string();
    let job = |location: &str| {
        written(
            folder.path(),
            "job.sql",
            &format!(
                "CREATE EXTERNAL TABLE sink STORED AS PARQUET LOCATION '{location}';\n\
                 INSERT INTO sink SELECT topic, partition, offset FROM orders"
            ),
        )
    };
    let file = job(&sink);
    refused(&restricted(&[], &["run", &file, "--once"]));
    ok(&restricted(
        &["--allow-path", &sink],
        &["run", &file, "--once"],
    ));
    assert!(names(Path::new(&sink)).contains(&"_manifests".to_owned()));
    refused(&restricted(
        &["--allow-path", &sink],
        &["run", &job("${HOME}"), "--once"],
    ));

    let export = folder.path().join("export").display().to_string();
    let schema = "SELECT offset, avro_from(value, '/etc/hostname') AS v FROM orders";
    let command = ["export", "orders", ":+3", "-o", &export, "--sql", schema];
    refused(&restricted(&[], &command));
    ok(&restricted(
        &[],
        &["export", "orders", ":+3", "-o", &export],
    ));

    // The query of an export is text from whoever made the export.
    let plan = Path::new(&export).join("_export/plan.json");
    let text = std::fs::read_to_string(&plan).unwrap();
    let theirs = text.replacen("\"sql\": null", &format!("\"sql\": \"{schema}\""), 1);
    assert_ne!(text, theirs);
    std::fs::write(&plan, theirs).unwrap();
    refused(&restricted(&[], &["verify", &export, "--against-kafka"]));
}

#[test]
fn allowances_are_for_restricted_sessions() {
    for flags in [["--allow-path", "/x"], ["--allow-host", "h"]] {
        let output = kafka_sql()
            .args(flags)
            .args(["query", "SELECT 1"])
            .output()
            .unwrap();
        assert_eq!(code(&output), 2, "{}", err(&output));
    }
    let output = kafka_sql()
        .args([
            "--restricted",
            "--allow-host",
            "http://h",
            "query",
            "SELECT 1",
        ])
        .output()
        .unwrap();
    assert_eq!(code(&output), 2, "{}", err(&output));
}

#[test]
fn copy_asks_for_the_same_word_as_o() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "rows.csv", "precious\n");
    let copy = format!("COPY (SELECT 7 AS n) TO '{path}'");
    let query = |flags: &[&str]| {
        let mut command = kafka_sql();
        command.args(flags).args(["query", &copy]).output().unwrap()
    };
    let kept = query(&[]);
    assert_ne!(code(&kept), 0);
    assert!(
        err(&kept).contains("exists; add --overwrite to replace it"),
        "{}",
        err(&kept)
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious\n");
    ok(&query(&["--overwrite"]));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "n\n7\n");
}

#[test]
fn a_setting_without_its_sign_is_not_echoed() {
    for setting in ["sasl.password hunter2", "sasl.password:hunter2"] {
        let output = kafka_sql()
            .args(["-X", setting, "query", "SELECT 1"])
            .output()
            .unwrap();
        assert_eq!(code(&output), 2);
        let error = err(&output);
        assert!(
            error.contains("-X sasl.password") && !error.contains("hunter2"),
            "{error}"
        );
    }
}

#[cfg(unix)]
#[test]
fn files_with_statements_are_for_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let receipt = folder.path().join("r.json");
    let sql = "SELECT count(*) FROM orders";
    ok(&demo(&[
        "query",
        sql,
        "--receipt",
        receipt.to_str().unwrap(),
    ]));
    assert_eq!(mode(&receipt), 0o600);

    let job = format!(
        "CREATE EXTERNAL TABLE sink STORED AS PARQUET LOCATION '{}';\n\
         INSERT INTO sink SELECT 'secret ${{KAFKA_SQL_TEST_WORD}}' AS word, offset FROM orders",
        folder.path().join("sink").display()
    );
    let job = written(folder.path(), "job.sql", &job);
    let mut command = kafka_sql();
    command.env("KAFKA_SQL_TEST_WORD", "hunter2");
    ok(&command
        .args(["demo", "run", &job, "--once"])
        .output()
        .unwrap());
    let record = folder.path().join("job.checkpoint/job.json");
    assert!(
        std::fs::read_to_string(&record)
            .unwrap()
            .contains("hunter2")
    );
    assert_eq!(mode(&record), 0o600);
}
