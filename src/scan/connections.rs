//! The connections that a machine reads with when others send it scans.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Connections;
use crate::client::{ClientPool, KafkaClient};
use crate::config::ConnectionConfig;
use crate::error::{Error, Result};

/// The connections of a worker, by their names.
///
/// A worker that has any reads with these alone. One without any takes the settings of the coordinator, as far
/// as they need no login and no certificates.
#[derive(Debug, Clone, Default)]
pub struct OwnConnections {
    by_name: BTreeMap<String, ConnectionConfig>,
    pool: ClientPool,
}

impl OwnConnections {
    /// These connections, with clients from `pool`.
    pub fn new(all: impl IntoIterator<Item = ConnectionConfig>, pool: ClientPool) -> Self {
        let by_name = all.into_iter();
        Self {
            by_name: by_name
                .map(|config| (config.name().to_owned(), config))
                .collect(),
            pool,
        }
    }
}

impl Connections for OwnConnections {
    fn connection(
        &self,
        name: &str,
        public: &BTreeMap<String, String>,
        complete: bool,
    ) -> Result<ConnectionConfig> {
        if let Some(own) = self.by_name.get(name) {
            return own.tuned(public);
        }
        if !self.by_name.is_empty() || !complete {
            let names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
            let there = match names.is_empty() {
                true => "it has none".to_owned(),
                false => format!("it has {}", names.join(", ")),
            };
            return Err(Error::config(
                "connection.name",
                format!(
                    "the worker has no connection '{name}', {there}: start it with a file (-F) that has this \
                     connection.name, or these bootstrap.servers, and the login"
                ),
            ));
        }
        let mut config = ConnectionConfig::empty();
        for (key, value) in public {
            config.set(key, value)?;
        }
        Ok(config)
    }

    fn client(&self, config: &ConnectionConfig) -> Result<Arc<dyn KafkaClient>> {
        self.pool.client(config)
    }
}
