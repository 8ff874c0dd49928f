//! What clients find in a session: the tables, and PostgreSQL's own catalog about them.
//!
//! A session of Kafka has its tables in the schema `kafka.topics`. Here the same schema is also called `public`, the
//! only name that is listed, and `pg_catalog` lies beside it. That is one for all connections, so that an OID means the
//! same table in each of them, and its static tables are in memory once.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::arrow::array::StringArray;
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    SchemaProvider, TableFunction, TableProvider,
};
use datafusion::common::TableReference;
use datafusion::common::cast::as_string_array;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TableType, Volatility,
    create_udf,
};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion_kafka::config::ScanBudget;
use datafusion_kafka::table::KafkaTable;
use datafusion_pg_catalog::pg_catalog::context::{PgCatalogContextProvider, Role};
use datafusion_pg_catalog::pg_catalog::generate_series_arg_coercion::CoerceIntArgsToBigInt;
use datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;
use datafusion_pg_catalog::pg_catalog::{
    PgCatalogSchemaProvider, PgCatalogStaticTables, setup_pg_catalog,
};

use super::information_schema::{self, InformationSchema};
use super::settings::Settings;
use super::{Sessions, User, login};
use crate::config::Connection;
use crate::opener::{Access, Opener};
use crate::problem::Problem;

/// The schema that clients see.
const PUBLIC: &str = "public";
const PG_CATALOG: &str = "pg_catalog";

/// The tables of a catalog file, which the sessions of all connections share.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables(Vec<(String, Arc<dyn TableProvider>)>);

impl Tables {
    /// Runs the statements of a file that make tables and views, as the operator may.
    ///
    /// # Errors
    /// When one of them fails or is something else, with its line, and when clients may not read one of the tables: their
    /// sessions reach no files.
    pub(super) async fn load(
        opener: &Arc<dyn Opener>,
        connection: &Connection,
        runtime: &Arc<RuntimeEnv>,
        file: &Path,
    ) -> Result<Self, Problem> {
        let context = opener.session(connection, runtime, Access::Operator)?;
        let reader = opener.session(connection, runtime, Access::Reader)?.state();
        let before = created(&context);
        opener.define(&context, file).await?;
        let mut tables = vec![];
        for name in created(&context) {
            if before.contains(&name) {
                continue;
            }
            let table = context.table_provider(TableReference::bare(name.as_str()));
            let table = table.await;
            let table = table.map_err(|e| Problem::new(e.strip_backtrace()))?;
            // A view is of tables that are here, too, and a topic needs no file to be read.
            if table.table_type() == TableType::Base && !table.is::<KafkaTable>() {
                let scan = table.scan(&reader, None, &[], Some(0)).await;
                scan.map_err(|e| {
                    let why = e.strip_backtrace();
                    Problem::new(format!(
                        "the table {name}: sessions of clients cannot read it: {why}"
                    ))
                })?;
            }
            tables.push((name, table));
        }
        Ok(Self(tables))
    }
}

/// The tables that a session has made; topics are others.
fn created(context: &SessionContext) -> Vec<String> {
    let Some(schema) = tables_of(context) else {
        return vec![];
    };
    let names = schema.table_names().into_iter();
    names.filter(|name| schema.table_exist(name)).collect()
}

/// Sessions that may read a connection, with the shared tables and the budgets of their users.
pub(super) fn sessions(
    opener: &Arc<dyn Opener>,
    connection: &Connection,
    runtime: &Arc<RuntimeEnv>,
    tables: Tables,
) -> Sessions {
    let (opener, runtime) = (Arc::clone(opener), Arc::clone(runtime));
    let connection = connection.config.clone();
    Arc::new(move |user: &User| {
        let budget = connection.scan_budget().and(&user.budget);
        let mut config = connection.clone().without_scan_budget();
        for key in ScanBudget::KEYS {
            if let Some(limit) = budget.get(key) {
                config.set(key, &limit)?;
            }
        }
        let context = opener.session(&Connection::new(config), &runtime, Access::Reader)?;
        for (name, table) in &tables.0 {
            let name = TableReference::bare(name.as_str());
            let registered = context.register_table(name, Arc::clone(table));
            registered.map_err(|e| Problem::new(e.strip_backtrace()))?;
        }
        Ok(context)
    })
}

