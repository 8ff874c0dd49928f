//! The table of crossings on real servers: pairs of formats, clients, verbs, policies, isolation levels
//! and values, through the shell. The records and the rows that must come of them are those of
//! `tests/crossings/model.rs`, and the crossings in memory are in `src/crossings`; those of registries
//! are there alone.

#[path = "../crossings/model.rs"]
mod model;
#[path = "../crossings/pairs.rs"]
mod pairs;

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use model::{Format, Isolation, Made, Part, Policy, Values, dimension};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::support::read::{Isolation as Reads, read};
use crate::support::{self, Record, Transaction, admin, postgres, produce};

dimension!(
    /// `kafka.client`.
    Client { Wire, Librdkafka }
);
dimension!(
    /// What is done with the records; a verb that writes is crashed once and goes on.
    Verb {
        Query, SelfJoin, OrderDescLimit, ReceiptRerun,
        ExportParquet, ExportCsvSql, ExportNdjsonBy,
        JobParquet, JobSqlite, JobPostgres, JobKafka,
        Redecode,
    }
);

/// A crossing.
#[derive(Debug, Clone, Copy)]
struct Cell {
    format: Format,
    part: Part,
    values: Values,
    client: Client,
    verb: Verb,
    policy: Policy,
    isolation: Isolation,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            format,
            part,
            values,
            client,
            verb,
            policy,
            isolation,
        } = self;
        write!(
            f,
            "{format:?} {part:?} {values:?} {client:?} {verb:?} {policy:?} {isolation:?}"
        )
    }
}

impl Cell {
    fn of(indexes: &[usize]) -> Self {
        Self {
            format: Format::ALL[indexes[0]],
            part: Part::ALL[indexes[1]],
            values: Values::ALL[indexes[2]],
            client: Client::ALL[indexes[3]],
            verb: Verb::ALL[indexes[4]],
            policy: Policy::ALL[indexes[5]],
            isolation: Isolation::ALL[indexes[6]],
        }
    }

    fn is_export(&self) -> bool {
        matches!(
            self.verb,
            Verb::ExportParquet | Verb::ExportCsvSql | Verb::ExportNdjsonBy
        )
    }

    fn is_query(&self) -> bool {
        matches!(
            self.verb,
            Verb::Query | Verb::SelfJoin | Verb::OrderDescLimit | Verb::ReceiptRerun
        )
    }

    fn is_possible(&self) -> bool {
        let set_aside = self.policy == Policy::Dlq && self.values == Values::Bad;
        let usual = self.policy == Policy::Fail && self.part == Part::Value;
        !self.format.asks_registry()
            && self.format.has(self.values)
            && (self.part == Part::Value || !self.format.of_values_alone())
            && (self.verb != Verb::Redecode || set_aside)
            && (self.values != Values::Big || usual)
            // The options of an export declare no columns.
            && (!self.is_export() || self.format.declared().is_none())
    }

    /// The part of the message with which a crossing is refused by design, and the exit code.
    fn refused(&self) -> Option<(&'static str, i32)> {
        if self.is_query() && self.policy == Policy::Dlq {
            return Some(("in a query choose 'fail', 'null' or 'skip'", 1));
        }
        let bad = self.values == Values::Bad;
        if bad && self.policy == Policy::Fail {
            return Some(("[0]@", 1));
        }
        if bad && self.policy == Policy::Skip && self.verb == Verb::ReceiptRerun {
            return Some(("a receipt covers every record that was read", 1));
        }
        None
    }
}

/// A topic with the records of a cell, and a folder.
struct World {
    cell: Cell,
    topic: String,
    folder: TempDir,
}

type Checked<T = ()> = Result<T, String>;

impl World {
    fn new(cell: Cell) -> Self {
        let bootstrap = support::shared().bootstrap();
        let topic = admin::unique_topic("crossing");
        let settings = [("max.message.bytes", "20000000")];
        admin::create_topic(bootstrap, &topic, 2, &settings);
        let world = Self {
            cell,
            topic,
            folder: tempfile::tempdir().expect("a folder"),
        };
        let (records, aborted) = world.made();
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

    fn made(&self) -> (Vec<Made>, Made) {
        let format = self.cell.format;
        (format.records(self.cell.values), format.plain(500))
    }

    fn record(&self, partition: i32, made: &Made) -> Record {
        let record = Record::new(partition).timestamp_ms(1_768_384_800_000);
        let (record, payload) = (record.header("h", Some(b"1")), made.payload.clone());
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

    fn options(&self) -> Vec<(String, String)> {
        let Cell { format, policy, .. } = self.cell;
        let part = self.part();
        let mut options = vec![
            (format!("{part}.format"), format.name().to_owned()),
            ("on.bad.row".to_owned(), policy.name().to_owned()),
        ];
        if let Some((end, _)) = format.schema() {
            let file = self.text(&format!("row.{end}"));
            options.push((format!("{part}.schema.file"), file));
            if end == "proto" {
                options.push((format!("{part}.schema.message"), "Row".to_owned()));
            }
        }
        if policy == Policy::Dlq {
            options.push(("dlq.location".to_owned(), self.text("dead")));
        }
        options
    }

    fn part(&self) -> &'static str {
        match self.cell.part {
            Part::Key => "key",
            Part::Value => "value",
        }
    }

    fn prefix(&self) -> &'static str {
        match self.cell.part {
            Part::Key => "key_",
            Part::Value => "",
        }
    }

