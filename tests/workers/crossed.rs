//! Workers crossed with what else there is: verbs, isolation levels, clients, and what becomes of logs. What one
//! machine finds is what is expected.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::support::produce::{Record, Transaction, held_back, produce};
use super::support::{admin, shared};
use super::{RunningWorker, addresses, kafka_sql, start};

pub(super) const PARTITIONS: i32 = 3;
pub(super) const CLIENTS: [&str; 2] = ["wire", "librdkafka"];
/// What a table says of its records: those that do not decode, and those that are gone, are left out.
const LENIENT: &str = "'value.format' 'json', 'on.bad.row' 'skip', 'on.data.loss' 'skip'";
/// The same for a receipt, which leaves out none.
const COMPLETE: &str = "'value.format' 'json', 'on.bad.row' 'null', 'on.data.loss' 'skip'";

pub(super) fn json(partition: i32, id: i64) -> Record {
    Record::new(partition).value(format!(r#"{{"id": {id}}}"#))
}

pub(super) fn numbered(partition: i32, ids: std::ops::Range<i64>) -> Vec<Record> {
    ids.map(|id| json(partition, id)).collect()
}

/// A topic with all that logs have: a start that has moved, transactions that were committed, aborted and left
/// open, and a record that does not decode.
fn rough() -> &'static str {
    static TOPIC: OnceLock<String> = OnceLock::new();
    TOPIC.get_or_init(|| {
        let (brokers, topic) = (shared().bootstrap(), admin::unique_topic("rough"));
        admin::create_topic(brokers, &topic, PARTITIONS, &[]);
        produce(brokers, &topic, &numbered(0, 0..60));
        admin::delete_records(brokers, &topic, 0, 20);
        produce(brokers, &topic, &numbered(1, 100..120));
        let aborted = Transaction::begin(brokers, &format!("{topic}-aborted"));
        aborted.produce(&topic, &numbered(1, 120..130));
        aborted.abort();
        let committed = Transaction::begin(brokers, &format!("{topic}-committed"));
        committed.produce(&topic, &numbered(1, 130..140));
        committed.commit();
        produce(brokers, &topic, &[Record::new(1).value("no json")]);
        produce(brokers, &topic, &numbered(2, 200..230));
        // Dropping it leaves it open.
        let open = Transaction::begin(brokers, &format!("{topic}-open"));
        open.produce(&topic, &numbered(2, 230..235));
        produce(brokers, &topic, &numbered(2, 235..240));
        topic
    })
}

/// Where a statement runs, and how it reads.
#[derive(Clone, Copy)]
pub(super) struct Reads<'a> {
    pub(super) workers: Option<&'a str>,
    pub(super) settings: &'a [(&'a str, &'a str)],
}

impl Reads<'_> {
    pub(super) fn command(&self) -> Command {
        let mut command = kafka_sql();
        command.args(["-b", shared().bootstrap(), "--format", "csv"]);
        for (key, value) in self.settings {
            command.args(["-X", &format!("{key}={value}")]);
        }
        if let Some(workers) = self.workers {
            command.args(["--workers", workers, "--offsets-per-task", "10"]);
        }
        command
    }

    /// What a command says on standard output, and then its exit code and its ledger.
    pub(super) fn said(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output();
        let output = output.expect("the shell runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        let ledger: BTreeSet<&str> = errors
            .lines()
            .filter(|line| line.contains("delivered"))
            .collect();
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        let _ = writeln!(said, "code {:?}, {ledger:#?}", output.status.code());
        if !output.status.success() {
            said.push_str(&without_worker(&errors));
        }
        said
    }
}

/// An error as one machine has it.
pub(super) fn without_worker(text: &str) -> String {
    let mut lines = text
        .lines()
        .map(|line| match line.split_once(" (on worker ") {
            Some((before, after)) => {
                let after = after.split_once(')').map_or("", |(_, after)| after);
                format!("{before}{after}\n")
            }
            None => format!("{line}\n"),
        });
    lines.by_ref().collect()
}

/// The table `t` of a topic.
pub(super) fn table(topic: &str, options: &str) -> String {
    format!(
        "CREATE EXTERNAL TABLE t (id BIGINT) STORED AS KAFKA LOCATION '{topic}' OPTIONS ({options})"
    )
}

