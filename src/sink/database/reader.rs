//! A table of a database as a table of SQL: the columns that are asked for, as a stream.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::StreamExt;

/// Reads rows of one table.
pub(crate) trait ReadRows: fmt::Debug + Send + Sync {
    /// Streams columns, by their numbers in the table's schema, of all rows or the first `limit`.
    /// Dropping the stream stops the reading.
    fn read(&self, columns: &[usize], limit: Option<usize>) -> SendableRecordBatchStream;
}

/// The table.
#[derive(Debug, Clone)]
pub(crate) struct DatabaseReader {
    rows: Arc<dyn ReadRows>,
    schema: SchemaRef,
}

impl DatabaseReader {
    pub(crate) fn new(rows: Arc<dyn ReadRows>, schema: SchemaRef) -> Self {
        Self { rows, schema }
    }
}

#[async_trait]
impl TableProvider for DatabaseReader {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = match projection {
            Some(projection) => projection.clone(),
            None => (0..self.schema.fields().len()).collect(),
        };
        let schema = Arc::new(self.schema.project(&columns)?);
        let part = Part {
            rows: Arc::clone(&self.rows),
            columns,
            schema: Arc::clone(&schema),
            limit,
        };
        let plan =
            StreamingTableExec::try_new(schema, vec![Arc::new(part)], None, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

#[derive(Debug)]
struct Part {
    rows: Arc<dyn ReadRows>,
    columns: Vec<usize>,
    schema: SchemaRef,
    limit: Option<usize>,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        self.rows.read(&self.columns, self.limit)
    }
}

/// Rows under the names of a job's columns, which a database may write in another case.
pub(crate) fn named(
    rows: SendableRecordBatchStream,
    schema: &SchemaRef,
) -> SendableRecordBatchStream {
    let found = rows.schema();
    let fields = found.fields().iter().zip(schema.fields());
    let fields = fields.map(|(found, wanted)| found.as_ref().clone().with_name(wanted.name()));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let result = Arc::clone(&schema);
    // `with_schema` takes no other names.
    let rows = rows.map(move |batch| {
        let batch = batch?;
        let count = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = batch.columns().to_vec();
        let schema = Arc::clone(&schema);
        Ok(RecordBatch::try_new_with_options(schema, columns, &count)?)
    });
    Box::pin(RecordBatchStreamAdapter::new(result, rows))
}
