//! A marker in every part of every record, masked: whatever is done with the topic, the marker is nowhere in what comes
//! of it. Each crossing of a format, a choice for bad records and a verb runs unmasked as well, so that a verb that would
//! show nothing in any case is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use arrow::util::pretty::pretty_format_batches;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::world::{json, text};
use crate::client::ClientPool;
use crate::client::memory::{MemoryCluster, Record};
use crate::config::ConnectionConfig;
use crate::driver::{MicroBatch, Stop, Trigger, create_index};
use crate::error::External as _;
use crate::export::{Export, ExportFormat, ExportProgress, Verify};
use crate::receipt::{Receipt, Verdict, with_checksums};
use crate::scan::{KafkaScanExec, OwnConnections};
use crate::session::KafkaSessionBuilder;
use crate::sink::MemorySink;
use crate::statement;
use crate::table::TableOptions;

const MARKER: &str = "Zq7mCarrotVw93kT";
const SALT: &str = "a salt of the tests";

/// Each hides the marker in keys, values and headers.
const MASKS: [&str; 5] = [
    "t.card, t.key.$.card, t.headers",
    "t.$..card=hash, t.key=hash, t.headers[h]=last4",
    "t.value, t.key=last4, t.headers=hash",
    "*.$..card=last4, *.key, *.headers",
    "t.$.card=hash, t.$.list.card, t.$.after.card=last3, t.key.$..card, t.headers[h]=hash",
];

/// How values are read: the options, and a column to ask for by name.
const FORMATS: [(&str, &str, &str); 9] = [
    ("raw", "", "value"),
    (
        "text",
        "'value.format' 'text', 'key.format' 'text'",
        "value",
    ),
    ("json", "'value.format' 'json'", "card"),
    (
        "json of keys",
        "'value.format' 'json', 'key.format' 'json', 'key.prefix' 'key_'",
        "card",
    ),
    ("debezium-json", "'value.format' 'debezium-json'", "after"),
    ("csv", "'value.format' 'csv'", "card"),
    (
        "avro",
        "'value.format' 'avro', 'value.schema.file' '{folder}/card.avsc'",
        "card",
    ),
    (
        "protobuf",
        "'value.format' 'protobuf', 'value.schema.file' '{folder}/card.proto', 'value.schema.message' 'Card'",
        "card",
    ),
    ("uuid", "'value.format' 'uuid'", "value"),
];

const POLICIES: [&str; 4] = ["fail", "null", "skip", "dlq"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Rows,
    Functions,
    Aggregates,
    LastFirst,
    Join,
    Explain,
    Receipt,
    Elsewhere,
    TableFunction,
    OtherOptions,
    Schema,
    Copy,
    Export(ExportFormat),
    Job,
    JobParquet,
    JobSqlite,
    Index,
}

const VERBS: [Verb; 19] = [
    Verb::Rows,
    Verb::Functions,
    Verb::Aggregates,
    Verb::LastFirst,
    Verb::Join,
    Verb::Explain,
    Verb::Receipt,
    Verb::Elsewhere,
    Verb::TableFunction,
    Verb::OtherOptions,
    Verb::Schema,
    Verb::Copy,
    Verb::Export(ExportFormat::Parquet),
    Verb::Export(ExportFormat::Csv),
    Verb::Export(ExportFormat::Ndjson),
    Verb::Job,
    Verb::JobParquet,
    Verb::JobSqlite,
    Verb::Index,
];

impl Verb {
    /// Whether what comes of it has contents of records where nothing is masked.
    fn shows(self) -> bool {
        // Bloom filters and checksums are none, and a plan has none.
        !matches!(
            self,
            Self::Explain | Self::Receipt | Self::Schema | Self::Index
        )
    }
}

