//! Statements give the same rows on 2, 3 and 8 workers as on one machine.

mod examples;
mod growing;
mod queries;
mod tpch;

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::SessionContext;
use datafusion_kafka::client::memory::MemoryCluster;
use datafusion_kafka_distributed::Workers;

use crate::bed::Bed;

/// A session on this machine alone, and one for each number of workers.
pub struct Sessions {
    local: SessionContext,
    on: Vec<(usize, SessionContext)>,
    _bed: Bed,
}

impl Sessions {
    pub async fn over(cluster: MemoryCluster) -> Self {
        let bed = Bed::over(cluster, 8).await;
        let mut on = vec![];
        for workers in [2, 3, 8] {
            let listed = bed.workers[..workers].iter();
            let mut options = bed.options();
            options.workers = Workers::Listed(listed.map(|w| w.address.clone()).collect());
            on.push((workers, bed.session_with(options).await));
        }
        Self {
            local: bed.local(),
            on,
            _bed: bed,
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &SessionContext> {
        self.on
            .iter()
            .map(|(_, session)| session)
            .chain([&self.local])
    }

    /// Executes a statement without a result in all sessions.
    pub async fn set_up(&self, sql: &str) {
        for session in self.all() {
            let frame = datafusion_kafka::statement::sql(session, sql).await;
            frame.unwrap().collect().await.unwrap();
        }
    }

    /// Compares the rows of queries, in order where a query ends with ORDER BY, and returns them. All run before it fails.
    pub async fn compare(&self, queries: &[&str]) -> Vec<Vec<RecordBatch>> {
        self.compare_plans(queries, in_tasks).await
    }

    /// The same for queries that only the coordinator can execute.
    pub async fn compare_here(&self, queries: &[&str]) {
        let here = |plan: &str| match plan.contains("DistributedExec") {
            true => Err("it is executed on workers".to_owned()),
            false => Ok(()),
        };
        self.compare_plans(queries, here).await;
    }

    async fn compare_plans(
        &self,
        queries: &[&str],
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Vec<Vec<RecordBatch>> {
        let (mut results, mut wrong) = (vec![], vec![]);
        for sql in queries {
            let expected = match run(&self.local, sql).await {
                Ok((expected, _)) => expected,
                Err(error) => {
                    wrong.push(format!("{sql}: {error}"));
                    continue;
                }
            };
            for (workers, session) in &self.on {
                let found = run(session, sql).await.and_then(|(found, plan)| {
                    check(&plan).map_err(|e| format!("{e}\n{plan}"))?;
                    let (found, expected) = (text(&found, sql), text(&expected, sql));
                    match found == expected {
                        true => Ok(()),
                        false => Err(format!("{found:#?}, expected {expected:#?}\n{plan}")),
                    }
                });
                if let Err(error) = found {
                    wrong.push(format!("{workers} workers: {sql}\n{error}"));
                }
            }
            results.push(expected);
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        results
    }
}

/// Each scan of several Kafka partitions is read in several tasks. Joins that need all rows of a side in one place have that
/// side in one task, and the engine may give each side of a union a task of its own.
fn in_tasks(plan: &str) -> Result<(), String> {
    let one_place = ["null_aware", "NestedLoopJoinExec: join_type=Full"];
    let one_place = one_place.iter().any(|join| plan.contains(join));
    let mut cut = vec![];
    for line in plan.lines() {
        let Some((before, scan)) = line.split_once("KafkaScanExec: ranges=[") else {
            continue;
        };
        let (ranges, _) = scan.split_once("]]").unwrap();
        if ranges.split("], [").count() > 1 {
            let tasks = before.split("task ").skip(1);
            cut.push(tasks.filter(|task| task.contains("..")).count() > 1);
        }
    }
    let right = if one_place {
        cut.contains(&true)
    } else {
        !cut.contains(&false) || plan.contains("DistributedUnionExec: t0:[c0")
    };
    match right {
        true => Ok(()),
        false => Err(format!("scans in several tasks: {cut:?}")),
    }
}

/// The result of a query, and its plan.
async fn run(session: &SessionContext, sql: &str) -> Result<(Vec<RecordBatch>, String), String> {
    let (plan, context) = planned(session, sql).await?;
    let shown = displayable(plan.as_ref()).indent(false).to_string();
    match collect(plan, context).await {
        Ok(rows) => Ok((rows, shown)),
        Err(error) => Err(format!("{error}\n{shown}")),
    }
}

async fn planned(
    session: &SessionContext,
    sql: &str,
) -> Result<(Arc<dyn ExecutionPlan>, Arc<TaskContext>), String> {
    let failed = |error: DataFusionError| format!("{sql}: {error}");
    let frame = datafusion_kafka::statement::sql(session, sql).await;
    let frame = frame.map_err(failed)?;
    let context = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await.map_err(failed)?;
    Ok((plan, context))
}

/// Rows as lines, sorted unless the statement sorts them. Sums of floating-point numbers depend on the order of rows.
fn text(batches: &[RecordBatch], sql: &str) -> Vec<String> {
    let rounded = |column: &ArrayRef| match column.data_type() {
        DataType::Float64 => {
            let numbers = column.as_primitive::<Float64Type>();
            let rounded = |n: f64| format!("{n:.9e}").parse().unwrap();
            Arc::new(numbers.unary::<_, Float64Type>(rounded)) as ArrayRef
        }
        _ => Arc::clone(column),
    };
    let batches = batches.iter().map(|batch| {
        let columns = batch.columns().iter().map(rounded).collect();
        RecordBatch::try_new(batch.schema(), columns).unwrap()
    });
    let text = pretty_format_batches(&batches.collect::<Vec<_>>());
    let text = text.unwrap().to_string();
    let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
    let end = sql.rsplit(')').next().unwrap_or_default();
    if !end.to_uppercase().contains("ORDER BY") {
        rows.sort();
    }
    rows
}
