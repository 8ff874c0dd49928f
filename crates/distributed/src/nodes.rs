//! The plan nodes of a scan that is executed in tasks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, internal_err};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning,
    PlanProperties, ReplaceChildrenOptions, StatisticsArgs,
};
use datafusion_kafka::Error;
use datafusion_kafka::scan::KafkaScanExec;
use futures::TryStreamExt;
use url::Url;
use uuid::Uuid;

use crate::reports::Reports;

/// What the tasks of a scan share on the coordinator.
#[derive(Debug)]
pub(crate) struct ScanRun {
    id: Uuid,
    /// Counts executions, so that reports of an earlier one are not taken for those of this one.
    run: AtomicU64,
    checksums: AtomicBool,
    /// Whether the engine has executed the scan on the coordinator.
    here: AtomicBool,
}

impl ScanRun {
    pub(crate) fn new() -> Self {
        Self {
            id: Uuid::new_v4(),
            run: AtomicU64::new(0),
            checksums: AtomicBool::new(false),
            here: AtomicBool::new(false),
        }
    }

    pub(crate) fn begin(&self, checksums: bool) {
        self.run.fetch_add(1, Ordering::Relaxed);
        self.checksums.store(checksums, Ordering::Relaxed);
        self.here.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_here(&self) -> bool {
        self.here.load(Ordering::Relaxed)
    }

    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.id, self.run.load(Ordering::Relaxed))
    }

    pub(crate) fn checksums(&self) -> bool {
        self.checksums.load(Ordering::Relaxed)
    }
}

/// The scan as it was planned, with the worker of each task: what EXPLAIN shows in place of the scan. It only
/// runs where the engine finds that one task, here, is enough.
#[derive(Debug, Clone)]
pub(crate) struct TasksExec {
    pub(crate) scan: Arc<dyn ExecutionPlan>,
    pub(crate) run: Arc<ScanRun>,
    pub(crate) tasks: Vec<(Url, KafkaScanExec)>,
}

impl DisplayAs for TasksExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (most_tasks, most_ranges) = match t {
            DisplayFormatType::Verbose => (usize::MAX, usize::MAX),
            DisplayFormatType::Default | DisplayFormatType::TreeRender => (16, 8),
        };
        for (task, (worker, scan)) in self.tasks.iter().enumerate().take(most_tasks) {
            let ranges = scan.ranges().into_iter().flatten();
            let ranges = shown(ranges.map(|range| range.to_string()), most_ranges);
            write!(f, "task {task} -> worker {}: {ranges}; ", address(worker))?;
        }
        if let Some(more @ 1..) = self.tasks.len().checked_sub(most_tasks) {
            let offsets = self.tasks.iter().map(|(_, scan)| scan.offsets());
            let (least, largest) = (offsets.clone().min(), offsets.max());
            write!(
                f,
                "and {more} more tasks, all of {} to {} offsets; ",
                least.unwrap_or(0),
                largest.unwrap_or(0)
            )?;
        }
        self.scan.fmt_as(t, f)
    }
}

/// The first of these texts, and how many more there are.
pub(crate) fn shown(texts: impl Iterator<Item = String>, most: usize) -> String {
    let mut texts: Vec<String> = texts.collect();
    let more = texts.len().saturating_sub(most);
    texts.truncate(most);
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
    texts.join(" ")
}

impl TasksExec {
    pub(crate) fn offsets(&self) -> u64 {
        let scan = self.scan.downcast_ref::<KafkaScanExec>();
        scan.map_or(0, KafkaScanExec::offsets)
    }
}

/// A worker as users name it.
pub(crate) fn address(worker: &Url) -> String {
    let (host, port) = (
        worker.host_str().unwrap_or("?"),
        worker.port_or_known_default(),
    );
    format!("{host}:{}", port.unwrap_or_default())
}

/// One task's part of the scan.
#[derive(Debug)]
pub(crate) struct TaskExec {
    pub(crate) scan: Arc<KafkaScanExec>,
    pub(crate) task: usize,
    pub(crate) run: Origin,
    properties: Arc<PlanProperties>,
}

