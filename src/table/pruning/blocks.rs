//! Which blocks of an index may hold matching records.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::physical_expr::PhysicalExpr;

use super::node::{Dimension, Node, Sets, literal, node};
use crate::decode::RecordDecoder;
use crate::index::{Block, Kind, Slice, may_hold, slice_of};
use crate::range::IntervalSet;

/// The expressions of an index, as the session plans them for the columns of a table.
pub(in crate::table) struct Expressions<'a> {
    state: &'a dyn Session,
    schema: DFSchema,
    indexed: Vec<(Arc<dyn PhysicalExpr>, Kind)>,
}

impl<'a> Expressions<'a> {
    pub(in crate::table) fn new(
        state: &'a dyn Session,
        schema: DFSchema,
        indexed: Vec<(Expr, Kind)>,
    ) -> Result<Self> {
        let indexed = indexed.into_iter().map(|(expr, kind)| {
            let expr = state.create_physical_expr(expr, &schema)?;
            Ok((expr, kind))
        });
        Ok(Self {
            indexed: indexed.collect::<Result<_>>()?,
            state,
            schema,
        })
    }

    /// The indexed expression that equals `expr` wherever that has a value of this kind.
    fn find(&self, expr: &Expr, kind: Kind) -> Option<usize> {
        let planned = self.state.create_physical_expr(expr.clone(), &self.schema);
        let planned = planned.ok()?;
        let found = self
            .indexed
            .iter()
            .position(|(indexed, of)| *of == kind && indexed.as_ref() == planned.as_ref());
        found.or_else(|| self.find(self.inner(expr)?, kind))
    }

    /// What has the same value as the expression wherever this has one.
    fn inner<'b>(&self, expr: &'b Expr) -> Option<&'b Expr> {
        match expr {
            Expr::Alias(alias) => Some(&alias.expr),
            Expr::ScalarFunction(call) if call.name() == "kafka_text" => match &call.args[..] {
                [bytes] => Some(bytes),
                _ => None,
            },
            Expr::Cast(cast) => {
                use datafusion::logical_expr::ExprSchemable;
                let from = cast.expr.get_type(&self.schema).ok()?;
                is_same_value(&from, cast.field.data_type()).then_some(&cast.expr)
            }
            _ => None,
        }
    }
}

/// Whether a cast changes no value and never fails.
fn is_same_value(from: &DataType, to: &DataType) -> bool {
    use DataType::{Binary, BinaryView, Int64, LargeBinary, LargeUtf8, Utf8, Utf8View};
    let is_text = |t: &DataType| matches!(t, Utf8 | LargeUtf8 | Utf8View);
    let is_bytes = |t: &DataType| matches!(t, Binary | LargeBinary | BinaryView);
    (is_text(from) && (is_text(to) || is_bytes(to)))
        || (is_bytes(from) && is_bytes(to))
        || (Kind::of(from) == Some(Kind::Integer) && *to == Int64)
}

/// What a block must be for an expression to be true or false of one of its records.
#[derive(Debug)]
enum Condition {
    Unknown,
    /// `None` is NULL.
    Known(Option<bool>),
    /// An expression that has one of these values: slices by their place, with the value's hash.
    Holds(Vec<(usize, u64)>),
    Compare(Dimension, Sets),
    Not(Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
}

/// The conjunction of some filters, as far as blocks tell of it.
#[derive(Debug)]
pub(in crate::table) struct Conditions {
    all: Vec<Condition>,
    /// The slices that are looked at.
    pub(in crate::table) slices: Vec<Slice>,
}

impl Conditions {
    /// `None` if blocks tell nothing of the filters.
    pub(in crate::table) fn of(
        filters: &[Expr],
        expressions: &Expressions<'_>,
        decoder: &RecordDecoder,
    ) -> Option<Self> {
        let mut compiler = Compiler {
            expressions,
            decoder,
            found: HashMap::new(),
            slices: BTreeSet::new(),
        };
        filters.iter().for_each(|filter| compiler.collect(filter));
        let slices: Vec<Slice> = compiler.slices.iter().copied().collect();
        let all: Vec<Condition> = (filters.iter())
            .map(|filter| compiler.condition(filter, &slices))
            .filter(|condition| !matches!(condition, Condition::Unknown))
            .collect();
        let tells = all.iter().any(Condition::tells);
        tells.then_some(Self { all, slices })
    }

    /// Whether a record of the block may match.
    pub(in crate::table) fn may_match(&self, block: &Block<'_>) -> bool {
        self.all.iter().all(|condition| condition.outcomes(block).0)
    }
}

impl Condition {
    /// Whether it has a part that only an index tells of.
    fn tells(&self) -> bool {
        match self {
            Self::Unknown | Self::Known(_) | Self::Compare(Dimension::Offset, _) => false,
            Self::Holds(_) | Self::Compare(Dimension::Timestamp, _) => true,
            Self::Not(inner) => inner.tells(),
            Self::And(left, right) | Self::Or(left, right) => left.tells() || right.tells(),
        }
    }

