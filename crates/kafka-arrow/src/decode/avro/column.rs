//! Columns under construction, filled value by value.
//!
//! A value that fails halfway leaves behind what it has written so far. [`Column::truncate`] removes it: the
//! number of whole values tells how much of each part to keep.

use std::sync::Arc;

use arrow::array::{
    ArrayData, ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, FixedSizeBinaryArray,
    ListArray, MapArray, NullArray, NullBufferBuilder, StringArray, StructArray, make_array,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{ArrowNativeType, DataType, Fields, IntervalMonthDayNano, i256};
use arrow::error::ArrowError;

use super::fault::Fault;
use super::types::{is_binary, is_text};

/// A column, by the layout of its values in memory. Several Arrow types share a layout;
/// [`Column::finish`] chooses between them.
#[derive(Debug)]
pub(super) enum Column {
    /// Not wanted: values are read and checked, then dropped.
    Skip,
    Null(usize),
    Boolean(BooleanBufferBuilder, NullBufferBuilder),
    Int32(Values<i32>),
    Int64(Values<i64>),
    Float32(Values<f32>),
    Float64(Values<f64>),
    Decimal128(Values<i128>),
    Decimal256(Values<i256>),
    Interval(Values<IntervalMonthDayNano>),
    /// Text or bytes.
    Bytes(Bytes),
    Fixed(Fixed),
    List(Items),
    Map(Items),
    Struct(Children),
}

#[derive(Debug)]
pub(super) struct Values<T> {
    values: Vec<T>,
    valid: NullBufferBuilder,
}

#[derive(Debug)]
pub(super) struct Bytes {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
    valid: NullBufferBuilder,
}

#[derive(Debug)]
pub(super) struct Fixed {
    size: usize,
    bytes: Vec<u8>,
    valid: NullBufferBuilder,
}

/// Lists of values of one column. A map has two columns, one of keys and one of values.
#[derive(Debug)]
pub(super) struct Items {
    offsets: Vec<i32>,
    columns: Vec<Column>,
    valid: NullBufferBuilder,
}

#[derive(Debug)]
pub(super) struct Children {
    columns: Vec<Column>,
    valid: NullBufferBuilder,
}

impl<T: ArrowNativeType> Values<T> {
    fn new(rows: usize) -> Self {
        Self {
            values: Vec::with_capacity(rows),
            valid: NullBufferBuilder::new(rows),
        }
    }

    #[inline]
    pub(super) fn push(&mut self, value: T) {
        self.values.push(value);
        self.valid.append_non_null();
    }

    fn push_null(&mut self) {
        self.values.push(T::default());
        self.valid.append_null();
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.valid.truncate(rows);
    }

    fn finish(mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        let data = ArrayData::builder(data_type.clone())
            .len(self.values.len())
            .nulls(self.valid.finish())
            .add_buffer(Buffer::from_vec(self.values))
            .build()?;
        Ok(make_array(data))
    }
}

impl Bytes {
    fn new(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self {
            offsets,
            bytes: Vec::new(),
            valid: NullBufferBuilder::new(rows),
        }
    }

    #[inline]
    pub(super) fn push(&mut self, value: &[u8]) -> Result<(), Fault> {
        self.bytes.extend_from_slice(value);
        self.offsets.push(offset(self.bytes.len())?);
        self.valid.append_non_null();
        Ok(())
    }

    fn finish(mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        let (bytes, nulls) = (Buffer::from_vec(self.bytes), self.valid.finish());
        let built: ArrayRef = match is_text(data_type) {
            true => Arc::new(StringArray::try_new(offsets, bytes, nulls)?),
            false => Arc::new(BinaryArray::try_new(offsets, bytes, nulls)?),
        };
        match built.data_type() == data_type {
            true => Ok(built),
            false => cast(&built, data_type),
        }
    }
}

impl Fixed {
    pub(super) fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.valid.append_non_null();
    }
}

impl Items {
    fn new(columns: Vec<Column>, rows: usize) -> Self {
        Self {
            offsets: vec![0],
            columns,
            valid: NullBufferBuilder::new(rows),
        }
    }

    /// Ends a value: its items are what the columns have gained since the previous value.
    fn end(&mut self) -> Result<(), Fault> {
        let items = self.columns.first().map_or(0, Column::len);
        self.offsets.push(offset(items)?);
        self.valid.append_non_null();
        Ok(())
    }

    fn push_null(&mut self) {
        self.offsets
            .push(self.offsets.last().copied().unwrap_or_default());
        self.valid.append_null();
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.valid.truncate(rows);
        let items = self.offsets.last().copied().unwrap_or_default();
        for column in &mut self.columns {
            // Offsets are lengths, which are not negative.
            column.truncate(usize::try_from(items).unwrap_or_default());
        }
    }
}

