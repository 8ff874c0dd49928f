//! Executes a plan on workers: follows its scans, says which worker failed and what it was to read, and runs
//! the plan again where that is allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
    PlanProperties, ReplaceChildrenOptions,
};
use datafusion_kafka::scan::{KafkaScanExec, ScanReport, wants_checksums};
use datafusion_kafka::{Error, Result as KafkaResult};
use futures::StreamExt;
use futures::future::join_all;
use url::Url;

use crate::coordinator::Coordinator;
use crate::nodes::{TasksExec, address};
use crate::planner::{distribute, scans_of};
use crate::service::report;

/// How often workers are asked how far they are.
const LOOK: Duration = Duration::from_secs(1);

/// Stands for the engine's node, also to `downcast_ref`.
#[derive(Clone)]
pub(crate) struct CoordinatorExec {
    coordinator: Coordinator,
    /// The plan before it was cut into tasks: what is run again.
    whole: Arc<dyn ExecutionPlan>,
    state: Arc<SessionState>,
    plan: Arc<dyn ExecutionPlan>,
    scans: Vec<TasksExec>,
}

impl fmt::Debug for CoordinatorExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CoordinatorExec").field(&self.plan).finish()
    }
}

/// What is known of the tasks of one scan, by their numbers.
type Told = BTreeMap<usize, ScanReport>;

impl CoordinatorExec {
    pub(crate) fn new(
        coordinator: &Coordinator,
        whole: &Arc<dyn ExecutionPlan>,
        state: &Arc<SessionState>,
        plan: Arc<dyn ExecutionPlan>,
        scans: Vec<TasksExec>,
    ) -> Self {
        Self {
            coordinator: coordinator.clone(),
            whole: Arc::clone(whole),
            state: Arc::clone(state),
            plan,
            scans,
        }
    }

    /// The workers that read, each with what it reads.
    fn workers(&self) -> BTreeMap<&Url, BTreeSet<String>> {
        let mut workers: BTreeMap<&Url, BTreeSet<String>> = BTreeMap::new();
        for (worker, part) in self.scans.iter().flat_map(|scan| &scan.tasks) {
            let ranges = part.ranges().into_iter().flatten();
            let all = workers.entry(worker).or_default();
            all.extend(ranges.map(|range| range.to_string()));
        }
        workers
    }

    /// Nothing has been read of any task yet.
    fn begin(&self, context: &TaskContext) {
        for scan in &self.scans {
            scan.run.begin(wants_checksums(context));
            scan.put(&Told::new());
        }
    }

    /// Asks the workers for their reports.
    ///
    /// # Errors
    /// What a scan failed with, or else that a worker does not answer.
    async fn look(&self, over: bool) -> KafkaResult<()> {
        let keys: Vec<String> = self.scans.iter().map(|scan| scan.run.key()).collect();
        let workers = self.workers();
        let asked = workers.keys().map(|worker| async {
            report(self.coordinator.channels.get(worker)?, worker, &keys, over).await
        });
        let mut told = vec![Told::new(); self.scans.len()];
        let mut silent = None;
        let mut failure = None;
        for ((worker, ranges), answer) in workers.iter().zip(join_all(asked).await) {
            let reports = match answer {
                Ok(reports) => reports,
                Err(error) => {
                    silent = silent.or_else(|| Some(lost(worker, ranges, &error)));
                    continue;
                }
            };
            for (told, report) in told.iter_mut().zip(reports) {
                told.extend(report.tasks);
                if let Some(found) = report.failure {
                    failure =
                        failure.or_else(|| Some(found.on(format!("worker {}", address(worker)))));
                }
            }
        }
        for (scan, told) in self.scans.iter().zip(&told) {
            scan.put(told);
        }
        if let Some(error) = failure.or(silent) {
            return Err(error);
        }
        let mut scans = self
            .scans
            .iter()
            .filter_map(|scan| scan.scan.downcast_ref());
        scans.try_for_each(|scan: &KafkaScanExec| scan.check_bad_rows(over))
    }

    /// What a failure of the engine comes from.
    async fn diagnose(&self, error: DataFusionError) -> Failed {
        // Errors of the scans on this machine are what they are.
        if let Some(error) = Error::find(&error) {
            return Failed::once(error.clone());
        }
        match self.look(true).await {
            // The engine's own words say less than those of the scan or of the worker that is gone.
            Err(found) => Failed {
                again: matches!(found, Error::Unavailable { .. }),
                error: DataFusionError::External(Box::new(found)),
            },
            Ok(()) => Failed {
                again: false,
                error,
            },
        }
    }

