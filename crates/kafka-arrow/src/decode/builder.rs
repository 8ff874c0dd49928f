//! Columns that are built row by row and can be cut back.
//!
//! Arrow's own builders only grow. Here a payload may turn out to be bad in its middle, or may name a field
//! twice so that the last value counts. Both must remove what was already appended.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array,
    ListArray, MapArray, StringArray, StructArray, UInt64Array, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{cast, filter};
use arrow::datatypes::{DataType, FieldRef, Fields};
use arrow::error::ArrowError;

use crate::error::{Error, Result};

/// A column under construction; every row is a value or NULL.
#[derive(Debug, Clone)]
pub(crate) struct Builder {
    data_type: DataType,
    valid: Vec<bool>,
    pub(crate) values: Values,
}

/// The values of a [`Builder`]. Those of NULL rows mean nothing.
#[derive(Debug, Clone)]
pub(crate) enum Values {
    /// The type that has only NULL.
    Null,
    Bool(Vec<bool>),
    /// Whole numbers except UInt64, and days, times and timestamps in the unit of the type.
    Whole(Vec<i64>),
    Unsigned(Vec<u64>),
    Float(Vec<f64>),
    /// Unscaled.
    Decimal(Vec<i128>),
    Text(Slices),
    Binary(Slices),
    Struct(Vec<Builder>),
    List(Vec<usize>, Box<Builder>),
    /// Where the entries of each row end, and the entries.
    Map(Vec<usize>, Box<Entries>),
}

/// The entries of maps.
#[derive(Debug, Clone)]
pub(crate) struct Entries {
    /// Text.
    pub(crate) keys: Builder,
    pub(crate) values: Builder,
    /// Entries that do not count, because their key came again later in the same map.
    pub(crate) replaced: Vec<usize>,
}

/// Up to this number of keys, comparing each is faster than hashing.
const KEYS_FEW: usize = 16;

impl Entries {
    /// Announces the key of the next entry, in a map whose entries begin at `start`. `places` is empty when a
    /// map begins.
    pub(crate) fn announce(
        &mut self,
        key: &str,
        start: usize,
        places: &mut HashMap<Vec<u8>, usize>,
    ) {
        let Values::Text(keys) = &self.keys.values else {
            return;
        };
        let (key, next) = (key.as_bytes(), keys.len());
        let before = if next - start < KEYS_FEW {
            (start..next).rev().find(|entry| keys.get(*entry) == key)
        } else {
            if places.is_empty() {
                places.extend((start..next).map(|entry| (keys.get(entry).to_vec(), entry)));
            }
            places.insert(key.to_vec(), next)
        };
        self.replaced.extend(before);
    }

    /// The columns of the entries that count, and where those of each row end.
    fn without_replaced(
        &mut self,
        columns: Vec<ArrayRef>,
        ends: &mut [usize],
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        if self.replaced.is_empty() {
            return Ok(columns);
        }
        let entries = columns.first().map_or(0, |column| column.len());
        let mut kept = vec![true; entries];
        for entry in std::mem::take(&mut self.replaced) {
            if let Some(kept) = kept.get_mut(entry) {
                *kept = false;
            }
        }
        // How many entries are kept up to this end.
        let (mut left, mut at) = (0, 0);
        for end in ends {
            left += kept[at..*end].iter().filter(|kept| **kept).count();
            at = std::mem::replace(end, left);
        }
        let kept = BooleanArray::from(kept);
        columns.iter().map(|column| filter(column, &kept)).collect()
    }
}

/// Bytes of many rows, and where each row's end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slices {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Slices {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[row]]
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
    }
}

