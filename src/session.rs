//! Sessions that are set up for Kafka.
//!
//! [`KafkaSessionBuilder`] makes a [`SessionContext`] with the catalog, the table functions, `STORED AS
//! KAFKA`, and text functions that work on bytes. [`register`] adds all of this to an existing context, which
//! keeps its own catalogs and SQL dialect.

use std::sync::Arc;

use datafusion::common::config::{ConfigOptions, Dialect};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::client::ClientPool;
use crate::config::ConnectionConfig;
use crate::error::{Error, Result};
use crate::functions::{bytes, from_payload, header};
use crate::policy::{GuardedStores, Policy};
use crate::scan::ScanSettings;
#[cfg(feature = "jobs")]
use crate::sink::parquet::ParquetTableFactory;
use crate::table::{
    KafkaCatalog, KafkaFunction, KafkaOffsetsFunction, KafkaSchema, KafkaTableFactory,
    KafkaTopicsFunction, NameNearestTopics, SessionSnapshots,
};

/// The name of the catalog that a session starts with.
pub const CATALOG: &str = "kafka";

/// The default time zone of a session, which is that of the `timestamp` column.
const TIME_ZONE: &str = "UTC";

/// How many bytes an execution partition of a reversed scan is read ahead of the merge.
const READ_AHEAD_BYTES: usize = 16 << 20;

/// How many rows a filter collects in a session with a memory limit.
const GATHERED_ROWS: usize = 64;

/// Builds a session for a cluster.
///
/// The SQL dialect is PostgreSQL's. DataFusion's default dialect cannot parse a bare `SELECT partition,
/// offset …`, because it takes `offset` after a comma for the OFFSET clause. The time zone is UTC unless the
/// settings have one.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct KafkaSessionBuilder {
    connection: Option<ConnectionConfig>,
    pool: Option<ClientPool>,
    config: Option<SessionConfig>,
    runtime: Option<Arc<RuntimeEnv>>,
    policy: Policy,
    extend: Option<Extend>,
}

/// What is done to a session's state before it is built.
#[derive(Clone)]
struct Extend(Arc<dyn Fn(SessionStateBuilder) -> SessionStateBuilder + Send + Sync>);

impl std::fmt::Debug for Extend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Extend")
    }
}

impl KafkaSessionBuilder {
    /// A session without a cluster, in which tables name their brokers themselves.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the cluster whose topics are available as tables by their bare names.
    pub fn connection(mut self, connection: ConnectionConfig) -> Self {
        self.connection = Some(connection);
        self
    }

    /// Sets the pool to take clients from. The default is the pool of the process.
    pub fn pool(mut self, pool: ClientPool) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Sets the DataFusion settings to start from. The builder then sets the dialect, the default catalog and
    /// the information schema, and also the time zone if there is none. It lowers
    /// `sort_pushdown_buffer_capacity` to 16 MiB.
    pub fn config(mut self, config: SessionConfig) -> Self {
        self.config = Some(config);
        self
    }

    /// Sets the runtime, for example one with a bounded memory pool. With one, DataFusion collects fewer rows
    /// in places where it ignores their bytes: one thread processes each partition, and filters emit smaller
    /// batches.
    pub fn runtime(mut self, runtime: Arc<RuntimeEnv>) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Sets what text in the session may do. The default is everything that the process may do. A restricted
    /// session may also reach the hosts of its [connection](Self::connection).
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets what is done to the session's state before it is built, for example to plan for an engine that
    /// executes plans on other machines.
    pub fn extend(
        mut self,
        extend: impl Fn(SessionStateBuilder) -> SessionStateBuilder + Send + Sync + 'static,
    ) -> Self {
        self.extend = Some(Extend(Arc::new(extend)));
        self
    }

