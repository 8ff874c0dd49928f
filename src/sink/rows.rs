//! The rows of a record batch as values that a database can keep, and that a batch and what a target
//! holds of it can be compared by.
//!
//! Arrow's many types come down to few: dictionaries are unpacked, texts and binaries are views,
//! integers have 64 bits, and what a database has no type for is JSON. Nothing is rounded here;
//! [`Unfit`] says which value of which column cannot be kept.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array, make_array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Field, FieldRef,
    Float32Type, Float64Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt64Type, i256,
};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, make_encoder};

use super::value::{NANOS_PER_SECOND, Value};
use crate::text::visible;

/// What a column of texts says in its field's metadata when a database keeps JSON, or UUIDs, in it and
/// gives them back in a form of its own.
pub(crate) const JSON_TEXT: (&str, &str) = ("kafka-sql.text", "json");
pub(crate) const UUID_TEXT: (&str, &str) = ("kafka-sql.text", "uuid");

const MILLIS_PER_DAY: i64 = 86_400_000;

/// Why a value cannot be kept. Made without the column, which [`Unfit::column`] adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfit(pub(crate) String);

impl Unfit {
    /// Says that `value` is not `expected`.
    pub(crate) fn new(value: &impl fmt::Display, expected: &str) -> Self {
        /// Longer values are cut in messages.
        const SHOWN: usize = 60;
        let mut text = value.to_string();
        if let Some((cut, _)) = text.char_indices().nth(SHOWN) {
            text.truncate(cut);
            text.push('…');
        }
        Self(format!("value {} {expected}", visible(&text, &[])))
    }

    /// Names the column.
    pub(crate) fn column(self, name: &str) -> Self {
        Self(format!("column '{name}': {}", self.0))
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

/// What becomes of lists of scalars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lists {
    /// The database has arrays.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    Arrays,
    /// They are JSON.
    Json,
}

/// The rows of a record batch.
#[derive(Debug)]
pub(crate) struct Rows {
    columns: Vec<Column>,
    len: usize,
}

#[derive(Debug)]
struct Column {
    name: String,
    array: ArrayRef,
    /// The texts are JSON.
    json: bool,
    /// The items of all lists.
    items: Option<Box<Column>>,
}

impl Rows {
    /// Prepares a batch.
    ///
    /// # Errors
    /// [`Unfit`] for a value that JSON cannot hold and a type that there is no way for.
    pub(crate) fn new(batch: &RecordBatch, lists: Lists) -> Result<Self, Unfit> {
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns());
        let columns = columns
            .map(|(field, array)| Column::new(field, array, lists))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            columns,
            len: batch.num_rows(),
        })
    }

    /// Checks that there is a way for each type.
    ///
    /// # Errors
    /// [`Unfit`] that names the column.
    pub(crate) fn check(schema: &arrow::datatypes::SchemaRef, lists: Lists) -> Result<(), Unfit> {
        Self::new(&RecordBatch::new_empty(Arc::clone(schema)), lists).map(drop)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The value of a column in a row.
    ///
    /// # Errors
    /// [`Unfit`] for a date that is not a whole day.
    pub(crate) fn value(&self, column: usize, row: usize) -> Result<Value<'_>, Unfit> {
        let column = &self.columns[column];
        column
            .value(row)
            .map_err(|unfit| unfit.column(&column.name))
    }
}

/// Whether values of the type are kept as JSON; `lists` says whether lists of scalars are.
pub(crate) fn is_nested(data_type: &DataType, lists: Lists) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_nested(value, lists),
        DataType::RunEndEncoded(_, value) => is_nested(value.data_type(), lists),
        other => match item_of(other) {
            Some(item) => lists == Lists::Json || is_nested(item.data_type(), Lists::Json),
            None => other.is_nested(),
        },
    }
}

/// The item of a list type.
pub(crate) fn item_of(data_type: &DataType) -> Option<&FieldRef> {
    match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => Some(item),
        _ => None,
    }
}

/// The type that values of a type are brought to before they are read one by one.
fn plain_type(data_type: &DataType) -> DataType {
    use DataType as T;
    match data_type {
        T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16 | T::UInt32 => T::Int64,
        T::Float16 => T::Float32,
        T::Decimal32(precision, scale) | T::Decimal64(precision, scale) => {
            T::Decimal128(*precision, *scale)
        }
        T::Utf8 | T::LargeUtf8 => T::Utf8View,
        T::Binary | T::LargeBinary | T::FixedSizeBinary(_) => T::BinaryView,
        T::Time32(_) | T::Time64(_) => T::Time64(TimeUnit::Nanosecond),
        T::Interval(_) => T::Interval(IntervalUnit::MonthDayNano),
        T::Dictionary(_, value) => plain_type(value),
        T::RunEndEncoded(_, value) => plain_type(value.data_type()),
        other => match item_of(other) {
            Some(item) => T::LargeList(Arc::new(Field::new(
                item.name(),
                item.data_type().clone(),
                true,
            ))),
            None => other.clone(),
        },
    }
}

