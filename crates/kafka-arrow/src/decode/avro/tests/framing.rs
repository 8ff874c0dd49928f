//! Payloads without a frame, and with a fingerprint; bad ones among good ones.

use super::encode::{Datum, text};
use super::{decode, decode_fields, one, plain, rows};
use crate::decode::avro::canonical::fingerprint;
use crate::decode::avro::schema::Schema;
use crate::decode::avro::{AvroDecoder, AvroOptions, Framing};
use crate::decode::payload::BadPayload;

const PAIR: &str = r#"{"type":"record","name":"R","fields":[
    {"name":"a","type":"string"},{"name":"b","type":{"type":"array","items":"long"}}]}"#;

fn pair(a: &str, b: &[i64]) -> Vec<u8> {
    let b = b.iter().map(|n| Datum::Long(*n)).collect();
    Datum::Record(vec![text(a), Datum::Array(b)]).encode()
}

fn bad(row: usize, class: &'static str, message: &str) -> BadPayload {
    BadPayload::new(row, class, message)
}

#[test]
fn bad_payloads_leave_their_neighbours_alone() {
    let decoder = plain(PAIR, None).unwrap();
    let mut left_over = pair("more", &[7]);
    left_over.extend([1, 2, 3]);
    let whole = pair("cut", &[1, 2, 3]);
    let payloads = [
        Some(pair("one", &[1, 2])),
        Some(whole[..whole.len() - 1].to_vec()),
        None,
        Some(pair("two", &[])),
        Some(left_over),
        Some(vec![]),
        Some(vec![6, b'x', 0xff, b'y', 0]),
        Some(vec![9]),
        Some(pair("three", &[3])),
    ];
    let decoded = decode(&decoder, &payloads);
    let lines = rows(&decoded.columns);
    for (row, line) in lines.iter().enumerate() {
        let expected = match row {
            0 => "one | [1, 2]",
            3 => "two | []",
            8 => "three | [3]",
            _ => "NULL | NULL",
        };
        assert_eq!(line, expected);
    }
    assert_eq!(
        decoded.bad,
        [
            bad(1, "syntax", "field 'b': the payload ends within a number"),
            bad(
                4,
                "syntax",
                "3 bytes are left over after the record; was it written with another schema?"
            ),
            bad(5, "empty", "the payload has no bytes"),
            bad(6, "syntax", "field 'a': text is not UTF-8"),
            bad(7, "syntax", "field 'a': text has the length -5"),
        ]
    );
    // The choice of fields does not decide which rows are bad.
    for fields in [&[][..], &[0], &[1], &[1, 0]] {
        let some = decode_fields(&decoder, &payloads, fields);
        assert_eq!(some.bad, decoded.bad);
        for (column, field) in some.columns.iter().zip(fields) {
            assert_eq!(column, &decoded.columns[*field]);
        }
    }
}

#[test]
fn record_without_bytes_is_not_empty() {
    let decoder = plain(&one(r#""null""#), None).unwrap();
    assert_eq!(decode(&decoder, &[Some(vec![])]).bad, []);
    let decoded = decode(&decoder, &[Some(vec![0])]);
    assert_eq!(decoded.bad[0].class, "syntax");
}

#[test]
fn no_payloads() {
    let decoder = plain(PAIR, None).unwrap();
    assert_eq!(decode(&decoder, &[]).columns[0].len(), 0);
    assert_eq!(decode(&decoder, &[None, None]).columns[0].null_count(), 2);
}

fn single(schema: &str, datum: Datum) -> Option<Vec<u8>> {
    let print = fingerprint(&Schema::parse(schema, &[]).unwrap());
    let mut payload = vec![0xc3, 0x01];
    payload.extend(print.to_le_bytes());
    payload.extend(datum.encode());
    Some(payload)
}

#[test]
fn single_object_encoding_finds_its_schema() {
    let (reader, old, other) = (one(r#""double""#), one(r#""int""#), one(r#""string""#));
    let decoder = AvroDecoder::new(AvroOptions {
        reader: &reader,
        references: &[],
        reader_id: None,
        declared: None,
        framing: Framing::SingleObject {
            schemas: vec![old.clone()],
        },
    })
    .unwrap();
    let record = |datum| Datum::Record(vec![datum]);
    let decoded = decode(
        &decoder,
        &[
            single(&reader, record(Datum::Double(1.5))),
            single(&old, record(Datum::Long(2))),
            single(&other, record(text("x"))),
            Some(vec![0xc3, 0x01, 5]),
            Some(b"{\"x\":1}".to_vec()),
            Some(vec![]),
        ],
    );
    assert_eq!(rows(&decoded.columns)[..2], ["1.5", "2.0"]);
    let classes: Vec<_> = decoded.bad.iter().map(|bad| (bad.row, bad.class)).collect();
    assert_eq!(
        classes,
        [(2, "schema"), (3, "frame"), (4, "frame"), (5, "empty")]
    );
    let print = fingerprint(&Schema::parse(&other, &[]).unwrap());
    assert_eq!(
        decoded.bad[0].message,
        format!("no schema with the fingerprint {print:016x} is given, of 2 that are")
    );
}
