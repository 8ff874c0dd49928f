//! What the crossings write into topics, and the rows that must result. Nothing here comes from the crate:
//! payloads are encoded by hand, and the expected rows are written next to them as JSON.
//!
//! A new format needs a line in [`Format::ALL`], its options, and an encoding of a [`Row`].

use serde_json::{Map, Value, json};

use super::encode::{AVRO, AVRO_PRINT, DEBEZIUM, PROTOBUF, avro, debezium, framed, protobuf};

/// Declares a dimension: an enum, the list of its values, and their names.
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
    /// How payloads are encoded, and what decodes them.
    Format {
        Raw, Text, Int32, Int64, Float, Double, Uuid,
        /// With declared columns, and with columns inferred from a sample.
        Json, JsonLearned,
        Csv, DebeziumJson, DebeziumAvro,
        AvroFile, AvroSingle, AvroRegistry, ProtobufFile, ProtobufRegistry,
    }
);
dimension!(
    /// The part of a record that has the format. The other part is bytes.
    Part { Value, Key }
);
dimension!(
    /// What two of the records contain.
    Values {
        Plain,
        /// Fields that are NULL.
        Nulls,
        /// No payload at all.
        Tombstone,
        /// An empty payload.
        Empty,
        NotUtf8,
        /// The least and the greatest numbers and moments.
        Edges,
        /// Ten megabytes.
        Big,
        /// Payloads that do not decode.
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
dimension!(
    /// What is unusual about the log, the broker or the session.
    Around {
        Usual,
        /// The log's start passes the start of the range, with `on.data.loss` = `fail` and `skip`.
        CutFail, CutSkip,
        /// A quota of the broker throttles the client.
        Quota,
        /// The session is restricted: it may only use its own brokers and registry, or everything that the
        /// crossing needs.
        Restricted, Allowed,
        /// The broker wants tokens (OAUTHBEARER), which the clients get from a token endpoint.
        Tokens,
        /// The network flips a bit of a record, once for each command.
        Damaged,
        /// The table's budget is smaller than its range.
        Scarce,
    }
);

impl Around {
    /// `on.data.loss`, if data is lost.
    pub(crate) fn on_data_loss(self) -> Option<&'static str> {
        match self {
            Self::CutFail => Some("fail"),
            Self::CutSkip => Some("skip"),
            _ => None,
        }
    }
}

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

/// A row of the model. Formats without fields only have the id or the name.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) name: Option<String>,
    /// The unscaled value with four digits after the point, and its text.
    pub(crate) amount: Option<(i128, &'static str)>,
    /// The time in ms, and its text.
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

/// A record, and what it must become.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    /// The bytes of the part that has the format.
    pub(crate) payload: Option<Vec<u8>>,
    /// The columns of the row; `None` if the payload does not decode.
    pub(crate) columns: Option<Map<String, Value>>,
}

impl Format {
    /// The value of `value.format` or `key.format`.
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
            Self::DebeziumAvro => "debezium-avro",
            Self::AvroSingle => "avro-single-object",
            Self::AvroFile | Self::AvroRegistry => "avro",
            Self::ProtobufFile | Self::ProtobufRegistry => "protobuf",
        }
    }

    /// A schema file: the end of its name, and its text.
    pub(crate) fn schema(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::AvroFile | Self::AvroSingle | Self::AvroRegistry => Some(("avsc", AVRO)),
            Self::DebeziumAvro => Some(("avsc", DEBEZIUM)),
            Self::ProtobufFile | Self::ProtobufRegistry => Some(("proto", PROTOBUF)),
            _ => None,
        }
    }

    pub(crate) fn asks_registry(self) -> bool {
        matches!(
            self,
            Self::DebeziumAvro | Self::AvroRegistry | Self::ProtobufRegistry
        )
    }

    /// The columns of the format with their types, without the prefix of keys. A scalar's column is called
    /// `value`.
    pub(crate) fn columns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Raw => &[("value", "BYTEA")],
            Self::Text | Self::Uuid => &[("value", "VARCHAR")],
            Self::Int32 => &[("value", "INT")],
            Self::Int64 => &[("value", "BIGINT")],
            Self::Float => &[("value", "REAL")],
            Self::Double => &[("value", "DOUBLE")],
            Self::Json | Self::AvroFile | Self::AvroSingle | Self::AvroRegistry => &[
                ("id", "BIGINT"),
                ("name", "VARCHAR"),
                ("amount", "DECIMAL(20, 4)"),
                ("at", "TIMESTAMP(3) WITH TIME ZONE"),
                ("nested", "STRUCT<a BIGINT, tags VARCHAR[]>"),
            ],
            Self::Csv => &[
                ("id", "BIGINT"),
                ("name", "VARCHAR"),
                ("amount", "DECIMAL(20, 4)"),
                ("at", "TIMESTAMP(3) WITH TIME ZONE"),
            ],
            Self::JsonLearned | Self::ProtobufFile | Self::ProtobufRegistry => &[
                ("id", "BIGINT"),
                ("name", "VARCHAR"),
                ("nested", "STRUCT<a BIGINT, tags VARCHAR[]>"),
            ],
            Self::DebeziumJson | Self::DebeziumAvro => &[
                ("op", "VARCHAR"),
                ("after", "STRUCT<id BIGINT, name VARCHAR>"),
                ("ts", "TIMESTAMP(3) WITH TIME ZONE"),
            ],
        }
    }

    /// The columns, if they must be declared.
    pub(crate) fn declared(self) -> Option<&'static [(&'static str, &'static str)]> {
        matches!(self, Self::Json | Self::Csv | Self::DebeziumJson).then(|| self.columns())
    }

    /// Whether payloads have fields, which become columns.
    pub(crate) fn has_fields(self) -> bool {
        self.declared().is_some() || self.schema().is_some() || self == Self::JsonLearned
    }

    /// Whether only values can have the format: keys have no envelopes.
    pub(crate) fn of_values_alone(self) -> bool {
        matches!(self, Self::DebeziumJson | Self::DebeziumAvro)
    }

    /// The payload for a row, and the columns that it becomes. A scalar's column is called `value`.
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
                (payload.to_string().into_bytes(), self.of_row(row))
            }
            Self::Csv => {
                let name = row.name.clone().unwrap_or_default().replace('"', "\"\"");
                let [amount, at] = [row.amount.map(|a| a.1), row.at.map(|at| at.1)];
                let [amount, at] = [amount, at].map(Option::unwrap_or_default);
                let line = format!("{id},\"{name}\",{amount},{at}");
                let mut columns = self.of_row(row);
                // CSV cannot represent a NULL text.
                columns.insert(
                    "name".to_owned(),
                    row.name.clone().unwrap_or_default().into(),
                );
                (line.into_bytes(), columns)
            }
            Self::DebeziumJson | Self::DebeziumAvro => {
                let after = json!({"id": id, "name": row.name});
                let ts = row.at.map(|at| at.0);
                let payload = json!({"op": "c", "before": null, "after": after, "ts_ms": ts});
                let payload = match self {
                    Self::DebeziumJson => payload.to_string().into_bytes(),
                    _ => framed(&[], debezium(row)),
                };
                let columns = json!({"op": "c", "after": after, "ts": row.at.map(|at| at.1)});
                (payload, object(columns))
            }
            Self::AvroFile => (avro(row), self.of_row(row)),
            Self::AvroSingle => {
                let print = AVRO_PRINT.to_le_bytes();
                let payload = [&[0xc3, 0x01], &print[..], &avro(row)].concat();
                (payload, self.of_row(row))
            }
            Self::AvroRegistry => (framed(&[], avro(row)), self.of_row(row)),
            Self::ProtobufFile => (protobuf(row), self.of_row(row)),
            // The first message of the schema.
            Self::ProtobufRegistry => (framed(&[0], protobuf(row)), self.of_row(row)),
        }
    }

    fn of_row(self, row: &Row) -> Map<String, Value> {
        let nested = row
            .nested
            .as_ref()
            .map(|(a, tags)| json!({"a": a, "tags": tags}));
        let all = json!({
            "id": row.id, "name": row.name, "amount": row.amount.map(|a| a.1),
            "at": row.at.map(|at| at.1), "nested": nested,
        });
        let mut columns = object(all);
        columns.retain(|name, _| self.columns().iter().any(|(column, _)| name == column));
        columns
    }

    /// All columns NULL.
    pub(crate) fn nulls(self) -> Map<String, Value> {
        let names = self.columns().iter();
        names
            .map(|(name, _)| ((*name).to_owned(), Value::Null))
            .collect()
    }

    /// A payload that is invalid in the format.
    fn bad(self) -> Option<&'static [u8]> {
        Some(match self {
            Self::Raw => return None,
            Self::Text => b"\xff\xfe",
            Self::Int32 | Self::Int64 | Self::Float | Self::Double => b"abc",
            Self::Uuid => b"no uuid",
            Self::Json | Self::JsonLearned | Self::DebeziumJson => b"{\"id\":",
            Self::Csv => b"1,2",
            Self::DebeziumAvro | Self::AvroFile | Self::AvroSingle | Self::AvroRegistry => {
                b"\x01\x02"
            }
            Self::ProtobufFile | Self::ProtobufRegistry => b"\x0a\xff",
        })
    }

    /// Whether the format can have such values.
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

    /// The records of a partition: plain ones, with two in between that have the values.
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

    /// An ordinary record.
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

/// A number as text, because JSON parsers round.
pub(crate) fn float(number: f64) -> Value {
    format!("{number:?}").into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
