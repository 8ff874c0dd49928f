//! Runs one batch: plans its queries over its ranges, stages their rows, commits them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use datafusion::execution::context::SessionContext;
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::execute_stream_partitioned;

use super::intent::Intent;
use super::job::{self, Output};
use super::letters;
use super::progress::{Phases, SinkProgress};
use super::source::Source;
use crate::error::{Result, query_error};
use crate::fault;
use crate::range::{LedgerCounts, Snapshot};
use crate::scan::{self, ScanProgress};
use crate::sink::{BatchRanges, Ends, Part, Sink, Staged, Standing, stage_all};
use crate::table::KafkaTable;

/// A sink of a running job, with what it has recorded.
#[derive(Debug)]
pub(crate) struct OpenSink {
    pub(crate) sink: Arc<dyn Sink>,
    /// The recorded ends; `None` for a sink that knows nothing of the job.
    pub(crate) recorded: Option<Ends>,
    /// Whether the sink keeps ends at all; one that does not is trusted to do what it must.
    pub(crate) records: bool,
    /// Whether the sink joins a job that is under way, with the job's next batch.
    pub(crate) joins: bool,
}

impl OpenSink {
    /// The batch as this sink has to compare it.
    pub(crate) fn ranges(&self, intent: &Intent, attempt: &str) -> BatchRanges {
        let mut ranges = intent.ranges(attempt);
        if self.joins {
            for range in &mut ranges.ranges {
                range.previous = None;
            }
        }
        ranges
    }

    /// How the batch stands to the recorded ends.
    pub(crate) fn standing(&self, ranges: &BatchRanges) -> Result<Standing> {
        if !self.records {
            return Ok(Standing::Next);
        }
        ranges.against(&self.sink.target(), self.recorded.as_ref())
    }
}

/// What a batch did, for its progress.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) phases: Phases,
    /// What the scans of each source received: records and bytes.
    pub(crate) read: BTreeMap<String, ScanProgress>,
    /// What became of the offsets that they read.
    pub(crate) ledgers: BTreeMap<String, LedgerCounts>,
    pub(crate) sinks: Vec<SinkProgress>,
}

/// Runs a batch's queries and commits their rows to every sink that does not have them yet.
pub(crate) async fn run(
    context: &SessionContext,
    sources: &[Source],
    outputs: &[Output],
    sinks: &mut [OpenSink],
    intent: &Intent,
    attempt: &str,
) -> Result<Done> {
    let ranges: Vec<Arc<BatchRanges>> = sinks
        .iter()
        .map(|sink| Arc::new(sink.ranges(intent, attempt)))
        .collect();
    let mut done = Done::default();
    let mut open = vec![];
    for (number, sink) in sinks.iter().enumerate() {
        let progress = SinkProgress {
            target: sink.sink.target(),
            already: sink.standing(&ranges[number])? == Standing::Committed,
            ..SinkProgress::default()
        };
        if !progress.already {
            open.push(number);
        }
        done.sinks.push(progress);
    }
    let staged = stage(context, sources, outputs, intent, &ranges, &open, &mut done).await;
    let staged = match staged {
        Ok(staged) => staged,
        Err(error) => {
            abort(sinks, &open, &ranges).await;
            return Err(error);
        }
    };
    fault::point("after-stage");

    let begun = Instant::now();
    for (number, staged) in staged {
        let open_sink = &mut sinks[number];
        if let Err(error) = open_sink.sink.commit(&ranges[number], staged).await {
            abort(sinks, &open, &ranges).await;
            return Err(error);
        }
        open_sink.recorded = Some(ranges[number].ends());
        open_sink.joins = false;
        fault::point("after-sink-commit");
    }
    done.phases.commit = ms(begun);
    Ok(done)
}

/// Lets go of what was staged; that it cannot be removed now is no reason to hide why it must.
async fn abort(sinks: &[OpenSink], open: &[usize], ranges: &[Arc<BatchRanges>]) {
    for number in open {
        let (sink, ranges) = (&sinks[*number].sink, &ranges[*number]);
        if let Err(error) = sink.abort(ranges).await {
            log::warn!("batch {}: removing what was staged: {error}", ranges.batch);
        }
    }
}

