//! The delivery semantics of Koeninger's "Exactly-once Spark Streaming from Apache Kafka", side by side. They
//! differ in when the offsets are recorded, and in how the rows are written.
//!
//! The store is a SQLite file with a table of rows and a table of offsets. Closures write both, so any other
//! store can take its place.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{Int32Type, Int64Type};
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::driver::{MicroBatch, RunSummary, Stop, Trigger};
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::sink::{
    BatchRanges, BoxError, Committed, ForEachBatch, Guarantee, Position, SourcePartition,
};
use futures::TryStreamExt;
use rusqlite::{Connection, params};

/// What a crash between the rows and the offsets does to the rows of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Semantics {
    /// Offsets first: the rows are lost.
    AtMostOnce,
    /// Rows first: they arrive again.
    AtLeastOnce,
    /// Rows first, under a key: they arrive again, and change nothing.
    Idempotent,
    /// Rows and offsets in one transaction: neither or both.
    Transactional,
}

/// With `crash`, the run dies in its first batch, half-way between rows and offsets.
pub async fn run(
    semantics: Semantics,
    crash: bool,
    brokers: &str,
    topic: &str,
    file: &str,
    checkpoint: &str,
) -> Result<RunSummary, BoxError> {
    Connection::open(file)?.execute_batch(
        "create table if not exists delivered (part integer, off integer, value text);
         create table if not exists delivered_once
             (part integer, off integer, value text, primary key (part, off));
         create table if not exists ends
             (source text, topic text, part integer, next integer, topic_id text, leader_epoch integer,
              batch integer,
              primary key (source, topic, part));",
    )?;
    let (writes, reads) = (file.to_owned(), file.to_owned());

    // Prepares. Called for each execution partition, in parallel. This example keeps the rows in memory;
    // other stores could put them into a staging table.
    let sink = ForEachBatch::new(file, |_batch, _partition, mut rows| async move {
        let mut prepared = vec![];
        while let Some(rows) = rows.try_next().await? {
            let partitions = rows["partition"].as_primitive::<Int32Type>();
            let offsets = rows["offset"].as_primitive::<Int64Type>();
            let values = rows["value"].as_string_view();
            prepared.extend((0..rows.num_rows()).map(|row| Row {
                partition: partitions.value(row),
                offset: offsets.value(row),
                value: values.is_valid(row).then(|| values.value(row).to_owned()),
            }));
        }
        Ok(prepared)
    })
    // Called once all partitions are prepared. Here the four semantics differ.
    .on_commit(move |batch, prepared: Vec<Vec<Row>>| {
        let store = Connection::open(&writes);
        async move {
            let mut store = store?;
            let rows = prepared.into_iter().flatten();
            match semantics {
                Semantics::AtMostOnce => {
                    in_transaction(&mut store, |store| record_ends(store, &batch))?;
                    crash_if(crash)?;
                    in_transaction(&mut store, |store| add(store, rows))?;
                }
                Semantics::AtLeastOnce => {
                    in_transaction(&mut store, |store| add(store, rows))?;
                    crash_if(crash)?;
                    in_transaction(&mut store, |store| record_ends(store, &batch))?;
                }
                Semantics::Idempotent => {
                    in_transaction(&mut store, |store| put(store, rows))?;
                    crash_if(crash)?;
                    in_transaction(&mut store, |store| record_ends(store, &batch))?;
                }
                Semantics::Transactional => in_transaction(&mut store, |store| {
                    add(store, rows)?;
                    crash_if(crash)?;
                    record_ends(store, &batch)
                })?,
            }
            Ok(())
        }
    })
    // Called before the first batch, to find out where to continue.
    .recorded(move |_job| {
        let ends = recorded_ends(&reads);
        async move { ends }
    })
    .guarantee(match semantics {
        Semantics::AtMostOnce => Guarantee::AtMostOnce,
        Semantics::AtLeastOnce => Guarantee::AtLeastOnce,
        Semantics::Idempotent | Semantics::Transactional => Guarantee::ExactlyOnce,
    });

    let context = KafkaSessionBuilder::new()
        .connection(ConnectionConfig::new(brokers))
        .build()?;
    let source = format!("CREATE EXTERNAL TABLE records STORED AS KAFKA LOCATION '{topic}'");
    context.sql(&source).await?;
    let mut job = MicroBatch::builder(context, "delivery")
        .checkpoint(checkpoint)
        .sink("store", Arc::new(sink))?
        .insert(
            "INSERT INTO store SELECT partition, offset, kafka_text(value) AS value FROM records",
        )
        .trigger(Trigger::AvailableNow)
        .build()
        .await?;
    Ok(job.run(&Stop::new()).await?)
}

