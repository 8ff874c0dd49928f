//! Payloads with a registry's frame.

use std::collections::HashMap;
use std::sync::Mutex;

use super::*;
use crate::decode::{RegisteredSchema, SchemaKind};

/// A registry in memory that counts its requests.
#[derive(Debug, Default)]
struct Registry {
    schemas: Mutex<HashMap<i32, Arc<RegisteredSchema>>>,
    asked: Mutex<Vec<i32>>,
}

impl Registry {
    fn add(&self, id: i32, text: &str, references: &[(&str, &str)]) {
        let references = references.iter().map(|(n, t)| ((*n).into(), (*t).into()));
        let schema = RegisteredSchema {
            id,
            kind: SchemaKind::Protobuf,
            text: text.into(),
            references: references.collect(),
        };
        self.schemas.lock().unwrap().insert(id, Arc::new(schema));
    }
}

#[async_trait]
impl WriterSchemas for Registry {
    async fn schema(&self, id: i32) -> Result<Option<Arc<RegisteredSchema>>> {
        self.asked.lock().unwrap().push(id);
        if id == 503 {
            return Err(crate::error::Error::invalid("the registry is down"));
        }
        Ok(self.schemas.lock().unwrap().get(&id).cloned())
    }
}

const WRITER: &str = "syntax = \"proto3\"; package p;
    message Other { int32 x = 1; message Inner { int32 y = 1; } map<int32, int32> z = 2;
      message Last { int32 y = 1; message Leaf { int32 n = 1; } } }
    message M { int32 n = 1; string s = 2; message In { int32 n = 1; } }";

fn setup(message: &str) -> (Arc<Registry>, ProtobufDecoder) {
    let registry = Arc::new(Registry::default());
    registry.add(7, WRITER, &[]);
    let files = ProtoFiles {
        name: "reader".into(),
        text: WRITER.into(),
        references: Vec::new(),
    };
    let source: Arc<dyn WriterSchemas> = Arc::<Registry>::clone(&registry);
    let decoder = ProtobufDecoder::new(ProtobufOptions {
        schema: ProtobufSchema::from_files(&files, Some(message)).unwrap(),
        declared: None,
        framing: Framing::Registry(source),
    });
    (registry, decoder.unwrap())
}

fn framed(id: i32, indexes: &[u8], message: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), indexes, message].concat()
}

async fn read(decoder: &ProtobufDecoder, payloads: &[Option<Vec<u8>>]) -> Result<Decoded> {
    let payloads = BinaryViewArray::from_iter(payloads);
    decoder.prepare(&payloads).await?;
    let fields: Vec<usize> = (0..decoder.fields().len()).collect();
    let wanted = Wanted {
        fields: &fields,
        check_all: true,
        schema_ids: true,
    };
    decoder.decode(&payloads, &wanted)
}

/// The payload's row, or its fault.
async fn one(decoder: &ProtobufDecoder, payload: Vec<u8>) -> String {
    let decoded = read(decoder, &[Some(payload)]).await.unwrap();
    match decoded.bad.first() {
        Some(bad) => format!("{} {:?}: {}", bad.class, bad.schema_id, bad.message),
        None => rows(decoder.fields(), decoded.columns, 1)[0].to_string(),
    }
}

#[tokio::test]
async fn indexes_lead_to_messages() {
    for (message, indexes, body, expected) in [
        ("p.Other", &[0][..], &[8, 1][..], "{x: 1, z: <>}"),
        ("p.Other", &[2, 0], &[8, 1], "{x: 1, z: <>}"),
        ("p.M", &[2, 2], &[8, 1], "{n: 1, s: \"\"}"),
        ("p.M", &[2, 2], &[], "{n: 0, s: \"\"}"),
        ("p.M.In", &[4, 2, 0], &[8, 1], "{n: 1}"),
        ("p.Other.Inner", &[4, 0, 0], &[8, 1], "{y: 1}"),
        // The entry type of the map `z` is not counted.
        ("p.Other.Last", &[4, 0, 2], &[8, 1], "{y: 1}"),
        ("p.Other.Last.Leaf", &[6, 0, 2, 0], &[8, 1], "{n: 1}"),
        (
            "p.M",
            &[0],
            &[8, 1],
            "schema Some(7): the message is 'p.Other', where 'p.M' is read",
        ),
        (
            "p.M",
            &[4, 2, 0],
            &[8, 1],
            "schema Some(7): the message is 'p.M.In', where 'p.M' is read",
        ),
        (
            "p.M",
            &[2, 4],
            &[8, 1],
            "schema Some(7): schema 7 has no message at the frame's indexes",
        ),
        (
            "p.M",
            &[4, 2, 2],
            &[8, 1],
            "schema Some(7): schema 7 has no message at the frame's indexes",
        ),
        (
            "p.M",
            &[2, 2],
            &[8],
            "syntax Some(7): field 'n': the bytes end within a value",
        ),
    ] {
        let (_, decoder) = setup(message);
        let found = one(&decoder, framed(7, indexes, body)).await;
        assert_eq!(found, expected, "{message} at {indexes:?}");
    }
}