/// The marker as it is, and as text formats write it where it is a part of bytes.
fn leaks(seen: &[u8]) -> bool {
    let decimal: Vec<String> = MARKER.bytes().map(|byte| byte.to_string()).collect();
    let mut forms = vec![
        MARKER.to_owned(),
        crate::hex::hex(MARKER.as_bytes()),
        crate::hex::hex(MARKER.as_bytes()).to_uppercase(),
        decimal.join(", "),
    ];
    for shift in 0..3 {
        let encoded = STANDARD_NO_PAD.encode([&vec![0; shift], MARKER.as_bytes()].concat());
        // What depends on the bytes around it is left out.
        forms.push(encoded[4..encoded.len() - 4].to_owned());
    }
    forms
        .iter()
        .any(|form| memchr::memmem::find(seen, form.as_bytes()).is_some())
}

#[test]
fn the_marker_is_recognised_in_all_its_forms() {
    for seen in [
        MARKER.to_owned(),
        format!("{:?}", MARKER.as_bytes()),
        crate::hex::hex(format!("x{MARKER}").as_bytes()),
        STANDARD_NO_PAD.encode(format!("{{\"card\":\"{MARKER}\"}}")),
        STANDARD_NO_PAD.encode(format!("a{MARKER}")),
        STANDARD_NO_PAD.encode(format!("ab{MARKER}c")),
    ] {
        assert!(leaks(seen.as_bytes()), "{seen}");
    }
    assert!(!leaks(&MARKER.as_bytes()[1..]));
}

