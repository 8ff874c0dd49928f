//! The formats of a topic's keys and values: how records become columns, and how columns become records.
//!
//! A [`Formats`] is what options say of both. It makes the decoder of a table that is read and the
//! encoders of one that is written. Schemas come from files or from a registry ([`schemas`]).

#[cfg(feature = "jobs")]
mod columns;
#[cfg(feature = "jobs")]
mod description;
#[cfg(all(feature = "jobs", feature = "librdkafka"))]
mod encoding;
#[cfg(feature = "jobs")]
mod recorded;
mod schemas;
#[cfg(feature = "jobs")]
mod sent;
#[cfg(all(feature = "jobs", feature = "librdkafka"))]
mod subjects;

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Fields, Schema};

use crate::decode::{
    BadRows, Column, CsvDecoder, Format, JsonDecoder, Payload, PayloadDecoder, RecordDecoder,
    Registry, RegistryConfig, TableFormat,
};
use crate::error::{Error, Result};

#[cfg(feature = "jobs")]
pub(crate) use columns::{columns_of, columns_text, decode_columns, encode_columns};
#[cfg(all(feature = "jobs", feature = "librdkafka"))]
pub(crate) use encoding::{Encoders, Naming};
#[cfg(feature = "jobs")]
pub(crate) use recorded::RecordedFormats;
use schemas::SchemaSource;
pub(crate) use schemas::payload_decoder;
#[cfg(feature = "jobs")]
pub(crate) use sent::SentFormats;

/// What options and declared columns say of keys and values.
#[derive(Debug, Clone)]
pub(crate) struct Formats {
    pub(crate) key: PartFormat,
    pub(crate) value: PartFormat,
    pub(crate) registry: Option<RegistryConfig>,
    /// The columns in a CREATE EXTERNAL TABLE.
    pub(crate) declared: Option<Fields>,
    pub(crate) columns: Vec<Column>,
    pub(crate) metadata_prefix: String,
    pub(crate) key_prefix: String,
    pub(crate) bad_rows: BadRows,
    /// Whether a schema that is written with may be registered.
    pub(crate) auto_register: bool,
}

/// What is said of one of them.
#[derive(Debug, Clone)]
pub(crate) struct PartFormat {
    pub(crate) format: Format,
    /// The name of the format, where that asks for a registry.
    registered: Option<String>,
    /// The fields of its schema, where they are known.
    pub(crate) fields: Option<Fields>,
    pub(crate) csv_delimiter: u8,
    pub(crate) schema: SchemaSource,
}

/// What is to be learned of keys, or of values, from a sample of records.
#[derive(Debug)]
pub(crate) struct Sampling {
    /// Whether Kafka Connect's wrapper may be around the objects.
    pub(crate) wrapped: bool,
    /// Whether they are Debezium's envelopes.
    pub(crate) envelopes: bool,
    /// Why a registry that was asked has no schema, as records with its frame should have one.
    pub(crate) unregistered: Option<String>,
}

impl Default for PartFormat {
    fn default() -> Self {
        Self {
            format: Format::Raw,
            registered: None,
            fields: None,
            csv_delimiter: b',',
            schema: SchemaSource::default(),
        }
    }
}

impl Default for Formats {
    fn default() -> Self {
        let TableFormat {
            columns,
            metadata_prefix,
            key_prefix,
            bad_rows,
            ..
        } = TableFormat::default();
        Self {
            key: PartFormat::default(),
            value: PartFormat::default(),
            registry: None,
            declared: None,
            columns,
            metadata_prefix,
            key_prefix,
            bad_rows,
            auto_register: false,
        }
    }
}

impl Formats {
    /// What of keys, and of values, is to be learned from records.
    pub(crate) fn lacks_fields(&self) -> [Option<Sampling>; 2] {
        let lacks = |part: &PartFormat, envelopes: bool| {
            let known = part.fields.is_some() || self.declared.is_some() || part.schema.is_known();
            let lacks = part.format.is_json() && !known;
            lacks.then(|| Sampling {
                wrapped: part.format == Format::DebeziumJson,
                envelopes: part.format == Format::DebeziumJson && envelopes,
                unregistered: part.schema.unregistered.clone(),
            })
        };
        [lacks(&self.key, false), lacks(&self.value, true)]
    }

