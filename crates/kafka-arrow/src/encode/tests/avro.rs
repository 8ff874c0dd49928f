//! Avro payloads, read back by this crate's decoder and by arrow-avro.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano};
use arrow_avro::reader::ReaderBuilder;
use arrow_avro::schema::{AvroSchema, SchemaStore};

use super::samples::{common, dates};
use super::*;
use crate::decode::{AvroDecoder, AvroFraming, AvroOptions};

/// A record with a field `x` of this type.
fn one(of: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{{"name":"x","type":{of}}}]}}"#)
}

fn encoder(schema: &str, batch: &RecordBatch) -> Result<AvroEncoder> {
    AvroEncoder::new(schema, &[], &fields(batch), AvroFrame::Plain)
}

fn decoder(schema: &str) -> AvroDecoder {
    AvroDecoder::new(AvroOptions {
        reader: schema,
        references: &[],
        reader_id: None,
        declared: None,
        framing: AvroFraming::Plain { writer: None },
    })
    .unwrap()
}

fn x(array: ArrayRef) -> RecordBatch {
    batch(vec![("x", array)])
}

/// The bytes of one value under a schema.
fn bytes(of: &str, array: ArrayRef) -> Vec<u8> {
    let batch = x(array);
    let payloads = encoded(&encoder(&one(of), &batch).unwrap(), &batch).unwrap();
    payloads.value(0).to_vec()
}

#[test]
fn values_are_written_as_the_specification_says() {
    let text = |s: &str| -> ArrayRef { Arc::new(StringArray::from(vec![s])) };
    let long = |n: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![n])) };
    assert_eq!(bytes("\"int\"", long(-64)), [0x7f]);
    assert_eq!(bytes("\"long\"", long(64)), [0x80, 0x01]);
    assert_eq!(bytes("\"string\"", text("foo")), [0x06, 0x66, 0x6f, 0x6f]);
    assert_eq!(
        bytes("[\"null\",\"string\"]", text("a")),
        [0x02, 0x02, 0x61]
    );
    assert_eq!(
        bytes(
            "[\"string\",\"null\"]",
            Arc::new(StringArray::from(vec![None::<&str>]))
        ),
        [2]
    );
    assert_eq!(
        bytes("[\"int\",\"null\",\"string\"]", text("a")),
        [0x04, 0x02, 0x61]
    );
    assert_eq!(
        bytes(
            "{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[\"A\",\"B\"]}",
            text("B")
        ),
        [0x02]
    );
    let list = ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>([Some([
        Some(3),
        Some(27),
    ])]);
    assert_eq!(
        bytes("{\"type\":\"array\",\"items\":\"long\"}", Arc::new(list)),
        [0x04, 0x06, 0x36, 0x00]
    );
    let decimal = |n: i128| -> ArrayRef {
        let array = Decimal128Array::from(vec![n]);
        Arc::new(array.with_precision_and_scale(10, 2).unwrap())
    };
    let of = r#"{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}"#;
    assert_eq!(bytes(of, decimal(128)), [0x04, 0x00, 0x80]);
    assert_eq!(bytes(of, decimal(-128)), [0x02, 0x80]);
    assert_eq!(bytes(of, decimal(0)), [0x02, 0x00]);
    let fixed =
        r#"{"type":"fixed","name":"F","size":4,"logicalType":"decimal","precision":9,"scale":3}"#;
    assert_eq!(bytes(fixed, decimal(-1)), [0xff, 0xff, 0xff, 0xf6]);
    let duration = r#"{"type":"fixed","name":"D","size":12,"logicalType":"duration"}"#;
    let interval = IntervalMonthDayNano::new(1, 2, 3_000_000);
    assert_eq!(
        bytes(
            duration,
            Arc::new(IntervalMonthDayNanoArray::from(vec![interval]))
        ),
        [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]
    );
}

#[test]
fn a_schema_of_the_columns_is_read_back() {
    for batch in [common(), dates()] {
        let schema = derived_avro("shop.Order", &fields(&batch)).unwrap();
        let payloads = encoded(&encoder(&schema, &batch).unwrap(), &batch).unwrap();
        assert_same(&decoded(&decoder(&schema), &payloads), &batch);
    }
}

