//! Runs what a tool asks, and says what was read for it.
//!
//! | field | |
//! |---|---|
//! | `rows` (of `describe_topic`: `partitions`, `columns`, `json_columns`) | the rows, as objects; bytes are text, or base64 |
//! | `complete` | whether all rows are there |
//! | `stopped_by` | why not: `max_rows`, `max_bytes`, or the budget that was spent, in words |
//! | `read` | the offsets that were read, `{"topic", "partition", "start", "end"}`; they are exact |
//! | `offsets` | what became of all offsets of the ranges: `delivered`, `filtered`, `gap`, `unread`, … |
//! | `masked` | what the connection hides of these topics |
//! | `budget` | what the call was allowed |
//! | `receipt` | what `kafka-sql rerun` checks |

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionContext;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion_kafka::config::ScanBudget;
use datafusion_kafka::receipt::{Receipt, with_checksums};
use datafusion_kafka::scan::{self, ScanSettings};
use datafusion_kafka::text::{BytesAs, json_lines};
use datafusion_kafka::{Error, ErrorKind, statement};
use futures::StreamExt;
use rmcp::model::CallToolResult;
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Map, Value, json};

use super::statement::OWN_PREFIX;
use super::{Limits, McpServer};

/// What is asked: parts of an answer, each with the field that it is in.
#[derive(Debug)]
pub(super) struct Asked {
    parts: Vec<(&'static str, Part)>,
    rows: Option<usize>,
}

/// A part of an answer, by a statement.
#[derive(Debug)]
pub(super) enum Part {
    /// Its rows.
    Rows(String),
    /// The columns of its rows, of which none is read.
    Columns(String),
    /// The same, or the reason why it has none.
    ColumnsIfAny(String),
}

impl Asked {
    pub(super) fn new(parts: Vec<(&'static str, Part)>) -> Self {
        Self { parts, rows: None }
    }

    /// The rows of one statement, no more than this.
    pub(super) fn rows(sql: String, rows: Option<usize>) -> Self {
        Self {
            rows,
            ..Self::new(vec![("rows", Part::Rows(sql))])
        }
    }
}

/// The answer of a tool. A statement that fails is an answer, too.
pub(super) async fn answer(
    server: &McpServer,
    asked: Asked,
    context: RequestContext<RoleServer>,
) -> Result<CallToolResult, ErrorData> {
    let limits = Limits {
        rows: asked
            .rows
            .map_or(server.limits.rows, |rows| rows.min(server.limits.rows)),
        ..server.limits
    };
    tokio::select! {
        answered = answered(server, asked, limits) => Ok(answered),
        // Nobody waits for an answer any more.
        () = context.ct.cancelled() => Err(ErrorData::internal_error("cancelled", None)),
    }
}

async fn answered(server: &McpServer, asked: Asked, limits: Limits) -> CallToolResult {
    let mut answer = Answer::default();
    let done = async {
        let session = (server.open)()?;
        answer.budget = budget(&session, limits);
        for (field, part) in &asked.parts {
            match part {
                Part::Rows(sql) => answer.add_rows(field, &session, sql, limits).await?,
                Part::Columns(sql) => answer.add_columns(field, &session, sql).await?,
                Part::ColumnsIfAny(sql) => {
                    if let Err(reason) = answer.add_columns(field, &session, sql).await {
                        answer
                            .fields
                            .insert(format!("no_{field}"), json!(reason.to_string()));
                    }
                }
            }
        }
        Ok::<_, Failed>(())
    };
    match done.await {
        Ok(()) => CallToolResult::structured(answer.json(None)),
        Err(failed) => CallToolResult::structured_error(answer.json(Some(failed))),
    }
}

/// Why there is no answer.
#[derive(Debug)]
struct Failed(DataFusionError);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Error::find(&self.0) {
            Some(error) => error.fmt(f),
            None => f.write_str(&self.0.strip_backtrace()),
        }
    }
}

impl From<DataFusionError> for Failed {
    fn from(error: DataFusionError) -> Self {
        Self(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self(datafusion_kafka::external(error))
    }
}

impl From<arrow::error::ArrowError> for Failed {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self(error.into())
    }
}

/// What is answered so far.
#[derive(Debug, Default)]
struct Answer {
    fields: Map<String, Value>,
    rows: usize,
    bytes: usize,
    stopped_by: Option<String>,
    read: Vec<Value>,
    offsets: BTreeMap<&'static str, u64>,
    masked: Vec<String>,
    budget: Value,
    receipt: Option<Receipt>,
}

impl Answer {
    async fn add_rows(
        &mut self,
        field: &str,
        session: &SessionContext,
        sql: &str,
        limits: Limits,
    ) -> Result<(), Failed> {
        let (plan, task) = planned(session, sql).await?;
        let mut rows = vec![];
        let read = self.run(&plan, task, limits, &mut rows).await;
        self.fields.insert(field.to_owned(), Value::Array(rows));
        self.note(sql, &plan).await;
        read
    }

    async fn add_columns(
        &mut self,
        field: &str,
        session: &SessionContext,
        sql: &str,
    ) -> Result<(), Failed> {
        let (plan, _) = planned(session, sql).await?;
        let schema = plan.schema();
        let fields = schema.fields().iter();
        let fields = fields.filter(|column| !column.name().starts_with(OWN_PREFIX));
        let columns = fields.map(|column| {
            json!({
                "name": column.name(),
                "type": column.data_type().to_string(),
                "nullable": column.is_nullable(),
            })
        });
        self.fields.insert(field.to_owned(), columns.collect());
        self.note_masks(&plan);
        Ok(())
    }

