//! Feeds random bytes as schemas. Each is refused with a reason, or yields a decoder that obeys the laws.

use arrow::datatypes::Fields;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::avro::{AvroDecoder, AvroOptions, Framing as AvroFraming};
use super::super::csv::CsvDecoder;
use super::super::json::JsonDecoder;
use super::super::payload::PayloadDecoder;
use super::super::proto_files::{Framing, ProtobufOptions};
use super::super::protobuf::{ProtobufDecoder, ProtobufSchema, imports};
use super::cases::{PROTO3, RICH, flat, proto_files, proto_schema};
use super::declare::fields;
use super::{Input, obeys};
use crate::error::Result;

/// Separates the parts of an input. It occurs in no text.
const SEPARATOR: u8 = 0xff;

/// The first byte chooses what the rest is.
pub(crate) fn schemas(data: &[u8]) {
    let [kind, rest @ ..] = data else {
        return;
    };
    let mut parts = rest.splitn(2, |byte| *byte == SEPARATOR);
    let (first, second) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let (text, other) = (
        String::from_utf8_lossy(first),
        String::from_utf8_lossy(second),
    );
    match kind % 10 {
        0 => judge(avro(&text, None, &[], None)),
        1 => judge(avro(&text, Some(&other), &[], None)),
        2 => {
            let references = [("reference".to_owned(), other.into_owned())];
            judge(avro(&text, None, &references, None));
        }
        3 => judge(avro(RICH, None, &[], Some(&fields(&mut &*rest, 0)))),
        4 => {
            let _ = imports("m.proto", &text);
            judge(proto(&text, &other));
        }
        5 => judge(
            ProtobufSchema::from_descriptor_set("set", rest, None)
                .and_then(|schema| proto_of(schema, None)),
        ),
        6 => judge(proto(&STANDARD.encode(rest), "")),
        7 => {
            let declared = fields(&mut &*rest, 0);
            judge(proto_of(proto_schema(PROTO3), Some(&declared)));
        }
        8 => judge(JsonDecoder::new(&fields(&mut &*rest, 0), false)),
        _ => {
            let declared = match rest.first() {
                Some(_) => fields(&mut &*rest, 0),
                None => flat(),
            };
            judge(CsvDecoder::new(&declared, b','));
        }
    }
}

fn avro(
    reader: &str,
    writer: Option<&str>,
    references: &[(String, String)],
    declared: Option<&Fields>,
) -> Result<AvroDecoder> {
    AvroDecoder::new(AvroOptions {
        reader,
        references,
        reader_id: None,
        declared,
        framing: AvroFraming::Plain {
            writer: writer.map(str::to_owned),
        },
    })
}

/// Makes `import "other.proto"` find the other text.
fn proto(text: &str, other: &str) -> Result<ProtobufDecoder> {
    let mut files = proto_files(text);
    files.references = vec![("other.proto".to_owned(), other.to_owned())];
    let schema = ProtobufSchema::from_files(&files, None)
        .or_else(|_| ProtobufSchema::from_files(&files, Some("M")))?;
    proto_of(schema, None)
}

fn proto_of(schema: ProtobufSchema, declared: Option<&Fields>) -> Result<ProtobufDecoder> {
    ProtobufDecoder::new(ProtobufOptions {
        schema,
        declared,
        framing: Framing::Plain,
    })
}

/// A refusal must have a reason. An accepted schema decodes some payloads that fit many schemas.
fn judge<D: PayloadDecoder>(decoder: Result<D>) {
    let decoder = match decoder {
        Ok(decoder) => decoder,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let payloads: [Option<&[u8]>; 11] = [
        None,
        Some(b""),
        // A value of `RICH`.
        Some(&[0; 31]),
        Some(&[0; 40]),
        Some(&[2; 40]),
        Some(&[0x0a; 11]),
        Some(&[0x08, 1, 0x12, 0, 0x18, 7]),
        Some(b"{}"),
        Some(br#"{"a":1,"b":"2026-01-14","c":[{"a":1}],"d":{"a":null}}"#),
        Some(b"1,2,3"),
        Some(b"x,true,2026-01-14T10:00:00Z,1e3"),
    ];
    let input = Input {
        payloads: payloads.iter().map(|p| p.map(<[u8]>::to_vec)).collect(),
        options: 0,
        mask: 0x55,
    };
    obeys(&decoder, &input);
}
