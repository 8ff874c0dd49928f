//! Which rooms (top modules of the crates) may use which others, as `docs/architecture.md` draws them.
//!
//! Cargo keeps the crates apart; within a crate only this test does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The rooms of `kafka-arrow`, each with the rooms that it may use in addition to `error`.
const KAFKA_ARROW: &[(&str, &[&str])] = &[
    (
        "client",
        &[
            "backoff", "config", "decode", "http", "mask", "range", "raw", "trust",
        ],
    ),
    ("config", &["mask", "policy", "range", "trust"]),
    (
        "decode",
        &[
            "backoff", "cache", "config", "hex", "http", "line", "mask", "raw", "trust",
        ],
    ),
    ("encode", &["decode", "line"]),
    ("error", &[]),
    ("fuzzing", &["client", "config", "decode", "range"]),
    ("http", &["trust"]),
    ("line", &[]),
    ("mask", &["hex", "line", "raw"]),
    ("path", &[]),
    ("policy", &["path"]),
    ("range", &[]),
    ("raw", &["range"]),
    ("trust", &["policy"]),
];

/// The rooms of `datafusion-kafka`, each with the rooms that it may use in addition to `error` and [`BELOW`].
const DATAFUSION_KAFKA: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("fault", &[]),
    ("memory", &[]),
    ("redact", &[]),
    ("store", &[]),
    ("policy", &["redact"]),
    ("statement", &["policy", "redact"]),
    ("formats", &["policy"]),
    ("scan", &["formats", "memory"]),
    // The folder of an export, which the exporter writes and a table of `sink` reads.
    ("exported", &["formats", "store"]),
    ("functions", &["formats", "policy"]),
    // All sinks but that of Kafka.
    (
        "sink",
        &["exported", "fault", "formats", "memory", "policy", "store"],
    ),
    // The index of a topic, which a job writes and a table reads.
    ("index", &["memory", "sink", "store"]),
    // Dead letters that are read again may be in the folder of a sink.
    (
        "table",
        &[
            "formats",
            "functions",
            "index",
            "policy",
            "redact",
            "scan",
            "sink",
            "statement",
            "store",
        ],
    ),
    // It writes with the formats and options of tables.
    (
        "kafka_sink",
        &["fault", "formats", "sink", "store", "table"],
    ),
    ("receipt", &["redact", "scan", "table"]),
    ("session", &["functions", "policy", "scan", "sink", "table"]),
    (
        "driver",
        &[
            "fault",
            "index",
            "kafka_sink",
            "policy",
            "scan",
            "sink",
            "statement",
            "store",
            "table",
        ],
    ),
    (
        "export",
        &[
            "exported",
            "fault",
            "formats",
            "kafka_sink",
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
    ("notices", &[]),
    ("interrupt", &[]),
    ("output", &[]),
    ("statements", &[]),
    ("budget", &[]),
    ("connection", &["budget"]),
    ("session", &["connection"]),
    ("workers", &["connection", "interrupt"]),
    ("ballista", &["connection", "interrupt"]),
    ("progress", &["session"]),
    ("ledger", &["output", "session"]),
    ("mcp", &["connection", "interrupt"]),
    (
        "script",
        &["ledger", "output", "progress", "session", "statements"],
    ),
    ("describe", &["inspect", "output", "script", "session"]),
    ("receipt", &["output"]),
    (
        "search",
        &[
            "inspect",
            "interrupt",
            "ledger",
            "output",
            "progress",
            "receipt",
            "script",
            "session",
        ],
    ),
    ("demo", &["script"]),
    ("export", &["connection", "output"]),
    ("observe", &[]),
    ("job", &["observe", "session", "statements"]),
    (
        "serve",
        &["connection", "interrupt", "job", "logging", "session"],
    ),
    ("clean", &["job"]),
    ("doctor", &["connection", "job", "output"]),
    ("rerun", &["session"]),
    (
        "args",
        &[
            "ballista",
            "clean",
            "connection",
            "doctor",
            "export",
            "job",
            "mcp",
            "output",
            "rerun",
            "search",
            "serve",
            "workers",
        ],
    ),
    (
        "repl",
        &[
            "connection",
            "describe",
            "doctor",
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
const BELOW: [&str; 9] = [
    "client", "config", "decode", "encode", "error", "hex", "mask", "range", "text",
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
        wrong.extend(in_circles(&uses));
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

/// The rooms that use each other in circles.
fn in_circles(uses: &Uses) -> Vec<String> {
    let mut left: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (room, used) in uses {
        left.entry(room).or_default();
        for other in used.keys() {
            left.entry(other).or_default();
            left.entry(room).or_default().insert(other);
        }
    }
    // Rooms that use none of those that are left are below them.
    while let Some(lowest) = left.iter().find(|(_, used)| used.is_empty()) {
        let lowest = *lowest.0;
        left.remove(lowest);
        for used in left.values_mut() {
            used.remove(lowest);
        }
    }
    let lines = left.iter().map(|(room, used)| {
        let used: Vec<&str> = used.iter().copied().collect();
        format!("a circle, or above one: {room} uses {}", used.join(", "))
    });
    lines.collect()
}

#[test]
fn circles_are_found() {
    let uses = |edges: &[(&str, &str)]| {
        let mut uses = Uses::new();
        for (room, other) in edges {
            let used = uses.entry((*room).to_owned()).or_default();
            used.insert((*other).to_owned(), String::new());
        }
        uses
    };
    let chain = uses(&[("a", "b"), ("b", "c"), ("a", "c")]);
    assert_eq!(in_circles(&chain), Vec::<String>::new());
    let circle = uses(&[("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")]);
    let lines = ["a uses b", "b uses c", "c uses b"];
    assert_eq!(
        in_circles(&circle),
        lines.map(|line| format!("a circle, or above one: {line}"))
    );
}

/// For each room the others that it uses, with a file that does so.
type Uses = BTreeMap<String, BTreeMap<String, String>>;

/// What the top modules in a folder use of each other; tests left out.
///
/// `pub use crate::…` is a part of the public surface, as `lib.rs` is, and no use. A room that takes a name from
/// there uses the room that the name comes from.
fn uses(folder: &Path) -> Uses {
    let mut files = vec![];
    let mut surface = BTreeMap::new();
    for (file, text) in sources(folder) {
        let room = file.split(['/', '.']).next().unwrap().to_owned();
        if ["lib", "main", "house"].contains(&&*room) {
            continue;
        }
        let mut own = String::new();
        for (number, part) in text.split("pub use crate::").enumerate() {
            let (exported, rest) = match number {
                0 => ("", part),
                _ => part.split_once(';').unwrap(),
            };
            if let Some((from, names)) = exported.split_once("::") {
                let names = names
                    .split(|c: char| !is_word(c))
                    .filter(|name| !name.is_empty());
                surface
                    .extend(names.map(|name| ((room.clone(), name.to_owned()), from.to_owned())));
            }
            own.push_str(rest);
        }
        files.push((room, file, own));
    }
    let mut all = Uses::new();
    for (room, file, text) in files {
        let used = all.entry(room.clone()).or_default();
        for other in named(&text, &surface) {
            if other != room {
                used.insert(other, file.clone());
            }
        }
    }
    all
}

/// Waiting, time limits and ages of what is kept run on the monotonic clock, so that they hold when the wall
/// clock jumps. These files read that one, for the times that `docs/faults.md` lists.
#[test]
fn the_wall_clock_is_read_in_few_places() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![];
    for folder in ["src", "crates/kafka-arrow/src", "crates/kafka-sql/src"] {
        for (file, text) in sources(&root.join(folder)) {
            if text.contains("SystemTime::now") || text.contains("Timestamp::now") {
                found.push(format!("{folder}/{file}"));
            }
        }
    }
    found.retain(|file| !file.starts_with("src/house"));
    found.sort();
    let known = [
        "crates/kafka-arrow/src/client/diagnose/certificate.rs",
        "crates/kafka-arrow/src/client/diagnose/topic.rs",
        "crates/kafka-arrow/src/client/memory/state.rs",
        "crates/kafka-arrow/src/client/wire/security/endpoint.rs",
        "crates/kafka-arrow/src/client/wire/security/oauth.rs",
        "src/sink/parquet/clean.rs",
        "src/sink/sqlite/offsets.rs",
        "src/table/resolve.rs",
    ];
    assert_eq!(found, known);
}

/// The files of a folder and those below it, by their paths in it, without tests and comments.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut all = vec![];
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default();
        if path.is_dir() {
            if !["tests", "hostile", "crossings"].contains(&name) {
                open.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            }
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
            let lines = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            let text = lines.collect::<Vec<_>>().join("\n");
            let file = path.strip_prefix(folder).unwrap();
            all.push((file.to_str().unwrap().to_owned(), text));
        }
    }
    all
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The modules behind `crate::`, one or several in braces, and those that names of the surface come from.
fn named(text: &str, surface: &BTreeMap<(String, String), String>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for part in text.split("crate::").skip(1) {
        let statement = part.split(';').next().unwrap_or_default();
        let modules = modules(statement);
        let words: BTreeSet<&str> = statement.split(|c| !is_word(c)).collect();
        let through = surface
            .iter()
            .filter(|((room, name), _)| modules.contains(room) && words.contains(name.as_str()));
        names.extend(through.map(|(_, from)| from.clone()));
        names.extend(modules);
    }
    names.retain(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    names
}

fn modules(statement: &str) -> BTreeSet<String> {
    let Some(list) = statement.strip_prefix('{') else {
        let first = statement.split(|c| !is_word(c)).next();
        return first.map(str::to_owned).into_iter().collect();
    };
    // What is in inner braces belongs to the module before them.
    let mut depth = 0;
    let outer = list.chars().filter(|c| {
        depth += i32::from(*c == '{') - i32::from(*c == '}');
        depth == 0
    });
    let outer: String = outer.collect();
    let modules = outer
        .split(',')
        .filter_map(|item| item.trim().split("::").next());
    modules
        .map(|name| name.trim_matches('}').to_owned())
        .collect()
}

#[test]
fn links_of_the_readme_lead_somewhere_from_the_documentation() {
    let definitions = |text: &'static str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix('['));
        lines
            .filter_map(|line| line.split_once("]: "))
            .collect::<BTreeMap<_, _>>()
    };
    let readme = include_str!("../README.md");
    let (own, from_here) = (definitions(readme), definitions(include_str!("links.md")));
    assert!(own.len() > 10, "{own:?}");
    assert!(
        own.keys().eq(from_here.keys()),
        "src/links.md is not that of README.md"
    );
    assert!(from_here.values().all(|url| url.starts_with("https://")));
    let relative = readme
        .split("](")
        .skip(1)
        .find(|to| !to.starts_with(['#', 'h']));
    assert_eq!(
        relative, None,
        "a link of README.md that src/links.md does not have"
    );
}
