//! `kafka-sql`: SQL over exact Kafka offset ranges, from a command line.
//!
//! `main` reads the arguments, runs one command and maps its result to an exit code; see
//! [`failure`] for the codes.

#![deny(unsafe_code)]
#![warn(unreachable_pub, clippy::clone_on_ref_ptr)]

mod allocator;
mod args;
#[cfg(feature = "ballista")]
mod ballista;
mod budget;
mod clean;
mod connection;
mod demo;
mod describe;
mod doctor;
mod export;
mod failure;
mod inspect;
mod interrupt;
mod job;
mod ledger;
mod logging;
#[cfg(feature = "serve")]
mod observe;
mod output;
mod progress;
mod receipt;
mod repl;
mod rerun;
mod script;
mod search;
#[cfg(feature = "serve")]
mod serve;
mod session;
mod statements;
mod ui;
#[cfg(feature = "distributed")]
mod workers;

use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion_kafka::driver::Stop;
use datafusion_kafka::export::ExportProgress;
use tokio::runtime::Runtime;

use crate::args::{Cli, Command, ReadCommand};
use crate::connection::Connection;
use crate::failure::{Exit, Failure};
use crate::output::{Destination, Drawing, OutputArgs, OutputOptions};
use crate::repl::Repl;
use crate::script::{Outcome, Script, one_batch};
use crate::session::Session;
use crate::ui::Ui;

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

/// Eight times tokio's, for statements that are nested as deeply as the policy allows. The unused part
/// of a stack takes addresses, not memory.
const STACK_BYTES: usize = 16 << 20;

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output, all else to standard error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    let verbose = cli.verbose > 0;
    #[cfg(feature = "serve")]
    let is_service = matches!(cli.command, Some(Command::Serve(_)));
    #[cfg(not(feature = "serve"))]
    let is_service = false;
    logging::start(cli.verbose, is_service);
    let code = match run(cli) {
        Ok(()) => 0,
        Err(failure) => {
            failure.report(verbose);
            failure.exit_code()
        }
    };
    let _ = std::io::stdout().flush();
    // Leaves at once: threads that still talk to a cluster must not delay the prompt.
    std::process::exit(i32::from(code))
}

fn run(cli: Cli) -> Result<(), Failure> {
    // Where no thread can be started tokio panics, and then waits for those that it has for ever.
    std::panic::set_hook(Box::new(|panic| {
        let reason = panic.payload_as_str().unwrap_or("no thread");
        ui::note(format_args!("kafka-sql: cannot start: {reason}"));
        std::process::exit(i32::from(Exit::Query as u8));
    }));
    #[cfg(feature = "serve")]
    let service = match &cli.command {
        Some(Command::Serve(args)) => Some((args, args.config()?)),
        _ => None,
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    #[cfg(feature = "serve")]
    if let Some(cores) = service
        .as_ref()
        .and_then(|(_, config)| config.service.cores)
    {
        runtime.worker_threads(cores.get());
    }
    let runtime = runtime.thread_stack_size(STACK_BYTES).enable_all().build();
    // Never dropped: that would wait for an interrupted query that does not pause.
    let runtime: &'static Runtime = Box::leak(Box::new(
        runtime.map_err(|e| Failure::io("cannot start threads", &e))?,
    ));
    drop(std::panic::take_hook());
    #[cfg(feature = "serve")]
    if let Some((args, config)) = service {
        cli.connection.refuse_for_service()?;
        cli.authority.refuse_for_service()?;
        let ui = Ui::detect(cli.quiet, cli.verbose > 0, cli.ledger);
        return serve::serve(runtime, args, config, ui);
    }
    if cli.connection.asks("list") {
        return print(&Connection::list());
    }
    if cli.connection.asks("dump") {
        return print(&Connection::resolve(&cli.connection)?.dump());
    }
    let mut connection_args = cli.connection;
    let broker = match &cli.command {
        Some(Command::Demo(_)) => Some(demo::Broker::start()?),
        _ => None,
    };
    if let Some(broker) = &broker {
        // Settings for the user's own cluster (a file named by the environment, say) do not fit
        // this one.
        connection_args.bootstrap_servers = Some(broker.hosts().to_owned());
        connection_args.config = None;
    }
    if let Some(command) = cli.command.as_ref().and_then(Command::without_scans) {
        connection_args.budget.refuse_for(command)?;
    }
    let policy = cli.authority.policy(cli.output.overwrite)?;
    let mut connection = Connection::resolve(&connection_args)?.with_policy(policy);
    if broker.is_some() {
        connection = connection.with_pool(demo::pool());
    }
    let shell = Shell {
        runtime,
        ui: Ui::detect(cli.quiet, cli.verbose > 0, cli.ledger),
        connection,
        output: cli.output,
        #[cfg(feature = "distributed")]
        workers: cli.workers,
        #[cfg(feature = "ballista")]
        ballista: cli.ballista,
    };
    match cli.command {
        None => shell.read_or_talk(None),
        Some(Command::Read(command)) => shell.read(command),
        #[cfg(feature = "distributed")]
        Some(Command::Worker(args)) => {
            let serving = workers::serve(args, shell.workers, shell.connection, shell.ui);
            runtime.block_on(serving)
        }
        // Handled above: its file names its connections.
        #[cfg(feature = "serve")]
        Some(Command::Serve(_)) => Ok(()),
        #[cfg(feature = "ballista")]
        Some(Command::Scheduler(args)) => runtime.block_on(ballista::schedule(args, shell.ui)),
        #[cfg(feature = "ballista")]
        Some(Command::Executor(args)) => {
            runtime.block_on(ballista::execute(args, shell.connection, shell.ui))
        }
        Some(Command::Demo(demo)) => match (demo.examples, demo.command) {
            (Some(folder), None) => shell.examples(&folder),
            (Some(_), Some(_)) => Err(Failure::usage(
                "--examples runs the files of a folder; leave the command out",
            )),
            (None, Some(command)) => shell.read(command),
            (None, None) => shell.read_or_talk(Some(demo::BANNER)),
        },
    }
}

