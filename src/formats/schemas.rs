//! Where the schema of keys or values comes from: a file, or a registry.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::Fields;

use crate::decode::{
    AvroDecoder, AvroFraming, AvroOptions, Format, PayloadDecoder, ProtoFiles, ProtobufDecoder,
    ProtobufFraming, ProtobufOptions, ProtobufSchema, RegisteredSchema, Registry, SchemaKind,
    SubjectNames, debezium, imports, schema_fields,
};
use crate::error::{Error, Result};
use crate::policy::{MAX_FILE_BYTES, Policy};

/// What options say of a schema.
#[derive(Debug, Clone, Default)]
pub(crate) struct SchemaSource {
    /// `value.schema.file`.
    pub(crate) file: Option<String>,
    /// `value.schema.message`: the full name of a Protobuf message, or of the record that a subject
    /// is named after.
    pub(crate) message: Option<String>,
    /// `value.subject`.
    pub(crate) subject: Option<String>,
    /// `value.subject.name.strategy`, where there is no subject.
    pub(crate) subjects: SubjectNames,
    /// `value.schema.version`; the latest unless set.
    pub(crate) version: Option<i32>,
    /// What the registry has for it, once it was asked.
    pub(crate) found: Option<Arc<RegisteredSchema>>,
    /// Why it has none for JSON, which may be plain.
    pub(crate) unregistered: Option<String>,
    /// Which files may be read for it.
    pub(crate) policy: Policy,
    /// The contents of the files, where another machine has read them.
    pub(super) sent: Option<Arc<BTreeMap<String, Vec<u8>>>>,
}

impl SchemaSource {
    /// Whether there is a schema, so that no registry is to be asked for one.
    pub(super) fn is_known(&self) -> bool {
        self.file.is_some() || self.found.is_some()
    }

    /// Asks the registry for the schema that everything is read with. `part` is `key` or `value`, and
    /// `topic` the table's, where it has one.
    ///
    /// # Errors
    /// When the registry cannot be asked, has no such schema, or one of another format. JSON may do
    /// without one unless options name it.
    pub(super) async fn find(
        &mut self,
        format: Format,
        registry: &Registry,
        part: &str,
        topic: Option<&str>,
    ) -> Result<()> {
        let missing = match self.subject(part, topic) {
            Ok(subject) => {
                let found = match self.version {
                    Some(version) => registry.version(&subject, version).await?,
                    None => registry.latest(&subject).await?,
                };
                if let Some(found) = found {
                    self.found = Some(of_format(format, part, &subject, found)?);
                    return Ok(());
                }
                let version = self.version.map(|v| format!("version {v} of "));
                Error::invalid(format!(
                    "the schema registry has no {}subject '{subject}': name another by '{part}.subject', \
                     or a file by '{part}.schema.file'",
                    version.unwrap_or_default()
                ))
            }
            Err(missing) => missing,
        };
        if format.is_json() && self.subject.is_none() && self.version.is_none() {
            self.unregistered = Some(missing.to_string());
            return Ok(());
        }
        Err(missing)
    }

    fn subject(&self, part: &str, topic: Option<&str>) -> Result<String> {
        match (&self.subject, topic) {
            (Some(subject), _) => Ok(subject.clone()),
            (None, Some(topic)) => {
                let record = self.message.as_deref();
                self.subjects.subject(topic, part == "key", record)
            }
            (None, None) => Err(Error::invalid(format!(
                "a table of several topics has no subject of its own: name the schema to read all of \
                 them with, by '{part}.subject'"
            ))),
        }
    }

    /// The columns of a JSON Schema; `None` where there is no schema.
    ///
    /// # Errors
    /// When its file cannot be read, or it has no columns.
    pub(super) fn json_fields(&self, part: &str) -> Result<Option<Fields>> {
        let (title, fields) = match (&self.file, &self.found) {
            (Some(file), _) => (
                format!("the JSON Schema in {file}"),
                schema_fields(&self.read(file)?, &[]),
            ),
            (None, Some(found)) => (
                format!("the JSON Schema {}", found.id),
                schema_fields(&found.text, &found.references),
            ),
            (None, None) => return Ok(None),
        };
        fields.map(Some).map_err(|e| {
            Error::schema(format!(
                "the columns of the {part} are those of a schema, and {title} {e}: declare them in CREATE \
                 EXTERNAL TABLE instead"
            ))
        })
    }

    /// The decoder of a format with a schema; `part` is `key` or `value`.
    ///
    /// # Errors
    /// When there is no schema, it cannot be read, or what is declared does not fit it.
    pub(super) fn decoder(
        &self,
        format: Format,
        part: &str,
        declared: Option<&Fields>,
        registry: Option<&Registry>,
    ) -> Result<Arc<dyn PayloadDecoder>> {
        let registry = registry.cloned();
        match format {
            format if format.is_avro() => self.avro(format, part, declared, registry),
            _ => self.protobuf(part, declared, registry),
        }
    }

