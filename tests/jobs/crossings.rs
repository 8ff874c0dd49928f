//! The table of crossings on real servers, through the shell: pairs of formats, clients, verbs, policies,
//! isolation levels, values and circumstances. The table is in `tests/crossings`; the crossings in memory are
//! in `src/crossings`.

#[path = "crossings/registry.rs"]
mod registry;
#[path = "crossings/statements.rs"]
mod statements;
#[allow(dead_code, reason = "it can do more than is needed here")]
#[path = "../../crates/kafka-arrow/src/decode/registry/tests/stub.rs"]
mod stub;
#[path = "../crossings/mod.rs"]
mod table;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use registry::Registry;
use serde_json::Value;
use table::model::{Around, Made, Part, Policy, Values};
use table::{Cell, Client, Verb, all_pairs, from_database, same, values};
use tempfile::TempDir;

use crate::proxied::{self, Way};
use crate::support::proxy::Strike;
use crate::support::{self, KafkaServer, Listener, Record, Transaction, admin, postgres, produce};

/// The quota of a throttled client: a little less than what it reads, over ten seconds.
const BYTES_A_SECOND: usize = 1_700;

/// A topic with the records of a cell, and a folder.
struct World {
    cell: Cell,
    topic: String,
    folder: TempDir,
    registry: String,
    /// The URL of the token endpoint.
    tokens: String,
    /// The network to the broker, where it damages what it carries.
    way: Option<Way>,
    /// Whether it has.
    is_damaged: AtomicBool,
    /// Client ids that the broker throttles, where the crossing says so. Each command has its own, so that it
    /// only waits for itself.
    held: Mutex<Vec<String>>,
}

type Checked<T = ()> = Result<T, String>;

/// The broker that a crossing is on.
fn server(cell: Cell) -> &'static KafkaServer {
    match cell.around {
        Around::Damaged => &proxied::bed().server,
        _ => support::shared(),
    }
}

impl World {
    fn new(cell: Cell, registry: &Registry) -> Self {
        let way = (cell.around == Around::Damaged).then(|| proxied::bed().way());
        let bootstrap = server(cell).bootstrap();
        let topic = admin::unique_topic("crossing");
        let ids = if cell.around == Around::Quota { 12 } else { 0 };
        let held: Vec<String> = (0..ids).map(|id| format!("{topic}-{id}")).collect();
        // Set before the topic exists, so that it is in force as soon as the topic does.
        for id in &held {
            admin::limit_client(bootstrap, id, "consumer_byte_rate", BYTES_A_SECOND);
        }
        let settings = [("max.message.bytes", "20000000")];
        admin::create_topic(bootstrap, &topic, 2, &settings);
        let world = Self {
            cell,
            topic,
            folder: tempfile::tempdir().expect("a folder"),
            registry: format!("{}/{:?}", registry.stub.url, cell.format),
            tokens: format!("{}/token", registry.stub.url),
            way,
            is_damaged: AtomicBool::new(false),
            held: Mutex::new(held),
        };
        let (records, aborted) = cell.written(false);
        let large = [("message.max.bytes", "20000000")];
        let produce = |partition, made: &[Made]| {
            let records: Vec<Record> = made.iter().map(|m| world.record(partition, m)).collect();
            produce::produce_with(bootstrap, &world.topic, &records, &large);
        };
        produce(0, &records[..3]);
        let transaction = Transaction::begin(bootstrap, &world.topic);
        transaction.produce(&world.topic, &[world.record(0, &aborted)]);
        transaction.abort();
        produce(0, &records[3..]);
        produce(1, &records[..2]);
        if let Some((end, text)) = cell.format.schema() {
            std::fs::write(world.path(&format!("row.{end}")), text).expect("a file");
        }
        world
    }

