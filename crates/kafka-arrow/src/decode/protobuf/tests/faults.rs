//! Payloads that do not decode, and the messages about them.

use super::*;

#[test]
fn wire_types_must_be_those_of_the_schema() {
    let schema = proto3("int32 a = 1; string b = 2; Inner c = 3; repeated string d = 4;");
    for (payload, expected) in [
        (
            &[0x0d, 1, 2, 3, 4][..],
            "type: field 'a': found 4 bytes, where the schema has a varint",
        ),
        (
            &[0x10, 1],
            "type: field 'b': found a varint, where the schema has bytes of a given length",
        ),
        (
            &[0x1a, 2, 0x10, 1],
            "type: field 'c.s': found a varint, where the schema has bytes of a given length",
        ),
        (
            &[0x1b, 0x1c],
            "type: field 'c': found a group, where the schema has bytes of a given length",
        ),
        (
            &[0x20, 1],
            "type: field 'd': found a varint, where the schema has bytes of a given length",
        ),
    ] {
        assert_eq!(fault(&schema, payload), expected);
    }
}

#[test]
fn text_must_be_utf8_in_both_syntaxes() {
    let payload = [0x0a, 1, 0xff];
    let expected = "type: field 'f': the text is not UTF-8";
    assert_eq!(fault(&proto3("string f = 1;"), &payload), expected);
    assert_eq!(fault(&proto2("optional string f = 1;"), &payload), expected);
    let schema = proto3("map<string, string> f = 1;");
    let payload = [0x0a, 3, 0x0a, 1, 0xff];
    let expected = "type: field 'f.key': the text is not UTF-8";
    assert_eq!(fault(&schema, &payload), expected);
}

#[test]
fn syntax_is_checked_within_skipped_values_too() {
    let schema = proto3("int32 f = 1;");
    for (payload, expected) in [
        (
            &[0x08][..],
            "syntax: field 'f': the bytes end within a value",
        ),
        (&[0x80], "syntax: the bytes end within a value"),
        (&[0x12, 5, 1], "syntax: the bytes end within a value"),
        (&[0x00, 1], "syntax: there is no field number 0"),
        (&[0x0f], "syntax: there is no wire type 7"),
        (&[0x0c], "syntax: a group ends that is not open"),
        (&[0x13, 0x1c], "syntax: a group ends that is not open"),
        (
            &[0xff, 0xff, 0xff, 0xff, 0x7f],
            "syntax: a tag has more than 32 bits",
        ),
        (
            &[
                0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
            ],
            "syntax: the bytes end within a value",
        ),
    ] {
        assert_eq!(fault(&schema, payload), expected, "{payload:x?}");
    }
}

#[test]
fn groups_end_as_they_began() {
    let schema = proto2("optional group F = 1 { optional int32 n = 1; }");
    assert_eq!(
        fault(&schema, &[0x0b, 0x08, 1]),
        "syntax: field 'f': the bytes end within a value"
    );
    assert_eq!(
        fault(&schema, &[0x0b, 0x14]),
        "syntax: field 'f': a group ends that is not open"
    );
    assert_eq!(
        fault(&schema, &[0x0a, 0]),
        "type: field 'f': found bytes of a given length, where the schema has a group"
    );
}

#[test]
fn times_have_ranges() {
    let schema =
        proto3("google.protobuf.Timestamp t = 1; repeated google.protobuf.Duration d = 2;");
    assert_eq!(
        fault(&schema, &payload_of(&schema, "t { seconds: 253402300800 }")),
        "range: field 't': the timestamp is not between the years 1 and 9999"
    );
    assert_eq!(
        fault(
            &schema,
            &payload_of(&schema, "d { } d { seconds: 1 nanos: -1 }")
        ),
        "range: field 'd': the duration is invalid or longer than 10,000 years"
    );
    assert_eq!(
        fault(&schema, &[0x0a, 2, 0x0a, 0]),
        "type: field 't.seconds': found bytes of a given length, where the schema has a varint"
    );
}

