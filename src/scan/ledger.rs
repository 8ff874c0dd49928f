//! The ledgers of a plan's scans.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;

use super::{KafkaScanExec, ScansElsewhereExec};
use crate::range::Ledger;
#[cfg(feature = "jobs")]
use crate::range::LedgerCounts;

/// What became of the offsets that the plan's scans read; cheap, and callable while the plan runs.
///
/// What a scan has not read yet is unread, so of a plan that was never executed everything is.
/// An execution partition that is executed again starts from nothing.
///
/// ```
/// use datafusion_kafka::scan;
/// # use std::sync::Arc;
/// # use datafusion::physical_plan::collect;
/// # use datafusion_kafka::client::memory::{MemoryCluster, Record};
/// # use datafusion_kafka::session::KafkaSessionBuilder;
/// # use datafusion_kafka::table::KafkaTable;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = MemoryCluster::new();
/// # cluster.create_topic("orders", 1)?;
/// # let mut transaction = cluster.begin();
/// # transaction.append("orders", 0, Record::new("a"))?;
/// # transaction.abort()?;
/// # cluster.append("orders", 0, Record::new("b"))?;
/// # let ctx = KafkaSessionBuilder::new().build()?;
/// # let table = KafkaTable::builder_with_client(Arc::new(cluster.client())).topic("orders");
/// # ctx.register_table("orders", Arc::new(table.build().await?))?;
/// let frame = ctx.sql("SELECT value FROM orders").await?;
/// let context = Arc::new(frame.task_ctx());
/// let plan = frame.create_physical_plan().await?;
/// collect(Arc::clone(&plan), context).await?;
///
/// let ledger = scan::ledger(&plan);
/// assert_eq!(ledger.total().to_string(), "1 delivered, 1 control, 1 aborted");
/// # Ok(())
/// # }
/// ```
pub fn ledger(plan: &Arc<dyn ExecutionPlan>) -> Ledger {
    let ranges = scans(plan).flat_map(|scan| scan.ledger().ranges).collect();
    Ledger { ranges }
}

/// The counts of those scans that read one source of a job.
#[cfg(feature = "jobs")]
pub(crate) fn of_source(plan: &Arc<dyn ExecutionPlan>, name: &str) -> LedgerCounts {
    scans(plan)
        .filter(|scan| scan.reads_source(name))
        .map(|scan| scan.ledger().total())
        .sum()
}

/// The scans of a plan, from left to right, also those that are executed elsewhere.
pub fn scans(plan: &Arc<dyn ExecutionPlan>) -> impl Iterator<Item = &KafkaScanExec> {
    let mut open = vec![plan];
    std::iter::from_fn(move || {
        loop {
            let plan = open.pop()?;
            match ScansElsewhereExec::of(plan) {
                Some(elsewhere) => open.extend(elsewhere.scans().iter().rev()),
                None => open.extend(plan.children().into_iter().rev()),
            }
            if let Some(scan) = plan.downcast_ref::<KafkaScanExec>() {
                return Some(scan);
            }
        }
    })
}
