//! How rows become records: the formats of a table that is written, with their schemas.
//!
//! ```text
//! a schema's file ──▶ its id: looked up, or registered where that is allowed ─┐
//! none ─▶ the subject's schema, or one made of the columns and registered ────┴▶ encoder
//! ```

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Fields};

use super::formats::{Formats, PartFormat};
use super::schemas::{SchemaSource, files_of, no_schema, proto_files, read};
use crate::decode::avro::schema::Schema as AvroSchema;
use crate::decode::{
    Format, ProtoFiles, ProtobufSchema, RegisteredSchema, Registry, SchemaKind, Submitted, imports,
};
use crate::encode::{
    AvroEncoder, AvroFrame, CsvEncoder, Declared, JsonEncoder, PayloadEncoder, ProtobufEncoder,
    ScalarEncoder, derived_avro, derived_protobuf,
};
use crate::error::{Error, Result};

/// The option that lets schemas be registered, as messages name it.
const AUTO_REGISTER: &str = "'schema.registry.auto.register' = 'true'";

/// The formats that a table is written in.
#[derive(Debug, Clone, Default)]
pub(crate) struct WriteFormats {
    formats: Formats,
}

/// Which columns of a query are which parts of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Naming {
    pub(crate) key: Format,
    pub(crate) value: Format,
    /// What the names of record parts begin with.
    pub(crate) metadata_prefix: String,
    /// What the names of the key's fields begin with.
    pub(crate) key_prefix: String,
}

impl Default for Naming {
    fn default() -> Self {
        WriteFormats::default().naming()
    }
}

/// What encodes keys and values; `None` where the bytes are there as they are.
#[derive(Debug, Default)]
pub(crate) struct Encoders {
    pub(crate) key: Option<Arc<dyn PayloadEncoder>>,
    pub(crate) value: Option<Arc<dyn PayloadEncoder>>,
}

/// A part of records that is to be encoded.
struct Part<'a> {
    /// `key` or `value`.
    name: &'static str,
    topic: &'a str,
    of: &'a PartFormat,
    fields: &'a [FieldRef],
    registry: Option<&'a Registry>,
    auto_register: bool,
}

impl WriteFormats {
    pub(super) const fn new(formats: Formats) -> Self {
        Self { formats }
    }

    pub(crate) fn naming(&self) -> Naming {
        let formats = &self.formats;
        Naming {
            key: formats.key.format,
            value: formats.value.format,
            metadata_prefix: formats.metadata_prefix.clone(),
            key_prefix: formats.key_prefix.clone(),
        }
    }

    /// The encoders of a query's columns; those of the key's fields come without their prefix.
    ///
    /// # Errors
    /// When columns do not fit, a schema is missing or cannot be read, or the registry fails.
    pub(crate) async fn encoders(
        &self,
        topic: &str,
        key: &[FieldRef],
        value: &[FieldRef],
    ) -> Result<Encoders> {
        let formats = &self.formats;
        let (mut declared_key, mut declared_value) = (None, None);
        if formats.declared.is_some() {
            (declared_key, declared_value, _) = formats.fields()?;
        }
        let config = formats.registry.clone();
        let registry = config.map(Registry::new).transpose()?;
        let part = |name, of, fields| Part {
            name,
            topic,
            of,
            fields,
            registry: registry.as_ref(),
            auto_register: formats.auto_register,
        };
        Ok(Encoders {
            key: match key.is_empty() {
                true => None,
                false => {
                    part("key", &formats.key, key)
                        .declared(declared_key)
                        .await?
                }
            },
            value: part("value", &formats.value, value)
                .declared(declared_value)
                .await?,
        })
    }
}

