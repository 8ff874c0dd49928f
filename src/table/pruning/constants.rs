//! Values of the parts that depend on topic and partition alone.
//!
//! DataFusion itself computes them for all partitions at once, so that LIKE, functions and arithmetic
//! prune as well.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int32Array, RecordBatch, StringViewArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::common::cast::as_boolean_array;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;

use super::node::{Node, Sets, infallible, node};
use crate::decode::{Column, RecordDecoder};
use crate::range::TopicPartition;

/// The values of each such part, by partition.
pub(super) struct Constants<'a> {
    pub(super) decoder: &'a RecordDecoder,
    state: &'a dyn Session,
    schema: DFSchema,
    /// A row for each partition; only topic and partition are filled.
    rows: RecordBatch,
    values: HashMap<Expr, BooleanArray>,
}

impl<'a> Constants<'a> {
    pub(super) fn new(
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

    pub(super) fn collect(&mut self, expr: &Expr) -> Result<()> {
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
            Node::Compare(..) | Node::Key(_) | Node::Unknown => Ok(()),
        }
    }

    fn evaluate(&self, expr: &Expr) -> Result<BooleanArray> {
        let physical = self
            .state
            .create_physical_expr(expr.clone(), &self.schema)?;
        let values = physical
            .evaluate(&self.rows)?
            .into_array(self.rows.num_rows())?;
        // A bare NULL is of the type Null.
        let values = arrow::compute::cast(&values, &DataType::Boolean)?;
        Ok(as_boolean_array(&values)?.clone())
    }

    pub(super) fn value(&self, expr: &Expr, index: usize) -> Sets {
        match self.values.get(expr) {
            Some(values) => Sets::constant(values.is_valid(index).then(|| values.value(index))),
            None => Sets::unknown(),
        }
    }
}
