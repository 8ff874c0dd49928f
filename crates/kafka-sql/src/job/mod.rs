//! `run`, `replay` and `jobs`: micro-batches from the command line.

mod args;
mod file;
mod history;
mod report;

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_kafka::driver::{Difference, MicroBatch, Stop};

pub(crate) use args::{JobArgs, JobsArgs, ReplayArgs, RunArgs, time};
pub(crate) use history::table as history;

use crate::failure::{Exit, Failure};
use crate::session::Session;
use crate::ui::{self, Ui};
use file::JobFile;

/// Plans the job of a file.
///
/// # Errors
/// When a statement is wrong, or the cluster does not answer.
async fn plan(
    session: &Session,
    args: &JobArgs,
) -> Result<datafusion_kafka::driver::MicroBatchBuilder, Failure> {
    let file = JobFile::read(&args.file, session.policy())?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => file.name()?,
    };
    let inserts = file.prepare(session).await?;
    let mut builder = MicroBatch::builder(session.context().clone(), name);
    for insert in inserts {
        builder = builder.insert(insert);
    }
    Ok(builder
        .checkpoint(args.checkpoint())
        .fsync(!args.no_fsync)
        .allow_changed_query(args.allow_changed_query))
}

/// `kafka-sql run`.
///
/// # Errors
/// What the job reports.
pub(crate) async fn run(
    session: Arc<Session>,
    args: RunArgs,
    stop: Stop,
    ui: Ui,
) -> Result<(), Failure> {
    let mut builder = plan(&session, &args.job).await?;
    builder = args.apply(builder);
    let live = Arc::new(report::Live::new(ui));
    builder = builder.listener(Arc::clone(&live) as _);
    if let Some(path) = &args.progress {
        builder = builder.listener(Arc::new(report::Lines::open(path)?));
    }
    let mut job = builder.build().await?;
    let result = job.run(&stop).await;
    live.finish();
    let summary = result?;
    if !ui.quiet {
        ui::note(format_args!(
            "{}: {} batches, {} records in, {} out",
            job.name(),
            ui::thousands(summary.batches),
            ui::thousands(summary.records),
            ui::rows(summary.rows)
        ));
    }
    Ok(())
}

/// `kafka-sql replay`: the rows of a batch, computed again.
///
/// # Errors
/// When the log does not have the batch, or its records are gone.
pub(crate) async fn replay(
    session: &Session,
    args: &ReplayArgs,
) -> Result<datafusion_kafka::driver::Replay, Failure> {
    let job = plan(session, &args.job).await?.build().await?;
    let mut replays = job.replay(args.batch).await?;
    if replays.len() > 1 {
        let targets: Vec<&str> = replays.iter().map(|r| r.target.as_str()).collect();
        return Err(Failure::usage(format!(
            "the job has several sinks ({}); a result has the rows of one: compare all with --diff",
            targets.join(", ")
        )));
    }
    replays
        .pop()
        .ok_or_else(|| Failure::new(Exit::Query, "the job has no sink"))
}

/// `kafka-sql replay --diff`: a table of how the sinks differ from the batch computed again, and
/// whether they do.
///
/// # Errors
/// As [`replay`], and when a sink cannot be read.
pub(crate) async fn diff(
    session: &Session,
    args: &ReplayArgs,
) -> Result<(RecordBatch, bool), Failure> {
    let job = plan(session, &args.job).await?.build().await?;
    let differences = job.replay_diff(args.batch).await?;
    for difference in &differences {
        for example in &difference.examples {
            ui::note(format_args!("{}: {example}", difference.target));
        }
        if difference.missing.is_none() {
            ui::note(format_args!(
                "{}: cannot be read back, so nothing is compared",
                difference.target
            ));
        }
    }
    let differs = differences
        .iter()
        .any(|d| d.missing.unwrap_or(0) > 0 || d.extra.unwrap_or(0) > 0);
    Ok((difference_table(&differences)?, differs))
}

fn difference_table(differences: &[Difference]) -> Result<RecordBatch, Failure> {
    let schema = Schema::new(vec![
        Field::new("target", DataType::Utf8, false),
        Field::new("computed", DataType::UInt64, false),
        Field::new("missing", DataType::UInt64, true),
        Field::new("extra", DataType::UInt64, true),
    ]);
    let targets: StringArray = differences
        .iter()
        .map(|d| Some(d.target.as_str()))
        .collect();
    let computed: UInt64Array = differences.iter().map(|d| Some(d.computed)).collect();
    let missing: UInt64Array = differences.iter().map(|d| d.missing).collect();
    let extra: UInt64Array = differences.iter().map(|d| d.extra).collect();
    Ok(RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(targets),
            Arc::new(computed),
            Arc::new(missing),
            Arc::new(extra),
        ],
    )?)
}