    /// Builds the session, without contacting the cluster.
    ///
    /// # Errors
    /// When a connection setting is refused.
    pub fn build(self) -> Result<SessionContext> {
        let mut config = self
            .config
            .unwrap_or_default()
            .with_information_schema(true)
            .with_default_catalog_and_schema(CATALOG, KafkaCatalog::SCHEMA)
            .with_create_default_catalog_and_schema(false);
        let options = config.options_mut();
        options.sql_parser.dialect = Dialect::PostgreSQL;
        // Read ahead for a merge of reversed scans. DataFusion's default is a gigabyte each.
        let ahead = &mut options.execution.sort_pushdown_buffer_capacity;
        *ahead = (*ahead).min(READ_AHEAD_BYTES);
        let limited = self.runtime.as_ref().is_some_and(|runtime| {
            matches!(runtime.memory_pool.memory_limit(), MemoryLimit::Finite(_))
        });
        if limited {
            // Repartitioning collects batches by rows, regardless of their bytes.
            options.optimizer.enable_round_robin_repartition = false;
        }
        // Without a zone, `TIMESTAMP WITH TIME ZONE` and `now()` have none either.
        let zone = &mut options.execution.time_zone;
        *zone = zone.take().or_else(|| Some(TIME_ZONE.to_owned()));

        let mut policy = self.policy;
        if let Some(connection) = &self.connection {
            policy = policy.allow_hosts_of(connection);
        }
        let mut runtime = self.runtime;
        if policy.is_restricted() {
            // Takes everything from the runtime except the stores registered with it.
            let base = runtime.unwrap_or_default();
            let guarded = RuntimeEnvBuilder::from_runtime_env(&base)
                .with_object_store_registry(Arc::new(GuardedStores::new(policy.clone())));
            runtime = Some(guarded.build_arc().map_err(registering)?);
        }
        config.set_extension(Arc::new(policy.clone()));
        let connection = take_budget(&mut config, self.connection);
        let mut builder = SessionStateBuilder::new_with_default_features().with_config(config);
        if let Some(runtime) = runtime {
            builder = builder.with_runtime_env(runtime);
        }
        if limited {
            builder = builder.with_physical_optimizer_rule(Arc::new(FewRowsGathered));
        }
        // Before DataFusion's, which only accept text.
        let planners = builder.expr_planners().get_or_insert_default();
        planners.insert(0, Arc::new(bytes::SubstringOfBytes));
        if let Some(Extend(extend)) = &self.extend {
            builder = extend(builder);
        }
        let context = SessionContext::new_with_state(builder.build());
        let pool = self.pool.unwrap_or_else(ClientPool::global);
        let schema = match &connection {
            Some(connection) => KafkaSchema::new(connection, &pool)?,
            None => KafkaSchema::empty(),
        };
        let schema = Arc::new(schema);
        let place = (CATALOG, KafkaCatalog::SCHEMA);
        let planner = NameNearestTopics {
            place,
            schema: Arc::clone(&schema),
        };
        context
            .register_relation_planner(Arc::new(planner))
            .map_err(registering)?;
        context.register_catalog(CATALOG, Arc::new(KafkaCatalog::with_schema(schema)));
        register_with(&context, connection, pool, &policy)?;
        Ok(context)
    }
}

/// Makes filters emit batches of few rows. They collect rows by number, regardless of their bytes, and no
/// pool counts them.
#[derive(Debug)]
struct FewRowsGathered;