/// Values of the format, the last of which does not decode.
fn values(format: &str) -> Vec<Vec<u8>> {
    let json = format!(r#"{{"id":1,"card":"{MARKER}","list":[{{"card":"{MARKER}"}}]}}"#);
    let bad = format!("{{ no json {MARKER}").into_bytes();
    let all = match format {
        "debezium-json" => vec![format!(
            r#"{{"op":"c","before":null,"after":{{"id":1,"card":"{MARKER}"}},"source":{{"db":"d"}},"ts_ms":1}}"#
        )],
        "csv" => vec![format!("1,{MARKER}")],
        _ => vec![json],
    };
    let mut all: Vec<Vec<u8>> = all.into_iter().map(String::into_bytes).collect();
    match format {
        // A long and a text of 16 bytes.
        "avro" => all = vec![[&[2, 32], MARKER.as_bytes()].concat()],
        "protobuf" => all = vec![[&[8, 1, 18, 16], MARKER.as_bytes()].concat()],
        // 16 bytes are one.
        "uuid" => all = vec![MARKER.as_bytes().to_vec()],
        _ => {}
    }
    let mut all = [all.clone(), all].concat();
    all.push(bad);
    all
}

struct Bed {
    cluster: MemoryCluster,
    folder: tempfile::TempDir,
    masks: Option<&'static str>,
    format: &'static str,
    options: String,
    column: &'static str,
    policy: &'static str,
    /// What was printed.
    seen: Vec<u8>,
}

impl Bed {
    fn new(masks: Option<&'static str>, format: usize, policy: &'static str) -> Self {
        let (name, options, column) = FORMATS[format];
        let cluster = MemoryCluster::builder().build();
        for topic in ["t", "other"] {
            cluster.create_topic(topic, 2).unwrap();
        }
        for (n, value) in values(name).into_iter().enumerate() {
            let key = match n {
                0 if name != "json of keys" => MARKER.to_owned(),
                _ => format!(r#"{{"card":"{MARKER}"}}"#),
            };
            let record = Record::new(value)
                .with_key(key)
                .with_header("h", Some(MARKER.as_bytes()));
            cluster.append_all("t", 0, [record]).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let write = |name, text| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "card.avsc",
            r#"{"type":"record","name":"R","fields":[{"name":"id","type":"long"},{"name":"card","type":"string"}]}"#,
        );
        write(
            "card.proto",
            "syntax = \"proto3\"; message Card { int64 id = 1; string card = 2; }",
        );
        let mut options = options.replace("{folder}", &folder.path().display().to_string());
        if !options.is_empty() && !["raw", "text"].contains(&name) {
            options.push_str(&format!(", 'on.bad.row' '{policy}'"));
            if policy == "dlq" {
                options.push_str(&format!(
                    ", 'dlq.location' '{}/dead'",
                    folder.path().display()
                ));
            }
        }
        Self {
            cluster,
            folder,
            masks,
            format: name,
            options,
            column,
            policy,
            seen: vec![],
        }
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn pool(&self) -> ClientPool {
        let cluster = self.cluster.clone();
        ClientPool::with_factory(move |_| Ok(Arc::new(cluster.client())))
    }

    fn config(&self) -> ConnectionConfig {
        let mut config = ConnectionConfig::new("memory:1");
        config.set("key.partitioner", "none").unwrap();
        if let Some(masks) = self.masks {
            config.set("mask", masks).unwrap();
            config.set("mask.salt", SALT).unwrap();
        }
        config
    }

    fn session(&self) -> SessionContext {
        KafkaSessionBuilder::new()
            .config(SessionConfig::new().with_target_partitions(2))
            .connection(self.config())
            .pool(self.pool())
            .build()
            .unwrap()
    }

    fn see(&mut self, text: impl std::fmt::Display) {
        self.seen.extend_from_slice(format!("{text}\n").as_bytes());
    }

    /// Runs a statement; what it prints and what it complains of is seen.
    async fn run(&mut self, context: &SessionContext, sql: &str) -> bool {
        let rows = async { statement::sql(context, sql).await?.collect().await };
        match rows.await {
            Ok(rows) => {
                self.see(pretty_format_batches(&rows).unwrap());
                self.see(format!("{:?}", json(&rows)));
                true
            }
            Err(error) => {
                self.see(&error);
                self.see(format!("{error:?}"));
                false
            }
        }
    }

    /// The statement that makes the table `x` of the topic.
    fn create(&self) -> String {
        let columns = match self.format {
            "csv" => "(id BIGINT, card VARCHAR)",
            _ => "",
        };
        let options = match self.options.as_str() {
            "" => String::new(),
            options => format!("OPTIONS ({options})"),
        };
        format!("CREATE EXTERNAL TABLE x {columns} STORED AS KAFKA LOCATION 't' {options}")
    }

    async fn table(&mut self) -> SessionContext {
        let context = self.session();
        let create = self.create();
        self.run(&context, &create).await;
        context
    }

    async fn verb(&mut self, verb: Verb) {
        let context = self.table().await;
        let column = self.column;
        match verb {
            Verb::Rows => {
                self.run(&context, "SELECT * FROM x").await;
                self.run(&context, "SELECT * FROM t").await;
            }
            Verb::Functions => {
                for what in [
                    "kafka_text(value), kafka_text(key)",
                    "header(headers, 'h'), kafka_text(header(headers, 'h'))",
                    "kafka_text(value)->>'card', json_get_str(kafka_text(value), 'card')",
                    "encode(value, 'base64'), encode(key, 'hex'), substr(value, 2), substr(key, 2)",
                    "reverse(kafka_text(key)), length(value), digest(kafka_text(value), 'sha256')",
                ] {
                    self.run(&context, &format!("SELECT {what} FROM t")).await;
                }
            }
            Verb::Aggregates => {
                for what in [
                    "min(value), max(key)",
                    "array_agg(value)",
                    "first_value(headers)",
                    "string_agg(kafka_text(key), '')",
                ] {
                    self.run(&context, &format!("SELECT {what} FROM t")).await;
                }
                self.run(
                    &context,
                    &format!("SELECT {column}, count(*) FROM x GROUP BY {column}"),
                )
                .await;
            }
            Verb::LastFirst => {
                self.run(&context, "SELECT * FROM x ORDER BY \"offset\" DESC LIMIT 2")
                    .await;
                self.run(&context, "SELECT * FROM x WHERE \"offset\" < 2")
                    .await;
            }
            Verb::Join => {
                let join = format!("SELECT * FROM x a JOIN x b ON a.{column} = b.{column}");
                self.run(&context, &join).await;
                self.run(
                    &context,
                    "SELECT a.value, b.key FROM t a JOIN t b ON a.key = b.key",
                )
                .await;
            }
            Verb::Explain => {
                for how in [
                    "EXPLAIN",
                    "EXPLAIN VERBOSE",
                    "EXPLAIN ANALYZE",
                    "EXPLAIN ANALYZE VERBOSE",
                ] {
                    let sql = format!(
                        "{how} SELECT * FROM x WHERE {column} IS NOT NULL ORDER BY {column} LIMIT 1"
                    );
                    self.run(&context, &sql).await;
                }
            }
            Verb::Receipt => self.receipt(&context).await,
            Verb::Elsewhere => self.elsewhere(&context).await,
            Verb::TableFunction => {
                let options = self.options.replace("', '", "','");
                let options = options.replace("' '", "=");
                let options = if options.is_empty() {
                    options
                } else {
                    format!(", {options}")
                };
                self.run(
                    &context,
                    &format!("SELECT * FROM kafka('t', 'start'{options})"),
                )
                .await;
                self.run(&context, "SELECT * FROM kafka('/t.*/')").await;
                self.run(&context, "SELECT * FROM kafka('t,other', '0=0:2')")
                    .await;
            }
            Verb::OtherOptions => {
                for more in [
                    "'kafka.bootstrap.servers' 'memory:2'",
                    "'kafka.connection.name' 'other'",
                    "'kafka.client' 'librdkafka'",
                    "'kafka.mask' 'other.value'",
                    "'mask' ''",
                    "'kafka.mask.salt' '0123456789abcdef'",
                    "'kafka.security.protocol' 'ssl'",
                    "'kafka.debug' 'all'",
                    "'subscribePattern' 't'",
                    "'assign' '{\"t\":[0]}'",
                ] {
                    let context = self.session();
                    let location = if more.contains("subscribe") || more.contains("assign") {
                        ""
                    } else {
                        "t"
                    };
                    let create = format!(
                        "CREATE EXTERNAL TABLE y STORED AS KAFKA LOCATION '{location}' OPTIONS ({more})"
                    );
                    let made = self.run(&context, &create).await;
                    assert!(!(made && more.contains("mask")), "{more} is taken");
                    self.run(&context, "SELECT * FROM y").await;
                }
                self.run(&context, "SELECT * FROM kafka('t', '', 'kafka.mask=')")
                    .await;
            }
            Verb::Schema => {
                self.run(&context, "SHOW CREATE TABLE x").await;
                self.run(&context, "DESCRIBE x").await;
                self.run(&context, "CREATE VIEW v AS SELECT * FROM x").await;
                self.run(&context, "SELECT * FROM information_schema.tables")
                    .await;
                self.run(&context, "SELECT * FROM information_schema.columns")
                    .await;
                self.run(&context, "SELECT * FROM kafka_offsets('t')").await;
                self.run(&context, "SELECT * FROM kafka_topics()").await;
            }
            Verb::Copy => {
                for end in ["csv", "json", "parquet", "arrow"] {
                    let to = self.at(&format!("copy.{end}"));
                    self.run(&context, &format!("COPY (SELECT kafka_text(key) AS k, kafka_text(value) AS v FROM t) TO '{to}'")).await;
                }
                let to = self.at("copy.parquet");
                self.run(
                    &context,
                    &format!("CREATE EXTERNAL TABLE copied STORED AS PARQUET LOCATION '{to}'"),
                )
                .await;
                self.run(&context, "SELECT * FROM copied").await;
            }
            Verb::Export(format) => self.export(format).await,
            Verb::Job | Verb::JobParquet | Verb::JobSqlite => self.job(context, verb).await,
            Verb::Index => self.index(&context).await,
        }
        self.look_at_files().await;
    }

    async fn receipt(&mut self, context: &SessionContext) {
        let sql = "SELECT * FROM x";
        let made = async {
            let frame = context.sql(sql).await?;
            let task = Arc::new(with_checksums(frame.task_ctx()));
            let plan = frame.create_physical_plan().await?;
            collect(Arc::clone(&plan), task).await?;
            let mut receipt = Receipt::new();
            receipt.add(sql, &plan).external()?;
            Ok::<_, datafusion::error::DataFusionError>(receipt)
        };
        match made.await {
            Ok(receipt) => {
                self.see(receipt.to_json());
                let client = self.pool().client(&self.config()).unwrap();
                let again = receipt.rerun(&client).await.unwrap();
                assert_eq!(again.verdict(), Verdict::Identical);
                // A receipt tells whether a guess of what is hidden is right, unless it is of what is shown.
                let plain = self
                    .pool()
                    .client(&ConnectionConfig::new("memory:1"))
                    .unwrap();
                assert_eq!(receipt.rerun(&plain).await.is_ok(), self.masks.is_none());
            }
            Err(error) => self.see(error),
        }
    }

    /// On a worker that has its own settings, without masks, and on one that has none.
    async fn elsewhere(&mut self, context: &SessionContext) {
        let sent = async {
            let frame = context.sql("SELECT * FROM x").await?;
            let plan = frame.create_physical_plan().await?;
            let mut plan = &plan;
            while plan.downcast_ref::<KafkaScanExec>().is_none() {
                plan = plan.children()[0];
            }
            let scan = plan.downcast_ref::<KafkaScanExec>().unwrap();
            scan.encode(false).external()
        };
        let sent = match sent.await {
            Ok(sent) => sent,
            Err(error) => return self.see(error),
        };
        self.seen.extend_from_slice(&sent);
        assert!(
            memchr::memmem::find(&sent, SALT.as_bytes()).is_none(),
            "the salt travels"
        );
        let plain = ConnectionConfig::new("memory:1");
        for own in [vec![], vec![plain], vec![self.config()]] {
            let connections = OwnConnections::new(own, self.pool());
            match KafkaScanExec::decode(&sent, &connections) {
                Ok(scan) => {
                    let scan: Arc<dyn datafusion::physical_plan::ExecutionPlan> = Arc::new(scan);
                    self.see(displayable(scan.as_ref()).indent(true));
                    match collect(scan, context.task_ctx()).await {
                        Ok(rows) => self.see(pretty_format_batches(&rows).unwrap()),
                        Err(error) => self.see(error),
                    }
                }
                Err(error) => self.see(error),
            }
        }
    }

    async fn export(&mut self, format: ExportFormat) {
        let mut options = TableOptions::default();
        for option in self.options.split(", ").filter(|option| !option.is_empty()) {
            let (name, value) = option.trim_matches('\'').split_once("' '").unwrap();
            options.set(name, value).unwrap();
        }
        let table = options
            .table("t", None, Some(&self.config()))
            .map(|table| table.pool(self.pool()))
            .map(|table| match self.format {
                "csv" => table.fields(vec![
                    Field::new("id", DataType::Int64, true),
                    Field::new("card", DataType::Utf8, true),
                ]),
                _ => table,
            });
        let exported = async {
            let table = table?.build().await?;
            let export = Export::builder("x", table.clone(), self.at("out"))
                .format(format)
                .build()?;
            let summary = export.run(&Arc::new(ExportProgress::default())).await?;
            let verify = Verify::open(&self.at("out")).await?;
            let verified = verify
                .run(Some(&table), 2, &ExportProgress::default())
                .await?;
            assert!(verified.problems.is_empty(), "{verified:?}");
            Ok::<_, crate::Error>(format!("{summary:?} {verified:?}"))
        };
        match exported.await {
            Ok(said) => self.see(said),
            Err(error) => self.see(error),
        }
        if format == ExportFormat::Parquet {
            let context = self.session();
            let create = format!(
                "CREATE EXTERNAL TABLE e STORED AS PARQUET LOCATION '{}/'",
                self.at("out")
            );
            self.run(&context, &create).await;
            self.run(&context, "SELECT * FROM e").await;
        }
    }

    async fn job(&mut self, context: SessionContext, verb: Verb) {
        let sink = MemorySink::new("out");
        let place = match verb {
            Verb::JobSqlite => format!(
                "STORED AS SQLITE LOCATION '{}' OPTIONS ('table' 'held')",
                self.at("out.db")
            ),
            _ => format!("STORED AS PARQUET LOCATION '{}/'", self.at("rows")),
        };
        if verb != Verb::Job {
            self.run(&context, &format!("CREATE EXTERNAL TABLE out {place}"))
                .await;
        }
        let insert = format!(
            "INSERT INTO out SELECT \"offset\", kafka_text(key) AS k, CAST({} AS VARCHAR) AS v FROM x",
            self.column
        );
        let insert = match self.column {
            "after" => insert.replace("after", "after.card"),
            _ => insert,
        };
        let mut job = MicroBatch::builder(context, "job")
            .checkpoint(self.at("log"))
            .fsync(false)
            .trigger(Trigger::AvailableNow)
            .insert(insert);
        if verb == Verb::Job {
            job = job.sink("out", Arc::new(sink.clone())).unwrap();
        }
        let done = async {
            let mut job = job.build().await?;
            job.run(&Stop::new()).await?;
            job.replay_diff(0).await
        };
        match done.await {
            Ok(differences) => self.see(format!("{differences:?}")),
            Err(error) => self.see(error),
        }
        self.see(pretty_format_batches(&sink.rows()).unwrap());
        if verb == Verb::JobParquet {
            let context = self.session();
            self.run(&context, &format!("CREATE EXTERNAL TABLE out {place}"))
                .await;
            self.run(&context, "SELECT * FROM out").await;
        }
    }

    async fn index(&mut self, context: &SessionContext) {
        let place = self.at("index");
        let create =
            format!("CREATE INDEX ON t (key, kafka_text(value)) WITH (location = '{place}')");
        match create_index(context, &create).await {
            Ok(_) => {}
            Err(error) => self.see(error),
        }
        let of = |masks: Option<&'static str>| Bed {
            masks,
            ..Self::new(masks, 0, "fail")
        };
        for other in [of(self.masks), of(None)] {
            let other = Bed {
                cluster: self.cluster.clone(),
                ..other
            };
            let context = other.session();
            let create = format!(
                "CREATE EXTERNAL TABLE i STORED AS KAFKA LOCATION 't' OPTIONS ('index' '{place}')"
            );
            self.run(&context, &create).await;
            let used = self
                .run(&context, "SELECT count(*) FROM i WHERE key = 'x'")
                .await;
            assert_eq!(
                used,
                other.masks == self.masks,
                "an index of rows with other masks is used"
            );
        }
    }

    /// Files, dead letters among them.
    async fn look_at_files(&mut self) {
        let dead = self.at("dead");
        if Path::new(&dead).exists() {
            let context = self.session();
            self.run(
                &context,
                &format!("CREATE EXTERNAL TABLE dead STORED AS PARQUET LOCATION '{dead}/'"),
            )
            .await;
            self.run(&context, "SELECT * FROM dead").await;
            let options = format!("'redecode' '{dead}'");
            self.run(
                &context,
                &format!(
                    "CREATE EXTERNAL TABLE again STORED AS KAFKA LOCATION 't' OPTIONS ({options})"
                ),
            )
            .await;
            self.run(&context, "SELECT * FROM again").await;
        }
        let mut open = vec![self.folder.path().to_owned()];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(
                    std::fs::read_dir(path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
            } else {
                self.seen.extend(std::fs::read(path).unwrap());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_masked_shows_nowhere() {
    let mut wrong = vec![];
    let mut shown: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut turn = 0;
    for (place, (format, _, _)) in FORMATS.iter().enumerate() {
        for verb in VERBS {
            // Each crossing with two of the choices for bad records and two of the masks each.
            for _ in 0..2 {
                turn += 1;
                let policy = POLICIES[turn % 4];
                for masks in [Some(MASKS[turn % 5]), Some(MASKS[(turn + 2) % 5]), None] {
                    let mut bed = Bed::new(masks, place, policy);
                    bed.verb(verb).await;
                    match (masks, leaks(&bed.seen)) {
                        (Some(masks), true) => {
                            let seen = String::from_utf8_lossy(&bed.seen);
                            let line = seen.lines().find(|line| leaks(line.as_bytes()));
                            wrong.push(format!(
                                "{format} {verb:?} {}, {masks}: {line:?}",
                                bed.policy
                            ));
                        }
                        (None, true) => {
                            shown.entry(format!("{verb:?}")).or_default().insert(format);
                        }
                        (_, false) => {}
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} leaks:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // Without masks, the marker is found: the test looks where it would be.
    for verb in VERBS.into_iter().filter(|verb| verb.shows()) {
        let formats = shown.get(&format!("{verb:?}"));
        assert!(
            formats.is_some_and(|formats| formats.len() >= 5),
            "{verb:?}: {formats:?}"
        );
    }
}

/// A condition sees what is shown, whether the scan applies it or the node above.
#[tokio::test]
async fn conditions_see_masked_values() {
    for masks in MASKS {
        for push_down in [true, false] {
            let mut bed = Bed::new(Some(masks), 2, "null");
            let context = bed.table().await;
            bed.run(&context, &format!("SET kafka.push_down = {push_down}"))
                .await;
            for condition in [
                format!("kafka_text(value) LIKE '%{MARKER}%'"),
                format!("key = '{MARKER}'"),
                format!("card = '{MARKER}'"),
                format!("strpos(kafka_text(value), '{MARKER}') > 0"),
                format!("has_header(headers, 'h', '{MARKER}')"),
                format!("kafka_text(value)->>'card' = '{MARKER}'"),
            ] {
                for table in ["x", "t"] {
                    let sql = format!("SELECT \"offset\" FROM {table} WHERE {condition}");
                    let Ok(frame) = statement::sql(&context, &sql).await else {
                        continue;
                    };
                    let rows = frame.collect().await.map_err(text);
                    let rows =
                        rows.map(|rows| rows.iter().map(|batch| batch.num_rows()).sum::<usize>());
                    assert_eq!(rows, Ok(0), "{masks}: {sql}");
                }
            }
        }
    }
    // What a mask leaves can be asked for.
    let bed = Bed::new(Some("t.card=last4"), 2, "skip");
    let context = bed.session();
    statement::sql(&context, &bed.create()).await.unwrap();
    let end = &MARKER[MARKER.len() - 4..];
    let sql = format!(
        "SELECT \"offset\" FROM x WHERE card = '****{end}' AND kafka_text(value) LIKE '%****{end}%'"
    );
    let rows = statement::sql(&context, &sql)
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
}

/// What is known of keys as they are written does not choose what is read.
#[tokio::test]
async fn masked_keys_choose_no_partitions() {
    for (masks, pruned) in [
        (None, true),
        (Some("t.card"), true),
        (Some("t.key=hash"), false),
    ] {
        let cluster = MemoryCluster::builder().build();
        cluster.create_topic("t", 4).unwrap();
        let mut bed = Bed::new(masks, 0, "fail");
        bed.cluster = cluster;
        let mut config = ConnectionConfig::new("memory:1");
        config.set("key.partitioner", "murmur2").unwrap();
        config.merge(&bed.config().base_for(&ConnectionConfig::new("memory:2")));
        let context = KafkaSessionBuilder::new()
            .connection(config)
            .pool(bed.pool())
            .build()
            .unwrap();
        bed.run(&context, "EXPLAIN SELECT * FROM t WHERE key = 'x'")
            .await;
        let seen = String::from_utf8_lossy(&bed.seen);
        assert_eq!(seen.contains("pruned_by_key"), pruned, "{masks:?}: {seen}");
    }
}

#[test]
fn nothing_of_the_salt_is_shown() {
    let config = Bed::new(Some(MASKS[1]), 0, "fail").config();
    for shown in [
        format!("{config:?}"),
        config.to_string(),
        format!("{:?}", config.public()),
    ] {
        assert!(!shown.contains(SALT), "{shown}");
    }
}
