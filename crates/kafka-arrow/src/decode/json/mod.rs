//! JSON objects, one a payload.
//!
//! The parser is pulled: each value goes from the text to its column, and nothing is built in between.
//! The rules:
//!
//! - A field that is missing is NULL, one that the schema does not have is passed over.
//! - Names match exactly, else without case where only one does. Of a name that comes twice, the
//!   last value counts.
//! - Any value fits a column of text: what is no text itself stays as it was written, without spaces.
//! - Nothing is converted in silence: see [`super::value`].

mod connect;
mod infer;
mod object;
mod scan;
mod schema;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryViewArray, Int32Builder};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};

use self::object::Object;
use self::scan::Scan;
use super::budget::Budget;
use super::debezium;
use super::payload::{BadPayload, Decoded, PayloadDecoder, Wanted};
use super::value::Fault;
use crate::error::{Error, Result};

pub use connect::unwrapped;
pub use infer::Inference;
pub use schema::schema_fields;

/// How deep arrays and objects may lie within each other.
const DEPTH_MOST: usize = 128;

/// See the module's documentation.
#[derive(Debug)]
pub struct JsonDecoder {
    fields: Fields,
    /// Empty columns, of which each batch has a copy.
    object: Object,
    /// Whether a payload may stand in the frame of a registry's serializer.
    framed: bool,
    /// Whether it may stand in Kafka Connect's wrapper.
    wrapped: bool,
    /// The column that no payload lacks, where there is one.
    required: Option<usize>,
}

impl JsonDecoder {
    /// # Errors
    /// When a field has a type that JSON is not decoded to.
    pub fn new(fields: &Fields, framed: bool) -> Result<Self> {
        Ok(Self {
            object: Object::new(fields)?,
            fields: fields.clone(),
            framed,
            wrapped: false,
            required: None,
        })
    }

    /// The same, for payloads that may stand in Kafka Connect's wrapper.
    pub fn wrapped(self) -> Self {
        Self {
            wrapped: true,
            ..self
        }
    }

    /// Decodes Debezium's envelopes into some of their columns.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when a column is none of an envelope.
    pub fn debezium(columns: &Fields, framed: bool) -> Result<Self> {
        debezium::check(columns)?;
        let renamed = |column: &FieldRef| {
            let name = debezium::field(column.name());
            Arc::new(column.as_ref().clone().with_name(name))
        };
        let mut fields: Vec<FieldRef> = columns.iter().map(renamed).collect();
        // Told from other objects also where nobody asks for it.
        let op = fields.iter().position(|field| field.name() == debezium::OP);
        if op.is_none() {
            fields.push(Arc::new(Field::new(debezium::OP, DataType::Utf8, true)));
        }
        Ok(Self {
            required: op.or(Some(fields.len() - 1)),
            object: Object::new(&fields.into())?,
            fields: columns.clone(),
            framed,
            wrapped: true,
        })
    }

    /// Appends a payload as a row; NULL in a wrapper is a tombstone too.
    fn row(
        &self,
        payload: &[u8],
        row: usize,
        object: &mut Object,
    ) -> std::result::Result<(), Fault> {
        let inner = Some(payload).filter(|_| self.wrapped).and_then(unwrapped);
        if inner.is_some_and(|inner| inner == b"null") {
            object.null_row();
            return Ok(());
        }
        one(inner.unwrap_or(payload), object)?;
        match self.required {
            Some(column) if object.is_null(column, row) => Err(Fault::new(
                "type",
                "no envelope of Debezium: it has no field 'op'; rows without an envelope have the format \
                 'json'",
            )),
            _ => Ok(()),
        }
    }
}

impl PayloadDecoder for JsonDecoder {
    fn fields(&self) -> &Fields {
        &self.fields
    }

    fn decode(&self, payloads: &BinaryViewArray, wanted: &Wanted<'_>) -> Result<Decoded> {
        let mut object = self.object.clone();
        if !wanted.check_all {
            object.keep_only(wanted.fields, self.required);
        }
        let mut bad = vec![];
        let mut ids = wanted.schema_ids.then(Int32Builder::new);
        for (row, payload) in payloads.iter().enumerate() {
            let framed = payload.filter(|_| self.framed).and_then(unframed);
            if let Some(ids) = &mut ids {
                ids.append_option(framed.map(|(id, _)| id));
            }
            let payload = framed.map(|(_, json)| json).or(payload);
            let outcome = match payload {
                Some(payload) => self.row(payload, row, &mut object),
                None => {
                    object.null_row();
                    continue;
                }
            };
            if let Err(Fault { class, message }) = outcome {
                object.truncate(row);
                object.null_row();
                bad.push(BadPayload {
                    schema_id: framed.map(|(id, _)| id),
                    ..BadPayload::new(row, class, message)
                });
            }
        }
        let columns = wanted
            .fields
            .iter()
            .map(|index| object.finish(*index))
            .collect::<Result<Vec<ArrayRef>, _>>()
            .map_err(|e| {
                Error::internal(format!("JSON does not fit into a batch: {e}")).because(e)
            })?;
        Ok(Decoded {
            columns,
            bad,
            schema_ids: ids.map(|mut ids| ids.finish()),
        })
    }
}

/// The id and the JSON of a payload in a registry's frame; one that does not begin with byte 0 has
/// none, and no JSON does.
pub fn unframed(payload: &[u8]) -> Option<(i32, &[u8])> {
    match payload {
        [0, a, b, c, d, json @ ..] => Some((i32::from_be_bytes([*a, *b, *c, *d]), json)),
        _ => None,
    }
}

fn one(payload: &[u8], object: &mut Object) -> std::result::Result<(), Fault> {
    if payload.is_empty() {
        return Err(Fault::new(
            "empty",
            "the payload has no bytes; JSON has at least two",
        ));
    }
    let mut parser = Scan::new(payload);
    let first = parser.peek()?;
    if first != jiter::Peek::Object {
        let found = text::kind(first);
        return Err(Fault::new(
            "type",
            format!("expected a JSON object, found {found}"),
        ));
    }
    object.take(&mut parser, &Budget::of(payload.len()))?;
    parser.finish()
}
