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
use super::job;
use super::letters;
use super::output::{OpenOutput, Output};
use super::progress::{Phases, ProgressListener, Reads, SinkProgress};
use super::source::Source;
use crate::error::{Result, query_error};
use crate::fault;
use crate::range::{LedgerCounts, Snapshot};
use crate::scan::{self, ScanProgress};
use crate::sink::parquet::FileStaging;
use crate::sink::{BatchRanges, Part, StageExec, Staged, Standing, stage_all};
use crate::table::KafkaTable;

/// What a batch did, for its progress.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) phases: Phases,
    /// What the scans of each source received: records and bytes.
    pub(crate) read: BTreeMap<String, ScanProgress>,
    /// What became of the offsets that they read.
    pub(crate) ledgers: BTreeMap<String, LedgerCounts>,
    /// Empty until all rows are staged.
    pub(crate) sinks: Vec<SinkProgress>,
}

impl Done {
    /// Takes what an earlier attempt had staged where its commit was not answered and had taken place all the same.
    pub(crate) fn recall(&mut self, earlier: &Self) {
        for sink in self.sinks.iter_mut().filter(|sink| sink.already) {
            let staged = earlier.sinks.iter().find(|s| s.target == sink.target);
            if let Some(staged) = staged {
                (sink.rows, sink.bytes) = (staged.rows, staged.bytes);
            }
        }
        // Then nothing was read.
        if self.sinks.iter().all(|sink| sink.already) {
            self.read.clone_from(&earlier.read);
            self.ledgers.clone_from(&earlier.ledgers);
        }
    }
}

/// What a batch does for one output.
struct Work<'a> {
    open: &'a mut OpenOutput,
    ranges: Arc<BatchRanges>,
    /// Whether the sink has the batch: then there is nothing to do.
    already: bool,
    /// How the plans stage their rows, if they do.
    staging: Option<FileStaging>,
    plans: Vec<Arc<dyn ExecutionPlan>>,
    staged: Vec<Staged>,
}

impl<'a> Work<'a> {
    fn new(open: &'a mut OpenOutput, intent: &Intent, attempt: &str) -> Result<Self> {
        let ranges = open.ranges(intent, attempt);
        Ok(Self {
            already: open.standing(&ranges)? == Standing::Committed,
            open,
            ranges: Arc::new(ranges),
            staging: None,
            plans: vec![],
            staged: vec![],
        })
    }

    fn output(&self) -> &Output {
        &self.open.output
    }

    fn is_of_letters(&self) -> bool {
        !self.output().letters_of.is_empty()
    }

    async fn commit(&mut self) -> Result<()> {
        let staged = std::mem::take(&mut self.staged);
        self.open.sink.commit(&self.ranges, staged).await?;
        self.open.committed(&self.ranges);
        Ok(())
    }

    /// Lets go of what was staged; that it cannot be removed now is no reason to hide why it must.
    async fn abort(&self) {
        if let Err(error) = self.open.sink.abort(&self.ranges).await {
            let batch = self.ranges.batch;
            log::warn!("batch {batch}: removing what was staged: {error}");
        }
    }

    fn progress(&self) -> SinkProgress {
        SinkProgress {
            target: self.open.target(),
            already: self.already,
            rows: self.staged.iter().map(|part| part.rows).sum(),
            bytes: self.staged.iter().map(|part| part.bytes).sum(),
            ..SinkProgress::default()
        }
    }
}

/// Runs a batch's queries and commits their rows to every sink that does not have them yet. `done` says how far it came,
/// also where it fails.
pub(crate) async fn run(
    context: &SessionContext,
    sources: &[Source],
    outputs: &mut [OpenOutput],
    intent: &Intent,
    attempt: &str,
    listeners: &[Arc<dyn ProgressListener>],
    done: &mut Done,
) -> Result<()> {
    let works = outputs
        .iter_mut()
        .map(|open| Work::new(open, intent, attempt));
    let mut works: Vec<Work<'_>> = works.collect::<Result<_>>()?;
    let committed = async {
        stage(context, sources, intent, &mut works, done, listeners).await?;
        fault::point("after-stage");
        let begun = Instant::now();
        for work in works.iter_mut().filter(|work| !work.already) {
            work.commit().await?;
            fault::point("after-sink-commit");
        }
        done.phases.commit = ms(begun);
        Ok(())
    };
    if let Err(error) = committed.await {
        for work in works.iter().filter(|work| !work.already) {
            work.abort().await;
        }
        return Err(error);
    }
    Ok(())
}