async fn stage(
    context: &SessionContext,
    sources: &[Source],
    outputs: &[Output],
    intent: &Intent,
    ranges: &[Arc<BatchRanges>],
    open: &[usize],
    done: &mut Done,
) -> Result<Vec<(usize, Vec<Staged>)>> {
    let begun = Instant::now();
    let state = state_at(context, intent.created_ms);
    let (rows, letters): (Vec<usize>, Vec<usize>) =
        (open.iter()).partition(|number| outputs[**number].letters_of.is_empty());
    let mut plans = vec![];
    for number in rows {
        let pinned = pinned(sources, intent, outputs[number].sink.needs_order())?;
        for query in &outputs[number].queries {
            plans.push((number, physical_plan(&state, query, &pinned).await?));
        }
    }
    done.phases.plan = ms(begun);

    let begun = Instant::now();
    let task = Arc::new(TaskContext::from(&state));
    let mut staged: BTreeMap<usize, Vec<Staged>> =
        open.iter().map(|number| (*number, vec![])).collect();
    stage_plans(&plans, outputs, ranges, &task, &mut staged).await?;
    // Only what the statements' scans found says whether there are dead letters to look for.
    let mut looks = vec![];
    let mut expectations = vec![];
    for number in letters {
        let output = &outputs[number];
        let pinned = pinned(sources, intent, output.sink.needs_order())?;
        for (source, query) in output.letters_of.iter().zip(&output.queries) {
            let of = intent.sources.iter().find(|s| s.source == *source);
            let expected = letters::expected(source, of, plans.iter().map(|(_, plan)| plan));
            if expected != letters::Expected::Exactly(0) {
                looks.push((number, physical_plan(&state, query, &pinned).await?));
                expectations.push((source, expected));
            }
        }
    }
    stage_plans(&looks, outputs, ranges, &task, &mut staged).await?;
    for ((number, plan), (source, expected)) in looks.iter().zip(expectations) {
        letters::check(source, outputs[*number].sink.target(), expected, plan)?;
    }
    for (number, parts) in &mut staged {
        parts.sort_by_key(|part| part.partition);
        done.sinks[*number].rows = parts.iter().map(|part| part.rows).sum();
        done.sinks[*number].bytes = parts.iter().map(|part| part.bytes).sum();
    }
    for source in sources {
        let mut read = ScanProgress::default();
        let mut ledger = LedgerCounts::default();
        for (_, plan) in &plans {
            read.add_source(plan, &source.name);
            ledger += scan::of_source(plan, &source.name);
        }
        done.ledgers.insert(source.name.clone(), ledger);
        done.read.insert(source.name.clone(), read);
    }
    done.phases.stage = ms(begun);
    Ok(staged.into_iter().collect())
}

/// Runs plans and stages their rows in the sinks of their numbers.
async fn stage_plans(
    plans: &[(usize, Arc<dyn ExecutionPlan>)],
    outputs: &[Output],
    ranges: &[Arc<BatchRanges>],
    task: &Arc<TaskContext>,
    staged: &mut BTreeMap<usize, Vec<Staged>>,
) -> Result<()> {
    let mut parts: Vec<(usize, Part)> = vec![];
    for (number, plan) in plans {
        for rows in streams(plan, task)? {
            let part = Part {
                sink: Arc::clone(&outputs[*number].sink),
                batch: Arc::clone(&ranges[*number]),
                partition: parts.iter().filter(|(of, _)| of == number).count(),
                rows,
            };
            parts.push((*number, part));
        }
    }
    for (number, part) in stage_all(parts, task.memory_pool()).await? {
        staged.entry(number).or_default().push(part);
    }
    Ok(())
}

/// The tables of a batch by their names, and those of their dead letters: each reads exactly the
/// batch's ranges.
pub(crate) fn pinned(
    sources: &[Source],
    intent: &Intent,
    in_order: bool,
) -> Result<BTreeMap<String, Arc<KafkaTable>>> {
    let mut pinned = BTreeMap::new();
    for source in sources {
        let found = intent.sources.iter().find(|s| s.source == source.name);
        // A source that was added by --allow-changed-query has no part in an older batch.
        let reading = found.map_or_else(
            || Snapshot {
                isolation_level: source.table.isolation(),
                ..Snapshot::default()
            },
            super::intent::SourceIntent::reading,
        );
        let of_batch = found.map_or_else(|| reading.clone(), letters::snapshot);
        let table = source.table.at(reading)?.in_order(in_order);
        pinned.insert(source.name.clone(), Arc::new(table.claiming_letters()));
        if let Some(table) = letters::of(&source.table) {
            let table = table.at(of_batch)?.in_order(in_order);
            pinned.insert(letters::table_name(&source.name), Arc::new(table));
        }
    }
    Ok(pinned)
}

/// The session as of the batch: `now()` is the moment at which the batch was fixed, so that a
/// replay computes the same rows. Rows are not dealt out to more partitions than the scan has: that
/// would lose the order of records.
pub(crate) fn state_at(context: &SessionContext, created_ms: i64) -> SessionState {
    let mut state = context.state();
    let options = state.config_mut().options_mut();
    options.optimizer.enable_round_robin_repartition = false;
    state.mark_start_execution();
    let begun = arrow::temporal_conversions::timestamp_ms_to_datetime(created_ms);
    if let Some(begun) = begun {
        state.execution_props_mut().query_execution_start_time = Some(begun.and_utc());
    }
    state
}

/// Plans a query over the batch's ranges.
pub(crate) async fn physical_plan(
    state: &SessionState,
    query: &datafusion::logical_expr::LogicalPlan,
    pinned: &BTreeMap<String, Arc<KafkaTable>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let query = job::pin(query, pinned)?;
    let planned = state.create_physical_plan(&query).await;
    planned.map_err(query_error)
}

/// Starts a plan: a stream for each execution partition.
pub(crate) fn streams(
    plan: &Arc<dyn ExecutionPlan>,
    task: &Arc<TaskContext>,
) -> Result<Vec<SendableRecordBatchStream>> {
    execute_stream_partitioned(Arc::clone(plan), Arc::clone(task)).map_err(query_error)
}

/// The time since `begun`, in ms, to the microsecond.
pub(crate) fn ms(begun: Instant) -> f64 {
    (begun.elapsed().as_secs_f64() * 1e6).round() / 1e3
}
