//! Columns of the type `MAP<K, V>`, which DataFusion's planner does not know.
//!
//! The planner sees structs whose two members have reserved names. Afterwards these become maps again.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::common::{ToDFSchema, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, DataType as SqlType, Ident, StructBracketKind, StructField,
};

const KEY: &str = "\0key";
const VALUE: &str = "\0value";

/// Turns the maps among the columns of a `CREATE EXTERNAL TABLE` into structs.
///
/// # Errors
/// When a field of a struct has no name, because nothing could ever match it.
pub(super) fn hide(statement: &mut Statement) -> Result<()> {
    match statement {
        Statement::CreateExternalTable(create) => {
            let mut columns = create.columns.iter_mut();
            columns.try_for_each(|column| hide_in(&mut column.data_type))
        }
        _ => Ok(()),
    }
}

fn hide_in(of: &mut SqlType) -> Result<()> {
    match of {
        SqlType::Map(key, value) => {
            hide_in(key)?;
            hide_in(value)?;
            let member = |name: &str, of: &SqlType| StructField {
                field_name: Some(Ident::with_quote('"', name)),
                field_type: of.clone(),
                options: None,
            };
            let members = vec![member(KEY, key), member(VALUE, value)];
            *of = SqlType::Struct(members, StructBracketKind::AngleBrackets);
        }
        SqlType::Struct(fields, _) => {
            for field in fields {
                if field.field_name.is_none() {
                    return plan_err!(
                        "a field of a STRUCT is written with its name, and {} has none: STRUCT<a INT, b VARCHAR>",
                        field.field_type
                    );
                }
                hide_in(&mut field.field_type)?;
            }
        }
        SqlType::Array(
            ArrayElemTypeDef::AngleBracket(item)
            | ArrayElemTypeDef::SquareBracket(item, _)
            | ArrayElemTypeDef::Parenthesis(item),
        ) => hide_in(item)?,
        _ => {}
    }
    Ok(())
}

/// Turns those structs back into maps.
///
/// # Errors
/// Those of DataFusion's schemas.
pub(super) fn restore(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(mut create)) => {
            let schema = create.schema.as_arrow();
            let fields: Fields = schema.fields().iter().map(restored).collect();
            if fields != *schema.fields() {
                let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
                create.schema = schema.to_dfschema_ref()?;
            }
            Ok(LogicalPlan::Ddl(DdlStatement::CreateExternalTable(create)))
        }
        other => Ok(other),
    }
}

fn restored(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::List(item) => DataType::List(restored(item)),
        DataType::Struct(fields) => match fields.as_ref() {
            [key, value] if key.name() == KEY && value.name() == VALUE => {
                let (key, value) = (restored(key), restored(value));
                // `column['key']` compares with the type that text literals have.
                let key = match key.data_type() {
                    DataType::Utf8View => DataType::Utf8,
                    other => other.clone(),
                };
                let entry = Fields::from(vec![
                    Field::new("key", key, false),
                    Field::new("value", value.data_type().clone(), true),
                ]);
                let entries = Field::new("entries", DataType::Struct(entry), false);
                DataType::Map(Arc::new(entries), false)
            }
            _ => DataType::Struct(fields.iter().map(restored).collect()),
        },
        _ => return Arc::clone(field),
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}
