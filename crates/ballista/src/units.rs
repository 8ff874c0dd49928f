//! The plan node of a scan whose execution partitions are rows of its input.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datafusion::arrow::array::{Array, BinaryArray, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, internal_datafusion_err, internal_err};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
    Partitioning, PlanProperties, ReplaceChildrenOptions, StatisticsArgs,
};
use datafusion_kafka::scan::{Connections, KafkaScanExec, ScanFailure, ScanReport};
use datafusion_kafka::{Error, external};
use futures::{StreamExt, TryStreamExt};

/// What the name of a metric begins with that is a report. Metrics of Ballista have no labels.
const REPORT: &str = "kafka-report";

/// What an error begins with in the text that Ballista makes of it, and ends with.
const FAILURE: (&str, char) = ("[kafka-failure:", ']');

/// What an error is about that comes in place of another attempt of a stage.
pub(crate) const STAGE_AGAIN: &str = "running a stage of Ballista again";

/// Whether the task is of another attempt of its stage. Ballista begins one when an executor is lost with rows that a
/// later stage has begun to read. It then keeps the rows of the later stage's tasks that were done, which come twice
/// in the end (`StaticExecutionGraph::rollback_running_stage` of 55.0.0 leaves them in the inputs of the stage after
/// it). A task that runs again within an attempt is as it should be.
pub(crate) fn is_stage_again(context: &TaskContext) -> bool {
    // TID job/stage.attempt/task.attempt
    let task = context.task_id();
    let stage = task.as_deref().and_then(|task| task.split('/').nth(1));
    let attempt = stage
        .and_then(|stage| stage.split_once('.'))
        .map(|(_, attempt)| attempt);
    attempt.is_some_and(|attempt| attempt != "0")
}

/// Where a node is.
#[derive(Clone)]
pub(crate) enum Place {
    /// Where it was planned, or with the scheduler.
    Planned,
    /// On an executor, which has these connections.
    Received(Arc<dyn Connections>),
}

/// The partition of the node that reads a unit, and its scan, by the number of the unit.
type Units = BTreeMap<u64, (usize, Arc<KafkaScanExec>)>;

/// A scan in units, which are its execution partitions. Where it was planned, its input is the scan. What travels
/// has an in-memory table as its input: each unit is a row of a partition of its own.
///
/// It also stands above what another attempt of a stage would read, to refuse it.
pub(crate) struct KafkaUnitsExec {
    /// Tells the scans of a plan apart.
    pub(crate) key: String,
    input: Arc<dyn ExecutionPlan>,
    place: Place,
    properties: Arc<PlanProperties>,
    /// What is read or was read here, by the number of the unit.
    scans: Arc<Mutex<Units>>,
}

impl KafkaUnitsExec {
    /// The node over the scan.
    pub(crate) fn planned(key: String, scan: &Arc<dyn ExecutionPlan>) -> Self {
        Self {
            key,
            properties: Arc::clone(scan.properties()),
            input: Arc::clone(scan),
            place: Place::Planned,
            scans: Arc::default(),
        }
    }

    /// The node over units.
    pub(crate) fn over_units(
        key: String,
        schema: SchemaRef,
        input: &Arc<dyn ExecutionPlan>,
        place: Place,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            key,
            input: Arc::clone(input),
            place,
            properties: Arc::new(properties),
            scans: Arc::default(),
        }
    }

    /// The scan, where the node was planned.
    pub(crate) fn scan(&self) -> Option<&KafkaScanExec> {
        self.input.downcast_ref()
    }

    /// The node as it travels.
    pub(crate) fn to_travel(&self, checksums: bool) -> Result<Self> {
        let Some(scan) = self.scan() else {
            return internal_err!("units of a scan travel once");
        };
        let schema = Arc::new(Schema::new(vec![
            Field::new("unit", DataType::UInt64, false),
            Field::new("scan", DataType::Binary, false),
        ]));
        let units = 0..self.properties.output_partitioning().partition_count();
        let units = units.map(|unit| {
            let bytes = scan
                .of_partition(unit)?
                .encode(checksums)
                .map_err(external)?;
            let unit = Arc::new(UInt64Array::from(vec![unit as u64]));
            let bytes = Arc::new(BinaryArray::from_vec(vec![bytes.as_slice()]));
            Ok(vec![RecordBatch::try_new(
                Arc::clone(&schema),
                vec![unit, bytes],
            )?])
        });
        let units = units.collect::<Result<Vec<_>>>()?;
        let leaf: Arc<dyn ExecutionPlan> = MemorySourceConfig::try_new_exec(&units, schema, None)?;
        Ok(Self::over_units(
            self.key.clone(),
            self.schema(),
            &leaf,
            Place::Planned,
        ))
    }

    fn scans(&self) -> MutexGuard<'_, Units> {
        self.scans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for KafkaUnitsExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaUnitsExec")
            .field("key", &self.key)
            .field("input", &self.input)
            .finish_non_exhaustive()
    }
}

