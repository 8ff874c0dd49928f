//! Statements that were prepared, and the types of their parameters.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_pg::datatypes::{df, into_pg_type};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan};
use pgwire::api::Type;
use pgwire::api::portal::{Format, Portal};
use pgwire::api::results::FieldInfo;
use pgwire::error::PgWireResult;

use super::answer::{no_cursor, planned, read, shown_fields};
use super::run;
use super::session::Session;
use super::sqlstate;
use super::statement::{Query, Statement};

/// A statement that was prepared.
pub(super) struct Prepared {
    pub(super) text: String,
    pub(super) statement: Statement,
    /// The plan of a query, with its parameters open.
    plan: Option<LogicalPlan>,
    pub(super) parameters: Parameters,
    pub(super) fields: Vec<FieldInfo>,
}

/// The types of parameters, as the plan needs them and as clients are told.
#[derive(Default)]
pub(super) struct Parameters {
    planned: Vec<Option<DataType>>,
    pub(super) told: Vec<Type>,
}

/// Plans a statement of which clients learn the types before it runs.
pub(super) async fn prepare(
    session: &Session,
    sql: &str,
    types: &[Option<Type>],
) -> PgWireResult<Option<Prepared>> {
    let mut statements = read(session, sql)?;
    let Some(statement) = statements.pop() else {
        return Ok(None);
    };
    if !statements.is_empty() {
        let message = "cannot insert multiple commands into a prepared statement";
        return Err(sqlstate::error(sqlstate::SYNTAX_ERROR, message));
    }
    let mut prepared = Prepared {
        text: sql.to_owned(),
        plan: None,
        parameters: Parameters::default(),
        fields: vec![],
        statement,
    };
    match &prepared.statement {
        statement @ (Statement::Query(query) | Statement::Declare { query, .. }) => {
            // Planning may ask the cluster, too.
            let _place = session.shared.place().await?;
            let plan = planned(session, query).await?.into_unoptimized_plan();
            let schema = Arc::new(plan.schema().as_arrow().clone());
            let fields = run::fields(&schema, &Format::UnifiedText, session)?;
            if let Statement::Query(_) = statement {
                prepared.fields = fields;
            }
            let parameters = Parameters::of(&plan, types);
            prepared.parameters = parameters.map_err(|e| sqlstate::of_query(&e))?;
            prepared.plan = Some(plan);
        }
        Statement::Show(name) => prepared.fields = shown_fields(name),
        Statement::Fetch { cursor, .. } => {
            // Clients are told the columns now.
            let fields = session.cursor_fields(cursor);
            prepared.fields = fields.ok_or_else(|| no_cursor(cursor))?;
        }
        _ => {}
    }
    Ok(Some(prepared))
}

impl Parameters {
    /// The types that a plan finds for its parameters: what they are compared with, or cast to.
    fn of(plan: &LogicalPlan, given: &[Option<Type>]) -> Result<Self, DataFusionError> {
        let mut found: BTreeMap<usize, Option<DataType>> = BTreeMap::new();
        let place = |id: &str| {
            id.trim_start_matches('$')
                .parse::<usize>()
                .ok()?
                .checked_sub(1)
        };
        for (id, of) in plan.get_parameter_types()? {
            if let Some(at) = place(&id) {
                found.insert(at, of);
            }
        }
        plan.apply_with_subqueries(|node| {
            for expr in node.expressions() {
                expr.apply(|expr| {
                    if let Expr::Cast(cast) = expr
                        && let Expr::Placeholder(parameter) = cast.expr.as_ref()
                        && let Some(at) = place(&parameter.id)
                    {
                        let of = found.entry(at).or_default();
                        of.get_or_insert_with(|| cast.field.data_type().clone());
                    }
                    Ok(TreeNodeRecursion::Continue)
                })?;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        let count = found.keys().max().map_or(0, |last| last + 1);
        // As many as a Bind message can hold.
        if count > usize::from(u16::MAX) {
            return Err(DataFusionError::Plan(format!(
                "${count}: there are too many parameters"
            )));
        }
        let planned: Vec<Option<DataType>> =
            (0..count).map(|at| found.remove(&at).flatten()).collect();
        let told = planned.iter().enumerate().map(|(at, of)| {
            let given = given.get(at).cloned().flatten();
            let of = of.as_ref().and_then(|of| into_pg_type(of).ok());
            given.or(of).unwrap_or(Type::TEXT)
        });
        Ok(Self {
            told: told.collect(),
            planned,
        })
    }
}

/// The query of a portal with its parameters.
pub(super) async fn bound(
    session: &Session,
    portal: &Portal<Arc<Prepared>>,
    query: &Query,
) -> PgWireResult<DataFrame> {
    let prepared = &portal.statement.statement;
    let plan = match &prepared.plan {
        Some(plan) if !query.explains => plan.clone(),
        _ => return planned(session, query).await,
    };
    let frame = run::again(&session.context, plan);
    if portal.parameters.is_empty() {
        return Ok(frame);
    }
    let planned: Vec<_> = prepared
        .parameters
        .planned
        .iter()
        .map(Option::as_ref)
        .collect();
    let told: Vec<_> = prepared.parameters.told.iter().map(Some).collect();
    let values = df::deserialize_parameters_with_server_types(portal, &planned, &told)?;
    let frame = frame.with_param_values(values);
    frame.map_err(|e| sqlstate::of_query(&e))
}
