//! Fields that come several times, in pieces, or in conflict.

use super::*;

/// The messages' payloads, concatenated, which in Protobuf merges them.
fn joined(schema: &ProtobufSchema, messages: &[&str]) -> Vec<u8> {
    let payloads = messages.iter().map(|m| payload_of(schema, m));
    payloads.collect::<Vec<_>>().concat()
}

/// The joined messages as both readers see them.
fn merged(schema: &ProtobufSchema, messages: &[&str]) -> String {
    let payload = joined(schema, messages);
    let ours = row(schema, &payload);
    let theirs = DynamicMessage::decode(schema.message().clone(), payload.as_slice()).unwrap();
    assert_eq!(ours, Seen::from_message(&theirs).to_string());
    ours
}

#[test]
fn the_last_value_counts() {
    let schema =
        proto3("int32 a = 1; string b = 2; optional bool c = 3; Colour d = 4; bytes e = 5;");
    assert_eq!(
        merged(
            &schema,
            &[
                "a: 1 b: 'first' c: true d: BLUE e: '123'",
                "a: 2 b: 'x' c: false d: GREEN e: ''",
                "e: '4'",
            ]
        ),
        "{a: 2, b: \"x\", c: false, d: \"GREEN\", e: x[34]}"
    );
}

#[test]
fn packed_and_single_elements_make_one_list() {
    let schema = proto3("repeated int32 f = 1; repeated fixed64 g = 2; repeated bool h = 3;");
    let payload = [
        &[0x08, 1][..],
        &[0x0a, 3, 2, 0xac, 0x02],
        &[0x0a, 0],
        &[0x1a, 2, 1, 0],
        &[0x08, 3],
        &[0x11, 9, 0, 0, 0, 0, 0, 0, 0],
        &[0x18, 1],
    ]
    .concat();
    assert_eq!(
        row(&schema, &payload),
        "{f: [1, 2, 300, 3], g: [9], h: [true, false, true]}"
    );
}

#[test]
fn messages_that_come_twice_are_merged() {
    let schema = proto3("Inner f = 1; repeated int32 z = 2;");
    assert_eq!(
        merged(
            &schema,
            &[
                "f { n: 1 s: 'a' r: [1, 2] } z: 1",
                "f { s: 'b' o: 7 r: [3] }",
                "f { }"
            ]
        ),
        "{f: {n: 1, s: \"b\", o: 7, r: [1, 2, 3]}, z: [1]}"
    );
}

#[test]
fn deep_messages_are_merged_where_they_were_absent() {
    let schema = schema(
        "syntax = \"proto3\";
         message C { int32 n = 1; repeated string s = 2; map<int32, int32> m = 3; }
         message B { C c = 1; int32 n = 2; }
         message M { B b = 1; repeated C l = 2; }",
    );
    assert_eq!(
        merged(
            &schema,
            &[
                "b { n: 1 } l { n: 1 }",
                "b { c { s: 'x' m { key: 1 value: 1 } } }",
                "b { c { n: 3 s: 'y' m { key: 1 value: 2 } } } l { n: 2 }",
            ]
        ),
        "{b: {c: {n: 3, s: [\"x\", \"y\"], m: <1: 2>}, n: 1}, \
         l: [{n: 1, s: [], m: <>}, {n: 2, s: [], m: <>}]}"
    );
}

#[test]
fn times_and_wrappers_are_merged() {
    let schema = proto3(
        "google.protobuf.Timestamp t = 1; google.protobuf.Duration d = 2;
         google.protobuf.Int32Value w = 3; google.protobuf.StringValue s = 4;",
    );
    assert_eq!(
        merged(
            &schema,
            &[
                "t { seconds: 5 } d { nanos: 1000 } w { value: 7 } s { value: 'x' }",
                "t { nanos: 3000 } d { seconds: 2 } w { } s { }",
            ]
        ),
        "{t: 5000003, d: 2000001, w: 7, s: \"x\"}"
    );
}

#[test]
fn the_last_member_of_a_oneof_counts() {
    let schema = proto3("oneof o { int32 a = 1; string b = 2; Inner c = 3; Inner d = 4; }");
    for (messages, expected) in [
        (
            &["a: 1", "b: 'x'"][..],
            "{a: NULL, b: \"x\", c: NULL, d: NULL}",
        ),
        (
            &["b: 'x'", "a: 1", "a: 2"],
            "{a: 2, b: NULL, c: NULL, d: NULL}",
        ),
        (
            &["c { n: 1 r: 1 }", "d { n: 2 }"],
            "{a: NULL, b: NULL, c: NULL, d: {n: 2, s: \"\", o: NULL, r: []}}",
        ),
        (
            &["c { n: 1 r: 1 }", "c { s: 'x' r: 2 }"],
            "{a: NULL, b: NULL, c: {n: 1, s: \"x\", o: NULL, r: [1, 2]}, d: NULL}",
        ),
        (
            &["c { n: 1 r: 1 }", "a: 1", "c { s: 'x' }"],
            "{a: NULL, b: NULL, c: {n: 0, s: \"x\", o: NULL, r: []}, d: NULL}",
        ),
    ] {
        assert_eq!(merged(&schema, messages), expected);
    }
}

