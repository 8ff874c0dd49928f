//! From SQL predicates to the offsets that may hold matching records.
//!
//! A predicate is evaluated once for each Kafka partition, with its topic and number put in, so
//! that `(partition = 0 AND "offset" >= 10) OR (partition = 1 AND "offset" < 5)` cuts each
//! partition by its own side. What is left speaks of offsets and timestamps; each is turned into a
//! set of intervals on its own, the other one being unknown.
//!
//! SQL's logic has three values. For each expression two sets are kept: where it may be true and
//! where it may be false. Unknown parts are in both, a comparison with NULL is in neither, and NOT
//! swaps them: a part that is not understood can only make a set larger, under NOT as well.

#[cfg(feature = "jobs")]
mod blocks;
mod constants;
mod keys;
mod node;

use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};

use crate::decode::RecordDecoder;
use crate::range::{IntervalSet, TopicPartition};
#[cfg(feature = "jobs")]
pub(super) use blocks::{Conditions, Expressions, may_be_indexed};
use constants::Constants;
pub(super) use keys::{Homes, Keys};
use node::{Dimension, Node, Sets, infallible, node};

/// How much of a filter the scan takes over.
pub(super) fn classify(
    filter: &Expr,
    decoder: &RecordDecoder,
    keys: Option<Keys>,
) -> TableProviderFilterPushDown {
    match understanding(filter, decoder, keys) {
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

fn understanding(expr: &Expr, decoder: &RecordDecoder, keys: Option<Keys>) -> Understanding {
    use Understanding::{Exact, None, Partial};
    match node(expr, decoder) {
        Node::Constant if infallible(expr) => Exact,
        Node::Constant => Partial,
        Node::Compare(Dimension::Offset, _) => Exact,
        Node::Compare(Dimension::Timestamp, _) => Partial,
        Node::Key(_) if keys.is_some() => Partial,
        Node::Not(inner) => understanding(inner, decoder, keys),
        Node::And(left, right) | Node::Or(left, right) => {
            let side = |side| understanding(side, decoder, keys);
            match (side(left), side(right)) {
                (Exact, Exact) => Exact,
                (None, None) => None,
                _ => Partial,
            }
        }
        Node::Key(_) | Node::Unknown => None,
    }
}

/// Whether filters name keys, so that it matters which partitions hold them.
pub(super) fn name_keys(filters: &[Expr], decoder: &RecordDecoder) -> bool {
    fn names(expr: &Expr, decoder: &RecordDecoder) -> bool {
        match node(expr, decoder) {
            Node::Key(_) => true,
            Node::Not(inner) => names(inner, decoder),
            Node::And(left, right) | Node::Or(left, right) => {
                names(left, decoder) || names(right, decoder)
            }
            Node::Constant | Node::Compare(..) | Node::Unknown => false,
        }
    }
    filters.iter().any(|filter| names(filter, decoder))
}

/// What is left of a partition after the filters.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// Whether topic and number alone leave anything.
    pub(super) partition: bool,
    /// Whether keys leave anything.
    pub(super) key: bool,
    /// Offsets that may match.
    pub(super) offsets: IntervalSet,
    /// Timestamps, in ms, that may match. Records without one match only if this is full.
    pub(super) timestamps: IntervalSet,
}

/// Applies the conjunction of `filters` to each partition. With `homes` it is known where keys are.
pub(super) fn keep(
    filters: &[Expr],
    partitions: &[TopicPartition],
    decoder: &RecordDecoder,
    homes: Option<&Homes>,
    state: &dyn Session,
) -> Result<Vec<Kept>> {
    let mut constants = Constants::new(partitions, decoder, state)?;
    for filter in filters {
        constants.collect(filter)?;
    }
    let kept = (0..partitions.len()).map(|index| {
        let sets = |dimension, homes| {
            let evaluator = Evaluator {
                constants: &constants,
                partition: &partitions[index],
                homes,
                index,
                dimension,
            };
            filters.iter().fold(IntervalSet::full(), |kept, filter| {
                kept.intersect(&evaluator.sets(filter).yes)
            })
        };
        Kept {
            partition: !sets(None, None).is_empty(),
            key: homes.is_none() || !sets(None, homes).is_empty(),
            offsets: sets(Some(Dimension::Offset), homes),
            timestamps: sets(Some(Dimension::Timestamp), homes),
        }
    });
    Ok(kept.collect())
}

struct Evaluator<'a> {
    constants: &'a Constants<'a>,
    partition: &'a TopicPartition,
    homes: Option<&'a Homes>,
    /// The partition whose topic and number are put in.
    index: usize,
    /// The dimension that is known; `None` leaves both unknown.
    dimension: Option<Dimension>,
}

impl Evaluator<'_> {
    fn sets(&self, expr: &Expr) -> Sets {
        match node(expr, self.constants.decoder) {
            Node::Constant => self.constants.value(expr, self.index),
            Node::Compare(dimension, sets) if Some(dimension) == self.dimension => sets,
            Node::Key(keys)
                if self
                    .homes
                    .is_some_and(|h| !h.may_hold(self.partition, &keys)) =>
            {
                Sets::never()
            }
            Node::Compare(..) | Node::Key(_) | Node::Unknown => Sets::unknown(),
            Node::Not(inner) => self.sets(inner).not(),
            Node::And(left, right) => self.sets(left).and(&self.sets(right)),
            Node::Or(left, right) => self.sets(left).or(&self.sets(right)),
        }
    }
}
