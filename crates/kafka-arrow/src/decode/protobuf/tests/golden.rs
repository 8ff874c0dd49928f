//! For each type: its Arrow type, a value, and what absence means.

use arrow::datatypes::DataType;

use super::*;

/// Checks the column of `f`: its type, and the values of messages in text format.
fn check(schema: &ProtobufSchema, data_type: &str, values: &[(&str, &str)]) {
    let decoder = plain(schema, None).unwrap();
    let field = decoder.fields().find("f").unwrap().1;
    assert!(field.is_nullable());
    assert_eq!(field.data_type().to_string(), data_type);
    for (message, expected) in values {
        let found = row(schema, &payload_of(schema, message));
        assert_eq!(found, format!("{{f: {expected}}}"), "{message:?}");
    }
    let (rows, bad) = decode(&decoder, &[None]);
    assert_eq!((rows[0].to_string().as_str(), bad), ("{f: NULL}", vec![]));
}

macro_rules! scalars {
    ($($name:ident: $type:literal, $arrow:literal, $default:literal, [$(($text:literal, $value:literal)),*];)*) => {
        $(
            #[test]
            fn $name() {
                let values = [$(($text, $value)),*];
                let with = |format: &str, empty: (&str, &str)| {
                    let mut all: Vec<(String, String)> = vec![(empty.0.into(), empty.1.into())];
                    for (text, value) in values {
                        all.push((format!("f: {text}"), format.replace("_", value)));
                    }
                    all
                };
                let check = |schema: &ProtobufSchema, arrow: &str, values: Vec<(String, String)>| {
                    let values: Vec<(&str, &str)> =
                        values.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
                    super::golden::check(schema, arrow, &values);
                };
                let optional = concat!("optional ", $type, " f = 1;");
                check(&proto3(concat!($type, " f = 1;")), $arrow, with("_", ("", $default)));
                check(&proto3(optional), $arrow, with("_", ("", "NULL")));
                check(&proto2(optional), $arrow, with("_", ("", "NULL")));
                for repeated in [
                    proto3(concat!("repeated ", $type, " f = 1;")),
                    proto2(concat!("repeated ", $type, " f = 1;")),
                ] {
                    let arrow = format!("List({})", $arrow);
                    check(&repeated, &arrow, with("[_]", ("", "[]")));
                }
                let map = concat!("map<int32, ", $type, "> f = 1;");
                let arrow = format!(
                    "Map(\"entries\": non-null Struct(\"key\": non-null Int32, \"value\": {}), unsorted)",
                    $arrow
                );
                check(&proto3(map), &arrow, vec![
                    (String::new(), "<>".into()),
                    ("f { key: 4 } f { }".into(), format!("<0: {0}, 4: {0}>", $default)),
                ]);
            }
        )*
    };
}

scalars! {
    int32: "int32", "Int32", "0", [("-2147483648", "-2147483648"), ("2147483647", "2147483647")];
    sint32: "sint32", "Int32", "0", [("-2147483648", "-2147483648"), ("2147483647", "2147483647")];
    sfixed32: "sfixed32", "Int32", "0", [("-2147483648", "-2147483648"), ("7", "7")];
    int64: "int64", "Int64", "0", [("-9223372036854775808", "-9223372036854775808"), ("7", "7")];
    sint64: "sint64", "Int64", "0", [("-9223372036854775808", "-9223372036854775808"), ("7", "7")];
    sfixed64: "sfixed64", "Int64", "0", [("-9223372036854775808", "-9223372036854775808")];
    uint32: "uint32", "UInt32", "0", [("4294967295", "4294967295")];
    fixed32: "fixed32", "UInt32", "0", [("4294967295", "4294967295")];
    uint64: "uint64", "UInt64", "0", [("18446744073709551615", "18446744073709551615")];
    fixed64: "fixed64", "UInt64", "0", [("18446744073709551615", "18446744073709551615")];
    float: "float", "Float32", "0.0", [("-1.5", "-1.5"), ("inf", "inf"), ("nan", "NaN")];
    double: "double", "Float64", "0.0", [("0.1", "0.1"), ("-inf", "-inf"), ("nan", "NaN")];
    boolean: "bool", "Boolean", "false", [("true", "true")];
    string: "string", "Utf8", "\"\"", [("'grüße'", "\"grüße\"")];
    bytes: "bytes", "Binary", "x[]", [("'\\xff\\x00'", "x[ff, 00]")];
}

