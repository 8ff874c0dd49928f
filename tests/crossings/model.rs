//! What the crossings write into topics, and the rows that must come of it. Nothing here comes from the
//! crate: payloads are encoded by hand, rows are JSON that is written down next to them.
//!
//! A new format is a line in [`Format::ALL`], its options, and a way to encode a [`Row`].

use serde_json::{Map, Value, json};

/// Declares a dimension: an enum, all its values, and their names.
macro_rules! dimension {
    ($(#[$about:meta])* $name:ident { $($(#[$of:meta])* $value:ident),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum $name { $($(#[$of])* $value),+ }

        impl $name {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$value),+];
        }
    };
}
pub(crate) use dimension;

dimension!(
    /// How payloads are encoded and what reads them.
    Format {
        Raw, Text, Int32, Int64, Float, Double, Uuid,
        /// With declared columns, and with those of a sample.
        Json, JsonLearned,
        Csv, DebeziumJson,
        AvroFile, AvroRegistry, ProtobufFile, ProtobufRegistry,
    }
);
dimension!(
    /// Which part of a record has the format; the other one is bytes.
    Part { Value, Key }
);
dimension!(
    /// What two of the records hold.
    Values {
        Plain,
        /// Fields that are NULL.
        Nulls,
        /// No payload.
        Tombstone,
        /// A payload of no bytes.
        Empty,
        NotUtf8,
        /// The least and the greatest numbers and moments.
        Edges,
        /// Ten megabytes.
        Big,
        /// What does not decode.
        Bad,
    }
);
dimension!(
    /// `on.bad.row`.
    Policy { Fail, Null, Skip, Dlq }
);
dimension!(
    /// `isolation.level`.
    Isolation { Committed, Uncommitted }
);

impl Policy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Null => "null",
            Self::Skip => "skip",
            Self::Dlq => "dlq",
        }
    }
}

impl Isolation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Committed => "read_committed",
            Self::Uncommitted => "read_uncommitted",
        }
    }
}

/// A row of the model; formats without fields have the id or the name alone.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) name: Option<String>,
    /// Unscaled, of four digits behind the point, and its text.
    pub(crate) amount: Option<(i128, &'static str)>,
    /// In ms, and its text.
    pub(crate) at: Option<(i64, &'static str)>,
    pub(crate) nested: Option<(i64, Vec<&'static str>)>,
}

impl Row {
    fn plain(id: i64) -> Self {
        Self {
            id,
            name: Some(format!("näme {id}, \"quoted\"")),
            amount: Some((-1_250_000, "-125.0000")),
            at: Some((1_768_384_800_123, "2026-01-14T10:00:00.123Z")),
            nested: Some((id * 2, vec!["a", "b,c"])),
        }
    }
}

/// A record and what must come of it.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    /// The bytes of the part that has the format.
    pub(crate) payload: Option<Vec<u8>>,
    /// The columns of the row; `None` if it does not decode.
    pub(crate) columns: Option<Map<String, Value>>,
}

/// The schema id that payloads in a registry's frame name.
pub(crate) const SCHEMA_ID: u32 = 7;

pub(crate) const AVRO: &str = r#"{"type":"record","name":"Row","fields":[
    {"name":"id","type":"long"},
    {"name":"name","type":["null","string"]},
    {"name":"amount","type":["null",{"type":"bytes","logicalType":"decimal","precision":20,"scale":4}]},
    {"name":"at","type":["null",{"type":"long","logicalType":"timestamp-millis"}]},
    {"name":"nested","type":["null",{"type":"record","name":"Nested","fields":[
        {"name":"a","type":"long"},{"name":"tags","type":{"type":"array","items":"string"}}]}]}]}"#;

pub(crate) const PROTOBUF: &str = r#"syntax = "proto3";
message Row { optional int64 id = 1; optional string name = 2; Nested nested = 3; }
message Nested { int64 a = 1; repeated string tags = 2; }
"#;

