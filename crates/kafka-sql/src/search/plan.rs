//! Makes the plan of a search hand out hits as they are found, and end when it is told to.

use std::fmt;
use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::buffer::BufferExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    ReplaceChildrenOptions, SortOrderPushdownResult,
};
use datafusion_kafka::scan::KafkaScanExec;
use futures::StreamExt;
use tokio::sync::watch;

/// Waits until a search is told to end; for ever if nothing can tell it any more.
pub(super) async fn told(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}

/// The last rule of the optimizer.
///
/// - Filters hand out hits at once. They would collect a batch of them.
/// - What is sorted by offset in descending order is read backward instead, which DataFusion does not do below a
///   filter. The streams are not merged by offset: a merge waits for a hit of each.
/// - The scan ends when the search is told to end. What it has handed out until then still becomes hits.
///
/// A plan that reads anything else, as a condition with a subquery does, stays as it is.
#[derive(Debug)]
pub(super) struct AsFound {
    pub(super) reverse: bool,
    pub(super) stop: watch::Receiver<bool>,
}

impl AsFound {
    fn scan(&self, scan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let mut input = Arc::clone(&scan);
        if self.reverse {
            // The scan knows which of its columns is the offset.
            for (index, field) in scan.schema().fields().iter().enumerate() {
                let column = Arc::new(Column::new(field.name(), index));
                let order = PhysicalSortExpr::new(column, SortOptions::new(true, true));
                if let SortOrderPushdownResult::Exact { inner } =
                    scan.try_pushdown_sort(&[order])?
                {
                    input = inner;
                }
            }
        }
        let stop = self.stop.clone();
        Ok(Arc::new(UntilToldExec { input, stop }))
    }
}

impl PhysicalOptimizerRule for AsFound {
    fn name(&self) -> &'static str {
        "as_found"
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !reads_only_a_scan(&plan) {
            return Ok(plan);
        }
        let changed = plan.transform_up(|node| {
            let changed: Arc<dyn ExecutionPlan> =
                if let Some(filter) = node.downcast_ref::<FilterExec>() {
                    Arc::new(filter.with_batch_size(1)?)
                } else if let Some(merge) = node.downcast_ref::<SortPreservingMergeExec>() {
                    let all = CoalescePartitionsExec::new(Arc::clone(merge.input()));
                    Arc::new(all.with_fetch(merge.fetch()))
                } else if let Some(sort) = node.downcast_ref::<SortExec>() {
                    let rows = Arc::clone(sort.input());
                    match sort.fetch() {
                        Some(fetch) => Arc::new(LocalLimitExec::new(rows, fetch)),
                        None => rows,
                    }
                } else if let Some(ahead) = node.downcast_ref::<BufferExec>() {
                    Arc::clone(ahead.input())
                } else if node.is::<KafkaScanExec>() {
                    self.scan(node)?
                } else {
                    return Ok(Transformed::no(node));
                };
            Ok(Transformed::yes(changed))
        });
        changed.map(|changed| changed.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn reads_only_a_scan(plan: &Arc<dyn ExecutionPlan>) -> bool {
    match plan.children().as_slice() {
        [] => plan.is::<KafkaScanExec>(),
        [input] => reads_only_a_scan(input),
        _ => false,
    }
}

/// Whether the plan's scan ends when it is told to.
pub(super) fn ends_when_told(plan: &Arc<dyn ExecutionPlan>) -> bool {
    match plan.children().as_slice() {
        [input] => plan.is::<UntilToldExec>() || ends_when_told(input),
        _ => false,
    }
}

/// Hands out what its input does, until it is told to end.
#[derive(Debug)]
struct UntilToldExec {
    input: Arc<dyn ExecutionPlan>,
    stop: watch::Receiver<bool>,
}

impl DisplayAs for UntilToldExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for UntilToldExec {
    fn name(&self) -> &'static str {
        "UntilToldExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let stop = self.stop.clone();
        Ok(match children.pop() {
            Some(input) => Arc::new(Self { input, stop }),
            None => self,
        })
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let rows = rows.take_until(Box::pin(told(self.stop.clone())));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}
