//! Laws for all messages and all bytes: random messages read the same as with prost-reflect, and broken ones
//! never disturb their neighbours.

use proptest::prelude::*;
use prost_reflect::{FieldDescriptor, Kind, MapKey, Value};

use super::*;

/// Schemas that have every kind of field, in both syntaxes.
fn schemas() -> [ProtobufSchema; 2] {
    let three = proto3(
        "int32 a = 1; sint64 b = 2; fixed32 c = 3; double d = 4; string e = 5; bytes f = 6;
         Colour g = 7; bool h = 8; Inner i = 9; repeated sint32 j = 10; repeated string k = 11;
         repeated Inner l = 12; map<string, Inner> m = 13; map<int64, Colour> n = 14;
         oneof o { uint32 p = 15; Inner q = 16; string r = 300; Deep s = 18; }
         optional float t = 19; optional string u = 20; google.protobuf.Timestamp v = 21;
         google.protobuf.Duration w = 22; google.protobuf.Int64Value x = 23;
         repeated google.protobuf.StringValue y = 24; repeated Colour z = 25;
         map<bool, google.protobuf.Timestamp> aa = 26; repeated double bb = 27 [packed = false];
         repeated Deep cc = 28; sfixed64 dd = 29;
         message Deep { Inner x = 1; repeated Inner y = 2; map<uint32, bytes> z = 3; Deeper d = 4; }
         message Deeper { repeated bool b = 1; oneof o { Inner i = 2; int32 n = 3; } }",
    );
    let two = proto2(
        "optional int32 a = 1; required string b = 2; repeated int64 c = 3;
         repeated uint32 d = 4 [packed = true]; optional Colour e = 5 [default = GREEN];
         optional group G = 6 { optional Inner i = 1; repeated group H = 2 { optional bytes b = 1; } }
         repeated group J = 7 { required fixed64 n = 1; } map<sint32, Inner> k = 8;
         oneof o { bool l = 9; group M2 = 10 { optional string s = 1; } } extensions 100 to 200;",
    );
    [three, two]
}

/// Bytes that choose what a message contains. When they run out, everything else is absent.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn next(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    fn bits(&mut self) -> u64 {
        let len = usize::from(self.next() % 9);
        (0..len).fold(0, |bits, _| bits << 8 | u64::from(self.next()))
    }

    fn text(&mut self) -> String {
        let len = self.next() % 6;
        (0..len).map(|_| char::from(self.next())).collect()
    }

    fn message(&mut self, descriptor: &MessageDescriptor) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        let seconds = (self.bits() % 200_000_000_000).cast_signed();
        let nanos = (self.bits() % 1_000_000_000) as i32;
        match descriptor.full_name() {
            "google.protobuf.Timestamp" => {
                message.set_field_by_name("seconds", Value::I64(seconds - 60_000_000_000));
                message.set_field_by_name("nanos", Value::I32(nanos));
                return message;
            }
            "google.protobuf.Duration" => {
                // Both with the same sign: merging two messages with different ones would be invalid.
                message.set_field_by_name("seconds", Value::I64(seconds));
                message.set_field_by_name("nanos", Value::I32(nanos));
                return message;
            }
            _ => {}
        }
        for field in descriptor.fields() {
            if self.next().is_multiple_of(3) {
                continue;
            }
            let value = if field.is_map() {
                let kind = field.kind();
                let entry = kind.as_message().unwrap();
                let entries = (0..self.next() % 4).map(|_| {
                    let key = self.value(&entry.map_entry_key_field());
                    let key: MapKey = match key {
                        Value::Bool(v) => MapKey::Bool(v),
                        Value::I32(v) => MapKey::I32(v),
                        Value::I64(v) => MapKey::I64(v),
                        Value::U32(v) => MapKey::U32(v),
                        Value::U64(v) => MapKey::U64(v),
                        Value::String(v) => MapKey::String(v),
                        other => panic!("{other:?} is no key"),
                    };
                    (key, self.value(&entry.map_entry_value_field()))
                });
                Value::Map(entries.collect())
            } else if field.is_list() {
                Value::List((0..self.next() % 4).map(|_| self.value(&field)).collect())
            } else {
                self.value(&field)
            };
            message.set_field(&field, value);
        }
        message
    }

    fn value(&mut self, field: &FieldDescriptor) -> Value {
        match field.kind() {
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(self.bits() as i32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(self.bits().cast_signed()),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(self.bits() as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(self.bits()),
            Kind::Float => Value::F32(self.bits() as f32),
            Kind::Double => Value::F64(self.bits() as f64),
            Kind::Bool => Value::Bool(self.next() % 2 == 1),
            Kind::String => Value::String(self.text()),
            Kind::Bytes => Value::Bytes(self.text().into_bytes().into()),
            Kind::Enum(_) => Value::EnumNumber(i32::from(self.next() % 4) - 1),
            Kind::Message(descriptor) => Value::Message(self.message(&descriptor)),
        }
    }
}

/// What prost-reflect reads from the bytes.
fn reflected(schema: &ProtobufSchema, bytes: &[u8]) -> Option<DynamicMessage> {
    DynamicMessage::decode(schema.message().clone(), bytes).ok()
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..400)
}

