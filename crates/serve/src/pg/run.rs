//! A query from its text to its last row: a place among those that run, a plan, batches, and what is said in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow_pg::datatypes::{arrow_schema_to_pg_fields, field_into_pg_type};
use arrow_pg::row_encoder::RowEncoder;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionContext;
use datafusion_kafka::statement;
use futures::StreamExt;
use pgwire::api::portal::Format;
use pgwire::api::results::FieldInfo;
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::data::DataRow;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

use super::journal::Journal;
use super::session::Session;
use super::statement::Query;
use super::{Shared, notice, sqlstate};
use crate::planning::beside;

/// Plans a query, and nothing but a query: as it was written, or else as DataFusion may understand it. With questions
/// about PostgreSQL's catalog it is the other way round, as casts to `regclass` and its like plan and then fail.
pub(super) async fn plan(
    context: &SessionContext,
    query: &Query,
) -> Result<DataFrame, DataFusionError> {
    let (context, query) = (context.clone(), query.clone());
    let planned = beside(async move { plan_here(&context, &query).await }).await;
    planned.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))?
}

async fn plan_here(context: &SessionContext, query: &Query) -> Result<DataFrame, DataFusionError> {
    let compatible = || query.compatible().filter(|text| *text != query.text);
    let asks_catalog = query.text.to_lowercase().contains("pg_");
    if asks_catalog
        && let Some(text) = compatible()
        && let Ok(frame) = statement::read_only(context, &text).await
    {
        return Ok(frame);
    }
    let error = match statement::read_only(context, &query.text).await {
        Ok(frame) => return Ok(frame),
        Err(error) => error,
    };
    if !asks_catalog
        && let Some(text) = compatible()
        && let Ok(frame) = statement::read_only(context, &text).await
    {
        return Ok(frame);
    }
    Err(error)
}

/// The query again, for another execution: with the offsets of now.
pub(super) fn again(context: &SessionContext, plan: LogicalPlan) -> DataFrame {
    DataFrame::new(context.state(), plan)
}

impl Shared {
    /// Waits for a place among the statements that run.
    pub(super) async fn place(&self) -> PgWireResult<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let options = &self.options;
        let _waiting = Waiting::new(&self.queued);
        if self.queued.load(Ordering::Relaxed) > options.max_queued {
            let message = format!(
                "{} statements run and {} wait for their end; try again later",
                options.max_statements, options.max_queued
            );
            return Err(sqlstate::error(sqlstate::INSUFFICIENT_RESOURCES, message));
        }
        let place = Arc::clone(&self.places).acquire_owned();
        match timeout(options.queue_timeout, place).await {
            Ok(Ok(place)) => Ok(place),
            // Nobody closes it.
            Ok(Err(closed)) => Err(sqlstate::error(
                sqlstate::ADMIN_SHUTDOWN,
                closed.to_string(),
            )),
            Err(_) => {
                let message = format!(
                    "waited {} s for the end of one of the {} statements that run; try again later",
                    options.queue_timeout.as_secs(),
                    options.max_statements
                );
                Err(sqlstate::error(sqlstate::INSUFFICIENT_RESOURCES, message))
            }
        }
    }
}

/// A statement in the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(queued: &'a AtomicUsize) -> Self {
        queued.fetch_add(1, Ordering::Relaxed);
        Self(queued)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// When a statement has run for as long as its user's budget allows.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    at: Instant,
    most: Duration,
}

impl Deadline {
    /// A little later than scans notice, which say what they have read by then.
    fn after(most: Duration) -> Option<Self> {
        let at = Instant::now().checked_add(most.saturating_add(Duration::from_secs(1)))?;
        Some(Self { at, most })
    }
}

/// Does the work, which need not be one of scans, before the deadline.
async fn in_time<T>(
    deadline: Option<Deadline>,
    work: impl Future<Output = PgWireResult<T>>,
) -> PgWireResult<T> {
    let Some(Deadline { at, most }) = deadline else {
        return work.await;
    };
    let late = |_| {
        let message = format!("the statement has run for longer than max_scan_time = {most:?}");
        Err(sqlstate::error(sqlstate::OVER_BUDGET, message))
    };
    timeout_at(at, work).await.unwrap_or_else(late)
}

/// A query that runs. Dropping it ends it.
pub(super) struct Running {
    fields: Arc<Vec<FieldInfo>>,
    /// What gives the rows, and the place that it has meanwhile; `None` after the last row.
    source: Option<(SendableRecordBatchStream, OwnedSemaphorePermit)>,
    end: Option<Deadline>,
    rows: Option<Rows>,
    is_told: bool,
    journal: Journal,
}

/// A batch whose rows are being taken.
struct Rows {
    batch: RecordBatch,
    taken: usize,
    encoder: RowEncoder,
}

impl Rows {
    fn of(batch: RecordBatch, fields: &Arc<Vec<FieldInfo>>) -> Self {
        Self {
            encoder: RowEncoder::new(batch.clone(), Arc::clone(fields)),
            taken: 0,
            batch,
        }
    }
}

