//! A schema's fingerprint: the CRC-64-AVRO of its canonical form. Single-object encoding puts it before each
//! value, to name the schema that the value was written with.

use super::schema::{Definition, Schema, Type};

/// The polynomial of the CRC, and the fingerprint of an empty input.
const EMPTY: u64 = 0xc15d_213a_a4d7_a795;

static TABLE: [u64; 256] = table();

const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut entry = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            entry = (entry >> 1) ^ (EMPTY & 0u64.wrapping_sub(entry & 1));
            bit += 1;
        }
        table[byte] = entry;
        byte += 1;
    }
    table
}

pub(crate) fn fingerprint(schema: &Schema) -> u64 {
    let mut form = String::new();
    write(schema, &schema.root, &mut Vec::new(), &mut form);
    form.bytes().fold(EMPTY, |crc, byte| {
        (crc >> 8) ^ TABLE[usize::from((crc as u8) ^ byte)]
    })
}

/// Writes the parsing canonical form. It defines each named type at its first use, by its full name,
/// and leaves out everything that does not affect reading.
fn write(schema: &Schema, of: &Type, defined: &mut Vec<usize>, out: &mut String) {
    match of {
        Type::Primitive(primitive, _) => quote(primitive.name(), out),
        Type::Array(items) => {
            out.push_str(r#"{"type":"array","items":"#);
            write(schema, items, defined, out);
            out.push('}');
        }
        Type::Map(values) => {
            out.push_str(r#"{"type":"map","values":"#);
            write(schema, values, defined, out);
            out.push('}');
        }
        Type::Union(branches) => {
            out.push('[');
            for (place, branch) in branches.iter().enumerate() {
                separate(place, out);
                write(schema, branch, defined, out);
            }
            out.push(']');
        }
        Type::Named(place) => define(schema, *place, defined, out),
    }
}

fn define(schema: &Schema, place: usize, defined: &mut Vec<usize>, out: &mut String) {
    let named = schema.named(place);
    if defined.contains(&place) {
        return quote(named.name.full(), out);
    }
    defined.push(place);
    out.push_str(r#"{"name":"#);
    quote(named.name.full(), out);
    match &named.definition {
        Definition::Record(fields) => {
            out.push_str(r#","type":"record","fields":["#);
            for (place, field) in fields.iter().enumerate() {
                separate(place, out);
                out.push_str(r#"{"name":"#);
                quote(&field.name, out);
                out.push_str(r#","type":"#);
                write(schema, &field.of, defined, out);
                out.push('}');
            }
            out.push_str("]}");
        }
        Definition::Enum { symbols, .. } => {
            out.push_str(r#","type":"enum","symbols":["#);
            for (place, symbol) in symbols.iter().enumerate() {
                separate(place, out);
                quote(symbol, out);
            }
            out.push_str("]}");
        }
        Definition::Fixed { size, .. } => {
            out.push_str(&format!(r#","type":"fixed","size":{size}}}"#));
        }
    }
}

fn separate(place: usize, out: &mut String) {
    if place > 0 {
        out.push(',');
    }
}

fn quote(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}
