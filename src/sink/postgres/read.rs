//! Reads a table of PostgreSQL.
//!
//! Types with a counterpart in Arrow come as that; `numeric` with a precision of 76 digits at most is
//! a decimal; arrays are JSON texts; all others are what PostgreSQL prints.

use std::pin::pin;
use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Float32Builder,
    Float64Builder, Int16Builder, Int32Builder, Int64Builder, IntervalMonthDayNanoBuilder,
    RecordBatch, RecordBatchOptions, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Field, IntervalMonthDayNano, IntervalUnit, Schema, SchemaRef, TimeUnit,
};
use bytes::Buf;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use futures::StreamExt;
use tokio::sync::mpsc::Sender;
use tokio_postgres::binary_copy::BinaryCopyOutStream;
use tokio_postgres::types::{FromSql, Kind, Type};

use super::types::{ColumnType, EPOCH_DAYS, EPOCH_MICROS, numeric};
use super::{Address, Target, failure, prepare, quoted};
use crate::error::{Error, External as _, Result};
use crate::sink::database::ReadRows;
use crate::sink::rows::{JSON_TEXT, UUID_TEXT, Unfit};

/// Rows of a record batch.
const BATCH_ROWS: usize = 8_192;

/// Batches that are read ahead of the reader.
const READ_AHEAD: usize = 2;

/// A table of a database.
#[derive(Debug, Clone)]
pub(super) struct PostgresRows {
    address: Address,
    target: String,
    table: String,
    schema: SchemaRef,
    /// What is selected for each column.
    expressions: Vec<String>,
    /// Which columns have texts that the database writes in a form of its own.
    own_forms: Vec<Option<(&'static str, &'static str)>>,
}

impl PostgresRows {
    /// Looks at a table; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Sink`] when the server cannot be asked.
    pub(super) async fn find(target: &Target) -> Result<Option<Self>> {
        let (address, name) = (&target.address, target.name());
        let found = prepare::columns_of(address, &name, &target.sql()).await?;
        let Some((table, columns)) = found else {
            return Ok(None);
        };
        let mut fields = Vec::new();
        let (mut expressions, mut own_forms) = (Vec::new(), Vec::new());
        for column in columns {
            let (data_type, expression) = reading(&column.column.name, &column.column_type);
            fields.push(Field::new(&column.column.name, data_type, true));
            own_forms.push(match column.column_type.wire {
                Type::JSON | Type::JSONB => Some(JSON_TEXT),
                Type::UUID => Some(UUID_TEXT),
                _ => None,
            });
            expressions.push(expression);
        }
        Ok(Some(Self {
            address: address.clone(),
            target: name,
            table,
            schema: Arc::new(Schema::new(fields)),
            expressions,
            own_forms,
        }))
    }

