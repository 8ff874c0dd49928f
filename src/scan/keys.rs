//! The Kafka partitions that can hold the keys of a join.
//!
//! A hash join knows its keys once it has read its other side, long after this scan was planned. If they are few, they
//! come as a list in a hint, and streams pass the ranges of the partitions that hold none of them.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column as ColumnExpr, DynamicFilterPhysicalExpr, InListExpr,
    Literal,
};

use super::{KafkaScanExec, ScanRange};
use crate::decode::Column;
use crate::error::Result;
use crate::range::TopicPartition;

/// Says which Kafka partitions can hold keys.
#[async_trait]
pub(crate) trait KeyPlaces: fmt::Debug + Send + Sync {
    /// Which of the partitions can hold a key that equals one of the values.
    async fn holding(
        &self,
        values: &[ScalarValue],
        partitions: &[TopicPartition],
    ) -> Result<Vec<bool>>;
}

/// The keys that a join asks for, once they are known.
#[derive(Debug, Clone)]
pub(super) struct WantedKeys {
    places: Arc<dyn KeyPlaces>,
    hints: Vec<Arc<dyn PhysicalExpr>>,
    /// The key among the columns of the scan, and its type.
    column: usize,
    data_type: DataType,
}

impl WantedKeys {
    /// `None` where no hint can speak of keys, or nobody knows where they are.
    pub(super) fn of(scan: &KafkaScanExec, hints: &[Arc<dyn PhysicalExpr>]) -> Option<Self> {
        let columns = scan.source.decoder.columns();
        let is_key = |index: &usize| columns.get(*index) == Some(&Column::Key);
        let column = scan.projection.iter().position(is_key)?;
        let data_type = scan
            .source
            .decoder
            .schema()
            .field(scan.projection[column])
            .data_type();
        if hints.is_empty() {
            return None;
        }
        Some(Self {
            places: Arc::clone(scan.source.key_places.as_ref()?),
            hints: hints.to_vec(),
            column,
            data_type: data_type.clone(),
        })
    }

    /// The ranges, those of partitions that cannot hold any of the keys emptied.
    pub(super) async fn cut(&self, ranges: Vec<ScanRange>) -> Result<Vec<ScanRange>> {
        let values = self.hints.iter().filter_map(|hint| self.values(hint));
        let Some(values) = values.min_by_key(Vec::len) else {
            return Ok(ranges);
        };
        let partitions = ranges.iter().map(|r| r.range.topic_partition());
        let partitions: Vec<TopicPartition> = partitions.collect();
        let holding = self.places.holding(&values, &partitions).await?;
        let cut = ranges.into_iter().zip(holding);
        Ok(cut
            .map(|(range, holds)| match holds {
                true => range,
                false => range.piece(range.range.start(), range.range.start()),
            })
            .collect())
    }

    /// Values of which the key must equal one for the expression to be true; `None` if it may be another.
    fn values(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<Vec<ScalarValue>> {
        if let Some(hint) = expr.downcast_ref::<DynamicFilterPhysicalExpr>() {
            return self.values(&hint.current().ok()?);
        }
        if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            let (left, right) = (binary.left(), binary.right());
            return match binary.op() {
                Operator::And => match (self.values(left), self.values(right)) {
                    (Some(left), Some(right)) if right.len() < left.len() => Some(right),
                    (left, right) => left.or(right),
                },
                Operator::Or => Some([self.values(left)?, self.values(right)?].concat()),
                Operator::Eq if self.is_key(left) => Some(vec![self.value(right)?]),
                Operator::Eq if self.is_key(right) => Some(vec![self.value(left)?]),
                _ => None,
            };
        }
        if let Some(list) = expr.downcast_ref::<InListExpr>() {
            if list.negated() || !self.is_key(list.expr()) {
                return None;
            }
            return list.list().iter().map(|item| self.value(item)).collect();
        }
        // A join in several partitions has something for each.
        if let Some(case) = expr.downcast_ref::<CaseExpr>() {
            let branches = case.when_then_expr().iter().map(|(_, then)| then);
            let mut all = vec![];
            for branch in branches.chain(case.else_expr()) {
                all.extend(self.values(branch)?);
            }
            return Some(all);
        }
        match literal(expr)? {
            ScalarValue::Boolean(Some(true)) => None,
            ScalarValue::Boolean(_) => Some(vec![]),
            _ => None,
        }
    }

    /// Whether an expression is the key, also as another type that has a value of its own for each key.
    fn is_key(&self, expr: &Arc<dyn PhysicalExpr>) -> bool {
        if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            return keeps_apart(&self.data_type, cast.cast_type()) && self.is_key(cast.expr());
        }
        expr.downcast_ref::<ColumnExpr>()
            .is_some_and(|column| column.index() == self.column)
    }

    /// A literal as a value of the key's type.
    fn value(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<ScalarValue> {
        let value = literal(expr)?;
        if !keeps_apart(&self.data_type, &value.data_type()) {
            return None;
        }
        value.cast_to(&self.data_type).ok()
    }
}

fn literal(expr: &Arc<dyn PhysicalExpr>) -> Option<&ScalarValue> {
    Some(expr.downcast_ref::<Literal>()?.value())
}

/// Whether different keys of a type stay different as the other type.
fn keeps_apart(key: &DataType, other: &DataType) -> bool {
    let is_bytes = |data_type: &DataType| data_type.is_string() || data_type.is_binary();
    key == other
        || is_bytes(key) && is_bytes(other)
        || (key, other) == (&DataType::Int32, &DataType::Int64)
}
