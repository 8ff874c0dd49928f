//! Applies a scan's conditions to the records of a batch: columns are built for the rows that pass.
//!
//! ```text
//! records ─▶ the columns that conditions need ─▶ conditions ─▶ records that pass ─▶ all columns
//! ```
//!
//! Whether a record is bad must not depend on that. With `on.bad.row` = `fail` or `skip` all fields of every
//! record are checked in the first step. With `null` a record is bad if a field that the query reads does not
//! decode, and its other fields are NULL then: the first step may look at fewer fields only where a condition
//! cannot be true for a record whose fields are NULL, and what passes is looked at once more with all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::expressions::Column as ColumnExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, conjunction};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{TryStreamExt, stream};

use super::condition::Conditions;
use super::needle::{infallible, rejects_nulls_of};
use crate::client::RawBatch;
use crate::decode::{Column, RecordDecoder, Rows};
use crate::error::External as _;

/// A batch of which more than one record in this many passes is better decoded at once.
const RARE: usize = 4;
/// Values that keep this much memory alive, and this many times their own bytes, are copied.
const RETAINED_FREE_BYTES: usize = 64 << 10;
const RETAINED_MOST: usize = 8;

/// The conditions of a scan, ready to be applied.
#[derive(Debug)]
pub(super) struct Filter {
    /// The columns that are built first, as indices into the table's schema, and their schema.
    columns: Vec<usize>,
    schema: SchemaRef,
    /// The conditions over these columns, and over all columns of the scan.
    first: Test,
    whole: Test,
    steps: Steps,
    /// Whether few records of the batch before have passed.
    rare: AtomicBool,
}

/// How records are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Steps {
    /// All columns of all records at once.
    One,
    /// First the columns that conditions need, then all of those that pass.
    Two,
    /// The same, and what passes is tested again with all columns.
    TwoAndAgain,
}

/// The records of a batch that are rows.
pub(super) struct Chosen {
    pub(super) batch: RecordBatch,
    /// Which records are rows.
    pub(super) rows: BooleanArray,
    /// Which records decode, where some are left out because they do not.
    pub(super) good: Option<BooleanArray>,
    pub(super) bad: usize,
    pub(super) first_bad: Option<String>,
    /// The records that only hints rule out.
    pub(super) unneeded: usize,
}

impl Chosen {
    /// Of records that were decoded, those that are rows.
    fn of(decoded: Rows, batch: RecordBatch, rows: BooleanArray, unneeded: usize) -> Self {
        Self {
            batch,
            rows,
            good: decoded.kept,
            bad: decoded.bad,
            first_bad: decoded.first_bad,
            unneeded,
        }
    }
}

impl Filter {
    /// `projection` are the scan's columns, over which its conditions are.
    pub(super) fn new(
        conditions: &Conditions,
        with_hints: bool,
        projection: &[usize],
        decoder: &RecordDecoder,
    ) -> Result<Option<Self>> {
        let hints: &[_] = if with_hints { &conditions.hints } else { &[] };
        if conditions.taken.is_empty() && hints.is_empty() {
            return Ok(None);
        }
        let all = conditions.taken.iter().chain(hints);
        let mut places: Vec<usize> = all
            .flat_map(|expr| collect_columns(expr).into_iter().map(|c| c.index()))
            .collect();
        places.sort_unstable();
        places.dedup();
        let columns: Vec<usize> = places.iter().map(|place| projection[*place]).collect();
        let whole = Test::new(conditions.taken.clone(), hints.to_vec());
        let steps = steps(&conditions.taken, &columns, projection, decoder);
        let mut first = whole.over(&places)?;
        if steps == Steps::TwoAndAgain {
            // What a node above learned came from rows with all of their columns.
            first.hints.clear();
        }
        Ok(Some(Self {
            schema: Arc::new(decoder.schema().project(&columns)?),
            columns,
            first,
            whole,
            steps,
            rare: AtomicBool::new(true),
        }))
    }

