//! Values in a form that both readers share: this crate's from Arrow, prost-reflect's from its messages.

use std::fmt;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, DurationMicrosecondType, Float32Type, Float64Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampNanosecondType, UInt32Type, UInt64Type,
};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};

/// A value. Maps are sorted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seen {
    Null,
    Bool(bool),
    Int(i128),
    /// Compared bit by bit.
    Float(u64),
    Text(String),
    Bytes(Vec<u8>),
    Struct(Vec<(String, Seen)>),
    List(Vec<Seen>),
    Map(Vec<(Seen, Seen)>),
}

impl Seen {
    pub(super) fn from_arrow(array: &dyn Array, row: usize) -> Self {
        if array.is_null(row) {
            return Self::Null;
        }
        macro_rules! int {
            ($type:ty) => {
                Self::Int(array.as_primitive::<$type>().value(row).into())
            };
        }
        match array.data_type() {
            DataType::Boolean => Self::Bool(array.as_boolean().value(row)),
            DataType::Int32 => int!(Int32Type),
            DataType::Int64 => int!(Int64Type),
            DataType::UInt32 => int!(UInt32Type),
            DataType::UInt64 => int!(UInt64Type),
            DataType::Float32 => Self::float(array.as_primitive::<Float32Type>().value(row).into()),
            DataType::Float64 => Self::float(array.as_primitive::<Float64Type>().value(row)),
            DataType::Utf8 => Self::Text(array.as_string::<i32>().value(row).to_owned()),
            DataType::Utf8View => Self::Text(array.as_string_view().value(row).to_owned()),
            DataType::Binary => Self::Bytes(array.as_binary::<i32>().value(row).to_vec()),
            DataType::BinaryView => Self::Bytes(array.as_binary_view().value(row).to_vec()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => int!(TimestampMicrosecondType),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => int!(TimestampNanosecondType),
            DataType::Duration(TimeUnit::Microsecond) => int!(DurationMicrosecondType),
            DataType::Struct(fields) => {
                let array = array.as_struct();
                let members = fields.iter().zip(array.columns());
                Self::Struct(
                    members
                        .map(|(f, c)| (f.name().clone(), Self::from_arrow(c, row)))
                        .collect(),
                )
            }
            DataType::List(_) => {
                let items = array.as_list::<i32>().value(row);
                let items = (0..items.len()).map(|i| Self::from_arrow(&items, i));
                Self::List(items.collect())
            }
            DataType::Map(..) => {
                let entries = array.as_map().value(row);
                let entries = (0..entries.len()).map(|i| {
                    let key = Self::from_arrow(entries.column(0), i);
                    (key, Self::from_arrow(entries.column(1), i))
                });
                Self::map(entries.collect())
            }
            other => panic!("{other} is not among the types that are built"),
        }
    }

    /// A message that prost-reflect read, with the mapping to columns applied.
    pub(super) fn from_message(message: &DynamicMessage) -> Self {
        let descriptor = message.descriptor();
        let declared = descriptor.descriptor_proto().field.iter();
        let members = declared.map(|field| {
            let field = descriptor.get_field_by_name(field.name()).unwrap();
            let absent = field.supports_presence() && !message.has_field(&field);
            let value = match &*message.get_field(&field) {
                _ if absent => Self::Null,
                Value::List(items) => {
                    Self::List(items.iter().map(|i| Self::from_value(i, &field)).collect())
                }
                Value::Map(entries) => {
                    let kind = field.kind();
                    let value = kind.as_message().unwrap().map_entry_value_field();
                    let entries = entries.iter().map(|(key, v)| {
                        let key = match key {
                            MapKey::Bool(v) => Self::Bool(*v),
                            MapKey::I32(v) => Self::Int((*v).into()),
                            MapKey::I64(v) => Self::Int((*v).into()),
                            MapKey::U32(v) => Self::Int((*v).into()),
                            MapKey::U64(v) => Self::Int((*v).into()),
                            MapKey::String(v) => Self::Text(v.clone()),
                        };
                        (key, Self::from_value(v, &value))
                    });
                    Self::map(entries.collect())
                }
                value => Self::from_value(value, &field),
            };
            (field.name().to_owned(), value)
        });
        Self::Struct(members.collect())
    }

    fn from_value(value: &Value, field: &FieldDescriptor) -> Self {
        match value {
            Value::Bool(v) => Self::Bool(*v),
            Value::I32(v) => Self::Int((*v).into()),
            Value::I64(v) => Self::Int((*v).into()),
            Value::U32(v) => Self::Int((*v).into()),
            Value::U64(v) => Self::Int((*v).into()),
            Value::F32(v) => Self::float((*v).into()),
            Value::F64(v) => Self::float(*v),
            Value::String(v) => Self::Text(v.clone()),
            Value::Bytes(v) => Self::Bytes(v.to_vec()),
            Value::EnumNumber(v) => {
                let Kind::Enum(names) = field.kind() else {
                    panic!("no enum")
                };
                Self::Text(match names.get_value(*v) {
                    Some(value) => value.name().to_owned(),
                    None => v.to_string(),
                })
            }
            Value::Message(message) => {
                let part = |name| message.get_field_by_name(name).unwrap().into_owned();
                match message.descriptor().full_name() {
                    "google.protobuf.Timestamp" | "google.protobuf.Duration" => {
                        let seconds = part("seconds").as_i64().unwrap();
                        let nanos = part("nanos").as_i32().unwrap();
                        Self::Int(i128::from(seconds) * 1_000_000 + i128::from(nanos / 1000))
                    }
                    name if name.starts_with("google.protobuf.") && name.ends_with("Value") => {
                        let value = message.descriptor().get_field(1).unwrap();
                        Self::from_value(&part("value"), &value)
                    }
                    _ => Self::from_message(message),
                }
            }
            Value::List(_) | Value::Map(_) => panic!("a list in a list"),
        }
    }

    fn float(value: f64) -> Self {
        Self::Float(value.to_bits())
    }

    fn map(mut entries: Vec<(Self, Self)>) -> Self {
        entries.sort();
        Self::Map(entries)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<T>(
            f: &mut fmt::Formatter<'_>,
            items: &[T],
            mut each: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
        ) -> fmt::Result {
            for (i, item) in items.iter().enumerate() {
                f.write_str(if i > 0 { ", " } else { "" })?;
                each(f, item)?;
            }
            Ok(())
        }
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Bool(v) => write!(f, "{v}"),
            Self::Int(v) => write!(f, "{v}"),
            Self::Float(v) => write!(f, "{:?}", f64::from_bits(*v)),
            Self::Text(v) => write!(f, "{v:?}"),
            Self::Bytes(v) => write!(f, "x{v:02x?}"),
            Self::Struct(members) => {
                f.write_str("{")?;
                list(f, members, |f, (name, value)| write!(f, "{name}: {value}"))?;
                f.write_str("}")
            }
            Self::List(items) => {
                f.write_str("[")?;
                list(f, items, |f, item| write!(f, "{item}"))?;
                f.write_str("]")
            }
            Self::Map(entries) => {
                f.write_str("<")?;
                list(f, entries, |f, (key, value)| write!(f, "{key}: {value}"))?;
                f.write_str(">")
            }
        }
    }
}
