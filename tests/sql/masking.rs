//! What a connection hides is in nothing that comes out, whichever client reads, and a guess of it learns nothing.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::SessionContext;
use datafusion_kafka::Error;
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::export::{Export, ExportFormat, ExportProgress};
use datafusion_kafka::range::{KeyPartitioner, Ledger};
use datafusion_kafka::receipt::{Receipt, with_checksums};
use datafusion_kafka::scan;
use datafusion_kafka::table::KafkaTable;

use super::{batches, rows, session_with};
use crate::support::marker::{MARKER, leaks};
use crate::support::read::{Isolation, read};
use crate::support::registry::shared as registry;
use crate::support::{Record, Transaction, admin, produce, shared};

const PARTITIONS: u32 = 4;
/// It differs from the marker in what no mask shows.
const WRONG: &str = "Zq7mCarrotVy93kT";

/// The formats: their names, the columns and the options of a table, and a column to ask for.
const FORMATS: [(&str, &str, &str, &str); 3] = [
    (
        "json",
        "(id BIGINT, card VARCHAR)",
        "'value.format' 'json'",
        "card",
    ),
    (
        "avro",
        "",
        "'value.format' 'avro', 'value.subject' '{sample}-value'",
        "card",
    ),
    ("csv", "", "'value.format' 'text'", "substr(value, 3)"),
];

/// Masks of the topic `{t}`, and the isolation level that they are tried under.
const CHOICES: [(&str, &str); 4] = [
    ("{t}.$.card=last4, {t}.key, {t}.headers", "read_committed"),
    ("{t}.$.card=last4, {t}.key, {t}.headers", "read_uncommitted"),
    (
        "*.value=last2, {t}.key=last1, {t}.headers[h]",
        "read_uncommitted",
    ),
    ("", "read_committed"),
];

/// Of a topic `{t}` and the table `x` over it.
const STATEMENTS: [&str; 7] = [
    "SELECT * FROM x ORDER BY partition, \"offset\"",
    "SELECT * FROM {t} ORDER BY \"offset\" DESC LIMIT 9",
    "SELECT kafka_text(value), kafka_text(key), kafka_text(header(headers, 'h')) FROM {t} ORDER BY \"offset\"",
    "SELECT min(value), max(key), count(DISTINCT key), count(*) FROM {t}",
    // These values do not decode.
    "SELECT card FROM wrong ORDER BY \"offset\"",
    "SELECT card, _error FROM told ORDER BY \"offset\"",
    "SELECT * FROM kafka('{t}', 'start', 'value.format=int32')",
];

/// The same with a guess `{}`, of a column `{c}`.
const GUESSES: [&str; 7] = [
    "SELECT \"offset\" FROM x WHERE {c} = '{}' ORDER BY 1",
    "SELECT \"offset\" FROM x WHERE {c} LIKE '%{}%' OR partition > 7 ORDER BY 1",
    "SELECT \"offset\" FROM {t} WHERE kafka_text(value) LIKE '%{}%' ORDER BY 1",
    "SELECT \"offset\" FROM {t} WHERE strpos(kafka_text(value), '{}') > 0 ORDER BY 1",
    "SELECT \"offset\" FROM {t} WHERE key = '{}' ORDER BY 1",
    "SELECT \"offset\" FROM {t} WHERE has_header(headers, 'h', '{}') ORDER BY 1",
    "SELECT {t}.\"offset\" FROM {t} JOIN (VALUES ('{}')) AS w (k) ON {t}.key = w.k ORDER BY 1",
];

/// Where a value is that Confluent's serializer has written.
fn sample() -> &'static str {
    static SAMPLE: OnceLock<String> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let sample = admin::unique_topic("cards");
        admin::create_topic(shared().bootstrap(), &sample, 1, &[]);
        sample
    })
}

