//! The command line: what was typed, checked for shape only.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use datafusion_kafka::text::visible;

use crate::clean::CleanArgs;
use crate::connection::{AuthorityArgs, ConnectionArgs, Environment};
use crate::doctor::DoctorArgs;
use crate::export::{ExportArgs, VerifyArgs};
use crate::job::{JobsArgs, ReplayArgs, RunArgs};
use crate::output::OutputArgs;
use crate::rerun::RerunArgs;
use crate::search::SearchArgs;

/// SQL over exact Kafka offset ranges
///
/// Without a command, an interactive shell; with statements on standard input, these are run.
#[derive(Debug, Parser)]
#[command(
    name = "kafka-sql",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 ok, 1 query, 2 usage, 3 connection or authentication, 4 authorization, \
                  5 data unavailable, 6 bad row, 7 budget exceeded, 8 sink conflict, 9 nothing found by search, 130 interrupted."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(flatten)]
    pub(crate) authority: AuthorityArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Print errors only: no progress, no summaries
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Print details of errors and warnings of the Kafka client; twice for its debug log
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Print for each range that was read what became of its offsets
    #[arg(long, global = true)]
    pub(crate) ledger: bool,
    #[cfg(feature = "distributed")]
    #[command(flatten)]
    pub(crate) workers: crate::workers::WorkersArgs,
    #[cfg(feature = "ballista")]
    #[command(flatten)]
    pub(crate) ballista: crate::ballista::BallistaArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Read(ReadCommand),
    /// Try it: an embedded broker with sample data, then the shell or the given command
    Demo(DemoArgs),
    /// Serve coordinators: read the ranges that they send, near the brokers
    #[cfg(feature = "distributed")]
    Worker(crate::workers::WorkerArgs),
    /// Run the jobs of a file side by side, and serve what they do: API, metrics, probes
    #[cfg(feature = "serve")]
    Serve(crate::serve::ServeArgs),
    /// Schedule a cluster of Ballista
    #[cfg(feature = "ballista")]
    Scheduler(crate::ballista::SchedulerArgs),
    /// Execute tasks of a cluster of Ballista, near the brokers
    #[cfg(feature = "ballista")]
    Executor(crate::ballista::ExecutorArgs),
}

/// Commands that work on a cluster, the demo's as well as the user's.
#[derive(Debug, Subcommand)]
pub(crate) enum ReadCommand {
    /// Run SQL statements
    Query(QueryArgs),
    /// Find records, and say what was looked at: by key, text, regular expression, header or SQL
    Search(SearchArgs),
    /// List topics
    Topics {
        /// Part of a name, a pattern with * and ?, or a regular expression as /…/
        pattern: Option<String>,
    },
    /// Show a topic: partitions, log bounds, settings, columns
    Describe {
        /// The topic
        topic: String,
        /// Learn the columns of its JSON values from a sample of 1,000 records, and print the statement
        /// that declares them
        #[arg(long)]
        infer: bool,
    },
    /// Show the offsets that a range means, for each partition
    Offsets {
        /// The topic
        topic: String,
        /// A range such as 100:200, -10, @-1h:end or 0=5:,1=:end [default: the whole log]
        #[arg(allow_hyphen_values = true)]
        range: Option<String>,
    },
    /// Read the ranges of a receipt again: identical, unavailable or changed
    Rerun(RerunArgs),
    /// Run a job: micro-batches of its INSERT statements, each row delivered once
    Run(RunArgs),
    /// Compute a batch of a job again, and compare it with what its sinks hold
    Replay(ReplayArgs),
    /// List the batches of a job: ranges, rows, duration, lag
    Jobs(JobsArgs),
    /// Remove what crashed jobs have left in a parquet location
    Clean(CleanArgs),
    /// Write a topic's records to parquet, csv or ndjson files in the folder of -o
    Export(ExportArgs),
    /// Prove an export: ranges, files, checksums, and on demand every row
    Verify(VerifyArgs),
    /// Connect step by step, and say what is wrong and what to do
    Doctor(DoctorArgs),
}

