//! The dead letters of a job: records of a batch that do not decode.

use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::physical_plan::ExecutionPlan;

use super::intent::SourceIntent;
use super::output::Output;
use super::source::Source;
use crate::error::{Error, Result, query_error};
use crate::kafka_sink::letters;
use crate::range::Snapshot;
use crate::scan;
use crate::table::KafkaTable;

/// What the table of a source's dead letters is called in plans.
pub(crate) fn table_name(source: &str) -> String {
    format!("dead letters of {source}")
}

/// The dead letters of a source's table, of which there may be as many as of bad records.
pub(crate) fn of(table: &KafkaTable) -> Option<KafkaTable> {
    table.dead_letters(table.decoder().bad_rows().limit)
}

/// Adds the sinks of the sources' dead letters to those of a job's statements.
pub(crate) async fn add(sources: &[Source], outputs: &mut Vec<Output>) -> Result<()> {
    for source in sources {
        let (Some(table), Some(sink)) = (of(&source.table), letters::sink(&source.table)?) else {
            continue;
        };
        letters::check_place(&source.table).await?;
        let name = TableReference::bare(table_name(&source.name));
        let query = LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(table)), None)
            .and_then(LogicalPlanBuilder::build)
            .map_err(query_error)?;
        let target = sink.target();
        match outputs.iter_mut().find(|o| o.sink.target() == target) {
            Some(output) if output.letters_of.is_empty() => {
                return Err(Error::invalid(format!(
                    "{target} takes the dead letters of source '{}' and rows of an INSERT: give the \
                     dead letters a place of their own",
                    source.name
                )));
            }
            Some(output) => {
                output.queries.push(query);
                output.letters_of.push(source.name.clone());
            }
            None => outputs.push(Output {
                sink,
                schema: Arc::new(query.schema().as_arrow().clone()),
                queries: vec![query],
                letters_of: vec![source.name.clone()],
            }),
        }
    }
    Ok(())
}

/// How many dead letters of a source a batch has, by what the plans of its statements found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// A scan has gone through every offset of the batch.
    Exactly(u64),
    /// Some were left out by a predicate or a LIMIT, or belong to a window that earlier batches have taken
    /// over: nobody knows.
    Any,
}

/// What to expect after the plans `ran`.
pub(crate) fn expected<'a>(
    source: &str,
    intent: Option<&SourceIntent>,
    ran: impl Iterator<Item = &'a Arc<dyn ExecutionPlan>>,
) -> Expected {
    let Some(intent) = intent else {
        return Expected::Exactly(0);
    };
    // What cannot be read was refused before it was run.
    let offsets = intent.reading().map_or(0, |reading| reading.len());
    let whole = ran
        .flat_map(scan::scans)
        .filter(|scan| scan.reads_source(source))
        .map(|scan| scan.ledger().total())
        .find(|counts| i64::try_from(counts.passed() - counts.filtered) == Ok(offsets));
    match whole {
        _ if offsets == 0 => Expected::Exactly(0),
        Some(counts) if counts.bad == 0 || intent.window.is_empty() => {
            Expected::Exactly(counts.bad)
        }
        _ => Expected::Any,
    }
}

/// Refuses dead letters that are not the records that the statements left out: what decodes by now was a
/// bad record a moment ago, and would be neither a row nor a dead letter.
pub(crate) fn check(
    source: &str,
    target: String,
    expected: Expected,
    plan: &Arc<dyn ExecutionPlan>,
) -> Result<()> {
    let letters: u64 = scan::scans(plan)
        .map(|scan| scan.ledger().total().delivered)
        .sum();
    match expected {
        Expected::Exactly(bad) if bad != letters => Err(Error::Sink {
            target,
            operation: "setting records aside".to_owned(),
            reason: format!(
                "{letters} records of source '{source}' do not decode, and {bad} did not a moment ago: a \
                 schema has come or gone meanwhile"
            ),
            // Decoded anew, all of the batch sees the same schemas.
            transient: true,
            source: None,
        }),
        _ => Ok(()),
    }
}

/// The ranges whose dead letters a batch takes over: those of the batch without its window, which
/// earlier batches have taken over.
pub(crate) fn snapshot(intent: &SourceIntent) -> Result<Snapshot> {
    SourceIntent {
        window: vec![],
        ..intent.clone()
    }
    .reading()
}
