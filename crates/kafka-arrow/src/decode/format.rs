//! The names of formats, which say how the bytes of a record's key or value become columns.

use std::fmt;
use std::str::FromStr;

use super::scalar::Scalar;
use crate::error::{Error, Result, nearest_names};

/// How the bytes of keys or values become columns: `key.format`, `value.format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// The bytes as they are: BinaryView.
    #[default]
    Raw,
    /// UTF-8 text: Utf8View.
    Text,
    /// Four bytes, big-endian: Int32.
    Int32,
    /// Eight bytes, big-endian: Int64.
    Int64,
    /// Four bytes, big-endian: Float32.
    Float,
    /// Eight bytes, big-endian: Float64.
    Double,
    /// A UUID as text or as sixteen bytes: Utf8View.
    Uuid,
    /// A JSON object; its fields are columns.
    Json,
    /// A line of comma-separated values; each is a column.
    Csv,
    /// An Avro datum, behind a registry's frame where a registry is used; its fields are columns.
    Avro,
    /// An Avro datum behind its schema's fingerprint.
    AvroSingleObject,
    /// Debezium's envelope of a changed row, as JSON with or without Kafka Connect's wrapper. The parts of
    /// the envelope are columns. Keys are as in [`Json`](Self::Json).
    DebeziumJson,
    /// The same in Avro, behind a registry's frame where a registry is used. Keys are as in
    /// [`Avro`](Self::Avro).
    DebeziumAvro,
    /// A Protobuf message, behind a registry's frame where a registry is used; its fields are columns.
    Protobuf,
}

impl Format {
    /// Every format with its name.
    const NAMES: [(&'static str, Self); 14] = [
        ("raw", Self::Raw),
        ("text", Self::Text),
        ("json", Self::Json),
        ("csv", Self::Csv),
        ("avro", Self::Avro),
        ("avro-single-object", Self::AvroSingleObject),
        ("debezium-json", Self::DebeziumJson),
        ("debezium-avro", Self::DebeziumAvro),
        ("protobuf", Self::Protobuf),
        ("int32", Self::Int32),
        ("int64", Self::Int64),
        ("float", Self::Float),
        ("double", Self::Double),
        ("uuid", Self::Uuid),
    ];

    /// Whether payloads have fields, which become columns of their own.
    pub fn has_fields(self) -> bool {
        self.has_schema() || self.is_json() || self == Self::Csv
    }

    /// Whether payloads cannot be read without a schema.
    pub fn has_schema(self) -> bool {
        self.is_avro() || self == Self::Protobuf
    }

    /// Whether payloads are JSON, with or without an envelope.
    pub fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::DebeziumJson)
    }

    /// Whether payloads are Avro, in any framing.
    pub fn is_avro(self) -> bool {
        matches!(
            self,
            Self::Avro | Self::AvroSingleObject | Self::DebeziumAvro
        )
    }

    pub(super) fn scalar(self) -> Option<Scalar> {
        Some(match self {
            Self::Text => Scalar::Text,
            Self::Int32 => Scalar::Int32,
            Self::Int64 => Scalar::Int64,
            Self::Float => Scalar::Float,
            Self::Double => Scalar::Double,
            Self::Uuid => Scalar::Uuid,
            Self::Raw | Self::Json | Self::DebeziumJson | Self::Csv => return None,
            Self::Avro | Self::AvroSingleObject | Self::DebeziumAvro | Self::Protobuf => {
                return None;
            }
        })
    }
}

/// Aliases of formats that imply a registry.
const OF_REGISTRIES: [(&str, Format); 3] = [
    ("avro-registry", Format::Avro),
    ("json-registry", Format::Json),
    ("protobuf-registry", Format::Protobuf),
];

impl Format {
    /// The format with this name, and whether the name implies a schema registry.
    ///
    /// # Errors
    /// When no format has this name. The message suggests the nearest names.
    pub fn named(text: &str) -> Result<(Self, bool)> {
        let wanted = text.to_ascii_lowercase();
        let asks = OF_REGISTRIES.iter().find(|(name, _)| *name == wanted);
        match asks {
            Some((_, format)) => Ok((*format, true)),
            None => Ok((text.parse()?, false)),
        }
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wanted = text.to_ascii_lowercase();
        let known = Self::NAMES.iter().find(|(name, _)| *name == wanted);
        if let Some((_, format)) = known {
            return Ok(*format);
        }
        let others = OF_REGISTRIES.iter().map(|(name, _)| *name);
        let names: Vec<&str> = Self::NAMES
            .iter()
            .map(|(name, _)| *name)
            .chain(others)
            .collect();
        let nearest = nearest_names(&wanted, names.iter().copied());
        let hint = nearest
            .first()
            .map(|n| format!("; did you mean '{n}'?"))
            .unwrap_or_default();
        Err(Error::invalid(format!(
            "format '{text}' is not known: the formats are {}{hint}",
            names.join(", ")
        )))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, format)| format == self);
        f.write_str(name.map_or("raw", |(name, _)| name))
    }
}