#[test]
fn a_oneof_is_decided_by_members_that_are_not_wanted_too() {
    let schema = proto3("oneof o { int32 a = 1; string b = 2; }");
    let decoder = plain(&schema, None).unwrap();
    let payload = joined(&schema, &["a: 1", "b: 'x'"]);
    let payloads = BinaryViewArray::from_iter([Some(payload)]);
    for check_all in [false, true] {
        let wanted = Wanted {
            fields: &[0],
            check_all,
            schema_ids: false,
        };
        let decoded = decoder.decode(&payloads, &wanted).unwrap();
        assert_eq!(decoded.columns[0].null_count(), 1);
    }
}

#[test]
fn of_a_key_that_comes_twice_the_last_entry_counts() {
    let schema = proto3("map<string, Inner> f = 1; map<int64, int32> g = 2;");
    assert_eq!(
        merged(
            &schema,
            &[
                "f { key: 'a' value { n: 1 } } f { key: 'b' } g { key: -1 value: 1 }",
                "f { key: 'a' value { s: 'x' } } g { key: -1 value: 2 } g { key: 1 value: 1 }",
            ]
        ),
        "{f: <\"a\": {n: 0, s: \"x\", o: NULL, r: []}, \"b\": {n: 0, s: \"\", o: NULL, r: []}>, \
         g: <-1: 2, 1: 1>}"
    );
}

#[test]
fn keys_of_big_maps_are_told_apart() {
    let schema = proto3("map<int32, int32> f = 1;");
    let decoder = plain(&schema, None).unwrap();
    let entries: Vec<String> = (0..100)
        .map(|n| format!("f {{ key: {} value: {n} }}", n % 40))
        .collect();
    let twice = joined(
        &schema,
        &entries.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let once = payload_of(&schema, "f { key: 1 value: 1 }");
    let (rows, bad) = decode(&decoder, &[Some(once.clone()), Some(twice), Some(once)]);
    assert_eq!(bad, []);
    assert_eq!(rows[0].to_string(), "{f: <1: 1>}");
    assert_eq!(rows[2], rows[0]);
    let Seen::Struct(members) = &rows[1] else {
        panic!("{}", rows[1])
    };
    let expected = (0..40)
        .map(|key| {
            (
                Seen::Int(key),
                Seen::Int(if key < 20 { key + 80 } else { key + 40 }),
            )
        })
        .collect();
    assert_eq!(members[0].1, Seen::Map(expected));
}

#[test]
fn parts_of_an_entry_may_come_in_any_order() {
    let schema = proto3("map<int32, string> f = 1;");
    let entry = |bytes: &[u8]| [&[0x0a, bytes.len() as u8], bytes].concat();
    let payload = entry(&[0x12, 1, b'x', 0x1a, 1, 0, 0x08, 1, 0x12, 1, b'y', 0x08, 2]);
    assert_eq!(row(&schema, &payload), "{f: <2: \"y\">}");
}

#[test]
fn unknown_fields_are_passed_over() {
    let schema = proto3("int32 f = 1;");
    let payload = [
        &[0x10, 0xff, 0x01][..],
        &[0x19, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0x22, 2, 0xff, 0xff],
        &[0x2b, 0x08, 9, 0x33, 0x34, 0x2c],
        &[0x3d, 1, 2, 3, 4],
        &[0x08, 5],
    ]
    .concat();
    assert_eq!(row(&schema, &payload), "{f: 5}");
}

#[test]
fn numbers_of_32_bits_take_the_lower_half() {
    let schema = proto3("int32 a = 1; uint32 b = 2; bool c = 3;");
    let payload = [
        &[0x08, 0x85, 0x80, 0x80, 0x80, 0x10][..],
        &[0x10, 0x85, 0x80, 0x80, 0x80, 0x10],
        &[0x18, 0x80, 0x80, 0x80, 0x80, 0x10],
    ]
    .concat();
    assert_eq!(row(&schema, &payload), "{a: 5, b: 5, c: true}");
}

#[test]
fn nothing_is_an_empty_message() {
    let schema = proto3("int32 f = 1; Inner g = 2;");
    assert_eq!(row(&schema, &[]), "{f: 0, g: NULL}");
}
