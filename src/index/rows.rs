//! From the rows of a topic to those of its index.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::compute::{cast, max, min};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;

use super::bloom::{Filter, SLICES};
use super::{Definition, Hashes, slice_column};
use crate::client::Held;
use crate::error::{Error, External as _};
use crate::sink::SourceRange;

/// Rows of the index that are handed on together.
const ROWS: usize = 64;
/// Kafka partitions of a stream that have a block open; the one that waited longest is closed for a further one.
const MOST_OPEN: usize = 64;
/// The columns before those of the expressions: topic, partition, offset, timestamp.
const OWN: usize = 4;

/// The columns of an index.
pub(super) fn schema(definition: &Definition) -> SchemaRef {
    let column = |name: &str, data_type| Field::new(name, data_type, true);
    let mut fields = vec![
        column("kind", DataType::Utf8),
        column("topic", DataType::Utf8),
        column("partition", DataType::Int32),
        column("start", DataType::Int64),
        column("end", DataType::Int64),
        column("topic_id", DataType::Utf8),
        column("leader_epoch", DataType::Int32),
        column("records", DataType::Int64),
        column("min_timestamp_ms", DataType::Int64),
        column("max_timestamp_ms", DataType::Int64),
    ];
    for expression in 0..definition.expressions.len() {
        let slices = (0..SLICES).map(|slice| slice_column(expression, slice));
        fields.extend(slices.map(|name| column(&name, DataType::Binary)));
    }
    Arc::new(Schema::new(fields))
}

/// A row of the index.
#[derive(Debug)]
struct Row {
    kind: &'static str,
    topic: Arc<str>,
    partition: i32,
    start: i64,
    end: i64,
    topic_id: Option<String>,
    leader_epoch: Option<i32>,
    block: Option<Block>,
}

/// What is known of the records of a block.
#[derive(Debug)]
struct Block {
    records: i64,
    timestamps: Option<(i64, i64)>,
    filters: Vec<Filter>,
}

/// A block whose end has not come yet.
#[derive(Debug)]
struct Open {
    start: i64,
    last: i64,
    /// When it was written to.
    turn: u64,
    block: Block,
}

/// The index of some rows, and the offsets that were looked at for it.
pub(super) fn index_rows<'a>(
    rows: SendableRecordBatchStream,
    definition: &Arc<Definition>,
    looked_at: impl Iterator<Item = &'a SourceRange>,
    memory: Held,
) -> SendableRecordBatchStream {
    let schema = schema(definition);
    let ranges = looked_at.filter(|range| range.start < range.end);
    let ranges = ranges.map(|range| Row {
        kind: "range",
        topic: Arc::clone(&range.partition.topic),
        partition: range.partition.partition,
        start: range.start,
        end: range.end,
        topic_id: range.topic_id.clone(),
        leader_epoch: range.leader_epoch,
        block: None,
    });
    let indexer = Indexer {
        definition: Arc::clone(definition),
        schema: Arc::clone(&schema),
        open: HashMap::new(),
        turn: 0,
        done: ranges.collect(),
        memory,
    };
    let state = Some((rows, indexer));
    let stream = futures::stream::try_unfold(state, |state| async move {
        let Some((mut rows, mut indexer)) = state else {
            return Ok(None);
        };
        while indexer.done.len() < ROWS {
            match rows.next().await {
                Some(batch) => indexer.add(&batch?).await?,
                None => {
                    indexer.close_all();
                    let last = indexer.take()?;
                    return Ok(Some((last, None)));
                }
            }
        }
        let batch = indexer.take()?;
        Ok::<_, DataFusionError>(Some((batch, Some((rows, indexer)))))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, stream))
}

struct Indexer {
    definition: Arc<Definition>,
    schema: SchemaRef,
    open: HashMap<(Arc<str>, i32), Open>,
    turn: u64,
    done: Vec<Row>,
    memory: Held,
}

