//! Measures how large a plan is once its shared parts are expanded.
//!
//! Each mention of a view or of a query in WITH is planned as if it was written out in that place. Thirty of
//! them that each mention the previous one twice are a billion, in a few lines of text. In the plan such
//! parts are shared, so they can be counted without expanding them.

use std::collections::HashMap;
use std::ptr;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;

use super::constants::{self, Constants};
use crate::error::{Error, Result};

/// The most nodes in a plan.
pub(super) const NODES: u64 = 5_000;
/// This many columns of a node count as another node.
const COLUMNS: u64 = 32;
/// The longest path from the root to a leaf.
pub(super) const DEPTH: u64 = 1_000;

/// Checks a plan before it is optimised.
///
/// # Errors
/// When it has too many nodes, is too deep, or would evaluate too much before it runs.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    let mut known = Known::default();
    let size = size(plan, 0, &mut known);
    if known.constants.bytes() > constants::MOST_BYTES {
        return Err(Error::invalid(format!(
            "functions of fixed values (repeat, lpad, array_repeat, generate_series, …) would make more than \
             {} MiB while the statement is planned; store what is so large in a table",
            constants::MOST_BYTES >> 20
        )));
    }
    if size.nodes <= NODES && size.depth <= DEPTH {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the statement's plan is too large when every view and every query in WITH is expanded where it is \
         mentioned: {NODES} nodes, {DEPTH} deep, are allowed; store results in between as tables"
    )))
}

#[derive(Debug, Clone, Copy)]
struct Size {
    nodes: u64,
    depth: u64,
}

/// What has been counted.
#[derive(Default)]
struct Known {
    sizes: HashMap<*const LogicalPlan, Size>,
    constants: Constants,
}

/// A part that is too deep counts as too large and is not examined further.
fn size(plan: &LogicalPlan, above: u64, known: &mut Known) -> Size {
    if let Some(size) = known.sizes.get(&ptr::from_ref(plan)) {
        return *size;
    }
    let columns = plan.schema().fields().len() as u64;
    let nodes = 1 + columns / COLUMNS;
    let mut whole = Size { nodes, depth: 0 };
    if above > DEPTH {
        whole.depth = DEPTH;
        return whole;
    }
    let looked = plan.apply_expressions(|expr| {
        known.constants.add(expr);
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(looked.is_ok(), "nothing in it fails");
    let mut add = |part: &LogicalPlan| {
        let part = size(part, above + 1, known);
        whole.nodes = whole.nodes.saturating_add(part.nodes);
        whole.depth = whole.depth.max(part.depth);
    };
    plan.inputs().into_iter().for_each(&mut add);
    if let LogicalPlan::TableScan(scan) = plan
        && let Some(view) = scan.source.get_logical_plan()
    {
        add(&view);
    }
    let looked = plan.apply_subqueries(|subquery| {
        // The subquery node is made for this call, but the plan within it is shared.
        subquery.inputs().into_iter().for_each(&mut add);
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(looked.is_ok(), "nothing in it fails");
    whole.depth += 1;
    known.sizes.insert(ptr::from_ref(plan), whole);
    whole
}