struct Row {
    partition: i32,
    offset: i64,
    value: Option<String>,
}

/// Commits everything that `work` did, or nothing if it fails.
fn in_transaction(
    store: &mut Connection,
    work: impl FnOnce(&Connection) -> Result<(), BoxError>,
) -> Result<(), BoxError> {
    let transaction = store.transaction()?;
    work(&transaction)?;
    Ok(transaction.commit()?)
}

/// Adds rows. Doing it twice stores them twice.
fn add(store: &Connection, rows: impl Iterator<Item = Row>) -> Result<(), BoxError> {
    write(store, rows, "insert into delivered values (?1, ?2, ?3)")
}

/// Writes rows under the record's own key. Doing it twice stores them once.
fn put(store: &Connection, rows: impl Iterator<Item = Row>) -> Result<(), BoxError> {
    let upsert = "insert or replace into delivered_once values (?1, ?2, ?3)";
    write(store, rows, upsert)
}

fn write(
    store: &Connection,
    rows: impl Iterator<Item = Row>,
    statement: &str,
) -> Result<(), BoxError> {
    let mut statement = store.prepare(statement)?;
    for row in rows {
        statement.execute(params![row.partition, row.offset, row.value])?;
    }
    Ok(())
}

/// Moves the offsets from where the batch starts to where it ends. Each update must match one row. Otherwise
/// another driver has made progress, and this one must stop.
fn record_ends(store: &Connection, batch: &BatchRanges) -> Result<(), BoxError> {
    let number = i64::try_from(batch.batch)?;
    for range in batch.moved() {
        // The id distinguishes the topic from a later one with the same name. The epoch distinguishes its log
        // from one that was cut and has grown again.
        let (of, id, epoch) = (&range.partition, &range.topic_id, range.leader_epoch);
        let moved = match range.previous {
            Some(previous) => store.execute(
                "update ends set next = ?1, topic_id = ?2, leader_epoch = ?3, batch = ?4
                 where source = ?5 and topic = ?6 and part = ?7 and next = ?8",
                params![
                    range.end,
                    id,
                    epoch,
                    number,
                    &*of.source,
                    &*of.topic,
                    of.partition,
                    previous
                ],
            )?,
            None => store.execute(
                "insert or ignore into ends values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    &*of.source,
                    &*of.topic,
                    of.partition,
                    range.end,
                    id,
                    epoch,
                    number
                ],
            )?,
        };
        if moved != 1 {
            return Err(format!("batch {number}: another driver has gone on").into());
        }
    }
    Ok(())
}

fn recorded_ends(file: &str) -> Result<Option<Committed>, BoxError> {
    let store = Connection::open(file)?;
    let mut query = store
        .prepare("select source, topic, part, next, topic_id, leader_epoch, batch from ends")?;
    let mut rows = query.query([])?;
    let mut committed: Option<Committed> = None;
    while let Some(row) = rows.next()? {
        let partition = SourcePartition {
            source: row.get::<_, String>(0)?.into(),
            topic: row.get::<_, String>(1)?.into(),
            partition: row.get(2)?,
        };
        let position = Position {
            next: row.get(3)?,
            topic_id: row.get(4)?,
            leader_epoch: row.get(5)?,
        };
        let batch = u64::try_from(row.get::<_, i64>(6)?)?;
        let known = committed.get_or_insert(Committed {
            batch,
            ends: Default::default(),
        });
        known.batch = known.batch.max(batch);
        known.ends.insert(partition, position);
    }
    Ok(committed)
}

fn crash_if(crash: bool) -> Result<(), BoxError> {
    if crash {
        Err("crashed half-way, as it was told to".into())
    } else {
        Ok(())
    }
}
