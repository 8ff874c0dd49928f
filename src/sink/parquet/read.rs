//! Reads exactly what the manifests of a location name, those of jobs or that of an export.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, ScalarValue, Statistics};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use super::log::{self, Row};
use super::manifest::{DataFile, Record};
use super::{is_visible, schema};
use crate::error::{Error, External as _, query_error};
use crate::exported::Exported;
use crate::store::Store;

/// How long a reader waits until a file of the newest batch is published, before it takes the
/// staged one.
const PATIENCE: Duration = Duration::from_millis(50);
const TRIES: usize = 10;

/// A location as a table.
#[derive(Debug)]
pub(super) struct ParquetTable {
    store: Store,
    columns: TableSchema,
    /// Reads and writes the location while no job has written to it.
    ordinary: Option<Arc<dyn TableProvider>>,
    /// The files of a location that is an export's, as those of a batch.
    export: Option<Record>,
}

/// The columns that the jobs of a location have written: of the files, and of the folders.
pub(crate) async fn recorded_columns(
    store: &Store,
) -> crate::Result<Option<(SchemaRef, Vec<String>)>> {
    let mut found: Option<(SchemaRef, Vec<String>)> = None;
    for job in log::jobs(store).await? {
        let Some(newest) = Row::new(store, &job).newest().await? else {
            continue;
        };
        let record = newest.record;
        let columns = log::get_schema(store, &job, &record.schema).await?;
        found = Some(match found {
            None => (columns, record.partitioned_by),
            Some((before, by)) if by == record.partitioned_by => {
                (schema::merge(store.url(), &before, &columns)?, by)
            }
            Some((_, by)) => {
                return Err(Error::invalid(format!(
                    "{}: its jobs partition differently, by ({}) and by ({}): no table has both",
                    store.url(),
                    by.join(", "),
                    record.partitioned_by.join(", ")
                )));
            }
        });
    }
    Ok(found)
}

/// What jobs have written to a folder, as a table for a session with this `runtime`; `None` where they have
/// written nothing.
pub(crate) async fn written(
    store: &Store,
    runtime: &RuntimeEnv,
) -> crate::Result<Option<Arc<dyn TableProvider>>> {
    let Some((columns, partitioned_by)) = recorded_columns(store).await? else {
        return Ok(None);
    };
    register(runtime, store)?;
    let columns = table_columns(&columns, &partitioned_by)?;
    Ok(Some(Arc::new(ParquetTable::new(
        store.clone(),
        columns,
        None,
    ))))
}

/// Columns of files and of folders, the latter at the end.
pub(super) fn table_columns(
    columns: &Schema,
    partitioned_by: &[String],
) -> crate::Result<TableSchema> {
    let (folders, files): (Vec<FieldRef>, Vec<FieldRef>) = columns
        .fields()
        .iter()
        .cloned()
        .partition(|field| partitioned_by.contains(field.name()));
    let folders: Option<Vec<FieldRef>> = partitioned_by
        .iter()
        .map(|name| folders.iter().find(|f| f.name() == name).cloned())
        .collect();
    let folders = folders.ok_or_else(|| {
        let names: Vec<&str> = columns.fields().iter().map(|f| f.name().as_str()).collect();
        Error::invalid(format!(
            "the files are partitioned by ({}), the table has the columns {}: declare all of them \
             or none",
            partitioned_by.join(", "),
            names.join(", ")
        ))
    })?;
    let files = Arc::new(Schema::new(files));
    Ok(TableSchema::builder(files)
        .with_table_partition_cols(folders)
        .build())
}

impl ParquetTable {
    pub(super) fn new(
        store: Store,
        columns: TableSchema,
        ordinary: Option<Arc<dyn TableProvider>>,
    ) -> Self {
        Self {
            store,
            columns,
            ordinary,
            export: None,
        }
    }

    /// The files of an export, whose folders are the last column if there are some.
    pub(super) fn of_export(store: Store, columns: TableSchema, exported: Exported) -> Self {
        let folders = exported.folders;
        let files = exported.files.into_iter().map(|file| DataFile {
            name: file.path,
            staged: String::new(),
            rows: file.rows,
            bytes: file.bytes,
            sha256: file.sha256,
            values: folders.iter().map(|_| file.folder.clone()).collect(),
        });
        let record = Record {
            number: 0,
            batch: 0,
            attempt: String::new(),
            schema: String::new(),
            files: files.collect(),
            partitioned_by: folders.into_iter().collect(),
        };
        Self {
            export: Some(record),
            ..Self::new(store, columns, None)
        }
    }