/// The schema in which a session has its tables.
fn tables_of(context: &SessionContext) -> Option<Arc<dyn SchemaProvider>> {
    let state = context.state_ref();
    let names = state.read().config_options().catalog.clone();
    context
        .catalog(&names.default_catalog)?
        .schema(&names.default_schema)
}

/// What the sessions of all connections share of PostgreSQL's catalog.
pub(super) struct PgCatalog {
    functions: Vec<Arc<ScalarUDF>>,
    table_functions: Vec<Arc<TableFunction>>,
    static_tables: Arc<PgCatalogStaticTables>,
    roles: Roles,
    /// Made for the first session, whose tables it lists.
    schema: OnceLock<Arc<dyn SchemaProvider>>,
}

impl PgCatalog {
    /// # Errors
    /// When datafusion-pg-catalog is broken.
    pub(super) fn new(users: &[User]) -> Result<Self, Problem> {
        let broken = |e: DataFusionError| Problem::new(format!("pg_catalog: {e}"));
        // A session with nothing in it, to learn which functions are added.
        let empty = SessionContext::new_with_state(SessionStateBuilder::new().build());
        empty.register_catalog("kafka", Arc::new(MemoryCatalogProvider::new()));
        let roles = Roles(users.iter().map(|user| user.name.clone()).collect());
        setup_pg_catalog(&empty, "kafka", roles.clone()).map_err(|e| broken(*e))?;
        let state = empty.state();
        Ok(Self {
            functions: state.scalar_functions().values().cloned().collect(),
            table_functions: state.table_functions().values().cloned().collect(),
            static_tables: Arc::new(PgCatalogStaticTables::try_new().map_err(broken)?),
            roles,
            schema: OnceLock::new(),
        })
    }

    /// Makes a session one that clients of PostgreSQL understand.
    ///
    /// # Errors
    /// When the session has no tables, or a function cannot be registered.
    pub(super) fn equip(
        &self,
        context: &SessionContext,
        user: &str,
        settings: &Arc<Settings>,
    ) -> DataFusionResult<()> {
        let names = context.state_ref().read().config_options().catalog.clone();
        let tables = tables_of(context)
            .ok_or_else(|| DataFusionError::Internal("the session has no tables".to_owned()))?;
        let catalog = &names.default_catalog;
        let served = |pg_catalog| {
            Arc::new(Served {
                hidden: names.default_schema.clone(),
                tables: Arc::clone(&tables),
                pg_catalog,
                information: None,
            })
        };
        let pg_catalog = match self.schema.get() {
            Some(known) => Arc::clone(known),
            None => {
                let all: Arc<dyn CatalogProviderList> = Arc::new(MemoryCatalogProviderList::new());
                let schema: Arc<dyn SchemaProvider> = Arc::new(PgCatalogSchemaProvider::try_new(
                    Arc::clone(&all),
                    Arc::clone(&self.static_tables),
                    self.roles.clone(),
                )?);
                // It lists itself, too, for as long as the process serves.
                all.register_catalog(catalog.clone(), served(Arc::clone(&schema)));
                Arc::clone(self.schema.get_or_init(|| schema))
            }
        };
        let listed = served(pg_catalog);
        let information = InformationSchema::new(catalog, Arc::clone(&listed) as _);
        let served = Served {
            information: Some(Arc::new(information)),
            ..Served::clone(&listed)
        };
        context.register_catalog(catalog.clone(), Arc::new(served));

        CoerceIntArgsToBigInt::widen(context);
        let state = context.state_ref();
        let mut state = state.write();
        // DataFusion's own, which comes before any of the catalog's.
        let options = state.config_mut().options_mut();
        options.catalog.information_schema = false;
        for function in &self.functions {
            state.register_udf(Arc::clone(function))?;
        }
        for function in of_session(catalog, user, settings) {
            state.register_udf(Arc::new(function))?;
        }
        for function in &self.table_functions {
            state.register_udtf(function.name(), Arc::clone(function.function()));
        }
        let planned = SessionStateBuilder::new_from_existing(state.clone())
            .with_type_planner(Arc::new(PgOidTypePlanner));
        *state = planned.build();
        Ok(())
    }
}

