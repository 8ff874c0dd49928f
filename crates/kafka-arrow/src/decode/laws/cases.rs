//! The decoders that an input can choose: for each format, some that use all of its features.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use async_trait::async_trait;

use super::super::avro::{AvroDecoder, AvroOptions, Framing as AvroFraming};
use super::super::csv::CsvDecoder;
use super::super::json::{Inference, JsonDecoder};
use super::super::payload::PayloadDecoder;
use super::super::proto_files::{Framing, ProtoFiles, ProtobufOptions};
use super::super::protobuf::{ProtobufDecoder, ProtobufSchema};
use super::super::registry::{RegisteredSchema, SchemaKind, WriterSchemas};
use super::super::scalar::{Scalar, ScalarDecoder};
use super::{Input, obeys, run};
use crate::error::Result;

/// A decoder, and frames to put before payloads, which a random input would not guess.
pub(super) struct Case {
    pub(super) decoder: Box<dyn PayloadDecoder>,
    frames: Vec<Vec<u8>>,
}

impl Case {
    fn plain(decoder: impl PayloadDecoder + 'static) -> Self {
        Self::framed(decoder, Vec::new())
    }

    fn framed(decoder: impl PayloadDecoder + 'static, frames: Vec<Vec<u8>>) -> Self {
        Self {
            decoder: Box::new(decoder),
            frames,
        }
    }

    /// Replaces the first byte of a payload with the frame that it selects, if any.
    pub(super) fn frame(&self, payload: &mut Vec<u8>) {
        if let Some(first) = payload.first()
            && let Some(frame) = self.frames.get(usize::from(*first))
        {
            payload.splice(..1, frame.iter().copied());
        }
    }
}

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn list(of: DataType) -> DataType {
    DataType::List(Arc::new(field("item", of)))
}

fn map(of: DataType) -> DataType {
    let entry = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        field("value", of),
    ]);
    let entries = Field::new("entries", DataType::Struct(entry), false);
    DataType::Map(Arc::new(entries), false)
}

fn utc(unit: TimeUnit) -> DataType {
    DataType::Timestamp(unit, Some("UTC".into()))
}

/// A column of each type that text can be read into.
pub(super) fn flat() -> Fields {
    Fields::from(vec![
        field("i", DataType::Int64),
        field("s", DataType::Utf8View),
        field("b", DataType::Boolean),
        field("t", DataType::Int8),
        field("u", DataType::UInt64),
        field("f", DataType::Float32),
        field("d", DataType::Decimal128(12, 2)),
        field("at", utc(TimeUnit::Millisecond)),
        field("day", DataType::Date32),
        field("time", DataType::Time64(TimeUnit::Microsecond)),
        field("bin", DataType::Binary),
        field("ns", DataType::Timestamp(TimeUnit::Nanosecond, None)),
        field("v", DataType::Utf8),
        field("h", DataType::Time32(TimeUnit::Second)),
        field("big", DataType::Decimal128(38, 10)),
    ])
}

fn wide() -> DataType {
    let fields = (1..=200).map(|n| field(&format!("w{n}"), DataType::Int64));
    DataType::Struct(fields.collect())
}

fn nested() -> Fields {
    let point = DataType::Struct(Fields::from(vec![
        field("x", DataType::Int64),
        field("name", DataType::Utf8View),
        field("more", list(DataType::Utf8)),
    ]));
    Fields::from(vec![
        field("a", DataType::Int32),
        field("l", list(DataType::Int64)),
        field("p", point.clone()),
        field("ps", list(point.clone())),
        field("m", map(DataType::Int64)),
        field("mp", map(point)),
        field("ll", list(list(DataType::Boolean))),
        field("s", DataType::Utf8View),
    ])
}

/// Fields that turn small payloads into much memory.
fn sparse_fields() -> Fields {
    Fields::from(vec![
        field("a", DataType::Int32),
        field("w", list(wide())),
        field("m", map(wide())),
        field("p", wide()),
    ])
}

/// More names than are compared one by one, some of which differ only in case.
fn names() -> Fields {
    let many = (0..20).map(|n| field(&format!("F{n}"), DataType::Int64));
    let alike = ["id", "ID", "\u{e4}", "\u{c4}", "\u{130}"].map(|n| field(n, DataType::Utf8));
    many.chain(alike).collect()
}

