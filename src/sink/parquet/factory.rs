//! `CREATE EXTERNAL TABLE … STORED AS PARQUET`: targets of jobs, and ordinary files.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::datasource::listing_table_factory::ListingTableFactory;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::error::Result;
use datafusion::logical_expr::CreateExternalTable;

use super::read::{self, ParquetTable};
use super::{ParquetOptions, ParquetSink, is_visible, options};
use crate::error::{Error, External as _};
use crate::exported::{self, Exported};
use crate::sink::SinkTable;
use crate::store::Store;

/// Makes tables of `CREATE EXTERNAL TABLE name STORED AS PARQUET LOCATION 'folder or URL'`.
///
/// A folder that jobs have written to is read through its manifests and takes further batches. An
/// export's folder is read through its manifest. A folder that is empty or missing waits for a job; with declared columns it also takes plain
/// INSERTs. All else (files, folders of files, several locations) is an ordinary table of
/// DataFusion's.
#[derive(Debug, Clone, Copy, Default)]
pub struct ParquetTableFactory;

#[async_trait]
impl TableProviderFactory for ParquetTableFactory {
    async fn create(
        &self,
        state: &dyn Session,
        cmd: &CreateExternalTable,
    ) -> Result<Arc<dyn TableProvider>> {
        let store_options = store_options(&cmd.options);
        let policy = crate::policy::of(state.config());
        policy.check_store_options(&store_options).external()?;
        let mut stores = vec![];
        for location in &cmd.locations {
            policy.check_location("LOCATION", location).external()?;
            match Store::open(location, &store_options) {
                Ok(store) => {
                    let url = ObjectStoreUrl::parse(store.root_url().external()?)?;
                    let known = state.runtime_env().object_store(url).is_ok();
                    if !known || !store_options.is_empty() {
                        read::register(state.runtime_env(), &store).external()?;
                    }
                    stores.push(store);
                }
                // DataFusion may know a store that we do not.
                Err(_) if store_options.is_empty() => {}
                Err(error) => return Err(error.external()),
            }
        }
        let [store] = &stores[..] else {
            return ordinary(state, cmd).await;
        };
        if cmd.locations.len() != 1 || cmd.locations[0].contains(['*', '?', '[']) {
            return ordinary(state, cmd).await;
        }
        if is_file(store).await.external()? {
            return ordinary(state, cmd).await;
        }
        if let Some((columns, partitioned_by)) = read::recorded_columns(store).await.external()? {
            return written(cmd, store, &columns, &partitioned_by);
        }
        if let Some(exported) = exported::exported(store).await.external()? {
            return of_export(cmd, store, exported);
        }
        if store
            .list("")
            .await
            .external()?
            .iter()
            .any(|name| is_visible(name))
        {
            return ordinary(state, cmd).await;
        }
        waiting(state, cmd, store).await
    }
}

/// A location with manifests.
fn written(
    cmd: &CreateExternalTable,
    store: &Store,
    columns: &Schema,
    partitioned_by: &[String],
) -> Result<Arc<dyn TableProvider>> {
    let declared = &cmd.table_partition_cols;
    if !declared.is_empty() && declared != partitioned_by {
        return Err(Error::invalid(format!(
            "{}: the files there are partitioned by ({}), the table by ({})",
            store.url(),
            partitioned_by.join(", "),
            declared.join(", ")
        ))
        .external());
    }
    let columns = match declared_columns(cmd) {
        Some(declared) => read::nullable(&declared),
        None => columns.clone(),
    };
    let table = read::table_columns(&columns, partitioned_by).external()?;
    let reader = ParquetTable::new(store.clone(), table, None);
    sink_table(cmd, store, partitioned_by, Some(Arc::new(reader)))
}

/// The root of an export: all topics of it, as its manifest names their files.
fn of_export(
    cmd: &CreateExternalTable,
    store: &Store,
    exported: Exported,
) -> Result<Arc<dyn TableProvider>> {
    let folders = exported.folders.clone();
    let folders: Vec<String> = folders.into_iter().collect();
    let declared = &cmd.table_partition_cols;
    if !declared.is_empty() && *declared != folders {
        return Err(Error::invalid(format!(
            "{}: the folders of the export there are ({}), those of the table ({}): leave PARTITIONED BY out",
            store.url(),
            folders.join(", "),
            declared.join(", ")
        ))
        .external());
    }
    let columns = declared_columns(cmd).unwrap_or_else(|| exported.columns.clone());
    let table = read::table_columns(&read::nullable(&columns), &folders).external()?;
    Ok(Arc::new(ParquetTable::of_export(
        store.clone(),
        table,
        exported,
    )))
}

