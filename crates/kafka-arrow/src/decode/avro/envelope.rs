//! Debezium's envelopes as a reader's schema. Debezium publishes each change of a database row in an
//! envelope: the row before, the row after, and what was done to it.
//!
//! An alias reads the writer's `ts_ms` as `ts`. It is declared as an instant, because a plain number is taken
//! to be in the reader's unit. Beyond the reader's schema, envelopes need no special treatment.

use arrow::datatypes::TimeUnit;

use super::logical::Logical;
use super::schema::{Definition, Primitive, Schema, Type};
use crate::decode::debezium;

/// The schema of an envelope, with the fields that are columns.
///
/// # Errors
/// When the root is not an envelope. The message does not name the schema.
pub(super) fn reader(mut schema: Schema) -> Result<Schema, String> {
    let place = find(&schema)?;
    schema.root = Type::Named(place);
    if let Definition::Record(fields) = &mut schema.named_mut(place).definition {
        let mut known = std::mem::take(fields);
        for column in debezium::COLUMNS {
            let name = debezium::field(column);
            let Some(at) = known.iter().position(|field| field.name == name) else {
                continue;
            };
            let mut field = known.swap_remove(at);
            if column != name {
                field
                    .aliases
                    .push(std::mem::replace(&mut field.name, column.to_owned()));
                instants(&mut field.of);
            }
            fields.push(field);
        }
    }
    Ok(schema)
}

/// Finds the record that has an operation and a row before or after it: the root, or a branch of it.
fn find(schema: &Schema) -> Result<usize, String> {
    let branches = match &schema.root {
        Type::Union(branches) => branches.as_slice(),
        root => std::slice::from_ref(root),
    };
    let envelope = |of: &Type| {
        let (_, fields) = schema.record(of)?;
        let has = |name: &str| fields.iter().any(|field| field.name == name);
        match of {
            Type::Named(place) if has(debezium::OP) && (has("before") || has("after")) => {
                Some(*place)
            }
            _ => None,
        }
    };
    branches.iter().find_map(envelope).ok_or_else(|| {
        format!(
            "is {}, and not an envelope of Debezium: a record with the fields 'op', 'before' and 'after'; rows \
             without an envelope have the format 'avro'",
            schema.title(&schema.root)
        )
    })
}

/// Declares whole numbers as milliseconds since the epoch.
fn instants(of: &mut Type) {
    match of {
        Type::Primitive(Primitive::Long, logical @ None) => {
            *logical = Some(Logical::Timestamp(TimeUnit::Millisecond));
        }
        Type::Union(branches) => branches.iter_mut().for_each(instants),
        _ => {}
    }
}
