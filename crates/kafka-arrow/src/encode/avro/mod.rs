//! Encodes rows as Avro datums with a given schema.
//!
//! ```text
//! schema, columns ─▶ plan: which cells each type of the schema is written from ─▶ datums
//! ```
//!
//! Columns fill the fields of the schema's record that have the same name. Any other field gets its default,
//! or else NULL where its type allows it.

mod default;
mod derive;
mod plan;
mod write;

use arrow::array::{ArrayRef, BinaryViewArray};
use arrow::datatypes::FieldRef;

use self::plan::{Planner, Write};
use super::cells::{Cells, like_fields};
use super::{Misfit, PayloadEncoder, each_row, frame, members_of};
use crate::decode::avro::canonical::fingerprint;
use crate::decode::avro::schema::Schema;
use crate::error::{Error, Result};

pub use self::derive::derived;

/// What precedes each datum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AvroFrame {
    Plain,
    /// The schema's fingerprint.
    SingleObject,
    /// The schema's id in a registry.
    Registry(i32),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct AvroEncoder {
    write: Write,
    names: Vec<String>,
    frame: Vec<u8>,
}

impl AvroEncoder {
    /// `references` are the names and texts of the schemas that `schema` uses. Each comes after those that it
    /// uses itself.
    ///
    /// # Errors
    /// When the schema cannot be read, is not a record, or does not fit the columns.
    /// When the schema cannot be read, is no record, or does not go together with the columns.
    pub fn new(
        schema: &str,
        references: &[(String, String)],
        fields: &[FieldRef],
        frame_of: AvroFrame,
    ) -> Result<Self> {
        let wrong = |e: String| Error::invalid(format!("the Avro schema: {e}"));
        let schema = Schema::parse(schema, references).map_err(wrong)?;
        let members = like_fields(fields.iter().map(AsRef::as_ref)).map_err(Error::invalid)?;
        if schema.record(&schema.root).is_none() {
            return Err(wrong(format!(
                "is {}, and columns are the fields of a record",
                schema.title(&schema.root)
            )));
        }
        let row = Cells::Struct(None, members);
        let write = Planner::new(&schema)
            .plan(&schema.root, &row)
            .map_err(wrong)?;
        let frame = match frame_of {
            AvroFrame::Plain => Vec::new(),
            AvroFrame::SingleObject => {
                let mut frame = vec![0xc3, 0x01];
                frame.extend(fingerprint(&schema).to_le_bytes());
                frame
            }
            AvroFrame::Registry(id) => frame(id),
        };
        Ok(Self {
            write,
            names: fields.iter().map(|field| field.name().clone()).collect(),
            frame,
        })
    }
}

impl PayloadEncoder for AvroEncoder {
    fn encode(
        &self,
        columns: &[ArrayRef],
        rows: usize,
        absent: &dyn Fn(usize) -> bool,
    ) -> Result<BinaryViewArray, Misfit> {
        let record = Cells::Struct(None, members_of(&self.names, columns)?);
        each_row(rows, absent, |row, out| {
            out.extend_from_slice(&self.frame);
            self.write.value(&record, row, out)
        })
    }

    fn set_id(&mut self, id: i32) {
        self.frame = frame(id);
    }
}
