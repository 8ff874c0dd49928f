//! Rows of every type, for sinks in databases.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_kafka::session::KafkaSessionBuilder;
use futures::stream;

use crate::conformance;

/// 2026-01-14 in days since 1970.
const DAY: i64 = 20_467;

/// A single batch as a stream.
pub fn stream(rows: RecordBatch) -> SendableRecordBatchStream {
    let schema = rows.schema();
    Box::pin(RecordBatchStreamAdapter::new(
        schema,
        stream::iter([Ok(rows)]),
    ))
}

/// Rows with the suite's columns.
pub fn rows(rows: &[(i64, &str)]) -> RecordBatch {
    let ids: Int64Array = rows.iter().map(|(id, _)| Some(*id)).collect();
    let names: StringArray = rows.iter().map(|(_, name)| Some(*name)).collect();
    RecordBatch::try_new(conformance::schema(), vec![Arc::new(ids), Arc::new(names)]).unwrap()
}

/// This many rows with the suite's columns, in batches of 1000, generated on demand.
pub fn many(count: i64) -> SendableRecordBatchStream {
    let batches = (0..count / 1000)
        .map(|piece| conformance::rows(&(piece * 1000..(piece + 1) * 1000).collect::<Vec<_>>()));
    conformance::stream_of(batches)
}

/// A row with a column of every type, then a row of NULLs.
pub fn all_types() -> RecordBatch {
    let seconds = DAY * 86_400;
    let dictionary: DictionaryArray<Int32Type> = vec![Some("word"), None].into_iter().collect();
    let point = StructArray::from(vec![
        (
            Arc::new(Field::new("x", DataType::Int64, true)),
            Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("y", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec![None::<&str>, None])) as ArrayRef,
        ),
    ]);
    let point = StructArray::new(
        point.fields().clone(),
        point.columns().to_vec(),
        Some(vec![true, false].into()),
    );
    let ints = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), None, Some(3)]),
        None,
    ]);
    let mut words = ListBuilder::new(StringBuilder::new());
    words.values().append_value("a");
    words.values().append_value("b");
    words.append(true);
    words.append(false);
    let big: i256 =
        i256::from_string("1234567890123456789012345678901234567890123456789001").unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("nothing", Arc::new(NullArray::new(2))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("i8", Arc::new(Int8Array::from(vec![Some(i8::MIN), None]))),
        ("u8", Arc::new(UInt8Array::from(vec![Some(u8::MAX), None]))),
        (
            "u32",
            Arc::new(UInt32Array::from(vec![Some(u32::MAX), None])),
        ),
        (
            "u64",
            Arc::new(UInt64Array::from(vec![Some(i64::MAX as u64), None])),
        ),
        ("f32", Arc::new(Float32Array::from(vec![Some(1.5), None]))),
        ("f64", Arc::new(Float64Array::from(vec![Some(-0.1), None]))),
        (
            "d128",
            Arc::new(
                Decimal128Array::from(vec![Some(-12345), None])
                    .with_precision_and_scale(10, 2)
                    .unwrap(),
            ),
        ),
        (
            "d256",
            Arc::new(
                Decimal256Array::from(vec![Some(big), None])
                    .with_precision_and_scale(60, 2)
                    .unwrap(),
            ),
        ),
        (
            "utf8",
            Arc::new(StringArray::from(vec![Some("grüße"), None])),
        ),
        (
            "large",
            Arc::new(LargeStringArray::from(vec![Some("large"), None])),
        ),
        (
            "view",
            Arc::new(StringViewArray::from(vec![Some("view"), None])),
        ),
        ("dictionary", Arc::new(dictionary)),
        (
            "bytes",
            Arc::new(BinaryArray::from(vec![Some(&[0u8, 255][..]), None])),
        ),
        (
            "fixed",
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                    [Some([1u8, 2]), None].into_iter(),
                    2,
                )
                .unwrap(),
            ),
        ),
        (
            "date32",
            Arc::new(Date32Array::from(vec![Some(DAY as i32), None])),
        ),
        (
            "date64",
            Arc::new(Date64Array::from(vec![Some(DAY * 86_400_000), None])),
        ),
        (
            "time32",
            Arc::new(Time32MillisecondArray::from(vec![Some(3_723_004), None])),
        ),
        (
            "time64",
            Arc::new(Time64MicrosecondArray::from(vec![
                Some(3_723_000_004),
                None,
            ])),
        ),
        (
            "ts_s",
            Arc::new(TimestampSecondArray::from(vec![Some(seconds), None])),
        ),
        (
            "ts_ms",
            Arc::new(TimestampMillisecondArray::from(vec![
                Some(seconds * 1_000 + 1),
                None,
            ])),
        ),
        (
            "ts_us",
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(seconds * 1_000_000 + 1),
                None,
            ])),
        ),
        (
            "ts_ns",
            Arc::new(TimestampNanosecondArray::from(vec![
                Some(seconds * 1_000_000_000 + 1_000),
                None,
            ])),
        ),
        (
            "ts_zone",
            Arc::new(
                TimestampMillisecondArray::from(vec![Some(seconds * 1_000 + 1), None])
                    .with_timezone("UTC"),
            ),
        ),
        (
            "interval",
            Arc::new(IntervalMonthDayNanoArray::from(vec![
                Some(IntervalMonthDayNano::new(14, 3, 1_000)),
                None,
            ])),
        ),
        (
            "duration",
            Arc::new(DurationMillisecondArray::from(vec![Some(1_500), None])),
        ),
        ("ints", Arc::new(ints)),
        ("words", Arc::new(words.finish())),
        ("point", Arc::new(point)),
    ];
    let nullable = columns.into_iter().map(|(name, array)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(nullable).unwrap()
}