impl Running {
    /// Plans and starts what `frame` gives.
    ///
    /// # Errors
    /// When there is no place for it, when it cannot be planned, and when it is over the budget.
    pub(super) async fn start(
        session: &Session,
        text: &str,
        format: &Format,
        frame: impl Future<Output = PgWireResult<DataFrame>> + Send,
    ) -> PgWireResult<Self> {
        let mut journal = Journal::begin(session, text);
        let started = async {
            let place = session.shared.place().await?;
            let end = session.longest.and_then(Deadline::after);
            let planned = async {
                let frame = frame.await?;
                let context = Arc::new(frame.task_ctx());
                let plan = frame.create_physical_plan().await;
                let plan = plan.map_err(|e| sqlstate::of_query(&e))?;
                let fields = fields(&plan.schema(), format, session)?;
                journal.reads(&plan);
                let batches = execute_stream(plan, context);
                Ok((fields, batches.map_err(|e| sqlstate::of_query(&e))?))
            };
            let (fields, batches) = in_time(end, planned).await?;
            Ok((fields, (batches, place), end))
        };
        match started.await {
            Ok((fields, source, end)) => Ok(Self {
                fields: Arc::new(fields),
                source: Some(source),
                end,
                rows: None,
                is_told: false,
                journal,
            }),
            Err(error) => {
                let failed = Err(error);
                journal.end(&failed);
                failed
            }
        }
    }

    pub(super) fn fields(&self) -> &[FieldInfo] {
        &self.fields
    }

    /// Gives the rows from here on in another format.
    pub(super) fn set_format(&mut self, format: &Format) {
        let fields = formatted(&self.fields, format);
        if fields == *self.fields {
            return;
        }
        self.fields = Arc::new(fields);
        self.rows = self.rows.take().map(|rows| {
            let rest = rows.batch.num_rows() - rows.taken;
            Rows::of(rows.batch.slice(rows.taken, rest), &self.fields)
        });
    }

    /// Whether it holds a place that others may wait for.
    pub(super) fn has_place(&self) -> bool {
        self.source.is_some()
    }

    /// The next row, or what the statement has failed with.
    pub(super) async fn next(&mut self) -> Option<PgWireResult<DataRow>> {
        loop {
            if let Some(rows) = &mut self.rows {
                match rows.encoder.next_row() {
                    Some(Ok(row)) => {
                        rows.taken += 1;
                        self.journal.row();
                        return Some(Ok(row));
                    }
                    Some(Err(error)) => return Some(self.fail(sqlstate::of_encoding(error))),
                    None => self.rows = None,
                }
            }
            let (batches, _) = self.source.as_mut()?;
            let next = match in_time(self.end, async { Ok(batches.next().await) }).await {
                Ok(next) => next,
                Err(late) => return Some(self.fail(late)),
            };
            match next {
                Some(Ok(batch)) => self.rows = Some(Rows::of(batch, &self.fields)),
                Some(Err(error)) => return Some(self.fail(sqlstate::of_query(&error))),
                None => {
                    self.source = None;
                    self.journal.ends(&Ok(()));
                }
            }
        }
    }

    fn fail<T>(&mut self, error: PgWireError) -> PgWireResult<T> {
        (self.source, self.rows) = (None, None);
        let failed = Err(error);
        self.journal.ends(&failed);
        failed
    }

    /// How many rows were taken.
    pub(super) fn rows(&self) -> u64 {
        self.journal.rows()
    }

    /// What became of the offsets that were read, a line for each topic; nothing when it was told before.
    pub(super) fn summaries(&mut self) -> Vec<String> {
        match std::mem::replace(&mut self.is_told, true) {
            true => vec![],
            false => notice::summaries(&self.journal.ledger()),
        }
    }
}

/// The same columns in another format.
pub(super) fn formatted(fields: &[FieldInfo], format: &Format) -> Vec<FieldInfo> {
    let fields = fields.iter().enumerate().map(|(at, field)| {
        let (name, of) = (field.name().to_owned(), field.datatype().clone());
        let field_format = format.format_for(at);
        FieldInfo::new(name, None, None, of, field_format)
            .with_format_options(Arc::clone(field.format_options()))
    });
    fields.collect()
}

/// The columns as PostgreSQL has them.
///
/// # Errors
/// When it has no type for one of them.
pub(super) fn fields(
    schema: &SchemaRef,
    format: &Format,
    session: &Session,
) -> PgWireResult<Vec<FieldInfo>> {
    for field in schema.fields() {
        if field_into_pg_type(field).is_err() {
            let message = format!(
                "column {:?}: PostgreSQL has no type for {}; CAST it, or select fields of it",
                field.name(),
                field.data_type()
            );
            return Err(sqlstate::error(sqlstate::NOT_SUPPORTED, message));
        }
    }
    arrow_schema_to_pg_fields(schema, format, Some(session.settings.format()))
}