    /// Whether it may be true of a record, and whether it may be false.
    fn outcomes(&self, block: &Block<'_>) -> (bool, bool) {
        match self {
            Self::Unknown => (true, true),
            Self::Known(value) => (*value == Some(true), *value == Some(false)),
            Self::Holds(values) => {
                let holds = |(slice, hash): &(usize, u64)| may_hold(block.slices[*slice], *hash);
                (values.iter().any(holds), true)
            }
            Self::Compare(dimension, sets) => {
                let within = match dimension {
                    Dimension::Offset => Some((block.start, block.end - 1)),
                    Dimension::Timestamp => block.timestamps,
                };
                let Some((low, high)) = within else {
                    return (false, false); // NULL of all records.
                };
                let reaches = |set: &IntervalSet| {
                    !set.intersect(&IntervalSet::from_range(low..=high))
                        .is_empty()
                };
                (reaches(&sets.yes), reaches(&sets.no))
            }
            Self::Not(inner) => {
                let (yes, no) = inner.outcomes(block);
                (no, yes)
            }
            Self::And(left, right) => {
                let (left, right) = (left.outcomes(block), right.outcomes(block));
                (left.0 && right.0, left.1 || right.1)
            }
            Self::Or(left, right) => {
                let (left, right) = (left.outcomes(block), right.outcomes(block));
                (left.0 || right.0, left.1 && right.1)
            }
        }
    }
}

struct Compiler<'a> {
    expressions: &'a Expressions<'a>,
    decoder: &'a RecordDecoder,
    /// The comparisons with values of indexed expressions.
    found: HashMap<&'a Expr, Option<Vec<(Slice, u64)>>>,
    slices: BTreeSet<Slice>,
}

impl<'a> Compiler<'a> {
    /// Looks for comparisons of indexed expressions with values.
    fn collect(&mut self, expr: &'a Expr) {
        match node(expr, self.decoder) {
            Node::Not(inner) => self.collect(inner),
            Node::And(left, right) | Node::Or(left, right) => {
                self.collect(left);
                self.collect(right);
            }
            Node::Constant | Node::Compare(..) => {}
            Node::Key(_) | Node::Unknown => {
                let values = values(expr).and_then(|(expr, values)| self.hashes(expr, &values));
                let slices = values.iter().flatten().map(|(slice, _)| *slice);
                self.slices.extend(slices);
                self.found.insert(expr, values);
            }
        }
    }

    fn hashes(&self, expr: &Expr, values: &[&ScalarValue]) -> Option<Vec<(Slice, u64)>> {
        let mut hashes = vec![];
        let mut expression = None;
        // Nothing equals NULL.
        for value in values.iter().filter(|value| !value.is_null()) {
            let kind = Kind::of(&value.data_type())?;
            let at = match expression {
                Some((at, of)) => (of == kind).then_some(at)?,
                None => self.expressions.find(expr, kind)?,
            };
            expression = Some((at, kind));
            let mut hash = None;
            let one = kind.hashes(&value.to_array().ok()?).ok()?;
            one.each(0..1, |found| hash = Some(found));
            let hash = hash?;
            let slice = Slice {
                expression: at,
                slice: slice_of(hash),
            };
            hashes.push((slice, hash));
        }
        Some(hashes)
    }

    fn condition(&self, expr: &Expr, slices: &[Slice]) -> Condition {
        let both = |left, right| {
            let (left, right) = (self.condition(left, slices), self.condition(right, slices));
            (Box::new(left), Box::new(right))
        };
        match node(expr, self.decoder) {
            Node::Constant => match literal(expr) {
                Some(ScalarValue::Boolean(value)) => Condition::Known(*value),
                Some(ScalarValue::Null) => Condition::Known(None),
                _ => Condition::Unknown,
            },
            Node::Compare(dimension, sets) => Condition::Compare(dimension, sets),
            Node::Not(inner) => match self.condition(inner, slices) {
                Condition::Unknown => Condition::Unknown,
                inner => Condition::Not(inner.into()),
            },
            Node::And(left, right) => match both(left, right) {
                (left, right)
                    if matches!((&*left, &*right), (Condition::Unknown, Condition::Unknown)) =>
                {
                    Condition::Unknown
                }
                (left, right) => Condition::And(left, right),
            },
            Node::Or(left, right) => match both(left, right) {
                (left, right)
                    if matches!((&*left, &*right), (Condition::Unknown, Condition::Unknown)) =>
                {
                    Condition::Unknown
                }
                (left, right) => Condition::Or(left, right),
            },
            Node::Key(_) | Node::Unknown => match self.found.get(expr) {
                Some(Some(values)) => {
                    let place = |slice: &Slice| slices.binary_search(slice).ok();
                    let values = values
                        .iter()
                        .map(|(slice, hash)| Some((place(slice)?, *hash)));
                    let values: Option<Vec<_>> = values.collect();
                    values.map_or(Condition::Unknown, Condition::Holds)
                }
                _ => Condition::Unknown,
            },
        }
    }
}

/// An expression that must have one of some values.
fn values(expr: &Expr) -> Option<(&Expr, Vec<&ScalarValue>)> {
    match expr {
        Expr::Alias(alias) => values(&alias.expr),
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Eq,
            right,
        }) => match (literal(left), literal(right)) {
            (None, Some(value)) => Some((left, vec![value])),
            (Some(value), None) => Some((right, vec![value])),
            _ => None,
        },
        Expr::InList(list) if !list.negated => {
            let values: Option<Vec<_>> = list.list.iter().map(literal).collect();
            Some((&list.expr, values?))
        }
        _ => None,
    }
}

/// Whether an index may say something of a filter.
pub(in crate::table) fn may_be_indexed(filter: &Expr, decoder: &RecordDecoder) -> bool {
    match node(filter, decoder) {
        Node::Not(inner) => may_be_indexed(inner, decoder),
        Node::And(left, right) | Node::Or(left, right) => {
            may_be_indexed(left, decoder) || may_be_indexed(right, decoder)
        }
        Node::Constant | Node::Compare(..) => false,
        Node::Key(_) | Node::Unknown => values(filter).is_some() && !filter.is_volatile(),
    }
}
