//! Columns of lists and maps.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, ListArray, MapArray, NullBufferBuilder, StructArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::filter;
use arrow::datatypes::{FieldRef, Fields};

use super::{Column, broken, pad};
use crate::decode::protobuf::wire::{Fault, Input, Outcome, Wire};
use crate::error::Result;

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