    /// The batches of all jobs, each job's newest marked; `None` while no job has written.
    async fn batches(&self) -> crate::Result<Option<Vec<(Record, bool)>>> {
        if let Some(files) = &self.export {
            return Ok(Some(vec![(files.clone(), false)]));
        }
        let jobs = log::jobs(&self.store).await?;
        if jobs.is_empty() {
            return Ok(None);
        }
        let mut batches = vec![];
        for job in jobs {
            let records = Row::new(&self.store, &job).records().await?;
            let last = records.len().saturating_sub(1);
            let marked = records.into_iter().enumerate();
            batches.extend(marked.map(|(at, record)| (record, at == last)));
        }
        Ok(Some(batches))
    }

    async fn is_empty(&self) -> crate::Result<bool> {
        let names = self.store.list("").await?;
        Ok(!names.iter().any(|name| is_visible(name)))
    }
}

#[async_trait]
impl TableProvider for ParquetTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.columns.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(batches) = self.batches().await.external()? else {
            if let Some(ordinary) = &self.ordinary
                && !self.is_empty().await.external()?
            {
                return ordinary.scan(state, projection, filters, limit).await;
            }
            return empty(&self.schema(), projection);
        };
        let mut files = vec![];
        for (record, newest) in batches {
            files.extend(self.files(record, newest).await.external()?);
        }
        let files = prune(state, self.columns.table_partition_cols(), files, filters);
        // Which rows a filter leaves is not known here.
        let limit = if filters.is_empty() { limit } else { None };
        plan(state, &self.store, &self.columns, files, projection, limit).await
    }

    /// Files are pruned by their partition columns, row groups by statistics; rows are filtered above.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    /// For a location that no job has written to.
    async fn insert_into(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if self.export.is_some() {
            return Err(Error::invalid(format!(
                "{} is an export, which no INSERT adds to: write to another location",
                self.store.url()
            ))
            .external());
        }
        let jobs = log::jobs(&self.store).await.external()?;
        match &self.ordinary {
            Some(ordinary) if jobs.is_empty() => ordinary.insert_into(state, input, op).await,
            _ => Err(Error::invalid(format!(
                "INSERT INTO {} runs in a job, which commits rows and offsets together: put the \
                 statements into a file and run it with 'kafka-sql run FILE --once'",
                self.store.url()
            ))
            .external()),
        }
    }
}

/// A file to read: its name now, its size and rows, the values of the partition columns.
#[derive(Debug, Clone)]
struct Part {
    name: String,
    bytes: u64,
    rows: u64,
    values: Vec<ScalarValue>,
}

impl ParquetTable {
    async fn files(&self, record: Record, newest: bool) -> crate::Result<Vec<Part>> {
        parts(
            &self.store,
            self.columns.table_partition_cols(),
            record,
            newest,
        )
        .await
    }
}

/// The files of a batch. Those of a job's newest batch may not be published yet.
async fn parts(
    store: &Store,
    folders: &[FieldRef],
    record: Record,
    newest: bool,
) -> crate::Result<Vec<Part>> {
    let mut parts = vec![];
    for file in record.files {
        let name = if newest && !is_published(store, &file.name, file.bytes).await? {
            file.staged
        } else {
            file.name
        };
        let values = folders.iter().map(|field| {
            let at = record
                .partitioned_by
                .iter()
                .position(|by| by == field.name());
            let text = at.and_then(|at| file.values.get(at).cloned()).flatten();
            let value = match text {
                Some(text) => ScalarValue::try_from_string(text, field.data_type()),
                None => ScalarValue::try_from(field.data_type()),
            };
            value.map_err(query_error)
        });
        parts.push(Part {
            values: values.collect::<crate::Result<_>>()?,
            name,
            bytes: file.bytes,
            rows: file.rows,
        });
    }
    Ok(parts)
}

async fn is_published(store: &Store, name: &str, bytes: u64) -> crate::Result<bool> {
    for _ in 0..TRIES {
        if store.size(name).await? == Some(bytes) {
            return Ok(true);
        }
        // The job is at it, unless it crashed.
        tokio::time::sleep(PATIENCE).await;
    }
    Ok(store.size(name).await? == Some(bytes))
}

/// Leaves out files whose partition columns do not fit a filter. A filter that cannot be told from
/// these columns leaves out none.
fn prune(
    state: &dyn Session,
    folders: &[FieldRef],
    mut parts: Vec<Part>,
    filters: &[Expr],
) -> Vec<Part> {
    let names: BTreeSet<&str> = folders.iter().map(|f| f.name().as_str()).collect();
    for filter in filters {
        let columns = filter.column_refs();
        let known = columns.iter().all(|column| names.contains(column.name()));
        if columns.is_empty() || !known || filter.is_volatile() || parts.is_empty() {
            continue;
        }
        if let Ok(fits) = fitting(state, folders, &parts, filter) {
            let mut fits = fits.into_iter();
            parts.retain(|_| fits.next().unwrap_or(true));
        }
    }
    parts
}

