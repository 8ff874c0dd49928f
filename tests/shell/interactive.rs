//! A person at a terminal.

use std::process::Command;
use std::time::{Duration, Instant};

use rexpect::session::{PtySession, spawn_command};

const PROMPT: &str = "kafka-sql> ";
const PATIENCE_MS: u64 = 30_000;

/// Starts `kafka-sql demo` on a terminal, with a data folder of its own.
fn shell(data: &std::path::Path) -> PtySession {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-sql"));
    command
        .arg("demo")
        .env("XDG_DATA_HOME", data)
        .env("TERM", "xterm")
        .env_remove("RUST_LOG")
        .env_remove("KAFKA_SQL_CONFIG");
    let mut session = spawn_command(command, Some(PATIENCE_MS)).expect("the shell starts");
    session.exp_string(PROMPT).expect("a prompt");
    session
}

/// Types a line and returns what was printed until the next prompt.
fn answer(session: &mut PtySession, line: &str) -> String {
    session.send_line(line).expect("it reads");
    // The line editor repeats the prompt in front of what is typed, so the answer starts after it.
    let text = session
        .exp_string(&format!("\n{PROMPT}"))
        .or_else(|_| session.exp_string(PROMPT));
    text.unwrap_or_else(|e| panic!("no prompt after {line:?}: {e}"))
}

fn leave(mut session: PtySession) {
    session.send_line("\\q").expect("it reads");
    session.exp_eof().expect("it ends");
}

#[test]
fn a_session_from_prompt_to_quit() {
    let data = tempfile::tempdir().unwrap();
    let mut session = shell(data.path());

    // A statement over two lines.
    session.send_line("SELECT count(*) AS n").unwrap();
    let text = answer(&mut session, "FROM orders;");
    assert!(text.contains("1000"), "{text}");
    assert!(text.contains("1 row, "), "{text}");

    let text = answer(&mut session, "\\topics ord");
    assert!(
        text.contains("orders") && !text.contains("payments"),
        "{text}"
    );
    let text = answer(&mut session, "\\d orders");
    assert!(text.contains("headers"), "{text}");
    let text = answer(&mut session, "\\d");
    assert!(
        text.contains("customers") && text.contains("payments"),
        "{text}"
    );
    let text = answer(&mut session, "\\offsets orders -5");
    assert!(text.contains("start_offset"), "{text}");

    // A failure does not end the shell.
    let text = answer(&mut session, "SELECT nosuch FROM orders;");
    assert!(text.contains("kafka-sql: "), "{text}");
    let text = answer(&mut session, "\\nosuch");
    assert!(text.contains("is no command"), "{text}");

    let text = answer(&mut session, "\\timing off");
    assert!(text.contains("Timing is off"), "{text}");
    answer(&mut session, "\\pset format csv");
    let text = answer(&mut session, "SELECT 40 + 2 AS n;");
    assert!(text.contains("n\r\n42\r\n"), "{text:?}");
    leave(session);

    let history = std::fs::read_to_string(data.path().join("kafka-sql/history")).unwrap();
    assert!(history.contains("SELECT 40 + 2 AS n;"), "{history}");
}

#[test]
fn tab_completes_a_topic() {
    let data = tempfile::tempdir().unwrap();
    let mut session = shell(data.path());
    // The names come in the background; the first statement waits for the cluster as well.
    answer(&mut session, "\\topics");
    session.send("SELECT count(*) AS n FROM paym\t").unwrap();
    session.flush().unwrap();
    session.exp_string("payments").expect("the completed name");
    let text = answer(&mut session, ";");
    assert!(text.contains("1 row"), "{text}");
    leave(session);
}

#[test]
fn ctrl_c_stops_the_statement_and_not_the_shell() {
    let data = tempfile::tempdir().unwrap();
    let mut session = shell(data.path());
    session
        .send_line("SELECT count(*) FROM orders a CROSS JOIN orders b CROSS JOIN orders c CROSS JOIN orders d WHERE a.offset + b.offset + c.offset + d.offset < 0;")
        .unwrap();
    // Long enough that the statement runs; it would run for hours.
    std::thread::sleep(Duration::from_secs(2));
    let started = Instant::now();
    session.send_control('c').unwrap();
    session.exp_string("interrupted").expect("it says so");
    session.exp_string(PROMPT).expect("a prompt");
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    let text = answer(&mut session, "SELECT 40 + 2 AS n;");
    assert!(text.contains("42"), "{text}");
    leave(session);
}

#[test]
fn ctrl_c_at_the_prompt_clears_the_line_and_ctrl_d_leaves() {
    let data = tempfile::tempdir().unwrap();
    let mut session = shell(data.path());
    session.send("SELECT nonsense").unwrap();
    session.flush().unwrap();
    session.exp_string("nonsense").unwrap();
    session.send_control('c').unwrap();
    session.exp_string(PROMPT).unwrap();
    let text = answer(&mut session, "SELECT 40 + 2 AS n;");
    assert!(text.contains("42"), "{text}");
    session.send_control('d').unwrap();
    session.exp_eof().expect("it ends");
}
