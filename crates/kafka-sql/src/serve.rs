//! `kafka-sql serve`: the service of a file, with sessions as the shell opens them.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use clap::{Args, ValueEnum};
use datafusion::execution::context::SessionContext;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion_kafka::ErrorKind;
use datafusion_kafka::driver::MicroBatchBuilder;
use datafusion_kafka::policy::Policy;
use datafusion_kafka_serve::config::{self, Config, JobConfig};
use datafusion_kafka_serve::http::Port;
use datafusion_kafka_serve::logs;
use datafusion_kafka_serve::pg::PgPort;
use datafusion_kafka_serve::{Access, Notifier, Opener, Problem, Service};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::connection::Connection;
use crate::failure::{Exit, Failure};
use crate::interrupt;
use crate::job;
use crate::logging;
use crate::session::Session;
use crate::ui::{self, Ui};

/// `kafka-sql serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The service: connections, jobs, and what is served on which addresses
    #[arg(value_name = "FILE.toml")]
    file: PathBuf,
    /// Check the file, the secrets, the certificates and the job files, and end
    #[arg(long)]
    check: bool,
    /// How log lines are written [default: as the file says, else text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// An object a line
    Json,
}

impl ServeArgs {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is wrong: that is wrong usage.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        let mut config = Config::read(&self.file).map_err(usage)?;
        if let Some(format) = self.log_format {
            config.service.log_format = match format {
                LogFormat::Text => config::LogFormat::Text,
                LogFormat::Json => config::LogFormat::Json,
            };
        }
        Ok(config)
    }
}

/// Checks the service of a file, or runs it until the process is told to end.
///
/// # Errors
/// When the file is wrong or a port cannot be opened.
pub(crate) fn serve(
    runtime: &Runtime,
    args: &ServeArgs,
    config: Config,
    ui: Ui,
) -> Result<(), Failure> {
    logging::use_format(config.service.log_format);
    let opener = Sessions {
        cores: config.service.cores,
    };
    if args.check {
        for (name, job) in &config.jobs {
            let checked = opener.check(job);
            checked.map_err(|problem| usage(problem.of(format_args!("jobs.{name}"))))?;
        }
        let (http, postgres) = (config.http.clone(), config.postgres.clone());
        let ports = async move {
            if let Some(http) = &http {
                Port::check(http).await.map_err(usage)?;
            }
            match &postgres {
                Some(postgres) => PgPort::check(postgres).await.map_err(usage),
                None => Ok(()),
            }
        };
        interrupt::run(runtime, ports)?;
        if !ui.quiet {
            let (jobs, file) = (config.jobs.len(), args.file.display());
            ui::note(format_args!(
                "{file}: {}, nothing wrong",
                ui::number(jobs as u64, "job")
            ));
        }
        return Ok(());
    }
    let service = Service::new(&args.file, config, Arc::new(opener)).map_err(usage)?;
    let closing = Arc::clone(&service);
    interrupt::run_until_told(
        runtime,
        move || {
            log::warn!(
                target: logs::SERVICE,
                "ends after the batches that run; a second signal ends it at once"
            );
            closing.close();
        },
        async move {
            let reload = hangups()?;
            let notifier = Notifier::of_environment();
            service.run(&notifier, reload).await.map_err(usage)
        },
    )
}

/// Changes each time the process gets SIGHUP.
fn hangups() -> Result<watch::Receiver<()>, Failure> {
    let (sender, receiver) = watch::channel(());
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangups = signal(SignalKind::hangup())
            .map_err(|e| Failure::io("cannot listen for signals", &e))?;
        tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                sender.send_replace(());
            }
        });
    }
    Ok(receiver)
}

fn usage(problem: Problem) -> Failure {
    Failure::usage(problem.message)
}

/// Opens sessions as the shell does.
#[derive(Debug)]
struct Sessions {
    cores: Option<NonZeroUsize>,
}

impl Sessions {
    fn open(
        &self,
        connection: &config::Connection,
        runtime: &Arc<RuntimeEnv>,
        access: Access,
    ) -> Result<Session, Problem> {
        let policy = match access {
            Access::Operator => Policy::default(),
            Access::Reader => Policy::restricted(),
        };
        let config = connection.config.clone();
        let connection = Connection::of(
            config,
            Arc::clone(runtime),
            self.cores.map(NonZeroUsize::get),
        )
        .with_policy(policy);
        Session::open(&connection).map_err(Problem::from)
    }
}

#[async_trait]
impl Opener for Sessions {
    fn session(
        &self,
        connection: &config::Connection,
        runtime: &Arc<RuntimeEnv>,
        access: Access,
    ) -> Result<SessionContext, Problem> {
        Ok(self.open(connection, runtime, access)?.context().clone())
    }

    fn check(&self, job: &JobConfig) -> Result<(), Problem> {
        job::check(&job.file).map_err(Problem::from)
    }

    async fn job(
        &self,
        name: &str,
        job: &JobConfig,
        connection: &config::Connection,
        runtime: &Arc<RuntimeEnv>,
    ) -> Result<MicroBatchBuilder, Problem> {
        let session = self.open(connection, runtime, Access::Operator)?;
        let name = job.name.clone().unwrap_or_else(|| name.to_owned());
        Ok(job::prepare(&session, &job.file, Some(name)).await?)
    }

    async fn define(&self, context: &SessionContext, file: &Path) -> Result<(), Problem> {
        job::define(context, file).await.map_err(Problem::from)
    }
}

/// Keeps what the page needs to say what to do: the kind of the error and its coordinates.
impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let message = failure.text(false);
        match failure {
            Failure::Failed {
                error: Some(error), ..
            } => {
                let mut problem = Self::from(*error);
                // With the place of the statement.
                problem.message = message;
                problem
            }
            // DataFusion's words about a statement, or ours about a file.
            Failure::Failed {
                exit: Exit::Query | Exit::Usage,
                ..
            } => {
                let mut problem = Self::new(message);
                problem.kind = Some(ErrorKind::Query);
                problem
            }
            _ => Self::new(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::error::DataFusionError;
    use datafusion_kafka::Error;

    use super::*;

    #[test]
    fn a_problem_keeps_the_kind_of_a_failure_and_its_coordinates() {
        let bad = Error::BadRow {
            topic: "orders".into(),
            partition: 3,
            offset: 7,
            message: "not JSON".into(),
        };
        let failure = Failure::from(DataFusionError::External(Box::new(bad)));
        let problem = Problem::from(failure.at("orders.sql:2"));
        assert_eq!(problem.kind, Some(ErrorKind::BadRow));
        let place = (problem.topic.as_deref(), problem.partition, problem.offset);
        assert_eq!(place, (Some("orders"), Some(3), Some(7)));
        assert!(problem.message.starts_with("orders.sql:2: "), "{problem}");

        let unknown = Error::UnknownTopic {
            topic: "x".into(),
            nearest: vec![],
        };
        let problem = Problem::from(Failure::from(unknown));
        assert_eq!(problem.kind, Some(ErrorKind::DataUnavailable));
        let wrong = DataFusionError::Plan("no such function".into());
        for failure in [Failure::from(wrong), Failure::usage("no such file")] {
            assert_eq!(Problem::from(failure).kind, Some(ErrorKind::Query));
        }
        assert_eq!(Problem::from(Failure::Interrupted).kind, None);
    }
}