async fn stage(
    context: &SessionContext,
    sources: &[Source],
    intent: &Intent,
    works: &mut [Work<'_>],
    done: &mut Done,
    listeners: &[Arc<dyn ProgressListener>],
) -> Result<()> {
    let begun = Instant::now();
    let state = state_at(context, intent.created_ms);
    let is_open = |work: &&mut Work<'_>| !work.already;
    for work in works
        .iter_mut()
        .filter(is_open)
        .filter(|work| !work.is_of_letters())
    {
        let output = Arc::clone(&work.open.output);
        let pinned = pinned(sources, intent, output.sink.needs_order())?;
        work.staging = work.open.sink.staging(&work.ranges).await;
        for query in &output.queries {
            let plan = physical_plan(&state, query, &pinned, work.staging.as_ref()).await?;
            work.plans.push(plan);
        }
    }
    done.phases.plan = ms(begun);

    let begun = Instant::now();
    let task = Arc::new(TaskContext::from(&state));
    let plans: Vec<_> = works.iter().flat_map(|work| &work.plans).cloned().collect();
    let reads = Reads::of(&plans);
    for listener in listeners {
        listener.reads(&reads);
    }
    stage_plans(works.iter_mut(), &task).await?;
    reads.end();
    // Only what the statements' scans found says whether there are dead letters to look for.
    let mut looks = vec![];
    for work in works
        .iter_mut()
        .filter(is_open)
        .filter(|work| work.is_of_letters())
    {
        let output = Arc::clone(&work.open.output);
        let pinned = pinned(sources, intent, output.sink.needs_order())?;
        for (source, query) in output.letters_of.iter().zip(&output.queries) {
            let of = intent.sources.iter().find(|s| s.source == *source);
            let expected = letters::expected(source, of, plans.iter());
            if expected != letters::Expected::Exactly(0) {
                let plan = physical_plan(&state, query, &pinned, None).await?;
                work.plans.push(Arc::clone(&plan));
                looks.push((source.clone(), output.sink.target(), expected, plan));
            }
        }
    }
    stage_plans(works.iter_mut().filter(|work| work.is_of_letters()), &task).await?;
    for (source, target, expected, plan) in &looks {
        letters::check(source, target.clone(), *expected, plan)?;
    }
    for work in works {
        work.staged.sort_by_key(|part| part.partition);
        done.sinks.push(work.progress());
    }
    for source in sources {
        let mut read = ScanProgress::default();
        let mut ledger = LedgerCounts::default();
        for plan in &plans {
            read.add_source(plan, &source.name);
            ledger += scan::of_source(plan, &source.name);
        }
        done.ledgers.insert(source.name.clone(), ledger);
        done.read.insert(source.name.clone(), read);
    }
    done.phases.stage = ms(begun);
    Ok(())
}

/// Runs the plans of outputs side by side and stages their rows.
async fn stage_plans<'a, 'b: 'a>(
    works: impl IntoIterator<Item = &'a mut Work<'b>>,
    task: &Arc<TaskContext>,
) -> Result<()> {
    let mut works: Vec<_> = works.into_iter().collect();
    let mut parts: Vec<(usize, Part)> = vec![];
    for (key, work) in works.iter().enumerate() {
        let mut streams_of_output = vec![];
        for plan in &work.plans {
            streams_of_output.extend(streams(plan, task)?);
        }
        parts.extend(
            (streams_of_output.into_iter().enumerate()).map(|(partition, rows)| {
                let part = match work.staging {
                    Some(_) => Part::Staging(rows),
                    None => Part::Rows {
                        sink: Arc::clone(&work.open.sink),
                        batch: Arc::clone(&work.ranges),
                        partition,
                        rows,
                    },
                };
                (key, part)
            }),
        );
    }
    for (key, staged) in stage_all(parts, task.memory_pool()).await? {
        works[key].staged.extend(staged);
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
            || Ok(Snapshot::empty(source.table.isolation())),
            super::intent::SourceIntent::reading,
        )?;
        let of_batch = found.map_or_else(|| Ok(reading.clone()), letters::snapshot)?;
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

/// Plans a query over the batch's ranges, and that its rows are staged.
pub(crate) async fn physical_plan(
    state: &SessionState,
    query: &datafusion::logical_expr::LogicalPlan,
    pinned: &BTreeMap<String, Arc<KafkaTable>>,
    staging: Option<&FileStaging>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut query = job::pin(query, pinned)?;
    if let Some(staging) = staging {
        query = StageExec::plan(query, staging.clone())?;
    }
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
