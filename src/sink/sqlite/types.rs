//! Arrow's types in SQLite, and the statements that follow from them.
//!
//! SQLite converts values by a column's *affinity*, which it takes from the declared type. A column
//! is accepted if its affinity leaves every value as it is. The table is in `docs/sinks.md`.

use arrow::datatypes::{DataType, Schema};
use jiff::civil::Time;
use jiff::{SignedDuration, ToSpan};
use rusqlite::types::{ToSqlOutput, Value as Owned, ValueRef};

use crate::sink::database::quoted;
use crate::sink::rows::{Lists, Unfit, is_nested};
use crate::sink::value::{Value, date_time, decimal_text, interval_text};

/// How SQLite keeps values of an Arrow type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Nothing,
    Boolean,
    Integer,
    Real,
    /// Text that may look like a number.
    Text,
    /// Text that never does.
    Moment,
    Blob,
}

/// What SQLite makes of values in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

impl Affinity {
    /// SQLite's own rules, in their order.
    pub(super) fn of(declared: &str) -> Self {
        let declared = declared.to_ascii_uppercase();
        let has = |part| declared.contains(part);
        if has("INT") {
            Self::Integer
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Self::Text
        } else if has("BLOB") || declared.is_empty() || declared == "ANY" {
            Self::Blob
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Self::Real
        } else {
            Self::Numeric
        }
    }
}

fn class(data_type: &DataType) -> Class {
    use DataType as T;
    match data_type {
        T::Null => Class::Nothing,
        T::Boolean => Class::Boolean,
        T::Int8 | T::Int16 | T::Int32 | T::Int64 => Class::Integer,
        T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => Class::Integer,
        T::Float16 | T::Float32 | T::Float64 => Class::Real,
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => Class::Blob,
        T::Date32 | T::Date64 | T::Time32(_) | T::Time64(_) | T::Timestamp(_, _) => Class::Moment,
        T::Dictionary(_, value) => class(value),
        T::RunEndEncoded(_, value) => class(value.data_type()),
        nested if is_nested(nested, Lists::Json) => Class::Text,
        _ => Class::Text,
    }
}

/// Whether a column keeps values of the type as they are.
pub(super) fn fits(data_type: &DataType, declared: &str) -> bool {
    use Affinity as A;
    let affinity = Affinity::of(declared);
    match class(data_type) {
        Class::Nothing => true,
        Class::Boolean | Class::Integer => matches!(affinity, A::Integer | A::Numeric | A::Blob),
        Class::Real => matches!(affinity, A::Real | A::Blob),
        Class::Text => matches!(affinity, A::Text) || any(declared),
        Class::Moment => matches!(affinity, A::Text | A::Numeric) || any(declared),
        Class::Blob => matches!(affinity, A::Blob),
    }
}

fn any(declared: &str) -> bool {
    declared.is_empty() || declared.eq_ignore_ascii_case("any")
}

/// The declared types that values of the type go into, for messages.
pub(super) fn accepted(data_type: &DataType) -> &'static str {
    match class(data_type) {
        Class::Nothing => "any type",
        Class::Boolean => "BOOLEAN or INTEGER",
        Class::Integer => "INTEGER or NUMERIC",
        Class::Real => "REAL",
        Class::Text => "TEXT",
        Class::Moment => "TEXT, DATE or DATETIME",
        Class::Blob => "BLOB",
    }
}

fn declared(data_type: &DataType) -> &'static str {
    match class(data_type) {
        Class::Boolean => "BOOLEAN",
        Class::Integer => "INTEGER",
        Class::Real => "REAL",
        Class::Nothing | Class::Text | Class::Moment => "TEXT",
        Class::Blob => "BLOB",
    }
}

/// The names of a query's columns.
pub(super) fn columns(schema: &Schema) -> Vec<String> {
    let fields = schema.fields().iter();
    fields.map(|field| field.name().clone()).collect()
}

