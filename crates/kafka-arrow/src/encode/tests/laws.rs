//! A law for all columns: decoding returns what was encoded.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{Field, Fields};
use proptest::prelude::*;

use super::*;
use crate::decode::{
    AvroDecoder, AvroFraming, AvroOptions, JsonDecoder, ProtoFiles, ProtobufDecoder,
    ProtobufFraming, ProtobufOptions, ProtobufSchema,
};

const ROWS: usize = 4;

fn rows<T: std::fmt::Debug + Clone>(
    of: impl Strategy<Value = T>,
) -> impl Strategy<Value = Vec<Option<T>>> {
    prop::collection::vec(prop::option::of(of), ROWS)
}

/// A column that every format with fields can write.
fn scalar() -> BoxedStrategy<ArrayRef> {
    fn column<A: Array + 'static>(array: A) -> ArrayRef {
        Arc::new(array)
    }
    let micros = -62_135_596_800_000_000i64..253_402_300_799_999_999;
    prop_oneof![
        rows(any::<bool>()).prop_map(|v| column(BooleanArray::from(v))),
        rows(any::<i32>()).prop_map(|v| column(Int32Array::from(v))),
        rows(any::<i64>()).prop_map(|v| column(Int64Array::from(v))),
        rows(any::<u32>()).prop_map(|v| column(UInt32Array::from(v))),
        rows(prop::num::f32::NORMAL | prop::num::f32::ZERO)
            .prop_map(|v| column(Float32Array::from(v))),
        rows(prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::SUBNORMAL)
            .prop_map(|v| column(Float64Array::from(v))),
        rows(any::<String>()).prop_map(|v| column(StringArray::from(v))),
        rows(prop::collection::vec(any::<u8>(), 0..9))
            .prop_map(|v| { column(v.iter().map(Option::as_deref).collect::<BinaryArray>()) }),
        rows(micros)
            .prop_map(|v| { column(TimestampMicrosecondArray::from(v).with_timezone("UTC")) }),
    ]
    .boxed()
}

/// A scalar column, or a list or a struct of one; lists are never NULL.
fn column() -> BoxedStrategy<ArrayRef> {
    let list =
        (scalar(), prop::collection::vec(0..=ROWS, ROWS - 1)).prop_map(|(items, mut cuts)| {
            // Protobuf's lists have no NULL items.
            let items =
                arrow::compute::filter(&items, &arrow::compute::is_not_null(&items).unwrap());
            let items = items.unwrap();
            cuts.iter_mut()
                .for_each(|cut| *cut = (*cut).min(items.len()));
            cuts.sort_unstable();
            let ends = [0].into_iter().chain(cuts).chain([items.len()]);
            let offsets: Vec<i32> = ends.map(|end| i32::try_from(end).unwrap()).collect();
            let item = Arc::new(Field::new_list_field(items.data_type().clone(), true));
            let list = ListArray::new(item, OffsetBuffer::new(offsets.into()), items, None);
            Arc::new(list) as ArrayRef
        });
    let record = (
        scalar(),
        scalar(),
        prop::collection::vec(any::<bool>(), ROWS),
    )
        .prop_map(|(one, other, valid)| {
            let fields = Fields::from(vec![
                Field::new("one", one.data_type().clone(), true),
                Field::new("other", other.data_type().clone(), true),
            ]);
            // What lies under a NULL is NULL, as readers return it.
            let invalid = BooleanArray::from(valid.iter().map(|v| !v).collect::<Vec<_>>());
            let under = |array: &ArrayRef| arrow::compute::nullif(array, &invalid).unwrap();
            let columns = vec![under(&one), under(&other)];
            let nulls = Some(NullBuffer::from(valid));
            Arc::new(StructArray::new(fields, columns, nulls)) as ArrayRef
        });
    prop_oneof![3 => scalar(), 1 => list, 1 => record].boxed()
}

fn columns() -> impl Strategy<Value = RecordBatch> {
    prop::collection::vec(column(), 1..6).prop_map(|columns| {
        let names: Vec<String> = (0..columns.len()).map(|n| format!("c{n}")).collect();
        batch(names.iter().map(String::as_str).zip(columns).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn json_is_read_back(batch in columns()) {
        let encoder = JsonEncoder::new(&fields(&batch), None).unwrap();
        let payloads = encoded(&encoder, &batch).unwrap();
        let decoder = JsonDecoder::new(batch.schema().fields(), false).unwrap();
        prop_assert_eq!(decoded(&decoder, &payloads), batch.columns());
    }

    #[test]
    fn avro_is_read_back(batch in columns()) {
        let schema = derived_avro("R", &fields(&batch)).unwrap();
        let encoder = AvroEncoder::new(&schema, &[], &fields(&batch), AvroFrame::SingleObject);
        let payloads = encoded(&encoder.unwrap(), &batch).unwrap();
        let decoder = AvroDecoder::new(AvroOptions {
            reader: &schema,
            references: &[],
            reader_id: None,
            declared: None,
            framing: AvroFraming::SingleObject { schemas: vec![] },
        });
        assert_same(&decoded(&decoder.unwrap(), &payloads), &batch);
    }

    #[test]
    fn protobuf_is_read_back(batch in columns()) {
        let files = ProtoFiles {
            name: "m.proto".into(),
            text: derived_protobuf("M", &fields(&batch)).unwrap(),
            references: vec![],
        };
        let schema = ProtobufSchema::from_files(&files, None).unwrap();
        let encoder = ProtobufEncoder::new(&schema, &fields(&batch), None).unwrap();
        let payloads = encoded(&encoder, &batch).unwrap();
        let decoder = ProtobufDecoder::new(ProtobufOptions {
            schema,
            declared: None,
            framing: ProtobufFraming::Plain,
        });
        assert_same(&decoded(&decoder.unwrap(), &payloads), &batch);
    }

    /// Whatever the column and the schema, an encoder refuses or writes, and never panics.
    #[test]
    fn misfits_are_told(array in column(), of in prop_oneof![
        Just("\"int\""), Just("\"string\""), Just("[\"null\",\"double\",\"bytes\"]"),
        Just("{\"type\":\"long\",\"logicalType\":\"timestamp-millis\"}"),
        Just("{\"type\":\"array\",\"items\":\"int\"}"),
        Just("{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[\"A\"]}"),
        Just("{\"type\":\"fixed\",\"name\":\"F\",\"size\":2}"),
    ]) {
        let batch = batch(vec![("x", array)]);
        let schema = format!(
            r#"{{"type":"record","name":"R","fields":[{{"name":"x","type":{of}}}]}}"#
        );
        if let Ok(encoder) = AvroEncoder::new(&schema, &[], &fields(&batch), AvroFrame::Plain)
            && let Err(misfit) = encoded(&encoder, &batch)
        {
            prop_assert!(misfit.row < ROWS);
            prop_assert!(misfit.message.starts_with("column 'x"), "{}", misfit.message);
        }
    }
}
