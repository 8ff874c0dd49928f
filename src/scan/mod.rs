//! Reads a frozen set of offset ranges as record batches.
//!
//! ```text
//! table ── ranges ──▶ split ──▶ KafkaScanExec, execution partition 0: orders[0] 0..100
//!                                              execution partition 1: orders[1] 0..50, orders[2] 0..40
//! ```
//!
//! What [`KafkaScanExec`] promises:
//!
//! - It reads exactly these offsets, whatever was written since they were fixed.
//! - Records of one Kafka partition come in offset order within an execution partition.
//! - A range ends when the position reaches its end, never because of a time-out.
//! - Dropping a stream stops its fetching.
//! - Every offset is accounted for ([`KafkaScanExec::ledger`]). A client whose batches do not add up
//!   to the offsets of a range fails the query with [`Error::Unaccounted`](crate::Error::Unaccounted).

mod account;
mod backward;
mod budget;
mod condition;
#[cfg(feature = "jobs")]
mod connections;
mod display;
mod elsewhere;
mod estimate;
mod filter;
mod hash;
mod keys;
mod ledger;
mod metrics;
mod needle;
mod position;
mod progress;
mod properties;
mod pruned;
mod range;
#[cfg(feature = "jobs")]
mod remote;
mod report;
mod reverse;
mod rows;
mod settings;
mod stream;
mod tasks;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, internal_err};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    ReplaceChildrenOptions, SortOrderPushdownResult,
};

use crate::client::{KafkaClient, RawColumns};
use crate::decode::{BadRowCount, BadRowPart, RecordDecoder};
use crate::error::External as _;
use crate::range::{IsolationLevel, Ledger, OffsetRange, OnDataLoss, RangeLedger, Snapshot};
use account::Books;
use backward::MAX_MERGED_PARTITIONS;
use budget::Share;
use condition::Conditions;
use filter::Filter;
use keys::WantedKeys;
use properties::{properties, statistics};

pub(crate) use budget::{Account, Holder};
pub use budget::{ScanEstimate, lift_budget, over_budget};
#[cfg(feature = "jobs")]
pub use connections::OwnConnections;
pub use elsewhere::{ExecuteElsewhere, ScansElsewhereExec, sorted_behind_shuffles};
pub(crate) use hash::WithChecksums;
pub use hash::wants_checksums;
pub(crate) use keys::KeyPlaces;
#[cfg(feature = "jobs")]
pub(crate) use ledger::of_source;
pub use ledger::{ledger, scans};
pub use progress::ScanProgress;
pub(crate) use pruned::{IndexUse, Pruned, PrunedBy};
pub(crate) use range::ScanRange;
#[cfg(feature = "jobs")]
pub use remote::Connections;
#[cfg(feature = "jobs")]
pub(crate) use remote::Origin;
pub use report::{PartitionBytes, ScanFailure, ScanReport};
pub use settings::ScanSettings;
pub use tasks::{ASSUMED_BYTES_PER_OFFSET, ScanPiece};

/// What all execution partitions of a scan share.
#[derive(Debug)]
pub(crate) struct ScanSource {
    /// What the table is called in a job, to tell its metrics from those of other sources.
    pub(crate) name: Option<Arc<str>>,
    pub(crate) client: Arc<dyn KafkaClient>,
    pub(crate) decoder: RecordDecoder,
    pub(crate) isolation: IsolationLevel,
    pub(crate) on_data_loss: OnDataLoss,
    /// The bytes of keys and values after which a batch is closed.
    pub(crate) batch_bytes: usize,
    /// What the predicates cut away: for EXPLAIN.
    pub(crate) pruned: Vec<Pruned>,
    /// What an index said, if one was asked: for EXPLAIN.
    pub(crate) index: Option<IndexUse>,
    /// The snapshot that the ranges were taken from.
    pub(crate) snapshot: Arc<Snapshot>,
    /// What another machine needs to read the same; `None` where no other can.
    #[cfg(feature = "jobs")]
    pub(crate) origin: Option<Origin>,
    /// Whether checksums of the records are asked for, whatever the session says.
    pub(crate) checksums: bool,
    /// Whether several streams may read a Kafka partition.
    pub(crate) may_cut: bool,
    /// Whether the plan may rely on the order of rows.
    pub(crate) ordered: bool,
    /// Where keys are, if that is known.
    pub(crate) key_places: Option<Arc<dyn KeyPlaces>>,
}

/// Asks the scans of a session to promise no order of their rows, for engines that do not keep it: an extension of
/// its `SessionConfig`. `ORDER BY "offset" DESC` is answered from the end nevertheless.
#[derive(Debug, Clone, Copy)]
pub struct NoOrder;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Reverse,
}

/// Reads offset ranges; see the module's documentation.
#[derive(Debug, Clone)]
pub struct KafkaScanExec {
    source: Arc<ScanSource>,
    /// The ranges of each execution partition, by topic, partition and offset.
    partitions: Arc<[Vec<ScanRange>]>,
    projection: Arc<[usize]>,
    fetch: Option<usize>,
    direction: Direction,
    conditions: Arc<Conditions>,
    properties: Arc<PlanProperties>,
    counted: Counted,
    share: Share,
}