/// A location without files.
async fn waiting(
    state: &dyn Session,
    cmd: &CreateExternalTable,
    store: &Store,
) -> Result<Arc<dyn TableProvider>> {
    let reader: Option<Arc<dyn TableProvider>> = match declared_columns(cmd) {
        None => None,
        Some(columns) => {
            let columns = read::nullable(&columns);
            let table = read::table_columns(&columns, &cmd.table_partition_cols).external()?;
            let ordinary = ordinary(state, cmd).await?;
            Some(Arc::new(ParquetTable::new(
                store.clone(),
                table,
                Some(ordinary),
            )))
        }
    };
    sink_table(cmd, store, &cmd.table_partition_cols, reader)
}

fn sink_table(
    cmd: &CreateExternalTable,
    store: &Store,
    partitioned_by: &[String],
    reader: Option<Arc<dyn TableProvider>>,
) -> Result<Arc<dyn TableProvider>> {
    let refused = |what: &str| Err(Error::invalid(format!("a parquet sink {what}")).external());
    if cmd.unbounded {
        return refused("is finite: leave UNBOUNDED out");
    }
    if !cmd.order_exprs.is_empty() {
        return refused("has no order over its files: leave WITH ORDER out");
    }
    let (mut options, _) = ParquetOptions::split(&cmd.options).external()?;
    options.partition_by = partitioned_by.to_vec();
    let sink = ParquetSink::new(store.clone(), options);
    let schema: SchemaRef = Arc::new(Schema::empty());
    let mut table = SinkTable::new(Arc::new(sink), schema).with_definition(definition(cmd, store));
    if let Some(reader) = reader {
        table = table.with_reader(reader).with_plain_inserts();
    }
    Ok(Arc::new(table))
}

/// DataFusion's own table, without the options that only sinks have.
async fn ordinary(
    state: &dyn Session,
    cmd: &CreateExternalTable,
) -> Result<Arc<dyn TableProvider>> {
    let mut cmd = cmd.clone();
    cmd.options.retain(|name, _| {
        let name = name.strip_prefix("format.").unwrap_or(name).to_lowercase();
        let of_sink = ParquetOptions::NAMES.contains(&name.as_str());
        !of_sink && !options::is_of_store(&name)
    });
    ListingTableFactory::new().create(state, &cmd).await
}

fn store_options(all: &HashMap<String, String>) -> HashMap<String, String> {
    all.iter()
        .map(|(name, value)| (name.strip_prefix("format.").unwrap_or(name), value))
        .filter(|(name, _)| options::is_of_store(name))
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .collect()
}

fn declared_columns(cmd: &CreateExternalTable) -> Option<Schema> {
    let declared = cmd.schema.as_arrow();
    (!declared.fields().is_empty()).then(|| declared.clone())
}

/// Whether the location names a file and not a folder.
async fn is_file(store: &Store) -> crate::Result<bool> {
    if let Some(path) = store.local() {
        return Ok(path.is_file());
    }
    let path = store.path("")?;
    if path.as_ref().is_empty() {
        return Ok(false);
    }
    let found = object_store::ObjectStoreExt::head(&store.object_store(), &path).await;
    Ok(found.is_ok())
}

/// The statement without what may be secret.
fn definition(cmd: &CreateExternalTable, store: &Store) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let mut options: Vec<String> = cmd
        .options
        .iter()
        .map(|(name, value)| (name.strip_prefix("format.").unwrap_or(name), value))
        .filter(|(name, _)| !options::is_of_store(name))
        .map(|(name, value)| format!("{} {}", quoted(name), quoted(value)))
        .collect();
    options.sort_unstable();
    let mut text = format!(
        "CREATE EXTERNAL TABLE {} STORED AS PARQUET",
        cmd.name.to_quoted_string()
    );
    if !cmd.table_partition_cols.is_empty() {
        text += &format!(" PARTITIONED BY ({})", cmd.table_partition_cols.join(", "));
    }
    text += &format!(" LOCATION {}", quoted(store.url()));
    if !options.is_empty() {
        text += &format!(" OPTIONS ({})", options.join(", "));
    }
    text
}
