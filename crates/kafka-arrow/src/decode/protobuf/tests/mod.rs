//! What these tests share: decoders made from text, and a form of values that two readers have in common.

mod declared;
mod faults;
mod framed;
mod golden;
mod hostile;
mod laws;
mod merging;
mod schemas;
mod seen;

use arrow::array::{ArrayRef, BinaryViewArray, StructArray};
use arrow::datatypes::Fields;
use prost_reflect::prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};

use super::*;
use seen::Seen;

/// The message `M` in a text.
fn schema(text: &str) -> ProtobufSchema {
    let files = ProtoFiles {
        name: "m.proto".into(),
        text: text.into(),
        references: Vec::new(),
    };
    ProtobufSchema::from_files(&files, Some("M")).unwrap()
}

/// `M` with these fields, in proto3.
fn proto3(body: &str) -> ProtobufSchema {
    schema(&format!(
        "syntax = \"proto3\";
         import \"google/protobuf/timestamp.proto\";
         import \"google/protobuf/duration.proto\";
         import \"google/protobuf/wrappers.proto\";
         import \"google/protobuf/any.proto\";
         import \"google/protobuf/empty.proto\";
         import \"google/protobuf/struct.proto\";
         enum Colour {{ RED = 0; GREEN = 1; BLUE = -7; }}
         message Inner {{ int32 n = 1; string s = 2; optional int32 o = 3; repeated int32 r = 4; }}
         message M {{ {body} }}"
    ))
}

/// `M` with these fields, in proto2.
fn proto2(body: &str) -> ProtobufSchema {
    schema(&format!(
        "syntax = \"proto2\";
         enum Colour {{ GREEN = 1; RED = 0; }}
         message Inner {{ optional int32 n = 1; optional string s = 2; }}
         message M {{ {body} }}"
    ))
}

fn plain(schema: &ProtobufSchema, declared: Option<&Fields>) -> Result<ProtobufDecoder> {
    ProtobufDecoder::new(ProtobufOptions {
        schema: schema.clone(),
        declared,
        framing: Framing::Plain,
    })
}

/// All fields of payloads as rows of structs, and the bad payloads.
fn decode(decoder: &ProtobufDecoder, payloads: &[Option<Vec<u8>>]) -> (Vec<Seen>, Vec<BadPayload>) {
    let payloads = BinaryViewArray::from_iter(payloads);
    let fields: Vec<usize> = (0..decoder.fields().len()).collect();
    let wanted = Wanted {
        fields: &fields,
        check_all: true,
        schema_ids: false,
    };
    let decoded = decoder.decode(&payloads, &wanted).unwrap();
    let rows = rows(decoder.fields(), decoded.columns, payloads.len());
    (rows, decoded.bad)
}

fn rows(fields: &Fields, columns: Vec<ArrayRef>, rows: usize) -> Vec<Seen> {
    if fields.is_empty() {
        return vec![Seen::Struct(Vec::new()); rows];
    }
    let array = StructArray::new(fields.clone(), columns, None);
    assert_eq!(arrow::array::Array::len(&array), rows);
    (0..rows).map(|row| Seen::from_arrow(&array, row)).collect()
}

/// Decodes a single payload, which must be good.
fn row(schema: &ProtobufSchema, payload: &[u8]) -> String {
    let decoder = plain(schema, None).unwrap();
    let (rows, bad) = decode(&decoder, &[Some(payload.to_vec())]);
    assert_eq!(bad, []);
    rows[0].to_string()
}

/// Decodes a single payload, which must be bad. Returns class and message.
fn fault(schema: &ProtobufSchema, payload: &[u8]) -> String {
    let decoder = plain(schema, None).unwrap();
    let good = payload_of(schema, "");
    let (rows, bad) = decode(
        &decoder,
        &[
            Some(good.clone()),
            Some(payload.to_vec()),
            None,
            Some(good.clone()),
        ],
    );
    assert_eq!(bad.len(), 1, "{rows:?}");
    assert_eq!(bad[0].row, 1);
    assert_eq!(rows[0], rows[3], "neighbours are not disturbed");
    assert_eq!(rows[1], rows[2], "a bad row is NULL as a tombstone is");
    format!("{}: {}", bad[0].class, bad[0].message)
}

/// Parses a message in Protobuf's text format.
fn text(descriptor: &MessageDescriptor, text: &str) -> DynamicMessage {
    // protox enables prost-reflect's feature for the text format.
    DynamicMessage::parse_text_format(descriptor.clone(), text).unwrap()
}

fn payload_of(schema: &ProtobufSchema, message: &str) -> Vec<u8> {
    text(schema.message(), message).encode_to_vec()
}
