//! `export` and `verify`: a topic's records as files, and the proof that they are all there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow::array::{Int32Builder, Int64Builder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use clap::Args;
use datafusion_kafka::export::{
    Export, ExportFormat, ExportProgress, ExportSummary, Problem, Verification, Verify,
};
use datafusion_kafka::table::KafkaTable;
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use crate::connection::Connection;
use crate::failure::{Exit, Failure};
use crate::output::{Format, OutputArgs};
use crate::ui::{self, Ui, thousands};

/// What to export and how; `-o` says where.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The topic
    pub(crate) topic: String,
    /// A range such as 100:200, -10, @-1h:end or 0=5:,1=:end [default: the whole log]
    #[arg(allow_hyphen_values = true)]
    pub(crate) range: Option<String>,
    /// A query over the topic that works row by row: SELECT …, filters, expressions
    #[arg(long)]
    pub(crate) sql: Option<String>,
    /// An option of the table, such as value.format=json or on.bad.row=skip; any number of times
    #[arg(long = "option", value_name = "NAME=VALUE")]
    pub(crate) options: Vec<String>,
    /// Approximate size of a file, such as 128MB or 1GiB [default: 128MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_file_size: Option<u64>,
    /// Exact number of offsets of a file
    #[arg(long, value_name = "N", conflicts_with = "max_file_size")]
    pub(crate) max_file_offsets: Option<u64>,
    /// Hive folders by an expression over the rows: EXPR or NAME=EXPR
    #[arg(long, value_name = "EXPR")]
    pub(crate) partition_by: Option<String>,
    /// Resume an export with the same options
    #[arg(long)]
    pub(crate) resume: bool,
    /// Files that are written at one time [default: the number of processors]
    #[arg(long, value_name = "N")]
    pub(crate) parallel: Option<usize>,
}

/// What to verify.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The folder or URL of the export
    pub(crate) url: String,
    /// Read the ranges again and compare every row with what Kafka has now
    #[arg(long)]
    pub(crate) against_kafka: bool,
    /// An option of the table that was exported, such as value.format=json; any number of times
    #[arg(long = "option", value_name = "NAME=VALUE", requires = "against_kafka")]
    pub(crate) options: Vec<String>,
    /// Files that are read at one time [default: the number of processors]
    #[arg(long, value_name = "N")]
    pub(crate) parallel: Option<usize>,
}

/// Reads a size: a number of bytes, or one with kB, MB, GB, KiB, MiB, GiB.
fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => {
            return Err(format!(
                "expected a size such as 128MB or 1GiB, found '{text}'"
            ));
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|bytes| *bytes > 0)
        .ok_or(format!(
            "expected a size such as 128MB or 1GiB, found '{text}'"
        ))
}

/// An export as the command line describes it.
///
/// # Errors
/// When options are missing or contradict each other.
pub(crate) async fn prepare(
    args: ExportArgs,
    output: &OutputArgs,
    connection: &Connection,
) -> Result<Export, Failure> {
    let Some(target) = output
        .output
        .as_ref()
        .filter(|path| path.as_os_str() != "-")
    else {
        return Err(Failure::usage(
            "an export is a folder: name it with -o, as a path or a URL such as s3://bucket/folder",
        ));
    };
    let Some(target) = target.to_str() else {
        return Err(Failure::usage("the folder of -o is not UTF-8"));
    };
    let format = match output.format {
        None | Some(Format::Parquet) => ExportFormat::Parquet,
        Some(Format::Csv) => ExportFormat::Csv,
        Some(Format::Ndjson) => ExportFormat::Ndjson,
        Some(_) => {
            return Err(Failure::usage(
                "an export has the format parquet, csv or ndjson",
            ));
        }
    };
    let table = connection.table_with(&args.options)?;
    let mut table = table.topic(args.topic.as_str());
    if let Some(range) = &args.range {
        table = table.range(range);
    }
    let table = Connection::build(table, &args.options).await?;
    let mut export = Export::builder(args.topic, table, target)
        .runtime(connection.runtime())
        .format(format)
        .bytes(output.bytes)
        .policy(connection.policy().clone())
        .resume(args.resume);
    if let Some(sql) = args.sql {
        export = export.sql(sql);
    }
    if let Some(bytes) = args.max_file_size {
        export = export.max_file_bytes(bytes);
    }
    if let Some(offsets) = args.max_file_offsets {
        export = export.max_file_offsets(offsets);
    }
    if let Some(expression) = args.partition_by {
        export = export.partition_by(expression);
    }
    if let Some(parallel) = args.parallel {
        export = export.parallel(parallel);
    }
    Ok(export.build()?)
}