#[test]
fn packed_lists_end_at_an_element() {
    let schema = proto3("repeated fixed32 f = 1; repeated int32 g = 2;");
    assert_eq!(
        fault(&schema, &[0x0a, 5, 1, 2, 3, 4, 5]),
        "syntax: field 'f': the bytes end within a value"
    );
    assert_eq!(
        fault(&schema, &[0x12, 2, 1, 0x80]),
        "syntax: field 'g': the bytes end within a value"
    );
}

/// A message with every kind of column, whose last field is broken.
#[test]
fn bad_rows_leave_nothing_behind() {
    let schema = proto3(
        "int32 a = 1; string b = 2; repeated Inner c = 3; map<string, Inner> d = 4;
         oneof o { Inner e = 5; bool f = 6; } google.protobuf.Timestamp g = 7; Colour h = 8;
         repeated string i = 9; google.protobuf.StringValue j = 10; repeated bool k = 11;",
    );
    let full = payload_of(
        &schema,
        "a: 1 b: 'b' c { r: [1, 2] } c { s: 'x' } d { key: 'k' value { r: 3 } } e { n: 4 }
         g { seconds: 1 } h: BLUE i: ['x', 'y'] j { value: 'z' } k: [true, false]",
    );
    let broken = [&full[..], &[0x08]].concat();
    let decoder = plain(&schema, None).unwrap();
    let payloads = [
        Some(full.clone()),
        Some(broken.clone()),
        Some(broken),
        Some(full.clone()),
        None,
        Some(Vec::new()),
        Some(full),
    ];
    let (rows, bad) = decode(&decoder, &payloads);
    let bad: Vec<usize> = bad.iter().map(|b| b.row).collect();
    assert_eq!(bad, [1, 2]);
    assert_eq!(rows[3], rows[0]);
    assert_eq!(rows[6], rows[0]);
    assert_eq!(rows[1], rows[4]);
    assert_eq!(
        rows[5].to_string(),
        "{a: 0, b: \"\", c: [], d: <>, e: NULL, f: NULL, g: NULL, h: \"RED\", i: [], j: NULL, k: []}"
    );
}

#[test]
fn unwanted_fields_are_checked_only_on_request() {
    let schema = proto3("int32 a = 1; string b = 2; Inner c = 3;");
    let decoder = plain(&schema, None).unwrap();
    let payloads = BinaryViewArray::from_iter([
        Some(&[0x08, 1][..]),
        Some(&[0x08, 2, 0x12, 1, 0xff]),
        Some(&[0x1a, 2, 0x12, 0, 0x08, 3]),
        Some(&[0x1a, 2, 0x10, 0, 0x08, 4]),
        Some(&[0x1a, 3, 0x08, 5]),
    ]);
    let bad = |check_all| {
        let wanted = Wanted {
            fields: &[0],
            check_all,
            schema_ids: true,
        };
        let decoded = decoder.decode(&payloads, &wanted).unwrap();
        assert_eq!(decoded.columns.len(), 1);
        assert_eq!(decoded.columns[0].null_count(), decoded.bad.len());
        assert_eq!(decoded.schema_ids.unwrap().null_count(), payloads.len());
        let told = decoded.bad.iter().map(|b| (b.row, b.class));
        told.collect::<Vec<_>>()
    };
    assert_eq!(bad(true), [(1, "type"), (3, "type"), (4, "syntax")]);
    assert_eq!(bad(false), [(4, "syntax")]);
}

#[test]
fn wanted_fields_come_in_their_order() {
    let schema = proto3("int32 a = 1; string b = 2; bool c = 3;");
    let decoder = plain(&schema, None).unwrap();
    let payloads = BinaryViewArray::from_iter([Some(payload_of(&schema, "a: 1 b: 'x' c: true"))]);
    let wanted = Wanted {
        fields: &[2, 0],
        check_all: true,
        schema_ids: false,
    };
    let decoded = decoder.decode(&payloads, &wanted).unwrap();
    let seen: Vec<_> = decoded
        .columns
        .iter()
        .map(|c| Seen::from_arrow(c, 0).to_string())
        .collect();
    assert_eq!(seen, ["true", "1"]);
}