/// Where a task's node is.
#[derive(Debug)]
pub(crate) enum Origin {
    /// On the coordinator, to be sent to this worker.
    Planned(Arc<ScanRun>, Url),
    /// On a worker, which reports.
    Received(Arc<Reports>, String),
}

impl TaskExec {
    /// The node on the coordinator. `whole` is the scan that it is a part of: orderings and constants that hold
    /// for all of it hold for each part, but what holds for one part need not hold for the others.
    pub(crate) fn planned(
        scan: KafkaScanExec,
        task: usize,
        run: &Arc<ScanRun>,
        worker: &Url,
        whole: &dyn ExecutionPlan,
    ) -> Self {
        let partitions = scan.properties().partitioning.partition_count();
        let properties = whole.properties().as_ref().clone();
        let properties =
            properties.with_partitioning(Partitioning::UnknownPartitioning(partitions));
        Self {
            scan: Arc::new(scan),
            task,
            run: Origin::Planned(Arc::clone(run), worker.clone()),
            properties: Arc::new(properties),
        }
    }

    /// The node on a worker.
    pub(crate) fn received(
        scan: Arc<KafkaScanExec>,
        task: usize,
        reports: &Arc<Reports>,
        key: String,
    ) -> Self {
        Self {
            properties: Arc::clone(scan.properties()),
            scan,
            task,
            run: Origin::Received(Arc::clone(reports), key),
        }
    }
}

impl DisplayAs for TaskExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Origin::Planned(_, worker) = &self.run {
            write!(f, "worker {}: ", address(worker))?;
        }
        self.scan.fmt_as(t, f)
    }
}

macro_rules! leaf {
    ($node:ident) => {
        fn name(&self) -> &'static str {
            stringify!($node)
        }

        fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
            vec![]
        }

        fn apply_expressions(
            &self,
            _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
        ) -> Result<TreeNodeRecursion> {
            Ok(TreeNodeRecursion::Continue)
        }

        fn replace_children(
            self: Arc<Self>,
            children: Vec<Arc<dyn ExecutionPlan>>,
            _options: ReplaceChildrenOptions,
        ) -> Result<Arc<dyn ExecutionPlan>> {
            match children.is_empty() {
                true => Ok(self),
                false => internal_err!("{} is a leaf and takes no children", self.name()),
            }
        }

        fn with_new_children(
            self: Arc<Self>,
            children: Vec<Arc<dyn ExecutionPlan>>,
        ) -> Result<Arc<dyn ExecutionPlan>> {
            let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            self.replace_children(children, options)
        }

        fn statistics_from_inputs(
            &self,
            input: &[Arc<Statistics>],
            args: &StatisticsArgs,
        ) -> Result<Arc<Statistics>> {
            self.scan.statistics_from_inputs(input, args)
        }
    };
}

impl ExecutionPlan for TasksExec {
    leaf!(TasksExec);

    fn properties(&self) -> &Arc<PlanProperties> {
        self.scan.properties()
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.run.here.store(true, Ordering::Relaxed);
        if let Some(scan) = self.scan.downcast_ref::<KafkaScanExec>() {
            scan.set_reports(vec![]);
        }
        self.scan.execute(partition, context)
    }

    /// None: those of the tasks come from the workers.
    fn metrics(&self) -> Option<MetricsSet> {
        None
    }
}

impl ExecutionPlan for TaskExec {
    leaf!(TaskExec);

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let stream = self.scan.execute(partition, context)?;
        let Origin::Received(reports, key) = &self.run else {
            return internal_err!("a task of a scan runs where it was planned");
        };
        let (reports, key) = (Arc::clone(reports), key.clone());
        let schema = stream.schema();
        let stream = stream.inspect_err(move |error| {
            // What is not ours comes through the engine as it is.
            if let Some(error) = Error::find(error) {
                reports.failed(&key, error);
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.scan.metrics()
    }
}
