//! Turns raw batches, as a client reads them from Kafka, into rows of a table.

mod dead;
mod part;
mod reasons;
#[cfg(test)]
mod tests;
mod written;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, Int32Array, RecordBatch, RecordBatchOptions,
    StringViewArray, StringViewBuilder, new_null_array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use self::part::{DecodedPart, Part, bytes};
use self::reasons::Reasons;
pub use self::reasons::preview;
use super::Format;
use super::budget::BatchLimits;
use super::column::{Column, timestamp_type};
use super::payload::{PayloadDecoder, Wanted};
use super::policy::{BadRows, OnBadRow};
use super::scalar::ScalarDecoder;
use crate::error::{Error, Result};
use crate::raw::{RawBatch, RawColumns, TimestampType, headers_type};

pub use dead::{LETTER_COLUMNS, LETTER_RECORD};
pub use written::Written;

/// How keys or values are read.
#[derive(Debug, Clone, Default)]
pub enum Payload {
    /// As plain bytes.
    #[default]
    Raw,
    /// The column `key` or `value` has another type than bytes.
    Column(Arc<dyn PayloadDecoder>),
    /// The fields of the payload are columns.
    Fields(Arc<dyn PayloadDecoder>),
}

impl Payload {
    /// A format whose payload is a single value; `name` is the column's name.
    pub fn of_scalar(format: Format, name: &str) -> Self {
        match format.scalar() {
            Some(scalar) => Self::Column(Arc::new(ScalarDecoder::new(scalar, name))),
            None => Self::Raw,
        }
    }

    fn decoder(&self) -> Option<&Arc<dyn PayloadDecoder>> {
        match self {
            Self::Raw => None,
            Self::Column(decoder) | Self::Fields(decoder) => Some(decoder),
        }
    }

    /// The fields that become columns.
    fn fields(&self) -> &[Arc<Field>] {
        match self {
            Self::Fields(decoder) => decoder.fields(),
            _ => &[],
        }
    }
}

/// What a table consists of, apart from its ranges.
#[derive(Debug, Clone)]
pub struct TableFormat {
    /// How keys are read.
    pub key: Payload,
    /// How values are read.
    pub value: Payload,
    /// The order of the fields in the table. By default, the key's come first.
    pub fields: Option<Vec<Column>>,
    /// The columns that come from Kafka, such as topic and offset.
    pub columns: Vec<Column>,
    /// The prefix of their names.
    pub metadata_prefix: String,
    /// The prefix of the names of the key's fields.
    pub key_prefix: String,
    /// What to do about records that do not decode.
    pub bad_rows: BadRows,
}

impl Default for TableFormat {
    fn default() -> Self {
        Self {
            key: Payload::Raw,
            value: Payload::Raw,
            fields: None,
            columns: Column::ALL.to_vec(),
            metadata_prefix: String::new(),
            key_prefix: DEFAULT_KEY_PREFIX.to_owned(),
            bad_rows: BadRows::default(),
        }
    }
}

/// The default of `key.prefix`.
pub(crate) const DEFAULT_KEY_PREFIX: &str = "key_";

/// The columns of a table, and how to read its bytes. All scans of the table share one.
#[derive(Debug, Clone)]
pub struct RecordDecoder {
    columns: Vec<Column>,
    key: Payload,
    value: Payload,
    bad_rows: BadRows,
    /// Whether the rows are the records that do not decode.
    only_bad: bool,
    /// The ids of the topics that dead letters come from.
    topic_ids: BTreeMap<Arc<str>, String>,
    schema: SchemaRef,
}

/// Rows of a batch, as the table shows them.
#[derive(Debug)]
#[non_exhaustive]
pub struct Rows {
    /// The rows.
    pub batch: RecordBatch,
    /// Which records are rows, where some are not.
    pub kept: Option<BooleanArray>,
    /// The number of records that do not decode.
    pub bad: usize,
    /// The first of them and its fault, where there is a limit.
    pub first_bad: Option<String>,
}

impl Default for RecordDecoder {
    fn default() -> Self {
        Self::raw(Column::ALL.to_vec())
    }
}

