//! Jobs over a connection with masks: what is hidden is in no sink, no dead letter, no checkpoint, no log and no receipt.

use std::path::Path;
use std::process::Command;

use datafusion_kafka::session::KafkaSessionBuilder;

use crate::job::{Job, is_abort, text};
use crate::support::marker::{MARKER, leaks};
use crate::support::read::{Isolation, read};
use crate::support::{Record, Transaction, admin, postgres, produce, shared};

const MASKS: &str = "{t}.$.card=hash, {t}.key=last4, {t}.headers";
const OTHERS: &str = "{t}.$.card=last4, {t}.key=last4, {t}.headers";
const SALT: &str = "0123456789abcdef";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sink {
    Parquet,
    Sqlite,
    Postgres,
    Kafka,
}

const SINKS: [Sink; 4] = [Sink::Parquet, Sink::Sqlite, Sink::Postgres, Sink::Kafka];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Letters {
    Folder,
    Topic,
}

/// A job whose records have the marker everywhere, two of them such that they do not decode.
struct Bed {
    job: Job,
    sink: Sink,
    /// A topic or a table in PostgreSQL, by the sink.
    target: String,
    letters: Letters,
    dead: String,
}

impl Bed {
    fn new(sink: Sink, letters: Letters) -> Self {
        let brokers = shared().bootstrap();
        let target = admin::unique_topic("unmasked").replace('-', "_");
        let dead = admin::unique_topic("dead");
        let place = |folder: &tempfile::TempDir, name: &str| {
            let path = folder.path().join(name);
            path.to_str().expect("UTF-8").to_owned()
        };
        let out = |folder: &tempfile::TempDir| match sink {
            Sink::Parquet => format!("STORED AS PARQUET LOCATION '{}/'", place(folder, "out")),
            Sink::Sqlite => format!(
                "STORED AS SQLITE LOCATION '{}' OPTIONS ('table' 'out')",
                place(folder, "out.db")
            ),
            Sink::Postgres => format!(
                "STORED AS POSTGRES LOCATION '{}' OPTIONS ('table' '{target}')",
                postgres::shared().url("postgres")
            ),
            Sink::Kafka => {
                admin::create_topic(brokers, &target, 1, &[]);
                format!("STORED AS KAFKA LOCATION '{target}'")
            }
        };
        let insert = match sink {
            Sink::Kafka => {
                "INSERT INTO out SELECT kafka_text(key) AS key, kafka_text(value) || card AS value, headers FROM orders"
            }
            _ => {
                "INSERT INTO out SELECT partition, \"offset\", kafka_text(key) AS k, card, kafka_text(value) AS v, \
                 kafka_text(header(headers, 'h')) AS h FROM orders"
            }
        };
        let job = Job::with_options(
            |folder| format!("CREATE EXTERNAL TABLE out {}", out(folder)),
            insert,
            |folder| {
                let to = match letters {
                    Letters::Folder => format!("'dlq.location' '{}'", place(folder, "dead")),
                    Letters::Topic => {
                        admin::create_topic(brokers, &dead, 1, &[]);
                        format!("'dlq.topic' '{dead}'")
                    }
                };
                format!("OPTIONS ('value.format' 'json', 'on.bad.row' 'dlq', {to})")
            },
        );
        let record = |value: &str| {
            Record::new(0)
                .key(MARKER)
                .value(value)
                .header("h", Some(MARKER.as_bytes()))
        };
        let good = format!(r#"{{"id":1,"card":"{MARKER}"}}"#);
        let bad = [
            format!("no JSON {MARKER}"),
            format!(r#"[{{"card":"{MARKER}"}}]"#),
        ];
        produce::produce(brokers, &job.topic, &[record(&good), record(&good)]);
        produce::produce(brokers, &job.topic, &bad.map(|value| record(&value)));
        let aborted = Transaction::begin(brokers, &job.topic);
        aborted.produce(&job.topic, &[record(&good)]);
        aborted.abort();
        produce::produce(brokers, &job.topic, &[record(&good)]);
        Self {
            job,
            sink,
            target,
            letters,
            dead,
        }
    }

    /// A command on the job's file with masks.
    fn command(&self, name: &str, masks: Option<&str>, flags: &[&str]) -> Command {
        let mut command = self.job.shell(name, flags);
        if let Some(masks) = masks {
            let masks = format!("mask={}", masks.replace("{t}", &self.job.topic));
            command.args(["-X", &masks, "-X", &format!("mask.salt={SALT}")]);
        }
        command
    }

    fn run(&self, masks: Option<&str>) -> Command {
        self.command("run", masks, &["--available-now"])
    }

    /// What the sink holds.
    fn rows(&self) -> Vec<u8> {
        match self.sink {
            Sink::Parquet => parquet(&self.job.folder.path().join("out")),
            // It is in the job's folder.
            Sink::Sqlite => vec![],
            Sink::Postgres => {
                let sql = format!("SELECT * FROM {}", self.target);
                postgres::shared().sql(&sql).into_bytes()
            }
            Sink::Kafka => records(&self.target),
        }
    }

    fn letters(&self) -> Vec<u8> {
        match self.letters {
            Letters::Folder => parquet(&self.job.folder.path().join("dead")),
            Letters::Topic => records(&self.dead),
        }
    }

    /// The checkpoint, databases, and files of sinks as they are.
    fn files(&self) -> Vec<u8> {
        let mut seen = vec![];
        let mut open = vec![self.job.folder.path().to_owned()];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                let entries = std::fs::read_dir(path).expect("a folder");
                open.extend(entries.map(|entry| entry.expect("an entry").path()));
            } else {
                seen.extend(std::fs::read(path).expect("a file"));
            }
        }
        seen
    }
}

