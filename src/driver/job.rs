//! A job: SQL statements, their Kafka sources and their sinks.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::datasource::{DefaultTableSource, provider_as_source};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableScan, cast};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Insert, Statement as SqlStatement, TableObject};

use super::output::Output;
use super::source::{Source, SourcePolicy};
use super::{index, letters};
use crate::error::{Error, Result, query_error};
use crate::kafka_sink::KafkaSink;
use crate::sink::{Sink, SinkTable};
use crate::statement;
use crate::table::KafkaTable;

/// The sources, statements and sinks of a job.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) sources: Vec<Source>,
    pub(crate) outputs: Vec<Arc<Output>>,
    /// The INSERT statements, as the parser prints them.
    pub(crate) statements: Vec<String>,
}

impl Plan {
    /// Plans the INSERT statements of a job. Nothing is read from a topic.
    ///
    /// `policies` are by source, for sources whose table's options do not say enough.
    pub(crate) async fn new(
        context: &SessionContext,
        inserts: &[String],
        policies: &BTreeMap<String, SourcePolicy>,
        default_policy: Option<&SourcePolicy>,
    ) -> Result<Self> {
        let mut outputs: Vec<Output> = vec![];
        let mut statements = vec![];
        for sql in inserts {
            let statement = parse(context, sql)?;
            statements.push(statement.to_string());
            match statement {
                SqlStatement::Insert(insert) => plan_insert(context, insert, &mut outputs).await?,
                SqlStatement::CreateIndex(create) => {
                    let (sink, query) = index::plan(context, &create).await?;
                    let target = sink.target();
                    if outputs.iter().any(|output| output.sink.target() == target) {
                        return Err(Error::invalid(format!(
                            "{create}: {target} is another statement's already; an index needs a folder of its own"
                        )));
                    }
                    push(sink, query, &create.to_string(), &mut outputs)?;
                }
                other => return Err(not_an_insert(&other.to_string())),
            }
        }
        if outputs.is_empty() {
            return Err(Error::invalid(
                "a job needs at least one INSERT INTO sink SELECT … or CREATE INDEX statement",
            ));
        }
        let mut tables = vec![];
        for query in outputs.iter().flat_map(|output| &output.queries) {
            kafka_tables(query, &mut tables)?;
        }
        if tables.is_empty() {
            return Err(Error::invalid(
                "the job's queries read no Kafka topic: there is nothing to wait for; \
                 run them once with 'kafka-sql query'",
            ));
        }
        if let Some(name) = policies
            .keys()
            .find(|n| !tables.iter().any(|(t, _)| t == *n))
        {
            let names: Vec<&str> = tables.iter().map(|(n, _)| n.as_str()).collect();
            return Err(Error::invalid(format!(
                "a batch policy is given for '{name}', which is no source of the job; there are: {}",
                names.join(", ")
            )));
        }
        let mut sources = vec![];
        for (name, table) in tables {
            table.check_followable(&name)?;
            let policy = policies.get(&name).or(default_policy).cloned();
            let policy = policy.unwrap_or_else(|| SourcePolicy::Limits(table.limits().clone()));
            let table = table.named(&name);
            sources.push(Source::new(name, table, policy));
        }
        letters::add(&sources, &mut outputs).await?;
        Ok(Self {
            sources,
            outputs: outputs.into_iter().map(Arc::new).collect(),
            statements,
        })
    }
}

pub(super) fn parse(context: &SessionContext, sql: &str) -> Result<SqlStatement> {
    let state = context.state();
    statement::check_text(&state, sql)?;
    let dialect = state.config_options().sql_parser.dialect;
    let statement = state
        .sql_to_statement(sql, &dialect)
        .map_err(|e| Error::invalid(e.strip_backtrace()))?;
    match statement {
        Statement::Statement(statement) => Ok(*statement),
        other => Err(not_an_insert(&other.to_string())),
    }
}

