//! Columns of numbers, booleans, text, bytes and enum names.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, NullBufferBuilder,
    PrimitiveArray, StringArray,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float32Type, Float64Type, Int32Type, Int64Type, UInt32Type,
    UInt64Type,
};

use super::{Column, Key, broken, holds, pad};
use crate::decode::protobuf::wire::{Fault, Input, Outcome, Wire};
use crate::error::Result;

/// A numeric type of Protobuf.
pub(in crate::decode::protobuf) trait Number:
    fmt::Debug + Send + 'static
{
    type Arrow: ArrowPrimitiveType;
    const WIRE: Wire;

    fn read(input: &mut Input<'_>) -> Outcome<<Self::Arrow as ArrowPrimitiveType>::Native>;

    /// The value as a map's key; `None` for floating-point numbers, which cannot be keys.
    fn key(value: <Self::Arrow as ArrowPrimitiveType>::Native) -> Option<u64>;
}

macro_rules! numbers {
    ($($name:ident: $arrow:ty, $wire:ident, |$input:ident| $read:expr, |$value:ident| $key:expr;)*) => {
        $(
            #[derive(Debug)]
            pub(in crate::decode::protobuf) struct $name;

            impl Number for $name {
                type Arrow = $arrow;
                const WIRE: Wire = Wire::$wire;

                #[inline]
                fn read($input: &mut Input<'_>) -> Outcome<<$arrow as ArrowPrimitiveType>::Native> {
                    Ok($read)
                }

                fn key($value: <$arrow as ArrowPrimitiveType>::Native) -> Option<u64> {
                    $key
                }
            }
        )*
    };
}

// A 32-bit field takes the lower half of a varint, as in every implementation: the field may have been 64
// bits wide when the record was written.
numbers! {
    Int32: Int32Type, Varint, |i| i.varint()? as i32, |v| Some(v as u64);
    Sint32: Int32Type, Varint, |i| zigzag32(i.varint()? as u32), |v| Some(v as u64);
    Uint32: UInt32Type, Varint, |i| i.varint()? as u32, |v| Some(u64::from(v));
    Int64: Int64Type, Varint, |i| i.varint()?.cast_signed(), |v| Some(v as u64);
    Sint64: Int64Type, Varint, |i| i.zigzag()?, |v| Some(v as u64);
    Uint64: UInt64Type, Varint, |i| i.varint()?, |v| Some(v);
    Fixed32: UInt32Type, Fixed32, |i| u32::from_le_bytes(i.fixed32()?), |v| Some(u64::from(v));
    Sfixed32: Int32Type, Fixed32, |i| i32::from_le_bytes(i.fixed32()?), |v| Some(v as u64);
    Fixed64: UInt64Type, Fixed64, |i| u64::from_le_bytes(i.fixed64()?), |v| Some(v);
    Sfixed64: Int64Type, Fixed64, |i| i64::from_le_bytes(i.fixed64()?), |v| Some(v as u64);
    Float: Float32Type, Fixed32, |i| f32::from_le_bytes(i.fixed32()?), |_v| None;
    Double: Float64Type, Fixed64, |i| f64::from_le_bytes(i.fixed64()?), |_v| None;
}

fn zigzag32(value: u32) -> i32 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

type Native<N> = <<N as Number>::Arrow as ArrowPrimitiveType>::Native;

/// A column of numbers.
#[derive(Debug)]
pub(in crate::decode::protobuf) struct Numbers<N: Number> {
    values: Vec<Native<N>>,
    valid: NullBufferBuilder,
    /// Whether an absent value is the default; otherwise it is NULL.
    implicit: bool,
    data_type: DataType,
}

impl<N: Number> Numbers<N> {
    pub(in crate::decode::protobuf) fn new(
        implicit: bool,
        data_type: DataType,
        rows: usize,
    ) -> Self {
        Self {
            values: Vec::with_capacity(rows),
            valid: NullBufferBuilder::new(rows),
            implicit,
            data_type,
        }
    }

    #[inline]
    pub(super) fn set(&mut self, row: usize, value: Native<N>) {
        if self.values.len() != row {
            self.truncate(row);
            self.pad(row);
        }
        self.values.push(value);
        self.valid.append_non_null();
    }

    pub(super) fn holds(&self, row: usize) -> bool {
        holds(&self.valid, row)
    }

    fn pad(&mut self, rows: usize) {
        if self.values.len() < rows {
            self.values.resize(rows, Native::<N>::default());
            pad(&mut self.valid, rows);
        }
    }
}

impl<N: Number> Column for Numbers<N> {
    fn read(&mut self, row: usize, input: &mut Input<'_>, wire: Wire) -> Outcome<()> {
        wire.expect(N::WIRE)?;
        let value = N::read(input)?;
        self.set(row, value);
        Ok(())
    }

    fn present(&mut self, row: usize) -> Outcome<()> {
        if !self.holds(row) {
            self.set(row, Native::<N>::default());
        }
        Ok(())
    }

    fn close(&mut self, row: usize) -> Outcome<()> {
        if self.implicit && self.values.len() <= row {
            self.set(row, Native::<N>::default());
        }
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        if rows < self.values.len() {
            self.values.truncate(rows);
            self.valid.truncate(rows);
        }
    }

    fn finish(&mut self, rows: usize) -> Result<ArrayRef> {
        self.pad(rows);
        let values = ScalarBuffer::from(std::mem::take(&mut self.values));
        let array = PrimitiveArray::<N::Arrow>::try_new(values, self.valid.finish());
        as_type(array.map_err(broken)?, &self.data_type)
    }

    fn packed(&self) -> Option<Wire> {
        Some(N::WIRE)
    }

    fn key(&self, row: usize) -> Option<Key<'_>> {
        N::key(*self.values.get(row)?).map(Key::Number)
    }
}

