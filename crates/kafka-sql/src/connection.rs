//! How to reach a cluster and what statements may do: the flags, and their resolved values.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use datafusion::execution::context::SessionContext;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
#[cfg(feature = "serve")]
use datafusion::prelude::SessionConfig;
use datafusion_kafka::client::ClientPool;
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::policy::Policy;
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::table::{KafkaTable, KafkaTableBuilder, TableOptions};
use datafusion_kafka::text::visible;

use crate::budget::{self, BudgetArgs};
use crate::failure::Failure;

/// Where the cluster is and how to talk to it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// Brokers to start from, as host:port, separated by commas
    #[arg(
        short,
        long,
        global = true,
        env = "KAFKA_SQL_BOOTSTRAP_SERVERS",
        value_name = "HOSTS"
    )]
    pub(crate) bootstrap_servers: Option<String>,
    /// Read settings from a Java client.properties or librdkafka file
    #[arg(
        short = 'F',
        long = "config",
        global = true,
        env = "KAFKA_SQL_CONFIG",
        value_name = "FILE"
    )]
    pub(crate) config: Option<PathBuf>,
    /// Set one setting; `-X dump` prints those in effect, `-X list` those that exist
    #[arg(short = 'X', global = true, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    #[arg(skip)]
    pub(crate) environment: Environment,
    #[command(flatten)]
    pub(crate) budget: BudgetArgs,
    /// Memory that queries, exports and jobs may hold, such as 256M or 2G [default: no limit]
    #[arg(long, global = true, value_name = "SIZE", help_heading = "Memory", value_parser = parse_size)]
    pub(crate) memory_limit: Option<usize>,
}

/// Which of [`ConnectionArgs`] come from environment variables.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Environment {
    pub(crate) brokers: bool,
    pub(crate) config: bool,
}

impl ConnectionArgs {
    /// Those `-X` that are settings.
    pub(crate) fn settings(&self) -> impl Iterator<Item = &str> {
        self.set
            .iter()
            .map(String::as_str)
            .filter(|s| !matches!(*s, "list" | "dump"))
    }

    /// Refuses the flags for a service, whose file names its connections. What the environment says is for others.
    ///
    /// # Errors
    /// When there are any.
    #[cfg(feature = "serve")]
    pub(crate) fn refuse_for_service(&self) -> Result<(), Failure> {
        let brokers = self.bootstrap_servers.is_some() && !self.environment.brokers;
        let config = self.config.is_some() && !self.environment.config;
        let budget = !self.budget.settings()?.scan_budget().is_unlimited();
        let given = [
            ("-b", brokers),
            ("-F", config),
            ("-X", !self.set.is_empty()),
            ("--memory-limit", self.memory_limit.is_some()),
            ("--max-scan-…", budget),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((flag, _)) => Err(Failure::usage(format!(
                "{flag}: the file of a service has its connections in [connections.NAME] and its limit of memory in \
                 [service]"
            ))),
        }
    }

    /// Whether `-X` asks a question: `list` or `dump`.
    pub(crate) fn asks(&self, question: &str) -> bool {
        self.set.iter().any(|s| s == question)
    }
}

/// Reads `256M`, as DataFusion does where the limit is SET.
fn parse_size(text: &str) -> Result<usize, String> {
    SessionContext::parse_capacity_limit("--memory-limit", text)
        .map_err(|e| e.message().into_owned())
}

/// What the text of statements may do.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Authority")]
pub(crate) struct AuthorityArgs {
    /// Run statements that somebody else wrote: only with the files, hosts and settings that you allow
    #[arg(long, global = true)]
    restricted: bool,
    /// Allow a restricted session a file, a folder or an object store's URL; any number of times
    #[arg(long, global = true, value_name = "PATH", requires = "restricted")]
    allow_path: Vec<String>,
    /// Allow a restricted session a host besides those of -b and -X; any number of times
    #[arg(
        long,
        global = true,
        value_name = "HOST[:PORT]",
        requires = "restricted"
    )]
    allow_host: Vec<String>,
}

impl AuthorityArgs {
    /// Refuses the flags for a service: its jobs are the operator's, and all others only read.
    ///
    /// # Errors
    /// When there are any.
    #[cfg(feature = "serve")]
    pub(crate) fn refuse_for_service(&self) -> Result<(), Failure> {
        match self.restricted {
            false => Ok(()),
            true => Err(Failure::usage(
                "--restricted: the jobs of a service are yours, and whoever else asks it may only read",
            )),
        }
    }

