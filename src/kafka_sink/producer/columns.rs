//! A query's columns as the parts of records.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Int64Array, ListArray, RecordBatch,
    StringViewArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, Int64Type, Schema, TimeUnit};
use arrow::util::display::array_value_to_string;

use super::trouble::{place, tag};
use crate::client::librdkafka::writing::Headers;
use crate::decode::Format;
use crate::encode::{Misfit, PayloadEncoder};
use crate::error::{Error, Result, nearest_names};
use crate::formats::{Encoders, Naming};

/// What a sink without formats accepts, for messages.
const ACCEPTED: &str = "value (text or bytes, required), key (text or bytes), topic (text), \
                        partition (INT or BIGINT), headers (list of structs of key and value) and \
                        timestamp (TIMESTAMP, or BIGINT in ms since the epoch)";

const NAMES: [&str; 7] = [
    "value",
    "key",
    "topic",
    "partition",
    "headers",
    "timestamp",
    "tombstone",
];

/// Where the parts of a record are among the columns.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    value: Payload,
    /// Of no columns where records have no key.
    key: Payload,
    topic: Option<usize>,
    partition: Option<usize>,
    headers: Option<usize>,
    timestamp: Option<usize>,
    tombstone: Option<usize>,
}

/// The columns that keys or values are made of.
#[derive(Debug, Clone, Default)]
struct Payload {
    columns: Vec<usize>,
    fields: Vec<FieldRef>,
    /// Whether the columns are fields; else there is one, which is all of it.
    has_fields: bool,
    /// `None` where the bytes are there as they are.
    encoder: Option<Arc<dyn PayloadEncoder>>,
}

impl Payload {
    fn push(&mut self, column: usize, field: FieldRef) {
        self.columns.push(column);
        self.fields.push(field);
    }
}

impl Layout {
    /// # Errors
    /// [`Error::Invalid`] for columns that a record has no place for, wrong types, no value.
    pub(super) fn of(schema: &Schema, target: &str, naming: &Naming) -> Result<Self> {
        let refused = |what: String| {
            Err(Error::invalid(format!(
                "{target}: {what}; the columns of a Kafka sink are {}",
                accepted(naming)
            )))
        };
        let payload = |format: Format| Payload {
            has_fields: format.has_fields(),
            ..Payload::default()
        };
        let (mut key, mut value) = (payload(naming.key), payload(naming.value));
        let mut found = [None; NAMES.len()];
        for (index, field) in schema.fields().iter().enumerate() {
            let name = field.name();
            let known = name.strip_prefix(naming.metadata_prefix.as_str());
            let known = known.and_then(|name| NAMES.iter().position(|known| *known == name));
            let known = known.filter(|part| match NAMES[*part] {
                "value" => !value.has_fields,
                "tombstone" => value.has_fields,
                _ => true,
            });
            let Some(part) = known else {
                let of_key = name.strip_prefix(naming.key_prefix.as_str());
                match of_key.filter(|name| key.has_fields && !name.is_empty()) {
                    Some(name) => {
                        key.push(index, Arc::new(field.as_ref().clone().with_name(name)));
                    }
                    None if value.has_fields => value.push(index, Arc::clone(field)),
                    None => {
                        let hint = match nearest_names(name, NAMES).first() {
                            Some(nearest) => format!(", did you mean '{nearest}'?"),
                            None => String::new(),
                        };
                        return refused(format!("there is no place for the column '{name}'{hint}"));
                    }
                }
                continue;
            };
            if found[part].replace(index).is_some() {
                return refused(format!("the column '{name}' is there twice"));
            }
            let of = field.data_type();
            let fits = match NAMES[part] {
                "key" if key.has_fields => {
                    return refused(format!(
                        "there is a column '{name}', and the key has fields ('key.format' = '{}')",
                        naming.key
                    ));
                }
                "value" if naming.value == Format::Raw => is_bytes(of),
                "key" if naming.key == Format::Raw => is_bytes(of),
                // Formats look at their columns themselves.
                "value" | "key" => true,
                "topic" => is_text(of),
                "partition" => is_number(of),
                "headers" => is_headers(of),
                "tombstone" => *plain(of) == DataType::Boolean,
                _ => is_time(of),
            };
            // `NULL AS key` has a type of its own.
            if !fits && *of != DataType::Null {
                return refused(format!(
                    "the column '{name}' has the type {of}, which does not fit"
                ));
            }
            match NAMES[part] {
                "value" => value.push(index, Arc::clone(field)),
                "key" => key.push(index, Arc::clone(field)),
                _ => {}
            }
        }
        if value.columns.is_empty() {
            return refused(match value.has_fields {
                true => "no column is a field of the value".to_owned(),
                false => format!("there is no column '{}value'", naming.metadata_prefix),
            });
        }
        if key.has_fields && key.columns.is_empty() {
            return refused(format!(
                "no column is a field of the key ('key.format' = '{}')",
                naming.key
            ));
        }
        let [_, _, topic, partition, headers, timestamp, tombstone] = found;
        Ok(Self {
            value,
            key,
            topic,
            partition,
            headers,
            timestamp,
            tombstone,
        })
    }

