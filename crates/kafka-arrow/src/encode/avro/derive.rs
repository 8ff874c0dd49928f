//! Derives a schema for columns that have none: a record in which every field may be NULL.

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, TimeUnit};
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// The schema, as JSON, of a record `name` with these columns. Each field is a union of null, which is the
/// default, and a type. This allows columns to be added and removed later.
///
/// # Errors
/// When Avro does not allow a column's name or type.
pub fn derived(name: &str, fields: &[FieldRef]) -> Result<String> {
    let record = record(name, &fields.iter().cloned().collect())
        .map_err(|e| Error::invalid(format!("no Avro schema can be made of the columns: {e}")))?;
    Ok(record.to_string())
}

fn record(name: &str, fields: &Fields) -> Result<Value, String> {
    let fields: Result<Vec<Value>, String> = fields.iter().map(|f| field(name, f)).collect();
    Ok(json!({ "type": "record", "name": name, "fields": fields? }))
}

fn field(record: &str, field: &Field) -> Result<Value, String> {
    let name = field.name();
    let mut letters = name.chars();
    let begins = letters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !begins || !letters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!(
            "column '{name}': a name has the letters A to Z, digits and '_' in Avro; give it another with AS"
        ));
    }
    // Named types need unique names, so each is named after its path.
    let last = record.rsplit('.').next().unwrap_or(record);
    let of = optional(&format!("{last}_{name}"), field.data_type())
        .map_err(|e| format!("column '{name}': {e}"))?;
    Ok(json!({ "name": name, "type": of, "default": null }))
}

fn optional(name: &str, of: &DataType) -> Result<Value, String> {
    Ok(json!(["null", type_of(name, of)?]))
}

fn type_of(name: &str, of: &DataType) -> Result<Value, String> {
    use DataType as T;
    let logical = |of: &str, logical: &str| json!({ "type": of, "logicalType": logical });
    let decimal = |precision: u8, scale: i8| json!({ "type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale });
    Ok(match of {
        T::Boolean => json!("boolean"),
        T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16 => json!("int"),
        T::Int64 | T::UInt32 => json!("long"),
        // No long holds all values.
        T::UInt64 => decimal(20, 0),
        T::Float16 | T::Float32 => json!("float"),
        T::Float64 => json!("double"),
        T::Decimal32(precision, scale)
        | T::Decimal64(precision, scale)
        | T::Decimal128(precision, scale)
        | T::Decimal256(precision, scale)
            if *scale >= 0 && i16::from(*scale) <= i16::from(*precision) =>
        {
            decimal(*precision, *scale)
        }
        T::Utf8 | T::LargeUtf8 | T::Utf8View => json!("string"),
        T::Binary | T::LargeBinary | T::BinaryView => json!("bytes"),
        T::FixedSizeBinary(size) => json!({ "type": "fixed", "name": name, "size": size }),
        T::Date32 | T::Date64 => logical("int", "date"),
        T::Time32(_) => logical("int", "time-millis"),
        T::Time64(_) => logical("long", "time-micros"),
        T::Timestamp(unit, zone) => {
            let unit = match unit {
                TimeUnit::Second | TimeUnit::Millisecond => "millis",
                TimeUnit::Microsecond => "micros",
                TimeUnit::Nanosecond => "nanos",
            };
            let local = if zone.is_some() { "" } else { "local-" };
            logical("long", &format!("{local}timestamp-{unit}"))
        }
        T::Interval(
            IntervalUnit::MonthDayNano | IntervalUnit::DayTime | IntervalUnit::YearMonth,
        ) => {
            json!({ "type": "fixed", "name": name, "size": 12, "logicalType": "duration" })
        }
        T::List(item)
        | T::LargeList(item)
        | T::FixedSizeList(item, _)
        | T::ListView(item)
        | T::LargeListView(item) => {
            json!({ "type": "array", "items": optional(&format!("{name}_item"), item.data_type())? })
        }
        T::Map(entries, _) => match entries.data_type() {
            T::Struct(entry) if entry.len() == 2 => {
                json!({ "type": "map", "values": optional(&format!("{name}_value"), entry[1].data_type())? })
            }
            _ => return Err("a map without keys and values".to_owned()),
        },
        T::Struct(fields) => record(name, fields)?,
        T::Dictionary(_, values) => return type_of(name, values),
        T::RunEndEncoded(_, values) => return type_of(name, values.data_type()),
        T::Null => return Err("it is nothing but NULL; CAST it to a type".to_owned()),
        other => return Err(format!("Avro has no type for {other}; CAST it")),
    })
}
