//! What can be said of a payload by a value of a column.

use super::{Column, Payload, RecordDecoder};

/// How a payload writes the text or the bytes of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Written {
    /// Byte for byte.
    AsBytes,
    /// As text in JSON.
    AsJson,
}

impl RecordDecoder {
    /// How payloads write what a column of text or bytes shows; `None` where that is not known.
    pub fn written(&self, index: usize) -> Option<Written> {
        let part = match self.columns.get(index)? {
            Column::Key | Column::KeyField(_) => &self.key,
            Column::Value | Column::ValueField(_) => &self.value,
            _ => return None,
        };
        let is_text = || {
            let field = self.schema.fields().get(index);
            field.is_some_and(|field| field.data_type().is_string())
        };
        match (self.columns[index], part) {
            (Column::Key | Column::Value, Payload::Raw | Payload::Fields(_)) => {
                Some(Written::AsBytes)
            }
            (Column::KeyField(_) | Column::ValueField(_), Payload::Fields(decoder))
                if decoder.is_json() && is_text() =>
            {
                Some(Written::AsJson)
            }
            _ => None,
        }
    }
}
