//! SQL statements: bounds on what they may cost, `CREATE EXTERNAL TABLE` with nested columns, and generating
//! such a statement for a schema.

mod bounds;
mod columns;
mod constants;
#[cfg(test)]
mod hostile;
mod maps;
mod parse;
mod print;
#[cfg(test)]
mod tests;
mod weight;
mod words;

use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{DataFrame, SessionContext};
use datafusion::sql::sqlparser::dialect::dialect_from_str;

use crate::error::External as _;
use crate::policy;

pub use columns::columns_there_are;
pub(crate) use print::columns_of;
pub use print::create_table;

/// Checks that a statement or an expression is not nested too deeply. Parsing and planning it could otherwise
/// exhaust the stack, which ends the process, or take minutes. [`sql`], jobs and exports check their text
/// themselves. To pass untrusted text to a context in another way, call this before, and [`check_plan`]
/// afterwards.
///
/// # Errors
/// When it is nested too deeply. The message states the bound.
pub fn check_text(state: &SessionState, text: &str) -> crate::Result<()> {
    let dialect = state.config_options().sql_parser.dialect;
    match dialect_from_str(dialect) {
        Some(dialect) => bounds::check(text, dialect.as_ref()),
        None => Ok(()),
    }
}

/// Checks that a plan is not too large when every view and every query in WITH is expanded where it is
/// mentioned. It also checks that functions of constants, which the optimiser evaluates, produce at most 16
/// MiB: `repeat('x', 2000000000)` is refused.
///
/// # Errors
/// When it is too large. The message states the bound.
pub fn check_plan(plan: &LogicalPlan) -> crate::Result<()> {
    weight::check(plan)
}

/// Plans a query and checks both bounds.
pub(crate) async fn plan(state: &SessionState, text: &str) -> Result<LogicalPlan> {
    check_text(state, text).external()?;
    let plan = state.create_logical_plan(text).await?;
    check_plan(&plan).external()?;
    Ok(plan)
}

/// Plans a statement like [`SessionContext::sql`]. In addition, `CREATE EXTERNAL TABLE` may have columns of
/// the types `STRUCT<a INT, b VARCHAR>`, `INT[]`, `ARRAY<INT>` and `MAP<VARCHAR, INT>`, whatever the
/// context's dialect. The session's [`Policy`](crate::policy::Policy) checks the statement before it takes
/// effect.
///
/// Text that is nested too deeply ([`check_text`]) and plans that are too large ([`check_plan`]) are refused.
/// The bounds suit threads with a stack of 2 MiB, like tokio's.
///
/// # Errors
/// As [`SessionContext::sql`], and when a bound is exceeded or the policy refuses the statement.
pub async fn sql(context: &SessionContext, text: &str) -> Result<DataFrame> {
    let state = context.state();
    let plan = match parse::defined(&state, text).await? {
        Some(plan) => plan,
        None => plan(&state, text).await?,
    };
    execute(context, &state, plan).await
}

/// Plans a statement like [`sql`] that only reads: a query, `EXPLAIN` of one, `SHOW`.
///
/// # Errors
/// As [`sql`], and when the statement does anything else.
pub async fn read_only(context: &SessionContext, text: &str) -> Result<DataFrame> {
    let state = context.state();
    let plan = plan(&state, text).await?;
    let reads = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    reads.verify_plan(&plan).map_err(|_| {
        let message = "only statements that read run here: SELECT, EXPLAIN and SHOW";
        DataFusionError::Plan(message.to_owned())
    })?;
    execute(context, &state, plan).await
}

async fn execute(
    context: &SessionContext,
    state: &SessionState,
    plan: LogicalPlan,
) -> Result<DataFrame> {
    let plan = policy::judge(&policy::of(state.config()), plan, state)
        .await
        .external()?;
    let explains = matches!(plan, LogicalPlan::Explain(_));
    let frame = context.execute_logical_plan(plan).await?;
    if !explains {
        return Ok(frame);
    }
    let (mut state, plan) = frame.into_parts();
    state.config_mut().set_extension(Arc::new(Explained));
    Ok(DataFrame::new(state, plan))
}

/// Marks the state of a statement that only shows its plan: an extension of its `SessionConfig`.
pub(crate) struct Explained;

/// The text of a statement without what looks like a secret: values of secret options, and passwords in URLs.
/// A text without secrets is returned unchanged, and a text that is not SQL becomes `[redacted]`.
pub fn without_secrets(text: &str) -> String {
    crate::redact::without_secrets(text)
}