/// How an execution reads.
struct Reading<'a> {
    conditions: &'a Conditions,
    with_hints: bool,
    fetch: Option<usize>,
    context: &'a Arc<TaskContext>,
}

/// What is counted while a scan is executed. A scan that is made of another one has its own.
#[derive(Debug, Clone)]
struct Counted {
    /// Of all executions, as DataFusion counts.
    metrics: ExecutionPlanMetricsSet,
    /// The books of the last execution of each execution partition, empty before the first.
    books: Arc<[Mutex<Vec<Arc<Books>>>]>,
    /// Of the last execution of each execution partition.
    bad_rows: Arc<BadRowCount>,
    /// What was counted on other machines, where the scan is executed there.
    elsewhere: Arc<Mutex<Vec<ScanReport>>>,
}

impl Counted {
    fn nothing(source: &ScanSource, partitions: usize) -> Self {
        let limit = source.decoder.bad_rows().limit;
        Self {
            metrics: ExecutionPlanMetricsSet::new(),
            books: (0..partitions).map(|_| Mutex::default()).collect(),
            bad_rows: Arc::new(BadRowCount::new(limit, partitions)),
            elsewhere: Arc::default(),
        }
    }
}

impl KafkaScanExec {
    /// A scan of `partitions`, one inner list for each execution partition.
    ///
    /// `projection` holds indices into the decoder's schema.
    pub(crate) fn try_new(
        source: Arc<ScanSource>,
        partitions: Vec<Vec<ScanRange>>,
        projection: Vec<usize>,
        fetch: Option<usize>,
    ) -> Result<Self> {
        let schema = Arc::new(source.decoder.schema().project(&projection)?);
        // DataFusion expects a leaf to have a partition, be it an empty one.
        let partitions: Arc<[_]> = if partitions.is_empty() {
            Arc::new([vec![]])
        } else {
            partitions.into()
        };
        let direction = Direction::Forward;
        let properties = properties(&source, &partitions, &projection, &schema, direction)?;
        Ok(Self {
            counted: Counted::nothing(&source, partitions.len()),
            source,
            partitions,
            projection: projection.into(),
            fetch,
            direction,
            conditions: Arc::default(),
            properties: Arc::new(properties),
            share: Share::default(),
        })
    }

    /// The ranges that each execution partition reads.
    pub fn ranges(&self) -> Vec<Vec<OffsetRange>> {
        let offsets = |ranges: &Vec<ScanRange>| ranges.iter().map(|r| r.range.clone()).collect();
        self.partitions.iter().map(offsets).collect()
    }

    /// The offsets that are read in all: an upper bound of the rows.
    pub fn offsets(&self) -> u64 {
        let all = self.partitions.iter().flatten();
        all.map(|r| u64::try_from(r.range.len()).unwrap_or(0)).sum()
    }

    /// What became of each offset, as far as the ranges are read: also while the scan runs.
    ///
    /// Ranges that were only split for reading are one again. An execution partition that is
    /// executed again starts from nothing.
    pub fn ledger(&self) -> Ledger {
        if let Some(ledger) = self.ledger_elsewhere() {
            return ledger;
        }
        let backward = self.direction == Direction::Reverse;
        let mut all = vec![];
        for (ranges, books) in self.partitions.iter().zip(self.counted.books.iter()) {
            let books = books.lock().unwrap_or_else(PoisonError::into_inner);
            if books.is_empty() {
                let unread = |r: &ScanRange| RangeLedger::unread(r.range.clone(), backward);
                all.extend(ranges.iter().map(unread));
            }
            all.extend(books.iter().flat_map(|books| books.ledgers()));
        }
        Ledger::of_scan(all)
    }

