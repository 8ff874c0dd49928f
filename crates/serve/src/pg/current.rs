//! What connections get from now on: that of the file of the service as it was read last.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::execution::runtime_env::RuntimeEnv;

use super::catalog::{PgCatalog, Tables, sessions};
use super::login::Logins;
use super::{Sessions, users};
use crate::config::{Connection, PostgresConfig};
use crate::opener::Opener;
use crate::problem::Problem;

pub(super) struct Current {
    pub(super) logins: Arc<Logins>,
    pub(super) sessions: Sessions,
    pub(super) catalog: Arc<PgCatalog>,
    source: Source,
}

/// What sessions are made of. While it is the same they stay, so that a reload asks no cluster and OIDs mean the same.
#[derive(PartialEq)]
struct Source {
    connection: Connection,
    catalog: Option<PathBuf>,
    /// The text of the catalog file, as far as it can be read: only to see that it changes.
    text: Option<String>,
}

impl Current {
    /// Whether a user's session is made as it was before.
    pub(super) fn is_for(&self, user: &str, before: &Self) -> bool {
        Arc::ptr_eq(&self.sessions, &before.sessions)
            && self.logins.user(user) == before.logins.user(user)
    }

    /// # Errors
    /// When a budget is none, or a statement of the catalog file fails.
    pub(super) async fn read(
        opener: &Arc<dyn Opener>,
        runtime: &Arc<RuntimeEnv>,
        config: &PostgresConfig,
        connection: &Connection,
        before: Option<&Self>,
    ) -> Result<Self, Problem> {
        let users = users(config)?;
        let logins = Arc::new(Logins::new(&users));
        let catalog = config.catalog.clone();
        let source = Source {
            connection: connection.clone(),
            text: catalog
                .as_ref()
                .and_then(|f| std::fs::read_to_string(f).ok()),
            catalog,
        };
        if let Some(before) = before.filter(|before| before.source == source) {
            return Ok(Self {
                logins,
                sessions: Arc::clone(&before.sessions),
                catalog: Arc::clone(&before.catalog),
                source,
            });
        }
        let tables = match &config.catalog {
            Some(file) => Tables::load(opener, connection, runtime, file).await?,
            None => Tables::default(),
        };
        Ok(Self {
            logins,
            sessions: sessions(opener, connection, runtime, tables),
            catalog: Arc::new(PgCatalog::new(&users)?),
            source,
        })
    }
}
