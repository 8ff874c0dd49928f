//! Scans with the newest record first: when they are planned, and how their streams are merged.

use std::sync::Arc;

use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_expr::expressions::Column as ColumnExpr;
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{EmptyRecordBatchStream, ExecutionPlan, SortOrderPushdownResult};

use super::properties::properties;
use super::{Counted, Direction, KafkaScanExec, Reading, ScanRange, reverse};
use crate::decode::Column;

/// The most Kafka partitions of an execution partition that `ORDER BY "offset" DESC` reads side by
/// side: each holds a piece of its range in memory.
pub(super) const MAX_MERGED_PARTITIONS: usize = 64;

impl KafkaScanExec {
    /// `ORDER BY "offset" DESC` is answered by reading from the end.
    pub(super) fn newest_first(
        &self,
        order: &[PhysicalSortExpr],
    ) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        let by_offset = match order {
            [only] => self.column(&only.expr) == Some(Column::Offset) && only.options.descending,
            _ => false,
        };
        // A scan that carries a LIMIT already has chosen its rows.
        if !by_offset || self.fetch.is_some() || self.direction == Direction::Reverse {
            return Ok(SortOrderPushdownResult::Unsupported);
        }
        Ok(match self.reversed()? {
            Some(scan) => SortOrderPushdownResult::Exact {
                inner: Arc::new(scan),
            },
            None => SortOrderPushdownResult::Unsupported,
        })
    }

    fn column(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<Column> {
        let column = expr.downcast_ref::<ColumnExpr>()?;
        let index = *self.projection.get(column.index())?;
        self.source.decoder.columns().get(index).copied()
    }

    /// This scan with the newest record first, if its Kafka partitions can be read side by side.
    pub(super) fn reversed(&self) -> Result<Option<Self>> {
        let streams = self
            .partitions
            .iter()
            .map(|p| reverse::by_kafka_partition(p).len());
        if streams.max() > Some(MAX_MERGED_PARTITIONS) {
            return Ok(None);
        }
        let direction = Direction::Reverse;
        let schema = self.schema();
        let properties = properties(
            &self.source,
            &self.partitions,
            &self.projection,
            &schema,
            direction,
        )?;
        let reversed = Self {
            direction,
            properties: Arc::new(properties),
            counted: Counted::nothing(&self.source, self.partitions.len()),
            ..self.clone()
        };
        Ok(Some(reversed.counted_again()))
    }

    /// Newest first: each Kafka partition is read backward, several are merged by offset.
    pub(super) fn execute_reverse(
        &self,
        partition: usize,
        ranges: &[ScanRange],
        reading: &Reading<'_>,
    ) -> Result<SendableRecordBatchStream> {
        let groups = reverse::by_kafka_partition(ranges);
        let bad_rows = self.counted.bad_rows.begin(partition, groups.len());
        let books = self.open_books(partition, groups.values().map(Vec::as_slice));
        // There may be more execution partitions than the session's, which all hold pieces at once.
        let side_by_side = reading.context.session_config().target_partitions().max(1);
        let turns = (self.partitions.len() / side_by_side).max(1);
        let piece_bytes = (reverse::MAX_PIECE_BYTES / (groups.len().max(1) * turns))
            .max(reverse::MIN_PIECE_BYTES);
        let mut streams: Vec<SendableRecordBatchStream> = groups
            .into_values()
            .zip(books)
            .map(|(ranges, books)| {
                let bad_rows = bad_rows.clone();
                let reader = self.reader(partition, &ranges, books, bad_rows, reading)?;
                let stream = reverse::reverse(reader, ranges, reading.fetch, piece_bytes);
                let stream = RecordBatchStreamAdapter::new(self.schema(), stream);
                Ok(Box::pin(stream) as SendableRecordBatchStream)
            })
            .collect::<Result<_>>()?;
        match (streams.len(), self.properties.output_ordering()) {
            (0, _) => Ok(Box::pin(EmptyRecordBatchStream::new(self.schema()))),
            (1, _) => Ok(streams.remove(0)),
            (_, Some(ordering)) => {
                let name = format!("KafkaScanExec[{partition}] merge");
                // The rows are counted where they are read.
                let uncounted = ExecutionPlanMetricsSet::new();
                StreamingMergeBuilder::new()
                    .with_streams(streams)
                    .with_schema(self.schema())
                    .with_expressions(ordering)
                    .with_metrics(BaselineMetrics::new(&uncounted, partition))
                    .with_batch_size(reading.context.session_config().batch_size())
                    .with_fetch(reading.fetch)
                    .with_reservation(
                        MemoryConsumer::new(name).register(reading.context.memory_pool()),
                    )
                    .build()
            }
            (_, None) => internal_err!("a reversed KafkaScanExec has no ordering to merge by"),
        }
    }
}
