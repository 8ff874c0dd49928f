//! What pruning understands of an expression, and where the understood parts are true and false.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use crate::decode::{Column, RecordDecoder};
use crate::range::IntervalSet;

/// Where an expression may be true and where it may be false.
#[derive(Debug, Clone)]
pub(super) struct Sets {
    pub(super) yes: IntervalSet,
    pub(super) no: IntervalSet,
}

impl Sets {
    pub(super) fn unknown() -> Self {
        Self {
            yes: IntervalSet::full(),
            no: IntervalSet::full(),
        }
    }

    /// What is false or NULL.
    pub(super) fn never() -> Self {
        Self {
            yes: IntervalSet::empty(),
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

    pub(super) fn constant(value: Option<bool>) -> Self {
        match value {
            Some(true) => Self::known(IntervalSet::full()),
            Some(false) => Self::known(IntervalSet::empty()),
            None => Self {
                yes: IntervalSet::empty(),
                no: IntervalSet::empty(),
            },
        }
    }

    pub(super) fn not(self) -> Self {
        Self {
            yes: self.no,
            no: self.yes,
        }
    }

    pub(super) fn and(&self, other: &Self) -> Self {
        Self {
            yes: self.yes.intersect(&other.yes),
            no: self.no.union(&other.no),
        }
    }

    pub(super) fn or(&self, other: &Self) -> Self {
        Self {
            yes: self.yes.union(&other.yes),
            no: self.no.intersect(&other.no),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dimension {
    Offset,
    Timestamp,
}

/// What pruning understands of an expression.
pub(super) enum Node<'a> {
    /// Speaks of topic and partition only, and always gives the same answer.
    Constant,
    /// Compares the offset or the timestamp (in ms) with literals.
    Compare(Dimension, Sets),
    /// True for keys with one of these literals, and unknown for records without a key.
    Key(Vec<&'a ScalarValue>),
    Not(&'a Expr),
    And(&'a Expr, &'a Expr),
    Or(&'a Expr, &'a Expr),
    Unknown,
}

pub(super) fn node<'a>(expr: &'a Expr, decoder: &RecordDecoder) -> Node<'a> {
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
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            if let Some(key) = key(left, *op, right, decoder) {
                return Node::Key(vec![key]);
            }
            compared(
                comparison(left, *op, right, decoder)
                    .or_else(|| comparison(right, op.swap()?, left, decoder)),
            )
        }
        Expr::Between(between) => compared(between_sets(between, decoder)),
        Expr::InList(list) if is_key(&list.expr, decoder) && !list.negated => {
            let keys: Option<Vec<_>> = list.list.iter().map(literal).collect();
            keys.map_or(Node::Unknown, Node::Key)
        }
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
pub(super) fn infallible(expr: &Expr) -> bool {
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

/// The literal that a key must equal.
fn key<'a>(
    left: &'a Expr,
    op: Operator,
    right: &'a Expr,
    decoder: &RecordDecoder,
) -> Option<&'a ScalarValue> {
    match op {
        Operator::Eq if is_key(left, decoder) => literal(right),
        Operator::Eq if is_key(right, decoder) => literal(left),
        _ => None,
    }
}

fn is_key(expr: &Expr, decoder: &RecordDecoder) -> bool {
    matches!(expr, Expr::Column(c) if column(&c.name, decoder) == Some(Column::Key))
}

pub(super) fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
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
        // A change of unit or zone keeps the instant; seconds lose digits and stay unknown. A time without a zone is read in
        // the new one.
        Expr::Cast(cast) => match (cast.field.data_type(), dimension(&cast.expr, decoder)?) {
            (DataType::Timestamp(unit, zone), Dimension::Timestamp)
                if *unit != TimeUnit::Second && (zone.is_none() || !has_no_zone(&cast.expr)) =>
            {
                Some(Dimension::Timestamp)
            }
            _ => None,
        },
        _ => None,
    }
}

fn has_no_zone(expr: &Expr) -> bool {
    match expr {
        Expr::Cast(cast) => matches!(cast.field.data_type(), DataType::Timestamp(_, None)),
        _ => false,
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
