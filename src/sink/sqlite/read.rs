//! Reads a table of a SQLite file.
//!
//! Columns declared BOOLEAN are booleans, those with the affinities INTEGER, REAL and BLOB are
//! Int64, Float64 and Binary, all others are text. A value of another kind, which SQLite allows, is
//! an error.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder,
    RecordBatch, RecordBatchOptions, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::prepare::{find_table, table_columns};
use super::types::Affinity;
use super::{BUSY_TIMEOUT, failure};
use crate::error::{External as _, Result};
use crate::sink::database::{ReadRows, quoted};
use crate::sink::rows::Unfit;

/// Rows of a record batch.
const BATCH_ROWS: usize = 8_192;

/// Batches that are read ahead of the reader.
const READ_AHEAD: usize = 2;

/// A table of a file.
#[derive(Debug, Clone)]
pub(super) struct SqliteRows {
    path: PathBuf,
    table: String,
    schema: SchemaRef,
}

impl SqliteRows {
    /// Looks at a table; `None` if there is no such file or table. Blocks.
    ///
    /// # Errors
    /// [`Error::Sink`](crate::Error::Sink) when the file cannot be read.
    pub(super) fn find(path: &Path, table: &str) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let target = format!("sqlite:{}#{table}", path.display());
        let failed = |error| failure(&target, "reading its columns".to_owned(), error);
        let connection = connect(path).map_err(failed)?;
        let Some(table) = find_table(&connection, table).map_err(failed)? else {
            return Ok(None);
        };
        let columns = table_columns(&connection, &table).map_err(failed)?;
        let fields: Vec<Field> = columns
            .iter()
            .map(|column| Field::new(&column.name, read_type(&column.type_name), true))
            .collect();
        Ok(Some(Self {
            path: path.to_owned(),
            table,
            schema: Arc::new(Schema::new(fields)),
        }))
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The number of a column.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        let mut fields = self.schema.fields().iter();
        fields.position(|field| field.name().eq_ignore_ascii_case(name))
    }

    fn stream(
        &self,
        sql: &str,
        schema: &SchemaRef,
        mut send: impl FnMut(RecordBatch) -> bool,
    ) -> Result<()> {
        let target = format!("sqlite:{}#{}", self.path.display(), self.table);
        let failed = |error| failure(&target, "reading it".to_owned(), error);
        let unfit = |error: Unfit| crate::Error::sink(&target, "reading it", error.to_string());
        let built = |error: arrow::error::ArrowError| unfit(Unfit(error.to_string()));
        let connection = connect(&self.path).map_err(failed)?;
        let mut statement = connection.prepare(sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut builders: Vec<Builder> = schema.fields().iter().map(|f| Builder::of(f)).collect();
        let mut count = 0;
        loop {
            let row = rows.next().map_err(failed)?;
            if let Some(row) = row {
                for (column, builder) in builders.iter_mut().enumerate() {
                    let value = row.get_ref(column).map_err(failed)?;
                    builder
                        .push(value)
                        .map_err(|e| unfit(e.column(schema.field(column).name())))?;
                }
                count += 1;
            }
            let ended = row.is_none();
            if count == BATCH_ROWS || (ended && count > 0) {
                let columns = builders.iter_mut().map(Builder::finish).collect();
                let options = RecordBatchOptions::new().with_row_count(Some(count));
                let batch =
                    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
                        .map_err(built)?;
                count = 0;
                if !send(batch) {
                    return Ok(());
                }
            }
            if ended {
                return Ok(());
            }
        }
    }
}

impl ReadRows for SqliteRows {
    fn read(&self, columns: &[usize], limit: Option<usize>) -> SendableRecordBatchStream {
        let fields = columns
            .iter()
            .map(|column| self.schema.field(*column).clone());
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let names: Vec<String> = schema.fields().iter().map(|f| quoted(f.name())).collect();
        let names = if names.is_empty() {
            "1".to_owned()
        } else {
            names.join(", ")
        };
        let mut sql = format!("SELECT {names} FROM main.{}", quoted(&self.table));
        if let Some(limit) = limit {
            sql += &format!(" LIMIT {limit}");
        }
        let mut stream = RecordBatchReceiverStream::builder(Arc::clone(&schema), READ_AHEAD);
        let (sender, rows) = (stream.tx(), self.clone());
        stream.spawn_blocking(move || {
            rows.stream(&sql, &schema, |batch| {
                sender.blocking_send(Ok(batch)).is_ok()
            })
            .external()?;
            Ok(())
        });
        stream.build()
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

fn read_type(declared: &str) -> DataType {
    if declared.eq_ignore_ascii_case("boolean") || declared.eq_ignore_ascii_case("bool") {
        return DataType::Boolean;
    }
    match Affinity::of(declared) {
        Affinity::Integer => DataType::Int64,
        Affinity::Real => DataType::Float64,
        Affinity::Blob if declared.to_ascii_uppercase().contains("BLOB") => DataType::Binary,
        Affinity::Blob | Affinity::Text | Affinity::Numeric => DataType::Utf8,
    }
}

enum Builder {
    Boolean(BooleanBuilder),
    Integer(Int64Builder),
    Real(Float64Builder),
    Blob(BinaryBuilder),
    Text(StringBuilder),
}

impl Builder {
    fn of(field: &Field) -> Self {
        match field.data_type() {
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int64 => Self::Integer(Int64Builder::new()),
            DataType::Float64 => Self::Real(Float64Builder::new()),
            DataType::Binary => Self::Blob(BinaryBuilder::new()),
            _ => Self::Text(StringBuilder::new()),
        }
    }

    fn push(&mut self, value: ValueRef<'_>) -> Result<(), Unfit> {
        use ValueRef as V;
        let text = |bytes| {
            std::str::from_utf8(bytes).map_err(|_| Unfit("a text is not valid UTF-8".to_owned()))
        };
        match (&mut *self, value) {
            (Self::Boolean(builder), V::Null) => builder.append_null(),
            (Self::Integer(builder), V::Null) => builder.append_null(),
            (Self::Real(builder), V::Null) => builder.append_null(),
            (Self::Blob(builder), V::Null) => builder.append_null(),
            (Self::Text(builder), V::Null) => builder.append_null(),
            (Self::Boolean(builder), V::Integer(value @ 0..=1)) => builder.append_value(value == 1),
            (Self::Integer(builder), V::Integer(value)) => builder.append_value(value),
            (Self::Real(builder), V::Real(value)) => builder.append_value(value),
            (Self::Blob(builder), V::Blob(value)) => builder.append_value(value),
            (Self::Text(builder), V::Text(value)) => builder.append_value(text(value)?),
            (Self::Text(builder), V::Integer(value)) => builder.append_value(value.to_string()),
            (Self::Text(builder), V::Real(value)) => builder.append_value(value.to_string()),
            (_, other) => {
                let expected = self.expected();
                return Err(Unfit(format!(
                    "a row holds {}, and the column is read as {expected}",
                    other.data_type()
                )));
            }
        }
        Ok(())
    }

    fn expected(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "boolean (0 or 1)",
            Self::Integer(_) => "integer",
            Self::Real(_) => "real",
            Self::Blob(_) => "blob",
            Self::Text(_) => "text",
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Boolean(builder) => ArrayBuilder::finish(builder),
            Self::Integer(builder) => ArrayBuilder::finish(builder),
            Self::Real(builder) => ArrayBuilder::finish(builder),
            Self::Blob(builder) => ArrayBuilder::finish(builder),
            Self::Text(builder) => ArrayBuilder::finish(builder),
        }
    }
}
