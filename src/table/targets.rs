//! Which tables a job writes, known before they are made.
//!
//! A table that a job writes may have nothing yet to learn its columns from: no record, no schema in
//! the registry. That is no error where its columns are never read.

use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::{ResolvedTableReference, TableReference};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Statement as SqlStatement, TableObject};

use crate::statement;

/// The targets of a job's INSERT statements.
#[derive(Debug, Default)]
struct Targets(Vec<ResolvedTableReference>);

/// Tells a session which INSERT statements a job will have, before its tables are made: a Kafka table
/// that they write can then be made also where there is nothing yet to learn its columns from. Reading
/// such a table is an error that says what there was not.
///
/// Statements that do not parse are left to the job.
pub fn announce_inserts(context: &SessionContext, inserts: &[String]) {
    let state = context.state();
    let dialect = state.config_options().sql_parser.dialect;
    let parsed = |sql: &str| {
        statement::check_text(&state, sql).ok()?;
        state.sql_to_statement(sql, &dialect).ok()
    };
    let target = |sql: &String| match parsed(sql)? {
        Statement::Statement(statement) => match *statement {
            SqlStatement::Insert(insert) => match insert.table {
                TableObject::TableName(name) => Some(resolved(&state, &name.to_string().into())),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    let targets = Targets(inserts.iter().filter_map(target).collect());
    let state = context.state_ref();
    state.write().config_mut().set_extension(Arc::new(targets));
}

/// Whether a job was announced that writes the table.
pub(super) fn is_target(state: &dyn Session, name: &TableReference) -> bool {
    let targets = state.config().get_extension::<Targets>();
    targets.is_some_and(|targets| targets.0.contains(&resolved(state, name)))
}

fn resolved(state: &dyn Session, name: &TableReference) -> ResolvedTableReference {
    let catalog = &state.config_options().catalog;
    let name = name.clone();
    name.resolve(&catalog.default_catalog, &catalog.default_schema)
}