/// From offset 5 of partition 0, which may be gone.
fn from_five(topic: &str) -> String {
    format!("'starting.offsets' '{{\"{topic}\":{{\"0\":5,\"1\":0,\"2\":0}}}}'")
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Verb {
    Query,
    Search,
    Run,
    Replay,
    Export,
}

impl Verb {
    const ALL: [Self; 5] = [
        Self::Query,
        Self::Search,
        Self::Run,
        Self::Replay,
        Self::Export,
    ];

    /// What the verb makes of [`rough`] in a new folder, as text that is the same wherever it is made.
    fn made(self, reads: Reads<'_>, folder: &Path) -> String {
        let topic = rough();
        let from = from_five(topic);
        let declared = table(topic, &format!("{LENIENT}, {from}"));
        let here = Reads {
            workers: None,
            ..reads
        };
        let path = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();
        match self {
            Self::Query => {
                let complete = table(topic, &format!("{COMPLETE}, {from}"));
                let sql = format!(
                    "{complete}; SELECT partition, offset, id FROM t ORDER BY partition, offset; \
                     SELECT partition, count(*), sum(id) FROM t GROUP BY partition ORDER BY partition; \
                     SELECT count(*) FROM t a JOIN t b ON a.id = b.id"
                );
                let receipt = path("receipt.json");
                let said = reads.said(&["query", &sql, "--ledger", "--receipt", &receipt]);
                let sql = format!("{declared}; SELECT count(*), count(id) FROM t");
                said + &here.said(&["rerun", &receipt]) + &reads.said(&["query", &sql, "--ledger"])
            }
            Self::Search => {
                let receipt = path("receipt.json");
                let place = [
                    "search",
                    topic,
                    "0=5:,1=0:,2=0:",
                    "--option",
                    "on.data.loss=skip",
                ];
                let hits = [
                    "--contains",
                    "3",
                    "--select",
                    "partition, offset, value",
                    "--ledger",
                ];
                let noted = [&place[..], &hits, &["--receipt", &receipt]].concat();
                let newest = [
                    "2=start:end",
                    "--reverse",
                    "--where",
                    "true",
                    "--select",
                    "offset",
                ];
                let newest = [&["search", topic][..], &newest].concat();
                // They come as they are found.
                let said = reads.said(&noted);
                let mut said: Vec<&str> = said.lines().collect();
                said.sort_unstable();
                said.join("\n") + &here.said(&["rerun", &receipt]) + &reads.said(&newest)
            }
            Self::Run => {
                let job = Job::new(folder, &declared, "");
                let progress = path("progress");
                let said = job.run(reads, &["--progress", &progress]);
                let lines = std::fs::read_to_string(&progress).unwrap_or_default();
                let ledgers = lines.lines().map(|line| {
                    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                    let source = &line["sources"][0];
                    format!("{} {}\n", source["ranges"], source["ledger"])
                });
                said + &job.rows() + &ledgers.collect::<String>()
            }
            Self::Replay => {
                let job = Job::new(folder, &declared, "");
                let run = job.run(here, &[]);
                let replay = |more: &[&str]| {
                    let file = job.file();
                    let arguments = [&["replay", &file, "--batch", "1"], more].concat();
                    reads.said(&arguments)
                };
                // Rows have no order there.
                let rows = replay(&[]);
                let mut rows: Vec<&str> = rows.lines().collect();
                rows.sort_unstable();
                run + &rows.join("\n") + &replay(&["--diff"])
            }
            Self::Export => {
                let options = ["value.format=json", "on.bad.row=skip", "on.data.loss=skip"];
                let range = [topic, "0=5:,1=0:,2=0:"];
                exported(reads, folder, &range, &options)
            }
        }
    }
}

/// An export of a topic and range, verified on this machine: its manifest, and the exit codes of both.
pub(super) fn exported(reads: Reads<'_>, folder: &Path, what: &[&str], options: &[&str]) -> String {
    let out = folder.join("out");
    let target = out.to_str().expect("UTF-8");
    let mut arguments = vec!["export"];
    arguments.extend(what);
    arguments.extend(["-o", target, "--max-file-offsets", "25"]);
    arguments.extend(options.iter().flat_map(|option| ["--option", option]));
    let said = reads.said(&arguments);
    let manifest = std::fs::read_to_string(out.join("manifest.json"));
    let manifest: serde_json::Value =
        serde_json::from_str(&manifest.unwrap_or_default()).unwrap_or_default();
    let pieces = manifest["pieces"].as_array().cloned().unwrap_or_default();
    let pieces = pieces.iter().map(|piece| format!("{piece}\n"));
    let here = Reads {
        workers: None,
        ..reads
    };
    said + &pieces.collect::<String>() + &here.said(&["verify", target, "--against-kafka"])
}

/// A job that copies the table `t` into a file of SQLite.
pub(super) struct Job<'a> {
    pub(super) folder: &'a Path,
}

