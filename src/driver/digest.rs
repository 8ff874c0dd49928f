//! Rows as a multiset, for comparing what was computed with what is held.
//!
//! A sink keeps values in types of its own: an Int32 as an Int64, a decimal as text, a struct as JSON.
//! So both sides are brought to one form for each column, that of the job's type: [`value`] says which.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;

use super::normal::{json, moment, number, uuid};
use crate::error::{Error, Result, query_error};
use crate::sink::{
    JSON_TEXT, Lists, RowValues, UUID_TEXT, Value, date_time, decimal_text, interval_text,
    is_nested, json_texts,
};

/// How many rows of a difference are shown.
const SHOWN: usize = 5;

/// How the columns of a job are compared, by name.
#[derive(Debug)]
pub(crate) struct Columns(Vec<Compared>);

#[derive(Debug)]
struct Compared {
    /// The job's column.
    field: Field,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Lists, structs and maps on both sides: as Arrow prints them.
    Printed,
    /// They are JSON on one side, or JSON is.
    Json,
    Uuid,
    Scalar,
}

impl Columns {
    /// `job` has the columns that are computed, `held` the same ones as a sink has them.
    pub(crate) fn new(job: &Schema, held: Option<&Schema>) -> Self {
        let mut columns: Vec<Compared> = job
            .fields()
            .iter()
            .map(|field| {
                let held = held.and_then(|held| held.field_with_name(field.name()).ok());
                let says = |(key, form): (&str, &str)| {
                    held.is_some_and(|held| held.metadata().get(key).is_some_and(|f| f == form))
                };
                let nested = is_nested(field.data_type(), Lists::Json);
                let form = if says(JSON_TEXT)
                    || (nested && held.is_some_and(|h| is_text(h.data_type())))
                {
                    Form::Json
                } else if nested {
                    Form::Printed
                } else if says(UUID_TEXT) {
                    Form::Uuid
                } else {
                    Form::Scalar
                };
                Compared {
                    field: field.as_ref().clone(),
                    form,
                }
            })
            .collect();
        columns.sort_by(|a, b| a.field.name().cmp(b.field.name()));
        Self(columns)
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// Rows by their values, with how often each comes.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    columns: &'a Columns,
    counts: HashMap<Vec<String>, u64>,
    total: u64,
}

impl Rows<'_> {
    /// How many rows there are.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// How many rows are not in `other`, and the first of them.
    pub(crate) fn without(&self, other: &Self) -> (u64, Vec<String>) {
        let mut missing = 0;
        let mut examples = vec![];
        for (row, count) in &self.counts {
            let found = other.counts.get(row).copied().unwrap_or(0);
            let lacks = count.saturating_sub(found);
            if lacks > 0 {
                missing += lacks;
                if examples.len() < SHOWN {
                    let columns = self.columns.0.iter().zip(row);
                    let texts = columns.map(|(c, text)| format!("{}: {text}", c.field.name()));
                    examples.push(texts.collect::<Vec<_>>().join(", "));
                }
            }
        }
        examples.sort();
        (missing, examples)
    }
}

/// Reads all rows. The memory grows with the rows that differ from each other.
pub(crate) async fn count_rows(
    mut rows: SendableRecordBatchStream,
    columns: &Columns,
) -> Result<Rows<'_>> {
    let mut counted = Rows {
        columns,
        counts: HashMap::new(),
        total: 0,
    };
    let failed = |message: String| Error::query(message);
    let options = FormatOptions::default();
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(query_error)?;
        let cells = columns.0.iter().map(|column| {
            let name = column.field.name();
            let array = batch
                .column_by_name(name)
                .ok_or_else(|| format!("the rows have no column '{name}'"))?;
            Cells::new(column, array, &options)
        });
        let cells: Vec<Cells<'_>> = cells.collect::<Result<_, _>>().map_err(failed)?;
        for row in 0..batch.num_rows() {
            let texts = cells.iter().map(|cells| cells.text(row));
            let texts: Vec<String> = texts.collect::<Result<_, _>>().map_err(failed)?;
            *counted.counts.entry(texts).or_default() += 1;
            counted.total += 1;
        }
    }
    Ok(counted)
}

/// The values of a column of a batch.
enum Cells<'a> {
    Printed(&'a ArrayRef, ArrayFormatter<'a>),
    Json(StringArray, &'a DataType),
    Scalar(RowValues, &'a Compared, ArrayFormatter<'a>),
}

