//! Jobs into sinks, what they hold, and batches that are computed again.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Verb;
use super::model::hex;
use super::world::{World, create, rows, same, session, text, values};
use crate::client::memory::MemoryCluster;
use crate::driver::{MicroBatch, Stop, Trigger, Window};
use crate::sink::MemorySink;
use crate::table::DeadLetters;

pub(super) async fn run(world: &World) -> Result<(), String> {
    let sink = MemorySink::new("out");
    let mut job = build(world, &world.cluster, &sink).await?;
    if world.cell.verb == Verb::JobCrash {
        // The commit takes place, and nobody hears of it.
        sink.fail("answer", 1, false);
        if job.run(&Stop::new()).await.is_ok() {
            return Err("the sink was told to fail, and the job did not".to_owned());
        }
        job = build(world, &world.cluster, &sink).await?;
    }
    job.run(&Stop::new()).await.map_err(text)?;
    if world.cell.verb == Verb::Redecode {
        return redecode(world).await;
    }
    same(&held(world, &sink).await?, &values(&world.expected()))?;
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

/// What the sink holds, in the order of the records.
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
            let moments = ["at", "ts", "key_at"];
            for (row, (_, _, expected)) in found.iter_mut().zip(world.expected()) {
                for (name, value) in row.as_object_mut().into_iter().flatten() {
                    // SQLite has JSON as text, and moments with all their digits.
                    let nested = expected.get(name).is_some_and(Value::is_object);
                    if let (true, Some(text)) = (nested, value.as_str()) {
                        *value = serde_json::from_str(text).map_err(self::text)?;
                    }
                    if let (true, Some(text)) = (moments.contains(&name.as_str()), value.as_str()) {
                        *value = text.replace(".000Z", "Z").into();
                    }
                }
            }
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

/// The records that were set aside, and no others, are read again as they are in the topic.
async fn redecode(world: &World) -> Result<(), String> {
    world.check_letters().await?;
    let place = DeadLetters::Location(world.text("dead"));
    let table = world.builder(&world.cluster, false)?.redecode(place);
    let context = session();
    let table = Arc::new(table.build().await.map_err(text)?);
    context.register_table("t", table).map_err(text)?;
    let part = match world.cell.part {
        super::Part::Key => "key",
        super::Part::Value => "value",
    };
    let sql = format!("SELECT partition, \"offset\", {part} AS payload FROM t ORDER BY 1, 2");
    let bad = world
        .records()
        .into_iter()
        .filter(|(_, _, made)| made.columns.is_none());
    let expected = bad.map(|(partition, offset, made)| {
        let payload = made.payload.as_deref().map(hex);
        json!({"partition": partition, "offset": offset, "payload": payload})
    });
    same(&rows(&context, &sql).await?, &expected.collect::<Vec<_>>())
}