impl<'a> Job<'a> {
    pub(super) fn new(folder: &'a Path, declared: &str, more: &str) -> Self {
        let out = folder.join("out.db");
        let text = format!(
            "{declared};\n{more}\
             CREATE EXTERNAL TABLE out STORED AS SQLITE LOCATION '{}' OPTIONS ('table' 'out');\n\
             INSERT INTO out SELECT partition, offset, id FROM t;\n",
            out.display()
        );
        std::fs::write(folder.join("job.sql"), text).expect("a file");
        Self { folder }
    }

    pub(super) fn file(&self) -> String {
        let file = self.folder.join("job.sql");
        file.to_str().expect("UTF-8").to_owned()
    }

    pub(super) fn run(&self, reads: Reads<'_>, more: &[&str]) -> String {
        let file = self.file();
        let usual = ["-q", "run", &file, "--available-now", "--max-offsets", "40"];
        reads.said(&[&usual[..], more].concat())
    }

    /// What has come of it so far, in order.
    pub(super) fn rows(&self) -> String {
        let connection = rusqlite::Connection::open(self.folder.join("out.db")).expect("a file");
        let sql = "SELECT \"partition\" || ' ' || \"offset\" || ' ' || coalesce(id, '') FROM out ORDER BY \"partition\", \"offset\"";
        let Ok(mut statement) = connection.prepare(sql) else {
            return "no table\n".to_owned();
        };
        let rows = statement.query_map([], |row| row.get::<_, String>(0));
        let rows = rows.expect("rows").map(|row| row.expect("a row") + "\n");
        rows.collect()
    }
}

/// What is different, or nothing.
fn difference(case: &str, here: &str, there: &str) -> Option<String> {
    (here != there).then(|| format!("{case}\n--- one machine\n{here}\n--- workers\n{there}\n"))
}