fn one(name: &'static str, array: ArrayRef) -> (&'static str, RecordBatch) {
    (name, RecordBatch::try_from_iter([(name, array)]).unwrap())
}

/// Columns with a value that SQLite cannot store, and a part of the error.
pub fn unfit_for_sqlite() -> Vec<(&'static str, RecordBatch, &'static str)> {
    let cases: Vec<((&'static str, ArrayRef), &'static str)> = vec![
        (
            ("unsigned", Arc::new(UInt64Array::from(vec![1, u64::MAX]))),
            "value 18446744073709551615",
        ),
        (
            ("float", Arc::new(Float64Array::from(vec![1.0, f64::NAN]))),
            "NaN",
        ),
        (
            (
                "moment",
                Arc::new(TimestampSecondArray::from(vec![0, i64::MAX])),
            ),
            "value 9223372036854775807",
        ),
        (
            ("day", Arc::new(Date64Array::from(vec![0, 1]))),
            "time of day",
        ),
    ];
    cases
        .into_iter()
        .map(|((name, array), expected)| {
            let (name, rows) = one(name, array);
            (name, rows, expected)
        })
        .collect()
}

/// Columns with a value that PostgreSQL cannot store, and a part of the error.
pub fn unfit_for_postgres() -> Vec<(&'static str, RecordBatch, &'static str)> {
    let cases: Vec<((&'static str, ArrayRef), &'static str)> = vec![
        (
            ("unsigned", Arc::new(UInt64Array::from(vec![1, u64::MAX]))),
            "value 18446744073709551615",
        ),
        (
            ("word", Arc::new(StringArray::from(vec!["a", "b\0c"]))),
            "NUL",
        ),
        (
            (
                "moment",
                Arc::new(TimestampSecondArray::from(vec![0, i64::MAX])),
            ),
            "value 9223372036854775807",
        ),
        (
            (
                "fine",
                Arc::new(TimestampNanosecondArray::from(vec![1_000, 1_001])),
            ),
            "value 1001",
        ),
        (
            ("day", Arc::new(Date32Array::from(vec![0, i32::MAX]))),
            "value 2147483647",
        ),
        (
            ("hour", Arc::new(Time64NanosecondArray::from(vec![0, -1]))),
            "value -1",
        ),
    ];
    cases
        .into_iter()
        .map(|((name, array), expected)| {
            let (name, rows) = one(name, array);
            (name, rows, expected)
        })
        .collect()
}

/// The first row of a table as text, read through SQL. The second row must be all NULL.
pub async fn texts(location: &str, format: &str, table: &str) -> Vec<(String, String)> {
    let context = KafkaSessionBuilder::new().build().unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE t STORED AS {format} LOCATION '{location}' OPTIONS ('table' '{table}')"
    );
    context.sql(&create).await.unwrap();
    let rows = context
        .sql("SELECT * FROM t")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    let rows = arrow::compute::concat_batches(&rows[0].schema(), &rows).unwrap();
    assert_eq!(rows.num_rows(), 2);
    let options = arrow::util::display::FormatOptions::new().with_null("NULL");
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns());
    columns
        .map(|(field, column)| {
            let texts = arrow::util::display::ArrayFormatter::try_new(column, &options).unwrap();
            assert_eq!(texts.value(1).to_string(), "NULL", "{field}");
            (field.name().clone(), texts.value(0).to_string())
        })
        .collect()
}

/// Compares with [`texts`].
pub fn assert_texts(found: &[(String, String)], expected: &[(&str, &str)]) {
    let found: Vec<(&str, &str)> = found
        .iter()
        .map(|(n, t)| (n.as_str(), t.as_str()))
        .collect();
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
}

/// Asserts that a result is one number.
pub fn assert_number(batches: &[RecordBatch], expected: i64) {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, 1);
    let batch = batches.iter().find(|batch| batch.num_rows() == 1).unwrap();
    assert_eq!(
        batch.column(0).as_primitive::<Int64Type>().value(0),
        expected
    );
}
