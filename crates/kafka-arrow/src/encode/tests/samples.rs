//! A batch with every type that formats can write, with NULL, extreme and empty values.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, Int32Type};

use super::batch;

fn record() -> StructArray {
    let fields = Fields::from(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("s", DataType::Utf8, true),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![Some(1), None, None])),
        Arc::new(StringArray::from(vec![Some("in"), None, None])),
    ];
    let nulls = NullBuffer::from(vec![true, false, true]);
    StructArray::new(fields, columns, Some(nulls))
}

fn map() -> MapArray {
    let names = MapFieldNames {
        entry: "entries".to_owned(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    };
    let mut map = MapBuilder::new(Some(names), StringBuilder::new(), Int32Builder::new());
    map.keys().append_value("a");
    map.values().append_value(1);
    map.keys().append_value("ž\"");
    map.values().append_value(i32::MIN);
    map.append(true).unwrap();
    map.append(true).unwrap();
    map.keys().append_value("");
    map.values().append_value(0);
    map.append(true).unwrap();
    map.finish()
}

/// Three rows that all formats with fields can read back.
pub(super) fn common() -> RecordBatch {
    let micros = vec![Some(1_768_384_800_123_456), None, Some(-1)];
    let millis = vec![Some(1_768_384_800_123), None, Some(-1)];
    batch(vec![
        (
            "bool",
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        ),
        (
            "int",
            Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(i32::MAX)])),
        ),
        (
            "long",
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)])),
        ),
        (
            "float",
            Arc::new(Float32Array::from(vec![Some(0.1), None, Some(-0.0)])),
        ),
        (
            "double",
            Arc::new(Float64Array::from(vec![Some(0.1), None, Some(f64::MAX)])),
        ),
        (
            "text",
            Arc::new(StringArray::from(vec![Some("žluť \"\\\n"), None, Some("")])),
        ),
        (
            "bytes",
            Arc::new(BinaryArray::from(vec![
                Some(&[0u8, 255][..]),
                None,
                Some(&[]),
            ])),
        ),
        (
            "micros",
            Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC")),
        ),
        (
            "millis",
            Arc::new(TimestampMillisecondArray::from(millis).with_timezone("UTC")),
        ),
        ("record", Arc::new(record())),
        (
            "list",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
                Some(vec![Some(1), Some(-1)]),
                Some(vec![]),
                Some(vec![Some(i32::MAX)]),
            ])),
        ),
        ("map", Arc::new(map())),
    ])
}

/// Further columns for JSON and Avro.
pub(super) fn dates() -> RecordBatch {
    let decimals = Decimal128Array::from(vec![Some(-12_345), None, Some(1)]);
    batch(vec![
        (
            "date",
            Arc::new(Date32Array::from(vec![Some(20_467), None, Some(-1)])),
        ),
        (
            "time",
            Arc::new(Time64MicrosecondArray::from(vec![
                Some(0),
                None,
                Some(86_399_999_999),
            ])),
        ),
        (
            "time_ms",
            Arc::new(Time32MillisecondArray::from(vec![
                Some(1),
                None,
                Some(86_399_999),
            ])),
        ),
        (
            "local",
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(1),
                None,
                Some(-1),
            ])),
        ),
        (
            "nanos",
            Arc::new(TimestampNanosecondArray::from(vec![
                Some(i64::MAX),
                None,
                Some(i64::MIN),
            ])),
        ),
        (
            "decimal",
            Arc::new(decimals.with_precision_and_scale(9, 2).unwrap()),
        ),
        (
            "tiny",
            Arc::new(Int8Array::from(vec![Some(-128), None, Some(127)])),
        ),
        (
            "small",
            Arc::new(UInt16Array::from(vec![Some(0), None, Some(u16::MAX)])),
        ),
        (
            "unsigned",
            Arc::new(UInt32Array::from(vec![Some(0), None, Some(u32::MAX)])),
        ),
        (
            "large",
            Arc::new(UInt64Array::from(vec![Some(0), None, Some(u64::MAX)])),
        ),
    ])
}