/// A topic for each format: the marker in keys, values and headers, also in those of an aborted transaction.
fn topics() -> &'static [String; 3] {
    static TOPICS: OnceLock<[String; 3]> = OnceLock::new();
    TOPICS.get_or_init(|| {
        let brokers = shared().bootstrap();
        registry().produce(brokers, sample(), "cards");
        let written = read(brokers, sample(), 0, Isolation::ReadCommitted);
        let avro = written[0].value.clone().expect("a value");
        let home = KeyPartitioner::Murmur2.partition(MARKER.as_bytes(), PARTITIONS);
        let home = home.expect("a key has a home");
        FORMATS.map(|(format, ..)| {
            let topic = admin::unique_topic(&format!("masked_{format}")).replace('-', "_");
            admin::create_topic(brokers, &topic, PARTITIONS.cast_signed(), &[]);
            let record = |_| {
                let value = match format {
                    "json" => format!(r#"{{"id":1,"card":"{MARKER}"}}"#).into_bytes(),
                    "avro" => avro.clone(),
                    _ => format!("1,{MARKER}").into_bytes(),
                };
                Record::new(home)
                    .key(MARKER)
                    .value(value)
                    .header("h", Some(MARKER.as_bytes()))
                    .timestamp_ms(1_768_384_800_000)
            };
            let records: Vec<Record> = (0..4).map(record).collect();
            produce::produce(brokers, &topic, &records);
            let aborted = Transaction::begin(brokers, &topic);
            aborted.produce(&topic, &records[..2]);
            aborted.abort();
            produce::produce(brokers, &topic, &records[..2]);
            topic
        })
    })
}

/// A client's session under masks, and what has been seen in it.
struct Bed {
    topic: &'static str,
    config: ConnectionConfig,
    context: SessionContext,
    /// What both clients must agree on.
    outcomes: Vec<String>,
    /// Everything.
    seen: String,
    folder: tempfile::TempDir,
}

impl Bed {
    async fn new(place: usize, client: &str, (masks, isolation): (&str, &str)) -> Self {
        let topic = &topics()[place];
        let mut config = ConnectionConfig::new(shared().bootstrap());
        let mut set = |key: &str, value: &str| config.set(key, value).expect("it is valid");
        set("kafka.client", client);
        set("isolation.level", isolation);
        set("key.partitioner", "murmur2");
        if FORMATS[place].0 == "avro" {
            set("schema.registry.url", &registry().url());
        }
        if !masks.is_empty() {
            set("mask", &masks.replace("{t}", topic));
        }
        let mut bed = Self {
            topic,
            context: session_with(config.clone()),
            config,
            outcomes: vec![],
            seen: String::new(),
            folder: tempfile::tempdir().expect("a folder"),
        };
        let (_, columns, options, _) = FORMATS[place];
        for (name, columns, options) in [
            ("x", columns, options.replace("{sample}", sample())),
            ("wrong", "(card BIGINT)", "'value.format' 'json'".to_owned()),
            (
                "told",
                "(card BIGINT)",
                "'value.format' 'json', 'on.bad.row' 'null'".to_owned(),
            ),
        ] {
            bed.run(&format!(
                "CREATE EXTERNAL TABLE {name} {columns} STORED AS KAFKA LOCATION '{topic}' OPTIONS ({options})"
            ))
            .await;
        }
        bed
    }

    fn of(&self, statement: &str) -> String {
        statement.replace("{t}", self.topic)
    }

    /// Runs a statement: its rows or the kind of its error, and its ledger.
    async fn run(&mut self, sql: &str) -> (String, Ledger) {
        let mut ledger = Ledger::default();
        let mut more = String::new();
        let rows = async {
            let frame = datafusion_kafka::statement::sql(&self.context, sql).await?;
            let task = Arc::new(with_checksums(frame.task_ctx()));
            let plan = frame.create_physical_plan().await?;
            let rows = collect(Arc::clone(&plan), task).await;
            ledger = scan::ledger(&plan);
            let mut receipt = Receipt::new();
            let noted = receipt.add("a statement", &plan);
            more = format!(
                "{ledger:?} {noted:?} {} {}",
                receipt.to_json(),
                displayable(plan.as_ref()).indent(true)
            );
            rows
        };
        let done = rows.await;
        let outcome = match done {
            Ok(rows) => pretty_format_batches(&rows).expect("printable").to_string(),
            Err(error) => {
                more.push_str(&format!("{error} {error:?}"));
                format!("{:?}", Error::find(&error).map(Error::kind))
            }
        };
        self.seen.push_str(&format!("{sql}\n{outcome}\n{more}\n"));
        (outcome, ledger)
    }

