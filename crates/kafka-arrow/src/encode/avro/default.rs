//! Encodes the default of a field, which the schema holds as JSON.

use serde_json::Value;

use super::write::{bytes, long};
use crate::decode::avro::schema::{Definition, Primitive, Schema, Type};

/// Appends a default. The default of a union belongs to its first branch.
///
/// # Errors
/// When it is not a value of the type.
pub(super) fn default_of(
    schema: &Schema,
    of: &Type,
    json: &Value,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let misfit = || format!("{json} is not a value of {}", schema.title(of));
    match of {
        Type::Primitive(primitive, _) => {
            return primitive_default(*primitive, json, out).ok_or_else(misfit);
        }
        Type::Union(branches) => {
            let first = branches.first().ok_or_else(misfit)?;
            long(0, out);
            return default_of(schema, first, json, out);
        }
        Type::Array(items) => {
            let values = json.as_array().ok_or_else(misfit)?;
            if !values.is_empty() {
                long(values.len() as i64, out);
                for value in values {
                    default_of(schema, items, value, out)?;
                }
            }
            out.push(0);
        }
        Type::Map(items) => {
            let entries = json.as_object().ok_or_else(misfit)?;
            if !entries.is_empty() {
                long(entries.len() as i64, out);
                for (key, value) in entries {
                    bytes(key.as_bytes(), out);
                    default_of(schema, items, value, out)?;
                }
            }
            out.push(0);
        }
        Type::Named(place) => match &schema.named(*place).definition {
            Definition::Enum { symbols, .. } => {
                let symbol = json.as_str().ok_or_else(misfit)?;
                let place = symbols.iter().position(|s| s == symbol);
                long(place.ok_or_else(misfit)? as i64, out);
            }
            Definition::Fixed { size, .. } => {
                let value = latin(json).filter(|v| v.len() == *size);
                out.extend(value.ok_or_else(misfit)?);
            }
            Definition::Record(fields) => {
                let given = json.as_object().ok_or_else(misfit)?;
                for field in fields {
                    let value = given.get(&field.name).or(field.default.as_ref());
                    default_of(schema, &field.of, value.ok_or_else(misfit)?, out)?;
                }
            }
        },
    }
    Ok(())
}

fn primitive_default(of: Primitive, json: &Value, out: &mut Vec<u8>) -> Option<()> {
    match of {
        Primitive::Null => return json.is_null().then_some(()),
        Primitive::Boolean => out.push(json.as_bool()?.into()),
        Primitive::Int => long(i32::try_from(json.as_i64()?).ok()?.into(), out),
        Primitive::Long => long(json.as_i64()?, out),
        Primitive::Float => out.extend((json.as_f64()? as f32).to_le_bytes()),
        Primitive::Double => out.extend(json.as_f64()?.to_le_bytes()),
        Primitive::Bytes => bytes(&latin(json)?, out),
        Primitive::String => bytes(json.as_str()?.as_bytes(), out),
    }
    Some(())
}

/// Bytes in JSON are text in which each character stands for one byte.
fn latin(json: &Value) -> Option<Vec<u8>> {
    let text = json.as_str()?;
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).ok())
        .collect()
}