impl<'a> Cells<'a> {
    fn new(
        column: &'a Compared,
        array: &'a ArrayRef,
        options: &'a FormatOptions<'a>,
    ) -> Result<Self, String> {
        let refused = |e: ArrowError| e.to_string();
        let printed = || ArrayFormatter::try_new(array.as_ref(), options).map_err(refused);
        Ok(match column.form {
            Form::Printed => Self::Printed(array, printed()?),
            Form::Json if is_nested(array.data_type(), Lists::Json) => {
                let field = column
                    .field
                    .clone()
                    .with_data_type(array.data_type().clone());
                let texts = json_texts(&field.into(), array).map_err(|e| e.to_string())?;
                Self::Json(texts, column.field.data_type())
            }
            Form::Json => {
                let texts = arrow::compute::cast(array, &DataType::Utf8).map_err(refused)?;
                Self::Json(texts.as_string::<i32>().clone(), column.field.data_type())
            }
            Form::Uuid | Form::Scalar => {
                let batch =
                    RecordBatch::try_from_iter([(column.field.name(), ArrayRef::clone(array))]);
                let values = RowValues::new(&batch.map_err(refused)?, Lists::Json);
                Self::Scalar(values.map_err(|e| e.to_string())?, column, printed()?)
            }
        })
    }

    fn text(&self, row: usize) -> Result<String, String> {
        Ok(match self {
            Self::Printed(array, _) if array.is_null(row) => NULL.to_owned(),
            Self::Printed(_, printed) => printed.value(row).to_string(),
            Self::Json(texts, _) if texts.is_null(row) => NULL.to_owned(),
            Self::Json(texts, of) => json(texts.value(row), of),
            Self::Scalar(values, column, printed) => match values.value(0, row) {
                Ok(Value::Text(text)) if column.form == Form::Uuid => uuid(text),
                Ok(value) => self::value(&value, column.field.data_type()),
                // What no database takes.
                Err(_) => printed.value(row).to_string(),
            },
        })
    }
}

const NULL: &str = "NULL";

/// A value in the form in which it is compared: numbers without the zeros that change nothing, moments
/// without their unit, and in a column of numbers or moments also texts that say the same.
fn value(value: &Value<'_>, of: &DataType) -> String {
    match value {
        Value::Null => NULL.to_owned(),
        Value::Int(value @ 0..=1) if *of == DataType::Boolean => (*value == 1).to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Unsigned(value) => value.to_string(),
        Value::Float32(value) => float((*value).into()),
        Value::Float64(value) => float(*value),
        Value::Decimal(value, scale) => {
            let text = decimal_text(*value, *scale);
            number(&text).unwrap_or(text)
        }
        Value::Text(text) | Value::Json(text) => self::text(text, of),
        Value::Bytes(bytes) => crate::hex::hex(bytes),
        Value::Date(days) => {
            let day = jiff::civil::date(1970, 1, 1);
            let days = jiff::Span::new().try_days(*days);
            match days.and_then(|days| day.checked_add(days)) {
                Ok(day) => day.to_string(),
                Err(_) => value.to_string(),
            }
        }
        Value::Time(nanos) => {
            let time = jiff::Span::new().try_nanoseconds(*nanos);
            match time.and_then(|time| jiff::civil::Time::midnight().checked_add(time)) {
                Ok(time) => time.to_string(),
                Err(_) => value.to_string(),
            }
        }
        Value::Timestamp {
            value: since,
            per_second,
            utc,
        } => {
            let nanos = i128::from(*since) * i128::from(1_000_000_000 / per_second);
            match date_time(nanos) {
                Some(moment) if *utc => format!("{moment}Z"),
                Some(moment) => moment.to_string(),
                None => format!("{nanos} ns since 1970"),
            }
        }
        Value::Interval {
            months,
            days,
            nanos,
        } => interval_text(*months, *days, *nanos),
        Value::List(_) => value.to_string(),
    }
}

fn float(value: f64) -> String {
    let text = format!("{value:?}");
    number(&text).unwrap_or(text)
}

fn text(text: &str, of: &DataType) -> String {
    match of {
        of if of.is_numeric() => number(text).unwrap_or_else(|| text.to_owned()),
        DataType::Dictionary(_, of) => self::text(text, of),
        DataType::FixedSizeBinary(_) => uuid(text),
        of if of.is_temporal() => moment(text, of).unwrap_or_else(|| text.to_owned()),
        // A text that reads as NULL is none.
        _ if text == NULL || text.starts_with('\'') => format!("'{text}'"),
        _ => text.to_owned(),
    }
}
