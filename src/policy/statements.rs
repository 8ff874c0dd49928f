//! Decides which statements a session accepts.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::SessionState;
use datafusion::logical_expr::dml::CopyTo;
use datafusion::logical_expr::{
    DdlStatement, Explain, LogicalPlan, PlanType, Statement, ToStringifiedPlan,
};
use object_store::ObjectStoreExt;

use super::{Policy, refused};
use crate::error::{Error, Result};
use crate::redact;

/// How many streams a restricted session may split a query into.
const MOST_PARTITIONS: usize = 1024;
const PARTITIONS: &str = "datafusion.execution.target_partitions";

/// Prefixes of DataFusion settings that restricted text may change: how a query is planned, shown and cut
/// into batches. None of them affects files, memory or parsing.
const OPEN_SETTINGS: [&str; 5] = [
    "datafusion.explain.",
    "datafusion.optimizer.",
    "datafusion.execution.batch_size",
    PARTITIONS,
    "datafusion.execution.time_zone",
];

/// Formats of tables that check their LOCATION themselves.
const OWN_TABLES: [&str; 4] = ["KAFKA", "PARQUET", "POSTGRES", "SQLITE"];

/// Checks a statement before it takes effect, and removes secrets from what it will show.
///
/// # Errors
/// [`Error::Invalid`] for anything that the session may not do.
pub(crate) async fn judge(
    policy: &Policy,
    plan: LogicalPlan,
    state: &SessionState,
) -> Result<LogicalPlan> {
    let mut copies = vec![];
    let mut verdict = Ok(());
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Copy(copy) = node {
            copies.push(copy.output_url.clone());
        }
        if policy.is_restricted() {
            verdict = judge_node(policy, node);
        }
        Ok(match verdict {
            Ok(()) => TreeNodeRecursion::Continue,
            Err(_) => TreeNodeRecursion::Stop,
        })
    });
    walked.map_err(crate::error::query_error)?;
    verdict?;
    // EXPLAIN writes nothing.
    if policy.keeps_files() && !matches!(plan, LogicalPlan::Explain(_)) {
        for url in &copies {
            refuse_existing(url, state).await?;
        }
    }
    without_secrets(plan)
}

fn judge_node(policy: &Policy, node: &LogicalPlan) -> Result<()> {
    match node {
        LogicalPlan::Copy(_) => Err(refused("COPY may not write files")),
        LogicalPlan::Ddl(ddl) => judge_ddl(policy, ddl),
        LogicalPlan::Statement(Statement::SetVariable(set)) => {
            judge_setting(&set.variable)?;
            let counts = set.variable.eq_ignore_ascii_case(PARTITIONS);
            let found = set.value.trim().parse::<usize>();
            match counts && !found.is_ok_and(|n| n <= MOST_PARTITIONS) {
                true => Err(refused(&format!(
                    "{PARTITIONS} may be at most {MOST_PARTITIONS}"
                ))),
                false => Ok(()),
            }
        }
        LogicalPlan::Statement(Statement::ResetVariable(reset)) => judge_setting(&reset.variable),
        _ => Ok(()),
    }
}

fn judge_ddl(policy: &Policy, ddl: &DdlStatement) -> Result<()> {
    match ddl {
        DdlStatement::CreateExternalTable(create) => {
            let kind = create.file_type.to_ascii_uppercase();
            if OWN_TABLES.contains(&kind.as_str()) {
                return Ok(());
            }
            let mut locations = create.locations.iter();
            locations.try_for_each(|location| policy.check_location("LOCATION", location))
        }
        DdlStatement::CreateMemoryTable(_)
        | DdlStatement::CreateView(_)
        | DdlStatement::DropTable(_)
        | DdlStatement::DropView(_) => Ok(()),
        other => Err(refused(&format!(
            "the statement {} is not allowed",
            other.name()
        ))),
    }
}

fn judge_setting(name: &str) -> Result<()> {
    let name = name.to_ascii_lowercase();
    if OPEN_SETTINGS.iter().any(|open| name.starts_with(open)) {
        return Ok(());
    }
    Err(refused(&format!(
        "the setting '{name}' is fixed; settings that may be changed begin with {}",
        OPEN_SETTINGS.join(", ")
    )))
}

/// Refuses to overwrite a file.
async fn refuse_existing(url: &str, state: &SessionState) -> Result<()> {
    // If it cannot be parsed or reached, writing will fail.
    let Ok(parsed) = ListingTableUrl::parse(url) else {
        return Ok(());
    };
    let Ok(store) = state.runtime_env().object_store(parsed.object_store()) else {
        return Ok(());
    };
    match store.head(parsed.prefix()).await {
        Ok(_) => Err(Error::invalid(format!(
            "COPY: {url} exists; add --overwrite to replace it"
        ))),
        Err(_) => Ok(()),
    }
}

/// Removes secret options from the text of EXPLAIN and from the definition that a table keeps.
fn without_secrets(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Explain(explain) => {
            let masked = explain.plan.as_ref().clone().transform(|node| {
                Ok(match node {
                    LogicalPlan::Copy(copy) => Transformed::yes(LogicalPlan::Copy(masked(copy))),
                    other => Transformed::no(other),
                })
            });
            let masked = masked.map_err(crate::error::query_error)?;
            if !masked.transformed {
                return Ok(LogicalPlan::Explain(explain));
            }
            let first = masked.data.to_stringified(PlanType::InitialLogicalPlan);
            Ok(LogicalPlan::Explain(Explain {
                plan: Arc::new(masked.data),
                stringified_plans: vec![first],
                ..explain
            }))
        }
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(mut create)) => {
            let definition = create.definition.take();
            create.definition = definition.map(|text| redact::without_secrets(&text));
            Ok(LogicalPlan::Ddl(DdlStatement::CreateExternalTable(create)))
        }
        other => Ok(other),
    }
}

fn masked(mut copy: CopyTo) -> CopyTo {
    for (name, value) in &mut copy.options {
        if redact::hides(name, value) {
            redact::REDACTED.clone_into(value);
        }
    }
    copy
}