/// Keys, values and headers, also of what was aborted.
fn records(topic: &str) -> Vec<u8> {
    let records = read(shared().bootstrap(), topic, 0, Isolation::ReadUncommitted);
    let mut seen = vec![];
    for record in records {
        seen.extend(record.key.unwrap_or_default());
        seen.extend(record.value.unwrap_or_default());
        for (name, value) in record.headers {
            seen.extend(name.into_bytes());
            seen.extend(value.unwrap_or_default());
        }
    }
    seen
}

/// All rows of files, which may be compressed.
fn parquet(folder: &Path) -> Vec<u8> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let context = KafkaSessionBuilder::new().build().expect("a session");
        let make = format!(
            "CREATE EXTERNAL TABLE p STORED AS PARQUET LOCATION '{}/'",
            folder.display()
        );
        let rows = async {
            context.sql(&make).await?;
            context.sql("SELECT * FROM p").await?.collect().await
        };
        let rows = rows.await.expect("rows");
        let rows = arrow::util::pretty::pretty_format_batches(&rows);
        rows.expect("printable").to_string().into_bytes()
    })
}

fn each(check: impl Fn(&Bed)) {
    for sink in SINKS {
        for letters in [Letters::Folder, Letters::Topic] {
            check(&Bed::new(sink, letters));
        }
    }
}

#[test]
fn what_is_masked_is_in_nothing_that_a_job_leaves() {
    each(|bed| {
        let what = format!("{:?} {:?}", bed.sink, bed.letters);
        let logging = |mut command: Command| done(command.env("RUST_LOG", "trace"));
        let log = logging(bed.run(Some(MASKS)));
        assert!(log.contains("TRACE"), "{log}");
        let replay = bed.command("replay", Some(MASKS), &["--batch", "0", "--diff"]);
        let replay_log = logging(replay);
        let shown = &MARKER[MARKER.len() - 4..];
        for (place, seen) in [
            ("rows", bed.rows()),
            ("letters", bed.letters()),
            ("files", bed.files()),
            ("the log", log.into_bytes()),
            ("the log of the replay", replay_log.into_bytes()),
        ] {
            let said = String::from_utf8_lossy(&seen);
            let line = said.lines().find(|line| leaks(line.as_bytes()));
            assert_eq!(line, None, "{what}: {place}");
            assert!(!leaks(&seen), "{what}: {place}");
            assert!(!said.contains(SALT), "{what}: {place} has the salt");
            let is_of_records = ["rows", "letters"].contains(&place) && !said.is_empty();
            let keys = said.contains(&format!("****{shown}"))
                || said.contains(&hex(&format!("****{shown}")));
            assert!(
                keys || !is_of_records,
                "{what}: {place} has no masked key: {said}"
            );
        }
    });
}

/// What a command said, which must have succeeded.
fn done(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    said
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Without masks it is in all of them: the test above looks where it would be.
#[test]
fn what_is_not_masked_is_in_all_of_them() {
    each(|bed| {
        done(&mut bed.run(None));
        let what = format!("{:?} {:?}", bed.sink, bed.letters);
        let rows = match bed.sink {
            Sink::Sqlite => bed.files(),
            _ => bed.rows(),
        };
        assert!(leaks(&rows), "{what}");
        assert!(leaks(&bed.letters()), "{what}");
    });
}

/// A batch is in the sink of rows, and not yet in that of dead letters, or the other way round.
#[test]
fn a_batch_that_is_in_a_sink_is_finished_under_the_same_masks() {
    each(|bed| {
        let what = format!("{:?} {:?}", bed.sink, bed.letters);
        let mut crashing = bed.run(Some(MASKS));
        let crashed = crashing
            .env("KAFKA_SQL_FAULT", "after-sink-commit")
            .output();
        let crashed = crashed.expect("it starts");
        assert!(is_abort(crashed.status), "{what}: {}", text(&crashed));
        for masks in [Some(OTHERS), None] {
            let refused = bed.run(masks).output().expect("it starts");
            let said = text(&refused);
            assert_eq!(refused.status.code(), Some(8), "{what} {masks:?}: {said}");
            assert!(said.contains("masked: "), "{what} {masks:?}: {said}");
        }
        done(&mut bed.run(Some(MASKS)));
        // Nor has an attempt that was refused left anything.
        assert!(!leaks(&bed.rows()) && !leaks(&bed.letters()), "{what}");
        assert!(!leaks(&bed.files()), "{what}");
    });
}