    /// The columns that keys are made of; fields come without their prefix.
    pub(super) fn key_fields(&self) -> &[FieldRef] {
        &self.key.fields
    }

    /// The columns that values are made of.
    pub(super) fn value_fields(&self) -> &[FieldRef] {
        &self.value.fields
    }

    pub(super) fn encoded(mut self, encoders: Encoders) -> Self {
        self.key.encoder = encoders.key;
        self.value.encoder = encoders.value;
        self
    }
}

/// What a sink accepts, for messages.
fn accepted(naming: &Naming) -> String {
    let prefix = &naming.metadata_prefix;
    let plain = prefix.is_empty() && naming.key == Format::Raw && naming.value == Format::Raw;
    if plain {
        return ACCEPTED.to_owned();
    }
    let value = match naming.value.has_fields() {
        true => "the fields of the value".to_owned(),
        false => format!("{prefix}value (required, '{}')", naming.value),
    };
    let key = match naming.key.has_fields() {
        true => format!("those of the key with '{}' in front", naming.key_prefix),
        false => format!("{prefix}key ('{}')", naming.key),
    };
    let tombstone = match naming.value.has_fields() {
        true => format!(", {prefix}tombstone (BOOLEAN)"),
        false => String::new(),
    };
    format!(
        "{value}, {key}, {prefix}topic (text), {prefix}partition (INT or BIGINT), {prefix}headers (list \
         of structs of key and value), {prefix}timestamp (TIMESTAMP, or BIGINT in ms since the \
         epoch){tombstone}"
    )
}

