//! How records become rows, in words: for the logs of jobs and the plans of exports.

use sha2::{Digest, Sha256};

use super::{Formats, PartFormat};
use crate::decode::{Format, RecordDecoder};
use crate::hex::hex;

impl Formats {
    /// How records become rows, as text: equal texts mean equal rows. `None` where payloads stay bytes.
    /// The text holds no secrets.
    pub(crate) fn description(&self, decoder: &RecordDecoder) -> Option<String> {
        if !decoder.has_formats() {
            return None;
        }
        let columns = decoder.schema().fields().iter();
        let columns = columns.map(|field| format!("{} {}", field.name(), field.data_type()));
        let text = format!(
            "{}, {}, on.bad.row {}, columns: {}",
            self.key.description("key"),
            self.value.description("value"),
            self.bad_rows.on,
            columns.collect::<Vec<_>>().join(", ")
        );
        // It stands in each batch of a job's log.
        const MOST: usize = 1000;
        if text.len() <= MOST {
            return Some(text);
        }
        let begins: String = text.chars().take(MOST).collect();
        Some(format!("{begins}… ({})", digest(text.as_bytes())))
    }
}

impl PartFormat {
    fn description(&self, name: &str) -> String {
        let mut text = format!("{name} {}", self.format);
        if self.format == Format::Csv {
            text.push_str(&format!(" by {:?}", char::from(self.csv_delimiter)));
        }
        let schema = match (&self.schema.file, &self.schema.found) {
            // One that cannot be read fails elsewhere.
            (Some(file), _) => self.schema.bytes(file).ok().map(|bytes| digest(&bytes)),
            (None, found) => found.as_ref().map(|found| digest(found.text.as_bytes())),
        };
        if let Some(schema) = schema {
            text.push_str(&format!(" of the schema {schema}"));
        }
        if let Some(message) = &self.schema.message {
            text.push_str(&format!(" {message}"));
        }
        text
    }
}

/// Tells texts apart, in 12 hexadecimal digits.
fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..6])
}