impl RecordDecoder {
    /// A table of Kafka's own columns, with keys and values as bytes.
    pub fn raw(columns: Vec<Column>) -> Self {
        let fields: Vec<Field> = columns
            .iter()
            .map(|column| {
                let (data_type, nullable) = column.data_type();
                Field::new(column.name(), data_type, nullable)
            })
            .collect();
        Self {
            columns,
            key: Payload::Raw,
            value: Payload::Raw,
            bad_rows: BadRows::default(),
            only_bad: false,
            topic_ids: BTreeMap::new(),
            schema: Arc::new(Schema::new(fields)),
        }
    }

    /// A table whose payloads have formats. Fields come first, then Kafka's columns, then `_error`.
    ///
    /// # Errors
    /// When two columns have the same name.
    pub fn new(format: TableFormat) -> Result<Self> {
        let TableFormat {
            key,
            value,
            fields: order,
            columns: metadata,
            metadata_prefix,
            key_prefix,
            bad_rows,
        } = format;
        let mut columns = vec![];
        let mut fields = vec![];
        let order = order.unwrap_or_else(|| {
            let of_key = (0..key.fields().len()).map(Column::KeyField);
            let of_value = (0..value.fields().len()).map(Column::ValueField);
            of_key.chain(of_value).collect()
        });
        for column in order {
            let (field, prefix) = match column {
                Column::KeyField(index) => (key.fields().get(index), key_prefix.as_str()),
                Column::ValueField(index) => (value.fields().get(index), ""),
                _ => (None, ""),
            };
            if let Some(field) = field {
                columns.push(column);
                let name = format!("{prefix}{}", field.name());
                fields.push(field.as_ref().clone().with_name(name).with_nullable(true));
            }
        }
        for column in metadata {
            columns.push(column);
            let (mut data_type, nullable) = column.data_type();
            let payload = match column {
                Column::Key => Some(&key),
                Column::Value => Some(&value),
                _ => None,
            };
            if let Some(Payload::Column(decoder)) = payload {
                data_type = decoder.fields()[0].data_type().clone();
            }
            let name = format!("{metadata_prefix}{}", column.name());
            fields.push(Field::new(name, data_type, nullable));
        }
        let decodes = key.decoder().is_some() || value.decoder().is_some();
        if decodes && bad_rows.on == OnBadRow::Null {
            columns.push(Column::BadReason);
            let (data_type, nullable) = Column::BadReason.data_type();
            fields.push(Field::new(Column::BadReason.name(), data_type, nullable));
        }
        refuse_collisions(&columns, &fields)?;
        Ok(Self {
            columns,
            key,
            value,
            bad_rows,
            only_bad: false,
            topic_ids: BTreeMap::new(),
            schema: Arc::new(Schema::new(fields)),
        })
    }

    /// The schema of the table.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns in schema order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Whether keys or values are more than bytes.
    pub fn has_formats(&self) -> bool {
        self.key.decoder().is_some() || self.value.decoder().is_some()
    }

    /// What to do about records that do not decode.
    pub fn bad_rows(&self) -> BadRows {
        self.bad_rows
    }

    /// The index of a column in the schema.
    pub fn index_of(&self, column: Column) -> Option<usize> {
        self.columns.iter().position(|c| *c == column)
    }

    /// The raw columns that a projection (indices into the schema) needs.
    pub fn raw_columns(&self, projection: &[usize]) -> RawColumns {
        let wants = |column| {
            projection
                .iter()
                .any(|i| self.columns.get(*i) == Some(&column))
        };
        RawColumns {
            timestamp: wants(Column::Timestamp) || wants(Column::DeadLetterHeaders),
            timestamp_type: wants(Column::TimestampType),
            key: wants(Column::Key) || self.decodes(Part::Key, projection),
            value: wants(Column::Value) || self.decodes(Part::Value, projection),
            headers: wants(Column::Headers) || wants(Column::DeadLetterHeaders),
            leader_epoch: wants(Column::LeaderEpoch),
        }
    }

