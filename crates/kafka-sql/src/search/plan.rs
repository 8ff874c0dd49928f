//! Makes the plan of a search hand out hits as they are found, and end when it is told to.

use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::buffer::BufferExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
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
/// - Streams that are each read backward are not merged by offset: a merge waits for a hit of each.
/// - Scans end when the search is told to end. What they have handed out until then still becomes hits.
#[derive(Debug)]
pub(super) struct AsFound {
    pub(super) stop: watch::Receiver<bool>,
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
        let changed = plan.transform_up(|node| {
            let changed: Arc<dyn ExecutionPlan> =
                if let Some(filter) = node.downcast_ref::<FilterExec>() {
                    Arc::new(filter.with_batch_size(1)?)
                } else if let Some(merge) = node.downcast_ref::<SortPreservingMergeExec>() {
                    let all = CoalescePartitionsExec::new(Arc::clone(merge.input()));
                    Arc::new(all.with_fetch(merge.fetch()))
                } else if let Some(ahead) = node.downcast_ref::<BufferExec>() {
                    Arc::clone(ahead.input())
                } else if node.is::<KafkaScanExec>() {
                    Arc::new(UntilToldExec {
                        input: node,
                        stop: self.stop.clone(),
                    })
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
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let stop = self.stop.clone();
        Ok(match children.pop() {
            Some(input) => Arc::new(Self { input, stop }),
            None => self,
        })
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
