//! What is refused before anything runs.

use std::process::Output;

use crate::running::{Files, kafka_sql, section};

fn serve(files: &Files, flags: &[&str]) -> Output {
    let mut command = kafka_sql();
    command
        .args(["serve", "--check"])
        .arg(files.path("serve.toml"));
    command.args(flags).output().expect("the shell runs")
}

/// What it says when it refuses a file.
fn refused(files: &Files, flags: &[&str]) -> String {
    let output = serve(files, flags);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

fn files() -> Files {
    // No broker is asked.
    let files = Files::over("127.0.0.1:1");
    files.service(&section("one", ""));
    files.job("one", "orders");
    files
}

/// The file of the service with a text in place of another.
fn change(files: &Files, from: &str, to: &str) {
    let text = std::fs::read_to_string(files.path("serve.toml")).expect("a file");
    assert!(text.contains(from), "{text}");
    files.write("serve.toml", &text.replace(from, to));
}

#[test]
fn a_file_is_checked_without_a_cluster() {
    let files = files();
    let output = serve(&files, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.ends_with("serve.toml: 1 job, nothing wrong\n"),
        "{said}"
    );
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let wrong = |from: &str, to: &str| {
        let files = files();
        change(&files, from, to);
        refused(&files, &[])
    };
    let key = wrong("connection =", "conection =");
    assert!(
        key.contains("serve.toml:12: unknown key 'conection'; did you mean 'connection'?"),
        "{key}"
    );
    let secret = wrong("env:TEST_TOKEN", "env:TEST_TOKAN");
    assert!(secret.contains("serve.toml:6: "), "{secret}");
    assert!(secret.contains("'TEST_TOKAN' is not set"), "{secret}");
    let setting = wrong("sasl.password", "sasl.passwort");
    assert!(
        setting.contains("connections.main: setting 'sasl.passwort'"),
        "{setting}"
    );
    let file = wrong("one.sql", "none.sql");
    assert!(
        file.contains("jobs.one: ") && file.contains("none.sql: no such file"),
        "{file}"
    );
}

#[test]
fn ports_for_everybody_need_tls_and_a_token() {
    let files = files();
    change(&files, "127.0.0.1:0", "0.0.0.0:0");
    let said = refused(&files, &[]);
    assert!(
        said.contains("[http] 0.0.0.0:0 is reached from other machines and has no TLS"),
        "{said}"
    );
    // The same without --check.
    let mut command = kafka_sql();
    let output = command
        .arg("serve")
        .arg(files.path("serve.toml"))
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    change(&files, "token =", "insecure = true\ntoken =");
    assert!(serve(&files, &[]).status.success());
    change(
        &files,
        "insecure = true",
        "tls = { cert = \"none.pem\", key = \"none.pem\" }",
    );
    let said = refused(&files, &[]);
    assert!(said.contains("none.pem"), "{said}");
}

#[test]
fn flags_that_the_file_stands_for_are_refused() {
    let files = files();
    for flags in [
        &["-b", "localhost:9092"][..],
        &["-X", "client.id=x"],
        &["--memory-limit", "1G"],
        &["--max-scan-records", "5"],
        &["--restricted"],
    ] {
        let said = refused(&files, flags);
        let flag = flags[0].replace("records", "…");
        assert!(said.contains(&flag), "{said}");
    }
}