    /// The limits at which a client closes a batch for a projection. They are lower than `batch_bytes` only where
    /// columns may take far more than their payloads.
    pub fn batch_limits(&self, projection: &[usize], batch_bytes: usize) -> BatchLimits {
        let decoded = projection.iter().filter(|i| {
            let column = self.columns.get(**i).copied();
            column.is_some_and(|column| Part::BOTH.iter().any(|part| part.shows(column)))
        });
        let fields = decoded.filter_map(|i| self.schema.fields().get(*i));
        BatchLimits::of(fields.map(|field| field.data_type()), batch_bytes)
    }

    /// Whether a projection needs payloads to be decoded.
    fn decodes(&self, part: Part, projection: &[usize]) -> bool {
        let Some(_) = self.payload(part).decoder() else {
            return false;
        };
        let columns = projection.iter().filter_map(|i| self.columns.get(*i));
        self.bad_rows.checks_all() || columns.copied().any(|column| part.shows(column))
    }

    fn payload(&self, part: Part) -> &Payload {
        match part {
            Part::Key => &self.key,
            Part::Value => &self.value,
        }
    }

    /// Fetches what decoding the batch needs and does not have yet.
    ///
    /// # Errors
    /// When a schema registry fails.
    pub async fn prepare(&self, raw: &RawBatch, projection: &[usize]) -> Result<()> {
        for part in Part::BOTH {
            if let (Some(decoder), true) =
                (self.payload(part).decoder(), self.decodes(part, projection))
                && let Some(payloads) = part.of(raw)
            {
                decoder.prepare(payloads).await?;
            }
        }
        Ok(())
    }

    /// Builds the projected columns; `schema` is the projected schema.
    ///
    /// # Errors
    /// [`Error::BadRow`] for a record that does not decode, if the policy says so.
    pub fn decode(&self, raw: &RawBatch, projection: &[usize], schema: &SchemaRef) -> Result<Rows> {
        if self.only_bad {
            return self.letters(raw, projection, schema);
        }
        let rows = raw.offsets.len();
        let key = self.decode_part(Part::Key, raw, projection)?;
        let value = self.decode_part(Part::Value, raw, projection)?;
        let reasons = Reasons::of(&key, &value, rows);
        if let (OnBadRow::Fail, Some(first)) = (self.bad_rows.on, reasons.first()) {
            return Err(first.error(raw));
        }
        let columns = projection
            .iter()
            .map(|i| self.build(self.columns[*i], raw, rows, (&key, &value), &reasons))
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
            .map_err(failed)?;
        let bad = reasons.rows.len();
        // Only an error about a limit names it.
        let named = self.bad_rows.limit.and_then(|_| reasons.first());
        let first_bad = named.map(|first| first.located(raw));
        if bad > 0 && self.bad_rows.on.leaves_out() {
            let kept = reasons.good(rows);
            let batch = filter_record_batch(&batch, &kept).map_err(failed)?;
            let kept = Some(kept);
            return Ok(Rows {
                batch,
                kept,
                bad,
                first_bad,
            });
        }
        Ok(Rows {
            batch,
            kept: None,
            bad,
            first_bad,
        })
    }

    fn decode_part(&self, part: Part, raw: &RawBatch, projection: &[usize]) -> Result<DecodedPart> {
        let payload = self.payload(part);
        let (Some(decoder), true) = (payload.decoder(), self.decodes(part, projection)) else {
            return Ok(DecodedPart::default());
        };
        let shown = |column| {
            projection
                .iter()
                .any(|i| self.columns.get(*i) == Some(&column))
        };
        let fields: Vec<usize> = match payload {
            Payload::Column(_) => (0..usize::from(shown(part.column()))).collect(),
            _ => (0..decoder.fields().len())
                .filter(|index| shown(part.field(*index)))
                .collect(),
        };
        let wanted = Wanted {
            fields: &fields,
            check_all: self.bad_rows.checks_all() || shown(Column::BadReason),
            schema_ids: shown(part.schema_id()),
        };
        let missing;
        let payloads = match part.of(raw) {
            Some(payloads) => payloads,
            None => {
                missing = BinaryViewArray::new_null(raw.offsets.len());
                &missing
            }
        };
        let decoded = decoder.decode(payloads, &wanted)?;
        Ok(DecodedPart {
            part: Some(part),
            fields,
            decoded,
        })
    }