    /// Decodes records into rows that satisfy the conditions.
    pub(super) fn decode(
        &self,
        decoder: &RecordDecoder,
        records: &RawBatch,
        projection: &[usize],
        schema: &SchemaRef,
    ) -> Result<Chosen> {
        let again = match self.steps {
            Steps::One => return self.at_once(decoder, records, projection, schema),
            _ if !self.rare.load(Ordering::Relaxed) => {
                return self.at_once(decoder, records, projection, schema);
            }
            Steps::Two => false,
            Steps::TwoAndAgain => true,
        };
        let mut first = decoder
            .decode(records, &self.columns, &self.schema)
            .external()?;
        let (passed, mut unneeded) = self.first.passed(&first.batch)?;
        let mut rows = spread(first.kept.as_ref(), passed);
        self.note(&rows);
        if rows.true_count() == 0 {
            let batch = RecordBatch::new_empty(Arc::clone(schema));
            return Ok(Chosen::of(first, batch, rows, unneeded));
        }
        let passing = records.filter(&rows)?;
        let decoded = decoder.decode(&passing, projection, schema).external()?;
        let mut batch = decoded.batch;
        if let Some(kept) = decoded.kept {
            rows = spread(Some(&rows), kept);
        }
        if again {
            first.bad += decoded.bad;
            let (passed, more) = self.whole.passed(&batch)?;
            unneeded += more;
            batch = filter_record_batch(&batch, &passed)?;
            rows = spread(Some(&rows), passed);
        }
        Ok(Chosen::of(first, compact(batch)?, rows, unneeded))
    }

    fn at_once(
        &self,
        decoder: &RecordDecoder,
        records: &RawBatch,
        projection: &[usize],
        schema: &SchemaRef,
    ) -> Result<Chosen> {
        let decoded = decoder.decode(records, projection, schema).external()?;
        let (passed, unneeded) = self.whole.passed(&decoded.batch)?;
        let batch = compact(filter_record_batch(&decoded.batch, &passed)?)?;
        let rows = spread(decoded.kept.as_ref(), passed);
        self.note(&rows);
        Ok(Chosen::of(decoded, batch, rows, unneeded))
    }

    fn note(&self, rows: &BooleanArray) {
        let rare = rows.true_count() * RARE <= rows.len();
        self.rare.store(rare, Ordering::Relaxed);
    }
}

/// How a scan of `projection` is decoded whose conditions need `first`.
fn steps(
    taken: &[Arc<dyn PhysicalExpr>],
    first: &[usize],
    projection: &[usize],
    decoder: &RecordDecoder,
) -> Steps {
    if projection.iter().all(|column| first.contains(column)) {
        return Steps::One;
    }
    if !decoder.has_formats() || decoder.bad_rows().checks_all() {
        return Steps::Two;
    }
    let columns = decoder.columns();
    let has = |list: &[usize], column| list.iter().any(|i| columns.get(*i) == Some(&column));
    let fields = |list: &[usize], is: fn(Column) -> bool| {
        let of_part = list.iter().copied();
        let of_part = of_part.filter(|i| columns.get(*i).is_some_and(|column| is(*column)));
        of_part.collect::<Vec<_>>()
    };
    let parts: [fn(Column) -> bool; 2] = [
        |column| matches!(column, Column::KeyField(_) | Column::Key),
        |column| matches!(column, Column::ValueField(_) | Column::Value),
    ];
    let mut again = false;
    for is in parts {
        let needed = fields(first, is);
        if needed.is_empty() && !has(first, Column::BadReason) {
            continue;
        }
        let checked = fields(projection, is);
        let same = has(first, Column::BadReason)
            || !has(projection, Column::BadReason) && checked.iter().all(|i| needed.contains(i));
        if same {
            continue;
        }
        let of_part = |place: usize| projection.get(place).is_some_and(|i| needed.contains(i));
        let rejects = taken.iter().any(|expr| rejects_nulls_of(expr, &of_part));
        if !rejects || !taken.iter().all(infallible) {
            return Steps::One;
        }
        again = true;
    }
    if again {
        Steps::TwoAndAgain
    } else {
        Steps::Two
    }
}

/// Conditions over the columns of a batch.
#[derive(Debug, Clone)]
struct Test {
    taken: Option<Arc<dyn PhysicalExpr>>,
    hints: Vec<Arc<dyn PhysicalExpr>>,
}

impl Test {
    fn new(taken: Vec<Arc<dyn PhysicalExpr>>, hints: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        let taken = (!taken.is_empty()).then(|| conjunction(taken));
        Self { taken, hints }
    }

