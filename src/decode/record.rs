//! The table's columns of raw batches.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, Int32Array, RecordBatch, RecordBatchOptions,
    StringViewArray, StringViewBuilder, new_null_array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::Format;
use super::column::{Column, timestamp_type};
use super::payload::{BadPayload, Decoded, PayloadDecoder, Wanted};
use super::policy::{BadRows, OnBadRow};
use super::scalar::ScalarDecoder;
use crate::client::{RawBatch, RawColumns, TimestampType, headers_type};
use crate::error::{Error, Result};

/// How keys or values are read.
#[derive(Debug, Clone, Default)]
pub(crate) enum Payload {
    /// As they are.
    #[default]
    Raw,
    /// The column `key` or `value` itself has another type.
    Column(Arc<dyn PayloadDecoder>),
    /// Their fields are columns.
    Fields(Arc<dyn PayloadDecoder>),
}

impl Payload {
    /// A payload of a format that is one value; `name` is its column's.
    pub(crate) fn of_scalar(format: Format, name: &str) -> Self {
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

    /// Fields that become columns.
    fn fields(&self) -> &[Arc<Field>] {
        match self {
            Self::Fields(decoder) => decoder.fields(),
            _ => &[],
        }
    }
}

/// What a table is made of, besides ranges.
#[derive(Debug, Clone)]
pub(crate) struct TableFormat {
    pub(crate) key: Payload,
    pub(crate) value: Payload,
    /// The order of the fields in the table; those of the key come first unless set.
    pub(crate) fields: Option<Vec<Column>>,
    /// The columns of Kafka's that the table has.
    pub(crate) columns: Vec<Column>,
    /// What the names of these begin with.
    pub(crate) metadata_prefix: String,
    /// What the names of the key's fields begin with in the table.
    pub(crate) key_prefix: String,
    pub(crate) bad_rows: BadRows,
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

/// Which columns a table has and how its bytes are read; shared by all its scans.
#[derive(Debug, Clone)]
pub(crate) struct RecordDecoder {
    columns: Vec<Column>,
    key: Payload,
    value: Payload,
    bad_rows: BadRows,
    schema: SchemaRef,
}

/// Rows of a batch as the table shows them.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) batch: RecordBatch,
    /// Which of the records are rows, where not all are.
    pub(crate) kept: Option<BooleanArray>,
    /// How many records do not decode.
    pub(crate) bad: usize,
    /// The first of these, and what is wrong with it.
    pub(crate) first_bad: Option<String>,
}

impl Default for RecordDecoder {
    fn default() -> Self {
        Self::raw(Column::ALL.to_vec())
    }
}

impl RecordDecoder {
    /// A table of Kafka's own columns, bytes as they are.
    pub(crate) fn raw(columns: Vec<Column>) -> Self {
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
            schema: Arc::new(Schema::new(fields)),
        }
    }

