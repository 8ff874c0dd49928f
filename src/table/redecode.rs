//! Records that were set aside because they did not decode, read again: `redecode`.
//!
//! Dead letters say where they come from. These coordinates, and nothing else, become the table's
//! ranges, so that whatever was mended (a schema, a registry, an option) shows on exactly the records
//! that it was mended for.

#[cfg(feature = "jobs")]
use std::collections::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use super::resolve::{Selection, SharedBounds, now_ms};
use super::{DeadLetters, KafkaTable};
use crate::decode::Column;
use crate::error::{Error, Result, query_error};
use crate::functions::header;
use crate::range::{OffsetRange, Snapshot, SnapshotRange, TopicPartition};
#[cfg(feature = "jobs")]
use crate::sink::parquet;
#[cfg(feature = "jobs")]
use crate::store::Store;

/// The most ranges of a table: a plan names each of them.
const MAX_RANGES: usize = 100_000;

/// The ranges of the selection's topics that a place of dead letters names.
///
/// # Errors
/// When the place cannot be read, holds something else, or nothing of these topics.
pub(super) async fn snapshot(selection: &Selection, place: &DeadLetters) -> Result<Snapshot> {
    let letters = coordinates(selection, place).await?;
    let snapshot = selection
        .resolve(now_ms(), &SharedBounds::default())
        .await?;
    check(&letters, selection, place, &snapshot)?;
    let mut ranges = vec![];
    for known in snapshot.ranges() {
        let (topic, partition) = (known.range.topic(), known.range.partition());
        for (start, end) in letters
            .get(&known.range.topic_partition())
            .map_or(vec![], |letters| runs(&letters.offsets))
        {
            ranges.push(SnapshotRange {
                // Those that the log no longer has are an error when they are read.
                range: OffsetRange::try_new(Arc::clone(topic), partition, start, end)?,
                ..known.clone()
            });
        }
    }
    if ranges.is_empty() {
        let mut others: Vec<&str> = letters.keys().map(|p| &*p.topic).collect();
        others.dedup();
        let has = match &others[..] {
            [] => "nothing".to_owned(),
            others => format!("those of {}", others.join(", ")),
        };
        return Err(Error::invalid(format!(
            "'redecode': {place} has no dead letters of {}; it has {has}",
            selection.topics
        )));
    }
    if ranges.len() > MAX_RANGES {
        return Err(Error::invalid(format!(
            "'redecode': the dead letters in {place} are {} ranges, the most is {MAX_RANGES}: read the \
             topic over a range instead, with 'on.bad.row' = 'skip'",
            ranges.len()
        )));
    }
    snapshot.with_ranges(ranges)
}

/// Neighbours as ranges.
fn runs(offsets: &[i64]) -> Vec<(i64, i64)> {
    let mut sorted = offsets.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
        .chunk_by(|a, b| a + 1 == *b)
        .filter_map(|run| Some((*run.first()?, *run.last()? + 1)))
        .collect()
}

type Coordinates = BTreeMap<TopicPartition, Letters>;

/// The dead letters of a partition.
#[derive(Debug, Default)]
struct Letters {
    offsets: Vec<i64>,
    /// The ids that the topic had, where the letters tell.
    topic_ids: BTreeSet<String>,
}

/// Refuses letters of a topic that was deleted and created again, and of a partition that is gone: their
/// offsets hold other records now, or none.
fn check(
    letters: &Coordinates,
    selection: &Selection,
    place: &DeadLetters,
    snapshot: &Snapshot,
) -> Result<()> {
    let ours = letters.iter().filter(|(p, _)| selection.topics.covers(p));
    for (partition, letters) in ours {
        let mut there = snapshot.ranges().iter();
        if !there.any(|range| range.range.topic_partition() == *partition) {
            return Err(Error::invalid(format!(
                "'redecode': {place} has dead letters of {partition}, which is not there any more: their \
                 keys and values are in {place}"
            )));
        }
        let now = snapshot.topic_id(&partition.topic);
        if let Some(now) = now
            && let Some(then) = letters.topic_ids.iter().find(|then| *then != now)
        {
            return Err(Error::TopicRecreated {
                topic: partition.topic.to_string(),
                expected: then.clone(),
                found: now.to_owned(),
            });
        }
    }
    Ok(())
}

