//! How rows become records: the formats of a table that is written, with their schemas.
//!
//! ```text
//! a schema's file ───────────────────────────────┐
//! none ─▶ the subject's, or one made of the columns ┴▶ columns fit ─▶ its id ─▶ encoder
//! ```
//!
//! An id is looked up, or the schema registered where that is allowed, when the columns of key and
//! value fit: what fails before leaves nothing in the registry.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Fields};

use super::formats::{Formats, PartFormat};
use super::schemas::{SchemaSource, no_schema};
use crate::decode::{
    Format, ProtoFiles, ProtobufSchema, RegisteredSchema, Registry, SchemaKind, Submitted,
    avro_record_name, imports,
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
#[derive(Clone, Copy)]
struct Part<'a> {
    /// `key` or `value`.
    name: &'static str,
    topic: &'a str,
    of: &'a PartFormat,
    fields: &'a [FieldRef],
    registry: Option<&'a Registry>,
    auto_register: bool,
}

/// How a part is encoded, but for the id of its schema.
#[derive(Debug, Default)]
struct Planned {
    /// `None` where the bytes are there as they are.
    encoder: Option<Box<dyn PayloadEncoder>>,
    /// The schema whose id is to be asked for.
    unnumbered: Option<Unnumbered>,
    declared: Option<Declared>,
}

impl Planned {
    fn of(encoder: impl PayloadEncoder + 'static) -> Self {
        Self {
            encoder: Some(Box::new(encoder)),
            ..Self::default()
        }
    }

    fn with(self, unnumbered: Option<Unnumbered>) -> Self {
        Self { unnumbered, ..self }
    }
}

/// A schema that is looked up by its text, or registered.
#[derive(Debug)]
struct Unnumbered {
    kind: SchemaKind,
    files: ProtoFiles,
    /// The record or message, which subjects may be named after.
    record: Option<String>,
    /// Whether payloads begin with the id.
    framed: bool,
}

impl Unnumbered {
    /// A schema of one file.
    fn new(kind: SchemaKind, text: &str, record: Option<String>) -> Self {
        Self {
            kind,
            files: ProtoFiles {
                text: text.to_owned(),
                ..ProtoFiles::default()
            },
            record,
            framed: true,
        }
    }
}

impl WriteFormats {
    pub(super) const fn new(formats: Formats) -> Self {
        Self { formats }
    }

    pub(super) const fn formats(&self) -> &Formats {
        &self.formats
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
        let of_key = part("key", &formats.key, key);
        let of_value = part("value", &formats.value, value);
        let key = match key.is_empty() {
            true => Planned::default(),
            false => of_key.planned(declared_key).await?,
        };
        let value = of_value.planned(declared_value).await?;
        Ok(Encoders {
            key: of_key.encoder(key).await?,
            value: of_value.encoder(value).await?,
        })
    }
}