    /// The table with a word in the fields of those columns whose texts have a form of the database's.
    pub(super) fn with_own_forms(mut self) -> Self {
        let fields = self.schema.fields().iter().zip(&self.own_forms);
        let fields = fields.map(|(field, form)| {
            let form = form.map(|(key, value)| (key.to_owned(), value.to_owned()));
            field
                .as_ref()
                .clone()
                .with_metadata(form.into_iter().collect())
        });
        self.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        self
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn stream(
        &self,
        sql: &str,
        schema: &SchemaRef,
        sender: &Sender<datafusion::error::Result<RecordBatch>>,
    ) -> Result<()> {
        let operation = "reading it";
        let failed = |error| failure(&self.target, operation, error);
        let unfit = |error: Unfit| Error::sink(&self.target, operation, error.to_string());
        let client = self.address.connect().await.map_err(failed)?;
        let rows = client.copy_out(sql).await.map_err(failed)?;
        // The values are decoded below, whatever their types.
        let types = vec![Type::BYTEA; schema.fields().len().max(1)];
        let mut rows = pin!(BinaryCopyOutStream::new(rows, &types));
        let mut builders: Vec<Builder> = schema.fields().iter().map(|f| Builder::of(f)).collect();
        let mut count = 0;
        loop {
            let row = rows.next().await.transpose().map_err(failed)?;
            if let Some(row) = &row {
                for (column, builder) in builders.iter_mut().enumerate() {
                    let value: Option<Raw<'_>> = row.try_get(column).map_err(failed)?;
                    let pushed = builder.push(value.map(|raw| raw.0));
                    pushed.map_err(|e| unfit(e.column(schema.field(column).name())))?;
                }
                count += 1;
            }
            let ended = row.is_none();
            if count == BATCH_ROWS || (ended && count > 0) {
                let batch = finish(&mut builders, schema, count);
                count = 0;
                let batch = batch.map_err(|error| unfit(Unfit(error.to_string())))?;
                if sender.send(Ok(batch)).await.is_err() {
                    return Ok(());
                }
            }
            if ended {
                return Ok(());
            }
        }
    }
}

impl ReadRows for PostgresRows {
    fn read(&self, columns: &[usize], limit: Option<usize>) -> SendableRecordBatchStream {
        let fields = columns
            .iter()
            .map(|column| self.schema.field(*column).clone());
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let selected: Vec<&str> = columns
            .iter()
            .map(|column| self.expressions[*column].as_str())
            .collect();
        let selected = if selected.is_empty() {
            "NULL".to_owned()
        } else {
            selected.join(", ")
        };
        let limit = limit.map_or(String::new(), |limit| format!(" LIMIT {limit}"));
        let sql = format!(
            "COPY (SELECT {selected} FROM {}{limit}) TO STDOUT (FORMAT binary)",
            self.table
        );
        let mut stream = RecordBatchReceiverStream::builder(Arc::clone(&schema), READ_AHEAD);
        let (sender, rows) = (stream.tx(), self.clone());
        stream.spawn(async move { rows.stream(&sql, &schema, &sender).await.external() });
        stream.build()
    }
}

/// What a column is read as, and the expression that gives it.
fn reading(name: &str, column: &ColumnType) -> (DataType, String) {
    let micros = TimeUnit::Microsecond;
    let same = quoted(name);
    let data_type = match column.wire {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::BYTEA => DataType::Binary,
        Type::TEXT | Type::VARCHAR => DataType::Utf8,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(micros),
        Type::TIMESTAMP => DataType::Timestamp(micros, None),
        Type::TIMESTAMPTZ => DataType::Timestamp(micros, Some("UTC".into())),
        Type::INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
        Type::NUMERIC => return (decimal_type(column.modifier), format!("{same}::text")),
        _ => {
            let text = match column.wire.kind() {
                Kind::Array(_) => format!("to_json({same})::text"),
                _ => format!("{same}::text"),
            };
            return (DataType::Utf8, text);
        }
    };
    (data_type, same)
}

fn decimal_type(modifier: i32) -> DataType {
    let Some((precision, scale)) = numeric(modifier) else {
        return DataType::Utf8;
    };
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision @ 1..=38), Ok(scale)) if (0..=precision as i8).contains(&scale) => {
            DataType::Decimal128(precision, scale)
        }
        (Ok(precision @ 39..=76), Ok(scale)) if (0..=precision as i8).contains(&scale) => {
            DataType::Decimal256(precision, scale)
        }
        _ => DataType::Utf8,
    }
}

