//! Plans for workers: how many tasks a scan gets, its parts, and where they go.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::config::ConfigOptions;
use datafusion::common::format::ExplainFormat;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{internal_datafusion_err, internal_err};
use datafusion::error::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, PlanType, StringifiedPlan};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::explain::ExplainExec;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions, displayable,
};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion_distributed::{
    DesiredTaskCountEvent, DesiredTaskCountEventResponse, DesiredTaskCountHandler, DistributedExec,
    DistributedLeafExec, RouteTasksEvent, RouteTasksEventResponse, ScaleUpLeafNodeEvent,
    ScaleUpLeafNodeEventResponse, ScaleUpLeafNodeHandler, SessionStateBuilderExt,
};
use datafusion_kafka::external;
use datafusion_kafka::scan::{KafkaScanExec, ScansElsewhereExec, sorted_behind_shuffles};
use datafusion_kafka::sink::StageExec;
use url::Url;

use crate::coordinator::{Coordinator, WorkerInfo};
use crate::exec::Execution;
use crate::nodes::{ScanRun, TaskExec, TasksExec};

/// Plans as DataFusion does, and then for the workers.
pub(crate) struct Planner {
    coordinator: Coordinator,
}

impl fmt::Debug for Planner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Planner")
    }
}

impl Planner {
    pub(crate) fn new(coordinator: &Coordinator) -> Self {
        Self {
            coordinator: coordinator.clone(),
        }
    }
}

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        logical: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::default();
        let LogicalPlan::Explain(explain) = logical else {
            let plan = planner.create_physical_plan(logical, session).await?;
            return self.for_workers(plan, session).await;
        };
        let kept = Arc::<Kept>::default();
        let state = SessionStateBuilder::new_from_existing(state_of(session)?.clone())
            .with_physical_optimizer_rule(Arc::clone(&kept) as _)
            .build();
        let plan = planner.create_physical_plan(logical, &state).await?;
        let (Some(shown), Some(explained)) = (plan.downcast_ref::<ExplainExec>(), kept.take())
        else {
            return Ok(plan);
        };
        let explained = self.for_workers(explained, session).await?;
        let explained = displayable(explained.as_ref());
        let text = match explain.explain_format {
            ExplainFormat::Tree => explained.tree_render().to_string(),
            _ => explained.indent(explain.verbose).to_string(),
        };
        let plans = shown.stringified_plans().iter();
        let plans = plans.filter_map(|plan| match &plan.plan_type {
            PlanType::FinalPhysicalPlan => {
                Some(StringifiedPlan::new(PlanType::FinalPhysicalPlan, &*text))
            }
            PlanType::OptimizedPhysicalPlan { optimizer_name } if optimizer_name == kept.name() => {
                None
            }
            _ => Some(plan.clone()),
        });
        let plans = ExplainExec::new(shown.schema(), plans.collect(), explain.verbose);
        Ok(Arc::new(plans))
    }
}

/// The last rule of EXPLAIN: keeps the plan that is explained.
#[derive(Debug, Default)]
struct Kept(Mutex<Option<Arc<dyn ExecutionPlan>>>);

impl Kept {
    fn take(&self) -> Option<Arc<dyn ExecutionPlan>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl PhysicalOptimizerRule for Kept {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(Arc::clone(&plan));
        Ok(plan)
    }