impl Part<'_> {
    /// Asks for the id of the schema, if it is still unknown.
    async fn encoder(&self, planned: Planned) -> Result<Option<Arc<dyn PayloadEncoder>>> {
        let Planned {
            encoder,
            unnumbered,
            declared,
        } = planned;
        let Some(mut encoder) = encoder else {
            return Ok(None);
        };
        if let (Some(schema), Some(registry)) = (unnumbered, self.registry) {
            let id = self.id_of(registry, &schema).await;
            let id = id.map_err(|e| self.wrong(e))?;
            if schema.framed {
                encoder.set_id(id);
            }
        }
        let encoder: Arc<dyn PayloadEncoder> = Arc::from(encoder);
        Ok(Some(match declared {
            Some(declared) => declared.over(encoder),
            None => encoder,
        }))
    }

    /// Makes the encoder of the columns as the table declares them.
    async fn planned(&self, declared: Option<Fields>) -> Result<Planned> {
        let wrong = |e| self.wrong(e);
        let Some(declared) = declared else {
            return self.plan().await.map_err(wrong);
        };
        let aligned = Declared::of(&declared, self.fields).map_err(wrong)?;
        let part = Part {
            fields: aligned.fields(),
            ..*self
        };
        let planned = part.plan().await.map_err(wrong)?;
        Ok(Planned {
            declared: Some(aligned),
            ..planned
        })
    }

    /// The same error, of this part.
    fn wrong(&self, error: Error) -> Error {
        error.within(format_args!("the {}", self.name))
    }

    async fn plan(&self) -> Result<Planned> {
        let fields = self.fields;
        Ok(match self.of.format {
            Format::Raw => Planned::default(),
            Format::Json => self.json().await?,
            Format::Csv => Planned::of(CsvEncoder::new(fields, self.of.csv_delimiter)?),
            Format::Avro | Format::AvroSingleObject => self.avro().await?,
            Format::Protobuf => self.protobuf().await?,
            format @ (Format::DebeziumJson | Format::DebeziumAvro) => {
                return Err(Error::invalid(format!(
                    "the format '{format}' is read only: write 'json' or 'avro'"
                )));
            }
            single => match fields {
                [field] => Planned::of(ScalarEncoder::new(single, field)?),
                _ => {
                    return Err(Error::invalid(format!(
                        "the format '{single}' takes one column, not {}",
                        fields.len()
                    )));
                }
            },
        })
    }

    async fn avro(&self) -> Result<Planned> {
        let single_object = self.of.format == Format::AvroSingleObject;
        let unnumbered = |text: &str, name| Unnumbered {
            framed: !single_object,
            ..Unnumbered::new(SchemaKind::Avro, text, name)
        };
        let mut frame = match single_object {
            true => AvroFrame::SingleObject,
            false => AvroFrame::Plain,
        };
        let (text, references, unnumbered) = match (&self.of.schema.file, self.registry) {
            (Some(file), Some(_)) if !single_object => {
                let text = self.of.schema.read(file)?;
                let unnumbered = unnumbered(&text, avro_record_name(&text));
                (text, vec![], Some(unnumbered))
            }
            (Some(file), _) => (self.of.schema.read(file)?, vec![], None),
            (None, None) => return Err(no_schema(self.of.format, self.name)),
            (None, Some(registry)) => {
                let name = self.type_name();
                match self.of_subject(registry, &name).await? {
                    Some(found) => {
                        self.check_kind(&found, &SchemaKind::Avro)?;
                        if !single_object {
                            frame = AvroFrame::Registry(found.id);
                        }
                        (found.text.clone(), found.references.clone(), None)
                    }
                    None => {
                        self.may_derive(&name)?;
                        let text = derived_avro(&name, self.fields)?;
                        let unnumbered = unnumbered(&text, Some(name));
                        (text, vec![], Some(unnumbered))
                    }
                }
            }
        };
        let encoder = AvroEncoder::new(&text, &references, self.fields, frame)?;
        Ok(Planned::of(encoder).with(unnumbered))
    }

    async fn protobuf(&self) -> Result<Planned> {
        let message = self.of.schema.message.as_deref();
        let mut known = None;
        let unnumbered = |files, record| Unnumbered {
            files,
            ..Unnumbered::new(SchemaKind::Protobuf, "", Some(record))
        };
        let (schema, unnumbered) = match (&self.of.schema.file, self.registry) {
            (Some(file), registry) if file.ends_with(".proto") => {
                let files = self.of.schema.proto_files(file)?;
                let schema = ProtobufSchema::from_files(&files, message)?;
                let name = schema.full_name().to_owned();
                (schema, registry.map(|_| unnumbered(files, name)))
            }
            (Some(file), Some(_)) => {
                return Err(Error::invalid(format!(
                    "'{}.schema.file' is {file}, and the registry is asked for schemas in .proto text: \
                     name the .proto file",
                    self.name
                )));
            }
            (Some(file), None) => {
                let bytes = self.of.schema.bytes(file)?;
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
                        known = Some(found.id);
                        (
                            ProtobufSchema::from_files(&found.proto_files(), message)?,
                            None,
                        )
                    }
                    None => {
                        self.may_derive(&name)?;
                        let files = ProtoFiles {
                            name: format!("{name}.proto"),
                            text: derived_protobuf(&name, self.fields)?,
                            references: vec![],
                        };
                        let schema = ProtobufSchema::from_files(&files, None)?;
                        (schema, Some(unnumbered(files, name)))
                    }
                }
            }
        };
        let encoder = ProtobufEncoder::new(&schema, self.fields, known)?;
        Ok(Planned::of(encoder).with(unnumbered))
    }

    /// JSON is framed with the id of the file's JSON Schema, or of the subject's where it has one.
    /// Without both, objects are written bare.
    async fn json(&self) -> Result<Planned> {
        let planned = |id| Ok::<_, Error>(Planned::of(JsonEncoder::new(self.fields, id)?));
        let Some(registry) = self.registry else {
            return planned(None);
        };
        let schema = &self.of.schema;
        if let Some(file) = &schema.file {
            let unnumbered = Unnumbered::new(SchemaKind::Json, &self.of.schema.read(file)?, None);
            return Ok(planned(None)?.with(Some(unnumbered)));
        }
        let name = self.type_name();
        match self.of_subject(registry, &name).await? {
            Some(found) => {
                self.check_kind(&found, &SchemaKind::Json)?;
                planned(Some(found.id))
            }
            None if schema.subject.is_some() || schema.version.is_some() => {
                Err(self.no_subject(&self.subject(Some(&name))?, "name another"))
            }
            None => planned(None),
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
    async fn id_of(&self, registry: &Registry, schema: &Unnumbered) -> Result<i32> {
        let subject = self.subject(schema.record.as_deref())?;
        let references = match schema.files.references.is_empty() {
            true => vec![],
            false => self.import_references(registry, &schema.files).await?,
        };
        let submitted = Submitted {
            subject: &subject,
            kind: &schema.kind,
            text: &schema.files.text,
            references: &references,
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