fn exactly(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(array, to, &options)
}

impl Column {
    fn new(field: &FieldRef, array: &ArrayRef, lists: Lists) -> Result<Self, Unfit> {
        let failed = |error: ArrowError| {
            Unfit(format!("type {}: {error}", field.data_type())).column(field.name())
        };
        if is_nested(field.data_type(), lists) {
            return Ok(Self {
                name: field.name().clone(),
                array: json(field, array)?,
                json: true,
                items: None,
            });
        }
        let array = exactly(array, &plain_type(field.data_type())).map_err(failed)?;
        let items = match array.as_list_opt::<i64>() {
            Some(list) => {
                let item = Arc::new(Field::new(field.name(), list.value_type(), true));
                Some(Box::new(Self::new(&item, list.values(), lists)?))
            }
            None => None,
        };
        Ok(Self {
            name: field.name().clone(),
            array,
            json: false,
            items,
        })
    }

    fn value(&self, row: usize) -> Result<Value<'_>, Unfit> {
        use DataType as T;
        let array = self.array.as_ref();
        if array.is_null(row) {
            return Ok(Value::Null);
        }
        let utc = matches!(array.data_type(), T::Timestamp(_, Some(_)));
        let timestamp = |value, per_second| Value::Timestamp {
            value,
            per_second,
            utc,
        };
        let duration = |value: i64, per_second: i128| Value::Interval {
            months: 0,
            days: 0,
            nanos: i128::from(value) * (NANOS_PER_SECOND / per_second),
        };
        Ok(match array.data_type() {
            T::Null => Value::Null,
            T::Boolean => Value::Bool(array.as_boolean().value(row)),
            T::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(row)),
            T::UInt64 => Value::Unsigned(array.as_primitive::<UInt64Type>().value(row)),
            T::Float32 => Value::Float32(array.as_primitive::<Float32Type>().value(row)),
            T::Float64 => Value::Float64(array.as_primitive::<Float64Type>().value(row)),
            T::Decimal128(_, scale) => {
                let value = array.as_primitive::<Decimal128Type>().value(row);
                Value::Decimal(i256::from_i128(value), *scale)
            }
            T::Decimal256(_, scale) => {
                Value::Decimal(array.as_primitive::<Decimal256Type>().value(row), *scale)
            }
            T::Utf8View if self.json => Value::Json(array.as_string_view().value(row)),
            T::Utf8View => Value::Text(array.as_string_view().value(row)),
            T::BinaryView => Value::Bytes(array.as_binary_view().value(row)),
            T::Date32 => Value::Date(array.as_primitive::<Date32Type>().value(row).into()),
            T::Date64 => {
                let millis = array.as_primitive::<Date64Type>().value(row);
                if millis % MILLIS_PER_DAY != 0 {
                    return Err(Unfit::new(&millis, "ms is a date with a time of day"));
                }
                Value::Date(millis / MILLIS_PER_DAY)
            }
            T::Time64(_) => Value::Time(array.as_primitive::<Time64NanosecondType>().value(row)),
            T::Timestamp(unit, _) => match unit {
                TimeUnit::Second => {
                    timestamp(array.as_primitive::<TimestampSecondType>().value(row), 1)
                }
                TimeUnit::Millisecond => timestamp(
                    array.as_primitive::<TimestampMillisecondType>().value(row),
                    1_000,
                ),
                TimeUnit::Microsecond => timestamp(
                    array.as_primitive::<TimestampMicrosecondType>().value(row),
                    1_000_000,
                ),
                TimeUnit::Nanosecond => timestamp(
                    array.as_primitive::<TimestampNanosecondType>().value(row),
                    1_000_000_000,
                ),
            },
            T::Interval(_) => {
                let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
                Value::Interval {
                    months: value.months,
                    days: value.days,
                    nanos: value.nanoseconds.into(),
                }
            }
            T::Duration(unit) => match unit {
                TimeUnit::Second => {
                    duration(array.as_primitive::<DurationSecondType>().value(row), 1)
                }
                TimeUnit::Millisecond => duration(
                    array.as_primitive::<DurationMillisecondType>().value(row),
                    1_000,
                ),
                TimeUnit::Microsecond => duration(
                    array.as_primitive::<DurationMicrosecondType>().value(row),
                    1_000_000,
                ),
                TimeUnit::Nanosecond => duration(
                    array.as_primitive::<DurationNanosecondType>().value(row),
                    1_000_000_000,
                ),
            },
            other => match (&self.items, array.as_list_opt::<i64>()) {
                (Some(items), Some(list)) => {
                    let offsets = list.value_offsets();
                    // Offsets of an array in memory fit its address space.
                    let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                    Value::List(
                        (from..to)
                            .map(|item| items.value(item))
                            .collect::<Result<_, _>>()?,
                    )
                }
                _ => return Err(Unfit(format!("type {other} has no counterpart"))),
            },
        })
    }
}

