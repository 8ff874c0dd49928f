//! A sink as a table of SQL: the target of a job's INSERT.

use datafusion::catalog::{ScanArgs, ScanResult, Session, TableProvider};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::*;
use crate::error::External as _;

/// A [`Sink`] as a table, made by `CREATE EXTERNAL TABLE … STORED AS POSTGRES`, say.
///
/// `INSERT INTO` it belongs into a job, whose driver commits rows and offsets together. Where the
/// target can be read, `SELECT` reads it.
#[derive(Debug)]
pub struct SinkTable {
    sink: Arc<dyn Sink>,
    reader: Option<Arc<dyn TableProvider>>,
    plain_inserts: bool,
    schema: SchemaRef,
    definition: Option<String>,
}

impl SinkTable {
    /// A table that can be written by jobs alone. `schema` has the target's columns as far as they
    /// are known; none when the target will be created from a query's.
    pub fn new(sink: Arc<dyn Sink>, schema: SchemaRef) -> Self {
        Self {
            sink,
            reader: None,
            plain_inserts: false,
            schema,
            definition: None,
        }
    }

    /// Reads the target through `reader`, whose columns become the table's.
    #[must_use]
    pub fn with_reader(mut self, reader: Arc<dyn TableProvider>) -> Self {
        self.schema = reader.schema();
        self.reader = Some(reader);
        self
    }

    /// Leaves `INSERT` outside of jobs to the reader, which must refuse it where jobs have written.
    #[must_use]
    pub fn with_plain_inserts(mut self) -> Self {
        self.plain_inserts = true;
        self
    }

    /// The statement that made the table, without secrets.
    #[must_use]
    pub fn with_definition(mut self, definition: String) -> Self {
        self.definition = Some(definition);
        self
    }

    /// The sink.
    pub fn sink(&self) -> &Arc<dyn Sink> {
        &self.sink
    }

    fn reader(&self) -> Result<&Arc<dyn TableProvider>> {
        self.reader.as_ref().ok_or_else(|| {
            Error::invalid(format!(
                "{} takes rows of a job and cannot be read here",
                self.sink.target()
            ))
        })
    }
}

#[async_trait]
impl TableProvider for SinkTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_table_definition(&self) -> Option<&str> {
        self.definition.as_deref()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        self.reader()
            .external()?
            .scan(state, projection, filters, limit)
            .await
    }

    async fn scan_with_args<'a>(
        &self,
        state: &dyn Session,
        args: ScanArgs<'a>,
    ) -> datafusion::error::Result<ScanResult> {
        self.reader().external()?.scan_with_args(state, args).await
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::error::Result<Vec<TableProviderFilterPushDown>> {
        self.reader().external()?.supports_filters_pushdown(filters)
    }

    /// Refused, in general: rows and offsets are committed together, and only a job knows the offsets.
    async fn insert_into(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        op: InsertOp,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        if let (true, Some(reader)) = (self.plain_inserts, &self.reader) {
            return reader.insert_into(state, input, op).await;
        }
        Err(Error::invalid(format!(
            "INSERT INTO {} runs in a job, which commits rows and offsets together: \
             put the statements into a file and run it with 'kafka-sql run FILE --once'",
            self.sink.target()
        ))
        .external())
    }
}