fn not_an_insert(statement: &str) -> Error {
    Error::invalid(format!(
        "a job's queries are INSERT INTO sink SELECT … and CREATE INDEX statements, found: {statement}"
    ))
}

async fn plan_insert(
    context: &SessionContext,
    insert: Insert,
    outputs: &mut Vec<Output>,
) -> Result<()> {
    let shown = insert.to_string();
    let fail = |message: &str| Error::invalid(format!("{message}: {shown}"));
    if insert.overwrite || insert.on.is_some() || insert.returning.is_some() || insert.replace_into
    {
        return Err(fail(
            "INSERT in a job appends rows; OVERWRITE, REPLACE, ON CONFLICT and RETURNING are not known here \
             (sinks in databases take the option 'upsert.key')",
        ));
    }
    let TableObject::TableName(target) = &insert.table else {
        return Err(fail("INSERT needs the name of a table"));
    };
    let sink = sink_of(context, &target.to_string()).await?;
    let Some(query) = insert.source else {
        return Err(fail("INSERT needs a query"));
    };
    let state = context.state();
    let statement = Statement::Statement(Box::new(SqlStatement::Query(query)));
    let mut query = state
        .statement_to_plan(statement)
        .await
        .map_err(query_error)?;
    statement::check_plan(&query)?;
    if !insert.columns.is_empty() {
        let names: Vec<String> = insert
            .columns
            .iter()
            .map(|name| match name.0.as_slice() {
                [part] => part.as_ident().map_or(name.to_string(), |ident| {
                    if ident.quote_style.is_some() {
                        ident.value.clone()
                    } else {
                        ident.value.to_lowercase()
                    }
                }),
                _ => name.to_string(),
            })
            .collect();
        query = rename(query, &names, &shown)?;
    }
    let schema: SchemaRef = Arc::new(query.schema().as_arrow().clone());
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = schema.fields().iter().find(|f| !seen.insert(f.name())) {
        return Err(fail(&format!(
            "the query has two columns named '{}', give one of them another name with AS",
            twice.name()
        )));
    }
    push(sink, query, &shown, outputs)
}

/// Adds a query for a sink. One target is one sink: its rows are committed together.
fn push(
    sink: Arc<dyn Sink>,
    query: LogicalPlan,
    shown: &str,
    outputs: &mut Vec<Output>,
) -> Result<()> {
    let schema: SchemaRef = Arc::new(query.schema().as_arrow().clone());
    let target = sink.target();
    let Some(output) = outputs.iter_mut().find(|o| o.sink.target() == target) else {
        outputs.push(Output {
            sink,
            schema,
            queries: vec![query],
            letters_of: vec![],
        });
        return Ok(());
    };
    let query = align(query, &output.schema, shown)?;
    output.queries.push(query);
    Ok(())
}

/// The sink that a name of SQL stands for.
async fn sink_of(context: &SessionContext, name: &str) -> Result<Arc<dyn Sink>> {
    let provider = context
        .table_provider(name)
        .await
        .map_err(|error| match Error::find(&error) {
            Some(found) => found.clone(),
            None => Error::invalid(format!(
                "INSERT INTO {name}: there is no such table; make it a sink with \
                 CREATE EXTERNAL TABLE {name} STORED AS PARQUET, POSTGRES, SQLITE or KAFKA LOCATION '…'"
            )),
        })?;
    if let Some(table) = provider.downcast_ref::<SinkTable>() {
        return Ok(Arc::clone(table.sink()));
    }
    if let Some(table) = provider.downcast_ref::<KafkaTable>() {
        return Ok(Arc::new(KafkaSink::of_table(table)?));
    }
    Err(Error::invalid(format!(
        "INSERT INTO {name}: this table takes no rows of a job: sinks are tables \
         STORED AS PARQUET, POSTGRES, SQLITE or KAFKA"
    )))
}