    /// A table whose payloads have formats: fields first, then Kafka's columns, then `_error`.
    ///
    /// # Errors
    /// When two columns have the same name.
    pub(crate) fn new(format: TableFormat) -> Result<Self> {
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
            schema: Arc::new(Schema::new(fields)),
        })
    }

    /// The table's schema.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns in schema order.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Whether keys or values are more than bytes.
    pub(crate) fn has_formats(&self) -> bool {
        self.key.decoder().is_some() || self.value.decoder().is_some()
    }

    pub(crate) fn bad_rows(&self) -> BadRows {
        self.bad_rows
    }

    /// The index of a column in the schema.
    pub(crate) fn index_of(&self, column: Column) -> Option<usize> {
        self.columns.iter().position(|c| *c == column)
    }

    /// The raw columns that a projection (indices into the schema) needs.
    pub(crate) fn raw_columns(&self, projection: &[usize]) -> RawColumns {
        let wants = |column| {
            projection
                .iter()
                .any(|i| self.columns.get(*i) == Some(&column))
        };
        RawColumns {
            timestamp: wants(Column::Timestamp),
            timestamp_type: wants(Column::TimestampType),
            key: wants(Column::Key) || self.decodes(Part::Key, projection),
            value: wants(Column::Value) || self.decodes(Part::Value, projection),
            headers: wants(Column::Headers),
            leader_epoch: wants(Column::LeaderEpoch),
        }
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

    /// Gets what decoding the batch needs and is not at hand.
    ///
    /// # Errors
    /// Those of a schema registry.
    pub(crate) async fn prepare(&self, raw: &RawBatch, projection: &[usize]) -> Result<()> {
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
    /// [`Error::BadRow`] for a record that does not decode, where that is the policy.
    pub(crate) fn decode(
        &self,
        raw: &RawBatch,
        projection: &[usize],
        schema: &SchemaRef,
    ) -> Result<Rows> {
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
        let failed = |e: arrow::error::ArrowError| Error::Kafka {
            operation: "building a record batch".to_owned(),
            reason: e.to_string(),
        };
        let batch = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
            .map_err(failed)?;
        let bad = reasons.rows.len();
        let first_bad = reasons.first().map(|first| first.located(raw));
        if bad > 0 && self.bad_rows.on == OnBadRow::Skip {
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
                let (part, decoded, bytes) = match column {
                    Column::Key => (&self.key, key, &raw.keys),
                    _ => (&self.value, value, &raw.values),
                };
                match (part, bytes) {
                    (Payload::Column(_), _) => decoded.column(0)?,
                    (_, Some(array)) => Arc::new(array.clone()),
                    (_, None) => missing(&DataType::BinaryView),
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
        })
    }
}

/// Two columns of one name can be told apart by no query.
fn refuse_collisions(columns: &[Column], fields: &[Field]) -> Result<()> {
    for (at, field) in fields.iter().enumerate() {
        let Some(before) = fields[..at].iter().position(|f| f.name() == field.name()) else {
            continue;
        };
        let of_kafka = |column: &Column| Column::ALL.contains(column);
        let both_fields = !of_kafka(&columns[at]) && !of_kafka(&columns[before]);
        let name = field.name();
        return Err(Error::invalid(match columns[at] {
            Column::BadReason => format!(
                "'on.bad.row' = 'null' needs the column '_error', which the payload has as a field: \
                 declare the columns and leave it out, or choose 'skip' or 'fail'"
            ),
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

/// Key or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Key,
    Value,
}

impl Part {
    const BOTH: [Self; 2] = [Self::Key, Self::Value];

    fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Value => "value",
        }
    }

    fn column(self) -> Column {
        match self {
            Self::Key => Column::Key,
            Self::Value => Column::Value,
        }
    }

    fn field(self, index: usize) -> Column {
        match self {
            Self::Key => Column::KeyField(index),
            Self::Value => Column::ValueField(index),
        }
    }

    fn schema_id(self) -> Column {
        match self {
            Self::Key => Column::KeySchemaId,
            Self::Value => Column::ValueSchemaId,
        }
    }

    /// Whether a column is made of decoded payloads.
    fn shows(self, column: Column) -> bool {
        match column {
            Column::BadReason => true,
            Column::KeyField(_) => self == Self::Key,
            Column::ValueField(_) => self == Self::Value,
            // Also where it is bytes: then its payload is decoded for nothing, which is rare.
            other => other == self.column() || other == self.schema_id(),
        }
    }

    fn of(self, raw: &RawBatch) -> Option<&BinaryViewArray> {
        match self {
            Self::Key => raw.keys.as_ref(),
            Self::Value => raw.values.as_ref(),
        }
    }
}

/// What became of the keys or values of a batch.
#[derive(Debug, Default)]
struct DecodedPart {
    part: Option<Part>,
    /// The fields that `decoded` has columns of.
    fields: Vec<usize>,
    decoded: Decoded,
}

impl DecodedPart {
    fn column(&self, field: usize) -> Result<ArrayRef> {
        let place = self.fields.iter().position(|f| *f == field);
        let column = place.and_then(|place| self.decoded.columns.get(place));
        column.cloned().ok_or_else(|| Error::Kafka {
            operation: "building a record batch".to_owned(),
            reason: format!("field {field} was not decoded"),
        })
    }

    fn schema_ids(&self, rows: usize) -> ArrayRef {
        match &self.decoded.schema_ids {
            Some(ids) => Arc::new(ids.clone()),
            None => new_null_array(&DataType::Int32, rows),
        }
    }
}

/// The bad payloads of a batch, by row.
struct Reasons<'a> {
    /// Of rows in ascending order, a key's before a value's.
    all: Vec<(Part, &'a BadPayload)>,
    /// The rows, each once.
    rows: Vec<usize>,
}

impl<'a> Reasons<'a> {
    fn of(key: &'a DecodedPart, value: &'a DecodedPart, rows: usize) -> Self {
        let of = |decoded: &'a DecodedPart| {
            let bad = decoded.decoded.bad.iter().filter(move |b| b.row < rows);
            bad.filter_map(|bad| Some((decoded.part?, bad)))
        };
        let mut all: Vec<_> = of(key).chain(of(value)).collect();
        all.sort_by_key(|(_, bad)| bad.row);
        let mut rows: Vec<usize> = all.iter().map(|(_, bad)| bad.row).collect();
        rows.dedup();
        Self { all, rows }
    }

    fn first(&self) -> Option<Reason<'a>> {
        let (part, bad) = *self.all.first()?;
        Some(Reason { part, bad })
    }

    fn good(&self, rows: usize) -> BooleanArray {
        let mut good = vec![true; rows];
        for row in &self.rows {
            good[*row] = false;
        }
        good.into()
    }

    fn texts(&self, rows: usize) -> StringViewArray {
        let mut texts: Vec<Option<String>> = vec![None; rows];
        for (part, bad) in &self.all {
            let text = format!("{}: {}", part.name(), bad.message);
            match &mut texts[bad.row] {
                Some(before) => {
                    before.push_str("; ");
                    before.push_str(&text);
                }
                none => *none = Some(text),
            }
        }
        texts.into_iter().collect()
    }
}

struct Reason<'a> {
    part: Part,
    bad: &'a BadPayload,
}