    /// The statement that makes the table `t`.
    fn table(&self) -> String {
        let columns = self.cell.format.declared().map(|columns| {
            let columns = columns
                .iter()
                .map(|(name, of)| format!("\"{}{name}\" {of}", self.prefix()));
            format!("({})", columns.collect::<Vec<_>>().join(", "))
        });
        let options = self.options();
        let options = options
            .iter()
            .map(|(name, value)| format!("'{name}' '{value}'"));
        format!(
            "CREATE EXTERNAL TABLE t {} STORED AS KAFKA LOCATION '{}' OPTIONS ({})",
            columns.unwrap_or_default(),
            self.topic,
            options.collect::<Vec<_>>().join(", ")
        )
    }

    /// The columns that are compared, numbers that JSON would round and bytes as text.
    fn columns(&self, table: &str) -> String {
        let says_why = self.cell.policy == Policy::Null && self.cell.format != Format::Raw;
        let mut columns = vec![format!("{table}partition"), format!("{table}\"offset\"")];
        let fields = match self.cell.format.fields() {
            [] => vec![(self.part().to_owned(), "value")],
            fields => fields
                .iter()
                .map(|f| (format!("{}{f}", self.prefix()), *f))
                .collect(),
        };
        for (column, name) in fields {
            let column = format!("{table}\"{column}\"");
            columns.push(match (self.cell.format, name) {
                (Format::Raw, _) => format!("encode({column}, 'hex') AS \"{name}\""),
                (Format::Float | Format::Double, _) => {
                    format!("CAST(CAST({column} AS DOUBLE) AS VARCHAR) AS \"{name}\"")
                }
                (_, "amount") => format!("CAST({column} AS VARCHAR) AS \"{name}\""),
                _ => format!("{column} AS \"{name}\""),
            });
        }
        if says_why {
            columns.push(format!("{table}\"_error\" IS NOT NULL AS bad"));
        }
        columns.join(", ")
    }

    fn records(&self) -> Vec<(i32, i64, Made)> {
        let (records, aborted) = self.made();
        let places = [(0, 0), (0, 1), (0, 2), (0, 5), (0, 6), (0, 7)];
        let mut all: Vec<(i32, i64, Made)> = places
            .into_iter()
            .zip(records.iter().cloned())
            .map(|((partition, offset), made)| (partition, offset, made))
            .collect();
        if self.cell.isolation == Isolation::Uncommitted {
            all.push((0, 3, aborted));
        }
        all.push((1, 0, records[0].clone()));
        all.push((1, 1, records[1].clone()));
        all.sort_by_key(|(partition, offset, _)| (*partition, *offset));
        all
    }