#[tokio::test]
async fn broken_frames_are_told() {
    let (_, decoder) = setup("p.M");
    let broken = "frame Some(7): the frame's message indexes are broken";
    for (payload, expected) in [
        (vec![], "empty None: no bytes, where a frame must be"),
        (
            vec![8, 1],
            "frame None: no frame with a schema id: the first byte is not 0",
        ),
        (
            vec![0, 0, 0, 0],
            "frame None: the bytes end within the frame's schema id",
        ),
        (framed(7, &[], &[]), broken),
        (framed(7, &[4, 2], &[]), broken),
        (framed(7, &[1], &[]), broken),
        (framed(7, &[2, 1], &[]), broken),
        (framed(7, &[0xff; 11], &[]), broken),
        (
            framed(8, &[0], &[]),
            "schema Some(8): the registry does not know schema 8",
        ),
        (
            framed(-1, &[0], &[]),
            "schema Some(-1): the registry does not know schema -1",
        ),
    ] {
        assert_eq!(one(&decoder, payload).await, expected);
    }
}

#[tokio::test]
async fn runs_of_frames_and_ids_of_rows() {
    let (registry, decoder) = setup("p.M");
    registry.add(9, &WRITER.replace("string s = 2;", "bool b = 3;"), &[]);
    let payloads = [
        Some(framed(7, &[2, 2], &[8, 1])),
        Some(framed(7, &[2, 2], &[8, 2])),
        None,
        Some(framed(9, &[2, 2], &[8, 3, 0x18, 1])),
        Some(framed(7, &[0], &[8, 4])),
        Some(vec![1]),
        Some(framed(7, &[0], &[8, 4])),
        Some(framed(7, &[2, 2], &[8, 5])),
    ];
    let decoded = read(&decoder, &payloads).await.unwrap();
    let ids: Vec<_> = decoded.schema_ids.unwrap().iter().collect();
    let seven = Some(7);
    assert_eq!(
        ids,
        [seven, seven, None, Some(9), seven, None, seven, seven]
    );
    let bad: Vec<_> = decoded.bad.iter().map(|b| (b.row, b.class)).collect();
    assert_eq!(bad, [(4, "schema"), (5, "frame"), (6, "schema")]);
    let rows = rows(decoder.fields(), decoded.columns, payloads.len());
    let rows: Vec<_> = rows.iter().map(ToString::to_string).collect();
    let null = "{n: NULL, s: NULL}";
    assert_eq!(
        rows,
        [
            "{n: 1, s: \"\"}",
            "{n: 2, s: \"\"}",
            null,
            "{n: 3, s: \"\"}",
            null,
            null,
            null,
            "{n: 5, s: \"\"}"
        ]
    );
    assert_eq!(*registry.asked.lock().unwrap(), [7, 9]);
}

#[tokio::test]
async fn known_schemas_are_not_asked_for_again() {
    let (registry, decoder) = setup("p.M");
    for _ in 0..3 {
        one(&decoder, framed(7, &[2, 2], &[])).await;
    }
    assert_eq!(*registry.asked.lock().unwrap(), [7]);
    one(&decoder, framed(8, &[2, 2], &[])).await;
    registry.add(8, WRITER, &[]);
    let found = one(&decoder, framed(8, &[2, 2], &[])).await;
    assert_eq!(found, "{n: 0, s: \"\"}");
    assert_eq!(*registry.asked.lock().unwrap(), [7, 8, 8]);
}

#[tokio::test]
async fn a_registry_that_is_down_is_an_error() {
    let (_, decoder) = setup("p.M");
    let error = read(&decoder, &[Some(framed(503, &[0], &[]))]).await;
    assert_eq!(error.unwrap_err().to_string(), "the registry is down");
}

#[tokio::test]
async fn writers_may_have_references_and_faults() {
    let (registry, decoder) = setup("p.M");
    let common = "syntax = \"proto3\"; package c; message C { int32 n = 1; }";
    let text = "syntax = \"proto3\"; package p; import \"common.proto\";
        message M { c.C c = 9; }";
    registry.add(1, text, &[("common.proto", common)]);
    let found = one(&decoder, framed(1, &[0], &[8, 3])).await;
    assert_eq!(found, "{n: 3, s: \"\"}");
    registry.add(2, text, &[]);
    assert_eq!(
        one(&decoder, framed(2, &[0], &[8, 3])).await,
        "schema Some(2): schema 2 cannot be read: Protobuf schema 'schema 2': 1:31: import \
         'common.proto' not found; give it as a reference of the schema"
    );
}
