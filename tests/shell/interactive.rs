//! A user at a terminal.

use std::process::Command;
use std::time::{Duration, Instant};

use rexpect::session::{PtySession, spawn_command};

const PROMPT: &str = "kafka-sql> ";
const PATIENCE_MS: u64 = 30_000;

/// Starts `kafka-sql demo` on a terminal, with a separate data folder.
fn shell(data: &std::path::Path) -> PtySession {
    shell_with(data, None, &[])
}

/// The same on a terminal of this many lines and columns, with more of an environment.
fn shell_with(
    data: &std::path::Path,
    size: Option<(u16, u16)>,
    environment: &[(&str, &str)],
) -> PtySession {
    let program = env!("CARGO_BIN_EXE_kafka-sql");
    let stty = size.map(|(lines, columns)| format!("stty rows {lines} cols {columns};"));
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("{} exec '{program}' demo", stty.unwrap_or_default()),
        ])
        .env("XDG_DATA_HOME", data)
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .env_remove("PAGER")
        .env_remove("RUST_LOG")
        .env_remove("KAFKA_SQL_CONFIG")
        .envs(environment.iter().copied());
    let mut session = spawn_command(command, Some(PATIENCE_MS)).expect("the shell starts");
    session.exp_string(PROMPT).expect("a prompt");
    session
}

/// Types a line, waits for texts of the answer in order, then for the next prompt.
///
/// The line editor may redraw prompt and input at any time, so the texts must not occur in the input. Returns
/// what was printed from the first text on.
fn ask(session: &mut PtySession, line: &str, expected: &[&str]) -> String {
    session.send_line(line).expect("it reads");
    let mut seen = String::new();
    for text in expected.iter().chain([&PROMPT]) {
        let before = session
            .exp_string(text)
            .unwrap_or_else(|e| panic!("no {text:?} after {line:?}: {e}"));
        if !seen.is_empty() {
            seen.push_str(&before);
        }
        seen.push_str(text);
    }
    seen
}

fn leave(mut session: PtySession) {
    session.send_line("\\q").expect("it reads");
    session.exp_eof().expect("it ends");
}

#[test]
fn a_session_from_prompt_to_quit() {
    let data = tempfile::tempdir().unwrap();
    let mut session = shell(data.path());

    // A statement on two lines.
    session.send_line("SELECT count(*) AS n").unwrap();
    let offsets = "4 ranges, 1,000 offsets: 1,000 delivered";
    ask(
        &mut session,
        "FROM orders;",
        &["| 1000 |", "1 row, ", offsets],
    );
    ask(&mut session, "\\ledger", &["Ledger is on."]);
    ask(
        &mut session,
        "SELECT count(*) FROM orders WHERE partition = 3;",
        &["| topic ", "| orders | 3 ", "1 range, "],
    );
    ask(&mut session, "\\ledger off", &["Ledger is off."]);

    let text = ask(
        &mut session,
        "\\topics ord",
        &["replication_factor", "| orders ", "1 row, "],
    );
    assert!(!text.contains("payments"), "{text}");
    ask(
        &mut session,
        "\\d orders",
        &["column_name", "headers", "9 rows, "],
    );
    ask(
        &mut session,
        "\\d",
        &[
            "table_type",
            "| customers ",
            "| orders ",
            "| payments ",
            "rows, ",
        ],
    );
    ask(
        &mut session,
        "\\describe orders",
        &["cleanup policy", "high_watermark", "leader_epoch"],
    );
    ask(
        &mut session,
        "\\offsets orders -5",
        &["start_offset", "4 rows, "],
    );
    ask(&mut session, "\\?", &["\\timing [on|off]"]);
    ask(
        &mut session,
        "\\options failOnDataLoss",
        &[
            "fail.on.data.loss (Spark: failOnDataLoss)",
            "[default: `true`]",
        ],
    );

    // A failure does not end the shell.
    ask(
        &mut session,
        "SELECT nosuch FROM orders;",
        &["kafka-sql: No field named nosuch"],
    );
    ask(&mut session, "\\nosuch", &["is not a command"]);

    ask(&mut session, "\\timing off", &["Timing is off."]);
    ask(&mut session, "\\pset format csv", &["Format is csv."]);
    ask(
        &mut session,
        "SELECT 40 + 2 AS n;",
        &["n\r\n42\r\n1 row\r\n"],
    );
    leave(session);

    let history = std::fs::read_to_string(data.path().join("kafka-sql/history")).unwrap();
    assert!(history.contains("SELECT 40 + 2 AS n;"), "{history}");
}

