//! Statements on other machines: the flags of a coordinator, and the worker.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use datafusion_kafka::Error;
use datafusion_kafka::config::secret;
use datafusion_kafka::export::Export;
use datafusion_kafka::policy::Policy;
use datafusion_kafka_distributed::{Coordinator, CoordinatorOptions, Link, Token, Worker, Workers};
use tokio::net::TcpListener;

use crate::connection::Connection;
use crate::failure::Failure;
use crate::interrupt::Signals;
use crate::ui::{self, Ui};

/// Workers, and how coordinator and workers know each other.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Workers")]
pub(crate) struct WorkersArgs {
    /// Run statements on these workers: host:port,… or file:PATH with one a line, or dns:NAME:PORT
    #[arg(
        long,
        global = true,
        env = "KAFKA_SQL_WORKERS",
        value_name = "ADDRESSES"
    )]
    workers: Option<String>,
    /// What coordinator and workers must share: env:NAME or file:PATH
    #[arg(long, global = true, value_name = "REFERENCE")]
    token: Option<String>,
    /// The authority, as PEM, that the other side's certificate must come from; asks for TLS
    #[arg(long, global = true, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The own certificate, as PEM
    #[arg(long, global = true, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key, as PEM
    #[arg(long, global = true, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The name that the workers' certificates are for, if not the host of their addresses
    #[arg(long, global = true, value_name = "NAME", requires = "tls_ca")]
    tls_name: Option<String>,
    /// Run a statement again, so many times, when a worker is lost before the first row
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    retries: usize,
    /// The offsets that are worth a task of their own; statements with fewer run here
    #[arg(long, global = true, value_name = "N", default_value_t = 200_000)]
    offsets_per_task: u64,
}

/// A worker.
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT")]
    listen: String,
    /// The rack, as brokers have it in broker.rack
    #[arg(long)]
    rack: Option<String>,
    /// The host, as brokers on this machine advertise theirs
    #[arg(long)]
    host: Option<String>,
    /// How many streams each task gets [default: the machine's cores]
    #[arg(long, value_name = "N")]
    streams: Option<usize>,
    /// A file with the settings of a further cluster, which has a connection.name; any number of times
    #[arg(long, value_name = "FILE")]
    connection: Vec<PathBuf>,
    /// Listen beyond this machine although anybody may send plans
    #[arg(long)]
    insecure: bool,
}

impl WorkersArgs {
    fn link(&self) -> Result<Link, Failure> {
        let usage = |e: datafusion_kafka::Error| Failure::usage(e.to_string());
        let token = self.token.as_deref().map(|reference| {
            if !["env:", "file:"].iter().any(|kind| reference.starts_with(kind)) {
                return Err(Failure::usage(
                    "--token: expected env:NAME or file:PATH, since others on this machine see the command line",
                ));
            }
            let text = secret("--token", reference, &Policy::default()).map_err(usage)?;
            Token::new(&text).map_err(usage)
        });
        let pem = |option, path: &Option<PathBuf>| {
            let read = path.as_deref().map(|path| Link::pem(option, path));
            read.transpose().map_err(usage)
        };
        let certificate = pem("--tls-cert", &self.tls_cert)?;
        let key = pem("--tls-key", &self.tls_key)?;
        Ok(Link {
            token: token.transpose()?,
            ca: pem("--tls-ca", &self.tls_ca)?,
            identity: certificate.zip(key),
            name: self.tls_name.clone(),
        })
    }

    /// Whether statements are for workers.
    pub(crate) fn are_named(&self) -> bool {
        self.workers.is_some()
    }

    /// The coordinator of the workers, if any were named.
    ///
    /// # Errors
    /// When none answers, or they refuse the coordinator.
    pub(crate) async fn coordinator(&self) -> Result<Option<Coordinator>, Failure> {
        let Some(workers) = &self.workers else {
            return Ok(None);
        };
        let mut options = CoordinatorOptions::new(Workers::parse(workers));
        options.link = self.link()?;
        options.retries = self.retries;
        options.offsets_per_task = self.offsets_per_task;
        match Coordinator::connect(options).await {
            Ok(coordinator) => Ok(Some(coordinator)),
            Err(typed @ Error::Config { .. }) => Err(Failure::usage(typed.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// The export as the workers write it, if any were named and they can.
    ///
    /// # Errors
    /// As [`coordinator`](Self::coordinator).
    pub(crate) async fn export(&self, export: Export, ui: Ui) -> Result<Export, Failure> {
        let Some(coordinator) = self.coordinator().await? else {
            return Ok(export);
        };
        let Some(on_workers) = coordinator.export(&export).await? else {
            if !ui.quiet {
                ui::note(
                    "kafka-sql: this machine writes the export itself: workers on other machines do not have its \
                     local folder, and none has settings that only this command has",
                );
            }
            return Ok(export);
        };
        Ok(on_workers)
    }
}

/// Serves until the process is told to end.
///
/// # Errors
/// When the worker cannot listen, or would listen to everybody.
pub(crate) async fn serve(
    args: WorkerArgs,
    link: WorkersArgs,
    connection: Connection,
    ui: Ui,
) -> Result<(), Failure> {
    let listener = TcpListener::bind(&args.listen).await;
    let listener =
        listener.map_err(|e| Failure::usage(format!("--listen {}: {e}", args.listen)))?;
    if let (false, Ok(address)) = (ui.quiet, listener.local_addr()) {
        ui::note(format_args!("kafka-sql: worker listens on {address}"));
    }
    let worker = Worker::new(connection.own(&args.connection)?)
        .link(link.link()?)
        // Where nodes have no zone, it is empty.
        .rack(args.rack.filter(|rack| !rack.is_empty()))
        .host(args.host)
        .cores(args.streams)
        .runtime(Arc::clone(&connection.runtime()))
        .open_to_all(args.insecure);
    let mut signals = Signals::new()?;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    // A second signal ends it at once.
    let signalled = async {
        signals.next().await;
        let _ = stop.send(());
        signals.next().await;
    };
    let stopped = async {
        let _ = stopped.await;
    };
    tokio::select! {
        served = worker.serve(listener, stopped) => match served {
            Err(typed @ Error::Config { .. }) => Err(Failure::usage(typed.to_string())),
            served => Ok(served?),
        },
        () = signalled => Ok(()),
    }
}