#[test]
fn another_library_reads_the_same() {
    for batch in [common(), dates()] {
        let schema = derived_avro("Order", &fields(&batch)).unwrap();
        let encoder =
            AvroEncoder::new(&schema, &[], &fields(&batch), AvroFrame::SingleObject).unwrap();
        let payloads = encoded(&encoder, &batch).unwrap();
        let mut store = SchemaStore::new();
        store.register(AvroSchema::new(schema)).unwrap();
        let mut decoder = ReaderBuilder::new()
            .with_writer_schema_store(store)
            .build_decoder()
            .unwrap();
        for payload in payloads.iter().flatten() {
            assert_eq!(decoder.decode(payload).unwrap(), payload.len());
        }
        let found = decoder.flush().unwrap().unwrap();
        assert_same(found.columns(), &batch);
    }
}

#[test]
fn the_derived_schema_has_defaults_and_names() {
    let inner = StructArray::from(vec![(
        Arc::new(Field::new("n", DataType::Int8, true)),
        Arc::new(Int8Array::from(vec![1])) as ArrayRef,
    )]);
    let batch = batch(vec![
        ("id", Arc::new(Int64Array::from(vec![1]))),
        ("inner", Arc::new(inner)),
    ]);
    let expected = serde_json::json!({
        "type": "record", "name": "shop.Order", "fields": [
            { "name": "id", "type": ["null", "long"], "default": null },
            { "name": "inner", "default": null, "type": ["null", {
                "type": "record", "name": "Order_inner",
                "fields": [{ "name": "n", "type": ["null", "int"], "default": null }]
            }] },
        ]
    });
    let found = derived_avro("shop.Order", &fields(&batch)).unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&found).unwrap(),
        expected
    );

    let wrong = super::batch(vec![("a b", Arc::new(Int64Array::from(vec![1])))]);
    let refused = derived_avro("R", &fields(&wrong)).unwrap_err().to_string();
    assert!(refused.contains("column 'a b'"), "{refused}");
    let wrong = super::batch(vec![("n", Arc::new(NullArray::new(1)))]);
    let refused = derived_avro("R", &fields(&wrong)).unwrap_err().to_string();
    assert!(refused.contains("nothing but NULL"), "{refused}");
}

#[test]
fn what_no_column_fills_is_the_default_or_null() {
    let schema = r#"{"type":"record","name":"R","fields":[
        {"name":"a","type":"int","default":7},
        {"name":"x","type":"long"},
        {"name":"b","type":["string","null"]},
        {"name":"c","type":["string","null"],"default":"d"},
        {"name":"e","type":{"type":"array","items":"int"},"default":[1]}]}"#;
    let batch = x(Arc::new(Int64Array::from(vec![5])));
    let payloads = encoded(&encoder(schema, &batch).unwrap(), &batch).unwrap();
    assert_eq!(payloads.value(0), [14, 10, 2, 0, 2, b'd', 2, 2, 0]);
    let schema = one("\"long\"").replace("\"x\"", "\"y\"");
    let refused = encoder(&schema, &batch).unwrap_err().to_string();
    assert_eq!(
        refused,
        "the Avro schema: its field 'y' is long, which has neither NULL nor a default, and no column \
         has this name"
    );
}

#[test]
fn columns_that_do_not_fit_the_schema_are_refused() {
    let numbers = x(Arc::new(Int64Array::from(vec![1])));
    let refused = |of: &str, batch: &RecordBatch| encoder(&one(of), batch).unwrap_err().to_string();
    assert_eq!(
        refused("\"string\"", &numbers),
        "the Avro schema: column 'x': string cannot be written from a whole number"
    );
    let more = batch(vec![
        ("x", Arc::new(Int64Array::from(vec![1]))),
        ("xx", Arc::new(Int64Array::from(vec![1]))),
    ]);
    assert_eq!(
        refused("\"long\"", &more),
        "the Avro schema: has no field for the column 'xx'; did you mean 'x'?"
    );
    let doubles = x(Arc::new(Float64Array::from(vec![0.1])));
    assert!(refused("\"float\"", &doubles).contains("float cannot be written from a DOUBLE"));
    let refused = encoder("\"long\"", &numbers).unwrap_err().to_string();
    assert!(
        refused.contains("is long, and columns are the fields of a record"),
        "{refused}"
    );
}

