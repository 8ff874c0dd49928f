//! Plans for a cluster of Ballista.

use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::sink::DataSinkExec;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::analyze::AnalyzeExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::joins::NestedLoopJoinExec;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, ExecutionPlan, ExecutionPlanProperties, ReplaceChildrenOptions,
};
use datafusion_kafka::scan::{KafkaScanExec, ScansElsewhereExec, sorted_behind_shuffles};
use datafusion_kafka::sink::StageExec;
use datafusion_proto::physical_plan::AsExecutionPlan;
use datafusion_proto::protobuf::PhysicalPlanNode;
use uuid::Uuid;

use crate::client::Ballista;
use crate::codec::KafkaCodec;
use crate::job::Execution;
use crate::units::KafkaUnitsExec;

/// Puts what Ballista can execute in place of plans with scans. It comes after all other rules.
#[derive(Debug)]
pub(crate) struct OnBallista {
    cluster: Ballista,
}

impl OnBallista {
    pub(crate) fn new(cluster: Ballista) -> Self {
        Self { cluster }
    }

    fn on_ballista(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        // What stays here: sinks, which commit, and what measures.
        if plan.is::<AnalyzeExec>() || plan.is::<DataSinkExec>() || plan.is::<StageExec>() {
            let inputs = plan.children().into_iter();
            let inputs = inputs.map(|input| self.on_ballista(Arc::clone(input)));
            let inputs = inputs.collect::<Result<Vec<_>>>()?;
            let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            return plan.replace_children(inputs, options);
        }
        if !plan.exists(|node| Ok(travels(node)))? || plan.exists(|node| Ok(stays(node)))? {
            return Ok(plan);
        }
        let here = Arc::clone(&plan);
        let plan = plan.transform_up(|node| match node.downcast_ref::<KafkaScanExec>() {
            Some(scan) if travels(&node) => scan.conditions_above().map(Transformed::yes),
            _ => Ok(Transformed::no(node)),
        });
        let plan = sorted_behind_shuffles(plan?.data)?;
        let plan = left_rows_once(plan)?;
        let mut scans = vec![];
        let in_units = plan.transform_up(|node| {
            if !travels(&node) {
                return Ok(Transformed::no(node));
            }
            let units = KafkaUnitsExec::planned(Uuid::new_v4().to_string(), &node);
            scans.push(node);
            Ok(Transformed::yes(Arc::new(units) as Arc<dyn ExecutionPlan>))
        });
        let mut plan = in_units?.data;
        if let Err(error) = encode(&travelling_plan(&plan, false)?) {
            log::warn!("the statement is executed here, since its plan does not travel: {error}");
            return Ok(here);
        }
        if plan.output_partitioning().partition_count() > 1 {
            plan = Arc::new(CoalescePartitionsExec::new(plan));
        }
        let execution = Arc::new(Execution::new(&self.cluster));
        Ok(Arc::new(ScansElsewhereExec::new(plan, scans, execution)))
    }
}

impl PhysicalOptimizerRule for OnBallista {
    fn name(&self) -> &'static str {
        "on_ballista"
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.on_ballista(plan)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn travels(node: &Arc<dyn ExecutionPlan>) -> bool {
    let scan = node.downcast_ref::<KafkaScanExec>();
    scan.is_some_and(KafkaScanExec::travels)
}

/// Whether a leaf is one that Ballista does not cut: each task would read all of it. Files are cut, but executors
/// need not have them. Rows without a source (`SELECT 7`) are cut, but beside other leaves of a stage the scheduler
/// then waits forever for tasks whose metrics differ in number.
fn stays(node: &Arc<dyn ExecutionPlan>) -> bool {
    let in_memory = node.downcast_ref::<DataSourceExec>().is_some_and(|leaf| {
        let source: &dyn std::any::Any = leaf.data_source().as_ref();
        source.is::<MemorySourceConfig>()
    });
    node.children().is_empty() && !travels(node) && !in_memory
}

/// Joins that give rows of their left side which have found no partner run in one task: their tasks do not know what
/// the others have found, and each would give these rows. Ballista sees to this for hash joins alone.
fn left_rows_once(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let changed = plan.transform_up(|node| {
        let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() else {
            return Ok(Transformed::no(node));
        };
        let by_probe = matches!(
            join.join_type(),
            JoinType::Inner
                | JoinType::Right
                | JoinType::RightSemi
                | JoinType::RightAnti
                | JoinType::RightMark
        );
        if by_probe || join.right().output_partitioning().partition_count() == 1 {
            return Ok(Transformed::no(node));
        }
        // Ballista's planner takes away what only collects, but not below a limit, be it none.
        let right = Arc::new(CoalescePartitionsExec::new(Arc::clone(join.right())));
        let right = GlobalLimitExec::new(right, 0, None);
        let children = vec![Arc::clone(join.left()), Arc::new(right) as _];
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        node.replace_children(children, options)
            .map(Transformed::yes)
    });
    changed.map(|changed| changed.data)
}

/// The plan with its scans as they travel.
pub(crate) fn travelling_plan(
    plan: &Arc<dyn ExecutionPlan>,
    checksums: bool,
) -> Result<Arc<dyn ExecutionPlan>> {
    let changed = Arc::clone(plan).transform_down(|node| match node.downcast_ref() {
        Some(units @ KafkaUnitsExec { .. }) => {
            let units: Arc<dyn ExecutionPlan> = Arc::new(units.to_travel(checksums)?);
            Ok(Transformed::new(units, true, TreeNodeRecursion::Jump))
        }
        None => Ok(Transformed::no(node)),
    });
    changed.map(|changed| changed.data)
}

/// The bytes of a plan.
pub(crate) fn encode(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<u8>> {
    let message = PhysicalPlanNode::try_from_physical_plan(Arc::clone(plan), &KafkaCodec::new())?;
    let mut bytes = vec![];
    message.try_encode(&mut bytes)?;
    Ok(bytes)
}