fn fitting(
    state: &dyn Session,
    folders: &[FieldRef],
    parts: &[Part],
    filter: &Expr,
) -> Result<Vec<bool>> {
    let columns = (0..folders.len()).map(|column| {
        let values = parts.iter().map(|part| part.values[column].clone());
        ScalarValue::iter_to_array(values)
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let schema = Arc::new(Schema::new(folders.to_vec()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    let unqualified = filter.clone().transform_columns()?;
    let expression = state.create_physical_expr(unqualified, &DFSchema::try_from(schema)?)?;
    let fits = expression.evaluate(&batch)?.into_array(parts.len())?;
    let fits = fits
        .as_boolean_opt()
        .ok_or_else(|| DataFusionError::Plan("the filter is no condition".to_owned()))?;
    Ok(fits.iter().map(|fits| fits == Some(true)).collect())
}

/// Expressions without the names of tables.
trait Unqualified: Sized {
    fn transform_columns(self) -> Result<Self>;
}

impl Unqualified for Expr {
    fn transform_columns(self) -> Result<Self> {
        use datafusion::common::Column;
        use datafusion::common::tree_node::{Transformed, TreeNode};
        let bare = self.transform(|expr| match expr {
            Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::from_name(
                column.name,
            )))),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(bare.data)
    }
}

fn empty(schema: &Schema, projection: Option<&Vec<usize>>) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = match projection {
        Some(columns) => schema.project(columns)?,
        None => schema.clone(),
    };
    Ok(Arc::new(EmptyExec::new(Arc::new(schema))))
}

async fn plan(
    state: &dyn Session,
    store: &Store,
    columns: &TableSchema,
    parts: Vec<Part>,
    projection: Option<&Vec<usize>>,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    if parts.is_empty() {
        return empty(columns.table_schema(), projection);
    }
    let rows: u64 = parts.iter().map(|part| part.rows).sum();
    let mut files = vec![];
    for part in parts {
        let mut file = PartitionedFile::new("", part.bytes).with_partition_values(part.values);
        // As it is: a percent sign of a name is not encoded again.
        file.object_meta.location = store.path(&part.name).external()?;
        files.push(file);
    }
    let mut statistics = Statistics::new_unknown(columns.table_schema());
    if let Ok(rows) = usize::try_from(rows) {
        statistics.num_rows = Precision::Exact(rows);
    }
    let groups = FileGroup::new(files).split_files(state.config().target_partitions());
    let source = Arc::new(ParquetSource::new(columns.clone()));
    let root = ObjectStoreUrl::parse(store.root_url().external()?)?;
    let config = FileScanConfigBuilder::new(root, source)
        .with_file_groups(groups)
        .with_statistics(statistics)
        .with_projection_indices(projection.cloned())?
        .with_limit(limit)
        .build();
    let options = state.table_options().parquet.clone();
    let format = ParquetFormat::default().with_options(options);
    format.create_physical_plan(state, config).await
}

/// The rows of one batch, with the columns that the job had then.
pub(super) async fn rows(
    store: &Store,
    columns: &Schema,
    record: Record,
    newest: bool,
) -> crate::Result<SendableRecordBatchStream> {
    let table = table_columns(columns, &record.partitioned_by)?;
    let parts = parts(store, table.table_partition_cols(), record, newest).await?;
    let context = SessionContext::new();
    register(&context.runtime_env(), store)?;
    let state = context.state();
    let plan = plan(&state, store, &table, parts, None, None).await;
    execute_stream(plan.map_err(query_error)?, context.task_ctx()).map_err(query_error)
}

/// Rows with the columns of a job, in its order and types; a column that they lack is NULL.
pub(super) fn as_in(
    rows: SendableRecordBatchStream,
    schema: &SchemaRef,
) -> SendableRecordBatchStream {
    let schema = Arc::new(nullable(schema));
    let result = Arc::clone(&schema);
    let rows = rows.map(move |rows| {
        let rows = rows?;
        let columns = schema
            .fields()
            .iter()
            .map(|field| match rows.column_by_name(field.name()) {
                Some(column) => cast(column, field.data_type()),
                None => Ok(new_null_array(field.data_type(), rows.num_rows())),
            });
        let columns = columns.collect::<std::result::Result<_, _>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
    });
    Box::pin(RecordBatchStreamAdapter::new(result, rows))
}

/// Makes the store known where plans look for it.
pub(super) fn register(runtime: &RuntimeEnv, store: &Store) -> crate::Result<()> {
    if store.local().is_none() {
        runtime.register_object_store(&store.root_url()?, store.object_store());
    }
    Ok(())
}

/// All columns may be NULL: a file from before a column was added has none of it.
pub(super) fn nullable(columns: &Schema) -> Schema {
    let fields = columns.fields().iter();
    let fields: Vec<Field> = fields
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect();
    Schema::new(fields)
}