    /// The policy of the flags; `overwrite` lets `COPY` replace files.
    pub(crate) fn policy(&self, overwrite: bool) -> Result<Policy, Failure> {
        if !self.restricted {
            return Ok(Policy::default().keep_files(!overwrite));
        }
        let usage = |e: datafusion_kafka::Error| Failure::usage(e.to_string());
        let mut policy = Policy::restricted();
        for path in &self.allow_path {
            policy = policy.allow_path(path).map_err(usage)?;
        }
        for host in &self.allow_host {
            policy = policy.allow_host(host).map_err(usage)?;
        }
        Ok(policy)
    }
}

/// How to reach the cluster, resolved from flags, environment and file.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    config: ConnectionConfig,
    /// Where the settings come from, by name.
    sources: BTreeMap<String, String>,
    pool: ClientPool,
    policy: Policy,
    /// What bounds the memory of sessions and exports.
    runtime: Arc<RuntimeEnv>,
    /// How many streams a statement has, unless as many as the machine has cores.
    #[cfg(feature = "serve")]
    cores: Option<usize>,
    #[cfg(feature = "distributed")]
    coordinator: Option<datafusion_kafka_distributed::Coordinator>,
    #[cfg(feature = "ballista")]
    ballista: Option<datafusion_kafka_ballista::Ballista>,
}

