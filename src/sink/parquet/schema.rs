//! The columns of the files: types that every reader of parquet knows, and how they change.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::parquet::arrow::ArrowSchemaConverter;

use crate::error::{Error, Result};

/// The columns without views and dictionaries, which are Arrow's own; all may be NULL.
pub(super) fn plain(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter();
    let fields: Vec<Field> = fields
        .map(|field| Field::new(field.name(), plain_type(field.data_type()), true))
        .collect();
    Arc::new(Schema::new(fields))
}

fn plain_type(data_type: &DataType) -> DataType {
    let plain_field = |field: &FieldRef| -> FieldRef {
        let field = Field::new(
            field.name(),
            plain_type(field.data_type()),
            field.is_nullable(),
        );
        Arc::new(field)
    };
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type()),
        DataType::List(field) | DataType::ListView(field) => DataType::List(plain_field(field)),
        DataType::LargeList(field) | DataType::LargeListView(field) => {
            DataType::LargeList(plain_field(field))
        }
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(plain_field(field), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(field, sorted) => DataType::Map(plain_field(field), *sorted),
        other => other.clone(),
    }
}

/// Checks that rows of `schema` can be written, and sorted into folders by `partition_by`.
pub(super) fn check(target: &str, schema: &Schema, partition_by: &[String]) -> Result<()> {
    let refused = |message: String| Err(Error::schema(format!("{target}: {message}")));
    for name in partition_by {
        let Ok(field) = schema.field_with_name(name) else {
            let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            return refused(format!(
                "PARTITIONED BY {name}: the query has no such column, it has {}",
                names.join(", ")
            ));
        };
        let data_type = field.data_type();
        let text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8);
        let scalar = data_type.is_primitive() || *data_type == DataType::Boolean || text;
        if !scalar || matches!(data_type, DataType::Interval(_) | DataType::Duration(_)) {
            return refused(format!(
                "PARTITIONED BY {name}: a column of type {data_type} has no text to name folders by"
            ));
        }
    }
    if schema.fields().len() <= partition_by.len() {
        return refused("at least one column must remain in the files".to_owned());
    }
    match ArrowSchemaConverter::new().convert(schema) {
        Ok(_) => Ok(()),
        Err(error) => refused(format!(
            "parquet cannot hold the query's columns: {error}; CAST them to another type"
        )),
    }
}

/// The recorded columns and further ones of a query.
///
/// # Errors
/// [`Error::Schema`] when a column has changed its type.
pub(super) fn merge(target: &str, recorded: &Schema, new: &Schema) -> Result<SchemaRef> {
    let mut fields: Vec<FieldRef> = recorded.fields().iter().cloned().collect();
    for field in new.fields() {
        match recorded.field_with_name(field.name()) {
            Ok(old) if old.data_type() == field.data_type() => {}
            Ok(old) => {
                return Err(Error::schema(format!(
                    "{target}: column '{}' is {} in the files there and {} in the query: CAST it, \
                     or write to another location",
                    field.name(),
                    old.data_type(),
                    field.data_type()
                )));
            }
            Err(_) => fields.push(Arc::clone(field)),
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &[(&str, DataType)]) -> Schema {
        let fields = fields
            .iter()
            .map(|(name, data_type)| Field::new(*name, data_type.clone(), false));
        Schema::new(fields.collect::<Vec<_>>())
    }

    #[test]
    fn views_and_dictionaries_are_written_as_what_they_hold() {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
        let item = Field::new("item", DataType::BinaryView, false);
        let found = plain(&schema(&[
            ("a", dictionary),
            ("b", DataType::List(Arc::new(item))),
        ]));
        assert_eq!(*found.field(0).data_type(), DataType::Utf8);
        let item = Field::new("item", DataType::Binary, false);
        assert_eq!(*found.field(1).data_type(), DataType::List(Arc::new(item)));
    }

    #[test]
    fn columns_may_come_and_go_but_not_change() {
        let old = schema(&[("a", DataType::Int32), ("b", DataType::Utf8)]);
        let new = schema(&[("c", DataType::Utf8), ("a", DataType::Int32)]);
        let merged = merge("t", &old, &new).unwrap();
        let names: Vec<_> = merged.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        let error = merge("t", &old, &schema(&[("a", DataType::Utf8)])).unwrap_err();
        assert!(error.to_string().contains("column 'a' is Int32"), "{error}");
        let by = |name: &str| check("t", &old, &[name.to_owned()]);
        assert!(by("a").is_ok());
        assert!(by("z").unwrap_err().to_string().contains("it has a, b"));
        let only = schema(&[("a", DataType::Int32)]);
        assert!(check("t", &only, &["a".to_owned()]).is_err());
    }
}