/// The catalog of a session, with the schema of its tables under two names.
#[derive(Debug, Clone)]
struct Served {
    /// What the session itself calls the schema.
    hidden: String,
    tables: Arc<dyn SchemaProvider>,
    pg_catalog: Arc<dyn SchemaProvider>,
    information: Option<Arc<dyn SchemaProvider>>,
}

impl CatalogProvider for Served {
    fn schema_names(&self) -> Vec<String> {
        vec![PUBLIC.to_owned(), PG_CATALOG.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if matches!(name, PG_CATALOG | information_schema::NAME) {
            // They list the tables while rows are made, where nothing should wait for a cluster. It is asked now, while
            // the statement is planned, and what it answers is known then.
            self.tables.table_names();
        }
        match name {
            PUBLIC => Some(Arc::clone(&self.tables)),
            PG_CATALOG => Some(Arc::clone(&self.pg_catalog)),
            information_schema::NAME => self.information.clone(),
            _ if name == self.hidden => Some(Arc::clone(&self.tables)),
            _ => None,
        }
    }
}

/// The users as roles, none of which may do anything but log in.
#[derive(Debug, Clone)]
struct Roles(Arc<[String]>);

#[async_trait]
impl PgCatalogContextProvider for Roles {
    async fn roles(&self) -> Vec<String> {
        self.0.to_vec()
    }

    async fn role(&self, name: &str) -> Option<Role> {
        Some(Role {
            name: name.to_owned(),
            is_superuser: false,
            can_login: true,
            can_create_db: false,
            can_create_role: false,
            can_create_user: false,
            can_replication: false,
            grants: vec![],
            inherited_roles: vec![],
        })
    }
}

/// The functions that know the session.
fn of_session(database: &str, user: &str, settings: &Arc<Settings>) -> Vec<ScalarUDF> {
    let constant = |name: &str, value: String| {
        let function = move |_: &[ColumnarValue]| {
            Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(
                value.clone(),
            ))))
        };
        let volatility = Volatility::Stable;
        create_udf(name, vec![], DataType::Utf8, volatility, Arc::new(function))
    };
    let settings = Arc::clone(settings);
    let current_setting = move |arguments: &[ColumnarValue]| {
        let names = ColumnarValue::values_to_arrays(arguments)?;
        let names = as_string_array(&names[0])?;
        let values = names.iter().map(|name| {
            let shown = name.map(|name| settings.show(name)).transpose();
            shown.map_err(|e| DataFusionError::External(Box::new(e)))
        });
        let values: StringArray = values.collect::<DataFusionResult<_>>()?;
        Ok(ColumnarValue::Array(Arc::new(values)))
    };
    let nothing = |name, of: DataType| ScalarUDF::new_from_impl(Nothing::new(name, of));
    vec![
        constant("current_database", database.to_owned()),
        constant("session_user", user.to_owned()),
        constant("version", format!("PostgreSQL {}", login::server_version())),
        create_udf(
            "current_setting",
            vec![DataType::Utf8],
            DataType::Utf8,
            Volatility::Stable,
            Arc::new(current_setting),
        ),
        nothing("obj_description", DataType::Utf8),
        nothing("shobj_description", DataType::Utf8),
        nothing("col_description", DataType::Utf8),
        nothing("pg_get_indexdef", DataType::Utf8),
        nothing("pg_get_viewdef", DataType::Utf8),
        nothing("pg_get_serial_sequence", DataType::Utf8),
        nothing("pg_get_function_result", DataType::Utf8),
        nothing("pg_table_size", DataType::Int64),
        nothing("pg_size_pretty", DataType::Utf8),
    ]
}

/// A function of PostgreSQL about things that there are none of here: NULL for any arguments.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Nothing {
    name: &'static str,
    of: DataType,
    signature: Signature,
}

impl Nothing {
    fn new(name: &'static str, of: DataType) -> Self {
        let signature = Signature::variadic_any(Volatility::Stable);
        Self {
            name,
            of,
            signature,
        }
    }
}

impl ScalarUDFImpl for Nothing {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.of.clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        ScalarValue::try_from(&self.of).map(ColumnarValue::Scalar)
    }
}