    fn avro(
        &self,
        format: Format,
        part: &str,
        declared: Option<&Fields>,
        registry: Option<Registry>,
    ) -> Result<Arc<dyn PayloadDecoder>> {
        let (text, references, id) = match (&self.file, &self.found) {
            (Some(file), _) => (self.read(file)?, vec![], None),
            (None, Some(found)) => (found.text.clone(), found.references.clone(), Some(found.id)),
            (None, None) => return Err(no_schema(format, part)),
        };
        let framing = match (format, registry) {
            (Format::AvroSingleObject, _) => AvroFraming::SingleObject { schemas: vec![] },
            (_, Some(registry)) => AvroFraming::Registry(Arc::new(registry)),
            (_, None) => AvroFraming::Plain { writer: None },
        };
        let options = AvroOptions {
            reader: &text,
            references: &references,
            reader_id: id,
            declared,
            framing,
        };
        Ok(Arc::new(match (format, part) {
            (Format::DebeziumAvro, "value") => {
                declared.map_or(Ok(()), debezium::check)?;
                AvroDecoder::debezium(options)?
            }
            // Keys have no envelopes.
            _ => AvroDecoder::new(options)?,
        }))
    }

    fn protobuf(
        &self,
        part: &str,
        declared: Option<&Fields>,
        registry: Option<Registry>,
    ) -> Result<Arc<dyn PayloadDecoder>> {
        let message = self.message.as_deref();
        let schema = match (&self.file, &self.found) {
            (Some(file), _) if file.ends_with(".proto") => {
                ProtobufSchema::from_files(&self.proto_files(file)?, message)?
            }
            (Some(file), _) => {
                let bytes = self.bytes(file)?;
                ProtobufSchema::from_descriptor_set(file, &bytes, message)?
            }
            (None, Some(found)) => ProtobufSchema::from_files(&found.proto_files(), message)?,
            (None, None) => return Err(no_schema(Format::Protobuf, part)),
        };
        let framing = match registry {
            Some(registry) => ProtobufFraming::Registry(Arc::new(registry)),
            None => ProtobufFraming::Plain,
        };
        Ok(Arc::new(ProtobufDecoder::new(ProtobufOptions {
            schema,
            declared,
            framing,
        })?))
    }

    /// A `.proto` file with those that it imports, which lie beside it or in folders there.
    pub(super) fn proto_files(&self, file: &str) -> Result<ProtoFiles> {
        let folder = Path::new(file).parent().unwrap_or(Path::new(""));
        let text = self.read(file)?;
        let mut references = BTreeMap::new();
        let mut open = imports(file, &text)?;
        while let Some(name) = open.pop() {
            // What is not there may be one of those that are known without.
            let path = folder.join(&name);
            let path = path.to_string_lossy();
            if references.contains_key(&name) || !self.is_there(&path) {
                continue;
            }
            let text = self.read(&path)?;
            open.extend(imports(&name, &text)?);
            references.insert(name, text);
        }
        Ok(ProtoFiles {
            name: file.to_owned(),
            text,
            references: references.into_iter().collect(),
        })
    }

    fn is_there(&self, file: &str) -> bool {
        match &self.sent {
            Some(sent) => sent.contains_key(file),
            None => Path::new(file).is_file(),
        }
    }

    pub(super) fn read(&self, file: &str) -> Result<String> {
        String::from_utf8(self.bytes(file)?)
            .map_err(|_| Error::invalid(format!("the schema file {file} is not UTF-8")))
    }

    pub(super) fn bytes(&self, file: &str) -> Result<Vec<u8>> {
        if let Some(sent) = &self.sent {
            let bytes = sent.get(file).cloned();
            return bytes
                .ok_or_else(|| Error::invalid(format!("the schema file {file} was not sent")));
        }
        let read = self.policy.read(Path::new(file), MAX_FILE_BYTES);
        read.map_err(|e| {
            Error::invalid(format!("the schema file {file} cannot be read: {e}")).because(e)
        })
    }
}

/// The decoder of bare Avro or Protobuf payloads by a schema: a file, or the text of an Avro schema.
///
/// # Errors
/// When the schema cannot be read.
pub(crate) fn payload_decoder(
    format: Format,
    schema: &str,
    message: Option<&str>,
    policy: &Policy,
) -> Result<Arc<dyn PayloadDecoder>> {
    if format == Format::Avro && schema.trim_start().starts_with(['{', '[', '"']) {
        return Ok(Arc::new(AvroDecoder::new(AvroOptions {
            reader: schema,
            references: &[],
            reader_id: None,
            declared: None,
            framing: AvroFraming::Plain { writer: None },
        })?));
    }
    let source = SchemaSource {
        file: Some(schema.to_owned()),
        message: message.map(str::to_owned),
        policy: policy.clone(),
        ..SchemaSource::default()
    };
    source.decoder(format, "value", None, None)
}

/// A subject's schema, if it is one of the format.
fn of_format(
    format: Format,
    part: &str,
    subject: &str,
    found: Arc<RegisteredSchema>,
) -> Result<Arc<RegisteredSchema>> {
    let fits = match found.kind {
        SchemaKind::Avro => format.is_avro(),
        SchemaKind::Json => format.is_json(),
        SchemaKind::Protobuf => format == Format::Protobuf,
        SchemaKind::Other(_) => false,
    };
    if fits {
        return Ok(found);
    }
    Err(Error::schema(format!(
        "the schema registry has a schema of {} for subject '{subject}', but '{part}.format' is '{format}'",
        found.kind
    )))
}

pub(super) fn no_schema(format: Format, part: &str) -> Error {
    Error::invalid(format!(
        "'{part}.format' = '{format}' needs a schema: a file by '{part}.schema.file', or a registry by \
         'schema.registry.url'"
    ))
}