    async fn look(&mut self) {
        for statement in STATEMENTS {
            let sql = self.of(statement);
            let (outcome, _) = self.run(&sql).await;
            self.outcomes.push(outcome);
            let explained = rows_or_error(&self.context, &format!("EXPLAIN ANALYZE {sql}")).await;
            self.seen.push_str(&explained);
        }
        self.export().await;
    }

    async fn export(&mut self) {
        let table = KafkaTable::builder(&self.config).topic(self.topic);
        let table = table.build().await.expect("a table");
        let place = self.folder.path().join("out");
        let export = Export::builder(self.topic, table, place.display().to_string());
        let export = export
            .format(ExportFormat::Ndjson)
            .build()
            .expect("an export");
        let summary = export.run(&Arc::new(ExportProgress::default())).await;
        let summary = summary.expect("it can be written");
        self.seen.push_str(&format!("{summary:?}"));
        let mut lines = vec![];
        self.read(&place, &mut lines);
        lines.sort();
        self.outcomes.extend(lines);
    }

    /// All files; the lines of those with rows.
    fn read(&mut self, folder: &Path, lines: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                self.read(&path, lines);
                continue;
            }
            let text = std::fs::read(&path).expect("a file");
            let text = String::from_utf8_lossy(&text).into_owned();
            self.seen.push_str(&text);
            if path.extension().is_some_and(|end| end == "ndjson") {
                lines.extend(text.lines().map(str::to_owned));
            }
        }
    }

    /// What somebody learns of the guess.
    async fn guess(&mut self, statement: &str, column: &str, guess: &str) -> (String, Ledger) {
        let sql = self.of(statement).replace("{c}", column);
        let before = self.seen.len();
        let learned = self.run(&sql.replace("{}", guess)).await;
        // It has the guess.
        self.seen.truncate(before);
        learned
    }
}

async fn rows_or_error(context: &SessionContext, sql: &str) -> String {
    match batches(context, sql).await {
        Ok(rows) => pretty_format_batches(&rows).expect("printable").to_string(),
        Err(error) => format!("{error} {error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_marker_is_in_nothing_that_comes_out_through_either_client() {
    tokio::task::block_in_place(topics);
    for (place, (format, _, _, column)) in FORMATS.into_iter().enumerate() {
        for choice in CHOICES {
            let mut of_clients = vec![];
            for client in ["wire", "librdkafka"] {
                let what = format!("{format} {choice:?} {client}");
                let is_masked = !choice.0.is_empty();
                let mut bed = Bed::new(place, client, choice).await;
                bed.look().await;
                let line = bed.seen.lines().find(|line| leaks(line.as_bytes()));
                assert_eq!(line.is_some(), !is_masked, "{what}: {line:?}");
                for statement in GUESSES {
                    let right = bed.guess(statement, column, MARKER).await;
                    let wrong = bed.guess(statement, column, WRONG).await;
                    assert_eq!(
                        right == wrong,
                        is_masked,
                        "{what} {statement}: {right:?} {wrong:?}"
                    );
                    bed.outcomes.push(right.0);
                }
                let count = format!("SELECT count(*) FROM {}", bed.topic);
                let expected = match choice.1 {
                    "read_committed" => "6",
                    _ => "8",
                };
                assert_eq!(rows(&bed.context, &count).await, [expected], "{what}");
                of_clients.push(bed.outcomes);
            }
            assert_eq!(of_clients[0], of_clients[1], "{format} {choice:?}");
        }
    }
}

/// What a mask leaves can be asked for.
#[tokio::test(flavor = "multi_thread")]
async fn conditions_find_what_is_shown() {
    tokio::task::block_in_place(topics);
    let end = &MARKER[MARKER.len() - 4..];
    for client in ["wire", "librdkafka"] {
        for (place, condition) in [
            (0, format!("card = '****{end}'")),
            (0, format!("kafka_text(value) LIKE '%****{end}\"%'")),
            (1, format!("card = '****{end}'")),
            (2, "value = '[masked]'".to_owned()),
        ] {
            let bed = Bed::new(place, client, CHOICES[0]).await;
            let sql = format!("SELECT count(*) FROM x WHERE {condition} AND key IS NULL");
            assert_eq!(rows(&bed.context, &sql).await, ["6"], "{client} {sql}");
        }
    }
}
