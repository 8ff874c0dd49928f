//! The shell's view of the library: the only file that knows how connections and sessions are made.

use std::sync::Arc;

use datafusion::catalog::SchemaProvider;
use datafusion::dataframe::DataFrame;
use datafusion::execution::context::SessionContext;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_kafka::client::{ClientPool, KafkaClient, TopicSelection};
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::policy::Policy;
pub(crate) use datafusion_kafka::scan::ScanProgress as Progress;
use datafusion_kafka::session::{CATALOG, KafkaSessionBuilder};
use datafusion_kafka::table::{KafkaCatalog, KafkaTable, KafkaTableBuilder, TableOptions};
use datafusion_kafka::text::visible;

use crate::args::ConnectionArgs;
use crate::failure::Failure;

/// How to reach the cluster, resolved from flags, environment and file.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    config: ConnectionConfig,
    pool: ClientPool,
    policy: Policy,
    /// What bounds the memory of sessions and exports.
    runtime: Arc<RuntimeEnv>,
}

impl Connection {
    /// Takes the file's settings, over them the brokers of the flag or environment, over them `-X`.
    ///
    /// # Errors
    /// When a setting is unknown, has a wrong value or is given twice.
    pub(crate) fn resolve(args: &ConnectionArgs) -> Result<Self, Failure> {
        // What is wrong here was typed on the command line or stands in a file named there.
        let usage = |e: datafusion_kafka::Error| Failure::usage(e.to_string());
        let mut config = match &args.config {
            Some(path) => ConnectionConfig::from_file(path).map_err(usage)?,
            None => ConnectionConfig::empty(),
        };
        if let Some(hosts) = &args.bootstrap_servers {
            let mut brokers = ConnectionConfig::empty();
            brokers.set("bootstrap.servers", hosts).map_err(usage)?;
            config.merge(&brokers);
        }
        let mut flags = ConnectionConfig::empty();
        for setting in args.settings() {
            let Some((key, value)) = setting.split_once('=') else {
                // What follows the name may be a password.
                let name = setting.split_whitespace().next().unwrap_or_default();
                let name = name.split(':').next().unwrap_or_default();
                return Err(Failure::usage(format!(
                    "-X {name}…: expected key=value, 'list' or 'dump'"
                )));
            };
            flags.set(key.trim(), value.trim()).map_err(usage)?;
        }
        config.merge(&flags);
        let runtime = RuntimeEnvBuilder::new();
        let runtime = match args.memory_limit {
            Some(bytes) => runtime.with_memory_limit(bytes, 1.0),
            None => runtime,
        };
        Ok(Self {
            config,
            pool: ClientPool::global(),
            policy: Policy::default(),
            runtime: runtime.build_arc()?,
        })
    }

    /// The settings in effect, one a line whatever is in them, secrets masked.
    pub(crate) fn dump(&self) -> String {
        self.config
            .properties()
            .map(|(key, value)| visible(&format!("{key}={value}"), &[]).into_owned())
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// A table of the cluster, to be given its topics.
    ///
    /// # Errors
    /// When no cluster was named.
    pub(crate) fn table(&self) -> Result<KafkaTableBuilder, Failure> {
        if self.config.bootstrap_servers().is_empty() {
            return Err(Failure::usage(
                "there is no cluster to ask; name its brokers with -b",
            ));
        }
        Ok(KafkaTable::builder(&self.config).pool(self.pool.clone()))
    }

    /// The same with options of a table, each `NAME=VALUE`.
    ///
    /// # Errors
    /// When an option is none, or has a wrong value.
    pub(crate) fn table_with(&self, options: &[String]) -> Result<KafkaTableBuilder, Failure> {
        let table = self.table()?;
        if options.is_empty() {
            return Ok(table);
        }
        let usage = |e: datafusion_kafka::Error| Failure::usage(e.to_string());
        let mut known = TableOptions::default();
        for option in options {
            let Some((name, value)) = option.split_once('=') else {
                return Err(Failure::usage(format!(
                    "--option '{option}': expected NAME=VALUE, for example value.format=json"
                )));
            };
            known.set(name.trim(), value.trim()).map_err(usage)?;
        }
        // The caller names the topics.
        let table = known.table("_", None, Some(&self.config)).map_err(usage)?;
        Ok(table.pool(self.pool.clone()))
    }

    /// Builds a table; with options it may have to ask for its columns.
    ///
    /// # Errors
    /// As [`KafkaTableBuilder::build`].
    pub(crate) async fn build(
        table: KafkaTableBuilder,
        options: &[String],
    ) -> Result<KafkaTable, Failure> {
        Ok(match options.is_empty() {
            true => table.build_lazy()?,
            false => table.build().await?,
        })
    }

    /// What bounds the memory of an export.
    pub(crate) fn runtime(&self) -> Arc<RuntimeEnv> {
        Arc::clone(&self.runtime)
    }

    /// The names of all settings, one a line.
    pub(crate) fn list() -> String {
        ConnectionConfig::known_keys().join("\n")
    }

    /// The same for sessions whose text may do this.
    pub(crate) fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// What text may do.
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The same with clients from another pool.
    pub(crate) fn with_pool(mut self, pool: ClientPool) -> Self {
        self.pool = pool;
        self
    }
}

/// A session, over a cluster if one was named.
pub(crate) struct Session {
    context: SessionContext,
    client: Option<Arc<dyn KafkaClient>>,
    policy: Policy,
}

/// What describes a topic besides its partitions.
#[derive(Debug, Clone, Default)]
pub(crate) struct TopicFacts {
    pub(crate) id: Option<String>,
    pub(crate) internal: bool,
    pub(crate) timestamp_type: Option<String>,
    pub(crate) cleanup_policy: Option<String>,
}

impl Session {
    /// Makes a session; the cluster is not asked yet.
    ///
    /// # Errors
    /// When the settings do not fit together.
    pub(crate) fn open(connection: &Connection) -> Result<Self, Failure> {
        let Connection {
            config,
            pool,
            policy,
            ..
        } = connection;
        let mut builder = KafkaSessionBuilder::new()
            .runtime(connection.runtime())
            .pool(pool.clone())
            .policy(policy.clone());
        let mut client = None;
        if !config.bootstrap_servers().is_empty() {
            client = Some(pool.client(config)?);
            builder = builder.connection(config.clone());
        }
        Ok(Self {
            context: builder.build()?,
            client,
            policy: policy.clone(),
        })
    }