async fn coordinates(selection: &Selection, place: &DeadLetters) -> Result<Coordinates> {
    let context = SessionContext::new();
    context.register_udf(header::function());
    let (letters, query): (Arc<dyn TableProvider>, _) = match place {
        DeadLetters::Topic(topic) => {
            let table = KafkaTable::builder_with_client(Arc::clone(&selection.client))
                .topic(topic)
                .isolation(selection.isolation)
                .columns(vec![Column::Headers]);
            let query = r#"SELECT CAST(header(headers, 'dlq.topic') AS VARCHAR) AS "topic",
                      TRY_CAST(CAST(header(headers, 'dlq.partition') AS VARCHAR) AS INT) AS "partition",
                      TRY_CAST(CAST(header(headers, 'dlq.offset') AS VARCHAR) AS BIGINT) AS "offset",
                      CAST(header(headers, 'dlq.topic.id') AS VARCHAR) AS topic_id
               FROM letters"#;
            (Arc::new(table.build_lazy()?), query)
        }
        DeadLetters::Location(location) => {
            let query = r#"SELECT CAST("topic" AS VARCHAR) AS "topic", CAST("partition" AS INT) AS "partition",
                      CAST("offset" AS BIGINT) AS "offset", CAST(topic_id AS VARCHAR) AS topic_id
               FROM letters"#;
            (folder(location, place, &context).await?, query)
        }
    };
    context
        .register_table("letters", letters)
        .map_err(query_error)?;
    let frame = context.sql(query).await.map_err(query_error)?;
    let mut rows = frame.execute_stream().await.map_err(query_error)?;
    let mut found = Coordinates::new();
    while let Some(batch) = rows.next().await {
        add(&batch.map_err(query_error)?, place, &mut found)?;
    }
    Ok(found)
}

/// The folder of a job or an export as a table.
///
/// # Errors
/// When it holds no dead letters.
#[cfg(feature = "jobs")]
async fn folder(
    location: &str,
    place: &DeadLetters,
    context: &SessionContext,
) -> Result<Arc<dyn TableProvider>> {
    let store = Store::open(location, &HashMap::new())?;
    let table = parquet::written(&store, &context.runtime_env()).await?;
    let letters = table.filter(|table| table.schema().fields().find("topic_id").is_some());
    letters.ok_or_else(|| Error::invalid(format!("'redecode': {place} holds no dead letters")))
}

#[cfg(not(feature = "jobs"))]
async fn folder(
    _location: &str,
    place: &DeadLetters,
    _context: &SessionContext,
) -> Result<Arc<dyn TableProvider>> {
    let what = "is a folder of a job or an export, which this build does not read";
    Err(Error::missing_feature(
        "jobs",
        format!("'redecode': {place} {what}"),
    ))
}

fn add(batch: &RecordBatch, place: &DeadLetters, found: &mut Coordinates) -> Result<()> {
    let other = || {
        Error::invalid(format!(
            "'redecode': {place} holds something else than dead letters: a record does not say which \
             topic, partition and offset it comes from"
        ))
    };
    let [topics, partitions, offsets, ids] = batch.columns() else {
        return Err(other());
    };
    let text = |column| arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8View);
    let (topics, ids) = (
        text(topics).map_err(|_| other())?,
        text(ids).map_err(|_| other())?,
    );
    let (topics, ids) = (topics.as_string_view(), ids.as_string_view());
    let (Some(partitions), Some(offsets)) = (
        partitions.as_primitive_opt::<Int32Type>(),
        offsets.as_primitive_opt::<Int64Type>(),
    ) else {
        return Err(other());
    };
    for row in 0..batch.num_rows() {
        let (partition, offset) = (partitions.value(row), offsets.value(row));
        let told = topics.is_valid(row) && partitions.is_valid(row) && offsets.is_valid(row);
        if !told || partition < 0 || !(0..i64::MAX).contains(&offset) {
            return Err(other());
        }
        let from = TopicPartition::new(topics.value(row), partition);
        let letters = found.entry(from).or_default();
        letters.offsets.push(offset);
        if ids.is_valid(row) && !letters.topic_ids.contains(ids.value(row)) {
            letters.topic_ids.insert(ids.value(row).to_owned());
        }
    }
    Ok(())
}