impl Builder {
    /// An empty column.
    ///
    /// # Errors
    /// When columns of the type are not built.
    pub(crate) fn new(data_type: &DataType) -> Result<Self> {
        let values = match data_type {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Bool(vec![]),
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::Date32
            | DataType::Time32(_)
            | DataType::Time64(_)
            | DataType::Timestamp(..) => Values::Whole(vec![]),
            DataType::UInt64 => Values::Unsigned(vec![]),
            DataType::Float32 | DataType::Float64 => Values::Float(vec![]),
            DataType::Decimal128(..) => Values::Decimal(vec![]),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Values::Text(Slices::default())
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                Values::Binary(Slices::default())
            }
            DataType::Struct(fields) => Values::Struct(builders(fields)?),
            DataType::List(item) => Values::List(vec![], Box::new(Self::new(item.data_type())?)),
            DataType::Map(entries, _) => {
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(unsupported(data_type));
                };
                let [keys, values] = builders(fields)?
                    .try_into()
                    .map_err(|_| unsupported(data_type))?;
                if !matches!(keys.values, Values::Text(_)) {
                    return Err(Error::invalid(format!(
                        "the keys of a map are text here, and {} is declared: declare MAP<VARCHAR, …>",
                        keys.data_type
                    )));
                }
                let replaced = vec![];
                Values::Map(
                    vec![],
                    Box::new(Entries {
                        keys,
                        values,
                        replaced,
                    }),
                )
            }
            other => return Err(unsupported(other)),
        };
        Ok(Self {
            data_type: data_type.clone(),
            valid: vec![],
            values,
        })
    }

    pub(crate) fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// The type, and the values to append to.
    pub(crate) fn parts(&mut self) -> (&DataType, &mut Values) {
        (&self.data_type, &mut self.values)
    }

    /// The number of rows that were ended.
    pub(crate) fn len(&self) -> usize {
        self.valid.len()
    }

    /// Whether an ended row is NULL.
    pub(crate) fn is_null(&self, row: usize) -> bool {
        !self.valid.get(row).copied().unwrap_or_default()
    }

    /// Ends a row whose value was appended to [`Self::values`].
    pub(crate) fn end_row(&mut self) {
        match &mut self.values {
            Values::List(ends, items) => ends.push(items.len()),
            Values::Map(ends, entries) => ends.push(entries.keys.len()),
            _ => {}
        }
        self.valid.push(true);
    }

    /// Appends a row that is NULL.
    pub(crate) fn null(&mut self) {
        match &mut self.values {
            Values::Null => {}
            Values::Bool(values) => values.push(false),
            Values::Whole(values) => values.push(0),
            Values::Unsigned(values) => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Decimal(values) => values.push(0),
            Values::Text(slices) | Values::Binary(slices) => slices.push(&[]),
            Values::Struct(children) => children.iter_mut().for_each(Self::null),
            Values::List(ends, items) => ends.push(items.len()),
            Values::Map(ends, entries) => ends.push(entries.keys.len()),
        }
        self.valid.push(false);
    }

    /// Removes all rows from `rows` on, including one that was not ended.
    pub(crate) fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Null => {}
            Values::Bool(values) => values.truncate(rows),
            Values::Whole(values) => values.truncate(rows),
            Values::Unsigned(values) => values.truncate(rows),
            Values::Float(values) => values.truncate(rows),
            Values::Decimal(values) => values.truncate(rows),
            Values::Text(slices) | Values::Binary(slices) => slices.truncate(rows),
            Values::Struct(children) => children.iter_mut().for_each(|c| c.truncate(rows)),
            Values::List(ends, items) => {
                ends.truncate(rows);
                items.truncate(ends.last().copied().unwrap_or(0));
            }
            Values::Map(ends, entries) => {
                ends.truncate(rows);
                let entries_left = ends.last().copied().unwrap_or(0);
                entries.keys.truncate(entries_left);
                entries.values.truncate(entries_left);
                entries.replaced.retain(|entry| *entry < entries_left);
            }
        }
        self.valid.truncate(rows);
    }

    /// Returns the column of all rows and empties the builder.
    ///
    /// # Errors
    /// Arrow's, for example when text exceeds 2 GiB.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let rows = self.valid.len();
        let valid = std::mem::take(&mut self.valid);
        let nulls = (!valid.iter().all(|v| *v)).then(|| NullBuffer::from(valid));
        let data_type = &self.data_type;
        let built: ArrayRef = match &mut self.values {
            Values::Null => new_null_array(data_type, rows),
            Values::Bool(values) => {
                Arc::new(BooleanArray::new(std::mem::take(values).into(), nulls))
            }
            Values::Whole(values) => {
                return whole(Int64Array::new(take(values), nulls), data_type);
            }
            Values::Unsigned(values) => Arc::new(UInt64Array::new(take(values), nulls)),
            Values::Float(values) => Arc::new(Float64Array::new(take(values), nulls)),
            Values::Decimal(values) => {
                let array = Decimal128Array::new(take(values), nulls);
                Arc::new(array.with_data_type(data_type.clone()))
            }
            Values::Text(slices) => {
                let Slices { bytes, ends } = std::mem::take(slices);
                Arc::new(StringArray::try_new(offsets(&ends)?, bytes.into(), nulls)?)
            }
            Values::Binary(slices) => {
                let Slices { bytes, ends } = std::mem::take(slices);
                Arc::new(BinaryArray::try_new(offsets(&ends)?, bytes.into(), nulls)?)
            }
            Values::Struct(children) => {
                let DataType::Struct(fields) = data_type else {
                    return Err(mismatch(data_type));
                };
                let columns: Vec<ArrayRef> = children
                    .iter_mut()
                    .map(Self::finish)
                    .collect::<Result<_, _>>()?;
                Arc::new(StructArray::try_new_with_length(
                    fields.clone(),
                    columns,
                    nulls,
                    rows,
                )?)
            }
            Values::List(ends, items) => {
                let DataType::List(item) = data_type else {
                    return Err(mismatch(data_type));
                };
                let offsets = offsets(&std::mem::take(ends))?;
                let items = items.finish()?;
                Arc::new(ListArray::try_new(Arc::clone(item), offsets, items, nulls)?)
            }
            Values::Map(ends, entries) => map(ends, entries, data_type, nulls)?,
        };
        if built.data_type() == data_type {
            Ok(built)
        } else {
            cast(&built, data_type)
        }
    }
}

