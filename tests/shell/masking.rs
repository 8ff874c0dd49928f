//! Masks of a connection, in every command: what is hidden is in nothing that the shell prints or writes.

use std::path::Path;
use std::process::Output;

use crate::support::{code, demo, err, ok};

/// In the values of `orders`, and nowhere else.
const HIDDEN: &str = "espresso machine";

fn masked(masks: &str, args: &[&str]) -> Output {
    let mask = format!("mask={masks}");
    demo(&[&["-X", &mask, "-X", "mask.salt=0123456789abcdef"], args].concat())
}

#[track_caller]
fn hides(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &err(output);
    assert!(!text.contains(HIDDEN), "{text}");
    assert!(!text.contains("0123456789abcdef"), "{text}");
    text
}

/// Whether a file of the folder, or one below it, has the text.
fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => holds(&path, text),
            false => String::from_utf8_lossy(&std::fs::read(path).unwrap()).contains(text),
        }
    })
}

#[test]
fn each_command_hides_what_the_connection_masks() {
    let commands: [&[&str]; 9] = [
        &["query", "SELECT * FROM orders"],
        &[
            "query",
            "SELECT * FROM kafka('orders', 'start', 'value.format=json')",
        ],
        &[
            "query",
            "SELECT kafka_text(value)->>'item' AS item, count(*) AS n FROM orders GROUP BY 1",
        ],
        &[
            "query",
            "EXPLAIN ANALYZE SELECT kafka_text(value) FROM orders",
        ],
        &[
            "query",
            "CREATE EXTERNAL TABLE o (item INT) STORED AS KAFKA LOCATION 'orders' OPTIONS ('value.format' 'json'); SELECT * FROM o",
        ],
        &["search", "orders", "--contains", "machine"],
        &["search", "orders", "--regex", "espresso.*"],
        &["describe", "orders", "--infer"],
        &["doctor", "--topic", "orders"],
    ];
    for masks in [
        "orders.item",
        "orders.$.item=hash",
        "orders.value",
        "*.value=last1",
    ] {
        for command in commands {
            hides(&masked(masks, command));
        }
    }
    let shown = ok(&demo(&["query", "SELECT * FROM orders"]));
    assert!(shown.contains(HIDDEN));
}

#[test]
fn a_search_sees_masked_values() {
    let found = masked(
        "orders.item=last4",
        &["search", "orders", "--contains", HIDDEN],
    );
    assert_eq!(code(&found), 9, "{}", err(&found));
    let found = masked(
        "orders.item=last4",
        &["search", "orders", "--contains", "****hine", "--first", "1"],
    );
    assert!(ok(&found).contains("****hine"));
}

#[test]
fn exports_and_jobs_write_masked_records() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    for format in ["csv", "ndjson"] {
        let out = at(format);
        let export = ["export", "orders", "start", "--format", format, "-o", &out];
        hides(&masked("orders.item", &export));
        assert!(
            holds(folder.path(), "\\\"item\\\":null") || holds(folder.path(), "\"\"item\"\":null")
        );
    }
    let script = at("job.sql");
    let sql = format!(
        "CREATE EXTERNAL TABLE out STORED AS SQLITE LOCATION '{}' OPTIONS ('table' 'held', 'shared' 'true'); \
         INSERT INTO out SELECT partition, \"offset\", kafka_text(value) AS value FROM orders;",
        at("out.db")
    );
    std::fs::write(&script, sql).unwrap();
    let checkpoint = at("log");
    let run = ["run", &script, "--once", "--checkpoint", &checkpoint];
    ok(&masked("orders.item=hash", &run));
    assert!(!holds(folder.path(), HIDDEN));
    ok(&demo(
        &[&run[..3], &["--checkpoint", &at("log2"), "--name", "plain"]].concat(),
    ));
    assert!(holds(folder.path(), HIDDEN));
}

#[test]
fn statements_do_not_lift_masks() {
    for statement in [
        "SELECT * FROM kafka('orders', 'start', 'kafka.mask=payments.key')",
        "CREATE EXTERNAL TABLE o STORED AS KAFKA LOCATION 'orders' OPTIONS ('mask' ''); SELECT * FROM o",
        "SELECT * FROM kafka('orders', 'start', 'mask.salt=fedcba9876543210')",
    ] {
        let output = masked("orders.value", &["query", statement]);
        let said = hides(&output);
        assert!(matches!(code(&output), 1 | 2), "{said}");
        let refused = ["may not choose", "is not known", "a secret has no place"];
        assert!(refused.iter().any(|why| said.contains(why)), "{said}");
    }
    let avro = "SELECT * FROM kafka('orders', 'start', 'value.format=csv')";
    let said = hides(&masked("orders.item", &["query", avro]));
    assert!(
        said.contains("cannot be read through the masks of this connection (orders.item)"),
        "{said}"
    );
}

#[test]
fn settings_are_checked_and_the_salt_is_not_printed() {
    let dump = ok(&masked("orders.item=hash", &["-X", "dump"]));
    assert!(
        dump.contains("mask=orders.item=hash\nmask.salt=[redacted]"),
        "{dump}"
    );
    let refused = demo(&["-X", "mask=orders.item=hash", "topics"]);
    assert_eq!(code(&refused), 2);
    assert!(err(&refused).contains("set mask.salt"), "{}", err(&refused));
    let refused = demo(&["-X", "mask=orders", "topics"]);
    assert!(
        err(&refused).contains("expected masks such as"),
        "{}",
        err(&refused)
    );
}
