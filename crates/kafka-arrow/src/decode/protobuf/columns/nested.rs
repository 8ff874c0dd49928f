//! Columns of messages and of wrapped scalars.

use std::sync::Arc;

use arrow::array::{ArrayRef, NullBufferBuilder, StructArray};

use super::{Column, broken, holds, pad};
use crate::decode::budget::Budget;
use crate::decode::protobuf::plan::MessagePlan;
use crate::decode::protobuf::wire::{Input, Outcome, Wire};
use crate::error::Result;

/// Stands for no member of a oneof.
const NONE: usize = usize::MAX;

/// A column of messages.
#[derive(Debug)]
pub(in crate::decode::protobuf) struct Message {
    plan: Arc<MessagePlan>,
    /// A column for each field of the plan; `None` for fields that are skipped.
    children: Vec<Option<Box<dyn Column>>>,
    valid: NullBufferBuilder,
    /// For each oneof, the field that the last row has.
    chosen: Vec<usize>,
    /// The field number, if the field is a group.
    group: Option<u32>,
}

impl Message {
    /// A column whose children `child` makes, given the index of a field in the plan.
    pub(in crate::decode::protobuf) fn new(
        plan: &Arc<MessagePlan>,
        group: Option<u32>,
        child: impl FnMut(usize) -> Option<Box<dyn Column>>,
    ) -> Self {
        Self {
            children: (0..plan.fields.len()).map(child).collect(),
            chosen: vec![NONE; plan.oneofs],
            plan: Arc::clone(plan),
            valid: NullBufferBuilder::new(0),
            group,
        }
    }

    /// Reads a top-level message into a new row.
    pub(in crate::decode::protobuf) fn read_root(
        &mut self,
        row: usize,
        bytes: &[u8],
    ) -> Outcome<()> {
        self.open(row);
        let budget = Budget::of(bytes.len());
        self.walk(row, &mut Input::charged(bytes, &budget), None)
    }

    /// The finished column of one field of the plan.
    pub(in crate::decode::protobuf) fn finish_child(
        &mut self,
        field: usize,
        rows: usize,
    ) -> Result<ArrayRef> {
        match &mut self.children[field] {
            Some(child) => child.finish(rows),
            None => Err(broken("a column that was not asked for")),
        }
    }

    /// Makes the row a message that is not NULL. If it already is one, the message continues.
    fn open(&mut self, row: usize) {
        if row < self.valid.len() {
            if self.valid.is_valid(row) {
                return;
            }
            self.truncate(row);
        }
        pad(&mut self.valid, row);
        self.valid.append_non_null();
        // Filling nothing is not free: where memset stores under a mask it would dominate this function.
        if !self.chosen.is_empty() {
            self.chosen.fill(NONE);
        }
    }

    /// Charges for merging into an existing message, which visits all of its fields again.
    fn merge(&self, row: usize, input: &Input<'_>) -> Outcome<()> {
        match row < self.valid.len() {
            true => input.spend(self.plan.width),
            false => Ok(()),
        }
    }

    /// Reads fields to the end of the input or of the group.
    fn walk(&mut self, row: usize, input: &mut Input<'_>, group: Option<u32>) -> Outcome<()> {
        loop {
            if input.is_empty() {
                if group.is_some() {
                    return Err(Input::unclosed());
                }
                break;
            }
            let (number, wire) = input.tag()?;
            if wire == Wire::GroupEnd {
                if group == Some(number) {
                    break;
                }
                return Err(Input::unopened());
            }
            let Some(index) = self.plan.index_of(number) else {
                input.skip(number, wire)?;
                continue;
            };
            let field = &self.plan.fields[index];
            if let Some(oneof) = field.oneof {
                let before = std::mem::replace(&mut self.chosen[oneof], index);
                if before != index
                    && before != NONE
                    && let Some(child) = &mut self.children[before]
                {
                    // Truncating visits everything within the field.
                    input.spend(self.plan.fields[before].width)?;
                    child.truncate(row);
                }
            }
            let read = match &mut self.children[index] {
                Some(child) => child.read(row, input, wire),
                None => input.skip(number, wire),
            };
            read.map_err(|fault| fault.within(&field.name))?;
        }
        self.close_children(row)
    }

    fn close_children(&mut self, row: usize) -> Outcome<()> {
        for (child, field) in self.children.iter_mut().zip(&self.plan.fields) {
            if let Some(child) = child {
                child.close(row).map_err(|f| f.within(&field.name))?;
            }
        }
        Ok(())
    }
}

impl Column for Message {
    fn read(&mut self, row: usize, input: &mut Input<'_>, wire: Wire) -> Outcome<()> {
        match self.group {
            None => {
                wire.expect(Wire::Delimited)?;
                let mut bytes = input.within()?;
                self.merge(row, input)?;
                self.open(row);
                self.walk(row, &mut bytes, None)
            }
            Some(_) => {
                wire.expect(Wire::Group)?;
                self.merge(row, input)?;
                self.open(row);
                self.walk(row, input, self.group)
            }
        }
    }

    fn present(&mut self, row: usize) -> Outcome<()> {
        if holds(&self.valid, row) {
            return Ok(());
        }
        self.open(row);
        self.close_children(row)
    }

    fn close(&mut self, _: usize) -> Outcome<()> {
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        self.valid.truncate(rows);
        for child in self.children.iter_mut().flatten() {
            child.truncate(rows);
        }
    }

    fn finish(&mut self, rows: usize) -> Result<ArrayRef> {
        pad(&mut self.valid, rows);
        let valid = self.valid.finish();
        let plan = Arc::clone(&self.plan);
        if plan.columns.is_empty() {
            return Ok(Arc::new(StructArray::new_empty_fields(rows, valid)));
        }
        let children = plan
            .columns
            .iter()
            .map(|field| self.finish_child(*field, rows))
            .collect::<Result<Vec<_>>>()?;
        let array = StructArray::try_new(plan.arrow.clone(), children, valid);
        Ok(Arc::new(array.map_err(broken)?))
    }
}

/// A column of wrapped scalars, such as `google.protobuf.Int32Value`: NULL without the wrapper.
#[derive(Debug)]
pub(in crate::decode::protobuf) struct Wrapped {
    pub(in crate::decode::protobuf) values: Box<dyn Column>,
}

impl Column for Wrapped {
    fn read(&mut self, row: usize, input: &mut Input<'_>, wire: Wire) -> Outcome<()> {
        wire.expect(Wire::Delimited)?;
        let mut bytes = input.within()?;
        self.values.present(row)?;
        while !bytes.is_empty() {
            match bytes.tag()? {
                (1, wire) => self
                    .values
                    .read(row, &mut bytes, wire)
                    .map_err(|f| f.within("value"))?,
                (number, wire) => bytes.skip(number, wire)?,
            }
        }
        Ok(())
    }

    fn present(&mut self, row: usize) -> Outcome<()> {
        self.values.present(row)
    }

    fn close(&mut self, _: usize) -> Outcome<()> {
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
    }

    fn finish(&mut self, rows: usize) -> Result<ArrayRef> {
        self.values.finish(rows)
    }
}