    /// Runs the plan once. `sent` is set when a batch was handed on.
    async fn run(
        &self,
        context: &Arc<TaskContext>,
        to: &tokio::sync::mpsc::Sender<Result<RecordBatch>>,
        sent: &mut bool,
    ) -> std::result::Result<(), Failed> {
        self.begin(context);
        let mut rows = match self.plan.execute(0, Arc::clone(context)) {
            Ok(rows) => rows,
            Err(error) => return Err(self.diagnose(error).await),
        };
        let watch = async {
            loop {
                tokio::time::sleep(LOOK).await;
                if let Err(error) = self.look(false).await {
                    return error;
                }
            }
        };
        let mut watch = std::pin::pin!(watch);
        loop {
            let batch = tokio::select! {
                biased;
                batch = rows.next() => batch,
                error = &mut watch => return Err(Failed {
                    again: matches!(error, Error::Unavailable { .. }),
                    error: DataFusionError::External(Box::new(error)),
                }),
            };
            match batch {
                Some(Ok(batch)) => {
                    *sent = true;
                    // Whoever wanted the rows has gone.
                    if to.send(Ok(batch)).await.is_err() {
                        return Ok(());
                    }
                }
                Some(Err(error)) => return Err(self.diagnose(error).await),
                None => break,
            }
        }
        drop(rows);
        self.look(true).await.map_err(Failed::once)
    }

    /// The same with the workers that are left.
    async fn again(&self) -> Result<Self> {
        let workers = self.coordinator.workers(true).await;
        workers.map_err(|error| DataFusionError::External(Box::new(error)))?;
        for scan in &self.scans {
            scan.forget();
        }
        let mut plan = distribute(&self.whole, &self.state).await?;
        // One worker may be left, which is as good as this machine.
        if plan.output_partitioning().partition_count() > 1 {
            plan = Arc::new(CoalescePartitionsExec::new(plan));
        }
        let scans = scans_of(&plan)?;
        Ok(Self {
            plan,
            scans,
            ..self.clone()
        })
    }
}

/// Why a run has failed, and whether another may succeed.
struct Failed {
    error: DataFusionError,
    again: bool,
}

impl Failed {
    fn once(error: Error) -> Self {
        Self {
            error: DataFusionError::External(Box::new(error)),
            again: false,
        }
    }
}

fn lost(worker: &Url, ranges: &BTreeSet<String>, error: &Error) -> Error {
    const MOST: usize = 10;
    let mut shown: Vec<&str> = ranges.iter().take(MOST).map(String::as_str).collect();
    let more = format!("and {} more", ranges.len().saturating_sub(MOST));
    if ranges.len() > MOST {
        shown.push(&more);
    }
    Error::Unavailable {
        operation: format!("reading {} on worker {}", shown.join(" "), address(worker)),
        reason: format!("{error}; run the statement again, on the workers that are left"),
    }
}

impl TasksExec {
    /// Puts what is known of the tasks into the scan; what is not known of one is unread.
    fn put(&self, told: &Told) {
        let Some(scan) = self.scan.downcast_ref::<KafkaScanExec>() else {
            return;
        };
        if self.run.is_here() {
            return;
        }
        let tasks = self.tasks.iter().enumerate();
        let reports = tasks.map(|(task, (_, part))| match told.get(&task) {
            Some(report) => report.clone(),
            None => part.report(),
        });
        scan.set_reports(reports.collect());
    }

    /// The scan counts for itself again.
    fn forget(&self) {
        if let Some(scan) = self.scan.downcast_ref::<KafkaScanExec>() {
            scan.set_reports(vec![]);
        }
    }
}

impl DisplayAs for CoordinatorExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt_as(t, f)
    }
}

impl ExecutionPlan for CoordinatorExec {
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
        Ok(Arc::new(Self {
            plan,
            ..self.as_ref().clone()
        }))
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
        if partition != 0 {
            return datafusion::common::internal_err!(
                "a plan on workers has one partition, {partition} was asked for"
            );
        }
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.schema(), 1);
        let to = builder.tx();
        let mut exec = self.clone();
        builder.spawn(async move {
            let mut sent = false;
            let mut left = exec.coordinator.options.retries;
            loop {
                let failed = match exec.run(&context, &to, &mut sent).await {
                    Ok(()) => return Ok(()),
                    Err(failed) => failed,
                };
                if sent || !failed.again || left == 0 {
                    return Err(failed.error);
                }
                left -= 1;
                log::warn!("{}; running the statement again", failed.error);
                exec = exec.again().await?;
            }
        });
        Ok(builder.build())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.plan.metrics()
    }
}
