//! Derives a `.proto` text for columns that have none: one message in which every field may be NULL.

use std::fmt::Write;

use arrow::datatypes::{DataType, Field, FieldRef};

use crate::error::{Error, Result};

/// The text of a file with a message `name`, which includes its package. The fields are these columns,
/// numbered in order.
///
/// # Errors
/// When Protobuf does not allow a column's name or type.
pub fn derived(name: &str, fields: &[FieldRef]) -> Result<String> {
    let (mut imports, mut body) = (Imports::default(), String::new());
    let (package, name) = match name.rsplit_once('.') {
        Some((package, name)) => (Some(package), name),
        None => (None, name),
    };
    let fields = fields.iter().map(AsRef::as_ref);
    message(name, fields, 0, &mut imports, &mut body).map_err(|e| {
        Error::invalid(format!(
            "no Protobuf schema can be made of the columns: {e}"
        ))
    })?;
    let mut text = String::from("syntax = \"proto3\";\n");
    if let Some(package) = package {
        text.push_str(&format!("package {package};\n"));
    }
    for (used, file) in [
        (imports.timestamp, "timestamp"),
        (imports.duration, "duration"),
    ] {
        if used {
            text.push_str(&format!("import \"google/protobuf/{file}.proto\";\n"));
        }
    }
    Ok(text + &body)
}

#[derive(Default)]
struct Imports {
    timestamp: bool,
    duration: bool,
}

fn message<'a>(
    name: &str,
    fields: impl Iterator<Item = &'a Field>,
    depth: usize,
    imports: &mut Imports,
    out: &mut String,
) -> Result<(), String> {
    let indent = "  ".repeat(depth);
    // Writing to a string does not fail.
    let _ = writeln!(out, "{indent}message {name} {{");
    for (place, field) in fields.enumerate() {
        let name = field.name();
        let mut letters = name.chars();
        let begins = letters.next().is_some_and(|c| c.is_ascii_alphabetic());
        if !begins || !letters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!(
                "column '{name}': a name has the letters A to Z, digits and '_' in Protobuf; give it \
                 another with AS"
            ));
        }
        let of = field_type(name, field.data_type(), depth + 1, imports, out)
            .map_err(|e| format!("column '{name}': {e}"))?;
        let _ = writeln!(out, "{indent}  {of} {name} = {};", place + 1);
    }
    let _ = writeln!(out, "{indent}}}");
    Ok(())
}

/// The type with its label.
fn field_type(
    name: &str,
    of: &DataType,
    depth: usize,
    imports: &mut Imports,
    out: &mut String,
) -> Result<String, String> {
    use DataType as T;
    Ok(match of {
        T::List(item)
        | T::LargeList(item)
        | T::FixedSizeList(item, _)
        | T::ListView(item)
        | T::LargeListView(item) => {
            format!(
                "repeated {}",
                single(name, item.data_type(), depth, imports, out)?
            )
        }
        T::Map(entries, _) => match entries.data_type() {
            T::Struct(entry) if entry.len() == 2 => {
                let key = single(name, entry[0].data_type(), depth, imports, out)?;
                let value = single(name, entry[1].data_type(), depth, imports, out)?;
                format!("map<{key}, {value}>")
            }
            _ => return Err("a map without keys and values".to_owned()),
        },
        other => format!("optional {}", single(name, other, depth, imports, out)?),
    })
}

fn single(
    name: &str,
    of: &DataType,
    depth: usize,
    imports: &mut Imports,
    out: &mut String,
) -> Result<String, String> {
    use DataType as T;
    let plain = match of {
        T::Boolean => "bool",
        T::Int8 | T::Int16 | T::Int32 => "int32",
        T::Int64 => "int64",
        T::UInt8 | T::UInt16 | T::UInt32 => "uint32",
        T::UInt64 => "uint64",
        T::Float16 | T::Float32 => "float",
        T::Float64 => "double",
        T::Utf8 | T::LargeUtf8 | T::Utf8View => "string",
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => "bytes",
        T::Timestamp(..) => {
            imports.timestamp = true;
            "google.protobuf.Timestamp"
        }
        T::Duration(_) => {
            imports.duration = true;
            "google.protobuf.Duration"
        }
        T::Dictionary(_, values) => return single(name, values, depth, imports, out),
        T::RunEndEncoded(_, values) => {
            return single(name, values.data_type(), depth, imports, out);
        }
        T::Struct(fields) => {
            // Fields and nested messages of a message share one set of names.
            let inner = format!("{name}_message");
            message(
                &inner,
                fields.iter().map(AsRef::as_ref),
                depth,
                imports,
                out,
            )?;
            return Ok(inner);
        }
        T::Null => return Err("it is nothing but NULL; CAST it to a type".to_owned()),
        other => {
            return Err(format!(
                "Protobuf has no type for {other}; CAST it, for example to VARCHAR"
            ));
        }
    };
    Ok(plain.to_owned())
}