pub(crate) fn json(data: &[u8]) {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
        let case = |fields: Fields, framed| JsonDecoder::new(&fields, framed).unwrap();
        vec![
            Case::plain(case(flat(), false)),
            Case::plain(case(nested(), false)),
            Case::plain(case(names(), false)),
            Case::framed(case(nested(), true), vec![vec![0, 0, 0, 0, 7]]),
            Case::plain(case(Fields::empty(), false)),
            Case::plain(case(sparse_fields(), false)),
        ]
    });
    run(&CASES, data);
    // Infers a schema from the same payloads.
    let Some((_, input)) = Input::parse(data) else {
        return;
    };
    let mut sample = Inference::default();
    let payloads = input.payloads.iter().flatten();
    let objects = payloads.filter(|p| sample.add(p).is_ok()).count();
    assert_eq!(sample.objects(), objects);
    let Ok(fields) = sample.fields() else {
        return;
    };
    let decoder = JsonDecoder::new(&fields, false);
    obeys(&decoder.expect("what a sample has is decoded"), &input);
}

pub(crate) fn csv(data: &[u8]) {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
        let case =
            |fields: &Fields, delimiter| Case::plain(CsvDecoder::new(fields, delimiter).unwrap());
        let three = Fields::from(flat()[..3].to_vec());
        vec![
            case(&flat(), b','),
            case(&three, b';'),
            case(&three, b'\t'),
            case(&Fields::from(flat()[1..2].to_vec()), b','),
            case(&Fields::empty(), b','),
        ]
    });
    run(&CASES, data);
}

pub(crate) fn scalar(data: &[u8]) {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
        [
            Scalar::Text,
            Scalar::Int32,
            Scalar::Int64,
            Scalar::Float,
            Scalar::Double,
            Scalar::Uuid,
        ]
        .map(|scalar| Case::plain(ScalarDecoder::new(scalar, "value")))
        .into()
    });
    run(&CASES, data);
}

/// A schema with something of each kind.
pub(super) const RICH: &str = r#"{"type":"record","name":"R","fields":[
    {"name":"a","type":"boolean"},{"name":"b","type":["null","int"]},{"name":"c","type":"long"},
    {"name":"d","type":"float"},{"name":"e","type":["double","null"]},{"name":"f","type":"bytes"},
    {"name":"g","type":"string"},{"name":"h","type":{"type":"enum","name":"E","symbols":["X","Yes"]}},
    {"name":"i","type":{"type":"fixed","name":"F","size":3}},
    {"name":"j","type":{"type":"array","items":["null",{"type":"record","name":"S","fields":[
        {"name":"p","type":"string"},{"name":"q","type":{"type":"map","values":"int"}}]}]}},
    {"name":"k","type":{"type":"map","values":{"type":"array","items":"E"}}},
    {"name":"l","type":["null","string","long","S"]},
    {"name":"m","type":{"type":"bytes","logicalType":"decimal","precision":50,"scale":2}},
    {"name":"n","type":["null",{"type":"fixed","name":"D","size":12,"logicalType":"duration"}]},
    {"name":"o","type":{"type":"int","logicalType":"time-millis"}},
    {"name":"p","type":{"type":"array","items":"null"}},
    {"name":"q","type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"r","type":["null",{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}]}]}"#;

/// Reads [`RICH`] with other types, part of a union, defaults and many skipped fields.
const OTHER: &str = r#"{"type":"record","name":"R","fields":[
    {"name":"b","type":["null","double"]},{"name":"c","type":"double"},{"name":"new","type":"string","default":"x"},
    {"name":"h","type":{"type":"enum","name":"E","symbols":["X","No"],"default":"No"}},
    {"name":"j","type":{"type":"array","items":["null",{"type":"record","name":"S","fields":[
        {"name":"p","type":"bytes"},{"name":"z","type":{"type":"array","items":"string"},"default":["a","b"]}]}]}},
    {"name":"l","type":["null","long",{"type":"map","values":"int"}]},
    {"name":"q","type":{"type":"long","logicalType":"timestamp-nanos"}}]}"#;

/// Contains itself in a field that [`SHALLOW`] skips.
const RECURSIVE: &str = r#"{"type":"record","name":"R","fields":[
    {"name":"next","type":["null","R",{"type":"array","items":"R"},{"type":"map","values":"R"}]},
    {"name":"c","type":"long"}]}"#;
const SHALLOW: &str = r#"{"type":"record","name":"R","fields":[{"name":"c","type":"long"}]}"#;