    /// Whether a registry is to be asked for schemas.
    pub(crate) fn lacks_schemas(&self) -> bool {
        self.asks_registry(&self.key) || self.asks_registry(&self.value)
    }

    /// Declared columns of JSON need no schema.
    fn asks_registry(&self, part: &PartFormat) -> bool {
        let columns = part.fields.is_none() && self.declared.is_none();
        let needs = part.format.has_schema() || (part.format == Format::Json && columns);
        needs && self.registry.is_some() && !part.schema.is_known()
    }

    fn check_names(&self) -> Result<()> {
        for (part, name) in [(&self.key, "key"), (&self.value, "value")] {
            if let (Some(format), None) = (&part.registered, &self.registry) {
                return Err(Error::invalid(format!(
                    "'{name}.format' = '{format}' needs a registry: set 'schema.registry.url', or write \
                     '{}' for records without one",
                    part.format
                )));
            }
        }
        Ok(())
    }

    /// Asks the registry for the schemas that are read with; `topic` is the table's only one.
    ///
    /// # Errors
    /// When the registry cannot be asked or has no such schema.
    pub(crate) async fn find_schemas(&mut self, topic: Option<&str>) -> Result<()> {
        self.check_names()?;
        let Some(config) = self.registry.as_ref().filter(|_| self.lacks_schemas()) else {
            return Ok(());
        };
        let registry = Registry::new(config.clone())?;
        let asks = [&self.key, &self.value].map(|part| self.asks_registry(part));
        let parts = [(&mut self.key, "key"), (&mut self.value, "value")];
        for ((part, name), _) in parts.into_iter().zip(asks).filter(|(_, asks)| *asks) {
            let schema = &mut part.schema;
            schema.find(part.format, &registry, name, topic).await?;
        }
        Ok(())
    }

    /// The decoder of the table.
    ///
    /// # Errors
    /// When columns are declared that no format fills or that are missing, have the same name, or a
    /// type that the format does not have.
    pub(crate) fn decoder(&self) -> Result<RecordDecoder> {
        self.check_names()?;
        let (key_fields, value_fields, order) = self.fields()?;
        let framed = self.registry.is_some();
        // One for both, so that a schema is asked for once; none where no schema is needed.
        let asked = self.key.format.has_schema() || self.value.format.has_schema();
        let config = self.registry.as_ref().filter(|_| asked).cloned();
        let registry = config.map(Registry::new).transpose()?;
        let registry = registry.as_ref();
        RecordDecoder::new(TableFormat {
            key: self.key.payload("key", key_fields, framed, registry)?,
            value: self
                .value
                .payload("value", value_fields, framed, registry)?,
            fields: order,
            columns: self.kafka_columns(),
            metadata_prefix: self.metadata_prefix.clone(),
            key_prefix: self.key_prefix.clone(),
            bad_rows: self.bad_rows,
        })
    }

    /// Kafka's columns, and with a registry the ids of schemas.
    fn kafka_columns(&self) -> Vec<Column> {
        let mut columns = self.columns.clone();
        if self.registry.is_some() {
            let framed = |part: &PartFormat| {
                let schemas = part.format.has_schema() && part.format != Format::AvroSingleObject;
                schemas || part.format.is_json()
            };
            columns.extend(framed(&self.key).then_some(Column::KeySchemaId));
            columns.extend(framed(&self.value).then_some(Column::ValueSchemaId));
        }
        columns
    }