#[test]
fn verbs_isolation_levels_and_clients_give_what_one_machine_gives() {
    let workers = start(3);
    let all = addresses(&workers);
    let mut wrong = vec![];
    for verb in Verb::ALL {
        for isolation in ["read_committed", "read_uncommitted"] {
            for client in CLIENTS {
                let settings = [("isolation.level", isolation), ("kafka.client", client)];
                let made = [None, Some(all.as_str())].map(|workers| {
                    let folder = tempfile::tempdir().expect("a folder");
                    let settings = &settings;
                    let made = verb.made(Reads { workers, settings }, folder.path());
                    made.replace(folder.path().to_str().expect("UTF-8"), "FOLDER")
                });
                let [here, there] = made;
                let case = format!("{verb:?} {isolation} {client}");
                assert!(here.contains("code Some(0)"), "{case}: {here}");
                assert!(!here.contains("code Some(1)"), "{case}: {here}");
                wrong.extend(difference(&case, &here, &there));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

/// A worker with connections of its own reads nothing that it is not given a name for: so each verb says so.
#[test]
fn each_verb_reads_on_the_workers() {
    let mut workers = vec![];
    for _ in 0..2 {
        let other = ["-b", "127.0.0.1:1", "-X", "connection.name=other"];
        workers.push(RunningWorker::start("127.0.0.1:0", &other));
    }
    let all = addresses(&workers);
    for verb in Verb::ALL {
        let folder = tempfile::tempdir().expect("a folder");
        let reads = Reads {
            workers: Some(&all),
            settings: &[],
        };
        let made = verb.made(reads, folder.path());
        assert!(made.contains("it has other"), "{verb:?}: {made}");
    }
}

#[test]
fn compacted_and_throttled_logs_and_those_that_grow() {
    let brokers = shared().bootstrap();
    let workers = start(3);
    let all = addresses(&workers);
    let compacted = admin::unique_topic("compacted");
    admin::create_compacted_topic(brokers, &compacted, PARTITIONS);
    let keyed = (0..300).map(|n| json(n % PARTITIONS, i64::from(n)).key(format!("k{}", n % 20)));
    produce(brokers, &compacted, &keyed.collect::<Vec<_>>());
    let left: Vec<usize> = (0..PARTITIONS)
        .map(|partition| admin::compact(brokers, &compacted, partition).len())
        .collect();
    assert!(left.iter().sum::<usize>() < 300, "{left:?}");
    let declared = table(&compacted, "'value.format' 'json', 'on.bad.row' 'skip'");
    let sql = format!("{declared}; SELECT partition, offset, id FROM t ORDER BY partition, offset");
    for client in CLIENTS {
        let settings = &[("kafka.client", client)];
        let [here, there] = [None, Some(all.as_str())]
            .map(|workers| Reads { workers, settings }.said(&["query", &sql, "--ledger"]));
        assert_eq!(there, here, "{client}");
        assert!(here.contains("code Some(0)"), "{here}");
        let [here, there] = [None, Some(all.as_str())].map(|workers| {
            let folder = tempfile::tempdir().expect("a folder");
            let reads = Reads { workers, settings };
            exported(reads, folder.path(), &[&compacted], &["value.format=json"])
        });
        assert_eq!(there, here, "{client}");
        assert_eq!(here.matches("code Some(0)").count(), 2, "{client}: {here}");
    }

    // A worker that is held back says so, and nothing is lost.
    let throttled = CLIENTS.map(|client| {
        let id = admin::unique_topic(client);
        let (topic, records) = held_back(brokers, &id);
        let settings = [("kafka.client", client), ("client.id", &id)];
        let reads = Reads {
            workers: Some(&all),
            settings: &settings,
        };
        let sql = format!("SELECT value FROM kafka('{topic}')");
        let mut command = reads.command();
        let command = command.args(["query", &sql, "--ledger"]);
        let query = command.spawn().expect("the shell runs");
        // With a quota of its own.
        let id = admin::unique_topic(client);
        let (topic, _) = held_back(brokers, &id);
        let settings = [("kafka.client", client), ("client.id", &id)];
        let reads = Reads {
            workers: Some(&all),
            settings: &settings,
        };
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out");
        let out = out.to_str().expect("UTF-8");
        let mut command = reads.command();
        let command = command.args(["export", &topic, "-o", out, "--max-file-offsets", "500"]);
        let export = command.spawn().expect("the shell runs");
        (client, (query, export, folder), records)
    });
    for (client, (child, export, _folder), records) in throttled {
        let output = child.wait_with_output().expect("it ends");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{client}: {errors}");
        let rows = String::from_utf8_lossy(&output.stdout).lines().count();
        assert_eq!(rows, records + 1, "{client}");
        assert!(errors.contains("held back"), "{client}: {errors}");
        let output = export.wait_with_output().expect("it ends");
        let errors = String::from_utf8_lossy(&output.stderr);
        let summary = format!("1 files, {records} rows");
        assert!(errors.contains(&summary), "{client}: {errors}");
    }

    // Both sides of a join see one end.
    let growing = admin::unique_topic("growing");
    admin::create_topic(brokers, &growing, PARTITIONS, &[]);
    let stop = AtomicBool::new(false);
    let counts: Vec<String> = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut id = 0;
            while !stop.load(Ordering::Relaxed) {
                let records = (0..60).map(|n| json(n % PARTITIONS, id + i64::from(n)));
                produce(brokers, &growing, &records.collect::<Vec<_>>());
                id += 60;
            }
        });
        let sql = format!(
            "SELECT count(*), count(b.offset), (SELECT count(*) AS n FROM \"{growing}\") FROM \"{growing}\" a \
             FULL JOIN \"{growing}\" b ON a.partition = b.partition AND a.offset = b.offset"
        );
        let reads = Reads {
            workers: Some(&all),
            settings: &[],
        };
        std::thread::sleep(Duration::from_millis(300));
        let counts = (0..6).map(|_| reads.said(&["query", &sql])).collect();
        stop.store(true, Ordering::Relaxed);
        counts
    });
    for said in &counts {
        let row = said.lines().nth(1).expect("a row");
        let row: BTreeSet<&str> = row.split(',').collect();
        assert!(row.len() == 1 && !row.contains("0"), "{said}");
    }
    let different: BTreeSet<&String> = counts.iter().collect();
    assert!(different.len() > 1, "it did not grow: {counts:?}");
}