/// A column of structs, maps or lists as JSON texts, which have no numbers that are none.
fn json(field: &FieldRef, array: &ArrayRef) -> Result<ArrayRef, Unfit> {
    let failed = |error: ArrowError| {
        Unfit(format!("type {}: {error}", field.data_type())).column(field.name())
    };
    // The encoder would write null.
    if has_not_finite(array) {
        for row in 0..array.len() {
            let index = UInt32Array::from(vec![row as u32]);
            let one = take(array, &index, None).map_err(failed)?;
            if has_not_finite(&one) {
                return Err(Unfit(
                    "a value holds NaN or an infinity, which JSON does not have".to_owned(),
                )
                .column(field.name()));
            }
        }
    }
    let texts: ArrayRef = Arc::new(json_texts(field, array)?);
    exactly(&texts, &DataType::Utf8View).map_err(failed)
}

/// Structs, maps or lists as JSON texts: bytes are hexadecimal, times RFC 3339.
pub(crate) fn json_texts(field: &FieldRef, array: &ArrayRef) -> Result<StringArray, Unfit> {
    let failed = |error: ArrowError| {
        Unfit(format!("type {}: {error}", field.data_type())).column(field.name())
    };
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(field, array, &options).map_err(failed)?;
    let nulls = array.logical_nulls();
    let mut texts = Vec::with_capacity(array.len());
    for row in 0..array.len() {
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            texts.push(None);
            continue;
        }
        let mut text = Vec::new();
        encoder.encode(row, &mut text);
        let text = String::from_utf8(text)
            .map_err(|_| Unfit("a value gives no JSON text".to_owned()).column(field.name()))?;
        texts.push(Some(text));
    }
    Ok(StringArray::from(texts))
}

fn has_not_finite(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Float16 => exactly(array, &DataType::Float32).is_ok_and(|a| has_not_finite(&a)),
        DataType::Float32 => {
            let array = array.as_primitive::<Float32Type>();
            array.iter().flatten().any(|value| !value.is_finite())
        }
        DataType::Float64 => {
            let array = array.as_primitive::<Float64Type>();
            array.iter().flatten().any(|value| !value.is_finite())
        }
        _ => {
            let data = array.to_data();
            let mut children = data.child_data().iter();
            children.any(|child| has_not_finite(&make_array(child.clone())))
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, StructArray, TimestampNanosecondArray};

    use super::*;

    #[test]
    fn infinity_in_a_struct_is_named() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::INFINITY]));
        let field = Arc::new(Field::new("x", DataType::Float64, true));
        let array: ArrayRef = Arc::new(StructArray::from(vec![(field, floats)]));
        let batch =
            |array: &ArrayRef| RecordBatch::try_from_iter([("point", Arc::clone(array))]).unwrap();
        let error = Rows::new(&batch(&array), Lists::Json).unwrap_err();
        assert_eq!(
            error.to_string(),
            "column 'point': a value holds NaN or an infinity, which JSON does not have"
        );
        let finite = array.slice(0, 1);
        let rows = Rows::new(&batch(&finite), Lists::Json).unwrap();
        assert_eq!(rows.value(0, 0).unwrap(), Value::Json("{\"x\":1.0}"));
    }

    #[test]
    fn units_of_timestamps_are_kept() {
        let array: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![5]));
        let batch = RecordBatch::try_from_iter([("t", array)]).unwrap();
        let rows = Rows::new(&batch, Lists::Json).unwrap();
        let expected = Value::Timestamp {
            value: 5,
            per_second: 1_000_000_000,
            utc: false,
        };
        assert_eq!(rows.value(0, 0).unwrap(), expected);
    }
}
