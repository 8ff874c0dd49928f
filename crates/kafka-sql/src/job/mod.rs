//! `run`, `replay` and `jobs`: micro-batches from the command line.

mod args;
mod file;
mod history;
mod report;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
#[cfg(feature = "serve")]
use datafusion::execution::context::SessionContext;
use datafusion_kafka::driver::{Difference, MicroBatch, Stop};
#[cfg(feature = "serve")]
use datafusion_kafka::policy::Policy;

pub(crate) use args::{JobArgs, JobsArgs, ReplayArgs, RunArgs, time};
pub(crate) use history::table as history;

use crate::failure::{Exit, Failure};
#[cfg(feature = "serve")]
use crate::observe::Observed;
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
    let builder = prepare(session, &args.file, args.name.clone()).await?;
    Ok(builder
        .checkpoint(args.checkpoint())
        .fsync(!args.no_fsync)
        .allow_changed_query(args.allow_changed_query))
}

/// Plans the statements of a job's file.
///
/// # Errors
/// As [`plan`].
pub(crate) async fn prepare(
    session: &Session,
    path: &Path,
    name: Option<String>,
) -> Result<datafusion_kafka::driver::MicroBatchBuilder, Failure> {
    let file = JobFile::read(path, session.policy())?;
    let name = match name {
        Some(name) => name,
        None => file.name()?,
    };
    let inserts = file.prepare(session.context()).await?;
    let builder = MicroBatch::builder(session.context().clone(), name);
    Ok(inserts
        .into_iter()
        .fold(builder, |builder, insert| builder.insert(insert)))
}

/// Checks that a file is that of a job, without asking a cluster.
///
/// # Errors
/// When it cannot be read, or is none.
#[cfg(feature = "serve")]
pub(crate) fn check(path: &Path) -> Result<(), Failure> {
    JobFile::read(path, &Policy::default())?.check()
}

/// Runs the statements of a file that make tables and views.
///
/// # Errors
/// When one is wrong, with its line, or is something else.
#[cfg(feature = "serve")]
pub(crate) async fn define(context: &SessionContext, path: &Path) -> Result<(), Failure> {
    let file = JobFile::read(path, &Policy::default())?;
    match file.set_up(context).await?.as_slice() {
        [] => Ok(()),
        _ => Err(Failure::new(
            Exit::Query,
            "the file makes tables and views; INSERT is for jobs",
        )
        .at(path.display().to_string())),
    }
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
    #[cfg(feature = "serve")]
    let observed = match (&args.metrics, args.job.label()) {
        (Some(address), Some(name)) => {
            let observed = Observed::open(address, &name, &args.job.file).await?;
            builder = builder.listener(Arc::clone(&observed.monitor) as _);
            Some(observed)
        }
        _ => None,
    };
    let mut job = builder.build().await?;
    #[cfg(feature = "serve")]
    let _serving = observed.map(|observed| observed.serve(job.lags()));
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
