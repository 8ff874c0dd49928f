//! Which rooms (top modules of the crates) may use which others, as `docs/architecture.md` draws them.
//!
//! Cargo keeps the crates apart; within a crate only this test does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The rooms of `kafka-arrow`, each with the rooms that it may use in addition to `error`.
const KAFKA_ARROW: &[(&str, &[&str])] = &[
    ("client", &["backoff", "config", "policy", "range", "raw"]),
    ("config", &["policy", "range"]),
    (
        "decode",
        &["backoff", "cache", "config", "hex", "policy", "raw"],
    ),
    ("encode", &["decode"]),
    ("error", &[]),
    ("fuzzing", &["client", "decode"]),
    ("path", &[]),
    ("policy", &["path"]),
    ("range", &[]),
    ("raw", &["range"]),
];

/// The rooms of `datafusion-kafka`, each with the rooms that it may use in addition to `error` and [`BELOW`].
const DATAFUSION_KAFKA: &[(&str, &[&str])] = &[
    ("memory", &[]),
    ("redact", &[]),
    ("store", &[]),
    ("policy", &["redact"]),
    ("statement", &["policy", "redact"]),
    ("scan", &["memory"]),
    // Sinks write dead letters, and redecoding uses a session of its own.
    (
        "table",
        &[
            "policy",
            "redact",
            "scan",
            "session",
            "sink",
            "statement",
            "store",
        ],
    ),
    ("functions", &["policy", "table"]),
    // The Kafka sink is a table's other half, and a Parquet table may be an export.
    (
        "sink",
        &["export", "fault", "memory", "policy", "store", "table"],
    ),
    ("session", &["functions", "policy", "sink", "table"]),
    ("receipt", &["redact", "scan", "table"]),
    (
        "driver",
        &["fault", "scan", "sink", "statement", "store", "table"],
    ),
    (
        "export",
        &[
            "fault",
            "memory",
            "policy",
            "scan",
            "session",
            "sink",
            "statement",
            "store",
            "table",
        ],
    ),
];

/// The rooms of the shell, each with those that it may use besides `failure` and `ui`.
const KAFKA_SQL: &[(&str, &[&str])] = &[
    ("allocator", &[]),
    ("inspect", &[]),
    ("interrupt", &[]),
    ("output", &[]),
    ("statements", &[]),
    ("connection", &[]),
    ("session", &["connection"]),
    ("progress", &["session"]),
    ("ledger", &["output", "session"]),
    (
        "script",
        &["ledger", "output", "progress", "session", "statements"],
    ),
    ("describe", &["inspect", "output", "script", "session"]),
    ("demo", &["script"]),
    ("export", &["connection", "output"]),
    ("job", &["session", "statements"]),
    ("clean", &["job"]),
    ("rerun", &["session"]),
    (
        "args",
        &["clean", "connection", "export", "job", "output", "rerun"],
    ),
    (
        "repl",
        &[
            "describe",
            "inspect",
            "interrupt",
            "job",
            "output",
            "progress",
            "script",
            "session",
            "statements",
        ],
    ),
];

/// What all of `datafusion-kafka` may use: its errors, and these rooms of `kafka-arrow`.
const BELOW: [&str; 8] = [
    "client", "config", "decode", "encode", "error", "hex", "range", "text",
];

#[test]
fn rooms_use_only_those_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = vec![];
    for (folder, rooms, below) in [
        ("crates/kafka-arrow/src", KAFKA_ARROW, &["error"][..]),
        ("src", DATAFUSION_KAFKA, &BELOW[..]),
        ("crates/kafka-sql/src", KAFKA_SQL, &["failure", "ui"][..]),
    ] {
        let uses = uses(&root.join(folder));
        assert!(uses.len() >= 8, "{folder}: {uses:?}");
        for (room, used) in &uses {
            let allowed = rooms
                .iter()
                .find(|(name, _)| name == room)
                .map(|(_, all)| *all);
            for (other, file) in used {
                let is_allowed = allowed.is_some_and(|all| all.contains(&other.as_str()))
                    || below.contains(&other.as_str());
                if !is_allowed {
                    wrong.push(format!("{room} uses {other}: {folder}/{file}"));
                }
            }
        }
        for (room, allowed) in rooms {
            for other in *allowed {
                let is_used = uses
                    .get(*room)
                    .is_some_and(|used| used.contains_key(*other));
                if !is_used {
                    wrong.push(format!(
                        "{room} uses {other} no more: take it from the list"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// For each top module, which others it uses, with a file that does so. Tests do not count.
fn uses(folder: &Path) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all = BTreeMap::<String, BTreeMap<String, String>>::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if !["tests", "hostile", "crossings"].contains(&name) {
                open.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            }
            continue;
        }
        let file = path
            .strip_prefix(folder)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let room = file.split(['/', '.']).next().unwrap().to_owned();
        if !file.ends_with(".rs")
            || file.ends_with("tests.rs")
            || ["lib", "main", "house"].contains(&&*room)
        {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let text = lines.collect::<Vec<_>>().join("\n");
        for other in named(&text) {
            if other != room {
                let used = all.entry(room.clone()).or_default();
                used.insert(other, file.clone());
            }
        }
    }
    all
}

/// The modules behind `crate::`, one or several in braces.
fn named(text: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut names = BTreeSet::new();
    for part in text.split("crate::").skip(1) {
        let Some(list) = part.strip_prefix('{') else {
            names.extend(part.split(|c| !is_word(c)).next().map(str::to_owned));
            continue;
        };
        // The content of inner braces belongs to the module before them.
        let mut depth = 0;
        let outer = list
            .split(';')
            .next()
            .unwrap_or_default()
            .chars()
            .filter(|c| {
                depth += i32::from(*c == '{') - i32::from(*c == '}');
                depth == 0
            });
        let outer: String = outer.collect();
        let modules = outer
            .split(',')
            .filter_map(|item| item.trim().split("::").next());
        names.extend(modules.map(|name| name.trim_matches('}').to_owned()));
    }
    names.retain(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    names
}
