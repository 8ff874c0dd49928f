//! A cluster as a catalog: `SELECT … FROM prod.topics.orders`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::TableType;
use kafka_arrow::BoundedCache;
use tokio::runtime::Builder;

use super::{KafkaTable, TopicSource};
use crate::client::{ClientPool, KafkaClient, TopicSelection};
use crate::config::ConnectionConfig;
use crate::error::{Error, External as _};

/// For so long a list of topics serves names and completions.
const TOPICS_FRESH: Duration = Duration::from_secs(5);

/// How many names that are no topics are remembered: more than a statement holds.
const MISSING_KEPT: usize = 256;

/// A cluster whose schema `topics` has every topic as a table, with all its records.
///
/// Each look-up makes a fresh table, so a topic that was created a moment ago is there. One that was deleted a moment ago
/// may be, too: reading it says that it is not.
#[derive(Debug)]
pub struct KafkaCatalog {
    name: String,
    schema: Arc<KafkaSchema>,
}

impl KafkaCatalog {
    /// The schema's usual name.
    pub const SCHEMA: &'static str = "topics";

    /// A catalog over the cluster that `config` names; nothing is asked yet.
    ///
    /// # Errors
    /// When a setting is refused.
    pub fn new(config: &ConnectionConfig) -> crate::Result<Self> {
        let schema = KafkaSchema::new(config, &ClientPool::global())?;
        Ok(Self::with_schema(Arc::new(schema)))
    }

    /// A catalog of one schema.
    pub fn with_schema(schema: Arc<KafkaSchema>) -> Self {
        Self {
            name: Self::SCHEMA.to_owned(),
            schema,
        }
    }
}

impl CatalogProvider for KafkaCatalog {
    fn schema_names(&self) -> Vec<String> {
        vec![self.name.clone()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == self.name).then(|| Arc::clone(&self.schema) as _)
    }
}

/// The topics of a cluster as tables, next to tables and views that the session creates.
///
/// A created table hides a topic of the same name.
#[derive(Debug)]
pub struct KafkaSchema {
    cluster: Option<Cluster>,
    created: Mutex<HashMap<String, Arc<dyn TableProvider>>>,
}

#[derive(Debug)]
struct Cluster {
    config: ConnectionConfig,
    pool: ClientPool,
    client: Arc<dyn KafkaClient>,
    topics: Mutex<Option<(Instant, Vec<String>)>>,
    /// Names that were asked for and are no topics, with the error that says so.
    missing: Mutex<BoundedCache<String, Error>>,
}

impl KafkaSchema {
    /// The topics of the cluster that `config` names; nothing is asked yet.
    ///
    /// # Errors
    /// When a setting is refused.
    pub fn new(config: &ConnectionConfig, pool: &ClientPool) -> crate::Result<Self> {
        Ok(Self {
            cluster: Some(Cluster {
                config: config.clone(),
                pool: pool.clone(),
                client: pool.client(config)?,
                topics: Mutex::default(),
                missing: Mutex::new(BoundedCache::new(MISSING_KEPT)),
            }),
            created: Mutex::default(),
        })
    }

    /// A schema without a cluster: created tables only.
    pub fn empty() -> Self {
        Self {
            cluster: None,
            created: Mutex::default(),
        }
    }

    /// Why the last look-up of `name` found no table.
    pub(super) fn missing(&self, name: &str) -> Option<Error> {
        self.cluster.as_ref()?.missing().get(name).cloned()
    }

    fn created(&self) -> MutexGuard<'_, HashMap<String, Arc<dyn TableProvider>>> {
        // The map is whole after any panic: each change is one insert or remove.
        self.created.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    fn missing(&self) -> MutexGuard<'_, BoundedCache<String, Error>> {
        // As whole after a panic as the tables that were created.
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the last list of names has it and is fresh. Whoever looks at all tables, as
    /// `information_schema.columns` does, asks for the list first, and then once for each name.
    fn is_listed(&self, name: &str) -> bool {
        // Not free while it is asked for.
        self.topics.try_lock().is_ok_and(|listed| {
            let fresh = listed
                .as_ref()
                .filter(|(asked, _)| asked.elapsed() < TOPICS_FRESH);
            fresh.is_some_and(|(_, names)| names.binary_search_by(|n| n.as_str().cmp(name)).is_ok())
        })
    }

