//! What DataFusion may assume of a scan's rows before it is executed: orderings, constants, statistics.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column as ColumnExpr;
use datafusion::physical_expr::{
    AcrossPartitions, ConstExpr, EquivalenceProperties, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::{ExecutionPlan, Partitioning, PlanProperties};

use super::{Direction, KafkaScanExec, ScanRange, ScanSource};
use crate::decode::Column;
use crate::range::OffsetRange;

fn one_kafka_partition(ranges: &[ScanRange]) -> bool {
    let same =
        |a: &OffsetRange, b: &OffsetRange| a.topic() == b.topic() && a.partition() == b.partition();
    let mut pairs = ranges.windows(2);
    pairs.all(|pair| same(&pair[0].range, &pair[1].range))
}

/// Orderings, constants and partitioning that hold for these ranges.
pub(super) fn properties(
    source: &ScanSource,
    partitions: &[Vec<ScanRange>],
    projection: &[usize],
    schema: &SchemaRef,
    direction: Direction,
) -> Result<PlanProperties> {
    let expr = |column: Column| -> Option<Arc<dyn PhysicalExpr>> {
        let table_index = source.decoder.index_of(column)?;
        let index = projection.iter().position(|i| *i == table_index)?;
        Some(Arc::new(ColumnExpr::new(schema.field(index).name(), index)))
    };
    let all = || partitions.iter().flatten().map(|r| &r.range);
    let one_topic = all().map(|r| r.topic()).min() == all().map(|r| r.topic()).max();
    let one_number = all().map(|r| r.partition()).min() == all().map(|r| r.partition()).max();

    let descending = direction == Direction::Reverse;
    let sort = |expr| {
        let options = SortOptions {
            descending,
            nulls_first: descending,
        };
        PhysicalSortExpr::new(expr, options)
    };
    let mut orderings: Vec<Vec<PhysicalSortExpr>> = vec![];
    // A reversed scan merges its Kafka partitions by offset.
    if direction == Direction::Forward && !source.ordered {
        // Nothing is promised.
    } else if direction == Direction::Reverse || partitions.iter().all(|p| one_kafka_partition(p)) {
        orderings.extend(expr(Column::Offset).map(|offset| vec![sort(offset)]));
    } else {
        let mut keys = vec![];
        if !one_topic {
            keys.push(expr(Column::Topic));
        }
        keys.push(expr(Column::Partition));
        keys.push(expr(Column::Offset));
        let known: Vec<_> = keys.into_iter().map_while(|key| key.map(sort)).collect();
        if !known.is_empty() {
            orderings.push(known);
        }
    }
    let mut equivalence = EquivalenceProperties::new_with_orderings(Arc::clone(schema), orderings);

    let mut constants = vec![];
    if let (true, Some(range), Some(topic)) = (one_topic, all().next(), expr(Column::Topic)) {
        let value = ScalarValue::Utf8View(Some(range.topic().to_string()));
        constants.push(ConstExpr::new(
            topic,
            AcrossPartitions::Uniform(Some(value)),
        ));
    }
    if let (true, true, Some(range), Some(partition)) =
        (one_topic, one_number, all().next(), expr(Column::Partition))
    {
        let value = ScalarValue::Int32(Some(range.partition()));
        constants.push(ConstExpr::new(
            partition,
            AcrossPartitions::Uniform(Some(value)),
        ));
    }
    equivalence.add_constants(constants)?;

    Ok(PlanProperties::new(
        equivalence,
        Partitioning::UnknownPartitioning(partitions.len()),
        EmissionType::Incremental,
        Boundedness::Bounded,
    )
    .with_scheduling_type(SchedulingType::Cooperative))
}

/// What is known of the rows of some of the scan's ranges without reading them.
pub(super) fn statistics(scan: &KafkaScanExec, ranges: &[&OffsetRange]) -> Statistics {
    let schema = scan.schema();
    let mut statistics = Statistics::new_unknown(&schema);
    let offsets: usize = ranges
        .iter()
        .map(|r| usize::try_from(r.len()).unwrap_or(0))
        .sum();
    if offsets == 0 {
        statistics.num_rows = Precision::Exact(0);
        return statistics;
    }
    statistics.num_rows = Precision::Inexact(scan.fetch.map_or(offsets, |n| n.min(offsets)));
    let bounds = |low: Option<ScalarValue>, high: Option<ScalarValue>| ColumnStatistics {
        min_value: low.map_or(Precision::Absent, Precision::Inexact),
        max_value: high.map_or(Precision::Absent, Precision::Inexact),
        null_count: Precision::Exact(0),
        ..ColumnStatistics::new_unknown()
    };
    let each = || ranges.iter();
    for (i, index) in scan.projection.iter().enumerate() {
        let column = match scan.source.decoder.columns().get(*index) {
            Some(Column::Offset) => bounds(
                each().map(|r| r.start()).min().map(ScalarValue::from),
                each().map(|r| r.end() - 1).max().map(ScalarValue::from),
            ),
            Some(Column::Partition) => bounds(
                each().map(|r| r.partition()).min().map(ScalarValue::from),
                each().map(|r| r.partition()).max().map(ScalarValue::from),
            ),
            _ => continue,
        };
        statistics.column_statistics[i] = column;
    }
    statistics
}