impl Indexer {
    async fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let text = cast(batch.column(0), &DataType::Utf8View)?;
        let topics = text.as_string_view();
        let partitions = cast(batch.column(1), &DataType::Int32)?;
        let partitions = partitions.as_primitive::<Int32Type>();
        let offsets = cast(batch.column(2), &DataType::Int64)?;
        let offsets = offsets.as_primitive::<Int64Type>().values();
        let timestamps = milliseconds(batch.column(3))?;
        let expressions = self.definition.expressions.iter();
        let values = expressions.zip(&batch.columns()[OWN..]);
        let values: crate::Result<Vec<Hashes>> = values
            .map(|(indexed, column)| indexed.kind.hashes(column))
            .collect();
        let values = values.external()?;
        let size = self.definition.block_offsets;
        let (views, numbers) = (topics.views(), partitions.values());
        let goes_on = |row: usize| {
            (offsets[row - 1] < offsets[row])
                & (numbers[row - 1] == numbers[row])
                & (views[row - 1] == views[row])
        };
        // As from a scan. Without a way out of the loop, so that it can be vectorized.
        let one_partition = (1..offsets.len()).fold(true, |all, row| all & goes_on(row));
        let mut from = 0;
        while from < offsets.len() {
            let block = offsets[from].div_euclid(size);
            let partition = partitions.value(from);
            let end = (block + 1).saturating_mul(size);
            let mut to = offsets.len();
            if !one_partition {
                to = (from + 1..to).find(|row| !goes_on(*row)).unwrap_or(to);
            }
            let fitting = offsets[from..to].partition_point(|offset| *offset < end);
            let rows = from..from + fitting.max(1);
            let topic = Arc::from(topics.value(from));
            let open = self.open(topic, partition, block, offsets[from]).await?;
            open.last = offsets[rows.end - 1];
            open.block.add(&values, &timestamps, rows.clone());
            from = rows.end;
        }
        Ok(())
    }

    /// The open block of a partition, to which the offset belongs.
    async fn open(
        &mut self,
        topic: Arc<str>,
        partition: i32,
        block: i64,
        offset: i64,
    ) -> Result<&mut Open> {
        let size = self.definition.block_offsets;
        let key = (topic, partition);
        if let Some(open) = self.open.get(&key)
            && (open.start.div_euclid(size) != block || offset <= open.last)
        {
            self.close(&key);
        }
        if !self.open.contains_key(&key) {
            if self.open.len() >= MOST_OPEN {
                let oldest = self.open.iter().min_by_key(|(_, open)| open.turn);
                if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                    self.close(&oldest);
                }
            }
            self.hold(1).await?;
        }
        self.turn += 1;
        let values = usize::try_from(size).unwrap_or(usize::MAX);
        let filters = self.definition.expressions.iter();
        let open = self.open.entry(key).or_insert_with(|| Open {
            start: offset,
            last: offset,
            turn: 0,
            block: Block {
                records: 0,
                timestamps: None,
                filters: filters.map(|_| Filter::new(values)).collect(),
            },
        });
        open.turn = self.turn;
        Ok(open)
    }

    /// Asks for the memory of what there is and of further blocks.
    async fn hold(&mut self, further: usize) -> Result<()> {
        let values = usize::try_from(self.definition.block_offsets).unwrap_or(usize::MAX);
        let block = Filter::bytes(values) * self.definition.expressions.len();
        let blocks = self.open.len() + self.done.len() + further;
        let held = self.memory.hold(block.saturating_mul(blocks)).await;
        held.map_err(|message| {
            let place = "the filters of an index".to_owned();
            Error::Memory { place, message }.external()
        })
    }

    fn close(&mut self, key: &(Arc<str>, i32)) {
        if let Some(open) = self.open.remove(key) {
            self.done.push(Row {
                kind: "block",
                topic: Arc::clone(&key.0),
                partition: key.1,
                start: open.start,
                end: open.last + 1,
                topic_id: None,
                leader_epoch: None,
                block: Some(open.block),
            });
        }
    }

    fn close_all(&mut self) {
        let mut keys: Vec<_> = self.open.keys().cloned().collect();
        keys.sort_unstable();
        keys.iter().for_each(|key| self.close(key));
    }

    /// The rows that are complete.
    fn take(&mut self) -> Result<RecordBatch> {
        let mut rows = std::mem::take(&mut self.done);
        let blocks = |get: fn(&Block) -> Option<i64>| -> ArrayRef {
            let values = rows.iter().map(|row| row.block.as_ref().and_then(get));
            Arc::new(values.collect::<Int64Array>())
        };
        let offsets = |get: fn(&Row) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(rows.iter().map(get)))
        };
        let kinds = rows.iter().map(|row| row.kind);
        let topics = rows.iter().map(|row| row.topic.as_ref());
        let ids = rows.iter().map(|row| row.topic_id.as_deref());
        let partitions = rows.iter().map(|row| row.partition);
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(kinds)),
            Arc::new(StringArray::from_iter_values(topics)),
            Arc::new(Int32Array::from_iter_values(partitions)),
            offsets(|row| row.start),
            offsets(|row| row.end),
            Arc::new(ids.collect::<StringArray>()),
            Arc::new(
                rows.iter()
                    .map(|row| row.leader_epoch)
                    .collect::<Int32Array>(),
            ),
            blocks(|block| Some(block.records)),
            blocks(|block| block.timestamps.map(|(min, _)| min)),
            blocks(|block| block.timestamps.map(|(_, max)| max)),
        ];
        for expression in 0..self.definition.expressions.len() {
            let slices = rows.iter_mut().map(|row| {
                let filter = row.block.as_mut()?.filters.get_mut(expression)?;
                Some(std::mem::replace(filter, Filter::new(0)).into_slices())
            });
            let slices: Vec<_> = slices.collect();
            columns.extend((0..SLICES).map(|slice| {
                let values = slices
                    .iter()
                    .map(|slices| slices.as_ref()?[slice].as_deref());
                Arc::new(values.collect::<BinaryArray>()) as ArrayRef
            }));
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

impl Block {
    fn add(&mut self, values: &[Hashes], timestamps: &Int64Array, rows: std::ops::Range<usize>) {
        self.records += rows.len() as i64;
        let timestamps = timestamps.slice(rows.start, rows.len());
        if let (Some(least), Some(most)) = (min(&timestamps), max(&timestamps)) {
            let (first, last) = self.timestamps.unwrap_or((least, most));
            self.timestamps = Some((first.min(least), last.max(most)));
        }
        for (filter, values) in self.filters.iter_mut().zip(values) {
            values.each(rows.clone(), |hash| filter.insert(hash));
        }
    }
}

/// A column of timestamps in ms.
fn milliseconds(column: &ArrayRef) -> Result<Int64Array> {
    let ms = match column.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => Arc::clone(column),
        other => {
            let what = format!("the timestamps of an index are in ms, found {other}");
            return Err(Error::internal(what).external());
        }
    };
    Ok(cast(&ms, &DataType::Int64)?
        .as_primitive::<Int64Type>()
        .clone())
}
