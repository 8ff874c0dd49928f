//! Statements on a cluster of Ballista: the flags of the client, and the cluster's scheduler and executors.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion_kafka_ballista::{
    Ballista, executor_config, scheduler_config, serve_executor, serve_scheduler,
};
use tokio::net::TcpListener;

use crate::connection::Connection;
use crate::failure::Failure;
use crate::interrupt::Signals;
use crate::ui::{self, Ui};

/// The cluster that statements run on.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Ballista")]
pub(crate) struct BallistaArgs {
    /// Run statements on the cluster of Ballista with this scheduler
    #[arg(
        long,
        global = true,
        env = "KAFKA_SQL_BALLISTA",
        value_name = "HOST:PORT"
    )]
    #[cfg_attr(feature = "distributed", arg(conflicts_with = "workers"))]
    ballista: Option<String>,
    /// Into how many partitions plans are cut
    #[arg(long, global = true, value_name = "N", default_value_t = 16)]
    ballista_partitions: usize,
}

/// A scheduler.
#[derive(Debug, Args)]
pub(crate) struct SchedulerArgs {
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50050")]
    listen: String,
    /// After how many seconds without a word an executor is lost; a busy one says one every five
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(10..))]
    executor_timeout: u64,
    /// Listen beyond this machine although anybody may send plans
    #[arg(long)]
    insecure: bool,
}

/// An executor.
#[derive(Debug, Args)]
pub(crate) struct ExecutorArgs {
    /// The scheduler
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50050")]
    scheduler: String,
    /// Where to listen for those who fetch rows: an address and a port
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:50051")]
    listen: String,
    /// Under which name others reach this machine [default: the address that it listens on]
    #[arg(long)]
    host: Option<String>,
    /// How many partitions are executed at once [default: the machine's cores]
    #[arg(long, value_name = "N")]
    vcores: Option<usize>,
    /// Where the rows between stages are kept [default: a temporary folder]
    #[arg(long, value_name = "FOLDER")]
    work_dir: Option<String>,
    /// A file with the settings of a further cluster, which has a connection.name; any number of times
    #[arg(long, value_name = "FILE")]
    connection: Vec<PathBuf>,
    /// Listen beyond this machine although anybody may fetch rows
    #[arg(long)]
    insecure: bool,
}

impl BallistaArgs {
    /// Whether statements are for a cluster of Ballista.
    pub(crate) fn is_named(&self) -> bool {
        self.ballista.is_some()
    }

    /// The cluster, if one was named.
    ///
    /// # Errors
    /// When its scheduler does not answer.
    pub(crate) async fn cluster(&self) -> Result<Option<Ballista>, Failure> {
        let Some(scheduler) = &self.ballista else {
            return Ok(None);
        };
        let cluster = Ballista::new(scheduler).partitions(self.ballista_partitions);
        cluster.check().await?;
        Ok(Some(cluster))
    }

    /// Refuses what would run here although a cluster is named.
    pub(crate) fn refuse_export(&self) -> Result<(), Failure> {
        match self.ballista {
            None => Ok(()),
            Some(_) => Err(Failure::usage(
                "--ballista is for statements and jobs: an export is read and written by this process; leave \
                 --ballista out, or export with --workers",
            )),
        }
    }
}

async fn listener(address: &str, insecure: bool) -> Result<TcpListener, Failure> {
    let refused = |e: std::io::Error| Failure::usage(format!("--listen {address}: {e}"));
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let there = listener.local_addr().map_err(refused)?;
    if !there.ip().is_loopback() && !insecure {
        return Err(Failure::usage(format!(
            "--listen {address}: Ballista asks for no login, and whoever reaches {there} may read every topic that \
             the executors may read: keep the cluster in a network of its own, and say --insecure"
        )));
    }
    Ok(listener)
}

fn ended(error: impl std::fmt::Display) -> Failure {
    Failure::usage(format!("Ballista: {error}"))
}

/// Serves as the scheduler until the process is told to end.
///
/// # Errors
/// When it cannot listen, or would listen to everybody.
pub(crate) async fn schedule(args: SchedulerArgs, ui: Ui) -> Result<(), Failure> {
    let listener = listener(&args.listen, args.insecure).await?;
    if let (false, Ok(address)) = (ui.quiet, listener.local_addr()) {
        ui::note(format_args!("kafka-sql: scheduler listens on {address}"));
    }
    let mut config = scheduler_config();
    config.executor_timeout_seconds = args.executor_timeout;
    config.no_executors_grace_period_seconds = args.executor_timeout;
    config.expire_dead_executor_interval_seconds = (args.executor_timeout / 6).max(1);
    let mut signals = Signals::new()?;
    tokio::select! {
        served = serve_scheduler(listener, config) => served.map_err(ended),
        () = signals.next() => Ok(()),
    }
}

/// Serves as an executor until the process is told to end.
///
/// # Errors
/// When it cannot listen, would listen to everybody, or reaches no scheduler.
pub(crate) async fn execute(
    args: ExecutorArgs,
    connection: Connection,
    ui: Ui,
) -> Result<(), Failure> {
    let (host, port) = args
        .scheduler
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)))
        .ok_or_else(|| {
            Failure::usage(format!(
                "--scheduler {}: expected host:port",
                args.scheduler
            ))
        })?;
    // Ballista listens itself, on the same address.
    let listener = listener(&args.listen, args.insecure).await?;
    let address = listener
        .local_addr()
        .map_err(|e| Failure::usage(format!("--listen {}: {e}", args.listen)))?;
    drop(listener);
    let connections = Arc::new(connection.own(&args.connection)?);
    let mut config = executor_config(connections).map_err(ended)?;
    config.scheduler_host = host;
    config.scheduler_port = port;
    config.bind_host = address.ip().to_string();
    config.port = address.port();
    config.external_host = args.host.or_else(|| Some(address.ip().to_string()));
    config.work_dir = args.work_dir;
    if let Some(vcores) = args.vcores {
        config.vcores = vcores;
    }
    if let MemoryLimit::Finite(bytes) = connection.runtime().memory_pool.memory_limit() {
        config.memory_pool_size = Some(bytes as u64);
    }
    if !ui.quiet {
        ui::note(format_args!("kafka-sql: executor listens on {address}"));
    }
    serve_executor(config).await.map_err(ended)
}