#[test]
fn a_statement_over_the_budget_asks() {
    let data = tempfile::tempdir().unwrap();
    let mut session = shell(data.path());
    ask(&mut session, "SHOW kafka.max.scan.bytes;", &["10737418240"]);
    ask(&mut session, "SET kafka.max.scan.records = 999;", &["OK"]);
    let sql = "SELECT count(*) FROM orders;";
    let question = "this reads up to 1,000 records; go on? [y/N] ";
    for (answer, expected) in [
        ("n", &["nothing was read: "][..]),
        ("", &["nothing was read: "]),
        ("yes", &["| 1000 ", "1 row, "]),
    ] {
        session.send_line(sql).unwrap();
        session.exp_string(question).unwrap();
        ask(&mut session, answer, expected);
    }
    // Each statement of a line is asked about, and none runs twice.
    session
        .send_line("SELECT 40 + 1 AS n; SELECT count(*) FROM orders; SELECT 40 + 2 AS n;")
        .unwrap();
    session.exp_string("| 41 ").unwrap();
    session.exp_string(question).unwrap();
    let text = ask(&mut session, "y", &["| 1000 ", "| 42 "]);
    assert!(!text.contains("| 41 "), "{text}");
    leave(session);
}

/// What a terminal shows: the session reads each byte as a character.
fn decoded(text: &str) -> String {
    let bytes: Vec<u8> = text.chars().filter_map(|c| u8::try_from(c).ok()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The lines of a table that a terminal shows.
fn lines_of_table(text: &str) -> Vec<&str> {
    let lines = text.lines().map(|line| line.trim_end_matches('\r'));
    lines.filter(|line| line.starts_with(['|', '+'])).collect()
}

#[test]
fn tables_are_as_wide_as_the_terminal() {
    let data = tempfile::tempdir().unwrap();
    let sql = "SELECT * FROM payments WHERE offset < 2;";
    for columns in [80, 120, 200] {
        let mut session = shell_with(data.path(), Some((200, columns)), &[]);
        if columns < 200 {
            let rows = ["-[ RECORD 1 ]-", "key            | ", "-[ RECORD 8 ]-"];
            ask(&mut session, sql, &rows);
        }
        ask(&mut session, "\\x off", &["Expanded is off."]);
        let text = decoded(&ask(&mut session, sql, &["+---", "8 rows, "]));
        let lines = lines_of_table(&text);
        assert!(lines.len() > 10, "{text}");
        let widest = lines.iter().map(|line| line.chars().count()).max();
        let widest = widest.unwrap_or_default();
        let columns = usize::from(columns);
        assert!(widest <= columns, "{text}");
        // What is cut leaves little room.
        assert!(
            columns >= 200 || text.contains('…') && widest + 9 > columns,
            "{text}"
        );
        ask(&mut session, "\\pset width all", &[]);
        let text = decoded(&ask(&mut session, sql, &["+---", "8 rows, "]));
        assert!(!text.contains('…'), "{text}");
        leave(session);
    }
}

#[test]
fn a_pager_shows_what_is_longer_than_the_screen_and_may_be_left_early() {
    let data = tempfile::tempdir().unwrap();
    let pager = ("PAGER", "echo paged; head -n 5");
    let mut session = shell_with(data.path(), Some((24, 80)), &[pager]);
    let long = "SELECT offset FROM orders WHERE partition = 0 ORDER BY offset LIMIT 200;";
    let text = ask(&mut session, long, &["paged", "200 rows, "]);
    assert_eq!(lines_of_table(&text).len(), 5, "{text}");
    let text = ask(&mut session, "SELECT 40 + 2 AS n;", &["| n ", "1 row, "]);
    assert!(!text.contains("paged"), "{text}");
    ask(&mut session, "\\options", &["paged"]);
    ask(&mut session, "\\pset pager off", &[]);
    let text = ask(&mut session, long, &["| offset |", "200 rows, "]);
    assert_eq!(lines_of_table(&text).len(), 203, "{text}");
    leave(session);
}

#[test]
fn statements_have_colours_unless_they_are_not_wanted() {
    let data = tempfile::tempdir().unwrap();
    for (environment, has) in [
        (&[][..], true),
        (&[("NO_COLOR", "1")], false),
        (&[("TERM", "dumb")], false),
    ] {
        let mut session = shell_with(data.path(), Some((24, 80)), environment);
        session.send_line("SELECT 40 + 2 AS answer;").unwrap();
        let before = session.exp_string("| 42 ").unwrap();
        assert_eq!(
            before.contains("\u{1b}[1;34mSELECT"),
            has,
            "{environment:?} {before:?}"
        );
        session.exp_string(PROMPT).unwrap();
        leave(session);
    }
}

#[test]
fn messages_name_what_there_is() {
    let data = tempfile::tempdir().unwrap();
    let mut session = shell(data.path());
    ask(
        &mut session,
        "SELECT nosuch FROM orders;",
        &[
            "No field named nosuch",
            "The columns are topic, partition, offset, ",
        ],
    );
    ask(
        &mut session,
        "SELECT valu FROM orders;",
        &["Did you mean 'orders.value'?"],
    );
    ask(
        &mut session,
        "SELECT upper(value) FROM orders;",
        &["kafka_text(value) makes text of them, and so does 'value.format' 'text'"],
    );
    leave(session);
}

#[test]
fn the_history_keeps_no_password() {
    let data = tempfile::tempdir().unwrap();
    let mut session = shell(data.path());
    let secret = "CREATE EXTERNAL TABLE t STORED AS KAFKA LOCATION 'orders' \
                  OPTIONS ('kafka.sasl.password' 'hunter2');";
    // A password changes nothing without a login that uses it.
    ask(&mut session, secret, &["OK"]);
    ask(&mut session, "SELECT 40 + 2 AS answer;", &["| 42 "]);
    leave(session);
    let history = std::fs::read_to_string(data.path().join("kafka-sql/history")).unwrap();
    assert!(history.contains("SELECT 40 + 2"), "{history}");
    assert!(
        history.contains("'kafka.sasl.password' '[redacted]'"),
        "{history}"
    );
    assert!(!history.contains("hunter2"), "{history}");
}

#[test]
fn tab_completes_a_topic() {
    let data = tempfile::tempdir().unwrap();
    let mut session = shell(data.path());
    // The names arrive in the background, but the first statement waits for the cluster as well.
    ask(&mut session, "\\topics", &["4 rows, "]);
    session.send("SELECT count(*) AS n FROM paym\t").unwrap();
    session.flush().unwrap();
    session.exp_string("payments").expect("the completed name");
    ask(&mut session, ";", &["| n ", "1 row, "]);
    leave(session);
}

#[test]
fn ctrl_c_stops_the_statement_and_not_the_shell() {
    let data = tempfile::tempdir().unwrap();
    let mut session = shell(data.path());
    session
        .send_line("SELECT count(*) FROM orders a CROSS JOIN orders b CROSS JOIN orders c WHERE a.offset * b.offset * c.offset < 0;")
        .unwrap();
    // Long enough for the statement to be running. It would run for hours.
    std::thread::sleep(Duration::from_secs(2));
    let started = Instant::now();
    session.send_control('c').unwrap();
    session.exp_string("interrupted").expect("it says so");
    session.exp_string(PROMPT).expect("a prompt");
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    ask(&mut session, "SELECT 40 + 2 AS n;", &["| 42 |", "1 row, "]);
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
    ask(&mut session, "SELECT 40 + 2 AS n;", &["| 42 |", "1 row, "]);
    session.send_control('d').unwrap();
    session.exp_eof().expect("it ends");
}

/// Names, values and errors that contain what a terminal would obey.
#[test]
fn a_terminal_is_shown_what_it_would_obey() {
    const SQL: &str =
        "SELECT chr(27) || '[2Jx' || chr(155) || chr(8238) AS v, 1 AS \"\u{1b}]0;n\u{7}\"";
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-sql"));
        command.args(arguments).env_remove("RUST_LOG");
        let mut session = spawn_command(command, Some(PATIENCE_MS)).expect("the shell starts");
        let text = session.exp_eof().expect("it ends");
        let obeyed = |c: char| c == '\u{1b}' || c == '\u{9b}' || c == '\u{202e}' || c == '\u{7}';
        assert!(!text.contains(obeyed), "{text:?}");
        text
    };
    for format in ["csv", "tsv", "ndjson", "json", "table"] {
        let text = run(&["query", SQL, "--format", format]);
        assert!(text.contains(r"\u001b[2Jx\u009b\u202e"), "{text:?}");
        assert!(text.contains(r"\u001b]0;n\u0007"), "{text:?}");
    }
    // The message is one line, whatever it contains.
    let forged = "SELECT CAST('1\u{1b}[1A\rkafka-sql: all is well' AS INT)";
    let text = run(&["query", forged]);
    assert!(
        text.contains(r"1\u001b[1A\rkafka-sql: all is well"),
        "{text:?}"
    );
    let text = run(&["-v", "query", "SELECT * FROM \"x\nkafka-sql: all is well\""]);
    assert!(
        text.starts_with("kafka-sql: ") && !text.contains("\nkafka-sql: "),
        "{text:?}"
    );
}
