//! Statements of the page: they read, and no more than a look needs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Schema};
use datafusion::dataframe::DataFrame;
use datafusion::execution::context::SessionContext;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion_kafka::config::ScanBudget;
use datafusion_kafka::{Error, statement};
use futures::StreamExt;

use super::rows::{Answer, Rows};
use super::topics::TopicRow;
use super::words::{duration, number, shown};
use crate::logs;
use crate::opener::Access;
use crate::planning::beside;
use crate::problem::Problem;
use crate::service::Service;

/// What a statement of the page may read; a connection may allow less.
const BUDGET: [(&str, &str); 3] = [
    ("max.scan.records", "10M"),
    ("max.scan.bytes", "1G"),
    ("max.scan.time", "20s"),
];
/// The same in words.
pub(super) const BUDGET_IN_WORDS: &str = "10 million records, 1 GB, for 20 seconds";
/// How many rows are shown.
pub(super) const MOST_ROWS: usize = 200;
/// How long a statement may take in all, brokers that do not answer included.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a statement that somebody has typed, and logs it.
pub(super) async fn typed(service: &Service, sql: &str, by: SocketAddr) -> Answer {
    let result = run(service, sql).await;
    let said = shown(&statement::without_secrets(sql));
    let end = match &result {
        Ok(found) => found.summary.clone(),
        Err(problem) => shown(&problem.message),
    };
    log::info!(target: logs::SERVICE, "HTTP client {by} has asked: {said}: {end}");
    answer(result)
}

/// Runs a statement that the page has made.
pub(super) async fn own(service: &Service, sql: &str) -> Answer {
    answer(run(service, sql).await)
}

/// The topics of the cluster.
pub(super) async fn topics(service: &Service) -> Result<Vec<TopicRow>, Problem> {
    let sql = "SELECT topic, partitions, replication_factor FROM kafka_topics() WHERE NOT internal ORDER BY topic";
    let context = session(service)?;
    let look = async {
        let frame = read_only(&context, sql).await?;
        frame.collect().await.map_err(problem)
    };
    let batches = within(look).await?;
    let rows = batches.iter().flat_map(|batch| {
        let names = batch.column(0).as_string_view();
        let partitions = batch.column(1).as_primitive::<Int32Type>();
        let replicas = batch.column(2).as_primitive::<Int32Type>();
        let row = |row| TopicRow::new(names.value(row), partitions.value(row), replicas.value(row));
        (0..batch.num_rows()).map(row)
    });
    Ok(rows.collect())
}

/// A text as a literal of SQL.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

struct Found {
    schema: Arc<Schema>,
    batches: Vec<RecordBatch>,
    summary: String,
}

fn answer(result: Result<Found, Problem>) -> Answer {
    let rows = result.and_then(|found| {
        let rows = Rows::new(&found.schema, &found.batches, found.summary);
        rows.map_err(|error| Problem::new(format!("the rows cannot be shown: {error}")))
    });
    match rows {
        Ok(rows) => Answer::Rows(rows),
        Err(problem) => Answer::Problem(shown(&problem.message)),
    }
}

async fn run(service: &Service, sql: &str) -> Result<Found, Problem> {
    let begun = Instant::now();
    let context = session(service)?;
    within(async {
        let frame = read_only(&context, sql).await?;
        let task = Arc::new(frame.task_ctx());
        let plan = frame.create_physical_plan().await.map_err(problem)?;
        let mut stream = execute_stream(Arc::clone(&plan), task).map_err(problem)?;
        let schema = stream.schema();
        let (mut batches, mut rows, mut is_all) = (vec![], 0, true);
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(problem)?;
            let room = MOST_ROWS - rows;
            if batch.num_rows() > room {
                is_all = false;
                batches.push(batch.slice(0, room));
                rows = MOST_ROWS;
                break;
            }
            rows += batch.num_rows();
            batches.push(batch);
        }
        drop(stream);
        Ok(Found {
            schema,
            batches,
            summary: summary(&plan, rows, is_all, begun),
        })
    })
    .await
}

fn summary(plan: &Arc<dyn ExecutionPlan>, rows: usize, is_all: bool, begun: Instant) -> String {
    let shown = match (is_all, rows) {
        (true, 1) => "1 row".to_owned(),
        (true, rows) => format!("{rows} rows"),
        (false, rows) => format!("The first {rows} rows of more"),
    };
    let took = duration(begun.elapsed().as_secs_f64() * 1_000.0);
    let counts = datafusion_kafka::scan::ledger(plan).total();
    match counts.is_empty() {
        true => format!("{shown} in {took}"),
        false => format!(
            "{shown} in {took}; {} offsets: {counts}",
            number(counts.total())
        ),
    }
}

/// A session that reads the cluster of the page, within the budget.
fn session(service: &Service) -> Result<SessionContext, Problem> {
    let config = service.config();
    let chosen = config
        .http
        .as_ref()
        .and_then(|http| http.connection.clone());
    let mut names = config.connections.keys();
    let connection = match (chosen, names.next(), names.next()) {
        (Some(chosen), _, _) => chosen,
        (None, Some(only), None) => only.clone(),
        (None, None, _) => return Err(Problem::new("the service's file has no connection")),
        (None, Some(_), Some(_)) => {
            return Err(Problem::new(
                "the service has several connections; say which one the page shows: connection = \"…\" in [http]",
            ));
        }
    };
    let context = service.session(&connection, Access::Reader)?;
    let mut most = ScanBudget::default();
    for (key, value) in BUDGET {
        most.set(key, value)?;
    }
    let state = context.state_ref();
    let mut state = state.write();
    let extensions = &mut state.config_mut().options_mut().extensions;
    if let Some(settings) = extensions.get_mut::<datafusion_kafka::scan::ScanSettings>() {
        settings.budget = settings.budget.and(&most);
    }
    drop(state);
    Ok(context)
}

/// Plans a statement that changes nothing.
async fn read_only(context: &SessionContext, sql: &str) -> Result<DataFrame, Problem> {
    let (context, sql) = (context.clone(), sql.to_owned());
    let planned = beside(async move { statement::read_only(&context, &sql).await }).await;
    let planned = planned.map_err(|e| Problem::new(e.to_string()))?;
    planned.map_err(problem)
}

async fn within<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let timed = tokio::time::timeout(PATIENCE, work).await;
    timed.unwrap_or_else(|_| {
        let seconds = PATIENCE.as_secs();
        Err(Problem::new(format!(
            "nothing within {seconds} s: read less, or see whether the cluster answers"
        )))
    })
}

/// The project's own error within one of DataFusion, or the first line of that.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn problem(error: datafusion::error::DataFusionError) -> Problem {
    match Error::find(&error) {
        Some(ours) => Problem::from(ours),
        None => {
            let text = error.find_root().strip_backtrace();
            Problem::new(text.lines().next().unwrap_or_default())
        }
    }
}
