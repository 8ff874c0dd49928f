//! Streams of rows that are staged side by side, here or by a plan on other machines.

use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as QueryResult, internal_err};
use datafusion::datasource::provider_as_source;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
    Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use futures::{StreamExt, TryStreamExt};
use tokio::task::JoinSet;

use super::*;
use crate::error::{ErrorKind, External as _, query_error};
use crate::sink::parquet::FileStaging;

/// A stream of what is staged.
pub(crate) enum Part {
    /// The rows of one execution partition for a sink.
    Rows {
        sink: Arc<dyn OpenSink>,
        batch: Arc<BatchRanges>,
        partition: usize,
        rows: SendableRecordBatchStream,
    },
    /// What a [`StageExec`] stages when it is polled.
    Staging(SendableRecordBatchStream),
}

impl Part {
    async fn stage(self, memory: &Arc<dyn MemoryPool>) -> Result<Vec<Staged>> {
        match self {
            Self::Rows {
                sink,
                batch,
                partition,
                rows,
            } => {
                let staged = sink.stage_within(&batch, partition, rows, memory);
                Ok(vec![staged.await?])
            }
            Self::Staging(mut outcomes) => {
                let mut staged = vec![];
                while let Some(rows) = outcomes.next().await {
                    let rows = rows.map_err(query_error)?;
                    for text in rows.column(0).as_string::<i32>().iter().flatten() {
                        staged.push(Outcome::of(text)?);
                    }
                }
                Ok(staged)
            }
        }
    }
}

/// Stages parts, within a memory pool, and returns what each of them staged, with its key, in no order.
///
/// # Errors
/// Those of the first part that fails; then no other one on this machine writes any more.
pub(crate) async fn stage_all<K: Send + 'static>(
    parts: impl IntoIterator<Item = (K, Part)>,
    memory: &Arc<dyn MemoryPool>,
) -> Result<Vec<(K, Vec<Staged>)>> {
    let mut running: JoinSet<Result<(K, Vec<Staged>)>> = JoinSet::new();
    for (key, part) in parts {
        let memory = Arc::clone(memory);
        running.spawn(async move { Ok((key, part.stage(&memory).await?)) });
    }
    let mut staged = vec![];
    while let Some(joined) = running.join_next().await {
        let part = joined.unwrap_or_else(|error| {
            Err(Error::internal(format!("staging rows: {error}")).because(error))
        });
        match part {
            Ok(part) => staged.push(part),
            Err(error) => {
                // Nothing may be written any more when the sinks remove what was.
                running.shutdown().await;
                return Err(error);
            }
        }
    }
    Ok(staged)
}

/// A row of a [`StageExec`], as JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Staged(Staged),
    /// The store of another machine has failed. Engines carry errors as text; this one keeps its kind.
    Failed {
        machine: String,
        kind: ErrorKind,
        message: String,
        transient: bool,
    },
}

impl Outcome {
    fn of(text: &str) -> Result<Staged> {
        match serde_json::from_str(text) {
            Ok(Self::Staged(staged)) => Ok(staged),
            Ok(Self::Failed {
                machine,
                kind,
                message,
                transient,
            }) => Err(Error::Elsewhere {
                machine,
                kind,
                message,
                transient,
            }),
            Err(error) => {
                Err(Error::internal(format!("what a plan has staged: {error}")).because(error))
            }
        }
    }

    fn row(&self, schema: SchemaRef) -> QueryResult<RecordBatch> {
        let text = serde_json::to_string(self)
            .map_err(|e| Error::internal(format!("what was staged: {e}")).because(e))
            .external()?;
        Ok(RecordBatch::try_new(
            schema,
            vec![Arc::new(StringArray::from(vec![text]))],
        )?)
    }
}

/// Stages the rows of its input. What each partition has staged is its only row.
#[derive(Debug)]
pub struct StageExec {
    input: Arc<dyn ExecutionPlan>,
    staging: FileStaging,
    /// This machine's name, where the plan was made on another.
    machine: Option<String>,
    properties: Arc<PlanProperties>,
}

impl StageExec {
    fn new(input: Arc<dyn ExecutionPlan>, staging: FileStaging, machine: Option<String>) -> Self {
        let schema = Schema::new(vec![Field::new("staged", DataType::Utf8, false)]);
        let partitions = input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.into()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            input,
            staging,
            machine,
            properties: properties.into(),
        }
    }

    /// A query whose plan stages its rows.
    pub(crate) fn plan(query: LogicalPlan, staging: FileStaging) -> Result<LogicalPlan> {
        let target = Arc::new(Target {
            staging,
            schema: Arc::new(query.schema().as_arrow().clone()),
        });
        let target = provider_as_source(target);
        LogicalPlanBuilder::insert_into(query, "staged", target, InsertOp::Append)
            .and_then(LogicalPlanBuilder::build)
            .map_err(query_error)
    }

    /// Whether other processes can stage the rows, see [`FileStaging::travels`].
    pub fn travels(&self, on_this_machine: bool) -> bool {
        self.staging.travels(on_this_machine)
    }

    /// The node without its input as bytes that [`decode`](Self::decode) of the same version reads.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it does not [travel](Self::travels).
    pub fn encode(&self) -> Result<Vec<u8>> {
        self.staging.encode()
    }

    /// The node that [`encode`](Self::encode) made the bytes of, on `machine`.
    ///
    /// # Errors
    /// As [`FileStaging::decode`].
    pub fn decode(bytes: &[u8], input: Arc<dyn ExecutionPlan>, machine: &str) -> Result<Self> {
        let staging = FileStaging::decode(bytes)?;
        Ok(Self::new(input, staging, Some(machine.to_owned())))
    }
}

impl DisplayAs for StageExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StageExec: {}", self.staging)
    }
}

impl ExecutionPlan for StageExec {
    fn name(&self) -> &'static str {
        "StageExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    /// Rows are written in the order in which they come.
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> QueryResult<TreeNodeRecursion>,
    ) -> QueryResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        let (Some(input), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("StageExec has one child");
        };
        let (staging, machine) = (self.staging.clone(), self.machine.clone());
        Ok(Arc::new(Self::new(input, staging, machine)))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> QueryResult<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, Arc::clone(&context))?;
        let (staging, machine) = (self.staging.clone(), self.machine.clone());
        let schema = self.schema();
        let of_row = Arc::clone(&schema);
        let outcome = async move {
            let failed = Arc::new(AtomicBool::new(false));
            let noted = Arc::clone(&failed);
            let of_input = rows.schema();
            let rows = rows.inspect_err(move |_| noted.store(true, Ordering::Relaxed));
            let rows = Box::pin(RecordBatchStreamAdapter::new(of_input, rows));
            let outcome = match (staging.stage(rows, context.memory_pool()).await, machine) {
                (Ok(staged), _) => Outcome::Staged(staged),
                // Errors of the input are the engine's to tell.
                (Err(error), Some(machine)) if !failed.load(Ordering::Relaxed) => Outcome::Failed {
                    machine,
                    kind: error.kind(),
                    message: error.to_string(),
                    transient: error.may_pass(),
                },
                (Err(error), _) => return Err(error.external()),
            };
            outcome.row(of_row)
        };
        let outcome = futures::stream::once(outcome);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, outcome)))
    }
}

/// The target of an INSERT whose plan stages.
#[derive(Debug)]
struct Target {
    staging: FileStaging,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for Target {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        internal_err!("what is staged is not read")
    }

    async fn insert_into(
        &self,
        _: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        _: InsertOp,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(StageExec::new(input, self.staging.clone(), None)))
    }
}