impl Command {
    /// The name of a command that runs no statement, job or export.
    pub(crate) fn without_scans(&self) -> Option<&'static str> {
        let command = match self {
            Self::Read(command) => command,
            Self::Demo(demo) => demo.command.as_ref()?,
            #[cfg(feature = "distributed")]
            Self::Worker(_) => return Some("worker"),
            #[cfg(feature = "serve")]
            Self::Serve(_) => return Some("serve"),
            #[cfg(feature = "ballista")]
            Self::Scheduler(_) => return Some("scheduler"),
            #[cfg(feature = "ballista")]
            Self::Executor(_) => return Some("executor"),
        };
        match command {
            ReadCommand::Rerun(_) => Some("rerun"),
            ReadCommand::Jobs(_) => Some("jobs"),
            ReadCommand::Clean(_) => Some("clean"),
            ReadCommand::Verify(_) => Some("verify"),
            ReadCommand::Doctor(_) => Some("doctor"),
            _ => None,
        }
    }
}

/// Where the statements come from.
#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// The statements, separated by semicolons
    #[arg(
        value_name = "SQL",
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    pub(crate) sql: Option<String>,
    /// Read the statements from a file, `-` for standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Write what was read, with checksums, to a file that `rerun` can check
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: Option<PathBuf>,
}

/// The demo.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Run every .sql file of a folder and show its comment, statements and results
    #[arg(long, value_name = "DIR")]
    pub(crate) examples: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Option<ReadCommand>,
}

impl Cli {
    /// Reads the process's arguments.
    pub(crate) fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let args: Vec<OsString> = args.into_iter().collect();
        let matches = Self::command().try_get_matches_from(&args);
        matches.and_then(|m| Self::of(&m)).map_err(|error| {
            // It quotes what was given, which may come from elsewhere.
            let shown = args.iter().map(|arg| {
                let arg = arg.to_string_lossy();
                visible(&arg, &[]).into_owned()
            });
            Self::try_parse_from(shown).err().unwrap_or(error)
        })
    }

    fn of(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut cli =
            Self::from_arg_matches(matches).map_err(|e| e.format(&mut Self::command()))?;
        let is = |id| matches.value_source(id) == Some(ValueSource::EnvVariable);
        cli.connection.environment = Environment {
            brokers: is("bootstrap_servers"),
            config: is("config"),
        };
        Ok(cli)
    }
}

/// Whether statements come on standard input.
pub(crate) fn stdin_has_statements() -> bool {
    !io::stdin().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::read(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_work_on_both_sides_of_the_command() {
        let before = parse("kafka-sql -b h:1 -X a=b --format csv query x").unwrap();
        let after = parse("kafka-sql query x -b h:1 -X a=b --format csv").unwrap();
        for cli in [before, after] {
            assert_eq!(cli.connection.bootstrap_servers.as_deref(), Some("h:1"));
            assert_eq!(cli.connection.set, ["a=b"]);
            assert_eq!(cli.output.format, Some(Format::Csv));
        }
    }

    #[test]
    fn a_query_needs_exactly_one_source() {
        assert!(parse("kafka-sql query").is_err());
        assert!(parse("kafka-sql query x -f y").is_err());
        assert!(parse("kafka-sql query -f -").is_ok());
        assert!(parse("kafka-sql query x --receipt r.json").is_ok());
        assert!(parse("kafka-sql query --receipt r.json").is_err());
        assert_eq!(parse("kafka-sql query").unwrap_err().exit_code(), 2);
        assert_eq!(parse("kafka-sql --nosuch").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_range_may_start_with_a_minus() {
        let cli = parse("kafka-sql offsets orders -10").unwrap();
        let Some(Command::Read(ReadCommand::Offsets { range, .. })) = cli.command else {
            panic!("not offsets: {cli:?}");
        };
        assert_eq!(range.as_deref(), Some("-10"));
    }

    #[test]
    fn demo_takes_a_command_or_examples() {
        assert!(parse("kafka-sql demo").is_ok());
        assert!(parse("kafka-sql demo query x --format csv").is_ok());
        assert!(parse("kafka-sql demo --examples sql-examples").is_ok());
        // Global flags stand anywhere.
        assert!(parse("kafka-sql demo -X a=b query x").is_ok());
    }

    #[test]
    fn refusals_show_what_a_terminal_would_obey() {
        let args = ["kafka-sql", "query", "--no\u{1b}[2J\nkafka-sql: done", "x"];
        let error = Cli::read(args.map(OsString::from)).unwrap_err();
        let text = error.render().to_string();
        assert!(text.contains(r"--no\u001b[2J\nkafka-sql: done"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