/// Runs an export and sums it up on standard error.
pub(crate) async fn run(
    export: Export,
    progress: Arc<ExportProgress>,
    ui: Ui,
) -> Result<(), Failure> {
    let bar = Bar::start(&progress, ui);
    let done = export.run(&progress).await;
    drop(bar);
    let summary = done?;
    if !ui.quiet {
        ui::note(summarized(&summary));
    }
    if summary.bad_records > 0 {
        ui::note(format_args!(
            "kafka-sql: {} records did not decode and are in no file",
            thousands(summary.bad_records)
        ));
    }
    if summary.lost_offsets > 0 {
        ui::note(format_args!(
            "kafka-sql: {} offsets of the ranges were gone and are missing in this export",
            thousands(summary.lost_offsets)
        ));
    }
    Ok(())
}

/// Says how an interrupted export goes on, if it got that far.
pub(crate) fn interrupted(progress: &ExportProgress) {
    if progress.planned.load(Ordering::Relaxed) {
        ui::note(
            "kafka-sql: interrupted; the same command with --resume continues, finished files stay",
        );
    }
}

fn summarized(summary: &ExportSummary) -> String {
    let seconds = summary.duration.as_secs_f64();
    let mut text = format!(
        "{} files, {}, {} in {seconds:.3} s",
        thousands(summary.files),
        ui::rows(summary.rows),
        HumanBytes(summary.bytes),
    );
    if summary.files_before > 0 {
        let before = thousands(summary.files_before);
        text.push_str(&format!("; {before} of the files were there before"));
    }
    if summary.offsets_without_record > 0 {
        let without = thousands(summary.offsets_without_record);
        text.push_str(&format!("; {without} offsets without a record"));
    }
    text
}

/// Verifies an export.
pub(crate) async fn verify(
    args: VerifyArgs,
    connection: Connection,
    ui: Ui,
) -> Result<Verification, Failure> {
    let verify = Verify::open(&args.url).await?;
    let verify = verify.policy(connection.policy().clone());
    let topics = verify.topics();
    let table = match (args.against_kafka, topics.is_empty()) {
        (true, false) => Some(table_of(&connection, &args.options, topics, &verify).await?),
        _ => None,
    };
    let progress = Arc::new(ExportProgress::default());
    let bar = Bar::start(&progress, ui);
    let parallel = args
        .parallel
        .or_else(|| std::thread::available_parallelism().ok().map(Into::into));
    let found = verify
        .run(table.as_ref(), parallel.unwrap_or(1), &progress)
        .await;
    drop(bar);
    let found = found?;
    if !ui.quiet {
        ui::note(verified(&found));
    }
    Ok(found)
}

async fn table_of(
    connection: &Connection,
    options: &[String],
    topics: Vec<Arc<str>>,
    verify: &Verify,
) -> Result<KafkaTable, Failure> {
    let source = datafusion_kafka::table::TopicSource::Named(topics);
    let table = connection.table_with(options)?.source(source);
    Connection::build(table.isolation(verify.isolation()), options).await
}

fn verified(found: &Verification) -> String {
    let mut text = format!(
        "{} files, {}, {} verified in {:.3} s",
        thousands(found.files),
        ui::rows(found.rows),
        HumanBytes(found.bytes),
        found.duration.as_secs_f64(),
    );
    if let Some(same) = found.same_rows {
        text.push_str(&format!("; {} the same in Kafka", ui::rows(same)));
    }
    if found.gone_rows > 0 {
        let gone = ui::rows(found.gone_rows);
        text.push_str(&format!("; {gone} that Kafka no longer has"));
    }
    if found.pieces_not_compared > 0 {
        text.push_str(&format!(
            "; {} pieces not compared: Kafka let records go, and the rows have no offsets",
            thousands(found.pieces_not_compared)
        ));
    }
    text
}

