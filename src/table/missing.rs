//! Says which topics look like one that is not there.
//!
//! DataFusion asks a schema for every name in a statement: also for names of table functions, of
//! views to be created and of tables to be dropped. A topic that does not exist must be no table
//! then, and DataFusion's own error knows no topics. So the schema notes the names that it did not
//! find, and [`NameNearestTopics`] turns the error into [`Error::UnknownTopic`] where a FROM clause
//! names one of them.

use std::cell::Cell;
use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::error::Result;
use datafusion::logical_expr::planner::{
    RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::sql::sqlparser::ast::TableFactor;

use super::catalog::KafkaSchema;
use crate::error::{Error, External as _};

/// A relation planner for the schema of a cluster's topics.
#[derive(Debug)]
pub(crate) struct NameNearestTopics {
    /// Where `schema` is registered.
    pub(crate) place: (&'static str, &'static str),
    pub(crate) schema: Arc<KafkaSchema>,
}

thread_local! {
    /// Set while DataFusion plans a relation for us, which comes through here again.
    static PLANNING: Cell<bool> = const { Cell::new(false) };
}

impl NameNearestTopics {
    fn missing(&self, reference: TableReference) -> Option<Error> {
        let (catalog, schema) = self.place;
        let reference = reference.resolve(catalog, schema);
        let here = *reference.catalog == *catalog && *reference.schema == *schema;
        here.then(|| self.schema.missing(&reference.table))
            .flatten()
    }
}

impl RelationPlanner for NameNearestTopics {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table {
            name, args: None, ..
        } = &relation
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        if PLANNING.get() {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        let reference = context.object_name_to_table_reference(name.clone())?;
        let Some(unknown) = self.missing(reference) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        // The name may also be a WITH clause's: only DataFusion knows.
        PLANNING.set(true);
        let planned = context.plan(relation.clone());
        PLANNING.set(false);
        match planned {
            Ok(_) => Ok(RelationPlanning::Original(Box::new(relation))),
            Err(_) => Err(unknown.external()),
        }
    }
}
