//! Decodes JSON objects, one per payload.
//!
//! Each value goes straight from the text to its column; no tree is built in between. The rules:
//!
//! - A missing field is NULL. A field that the schema does not have is ignored.
//! - Names match exactly, or without case where only one field does. If a name comes twice, the last value
//!   counts.
//! - Any value fits a column of text. A value that is not text itself stays as it was written, without
//!   spaces.
//! - Nothing is converted silently: see [`super::value`].

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

/// How deep arrays and objects may be nested.
const DEPTH_MOST: usize = 128;

/// See the module's documentation.
#[derive(Debug)]
pub struct JsonDecoder {
    fields: Fields,
    /// Empty columns; each batch starts from a copy.
    object: Object,
    /// Whether payloads may have the frame of a registry's serializer.
    framed: bool,
    /// Whether payloads may have Kafka Connect's wrapper.
    wrapped: bool,
    /// The column that every payload must have, if there is one.
    required: Option<usize>,
}

impl JsonDecoder {
    /// # Errors
    /// When a field has a type that JSON cannot be decoded to.
    pub fn new(fields: &Fields, framed: bool) -> Result<Self> {
        Ok(Self {
            object: Object::new(fields)?,
            fields: fields.clone(),
            framed,
            wrapped: false,
            required: None,
        })
    }

    /// The same decoder, for payloads that may have Kafka Connect's wrapper.
    pub fn wrapped(self) -> Self {
        Self {
            wrapped: true,
            ..self
        }
    }

    /// A decoder of Debezium's envelopes into some of their columns.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when a column does not belong to an envelope.
    pub fn debezium(columns: &Fields, framed: bool) -> Result<Self> {
        debezium::check(columns)?;
        let renamed = |column: &FieldRef| {
            let name = debezium::field(column.name());
            Arc::new(column.as_ref().clone().with_name(name))
        };
        let mut fields: Vec<FieldRef> = columns.iter().map(renamed).collect();
        // Needed to tell envelopes from other objects, even where the query does not select it.
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

    /// Appends a payload as a row. A wrapper around NULL is a tombstone too.
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
                "not an envelope of Debezium: it has no field 'op'; rows without an envelope have the format \
                 'json'",
            )),
            _ => Ok(()),
        }
    }
}

impl PayloadDecoder for JsonDecoder {
    fn is_json(&self) -> bool {
        true
    }

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

/// The schema id and the JSON in a registry's frame. Frames begin with byte 0, JSON never does; without
/// a frame the result is `None`.
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
