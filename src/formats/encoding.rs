//! How rows become records: the encoders of keys and values, with their schemas.
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

use super::schemas::no_schema;
use super::subjects::Unnumbered;
use super::{Formats, PartFormat};
use crate::decode::{Format, ProtoFiles, ProtobufSchema, Registry, SchemaKind, avro_record_name};
use crate::encode::{
    AvroEncoder, AvroFrame, CsvEncoder, Declared, JsonEncoder, PayloadEncoder, ProtobufEncoder,
    ScalarEncoder, derived_avro, derived_protobuf,
};
use crate::error::{Error, Result};

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
        Formats::default().naming()
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
pub(super) struct Part<'a> {
    /// `key` or `value`.
    pub(super) name: &'static str,
    pub(super) topic: &'a str,
    pub(super) of: &'a PartFormat,
    fields: &'a [FieldRef],
    registry: Option<&'a Registry>,
    pub(super) auto_register: bool,
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

impl Formats {
    /// Which columns of a query these formats take as which parts.
    pub(crate) fn naming(&self) -> Naming {
        Naming {
            key: self.key.format,
            value: self.value.format,
            metadata_prefix: self.metadata_prefix.clone(),
            key_prefix: self.key_prefix.clone(),
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
        let (mut declared_key, mut declared_value) = (None, None);
        if self.declared.is_some() {
            (declared_key, declared_value, _) = self.fields()?;
        }
        let config = self.registry.clone();
        let registry = config.map(Registry::new).transpose()?;
        let part = |name, of, fields| Part {
            name,
            topic,
            of,
            fields,
            registry: registry.as_ref(),
            auto_register: self.auto_register,
        };
        let of_key = part("key", &self.key, key);
        let of_value = part("value", &self.value, value);
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
}