impl PhysicalOptimizerRule for FewRowsGathered {
    fn name(&self) -> &'static str {
        "few_rows_gathered"
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let changed = plan.transform_up(|node| match node.downcast_ref::<FilterExec>() {
            Some(filter) => {
                let filter = filter.with_batch_size(GATHERED_ROWS)?;
                Ok(Transformed::yes(Arc::new(filter) as Arc<dyn ExecutionPlan>))
            }
            None => Ok(Transformed::no(node)),
        });
        changed.map(|changed| changed.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Adds the table functions, `STORED AS KAFKA`, the sinks of the enabled features, the text functions on
/// bytes and the functions on JSON text to `context`.
///
/// `connection` is used where a table's options name no brokers. The context keeps its SQL dialect; unless
/// that is one like `postgresql`, the column must be written `"offset"`. It keeps its planner of `substr`,
/// which only accepts text. It also keeps its time zone: without one, `TIMESTAMP WITH TIME ZONE` and `now()`
/// have none either, and formats write such columns as times without a zone.
///
/// # Errors
/// When a function cannot be registered.
pub fn register(context: &SessionContext, connection: Option<ConnectionConfig>) -> Result<()> {
    register_with(
        context,
        connection,
        ClientPool::global(),
        &Policy::default(),
    )
}

fn register_with(
    context: &SessionContext,
    connection: Option<ConnectionConfig>,
    pool: ClientPool,
    policy: &Policy,
) -> Result<()> {
    let connection = take_budget(context.state_ref().write().config_mut(), connection);
    let mut factory = KafkaTableFactory::new().with_pool(pool.clone());
    if let Some(connection) = &connection {
        factory = factory.with_connection(connection.clone());
    }
    let state = context.state_ref();
    {
        let mut state = state.write();
        let snapshots = Arc::<SessionSnapshots>::default();
        state.config_mut().set_extension(snapshots);
        state
            .table_factories_mut()
            .insert("KAFKA".to_owned(), Arc::new(factory));
        #[cfg(feature = "postgres")]
        state.table_factories_mut().insert(
            "POSTGRES".to_owned(),
            Arc::new(crate::sink::postgres::PostgresTableFactory::default()),
        );
        #[cfg(feature = "sqlite")]
        state.table_factories_mut().insert(
            "SQLITE".to_owned(),
            Arc::new(crate::sink::sqlite::SqliteTableFactory::default()),
        );
        #[cfg(feature = "jobs")]
        state
            .table_factories_mut()
            .insert("PARQUET".to_owned(), Arc::new(ParquetTableFactory));
        for function in bytes::functions() {
            state.register_udf(function).map_err(registering)?;
        }
        for function in header::functions() {
            state
                .register_udf(Arc::new(function))
                .map_err(registering)?;
        }
        for function in from_payload::functions(policy) {
            state
                .register_udf(Arc::new(function))
                .map_err(registering)?;
        }
        state
            .register_function_rewrite(Arc::new(bytes::CompareBytes))
            .map_err(registering)?;
        datafusion_functions_json::register_all(&mut *state).map_err(registering)?;
    }
    let pool = || Some(pool.clone());
    let kafka = KafkaFunction::new(connection.clone(), pool());
    context.register_udtf("kafka", Arc::new(kafka));
    let offsets = KafkaOffsetsFunction::new(connection.clone(), pool());
    context.register_udtf("kafka_offsets", Arc::new(offsets));
    let topics = KafkaTopicsFunction::new(connection, pool());
    context.register_udtf("kafka_topics", Arc::new(topics));
    Ok(())
}

/// Makes the budget in the settings one that counts for all tables of the session together, where `SET` finds it.
fn take_budget(
    config: &mut SessionConfig,
    connection: Option<ConnectionConfig>,
) -> Option<ConnectionConfig> {
    let extensions = &mut config.options_mut().extensions;
    let mut settings = extensions
        .get::<ScanSettings>()
        .cloned()
        .unwrap_or_default();
    if let Some(connection) = &connection {
        settings.budget = settings.budget.and(&connection.scan_budget());
    }
    extensions.insert(settings);
    connection.map(ConnectionConfig::without_scan_budget)
}

fn registering(error: datafusion::error::DataFusionError) -> Error {
    Error::Kafka {
        operation: "registering a function".to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement;

    async fn shown(context: &SessionContext, sql: &str) -> Vec<String> {
        let frame = statement::sql(context, sql).await.unwrap();
        let batches = frame.collect().await.unwrap();
        let cells = batches.iter().flat_map(|batch| {
            batch
                .columns()
                .iter()
                .map(|column| arrow::util::display::array_value_to_string(column, 0).unwrap())
        });
        cells.collect()
    }

    #[tokio::test]
    async fn times_with_a_zone_are_in_utc_unless_the_settings_say_otherwise() {
        let sql = "SELECT arrow_typeof(now()) AS a, \
                   arrow_typeof(CAST(NULL AS TIMESTAMP(6) WITH TIME ZONE)) AS b, \
                   arrow_typeof(CAST(NULL AS TIMESTAMPTZ)) AS c, \
                   arrow_typeof(CAST(NULL AS TIMESTAMP)) AS d";
        let context = KafkaSessionBuilder::new().build().unwrap();
        assert_eq!(
            shown(&context, sql).await,
            [
                r#"Timestamp(ns, "UTC")"#,
                r#"Timestamp(µs, "UTC")"#,
                r#"Timestamp(ns, "UTC")"#,
                "Timestamp(ns)"
            ]
        );

        let config = SessionConfig::new().set_str("datafusion.execution.time_zone", "+02:00");
        let context = KafkaSessionBuilder::new().config(config).build().unwrap();
        assert_eq!(
            shown(&context, "SELECT arrow_typeof(now())").await,
            [r#"Timestamp(ns, "+02:00")"#]
        );
    }
}
