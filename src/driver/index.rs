//! `CREATE INDEX ON topic (expression, …) WITH (location = '…')`, in a job or by itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNode;
use datafusion::common::utils::quote_identifier;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, CreateIndex, OrderByOptions, Statement as SqlStatement, Value,
};

use super::{Limits, MicroBatch, RunSummary, Stop, Trigger, job};
use crate::decode::{Column, OnBadRow};
use crate::error::{Error, Result, query_error};
use crate::index::{BLOCK_OFFSETS, Definition, IndexSink, Indexed, Kind, MOST_BLOCK_OFFSETS};
use crate::sink::Sink;
use crate::statement;
use crate::table::KafkaTable;

/// What the job of [`create_index`] is called.
const JOB: &str = "index";
/// Where its log is, within the index.
const LOG: &str = "_checkpoint";
/// What it takes at a time, so that an index of a long topic that is not finished is not begun again.
const BATCH_OFFSETS: u64 = 100_000_000;

/// Makes the index of a `CREATE INDEX` statement, or brings it up to what the topic has now.
///
/// It runs a job with the name `index`, whose log is in the index. A job file with the same statement keeps an index up
/// to date; if it begins with an index that is there, give it this name.
///
/// # Errors
/// As [`MicroBatchBuilder::build`](super::MicroBatchBuilder::build) and [`MicroBatch::run`].
pub async fn create_index(context: &SessionContext, statement: &str) -> Result<RunSummary> {
    let SqlStatement::CreateIndex(create) = job::parse(context, statement)? else {
        return Err(refused(&format!("found another statement: {statement}")));
    };
    let (location, _) = options(&create)?;
    let limits = Limits {
        max_offsets: Some(BATCH_OFFSETS),
        ..Limits::default()
    };
    let job = MicroBatch::builder(context.clone(), JOB)
        .checkpoint(format!("{}/{LOG}", location.trim_end_matches('/')))
        .trigger(Trigger::AvailableNow)
        .limits(limits)
        .insert(statement);
    job.build().await?.run(&Stop::new()).await
}

/// The columns that the sink takes before the values of the expressions.
const OWN: [Column; 4] = [
    Column::Topic,
    Column::Partition,
    Column::Offset,
    Column::Timestamp,
];

/// The sink of the index, and the query whose rows it takes.
///
/// # Errors
/// When the statement says something else than which index is made, or the table or an expression cannot be
/// indexed.
pub(super) async fn plan(
    context: &SessionContext,
    create: &CreateIndex,
) -> Result<(Arc<dyn Sink>, LogicalPlan)> {
    check_clauses(create)?;
    let (location, block_offsets) = options(create)?;
    let name = create.table_name.to_string();
    let provider = context.table_provider(name.as_str()).await;
    let provider = provider.map_err(query_error)?;
    let Some(table) = provider.downcast_ref::<KafkaTable>() else {
        return Err(refused(&format!(
            "{name} is no topic and no table STORED AS KAFKA"
        )));
    };
    let expressions = expressions(create)?;
    let (query, source) = query(context, &name, table, &expressions).await?;
    let schema = query.schema();
    let indexed = expressions.into_iter().zip(&schema.fields()[OWN.len()..]);
    let indexed = indexed.map(|(sql, field)| match Kind::of(field.data_type()) {
        Some(kind) => Ok(Indexed { sql, kind }),
        None => Err(refused(&format!(
            "{sql} is of the type {}, of which equal values may differ: CAST it to text or a whole number",
            field.data_type()
        ))),
    });
    let on_bad_row = match table.decoding() {
        None => OnBadRow::Fail,
        Some(_) => table.decoder().bad_rows().on,
    };
    let definition = Definition::new(
        table.topics().to_string(),
        table.isolation().to_string(),
        block_offsets,
        table.index_decoding()?,
        on_bad_row.to_string(),
        indexed.collect::<Result<_>>()?,
    );
    let policy = crate::policy::of(context.state().config());
    policy.check_location("the index", &location)?;
    let sink = IndexSink::new(&location, definition, &source)?;
    Ok((Arc::new(sink), query))
}

fn refused(what: &str) -> Error {
    Error::invalid(format!("CREATE INDEX: {what}"))
}

fn check_clauses(create: &CreateIndex) -> Result<()> {
    let others = create.unique
        || create.concurrently
        || create.if_not_exists
        || create.using.is_some()
        || create.nulls_distinct.is_some()
        || create.predicate.is_some()
        || !create.include.is_empty()
        || !create.index_options.is_empty()
        || !create.alter_options.is_empty();
    match others {
        true => Err(refused(
            "it is CREATE INDEX ON topic (expression, …) WITH (location = 'URL', block_offsets = 16384), without \
             UNIQUE, CONCURRENTLY, IF NOT EXISTS, USING, INCLUDE and WHERE",
        )),
        false => Ok(()),
    }
}

