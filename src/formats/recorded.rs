//! The formats of a table as an export notes them: a later reader makes the same rows of the records,
//! whatever has come to the topic or to a registry meanwhile.

use arrow::datatypes::{Fields, Schema};
use serde::{Deserialize, Serialize};

use super::columns::{columns_of, columns_text};
use super::{Formats, PartFormat};
use crate::decode::{Column, Registry};
use crate::error::{Error, Result};

/// What of a table's formats makes its rows. Nothing of it is secret; a registry's address and login are
/// left to the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedFormats {
    key: RecordedPart,
    value: RecordedPart,
    /// Whether payloads may have the frame of a registry.
    registry: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    declared: Option<String>,
    columns: Vec<String>,
    metadata_prefix: String,
    key_prefix: String,
    on_bad_row: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RecordedPart {
    format: String,
    csv_delimiter: char,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_message: Option<String>,
    /// The id of the registry's schema that everything is read with.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_id: Option<i32>,
}

fn record(fields: Option<&Fields>) -> Result<Option<String>> {
    let text = fields.map(|fields| columns_text(&Schema::new(fields.clone())));
    text.transpose()
}

fn recorded(text: Option<&str>) -> Result<Option<Fields>> {
    let fields = text.map(|text| columns_of(text).map(|schema| schema.fields().clone()));
    fields.transpose()
}

impl RecordedPart {
    fn of(part: &PartFormat) -> Result<Self> {
        let schema = &part.schema;
        let absolute = |file: &String| {
            let path = std::path::absolute(file);
            path.map_or_else(|_| file.clone(), |path| path.to_string_lossy().into_owned())
        };
        Ok(Self {
            format: part.name_in_options(),
            csv_delimiter: char::from(part.csv_delimiter),
            fields: record(part.fields.as_ref())?,
            schema_file: schema.file.as_ref().map(absolute),
            schema_message: schema.message.clone(),
            schema_id: schema.found.as_ref().map(|found| found.id),
        })
    }

    /// The format; a file that `own` names is a copy of the one that was read then.
    fn part(&self, own: &PartFormat) -> Result<PartFormat> {
        let mut part = PartFormat::default();
        part.name(&self.format)?;
        part.csv_delimiter = u8::try_from(self.csv_delimiter).unwrap_or(b',');
        part.fields = recorded(self.fields.as_deref())?;
        let copy = own
            .schema
            .file
            .as_ref()
            .filter(|_| self.schema_file.is_some());
        part.schema.file = copy.or(self.schema_file.as_ref()).cloned();
        part.schema.message.clone_from(&self.schema_message);
        Ok(part)
    }

    /// The same without what is learned from records or a registry.
    fn as_asked(&self) -> Self {
        Self {
            fields: None,
            schema_id: None,
            ..self.clone()
        }
    }
}

impl RecordedFormats {
    pub(crate) fn of(formats: &Formats) -> Result<Self> {
        Ok(Self {
            key: RecordedPart::of(&formats.key)?,
            value: RecordedPart::of(&formats.value)?,
            registry: formats.registry.is_some(),
            declared: record(formats.declared.as_ref())?,
            columns: formats
                .columns
                .iter()
                .map(|c| c.name().to_owned())
                .collect(),
            metadata_prefix: formats.metadata_prefix.clone(),
            key_prefix: formats.key_prefix.clone(),
            on_bad_row: formats.bad_rows.on.to_string(),
        })
    }

    /// Whether `other` asks for the same, whatever columns were learned for it.
    pub(crate) fn asks_as(&self, other: &Self) -> bool {
        let asked = |formats: &Self| Self {
            key: formats.key.as_asked(),
            value: formats.value.as_asked(),
            ..formats.clone()
        };
        asked(self) == asked(other)
    }

    pub(crate) async fn formats(&self, own: &Formats) -> Result<Formats> {
        let mut formats = self.without_schemas(own)?;
        let Some(config) = formats.registry.clone() else {
            return Ok(formats);
        };
        let ids = [
            (&mut formats.key, &self.key),
            (&mut formats.value, &self.value),
        ];
        for (part, recorded) in ids {
            if let Some(id) = recorded.schema_id {
                let found = Registry::new(config.clone())?.schema(id).await?;
                part.schema.found = Some(found.ok_or_else(|| {
                    Error::invalid(format!(
                        "the records were read with schema {id}, which this registry does not have: name \
                         the same registry by 'schema.registry.url'"
                    ))
                })?);
            }
        }
        Ok(formats)
    }

    /// The formats but for the schemas of a registry.
    pub(super) fn without_schemas(&self, own: &Formats) -> Result<Formats> {
        let columns = self.columns.iter().map(|name| {
            let column = Column::ALL.into_iter().find(|c| c.name() == name);
            column.ok_or_else(|| {
                Error::invalid(format!(
                    "there is no column '{name}', which the export recorded"
                ))
            })
        });
        let mut formats = Formats {
            key: self.key.part(&own.key)?,
            value: self.value.part(&own.value)?,
            declared: recorded(self.declared.as_deref())?,
            columns: columns.collect::<Result<_>>()?,
            metadata_prefix: self.metadata_prefix.clone(),
            key_prefix: self.key_prefix.clone(),
            ..Formats::default()
        };
        formats.bad_rows.on = self.on_bad_row.parse()?;
        formats.bad_rows.limit = own.bad_rows.limit;
        if self.registry {
            formats.registry = Some(own.registry.clone().ok_or_else(|| {
                Error::invalid(
                    "the records were read with a schema registry: name it by 'schema.registry.url'",
                )
            })?);
        }
        Ok(formats)
    }
}

impl PartFormat {
    /// The name of the format, as [`name`](Self::name) takes it.
    fn name_in_options(&self) -> String {
        let registered = self.registered.clone();
        registered.unwrap_or_else(|| self.format.to_string())
    }
}
