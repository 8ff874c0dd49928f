//! The query of an export. It works row by row, so that each piece can be run separately.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::temporal_conversions::timestamp_ms_to_datetime;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;

use super::hive::HiveColumn;
use crate::decode::Column;
use crate::error::{Error, Result, out_of_memory};
use crate::policy::Policy;
use crate::range::{OffsetRange, Snapshot};
use crate::scan::over_budget;
use crate::session::KafkaSessionBuilder;
use crate::statement;
use crate::table::KafkaTable;

/// The column that carries the value of `--partition-by` through the plan.
const HIVE_VALUE: &str = "__export_partition";

/// A query that is known to work row by row.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) state: SessionState,
    plan: LogicalPlan,
    table: KafkaTable,
    snapshot: Snapshot,
    pub(super) columns: Columns,
    /// Whether one record may become several rows.
    pub(super) repeats: bool,
}

/// The columns of the files, and what is known of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) schema: SchemaRef,
    /// The name in Hive folders. Their values are one more column of the query's rows.
    pub(super) folders: Option<String>,
    /// The columns with the record's offset and timestamp, if the query has them.
    pub(super) offset: Option<usize>,
    pub(super) timestamp: Option<usize>,
}

impl Query {
    /// Plans a query over the rows of `table`, which it refers to as `name`.
    ///
    /// # Errors
    /// When the query is invalid or does not work row by row.
    pub(super) async fn plan(
        name: &str,
        table: &KafkaTable,
        sql: Option<&str>,
        partition_by: Option<&str>,
        snapshot: &Snapshot,
        runtime: Option<Arc<RuntimeEnv>>,
        policy: &Policy,
    ) -> Result<Self> {
        // One stream reads a piece from its first offset to its last.
        let config = SessionConfig::new().with_target_partitions(1);
        let mut session = KafkaSessionBuilder::new()
            .config(config)
            .policy(policy.clone());
        if let Some(runtime) = runtime {
            session = session.runtime(runtime);
        }
        let context = session.build()?;
        let provider: Arc<dyn TableProvider> = Arc::new(table.clone());
        let reference = TableReference::bare(name);
        context
            .register_table(reference.clone(), Arc::clone(&provider))
            .map_err(|e| planning(&e))?;
        let mut state = context.state();
        // now() is the time of the plan, in every piece and after every restart.
        state.execution_props_mut().query_execution_start_time =
            timestamp_ms_to_datetime(snapshot.created_ms()).map(|time| time.and_utc());

        let plan = match sql {
            Some(sql) => statement::plan(&state, sql).await,
            None => {
                let source = provider_as_source(Arc::clone(&provider));
                LogicalPlanBuilder::scan(reference, source, None).and_then(|b| b.build())
            }
        };
        let plan = plan.map_err(|e| planning(&e))?;
        let repeats = check(&plan, &provider, name)?;
        unique_names(&plan)?;

        let of = |column: Column| {
            let index = table.decoder().index_of(column)?;
            let name = table.decoder().schema().field(index).name();
            (0..plan.schema().fields().len())
                .find(|i| source_column(&plan, *i).as_ref() == Some(name))
        };
        let (offset, timestamp) = (of(Column::Offset), of(Column::Timestamp));
        let hive = partition_by
            .map(|text| HiveColumn::plan(text, &state, plan.schema()))
            .transpose()?;
        let plan = match &hive {
            None => plan,
            Some(hive) => {
                let columns = plan.schema().columns().into_iter().map(Expr::Column);
                let mut columns: Vec<Expr> = columns.collect();
                columns.push(hive.expr.clone().alias(HIVE_VALUE));
                let builder = LogicalPlanBuilder::from(plan).project(columns);
                builder.and_then(|b| b.build()).map_err(|e| planning(&e))?
            }
        };
        let mut query = Self {
            state,
            plan,
            table: table.clone(),
            snapshot: snapshot.clone(),
            columns: Columns {
                schema: Arc::new(Schema::empty()),
                folders: hive.map(|hive| hive.name),
                offset,
                timestamp,
            },
            repeats,
        };
        // Finds out what the rows will look like, without reading any.
        let nothing = snapshot.with_ranges(vec![])?;
        let planned = query.pinned(nothing).await?.schema();
        let columns = planned.fields().len() - usize::from(query.columns.folders.is_some());
        let fields = planned.fields().iter().take(columns);
        query.columns.schema = Arc::new(Schema::new(fields.map(plain).collect::<Vec<Field>>()));
        Ok(query)
    }

    /// The table to read.
    pub(super) fn table(&self) -> &KafkaTable {
        &self.table
    }

    /// The query over one piece.
    pub(super) async fn of_piece(&self, piece: &OffsetRange) -> Result<Arc<dyn ExecutionPlan>> {
        let snapshot = super::pieces::snapshot_of(&self.snapshot, piece)?;
        self.pinned(snapshot).await
    }

    /// Refuses an export that would read more than the budget of its table.
    pub(super) async fn check_budget(&self) -> Result<()> {
        if !self.table.has_budget() {
            return Ok(());
        }
        let whole = self.pinned(self.snapshot.clone()).await?;
        over_budget(&whole).map_or(Ok(()), Err)
    }

    async fn pinned(&self, snapshot: Snapshot) -> Result<Arc<dyn ExecutionPlan>> {
        let source = provider_as_source(Arc::new(self.table.at(snapshot)?));
        let plan = self.plan.clone().transform(|node| match node {
            LogicalPlan::TableScan(mut scan) => {
                scan.source = Arc::clone(&source);
                Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
            }
            other => Ok(Transformed::no(other)),
        });
        let plan = plan.map_err(|e| planning(&e))?.data;
        let planned = self.state.create_physical_plan(&plan).await;
        planned.map_err(|e| planning(&e))
    }
}