    /// The topics' names in order, asked for when the last answer is older than [`TOPICS_FRESH`].
    ///
    /// DataFusion asks for names without await; the answer is waited for on a thread of its own,
    /// which works under every kind of runtime. An error gives no names: the query that follows
    /// will show it.
    fn names(&self) -> Vec<String> {
        let mut cached = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((asked, names)) = cached.as_ref()
            && asked.elapsed() < TOPICS_FRESH
        {
            return names.clone();
        }
        let client = Arc::clone(&self.client);
        let asking = thread::spawn(move || {
            // The caller's runtime may have no other thread that would drive its timers.
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| Error::Kafka {
                operation: "listing topics".to_owned(),
                reason: e.to_string(),
            })?;
            runtime.block_on(client.describe(TopicSelection::All))
        });
        let names = match asking.join() {
            Ok(Ok(cluster)) => {
                let topics = cluster.topics.iter().filter(|topic| !topic.internal);
                let mut names: Vec<String> = topics.map(|topic| topic.name.to_string()).collect();
                names.sort();
                names
            }
            Ok(Err(error)) => {
                log::warn!("cannot list the topics: {error}");
                vec![]
            }
            Err(_) => vec![],
        };
        // None either: whoever lists again does not wait for the same error at once.
        *cached = Some((Instant::now(), names.clone()));
        names
    }
}

#[async_trait]
impl SchemaProvider for KafkaSchema {
    fn table_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.created().keys().cloned().collect();
        if let Some(cluster) = &self.cluster {
            names.extend(cluster.names());
        }
        names.sort();
        names.dedup();
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if let Some(table) = self.created().get(name) {
            return Ok(Some(Arc::clone(table)));
        }
        let Some(cluster) = &self.cluster else {
            return Ok(None);
        };
        let unknown = match cluster.is_listed(name) {
            true => None,
            // Asked for now: CREATE VIEW takes any table that is found for one that exists already.
            // Anything but an answer without the topic shows when the table is read.
            false => TopicSource::Named(vec![name.into()])
                .describe(cluster.client.as_ref())
                .await
                .err()
                .filter(|error| matches!(error, Error::UnknownTopic { .. })),
        };
        {
            let mut missing = cluster.missing();
            if let Some(unknown) = unknown {
                missing.insert(name.to_owned(), unknown);
                return Ok(None);
            }
            missing.remove(name);
        }
        let table = KafkaTable::builder(&cluster.config)
            .pool(cluster.pool.clone())
            .topic(name)
            .build_lazy()
            .external()?;
        Ok(Some(Arc::new(table)))
    }

    /// What was created has its type; any other name can only be a topic, which is not looked up.
    async fn table_type(&self, name: &str) -> Result<Option<TableType>, DataFusionError> {
        let created = self.created().get(name).map(|t| t.table_type());
        Ok(created.or(self.cluster.is_some().then_some(TableType::Base)))
    }

    fn register_table(
        &self,
        name: String,
        table: Arc<dyn TableProvider>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        let mut created = self.created();
        if created.contains_key(&name) {
            return Err(Error::invalid(format!("the table '{name}' already exists")).external());
        }
        Ok(created.insert(name, table))
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        // A topic is never dropped: what does not lie in the map stays.
        Ok(self.created().remove(name))
    }

    /// Whether such a table was created. A topic does not count: a table of its name may be
    /// created and then hides it.
    fn table_exist(&self, name: &str) -> bool {
        self.created().contains_key(name)
    }
}