    fn expected(&self) -> Vec<Value> {
        let says_why = self.cell.policy == Policy::Null && self.cell.format != Format::Raw;
        let mut rows = vec![];
        for (partition, offset, made) in self.records() {
            let (mut row, bad) = match (made.columns, self.cell.policy) {
                (Some(columns), _) => (columns, false),
                (None, Policy::Null) => (self.cell.format.nulls(), true),
                (None, _) => continue,
            };
            row.insert("partition".to_owned(), partition.into());
            row.insert("offset".to_owned(), offset.into());
            if says_why {
                row.insert("bad".to_owned(), bad.into());
            }
            rows.push(Value::Object(row));
        }
        rows
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-sql"));
        let client = match self.cell.client {
            Client::Wire => "kafka.client=wire",
            Client::Librdkafka => "kafka.client=librdkafka",
        };
        let isolation = format!("isolation.level={}", self.cell.isolation.name());
        command
            .args([
                "-b",
                support::shared().bootstrap(),
                "-X",
                client,
                "-X",
                &isolation,
            ])
            .args(arguments)
            .env_remove("KAFKA_SQL_CONFIG")
            .env_remove("KAFKA_SQL_FAULT")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    /// What a command prints; its message and exit code where it fails.
    fn run(&self, arguments: &[&str]) -> Checked<String> {
        let output = self
            .command(arguments)
            .output()
            .map_err(|e| e.to_string())?;
        if output.status.success() {
            return String::from_utf8(output.stdout).map_err(|e| e.to_string());
        }
        let said = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
        let code = output.status.code().unwrap_or(-1);
        let cut: String = said.chars().take(500).collect();
        Err(format!("{} ends with {code}: {cut}", arguments[0]))
    }

    /// Runs a command that dies at a point, and then to its end.
    fn crash(&self, point: &str, arguments: &[&str]) -> Checked {
        let mut command = self.command(arguments);
        let output = command.env("KAFKA_SQL_FAULT", point).output();
        let output = output.map_err(|e| e.to_string())?;
        // It may be refused before.
        if output.status.success() {
            return Err(format!("{} does not come to {point}", arguments[0]));
        }
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
        let done = match self.cell.verb {
            _ if self.cell.is_query() => self.query(),
            _ if self.cell.is_export() => self.export(),
            _ => self.job(),
        };
        match (done, self.cell.refused()) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some((message, _))) => Err(format!("works, and is to be refused: {message}")),
            (Err(found), Some((message, code)))
                if found.contains(message) && found.contains(&format!("ends with {code}: ")) =>
            {
                Ok(())
            }
            (Err(found), _) => Err(found),
        }
    }

    fn query(&self) -> Checked {
        let table = self.table();
        let columns = self.columns("");
        let mut expected = self.expected();
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
        let sql = format!("{table}; {select}");
        if self.cell.verb != Verb::ReceiptRerun {
            return same(&self.rows(&sql)?, &expected);
        }
        let receipt = self.text("receipt.json");
        self.run(&["query", &sql, "--receipt", &receipt])?;
        self.run(&["rerun", &receipt]).map(drop)
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
        let columns = self.columns("");
        let name = format!("crossing_{}", self.topic.replace(['-', '.'], "_"));
        let (out, query) = match self.cell.verb {
            Verb::JobPostgres => {
                let url = postgres::shared().url("postgres");
                let out = format!("STORED AS POSTGRES LOCATION '{url}' OPTIONS ('table' '{name}')");
                (out, format!("SELECT {columns} FROM t"))
            }
            Verb::JobKafka => {
                let out = format!("{}-out", self.topic);
                admin::create_topic(support::shared().bootstrap(), &out, 1, &[]);
                let query = "SELECT concat(CAST(partition AS VARCHAR), ' ', CAST(\"offset\" AS VARCHAR)) AS key, \
                             'x' AS value FROM t";
                (
                    format!("STORED AS KAFKA LOCATION '{out}'"),
                    query.to_owned(),
                )
            }
            Verb::JobParquet => {
                let out = format!("STORED AS PARQUET LOCATION '{}/'", self.text("out"));
                (out, format!("SELECT {columns} FROM t"))
            }
            _ => {
                let file = self.text("out.db");
                let out = format!("STORED AS SQLITE LOCATION '{file}' OPTIONS ('table' 'held')");
                (out, format!("SELECT {columns} FROM t"))
            }
        };
        let out = format!("CREATE EXTERNAL TABLE out {out}");
        let file = self.text("job.sql");
        let job = format!("{};\n{out};\nINSERT INTO out {query};\n", self.table());
        std::fs::write(&file, job).map_err(|e| e.to_string())?;
        let run = ["run", &file, "--available-now", "-q", "--name", &name];
        self.crash("after-sink-commit", &run)?;
        let expected = self.expected();
        match self.cell.verb {
            Verb::JobKafka => {
                let held = read(
                    support::shared().bootstrap(),
                    &format!("{}-out", self.topic),
                    0,
                    Reads::ReadCommitted,
                );
                let mut keys: Vec<String> = held
                    .into_iter()
                    .map(|r| String::from_utf8_lossy(&r.key.unwrap_or_default()).into_owned())
                    .collect();
                keys.sort();
                let wanted = expected
                    .iter()
                    .map(|r| format!("{} {}", r["partition"], r["offset"]));
                let wanted: Vec<String> = wanted.collect();
                if keys != wanted {
                    return Err(format!("the topic has {keys:?}, expected {wanted:?}"));
                }
            }
            Verb::Redecode => {}
            _ => {
                let sql = format!("{out}; SELECT * FROM out ORDER BY partition, \"offset\"");
                let mut found = self.rows(&sql)?;
                for (row, expected) in found.iter_mut().zip(&expected) {
                    from_database(row, expected)?;
                }
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
        let bad = self
            .records()
            .into_iter()
            .filter(|(_, _, made)| made.columns.is_none());
        let expected = bad.map(|(partition, offset, made)| {
            let payload = made.payload.as_deref().map(model::hex);
            json!({"partition": partition, "offset": offset, "payload": payload})
        });
        same(&self.rows(&sql)?, &expected.collect::<Vec<_>>())
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
        let bad = self
            .records()
            .into_iter()
            .filter(|(_, _, made)| made.columns.is_none());
        let expected = bad.map(|(p, o, _)| json!({"partition": p, "offset": o}));
        same(&self.rows(&sql)?, &expected.collect::<Vec<_>>())
    }
}

/// Nested columns are JSON texts in databases, and moments have the digits of their columns.
fn from_database(row: &mut Value, expected: &Value) -> Checked {
    for (name, value) in row.as_object_mut().unwrap_or(&mut Map::new()) {
        let Some(text) = value.as_str() else { continue };
        if expected[name].is_object() {
            *value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        } else if ["at", "ts"].contains(&name.as_str()) {
            *value = text.replace(".000Z", "Z").replace("000Z", "Z").into();
        }
    }
    Ok(())
}

/// Compares rows in their order; texts of numbers as numbers.
fn same(found: &[Value], expected: &[Value]) -> Checked {
    if found.len() != expected.len() {
        return Err(format!("{} rows, expected {}", found.len(), expected.len()));
    }
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
    let alike = |found: &Value, expected: &Value| {
        found == expected || (number(found).is_some() && number(found) == number(expected))
    };
    for (found, expected) in found.iter().zip(expected) {
        let (Some(columns), Some(wanted)) = (found.as_object(), expected.as_object()) else {
            return Err(format!("{found} is no row"));
        };
        let all = columns.len() == wanted.len();
        if !all
            || !wanted
                .iter()
                .all(|(name, value)| alike(&found[name], value))
        {
            let cut = |value: &Value| value.to_string().chars().take(300).collect::<String>();
            return Err(format!(
                "a row is {}, expected {}",
                cut(found),
                cut(expected)
            ));
        }
    }
    Ok(())
}

fn cells() -> Vec<Cell> {
    let sizes = [
        Format::ALL.len(),
        Part::ALL.len(),
        Values::ALL.len(),
        Client::ALL.len(),
        Verb::ALL.len(),
        Policy::ALL.len(),
        Isolation::ALL.len(),
    ];
    let mut all: Vec<Vec<usize>> = vec![vec![]];
    for size in sizes {
        let longer =
            |cell: Vec<usize>| (0..size).map(move |value| [cell.clone(), vec![value]].concat());
        all = all.into_iter().flat_map(longer).collect();
    }
    all.retain(|cell| Cell::of(cell).is_possible());
    match std::env::var("KAFKA_SQL_CROSSINGS").as_deref() {
        Ok("all") => {
            // Not the product, which takes hours, but pairs of ten seeds.
            let chosen = (0..10).flat_map(|seed| pairs::pairs(&all, seed));
            chosen.map(|cell| Cell::of(&cell)).collect()
        }
        Ok(part) => {
            let these = all.iter().map(|cell| Cell::of(cell));
            these
                .filter(|cell| cell.to_string().contains(part))
                .collect()
        }
        Err(_) => pairs::pairs(&all, 12)
            .iter()
            .map(|cell| Cell::of(cell))
            .collect(),
    }
}

#[test]
fn pairs_of_crossings_are_as_the_table_says() {
    let cells = cells();
    let number = cells.len();
    let (next, wrong) = (Mutex::new(cells.into_iter()), Mutex::new(vec![]));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, Into::into) {
            scope.spawn(|| {
                loop {
                    let cell = next.lock().expect("nobody panics in it").next();
                    let Some(cell) = cell else { return };
                    // A panic is one more way to be wrong.
                    let checked = std::panic::catch_unwind(|| World::new(cell).check());
                    let checked = checked.unwrap_or_else(|_| Err("panics".to_owned()));
                    if let Err(message) = checked {
                        let mut wrong = wrong.lock().expect("nobody panics in it");
                        wrong.push(format!("{cell}: {message}"));
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().expect("nobody panics in it");
    wrong.sort();
    assert!(
        wrong.is_empty(),
        "{} of {number} crossings are not as they must be:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
