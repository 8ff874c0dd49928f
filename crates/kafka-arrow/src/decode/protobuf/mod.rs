//! Protobuf payloads: a message's fields become columns.
//!
//! ```text
//! files ─▶ schema: the message's type ─▶ plan: its columns, fixed
//! payload ─▶ frame: is it that type? ─▶ wire bytes ─▶ columns, field by field
//! ```
//!
//! prost-reflect supplies the descriptors. This module reads the bytes straight into columns, without
//! intermediate values.

mod builtin;
mod columns;
mod declared;
mod frame;
mod plan;
mod planner;
mod readable;
mod schema;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{Array, BinaryViewArray, Int32Array, Int32Builder};
use arrow::datatypes::Fields;
use async_trait::async_trait;

use self::columns::{Checked, Column, Message};
use self::frame::{Opener, Writers};
use self::plan::MessagePlan;
use super::payload::{BadPayload, Decoded, PayloadDecoder, Wanted};
use super::proto_files::{Framing, ProtoFiles, ProtobufOptions};
use super::registry::WriterSchemas;
use crate::error::Result;

pub use self::schema::{ProtobufSchema, imports};

/// Decodes messages of one type.
#[derive(Debug)]
pub struct ProtobufDecoder {
    plan: Arc<MessagePlan>,
    /// `None` where payloads have no frame.
    writers: Option<Writers>,
}

impl ProtobufDecoder {
    /// Fixes the columns.
    ///
    /// # Errors
    /// When the message cannot become columns, or does not fit the declared ones.
    pub fn new(options: ProtobufOptions<'_>) -> Result<Self> {
        let plan = planner::plan(options.schema.message(), options.declared)?;
        let writers = match options.framing {
            Framing::Plain => None,
            Framing::Registry(source) => Some(Writers::new(source, options.schema.full_name())),
        };
        Ok(Self { plan, writers })
    }

    /// A column of whole messages that keeps only the wanted fields.
    fn message(&self, wanted: &Wanted<'_>, rows: usize) -> Message {
        let mut kept = vec![false; self.plan.fields.len()];
        for field in wanted.fields {
            kept[self.plan.columns[*field]] = true;
        }
        Message::new(&self.plan, None, |index| {
            let field = &self.plan.fields[index];
            if kept[index] {
                field.column(rows)
            } else if wanted.check_all {
                let inner = field.column(1)?;
                Some(Box::new(Checked { inner }) as Box<dyn Column>)
            } else {
                None
            }
        })
    }
}

#[async_trait]
impl PayloadDecoder for ProtobufDecoder {
    fn fields(&self) -> &Fields {
        &self.plan.arrow
    }

    async fn prepare(&self, payloads: &BinaryViewArray) -> Result<()> {
        match &self.writers {
            Some(writers) => writers.prepare(payloads).await,
            None => Ok(()),
        }
    }

    fn decode(&self, payloads: &BinaryViewArray, wanted: &Wanted<'_>) -> Result<Decoded> {
        let rows = payloads.len();
        let mut messages = self.message(wanted, rows);
        let mut opener = self.writers.as_ref().map(Opener::new);
        let mut ids = Int32Builder::new();
        let mut bad = Vec::new();
        for row in 0..rows {
            let mut id = None;
            if payloads.is_valid(row) {
                let mut message = payloads.value(row);
                let mut fault = None;
                if let Some(opener) = &mut opener {
                    match opener.open(message) {
                        Ok(framed) => {
                            id = Some(framed.id);
                            message = framed.message;
                        }
                        Err(frame) => {
                            id = frame.id;
                            fault = Some(BadPayload::new(row, frame.class, &*frame.message));
                        }
                    }
                }
                if fault.is_none()
                    && let Err(found) = messages.read_root(row, message)
                {
                    messages.truncate(row);
                    fault = Some(BadPayload::new(row, found.class, found.to_string()));
                }
                if let Some(mut fault) = fault {
                    fault.schema_id = id;
                    bad.push(fault);
                }
            }
            if wanted.schema_ids {
                ids.append_option(id);
            }
        }
        let columns = wanted
            .fields
            .iter()
            .map(|field| messages.finish_child(self.plan.columns[*field], rows))
            .collect::<Result<Vec<_>>>()?;
        let ids: Option<Int32Array> = wanted.schema_ids.then(|| ids.finish());
        Ok(Decoded {
            columns,
            bad,
            schema_ids: ids,
        })
    }
}
