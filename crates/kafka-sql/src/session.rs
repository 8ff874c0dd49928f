//! The session that statements run in, and what it knows of the cluster and its tables.

use std::sync::Arc;

use datafusion::catalog::SchemaProvider;
use datafusion::dataframe::DataFrame;
use datafusion::execution::context::SessionContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_kafka::client::{KafkaClient, TopicSelection};
use datafusion_kafka::policy::Policy;
pub(crate) use datafusion_kafka::scan::ScanProgress as Progress;
use datafusion_kafka::session::CATALOG;
use datafusion_kafka::table::KafkaCatalog;

use crate::connection::{Connection, no_cluster};
use crate::failure::Failure;

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
        let policy = connection.policy().clone();
        let mut builder = connection.session();
        let mut client = None;
        if let Some(config) = connection.cluster() {
            client = Some(connection.pool().client(config)?);
            builder = builder.connection(config.clone());
        }
        Ok(Self {
            context: builder.build()?,
            client,
            policy,
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
        self.client.as_ref().ok_or_else(no_cluster)
    }

    /// Whether a cluster was named.
    pub(crate) fn has_cluster(&self) -> bool {
        self.client.is_some()
    }

    /// The sorted names of the topics; an empty list without a cluster.
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
        // Reading settings needs another right; without it they are shown as unknown.
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
