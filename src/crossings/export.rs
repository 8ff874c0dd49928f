//! Exports that are written, verified, resumed, compared with Kafka, and read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::common::internal_datafusion_err;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use serde_json::Value;

use super::Verb;
use super::model::{Format, Policy};
use super::table::{Expected, same, values};
use super::world::{TOPIC, World, create, rows, session, text};
use crate::client::memory::{MemoryCluster, Record};
use crate::error::external;
use crate::export::{
    Export, ExportExec, ExportFormat, ExportProgress, ProblemKind, Verification, Verify,
};
use crate::scan::ExecuteElsewhere;

pub(super) async fn run(world: &World) -> Result<(), String> {
    let mut expected = world.cell.expected();
    if is_sql(world.cell.verb) {
        expected.retain(|(_, offset, _)| *offset != 5);
    }
    let rows = expected.len() as u64;
    let is_cut = world.cell.around.on_data_loss().is_some();
    if is_cut {
        // The whole export, but the log is cut before it completes.
        export(world, false, None).await?;
        interrupt(world)?;
        world.cut();
    }
    export(world, is_cut, Some(rows)).await?;
    world.check_letters().await?;
    good(world, rows).await?;

    let changed = verify(world, Some(&world.changed())).await?;
    let [problem] = &changed.problems[..] else {
        return Err(format!(
            "a changed record is not found once: {:?}",
            changed.problems
        ));
    };
    if problem.kind != ProblemKind::Differs || !problem.message.contains("t[0]@1 ") {
        return Err(format!("a changed record is not named: {problem:?}"));
    }

    read(world, &expected).await?;

    if is_cut {
        return Ok(());
    }
    // The topic grew in the meantime.
    interrupt(world)?;
    if world.cell.format == Format::JsonLearned {
        let record = Record::new("{\"id\":5,\"more\":true}").with_key("{\"id\":5,\"more\":true}");
        world.cluster.append(TOPIC, 1, record).map_err(text)?;
    }
    export(world, true, Some(rows)).await?;
    good(world, rows).await
}

/// Makes an export look as if its run was killed before it recorded its last finished piece.
fn interrupt(world: &World) -> Result<(), String> {
    let target = world.path("out");
    std::fs::remove_file(target.join("manifest.json")).map_err(text)?;
    let records = files(&target.join("_export/done"), "json")?;
    std::fs::remove_file(&records[0]).map_err(text)
}

fn is_sql(verb: Verb) -> bool {
    matches!(
        verb,
        Verb::ExportParquetSql | Verb::ExportCsvSql | Verb::ExportNdjsonSql
    )
}

/// What other machines would do.
#[derive(Debug)]
struct Elsewhere;

