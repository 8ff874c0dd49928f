//! A plan whose scans are executed on other machines.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
    PlanProperties, ReplaceChildrenOptions,
};

use super::KafkaScanExec;
use crate::error::External as _;

/// How an engine executes a plan elsewhere.
pub trait ExecuteElsewhere: fmt::Debug + Send + Sync {
    /// The rows of a partition of `plan`.
    ///
    /// # Errors
    /// When the partition cannot be executed.
    fn execute(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream>;
}

/// Stands for `plan` and names the scans that were planned here and that an engine executes elsewhere. Ledgers,
/// receipts and progress are those of these scans; the engine puts into them what comes back
/// ([`KafkaScanExec::set_reports`]).
///
/// Otherwise it is `plan`, also to `downcast_ref`.
#[derive(Debug)]
pub struct ScansElsewhereExec {
    plan: Arc<dyn ExecutionPlan>,
    scans: Vec<Arc<dyn ExecutionPlan>>,
    engine: Arc<dyn ExecuteElsewhere>,
}

impl ScansElsewhereExec {
    /// A plan with the scans in it, which are [`KafkaScanExec`]s, and with what executes it.
    pub fn new(
        plan: Arc<dyn ExecutionPlan>,
        scans: Vec<Arc<dyn ExecutionPlan>>,
        engine: Arc<dyn ExecuteElsewhere>,
    ) -> Self {
        debug_assert!(scans.iter().all(|scan| scan.is::<KafkaScanExec>()));
        Self {
            plan,
            scans,
            engine,
        }
    }

    pub(super) fn of(plan: &Arc<dyn ExecutionPlan>) -> Option<&Self> {
        let plan: &dyn Any = plan.as_ref();
        plan.downcast_ref()
    }

    pub(super) fn scans(&self) -> &[Arc<dyn ExecutionPlan>] {
        &self.scans
    }
}

impl DisplayAs for ScansElsewhereExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt_as(t, f)
    }
}

impl ExecutionPlan for ScansElsewhereExec {
    fn name(&self) -> &str {
        self.plan.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.plan.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.plan.children()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.plan.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = Arc::clone(&self.plan).replace_children(children, options)?;
        let (scans, engine) = (self.scans.clone(), Arc::clone(&self.engine));
        Ok(Arc::new(Self::new(plan, scans, engine)))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(self.plan.as_ref())
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        for scan in self
            .scans
            .iter()
            .filter_map(|scan| scan.downcast_ref::<KafkaScanExec>())
        {
            scan.share.check_estimates().external()?;
        }
        self.engine.execute(&self.plan, partition, context)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.plan.metrics()
    }
}

/// The plan with a sort behind each repartitioning that was to keep the order of rows, because between machines
/// it does not. For engines that execute plans elsewhere, with [`NoOrder`](super::NoOrder).
///
/// # Errors
/// When DataFusion refuses to build a node.
pub fn sorted_behind_shuffles(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let sorted = plan.transform_up(|node| {
        let Some(repartition) = node.downcast_ref::<RepartitionExec>() else {
            return Ok(Transformed::no(node));
        };
        let (true, Some(order)) = (repartition.preserve_order(), node.output_ordering()) else {
            return Ok(Transformed::no(node));
        };
        let input = Arc::clone(repartition.input());
        let plain = RepartitionExec::try_new(input, repartition.partitioning().clone())?;
        let sort = SortExec::new(order.clone(), Arc::new(plain)).with_preserve_partitioning(true);
        Ok(Transformed::yes(Arc::new(sort) as Arc<dyn ExecutionPlan>))
    });
    sorted.map(|sorted| sorted.data)
}
