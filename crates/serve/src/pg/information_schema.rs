//! `information_schema` as clients of PostgreSQL expect it: DataFusion's, with columns in PostgreSQL's types.

use std::sync::Arc;

use arrow_pg::datatypes::field_into_pg_type;
use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Int32Array, StringArray, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProviderList, SchemaProvider};
use datafusion::catalog::{CatalogProviderList, TableProvider};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream;
use pgwire::api::Type;

/// The schema, as clients name it.
pub(super) const NAME: &str = "information_schema";

const COLUMNS: &str = "columns";

/// The schema of one catalog.
#[derive(Debug)]
pub(super) struct InformationSchema {
    catalog: String,
    listed: Arc<dyn CatalogProvider>,
    others: InformationSchemaProvider,
}

impl InformationSchema {
    /// What there is about `listed`, a catalog without an information schema of its own.
    pub(super) fn new(catalog: &str, listed: Arc<dyn CatalogProvider>) -> Self {
        let all = MemoryCatalogProviderList::new();
        all.register_catalog(catalog.to_owned(), Arc::clone(&listed));
        Self {
            catalog: catalog.to_owned(),
            listed,
            others: InformationSchemaProvider::new(Arc::new(all)),
        }
    }
}

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        self.others.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if name != COLUMNS {
            return self.others.table(name).await;
        }
        let columns = Arc::new(Columns {
            catalog: self.catalog.clone(),
            listed: Arc::clone(&self.listed),
            schema: Arc::new(Schema::new(
                FIELDS
                    .map(|(name, of, _)| Field::new(name, of, true))
                    .to_vec(),
            )),
        });
        let table = StreamingTable::try_new(Arc::clone(&columns.schema), vec![columns])?;
        Ok(Some(Arc::new(table)))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.others.table_exist(name)
    }
}

/// The table `columns`.
#[derive(Debug, Clone)]
struct Columns {
    catalog: String,
    listed: Arc<dyn CatalogProvider>,
    schema: SchemaRef,
}

impl PartitionStream for Columns {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let columns = self.clone();
        Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            stream::once(async move { columns.rows().await }),
        ))
    }
}

/// A column of a table.
struct Column {
    schema: String,
    table: String,
    /// Its place, from 1.
    place: i32,
    field: FieldRef,
    /// `None` where PostgreSQL has no type for it.
    of: Option<Type>,
}

impl Columns {
    async fn rows(&self) -> Result<RecordBatch> {
        let mut columns = vec![];
        for schema in self.listed.schema_names() {
            let Some(provider) = self.listed.schema(&schema) else {
                continue;
            };
            for table in provider.table_names() {
                let Some(provider) = provider.table(&table).await? else {
                    continue;
                };
                for (place, field) in (1..).zip(provider.schema().fields()) {
                    columns.push(Column {
                        schema: schema.clone(),
                        table: table.clone(),
                        place,
                        field: Arc::clone(field),
                        of: field_into_pg_type(field).ok(),
                    });
                }
            }
        }
        let fields = FIELDS;
        let arrays = fields.iter().map(|(_, of, value)| match value {
            Value::Catalog => text(&columns, |_| Some(self.catalog.as_str())),
            Value::Text(value) => text(&columns, value),
            Value::Number(value) => {
                let numbers: Int32Array = columns.iter().map(value).collect();
                Arc::new(numbers) as ArrayRef
            }
            Value::Null => new_null_array(of, columns.len()),
        });
        Ok(RecordBatch::try_new(
            Arc::clone(&self.schema),
            arrays.collect(),
        )?)
    }
}

fn text<'a>(columns: &'a [Column], value: impl Fn(&'a Column) -> Option<&'a str>) -> ArrayRef {
    let texts: StringArray = columns.iter().map(value).collect();
    Arc::new(texts)
}

/// What a field of the table has.
enum Value {
    Catalog,
    Text(fn(&Column) -> Option<&str>),
    Number(fn(&Column) -> Option<i32>),
    Null,
}

/// The fields of the table: those of the standard that clients read.
const FIELDS: [(&str, DataType, Value); 18] = {
    use DataType::{Int32, Utf8};
    use Value::{Catalog, Null, Number, Text};
    [
        ("table_catalog", Utf8, Catalog),
        ("table_schema", Utf8, Text(|of| Some(&of.schema))),
        ("table_name", Utf8, Text(|of| Some(&of.table))),
        ("column_name", Utf8, Text(|of| Some(of.field.name()))),
        ("ordinal_position", Int32, Number(|of| Some(of.place))),
        ("column_default", Utf8, Null),
        (
            "is_nullable",
            Utf8,
            Text(|of| Some(if of.field.is_nullable() { "YES" } else { "NO" })),
        ),
        (
            "data_type",
            Utf8,
            Text(|of| Some(of.of.as_ref().map_or("USER-DEFINED", sql_name))),
        ),
        ("character_maximum_length", Int32, Null),
        ("character_octet_length", Int32, Null),
        (
            "numeric_precision",
            Int32,
            Number(|of| precision(of).map(|(digits, ..)| digits)),
        ),
        (
            "numeric_precision_radix",
            Int32,
            Number(|of| precision(of).map(|(_, radix, _)| radix)),
        ),
        ("numeric_scale", Int32, Number(|of| precision(of)?.2)),
        ("datetime_precision", Int32, Number(datetime_precision)),
        ("interval_type", Utf8, Null),
        ("udt_catalog", Utf8, Catalog),
        (
            "udt_schema",
            Utf8,
            Text(|of| of.of.as_ref().map(Type::schema)),
        ),
        ("udt_name", Utf8, Text(|of| of.of.as_ref().map(Type::name))),
    ]
};

/// The name of a type in SQL.
fn sql_name(of: &Type) -> &str {
    match *of {
        Type::BOOL => "boolean",
        Type::CHAR => "\"char\"",
        Type::FLOAT4 => "real",
        Type::FLOAT8 => "double precision",
        Type::INT2 => "smallint",
        Type::INT4 => "integer",
        Type::INT8 => "bigint",
        Type::TIME => "time without time zone",
        Type::TIMESTAMP => "timestamp without time zone",
        Type::TIMESTAMPTZ => "timestamp with time zone",
        // `_int8` is an array of `int8`.
        _ if of.name().starts_with('_') => "ARRAY",
        _ => of.name(),
    }
}

/// The digits of a number, their base, and how many are behind the point, if that is fixed.
fn precision(column: &Column) -> Option<(i32, i32, Option<i32>)> {
    if let DataType::Decimal128(digits, scale) = column.field.data_type() {
        return Some(((*digits).into(), 10, Some((*scale).into())));
    }
    match *column.of.as_ref()? {
        Type::INT2 => Some((16, 2, Some(0))),
        Type::INT4 => Some((32, 2, Some(0))),
        Type::INT8 => Some((64, 2, Some(0))),
        Type::FLOAT4 => Some((24, 2, None)),
        Type::FLOAT8 => Some((53, 2, None)),
        _ => None,
    }
}

fn datetime_precision(column: &Column) -> Option<i32> {
    match *column.of.as_ref()? {
        Type::DATE => Some(0),
        Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::INTERVAL => Some(6),
        _ => None,
    }
}
