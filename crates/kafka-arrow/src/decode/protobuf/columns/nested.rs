//! Columns that hold columns: messages, lists, maps and wrapped scalars.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, ListArray, MapArray, NullBufferBuilder, StructArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::filter;
use arrow::datatypes::{FieldRef, Fields};

use super::{Column, broken, holds, pad};
use crate::decode::budget::Budget;
use crate::decode::protobuf::plan::MessagePlan;
use crate::decode::protobuf::wire::{Fault, Input, Outcome, Wire};
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

/// Where the elements of each row end.
#[derive(Debug)]
struct Ends {
    /// With a leading 0.
    offsets: Vec<i32>,
    valid: NullBufferBuilder,
    /// The number of elements, including those of the open row.
    elements: usize,
}

impl Ends {
    fn new(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self {
            offsets,
            valid: NullBufferBuilder::new(rows),
            elements: 0,
        }
    }

    fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    fn last(&self) -> i32 {
        self.offsets[self.offsets.len() - 1]
    }

    fn pad(&mut self, rows: usize) {
        if self.rows() < rows {
            let last = self.last();
            self.offsets.resize(rows + 1, last);
            pad(&mut self.valid, rows);
        }
    }

    fn close(&mut self, row: usize) -> Outcome<()> {
        let end = i32::try_from(self.elements)
            .map_err(|_| Fault::range("more than 2 billion elements in one column of a batch"))?;
        self.pad(row);
        if self.rows() == row {
            self.offsets.push(end);
            self.valid.append_non_null();
        } else {
            self.offsets[row + 1] = end;
        }
        Ok(())
    }

    /// Returns how many elements remain.
    fn truncate(&mut self, rows: usize) -> usize {
        self.offsets.truncate(rows + 1);
        self.valid.truncate(rows);
        self.elements = self.last().cast_unsigned() as usize;
        self.elements
    }

    fn finish(&mut self, rows: usize) -> Vec<i32> {
        self.pad(rows);
        std::mem::replace(&mut self.offsets, vec![0])
    }
}

/// A column of lists, packed or unpacked or both in turn, as the bytes have them.
#[derive(Debug)]
pub(in crate::decode::protobuf) struct List {
    ends: Ends,
    items: Box<dyn Column>,
    item: FieldRef,
    /// The charge for an element.
    charge: usize,
}

impl List {
    pub(in crate::decode::protobuf) fn new(
        items: Box<dyn Column>,
        item: FieldRef,
        charge: usize,
        rows: usize,
    ) -> Self {
        Self {
            ends: Ends::new(rows),
            items,
            item,
            charge,
        }
    }
}

impl Column for List {
    fn read(&mut self, _: usize, input: &mut Input<'_>, wire: Wire) -> Outcome<()> {
        match self.items.packed() {
            Some(packed) if wire == Wire::Delimited => {
                let mut elements = input.within()?;
                while !elements.is_empty() {
                    self.items.read(self.ends.elements, &mut elements, packed)?;
                    self.ends.elements += 1;
                }
            }
            _ => {
                input.spend(self.charge)?;
                self.items.read(self.ends.elements, input, wire)?;
                self.ends.elements += 1;
            }
        }
        Ok(())
    }

    fn present(&mut self, row: usize) -> Outcome<()> {
        self.close(row)
    }

    fn close(&mut self, row: usize) -> Outcome<()> {
        self.ends.close(row)
    }

    fn truncate(&mut self, rows: usize) {
        let elements = self.ends.truncate(rows);
        self.items.truncate(elements);
    }

    fn finish(&mut self, rows: usize) -> Result<ArrayRef> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.ends.finish(rows)));
        let items = self.items.finish(self.ends.elements)?;
        let valid = self.ends.valid.finish();
        let array = ListArray::try_new(Arc::clone(&self.item), offsets, items, valid);
        Ok(Arc::new(array.map_err(broken)?))
    }
}

