//! `CREATE EXTERNAL TABLE … STORED AS KAFKA`.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::error::Result;
use datafusion::logical_expr::CreateExternalTable;

use super::options::TableOptions;
use super::targets::is_target;
use crate::client::ClientPool;
use crate::config::ConnectionConfig;
use crate::error::{Error, External as _};
use crate::formats::column_list;

/// Makes tables of `CREATE EXTERNAL TABLE name STORED AS KAFKA LOCATION 'topic' OPTIONS (…)`.
///
/// Register it under `KAFKA`, or let
/// [`KafkaSessionBuilder`](crate::session::KafkaSessionBuilder) do so.
#[derive(Debug, Clone, Default)]
pub struct KafkaTableFactory {
    pool: Option<ClientPool>,
    defaults: Option<ConnectionConfig>,
}

impl KafkaTableFactory {
    /// Tables name their brokers themselves.
    pub fn new() -> Self {
        Self::default()
    }

    /// Settings that hold where a table's options say nothing else.
    #[must_use]
    pub fn with_connection(mut self, config: ConnectionConfig) -> Self {
        self.defaults = Some(config);
        self
    }

    /// The pool to take clients from; the process-wide one unless set.
    #[must_use]
    pub fn with_pool(mut self, pool: ClientPool) -> Self {
        self.pool = Some(pool);
        self
    }
}

#[async_trait]
impl TableProviderFactory for KafkaTableFactory {
    async fn create(
        &self,
        state: &dyn Session,
        cmd: &CreateExternalTable,
    ) -> Result<Arc<dyn TableProvider>> {
        refuse_what_does_not_fit(cmd).external()?;
        let mut options = TableOptions::of_statement(crate::policy::of(state.config()));
        let mut given: Vec<(&str, &str)> = cmd
            .options
            .iter()
            // DataFusion puts this before names that have no dot.
            .map(|(name, value)| (name.strip_prefix("format.").unwrap_or(name), value.as_str()))
            .collect();
        given.sort_unstable();
        for (name, value) in given {
            options.set(name, value).external()?;
        }
        if let Some(columns) = column_list(cmd.schema.as_arrow()) {
            options.declare(columns);
        }
        let location = cmd.locations.join(",");
        let mut builder = options
            .table(&location, None, self.defaults.as_ref())
            .external()?;
        if let Some(pool) = &self.pool {
            builder = builder.pool(pool.clone());
        }
        let definition = options.definition(&cmd.name.to_quoted_string(), &location);
        let table = match is_target(state, &cmd.name) {
            true => builder.build_target().await.external()?,
            false => builder.build().await.external()?,
        };
        Ok(Arc::new(table.with_definition(definition)))
    }
}

fn refuse_what_does_not_fit(cmd: &CreateExternalTable) -> crate::Result<()> {
    let refused = |what: &str| Err(Error::invalid(format!("a Kafka table {what}")));
    if cmd.unbounded {
        return refused("reads fixed ranges and cannot be UNBOUNDED");
    }
    if !cmd.table_partition_cols.is_empty() {
        return refused("is partitioned by Kafka: leave PARTITIONED BY out");
    }
    if !cmd.order_exprs.is_empty() {
        return refused("knows its order itself: leave WITH ORDER out");
    }
    Ok(())
}
