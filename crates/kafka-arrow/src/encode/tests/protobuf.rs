//! Protobuf payloads, read back by this crate's decoder and by prost-reflect.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field};
use prost_reflect::DynamicMessage;

use super::samples::common;
use super::*;
use crate::decode::{
    ProtoFiles, ProtobufDecoder, ProtobufFraming, ProtobufOptions, ProtobufSchema,
};

fn schema(text: &str, message: Option<&str>) -> ProtobufSchema {
    let files = ProtoFiles {
        name: "m.proto".into(),
        text: text.into(),
        references: Vec::new(),
    };
    ProtobufSchema::from_files(&files, message).unwrap()
}

/// `M` with these fields, in proto3.
fn proto3(body: &str) -> ProtobufSchema {
    let text = format!(
        "syntax = \"proto3\";
         import \"google/protobuf/timestamp.proto\";
         import \"google/protobuf/duration.proto\";
         import \"google/protobuf/wrappers.proto\";
         enum Colour {{ RED = 0; GREEN = 1; BLUE = -7; }}
         message M {{ {body} }}"
    );
    schema(&text, Some("M"))
}

fn encoder(schema: &ProtobufSchema, batch: &RecordBatch) -> Result<ProtobufEncoder> {
    ProtobufEncoder::new(schema, &fields(batch), None)
}

fn x(array: ArrayRef) -> RecordBatch {
    batch(vec![("x", array)])
}

fn payloads(body: &str, batch: &RecordBatch) -> Vec<Vec<u8>> {
    let encoder = encoder(&proto3(body), batch).unwrap();
    let payloads = encoded(&encoder, batch).unwrap();
    payloads.iter().flatten().map(<[u8]>::to_vec).collect()
}

/// What prost-reflect reads, as text.
fn reflected(schema: &ProtobufSchema, payload: &[u8]) -> String {
    let message = DynamicMessage::decode(schema.message().clone(), payload).unwrap();
    assert_eq!(message.unknown_fields().count(), 0);
    message.to_string()
}

#[test]
fn values_are_written_as_the_specification_says() {
    let long = |n: i64| x(Arc::new(Int64Array::from(vec![n])));
    assert_eq!(payloads("int32 x = 1;", &long(150)), [[0x08, 0x96, 0x01]]);
    assert_eq!(payloads("int32 x = 1;", &long(0)), [[0u8; 0]]);
    assert_eq!(payloads("optional int32 x = 1;", &long(0)), [[0x08, 0x00]]);
    assert_eq!(payloads("sint32 x = 1;", &long(-1)), [[0x08, 0x01]]);
    assert_eq!(payloads("fixed32 x = 1;", &long(1)), [[0x0d, 1, 0, 0, 0]]);
    let negative = payloads("int32 x = 1;", &long(-1));
    assert_eq!(negative[0].len(), 11);
    let text = x(Arc::new(StringArray::from(vec!["testing"])));
    assert_eq!(payloads("string x = 2;", &text), [b"\x12\x07testing"]);
    let list = ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>([Some([
        Some(3),
        Some(270),
        Some(86_942),
    ])]);
    let list = x(Arc::new(list));
    assert_eq!(
        payloads("repeated int32 x = 6;", &list),
        [[0x32, 0x06, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05]]
    );
    assert_eq!(
        payloads("repeated int32 x = 6 [packed = false];", &list),
        [[0x30, 0x03, 0x30, 0x8e, 0x02, 0x30, 0x9e, 0xa7, 0x05]]
    );
    let names = x(Arc::new(StringArray::from(vec!["GREEN", "-7", "RED"])));
    assert_eq!(
        payloads("Colour x = 1;", &names),
        [
            vec![0x08, 0x01],
            vec![
                0x08, 0xf9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01
            ],
            vec![]
        ]
    );
}

