//! What is done with the topic.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::SessionContext;

use super::bed::Bed;
use super::{SALT, Verb};
use crate::config::ConnectionConfig;
use crate::driver::{MicroBatch, Stop, Trigger, create_index};
use crate::error::External as _;
use crate::export::{Export, ExportFormat, ExportProgress, Verify};
use crate::receipt::{Receipt, Verdict, with_checksums};
use crate::scan::{KafkaScanExec, OwnConnections};
use crate::sink::MemorySink;
use crate::table::TableOptions;

impl Bed {
    pub(super) async fn verb(&mut self, verb: Verb) {
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
                    let scan: Arc<dyn ExecutionPlan> = Arc::new(scan);
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
