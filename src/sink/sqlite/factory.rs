//! `CREATE EXTERNAL TABLE … STORED AS SQLITE`.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::Schema;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::logical_expr::CreateExternalTable;

use super::{SqliteRows, SqliteSink, blocking};
use crate::error::{Error, External as _, Result};
use crate::policy::Policy;
use crate::sink::SinkTable;
use crate::sink::database::{DatabaseReader, Given};

/// Makes tables of `CREATE EXTERNAL TABLE name STORED AS SQLITE LOCATION 'file.db' OPTIONS ('table'
/// 'orders', …)`.
///
/// Options: `table`, and if wanted `upsert.key`, `offsets.table`, `shared`.
#[derive(Debug, Clone, Default)]
pub struct SqliteTableFactory {}

#[async_trait]
impl TableProviderFactory for SqliteTableFactory {
    async fn create(
        &self,
        state: &dyn Session,
        cmd: &CreateExternalTable,
    ) -> datafusion::error::Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(
            table(cmd, &crate::policy::of(state.config()))
                .await
                .external()?,
        ))
    }
}

async fn table(cmd: &CreateExternalTable, policy: &Policy) -> Result<SinkTable> {
    let given = Given::of(cmd, "SQLite", &[])?;
    let [location] = cmd.locations.as_slice() else {
        return Err(Error::invalid(
            "a SQLite table is in one file: LOCATION names it",
        ));
    };
    let path = location.strip_prefix("file://").unwrap_or(location);
    policy.check_path("LOCATION", Path::new(path))?;
    let mut sink = SqliteSink::new(path, given.table()?)?
        .with_upsert_key(given.upsert_key()?)
        .with_shared(given.shared()?);
    if let Some(offsets) = given.get("offsets.table") {
        sink = sink.with_offsets_table(offsets)?;
    }
    let rows = blocking(&sink.target, None, |target| {
        SqliteRows::find(&target.path, &target.table)
    })
    .await?;
    let table = SinkTable::new(Arc::new(sink), Arc::new(Schema::empty()))
        .with_definition(given.definition(cmd, location, &[]));
    Ok(match rows {
        Some(rows) => {
            let schema = Arc::clone(rows.schema());
            table.with_reader(Arc::new(DatabaseReader::new(Arc::new(rows), schema)))
        }
        None => table,
    })
}
