//! Selects a message's fields by name for the declared columns, which may have wider types.

use arrow::datatypes::{DataType, FieldRef, Fields, TimeUnit};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::error::{Error, Result, nearest_names};

/// A field, and the type declared for it.
pub(super) struct Place<'a> {
    /// The path of names to the field, joined by dots.
    pub(super) column: String,
    pub(super) field: &'a FieldDescriptor,
    pub(super) declared: Option<&'a DataType>,
}

impl Place<'_> {
    /// The column's type: the declared one, if every value of the field's own type fits it.
    ///
    /// # Errors
    /// When the declared type is too narrow.
    /// When it does not.
    pub(super) fn fit(&self, own: DataType) -> Result<DataType> {
        use DataType::{
            Binary, BinaryView, Float32, Float64, Int32, Int64, LargeBinary, LargeUtf8, Timestamp,
            UInt32, UInt64, Utf8, Utf8View,
        };
        let Some(declared) = self.declared else {
            return Ok(own);
        };
        let fits = match (&own, declared) {
            (Int32, Int64 | Float64)
            | (UInt32, UInt64 | Int64)
            | (Float32, Float64)
            | (Utf8, Utf8View | LargeUtf8)
            | (Binary, BinaryView | LargeBinary) => true,
            // Nanoseconds end in 2262; each value is checked for that.
            (Timestamp(..), Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _)) => true,
            (own, declared) => own == declared,
        };
        if fits {
            Ok(declared.clone())
        } else {
            Err(self.misfit(&own))
        }
    }

    /// Reports that the declared type does not fit values of type `own`.
    pub(super) fn misfit(&self, own: &DataType) -> Error {
        let kind = match self.field.kind() {
            Kind::Message(message) if !self.field.is_map() => message.full_name().to_owned(),
            Kind::Message(_) => "a map".to_owned(),
            Kind::Enum(descriptor) => format!("the enum {}", descriptor.full_name()),
            scalar => format!("{scalar:?}"),
        };
        let repeated = if self.field.is_list() {
            "repeated "
        } else {
            ""
        };
        let declared = self.declared.map(sql_type).unwrap_or_default();
        Error::invalid(format!(
            "column '{}': {declared} does not hold every value of the field, which is {repeated}{kind}; \
             declare it as {}",
            self.column,
            sql_type(own)
        ))
    }
}

/// The fields that become columns with their declared types, in the order of the columns.
///
/// Names match exactly, or without case if only one field matches that way.
///
/// # Errors
/// When a declared column is not a field of the message.
pub(super) fn choose<'a>(
    message: &MessageDescriptor,
    fields: &[FieldDescriptor],
    declared: Option<&'a Fields>,
    path: &str,
) -> Result<Vec<(usize, Option<&'a FieldRef>)>> {
    let Some(declared) = declared else {
        return Ok((0..fields.len()).map(|index| (index, None)).collect());
    };
    let mut chosen: Vec<(usize, Option<&FieldRef>)> = Vec::with_capacity(declared.len());
    for column in declared {
        let name = column.name();
        let full = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let exact = fields.iter().position(|f| f.name() == name);
        let index = match exact.or_else(|| only_without_case(fields, name)) {
            Some(index) => index,
            None => {
                let nearest = nearest_names(name, fields.iter().map(|f| f.name()));
                let hint = match nearest.first() {
                    Some(nearest) => format!("did you mean '{nearest}'?"),
                    None => {
                        let names: Vec<_> = fields.iter().map(|f| f.name()).collect();
                        format!("its fields are {}", names.join(", "))
                    }
                };
                return Err(Error::invalid(format!(
                    "column '{full}': message '{}' has no field '{name}'; {hint}",
                    message.full_name()
                )));
            }
        };
        if chosen.iter().any(|(other, _)| *other == index) {
            return Err(Error::invalid(format!(
                "column '{full}': field '{}' of message '{}' is declared twice; leave one out",
                fields[index].name(),
                message.full_name()
            )));
        }
        chosen.push((index, Some(column)));
    }
    Ok(chosen)
}

fn only_without_case(fields: &[FieldDescriptor], name: &str) -> Option<usize> {
    let mut matches = fields
        .iter()
        .enumerate()
        .filter(|(_, f)| f.name().eq_ignore_ascii_case(name));
    let (index, _) = matches.next()?;
    matches.next().is_none().then_some(index)
}

/// The type's name in SQL, where SQL has the type.
fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::UInt32 => "INT UNSIGNED".into(),
        DataType::UInt64 => "BIGINT UNSIGNED".into(),
        DataType::Float32 => "REAL".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTEA".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Timestamp(_, None) => "TIMESTAMP".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE".into(),
        DataType::List(item) => format!("{}[]", sql_type(item.data_type())),
        DataType::Struct(fields) => {
            let members: Vec<_> = fields
                .iter()
                .map(|f| format!("{} {}", f.name(), sql_type(f.data_type())))
                .collect();
            format!("STRUCT<{}>", members.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => format!(
                "MAP<{}, {}>",
                sql_type(fields[0].data_type()),
                sql_type(fields[1].data_type())
            ),
            other => format!("{other}"),
        },
        other => format!("{other}"),
    }
}
