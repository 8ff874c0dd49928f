//! Executes a plan on workers: follows its scans, says which worker failed and what it was to read, and runs
//! the plan again where that is allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::internal_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion_kafka::scan::{ExecuteElsewhere, KafkaScanExec, ScanReport, wants_checksums};
use datafusion_kafka::{Error, Result as KafkaResult, external};
use futures::StreamExt;
use futures::future::join_all;
use url::Url;

use crate::coordinator::Coordinator;
use crate::nodes::{TasksExec, address, shown};
use crate::planner::{distribute, scans_of};
use crate::service::report;
use crate::settings;

/// How often workers are asked how far they are.
const LOOK: Duration = Duration::from_secs(1);

/// Executes plans of tasks.
#[derive(Clone)]
pub(crate) struct Execution {
    coordinator: Coordinator,
    /// The plan before it was cut into tasks: what is run again.
    whole: Arc<dyn ExecutionPlan>,
    state: Arc<SessionState>,
    scans: Vec<TasksExec>,
}

impl fmt::Debug for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Execution").field(&self.scans).finish()
    }
}

/// What is known of the tasks of one scan, by their numbers.
type Told = BTreeMap<usize, ScanReport>;

impl Execution {
    pub(crate) fn new(
        coordinator: &Coordinator,
        whole: &Arc<dyn ExecutionPlan>,
        state: &Arc<SessionState>,
        scans: Vec<TasksExec>,
    ) -> Self {
        Self {
            coordinator: coordinator.clone(),
            whole: Arc::clone(whole),
            state: Arc::clone(state),
            scans,
        }
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
        let tasks = self.scans.iter().flat_map(|scan| &scan.tasks);
        let workers: BTreeSet<&Url> = tasks.map(|(worker, _)| worker).collect();
        let asked = workers.iter().map(|worker| async {
            report(self.coordinator.channels.get(worker)?, worker, &keys, over).await
        });
        let mut told = vec![Told::new(); self.scans.len()];
        let mut silent = None;
        let mut failure = None;
        for (worker, answer) in workers.iter().zip(join_all(asked).await) {
            let reports = match answer {
                Ok(reports) => reports,
                Err(error) => {
                    silent = silent.or_else(|| Some(self.lost(worker, &error)));
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
            if over && let Some(whole) = scan.scan.downcast_ref() {
                let received = told.values().flat_map(|report| &report.received);
                self.coordinator.learn(whole, received);
            }
        }
        if let Some(error) = failure.or(silent) {
            return Err(error);
        }
        let mut scans = self
            .scans
            .iter()
            .filter_map(|scan| scan.scan.downcast_ref());
        scans.try_for_each(|scan: &KafkaScanExec| {
            scan.check_budget()?;
            scan.check_bad_rows(over)
        })
    }

    /// What a failure of the engine comes from.
    async fn diagnose(&self, error: DataFusionError) -> Failed {
        // Errors of the scans on this machine are what they are.
        if let Some(error) = Error::find(&error) {
            return Failed::once(error.clone());
        }
        match self.look(true).await {
            // The engine's own words say less than those of the scan or of the worker that is gone.
            Err(found) => found.into(),
            Ok(()) => Failed {
                again: false,
                error,
            },
        }
    }

    /// Runs the plan once. `sent` is set when a batch was handed on.
    async fn run(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        context: &Arc<TaskContext>,
        to: &tokio::sync::mpsc::Sender<Result<RecordBatch>>,
        sent: &mut bool,
    ) -> std::result::Result<(), Failed> {
        self.begin(context);
        let mut rows = match plan.execute(0, Arc::clone(context)) {
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
                error = &mut watch => return Err(error.into()),
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

    /// A plan of the same for the workers that are left, and what executes it.
    async fn again(&self) -> Result<(Arc<dyn ExecutionPlan>, Self)> {
        self.coordinator.workers(true).await.map_err(external)?;
        for scan in &self.scans {
            scan.forget();
        }
        let mut plan = distribute(&self.whole, &self.state).await?;
        // One worker may be left, which is as good as this machine.
        if plan.output_partitioning().partition_count() > 1 {
            plan = Arc::new(CoalescePartitionsExec::new(plan));
        }
        let scans = scans_of(&plan)?;
        let again = Self {
            scans,
            ..self.clone()
        };
        Ok((plan, again))
    }

    /// What a worker was to read when it was lost.
    fn lost(&self, worker: &Url, error: &Error) -> Error {
        const MOST: usize = 10;
        let tasks = self.scans.iter().flat_map(|scan| &scan.tasks);
        let parts = tasks.filter(|(of, _)| of == worker);
        let ranges = parts.flat_map(|(_, part)| part.ranges().into_iter().flatten());
        let ranges: BTreeSet<String> = ranges.map(|range| range.to_string()).collect();
        Error::Unavailable {
            operation: format!(
                "reading {} on worker {}",
                shown(ranges.into_iter(), MOST),
                address(worker)
            ),
            reason: format!("{error}; run the statement again, on the workers that are left"),
        }
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
            error: external(error),
            again: false,
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            again: matches!(error, Error::Unavailable { .. }),
            error: external(error),
        }
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

impl ExecuteElsewhere for Execution {
    fn execute(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("a plan on workers has one partition, {partition} was asked for");
        }
        let context = Arc::new(settings::sent(&context)?);
        let mut builder = RecordBatchReceiverStreamBuilder::new(plan.schema(), 1);
        let to = builder.tx();
        let (mut plan, mut execution) = (Arc::clone(plan), self.clone());
        builder.spawn(async move {
            let mut sent = false;
            let mut left = execution.coordinator.options.retries;
            loop {
                let failed = match execution.run(&plan, &context, &to, &mut sent).await {
                    Ok(()) => return Ok(()),
                    Err(failed) => failed,
                };
                if sent || !failed.again || left == 0 {
                    if failed.again {
                        // The next statement is for the workers that are left.
                        execution.coordinator.forget();
                    }
                    return Err(failed.error);
                }
                left -= 1;
                log::warn!("{}; running the statement again", failed.error);
                (plan, execution) = execution.again().await?;
            }
        });
        Ok(builder.build())
    }
}