fn plain(of: &DataType) -> &DataType {
    match of {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

fn is_text(of: &DataType) -> bool {
    use DataType::{LargeUtf8, Utf8, Utf8View};
    matches!(plain(of), Utf8 | LargeUtf8 | Utf8View)
}

fn is_bytes(of: &DataType) -> bool {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
    let of = plain(of);
    is_text(of) || matches!(of, Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
}

fn is_number(of: &DataType) -> bool {
    matches!(plain(of), DataType::Int32 | DataType::Int64)
}

fn is_time(of: &DataType) -> bool {
    matches!(plain(of), DataType::Timestamp(..) | DataType::Int64)
}

fn is_headers(of: &DataType) -> bool {
    let DataType::List(item) = of else {
        return false;
    };
    let DataType::Struct(fields) = item.data_type() else {
        return false;
    };
    let type_of = |name: &str| fields.find(name).map(|(_, field)| field.data_type());
    let null = |of: &DataType| *of == DataType::Null;
    fields.len() == 2
        && type_of("key").is_some_and(is_text)
        && type_of("value").is_some_and(|of| is_bytes(of) || null(of))
}

/// The rows of a batch.
pub(super) struct Rows {
    values: BinaryViewArray,
    keys: Option<BinaryViewArray>,
    topics: Option<StringViewArray>,
    partitions: Option<Int64Array>,
    headers: Option<HeaderLists>,
    timestamps: Option<Int64Array>,
    execution_partition: usize,
    /// The number of the first row among those of the execution partition.
    first: u64,
}

struct HeaderLists {
    lists: ListArray,
    items: ArrayRef,
    names: StringViewArray,
    values: BinaryViewArray,
}

/// One row; `None` is NULL or no such column.
pub(super) struct Record<'a> {
    pub(super) topic: Option<&'a str>,
    pub(super) partition: Option<i32>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) headers: Option<Headers>,
}

impl Rows {
    /// # Errors
    /// A reason: a number, a time or a field that does not fit.
    pub(super) fn of(
        layout: &Layout,
        batch: &RecordBatch,
        execution_partition: usize,
        first: u64,
    ) -> std::result::Result<Self, String> {
        let column = |index: Option<usize>| index.and_then(|i| batch.columns().get(i));
        let placed = |Misfit { row, message }: Misfit| {
            let tag = tag(execution_partition, first + row as u64);
            format!("{}: {message}", place(tag))
        };
        let payloads = |payload: &Payload, absent: &dyn Fn(usize, &[ArrayRef]) -> bool| {
            let columns = payload.columns.iter();
            let columns: Vec<ArrayRef> = columns
                .filter_map(|index| column(Some(*index)).cloned())
                .collect();
            match (&payload.encoder, &columns[..]) {
                (_, []) => Ok(None),
                (Some(encoder), columns) => {
                    let absent = |row: usize| absent(row, columns);
                    let encoded = encoder.encode(columns, batch.num_rows(), &absent);
                    encoded.map(Some).map_err(placed)
                }
                (None, [only, ..]) => bytes(only).map(Some),
            }
        };
        let tombstones = column(layout.tombstone).map(boolean).transpose()?;
        let is_tombstone = |row: usize, _: &[ArrayRef]| {
            let tombstones = tombstones.as_ref();
            tombstones.is_some_and(|array| !array.is_null(row) && array.value(row))
        };
        // A key of NULLs is none.
        let is_no_key = |row: usize, columns: &[ArrayRef]| {
            layout.key.has_fields && columns.iter().all(|column| column.is_null(row))
        };
        Ok(Self {
            values: payloads(&layout.value, &is_tombstone)?
                .ok_or("the value's columns are missing")?,
            keys: payloads(&layout.key, &is_no_key)?,
            topics: column(layout.topic).map(text).transpose()?,
            partitions: column(layout.partition).map(number).transpose()?,
            headers: column(layout.headers)
                .filter(|array| *array.data_type() != DataType::Null)
                .map(header_lists)
                .transpose()?,
            timestamps: column(layout.timestamp)
                .map(time)
                .transpose()
                .map_err(placed)?,
            execution_partition,
            first,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// What the row is called in reports.
    pub(super) fn tag(&self, row: usize) -> usize {
        tag(self.execution_partition, self.first + row as u64)
    }

    /// The topics that rows name, each with a row; runs of one topic count once.
    pub(super) fn topics<'a>(
        &'a self,
        default: &'a str,
    ) -> impl Iterator<Item = (usize, &'a str)> + 'a {
        let named = self.topics.as_ref();
        let all = (0..self.len()).filter_map(move |row| match named {
            None => (row == 0).then_some((row, default)),
            Some(topics) if topics.is_null(row) => None,
            Some(topics) => Some((row, topics.value(row))),
        });
        let mut last = None;
        all.filter(move |(_, name)| last.replace(*name) != Some(*name))
    }

    /// # Errors
    /// A reason, with the row's place.
    pub(super) fn record(&self, row: usize) -> std::result::Result<Record<'_>, String> {
        let refused = |what: &str| Err(format!("{}: {what}", place(self.tag(row))));
        let topic = match &self.topics {
            Some(topics) if topics.is_null(row) => {
                return refused("the topic is NULL: name one, or leave the column out");
            }
            Some(topics) => Some(topics.value(row)),
            None => None,
        };
        let partition = match at(self.partitions.as_ref(), row) {
            None => None,
            Some(number) => match i32::try_from(number) {
                Ok(number) if number >= 0 => Some(number),
                _ => return refused(&format!("{number} is no partition")),
            },
        };
        let timestamp_ms = at(self.timestamps.as_ref(), row);
        match timestamp_ms {
            // librdkafka takes 0 for "now".
            Some(0) => {
                return refused(
                    "the timestamp is 1970-01-01T00:00:00Z exactly, which the client library cannot \
                     write: it stands for the current time there, as NULL does here",
                );
            }
            Some(ms @ ..=-1) => {
                return refused(&format!("the timestamp {ms} ms lies before 1970"));
            }
            _ => {}
        }
        let headers = match &self.headers {
            Some(headers) => match headers.of(row) {
                Ok(headers) => headers,
                Err(what) => return refused(what),
            },
            None => None,
        };
        Ok(Record {
            topic,
            partition,
            key: self.keys.as_ref().and_then(|keys| bytes_at(keys, row)),
            value: bytes_at(&self.values, row),
            timestamp_ms,
            headers,
        })
    }
}

impl HeaderLists {
    fn of(&self, row: usize) -> std::result::Result<Option<Headers>, &'static str> {
        let offsets = self.lists.value_offsets();
        let range = match self.lists.is_null(row) {
            true => 0..0,
            // Arrow's offsets grow and begin at 0 or above.
            false => offsets[row] as usize..offsets[row + 1] as usize,
        };
        if range.is_empty() {
            return Ok(None);
        }
        let mut headers = Headers::with_capacity(range.len());
        for i in range {
            if self.items.is_null(i) || self.names.is_null(i) {
                return Err("a header is NULL or has no key");
            }
            headers.add(self.names.value(i), bytes_at(&self.values, i));
        }
        Ok(Some(headers))
    }
}

fn at(numbers: Option<&Int64Array>, row: usize) -> Option<i64> {
    let numbers = numbers?;
    (!numbers.is_null(row)).then(|| numbers.value(row))
}

fn bytes_at(array: &BinaryViewArray, row: usize) -> Option<&[u8]> {
    (!array.is_null(row)).then(|| array.value(row))
}

/// Casts; what does not fit is an error.
fn cast(array: &ArrayRef, to: &DataType) -> std::result::Result<ArrayRef, String> {
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(array, to, &options).map_err(|e| e.to_string())
}

fn text(array: &ArrayRef) -> std::result::Result<StringViewArray, String> {
    Ok(cast(array, &DataType::Utf8View)?.as_string_view().clone())
}

fn bytes(array: &ArrayRef) -> std::result::Result<BinaryViewArray, String> {
    let array = match plain(array.data_type()) {
        of if is_text(of) => cast(array, &DataType::Utf8View)?,
        DataType::FixedSizeBinary(_) => cast(array, &DataType::Binary)?,
        _ => Arc::clone(array),
    };
    Ok(cast(&array, &DataType::BinaryView)?
        .as_binary_view()
        .clone())
}

fn boolean(array: &ArrayRef) -> std::result::Result<BooleanArray, String> {
    Ok(cast(array, &DataType::Boolean)?.as_boolean().clone())
}

fn number(array: &ArrayRef) -> std::result::Result<Int64Array, String> {
    let array = cast(array, &DataType::Int64)?;
    Ok(array.as_primitive::<Int64Type>().clone())
}

/// # Errors
/// A time with digits that records have no place for; with its row.
fn time(array: &ArrayRef) -> std::result::Result<Int64Array, Misfit> {
    let whole = |message| Misfit { row: 0, message };
    let DataType::Timestamp(unit, zone) = plain(array.data_type()) else {
        return number(array).map_err(whole);
    };
    let cut = match unit {
        TimeUnit::Second | TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1_000_000,
    };
    if cut > 1 {
        let own = DataType::Timestamp(*unit, zone.clone());
        let own = cast(array, &own).and_then(|array| number(&array));
        let own = own.map_err(whole)?;
        let lost = |row: &usize| !own.is_null(*row) && own.value(*row) % cut != 0;
        if let Some(row) = (0..own.len()).find(lost) {
            let message = format!(
                "column 'timestamp': {} has digits below a millisecond, which records have no place for: \
                 write date_trunc('millisecond', …) to cut them",
                shown(array, row)
            );
            return Err(Misfit { row, message });
        }
    }
    let ms = DataType::Timestamp(TimeUnit::Millisecond, zone.clone());
    let array = cast(array, &ms).and_then(|array| number(&array));
    array.map_err(whole)
}

/// A value as messages show it.
fn shown(array: &ArrayRef, row: usize) -> String {
    array_value_to_string(array, row).unwrap_or_else(|_| "the value".to_owned())
}

fn header_lists(array: &ArrayRef) -> std::result::Result<HeaderLists, String> {
    let missing = || "the column 'headers' is no list of structs of key and value".to_owned();
    let lists = array.as_list_opt::<i32>().ok_or_else(missing)?.clone();
    let items = Arc::clone(lists.values());
    let fields = items.as_struct_opt().ok_or_else(missing)?;
    let field = |name| fields.column_by_name(name).ok_or_else(missing);
    let names = text(field("key")?)?;
    let values = bytes(field("value")?)?;
    Ok(HeaderLists {
        lists,
        items,
        names,
        values,
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        DictionaryArray, FixedSizeBinaryArray, Int32Array, LargeStringArray, NullArray,
        StringArray, TimestampMicrosecondArray, TimestampNanosecondArray,
    };
    use arrow::datatypes::{Field, Int32Type};

    use super::*;
    use crate::client::headers_type;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true)))
            .unwrap()
    }

    fn rows(columns: Vec<(&str, ArrayRef)>) -> std::result::Result<Rows, String> {
        let batch = batch(columns);
        let layout = Layout::of(&batch.schema(), "t", &Naming::default()).unwrap();
        Rows::of(&layout, &batch, 2, 10)
    }

    fn refused(columns: Vec<(&str, ArrayRef)>) -> String {
        let batch = batch(columns);
        Layout::of(&batch.schema(), "t", &Naming::default())
            .unwrap_err()
            .to_string()
    }

    fn one(text: &str) -> ArrayRef {
        Arc::new(StringArray::from(vec![text]))
    }

    #[test]
    fn every_kind_of_text_and_bytes_is_a_value() {
        let dictionary: DictionaryArray<Int32Type> = vec!["ab"].into_iter().collect();
        let fixed = FixedSizeBinaryArray::try_from_iter([b"ab"].into_iter()).unwrap();
        let arrays: Vec<ArrayRef> = vec![
            one("ab"),
            Arc::new(LargeStringArray::from(vec!["ab"])),
            Arc::new(StringViewArray::from(vec!["ab"])),
            Arc::new(arrow::array::BinaryArray::from(vec![b"ab".as_slice()])),
            Arc::new(arrow::array::LargeBinaryArray::from(vec![b"ab".as_slice()])),
            Arc::new(BinaryViewArray::from(vec![b"ab".as_slice()])),
            Arc::new(fixed),
            Arc::new(dictionary),
        ];
        for array in arrays {
            let of = array.data_type().clone();
            let rows = rows(vec![("value", array)]).unwrap();
            assert_eq!(
                rows.record(0).unwrap().value,
                Some(b"ab".as_slice()),
                "{of}"
            );
        }
    }

    #[test]
    fn null_is_no_key_and_a_tombstone() {
        let rows = rows(vec![
            ("key", Arc::new(NullArray::new(1))),
            ("value", Arc::new(StringArray::from(vec![None::<&str>]))),
            ("partition", Arc::new(Int32Array::from(vec![None]))),
            ("headers", Arc::new(NullArray::new(1))),
        ])
        .unwrap();
        let record = rows.record(0).unwrap();
        assert_eq!(
            (record.key, record.value, record.partition),
            (None, None, None)
        );
        assert!(record.headers.is_none());
    }

    #[test]
    fn times_are_milliseconds_whatever_their_unit() {
        let nanoseconds: ArrayRef =
            Arc::new(TimestampNanosecondArray::from(vec![1_500_000_000]).with_timezone("UTC"));
        let rows = rows(vec![("value", one("v")), ("timestamp", nanoseconds)]).unwrap();
        assert_eq!(rows.record(0).unwrap().timestamp_ms, Some(1500));
    }

    #[test]
    fn digits_of_times_are_not_cut() {
        let micros = vec![None, Some(1_123_000), Some(1_123_900)];
        let micros: ArrayRef = Arc::new(TimestampMicrosecondArray::from(micros));
        let values: ArrayRef = Arc::new(StringArray::from(vec!["v"; 3]));
        let found = rows(vec![("value", values), ("timestamp", micros)]);
        assert_eq!(
            found.err().unwrap(),
            "row 13 of execution partition 2: column 'timestamp': 1970-01-01T00:00:01.123900 has digits \
             below a millisecond, which records have no place for: write date_trunc('millisecond', …) to \
             cut them"
        );
    }

    #[test]
    fn rows_that_no_record_can_be_name_their_place() {
        let reason = |name: &str, array: ArrayRef| {
            let rows = rows(vec![("value", one("v")), (name, array)]).unwrap();
            rows.record(0).err().unwrap()
        };
        assert_eq!(
            reason("topic", Arc::new(StringArray::from(vec![None::<&str>]))),
            "row 11 of execution partition 2: the topic is NULL: name one, or leave the column out"
        );
        assert_eq!(
            reason("partition", Arc::new(Int64Array::from(vec![1_i64 << 40]))),
            "row 11 of execution partition 2: 1099511627776 is no partition"
        );
        assert!(reason("timestamp", Arc::new(Int64Array::from(vec![0]))).contains("1970"));
        assert!(reason("timestamp", Arc::new(Int64Array::from(vec![-5]))).contains("-5 ms"));
    }

    #[test]
    fn columns_that_do_not_fit_are_refused_with_those_that_do() {
        assert_eq!(
            refused(vec![("vaule", one("v"))]),
            format!(
                "t: there is no place for the column 'vaule', did you mean 'value'?; the columns of \
                 a Kafka sink are {ACCEPTED}"
            )
        );
        assert!(refused(vec![("key", one("v"))]).contains("no column 'value'"));
        let number: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        assert!(refused(vec![("value", number)]).contains("has the type Int32"));
    }

    #[test]
    fn our_own_headers_column_fits() {
        let schema = Schema::new(vec![
            Field::new("value", DataType::BinaryView, true),
            Field::new("headers", headers_type(), false),
        ]);
        assert!(Layout::of(&schema, "t", &Naming::default()).is_ok());
    }

    #[test]
    fn topics_are_met_once_a_run() {
        let topics: ArrayRef = Arc::new(StringArray::from(vec!["a", "a", "b", "a"]));
        let values: ArrayRef = Arc::new(StringArray::from(vec!["v"; 4]));
        let rows = rows(vec![("value", values), ("topic", topics)]).unwrap();
        let met: Vec<(usize, &str)> = rows.topics("t").collect();
        assert_eq!(met, [(0, "a"), (2, "b"), (3, "a")]);
    }
}
