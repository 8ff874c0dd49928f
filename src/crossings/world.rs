//! The cluster of a crossing, its tables, and the rows that its records must yield.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Fields, Float64Type};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use datafusion::execution::context::SessionContext;
use datafusion::prelude::SessionConfig;
use serde_json::Value;
use tempfile::TempDir;

use super::model::{Around, Format, Made, Part, Policy, float};
use super::table::encode::SCHEMA_ID;
use super::table::{Cell, same};
use crate::client::memory::{MemoryCluster, Record};
use crate::config::ConnectionConfig;
use crate::range::IsolationLevel;
use crate::session::KafkaSessionBuilder;
use crate::stub::{Reply, Stub};
use crate::table::{KafkaTable, KafkaTableBuilder, TableOptions};

pub(super) const TOPIC: &str = "t";

/// What all crossings share: registries, schema files, columns.
pub(super) struct Common {
    folder: TempDir,
    registries: BTreeMap<Format, Stub>,
    declared: BTreeMap<Format, Fields>,
}

impl Common {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut registries, mut declared) = (BTreeMap::new(), BTreeMap::new());
        for format in Format::ALL {
            if let Some((end, text)) = format.schema() {
                std::fs::write(folder.path().join(format!("{format:?}.{end}")), text).unwrap();
                let kind = if end == "avsc" { "AVRO" } else { "PROTOBUF" };
                let answer =
                    serde_json::json!({"id": SCHEMA_ID, "schemaType": kind, "schema": text});
                let stub = Stub::new(move |_, _| Reply::new(200, answer.to_string())).await;
                registries.insert(*format, stub);
            }
            if let Some(columns) = format.declared() {
                declared.insert(*format, fields(columns).await);
            }
        }
        Self {
            folder,
            registries,
            declared,
        }
    }
}

/// Columns as a statement declares them.
async fn fields(columns: &[(&str, &str)]) -> Fields {
    let context = KafkaSessionBuilder::new().build().unwrap();
    let columns: Vec<String> = columns
        .iter()
        .map(|(n, t)| format!("\"{n}\" {t}"))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let make = format!(
        "CREATE EXTERNAL TABLE columns ({}) STORED AS PARQUET LOCATION '{}/none/'",
        columns.join(", "),
        folder.path().display()
    );
    crate::statement::sql(&context, &make).await.unwrap();
    let table = context.table_provider("columns").await.unwrap();
    table.schema().fields().clone()
}

pub(super) struct World {
    pub(super) cell: Cell,
    common: Arc<Common>,
    pub(super) cluster: MemoryCluster,
    folder: TempDir,
}