#[test]
fn a_schema_of_the_columns_is_read_back() {
    let batch = common();
    let text = derived_protobuf("shop.Order", &fields(&batch)).unwrap();
    let schema = schema(&text, None);
    assert_eq!(schema.full_name(), "shop.Order");
    let payloads = encoded(&encoder(&schema, &batch).unwrap(), &batch).unwrap();
    let decoder = ProtobufDecoder::new(ProtobufOptions {
        schema,
        declared: None,
        framing: ProtobufFraming::Plain,
    });
    assert_same(&decoded(&decoder.unwrap(), &payloads), &batch);
}

#[test]
fn another_library_reads_the_same() {
    let batch = common();
    let schema = schema(&derived_protobuf("Order", &fields(&batch)).unwrap(), None);
    let payloads = encoded(&encoder(&schema, &batch).unwrap(), &batch).unwrap();
    assert_eq!(reflected(&schema, payloads.value(1)), "");
    let last = reflected(&schema, payloads.value(2));
    for expected in [
        "bool:false",
        "int:2147483647",
        "long:9223372036854775807",
        "text:\"\"",
        "micros{seconds:-1,nanos:999999000}",
        "millis{seconds:-1,nanos:999000000}",
        "record{}",
        "list:[2147483647]",
        "map:[{key:\"\",value:0}]",
    ] {
        assert!(last.contains(expected), "{expected} in {last}");
    }
}

#[test]
fn the_derived_text_is_a_file() {
    let inner = StructArray::from(vec![(
        Arc::new(Field::new("n", DataType::Int8, true)),
        Arc::new(Int8Array::from(vec![1])) as ArrayRef,
    )]);
    let batch = batch(vec![
        ("id", Arc::new(Int64Array::from(vec![1]))),
        ("inner", Arc::new(inner)),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![1]))),
    ]);
    assert_eq!(
        derived_protobuf("shop.Order", &fields(&batch)).unwrap(),
        "syntax = \"proto3\";\npackage shop;\nimport \"google/protobuf/timestamp.proto\";\n\
         message Order {\n  optional int64 id = 1;\n  message inner_message {\n    \
         optional int32 n = 1;\n  }\n  optional inner_message inner = 2;\n  \
         optional google.protobuf.Timestamp at = 3;\n}\n"
    );
    let dates = super::batch(vec![("d", Arc::new(Date32Array::from(vec![1])))]);
    let refused = derived_protobuf("M", &fields(&dates))
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("column 'd': Protobuf has no type for Date32"),
        "{refused}"
    );
}

#[test]
fn null_needs_a_field_that_can_represent_it() {
    let null = x(Arc::new(Int64Array::from(vec![Some(1), None])));
    assert_eq!(payloads("optional int64 x = 1;", &null)[1], [0u8; 0]);
    let found = misfit(&encoder(&proto3("int64 x = 1;"), &null).unwrap(), &null);
    assert!(
        found.starts_with("1 column 'x': NULL, which the field cannot represent"),
        "{found}"
    );
    let wrapped = payloads("google.protobuf.Int64Value x = 1;", &null);
    assert_eq!(wrapped, [vec![0x0a, 0x02, 0x08, 0x01], vec![]]);
    let two = schema(
        "syntax = \"proto2\"; message M { required int64 x = 1; }",
        None,
    );
    let zero = x(Arc::new(Int64Array::from(vec![0])));
    let found = encoded(&encoder(&two, &zero).unwrap(), &zero).unwrap();
    assert_eq!(found.value(0), [0x08, 0x00]);
    assert_eq!(
        misfit(&encoder(&two, &null).unwrap(), &null),
        "1 column 'x': NULL, and the field is required"
    );
}

#[test]
fn of_a_oneof_one_member_is_set() {
    let batch = batch(vec![
        (
            "a",
            Arc::new(Int64Array::from(vec![Some(0), None, None, Some(1)])),
        ),
        (
            "b",
            Arc::new(StringArray::from(vec![None, Some(""), None, Some("b")])),
        ),
    ]);
    let schema = proto3("oneof o { int64 a = 1; string b = 2; }");
    let encoder = encoder(&schema, &batch).unwrap();
    assert_eq!(
        misfit(&encoder, &batch),
        "3 'a' and 'b' belong to one oneof, and neither is NULL"
    );
    let batch = batch.slice(0, 3);
    let payloads = encoded(&encoder, &batch).unwrap();
    let rows: Vec<&[u8]> = payloads.iter().flatten().collect();
    assert_eq!(rows, [&[0x08u8, 0x00][..], &[0x12, 0x00], &[]]);
}

