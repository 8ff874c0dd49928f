//! Reads what another library wrote: arrow-avro, in single-object encoding.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int32Array, Int32Builder, Int64Array, ListArray, MapBuilder,
    RecordBatch, StringArray, StringBuilder, StructArray, Time32MillisecondArray,
    TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::datatypes::{Field, Int32Type};
use arrow_avro::schema::{AvroSchema, FingerprintStrategy};
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroSoeFormat;

use super::{decode, rows};
use crate::decode::avro::{AvroDecoder, AvroOptions, Framing};

fn batch() -> RecordBatch {
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for row in 0..3 {
        for entry in 0..row {
            map.keys().append_value(format!("k{entry}"));
            map.values().append_value(entry);
        }
        map.append(true).unwrap();
    }
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
    ]);
    let inner: ArrayRef = Arc::new(StringArray::from(vec![Some("p"), None, Some("q")]));
    let record = StructArray::from(vec![(
        Arc::new(Field::new("inner", inner.data_type().clone(), true)),
        inner,
    )]);
    let decimals = Decimal128Array::from(vec![Some(-12_345), None, Some(1)]);
    let fixed = [Some([1u8, 2]), None, Some([3, 4])];
    let fixed = FixedSizeBinaryArray::try_from_sparse_iter_with_size(fixed.into_iter(), 2);
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "boolean",
            Arc::new(BooleanArray::from(vec![true, false, true])),
        ),
        (
            "int",
            Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(5)])),
        ),
        (
            "long",
            Arc::new(Int64Array::from(vec![i64::MAX, i64::MIN, -1])),
        ),
        (
            "float",
            Arc::new(Float32Array::from(vec![0.5, f32::INFINITY, -0.0])),
        ),
        (
            "double",
            Arc::new(Float64Array::from(vec![Some(0.25), None, Some(1e300)])),
        ),
        (
            "text",
            Arc::new(StringArray::from(vec![Some("žluť"), None, Some("")])),
        ),
        (
            "bytes",
            Arc::new(BinaryArray::from(vec![&[0u8, 255][..], &[], &[1]])),
        ),
        ("date", Arc::new(Date32Array::from(vec![0, -1, 20_000]))),
        (
            "time",
            Arc::new(Time32MillisecondArray::from(vec![0, 1, 86_399_999])),
        ),
        (
            "millis",
            Arc::new(TimestampMillisecondArray::from(vec![0, -1, 1]).with_timezone("UTC")),
        ),
        (
            "local",
            Arc::new(TimestampMicrosecondArray::from(vec![0, -1, 1])),
        ),
        (
            "decimal",
            Arc::new(decimals.with_precision_and_scale(9, 2).unwrap()),
        ),
        ("fixed", Arc::new(fixed.unwrap())),
        ("list", Arc::new(list)),
        ("map", Arc::new(map.finish())),
        ("record", Arc::new(record)),
    ];
    RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    )
    .unwrap()
}

#[test]
fn batch_of_arrow_avro_is_read() {
    let batch = batch();
    let schema = AvroSchema::try_from(batch.schema().as_ref()).unwrap();
    let payloads: Vec<_> = (0..batch.num_rows())
        .map(|row| {
            let mut writer = WriterBuilder::new(batch.schema().as_ref().clone())
                .with_fingerprint_strategy(FingerprintStrategy::Rabin)
                .build::<_, AvroSoeFormat>(Vec::new())
                .unwrap();
            writer.write(&batch.slice(row, 1)).unwrap();
            writer.finish().unwrap();
            Some(writer.into_inner())
        })
        .collect();
    let decoder = AvroDecoder::new(AvroOptions {
        reader: &schema.json_string,
        references: &[],
        reader_id: None,
        declared: None,
        framing: Framing::SingleObject {
            schemas: Vec::new(),
        },
    })
    .unwrap();
    let decoded = decode(&decoder, &payloads);
    assert_eq!(decoded.bad, []);
    assert_eq!(rows(&decoded.columns), rows(batch.columns()));
}