    /// Opens the books of streams over these lists of ranges, instead of those of the execution
    /// before.
    fn open_books<'a>(
        &self,
        partition: usize,
        streams: impl IntoIterator<Item = &'a [ScanRange]>,
    ) -> Vec<Arc<Books>> {
        let backward = self.direction == Direction::Reverse;
        let opened: Vec<Arc<Books>> = streams
            .into_iter()
            .map(|ranges| Books::new(ranges.iter().map(|r| &r.range), backward))
            .collect();
        if let Some(books) = self.counted.books.get(partition) {
            let mut books = books.lock().unwrap_or_else(PoisonError::into_inner);
            books.clone_from(&opened);
        }
        opened
    }

    /// The client that reads.
    pub fn client(&self) -> &Arc<dyn KafkaClient> {
        &self.source.client
    }

    /// The snapshot that the scan was planned on, before predicates cut its ranges.
    pub fn snapshot(&self) -> &Snapshot {
        &self.source.snapshot
    }

    /// What predicates ruled out of it, and the kind of predicate: `key`, `partition`, … as EXPLAIN shows it.
    pub fn pruned(&self) -> impl Iterator<Item = (&OffsetRange, &'static str)> {
        let pruned = self.source.pruned.iter();
        pruned.map(|pruned| (&pruned.range, pruned.by.name()))
    }

    /// The columns that checksums of the records cover.
    pub(crate) fn hashed_columns(&self) -> RawColumns {
        self.source.decoder.raw_columns(&self.projection)
    }

    /// Whether the scan reads the source of a job that is called `name`.
    #[cfg(feature = "jobs")]
    pub(crate) fn reads_source(&self, name: &str) -> bool {
        self.source.name.as_deref() == Some(name)
    }

    fn reader(
        &self,
        partition: usize,
        ranges: &[ScanRange],
        books: Arc<Books>,
        bad_rows: BadRowPart,
        reading: &Reading<'_>,
    ) -> Result<stream::Reader> {
        let (projection, decoder) = (&self.projection, &self.source.decoder);
        let conditions = reading.conditions;
        let filter = Filter::new(conditions, reading.with_hints, projection, decoder)?;
        let needle = needle::needle(conditions, projection, decoder);
        let hints: &[_] = if reading.with_hints {
            &conditions.hints
        } else {
            &[]
        };
        Ok(stream::Reader::new(
            Arc::clone(&self.source),
            Arc::clone(projection),
            self.schema(),
            metrics::ScanMetrics::new(&self.counted.metrics, partition),
            ranges,
            books,
            bad_rows,
            (filter, needle, WantedKeys::of(self, hints)),
            partition,
            self.share.spending(reading.context),
            reading.context,
        ))
    }

    /// Whether an execution partition was executed before.
    fn is_again(&self, partition: usize) -> bool {
        let books = self.counted.books.get(partition);
        books.is_some_and(|books| {
            let books = books.lock().unwrap_or_else(PoisonError::into_inner);
            !books.is_empty()
        })
    }
}

impl DisplayAs for KafkaScanExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display::scan(self, t, f)
    }
}

impl ExecutionPlan for KafkaScanExec {
    fn name(&self) -> &'static str {
        "KafkaScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let mut all = (self.conditions.taken.iter()).chain(&self.conditions.hints);
        all.try_fold(TreeNodeRecursion::Continue, |recursion, expr| {
            recursion.visit_sibling(|| f(expr))
        })
    }

    /// What nodes above have learned is forgotten with them.
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.under(Conditions {
            hints: vec![],
            ..self.conditions.as_ref().clone()
        })))
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() {
            Ok(self)
        } else {
            internal_err!("KafkaScanExec is a leaf and takes no children")
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let Some(ranges) = self.partitions.get(partition) else {
            return internal_err!(
                "KafkaScanExec has {} execution partitions, partition {partition} was asked for",
                self.partitions.len()
            );
        };
        self.share.check_estimates().external()?;
        if self.conditions.missing > 0 {
            return internal_err!("a scan came from another machine without its conditions");
        }
        // The books of a receipt are about all records that a condition has looked at.
        let is_behind = self.source.checksums || wants_checksums(&context);
        let is_behind = is_behind && !self.conditions.is_empty();
        let nothing = Conditions::default();
        let reading = Reading {
            conditions: if is_behind {
                &nothing
            } else {
                &self.conditions
            },
            with_hints: !self.is_again(partition),
            fetch: if is_behind { None } else { self.fetch },
            context: &context,
        };
        let stream: SendableRecordBatchStream = match self.direction {
            Direction::Forward => {
                let books = self.open_books(partition, [ranges.as_slice()]).remove(0);
                let bad_rows = self.counted.bad_rows.begin(partition, 1);
                let reader = self.reader(partition, ranges, books, bad_rows, &reading)?;
                let stream = stream::forward(reader, ranges.clone(), reading.fetch);
                Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream))
            }
            Direction::Reverse => self.execute_reverse(partition, ranges, &reading)?,
        };
        let stream = match is_behind {
            true => filter::behind(stream, &self.conditions, self.fetch),
            false => stream,
        };
        Ok(make_cooperative(stream))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(
            self.metrics_elsewhere()
                .unwrap_or_else(|| self.counted.metrics.clone_inner()),
        )
    }

    /// Row counts are never exact: control, aborted and compacted offsets hold no row, and an
    /// exact count would let `count(*)` be answered without reading.
    fn statistics_from_inputs(
        &self,
        _input_stats: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let partitions = match args.partition() {
            Some(partition) => self.partitions.get(partition..=partition).unwrap_or(&[]),
            None => &self.partitions[..],
        };
        let ranges: Vec<&OffsetRange> = partitions.iter().flatten().map(|r| &r.range).collect();
        Ok(Arc::new(statistics(self, &ranges)))
    }

    fn with_fetch(&self, fetch: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let scan = Self {
            fetch,
            counted: Counted::nothing(&self.source, self.partitions.len()),
            ..self.clone()
        };
        Some(Arc::new(scan.counted_again()))
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    /// Conditions of nodes above become the scan's.
    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        result: ChildPushdownResult,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let filters = result.parent_filters.into_iter();
        let filters: Vec<_> = filters.map(|result| result.filter).collect();
        Ok(self.take_over(phase, &filters, config))
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        self.newest_first(order)
    }
}