#[test]
fn what_does_not_fit_is_refused_or_named() {
    let refused =
        |body: &str, batch: &RecordBatch| encoder(&proto3(body), batch).unwrap_err().to_string();
    let long = x(Arc::new(Int64Array::from(vec![1, -1])));
    assert_eq!(
        refused("string x = 1;", &long),
        "the Protobuf message 'M': column 'x': the field is string, which cannot be written from a whole number"
    );
    assert_eq!(
        refused("string xy = 1;", &long),
        "the Protobuf message 'M': has no field for the column 'x'; did you mean 'xy'?"
    );
    let wrong =
        |body: &str, batch: &RecordBatch| misfit(&encoder(&proto3(body), batch).unwrap(), batch);
    assert_eq!(
        wrong("uint32 x = 1;", &long),
        "1 column 'x': -1 does not fit into unsigned 32 bits"
    );
    let names = x(Arc::new(StringArray::from(vec!["PINK"])));
    assert_eq!(
        wrong("Colour x = 1;", &names),
        "0 column 'x': 'PINK' is not a value of the enum"
    );
    let far = x(Arc::new(TimestampSecondArray::from(vec![i64::MAX])));
    assert_eq!(
        wrong("google.protobuf.Timestamp x = 1;", &far),
        "0 column 'x': the timestamp is not between the years 1 and 9999"
    );
    let list = ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>([Some([None])]);
    let list = x(Arc::new(list));
    assert!(wrong("repeated int64 x = 1;", &list).contains("an item of the list is NULL"));
}

#[test]
fn durations_have_one_sign() {
    let batch = x(Arc::new(DurationMicrosecondArray::from(vec![
        -1_500_000, 1,
    ])));
    let schema = proto3("google.protobuf.Duration x = 1;");
    let payloads = encoded(&encoder(&schema, &batch).unwrap(), &batch).unwrap();
    assert_eq!(
        reflected(&schema, payloads.value(0)),
        "x{seconds:-1,nanos:-500000000}"
    );
    assert_eq!(reflected(&schema, payloads.value(1)), "x{nanos:1000}");
}

#[test]
fn frames_lead_to_the_message() {
    let text = "syntax = \"proto3\"; message A { message B { int32 y = 1; } map<string, B> m = 1;
                message C { int32 x = 1; } int32 x = 2; } message D { int32 x = 1; }";
    let batch = x(Arc::new(Int64Array::from(vec![0])));
    for (message, frame) in [
        ("A", &[0u8, 0, 0, 0, 7, 0][..]),
        ("D", &[0, 0, 0, 0, 7, 2, 2]),
        ("A.C", &[0, 0, 0, 0, 7, 4, 0, 2]),
    ] {
        let schema = schema(text, Some(message));
        let encoder = ProtobufEncoder::new(&schema, &fields(&batch), Some(7)).unwrap();
        let payloads = encoded(&encoder, &batch).unwrap();
        assert_eq!(payloads.value(0), frame, "{message}");
    }
}

#[test]
fn groups_end_with_their_tag() {
    let text = "syntax = \"proto2\"; message M { optional group G = 1 { optional int32 n = 2; } }";
    let schema = schema(text, None);
    let group = StructArray::from(vec![(
        Arc::new(Field::new("n", DataType::Int32, true)),
        Arc::new(Int32Array::from(vec![5])) as ArrayRef,
    )]);
    let batch = batch(vec![("g", Arc::new(group))]);
    let payloads = encoded(&encoder(&schema, &batch).unwrap(), &batch).unwrap();
    assert_eq!(payloads.value(0), [0x0b, 0x10, 0x05, 0x0c]);
}