fn finish(
    builders: &mut [Builder],
    schema: &SchemaRef,
    count: usize,
) -> Result<RecordBatch, arrow::error::ArrowError> {
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let columns = builders
        .iter_mut()
        .zip(schema.fields())
        // Decimals were read as texts, and a time zone is not known to a builder.
        .map(|(builder, field)| cast_with_options(&builder.finish(), field.data_type(), &options))
        .collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

/// A value as it came.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

enum Builder {
    Boolean(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Binary(BinaryBuilder),
    Text(StringBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Interval(IntervalMonthDayNanoBuilder),
}

impl Builder {
    fn of(field: &Field) -> Self {
        match field.data_type() {
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int16 => Self::Int16(Int16Builder::new()),
            DataType::Int32 => Self::Int32(Int32Builder::new()),
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::Float32 => Self::Float32(Float32Builder::new()),
            DataType::Float64 => Self::Float64(Float64Builder::new()),
            DataType::Binary => Self::Binary(BinaryBuilder::new()),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Time64(_) => Self::Time(Time64MicrosecondBuilder::new()),
            DataType::Timestamp(_, zone) => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_timezone_opt(zone.clone()))
            }
            DataType::Interval(_) => Self::Interval(IntervalMonthDayNanoBuilder::new()),
            _ => Self::Text(StringBuilder::new()),
        }
    }

    /// Takes a value in its binary form.
    fn push(&mut self, value: Option<&[u8]>) -> Result<(), Unfit> {
        let Some(mut value) = value else {
            self.push_null();
            return Ok(());
        };
        let short = |_| Unfit("a value is shorter than its type".to_owned());
        let infinite = || Unfit("a value is an infinity, which Arrow does not have".to_owned());
        match self {
            Self::Boolean(builder) => builder.append_value(value.try_get_u8().map_err(short)? != 0),
            Self::Int16(builder) => builder.append_value(value.try_get_i16().map_err(short)?),
            Self::Int32(builder) => builder.append_value(value.try_get_i32().map_err(short)?),
            Self::Int64(builder) => builder.append_value(value.try_get_i64().map_err(short)?),
            Self::Float32(builder) => builder.append_value(value.try_get_f32().map_err(short)?),
            Self::Float64(builder) => builder.append_value(value.try_get_f64().map_err(short)?),
            Self::Binary(builder) => builder.append_value(value),
            Self::Text(builder) => {
                let text = std::str::from_utf8(value);
                let text = text.map_err(|_| Unfit("a text is not valid UTF-8".to_owned()))?;
                builder.append_value(text);
            }
            Self::Date(builder) => {
                let days = i64::from(value.try_get_i32().map_err(short)?) + EPOCH_DAYS;
                builder.append_value(i32::try_from(days).map_err(|_| infinite())?);
            }
            Self::Time(builder) => builder.append_value(value.try_get_i64().map_err(short)?),
            Self::Timestamp(builder) => {
                let micros = value.try_get_i64().map_err(short)?;
                if micros == i64::MIN || micros == i64::MAX {
                    return Err(infinite());
                }
                let micros = micros.checked_add(EPOCH_MICROS).ok_or_else(infinite)?;
                builder.append_value(micros);
            }
            Self::Interval(builder) => {
                let micros = value.try_get_i64().map_err(short)?;
                let days = value.try_get_i32().map_err(short)?;
                let months = value.try_get_i32().map_err(short)?;
                let nanos = micros.checked_mul(1_000).ok_or_else(|| {
                    Unfit::new(&micros, "µs is an interval that is too long for Arrow")
                })?;
                builder.append_value(IntervalMonthDayNano::new(months, days, nanos));
            }
        }
        Ok(())
    }

    fn push_null(&mut self) {
        match self {
            Self::Boolean(builder) => builder.append_null(),
            Self::Int16(builder) => builder.append_null(),
            Self::Int32(builder) => builder.append_null(),
            Self::Int64(builder) => builder.append_null(),
            Self::Float32(builder) => builder.append_null(),
            Self::Float64(builder) => builder.append_null(),
            Self::Binary(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Time(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
            Self::Interval(builder) => builder.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        let builder: &mut dyn ArrayBuilder = match self {
            Self::Boolean(builder) => builder,
            Self::Int16(builder) => builder,
            Self::Int32(builder) => builder,
            Self::Int64(builder) => builder,
            Self::Float32(builder) => builder,
            Self::Float64(builder) => builder,
            Self::Binary(builder) => builder,
            Self::Text(builder) => builder,
            Self::Date(builder) => builder,
            Self::Time(builder) => builder,
            Self::Timestamp(builder) => builder,
            Self::Interval(builder) => builder,
        };
        builder.finish()
    }
}
