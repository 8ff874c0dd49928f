//! Statements: within bounds, `CREATE EXTERNAL TABLE` with nested columns, and its text for a schema.

mod bounds;
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

use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{DataFrame, SessionContext};
use datafusion::sql::sqlparser::dialect::dialect_from_str;

use crate::error::External as _;
use crate::policy;

pub(crate) use print::columns_of;
pub use print::create_table;

/// Checks that a statement, or an expression, is not nested so deeply that parsing and planning it
/// would exhaust the stack, which ends the process, or take minutes. [`sql`], jobs and exports check
/// what they are given; whoever hands text of others to a context by other ways calls this before, and
/// [`check_plan`] behind it.
///
/// # Errors
/// When it is nested too deeply, with the bound.
pub fn check_text(state: &SessionState, text: &str) -> crate::Result<()> {
    let dialect = state.config_options().sql_parser.dialect;
    match dialect_from_str(dialect) {
        Some(dialect) => bounds::check(text, dialect.as_ref()),
        None => Ok(()),
    }
}

/// Checks that a plan is not too large with every view and every query of WITH written out where it is
/// mentioned, and that functions of fixed values, which are computed while it is optimised, make no more
/// than 16 MiB: `repeat('x', 2000000000)`.
///
/// # Errors
/// When it is too large, with the bound.
pub fn check_plan(plan: &LogicalPlan) -> crate::Result<()> {
    weight::check(plan)
}

/// Plans a query that keeps both bounds.
pub(crate) async fn plan(state: &SessionState, text: &str) -> Result<LogicalPlan> {
    check_text(state, text).external()?;
    let plan = state.create_logical_plan(text).await?;
    check_plan(&plan).external()?;
    Ok(plan)
}

/// Plans a statement as [`SessionContext::sql`] does; `CREATE EXTERNAL TABLE` may have columns of the
/// types `STRUCT<a INT, b VARCHAR>`, `INT[]`, `ARRAY<INT>` and `MAP<VARCHAR, INT>`, whatever the context's
/// dialect. The session's [`Policy`](crate::policy::Policy) judges the statement before it takes effect.
///
/// Text that is nested too deeply ([`check_text`]) and plans that are too large ([`check_plan`]) are
/// refused. The bounds fit threads with a stack of 2 MiB, as tokio's have.
///
/// # Errors
/// As [`SessionContext::sql`], when a bound is not kept, and when the policy is against it.
pub async fn sql(context: &SessionContext, text: &str) -> Result<DataFrame> {
    let state = context.state();
    let plan = match parse::defined(&state, text).await? {
        Some(plan) => plan,
        None => plan(&state, text).await?,
    };
    let plan = policy::judge(&policy::of(state.config()), plan, &state)
        .await
        .external()?;
    context.execute_logical_plan(plan).await
}

/// The text of a statement without what looks like a secret: values of secret options, passwords of URLs. A
/// text without any comes back as it is, one that is no SQL as `[redacted]`.
pub fn without_secrets(text: &str) -> String {
    crate::redact::without_secrets(text)
}