impl Column {
    /// An empty column for values of a type. `rows` is the expected number of values.
    ///
    /// # Errors
    /// When no schema has values of this type.
    pub(super) fn new(data_type: &DataType, rows: usize) -> Result<Self, ArrowError> {
        Ok(match data_type {
            DataType::Null => Self::Null(0),
            DataType::Boolean => Self::Boolean(
                BooleanBufferBuilder::new(rows),
                NullBufferBuilder::new(rows),
            ),
            DataType::Int32 | DataType::Date32 | DataType::Time32(_) => {
                Self::Int32(Values::new(rows))
            }
            DataType::Int64 | DataType::Time64(_) | DataType::Timestamp(..) => {
                Self::Int64(Values::new(rows))
            }
            DataType::Float32 => Self::Float32(Values::new(rows)),
            DataType::Float64 => Self::Float64(Values::new(rows)),
            DataType::Decimal128(..) => Self::Decimal128(Values::new(rows)),
            DataType::Decimal256(..) => Self::Decimal256(Values::new(rows)),
            DataType::Interval(_) => Self::Interval(Values::new(rows)),
            DataType::FixedSizeBinary(size) => Self::Fixed(Fixed {
                size: usize::try_from(*size).unwrap_or_default(),
                bytes: Vec::new(),
                valid: NullBufferBuilder::new(rows),
            }),
            DataType::List(item) => {
                Self::List(Items::new(vec![Self::new(item.data_type(), 0)?], rows))
            }
            DataType::Map(entries, _) => {
                let DataType::Struct(entry) = entries.data_type() else {
                    return Err(unexpected(data_type));
                };
                Self::Map(Items::new(children(entry, 0)?, rows))
            }
            DataType::Struct(fields) => Self::new_struct(children(fields, rows)?, rows),
            other if is_text(other) || is_binary(other) => Self::Bytes(Bytes::new(rows)),
            other => return Err(unexpected(other)),
        })
    }

    pub(super) fn new_struct(columns: Vec<Self>, rows: usize) -> Self {
        Self::Struct(Children {
            columns,
            valid: NullBufferBuilder::new(rows),
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::Skip => 0,
            Self::Null(rows) => *rows,
            Self::Boolean(values, _) => values.len(),
            Self::Int32(of) => of.values.len(),
            Self::Int64(of) => of.values.len(),
            Self::Float32(of) => of.values.len(),
            Self::Float64(of) => of.values.len(),
            Self::Decimal128(of) => of.values.len(),
            Self::Decimal256(of) => of.values.len(),
            Self::Interval(of) => of.values.len(),
            Self::Bytes(of) => of.offsets.len() - 1,
            Self::Fixed(of) => of.valid.len(),
            Self::List(of) | Self::Map(of) => of.offsets.len() - 1,
            Self::Struct(of) => of.valid.len(),
        }
    }

    pub(super) fn push_null(&mut self) {
        match self {
            Self::Skip => {}
            Self::Null(rows) => *rows += 1,
            Self::Boolean(values, valid) => {
                values.append(false);
                valid.append_null();
            }
            Self::Int32(of) => of.push_null(),
            Self::Int64(of) => of.push_null(),
            Self::Float32(of) => of.push_null(),
            Self::Float64(of) => of.push_null(),
            Self::Decimal128(of) => of.push_null(),
            Self::Decimal256(of) => of.push_null(),
            Self::Interval(of) => of.push_null(),
            Self::Bytes(of) => {
                of.offsets
                    .push(of.offsets.last().copied().unwrap_or_default());
                of.valid.append_null();
            }
            Self::Fixed(of) => {
                of.bytes.resize(of.bytes.len() + of.size, 0);
                of.valid.append_null();
            }
            Self::List(of) | Self::Map(of) => of.push_null(),
            Self::Struct(of) => {
                of.columns.iter_mut().for_each(Self::push_null);
                of.valid.append_null();
            }
        }
    }

    /// Keeps the first `rows` values. The column has at least that many.
    pub(super) fn truncate(&mut self, rows: usize) {
        match self {
            Self::Skip => {}
            Self::Null(of) => *of = rows,
            Self::Boolean(values, valid) => {
                values.truncate(rows);
                valid.truncate(rows);
            }
            Self::Int32(of) => of.truncate(rows),
            Self::Int64(of) => of.truncate(rows),
            Self::Float32(of) => of.truncate(rows),
            Self::Float64(of) => of.truncate(rows),
            Self::Decimal128(of) => of.truncate(rows),
            Self::Decimal256(of) => of.truncate(rows),
            Self::Interval(of) => of.truncate(rows),
            Self::Bytes(of) => {
                of.offsets.truncate(rows + 1);
                let end = of.offsets.last().copied().unwrap_or_default();
                of.bytes.truncate(usize::try_from(end).unwrap_or_default());
                of.valid.truncate(rows);
            }
            Self::Fixed(of) => {
                of.bytes.truncate(rows * of.size);
                of.valid.truncate(rows);
            }
            Self::List(of) | Self::Map(of) => of.truncate(rows),
            Self::Struct(of) => {
                of.columns.iter_mut().for_each(|c| c.truncate(rows));
                of.valid.truncate(rows);
            }
        }
    }

    /// The column of a struct's field, of a list's items, or of a map's keys (0) or values (1).
    /// Everything inside an unwanted value is unwanted too.
    #[inline]
    pub(super) fn child(&mut self, place: usize) -> Result<&mut Self, Fault> {
        match self {
            Self::Skip => Ok(self),
            Self::Struct(Children { columns, .. })
            | Self::List(Items { columns, .. })
            | Self::Map(Items { columns, .. }) => {
                columns.get_mut(place).ok_or_else(|| misfit("a child"))
            }
            _ => Err(misfit("a child")),
        }
    }

    /// Ends a struct, a list or a map whose children have received their values.
    #[inline]
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        match self {
            Self::Skip => Ok(()),
            Self::Struct(of) => {
                of.valid.append_non_null();
                Ok(())
            }
            Self::List(of) | Self::Map(of) => of.end(),
            _ => Err(misfit("the end of a value")),
        }
    }