/// Gives the columns of a query other names, by position.
fn rename(query: LogicalPlan, names: &[String], shown: &str) -> Result<LogicalPlan> {
    let columns = query.schema().columns();
    if columns.len() != names.len() {
        return Err(Error::invalid(format!(
            "INSERT names {} columns, its query has {}: {shown}",
            names.len(),
            columns.len()
        )));
    }
    let renamed = columns
        .into_iter()
        .zip(names)
        .map(|(column, name)| Expr::Column(column).alias(name));
    LogicalPlanBuilder::from(query)
        .project(renamed.collect::<Vec<_>>())
        .and_then(LogicalPlanBuilder::build)
        .map_err(query_error)
}

/// Brings the columns of a further query for a sink into the order and types of the first one's.
fn align(query: LogicalPlan, schema: &SchemaRef, shown: &str) -> Result<LogicalPlan> {
    let own: Vec<String> = query
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .collect();
    let differs = own.len() != schema.fields().len()
        || schema
            .fields()
            .iter()
            .any(|field| !own.contains(field.name()));
    if differs {
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        return Err(Error::invalid(format!(
            "all INSERT statements for one sink must have the same columns: {} before, {} here: {shown}",
            names.join(", "),
            own.join(", ")
        )));
    }
    let columns = query.schema().columns();
    let aligned = schema.fields().iter().filter_map(|field| {
        let column = columns.iter().find(|column| column.name == *field.name())?;
        let column = Expr::Column(column.clone());
        Some(cast(column, field.data_type().clone()).alias(field.name()))
    });
    let aligned: Vec<_> = aligned.collect();
    LogicalPlanBuilder::from(query)
        .project(aligned)
        .and_then(LogicalPlanBuilder::build)
        .map_err(query_error)
}

/// Collects the Kafka tables of a plan by name, each once.
fn kafka_tables(plan: &LogicalPlan, tables: &mut Vec<(String, KafkaTable)>) -> Result<()> {
    let mut clash = None;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(table) = kafka_table(scan)
        {
            let name = source_name(scan, table);
            match tables.iter().find(|(known, _)| *known == name) {
                Some((_, known)) if !known.is_same_source(table) => clash = Some(name),
                Some(_) => {}
                None => tables.push((name, table.clone())),
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(query_error)?;
    match clash {
        None => Ok(()),
        Some(name) => Err(Error::invalid(format!(
            "two sources of the job are named '{name}' and differ: \
             give each a name of its own with CREATE EXTERNAL TABLE … STORED AS KAFKA"
        ))),
    }
}

/// The plan with its Kafka tables replaced by those of `pinned`.
pub(crate) fn pin(
    plan: &LogicalPlan,
    pinned: &BTreeMap<String, Arc<KafkaTable>>,
) -> Result<LogicalPlan> {
    let replaced = plan.clone().transform_down_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = &node else {
            return Ok(Transformed::no(node));
        };
        let found = kafka_table(scan).and_then(|table| pinned.get(&source_name(scan, table)));
        let Some(found) = found else {
            return Ok(Transformed::no(node));
        };
        let provider: Arc<KafkaTable> = Arc::clone(found);
        Ok(Transformed::yes(LogicalPlan::TableScan(TableScan {
            source: provider_as_source(provider),
            ..scan.clone()
        })))
    });
    replaced.map(|plan| plan.data).map_err(query_error)
}

fn kafka_table(scan: &TableScan) -> Option<&KafkaTable> {
    let source = scan.source.as_ref() as &dyn std::any::Any;
    let source = source.downcast_ref::<DefaultTableSource>()?;
    source.table_provider.downcast_ref::<KafkaTable>()
}

/// A source's name: the table's; that of a table function is what it reads.
pub(super) fn source_name(scan: &TableScan, table: &KafkaTable) -> String {
    let name = scan.table_name.table();
    if name.ends_with("()") || name.is_empty() {
        table.topics().to_string()
    } else {
        name.to_owned()
    }
}
