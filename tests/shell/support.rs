//! Starts the shell and inspects what it did.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The program, in an environment without the user's settings.
pub(crate) fn kafka_sql() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-sql"));
    command
        .env_remove("KAFKA_SQL_BOOTSTRAP_SERVERS")
        .env_remove("KAFKA_SQL_CONFIG")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

/// Runs `kafka-sql demo ARGS`.
pub(crate) fn demo(args: &[&str]) -> Output {
    kafka_sql()
        .arg("demo")
        .args(args)
        .output()
        .expect("the shell starts")
}

/// Runs `kafka-sql ARGS` with text on standard input.
pub(crate) fn with_input(args: &[&str], input: &str) -> Output {
    let mut child = kafka_sql()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the shell starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin
        .write_all(input.as_bytes())
        .expect("the shell reads its input");
    drop(stdin);
    child.wait_with_output().expect("the shell ends")
}

/// The standard output of a run, which must have succeeded.
#[track_caller]
pub(crate) fn ok(output: &Output) -> String {
    assert_eq!(code(output), 0, "stderr: {}", err(output));
    String::from_utf8(output.stdout.clone()).expect("text")
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

/// The names in a folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|e| {
            e.expect("it can be read")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}
