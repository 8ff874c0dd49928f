//! A piece of an export as a plan: reads it, writes its files, and tells what was written.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as QueryResult, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning,
    PlanProperties, ReplaceChildrenOptions,
};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::place::Place;
use super::query::{Columns, planning};
use super::write::{PieceProgress, Writing, Written};
use super::{ExportFormat, ExportProgress};
use crate::error::{Error, External as _, Result};
use crate::formats::{columns_of, columns_text};
use crate::range::OffsetRange;
use crate::text::BytesAs;

/// Writes the rows of its input, which reads a piece of an export, to files. Its rows say how far it is, and at
/// last what it has written.
#[derive(Debug)]
pub struct ExportExec {
    input: Arc<dyn ExecutionPlan>,
    writing: Arc<Writing>,
    piece: OffsetRange,
    properties: Arc<PlanProperties>,
}

/// A row of an [`ExportExec`], as JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Progress(PieceProgress),
    Written(Box<Written>),
}

impl Told {
    fn row(&self, schema: SchemaRef) -> QueryResult<RecordBatch> {
        let text = serde_json::to_string(self)
            .map_err(|e| Error::internal(format!("what an export tells: {e}")).because(e))
            .external()?;
        Ok(RecordBatch::try_new(
            schema,
            vec![Arc::new(StringArray::from(vec![text]))],
        )?)
    }
}

/// What travels of the node. The rest is its input.
#[derive(Serialize, Deserialize)]
struct Sent {
    url: String,
    format: ExportFormat,
    bytes: BytesAs,
    schema: String,
    folders: Option<String>,
    offset: Option<usize>,
    timestamp: Option<usize>,
    staging: Option<String>,
    piece: OffsetRange,
}

impl ExportExec {
    pub(super) fn new(
        input: Arc<dyn ExecutionPlan>,
        writing: Arc<Writing>,
        piece: OffsetRange,
    ) -> Self {
        let schema = Schema::new(vec![Field::new("told", DataType::Utf8, false)]);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.into()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            input,
            writing,
            piece,
            properties: properties.into(),
        }
    }

    /// The offsets that it writes.
    pub fn piece(&self) -> &OffsetRange {
        &self.piece
    }

    /// The node without its input as bytes that [`decode`](Self::decode) of the same version reads. They have no
    /// secret.
    ///
    /// # Errors
    /// [`Error::Invalid`] where other machines cannot have the folder.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let Writing { place, columns, .. } = self.writing.as_ref();
        let sent = Sent {
            url: place.address()?.to_owned(),
            format: self.writing.format,
            bytes: self.writing.bytes,
            schema: columns_text(&columns.schema)?,
            folders: columns.folders.clone(),
            offset: columns.offset,
            timestamp: columns.timestamp,
            staging: self.writing.staging.clone(),
            piece: self.piece.clone(),
        };
        serde_json::to_vec(&sent)
            .map_err(|e| Error::internal(format!("a piece of an export: {e}")).because(e))
    }

    /// The node that [`encode`](Self::encode) made the bytes of. The store's settings are those of the environment.
    ///
    /// # Errors
    /// [`Error::Invalid`] when these are no such bytes, or this build does not have the store.
    pub fn decode(bytes: &[u8], input: Arc<dyn ExecutionPlan>) -> Result<Self> {
        let sent: Sent = serde_json::from_slice(bytes).map_err(|e| {
            Error::invalid(format!("these bytes are no piece of an export: {e}")).because(e)
        })?;
        let writing = Writing {
            place: Place::open(&sent.url)?,
            columns: Columns {
                schema: columns_of(&sent.schema)?,
                folders: sent.folders,
                offset: sent.offset,
                timestamp: sent.timestamp,
            },
            format: sent.format,
            bytes: sent.bytes,
            staging: sent.staging,
        };
        let fields = writing.columns.schema.fields().len();
        let columns = fields + usize::from(writing.columns.folders.is_some());
        let known = [writing.columns.offset, writing.columns.timestamp];
        if input.schema().fields().len() != columns
            || known.into_iter().flatten().any(|i| i >= fields)
        {
            return Err(Error::invalid(format!(
                "these bytes are no piece of an export: {} columns are read, and {columns} written",
                input.schema().fields().len()
            )));
        }
        Ok(Self::new(input, Arc::new(writing), sent.piece))
    }

    /// What the rows of a piece say: adds to the progress, and returns what was written.
    pub(super) async fn follow(
        mut rows: SendableRecordBatchStream,
        piece: &OffsetRange,
        progress: &ExportProgress,
    ) -> Result<Written> {
        let (mut written, mut seen) = (None, PieceProgress::default());
        while let Some(rows) = rows.next().await {
            let rows = rows.map_err(|e| planning(&e))?;
            for text in rows.column(0).as_string::<i32>().iter().flatten() {
                let told = serde_json::from_str(text)
                    .map_err(|e| Error::internal(format!("what a piece tells: {e}")).because(e))?;
                match told {
                    Told::Progress(now) => advance(&mut seen, now, progress),
                    Told::Written(whole) => {
                        advance(&mut seen, whole.progress, progress);
                        written = Some(*whole);
                    }
                }
            }
        }
        let whole = |written: &Written| {
            let Written {
                piece: of, staged, ..
            } = written;
            of.range == *piece && (staged.is_empty() || staged.len() == of.files.len())
        };
        written.filter(whole).ok_or_else(|| {
            Error::internal(format!(
                "a plan for {piece} ended without having written it"
            ))
        })
    }
}

/// Counts what is new.
fn advance(seen: &mut PieceProgress, now: PieceProgress, progress: &ExportProgress) {
    for (seen, now, sum) in [
        (&mut seen.offsets, now.offsets, &progress.offsets),
        (&mut seen.rows, now.rows, &progress.rows),
        (
            &mut seen.throttled_ms,
            now.throttled_ms,
            &progress.throttled_ms,
        ),
    ] {
        sum.fetch_add(now.saturating_sub(*seen), Ordering::Relaxed);
        *seen = now.max(*seen);
    }
}

impl DisplayAs for ExportExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Writing { place, format, .. } = self.writing.as_ref();
        write!(
            f,
            "ExportExec: {} as {format} to {}",
            self.piece,
            place.url()
        )
    }
}

impl ExecutionPlan for ExportExec {
    fn name(&self) -> &'static str {
        "ExportExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> QueryResult<TreeNodeRecursion>,
    ) -> QueryResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        let (Some(input), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("ExportExec has one child");
        };
        let (writing, piece) = (Arc::clone(&self.writing), self.piece.clone());
        Ok(Arc::new(Self::new(input, writing, piece)))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn execute(
        &self,
        partition: usize,
        task: Arc<TaskContext>,
    ) -> QueryResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("a piece of an export has one partition");
        }
        let (input, writing) = (Arc::clone(&self.input), Arc::clone(&self.writing));
        let (piece, schema) = (self.piece.clone(), self.schema());
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&schema), 1);
        let to = builder.tx();
        // Dropping the stream stops it.
        builder.spawn(async move {
            let tell = |now| {
                if let Ok(row) = Told::Progress(now).row(Arc::clone(&schema)) {
                    // The next one says more.
                    let _ = to.try_send(Ok(row));
                }
            };
            let written = writing
                .piece(&piece, &input, &task, tell)
                .await
                .external()?;
            let row = Told::Written(Box::new(written)).row(schema)?;
            let _ = to.send(Ok(row)).await;
            Ok(())
        });
        Ok(builder.build())
    }
}

#[cfg(test)]
#[path = "tests/elsewhere.rs"]
mod tests;
