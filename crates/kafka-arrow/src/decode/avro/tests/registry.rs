//! Payloads with an id of a registry, which is a stub here.

use std::sync::Arc;

use arrow::array::BinaryViewArray;
use serde_json::json;

use super::encode::{Datum, text};
use super::{all, decode, one, rows};
use crate::decode::avro::{AvroDecoder, AvroOptions, Framing};
use crate::decode::payload::{BadPayload, Decoded, PayloadDecoder};
use crate::decode::registry::tests::stub::{Reply, Stub};
use crate::decode::registry::{Registry, RegistryConfig};

fn decoder(stub: &Stub, reader: &str, reader_id: Option<i32>) -> AvroDecoder {
    let config = RegistryConfig::from_options([("schema.registry.url", stub.url.as_str())]);
    let registry = Registry::new(config.unwrap().unwrap()).unwrap();
    AvroDecoder::new(AvroOptions {
        reader,
        references: &[],
        reader_id,
        declared: None,
        framing: Framing::Registry(Arc::new(registry)),
    })
    .unwrap()
}

fn framed(id: i32, datum: Datum) -> Option<Vec<u8>> {
    let mut payload = vec![0];
    payload.extend(id.to_be_bytes());
    payload.extend(Datum::Record(vec![datum]).encode());
    Some(payload)
}

async fn prepared(decoder: &AvroDecoder, payloads: &[Option<Vec<u8>>]) -> Decoded {
    let array: BinaryViewArray = payloads.iter().map(Option::as_deref).collect();
    decoder.prepare(&array).await.unwrap();
    decode(decoder, payloads)
}

/// Schemas 1 (int), 2 (double), 3 (string), 4 (JSON), 5 (invalid), and 6, which refers to another.
async fn stub() -> Stub {
    Stub::new(|asked, _| match asked.line.as_str() {
        "GET /schemas/ids/1" => Reply::schema(&one(r#""int""#)),
        "GET /schemas/ids/2" => Reply::schema(&one(r#""double""#)),
        "GET /schemas/ids/3" => Reply::schema(&one(r#""string""#)),
        "GET /schemas/ids/4" => Reply::new(
            200,
            json!({"schema": "{}", "schemaType": "JSON"}).to_string(),
        ),
        "GET /schemas/ids/5" => Reply::schema("{"),
        "GET /schemas/ids/6" => Reply::new(
            200,
            json!({
                "schema": one(r#""other.Number""#),
                "references": [{"name": "other.Number", "subject": "number", "version": 3}],
            })
            .to_string(),
        ),
        "GET /subjects/number/versions/3" => Reply::schema(
            r#"{"type":"record","name":"other.Number","fields":[{"name":"n","type":"int"}]}"#,
        ),
        _ => Reply::unknown(),
    })
    .await
}

#[tokio::test]
async fn each_record_is_read_with_its_writers_schema() {
    let stub = stub().await;
    let decoder = decoder(&stub, &one(r#""double""#), Some(2));
    let payloads = [
        framed(1, Datum::Long(1)),
        framed(2, Datum::Double(2.5)),
        None,
        framed(2, Datum::Double(3.5)),
        framed(3, text("x")),
        framed(4, Datum::Null),
        framed(5, Datum::Null),
        framed(99, Datum::Long(1)),
        Some(vec![0, 0, 0, 1]),
        Some(b"hello".to_vec()),
        Some(vec![]),
        framed(1, text("not an int")),
        framed(-1, Datum::Null),
        framed(1, Datum::Long(4)),
    ];
    let decoded = prepared(&decoder, &payloads).await;
    let good: Vec<_> = rows(&decoded.columns)
        .into_iter()
        .filter(|row| row != "NULL")
        .collect();
    assert_eq!(good, ["1.0", "2.5", "3.5", "4.0"]);
    let bad = |row, class, schema_id, message: &str| BadPayload {
        schema_id,
        ..BadPayload::new(row, class, message)
    };
    let messages: Vec<_> = decoded.bad.iter().map(|bad| bad.message.clone()).collect();
    assert!(
        messages[2].starts_with("schema 5: not JSON: "),
        "{}",
        messages[2]
    );
    assert_eq!(
        decoded.bad,
        [
            bad(
                4,
                "schema",
                Some(3),
                "schema 3 cannot be read with schema 2: field 'x': string cannot be read as double"
            ),
            bad(5, "schema", Some(4), "schema 4 is JSON Schema, not Avro"),
            bad(6, "schema", Some(5), &messages[2]),
            bad(7, "schema", Some(99), "the registry knows no schema 99"),
            bad(
                8,
                "frame",
                None,
                "4 bytes are too short for a registry's frame, which has 5"
            ),
            bad(
                9,
                "frame",
                None,
                "begins with the byte 0x68, not with a registry's frame: a byte 0 and a schema id of \
                 4 bytes; was it written without the registry?"
            ),
            bad(10, "empty", None, "the payload has no bytes"),
            bad(
                11,
                "syntax",
                Some(1),
                "10 bytes are left over after the record; was it written with another schema?"
            ),
            bad(12, "schema", Some(-1), "the registry knows no schema -1"),
        ]
    );
    let ids: Vec<_> = decoded.schema_ids.unwrap().iter().collect();
    let id = |row: usize| match row {
        0 | 11 | 13 => Some(1),
        1 | 3 => Some(2),
        4 => Some(3),
        5 => Some(4),
        6 => Some(5),
        7 => Some(99),
        12 => Some(-1),
        _ => None,
    };
    assert_eq!(ids, (0..payloads.len()).map(id).collect::<Vec<_>>());
}

#[tokio::test]
async fn each_id_is_asked_once() {
    let stub = stub().await;
    let decoder = decoder(&stub, &one(r#""double""#), None);
    let payloads: Vec<_> = (0..100)
        .map(|n| match n % 3 {
            0 => framed(1, Datum::Long(n)),
            1 => framed(2, Datum::Double(0.5)),
            _ => framed(99, Datum::Null),
        })
        .collect();
    for _ in 0..2 {
        let decoded = prepared(&decoder, &payloads).await;
        assert_eq!(decoded.bad.len(), 33);
        assert_eq!(decoded.columns.len(), all(&decoder).len());
    }
    let mut lines = stub.lines();
    lines.sort();
    assert_eq!(
        lines,
        [
            "GET /schemas/ids/1",
            "GET /schemas/ids/2",
            "GET /schemas/ids/99"
        ]
    );
}

#[tokio::test]
async fn schema_that_uses_others() {
    let stub = stub().await;
    let number = r#"{"type":"record","name":"other.Number","fields":[{"name":"n","type":"int"}]}"#;
    let decoder = decoder(&stub, &one(number), None);
    let payloads = [framed(6, Datum::Record(vec![Datum::Long(5)]))];
    let decoded = prepared(&decoder, &payloads).await;
    assert_eq!(decoded.bad, []);
    assert_eq!(rows(&decoded.columns), ["{n: 5}"]);
}

#[tokio::test]
async fn registry_that_refuses_is_an_error_and_no_bad_row() {
    let stub = Stub::new(|_, _| Reply::new(403, "")).await;
    let decoder = decoder(&stub, &one(r#""double""#), None);
    let payload = framed(1, Datum::Long(1));
    let payloads: BinaryViewArray = [payload.as_deref()].into_iter().collect();
    let error = decoder.prepare(&payloads).await.unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Connection);
}
