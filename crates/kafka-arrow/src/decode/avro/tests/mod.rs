//! Tests from payloads to columns and bad rows.

mod debezium;
mod declare;
mod encode;
mod evolution;
mod framing;
mod hostile;
mod mapping;
mod oracle;
mod random;
#[cfg(feature = "registry")]
mod registry;
mod schemas;

use arrow::array::{Array, ArrayRef, BinaryViewArray};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use self::encode::Datum;
use super::{AvroDecoder, AvroOptions, Framing};
use crate::decode::payload::{BadPayload, Decoded, PayloadDecoder, Wanted};
use crate::error::Result;

/// A decoder for datums without a frame.
fn plain(reader: &str, writer: Option<&str>) -> Result<AvroDecoder> {
    AvroDecoder::new(AvroOptions {
        reader,
        references: &[],
        reader_id: None,
        declared: None,
        framing: Framing::Plain {
            writer: writer.map(str::to_owned),
        },
    })
}

/// A schema with one field `x` of the given type.
fn one(of: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{{"name":"x","type":{of}}}]}}"#)
}

fn all(decoder: &AvroDecoder) -> Vec<usize> {
    (0..decoder.fields().len()).collect()
}

fn decode(decoder: &AvroDecoder, payloads: &[Option<Vec<u8>>]) -> Decoded {
    decode_fields(decoder, payloads, &all(decoder))
}

/// Decodes, and checks what holds for all decoders: the types and lengths of columns, and NULL where a
/// payload is NULL or bad.
fn decode_fields(decoder: &AvroDecoder, payloads: &[Option<Vec<u8>>], fields: &[usize]) -> Decoded {
    let payloads: BinaryViewArray = payloads.iter().map(Option::as_deref).collect();
    let wanted = Wanted {
        fields,
        check_all: true,
        schema_ids: true,
    };
    let decoded = decoder.decode(&payloads, &wanted).unwrap();
    assert_eq!(decoded.columns.len(), fields.len());
    for (column, place) in decoded.columns.iter().zip(fields) {
        let field = &decoder.fields()[*place];
        assert_eq!(column.len(), payloads.len());
        assert_eq!(column.data_type(), field.data_type());
        assert!(field.is_nullable());
        column.to_data().validate_full().unwrap();
        let null = |row| column.data_type().is_null() || column.is_null(row);
        assert!(decoded.bad.iter().all(|bad| null(bad.row)));
        assert!((0..payloads.len()).all(|row| payloads.is_valid(row) || null(row)));
    }
    let ids = decoded.schema_ids.as_ref().unwrap();
    assert_eq!(ids.len(), payloads.len());
    assert!(decoded.bad.windows(2).all(|two| two[0].row < two[1].row));
    decoded
}

/// The rows as text, column by column.
fn rows(columns: &[ArrayRef]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let formatters: Vec<_> = columns
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
        .collect();
    let count = columns.first().map_or(0, |column| column.len());
    (0..count)
        .map(|row| {
            let cells = formatters.iter().map(|f| f.value(row).to_string());
            cells.collect::<Vec<_>>().join(" | ")
        })
        .collect()
}

/// Reads a datum of one schema with another: the row, or why there is none.
fn read_as(writer: &str, reader: &str, datum: &Datum) -> Result<String, BadPayload> {
    let decoder = plain(reader, Some(writer)).unwrap();
    row(&decoder, datum.encode())
}

fn row(decoder: &AvroDecoder, payload: Vec<u8>) -> Result<String, BadPayload> {
    let mut decoded = decode(decoder, &[Some(payload)]);
    match decoded.bad.pop() {
        Some(bad) => Err(bad),
        None => Ok(rows(&decoded.columns).remove(0)),
    }
}