#[test]
fn enums_are_names() {
    let values = [
        ("", "\"RED\""),
        ("f: GREEN", "\"GREEN\""),
        ("f: BLUE", "\"BLUE\""),
    ];
    check(&proto3("Colour f = 1;"), "Utf8", &values);
    let values = [("", "NULL"), ("f: RED", "\"RED\"")];
    check(&proto3("optional Colour f = 1;"), "Utf8", &values);
    check(&proto2("optional Colour f = 1;"), "Utf8", &values);
    let values = [("", "[]"), ("f: [BLUE, RED]", "[\"BLUE\", \"RED\"]")];
    check(&proto3("repeated Colour f = 1;"), "List(Utf8)", &values);
    // The first value is the default, even where its number is not 0.
    let map = proto2("map<int32, Colour> f = 1;");
    assert_eq!(
        row(&map, &payload_of(&map, "f { key: 1 }")),
        "{f: <1: \"GREEN\">}"
    );
}

#[test]
fn unknown_numbers_of_enums_are_their_text() {
    let schema = proto3("Colour f = 1;");
    assert_eq!(row(&schema, &[8, 42]), "{f: \"42\"}");
    let minus_one = [8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
    assert_eq!(row(&schema, &minus_one), "{f: \"-1\"}");
    // Proto2 enums are closed, so other readers would hide the value.
    assert_eq!(
        row(&proto2("optional Colour f = 1;"), &[8, 42]),
        "{f: \"42\"}"
    );
}

#[test]
fn of_several_names_the_first_counts() {
    let schema = schema(
        "syntax = \"proto3\";
         enum E { option allow_alias = true; A = 0; B = 1; C = 1; D = 0; }
         message M { E f = 1; E g = 2; }",
    );
    assert_eq!(row(&schema, &[16, 1]), "{f: \"A\", g: \"B\"}");
}

#[test]
fn messages_are_structs() {
    let arrow = "Struct(\"n\": Int32, \"s\": Utf8, \"o\": Int32, \"r\": List(Int32))";
    check(
        &proto3("Inner f = 1;"),
        arrow,
        &[
            ("", "NULL"),
            ("f { }", "{n: 0, s: \"\", o: NULL, r: []}"),
            (
                "f { n: 1 s: 'x' o: 2 r: [3, 4] }",
                "{n: 1, s: \"x\", o: 2, r: [3, 4]}",
            ),
        ],
    );
    check(
        &proto3("repeated Inner f = 1;"),
        &format!("List({arrow})"),
        &[
            ("", "[]"),
            (
                "f { r: [1] } f { }",
                "[{n: 0, s: \"\", o: NULL, r: [1]}, {n: 0, s: \"\", o: NULL, r: []}]",
            ),
        ],
    );
}

#[test]
fn values_of_maps_are_never_null() {
    let schema = proto3("map<string, Inner> f = 1;");
    assert_eq!(
        row(
            &schema,
            &payload_of(&schema, "f { key: 'a' } f { key: 'b' value { n: 1 } }")
        ),
        "{f: <\"a\": {n: 0, s: \"\", o: NULL, r: []}, \"b\": {n: 1, s: \"\", o: NULL, r: []}>}"
    );
    let schema = proto3("map<bool, google.protobuf.Timestamp> f = 1;");
    assert_eq!(
        row(&schema, &payload_of(&schema, "f { key: true }")),
        "{f: <true: 0>}"
    );
    let schema = proto3("map<bool, google.protobuf.StringValue> f = 1;");
    assert_eq!(
        row(&schema, &payload_of(&schema, "f { key: true }")),
        "{f: <true: \"\">}"
    );
}

#[test]
fn groups_are_structs() {
    let group = "group F = 1 { optional int32 n = 1; }";
    // A group's field has the group's name in lower case.
    check(
        &proto2(&format!("optional {group}")),
        "Struct(\"n\": Int32)",
        &[
            ("", "NULL"),
            ("F { }", "{n: NULL}"),
            ("F { n: 1 }", "{n: 1}"),
        ],
    );
    check(
        &proto2(&format!("repeated {group}")),
        "List(Struct(\"n\": Int32))",
        &[("", "[]"), ("F { } F { n: 1 }", "[{n: NULL}, {n: 1}]")],
    );
}

#[test]
fn oneofs_are_a_column_a_member() {
    let schema = proto3("oneof choice { int32 a = 1; string b = 2; Inner c = 3; }");
    for (message, expected) in [
        ("", "{a: NULL, b: NULL, c: NULL}"),
        ("a: 0", "{a: 0, b: NULL, c: NULL}"),
        ("b: 'x'", "{a: NULL, b: \"x\", c: NULL}"),
        (
            "c { }",
            "{a: NULL, b: NULL, c: {n: 0, s: \"\", o: NULL, r: []}}",
        ),
    ] {
        assert_eq!(row(&schema, &payload_of(&schema, message)), expected);
    }
}

#[test]
fn timestamps_are_microseconds() {
    check(
        &proto3("google.protobuf.Timestamp f = 1;"),
        "Timestamp(µs, \"UTC\")",
        &[
            ("", "NULL"),
            ("f { }", "0"),
            ("f { seconds: 1 nanos: 2999 }", "1000002"),
            ("f { seconds: -1 nanos: 999999999 }", "-1"),
            (
                "f { seconds: 253402300799 nanos: 999999999 }",
                "253402300799999999",
            ),
        ],
    );
}

#[test]
fn durations_are_microseconds() {
    check(
        &proto3("google.protobuf.Duration f = 1;"),
        "Duration(µs)",
        &[
            ("", "NULL"),
            ("f { }", "0"),
            ("f { seconds: -1 nanos: -500000000 }", "-1500000"),
            ("f { nanos: -1999 }", "-1"),
        ],
    );
}

#[test]
fn wrappers_are_nullable_scalars() {
    for (name, arrow, default, text, value) in [
        ("DoubleValue", "Float64", "0.0", "0.5", "0.5"),
        ("FloatValue", "Float32", "0.0", "0.5", "0.5"),
        ("Int64Value", "Int64", "0", "-1", "-1"),
        ("UInt64Value", "UInt64", "0", "1", "1"),
        ("Int32Value", "Int32", "0", "-1", "-1"),
        ("UInt32Value", "UInt32", "0", "1", "1"),
        ("BoolValue", "Boolean", "false", "true", "true"),
        ("StringValue", "Utf8", "\"\"", "'x'", "\"x\""),
        ("BytesValue", "Binary", "x[]", "'x'", "x[78]"),
    ] {
        check(
            &proto3(&format!("google.protobuf.{name} f = 1;")),
            arrow,
            &[
                ("", "NULL"),
                ("f { }", default),
                (&format!("f {{ value: {text} }}"), value),
            ],
        );
        check(
            &proto3(&format!("repeated google.protobuf.{name} f = 1;")),
            &format!("List({arrow})"),
            &[("f { }", &format!("[{default}]"))],
        );
    }
}

#[test]
fn other_well_known_types_are_messages() {
    check(
        &proto3("google.protobuf.Any f = 1;"),
        "Struct(\"type_url\": Utf8, \"value\": Binary)",
        &[("", "NULL")],
    );
    check(
        &proto3("google.protobuf.Empty f = 1;"),
        "Struct()",
        &[("", "NULL"), ("f { }", "{}")],
    );
}

#[test]
fn explicit_defaults_stay_null() {
    check(
        &proto2("optional int32 f = 1 [default = 42];"),
        "Int32",
        &[("", "NULL"), ("f: 42", "42")],
    );
    check(&proto2("required int32 f = 1;"), "Int32", &[("", "NULL")]);
}

#[test]
fn a_message_without_fields_has_no_columns() {
    let decoder = plain(&proto3(""), None).unwrap();
    assert!(decoder.fields().is_empty());
    let (rows, bad) = decode(&decoder, &[Some(vec![8, 1]), Some(vec![8])]);
    assert_eq!((rows.len(), bad.len()), (2, 1));
}

#[test]
fn big_numbers_of_fields_are_found() {
    let schema = proto3("int32 a = 255; int32 b = 256; int32 c = 536870911; int32 d = 1;");
    let payload = payload_of(&schema, "a: 1 b: 2 c: 3 d: 4");
    assert_eq!(row(&schema, &payload), "{a: 1, b: 2, c: 3, d: 4}");
}

#[test]
fn items_of_lists_may_be_null_to_arrow() {
    let decoder = plain(&proto3("repeated int32 f = 1;"), None).unwrap();
    assert_eq!(
        decoder.fields()[0].data_type(),
        &DataType::new_list(DataType::Int32, true)
    );
}
