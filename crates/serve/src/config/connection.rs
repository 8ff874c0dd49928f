//! A connection: the settings of a cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use datafusion_kafka::config::ConnectionConfig;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use toml::{Table, Value};

use crate::problem::Problem;

/// The settings of a cluster: those of `properties`, a file of librdkafka or Java, and over them all other keys.
///
/// Lists become texts with commas. Secrets may be `env:NAME` or `file:PATH`.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Connection {
    properties: Option<PathBuf>,
    given: BTreeMap<String, String>,
    /// The settings in effect.
    pub config: ConnectionConfig,
}

impl Connection {
    /// A connection of settings that were made elsewhere.
    pub fn new(config: ConnectionConfig) -> Self {
        Self {
            properties: None,
            given: BTreeMap::new(),
            config,
        }
    }

    pub(super) fn resolve(&mut self, folder: &Path) -> Result<(), Problem> {
        let mut config = match &self.properties {
            Some(file) => ConnectionConfig::from_file(folder.join(file))?,
            None => ConnectionConfig::empty(),
        };
        let mut own = ConnectionConfig::empty();
        for (key, value) in &self.given {
            own.set(key, value)?;
        }
        config.merge(&own);
        if config.bootstrap_servers().is_empty() {
            return Err(Problem::new(
                "the connection has no brokers; set \"bootstrap.servers\" = \"host:port\"",
            ));
        }
        self.config = config;
        // They may hold secrets in clear.
        self.given.clear();
        Ok(())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Connection {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut given = BTreeMap::new();
        flatten("", Table::deserialize(from)?, &mut given).map_err(D::Error::custom)?;
        Ok(Self {
            properties: given.remove("properties").map(PathBuf::from),
            given,
            config: ConnectionConfig::empty(),
        })
    }
}

/// Dotted keys without quotes are tables within tables.
fn flatten(
    prefix: &str,
    table: Table,
    settings: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    for (key, value) in table {
        let key = match prefix {
            "" => key,
            prefix => format!("{prefix}.{key}"),
        };
        // The message must not show the value, which may be a password.
        let wrong =
            || format!("'{key}': expected a text, a number, true, false or a list of texts");
        let value = match value {
            Value::Table(inner) => {
                flatten(&key, inner, settings)?;
                continue;
            }
            Value::String(text) => text,
            Value::Integer(number) => number.to_string(),
            Value::Boolean(choice) => choice.to_string(),
            Value::Array(items) => {
                let items = items.iter().map(|item| item.as_str().ok_or_else(wrong));
                items.collect::<Result<Vec<_>, _>>()?.join(",")
            }
            Value::Float(_) | Value::Datetime(_) => return Err(wrong()),
        };
        settings.insert(key, value);
    }
    Ok(())
}