    /// Ends a struct in which only the member at `chosen` has received a value.
    pub(super) fn end_member(&mut self, chosen: Option<usize>) -> Result<(), Fault> {
        let Self::Struct(of) = self else {
            return self.end();
        };
        for (place, column) in of.columns.iter_mut().enumerate() {
            if Some(place) != chosen {
                column.push_null();
            }
        }
        of.valid.append_non_null();
        Ok(())
    }

    /// The columns of a struct, in the order of its fields.
    pub(super) fn into_children(self) -> Vec<Self> {
        match self {
            Self::Struct(of) => of.columns,
            _ => Vec::new(),
        }
    }

    /// # Errors
    /// When the column was made for another type.
    pub(super) fn finish(self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        match (self, data_type) {
            (Self::Null(rows), _) => Ok(Arc::new(NullArray::new(rows))),
            (Self::Boolean(values, mut valid), _) => {
                Ok(Arc::new(BooleanArray::new(values.build(), valid.finish())))
            }
            (Self::Int32(of), _) => of.finish(data_type),
            (Self::Int64(of), _) => of.finish(data_type),
            (Self::Float32(of), _) => of.finish(data_type),
            (Self::Float64(of), _) => of.finish(data_type),
            (Self::Decimal128(of), _) => of.finish(data_type),
            (Self::Decimal256(of), _) => of.finish(data_type),
            (Self::Interval(of), _) => of.finish(data_type),
            (Self::Bytes(of), _) => of.finish(data_type),
            (Self::Fixed(mut of), DataType::FixedSizeBinary(size)) => {
                let (rows, nulls) = (of.valid.len(), of.valid.finish());
                let bytes = Buffer::from_vec(of.bytes);
                let built = FixedSizeBinaryArray::try_new_with_len(*size, bytes, nulls, rows)?;
                Ok(Arc::new(built))
            }
            (Self::List(mut of), DataType::List(item)) => {
                let items = of.columns.pop().ok_or_else(|| unexpected(data_type))?;
                let items = items.finish(item.data_type())?;
                let offsets = OffsetBuffer::new(ScalarBuffer::from(of.offsets));
                let nulls = of.valid.finish();
                let built = ListArray::try_new(Arc::clone(item), offsets, items, nulls)?;
                Ok(Arc::new(built))
            }
            (Self::Map(mut of), DataType::Map(entries, sorted)) => {
                let DataType::Struct(entry) = entries.data_type() else {
                    return Err(unexpected(data_type));
                };
                let columns = finish_all(of.columns, entry)?;
                let columns = StructArray::try_new(entry.clone(), columns, None)?;
                let offsets = OffsetBuffer::new(ScalarBuffer::from(of.offsets));
                let (field, nulls) = (Arc::clone(entries), of.valid.finish());
                let built = MapArray::try_new(field, offsets, columns, nulls, *sorted)?;
                Ok(Arc::new(built))
            }
            (Self::Struct(mut of), DataType::Struct(fields)) => {
                let (rows, nulls) = (of.valid.len(), of.valid.finish());
                let columns = finish_all(of.columns, fields)?;
                let built = StructArray::try_new_with_length(fields.clone(), columns, nulls, rows)?;
                Ok(Arc::new(built))
            }
            (_, other) => Err(unexpected(other)),
        }
    }
}

fn children(fields: &Fields, rows: usize) -> Result<Vec<Column>, ArrowError> {
    fields
        .iter()
        .map(|field| Column::new(field.data_type(), rows))
        .collect()
}

fn finish_all(columns: Vec<Column>, fields: &Fields) -> Result<Vec<ArrayRef>, ArrowError> {
    let pairs = columns.into_iter().zip(fields);
    pairs
        .map(|(column, field)| column.finish(field.data_type()))
        .collect()
}

#[inline]
fn offset(length: usize) -> Result<i32, Fault> {
    i32::try_from(length).map_err(|_| {
        Fault::ours("a column of one batch has more than 2 GiB; read it in smaller batches")
    })
}

/// A value does not fit its column. Resolving the schemas rules this out.
#[cold]
pub(super) fn misfit(value: &str) -> Fault {
    Fault::ours(format!("{value} has no place in its column"))
}

fn unexpected(data_type: &DataType) -> ArrowError {
    ArrowError::InvalidArgumentError(format!("no Avro value becomes {data_type}"))
}