/// The statement that creates the target.
pub(super) fn create_table(table: &str, schema: &Schema, key: &[String]) -> String {
    let mut parts: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| {
            let not_null = if key.contains(field.name()) {
                " NOT NULL"
            } else {
                ""
            };
            let name = quoted(field.name());
            format!("{name} {}{not_null}", declared(field.data_type()))
        })
        .collect();
    if !key.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", list(key)));
    }
    format!("CREATE TABLE {} ({})", quoted(table), parts.join(", "))
}

fn list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    names.join(", ")
}

/// The statement that creates the table of staged rows. Without types it keeps values as they are.
pub(super) fn create_stage(stage: &str, columns: usize) -> String {
    let columns: String = (0..columns).map(|column| format!(", c{column}")).collect();
    format!(
        "CREATE TABLE {stage} (p INTEGER, n INTEGER{columns}, PRIMARY KEY (p, n)) WITHOUT ROWID"
    )
}

/// The statement that stages a row.
pub(super) fn insert_staged(stage: &str, columns: usize) -> String {
    let values = vec!["?"; columns + 2].join(", ");
    format!("INSERT INTO {stage} VALUES ({values})")
}

/// The statement that takes the staged rows over.
pub(super) fn insert(stage: &str, table: &str, columns: &[String], key: &[String]) -> String {
    let staged: Vec<String> = (0..columns.len())
        .map(|column| format!("c{column}"))
        .collect();
    let mut sql = format!(
        "INSERT INTO main.{} ({}) SELECT {} FROM {stage} WHERE true ORDER BY p, n",
        quoted(table),
        list(columns),
        staged.join(", ")
    );
    if !key.is_empty() {
        let set: Vec<String> = columns
            .iter()
            .filter(|column| !key.contains(column))
            .map(|column| format!("{0} = excluded.{0}", quoted(column)))
            .collect();
        sql += &format!(" ON CONFLICT ({}) DO ", list(key));
        sql += &if set.is_empty() {
            "NOTHING".to_owned()
        } else {
            format!("UPDATE SET {}", set.join(", "))
        };
    }
    sql
}

/// The error of a NULL in the key of an upsert: it equals nothing, not even itself.
pub(super) fn null_key() -> Unfit {
    Unfit("a value is NULL, and the column belongs to the key of the upsert".to_owned())
}

pub(super) fn is_null(value: &ToSqlOutput<'_>) -> bool {
    matches!(value, ToSqlOutput::Borrowed(ValueRef::Null))
}