/// Builders of the columns of some fields.
pub(crate) fn builders(fields: &Fields) -> Result<Vec<Builder>> {
    let each = fields.iter();
    each.map(|field| Builder::new(field.data_type()).map_err(|e| named(field, &e)))
        .collect()
}

fn named(field: &FieldRef, error: &Error) -> Error {
    Error::invalid(format!("column '{}': {error}", field.name()))
}

fn unsupported(data_type: &DataType) -> Error {
    Error::invalid(format!(
        "payloads are not decoded into columns of the type {data_type}"
    ))
}

fn mismatch(data_type: &DataType) -> ArrowError {
    ArrowError::SchemaError(format!("{data_type} is built of other parts"))
}

fn take<T: arrow::datatypes::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    std::mem::take(values).into()
}

/// Converts whole numbers, already checked to fit, to their type.
fn whole(array: Int64Array, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let narrow = matches!(data_type, DataType::Date32 | DataType::Time32(_));
    let array: ArrayRef = Arc::new(array);
    if narrow {
        cast(&cast(&array, &DataType::Int32)?, data_type)
    } else {
        cast(&array, data_type)
    }
}

fn offsets(ends: &[usize]) -> Result<OffsetBuffer<i32>, ArrowError> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    let too_many = |_| ArrowError::OffsetOverflowError(ends.last().copied().unwrap_or(0));
    for end in ends {
        offsets.push(i32::try_from(*end).map_err(too_many)?);
    }
    Ok(OffsetBuffer::new(offsets.into()))
}

fn map(
    ends: &mut Vec<usize>,
    entries: &mut Entries,
    data_type: &DataType,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    let DataType::Map(entry, sorted) = data_type else {
        return Err(mismatch(data_type));
    };
    let DataType::Struct(fields) = entry.data_type() else {
        return Err(mismatch(data_type));
    };
    let mut ends = std::mem::take(ends);
    let columns = vec![entries.keys.finish()?, entries.values.finish()?];
    let columns = entries.without_replaced(columns, &mut ends)?;
    let offsets = offsets(&ends)?;
    let structs = StructArray::try_new(fields.clone(), columns, None)?;
    let map = MapArray::try_new(Arc::clone(entry), offsets, structs, nulls, *sorted)?;
    Ok(Arc::new(map))
}