/// The failure that stands for problems.
pub(crate) fn failure(problems: &[Problem]) -> Option<Failure> {
    let number = problems.len();
    let noun = if number == 1 { "problem" } else { "problems" };
    (number > 0).then(|| {
        Failure::new(
            Exit::DataUnavailable,
            format!("the export is not as it must be: {number} {noun}"),
        )
    })
}

/// The problems as a table.
pub(crate) fn problems(problems: &[Problem]) -> Result<RecordBatch, Failure> {
    let (mut kind, mut topic) = (StringBuilder::new(), StringBuilder::new());
    let mut partition = Int32Builder::new();
    let (mut start, mut end) = (Int64Builder::new(), Int64Builder::new());
    let (mut file, mut message) = (StringBuilder::new(), StringBuilder::new());
    for problem in problems {
        let range = problem.range.as_ref();
        kind.append_value(problem.kind.to_string());
        topic.append_option(range.map(|r| r.topic().to_string()));
        partition.append_option(range.map(|r| r.partition()));
        start.append_option(range.map(|r| r.start()));
        end.append_option(range.map(|r| r.end()));
        file.append_option(problem.file.as_ref());
        message.append_value(&problem.message);
    }
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let schema = Schema::new(vec![
        text("problem"),
        text("topic"),
        Field::new("partition", DataType::Int32, true),
        Field::new("start_offset", DataType::Int64, true),
        Field::new("end_offset", DataType::Int64, true),
        text("file"),
        text("message"),
    ]);
    Ok(RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(kind.finish()),
            Arc::new(topic.finish()),
            Arc::new(partition.finish()),
            Arc::new(start.finish()),
            Arc::new(end.finish()),
            Arc::new(file.finish()),
            Arc::new(message.finish()),
        ],
    )?)
}

/// A line on standard error while an export or a verification runs.
struct Bar {
    task: Option<JoinHandle<()>>,
    bar: ProgressBar,
}

impl Bar {
    fn start(progress: &Arc<ExportProgress>, ui: Ui) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if !ui.stderr_is_terminal || ui.quiet {
            return Self { task: None, bar };
        }
        let (drawn, progress) = (bar.clone(), Arc::clone(progress));
        let task = tokio::spawn(async move {
            let started = Instant::now();
            tokio::time::sleep(Duration::from_millis(500)).await;
            let style = "{spinner} [{bar:30}] {wide_msg}";
            if let Ok(style) = ProgressStyle::with_template(style) {
                drawn.set_style(style);
            }
            drawn.set_draw_target(ProgressDrawTarget::stderr());
            loop {
                drawn.set_length(progress.offsets_total.load(Ordering::Relaxed).max(1));
                drawn.set_position(progress.offsets.load(Ordering::Relaxed));
                drawn.set_message(line(&progress, started.elapsed()));
                drawn.tick();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        Self {
            task: Some(task),
            bar,
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            self.bar.finish_and_clear();
        }
    }
}

fn line(progress: &ExportProgress, elapsed: Duration) -> String {
    let load = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
    let (pieces, total) = (load(&progress.pieces), load(&progress.pieces_total));
    if total == 0 {
        return "planning".to_owned();
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with few digits")]
    let (done, rate) = (
        load(&progress.offsets) as f64 / (load(&progress.offsets_total).max(1) as f64),
        load(&progress.rows) as f64 / elapsed.as_secs_f64().max(1e-3),
    );
    let mut text = format!(
        "{pieces} of {total} pieces  {} rows  {rate:.0}/s  {}",
        thousands(load(&progress.rows)),
        HumanBytes(load(&progress.bytes)),
    );
    if done > 0.0 && done < 1.0 {
        let left = elapsed.as_secs_f64() * (1.0 / done - 1.0);
        let left = Duration::from_secs_f64(left.clamp(0.0, 1e7));
        text.push_str(&format!("  ETA {}", HumanDuration(left)));
    }
    if let Some(held) = ui::held_back(load(&progress.throttled_ms)) {
        text.push_str("  ");
        text.push_str(&held);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("5"), Ok(5));
        assert_eq!(parse_size("128MB"), Ok(128_000_000));
        assert_eq!(parse_size("1 GiB"), Ok(1 << 30));
        for wrong in ["", "MB", "0", "-1", "1.5MB", "99999999999GB", "1TBB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
