//! The dead letters of a job: records of a batch that do not decode.

use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::physical_plan::ExecutionPlan;

use super::intent::SourceIntent;
use super::job::{Output, query_error};
use super::source::Source;
use crate::error::{Error, Result};
use crate::range::Snapshot;
use crate::scan;

/// What the table of a source's dead letters is called in plans.
pub(crate) fn table_name(source: &str) -> String {
    format!("dead letters of {source}")
}

/// Adds the sinks of the sources' dead letters to those of a job's statements.
pub(crate) fn add(sources: &[Source], outputs: &mut Vec<Output>) -> Result<()> {
    for source in sources {
        let (Some(table), Some(sink)) = (source.table.dead_letters(), source.table.letter_sink()?)
        else {
            continue;
        };
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

/// Whether a batch may have dead letters of a source, after the plans of its statements ran.
///
/// There are none where one scan has gone through every offset of the source and found nothing bad. A
/// scan that left offsets out, by a predicate or a LIMIT, says nothing of those.
pub(crate) fn may_have(
    source: &str,
    intent: Option<&SourceIntent>,
    ran: &[&Arc<dyn ExecutionPlan>],
) -> bool {
    let Some(intent) = intent else {
        return false;
    };
    let offsets: i64 = intent.reading().ranges().map(|range| range.len()).sum();
    if offsets == 0 {
        return false;
    }
    let mut scans = ran.iter().flat_map(|plan| scan::scans(plan));
    !scans.any(|scan| {
        let counts = scan.ledger().total();
        let looked_at = counts.passed() - counts.filtered - counts.bad;
        scan.reads_source(source) && i64::try_from(looked_at) == Ok(offsets)
    })
}

/// The ranges whose dead letters a batch takes over: those of the batch without its window, which
/// earlier batches have taken over.
pub(crate) fn snapshot(intent: &SourceIntent) -> Snapshot {
    SourceIntent {
        window: vec![],
        ..intent.clone()
    }
    .reading()
}
