//! From raw columns to the columns that SQL sees.
//!
//! [`RecordDecoder`] fixes a table's schema and turns a [`RawBatch`] into an Arrow record batch of
//! it. Only the columns of a projection are built, and [`RecordDecoder::raw_columns`] tells the
//! client which raw ones they need, so that a projection reaches the reader.

mod payload;
mod protobuf;

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, BinaryViewArray, Int32Array, RecordBatch, RecordBatchOptions, StringViewArray,
    StringViewBuilder, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::client::{RawBatch, RawColumns, TimestampType, headers_type};
use crate::error::{Error, Result, nearest_names};

/// How the bytes of keys or values become a column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// As they are: BinaryView.
    #[default]
    Raw,
    /// UTF-8 text: Utf8View. Other bytes are an error that names the record.
    Text,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "raw" => Ok(Self::Raw),
            "text" => Ok(Self::Text),
            other => {
                let nearest = nearest_names(other, ["raw", "text"]);
                let hint = nearest
                    .first()
                    .map(|n| format!("; did you mean '{n}'?"))
                    .unwrap_or_default();
                Err(Error::invalid(format!(
                    "format '{text}' is not known: the formats are 'raw' (bytes) and 'text' (UTF-8){hint}"
                )))
            }
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Text => "text",
        })
    }
}

/// A column of a Kafka table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Column {
    /// Utf8View, not null.
    Topic,
    /// Int32, not null.
    Partition,
    /// Int64, not null.
    Offset,
    /// Timestamp(ms, UTC); NULL when the record has none.
    Timestamp,
    /// Utf8View: `CreateTime`, `LogAppendTime` or NULL.
    TimestampType,
    /// BinaryView, or Utf8View by `key.format`; NULL is not empty.
    Key,
    /// BinaryView, or Utf8View by `value.format`; NULL is a tombstone.
    Value,
    /// `List<Struct<key: Utf8, value: Binary>>` in wire order; a record without has an empty list.
    Headers,
    /// Int32; NULL where the client does not know it.
    LeaderEpoch,
}

impl Column {
    /// Every column in the order of the table.
    pub const ALL: [Self; 9] = [
        Self::Topic,
        Self::Partition,
        Self::Offset,
        Self::Timestamp,
        Self::TimestampType,
        Self::Key,
        Self::Value,
        Self::Headers,
        Self::LeaderEpoch,
    ];

    /// The column's name without a prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Partition => "partition",
            Self::Offset => "offset",
            Self::Timestamp => "timestamp",
            Self::TimestampType => "timestamp_type",
            Self::Key => "key",
            Self::Value => "value",
            Self::Headers => "headers",
            Self::LeaderEpoch => "leader_epoch",
        }
    }
}

/// Which columns a table has and how its bytes are read; shared by all its scans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordDecoder {
    columns: Vec<Column>,
    key: Format,
    value: Format,
    schema: SchemaRef,
}

impl Default for RecordDecoder {
    fn default() -> Self {
        Self::new(Format::Raw, Format::Raw, Column::ALL.to_vec())
    }
}

impl RecordDecoder {
    /// A table of the given columns.
    pub fn new(key: Format, value: Format, columns: Vec<Column>) -> Self {
        let fields: Vec<Field> = columns
            .iter()
            .map(|&column| {
                let (data_type, nullable) = data_type(column, key, value);
                Field::new(column.name(), data_type, nullable)
            })
            .collect();
        Self {
            columns,
            key,
            value,
            schema: Arc::new(Schema::new(fields)),
        }
    }

    /// The table's schema.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns in schema order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
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
            timestamp: wants(Column::Timestamp),
            timestamp_type: wants(Column::TimestampType),
            key: wants(Column::Key),
            value: wants(Column::Value),
            headers: wants(Column::Headers),
            leader_epoch: wants(Column::LeaderEpoch),
        }
    }

    /// Builds the projected columns; `schema` is the projected schema.
    ///
    /// # Errors
    /// When bytes are no UTF-8 text under [`Format::Text`]: the error names the record.
    pub(crate) fn decode(
        &self,
        raw: &RawBatch,
        projection: &[usize],
        schema: &SchemaRef,
    ) -> Result<RecordBatch> {
        let rows = raw.offsets.len();
        let columns = projection
            .iter()
            .map(|i| self.build(self.columns[*i], raw, rows))
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(|e| {
            Error::Kafka {
                operation: "building a record batch".to_owned(),
                reason: e.to_string(),
            }
        })
    }

    fn build(&self, column: Column, raw: &RawBatch, rows: usize) -> Result<ArrayRef> {
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
            Column::Key => payload(self.key, raw.keys.as_ref(), raw, "key")?,
            Column::Value => payload(self.value, raw.values.as_ref(), raw, "value")?,
            Column::Headers => match &raw.headers {
                Some(array) => Arc::new(array.clone()),
                None => missing(&headers_type()),
            },
            Column::LeaderEpoch => match &raw.leader_epochs {
                Some(array) => Arc::new(array.clone()),
                None => missing(&DataType::Int32),
            },
        })
    }
}