impl DisplayAs for KafkaUnitsExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.properties.output_partitioning().partition_count();
        write!(f, "KafkaUnitsExec: on Ballista, units={units}")
    }
}

impl ExecutionPlan for KafkaUnitsExec {
    fn name(&self) -> &'static str {
        "KafkaUnitsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
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
        let [input] = children.as_slice() else {
            return internal_err!("KafkaUnitsExec has one input, not {}", children.len());
        };
        let key = self.key.clone();
        Ok(Arc::new(match input.is::<KafkaScanExec>() {
            true => Self::planned(key, input),
            false => Self::over_units(key, self.schema(), input, self.place.clone()),
        }))
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
        let Place::Received(connections) = &self.place else {
            return internal_err!("units of a scan are executed by executors of Ballista");
        };
        if is_stage_again(&context) {
            return Err(travelling(external(Error::Unavailable {
                operation: STAGE_AGAIN.to_owned(),
                reason: "an executor was lost with rows that others need; run the statement again"
                    .to_owned(),
            })));
        }
        let connections = Arc::clone(connections);
        let scans = Arc::clone(&self.scans);
        let units = self.input.execute(partition, Arc::clone(&context))?;
        let rows = units.and_then(move |batch| {
            let rows = open(&batch, connections.as_ref()).and_then(|opened| {
                let mut streams = vec![];
                for (unit, scan) in opened {
                    let scan = Arc::new(scan);
                    streams.push(scan.execute(0, Arc::clone(&context))?);
                    let mut scans = scans.lock().unwrap_or_else(PoisonError::into_inner);
                    scans.insert(unit, (partition, scan));
                }
                Ok(futures::stream::iter(streams).flatten())
            });
            futures::future::ready(rows)
        });
        let rows = rows.try_flatten().map_err(travelling);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    /// The reports of the units that were read here: Ballista brings metrics to the client once their task is done.
    fn metrics(&self) -> Option<MetricsSet> {
        if self.scan().is_some() {
            return None;
        }
        let set = ExecutionPlanMetricsSet::new();
        for (unit, (partition, scan)) in self.scans().iter() {
            // Numbers, texts and lists.
            let report = serde_json::to_string(&scan.report()).unwrap_or_default();
            let name = format!("{REPORT} {} {unit} {report}", self.key);
            MetricBuilder::new(&set).counter(name, *partition).add(1);
        }
        Some(set.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        input: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        match self.scan() {
            Some(scan) => scan.statistics_from_inputs(input, args),
            None => Ok(Arc::new(Statistics::new_unknown(&self.schema()))),
        }
    }
}

/// The scans of units.
fn open(units: &RecordBatch, connections: &dyn Connections) -> Result<Vec<(u64, KafkaScanExec)>> {
    let numbers = units.column(0).as_any().downcast_ref::<UInt64Array>();
    let scans = units.column(1).as_any().downcast_ref::<BinaryArray>();
    let (numbers, scans) = numbers
        .zip(scans)
        .ok_or_else(|| internal_datafusion_err!("the rows are no units of a scan"))?;
    let all = (0..units.num_rows()).map(|row| {
        let scan = KafkaScanExec::decode(scans.value(row), connections).map_err(external)?;
        Ok((numbers.value(row), scan))
    });
    all.collect()
}

/// An error of ours as a text that survives being quoted.
pub(crate) fn travelling(error: DataFusionError) -> DataFusionError {
    let Some(found) = Error::find(&error) else {
        return error;
    };
    let (begin, end) = FAILURE;
    let failure = serde_json::to_vec(&ScanFailure::of(found)).unwrap_or_default();
    DataFusionError::Execution(format!("{found} {begin}{}{end}", STANDARD.encode(failure)))
}

/// The error of ours in what Ballista says of a failed job.
pub(crate) fn failure_in(text: &str) -> Option<ScanFailure> {
    let (begin, end) = FAILURE;
    let (_, rest) = text.split_once(begin)?;
    let (encoded, _) = rest.split_once(end)?;
    serde_json::from_slice(&STANDARD.decode(encoded).ok()?).ok()
}

/// The key, the unit and the report in the name of a metric.
pub(crate) fn report_in(name: &str) -> Option<(&str, usize, ScanReport)> {
    let mut parts = name.strip_prefix(REPORT)?.trim_start().splitn(3, ' ');
    let (key, unit, report) = (parts.next()?, parts.next()?, parts.next()?);
    Some((key, unit.parse().ok()?, serde_json::from_str(report).ok()?))
}