/// What every command needs.
struct Shell {
    runtime: &'static Runtime,
    ui: Ui,
    connection: Connection,
    output: OutputArgs,
    #[cfg(feature = "distributed")]
    workers: workers::WorkersArgs,
    #[cfg(feature = "ballista")]
    ballista: ballista::BallistaArgs,
}

impl Shell {
    /// Runs one of the commands that read from a cluster.
    fn read(&self, command: ReadCommand) -> Result<(), Failure> {
        if let ReadCommand::Export(args) = command {
            return self.export(args);
        }
        if let ReadCommand::Doctor(args) = command {
            return self.doctor(args);
        }
        if let ReadCommand::Search(args) = command {
            return self.search(args);
        }
        let options = self.output.resolve(self.ui.stdout_is_terminal)?;
        match command {
            ReadCommand::Query(query) => {
                let script = match (query.sql, query.file) {
                    (Some(sql), _) => Script::parse(&sql, None)?,
                    (None, Some(file)) => Script::read(&file)?,
                    (None, None) => {
                        return Err(Failure::usage("give statements, or a file with -f"));
                    }
                };
                receipt::noted(query.receipt.as_deref(), options.overwrite, |receipt| {
                    self.run_script(script.with_receipt(receipt), options)
                        .map(drop)
                })
            }
            ReadCommand::Rerun(args) => {
                let receipt = rerun::load(&args.file)?;
                let session = Arc::new(self.session()?);
                let ui = self.ui;
                self.show(options, move || async move {
                    let (table, failure) = rerun::run(receipt, &session, ui).await?;
                    let (schema, rows) = one_batch(table);
                    Ok((schema, rows, failure))
                })
            }
            ReadCommand::Topics { pattern } => {
                let sql = inspect::topics_sql(pattern.as_deref())?;
                self.run_script(Script::parse(&sql, None)?, options)
                    .map(drop)
            }
            ReadCommand::Offsets { topic, range } => {
                let sql = inspect::offsets_sql(&topic, range.as_deref());
                self.run_script(Script::parse(&sql, None)?, options)
                    .map(drop)
            }
            ReadCommand::Describe { topic, infer: true } => {
                let session = Arc::new(self.session()?);
                self.with_destination(options, |_, destination| {
                    interrupt::run(self.runtime, describe::infer(session, topic, destination))
                })
            }
            ReadCommand::Describe { topic, .. } => {
                let session = Arc::new(self.session()?);
                let ui = self.ui;
                self.with_destination(options, |options, destination| {
                    interrupt::run(
                        self.runtime,
                        describe::run(session, topic, options, destination, ui),
                    )
                })
            }
            ReadCommand::Run(args) => {
                let session = Arc::new(self.session()?);
                let (stop, ui) = (Stop::new(), self.ui);
                let telling = stop.clone();
                interrupt::run_until_told(
                    self.runtime,
                    move || {
                        telling.after_this_batch();
                        if !ui.quiet {
                            ui::note(
                                "kafka-sql: ending after this batch; once more to leave at once",
                            );
                        }
                    },
                    async move {
                        // If the cluster does not answer, the user learns it now, not after retries.
                        session.topics().await?;
                        job::run(session, args, stop, ui).await
                    },
                )
            }
            ReadCommand::Replay(args) => {
                let session = Arc::new(self.session()?);
                self.show(options, move || async move {
                    if !args.diff {
                        let replay = job::replay(&session, &args).await?;
                        return Ok((replay.schema, replay.rows, None));
                    }
                    let (table, differs) = job::diff(&session, &args).await?;
                    let (schema, rows) = one_batch(table);
                    let failure = differs.then(|| {
                        Failure::new(Exit::DataUnavailable, "the sinks differ from the replay")
                    });
                    Ok((schema, rows, failure))
                })
            }
            ReadCommand::Jobs(args) => self.show(options, move || async move {
                let (schema, rows) = one_batch(job::history(&args.checkpoint).await?);
                Ok((schema, rows, None))
            }),
            ReadCommand::Clean(args) => {
                let ui = self.ui;
                self.show(options, move || async move {
                    let (schema, rows) = one_batch(clean::run(&args, ui).await?);
                    Ok((schema, rows, None))
                })
            }
            ReadCommand::Verify(args) => {
                let (connection, ui) = (self.connection.clone(), self.ui);
                self.show(options, move || async move {
                    let found = export::verify(args, connection, ui).await?;
                    let (schema, rows) = one_batch(export::problems(&found.problems)?);
                    Ok((schema, rows, export::failure(&found.problems)))
                })
            }
            // Handled above: their output is not a result.
            ReadCommand::Export(args) => self.export(args),
            ReadCommand::Doctor(args) => self.doctor(args),
            ReadCommand::Search(args) => self.search(args),
        }
    }