    fn record(&self, partition: i32, made: &Made) -> Record {
        let record = Record::new(partition).timestamp_ms(1_768_384_800_000);
        // Where bytes count, the framing of records must not matter.
        let header = match self.cell.around {
            Around::Quota => "1".repeat(2_000),
            _ => "1".to_owned(),
        };
        let record = record.header("h", Some(header.as_bytes()));
        let payload = made.payload.clone();
        match (self.cell.part, payload) {
            (Part::Value, Some(value)) => record.key("other").value(value),
            (Part::Value, None) => record.key("other"),
            (Part::Key, Some(key)) => record.key(key).value("other"),
            (Part::Key, None) => record.value("other"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn expected(&self) -> Vec<Value> {
        values(&self.cell.expected())
    }

    /// Moves the start of the log, where the crossing says so.
    fn cut(&self) {
        if self.cell.around.on_data_loss().is_some() {
            admin::delete_records(server(self.cell).bootstrap(), &self.topic, 0, 1);
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-sql"));
        let client = match self.cell.client {
            Client::Librdkafka => "kafka.client=librdkafka",
            _ => "kafka.client=wire",
        };
        let registry = match self.cell.format.asks_registry() {
            true => vec![
                "-X".to_owned(),
                format!("schema.registry.url={}", self.registry),
            ],
            // With a registry, Avro from a file would have frames too.
            false => vec![],
        };
        let folder = self.folder.path().display().to_string();
        let authority: &[&str] = match self.cell.around {
            Around::Restricted => &["--restricted"],
            Around::Allowed => &[
                "--restricted",
                "--allow-path",
                &folder,
                "--allow-host",
                "127.0.0.1",
            ],
            _ => &[],
        };
        let id = self.held.lock().expect("nobody panics with it").pop();
        let id = id.map_or_else(Vec::new, |id| {
            vec!["-X".to_owned(), format!("client.id={id}")]
        });
        let isolation = format!("isolation.level={}", self.cell.isolation.name());
        if let Some(way) = &self.way {
            // In the key or the header of the next record that passes.
            way.strike_behind(b"other", 0, Strike::Flip(1));
        }
        let bootstrap = match (&self.way, self.cell.around) {
            (Some(way), _) => way.address(),
            (None, Around::Tokens) => server(self.cell).bootstrap_of(Listener::SaslPlaintext),
            (None, _) => server(self.cell).bootstrap().to_owned(),
        };
        let login = match self.cell.around {
            Around::Tokens => registry::login_with_tokens(&self.tokens),
            _ => vec![],
        };
        command
            .args(["-b", &bootstrap, "-X", client, "-X", &isolation])
            .args(login)
            .args(registry)
            .args(id)
            .args(authority)
            .args(arguments)
            .env_remove("KAFKA_SQL_CONFIG")
            .env_remove("KAFKA_SQL_FAULT")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    /// The output of a command, or its message and exit code if it fails.
    fn run(&self, arguments: &[&str]) -> Checked<String> {
        let output = self
            .command(arguments)
            .output()
            .map_err(|e| e.to_string())?;
        if self.way.as_ref().is_some_and(|way| way.has_struck()) {
            self.is_damaged.store(true, Ordering::Relaxed);
        }
        if output.status.success() {
            return String::from_utf8(output.stdout).map_err(|e| e.to_string());
        }
        let said = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
        let code = output.status.code().unwrap_or(-1);
        let cut: String = said.chars().take(500).collect();
        Err(format!("{} ends with {code}: {cut}", arguments[0]))
    }

    /// Runs a command that dies at a point, then runs it again to its end. The log may have been cut in
    /// between.
    fn crash(&self, point: &str, arguments: &[&str]) -> Checked {
        let mut command = self.command(arguments);
        let output = command.env("KAFKA_SQL_FAULT", point).output();
        let output = output.map_err(|e| e.to_string())?;
        // It may be refused before it gets there.
        if output.status.success() {
            return Err(format!("{} does not come to {point}", arguments[0]));
        }
        self.cut();
        self.run(arguments).map(drop)
    }

    fn rows(&self, sql: &str) -> Checked<Vec<Value>> {
        let text = self.run(&["query", sql, "--format", "ndjson"])?;
        let rows = text
            .lines()
            .map(|line| serde_json::from_str(line).map_err(|e| e.to_string()));
        rows.collect()
    }

    fn check(&self) -> Checked {
        if self.cell.verb.is_query() || self.cell.verb.is_export() {
            self.cut();
        }
        match self.cell.verb {
            verb if verb.is_query() => self.query(),
            verb if verb.is_export() => self.export(),
            _ => self.job(),
        }?;
        if self.way.is_some() && !self.is_damaged.load(Ordering::Relaxed) {
            return Err("nothing is damaged".to_owned());
        }
        if self.cell.around != Around::Quota {
            return Ok(());
        }
        // A quota that throttles no one would prove nothing.
        let sql = format!("SELECT * FROM kafka('{}')", self.topic);
        let output = self
            .command(&["query", &sql, "--ledger", "--format", "csv"])
            .output();
        let said = String::from_utf8_lossy(&output.map_err(|e| e.to_string())?.stderr).into_owned();
        match said.contains("held back by the broker's quota for") {
            true => Ok(()),
            false => Err(format!("is not held back: {said}")),
        }
    }

    fn query(&self) -> Checked {
        let table = self.table();
        let columns = self.columns("");
        let mut expected = self.expected();
        if self.cell.verb == Verb::Search {
            return same(&self.hits(&columns)?, &expected);
        }
        let select = match self.cell.verb {
            Verb::SelfJoin => format!(
                "SELECT {} FROM t a JOIN t b ON a.partition = b.partition AND a.\"offset\" = b.\"offset\" \
                 ORDER BY 1, 2",
                self.columns("a.")
            ),
            Verb::OrderDescLimit => {
                expected.retain(|row| row["partition"] == 0);
                expected.reverse();
                expected.truncate(3);
                format!(
                    "SELECT {columns} FROM t WHERE partition = 0 ORDER BY \"offset\" DESC LIMIT 3"
                )
            }
            _ => format!("SELECT {columns} FROM t ORDER BY partition, \"offset\""),
        };
        if self.cell.verb == Verb::Where {
            for (condition, places) in self.cell.conditions() {
                let sql = format!(
                    "{table}; SELECT {columns} FROM t WHERE {condition} ORDER BY partition, \"offset\""
                );
                let rows = places.iter().map(|at| expected[*at].clone());
                let same = same(&self.rows(&sql)?, &rows.collect::<Vec<_>>());
                same.map_err(|e| format!("{condition}: {e}"))?;
            }
            return Ok(());
        }
        let sql = format!("{table}; {select}");
        if self.cell.verb != Verb::ReceiptRerun {
            return same(&self.rows(&sql)?, &expected);
        }
        let receipt = self.text("receipt.json");
        self.run(&["query", &sql, "--receipt", &receipt])?;
        self.run(&["rerun", &receipt]).map(drop)
    }

    /// What a search finds that all records meet, in order.
    fn hits(&self, columns: &str) -> Checked<Vec<Value>> {
        let mut arguments = vec!["search".to_owned(), self.topic.clone()];
        let all = "partition < 9 AND \"offset\" >= 0";
        arguments.extend(["--where", all, "--select", columns].map(str::to_owned));
        for (name, value) in self.options() {
            arguments.extend(["--option".to_owned(), format!("{name}={value}")]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let found = self.run(&arguments)?;
        let hits = found
            .lines()
            .map(|line| serde_json::from_str(line).map_err(|e| e.to_string()));
        let mut hits = hits.collect::<Checked<Vec<Value>>>()?;
        let place = |hit: &Value| (hit["partition"].as_i64(), hit["offset"].as_i64());
        hits.sort_by_key(place);
        Ok(hits)
    }

    fn export(&self) -> Checked {
        let target = self.text("out");
        let mut arguments = vec!["export".to_owned(), self.topic.clone()];
        arguments.extend(["-o", &target, "--max-file-offsets", "4", "--resume"].map(str::to_owned));
        for (name, value) in self.options() {
            arguments.extend(["--option".to_owned(), format!("{name}={value}")]);
        }
        match self.cell.verb {
            Verb::ExportCsvSql => {
                let columns = self.columns("");
                let sql = format!(
                    "SELECT {columns} FROM \"{}\" WHERE \"offset\" >= 0",
                    self.topic
                );
                arguments.extend(["--format", "csv", "--sql", &sql].map(str::to_owned));
            }
            Verb::ExportNdjsonBy => {
                let by = "half=\"offset\" % 2";
                arguments.extend(["--format", "ndjson", "--partition-by", by].map(str::to_owned));
            }
            _ => {}
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.crash("export-after-done", &arguments)?;
        self.run(&["verify", &target])?;
        self.run(&["verify", &target, "--against-kafka"])?;
        let manifest = std::fs::read(self.path("out/manifest.json")).map_err(|e| e.to_string())?;
        let manifest: Value = serde_json::from_slice(&manifest).map_err(|e| e.to_string())?;
        let expected = self.expected();
        if manifest["rows"] != expected.len() {
            return Err(format!(
                "{} rows are exported, expected {}",
                manifest["rows"],
                expected.len()
            ));
        }
        if self.cell.verb == Verb::ExportParquet {
            let sql = format!(
                "CREATE EXTERNAL TABLE e STORED AS PARQUET LOCATION '{target}/'; \
                 SELECT {} FROM e ORDER BY partition, \"offset\"",
                self.columns("")
            );
            same(&self.rows(&sql)?, &expected)?;
        }
        self.check_letters()
    }

    fn job(&self) -> Checked {
        let name = format!("crossing_{}", self.topic.replace(['-', '.'], "_"));
        let columns = match self.cell.verb {
            Verb::JobKafkaJson | Verb::JobKafkaAvro => self.typed(),
            _ => self.columns(""),
        };
        let target = format!("{}-out", self.topic);
        let kafka = |more: &str| {
            format!(
                "STORED AS KAFKA LOCATION '{target}' OPTIONS ('metadata.prefix' '_', \
                 'kafka.message.max.bytes' '20000000', {more})"
            )
        };
        // The definition of the sink, and the query that reads it back.
        let [out, back] = match self.cell.verb {
            Verb::JobPostgres => {
                let url = postgres::shared().url("postgres");
                let out = format!("STORED AS POSTGRES LOCATION '{url}' OPTIONS ('table' '{name}')");
                [out.clone(), out]
            }
            Verb::JobKafkaJson => {
                let mut others = vec!["partition INT", "\"offset\" BIGINT"];
                others.extend(self.cell.says_why().then_some("bad BOOLEAN"));
                let types = self.types(self.cell.format.columns(), &others);
                let json = kafka("'value.format' 'json'");
                [json.clone(), format!("{types} {json}")]
            }
            Verb::JobKafkaAvro => {
                let avro = format!(
                    "'value.format' 'avro', 'schema.registry.url' '{}'",
                    self.registry
                );
                let register = format!("{avro}, 'schema.registry.auto.register' 'true'");
                [kafka(&register), kafka(&avro)]
            }
            Verb::JobParquet => {
                let out = format!("STORED AS PARQUET LOCATION '{}/'", self.text("out"));
                [out.clone(), out]
            }
            _ => {
                let file = self.text("out.db");
                let out = format!("STORED AS SQLITE LOCATION '{file}' OPTIONS ('table' 'held')");
                [out.clone(), out]
            }
        };
        if matches!(self.cell.verb, Verb::JobKafkaJson | Verb::JobKafkaAvro) {
            let settings = [("max.message.bytes", "20000000")];
            admin::create_topic(server(self.cell).bootstrap(), &target, 1, &settings);
        }
        let [out, back] = [out, back].map(|of| format!("CREATE EXTERNAL TABLE out {of}"));
        let file = self.text("job.sql");
        let job = format!(
            "{};\n{out};\nINSERT INTO out SELECT {columns} FROM t;\n",
            self.table()
        );
        std::fs::write(&file, job).map_err(|e| e.to_string())?;
        let run = ["run", &file, "--available-now", "-q", "--name", &name];
        // If the log is cut, before the batch could be read; otherwise before its commit is in the job's log.
        let point = match self.cell.around.on_data_loss() {
            Some(_) => "after-intent",
            None => "after-sink-commit",
        };
        self.crash(point, &run)?;
        let expected = self.expected();
        match self.cell.verb {
            Verb::Redecode => {}
            _ => {
                let select = match self.cell.verb {
                    Verb::JobKafkaJson | Verb::JobKafkaAvro => self.compared("", "bad"),
                    _ => "*".to_owned(),
                };
                let sql =
                    format!("{back}; SELECT {select} FROM out ORDER BY partition, \"offset\"");
                let mut found = self.rows(&sql)?;
                from_database(&mut found, &expected)?;
                same(&found, &expected)?;
            }
        }
        self.run(&["replay", &file, "--name", &name, "--batch", "0", "--diff"])?;
        self.check_letters()?;
        if self.cell.verb != Verb::Redecode {
            return Ok(());
        }
        let sql = format!(
            "SELECT partition, \"offset\", encode({}, 'hex') AS payload FROM kafka('{}', 'redecode={}') ORDER BY 1, 2",
            self.part(),
            self.topic,
            self.text("dead")
        );
        same(&self.rows(&sql)?, &self.cell.redecoded())
    }

    fn check_letters(&self) -> Checked {
        if self.cell.policy != Policy::Dlq || self.cell.values != Values::Bad {
            return Ok(());
        }
        let sql = format!(
            "CREATE EXTERNAL TABLE dead STORED AS PARQUET LOCATION '{}'; \
             SELECT partition, \"offset\" FROM dead ORDER BY 1, 2",
            self.text("dead")
        );
        same(&self.rows(&sql)?, &self.cell.letters())
    }
}

#[test]
fn pairs_of_crossings_are_as_the_table_says() {
    // The product takes hours, so all means the pairs of ten seeds.
    let choose = |all: &[Cell], every: bool| match every {
        true => (0..10).flat_map(|seed| all_pairs(all, seed)).collect(),
        false => all_pairs(all, 12),
    };
    let registry = Registry::start();
    table::run(
        Cell::all(&[Client::Wire, Client::Librdkafka]),
        choose,
        |cell| World::new(cell, &registry).check(),
    );
}
