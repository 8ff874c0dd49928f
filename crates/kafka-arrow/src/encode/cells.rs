//! Columns as encoders see them: a few kinds instead of Arrow's many types.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Decimal128Array, Decimal256Array,
    Float32Array, Float64Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, StringViewArray,
    UInt64Array, new_empty_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, DecimalType, Field, Float32Type,
    Float64Type, Int32Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
    UInt64Type, i256,
};

/// A column.
#[derive(Debug)]
pub(super) enum Cells {
    /// The type that has only NULL.
    Null,
    Bool(BooleanArray),
    /// All whole numbers except UInt64.
    Whole(Int64Array),
    Unsigned(UInt64Array),
    Float(Float32Array),
    Double(Float64Array),
    /// Up to 38 digits.
    Decimal(Decimal128Array, i8),
    LongDecimal(Decimal256Array, i8),
    Text(StringViewArray),
    Bytes(BinaryViewArray),
    /// Days since the epoch.
    Date(Int32Array),
    /// Time of day.
    Time(Int64Array, TimeUnit),
    /// Time since the epoch: either an instant, or what a clock shows in no particular zone.
    Timestamp(Int64Array, TimeUnit, Zoned),
    Duration(Int64Array, TimeUnit),
    Interval(IntervalMonthDayNanoArray),
    Struct(Option<NullBuffer>, Vec<Member>),
    List(Ranges, Box<Cells>),
    Map(Ranges, Box<(Cells, Cells)>),
}

/// Whether a timestamp is an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zoned {
    Instant,
    Local,
}

/// A column within a struct.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) cells: Cells,
}

/// Where the items of each row are.
#[derive(Debug)]
pub(super) struct Ranges {
    ends: Vec<usize>,
    nulls: Option<NullBuffer>,
}

impl Ranges {
    fn new<O: Copy>(offsets: &[O], nulls: Option<&NullBuffer>) -> Self
    where
        usize: TryFrom<O>,
    {
        // Arrow's offsets are never negative.
        let end = |offset: &O| usize::try_from(*offset).unwrap_or_default();
        Self {
            ends: offsets.iter().map(end).collect(),
            nulls: nulls.cloned(),
        }
    }

    pub(super) fn of(&self, row: usize) -> std::ops::Range<usize> {
        self.ends[row]..self.ends[row + 1]
    }
}

impl Cells {
    /// # Errors
    /// When no format can write the type.
    pub(super) fn of(array: &ArrayRef) -> Result<Self, String> {
        use DataType as T;
        let unknown = || {
            format!(
                "there is no format for values of the type {}",
                array.data_type()
            )
        };
        let as_type = |to: &T| cast(array, to).map_err(|e| e.to_string());
        let whole = || Ok::<_, String>(as_type(&T::Int64)?.as_primitive::<Int64Type>().clone());
        // Arrow cannot cast 32-bit times to 64 bits in one step.
        let narrow = || {
            let array = cast(&as_type(&T::Int32)?, &T::Int64).map_err(|e| e.to_string())?;
            Ok::<_, String>(array.as_primitive::<Int64Type>().clone())
        };
        Ok(match array.data_type() {
            T::Null => Self::Null,
            T::Boolean => Self::Bool(array.as_boolean().clone()),
            T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 => {
                Self::Whole(whole()?)
            }
            T::UInt64 => Self::Unsigned(array.as_primitive::<UInt64Type>().clone()),
            T::Float16 | T::Float32 => {
                Self::Float(as_type(&T::Float32)?.as_primitive::<Float32Type>().clone())
            }
            T::Float64 => Self::Double(array.as_primitive::<Float64Type>().clone()),
            T::Decimal32(precision, scale)
            | T::Decimal64(precision, scale)
            | T::Decimal128(precision, scale) => {
                let array = as_type(&T::Decimal128(*precision, *scale))?;
                Self::Decimal(array.as_primitive::<Decimal128Type>().clone(), *scale)
            }
            T::Decimal256(_, scale) => {
                Self::LongDecimal(array.as_primitive::<Decimal256Type>().clone(), *scale)
            }
            T::Utf8 | T::LargeUtf8 | T::Utf8View => {
                Self::Text(as_type(&T::Utf8View)?.as_string_view().clone())
            }
            T::FixedSizeBinary(_) => {
                let array = cast(&as_type(&T::Binary)?, &T::BinaryView);
                Self::Bytes(array.map_err(|e| e.to_string())?.as_binary_view().clone())
            }
            T::Binary | T::LargeBinary | T::BinaryView => {
                Self::Bytes(as_type(&T::BinaryView)?.as_binary_view().clone())
            }
            T::Date32 => {
                let days = array.as_primitive::<Date32Type>();
                Self::Date(days.reinterpret_cast::<Int32Type>())
            }
            T::Date64 => {
                let days = as_type(&T::Date32)?;
                let days = days.as_primitive::<Date32Type>();
                Self::Date(days.reinterpret_cast::<Int32Type>())
            }
            T::Time32(unit) => Self::Time(narrow()?, *unit),
            T::Time64(unit) => Self::Time(whole()?, *unit),
            T::Timestamp(unit, zone) => {
                let zoned = match zone {
                    Some(_) => Zoned::Instant,
                    None => Zoned::Local,
                };
                Self::Timestamp(whole()?, *unit, zoned)
            }
            T::Duration(unit) => Self::Duration(whole()?, *unit),
            T::Interval(_) => {
                let array = as_type(&T::Interval(IntervalUnit::MonthDayNano))?;
                Self::Interval(array.as_primitive::<IntervalMonthDayNanoType>().clone())
            }
            T::Dictionary(_, values) => return Self::of(&as_type(values)?),
            T::RunEndEncoded(_, values) => return Self::of(&as_type(values.data_type())?),
            T::Struct(fields) => {
                let array = array.as_struct();
                let members = fields.iter().zip(array.columns()).map(|(field, column)| {
                    Ok::<_, String>(Member {
                        name: field.name().clone(),
                        cells: Self::of(column)?,
                    })
                });
                Self::Struct(array.nulls().cloned(), members.collect::<Result<_, _>>()?)
            }
            T::List(_) => {
                let list = array.as_list::<i32>();
                let ranges = Ranges::new(list.value_offsets(), list.nulls());
                Self::List(ranges, Box::new(Self::of(list.values())?))
            }
            T::LargeList(_) => {
                let list = array.as_list::<i64>();
                let ranges = Ranges::new(list.value_offsets(), list.nulls());
                Self::List(ranges, Box::new(Self::of(list.values())?))
            }
            T::FixedSizeList(item, _) | T::ListView(item) | T::LargeListView(item) => {
                return Self::of(&as_type(&T::LargeList(std::sync::Arc::clone(item)))?);
            }
            T::Map(..) => {
                let map = array.as_map();
                let ranges = Ranges::new(map.value_offsets(), map.nulls());
                let entries = (Self::of(map.keys())?, Self::of(map.values())?);
                Self::Map(ranges, Box::new(entries))
            }
            _ => return Err(unknown()),
        })
    }

