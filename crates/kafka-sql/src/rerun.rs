//! `rerun FILE`: reads the ranges of a receipt again and says whether they hold the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Int32Builder, Int64Builder, RecordBatch, StringBuilder, UInt64Builder};
use arrow::datatypes::{DataType, Field, Schema};
use clap::Args;
use datafusion_kafka::receipt::{PartitionRerun, Receipt, Rerun, Verdict};

use crate::failure::{Exit, Failure};
use crate::session::Session;
use crate::ui::{self, Ui, thousands};

/// The receipt to check.
#[derive(Debug, Args)]
pub(crate) struct RerunArgs {
    /// The receipt that `query --receipt FILE` wrote
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Reads a receipt.
///
/// # Errors
/// When the file does not exist, or is not a receipt.
pub(crate) fn load(path: &Path) -> Result<Receipt, Failure> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Failure::usage(format!("{name}: no such file")),
        _ => Failure::io(format_args!("cannot read {name}"), &e),
    })?;
    text.parse()
        .map_err(|error| Failure::new(Exit::Query, format!("{name}: {error}")))
}

/// Reads again. Returns a row for each partition, and why the exit code is not 0.
///
/// # Errors
/// When the cluster does not answer or denies.
pub(crate) async fn run(
    receipt: Receipt,
    session: &Session,
    ui: Ui,
) -> Result<(RecordBatch, Option<Failure>), Failure> {
    let found = receipt.rerun(session.client()?).await?;
    if !ui.quiet && found.verdict() == Verdict::Identical {
        let offsets: u64 = found.partitions.iter().map(offsets).sum();
        ui::note(format_args!(
            "kafka-sql: identical: {} offsets of {}",
            thousands(offsets),
            partitions(found.partitions.len())
        ));
    }
    Ok((rows(&found)?, failure(&found)))
}

fn partitions(number: usize) -> String {
    let noun = if number == 1 {
        "partition"
    } else {
        "partitions"
    };
    format!("{} {noun}", thousands(number as u64))
}

fn offsets(partition: &PartitionRerun) -> u64 {
    let lengths = partition.parts.iter().map(|part| part.len());
    lengths
        .map(|length| u64::try_from(length).unwrap_or(0))
        .sum()
}

fn failure(found: &Rerun) -> Option<Failure> {
    let verdict = found.verdict();
    let with = |kind| {
        found
            .partitions
            .iter()
            .filter(move |p| p.verdict.kind() == kind)
    };
    let (changed, gone) = (
        with(Verdict::Changed).count(),
        with(Verdict::Unavailable).count(),
    );
    let all = partitions(found.partitions.len());
    match verdict {
        Verdict::Identical => None,
        Verdict::Unavailable => Some(Failure::new(
            Exit::DataUnavailable,
            format!("unavailable: {gone} of {all} cannot be read any more"),
        )),
        Verdict::Changed => {
            let also = match gone {
                0 => String::new(),
                gone => format!(", and {gone} cannot be read any more"),
            };
            Some(Failure::new(
                Exit::Query,
                format!("changed: {changed} of {all} hold something else than the receipt{also}"),
            ))
        }
    }
}

fn rows(found: &Rerun) -> Result<RecordBatch, Failure> {
    let (mut topic, mut number) = (StringBuilder::new(), Int32Builder::new());
    let (mut start, mut end) = (Int64Builder::new(), Int64Builder::new());
    let mut count = UInt64Builder::new();
    let (mut verdict, mut reason) = (StringBuilder::new(), StringBuilder::new());
    for partition in &found.partitions {
        topic.append_value(&partition.partition.topic);
        number.append_value(partition.partition.partition);
        start.append_option(partition.parts.iter().map(|part| part.start()).min());
        end.append_option(partition.parts.iter().map(|part| part.end()).max());
        count.append_value(offsets(partition));
        verdict.append_value(partition.verdict.kind().as_str());
        reason.append_option(partition.verdict.reason());
    }
    let schema = Schema::new(vec![
        Field::new("topic", DataType::Utf8, false),
        Field::new("partition", DataType::Int32, false),
        Field::new("start_offset", DataType::Int64, true),
        Field::new("end_offset", DataType::Int64, true),
        Field::new("offsets", DataType::UInt64, false),
        Field::new("verdict", DataType::Utf8, false),
        Field::new("reason", DataType::Utf8, true),
    ]);
    Ok(RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(topic.finish()),
            Arc::new(number.finish()),
            Arc::new(start.finish()),
            Arc::new(end.finish()),
            Arc::new(count.finish()),
            Arc::new(verdict.finish()),
            Arc::new(reason.finish()),
        ],
    )?)
}