impl ExecuteElsewhere for Elsewhere {
    fn execute(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> datafusion::error::Result<SendableRecordBatchStream> {
        let sent = plan.downcast_ref::<ExportExec>().map(ExportExec::encode);
        let sent = sent.ok_or_else(|| internal_datafusion_err!("no piece"))?;
        let sent = sent.map_err(external)?;
        let received = ExportExec::decode(&sent, Arc::clone(plan.children()[0]));
        received.map_err(external)?.execute(partition, context)
    }
}

fn format(verb: Verb) -> ExportFormat {
    match verb {
        Verb::ExportCsv | Verb::ExportCsvSql | Verb::ExportCsvBy => ExportFormat::Csv,
        Verb::ExportNdjson | Verb::ExportNdjsonSql | Verb::ExportNdjsonBy => ExportFormat::Ndjson,
        _ => ExportFormat::Parquet,
    }
}

async fn export(world: &World, resume: bool, rows: Option<u64>) -> Result<(), String> {
    let table = world.table(&world.cluster).await?;
    let mut export = Export::builder("t", table, world.text("out"))
        .format(format(world.cell.verb))
        .max_file_offsets(4)
        .resume(resume);
    if is_sql(world.cell.verb) {
        let columns = world.columns();
        export = export.sql(format!("SELECT {columns} FROM t WHERE \"offset\" <> 5"));
    }
    let by = [
        Verb::ExportParquetBy,
        Verb::ExportCsvBy,
        Verb::ExportNdjsonBy,
    ];
    if by.contains(&world.cell.verb) {
        export = export.partition_by("half=\"offset\" % 2");
    }
    let mut export = export.build().map_err(text)?;
    // What is begun here goes on elsewhere, or the reverse.
    if resume != is_sql(world.cell.verb) {
        export = export.elsewhere(Arc::new(Elsewhere), 2);
    }
    let summary = export.run(&Arc::new(ExportProgress::default())).await;
    let summary = summary.map_err(text)?;
    let bad = if world.cell.policy == Policy::Null {
        0
    } else {
        world.cell.bad().len() as u64
    };
    match (summary.rows, summary.bad_records) {
        (found, found_bad) if (rows.unwrap_or(found), bad) == (found, found_bad) => Ok(()),
        (rows, bad) => Err(format!("{rows} rows and {bad} bad records are exported")),
    }
}

async fn verify(world: &World, cluster: Option<&MemoryCluster>) -> Result<Verification, String> {
    let table = cluster.map(|cluster| world.builder(cluster, false)?.build_lazy().map_err(text));
    let table = table.transpose()?;
    let verify = Verify::open(&world.text("out")).await.map_err(text)?;
    let progress = ExportProgress::default();
    verify.run(table.as_ref(), 2, &progress).await.map_err(text)
}

async fn good(world: &World, rows: u64) -> Result<(), String> {
    for cluster in [None, Some(&world.cluster)] {
        let found = verify(world, cluster).await?;
        if !found.problems.is_empty() || found.same_rows.is_some_and(|same| same != rows) {
            return Err(format!("a good export is called bad: {found:?}"));
        }
    }
    Ok(())
}

/// Reads the files with independent libraries, and Parquet also through the root of the export.
async fn read(world: &World, expected: &[Expected]) -> Result<(), String> {
    let target = world.path("out");
    let columns = match is_sql(world.cell.verb) {
        true => "*".to_owned(),
        false => world.columns(),
    };
    let mut found = vec![];
    match format(world.cell.verb) {
        ExportFormat::Parquet => {
            let context = session();
            create(&context, "e", "PARQUET", &world.text("out/"), "").await?;
            let sql = format!("SELECT {columns} FROM e ORDER BY partition, \"offset\"");
            same(&rows(&context, &sql).await?, &values(expected))?;
            if world.cell.verb == Verb::ExportParquetBy {
                let sql =
                    "SELECT count(*) AS n FROM e WHERE half <> CAST(\"offset\" % 2 AS VARCHAR)";
                same(&rows(&context, sql).await?, &[serde_json::json!({"n": 0})])?;
            }
            return Ok(());
        }
        ExportFormat::Ndjson => {
            for file in files(&target.join(TOPIC), "ndjson")? {
                let lines = std::fs::read_to_string(file).map_err(text)?;
                for line in lines.lines() {
                    found.push(serde_json::from_str::<Value>(line).map_err(text)?);
                }
            }
        }
        ExportFormat::Csv => {
            for file in files(&target.join(TOPIC), "csv")? {
                found.extend(csv(&file)?);
            }
        }
    }
    let number = |value: &Value| match value {
        Value::String(text) => text.parse::<i64>().ok(),
        other => other.as_i64(),
    };
    found.sort_by_key(|row| (number(&row["partition"]), number(&row["offset"])));
    let coordinates = found
        .iter()
        .map(|row| (number(&row["partition"]), number(&row["offset"])));
    let wanted = expected
        .iter()
        .map(|(p, o, _)| (Some(i64::from(*p)), Some(*o)));
    if !coordinates.eq(wanted) {
        return Err(format!(
            "the files have other rows: {} of them",
            found.len()
        ));
    }
    // Values that both text formats write unchanged.
    for (row, (_, _, expected)) in found.iter().zip(expected) {
        for name in ["id", "key_id", "name", "key_name", "at", "key_at"] {
            let Some(expected) = expected.get(name) else {
                continue;
            };
            let found = &row[name];
            let plain = |value: &Value| match value {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            if plain(found) != plain(expected) {
                return Err(format!(
                    "{name} is {found} in the files, expected {expected}"
                ));
            }
        }
    }
    Ok(())
}

/// The rows of a CSV file, every value as text.
fn csv(file: &Path) -> Result<Vec<Value>, String> {
    use arrow::datatypes::{DataType, Field, Schema};
    let bytes = std::fs::read(file).map_err(text)?;
    let first = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let names = String::from_utf8_lossy(first);
    let fields = names
        .split(',')
        .map(|name| Field::new(name, DataType::Utf8, true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let reader = arrow::csv::ReaderBuilder::new(schema)
        .with_header(true)
        .build(bytes.as_slice());
    let batches: Result<Vec<_>, _> = reader.map_err(text)?.collect();
    super::world::json(&batches.map_err(text)?)
}

/// The files below a folder whose names have this extension, sorted.
fn files(folder: &Path, end: &str) -> Result<Vec<PathBuf>, String> {
    let (mut found, mut folders) = (vec![], vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).map_err(text)? {
            let path = entry.map_err(text)?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == end) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