    /// Cells of a type without rows, from which a plan can be made.
    ///
    /// # Errors
    /// When no format can write the type.
    pub(super) fn like(of: &DataType) -> Result<Self, String> {
        Self::of(&new_empty_array(of))
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        let lacks = |nulls: &Option<NullBuffer>| nulls.as_ref().is_some_and(|n| n.is_null(row));
        match self {
            Self::Null => true,
            Self::Bool(array) => array.is_null(row),
            Self::Whole(array)
            | Self::Time(array, _)
            | Self::Timestamp(array, ..)
            | Self::Duration(array, _) => array.is_null(row),
            Self::Unsigned(array) => array.is_null(row),
            Self::Float(array) => array.is_null(row),
            Self::Double(array) => array.is_null(row),
            Self::Decimal(array, _) => array.is_null(row),
            Self::LongDecimal(array, _) => array.is_null(row),
            Self::Text(array) => array.is_null(row),
            Self::Bytes(array) => array.is_null(row),
            Self::Date(array) => array.is_null(row),
            Self::Interval(array) => array.is_null(row),
            Self::Struct(nulls, _) => lacks(nulls),
            Self::List(ranges, _) => lacks(&ranges.nulls),
            Self::Map(ranges, _) => lacks(&ranges.nulls),
        }
    }

    /// A whole number.
    pub(super) fn whole(&self, row: usize) -> Option<i128> {
        match self {
            Self::Whole(array) => Some(array.value(row).into()),
            Self::Unsigned(array) => Some(array.value(row).into()),
            _ => None,
        }
    }

    /// The digits and the scale of a decimal or whole number.
    pub(super) fn unscaled(&self, row: usize) -> Option<(i256, i8)> {
        match self {
            Self::Decimal(array, scale) => Some((i256::from_i128(array.value(row)), *scale)),
            Self::LongDecimal(array, scale) => Some((array.value(row), *scale)),
            _ => Some((i256::from_i128(self.whole(row)?), 0)),
        }
    }

    /// A decimal as text, with all digits of its scale.
    pub(super) fn decimal_text(&self, row: usize) -> Option<String> {
        match self {
            Self::Decimal(array, scale) => {
                Some(Decimal128Type::format_decimal(array.value(row), 38, *scale))
            }
            Self::LongDecimal(array, scale) => {
                Some(Decimal256Type::format_decimal(array.value(row), 76, *scale))
            }
            _ => None,
        }
    }

    /// The name of the kind in messages.
    pub(super) fn title(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Bool(_) => "BOOLEAN",
            Self::Whole(_) => "a whole number",
            Self::Unsigned(_) => "a BIGINT UNSIGNED",
            Self::Float(_) => "a REAL",
            Self::Double(_) => "a DOUBLE",
            Self::Decimal(..) | Self::LongDecimal(..) => "a DECIMAL",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Date(_) => "a DATE",
            Self::Time(..) => "a TIME",
            Self::Timestamp(_, _, Zoned::Instant) => "a TIMESTAMP WITH TIME ZONE",
            Self::Timestamp(_, _, Zoned::Local) => "a TIMESTAMP",
            Self::Duration(..) => "a duration",
            Self::Interval(_) => "an INTERVAL",
            Self::Struct(..) => "a STRUCT",
            Self::List(..) => "a list",
            Self::Map(..) => "a map",
        }
    }
}

/// The columns as a struct that is never NULL and has no rows, from which plans are made.
///
/// # Errors
/// When no format can write a column's type. The message names the column.
pub(super) fn like_fields<'a>(
    fields: impl IntoIterator<Item = &'a Field>,
) -> Result<Vec<Member>, String> {
    let each = fields.into_iter().map(|field| {
        Ok(Member {
            name: field.name().clone(),
            cells: Cells::like(field.data_type())
                .map_err(|e| format!("column '{}': {e}", field.name()))?,
        })
    });
    each.collect()
}

/// The number of units in a second.
pub(super) const fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// A time in another unit; `None` when digits would be lost, or the value overflows.
pub(super) fn in_unit(value: i64, from: TimeUnit, to: TimeUnit) -> Option<i64> {
    let (from, to) = (per_second(from), per_second(to));
    match to >= from {
        true => value.checked_mul(to / from),
        false => (value % (from / to) == 0).then_some(value / (from / to)),
    }
}
