//! Encodes rows as Protobuf messages with a given schema.
//!
//! Columns fill the message's fields of the same name. A field without a column is absent. A field without
//! presence (a proto3 scalar without `optional`) cannot represent NULL: readers would see 0 or `''`. So NULL
//! is a misfit there.

mod derive;
mod plan;
mod wire;
mod write;

use arrow::array::{ArrayRef, BinaryViewArray};
use arrow::datatypes::FieldRef;
use prost_reflect::MessageDescriptor;

use self::plan::MessagePlan;
use self::wire::varint;
use super::cells::like_fields;
use super::{Misfit, PayloadEncoder, each_row, frame, members_of};
use crate::decode::ProtobufSchema;
use crate::error::{Error, Result};

pub use self::derive::derived;

/// See the module's documentation.
#[derive(Debug)]
pub struct ProtobufEncoder {
    plan: MessagePlan,
    names: Vec<String>,
    /// Which message of the file it is, as in a registry's frame.
    indexes: Vec<u8>,
    frame: Vec<u8>,
}

impl ProtobufEncoder {
    /// `id` is the schema's id in a registry, where payloads have its frame.
    ///
    /// # Errors
    /// When the columns do not fit the message.
    pub fn new(schema: &ProtobufSchema, fields: &[FieldRef], id: Option<i32>) -> Result<Self> {
        let message = schema.message();
        let wrong = |e: String| {
            Error::invalid(format!(
                "the Protobuf message '{}': {e}",
                message.full_name()
            ))
        };
        let members = like_fields(fields.iter().map(AsRef::as_ref)).map_err(Error::invalid)?;
        let way = indexes(message).ok_or_else(|| wrong("is not in its file".to_owned()))?;
        let mut indexes = Vec::new();
        put_indexes(&way, &mut indexes);
        let mut encoder = Self {
            plan: MessagePlan::new(message, &members).map_err(wrong)?,
            names: fields.iter().map(|field| field.name().clone()).collect(),
            indexes,
            frame: Vec::new(),
        };
        if let Some(id) = id {
            encoder.set_id(id);
        }
        Ok(encoder)
    }
}

impl PayloadEncoder for ProtobufEncoder {
    fn encode(
        &self,
        columns: &[ArrayRef],
        rows: usize,
        absent: &dyn Fn(usize) -> bool,
    ) -> Result<BinaryViewArray, Misfit> {
        let members = members_of(&self.names, columns)?;
        each_row(rows, absent, |row, out| {
            out.extend_from_slice(&self.frame);
            self.plan.write(&members, row, out)
        })
    }

    fn set_id(&mut self, id: i32) {
        self.frame = frame(id);
        self.frame.extend_from_slice(&self.indexes);
    }
}

/// The path of places from the file to a message. Entries of maps do not count, as in Java.
fn indexes(message: &MessageDescriptor) -> Option<Vec<usize>> {
    let Some(parent) = message.parent_message() else {
        let file = message.parent_file();
        let place = file.messages().position(|m| m == *message)?;
        return Some(vec![place]);
    };
    let mut way = indexes(&parent)?;
    let mut siblings = parent.child_messages().filter(|m| !m.is_map_entry());
    way.push(siblings.position(|m| m == *message)?);
    Some(way)
}

/// The count and the indexes as zigzag varints. A single 0 stands for the first message.
fn put_indexes(indexes: &[usize], out: &mut Vec<u8>) {
    if indexes == [0] {
        out.push(0);
        return;
    }
    let all = [indexes.len()].into_iter().chain(indexes.iter().copied());
    for value in all {
        varint((value as u64) << 1, out);
    }
}