/// A record with items of at most one byte that become large.
fn sparse() -> String {
    let fields: Vec<String> = (0..100)
        .map(|n| format!(r#"{{"name":"w{n}","type":"long","default":{n}}}"#))
        .collect();
    let fields = fields.join(",");
    let long = "y".repeat(500);
    format!(
        r#"{{"type":"record","name":"R","fields":[
        {{"name":"a","type":{{"type":"array","items":["null",{{"type":"record","name":"W","fields":[{fields}]}}]}}}},
        {{"name":"b","type":{{"type":"array","items":{{"type":"fixed","name":"Z","size":0}}}}}},
        {{"name":"c","type":{{"type":"array","items":{{"type":"enum","name":"E","symbols":["{long}"]}}}}}},
        {{"name":"d","type":{{"type":"map","values":["null",{{"type":"fixed","name":"K","size":1000}}]}}}},
        {{"name":"e","type":{{"type":"array","items":{{"type":"record","name":"N","fields":[
            {{"name":"n","type":"null","default":null}},{{"name":"t","type":"string","default":"{long}"}},
            {{"name":"u","type":"E","default":"{long}"}}]}}}}}}]}}"#
    )
}

/// The writer's schema for [`sparse`], without the fields that have a default.
const SPARSE_WRITER: &str = r#"{"type":"record","name":"R","fields":[
    {"name":"a","type":{"type":"array","items":["null",{"type":"record","name":"W","fields":[]}]}},
    {"name":"b","type":{"type":"array","items":{"type":"fixed","name":"Z","size":0}}},
    {"name":"c","type":{"type":"array","items":{"type":"enum","name":"E","symbols":["SYMBOL"]}}},
    {"name":"d","type":{"type":"map","values":["null",{"type":"fixed","name":"K","size":1000}]}},
    {"name":"e","type":{"type":"array","items":{"type":"record","name":"N","fields":[]}}}]}"#;

/// The registry for Avro's framed cases, by id. The third text is not a schema; ids from 4 on do not exist.
const WRITERS: [(i32, &str); 3] = [(1, RICH), (2, SHALLOW), (3, "{")];

/// Frames of known ids, of an unknown id, and a cut one.
fn frames() -> Vec<Vec<u8>> {
    let known = WRITERS.into_iter().map(|(id, _)| id);
    let frame = |id: i32| [&[0][..], &id.to_be_bytes()].concat();
    known.chain([4]).map(frame).chain([vec![0, 0]]).collect()
}

fn avro_of(reader: &str, framing: AvroFraming) -> AvroDecoder {
    let decoder = AvroDecoder::new(AvroOptions {
        reader,
        references: &[],
        reader_id: None,
        declared: None,
        framing,
    });
    decoder.unwrap()
}

pub(crate) fn avro(data: &[u8]) {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
        let plain = |reader: &str, writer: Option<&str>| {
            let writer = writer.map(str::to_owned);
            Case::plain(avro_of(reader, AvroFraming::Plain { writer }))
        };
        // The last one belongs to no schema.
        let prints = [SHALLOW_PRINT, RICH_PRINT, 1].map(|print: u64| {
            let marker = [0xc3, 0x01].into_iter();
            marker.chain(print.to_le_bytes()).collect()
        });
        let schemas = vec![RICH.to_owned()];
        let single = avro_of(SHALLOW, AvroFraming::SingleObject { schemas });
        let registry = InMemory(SchemaKind::Avro, &WRITERS);
        let registered = avro_of(OTHER, AvroFraming::Registry(Arc::new(registry)));
        let writer = SPARSE_WRITER.replace("SYMBOL", &"y".repeat(500));
        vec![
            plain(RICH, None),
            plain(OTHER, Some(RICH)),
            plain(SHALLOW, Some(RECURSIVE)),
            plain(&sparse(), None),
            plain(&sparse(), Some(&writer)),
            Case::framed(single, prints.into()),
            Case::framed(registered, frames()),
        ]
    });
    run(&CASES, data);
}

// The fingerprints of SHALLOW and RICH.
const SHALLOW_PRINT: u64 = 0x78f9_3250_50f9_8a13;
const RICH_PRINT: u64 = 0xcc05_b336_26aa_5673;

/// Every kind of field in proto3.
pub(super) const PROTO3: &str = r#"syntax = "proto3";
    import "google/protobuf/timestamp.proto";
    import "google/protobuf/duration.proto";
    import "google/protobuf/wrappers.proto";
    enum Colour { RED = 0; GREEN = 1; BLUE = -7; A_NAME_THAT_IS_LONGER_THAN_MOST_NAMES_OF_VALUES_ARE = 5; }
    message Inner { int32 n = 1; string s = 2; optional int32 o = 3; repeated int32 r = 4; }
    message M {
        int32 a = 1; sint64 b = 2; fixed32 c = 3; double d = 4; string e = 5; bytes f = 6;
        Colour g = 7; bool h = 8; Inner i = 9; repeated sint32 j = 10; repeated string k = 11;
        repeated Inner l = 12; map<string, Inner> m = 13; map<int64, Colour> n = 14;
        oneof o { uint32 p = 15; Inner q = 16; string r = 300; Deep s = 18; }
        optional float t = 19; optional string u = 20; google.protobuf.Timestamp v = 21;
        google.protobuf.Duration w = 22; google.protobuf.Int64Value x = 23;
        repeated google.protobuf.StringValue y = 24; repeated Colour z = 25;
        map<bool, google.protobuf.Timestamp> aa = 26; repeated double bb = 27 [packed = false];
        repeated Deep cc = 28; sfixed64 dd = 29;
        message Deep { Inner x = 1; repeated Inner y = 2; map<uint32, bytes> z = 3; Deeper d = 4; }
        message Deeper { repeated bool b = 1; oneof o { Inner i = 2; int32 n = 3; } } }"#;

