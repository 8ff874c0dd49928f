//! Formats whose payload is a single value: text, and the output of Kafka's own serializers.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryViewArray, Float32Array, Float64Array, Int32Array, Int64Array,
    StringViewBuilder,
};
use arrow::datatypes::{DataType, Field, Fields};

use super::payload::{BadPayload, Decoded, PayloadDecoder, Wanted};
use crate::error::Result;

/// A format whose payload is one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scalar {
    /// UTF-8: Utf8View.
    Text,
    /// Big-endian, as IntegerSerializer writes it: Int32.
    Int32,
    /// Big-endian, as LongSerializer writes it: Int64.
    Int64,
    /// Big-endian IEEE 754, as FloatSerializer writes it: Float32.
    Float,
    /// Big-endian IEEE 754, as DoubleSerializer writes it: Float64.
    Double,
    /// Text in the form of RFC 9562, as UUIDSerializer writes it: Utf8View. Sixteen bytes are accepted as
    /// well.
    Uuid,
}

impl Scalar {
    fn data_type(self) -> DataType {
        match self {
            Self::Text | Self::Uuid => DataType::Utf8View,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
        }
    }
}

/// Decodes payloads that hold one value each.
#[derive(Debug)]
pub(crate) struct ScalarDecoder {
    scalar: Scalar,
    fields: Fields,
}

impl ScalarDecoder {
    /// `name` is the column's name.
    pub(crate) fn new(scalar: Scalar, name: &str) -> Self {
        let fields = vec![Field::new(name, scalar.data_type(), true)].into();
        Self { scalar, fields }
    }
}

impl PayloadDecoder for ScalarDecoder {
    fn fields(&self) -> &Fields {
        &self.fields
    }

    fn decode(&self, payloads: &BinaryViewArray, wanted: &Wanted<'_>) -> Result<Decoded> {
        let mut bad = vec![];
        let column: ArrayRef = match self.scalar {
            Scalar::Text => text(payloads, &mut bad),
            Scalar::Uuid => uuids(payloads, &mut bad),
            Scalar::Int32 => Arc::new(Int32Array::from_iter(fixed(
                payloads,
                &mut bad,
                i32::from_be_bytes,
            ))),
            Scalar::Int64 => Arc::new(Int64Array::from_iter(fixed(
                payloads,
                &mut bad,
                i64::from_be_bytes,
            ))),
            Scalar::Float => Arc::new(Float32Array::from_iter(fixed(
                payloads,
                &mut bad,
                f32::from_be_bytes,
            ))),
            Scalar::Double => Arc::new(Float64Array::from_iter(fixed(
                payloads,
                &mut bad,
                f64::from_be_bytes,
            ))),
        };
        let columns = wanted.fields.iter().map(|_| Arc::clone(&column)).collect();
        Ok(Decoded {
            columns,
            bad,
            schema_ids: None,
        })
    }
}

fn text(payloads: &BinaryViewArray, bad: &mut Vec<BadPayload>) -> ArrayRef {
    // The usual case costs one check and no copy.
    if let Ok(text) = payloads.clone().to_string_view() {
        return Arc::new(text);
    }
    let mut builder = StringViewBuilder::with_capacity(payloads.len());
    for (row, payload) in payloads.iter().enumerate() {
        match payload.map(std::str::from_utf8) {
            Some(Ok(text)) => builder.append_value(text),
            Some(Err(error)) => {
                let at = error.valid_up_to();
                let message = format!("not UTF-8 text: byte {at} is not part of a character");
                bad.push(BadPayload::new(row, "syntax", message));
                builder.append_null();
            }
            None => builder.append_null(),
        }
    }
    Arc::new(builder.finish())
}

fn uuids(payloads: &BinaryViewArray, bad: &mut Vec<BadPayload>) -> ArrayRef {
    let mut builder = StringViewBuilder::with_capacity(payloads.len());
    for (row, payload) in payloads.iter().enumerate() {
        let Some(payload) = payload else {
            builder.append_null();
            continue;
        };
        let uuid = match payload.len() {
            16 => uuid::Uuid::from_slice(payload),
            _ => uuid::Uuid::try_parse_ascii(payload),
        };
        match uuid {
            Ok(uuid) => builder.append_value(uuid.hyphenated().to_string()),
            Err(error) => {
                bad.push(BadPayload::new(
                    row,
                    class(payload),
                    format!("not a UUID: {error}"),
                ));
                builder.append_null();
            }
        }
    }
    Arc::new(builder.finish())
}

fn fixed<const N: usize, T>(
    payloads: &BinaryViewArray,
    bad: &mut Vec<BadPayload>,
    value: fn([u8; N]) -> T,
) -> Vec<Option<T>> {
    let rows = payloads.iter().enumerate();
    rows.map(|(row, payload)| {
        let payload = payload?;
        let bytes = payload.try_into().ok();
        if bytes.is_none() {
            let message = format!("expected {N} bytes, found {}", payload.len());
            bad.push(BadPayload::new(row, class(payload), message));
        }
        bytes.map(value)
    })
    .collect()
}

fn class(payload: &[u8]) -> &'static str {
    if payload.is_empty() {
        "empty"
    } else {
        "syntax"
    }
}
