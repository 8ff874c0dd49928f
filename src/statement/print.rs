//! Writes `CREATE EXTERNAL TABLE` for a schema.

use std::borrow::Cow;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion::common::utils::quote_identifier;

use crate::decode::Column;

/// A `CREATE EXTERNAL TABLE` statement for JSON values with these fields. `options` are names and values. If
/// a field has the name of one of Kafka's columns, Kafka's columns get a `metadata.prefix`.
///
/// The statement parses back to the same table. Names appear in it unchanged: before showing it on a
/// terminal, escape them with [`visible`](crate::text::visible).
pub fn create_table(name: &str, topic: &str, fields: &Fields, options: &[(&str, &str)]) -> String {
    let columns = match columns_of(fields).as_slice() {
        [] => String::new(),
        columns => format!(" (\n  {}\n)", columns.join(",\n  ")),
    };
    let quoted = |text: &str| text.replace('\'', "''");
    let prefix = metadata_prefix(fields);
    let prefix = (!prefix.is_empty()).then_some(("metadata.prefix", prefix.as_str()));
    let options: Vec<String> = options
        .iter()
        .copied()
        .chain(prefix)
        .map(|(name, value)| format!("  '{}' '{}'", quoted(name), quoted(value)))
        .collect();
    format!(
        "CREATE EXTERNAL TABLE {}{columns}\nSTORED AS KAFKA LOCATION '{}'\nOPTIONS (\n{}\n)",
        identifier(name),
        quoted(topic),
        options.join(",\n")
    )
}

/// The shortest prefix of underscores that distinguishes Kafka's columns from the fields.
fn metadata_prefix(fields: &Fields) -> String {
    let schema_ids = [Column::KeySchemaId, Column::ValueSchemaId];
    let mut prefix = String::new();
    while Column::ALL.into_iter().chain(schema_ids).any(|column| {
        let name = format!("{prefix}{}", column.name());
        fields.iter().any(|field| *field.name() == name)
    }) {
        prefix.push('_');
    }
    prefix
}

/// Names and types in the syntax of a statement.
pub(crate) fn columns_of(fields: &Fields) -> Vec<String> {
    fields.iter().map(|field| column(field)).collect()
}

fn column(field: &Field) -> String {
    let name = identifier(field.name());
    format!("{name} {}", type_name(field.data_type()))
}

/// A name in SQL. Empty names, and words that begin a constraint, are quoted too.
fn identifier(name: &str) -> Cow<'_, str> {
    match name {
        "" | "check" | "constraint" | "foreign" | "primary" | "unique" => {
            format!("\"{name}\"").into()
        }
        name => quote_identifier(name),
    }
}

/// A type in SQL.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::UInt8 => "TINYINT UNSIGNED".to_owned(),
        DataType::UInt16 => "SMALLINT UNSIGNED".to_owned(),
        DataType::UInt32 => "INT UNSIGNED".to_owned(),
        DataType::UInt64 => "BIGINT UNSIGNED".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("DECIMAL({precision}, {scale})")
        }
        DataType::Date32 => "DATE".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".to_owned(),
        DataType::Timestamp(unit, zone) => {
            let digits = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            };
            let zone = if zone.is_some() {
                " WITH TIME ZONE"
            } else {
                ""
            };
            format!("TIMESTAMP({digits}){zone}")
        }
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary => "BYTEA".to_owned(),
        DataType::List(item) => format!("{}[]", type_name(item.data_type())),
        DataType::Struct(fields) => {
            format!("STRUCT<{}>", columns_of(fields).join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(entry) if entry.len() == 2 => {
                let [key, value] = [&entry[0], &entry[1]].map(|field| type_name(field.data_type()));
                format!("MAP<{key}, {value}>")
            }
            _ => "VARCHAR".to_owned(),
        },
        _ => "VARCHAR".to_owned(),
    }
}