/// Where the index is, and the offsets of a block.
fn options(create: &CreateIndex) -> Result<(String, i64)> {
    let (mut location, mut block_offsets) = (None, BLOCK_OFFSETS);
    for option in &create.with {
        let ast::Expr::BinaryOp {
            left,
            op: BinaryOperator::Eq,
            right,
        } = option
        else {
            return Err(refused(&format!(
                "WITH has options as name = value, found {option}"
            )));
        };
        let value = match &**right {
            ast::Expr::Value(value) => match &value.value {
                Value::SingleQuotedString(text) => text.clone(),
                Value::Number(number, _) => number.to_string(),
                other => other.to_string(),
            },
            other => other.to_string(),
        };
        match left.to_string().as_str() {
            "location" => location = Some(value),
            "block_offsets" => {
                let offsets = value.parse().ok();
                let offsets = offsets.filter(|n| (16..=MOST_BLOCK_OFFSETS).contains(n));
                block_offsets = offsets.ok_or_else(|| {
                    let expected = format!("a number from 16 to {MOST_BLOCK_OFFSETS}");
                    Error::option_value("block_offsets", &value, &expected)
                })?;
            }
            other => {
                return Err(Error::unknown_option(
                    other,
                    ["location", "block_offsets"],
                    || "an index has location and block_offsets".to_owned(),
                ));
            }
        }
    }
    match location {
        Some(location) => Ok((location, block_offsets)),
        None => Err(refused(
            "WITH (location = '…') says into which folder or URL",
        )),
    }
}

/// The texts of the expressions.
fn expressions(create: &CreateIndex) -> Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut expressions = vec![];
    for column in &create.columns {
        let plain = column.operator_class.is_none()
            && column.column.options == OrderByOptions::default()
            && column.column.with_fill.is_none();
        let mut expr = &column.column.expr;
        // PostgreSQL has parentheses around what is no column.
        while let ast::Expr::Nested(inner) = expr {
            expr = inner;
        }
        let sql = expr.to_string();
        if !plain {
            return Err(refused(&format!(
                "{column}: an expression has no order and no operator class"
            )));
        }
        if !seen.insert(sql.clone()) {
            return Err(refused(&format!("{sql} is there twice")));
        }
        expressions.push(sql);
    }
    match expressions.is_empty() {
        true => Err(refused("it needs an expression such as key")),
        false => Ok(expressions),
    }
}

/// The rows that the sink takes, and the source that they are of.
async fn query(
    context: &SessionContext,
    name: &str,
    table: &KafkaTable,
    expressions: &[String],
) -> Result<(LogicalPlan, String)> {
    if table.source().contains('@') {
        return Err(refused(&format!(
            "the range of {name} chooses records by time, and an index is of all records: give offsets, or no range"
        )));
    }
    let decoder = table.decoder();
    let own = OWN.map(|wanted| {
        let at = decoder
            .columns()
            .iter()
            .position(|column| *column == wanted);
        let column = at.map(|at| quote_identifier(decoder.schema().field(at).name()).into_owned());
        column.ok_or_else(|| {
            let wanted = wanted.name();
            refused(&format!(
                "{name} has no column {wanted}: leave 'metadata.columns' out"
            ))
        })
    });
    let own: Vec<String> = own.into_iter().collect::<Result<_>>()?;
    let values = expressions.iter().enumerate();
    let values = values.map(|(at, sql)| format!("({sql}) AS expression_{at}"));
    let values: Vec<String> = values.collect();
    let text = format!(
        "SELECT {}, {} FROM {name}",
        own.join(", "),
        values.join(", ")
    );
    let query = statement::plan(&context.state(), &text).await;
    let query = query.map_err(query_error)?;
    let LogicalPlan::Projection(projection) = &query else {
        return Err(refused(
            "an expression is of one record: no aggregates and no sets",
        ));
    };
    let LogicalPlan::TableScan(scan) = &*projection.input else {
        return Err(refused(
            "an expression is of one record: no aggregates, windows and sets",
        ));
    };
    let source = job::source_name(scan, table);
    let changes = |expr: &Expr| match expr {
        Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Immutable,
        Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::Placeholder(_) => {
            true
        }
        _ => false,
    };
    // The statements that use the index plan its expressions anew, in sessions of their own.
    let elsewhere = SessionContext::new_with_state(context.state());
    let set = "SET datafusion.execution.time_zone = '+13:37'";
    elsewhere.sql(set).await.map_err(query_error)?;
    let there = statement::plan(&elsewhere.state(), &text).await;
    let there = there.map_err(query_error)?.expressions();
    let here = projection.expr.iter().zip(there).skip(OWN.len());
    for ((expr, there), sql) in here.zip(expressions) {
        if expr.exists(|e| Ok(changes(e))).map_err(query_error)? {
            return Err(refused(&format!(
                "{sql} may change while the record stays: only functions that always return the same, and no queries"
            )));
        }
        // It reads the time zone as it runs.
        let reads_zone = |e: &Expr| match e {
            Expr::ScalarFunction(call) => call.func.name() == "to_unixtime",
            _ => false,
        };
        let reads_zone = expr.exists(|e| Ok(reads_zone(e))).map_err(query_error)?;
        if *expr != there || reads_zone {
            return Err(refused(&format!(
                "{sql} depends on the time zone of the session: say which one is meant"
            )));
        }
    }
    Ok((query, source))
}