    /// The same where only the columns at these places are there.
    fn over(&self, places: &[usize]) -> Result<Self> {
        let over = |expr: &Arc<dyn PhysicalExpr>| {
            let moved = Arc::clone(expr).transform_up(|expr| {
                let Some(column) = expr.downcast_ref::<ColumnExpr>() else {
                    return Ok(Transformed::no(expr));
                };
                let place = places.iter().position(|place| *place == column.index());
                let place = place.unwrap_or(column.index());
                let column = ColumnExpr::new(column.name(), place);
                Ok(Transformed::yes(Arc::new(column) as Arc<dyn PhysicalExpr>))
            });
            moved.map(|moved| moved.data)
        };
        Ok(Self {
            taken: self.taken.as_ref().map(over).transpose()?,
            hints: self.hints.iter().map(over).collect::<Result<_>>()?,
        })
    }

    /// Which rows pass, and how many more only hints rule out.
    fn passed(&self, batch: &RecordBatch) -> Result<(BooleanArray, usize)> {
        let rows = batch.num_rows();
        let mut passed = match &self.taken {
            Some(expr) if rows > 0 => truths(expr.evaluate(batch)?, rows)?,
            _ => BooleanArray::from(vec![true; rows]),
        };
        let satisfying = passed.true_count();
        for hint in &self.hints {
            if passed.true_count() == 0 {
                break;
            }
            // A row that a hint says nothing about may be wanted.
            if let Ok(truths) = hint.evaluate(batch).and_then(|value| truths(value, rows)) {
                passed = arrow::compute::and(&passed, &truths)?;
            }
        }
        let unneeded = satisfying - passed.true_count();
        Ok((passed, unneeded))
    }
}

/// Where a condition is true: NULL is not.
fn truths(value: ColumnarValue, rows: usize) -> Result<BooleanArray> {
    let array = value.into_array(rows)?;
    let Some(array) = array.as_boolean_opt() else {
        return datafusion::common::internal_err!("a condition is {}", array.data_type());
    };
    Ok(match array.null_count() {
        0 => array.clone(),
        _ => prep_null_mask_filter(array),
    })
}

/// Which of all records are in `inner`, which is about those that `outer` has.
fn spread(outer: Option<&BooleanArray>, inner: BooleanArray) -> BooleanArray {
    let Some(outer) = outer else {
        return inner;
    };
    let mut inner = inner.values().iter();
    let outer = outer.values().iter();
    let both = outer.map(|is| is && inner.next().unwrap_or(false));
    BooleanArray::from(both.collect::<Vec<bool>>())
}

/// A few rows must not keep the memory of all alive.
fn compact(batch: RecordBatch) -> Result<RecordBatch> {
    fn is_sparse(buffers: usize, shown: usize) -> bool {
        buffers > RETAINED_FREE_BYTES && buffers / RETAINED_MOST > shown
    }
    let compacted = |column: &ArrayRef| -> ArrayRef {
        match column.data_type() {
            DataType::BinaryView => {
                let views = column.as_binary_view();
                let buffers = views.data_buffers().iter().map(|b| b.len()).sum();
                match is_sparse(buffers, views.total_buffer_bytes_used()) {
                    true => Arc::new(views.gc()),
                    false => Arc::clone(column),
                }
            }
            DataType::Utf8View => {
                let views = column.as_string_view();
                let buffers = views.data_buffers().iter().map(|b| b.len()).sum();
                match is_sparse(buffers, views.total_buffer_bytes_used()) {
                    true => Arc::new(views.gc()),
                    false => Arc::clone(column),
                }
            }
            _ => Arc::clone(column),
        }
    };
    let columns = batch.columns().iter().map(compacted).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let batch = RecordBatch::try_new_with_options(batch.schema(), columns, &options)?;
    Ok(batch)
}

/// Rows of a scan that has not applied its conditions, because its books are about all records; no more than
/// `fetch`.
pub(super) fn behind(
    rows: SendableRecordBatchStream,
    conditions: &Conditions,
    fetch: Option<usize>,
) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let test = Test::new(conditions.taken.clone(), vec![]);
    let state = (rows, test, fetch);
    let passing = stream::try_unfold(state, |(mut rows, test, fetch)| async move {
        if fetch == Some(0) {
            return Ok(None);
        }
        while let Some(batch) = rows.try_next().await? {
            let (passed, _) = test.passed(&batch)?;
            let batch = compact(filter_record_batch(&batch, &passed)?)?;
            let taken = fetch.map_or(batch.num_rows(), |most| most.min(batch.num_rows()));
            if taken > 0 {
                let left = fetch.map(|most| most - taken);
                return Ok(Some((batch.slice(0, taken), (rows, test, left))));
            }
        }
        Ok(None)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, passing))
}