    /// Plans a statement; DDL and SET take effect here.
    ///
    /// # Errors
    /// When the statement is wrong or the cluster does not answer.
    pub(crate) async fn sql(&self, sql: &str) -> Result<DataFrame, Failure> {
        Ok(datafusion_kafka::statement::sql(&self.context, sql).await?)
    }

    /// What text may do.
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The session of DataFusion, for jobs.
    pub(crate) fn context(&self) -> &SessionContext {
        &self.context
    }

    /// The client of the cluster.
    ///
    /// # Errors
    /// When no cluster was named.
    pub(crate) fn client(&self) -> Result<&Arc<dyn KafkaClient>, Failure> {
        self.client
            .as_ref()
            .ok_or_else(|| Failure::usage("there is no cluster to ask; name its brokers with -b"))
    }

    /// Whether a cluster was named.
    pub(crate) fn has_cluster(&self) -> bool {
        self.client.is_some()
    }

    /// The names of the topics, sorted; none without a cluster.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn topics(&self) -> Result<Vec<String>, Failure> {
        let Some(client) = &self.client else {
            return Ok(Vec::new());
        };
        let cluster = client.describe(TopicSelection::All).await?;
        let mut names: Vec<String> = cluster.topics.iter().map(|t| t.name.to_string()).collect();
        names.sort();
        Ok(names)
    }

    /// Looks at a topic; `None` if it is not there.
    ///
    /// # Errors
    /// When no cluster was named, or it does not answer.
    pub(crate) async fn topic_facts(&self, topic: &str) -> Result<Option<TopicFacts>, Failure> {
        let client = self.client()?;
        let names = [Arc::from(topic)];
        let cluster = client.describe(TopicSelection::Named(&names)).await?;
        let Some(found) = cluster.topics.into_iter().find(|t| *t.name == *topic) else {
            return Ok(None);
        };
        // Settings need a right of their own; what may not be read is shown as unknown.
        let settings = match client.topic_settings(&names).await {
            Ok(settings) => settings.into_iter().next().flatten(),
            Err(error) => {
                log::warn!("cannot read the settings of {topic}: {error}");
                None
            }
        };
        let timestamp_type = |log_append: bool| {
            if log_append {
                "LogAppendTime"
            } else {
                "CreateTime"
            }
        };
        Ok(Some(TopicFacts {
            id: found.id,
            internal: found.internal,
            timestamp_type: settings
                .as_ref()
                .map(|s| timestamp_type(s.log_append_time).to_owned()),
            cleanup_policy: settings.map(|s| s.cleanup_policy),
        }))
    }

    /// The tables and views made in this session, with their columns. `topics` are not among them.
    pub(crate) async fn local_tables(&self, topics: &[String]) -> Vec<(String, Vec<String>)> {
        let Some(schema) = self.default_schema() else {
            return Vec::new();
        };
        // Listing may wait for the cluster.
        let names = tokio::task::block_in_place(|| schema.table_names());
        let mut tables = Vec::new();
        for name in names {
            if topics.contains(&name) {
                continue;
            }
            if let Ok(Some(table)) = schema.table(&name).await {
                let columns = table
                    .schema()
                    .fields()
                    .iter()
                    .map(|f| f.name().clone())
                    .collect();
                tables.push((name, columns));
            }
        }
        tables
    }

    fn default_schema(&self) -> Option<Arc<dyn SchemaProvider>> {
        self.context.catalog(CATALOG)?.schema(KafkaCatalog::SCHEMA)
    }
}

/// How far the scans of a plan are, also while it runs.
pub(crate) fn scan_progress(plan: &Arc<dyn ExecutionPlan>) -> Progress {
    Progress::of(plan)
}
