//! Default values of a reader's fields, turned from the schema's JSON into the bytes that a writer with
//! the reader's schema would have written. They are then read like any other value.

use serde_json::Value;

use super::schema::{Definition, MAX_DEPTH, Primitive, RecordField, Schema, Type};

/// Appends a field's default.
///
/// # Errors
/// When the field has no default, or one that is not a value of its type.
pub(super) fn write_field(
    schema: &Schema,
    field: &RecordField,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let Some(default) = &field.default else {
        return Err(format!(
            "field '{}' is not in the writer's schema and has no default",
            field.name
        ));
    };
    write(schema, &field.of, default, out, 0)
        .map_err(|e| format!("the default of field '{}': {e}", field.name))
}

fn write(
    schema: &Schema,
    of: &Type,
    json: &Value,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("is nested deeper than {MAX_DEPTH} levels"));
    }
    let misfit = || format!("{json} is no {}", schema.title(of));
    match (of, json) {
        (Type::Primitive(primitive, _), json) => {
            write_primitive(*primitive, json, out).ok_or_else(misfit)?;
        }
        // The first branch that the value fits. Older versions of the specification allow only the first
        // branch of all, which this finds as well.
        (Type::Union(branches), json) => {
            let start = out.len();
            for (place, branch) in branches.iter().enumerate() {
                write_long(place as i64, out);
                if write(schema, branch, json, out, depth + 1).is_ok() {
                    return Ok(());
                }
                out.truncate(start);
            }
            return Err(misfit());
        }
        (Type::Array(items), Value::Array(values)) => {
            if !values.is_empty() {
                write_long(values.len() as i64, out);
                for value in values {
                    write(schema, items, value, out, depth + 1)?;
                }
            }
            write_long(0, out);
        }
        (Type::Map(of), Value::Object(entries)) => {
            if !entries.is_empty() {
                write_long(entries.len() as i64, out);
                for (key, value) in entries {
                    write_bytes(key.as_bytes(), out);
                    write(schema, of, value, out, depth + 1)?;
                }
            }
            write_long(0, out);
        }
        (Type::Named(place), json) => match (&schema.named(*place).definition, json) {
            (Definition::Record(fields), Value::Object(values)) => {
                for field in fields {
                    let value = values.get(&field.name).or(field.default.as_ref());
                    let value =
                        value.ok_or_else(|| format!("{json} has no value for '{}'", field.name))?;
                    write(schema, &field.of, value, out, depth + 1)?;
                }
            }
            (Definition::Enum { symbols, .. }, Value::String(symbol)) => {
                let place = symbols.iter().position(|known| known == symbol);
                write_long(place.ok_or_else(misfit)? as i64, out);
            }
            (Definition::Fixed { size, .. }, Value::String(text)) => {
                let bytes = latin(text).filter(|bytes| bytes.len() == *size);
                out.extend(bytes.ok_or_else(misfit)?);
            }
            _ => return Err(misfit()),
        },
        _ => return Err(misfit()),
    }
    Ok(())
}

/// `None` when the JSON is not a value of this type.
fn write_primitive(primitive: Primitive, json: &Value, out: &mut Vec<u8>) -> Option<()> {
    match primitive {
        Primitive::Null => json.as_null()?,
        Primitive::Boolean => out.push(json.as_bool()?.into()),
        Primitive::Int => write_long(i32::try_from(json.as_i64()?).ok()?.into(), out),
        Primitive::Long => write_long(json.as_i64()?, out),
        Primitive::Float => out.extend((float(json)? as f32).to_le_bytes()),
        Primitive::Double => out.extend(float(json)?.to_le_bytes()),
        Primitive::Bytes => write_bytes(&latin(json.as_str()?)?, out),
        Primitive::String => write_bytes(json.as_str()?.as_bytes(), out),
    }
    Some(())
}

/// JSON has neither NaN nor infinities; Avro's libraries write them as text.
fn float(json: &Value) -> Option<f64> {
    match json {
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" | "INF" => Some(f64::INFINITY),
            "-Infinity" | "-INF" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        json => json.as_f64(),
    }
}

/// A default of type bytes is text in which each character stands for one byte.
fn latin(text: &str) -> Option<Vec<u8>> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).ok())
        .collect()
}

pub(super) fn write_long(value: i64, out: &mut Vec<u8>) {
    let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while raw >= 0x80 {
        out.push((raw as u8) | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_long(bytes.len() as i64, out);
    out.extend(bytes);
}
