//! The rows of a batch as records.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Int64Array, ListArray, RecordBatch,
    StringViewArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use arrow::util::display::array_value_to_string;

use super::columns::{Layout, Payload, is_text, plain};
use super::trouble::{place, tag};
use crate::client::librdkafka::writing::Headers;
use crate::encode::Misfit;

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
    use arrow::datatypes::{Field, Int32Type, Schema};

    use super::*;
    use crate::client::headers_type;
    use crate::formats::Naming;
    use crate::kafka_sink::producer::columns::ACCEPTED;

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
