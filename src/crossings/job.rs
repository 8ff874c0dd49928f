//! Jobs into sinks, the rows that the sinks then hold, and batches that are computed again.

use std::sync::Arc;

use serde_json::Value;

use super::Verb;
use super::model::Part;
use super::table::{from_database, same, values};
use super::world::{World, create, rows, session, text};
use crate::client::memory::MemoryCluster;
use crate::driver::{MicroBatch, Stop, Trigger, Window};
use crate::sink::MemorySink;
use crate::table::DeadLetters;

pub(super) async fn run(world: &World) -> Result<(), String> {
    let sink = MemorySink::new("out");
    let is_cut = world.cell.around.on_data_loss().is_some();
    if world.cell.verb != Verb::JobCrash {
        world.cut();
    }
    let mut job = build(world, &world.cluster, &sink).await?;
    if world.cell.verb == Verb::JobCrash {
        // Either the commit happens but its answer is lost, or it fails and the log is cut.
        sink.fail(if is_cut { "commit" } else { "answer" }, 1, false);
        if job.run(&Stop::new()).await.is_ok() {
            return Err("the sink was told to fail, and the job did not".to_owned());
        }
        world.cut();
        job = build(world, &world.cluster, &sink).await?;
    }
    job.run(&Stop::new()).await.map_err(text)?;
    if world.cell.verb == Verb::Redecode {
        return redecode(world).await;
    }
    same(&held(world, &sink).await?, &values(&world.cell.expected()))?;
    world.check_letters().await?;

    let again = build(world, &world.cluster, &sink).await?;
    for difference in again.replay_diff(0).await.map_err(text)? {
        if difference.missing != Some(0) || !matches!(difference.extra, None | Some(0)) {
            return Err(format!("replay differs: {difference:?}"));
        }
    }
    let changed = build(world, &world.changed(), &sink).await?;
    let differences = changed.replay_diff(0).await.map_err(text)?;
    let missing: u64 = differences.iter().filter_map(|d| d.missing).sum();
    match missing {
        1 => Ok(()),
        _ => Err(format!(
            "a changed record is not found once: {differences:?}"
        )),
    }
}

async fn build(
    world: &World,
    cluster: &MemoryCluster,
    sink: &MemorySink,
) -> Result<MicroBatch, String> {
    let context = session();
    let table = Arc::new(world.table(cluster).await?);
    context.register_table("t", table).map_err(text)?;
    let insert = format!("INSERT INTO out SELECT {} FROM t", world.columns());
    let database = world.text("out.db");
    match world.cell.verb {
        Verb::JobSqlite => {
            create(
                &context,
                "out",
                "SQLITE",
                &database,
                "OPTIONS ('table' 'held')",
            )
            .await?
        }
        Verb::JobParquet => create(&context, "out", "PARQUET", &world.text("out/"), "").await?,
        _ => {}
    }
    let mut job = MicroBatch::builder(context, "job")
        .checkpoint(world.text("log"))
        .fsync(false)
        .trigger(Trigger::AvailableNow)
        .insert(insert);
    if !matches!(world.cell.verb, Verb::JobSqlite | Verb::JobParquet) {
        job = job.sink("out", Arc::new(sink.clone())).map_err(text)?;
    }
    if world.cell.verb == Verb::JobWindow {
        job = job.window(Window::Batches(2));
    }
    job.build().await.map_err(text)
}

/// The rows that the sink holds, in the order of the records.
async fn held(world: &World, sink: &MemorySink) -> Result<Vec<Value>, String> {
    let context = session();
    let sql = "SELECT * FROM out ORDER BY partition, \"offset\"";
    match world.cell.verb {
        Verb::JobSqlite => {
            let database = world.text("out.db");
            create(
                &context,
                "out",
                "SQLITE",
                &database,
                "OPTIONS ('table' 'held')",
            )
            .await?;
            let mut found = rows(&context, sql).await?;
            from_database(&mut found, &values(&world.cell.expected()))?;
            Ok(found)
        }
        Verb::JobParquet => {
            create(&context, "out", "PARQUET", &world.text("out/"), "").await?;
            rows(&context, sql).await
        }
        _ => {
            let mut found = super::world::json(&sink.rows())?;
            found.sort_by_key(|row| (row["partition"].as_i64(), row["offset"].as_i64()));
            Ok(found)
        }
    }
}

/// Exactly the records that were set aside are read again, unchanged from the topic.
async fn redecode(world: &World) -> Result<(), String> {
    world.check_letters().await?;
    let place = DeadLetters::Location(world.text("dead"));
    let table = world.builder(&world.cluster, false)?.redecode(place);
    let context = session();
    let table = Arc::new(table.build().await.map_err(text)?);
    context.register_table("t", table).map_err(text)?;
    let part = match world.cell.part {
        Part::Key => "key",
        Part::Value => "value",
    };
    let sql = format!("SELECT partition, \"offset\", {part} AS payload FROM t ORDER BY 1, 2");
    same(&rows(&context, &sql).await?, &world.cell.redecoded())
}