#[test]
fn values_that_do_not_fit_name_row_and_column() {
    let wrong = |of: &str, array: ArrayRef| {
        let batch = x(array);
        misfit(&encoder(&one(of), &batch).unwrap(), &batch)
    };
    assert_eq!(
        wrong("\"int\"", Arc::new(Int64Array::from(vec![1, 1 << 40]))),
        "1 column 'x': 1099511627776 does not fit into 32 bits"
    );
    assert_eq!(
        wrong("\"long\"", Arc::new(Int64Array::from(vec![None]))),
        "0 column 'x': NULL, which the schema does not have here"
    );
    let millis = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
    let found = wrong(
        millis,
        Arc::new(TimestampMicrosecondArray::from(vec![1000, 1001])),
    );
    assert!(
        found.starts_with("1 column 'x': the schema has Milliseconds"),
        "{found}"
    );
    let of = r#"{"type":"bytes","logicalType":"decimal","precision":3,"scale":1}"#;
    let decimals = Decimal128Array::from(vec![1230, 1234]).with_precision_and_scale(10, 2);
    assert_eq!(
        wrong(of, Arc::new(decimals.unwrap())),
        "1 column 'x': 12.34 does not fit a decimal of 3 digits, 1 of them after the point"
    );
    let symbols = r#"{"type":"enum","name":"E","symbols":["A"]}"#;
    assert_eq!(
        wrong(symbols, Arc::new(StringArray::from(vec!["B"]))),
        "0 column 'x': 'B' is not a symbol of the enum"
    );
    let fixed = r#"{"type":"fixed","name":"F","size":2}"#;
    assert_eq!(
        wrong(fixed, Arc::new(BinaryArray::from(vec![&[1u8][..]]))),
        "0 column 'x': 1 bytes, where the schema has 2"
    );
    let lists = ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>([Some([None])]);
    assert_eq!(
        wrong("{\"type\":\"array\",\"items\":\"long\"}", Arc::new(lists)),
        "0 column 'x': NULL, which the schema does not have here"
    );
}

#[test]
fn a_union_is_a_struct_as_it_is_read() {
    let of = one(r#"["null","int","string"]"#);
    let members = StructArray::from(vec![
        (
            Arc::new(Field::new("int", DataType::Int32, true)),
            Arc::new(Int32Array::from(vec![Some(1), None, None, Some(1)])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("string", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec![None, Some("a"), None, Some("b")])) as ArrayRef,
        ),
    ]);
    let batch = x(Arc::new(members));
    let encoder = encoder(&of, &batch).unwrap();
    assert_eq!(
        misfit(&encoder, &batch),
        "3 column 'x': a union has one value, but neither 'int' nor 'string' is NULL"
    );
    let batch = batch.slice(0, 3);
    let payloads = encoded(&encoder, &batch).unwrap();
    let rows: Vec<&[u8]> = payloads.iter().flatten().collect();
    assert_eq!(rows, [&[2u8, 2][..], &[4, 2, b'a'], &[0]]);
}

#[test]
fn frames_name_the_schema() {
    let batch = x(Arc::new(Int64Array::from(vec![1])));
    let encoder = |frame| AvroEncoder::new(&one("\"long\""), &[], &fields(&batch), frame).unwrap();
    let payloads = encoded(&encoder(AvroFrame::Registry(258)), &batch).unwrap();
    assert_eq!(payloads.value(0), [0, 0, 0, 1, 2, 2]);
    let payloads = encoded(&encoder(AvroFrame::SingleObject), &batch).unwrap();
    assert_eq!(payloads.value(0)[..2], [0xc3, 0x01]);
    assert_eq!(payloads.value(0).len(), 11);
}
