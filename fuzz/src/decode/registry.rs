//! A registry in memory, in place of the crate's.

use std::fmt;
use std::sync::Arc;

use crate::decode::laws::cases::WRITERS;
use crate::error::Result;

/// Has what [`WRITERS`] lists.
#[derive(Debug, Clone)]
pub struct Registry;

#[derive(Debug)]
pub struct RegisteredSchema {
    pub id: i32,
    pub kind: SchemaKind,
    pub text: String,
    pub references: Vec<(String, String)>,
}

#[derive(Debug)]
pub enum SchemaKind {
    Avro,
    Protobuf,
}

impl fmt::Display for SchemaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Registry {
    pub async fn schema(&self, id: i32) -> Result<Option<Arc<RegisteredSchema>>> {
        let known = WRITERS.iter().find(|(known, _)| *known == id);
        Ok(known.map(|(id, text)| {
            Arc::new(RegisteredSchema {
                id: *id,
                kind: SchemaKind::Avro,
                text: (*text).to_owned(),
                references: Vec::new(),
            })
        }))
    }
}