impl Reason<'_> {
    fn error(&self, raw: &RawBatch) -> Error {
        Error::BadRow {
            topic: raw.partition.topic.to_string(),
            partition: raw.partition.partition,
            offset: raw.offsets.value(self.bad.row),
            message: format!(
                "{}; 'on.bad.row' = 'null' or 'skip' goes on without",
                self.message(raw)
            ),
        }
    }

    /// With the record's coordinates.
    fn located(&self, raw: &RawBatch) -> String {
        let offset = raw.offsets.value(self.bad.row);
        format!("{}@{offset}: {}", raw.partition, self.message(raw))
    }

    fn message(&self, raw: &RawBatch) -> String {
        let part = self.part.name();
        let payload = self.part.of(raw).map(|all| all.value(self.bad.row));
        let id = self.bad.schema_id.map(|id| format!(", schema id {id}"));
        format!(
            "the {part} does not decode: {}{} ({})",
            self.bad.message,
            id.unwrap_or_default(),
            preview(payload.unwrap_or_default()),
        )
    }
}

/// The beginning of a payload: as text if that is UTF-8, else in hex.
fn preview(bytes: &[u8]) -> String {
    const PREVIEW_BYTES: usize = 64;
    let shown = &bytes[..bytes.len().min(PREVIEW_BYTES)];
    let more = if shown.len() < bytes.len() { "…" } else { "" };
    let size = bytes.len();
    // The end of what is shown may lie within a character.
    let text = match std::str::from_utf8(shown) {
        Ok(text) => Some(text),
        Err(e) if e.error_len().is_none() && !more.is_empty() => {
            std::str::from_utf8(&shown[..e.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    match text {
        Some(text) => format!("{size} bytes: {text:?}{more}"),
        None => {
            let hex: String = shown.iter().map(|b| format!("{b:02x}")).collect();
            format!("{size} bytes in hex: {hex}{more}")
        }
    }
}

/// One text in every row: the bytes are held once.
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

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, Int64Array};
    use arrow::datatypes::{Fields, Int32Type, Int64Type};

    use super::*;
    use crate::client::PassedOffsets;
    use crate::decode::JsonDecoder;
    use crate::range::TopicPartition;

    fn raw(values: Vec<Option<&[u8]>>) -> RawBatch {
        let rows = values.len() as i64;
        RawBatch {
            partition: TopicPartition::new("a-topic-with-a-long-name", 3),
            next_offset: 10 + rows,
            offsets: Int64Array::from_iter_values(10..10 + rows),
            timestamps: None,
            timestamp_types: None,
            keys: None,
            values: Some(values.into_iter().collect()),
            headers: None,
            leader_epochs: None,
            bytes: 0,
            lost_offsets: 0,
            passed: PassedOffsets::default(),
            fetch_wait_ns: 0,
            decode_ns: 0,
        }
    }

    fn decode(decoder: &RecordDecoder, raw: &RawBatch, columns: &[Column]) -> Result<Rows> {
        let projection: Vec<usize> = columns
            .iter()
            .map(|c| decoder.index_of(*c).expect("the table has all columns"))
            .collect();
        let schema = decoder
            .schema()
            .project(&projection)
            .expect("valid indices");
        decoder.decode(raw, &projection, &Arc::new(schema))
    }

    fn text(on: OnBadRow) -> RecordDecoder {
        RecordDecoder::new(TableFormat {
            value: Payload::of_scalar(Format::Text, "value"),
            bad_rows: BadRows { on, limit: None },
            ..TableFormat::default()
        })
        .unwrap()
    }

    fn json(fields: Vec<Field>, on: OnBadRow) -> Result<RecordDecoder> {
        let decoder = JsonDecoder::new(&Fields::from(fields), false)?;
        RecordDecoder::new(TableFormat {
            value: Payload::Fields(Arc::new(decoder)),
            bad_rows: BadRows { on, limit: None },
            ..TableFormat::default()
        })
    }

    #[test]
    fn projection_without_columns_keeps_the_row_count() {
        let decoder = RecordDecoder::default();
        let rows = decode(&decoder, &raw(vec![None, Some(b"x")]), &[]).unwrap();
        assert_eq!((rows.batch.num_columns(), rows.batch.num_rows()), (0, 2));
        assert_eq!(decoder.raw_columns(&[]), RawColumns::default());
    }

    #[test]
    fn topic_is_repeated_and_partition_constant() {
        let decoder = RecordDecoder::default();
        let columns = [Column::Topic, Column::Partition, Column::Offset];
        let batch = decode(&decoder, &raw(vec![None, Some(b"x")]), &columns)
            .unwrap()
            .batch;
        let topics = batch.column(0).as_string_view();
        assert_eq!(topics.value(0), "a-topic-with-a-long-name");
        assert_eq!(topics.value(1), topics.value(0));
        assert_eq!(topics.data_buffers().len(), 1);
        assert_eq!(batch.column(1).as_primitive::<Int32Type>().value(1), 3);
    }

    #[test]
    fn text_keeps_nulls_and_names_the_bad_record() {
        let decoder = text(OnBadRow::Fail);
        let values = vec![None, Some(b"x".as_slice())];
        let good = decode(&decoder, &raw(values), &[Column::Value])
            .unwrap()
            .batch;
        assert!(good.column(0).is_null(0));
        assert_eq!(good.column(0).as_string_view().value(1), "x");

        // Whether a record is bad does not depend on the columns that are asked for.
        for columns in [vec![Column::Value], vec![Column::Offset], vec![]] {
            let bad = decode(&decoder, &raw(vec![None, Some(b"x\xff")]), &columns);
            assert_eq!(
                bad.unwrap_err().to_string(),
                "a-topic-with-a-long-name[3]@11: the value does not decode: not UTF-8 text: byte 1 \
                 belongs to no character (2 bytes in hex: 78ff); 'on.bad.row' = 'null' or 'skip' goes \
                 on without"
            );
        }
    }

    #[test]
    fn bad_records_are_null_with_a_reason_or_no_rows() {
        let values = || raw(vec![Some(b"a"), Some(b"\xff"), None]);
        let decoder = text(OnBadRow::Null);
        let rows = decode(&decoder, &values(), &[Column::Value, Column::BadReason]).unwrap();
        assert_eq!((rows.bad, rows.kept), (1, None));
        let shown = rows.batch.column(0).as_string_view();
        assert_eq!(shown.iter().collect::<Vec<_>>(), [Some("a"), None, None]);
        let reasons = rows.batch.column(1).as_string_view();
        let expected = "value: not UTF-8 text: byte 0 belongs to no character";
        assert_eq!(
            reasons.iter().collect::<Vec<_>>(),
            [None, Some(expected), None]
        );

        let decoder = text(OnBadRow::Skip);
        let rows = decode(&decoder, &values(), &[Column::Offset]).unwrap();
        assert_eq!(rows.bad, 1);
        assert_eq!(rows.kept, Some(vec![true, false, true].into()));
        let offsets = rows.batch.column(0).as_primitive::<Int64Type>();
        assert_eq!(offsets.values(), &[10, 12]);
    }

    #[test]
    fn fields_come_first_and_names_do_not_collide() {
        let fields = |name: &str| vec![Field::new(name, DataType::Int64, true)];
        let decoder = json(fields("id"), OnBadRow::Null).unwrap();
        let names: Vec<&str> = decoder
            .schema()
            .fields()
            .iter()
            .map(|f| f.name().as_str())
            .collect();
        assert_eq!(
            (names[0], names[1], names[names.len() - 1]),
            ("id", "topic", "_error")
        );

        let error = json(fields("offset"), OnBadRow::Fail)
            .unwrap_err()
            .to_string();
        assert!(error.contains("'metadata.prefix' = '_'"), "{error}");
        let error = json(fields("_error"), OnBadRow::Null)
            .unwrap_err()
            .to_string();
        assert!(error.contains("needs the column '_error'"), "{error}");
    }

    #[test]
    fn fields_that_are_not_shown_are_checked_unless_bad_records_are_null() {
        let fields = vec![
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Int64, true),
        ];
        let values = || raw(vec![Some(br#"{"a":1,"b":"x"}"#)]);
        let only_a = [Column::ValueField(0)];
        let decoder = json(fields.clone(), OnBadRow::Fail).unwrap();
        let error = decode(&decoder, &values(), &only_a)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("field 'b': expected Int64, found the text 'x'"),
            "{error}"
        );

        let decoder = json(fields, OnBadRow::Null).unwrap();
        let rows = decode(&decoder, &values(), &only_a).unwrap();
        assert_eq!(rows.batch.column(0).as_primitive::<Int64Type>().value(0), 1);
        let columns = [Column::ValueField(0), Column::BadReason];
        let rows = decode(&decoder, &values(), &columns).unwrap();
        assert!(rows.batch.column(0).is_null(0));
    }
}