/// A column of maps. Of several entries with the same key, the last counts.
#[derive(Debug)]
pub(in crate::decode::protobuf) struct Map {
    ends: Ends,
    keys: Box<dyn Column>,
    values: Box<dyn Column>,
    entries: FieldRef,
    fields: Fields,
    /// The charge for an entry.
    charge: usize,
}

impl Map {
    pub(in crate::decode::protobuf) fn new(
        keys: Box<dyn Column>,
        values: Box<dyn Column>,
        entries: FieldRef,
        fields: Fields,
        charge: usize,
        rows: usize,
    ) -> Self {
        Self {
            ends: Ends::new(rows),
            keys,
            values,
            entries,
            fields,
            charge,
        }
    }

    /// Which entries to keep; `None` when all are kept.
    ///
    /// This runs once at the end, because a row may be closed many times.
    fn kept(&self, offsets: &[i32]) -> Option<Vec<bool>> {
        /// Up to this many entries, comparing all pairs is cheaper than a set.
        const FEW: usize = 16;
        let mut kept = vec![true; self.ends.elements];
        let mut all = true;
        for row in offsets.windows(2) {
            let entries = row[0].cast_unsigned() as usize..row[1].cast_unsigned() as usize;
            let mut later = HashSet::new();
            for entry in entries.clone().rev() {
                let key = self.keys.key(entry);
                let again = if entries.len() <= FEW {
                    (entry + 1..entries.end).any(|later| self.keys.key(later) == key)
                } else {
                    !later.insert(key)
                };
                if again {
                    kept[entry] = false;
                    all = false;
                }
            }
        }
        (!all).then_some(kept)
    }
}

/// Recomputes the offsets for the entries that are kept.
fn recount(offsets: &mut [i32], kept: &[bool]) {
    let mut entry = 0;
    let mut count = 0;
    for offset in offsets {
        let end = offset.cast_unsigned() as usize;
        count += kept[entry..end].iter().map(|k| i32::from(*k)).sum::<i32>();
        entry = end;
        *offset = count;
    }
}

impl Column for Map {
    fn read(&mut self, _: usize, input: &mut Input<'_>, wire: Wire) -> Outcome<()> {
        wire.expect(Wire::Delimited)?;
        let mut bytes = input.within()?;
        input.spend(self.charge)?;
        let entry = self.ends.elements;
        while !bytes.is_empty() {
            let (number, wire) = bytes.tag()?;
            match number {
                1 => self
                    .keys
                    .read(entry, &mut bytes, wire)
                    .map_err(|f| f.within("key"))?,
                2 => self
                    .values
                    .read(entry, &mut bytes, wire)
                    .map_err(|f| f.within("value"))?,
                _ => bytes.skip(number, wire)?,
            }
        }
        self.keys.present(entry)?;
        self.values.present(entry)?;
        self.ends.elements += 1;
        Ok(())
    }

    fn present(&mut self, row: usize) -> Outcome<()> {
        self.close(row)
    }

    fn close(&mut self, row: usize) -> Outcome<()> {
        self.ends.close(row)
    }

    fn truncate(&mut self, rows: usize) {
        let elements = self.ends.truncate(rows);
        self.keys.truncate(elements);
        self.values.truncate(elements);
    }

    fn finish(&mut self, rows: usize) -> Result<ArrayRef> {
        let mut offsets = self.ends.finish(rows);
        let elements = self.ends.elements;
        let kept = self.kept(&offsets);
        let columns = vec![self.keys.finish(elements)?, self.values.finish(elements)?];
        let mut entries =
            StructArray::try_new(self.fields.clone(), columns, None).map_err(broken)?;
        if let Some(kept) = kept {
            recount(&mut offsets, &kept);
            let filtered = filter(&entries, &BooleanArray::from(kept)).map_err(broken)?;
            entries = filtered.as_struct().clone();
        }
        let array = MapArray::try_new(
            Arc::clone(&self.entries),
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            entries,
            self.ends.valid.finish(),
            false,
        );
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