impl World {
    pub(super) fn new(cell: Cell, common: Arc<Common>) -> Self {
        Self {
            cell,
            common,
            cluster: cluster(cell, false),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A similar cluster with another record at offset 1.
    pub(super) fn changed(&self) -> MemoryCluster {
        let cluster = cluster(self.cell, true);
        cut(self.cell, &cluster);
        cluster
    }

    /// Moves the start of the log, where the crossing says so.
    pub(super) fn cut(&self) {
        cut(self.cell, &self.cluster);
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn text(&self, name: &str) -> String {
        show(&self.path(name))
    }

    /// The table of the crossing's options over one of the clusters.
    pub(super) async fn table(&self, cluster: &MemoryCluster) -> Result<KafkaTable, String> {
        self.built(self.builder(cluster, true)?).await
    }

    /// The table with the columns that the crossing declares.
    pub(super) async fn built(&self, mut builder: KafkaTableBuilder) -> Result<KafkaTable, String> {
        if let Some(fields) = self.common.declared.get(&self.cell.format) {
            let prefix = match self.cell.part {
                Part::Key => "key_",
                Part::Value => "",
            };
            let fields = fields.iter().map(|field| {
                field
                    .as_ref()
                    .clone()
                    .with_name(format!("{prefix}{}", field.name()))
            });
            builder = builder.fields(fields.collect::<Vec<_>>());
        }
        builder.build().await.map_err(text)
    }

    /// The settings that another machine would read with.
    pub(super) fn connection(&self) -> Result<ConnectionConfig, String> {
        let mut config = ConnectionConfig::new("memory:1");
        if self.cell.format.asks_registry() {
            let url = &self.common.registries[&self.cell.format].url;
            config.set("schema.registry.url", url).map_err(text)?;
        }
        Ok(config)
    }

    /// A table of the topic, with the crossing's formats or as someone would define it who does not know
    /// them.
    pub(super) fn builder(
        &self,
        cluster: &MemoryCluster,
        formats: bool,
    ) -> Result<KafkaTableBuilder, String> {
        let Cell {
            format,
            part,
            policy,
            isolation,
            around,
            ..
        } = self.cell;
        let part = match part {
            Part::Key => "key",
            Part::Value => "value",
        };
        let mut options = TableOptions::default();
        let mut set = |name: &str, value: &str| options.set(name, value).map_err(text);
        set("kafka.bootstrap.servers", "memory:1")?;
        if format.asks_registry() {
            set("schema.registry.url", &self.common.registries[&format].url)?;
        }
        if formats {
            set(&format!("{part}.format"), format.name())?;
            if let (Some((end, _)), false) = (format.schema(), format.asks_registry()) {
                let file = self.common.folder.path().join(format!("{format:?}.{end}"));
                set(&format!("{part}.schema.file"), &show(&file))?;
            }
            if format.schema().is_some_and(|(end, _)| end == "proto") {
                set(&format!("{part}.schema.message"), "Row")?;
            }
            set("on.bad.row", policy.name())?;
            if around == Around::Scarce {
                set("max.scan.records", "5")?;
            }
            if let Some(loss) = around.on_data_loss() {
                set("on.data.loss", loss)?;
                set(
                    "starting.offsets",
                    &format!("{{\"{TOPIC}\":{{\"0\":0,\"1\":0}}}}"),
                )?;
            }
            if policy == Policy::Dlq {
                set("dlq.location", &self.text("dead"))?;
            }
        }
        let levels = [
            IsolationLevel::ReadCommitted,
            IsolationLevel::ReadUncommitted,
        ];
        let level = levels
            .iter()
            .find(|level| level.as_str() == isolation.name());
        let isolation = *level.ok_or("no isolation level has the name")?;
        let table = options.table(TOPIC, None, None).map_err(text)?;
        Ok(table
            .client(Arc::new(cluster.client()))
            .isolation(isolation))
    }

    /// The columns to compare, as a SELECT lists them.
    pub(super) fn columns(&self) -> String {
        self.columns_of("")
    }

    pub(super) fn columns_of(&self, table: &str) -> String {
        let columns = self.cell.format.columns().iter();
        let names = columns.map(|(name, _)| self.cell.column(name));
        let names = ["partition".to_owned(), "offset".to_owned()]
            .into_iter()
            .chain(names);
        let mut columns: Vec<String> = names.map(|name| format!("{table}\"{name}\"")).collect();
        if self.cell.says_why() {
            columns.push(format!("{table}\"_error\" IS NOT NULL AS bad"));
        }
        columns.join(", ")
    }

    /// Checks that exactly the bad records were set aside.
    pub(super) async fn check_letters(&self) -> Result<(), String> {
        if self.cell.policy != Policy::Dlq || self.cell.bad().is_empty() {
            return Ok(());
        }
        let context = session();
        create(&context, "dead", "PARQUET", &self.text("dead"), "").await?;
        let found = rows(
            &context,
            "SELECT partition, \"offset\" FROM dead ORDER BY 1, 2",
        )
        .await?;
        same(&found, &self.cell.letters())
    }
}

fn cluster(cell: Cell, changed: bool) -> MemoryCluster {
    let cluster = MemoryCluster::builder().seed(12).build();
    cluster.create_topic(TOPIC, 2).unwrap();
    let (records, aborted) = cell.written(changed);
    let record = |made: &Made| {
        let other = Some(b"other".to_vec());
        let (key, value) = match cell.part {
            Part::Key => (made.payload.clone(), other),
            Part::Value => (other, made.payload.clone()),
        };
        Record {
            key,
            value,
            timestamp_ms: Some(1_768_384_800_000),
            headers: vec![("h".to_owned(), Some(b"1".to_vec()))],
        }
    };
    let append = |partition, records: &[Made]| {
        let records = records.iter().map(record);
        cluster.append_all(TOPIC, partition, records).unwrap();
    };
    append(0, &records[..3]);
    let mut transaction = cluster.begin();
    transaction.append(TOPIC, 0, record(&aborted)).unwrap();
    // Together with its control record, it takes offsets 3 and 4.
    transaction.abort().unwrap();
    append(0, &records[3..]);
    // One of the records that may change is enough.
    append(1, &cell.written(false).0[..2]);
    cluster
}

fn cut(cell: Cell, cluster: &MemoryCluster) {
    if cell.around.on_data_loss().is_some() {
        cluster.truncate_before(TOPIC, 0, 1).unwrap();
    }
}

pub(super) fn session() -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(2);
    KafkaSessionBuilder::new().config(config).build().unwrap()
}

pub(super) async fn create(
    context: &SessionContext,
    name: &str,
    kind: &str,
    location: &str,
    more: &str,
) -> Result<(), String> {
    let make =
        format!("CREATE EXTERNAL TABLE {name} STORED AS {kind} LOCATION '{location}' {more}");
    crate::statement::sql(context, &make).await.map_err(text)?;
    Ok(())
}

/// The rows of a statement.
pub(super) async fn rows(context: &SessionContext, sql: &str) -> Result<Vec<Value>, String> {
    let frame = context.sql(sql).await.map_err(text)?;
    json(&frame.collect().await.map_err(text)?)
}

/// Rows as JSON. Bytes are hexadecimal, decimals and floats are text.
pub(super) fn json(batches: &[RecordBatch]) -> Result<Vec<Value>, String> {
    let mut lines = vec![];
    for batch in batches {
        let schema = batch.schema();
        let columns = schema
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, column)| {
                let column: ArrayRef = match field.data_type() {
                    DataType::Decimal128(_, _) | DataType::Decimal256(_, _) => {
                        cast(column, &DataType::Utf8).map_err(text)?
                    }
                    DataType::Float32 | DataType::Float64 => {
                        let wide = cast(column, &DataType::Float64).map_err(text)?;
                        let numbers = wide.as_primitive::<Float64Type>().iter();
                        let texts = numbers
                            .map(|n| n.map(|n| float(n).as_str().unwrap_or_default().to_owned()));
                        Arc::new(texts.collect::<StringArray>())
                    }
                    _ => Arc::clone(column),
                };
                Ok((field.name().clone(), column, true))
            });
        let columns = columns.collect::<Result<Vec<_>, String>>()?;
        let batch = RecordBatch::try_from_iter_with_nullable(columns).map_err(text)?;
        let mut writer = WriterBuilder::new()
            .with_explicit_nulls(true)
            .build::<_, LineDelimited>(&mut lines);
        writer.write(&batch).map_err(text)?;
        writer.finish().map_err(text)?;
    }
    let lines = lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).map_err(text))
        .collect()
}

pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string().replace('\n', " ")
}

fn show(path: &Path) -> String {
    path.display().to_string()
}
