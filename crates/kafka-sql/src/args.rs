//! The command line: what was typed, checked for shape only.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use datafusion::execution::context::SessionContext;
use datafusion_kafka::policy::Policy;
use datafusion_kafka::text::visible;

use crate::clean::CleanArgs;
use crate::export::{ExportArgs, VerifyArgs};
use crate::failure::Failure;
use crate::job::{JobsArgs, ReplayArgs, RunArgs};
use crate::output::{BytesAs, DEFAULT_MAX_ROWS, Format, OutputOptions};
use crate::rerun::RerunArgs;

/// SQL over exact Kafka offset ranges
///
/// Without a command, an interactive shell; with statements on standard input, these are run.
#[derive(Debug, Parser)]
#[command(
    name = "kafka-sql",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 ok, 1 query, 2 usage, 3 connection or authentication, 4 authorization, \
                  5 data unavailable, 6 bad row, 7 budget exceeded, 8 sink conflict, 130 interrupted."
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
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

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
    /// Memory that queries, exports and jobs may hold, such as 256M or 2G [default: no limit]
    #[arg(long, global = true, value_name = "SIZE", help_heading = "Memory", value_parser = parse_size)]
    pub(crate) memory_limit: Option<usize>,
}

/// What the text of statements may do.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Authority")]
pub(crate) struct AuthorityArgs {
    /// Run statements that somebody else wrote: without files, hosts, secrets and settings but those allowed
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
    /// What the flags say; `overwrite` is the word that lets `COPY` replace files.
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

/// How results look and where they go.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Format of results [default: by the extension of -o, else table on a terminal, else ndjson]
    #[arg(long, global = true, value_enum)]
    pub(crate) format: Option<Format>,
    /// Write the result to a file, which appears when it is complete
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the file of -o, or of COPY, if it exists
    #[arg(long, global = true)]
    pub(crate) overwrite: bool,
    /// How text formats write binary values
    #[arg(long, global = true, value_enum, default_value_t = BytesAs::Auto)]
    pub(crate) bytes: BytesAs,
    /// Rows that a table shows: a number or `all`
    #[arg(long, global = true, value_name = "N", default_value = "1000", value_parser = parse_max_rows)]
    pub(crate) maxrows: MaxRows,
}

/// A limit of rows, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MaxRows(pub(crate) Option<usize>);

impl Default for MaxRows {
    fn default() -> Self {
        Self(Some(DEFAULT_MAX_ROWS))
    }
}

/// Reads `N` or `all`.
pub(crate) fn parse_max_rows(text: &str) -> Result<MaxRows, String> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(MaxRows(None));
    }
    text.parse()
        .map(|n| MaxRows(Some(n)))
        .map_err(|_| format!("expected a number of rows or 'all', found '{text}'"))
}

/// Reads `256M`, as DataFusion does where the limit is SET.
fn parse_size(text: &str) -> Result<usize, String> {
    SessionContext::parse_capacity_limit("--memory-limit", text)
        .map_err(|e| e.message().into_owned())
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Read(ReadCommand),
    /// Try it: an embedded broker with sample data, then the shell or the given command
    Demo(DemoArgs),
}

/// Commands that work on a cluster, the demo's as well as the user's.
#[derive(Debug, Subcommand)]
pub(crate) enum ReadCommand {
    /// Run SQL statements
    Query(QueryArgs),
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

impl ConnectionArgs {
    /// The `-X` that are settings.
    pub(crate) fn settings(&self) -> impl Iterator<Item = &str> {
        self.set
            .iter()
            .map(String::as_str)
            .filter(|s| !matches!(*s, "list" | "dump"))
    }

    /// Whether `-X` asks a question: `list` or `dump`.
    pub(crate) fn asks(&self, question: &str) -> bool {
        self.set.iter().any(|s| s == question)
    }
}

impl Cli {
    /// Reads the process's arguments.
    pub(crate) fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let args: Vec<OsString> = args.into_iter().collect();
        Self::try_parse_from(&args).map_err(|error| {
            // It quotes what was given, which may come from elsewhere.
            let shown = args.iter().map(|arg| {
                let arg = arg.to_string_lossy();
                visible(&arg, &[]).into_owned()
            });
            Self::try_parse_from(shown).err().unwrap_or(error)
        })
    }
}

impl OutputArgs {
    /// Chooses the format and checks that it can be written where it shall go.
    pub(crate) fn resolve(&self, stdout_is_terminal: bool) -> Result<OutputOptions, Failure> {
        let path = self.output.clone().filter(|p| p.as_os_str() != "-");
        let format = self
            .format
            .or_else(|| path.as_deref().and_then(Format::of_path))
            .unwrap_or(if path.is_none() && stdout_is_terminal {
                Format::Table
            } else {
                Format::Ndjson
            });
        if path.is_none() && stdout_is_terminal && !format.is_text() {
            return Err(Failure::usage(
                "parquet and arrow are not for a terminal; write to a file with -o FILE or to a pipe",
            ));
        }
        Ok(OutputOptions {
            format,
            bytes: self.bytes,
            max_rows: self.maxrows.0,
            on_screen: path.is_none() && stdout_is_terminal,
            path,
            overwrite: self.overwrite,
        })
    }
}

/// Whether statements come on standard input.
pub(crate) fn stdin_has_statements() -> bool {
    !io::stdin().is_terminal()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

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
    fn the_format_follows_terminal_and_extension() {
        let format = |line: &str, terminal: bool| {
            parse(line)
                .unwrap()
                .output
                .resolve(terminal)
                .map(|o| o.format)
        };
        assert_eq!(format("kafka-sql query x", true).unwrap(), Format::Table);
        assert_eq!(format("kafka-sql query x", false).unwrap(), Format::Ndjson);
        assert_eq!(
            format("kafka-sql query x -o a.csv", true).unwrap(),
            Format::Csv
        );
        assert_eq!(
            format("kafka-sql query x -o a.txt", true).unwrap(),
            Format::Ndjson
        );
        assert_eq!(
            format("kafka-sql query x -o a.csv --format tsv", true).unwrap(),
            Format::Tsv
        );
        assert_eq!(
            format("kafka-sql query x --format parquet", false).unwrap(),
            Format::Parquet
        );
        assert_eq!(
            format("kafka-sql query x --format parquet", true)
                .unwrap_err()
                .exit_code(),
            2
        );
    }

    #[test]
    fn refusals_show_what_a_terminal_would_obey() {
        let args = ["kafka-sql", "query", "--no\u{1b}[2J\nkafka-sql: done", "x"];
        let error = Cli::read(args.map(OsString::from)).unwrap_err();
        let text = error.render().to_string();
        assert!(text.contains(r"--no\u001b[2J\nkafka-sql: done"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn row_limits() {
        assert_eq!(parse_max_rows("all"), Ok(MaxRows(None)));
        assert_eq!(parse_max_rows("5"), Ok(MaxRows(Some(5))));
        assert!(parse_max_rows("-1").is_err());
        assert_eq!(
            parse("kafka-sql query x").unwrap().output.maxrows,
            MaxRows::default()
        );
    }
}