/// Casts the array to the declared type of the column.
fn as_type(array: impl Array + 'static, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type {
        return Ok(Arc::new(array));
    }
    cast(&array, data_type).map_err(broken)
}

/// A column of booleans.
#[derive(Debug)]
pub(in crate::decode::protobuf) struct Flags {
    values: BooleanBufferBuilder,
    valid: NullBufferBuilder,
    implicit: bool,
}

impl Flags {
    pub(in crate::decode::protobuf) fn new(implicit: bool, rows: usize) -> Self {
        Self {
            values: BooleanBufferBuilder::new(rows),
            valid: NullBufferBuilder::new(rows),
            implicit,
        }
    }

    fn set(&mut self, row: usize, value: bool) {
        self.truncate(row);
        self.pad(row);
        self.values.append(value);
        self.valid.append_non_null();
    }

    fn pad(&mut self, rows: usize) {
        if self.values.len() < rows {
            self.values.resize(rows);
            pad(&mut self.valid, rows);
        }
    }
}

impl Column for Flags {
    fn read(&mut self, row: usize, input: &mut Input<'_>, wire: Wire) -> Outcome<()> {
        wire.expect(Wire::Varint)?;
        let value = input.varint()? != 0;
        self.set(row, value);
        Ok(())
    }

    fn present(&mut self, row: usize) -> Outcome<()> {
        if !holds(&self.valid, row) {
            self.set(row, false);
        }
        Ok(())
    }

    fn close(&mut self, row: usize) -> Outcome<()> {
        if self.implicit && self.values.len() <= row {
            self.set(row, false);
        }
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        if rows < self.values.len() {
            self.values.truncate(rows);
            self.valid.truncate(rows);
        }
    }

    fn finish(&mut self, rows: usize) -> Result<ArrayRef> {
        self.pad(rows);
        let values = self.values.finish();
        Ok(Arc::new(BooleanArray::new(values, self.valid.finish())))
    }

    fn packed(&self) -> Option<Wire> {
        Some(Wire::Varint)
    }

    fn key(&self, row: usize) -> Option<Key<'_>> {
        (row < self.values.len()).then(|| Key::Number(self.values.get_bit(row).into()))
    }
}

/// A column of texts or bytes.
#[derive(Debug)]
pub(in crate::decode::protobuf) struct Bytes {
    data: Vec<u8>,
    /// The end of each value in `data`, with a leading 0.
    offsets: Vec<i32>,
    valid: NullBufferBuilder,
    /// Whether values must be UTF-8.
    text: bool,
    implicit: bool,
    data_type: DataType,
}

impl Bytes {
    pub(in crate::decode::protobuf) fn new(
        text: bool,
        implicit: bool,
        data_type: DataType,
        rows: usize,
    ) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self {
            data: Vec::new(),
            offsets,
            valid: NullBufferBuilder::new(rows),
            text,
            implicit,
            data_type,
        }
    }

    fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    fn end(&self) -> i32 {
        self.offsets[self.offsets.len() - 1]
    }

    #[inline]
    fn set(&mut self, row: usize, value: &[u8]) -> Outcome<()> {
        if self.rows() != row {
            self.truncate(row);
            self.pad(row);
        }
        let end = i32::try_from(self.data.len() + value.len())
            .map_err(|_| Fault::range("more than 2 GiB in one column of a batch"))?;
        self.data.extend_from_slice(value);
        self.offsets.push(end);
        self.valid.append_non_null();
        Ok(())
    }

    fn pad(&mut self, rows: usize) {
        if self.rows() < rows {
            let end = self.end();
            self.offsets.resize(rows + 1, end);
            pad(&mut self.valid, rows);
        }
    }
}