impl Part<'_> {
    async fn declared(self, declared: Option<Fields>) -> Result<Option<Arc<dyn PayloadEncoder>>> {
        let wrong = |e: Error| match e {
            Error::Invalid { message } => Error::invalid(format!("the {}: {message}", self.name)),
            other => other,
        };
        let Some(declared) = declared else {
            return self.encoder().await.map_err(wrong);
        };
        let aligned = Declared::of(&declared, self.fields).map_err(wrong)?;
        let part = Part {
            fields: aligned.fields(),
            ..self
        };
        let encoder = part.encoder().await.map_err(wrong)?;
        Ok(encoder.map(|encoder| aligned.over(encoder)))
    }

    async fn encoder(&self) -> Result<Option<Arc<dyn PayloadEncoder>>> {
        let fields = self.fields;
        let encoder: Arc<dyn PayloadEncoder> = match self.of.format {
            Format::Raw => return Ok(None),
            Format::Json => {
                let id = self.json_schema_id().await?;
                Arc::new(JsonEncoder::new(fields, id)?)
            }
            Format::Csv => Arc::new(CsvEncoder::new(fields, self.of.csv_delimiter)?),
            Format::Avro | Format::AvroSingleObject => Arc::new(self.avro().await?),
            Format::Protobuf => Arc::new(self.protobuf().await?),
            format @ (Format::DebeziumJson | Format::DebeziumAvro) => {
                return Err(Error::invalid(format!(
                    "the format '{format}' is read only: write 'json' or 'avro'"
                )));
            }
            single => match fields {
                [field] => Arc::new(ScalarEncoder::new(single, field)?),
                _ => {
                    return Err(Error::invalid(format!(
                        "the format '{single}' takes one column, not {}",
                        fields.len()
                    )));
                }
            },
        };
        Ok(Some(encoder))
    }

    async fn avro(&self) -> Result<AvroEncoder> {
        let single_object = self.of.format == Format::AvroSingleObject;
        let (text, references, id) = match (&self.of.schema.file, self.registry) {
            (Some(file), Some(registry)) if !single_object => {
                let text = read(file)?;
                let name = record_name(&text);
                let id = self
                    .id_of(registry, &SchemaKind::Avro, &text, &[], name.as_deref())
                    .await?;
                (text, vec![], Some(id))
            }
            (Some(file), _) => (read(file)?, vec![], None),
            (None, None) => return Err(no_schema(self.of.format, self.name)),
            (None, Some(registry)) => {
                let name = self.type_name();
                match self.of_subject(registry, &name).await? {
                    Some(found) => {
                        self.check_kind(&found, &SchemaKind::Avro)?;
                        let id = Some(found.id);
                        (found.text.clone(), found.references.clone(), id)
                    }
                    None => {
                        self.may_derive(&name)?;
                        let text = derived_avro(&name, self.fields)?;
                        let id = self
                            .id_of(registry, &SchemaKind::Avro, &text, &[], Some(&name))
                            .await?;
                        (text, vec![], Some(id))
                    }
                }
            }
        };
        let frame = match id {
            _ if single_object => AvroFrame::SingleObject,
            Some(id) => AvroFrame::Registry(id),
            None => AvroFrame::Plain,
        };
        AvroEncoder::new(&text, &references, self.fields, frame)
    }

    async fn protobuf(&self) -> Result<ProtobufEncoder> {
        let message = self.of.schema.message.as_deref();
        let (schema, id) = match (&self.of.schema.file, self.registry) {
            (Some(file), registry) if file.ends_with(".proto") => {
                let files = proto_files(file)?;
                let schema = ProtobufSchema::from_files(&files, message)?;
                let id = match registry {
                    None => None,
                    Some(registry) => {
                        let references = self.import_references(registry, &files).await?;
                        let kind = SchemaKind::Protobuf;
                        let name = Some(schema.full_name());
                        let id = self.id_of(registry, &kind, &files.text, &references, name);
                        Some(id.await?)
                    }
                };
                (schema, id)
            }
            (Some(file), Some(_)) => {
                return Err(Error::invalid(format!(
                    "'{}.schema.file' is {file}, and the registry is asked for schemas in .proto text: \
                     name the .proto file",
                    self.name
                )));
            }
            (Some(file), None) => {
                let bytes = std::fs::read(file).map_err(|e| {
                    Error::invalid(format!("the schema file {file} cannot be read: {e}"))
                })?;
                (
                    ProtobufSchema::from_descriptor_set(file, &bytes, message)?,
                    None,
                )
            }
            (None, None) => return Err(no_schema(Format::Protobuf, self.name)),
            (None, Some(registry)) => {
                let name = self.type_name();
                match self.of_subject(registry, &name).await? {
                    Some(found) => {
                        self.check_kind(&found, &SchemaKind::Protobuf)?;
                        let schema = ProtobufSchema::from_files(&files_of(&found), message)?;
                        (schema, Some(found.id))
                    }
                    None => {
                        self.may_derive(&name)?;
                        let text = derived_protobuf(&name, self.fields)?;
                        let files = ProtoFiles {
                            name: format!("{name}.proto"),
                            text,
                            references: vec![],
                        };
                        let schema = ProtobufSchema::from_files(&files, None)?;
                        let kind = SchemaKind::Protobuf;
                        let id = self.id_of(registry, &kind, &files.text, &[], Some(&name));
                        (schema, Some(id.await?))
                    }
                }
            }
        };
        ProtobufEncoder::new(&schema, self.fields, id)
    }

    /// The id that JSON is framed with: of the file's JSON Schema, or of the subject's where it has
    /// one. Without both, objects are written bare.
    async fn json_schema_id(&self) -> Result<Option<i32>> {
        let Some(registry) = self.registry else {
            return Ok(None);
        };
        let schema = &self.of.schema;
        if let Some(file) = &schema.file {
            let text = read(file)?;
            let id = self.id_of(registry, &SchemaKind::Json, &text, &[], None);
            return id.await.map(Some);
        }
        let name = self.type_name();
        match self.of_subject(registry, &name).await? {
            Some(found) => {
                self.check_kind(&found, &SchemaKind::Json)?;
                Ok(Some(found.id))
            }
            None if schema.subject.is_some() || schema.version.is_some() => {
                Err(self.no_subject(&self.subject(Some(&name))?, "name another"))
            }
            None => Ok(None),
        }
    }

    /// The schema of the subject, if there is such a subject.
    async fn of_subject(
        &self,
        registry: &Registry,
        name: &str,
    ) -> Result<Option<Arc<RegisteredSchema>>> {
        let subject = self.subject(Some(name))?;
        match self.of.schema.version {
            Some(version) => registry.version(&subject, version).await,
            None => registry.latest(&subject).await,
        }
    }

    /// The id of a schema under the subject. It is registered where that is allowed.
    async fn id_of(
        &self,
        registry: &Registry,
        kind: &SchemaKind,
        text: &str,
        references: &[(String, String, i32)],
        record: Option<&str>,
    ) -> Result<i32> {
        let subject = self.subject(record)?;
        let submitted = Submitted {
            subject: &subject,
            kind,
            text,
            references,
        };
        if self.auto_register {
            return registry.register(submitted).await;
        }
        match registry.registered(submitted).await? {
            Some((id, _)) => Ok(id),
            None => Err(self.not_registered(
                self.of.schema.file.as_deref().unwrap_or("the columns"),
                &subject,
            )),
        }
    }

    /// The files that a `.proto` file imports, as the registry has them: each under a subject of the
    /// import's name, as Confluent's serializers register them.
    async fn import_references(
        &self,
        registry: &Registry,
        files: &ProtoFiles,
    ) -> Result<Vec<(String, String, i32)>> {
        let mut known: Vec<(String, String, i32)> = Vec::new();
        let mut open = files.references.clone();
        let of = |known: &[(String, String, i32)], name: &str, text: &str| {
            let names = imports(name, text)?;
            let ours = |name: &String| files.references.iter().any(|(n, _)| n == name);
            let names = names.into_iter().filter(ours);
            let found: Option<Vec<_>> = names
                .map(|name| known.iter().find(|(n, ..)| *n == name).cloned())
                .collect();
            Ok::<_, Error>(found)
        };
        // Each after those that it imports itself; the schema was compiled, so that there is no circle.
        while !open.is_empty() {
            let before = open.len();
            let mut later = Vec::new();
            for (name, text) in open {
                let Some(references) = of(&known, &name, &text)? else {
                    later.push((name, text));
                    continue;
                };
                let submitted = Submitted {
                    subject: &name,
                    kind: &SchemaKind::Protobuf,
                    text: &text,
                    references: &references,
                };
                if self.auto_register {
                    registry.register(submitted).await?;
                }
                let Some((_, version)) = registry.registered(submitted).await? else {
                    return Err(self.not_registered(&name, &name));
                };
                known.push((name.clone(), name, version));
            }
            if later.len() == before {
                return Err(Error::invalid(
                    "the schema's files import each other in a circle",
                ));
            }
            open = later;
        }
        Ok(of(&known, &files.name, &files.text)?.unwrap_or_default())
    }

    fn subject(&self, record: Option<&str>) -> Result<String> {
        let SchemaSource {
            subject,
            subjects,
            message,
            ..
        } = &self.of.schema;
        match subject {
            Some(subject) => Ok(subject.clone()),
            None => subjects.subject(
                self.topic,
                self.name == "key",
                message.as_deref().or(record),
            ),
        }
    }

    /// What a type that is made of the columns is called.
    fn type_name(&self) -> String {
        if let Some(message) = &self.of.schema.message {
            return message.clone();
        }
        let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let topic: String = self.topic.chars().map(letter).collect();
        let begins = topic.starts_with(|c: char| c.is_ascii_alphabetic());
        format!(
            "{}{topic}_{}",
            if begins { "" } else { "topic_" },
            self.name
        )
    }

    fn may_derive(&self, name: &str) -> Result<()> {
        match (self.auto_register, self.of.schema.version) {
            (true, None) => Ok(()),
            _ => Err(self.no_subject(
                &self.subject(Some(name))?,
                &format!(
                    "let one be made of the columns and registered by {AUTO_REGISTER}, name another"
                ),
            )),
        }
    }

    fn no_subject(&self, subject: &str, advice: &str) -> Error {
        let version = self.of.schema.version.map(|v| format!("version {v} of "));
        Error::invalid(format!(
            "the schema registry has no {}subject '{subject}' to write with: {advice} by '{part}.subject', \
             or a file by '{part}.schema.file'",
            version.unwrap_or_default(),
            part = self.name
        ))
    }

    fn not_registered(&self, file: &str, subject: &str) -> Error {
        Error::invalid(format!(
            "the schema of {file} is not registered under subject '{subject}': register it, or let that be \
             done by {AUTO_REGISTER}"
        ))
    }

    fn check_kind(&self, found: &RegisteredSchema, kind: &SchemaKind) -> Result<()> {
        match found.kind == *kind {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "the subject has a schema of {}, but '{}.format' is '{}'",
                found.kind, self.name, self.of.format
            ))),
        }
    }
}

/// The full name of an Avro schema's record.
fn record_name(text: &str) -> Option<String> {
    let schema = AvroSchema::parse(text, &[]).ok()?;
    let (name, _) = schema.record(&schema.root)?;
    Some(name.full().to_owned())
}
