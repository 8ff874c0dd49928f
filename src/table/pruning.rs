//! From SQL predicates to the offsets that may hold matching records.
//!
//! A predicate is looked at once for each Kafka partition, with its topic and number put in, so
//! that `(partition = 0 AND "offset" >= 10) OR (partition = 1 AND "offset" < 5)` cuts each
//! partition by its own side. What is left speaks of offsets and timestamps; each is turned into a
//! set of intervals on its own, the other one being unknown.
//!
//! SQL's logic has three values. For each expression two sets are kept: where it may be true and
//! where it may be false. Unknown parts are in both, a comparison with NULL is in neither, and NOT
//! swaps them: a part that is not understood can only make a set larger, under NOT as well.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int32Array, RecordBatch, StringViewArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::catalog::Session;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown};

use crate::decode::{Column, RecordDecoder};
use crate::range::{IntervalSet, TopicPartition};

/// How much of a filter the scan takes over.
pub(super) fn classify(filter: &Expr, decoder: &RecordDecoder) -> TableProviderFilterPushDown {
    match understanding(filter, decoder) {
        Understanding::Exact => TableProviderFilterPushDown::Exact,
        Understanding::Partial => TableProviderFilterPushDown::Inexact,
        Understanding::None => TableProviderFilterPushDown::Unsupported,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Understanding {
    /// Every row is decided by its topic, partition and offset.
    Exact,
    /// Some offsets may be ruled out.
    Partial,
    None,
}

fn understanding(expr: &Expr, decoder: &RecordDecoder) -> Understanding {
    use Understanding::{Exact, None, Partial};
    match node(expr, decoder) {
        Node::Constant if infallible(expr) => Exact,
        Node::Constant => Partial,
        Node::Compare(Dimension::Offset, _) => Exact,
        Node::Compare(Dimension::Timestamp, _) => Partial,
        Node::Not(inner) => understanding(inner, decoder),
        Node::And(left, right) | Node::Or(left, right) => {
            match (understanding(left, decoder), understanding(right, decoder)) {
                (Exact, Exact) => Exact,
                (None, None) => None,
                _ => Partial,
            }
        }
        Node::Unknown => None,
    }
}

/// Where an expression may be true and where it may be false.
#[derive(Debug, Clone)]
struct Sets {
    yes: IntervalSet,
    no: IntervalSet,
}

impl Sets {
    fn unknown() -> Self {
        Self {
            yes: IntervalSet::full(),
            no: IntervalSet::full(),
        }
    }

    /// A comparison with a value that is not NULL.
    fn known(yes: IntervalSet) -> Self {
        Self {
            no: yes.complement(),
            yes,
        }
    }

    fn constant(value: Option<bool>) -> Self {
        match value {
            Some(true) => Self::known(IntervalSet::full()),
            Some(false) => Self::known(IntervalSet::empty()),
            None => Self {
                yes: IntervalSet::empty(),
                no: IntervalSet::empty(),
            },
        }
    }

    fn not(self) -> Self {
        Self {
            yes: self.no,
            no: self.yes,
        }
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            yes: self.yes.intersect(&other.yes),
            no: self.no.union(&other.no),
        }
    }

    fn or(&self, other: &Self) -> Self {
        Self {
            yes: self.yes.union(&other.yes),
            no: self.no.intersect(&other.no),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dimension {
    Offset,
    Timestamp,
}

/// An expression as far as pruning understands it.
enum Node<'a> {
    /// Speaks of topic and partition only, and always gives the same answer.
    Constant,
    /// Compares the offset or the timestamp (in ms) with literals.
    Compare(Dimension, Sets),
    Not(&'a Expr),
    And(&'a Expr, &'a Expr),
    Or(&'a Expr, &'a Expr),
    Unknown,
}

fn node<'a>(expr: &'a Expr, decoder: &RecordDecoder) -> Node<'a> {
    match expr {
        Expr::Alias(alias) => node(&alias.expr, decoder),
        Expr::Not(inner) => Node::Not(inner),
        // Before constants: to look through each level of a long chain takes the square of its length.
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if *op == Operator::And => {
            Node::And(left, right)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if *op == Operator::Or => {
            Node::Or(left, right)
        }
        _ if constant(expr, decoder) => Node::Constant,
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => comparison(left, *op, right, decoder)
            .or_else(|| comparison(right, op.swap()?, left, decoder))
            .map_or(Node::Unknown, |(dimension, sets)| {
                Node::Compare(dimension, sets)
            }),
        Expr::Between(between) => compared(between_sets(between, decoder)),
        Expr::InList(list) => compared(in_list_sets(list, decoder)),
        Expr::IsNull(inner) if is_offset(inner, decoder) => {
            Node::Compare(Dimension::Offset, Sets::constant(Some(false)))
        }
        Expr::IsNotNull(inner) if is_offset(inner, decoder) => {
            Node::Compare(Dimension::Offset, Sets::constant(Some(true)))
        }
        _ => Node::Unknown,
    }
}

fn compared<'a>(sets: Option<(Dimension, Sets)>) -> Node<'a> {
    sets.map_or(Node::Unknown, |(dimension, sets)| {
        Node::Compare(dimension, sets)
    })
}

/// Whether an expression depends on topic and partition alone.
fn constant(expr: &Expr, decoder: &RecordDecoder) -> bool {
    let decided = |name: &str| {
        matches!(
            column(name, decoder),
            Some(Column::Topic | Column::Partition)
        )
    };
    let foreign = expr.exists(|e| {
        Ok(match e {
            Expr::Column(c) => !decided(&c.name),
            Expr::ScalarSubquery(_)
            | Expr::InSubquery(_)
            | Expr::Exists(_)
            | Expr::OuterReferenceColumn(_, _)
            | Expr::Placeholder(_)
            | Expr::AggregateFunction(_)
            | Expr::WindowFunction(_) => true,
            _ => false,
        })
    });
    !foreign.unwrap_or(true) && !expr.is_volatile()
}

/// Whether evaluating an expression can never fail. Only such a one may be taken over whole: it is
/// evaluated for every partition, where the query might never evaluate it (`partition <> 0 AND
/// 10 / partition > 1`).
fn infallible(expr: &Expr) -> bool {
    let fallible = expr.exists(|e| {
        Ok(match e {
            Expr::BinaryExpr(BinaryExpr { op, .. }) => !matches!(
                op,
                Operator::And
                    | Operator::Or
                    | Operator::Eq
                    | Operator::NotEq
                    | Operator::Lt
                    | Operator::LtEq
                    | Operator::Gt
                    | Operator::GtEq
                    | Operator::IsDistinctFrom
                    | Operator::IsNotDistinctFrom
            ),
            Expr::Column(_)
            | Expr::Literal(..)
            | Expr::Alias(_)
            | Expr::Not(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::Between(_)
            | Expr::InList(_)
            | Expr::Like(_) => false,
            _ => true,
        })
    });
    !fallible.unwrap_or(true)
}

fn column(name: &str, decoder: &RecordDecoder) -> Option<Column> {
    let index = decoder.schema().index_of(name).ok()?;
    decoder.columns().get(index).copied()
}

fn is_offset(expr: &Expr, decoder: &RecordDecoder) -> bool {
    dimension(expr, decoder) == Some(Dimension::Offset)
}

/// Which dimension an expression names: the offset itself, or the timestamp in any unit.
fn dimension(expr: &Expr, decoder: &RecordDecoder) -> Option<Dimension> {
    match expr {
        Expr::Column(c) => match column(&c.name, decoder)? {
            Column::Offset => Some(Dimension::Offset),
            Column::Timestamp => Some(Dimension::Timestamp),
            _ => None,
        },
        // A change of unit or zone keeps the instant; seconds lose digits and stay unknown.
        Expr::Cast(cast) => match (cast.field.data_type(), dimension(&cast.expr, decoder)?) {
            (DataType::Timestamp(unit, _), Dimension::Timestamp) if *unit != TimeUnit::Second => {
                Some(Dimension::Timestamp)
            }
            _ => None,
        },
        _ => None,
    }
}

/// A literal on the axis of a dimension: the whole numbers at or below and at or above it.
#[derive(Debug, Clone, Copy)]
enum Bound {
    Null,
    At { floor: i64, ceil: i64 },
}

fn bound(expr: &Expr, dimension: Dimension) -> Option<Bound> {
    let Expr::Literal(value, _) = expr else {
        return None;
    };
    if value.is_null() {
        return Some(Bound::Null);
    }
    let whole = |value: i64| Bound::At {
        floor: value,
        ceil: value,
    };
    match (dimension, value) {
        (Dimension::Offset, ScalarValue::Int64(Some(v))) => Some(whole(*v)),
        (Dimension::Offset, ScalarValue::Int32(Some(v))) => Some(whole((*v).into())),
        (Dimension::Offset, ScalarValue::UInt32(Some(v))) => Some(whole((*v).into())),
        (Dimension::Timestamp, ScalarValue::TimestampSecond(Some(v), _)) => {
            v.checked_mul(1000).map(whole)
        }
        (Dimension::Timestamp, ScalarValue::TimestampMillisecond(Some(v), _)) => Some(whole(*v)),
        (Dimension::Timestamp, ScalarValue::TimestampMicrosecond(Some(v), _)) => {
            Some(divided(*v, 1_000))
        }
        (Dimension::Timestamp, ScalarValue::TimestampNanosecond(Some(v), _)) => {
            Some(divided(*v, 1_000_000))
        }
        _ => None,
    }
}

fn divided(value: i64, by: i64) -> Bound {
    let floor = value.div_euclid(by);
    let ceil = floor + i64::from(value.rem_euclid(by) != 0);
    Bound::At { floor, ceil }
}

fn comparison(
    left: &Expr,
    op: Operator,
    right: &Expr,
    decoder: &RecordDecoder,
) -> Option<(Dimension, Sets)> {
    let dimension = dimension(left, decoder)?;
    let sets = compare(op, bound(right, dimension)?)?;
    Some((dimension, sets))
}

fn compare(op: Operator, bound: Bound) -> Option<Sets> {
    let Bound::At { floor, ceil } = bound else {
        return matches!(
            op,
            Operator::Eq
                | Operator::NotEq
                | Operator::Lt
                | Operator::LtEq
                | Operator::Gt
                | Operator::GtEq
        )
        .then(|| Sets::constant(None));
    };
    let below = |v: i64| {
        v.checked_sub(1)
            .map_or(IntervalSet::empty(), IntervalSet::at_most)
    };
    let above = |v: i64| {
        v.checked_add(1)
            .map_or(IntervalSet::empty(), IntervalSet::at_least)
    };
    let equal = || {
        if floor == ceil {
            IntervalSet::point(floor)
        } else {
            IntervalSet::empty()
        }
    };
    Some(Sets::known(match op {
        Operator::Eq => equal(),
        Operator::NotEq => equal().complement(),
        Operator::Lt => below(ceil),
        Operator::LtEq => IntervalSet::at_most(floor),
        Operator::Gt => above(floor),
        Operator::GtEq => IntervalSet::at_least(ceil),
        _ => return None,
    }))
}

fn between_sets(between: &Between, decoder: &RecordDecoder) -> Option<(Dimension, Sets)> {
    let dimension = dimension(&between.expr, decoder)?;
    let low = compare(Operator::GtEq, bound(&between.low, dimension)?)?;
    let high = compare(Operator::LtEq, bound(&between.high, dimension)?)?;
    let sets = low.and(&high);
    let sets = if between.negated { sets.not() } else { sets };
    Some((dimension, sets))
}

fn in_list_sets(list: &InList, decoder: &RecordDecoder) -> Option<(Dimension, Sets)> {
    let dimension = dimension(&list.expr, decoder)?;
    let mut sets = Sets::constant(Some(false));
    for item in &list.list {
        sets = sets.or(&compare(Operator::Eq, bound(item, dimension)?)?);
    }
    let sets = if list.negated { sets.not() } else { sets };
    Some((dimension, sets))
}

/// What is left of a partition after the filters.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// Whether topic and number alone leave anything.
    pub(super) partition: bool,
    /// Offsets that may match.
    pub(super) offsets: IntervalSet,
    /// Timestamps, in ms, that may match. Records without one match only if this is full.
    pub(super) timestamps: IntervalSet,
}

/// Applies the conjunction of `filters` to each partition.
pub(super) fn keep(
    filters: &[Expr],
    partitions: &[TopicPartition],
    decoder: &RecordDecoder,
    state: &dyn Session,
) -> Result<Vec<Kept>> {
    let mut constants = Constants::new(partitions, decoder, state)?;
    for filter in filters {
        constants.collect(filter)?;
    }
    let kept = (0..partitions.len()).map(|index| {
        let sets = |dimension| {
            let evaluator = Evaluator {
                constants: &constants,
                index,
                dimension,
            };
            filters.iter().fold(IntervalSet::full(), |kept, filter| {
                kept.intersect(&evaluator.sets(filter).yes)
            })
        };
        Kept {
            partition: !sets(None).is_empty(),
            offsets: sets(Some(Dimension::Offset)),
            timestamps: sets(Some(Dimension::Timestamp)),
        }
    });
    Ok(kept.collect())
}

struct Evaluator<'a> {
    constants: &'a Constants<'a>,
    /// The partition that is looked at.
    index: usize,
    /// The dimension that is known; `None` leaves both unknown.
    dimension: Option<Dimension>,
}

impl Evaluator<'_> {
    fn sets(&self, expr: &Expr) -> Sets {
        match node(expr, self.constants.decoder) {
            Node::Constant => self.constants.value(expr, self.index),
            Node::Compare(dimension, sets) if Some(dimension) == self.dimension => sets,
            Node::Compare(..) | Node::Unknown => Sets::unknown(),
            Node::Not(inner) => self.sets(inner).not(),
            Node::And(left, right) => self.sets(left).and(&self.sets(right)),
            Node::Or(left, right) => self.sets(left).or(&self.sets(right)),
        }
    }
}

/// Values of the parts that depend on topic and partition alone, computed by DataFusion itself for
/// all partitions at once: so LIKE, functions and arithmetic on them prune as well.
struct Constants<'a> {
    decoder: &'a RecordDecoder,
    state: &'a dyn Session,
    schema: DFSchema,
    /// A row for each partition; only topic and partition are filled.
    rows: RecordBatch,
    values: HashMap<Expr, BooleanArray>,
}

