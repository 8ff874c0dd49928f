//! A table of a database as a table of SQL: the columns that are asked for, as a stream.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{Field, Schema, SchemaRef};
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

/// Brings rows to the types of `schema` where there is a cast, column by column.
pub(crate) fn cast_to(
    rows: SendableRecordBatchStream,
    schema: &SchemaRef,
) -> SendableRecordBatchStream {
    let found = rows.schema();
    let fields: Vec<Field> = found
        .fields()
        .iter()
        .zip(schema.fields())
        .map(|(found, wanted)| {
            let castable = can_cast_types(found.data_type(), wanted.data_type());
            let data_type = if castable { wanted } else { found }.data_type();
            Field::new(wanted.name(), data_type.clone(), true)
        })
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let result = Arc::clone(&schema);
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let cast = move |batch: RecordBatch| -> Result<RecordBatch> {
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns
            .map(|(column, field)| cast_with_options(column, field.data_type(), &options))
            .collect::<Result<_, _>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
    };
    let rows = rows.map(move |batch| batch.and_then(&cast));
    Box::pin(RecordBatchStreamAdapter::new(result, rows))
}
