//! Payloads encoded by hand: the schemas, and rows in Avro, Protobuf and the frame of a registry.

use super::model::Row;

/// The schema id in payloads with a registry's frame.
pub(crate) const SCHEMA_ID: u32 = 7;

pub(crate) const AVRO: &str = r#"{"type":"record","name":"Row","fields":[
    {"name":"id","type":"long"},
    {"name":"name","type":["null","string"]},
    {"name":"amount","type":["null",{"type":"bytes","logicalType":"decimal","precision":20,"scale":4}]},
    {"name":"at","type":["null",{"type":"long","logicalType":"timestamp-millis"}]},
    {"name":"nested","type":["null",{"type":"record","name":"Nested","fields":[
        {"name":"a","type":"long"},{"name":"tags","type":{"type":"array","items":"string"}}]}]}]}"#;

/// The CRC-64-AVRO of [`AVRO`] in its canonical form, as computed by fastavro.
pub(super) const AVRO_PRINT: u64 = 0x1170_c6a2_c8ac_22a4;

pub(crate) const DEBEZIUM: &str = r#"{"type":"record","name":"Envelope","fields":[
    {"name":"before","type":["null",{"type":"record","name":"Value","fields":[
        {"name":"id","type":"long"},{"name":"name","type":["null","string"]}]}]},
    {"name":"after","type":["null","Value"]},
    {"name":"op","type":"string"},
    {"name":"ts_ms","type":["null","long"]}]}"#;

pub(crate) const PROTOBUF: &str = r#"syntax = "proto3";
message Row { optional int64 id = 1; optional string name = 2; Nested nested = 3; }
message Nested { int64 a = 1; repeated string tags = 2; }
"#;

/// Adds a registry's frame.
pub(super) fn framed(indexes: &[u8], payload: Vec<u8>) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend(SCHEMA_ID.to_be_bytes());
    framed.extend(indexes);
    framed.extend(payload);
    framed
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Writes Avro: numbers, bytes preceded by their length, and branches of unions whose first branch is null.
#[derive(Default)]
struct Avro(Vec<u8>);

impl Avro {
    fn long(&mut self, number: i64) {
        varint(
            ((number << 1) ^ (number >> 63)).cast_unsigned(),
            &mut self.0,
        );
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.long(bytes.len() as i64);
        self.0.extend_from_slice(bytes);
    }

    fn union<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.long(i64::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn text(&mut self, text: Option<&String>) {
        self.union(text, |out, text| out.bytes(text.as_bytes()));
    }
}

pub(super) fn avro(row: &Row) -> Vec<u8> {
    let mut out = Avro::default();
    out.long(row.id);
    out.text(row.name.as_ref());
    out.union(row.amount, |out, amount| out.bytes(&amount.0.to_be_bytes()));
    out.union(row.at, |out, at| out.long(at.0));
    out.union(row.nested.as_ref(), |out, (a, tags)| {
        out.long(*a);
        if !tags.is_empty() {
            out.long(tags.len() as i64);
            tags.iter().for_each(|tag| out.bytes(tag.as_bytes()));
        }
        out.long(0);
    });
    out.0
}

pub(super) fn debezium(row: &Row) -> Vec<u8> {
    let mut out = Avro::default();
    // There is no row before.
    out.long(0);
    out.union(Some(row.id), Avro::long);
    out.text(row.name.as_ref());
    out.bytes(b"c");
    out.union(row.at, |out, at| out.long(at.0));
    out.0
}

pub(super) fn protobuf(row: &Row) -> Vec<u8> {
    fn bytes(field: u8, bytes: &[u8], out: &mut Vec<u8>) {
        out.push(field << 3 | 2);
        varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }
    let mut out = vec![1 << 3];
    varint(row.id.cast_unsigned(), &mut out);
    if let Some(name) = &row.name {
        bytes(2, name.as_bytes(), &mut out);
    }
    if let Some((a, tags)) = &row.nested {
        let mut nested = vec![];
        if *a != 0 {
            nested.push(1 << 3);
            varint(a.cast_unsigned(), &mut nested);
        }
        for tag in tags {
            bytes(2, tag.as_bytes(), &mut nested);
        }
        bytes(3, &nested, &mut out);
    }
    out
}