impl<'a> Constants<'a> {
    fn new(
        partitions: &[TopicPartition],
        decoder: &'a RecordDecoder,
        state: &'a dyn Session,
    ) -> Result<Self> {
        let table = decoder.schema();
        let columns: Vec<ArrayRef> = table
            .fields()
            .iter()
            .zip(decoder.columns())
            .map(|(field, column)| match column {
                Column::Topic => Arc::new(
                    partitions
                        .iter()
                        .map(|p| Some(p.topic.as_ref()))
                        .collect::<StringViewArray>(),
                ) as ArrayRef,
                Column::Partition => Arc::new(Int32Array::from_iter_values(
                    partitions.iter().map(|p| p.partition),
                )),
                _ => new_null_array(field.data_type(), partitions.len()),
            })
            .collect();
        let nullable: Vec<Field> = table
            .fields()
            .iter()
            .map(|f| f.as_ref().clone().with_nullable(true))
            .collect();
        Ok(Self {
            decoder,
            state,
            schema: DFSchema::try_from(Arc::clone(table))?,
            rows: RecordBatch::try_new(Arc::new(Schema::new(nullable)), columns)?,
            values: HashMap::new(),
        })
    }

    fn collect(&mut self, expr: &Expr) -> Result<()> {
        match node(expr, self.decoder) {
            Node::Constant => {
                if !self.values.contains_key(expr) {
                    match self.evaluate(expr) {
                        Ok(values) => {
                            self.values.insert(expr.clone(), values);
                        }
                        // Unknown here: the plan's own filter decides, and fails if it must.
                        Err(_) if !infallible(expr) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            }
            Node::Not(inner) => self.collect(inner),
            Node::And(left, right) | Node::Or(left, right) => {
                self.collect(left)?;
                self.collect(right)
            }
            Node::Compare(..) | Node::Unknown => Ok(()),
        }
    }

    fn evaluate(&self, expr: &Expr) -> Result<BooleanArray> {
        let physical = self
            .state
            .create_physical_expr(expr.clone(), &self.schema)?;
        let values = physical
            .evaluate(&self.rows)?
            .into_array(self.rows.num_rows())?;
        // A bare NULL has no type of its own.
        let values = arrow::compute::cast(&values, &DataType::Boolean)?;
        Ok(as_boolean_array(&values)?.clone())
    }

    fn value(&self, expr: &Expr, index: usize) -> Sets {
        match self.values.get(expr) {
            Some(values) => Sets::constant(values.is_valid(index).then(|| values.value(index))),
            None => Sets::unknown(),
        }
    }
}
