//! Reads an index: what it is of, and its rows for some ranges.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryViewArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::execution::object_store::DefaultObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;

use super::{DEFINITION, Definition, slice_column};
use crate::error::{Error, Result, query_error};
use crate::memory;
use crate::range::{OffsetRange, TopicPartition};
use crate::sink::parquet;
use crate::store::Store;

/// Rows of the index that are in memory at a time, for each stream.
const BATCH_ROWS: usize = 256;

/// An index that is there.
#[derive(Debug)]
pub(crate) struct Index {
    store: Store,
    pub(crate) definition: Definition,
}

/// A slice of the filters of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slice {
    pub(crate) expression: usize,
    pub(crate) slice: usize,
}

/// Offsets that a job has looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Covered {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) topic_id: Option<String>,
    /// Of the record before the end.
    pub(crate) leader_epoch: Option<i32>,
}

/// A row of an index; see the [module](super).
#[derive(Debug)]
pub(crate) enum Row<'a> {
    Range(Covered),
    Block(Block<'a>),
}

/// What an index says of the offsets from `start` to before `end`.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// The least and the greatest, in ms.
    pub(crate) timestamps: Option<(i64, i64)>,
    /// Those that were asked for, in their order; empty where the records have no value in one.
    pub(crate) slices: &'a [&'a [u8]],
}

impl Index {
    /// Looks up what an index is of.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn open(location: &str) -> Result<Self> {
        let store = Store::open(location, &HashMap::new())?;
        let Some(bytes) = store.get(DEFINITION).await? else {
            return Err(Error::invalid(format!(
                "'index': there is no index in {}: make it with CREATE INDEX, or leave the option out",
                store.url()
            )));
        };
        let file = format!("{}/{DEFINITION}", store.url().trim_end_matches('/'));
        let definition = Definition::parse(&file, &bytes)?;
        Ok(Self { store, definition })
    }

    /// Where it is, without secrets.
    pub(crate) fn url(&self) -> &str {
        self.store.url()
    }

    /// Visits the rows for some ranges, which may come with others of the same topics, in no order.
    ///
    /// # Errors
    /// When the folder cannot be read, or the memory is used up.
    pub(crate) async fn visit(
        &self,
        ranges: &[OffsetRange],
        slices: &[Slice],
        runtime: &Arc<RuntimeEnv>,
        streams: usize,
        mut visit: impl FnMut(&TopicPartition, Row<'_>),
    ) -> Result<()> {
        let config = SessionConfig::new()
            .with_target_partitions(streams)
            .with_batch_size(BATCH_ROWS);
        // Who may read a table may read what its maker has given it, though not the folder otherwise.
        let stores = Arc::new(DefaultObjectStoreRegistry::new());
        let own = RuntimeEnvBuilder::from_runtime_env(runtime).with_object_store_registry(stores);
        let own = own.build_arc().map_err(query_error)?;
        let context = SessionContext::new_with_config_rt(config, Arc::clone(&own));
        let Some(table) = parquet::written(&self.store, &own).await? else {
            return Ok(()); // No batch yet.
        };
        context
            .register_table("blocks", table)
            .map_err(query_error)?;
        let frame = context.sql(&query(ranges, slices)).await;
        let mut rows = frame
            .map_err(query_error)?
            .execute_stream()
            .await
            .map_err(query_error)?;
        let mut held = memory::held(&runtime.memory_pool, "index".to_owned());
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(query_error)?;
            let held = held.hold(batch.get_array_memory_size().saturating_mul(streams));
            held.await.map_err(|message| Error::Memory {
                place: self.url().to_owned(),
                message,
            })?;
            let wrong = || Error::corrupt(self.url(), "it does not hold the rows of an index");
            visit_batch(&batch, &mut visit).ok_or_else(wrong)?;
        }
        Ok(())
    }
}

fn query(ranges: &[OffsetRange], slices: &[Slice]) -> String {
    let quoted = |topic: &str| format!("'{}'", topic.replace('\'', "''"));
    let topics: BTreeSet<String> = ranges.iter().map(|r| quoted(r.topic())).collect();
    let partitions: BTreeSet<i32> = ranges.iter().map(OffsetRange::partition).collect();
    let start = ranges.iter().map(OffsetRange::start).min().unwrap_or(0);
    let end = ranges.iter().map(OffsetRange::end).max().unwrap_or(0);
    let slices = slices.iter();
    let slices: String = slices
        .map(|s| format!(", {}", slice_column(s.expression, s.slice)))
        .collect();
    let topics: Vec<String> = topics.into_iter().collect();
    let (first, last) = (partitions.first(), partitions.last());
    let (first, last) = (first.copied().unwrap_or(0), last.copied().unwrap_or(0));
    format!(
        "SELECT kind, topic, partition, \"start\", \"end\", topic_id, leader_epoch, min_timestamp_ms, \
         max_timestamp_ms{slices} FROM blocks WHERE topic IN ({}) AND partition BETWEEN {first} AND {last} \
         AND \"end\" > {start} AND \"start\" < {end}",
        topics.join(", ")
    )
}

/// Hands out the rows of a batch; `None` where it is not as [`query`] has it.
fn visit_batch(
    batch: &RecordBatch,
    visit: &mut impl FnMut(&TopicPartition, Row<'_>),
) -> Option<()> {
    let text = |column: usize| cast(batch.column(column), &DataType::Utf8View).ok();
    let (kinds, topics, ids) = (text(0)?, text(1)?, text(5)?);
    let (kinds, topics) = (kinds.as_string_view(), topics.as_string_view());
    let ids = ids.as_string_view();
    let number = |column: usize| batch.column(column).as_primitive_opt::<Int64Type>();
    let small = |column: usize| batch.column(column).as_primitive_opt::<Int32Type>();
    let (partitions, epochs) = (small(2)?, small(6)?);
    let (starts, ends, min, max) = (number(3)?, number(4)?, number(7)?, number(8)?);
    let slices = batch.columns()[9..].iter();
    let slices = slices.map(|column| {
        let bytes = cast(column, &DataType::BinaryView).ok()?;
        Some(bytes.as_binary_view_opt()?.clone())
    });
    let slices: Vec<BinaryViewArray> = slices.collect::<Option<_>>()?;
    let mut partition: Option<TopicPartition> = None;
    for row in 0..batch.num_rows() {
        let (topic, number) = (topics.value(row), partitions.value(row));
        let partition = match &mut partition {
            Some(known) if *known.topic == *topic && known.partition == number => known,
            other => other.insert(TopicPartition::new(topic, number)),
        };
        let (start, end) = (starts.value(row), ends.value(row));
        let found = match kinds.value(row) {
            "range" => Row::Range(Covered {
                start,
                end,
                topic_id: ids.is_valid(row).then(|| ids.value(row).to_owned()),
                leader_epoch: epochs.is_valid(row).then(|| epochs.value(row)),
            }),
            "block" => {
                let slices = slices.iter();
                let of_row = slices.map(|column| match column.is_valid(row) {
                    true => column.value(row),
                    false => &[],
                });
                let of_row: Vec<&[u8]> = of_row.collect();
                let timestamps = min.is_valid(row) && max.is_valid(row);
                let row = Row::Block(Block {
                    start,
                    end,
                    timestamps: timestamps.then(|| (min.value(row), max.value(row))),
                    slices: &of_row,
                });
                visit(partition, row);
                continue;
            }
            _ => return None,
        };
        visit(partition, found);
    }
    Some(())
}