    /// The fields of the key and of the value, and their order in the table where it was declared.
    #[allow(clippy::type_complexity)]
    pub(crate) fn fields(&self) -> Result<(Option<Fields>, Option<Fields>, Option<Vec<Column>>)> {
        let Some(declared) = &self.declared else {
            return Ok((self.key.fields.clone(), self.value.fields.clone(), None));
        };
        let (of_key, of_value) = (self.key.format.has_fields(), self.value.format.has_fields());
        let (mut key, mut value, mut order) = (vec![], vec![], vec![]);
        for field in declared {
            if !field.is_nullable() {
                return Err(Error::invalid(format!(
                    "column '{}' cannot be NOT NULL: a record without a value has NULL in each of \
                     its columns",
                    field.name()
                )));
            }
            let in_key = field.name().strip_prefix(&self.key_prefix);
            match in_key.filter(|name| of_key && !name.is_empty()) {
                Some(name) => {
                    order.push(Column::KeyField(key.len()));
                    key.push(renamed(field, name));
                }
                None if of_value => {
                    order.push(Column::ValueField(value.len()));
                    value.push(Arc::clone(field));
                }
                None => return Err(self.no_format(field)),
            }
        }
        let some = |fields: Vec<FieldRef>, there: bool| there.then(|| Fields::from(fields));
        Ok((some(key, of_key), some(value, of_value), Some(order)))
    }

    fn no_format(&self, field: &Field) -> Error {
        let name = field.name();
        Error::invalid(if self.key.format.has_fields() {
            format!(
                "column '{name}' belongs neither to the key, whose columns begin with '{}' \
                 ('key.prefix'), nor to the value, whose format '{}' has no fields",
                self.key_prefix, self.value.format
            )
        } else {
            format!(
                "column '{name}' is declared, but no format has fields: set 'value.format' to 'json', \
                 'csv', 'avro' or 'protobuf', or leave the column list out"
            )
        })
    }
}

impl PartFormat {
    /// Takes a format by its name in the options.
    ///
    /// # Errors
    /// When there is no such format.
    pub(crate) fn name(&mut self, name: &str) -> Result<()> {
        let (format, registered) = Format::named(name)?;
        self.format = format;
        self.registered = registered.then(|| name.to_owned());
        Ok(())
    }

    fn json(
        &self,
        name: &str,
        declared: Option<Fields>,
        framed: bool,
    ) -> Result<Option<JsonDecoder>> {
        if self.schema.file.is_some() && (declared.is_some() || self.format != Format::Json) {
            return Err(Error::invalid(format!(
                "'{name}.schema.file' gives the columns of the format 'json' where none are declared: leave it \
                 out"
            )));
        }
        let fields = match declared {
            Some(fields) => Some(fields),
            None => self.schema.json_fields(name)?,
        };
        let Some(fields) = fields else {
            return Ok(None);
        };
        let decoder = match (self.format, name) {
            (Format::DebeziumJson, "value") => JsonDecoder::debezium(&fields, framed)?,
            // Keys have no envelopes.
            (Format::DebeziumJson, _) => JsonDecoder::new(&fields, framed)?.wrapped(),
            _ => JsonDecoder::new(&fields, framed)?,
        };
        Ok(Some(decoder))
    }

    fn payload(
        &self,
        name: &str,
        fields: Option<Fields>,
        framed: bool,
        registry: Option<&Registry>,
    ) -> Result<Payload> {
        let needs_columns = || {
            Error::invalid(format!(
                "'{name}.format' = '{}' needs the columns: declare them in CREATE EXTERNAL TABLE",
                self.format
            ))
        };
        let decoder: Arc<dyn PayloadDecoder> = match self.format {
            format if format.is_json() => {
                let decoder = self.json(name, fields, framed)?;
                Arc::new(decoder.ok_or_else(needs_columns)?)
            }
            Format::Csv => {
                let fields = fields.filter(|f| !f.is_empty()).ok_or_else(needs_columns)?;
                Arc::new(CsvDecoder::new(&fields, self.csv_delimiter)?)
            }
            format if format.has_schema() => {
                let schema = &self.schema;
                schema.decoder(format, name, fields.as_ref(), registry)?
            }
            scalar => return Ok(Payload::of_scalar(scalar, name)),
        };
        Ok(Payload::Fields(decoder))
    }
}

fn renamed(field: &Field, name: &str) -> FieldRef {
    Arc::new(field.clone().with_name(name))
}

/// A CREATE EXTERNAL TABLE statement's column list of these fields.
pub(crate) fn column_list(schema: &Schema) -> Option<Fields> {
    (!schema.fields().is_empty()).then(|| schema.fields().clone())
}
