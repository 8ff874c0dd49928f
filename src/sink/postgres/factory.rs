//! `CREATE EXTERNAL TABLE … STORED AS POSTGRES`.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::Schema;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::logical_expr::CreateExternalTable;

use super::connect::{Address, hidden};
use super::{PostgresRows, PostgresSink};
use crate::config::secret;
use crate::error::{Error, External as _, Result};
use crate::policy::Policy;
use crate::sink::SinkTable;
use crate::sink::database::{DatabaseReader, Given};

/// Makes tables of `CREATE EXTERNAL TABLE name STORED AS POSTGRES LOCATION
/// 'postgres://user@host:5432/db' OPTIONS ('table' 'shop.orders', …)`.
///
/// Options: `table`, and if wanted `password` (or `env:NAME`, `file:PATH`), `ssl.root.cert`,
/// `upsert.key`, `offsets.table`, `shared`.
#[derive(Debug, Clone, Default)]
pub struct PostgresTableFactory {}

#[async_trait]
impl TableProviderFactory for PostgresTableFactory {
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
    let given = Given::of(cmd, "PostgreSQL", &["password", "ssl.root.cert"])?;
    let [location] = cmd.locations.as_slice() else {
        return Err(Error::invalid(
            "a PostgreSQL table is in one database: LOCATION is its URL",
        ));
    };
    let password = given.get("password");
    let password = password
        .map(|value| secret("password", value, policy))
        .transpose()?;
    let certificates = given.get("ssl.root.cert").map(Path::new);
    let address = Address::parse(location, password.as_deref(), certificates, policy)?;
    let sink = PostgresSink::at(address, given.table()?)?;
    let mut sink = sink
        .with_upsert_key(given.upsert_key()?)
        .with_shared(given.shared()?);
    if let Some(offsets) = given.get("offsets.table") {
        sink = sink.with_offsets_table(offsets)?;
    }
    let rows = PostgresRows::find(&sink.target).await?;
    let table = SinkTable::new(Arc::new(sink), Arc::new(Schema::empty()))
        .with_definition(given.definition(cmd, &hidden(location), &["password"]));
    Ok(match rows {
        Some(rows) => {
            let schema = Arc::clone(rows.schema());
            table.with_reader(Arc::new(DatabaseReader::new(Arc::new(rows), schema)))
        }
        None => table,
    })
}
