//! Debezium's envelopes in Avro, and its types for times.

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use proptest::prelude::*;

use super::encode::{Datum, none, some, text};
use super::{all, decode, row, rows};
use crate::decode::avro::{AvroDecoder, AvroOptions, Framing};
use crate::decode::payload::PayloadDecoder;
use crate::error::Result;

/// As Debezium registers it, with a field that does not become a column.
const ENVELOPE: &str = r#"{"type":"record","name":"Envelope","namespace":"shop.orders","fields":[
    {"name":"before","type":["null",{"type":"record","name":"Value","fields":[
        {"name":"id","type":"long"},
        {"name":"at","type":["null",{"type":"long","connect.version":1,
            "connect.name":"io.debezium.time.MicroTimestamp"}],"default":null},
        {"name":"day","type":{"type":"int","connect.name":"io.debezium.time.Date"}}],
        "connect.name":"shop.orders.Value"}],"default":null},
    {"name":"after","type":["null","Value"],"default":null},
    {"name":"source","type":{"type":"record","name":"Source","namespace":"io.debezium.connector","fields":[
        {"name":"db","type":"string"},{"name":"ts_ms","type":"long"}]}},
    {"name":"transaction","type":["null",{"type":"record","name":"block","namespace":"event","fields":[
        {"name":"id","type":"string"}]}],"default":null},
    {"name":"op","type":"string"},
    {"name":"ts_ms","type":["null","long"],"default":null}],
    "connect.version":2,"connect.name":"shop.orders.Envelope"}"#;

fn decoder(reader: &str, declared: Option<&Fields>, writer: Option<&str>) -> Result<AvroDecoder> {
    AvroDecoder::debezium(AvroOptions {
        reader,
        references: &[],
        reader_id: None,
        declared,
        framing: Framing::Plain {
            writer: writer.map(str::to_owned),
        },
    })
}

fn value(id: i64) -> Datum {
    some(Datum::Record(vec![
        Datum::Long(id),
        some(Datum::Long(1_768_384_800_123_456)),
        Datum::Long(20_467),
    ]))
}

fn envelope(op: &str, before: Datum, after: Datum, ts_ms: Datum) -> Datum {
    let source = Datum::Record(vec![text("shop"), Datum::Long(7)]);
    Datum::Record(vec![before, after, source, none(), text(op), ts_ms])
}

#[test]
fn an_envelope_has_the_columns_of_a_change() {
    let decoder = decoder(ENVELOPE, None, None).unwrap();
    let types: Vec<String> = decoder
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect();
    let row = "Struct(\"id\": Int64, \"at\": Timestamp(µs), \"day\": Date32)";
    assert_eq!(
        types,
        [
            "op Utf8".to_owned(),
            format!("before {row}"),
            format!("after {row}"),
            "source Struct(\"db\": Utf8, \"ts_ms\": Int64)".to_owned(),
            "ts Timestamp(ms, \"UTC\")".to_owned(),
        ]
    );
    let payloads = [
        Some(envelope("c", none(), value(1), some(Datum::Long(1_768_384_800_123))).encode()),
        Some(envelope("d", value(1), none(), none()).encode()),
        Some(envelope("t", none(), none(), some(Datum::Long(0))).encode()),
        None,
    ];
    let decoded = decode(&decoder, &payloads);
    assert_eq!(decoded.bad, []);
    let value = "{id: 1, at: 2026-01-14T10:00:00.123456, day: 2026-01-14}";
    let source = "{db: shop, ts_ms: 7}";
    assert_eq!(
        rows(&decoded.columns),
        [
            format!("c | NULL | {value} | {source} | 2026-01-14T10:00:00.123Z"),
            format!("d | {value} | NULL | {source} | NULL"),
            format!("t | NULL | NULL | {source} | 1970-01-01T00:00:00Z"),
            "NULL | NULL | NULL | NULL | NULL".to_owned(),
        ]
    );
}

#[test]
fn columns_are_selected_and_may_be_finer() {
    let columns = Fields::from(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new(
            "after",
            DataType::Struct(vec![Field::new("id", DataType::Int64, true)].into()),
            true,
        ),
    ]);
    let decoder = decoder(ENVELOPE, Some(&columns), None).unwrap();
    let datum = envelope("c", none(), value(3), some(Datum::Long(1_500)));
    assert_eq!(
        row(&decoder, datum.encode()).unwrap(),
        "1970-01-01T00:00:01.500 | {id: 3}"
    );
}

#[test]
fn an_envelope_may_be_a_branch_and_its_writer_another_one() {
    let reader = format!(r#"["null",{ENVELOPE}]"#);
    let writer = r#"{"type":"record","name":"Envelope","namespace":"shop.orders","fields":[
        {"name":"op","type":"string"},{"name":"ts_ms","type":"long"},{"name":"source","type":
        {"type":"record","name":"Source","fields":[{"name":"ts_ms","type":"int"},{"name":"db","type":"string"}]}}]}"#;
    let decoder = decoder(&reader, None, Some(writer)).unwrap();
    let source = Datum::Record(vec![Datum::Long(1), text("x")]);
    let datum = Datum::Record(vec![text("r"), Datum::Long(5), source]);
    assert_eq!(
        row(&decoder, datum.encode()).unwrap(),
        "r | NULL | NULL | {db: x, ts_ms: 1} | 1970-01-01T00:00:00.005Z"
    );
}

#[test]
fn other_schemas_than_envelopes_are_refused() {
    let plain = r#"{"type":"record","name":"Value","fields":[{"name":"op","type":"string"}]}"#;
    let found = decoder(plain, None, None).unwrap_err().to_string();
    assert!(
        found.contains("record 'Value'") && found.contains("have the format 'avro'"),
        "{found}"
    );
}

#[test]
fn times_of_connectors() {
    for (of, name, expected) in [
        ("int", "Date", "Date32"),
        ("long", "Timestamp", "Timestamp(ms)"),
        ("long", "MicroTimestamp", "Timestamp(µs)"),
        ("long", "NanoTimestamp", "Timestamp(ns)"),
        ("int", "Time", "Int32"),
        ("long", "MicroTime", "Int64"),
        ("string", "ZonedTimestamp", "Utf8"),
        ("string", "Timestamp", "Utf8"),
    ] {
        let of = format!(r#"{{"type":"{of}","connect.name":"io.debezium.time.{name}"}}"#);
        let decoder = super::plain(&super::one(&of), None).unwrap();
        assert_eq!(
            decoder.fields()[0].data_type().to_string(),
            expected,
            "{name}"
        );
    }
}

proptest! {
    /// Bytes that are not an envelope become bad rows.
    #[test]
    fn any_bytes_are_a_row(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..8)) {
        let decoder = decoder(ENVELOPE, None, None).unwrap();
        let payloads: Vec<_> = payloads.into_iter().map(Some).collect();
        let decoded = super::decode_fields(&decoder, &payloads, &all(&decoder));
        prop_assert!(decoded.bad.len() <= payloads.len());
    }
}
