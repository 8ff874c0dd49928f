//! The formats of a table for another machine, with the schemas that were found for it: the machine reads no
//! file and asks no registry for what is known already.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};

use super::{Formats, PartFormat, RecordedFormats};
use crate::decode::{BadRowLimit, Format, RegisteredSchema, RegistryConfig};
use crate::error::{Error, Result};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SentFormats {
    recorded: RecordedFormats,
    key: SentSchema,
    value: SentSchema,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bad_row_limit: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct SentSchema {
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<RegisteredSchema>,
    /// The name of its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// The contents of that file and of those that it imports, in Base64.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    files: BTreeMap<String, String>,
}

impl SentSchema {
    fn of(part: &PartFormat) -> Result<Self> {
        let schema = &part.schema;
        let mut files = BTreeMap::new();
        if let Some(file) = &schema.file {
            let mut add =
                |path: String, bytes: &[u8]| files.insert(path, BASE64_STANDARD.encode(bytes));
            add(file.clone(), &schema.bytes(file)?);
            if part.format == Format::Protobuf && file.ends_with(".proto") {
                let folder = Path::new(file).parent().unwrap_or(Path::new(""));
                for (name, text) in schema.proto_files(file)?.references {
                    let path = folder.join(name).to_string_lossy().into_owned();
                    add(path, text.as_bytes());
                }
            }
        }
        Ok(Self {
            found: schema.found.as_deref().cloned(),
            file: schema.file.clone(),
            files,
        })
    }

    fn put_into(self, part: &mut PartFormat) -> Result<()> {
        part.schema.found = self.found.map(Arc::new);
        let files = self.files.into_iter().map(|(path, text)| {
            let bytes = BASE64_STANDARD.decode(text);
            let bytes = bytes
                .map_err(|e| Error::internal(format!("the sent file {path}: {e}")).because(e))?;
            Ok((path, bytes))
        });
        part.schema.sent = Some(Arc::new(files.collect::<Result<_>>()?));
        part.schema.file = self.file;
        Ok(())
    }
}

impl SentFormats {
    /// # Errors
    /// When a schema's file cannot be read.
    pub(crate) fn of(formats: &Formats) -> Result<Self> {
        let mut plain = formats.clone();
        // A recorded path is absolute; here it only names what is sent along.
        plain.key.schema.file = None;
        plain.value.schema.file = None;
        Ok(Self {
            recorded: RecordedFormats::of(&plain)?,
            key: SentSchema::of(&formats.key)?,
            value: SentSchema::of(&formats.value)?,
            bad_row_limit: formats.bad_rows.limit.map(|limit| match limit {
                // Of all parts together. The part checks all fields, as with any limit.
                BadRowLimit::Percent(_) => BadRowLimit::Count(u64::MAX).to_string(),
                limit => limit.to_string(),
            }),
        })
    }

    /// The formats, with the registry that this machine knows.
    ///
    /// # Errors
    /// When they need a registry that is not there, or are not what [`of`](Self::of) made.
    pub(crate) fn formats(self, registry: Option<RegistryConfig>) -> Result<Formats> {
        let own = Formats {
            registry,
            ..Formats::default()
        };
        let mut formats = self.recorded.without_schemas(&own)?;
        let limit = self.bad_row_limit.map(|limit| limit.parse()).transpose()?;
        formats.bad_rows.limit = limit;
        self.key.put_into(&mut formats.key)?;
        self.value.put_into(&mut formats.value)?;
        Ok(formats)
    }
}
