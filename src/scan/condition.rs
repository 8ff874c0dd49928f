//! Conditions that a scan takes over from the plan, and the hints that nodes above give while they run.
//!
//! ```text
//! FilterExec: key = 'x'        ─ phase Pre ─▶ taken over: the node goes, the scan answers for it
//! SortExec with a LIMIT, joins ─ phase Post ▶ a hint: rows that it rules out are of no use, but may come
//! ```
//!
//! What is taken over is the same expression over the same rows as in the node that went, so it fails as there.
//! A hint changes while the plan runs and may be left out: by a scan that is sent to another machine, and by one
//! that is executed again, since what a node has learned in one execution need not hold in the next.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNode;
use datafusion::physical_expr::expressions::{Column, DynamicFilterTracking};
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, conjunction};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::filter_pushdown::{
    FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};

use super::{Counted, KafkaScanExec, ScanSettings};
use crate::decode::OnBadRow;
use crate::error::{Error, Result};

/// What rows must satisfy, as far as the scan sees to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Conditions {
    /// The scan answers for these: a row for which one of them is not true is no row of the scan.
    pub(super) taken: Vec<Arc<dyn PhysicalExpr>>,
    /// Dynamic filters.
    pub(super) hints: Vec<Arc<dyn PhysicalExpr>>,
    /// How many conditions were taken over on the machine that a scan came from, and did not come with it.
    pub(super) missing: usize,
}

impl Conditions {
    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.hints.is_empty()
    }
}

impl KafkaScanExec {
    /// The conditions that the scan has taken over, over its columns. They are not among the bytes of
    /// [`encode`](Self::encode), which only count them: send them along, and give them to the scan that was
    /// [decoded](Self::decode).
    pub fn conditions(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.conditions.taken
    }

    /// The scan with the conditions that belong to it, after both have come from another machine.
    ///
    /// # Errors
    /// [`Error::Internal`] when they are not as many as were taken over there.
    pub fn with_conditions(&self, taken: Vec<Arc<dyn PhysicalExpr>>) -> Result<Self> {
        if taken.len() != self.conditions.missing {
            return Err(Error::internal(format!(
                "a scan with {} conditions was sent with {}",
                self.conditions.missing,
                taken.len()
            )));
        }
        Ok(self.under(Conditions {
            taken,
            ..Conditions::default()
        }))
    }

    /// The scan as it was before it took conditions over: a filter above a scan that has none. For engines that send
    /// scans without their conditions.
    ///
    /// # Errors
    /// When DataFusion refuses to build the filter.
    pub fn conditions_above(&self) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let plain = self.under(Conditions::default());
        if self.conditions.taken.is_empty() {
            return Ok(Arc::new(plain));
        }
        let plain = Arc::new(Self {
            fetch: None,
            ..plain
        });
        let filter = FilterExec::try_new(conjunction(self.conditions.taken.clone()), plain)?;
        let filter = Arc::new(filter) as Arc<dyn ExecutionPlan>;
        Ok(match self.fetch {
            Some(_) => filter.with_fetch(self.fetch).unwrap_or(filter),
            None => filter,
        })
    }

    /// The same scan under these conditions.
    pub(super) fn under(&self, conditions: Conditions) -> Self {
        Self {
            conditions: Arc::new(conditions),
            counted: Counted::nothing(&self.source, self.partitions.len()),
            ..self.clone()
        }
    }

    /// What becomes of the filters that nodes above would like to see applied here.
    pub(super) fn take_over(
        &self,
        phase: FilterPushdownPhase,
        filters: &[Arc<dyn PhysicalExpr>],
        config: &ConfigOptions,
    ) -> FilterPushdownPropagation<Arc<dyn ExecutionPlan>> {
        let mut conditions = self.conditions.as_ref().clone();
        let answers = filters.iter().map(|filter| {
            if !self.may_take(filter, config) {
                return PushedDown::No;
            }
            let tracking = DynamicFilterTracking::classify(filter);
            match (phase, tracking.contains_dynamic_filter()) {
                (FilterPushdownPhase::Pre, false) => {
                    conditions.taken.push(Arc::clone(filter));
                    PushedDown::Yes
                }
                (FilterPushdownPhase::Post, true) if self.is_bounded(filter) => {
                    conditions.hints.push(Arc::clone(filter));
                    PushedDown::No
                }
                _ => PushedDown::No,
            }
        });
        let answers = FilterPushdownPropagation::with_parent_pushdown_result(answers.collect());
        let (taken, hints) = (conditions.taken.len(), conditions.hints.len());
        if (taken, hints) == (self.conditions.taken.len(), self.conditions.hints.len()) {
            return answers;
        }
        answers.with_updated_node(Arc::new(self.under(conditions)))
    }

    fn may_take(&self, filter: &Arc<dyn PhysicalExpr>, config: &ConfigOptions) -> bool {
        let settings = config.extensions.get::<ScanSettings>();
        let wanted = settings.is_none_or(|settings| settings.push_down);
        let decoder = &self.source.decoder;
        // Jobs compare the ledger of a scan with that of its dead letters: it must be about records alone.
        let has_letters = decoder.keeps_bad() || decoder.bad_rows().on == OnBadRow::Dlq;
        let columns = self.projection.len();
        let known = || (collect_columns(filter).iter()).all(|column| column.index() < columns);
        // A LIMIT that the scan has already comes before the filter.
        let may = wanted && !has_letters && self.fetch.is_none();
        may && !is_volatile(filter) && !has_subquery(filter) && known()
    }
}

impl KafkaScanExec {
    /// Whether a hint is about columns that have a least and a greatest value: a join that knows its hint is used asks
    /// for both, and fails where DataFusion cannot compare two values, as those of lists and structs.
    fn is_bounded(&self, hint: &Arc<dyn PhysicalExpr>) -> bool {
        let schema = self.schema();
        let columns = collect_columns(hint);
        let nested = |column: &Column| schema.field(column.index()).data_type().is_nested();
        !columns.iter().any(nested)
    }
}

/// Whether a filter needs the result of a subquery, which does not travel with the scan.
fn has_subquery(filter: &Arc<dyn PhysicalExpr>) -> bool {
    let is_one = |expr: &Arc<dyn PhysicalExpr>| Ok(expr.is::<ScalarSubqueryExpr>());
    filter.exists(is_one).unwrap_or(true)
}