/// A value as SQLite keeps it.
///
/// # Errors
/// [`Unfit`] for a number that is none, an integer above 2^63 - 1, a time beyond the years
/// -9999 to 9999.
pub(super) fn value<'a>(value: &Value<'a>) -> Result<ToSqlOutput<'a>, Unfit> {
    let text = |text: String| Ok(ToSqlOutput::Owned(Owned::Text(text)));
    let borrowed = |value| Ok(ToSqlOutput::Borrowed(value));
    let year = |value: &Value<'_>| Unfit::new(value, "is beyond the years -9999 to 9999");
    match *value {
        Value::Null => borrowed(ValueRef::Null),
        Value::Bool(value) => borrowed(ValueRef::Integer(value.into())),
        Value::Int(value) => borrowed(ValueRef::Integer(value)),
        Value::Unsigned(value) => match i64::try_from(value) {
            Ok(value) => borrowed(ValueRef::Integer(value)),
            Err(_) => Err(Unfit::new(
                &value,
                "is above 9223372036854775807, the largest integer of SQLite: cast it to DECIMAL(20, 0) or text",
            )),
        },
        Value::Float32(value) if !value.is_nan() => borrowed(ValueRef::Real(value.into())),
        Value::Float64(value) if !value.is_nan() => borrowed(ValueRef::Real(value)),
        Value::Float32(_) | Value::Float64(_) => Err(Unfit(
            "a value is NaN, which SQLite would keep as NULL: replace it in the query".to_owned(),
        )),
        Value::Decimal(value, scale) => text(decimal_text(value, scale)),
        Value::Text(value) | Value::Json(value) => borrowed(ValueRef::Text(value.as_bytes())),
        Value::Bytes(value) => borrowed(ValueRef::Blob(value)),
        Value::Date(days) => jiff::civil::date(1970, 1, 1)
            .checked_add(SignedDuration::from_hours(0))
            .and_then(|epoch| epoch.checked_add(jiff::Span::new().try_days(days)?))
            .map_err(|_| year(value))
            .and_then(|date| text(date.to_string())),
        Value::Time(nanos) => {
            let time = if (0..86_400_000_000_000).contains(&nanos) {
                Time::midnight().checked_add(nanos.nanoseconds()).ok()
            } else {
                None
            };
            let time = time.ok_or_else(|| Unfit::new(&value, "is no time of a day"))?;
            text(time.to_string())
        }
        Value::Timestamp {
            value: since,
            per_second,
            utc,
        } => {
            let nanos = i128::from(since) * i128::from(1_000_000_000 / per_second);
            let moment = date_time(nanos).ok_or_else(|| year(value))?;
            let digits = per_second.ilog10() as usize;
            let zone = if utc { "Z" } else { "" };
            text(format!("{moment:.digits$}{zone}"))
        }
        Value::Interval {
            months,
            days,
            nanos,
        } => text(interval_text(months, days, nanos)),
        // They are asked for as JSON.
        Value::List(_) => Err(Unfit::new(value, "is a list, which SQLite does not have")),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    fn shown(given: Value<'_>) -> String {
        match value(&given) {
            Ok(ToSqlOutput::Owned(Owned::Text(text))) => text,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn moments_are_iso_texts_that_sort() {
        let timestamp = |value, per_second, utc| {
            shown(Value::Timestamp {
                value,
                per_second,
                utc,
            })
        };
        assert_eq!(timestamp(0, 1, false), "1970-01-01T00:00:00");
        assert_eq!(timestamp(1_500, 1_000, true), "1970-01-01T00:00:01.500Z");
        assert_eq!(
            timestamp(-1, 1_000_000, false),
            "1969-12-31T23:59:59.999999"
        );
        let last = timestamp(253_402_300_799_999, 1_000, true);
        assert_eq!(last, "9999-12-31T23:59:59.999Z");
        assert_eq!(shown(Value::Date(-1)), "1969-12-31");
        assert_eq!(shown(Value::Time(3_600_000_000_001)), "01:00:00.000000001");
        let interval = Value::Interval {
            months: 14,
            days: -3,
            nanos: -1_500_000_000,
        };
        assert_eq!(shown(interval), "P14M-3DT-1.5S");
    }

    #[test]
    fn what_sqlite_cannot_keep_is_an_error() {
        let error = |given: Value<'_>| value(&given).unwrap_err().to_string();
        assert!(
            error(Value::Unsigned(u64::MAX)).starts_with("value 18446744073709551615 is above")
        );
        assert!(error(Value::Float64(f64::NAN)).contains("NaN"));
        assert!(error(Value::Date(i64::MAX)).contains("beyond the years"));
        assert!(error(Value::Time(-1)).contains("no time of a day"));
        let timestamp = Value::Timestamp {
            value: i64::MAX,
            per_second: 1,
            utc: true,
        };
        assert!(error(timestamp).contains("beyond the years"));
    }

    #[test]
    fn affinity_decides_what_fits() {
        assert!(fits(&DataType::Int32, "BIGINT"));
        assert!(!fits(&DataType::Int32, "VARCHAR(20)"));
        assert!(!fits(&DataType::Utf8, "INTEGER"));
        assert!(!fits(&DataType::Decimal128(10, 2), "DECIMAL(10,2)"));
        assert!(!fits(&DataType::Int64, "DOUBLE"));
        let timestamp = DataType::Timestamp(TimeUnit::Millisecond, None);
        assert!(fits(&timestamp, "DATETIME"));
    }
}