fn plain(field: &Arc<Field>) -> Field {
    Field::new(field.name(), field.data_type().clone(), field.is_nullable())
}

/// Converts an error of DataFusion.
pub(super) fn planning(error: &DataFusionError) -> Error {
    if let Some(ours) = Error::find(error) {
        return ours.clone();
    }
    if let Some(short) = out_of_memory(error) {
        return short;
    }
    let text = error.strip_backtrace();
    Error::query(text.lines().next().unwrap_or_default())
}

/// Refuses a plan that does not work row by row. Returns whether a record may become several rows.
fn check(plan: &LogicalPlan, table: &Arc<dyn TableProvider>, name: &str) -> Result<bool> {
    let mut repeats = false;
    let mut found = Ok(());
    let walked = plan.apply(|node| {
        let verdict = match node {
            LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {
                Ok(())
            }
            LogicalPlan::Unnest(_) => {
                repeats = true;
                Ok(())
            }
            LogicalPlan::TableScan(scan) => match source_as_provider(&scan.source) {
                Ok(found) if Arc::ptr_eq(&found, table) => Ok(()),
                _ => Err(Error::invalid(format!(
                    "--sql reads '{}'; an export reads the topic alone, as \"{name}\"",
                    scan.table_name
                ))),
            },
            LogicalPlan::Aggregate(_) => Err(refused("an aggregate (GROUP BY, count, sum …)")),
            LogicalPlan::Window(_) => Err(refused("a window function (OVER …)")),
            LogicalPlan::Sort(_) => Err(refused("ORDER BY")),
            LogicalPlan::Limit(_) => Err(refused("LIMIT or OFFSET")),
            LogicalPlan::Distinct(_) => Err(refused("DISTINCT")),
            LogicalPlan::Join(_) => Err(refused("a join or a subquery")),
            LogicalPlan::Union(_) => Err(refused("UNION")),
            LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => Err(Error::invalid(format!(
                "--sql must read the topic: SELECT … FROM \"{name}\""
            ))),
            other => Err(refused(
                other
                    .display()
                    .to_string()
                    .split([' ', ':'])
                    .next()
                    .unwrap_or("this"),
            )),
        };
        found = verdict.and_then(|()| {
            let mut found = Ok(());
            let _ = node.apply_expressions(|expr| {
                found = refuse_expression(expr, "--sql");
                Ok(match found {
                    Ok(()) => TreeNodeRecursion::Continue,
                    Err(_) => TreeNodeRecursion::Stop,
                })
            });
            found
        });
        Ok(match found {
            Ok(()) => TreeNodeRecursion::Continue,
            Err(_) => TreeNodeRecursion::Stop,
        })
    });
    walked.map_err(|e| planning(&e))?;
    found.map(|()| repeats)
}

fn refused(what: &str) -> Error {
    Error::invalid(format!(
        "--sql must work row by row: every file holds the result over its own offsets, so {what} \
         would be computed for each file by itself. Use 'kafka-sql query … -o FILE' for one result \
         over all rows, or 'kafka-sql run' for micro-batches"
    ))
}

/// Refuses an expression whose value is not always computable from one row with the same result.
pub(super) fn refuse_expression(expr: &Expr, option: &str) -> Result<()> {
    if expr.is_volatile() {
        return Err(Error::invalid(format!(
            "{option}: '{expr}' gives another value each time, so a resumed export would differ \
             from an undisturbed one; leave it out"
        )));
    }
    let mut found = Ok(());
    let walked = expr.apply(|part| {
        found = match part {
            Expr::AggregateFunction(_) => Err(refused("an aggregate")),
            Expr::WindowFunction(_) => Err(refused("a window function (OVER …)")),
            Expr::ScalarSubquery(_)
            | Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_) => Err(refused("a subquery")),
            _ => Ok(()),
        };
        Ok(match found {
            Ok(()) => TreeNodeRecursion::Continue,
            Err(_) => TreeNodeRecursion::Stop,
        })
    });
    walked.map_err(|e| planning(&e))?;
    found
}

fn unique_names(plan: &LogicalPlan) -> Result<()> {
    let fields = plan.schema().fields();
    for (i, field) in fields.iter().enumerate() {
        if fields.iter().take(i).any(|f| f.name() == field.name()) {
            return Err(Error::invalid(format!(
                "--sql has two columns named \"{0}\"; give one another name: … AS \"{0}_2\"",
                field.name()
            )));
        }
        if matches!(field.data_type(), DataType::Null) {
            return Err(Error::invalid(format!(
                "--sql: the column \"{}\" has no type; write CAST(NULL AS …)",
                field.name()
            )));
        }
    }
    Ok(())
}

/// The column of the table that output column `index` passes on unchanged.
fn source_column(plan: &LogicalPlan, index: usize) -> Option<String> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            Some(scan.projected_schema.fields().get(index)?.name().clone())
        }
        LogicalPlan::Filter(filter) => source_column(&filter.input, index),
        LogicalPlan::SubqueryAlias(alias) => source_column(&alias.input, index),
        LogicalPlan::Projection(projection) => {
            let expr = projection.expr.get(index)?.clone().unalias();
            let Expr::Column(column) = expr else {
                return None;
            };
            let input = projection.input.schema();
            let at = input.maybe_index_of_column(&column)?;
            source_column(&projection.input, at)
        }
        LogicalPlan::Unnest(unnest) => {
            // Unnested columns are never the record's offset or timestamp.
            let name = plan.schema().fields().get(index)?.name().clone();
            let input = unnest.input.schema();
            let at = input.fields().iter().position(|f| *f.name() == name)?;
            source_column(&unnest.input, at)
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "tests/query.rs"]
mod tests;