/// Encodes messages of a schema; sometimes two in one payload, which merges them.
fn encoded(schema: &ProtobufSchema, choices: &[u8]) -> Vec<u8> {
    let mut choices = Choices(choices);
    let mut payload = choices.message(schema.message()).encode_to_vec();
    if choices.next() % 4 == 1 {
        payload.extend(choices.message(schema.message()).encode_to_vec());
    }
    payload
}

/// There are as many rows as payloads. Bad rows are NULL, and good ones do not depend on their neighbours.
fn stand_alone(decoder: &ProtobufDecoder, payloads: &[Option<Vec<u8>>]) {
    let (together, bad) = decode(decoder, payloads);
    assert_eq!(together.len(), payloads.len());
    let (nothing, _) = decode(decoder, &[None]);
    for (row, payload) in payloads.iter().enumerate() {
        let (alone, fault) = decode(decoder, std::slice::from_ref(payload));
        assert_eq!(together[row], alone[0]);
        let told = bad.iter().find(|b| b.row == row);
        assert_eq!(told.map(|b| &b.message), fault.first().map(|b| &b.message));
        if told.is_some() {
            assert_eq!(together[row], nothing[0]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn messages_are_what_prost_reflect_reads(all in prop::collection::vec(bytes(), 1..5)) {
        for schema in schemas() {
            let decoder = plain(&schema, None).unwrap();
            let payloads: Vec<_> = all.iter().map(|c| Some(encoded(&schema, c))).collect();
            let (rows, bad) = decode(&decoder, &payloads);
            prop_assert_eq!(bad, vec![]);
            for (row, payload) in rows.iter().zip(&payloads) {
                let expected = reflected(&schema, payload.as_deref().unwrap()).unwrap();
                prop_assert_eq!(row, &Seen::from_message(&expected));
            }
        }
    }

    /// The choice of fields changes neither their values nor which rows are bad.
    #[test]
    fn rows_do_not_depend_on_the_wanted_fields(
        choices in bytes(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        wanted in prop::collection::vec(any::<bool>(), 32),
    ) {
        for schema in schemas() {
            let decoder = plain(&schema, None).unwrap();
            let good = encoded(&schema, &choices);
            let mut payload = good.clone();
            for (at, byte) in &mutations {
                if !payload.is_empty() {
                    let at = at.index(payload.len());
                    payload[at] = *byte;
                }
            }
            let payloads = [Some(payload), Some(good)];
            let (all, bad) = decode(&decoder, &payloads);
            let fields: Vec<usize> =
                (0..decoder.fields().len()).filter(|i| wanted[*i]).collect();
            let decoded = decoder
                .decode(
                    &BinaryViewArray::from_iter(&payloads),
                    &Wanted { fields: &fields, check_all: true, schema_ids: false },
                )
                .unwrap();
            prop_assert_eq!(&decoded.bad, &bad);
            for (column, field) in decoded.columns.iter().zip(&fields) {
                for (row, all) in all.iter().enumerate() {
                    let Seen::Struct(members) = all else { unreachable!() };
                    prop_assert_eq!(&Seen::from_arrow(column, row), &members[*field].1);
                }
            }
        }
    }

    #[test]
    fn any_bytes_keep_rows_apart(all in prop::collection::vec(prop::option::of(bytes()), 1..8)) {
        for schema in schemas() {
            stand_alone(&plain(&schema, None).unwrap(), &all);
        }
    }

    #[test]
    fn mutated_messages_keep_rows_apart(
        choices in bytes(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        for schema in schemas() {
            let good = encoded(&schema, &choices);
            let mut payloads = vec![Some(good.clone())];
            for (at, byte) in &mutations {
                let mut bad = good.clone();
                if !bad.is_empty() {
                    let at = at.index(bad.len());
                    bad[at] = *byte;
                }
                payloads.push(Some(bad));
                payloads.push(Some(good.clone()));
            }
            stand_alone(&plain(&schema, None).unwrap(), &payloads);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn messages_that_end_early_keep_rows_apart(choices in bytes()) {
        for schema in schemas() {
            let decoder = plain(&schema, None).unwrap();
            let good = encoded(&schema, &choices);
            let payloads: Vec<_> = (0..=good.len())
                .flat_map(|len| [Some(good[..len].to_vec()), Some(good.clone())])
                .collect();
            let (rows, bad) = decode(&decoder, &payloads);
            for pair in rows.chunks(2) {
                prop_assert_eq!(&pair[1], &rows[rows.len() - 1]);
            }
            for (row, payload) in payloads.iter().enumerate() {
                let ours = !bad.iter().any(|b| b.row == row);
                let theirs = reflected(&schema, payload.as_deref().unwrap());
                prop_assert_eq!(ours, theirs.is_some());
                if let Some(theirs) = theirs {
                    prop_assert_eq!(&rows[row], &Seen::from_message(&theirs));
                }
            }
        }
    }
}