/// A message with a wide message wherever one can be.
fn proto_sparse() -> String {
    let wide: Vec<String> = (1..=200).map(|n| format!("int64 w{n} = {n};")).collect();
    format!(
        r#"syntax = "proto3"; message Wide {{ {} }}
        message M {{ int32 a = 1; repeated Wide b = 2; map<uint32, Wide> c = 3; Wide d = 4;
            oneof o {{ Wide e = 5; bool f = 6; }} }}"#,
        wide.join(" ")
    )
}

const PROTO2: &str = r#"syntax = "proto2";
    enum Colour { GREEN = 1; RED = 0; }
    message Inner { optional int32 n = 1; optional string s = 2; }
    message M {
        optional int32 a = 1; required string b = 2; repeated int64 c = 3;
        repeated uint32 d = 4 [packed = true]; optional Colour e = 5 [default = GREEN];
        optional group G = 6 { optional Inner i = 1; repeated group H = 2 { optional bytes b = 1; } }
        repeated group J = 7 { required fixed64 n = 1; } map<sint32, Inner> k = 8;
        oneof o { bool l = 9; group M2 = 10 { optional string s = 1; } } extensions 100 to 200; }"#;

pub(super) fn proto_files(text: &str) -> ProtoFiles {
    ProtoFiles {
        name: "m.proto".to_owned(),
        text: text.to_owned(),
        references: Vec::new(),
    }
}

pub(super) fn proto_schema(text: &str) -> ProtobufSchema {
    ProtobufSchema::from_files(&proto_files(text), Some("M")).unwrap()
}

/// The registry for Protobuf's framed cases.
const PROTO_WRITERS: [(i32, &str); 3] = [
    (1, PROTO2),
    (2, "syntax = \"proto3\"; message Other {}"),
    (3, "message"),
];

/// A registry in memory.
#[derive(Debug)]
struct InMemory(SchemaKind, &'static [(i32, &'static str)]);

#[async_trait]
impl WriterSchemas for InMemory {
    async fn schema(&self, id: i32) -> Result<Option<Arc<RegisteredSchema>>> {
        let found = self.1.iter().find(|(known, _)| *known == id);
        Ok(found.map(|(id, text)| {
            Arc::new(RegisteredSchema {
                id: *id,
                kind: self.0.clone(),
                text: (*text).to_owned(),
                references: Vec::new(),
            })
        }))
    }
}

pub(crate) fn protobuf(data: &[u8]) {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
        let case = |text: &str, declared: Option<&Fields>, framing| {
            let decoder = ProtobufDecoder::new(ProtobufOptions {
                schema: proto_schema(text),
                declared,
                framing,
            });
            decoder.unwrap()
        };
        let inner = Fields::from(vec![field("r", list(DataType::Int64))]);
        let declared = Fields::from(vec![
            field("a", DataType::Int64),
            field("v", DataType::Timestamp(TimeUnit::Nanosecond, None)),
            field("l", list(DataType::Struct(inner))),
        ]);
        let registry = InMemory(SchemaKind::Protobuf, &PROTO_WRITERS);
        // Message indexes of M, of the first message, of a missing message, and no indexes at all.
        let mut framed: Vec<Vec<u8>> = Vec::new();
        for indexes in [&[2, 2][..], &[0], &[4, 2, 8], &[]] {
            framed.extend(frames().into_iter().map(|frame| [&frame, indexes].concat()));
        }
        vec![
            Case::plain(case(PROTO3, None, Framing::Plain)),
            Case::plain(case(PROTO2, None, Framing::Plain)),
            Case::plain(case(PROTO3, Some(&declared), Framing::Plain)),
            Case::framed(
                case(PROTO2, None, Framing::Registry(Arc::new(registry))),
                framed,
            ),
            Case::plain(case(&proto_sparse(), None, Framing::Plain)),
        ]
    });
    run(&CASES, data);
}