fn timestamp_type() -> DataType {
    static UTC: LazyLock<Arc<str>> = LazyLock::new(|| "UTC".into());
    DataType::Timestamp(TimeUnit::Millisecond, Some(Arc::clone(&UTC)))
}

fn data_type(column: Column, key: Format, value: Format) -> (DataType, bool) {
    let bytes = |format| match format {
        Format::Raw => DataType::BinaryView,
        Format::Text => DataType::Utf8View,
    };
    match column {
        Column::Topic => (DataType::Utf8View, false),
        Column::Partition => (DataType::Int32, false),
        Column::Offset => (DataType::Int64, false),
        Column::Timestamp => (timestamp_type(), true),
        Column::TimestampType => (DataType::Utf8View, true),
        Column::Key => (bytes(key), true),
        Column::Value => (bytes(value), true),
        Column::Headers => (headers_type(), false),
        Column::LeaderEpoch => (DataType::Int32, true),
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

fn payload(
    format: Format,
    bytes: Option<&BinaryViewArray>,
    raw: &RawBatch,
    what: &str,
) -> Result<ArrayRef> {
    let rows = raw.offsets.len();
    match (format, bytes) {
        (Format::Raw, Some(array)) => Ok(Arc::new(array.clone())),
        (Format::Raw, None) => Ok(new_null_array(&DataType::BinaryView, rows)),
        (Format::Text, None) => Ok(new_null_array(&DataType::Utf8View, rows)),
        (Format::Text, Some(array)) => match array.clone().to_string_view() {
            Ok(text) => Ok(Arc::new(text)),
            Err(_) => Err(not_text(array, raw, what)),
        },
    }
}

/// Names the first record whose bytes are no text.
fn not_text(array: &BinaryViewArray, raw: &RawBatch, what: &str) -> Error {
    /// How many bytes of a payload an error shows.
    const PREVIEW_BYTES: usize = 64;
    let bad = (0..array.len())
        .find(|i| array.is_valid(*i) && std::str::from_utf8(array.value(*i)).is_err());
    let (offset, preview) = match bad {
        Some(i) => {
            let bytes = array.value(i);
            let shown = &bytes[..bytes.len().min(PREVIEW_BYTES)];
            let hex: String = shown.iter().map(|b| format!("{b:02x}")).collect();
            (raw.offsets.value(i), hex)
        }
        None => (raw.next_offset, String::new()),
    };
    Error::BadRow {
        topic: raw.partition.topic.to_string(),
        partition: raw.partition.partition,
        offset,
        message: format!(
            "the {what} is not UTF-8 text (bytes in hex: {preview}); read it as bytes with '{what}.format' = 'raw'"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::PassedOffsets;
    use crate::range::TopicPartition;
    use arrow::array::{AsArray, Int64Array};

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

    fn decode(decoder: &RecordDecoder, raw: &RawBatch, columns: &[Column]) -> Result<RecordBatch> {
        let projection: Vec<usize> = columns
            .iter()
            .map(|c| decoder.index_of(*c).expect("the table has all columns"))
            .collect();
        let schema = Arc::new(
            decoder
                .schema()
                .project(&projection)
                .expect("valid indices"),
        );
        decoder.decode(raw, &projection, &schema)
    }

    #[test]
    fn projection_without_columns_keeps_the_row_count() {
        let decoder = RecordDecoder::default();
        let batch = decode(&decoder, &raw(vec![None, Some(b"x")]), &[]).unwrap();
        assert_eq!((batch.num_columns(), batch.num_rows()), (0, 2));
        assert_eq!(decoder.raw_columns(&[]), RawColumns::default());
    }

    #[test]
    fn topic_is_repeated_and_partition_constant() {
        let decoder = RecordDecoder::default();
        let columns = [Column::Topic, Column::Partition, Column::Offset];
        let batch = decode(&decoder, &raw(vec![None, Some(b"x")]), &columns).unwrap();
        let topics = batch.column(0).as_string_view();
        assert_eq!(topics.value(0), "a-topic-with-a-long-name");
        assert_eq!(topics.value(1), topics.value(0));
        assert_eq!(topics.data_buffers().len(), 1);
        assert_eq!(
            batch
                .column(1)
                .as_primitive::<arrow::datatypes::Int32Type>()
                .value(1),
            3
        );
    }

    #[test]
    fn text_keeps_nulls_and_names_the_bad_record() {
        let decoder = RecordDecoder::new(Format::Raw, Format::Text, Column::ALL.to_vec());
        let good = decode(&decoder, &raw(vec![None, Some(b"x")]), &[Column::Value]).unwrap();
        assert!(good.column(0).is_null(0));
        assert_eq!(good.column(0).as_string_view().value(1), "x");

        let bad = decode(&decoder, &raw(vec![None, Some(b"x\xff")]), &[Column::Value]);
        assert_eq!(
            bad.unwrap_err().to_string(),
            "a-topic-with-a-long-name[3]@11: the value is not UTF-8 text (bytes in hex: 78ff); \
             read it as bytes with 'value.format' = 'raw'"
        );
    }

    #[test]
    fn unknown_format_names_the_nearest() {
        let error = "txt".parse::<Format>().unwrap_err().to_string();
        assert!(error.ends_with("did you mean 'text'?"), "{error}");
    }
}