    fn name(&self) -> &'static str {
        "kept for the workers"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn state_of(session: &dyn Session) -> Result<&SessionState> {
    let state = session.as_any().downcast_ref::<SessionState>();
    state.ok_or_else(|| {
        internal_datafusion_err!("a session that is none of DataFusion's cannot plan for workers")
    })
}

impl Planner {
    /// A plan of DataFusion's, for the workers if it reads from Kafka.
    async fn for_workers(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let travels = |node: &Arc<dyn ExecutionPlan>| {
            node.downcast_ref::<KafkaScanExec>()
                .is_some_and(KafkaScanExec::travels)
        };
        if !plan.exists(|node| Ok(travels(node)))? {
            return Ok(plan);
        }
        // The second child is executed again and again; the engine executes parts on workers once.
        let again = |node: &Arc<dyn ExecutionPlan>| match node.is::<RecursiveQueryExec>() {
            true => node.children()[1].exists(|node| Ok(travels(node))),
            false => Ok(false),
        };
        if plan.exists(again)? {
            return Ok(plan);
        }
        let plan = sorted_behind_shuffles(plan)?;
        let workers = self.coordinator.workers(false).await.map_err(external)?;
        let plan = staged_on(&workers, plan)?;
        let state = Arc::new(state_of(session)?.clone());
        let distributed = distribute(&plan, &state).await?;
        // The query within EXPLAIN ANALYZE is planned by itself.
        let wrap = |node: Arc<dyn ExecutionPlan>| match node.is::<DistributedExec>() {
            true => {
                let scans = scans_of(&node)?;
                let all = scans.iter().map(|tasks| Arc::clone(&tasks.scan)).collect();
                let execution = Execution::new(&self.coordinator, &plan, &state, scans);
                let exec = ScansElsewhereExec::new(node, all, Arc::new(execution));
                let exec: Arc<dyn ExecutionPlan> = Arc::new(exec);
                Ok(Transformed::new(exec, true, TreeNodeRecursion::Jump))
            }
            false => Ok(Transformed::no(node)),
        };
        Ok(distributed.transform_down(wrap)?.data)
    }
}

/// A plan that stages rows, made so that workers do it; or the coordinator, where they do not have the store.
fn staged_on(
    workers: &[WorkerInfo],
    plan: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(stage) = plan.downcast_ref::<StageExec>() else {
        return Ok(plan);
    };
    // What is above this node is on the coordinator.
    if stage.travels(workers.iter().all(WorkerInfo::is_on_this_machine)) {
        return Ok(Arc::new(CoalescePartitionsExec::new(plan)));
    }
    let rows = stage.children().into_iter();
    let rows = rows.map(|rows| -> Arc<dyn ExecutionPlan> {
        Arc::new(CoalescePartitionsExec::new(Arc::clone(rows)))
    });
    let rows = rows.collect();
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    plan.replace_children(rows, options)
}

/// A plan in stages of tasks, or as it is if one machine is enough.
pub(crate) async fn distribute(
    plan: &Arc<dyn ExecutionPlan>,
    state: &SessionState,
) -> Result<Arc<dyn ExecutionPlan>> {
    /// Plans what is planned already.
    #[derive(Debug)]
    struct Given(Arc<dyn ExecutionPlan>);

    #[async_trait]
    impl QueryPlanner for Given {
        async fn create_physical_plan(
            &self,
            _logical: &LogicalPlan,
            _session: &dyn Session,
        ) -> Result<Arc<dyn ExecutionPlan>> {
            Ok(Arc::clone(&self.0))
        }
    }

    let given = Arc::new(Given(Arc::clone(plan)));
    let mut builder = SessionStateBuilder::new()
        .with_query_planner(given)
        .with_distributed_planner();
    let engine = builder.query_planner().take();
    let engine = engine.ok_or_else(|| internal_datafusion_err!("the engine has no planner"))?;
    let nothing = LogicalPlanBuilder::empty(false).build()?;
    engine.create_physical_plan(&nothing, state).await
}

/// The scans of a plan that are executed in tasks, from left to right.
pub(crate) fn scans_of(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<TasksExec>> {
    let mut scans = vec![];
    plan.apply(|node| {
        scans.extend(tasks_of(node).cloned());
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(scans)
}

/// The node's own tasks, if it is a scan.
fn tasks_of(node: &Arc<dyn ExecutionPlan>) -> Option<&TasksExec> {
    let leaf = node.downcast_ref::<DistributedLeafExec>()?;
    leaf.original().downcast_ref()
}

/// As many tasks as there is work for.
pub(crate) fn desired_tasks(coordinator: &Coordinator) -> impl DesiredTaskCountHandler + use<> {
    struct Handler(Coordinator);

    #[async_trait]
    impl DesiredTaskCountHandler for Handler {
        async fn handle(
            &self,
            event: DesiredTaskCountEvent<'_>,
        ) -> Option<Result<DesiredTaskCountEventResponse>> {
            let scan = event.plan.downcast_ref::<KafkaScanExec>()?;
            if !scan.travels() {
                return Some(Ok(DesiredTaskCountEventResponse::maximum(1)));
            }
            let workers = self.0.known_workers();
            if workers.len() > 1
                && let Err(error) = self.0.learn_brokers(scan).await
            {
                return Some(Err(external(error)));
            }
            let tasks = self.0.tasks(scan);
            Some(Ok(DesiredTaskCountEventResponse::desired(tasks)))
        }
    }
    Handler(coordinator.clone())
}

/// The parts of a scan.
pub(crate) fn scale_up(coordinator: &Coordinator) -> impl ScaleUpLeafNodeHandler + use<> {
    let coordinator = coordinator.clone();
    move |event: ScaleUpLeafNodeEvent<'_>| {
        let scan = event.plan.downcast_ref::<KafkaScanExec>()?;
        scan.travels().then(|| {
            let leaf = in_tasks(&coordinator, event.plan, scan, event.task_count)?;
            Ok(ScaleUpLeafNodeEventResponse::new(Arc::new(leaf)))
        })
    }
}

fn in_tasks(
    coordinator: &Coordinator,
    plan: &Arc<dyn ExecutionPlan>,
    scan: &KafkaScanExec,
    tasks: usize,
) -> Result<DistributedLeafExec> {
    let mut workers = coordinator.known_workers();
    if workers.is_empty() {
        return internal_err!("a plan for no workers");
    }
    // A stage may have more tasks than there are workers left.
    let there = workers.len();
    workers = workers.into_iter().cycle().take(there.max(tasks)).collect();
    let placed = coordinator.place(scan, tasks, &workers);
    let partitions = placed.iter().map(|(_, pieces)| pieces.len()).max();
    let partitions = partitions.unwrap_or(1).max(1);

    let run = Arc::new(ScanRun::new());
    let parts = placed.into_iter().map(|(worker, pieces)| {
        let part = match tasks {
            // The engine may run it here, as the scan that was planned: it has the same partitions.
            1 => whole_of(scan)?,
            _ => scan.of_pieces(pieces, partitions)?,
        };
        Ok((workers[worker].url.clone(), part))
    });
    let parts: Vec<(Url, KafkaScanExec)> = parts.collect::<Result<_>>()?;
    let variants = parts.iter().enumerate().map(|(task, (worker, part))| {
        let part = TaskExec::planned(part.clone(), task, &run, worker, plan.as_ref());
        Arc::new(part) as Arc<dyn ExecutionPlan>
    });
    let variants: Vec<_> = variants.collect();
    let whole = TasksExec {
        scan: Arc::clone(plan),
        run,
        tasks: parts,
    };
    DistributedLeafExec::try_new(Arc::new(whole), variants)
}

/// The same scan, which counts for itself.
fn whole_of(scan: &KafkaScanExec) -> Result<KafkaScanExec> {
    let same = scan.with_fetch(scan.fetch());
    let same = same.and_then(|same| same.downcast_ref::<KafkaScanExec>().cloned());
    same.ok_or_else(|| internal_datafusion_err!("a scan that cannot be limited"))
}

/// The workers of the stage's largest scan; the engine's choice where a stage has none.
pub(crate) fn route(event: RouteTasksEvent<'_>) -> Option<Result<RouteTasksEventResponse>> {
    let mut largest: Option<TasksExec> = None;
    let found = event.plan.apply(|node| {
        if let Some(tasks) = tasks_of(node)
            && largest
                .as_ref()
                .is_none_or(|l| l.offsets() < tasks.offsets())
        {
            largest = Some(tasks.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    if let Err(error) = found {
        return Some(Err(error));
    }
    let urls: Vec<Url> = largest?.tasks.iter().map(|(url, _)| url.clone()).collect();
    (urls.len() == event.task_count).then(|| Ok(RouteTasksEventResponse::new(urls)))
}