impl Column for Bytes {
    fn read(&mut self, row: usize, input: &mut Input<'_>, wire: Wire) -> Outcome<()> {
        wire.expect(Wire::Delimited)?;
        let value = input.delimited()?;
        if self.text && std::str::from_utf8(value).is_err() {
            return Err(Fault::of_type("the text is not UTF-8"));
        }
        self.set(row, value)
    }

    fn present(&mut self, row: usize) -> Outcome<()> {
        if holds(&self.valid, row) {
            return Ok(());
        }
        self.set(row, &[])
    }

    fn close(&mut self, row: usize) -> Outcome<()> {
        if !self.implicit || row < self.rows() {
            return Ok(());
        }
        self.set(row, &[])
    }

    fn truncate(&mut self, rows: usize) {
        if rows < self.rows() {
            self.offsets.truncate(rows + 1);
            // The offsets are earlier lengths of `data`.
            self.data.truncate(self.end().cast_unsigned() as usize);
            self.valid.truncate(rows);
        }
    }

    fn finish(&mut self, rows: usize) -> Result<ArrayRef> {
        self.pad(rows);
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let data = Buffer::from_vec(std::mem::take(&mut self.data));
        let valid = self.valid.finish();
        if self.text {
            let array = StringArray::try_new(offsets, data, valid);
            as_type(array.map_err(broken)?, &self.data_type)
        } else {
            let array = BinaryArray::try_new(offsets, data, valid);
            as_type(array.map_err(broken)?, &self.data_type)
        }
    }

    fn key(&self, row: usize) -> Option<Key<'_>> {
        let start = self.offsets.get(row)?.cast_unsigned() as usize;
        let end = self.offsets.get(row + 1)?.cast_unsigned() as usize;
        self.data.get(start..end).map(Key::Text)
    }
}

/// The names of an enum's numbers.
#[derive(Debug)]
pub(in crate::decode::protobuf) struct EnumNames {
    /// Sorted by number. Where a number has several names, the first one.
    names: Vec<(i32, Box<str>)>,
    /// The number of an absent value.
    default: i32,
}

impl EnumNames {
    pub(in crate::decode::protobuf) fn new(
        names: impl IntoIterator<Item = (i32, Box<str>)>,
        default: i32,
    ) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_by_key(|(number, _)| *number);
        names.dedup_by_key(|(number, _)| *number);
        Self { names, default }
    }

    /// The length of an absent value's name.
    pub(in crate::decode::protobuf) fn default_len(&self) -> usize {
        self.get(self.default).map_or(0, str::len)
    }

    fn get(&self, number: i32) -> Option<&str> {
        // Most enums count from 0 without gaps.
        if let Some((found, name)) = self.names.get(number as usize)
            && *found == number
        {
            return Some(name);
        }
        let i = self.names.binary_search_by_key(&number, |(n, _)| *n).ok()?;
        Some(&self.names[i].1)
    }
}

/// A column of enums by name. A number without a name becomes its digits.
#[derive(Debug)]
pub(in crate::decode::protobuf) struct Enums {
    texts: Bytes,
    names: Arc<EnumNames>,
}

impl Enums {
    pub(in crate::decode::protobuf) fn new(
        names: Arc<EnumNames>,
        implicit: bool,
        data_type: DataType,
        rows: usize,
    ) -> Self {
        Self {
            texts: Bytes::new(true, implicit, data_type, rows),
            names,
        }
    }

    fn set(&mut self, row: usize, number: i32) -> Outcome<()> {
        match self.names.get(number) {
            Some(name) => self.texts.set(row, name.as_bytes()),
            None => self.texts.set(row, number.to_string().as_bytes()),
        }
    }
}

impl Column for Enums {
    fn read(&mut self, row: usize, input: &mut Input<'_>, wire: Wire) -> Outcome<()> {
        wire.expect(Wire::Varint)?;
        let number = input.varint()? as i32;
        // A name may be longer than its number in the payload.
        input.spend(self.names.get(number).map_or(0, str::len))?;
        self.set(row, number)
    }

    fn present(&mut self, row: usize) -> Outcome<()> {
        if holds(&self.texts.valid, row) {
            return Ok(());
        }
        self.set(row, self.names.default)
    }

    fn close(&mut self, row: usize) -> Outcome<()> {
        if !self.texts.implicit || row < self.texts.rows() {
            return Ok(());
        }
        self.set(row, self.names.default)
    }

    fn truncate(&mut self, rows: usize) {
        self.texts.truncate(rows);
    }

    fn finish(&mut self, rows: usize) -> Result<ArrayRef> {
        self.texts.finish(rows)
    }

    fn packed(&self) -> Option<Wire> {
        Some(Wire::Varint)
    }
}