impl Connection {
    /// Merges the settings: `-X` over the brokers of the flag or environment, and these over the file.
    ///
    /// # Errors
    /// When a setting is unknown, has a wrong value or is given twice.
    pub(crate) fn resolve(args: &ConnectionArgs) -> Result<Self, Failure> {
        // What is wrong here was typed on the command line or stands in a file named there.
        let usage = |e: datafusion_kafka::Error| Failure::usage(e.to_string());
        let mut sources = BTreeMap::new();
        let mut came = |from: &ConnectionConfig, source: &str| {
            let keys = from.properties().map(|(key, _)| key.to_owned());
            sources.extend(keys.map(|key| (key, source.to_owned())));
        };
        let mut config = match &args.config {
            Some(path) => ConnectionConfig::from_file(path).map_err(usage)?,
            None => ConnectionConfig::empty(),
        };
        if let Some(path) = &args.config {
            let file = match args.environment.config {
                true => format!("file {} of KAFKA_SQL_CONFIG", path.display()),
                false => format!("file {}", path.display()),
            };
            came(&config, &file);
        }
        if let Some(hosts) = &args.bootstrap_servers {
            let mut brokers = ConnectionConfig::empty();
            brokers.set("bootstrap.servers", hosts).map_err(usage)?;
            let source = match args.environment.brokers {
                true => "environment KAFKA_SQL_BOOTSTRAP_SERVERS",
                false => "option -b",
            };
            came(&brokers, source);
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
        came(&flags, "option -X");
        config.merge(&flags);
        let flags = args.budget.settings()?;
        came(&flags, "option --max-scan-…");
        config.merge(&flags);
        let runtime = RuntimeEnvBuilder::new();
        let runtime = match args.memory_limit {
            Some(bytes) => runtime.with_memory_limit(bytes, 1.0),
            None => runtime,
        };
        Ok(Self {
            config,
            sources,
            pool: ClientPool::global(),
            policy: Policy::default(),
            runtime: runtime.build_arc()?,
            #[cfg(feature = "serve")]
            cores: None,
            #[cfg(feature = "distributed")]
            coordinator: None,
            #[cfg(feature = "ballista")]
            ballista: None,
        })
    }

    /// A connection with these settings, whose sessions share memory and cores with others.
    #[cfg(feature = "serve")]
    pub(crate) fn of(
        config: ConnectionConfig,
        runtime: Arc<RuntimeEnv>,
        cores: Option<usize>,
    ) -> Self {
        Self {
            config,
            sources: BTreeMap::new(),
            pool: ClientPool::global(),
            policy: Policy::default(),
            runtime,
            cores,
            #[cfg(feature = "distributed")]
            coordinator: None,
            #[cfg(feature = "ballista")]
            ballista: None,
        }
    }

    /// The settings in effect, exactly one a line, with secrets masked.
    pub(crate) fn dump(&self) -> String {
        self.config
            .properties()
            .map(|(key, value)| visible(&format!("{key}={value}"), &[]).into_owned())
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The settings in effect with where they come from, secrets masked, and the defaults of those that decide
    /// how to connect.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let given = self.config.properties().map(|(key, value)| Setting {
            key: key.to_owned(),
            value: value.to_owned(),
            source: self.sources.get(key).cloned().unwrap_or_default(),
        });
        let mut all: Vec<Setting> = given.collect();
        let millis = |time: Duration| time.as_millis().to_string();
        let tls = matches!(self.config.get("security.protocol"), Some(p) if p.ends_with("ssl"));
        let trusted = ["ssl.ca.location", "ssl.ca.pem", "ssl.truststore.location"];
        let trusts = trusted
            .into_iter()
            .any(|key| self.config.get(key).is_some());
        for (key, default) in [
            ("security.protocol", "plaintext".to_owned()),
            ("client", "auto".to_owned()),
            ("isolation.level", "read_committed".to_owned()),
            ("request.timeout.ms", millis(self.config.request_timeout())),
            ("read.timeout.ms", millis(self.config.read_timeout())),
            ("ssl.ca.location", "the system's certificates".to_owned()),
        ] {
            let applies = key != "ssl.ca.location" || (tls && !trusts);
            if applies && self.config.get(key).is_none() {
                all.push(Setting {
                    key: key.to_owned(),
                    value: default,
                    source: "default".to_owned(),
                });
            }
        }
        all
    }

    /// A table of the cluster, to be given its topics.
    ///
    /// # Errors
    /// When no cluster was named.
    pub(crate) fn table(&self) -> Result<KafkaTableBuilder, Failure> {
        let config = self.cluster().ok_or_else(no_cluster)?;
        Ok(KafkaTable::builder(config).pool(self.pool.clone()))
    }

    /// The same with options of a table, each `NAME=VALUE`.
    ///
    /// # Errors
    /// When an option is unknown, or has a wrong value.
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

    /// What sessions are built of, but for the cluster.
    pub(crate) fn session(&self) -> KafkaSessionBuilder {
        let builder = KafkaSessionBuilder::new()
            .runtime(self.runtime())
            .pool(self.pool.clone())
            .policy(self.policy.clone());
        #[cfg(feature = "serve")]
        let builder = match self.cores {
            Some(cores) => builder.config(SessionConfig::new().with_target_partitions(cores)),
            None => builder,
        };
        #[cfg(feature = "distributed")]
        if let Some(coordinator) = self.coordinator.clone() {
            return builder.extend(move |state| coordinator.apply(state));
        }
        #[cfg(feature = "ballista")]
        if let Some(cluster) = self.ballista.clone() {
            return builder.extend(move |state| cluster.apply(state));
        }
        builder
    }

    /// The same for sessions that plan for workers.
    #[cfg(feature = "distributed")]
    pub(crate) fn with_coordinator(
        mut self,
        coordinator: Option<datafusion_kafka_distributed::Coordinator>,
    ) -> Self {
        self.coordinator = coordinator;
        self
    }

    /// The same for sessions that plan for a cluster of Ballista.
    #[cfg(feature = "ballista")]
    pub(crate) fn with_ballista(
        mut self,
        cluster: Option<datafusion_kafka_ballista::Ballista>,
    ) -> Self {
        self.ballista = cluster;
        self
    }

    /// The same for the interactive shell, which reads no more than its budget without asking.
    pub(crate) fn with_default_budget(mut self) -> Self {
        budget::with_defaults(&mut self.config);
        self
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

    /// How to reach the cluster, if one was named.
    pub(crate) fn cluster(&self) -> Option<&ConnectionConfig> {
        Some(&self.config).filter(|config| !config.bootstrap_servers().is_empty())
    }

    /// What this machine reads with when others send it scans: its own cluster, and those of the files.
    ///
    /// # Errors
    /// When a file cannot be read, or a setting in it is refused.
    #[cfg(any(feature = "distributed", feature = "ballista"))]
    pub(crate) fn own(
        &self,
        files: &[PathBuf],
    ) -> Result<datafusion_kafka::scan::OwnConnections, Failure> {
        let further = files.iter().map(ConnectionConfig::from_file);
        let own = self.cluster().cloned().map(Ok).into_iter().chain(further);
        let own: datafusion_kafka::Result<Vec<ConnectionConfig>> = own.collect();
        let own = own.map_err(|e| Failure::usage(e.to_string()))?;
        Ok(datafusion_kafka::scan::OwnConnections::new(
            own,
            self.pool.clone(),
        ))
    }

    /// Where clients come from.
    pub(crate) fn pool(&self) -> &ClientPool {
        &self.pool
    }
}

/// A setting in effect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) key: String,
    pub(crate) value: String,
    /// `option -X`, `file …`, `default`.
    pub(crate) source: String,
}

/// What a command that needs a cluster says without one.
pub(crate) fn no_cluster() -> Failure {
    Failure::usage("there is no cluster to ask; name its brokers with -b")
}