    fn doctor(&self, args: doctor::DoctorArgs) -> Result<(), Failure> {
        if self.output.format.is_some() {
            return Err(Failure::usage(
                "doctor prints text, or JSON with --json; leave --format out",
            ));
        }
        let options = self.output.resolve(self.ui.stdout_is_terminal)?;
        let connection = self.connection.clone();
        let failed = self.with_destination(options, |_, destination| {
            interrupt::run(self.runtime, doctor::run(args, connection, destination))
        })?;
        doctor::failure(failed).map_or(Ok(()), Err)
    }

    fn export(&self, args: export::ExportArgs) -> Result<(), Failure> {
        let progress = Arc::new(ExportProgress::default());
        let (output, connection, ui) = (self.output.clone(), self.connection.clone(), self.ui);
        #[cfg(feature = "ballista")]
        self.ballista.refuse_export()?;
        #[cfg(feature = "distributed")]
        let workers = self.workers.clone();
        let watched = Arc::clone(&progress);
        let work = async move {
            let export = export::prepare(args, &output, &connection).await?;
            #[cfg(feature = "distributed")]
            let export = workers.export(export, ui).await?;
            export::run(export, watched, ui).await
        };
        let done = interrupt::run(self.runtime, work);
        if matches!(done, Err(Failure::Interrupted)) {
            export::interrupted(&progress);
        }
        done
    }

    /// Writes rows that some work brings; a failure that comes with them is reported after them.
    fn show<W>(
        &self,
        options: OutputOptions,
        work: impl FnOnce() -> W + Send + 'static,
    ) -> Result<(), Failure>
    where
        W: Future<Output = Result<Rows, Failure>> + Send + 'static,
    {
        let ui = self.ui;
        let failure = self.with_destination(options, |options, destination| {
            interrupt::run(self.runtime, async move {
                let (schema, rows, failure) = work().await?;
                let meter = progress::Meter::none();
                script::deliver(&schema, rows, meter, &options, &destination, ui).await?;
                Ok(failure)
            })
        })?;
        failure.map_or(Ok(()), Err)
    }

