//! Computes a batch again from its logged ranges, and compares it with what the sinks hold.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};

use super::batch;
use super::digest::{Columns, Rows, count_rows};
use super::intent::Intent;
use super::run::MicroBatch;
use crate::client::epochs;
use crate::error::{Result, query_error};
use crate::sink::Held;

/// The rows of a batch for one sink, computed again.
pub struct Replay {
    /// The sink's target.
    pub target: String,
    /// The columns.
    pub schema: SchemaRef,
    /// The rows, in no order.
    pub rows: SendableRecordBatchStream,
}

/// A replay compared with what a sink holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The sink's target.
    pub target: String,
    /// Rows that the replay computed.
    pub computed: u64,
    /// Rows of the replay that the sink does not hold. `None` where the sink cannot be read back.
    pub missing: Option<u64>,
    /// Rows of the batch in the sink that the replay did not compute. `None` where the sink cannot
    /// tell the batch's rows from others.
    pub extra: Option<u64>,
    /// Some of the rows that are missing or extra, as text.
    pub examples: Vec<String>,
}

impl MicroBatch {
    /// Computes a batch of the log again, with its ranges, its window and its `now()`. Nothing is
    /// written.
    ///
    /// # Errors
    /// When the log does not have the batch, or its offsets cannot be read any more.
    pub async fn replay(&self, number: u64) -> Result<Vec<Replay>> {
        let intent = self.log.intent(number).await?;
        let next = format!("batch {number} cannot be computed again as it was");
        for source in &self.plan.sources {
            if let Some(of) = intent.sources.iter().find(|s| s.source == source.name) {
                epochs::refuse_cut(source.table.client().as_ref(), &of.snapshot, &next).await?;
            }
        }
        let mut replays = vec![];
        for output in &self.plan.outputs {
            let streams = self.streams(&intent, &output.queries).await?;
            let schema = Arc::clone(&output.schema);
            let rows = futures::stream::iter(streams).flatten();
            replays.push(Replay {
                target: output.sink.target(),
                rows: Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows)),
                schema,
            });
        }
        Ok(replays)
    }

    /// Computes a batch again and compares it with what the sinks hold.
    ///
    /// # Errors
    /// As [`replay`](Self::replay), and when a sink cannot be read.
    pub async fn replay_diff(&self, number: u64) -> Result<Vec<Difference>> {
        let intent = self.log.intent(number).await?;
        let ranges = intent.ranges("");
        let mut differences = vec![];
        for replay in self.replay(number).await? {
            let Some(output) = self
                .plan
                .outputs
                .iter()
                .find(|output| output.sink.target() == replay.target)
            else {
                continue;
            };
            let (held, exact) = match output.sink.held(&ranges, &output.schema).await? {
                Held::Exactly(rows) => (Some(rows), true),
                Held::Among(rows) => (Some(rows), false),
                Held::Unknown => (None, false),
            };
            let types = held.as_ref().map(|rows| rows.schema());
            let columns = Columns::new(&replay.schema, types.as_deref());
            let computed = count_rows(replay.rows, &columns).await?;
            let held = match held {
                Some(rows) => Some(count_rows(rows, &columns).await?),
                None => None,
            };
            differences.push(compare(replay.target, &computed, held.as_ref(), exact));
        }
        Ok(differences)
    }

    async fn streams(
        &self,
        intent: &Intent,
        queries: &[datafusion::logical_expr::LogicalPlan],
    ) -> Result<Vec<SendableRecordBatchStream>> {
        let state = batch::state_at(&self.context, intent.created_ms);
        let pinned = batch::pinned(&self.plan.sources, intent, false)?;
        let task = Arc::new(TaskContext::from(&state));
        let mut streams = vec![];
        for query in queries {
            let plan = batch::physical_plan(&state, query, &pinned, None).await?;
            streams.extend(batch::streams(&plan, &task)?);
        }
        Ok(streams)
    }
}

fn compare(
    target: String,
    computed: &Rows<'_>,
    held: Option<&Rows<'_>>,
    exact: bool,
) -> Difference {
    let missing = held.map(|held| computed.without(held));
    let extra = held.filter(|_| exact).map(|held| held.without(computed));
    let mut examples = vec![];
    if let Some((_, rows)) = &missing {
        examples.extend(rows.iter().map(|row| format!("missing: {row}")));
    }
    if let Some((_, rows)) = &extra {
        examples.extend(rows.iter().map(|row| format!("extra: {row}")));
    }
    Difference {
        target,
        computed: computed.total(),
        missing: missing.map(|(count, _)| count),
        extra: extra.map(|(count, _)| count),
        examples,
    }
}

/// Collects the rows of a replay; for tests and small batches.
impl Replay {
    /// The replay's rows in memory.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn collect(self) -> Result<Vec<arrow::array::RecordBatch>> {
        self.rows.try_collect().await.map_err(query_error)
    }
}
