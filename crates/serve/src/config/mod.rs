//! The file of the service: connections, jobs, and what is served on which addresses.
//!
//! An unknown key is an error that names the nearest one. Paths are relative to the file's folder. Secrets are references,
//! `env:NAME` or `file:PATH`, and are never printed.

mod connection;
mod job;
mod serving;
mod text;
mod values;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

pub use connection::Connection;
pub use job::JobConfig;
pub use serving::{HttpConfig, LineageConfig, PostgresConfig, TlsConfig, UserConfig};
pub(crate) use text::nearest;
pub use values::{LogFormat, Secret};

use crate::problem::Problem;

/// A service: what runs, and what is served.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// What holds for the whole service.
    #[serde(default)]
    pub service: ServiceConfig,
    /// Clusters, by the names that jobs and ports use.
    #[serde(default)]
    pub connections: BTreeMap<String, Connection>,
    /// Jobs, by name.
    #[serde(default)]
    pub jobs: BTreeMap<String, JobConfig>,
    /// The HTTP port: page, API, metrics, probes.
    pub http: Option<HttpConfig>,
    /// The PostgreSQL port.
    pub postgres: Option<PostgresConfig>,
    /// Where events of OpenLineage go.
    pub lineage: Option<LineageConfig>,
}

/// What holds for the whole service.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ServiceConfig {
    /// The memory in bytes that all jobs and statements may hold together.
    #[serde(deserialize_with = "values::optional_size")]
    pub memory_limit: Option<usize>,
    /// The cores that all jobs and statements share; the machine's unless set.
    pub cores: Option<NonZeroUsize>,
    /// How the log is written.
    pub log_format: LogFormat,
    /// The most partitions of a job that metrics have a label for; the others are summed up.
    pub max_partition_labels: usize,
    /// How many batches and errors of each job are kept to be looked at.
    pub history: usize,
    /// The pause after a job's first failure; it doubles from failure to failure.
    #[serde(deserialize_with = "values::time")]
    pub first_pause: Duration,
    /// The longest pause between two attempts.
    #[serde(deserialize_with = "values::time")]
    pub longest_pause: Duration,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            memory_limit: None,
            cores: None,
            log_format: LogFormat::Text,
            max_partition_labels: 100,
            history: 100,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(5 * 60),
        }
    }
}

impl Config {
    /// Reads a file, and the secrets that it refers to.
    ///
    /// # Errors
    /// When it cannot be read, has an unknown key or a wrong value, or refers to what is not there.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|e| Problem::new(format!("cannot read {shown}: {e}")))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, folder).map_err(|problem| {
            let message = problem.message;
            // A message with a line starts with its number.
            let joint = match message.starts_with(|c: char| c.is_ascii_digit()) {
                true => ":",
                false => ": ",
            };
            Problem::new(format!("{shown}{joint}{message}"))
        })
    }

    /// Parses a text whose paths are relative to `folder`.
    ///
    /// # Errors
    /// As [`read`](Self::read); the message starts with the line, where one is to blame.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Problem> {
        let mut config: Self = toml::from_str(text).map_err(|e| text::explain(text, &e))?;
        let at = |problem: Problem, keys: &[&str]| text::place(text, keys, problem);
        for (name, connection) in &mut config.connections {
            connection
                .resolve(folder)
                .map_err(|problem| at(problem, &["connections", name]))?;
        }
        for (name, job) in &mut config.jobs {
            job.resolve(folder);
            known(&config.connections, &job.connection)
                .map_err(|problem| at(problem, &["jobs", name, "connection"]))?;
        }
        if let Some(http) = &mut config.http {
            http.resolve(folder)
                .map_err(|problem| at(problem, &["http"]))?;
            if let Some(connection) = &http.connection {
                known(&config.connections, connection)
                    .map_err(|problem| at(problem, &["http", "connection"]))?;
            }
        }
        if let Some(postgres) = &mut config.postgres {
            postgres
                .resolve(folder)
                .map_err(|problem| at(problem, &["postgres"]))?;
            known(&config.connections, &postgres.connection)
                .map_err(|problem| at(problem, &["postgres", "connection"]))?;
        }
        if let Some(lineage) = &mut config.lineage {
            lineage
                .resolve(folder)
                .map_err(|problem| at(problem, &["lineage"]))?;
        }
        Ok(config)
    }

    /// The connection of a name that [`parse`](Self::parse) has found.
    ///
    /// # Errors
    /// When there is no such connection.
    pub fn connection(&self, name: &str) -> Result<&Connection, Problem> {
        known(&self.connections, name)
    }
}

fn known<'a>(
    connections: &'a BTreeMap<String, Connection>,
    name: &str,
) -> Result<&'a Connection, Problem> {
    connections.get(name).ok_or_else(|| {
        let names = connections.keys().map(String::as_str);
        let hint = text::nearest(name, names.clone()).map_or_else(
            || match connections.is_empty() {
                true => format!("; write a section [connections.{name}]"),
                false => format!("; there are: {}", names.collect::<Vec<_>>().join(", ")),
            },
            |nearest| format!("; did you mean '{nearest}'?"),
        );
        Problem::new(format!("there is no connection '{name}'{hint}"))
    })
}

#[cfg(test)]
mod tests;