impl Format {
    /// What `value.format` or `key.format` is.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Text => "text",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Float => "float",
            Self::Double => "double",
            Self::Uuid => "uuid",
            Self::Json | Self::JsonLearned => "json",
            Self::Csv => "csv",
            Self::DebeziumJson => "debezium-json",
            Self::AvroFile | Self::AvroRegistry => "avro",
            Self::ProtobufFile | Self::ProtobufRegistry => "protobuf",
        }
    }

    /// A schema's file: its name's end and its text.
    pub(crate) fn schema(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::AvroFile | Self::AvroRegistry => Some(("avsc", AVRO)),
            Self::ProtobufFile | Self::ProtobufRegistry => Some(("proto", PROTOBUF)),
            _ => None,
        }
    }

    pub(crate) fn asks_registry(self) -> bool {
        matches!(self, Self::AvroRegistry | Self::ProtobufRegistry)
    }

    /// The columns of the format with their types, where they are to be declared.
    pub(crate) fn declared(self) -> Option<&'static [(&'static str, &'static str)]> {
        match self {
            Self::Json => Some(&[
                ("id", "BIGINT"),
                ("name", "VARCHAR"),
                ("amount", "DECIMAL(20, 4)"),
                ("at", "TIMESTAMP(3) WITH TIME ZONE"),
                ("nested", "STRUCT<a BIGINT, tags VARCHAR[]>"),
            ]),
            Self::Csv => Some(&[
                ("id", "BIGINT"),
                ("name", "VARCHAR"),
                ("amount", "DECIMAL(20, 4)"),
                ("at", "TIMESTAMP(3) WITH TIME ZONE"),
            ]),
            Self::DebeziumJson => Some(&[
                ("op", "VARCHAR"),
                ("after", "STRUCT<id BIGINT, name VARCHAR>"),
                ("ts", "TIMESTAMP(3) WITH TIME ZONE"),
            ]),
            _ => None,
        }
    }

    /// Whether payloads have fields, which become columns.
    pub(crate) fn has_fields(self) -> bool {
        self.declared().is_some() || self.schema().is_some() || self == Self::JsonLearned
    }

    /// Whether the format is that of values and not of keys: keys have no envelopes.
    pub(crate) fn of_values_alone(self) -> bool {
        self == Self::DebeziumJson
    }

    /// The names of the format's columns, without a key's prefix; of one column none.
    pub(crate) fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Json | Self::AvroFile | Self::AvroRegistry => {
                &["id", "name", "amount", "at", "nested"]
            }
            Self::Csv => &["id", "name", "amount", "at"],
            Self::JsonLearned | Self::ProtobufFile | Self::ProtobufRegistry => {
                &["id", "name", "nested"]
            }
            Self::DebeziumJson => &["op", "after", "ts"],
            _ => &[],
        }
    }

    /// The payload of a row and the columns that it becomes; a scalar's column is called `value`.
    fn encode(self, row: &Row) -> (Vec<u8>, Map<String, Value>) {
        let id = row.id;
        let scalar = |bytes: Vec<u8>, value: Value| (bytes, object(json!({ "value": value })));
        match self {
            Self::Raw => {
                let bytes = row.name.clone().unwrap_or_default().into_bytes();
                let hex = hex(&bytes);
                scalar(bytes, hex.into())
            }
            Self::Text => {
                let name = row.name.clone().unwrap_or_default();
                scalar(name.clone().into_bytes(), name.into())
            }
            #[expect(
                clippy::cast_possible_truncation,
                reason = "edges are those of the type"
            )]
            Self::Int32 => {
                let small = match id {
                    i64::MIN => i32::MIN,
                    i64::MAX => i32::MAX,
                    other => other as i32,
                };
                scalar(small.to_be_bytes().to_vec(), small.into())
            }
            Self::Int64 => scalar(id.to_be_bytes().to_vec(), id.into()),
            Self::Float => {
                let number = match id {
                    i64::MIN => f32::MIN,
                    i64::MAX => f32::MAX,
                    other => other as f32 / 4.0,
                };
                scalar(number.to_be_bytes().to_vec(), float(number.into()))
            }
            Self::Double => {
                let number = match id {
                    i64::MIN => f64::MIN,
                    i64::MAX => 5e-324,
                    other => other as f64 / 3.0,
                };
                scalar(number.to_be_bytes().to_vec(), float(number))
            }
            Self::Uuid => {
                let text = format!("00000000-0000-4000-8000-{:012x}", id & 0xffff_ffff_ffff);
                scalar(text.clone().into_bytes(), text.into())
            }
            Self::Json | Self::JsonLearned => {
                let nested = row
                    .nested
                    .as_ref()
                    .map(|(a, tags)| json!({"a": a, "tags": tags}));
                let payload = json!({
                    "id": id, "name": row.name, "amount": row.amount.map(|a| a.1),
                    "at": row.at.map(|at| at.1), "nested": nested,
                });
                (payload.to_string().into_bytes(), self.columns(row))
            }
            Self::Csv => {
                let name = row.name.clone().unwrap_or_default().replace('"', "\"\"");
                let [amount, at] = [row.amount.map(|a| a.1), row.at.map(|at| at.1)];
                let [amount, at] = [amount, at].map(Option::unwrap_or_default);
                let line = format!("{id},\"{name}\",{amount},{at}");
                let mut columns = self.columns(row);
                // CSV has no NULL of text.
                columns.insert(
                    "name".to_owned(),
                    row.name.clone().unwrap_or_default().into(),
                );
                (line.into_bytes(), columns)
            }
            Self::DebeziumJson => {
                let after = json!({"id": id, "name": row.name});
                let ts = row.at.map(|at| at.0);
                let payload = json!({"op": "c", "before": null, "after": after, "ts_ms": ts});
                let columns = json!({"op": "c", "after": after, "ts": row.at.map(|at| at.1)});
                (payload.to_string().into_bytes(), object(columns))
            }
            Self::AvroFile => (avro(row), self.columns(row)),
            Self::AvroRegistry => (framed(&[], avro(row)), self.columns(row)),
            Self::ProtobufFile => (protobuf(row), self.columns(row)),
            // The first message of the schema.
            Self::ProtobufRegistry => (framed(&[0], protobuf(row)), self.columns(row)),
        }
    }

    fn columns(self, row: &Row) -> Map<String, Value> {
        let nested = row
            .nested
            .as_ref()
            .map(|(a, tags)| json!({"a": a, "tags": tags}));
        let all = json!({
            "id": row.id, "name": row.name, "amount": row.amount.map(|a| a.1),
            "at": row.at.map(|at| at.1), "nested": nested,
        });
        let mut columns = object(all);
        columns.retain(|name, _| self.fields().contains(&name.as_str()));
        columns
    }

    /// Every column NULL.
    pub(crate) fn nulls(self) -> Map<String, Value> {
        match self.fields() {
            [] => object(json!({ "value": null })),
            fields => fields
                .iter()
                .map(|name| ((*name).to_owned(), Value::Null))
                .collect(),
        }
    }

    /// A payload that is none of the format.
    fn bad(self) -> Option<&'static [u8]> {
        Some(match self {
            Self::Raw => return None,
            Self::Text => b"\xff\xfe",
            Self::Int32 | Self::Int64 | Self::Float | Self::Double => b"abc",
            Self::Uuid => b"no uuid",
            Self::Json | Self::JsonLearned | Self::DebeziumJson => b"{\"id\":",
            Self::Csv => b"1,2",
            Self::AvroFile | Self::AvroRegistry => b"\x01\x02",
            Self::ProtobufFile | Self::ProtobufRegistry => b"\x0a\xff",
        })
    }

    /// Whether the format has such values.
    pub(crate) fn has(self, values: Values) -> bool {
        match values {
            Values::Plain | Values::Tombstone => true,
            Values::Nulls => self.has_fields(),
            Values::Empty => matches!(self, Self::Raw | Self::Text | Self::ProtobufFile),
            Values::NotUtf8 => self == Self::Raw,
            Values::Edges => !matches!(self, Self::Raw | Self::Text | Self::Uuid),
            Values::Big => matches!(self, Self::Raw | Self::Text | Self::Json),
            Values::Bad => self.bad().is_some(),
        }
    }

    /// The records of a partition: plain ones, and between them two with the values.
    pub(crate) fn records(self, values: Values) -> Vec<Made> {
        let made = |row: &Row| {
            let (payload, columns) = self.encode(row);
            Made {
                payload: Some(payload),
                columns: Some(columns),
            }
        };
        let none = |payload: Option<&[u8]>, columns| Made {
            payload: payload.map(<[u8]>::to_vec),
            columns,
        };
        let special: [Made; 2] = match values {
            Values::Plain => [made(&Row::plain(100)), made(&Row::plain(101))],
            Values::Nulls => [100, 101].map(|id| {
                made(&Row {
                    id,
                    name: None,
                    amount: None,
                    at: None,
                    nested: None,
                })
            }),
            Values::Tombstone => {
                let tombstone = none(None, Some(self.nulls()));
                [tombstone.clone(), tombstone]
            }
            Values::Empty => {
                let columns = match self {
                    Self::Raw | Self::Text => object(json!({ "value": "" })),
                    _ => self.nulls(),
                };
                let empty = none(Some(b""), Some(columns));
                [empty.clone(), empty]
            }
            Values::NotUtf8 => [b"\xff\xfe\x00".as_slice(), b"/../%\x01"]
                .map(|bytes| none(Some(bytes), Some(object(json!({ "value": hex(bytes) }))))),
            Values::Edges => [
                made(&Row {
                    id: i64::MIN,
                    amount: Some((-99_999_999_999_999_999_999, "-9999999999999999.9999")),
                    at: Some((-62_135_596_800_000, "0001-01-01T00:00:00Z")),
                    ..Row::plain(100)
                }),
                made(&Row {
                    id: i64::MAX,
                    amount: Some((1, "0.0001")),
                    at: Some((253_402_300_799_999, "9999-12-31T23:59:59.999Z")),
                    nested: Some((0, vec![])),
                    ..Row::plain(101)
                }),
            ],
            Values::Big => {
                let name = Some("x".repeat(10_000_000));
                let row = Row {
                    name,
                    ..Row::plain(100)
                };
                [made(&row), made(&Row::plain(101))]
            }
            Values::Bad => {
                let bad = none(self.bad(), None);
                [bad.clone(), bad]
            }
        };
        let [first, second] = special;
        vec![
            made(&Row::plain(1)),
            made(&Row::plain(2)),
            first,
            made(&Row::plain(3)),
            second,
            made(&Row::plain(4)),
        ]
    }

    /// A record like any other.
    pub(crate) fn plain(self, id: i64) -> Made {
        let (payload, columns) = self.encode(&Row::plain(id));
        Made {
            payload: Some(payload),
            columns: Some(columns),
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A number as text: JSON's parsers round.
pub(crate) fn float(number: f64) -> Value {
    format!("{number:?}").into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A registry's frame.
fn framed(indexes: &[u8], payload: Vec<u8>) -> Vec<u8> {
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

fn avro(row: &Row) -> Vec<u8> {
    let mut out = vec![];
    let long = |number: i64, out: &mut Vec<u8>| {
        varint(((number << 1) ^ (number >> 63)).cast_unsigned(), out);
    };
    let bytes = |bytes: &[u8], out: &mut Vec<u8>| {
        long(bytes.len() as i64, out);
        out.extend_from_slice(bytes);
    };
    // The branch of a union: NULL first.
    let some = |is_some: bool, out: &mut Vec<u8>| {
        long(i64::from(is_some), out);
        is_some
    };
    long(row.id, &mut out);
    if some(row.name.is_some(), &mut out) {
        bytes(row.name.as_deref().unwrap_or_default().as_bytes(), &mut out);
    }
    if some(row.amount.is_some(), &mut out) {
        bytes(&row.amount.unwrap_or_default().0.to_be_bytes(), &mut out);
    }
    if some(row.at.is_some(), &mut out) {
        long(row.at.unwrap_or_default().0, &mut out);
    }
    if some(row.nested.is_some(), &mut out) {
        let (a, tags) = row.nested.clone().unwrap_or_default();
        long(a, &mut out);
        if !tags.is_empty() {
            long(tags.len() as i64, &mut out);
            for tag in tags {
                bytes(tag.as_bytes(), &mut out);
            }
        }
        long(0, &mut out);
    }
    out
}

fn protobuf(row: &Row) -> Vec<u8> {
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