    async fn run(
        &mut self,
        plan: &Arc<dyn ExecutionPlan>,
        task: datafusion::execution::TaskContext,
        limits: Limits,
        rows: &mut Vec<Value>,
    ) -> Result<(), Failed> {
        let mut batches = execute_stream(Arc::clone(plan), Arc::new(with_checksums(task)))?;
        let schema = with_unique_names(&batches.schema());
        while let Some(batch) = batches.next().await {
            let batch = match batch {
                Ok(batch) => batch,
                // What was found until then is worth something.
                Err(error) if is_over_budget(&error) && scan::ledger(plan).total().passed() > 0 => {
                    self.stopped_by = Some(Failed(error).to_string());
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            let batch = RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec())?;
            for row in 0..batch.num_rows() {
                if self.rows == limits.rows {
                    self.stopped_by = Some("max_rows".to_owned());
                    return Ok(());
                }
                let mut line = vec![];
                json_lines(&batch.slice(row, 1), BytesAs::Auto, &mut line)?;
                self.bytes += line.len();
                if self.bytes > limits.bytes {
                    self.stopped_by = Some("max_bytes".to_owned());
                    return Ok(());
                }
                let row = serde_json::from_slice(&line);
                rows.push(row.map_err(|e| Error::internal(format!("a row as JSON: {e}")))?);
                self.rows += 1;
            }
        }
        Ok(())
    }

    /// Notes what was read.
    async fn note(&mut self, sql: &str, plan: &Arc<dyn ExecutionPlan>) {
        let ledger = scan::ledger(plan);
        for range in &ledger.ranges {
            let part = range.passed();
            if part.start() < part.end() {
                self.read.push(json!(part));
            }
        }
        let counts = ledger.total();
        for (name, count) in datafusion_kafka::range::LedgerCounts::NAMES
            .into_iter()
            .zip(counts.values())
        {
            *self.offsets.entry(name).or_default() += count;
        }
        self.note_masks(plan);
        let receipt = self.receipt.get_or_insert_with(Receipt::new);
        if let Err(error) = receipt.add_with_epochs(sql, plan).await {
            log::warn!("a receipt lacks a statement: {error}");
        }
    }

    /// Notes what is hidden of the topics of a plan.
    fn note_masks(&mut self, plan: &Arc<dyn ExecutionPlan>) {
        for scan in scan::scans(plan) {
            let topics = scan.snapshot().topics().iter();
            let topics: Vec<Arc<str>> = topics.map(|t| Arc::clone(&t.topic)).collect();
            let masks = scan.client().masks();
            let masks = masks.and_then(|masks| masks.among(Some(&topics)));
            self.masked.extend(masks.map(|masks| masks.to_string()));
        }
    }

    fn json(mut self, failed: Option<Failed>) -> Value {
        let mut all = std::mem::take(&mut self.fields);
        let complete = failed.is_none() && self.stopped_by.is_none();
        all.insert("complete".to_owned(), json!(complete));
        if let Some(failed) = failed {
            all.insert("error".to_owned(), json!(failed.to_string()));
        }
        if let Some(why) = self.stopped_by {
            all.insert("stopped_by".to_owned(), json!(why));
        }
        self.masked.sort();
        self.masked.dedup();
        if !self.masked.is_empty() {
            all.insert("masked".to_owned(), json!(self.masked));
        }
        all.insert("read".to_owned(), json!(self.read));
        self.offsets.retain(|_, count| *count > 0);
        all.insert("offsets".to_owned(), json!(self.offsets));
        all.insert("budget".to_owned(), self.budget);
        let receipt = self
            .receipt
            .filter(|receipt| !receipt.statements.is_empty());
        all.insert("receipt".to_owned(), json!(receipt));
        Value::Object(all)
    }
}

/// The plan of a statement that reads.
async fn planned(
    session: &SessionContext,
    sql: &str,
) -> Result<(Arc<dyn ExecutionPlan>, datafusion::execution::TaskContext), Failed> {
    let frame = statement::read_only(session, sql).await?;
    let task = frame.task_ctx();
    Ok((frame.create_physical_plan().await?, task))
}

fn is_over_budget(error: &DataFusionError) -> bool {
    Error::find(error).is_some_and(|error| error.kind() == ErrorKind::Budget)
}

/// JSON objects have each name once.
fn with_unique_names(schema: &SchemaRef) -> SchemaRef {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let fields = schema.fields().iter().map(|field| -> Field {
        let times = seen.entry(field.name().clone()).or_default();
        *times += 1;
        match *times {
            1 => field.as_ref().clone(),
            times => field
                .as_ref()
                .clone()
                .with_name(format!("{}_{times}", field.name())),
        }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn budget(session: &SessionContext, limits: Limits) -> Value {
    let mut all = json!({"max_rows": limits.rows, "max_bytes": limits.bytes});
    let state = session.state();
    let settings = state
        .config_options()
        .extensions
        .get::<ScanSettings>()
        .cloned();
    for key in ScanBudget::KEYS {
        let limit = settings
            .as_ref()
            .and_then(|settings| settings.budget.get(key));
        all[key] = json!(limit);
    }
    all
}