    /// Without a command: the statements on standard input, or the interactive shell.
    fn read_or_talk(&self, banner: Option<&str>) -> Result<(), Failure> {
        let options = self.output.resolve(self.ui.stdout_is_terminal)?;
        if args::stdin_has_statements() {
            return self
                .run_script(Script::read(Path::new("-"))?, options)
                .map(drop);
        }
        if options.path.is_some() || !options.format.is_text() {
            return Err(Failure::usage(
                "the interactive shell shows results on the screen; -o and binary formats are for 'query'",
            ));
        }
        let connection = self.connection.clone().with_default_budget();
        let session = Arc::new(self.session_of(connection)?);
        if session.has_cluster() {
            // If the cluster does not answer, the user learns it now, not after the first statement.
            let check = Arc::clone(&session);
            interrupt::run(self.runtime, async move { check.topics().await.map(drop) })?;
        }
        if !self.ui.quiet {
            banner.iter().flat_map(|b| b.lines()).for_each(ui::note);
            ui::note("kafka-sql: \\? for help, \\q or Ctrl-D to leave.");
        }
        let connection = self.connection.clone();
        Repl::new(self.runtime, session, connection, options, self.ui).run()
    }

    /// Runs every example of a folder, each in a new session.
    fn examples(&self, folder: &Path) -> Result<(), Failure> {
        let options = OutputOptions {
            on_screen: self.ui.stdout_is_terminal,
            table: Drawing {
                pager: false,
                ..Drawing::default()
            },
            ..self.output.resolve(true)?
        };
        if options.path.is_some() {
            return Err(Failure::usage(
                "--examples shows results on standard output; leave -o out",
            ));
        }
        for example in demo::examples(folder)? {
            let name = example.path.display().to_string();
            print(&format!(
                "\n## {name}\n{}\n\n{}\n",
                example.comment, example.sql
            ))?;
            let script = Script::parse(&example.text, Some(name.clone()))?;
            let outcome = self.run_script(script, options.clone())?;
            example.check(outcome)?;
        }
        Ok(())
    }

    fn session(&self) -> Result<Session, Failure> {
        self.session_of(self.connection.clone())
    }

    fn session_of(&self, connection: Connection) -> Result<Session, Failure> {
        #[cfg(feature = "distributed")]
        let connection = {
            let workers = self.workers.clone();
            let asked = interrupt::run(self.runtime, async move { workers.coordinator().await });
            connection.with_coordinator(asked?)
        };
        #[cfg(feature = "ballista")]
        let connection = {
            let cluster = self.ballista.clone();
            let asked = interrupt::run(self.runtime, async move { cluster.cluster().await });
            connection.with_ballista(asked?)
        };
        // Clients of the cluster may need the runtime when they are made.
        let _inside = self.runtime.enter();
        Session::open(&connection)
    }

    fn run_script(&self, script: Script, options: OutputOptions) -> Result<Outcome, Failure> {
        let ui = self.ui;
        if script.is_empty() && options.path.is_some() {
            return Err(Failure::usage(
                "there is no statement, so no result to write",
            ));
        }
        let session = Arc::new(self.session()?);
        self.with_destination(options, |options, destination| {
            let writes_file = !destination.is_stdout();
            let outcome =
                interrupt::run(self.runtime, script.run(session, options, destination, ui))?;
            if writes_file && outcome.results == 0 {
                return Err(Failure::usage(
                    "no statement returned rows, so no file was written",
                ));
            }
            Ok(outcome)
        })
    }

    /// Opens the destination, lets `work` write, and makes the file appear if all went well.
    fn with_destination<T>(
        &self,
        options: OutputOptions,
        work: impl FnOnce(OutputOptions, Arc<Destination>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let destination = Arc::new(Destination::open(
            options.path.as_deref(),
            options.overwrite,
        )?);
        match work(options, Arc::clone(&destination)) {
            Ok(done) => {
                // Finished work has dropped its handles, so this is the last one.
                let Some(destination) = Arc::into_inner(destination) else {
                    return Err(Failure::new(
                        Exit::Query,
                        "the result is still being written",
                    ));
                };
                destination.commit()?;
                Ok(done)
            }
            Err(failure) => {
                // Interrupted work may still hold the destination; its file goes in any case.
                destination.discard();
                Err(failure)
            }
        }
    }
}

/// Rows, and a failure to report after them.
type Rows = (SchemaRef, SendableRecordBatchStream, Option<Failure>);

fn print(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").map_err(|e| Failure::io("standard output", &e))
}