    fn build(
        &self,
        column: Column,
        raw: &RawBatch,
        rows: usize,
        (key, value): (&DecodedPart, &DecodedPart),
        reasons: &Reasons<'_>,
    ) -> Result<ArrayRef> {
        let missing = |data_type: &DataType| new_null_array(data_type, rows);
        Ok(match column {
            Column::Topic => Arc::new(repeated(&raw.partition.topic, rows)),
            Column::Partition => Arc::new(Int32Array::from_value(raw.partition.partition, rows)),
            Column::Offset => Arc::new(raw.offsets.clone()),
            Column::Timestamp => match &raw.timestamps {
                Some(array) => Arc::new(array.clone().with_timezone("UTC")),
                None => missing(&timestamp_type()),
            },
            Column::TimestampType => match &raw.timestamp_types {
                Some(types) => Arc::new(timestamp_type_names(types)),
                None => missing(&DataType::Utf8View),
            },
            Column::Key | Column::Value => {
                let (part, decoded) = match column {
                    Column::Key => (&self.key, key),
                    _ => (&self.value, value),
                };
                match part {
                    Payload::Column(_) => decoded.column(0)?,
                    _ => bytes(raw, column),
                }
            }
            Column::Headers => match &raw.headers {
                Some(array) => Arc::new(array.clone()),
                None => missing(&headers_type()),
            },
            Column::LeaderEpoch => match &raw.leader_epochs {
                Some(array) => Arc::new(array.clone()),
                None => missing(&DataType::Int32),
            },
            Column::KeyField(index) => key.column(index)?,
            Column::ValueField(index) => value.column(index)?,
            Column::KeySchemaId => key.schema_ids(rows),
            Column::ValueSchemaId => value.schema_ids(rows),
            Column::BadReason => Arc::new(reasons.texts(rows)),
            // Columns that only dead letters have.
            Column::BadClass
            | Column::BadSchemaId
            | Column::TopicId
            | Column::DeadLetterHeaders => missing(&column.data_type().0),
        })
    }
}

fn failed(error: impl fmt::Display) -> Error {
    Error::internal(format!("building a record batch: {error}"))
}

/// No query could tell two columns of the same name apart.
fn refuse_collisions(columns: &[Column], fields: &[Field]) -> Result<()> {
    for (at, field) in fields.iter().enumerate() {
        let Some(before) = fields[..at].iter().position(|f| f.name() == field.name()) else {
            continue;
        };
        let of_kafka = |column: &Column| Column::ALL.contains(column);
        let both_fields = !of_kafka(&columns[at]) && !of_kafka(&columns[before]);
        let name = field.name();
        return Err(Error::invalid(match columns[at] {
            Column::BadReason => {
                "'on.bad.row' = 'null' needs the column '_error', which the payload has as a \
                 field: declare the columns and leave it out, or choose 'skip' or 'fail'"
                    .to_owned()
            }
            _ if both_fields => format!(
                "the key and the value both have a column '{name}': tell them apart with 'key.prefix'"
            ),
            _ => format!(
                "the payload's field '{name}' has the name of a column of Kafka's: give those a prefix, \
                 for example 'metadata.prefix' = '_', or leave some out with 'metadata.columns'"
            ),
        }));
    }
    Ok(())
}

/// The same text in every row; its bytes are stored once.
fn repeated(text: &str, rows: usize) -> StringViewArray {
    let mut builder = StringViewBuilder::with_capacity(rows).with_deduplicate_strings();
    for _ in 0..rows {
        builder.append_value(text);
    }
    builder.finish()
}

fn timestamp_type_names(types: &[TimestampType]) -> StringViewArray {
    types
        .iter()
        .map(|t| match t {
            TimestampType::NotAvailable => None,
            TimestampType::CreateTime => Some("CreateTime"),
            TimestampType::LogAppendTime => Some("LogAppendTime"),
        })
        .collect()
}
