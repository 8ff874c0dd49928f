//! Declared columns: which fit, which do not, and the messages.

use arrow::datatypes::{DataType, Field, TimeUnit};

use super::*;

const FIELDS: &str = "int32 i = 1; uint32 u = 2; int64 l = 3; uint64 ul = 4; float f = 5; \
    string s = 6; bytes b = 7; Colour e = 8; google.protobuf.Timestamp t = 9; Inner m = 10; \
    repeated uint32 r = 11; map<string, Inner> p = 12; google.protobuf.Int32Value w = 13; \
    bool o = 14; google.protobuf.Duration d = 15;";

const MESSAGE: &str = "i: -1 u: 4294967295 l: 3 ul: 4 f: 0.5 s: 's' b: 'b' e: GREEN \
    t { seconds: 1 nanos: 1234 } m { n: 1 s: 'x' r: [1] } r: 7 p { key: 'k' value { n: 2 } } \
    w { value: 13 } o: true d { seconds: 1 }";

fn declared(fields: Vec<(&str, DataType)>) -> Fields {
    let fields = fields.into_iter().map(|(n, t)| Field::new(n, t, true));
    fields.collect::<Vec<_>>().into()
}

fn read(fields: Vec<(&str, DataType)>) -> Result<String> {
    let schema = proto3(FIELDS);
    let fields = declared(fields);
    let decoder = plain(&schema, Some(&fields))?;
    let (rows, bad) = decode(&decoder, &[Some(payload_of(&schema, MESSAGE))]);
    assert_eq!(bad, []);
    for (built, declared) in decoder.fields().iter().zip(&fields) {
        assert_eq!(built.name(), declared.name());
        assert_eq!(built.data_type(), declared.data_type());
    }
    Ok(rows[0].to_string())
}

fn refused(name: &str, data_type: DataType) -> String {
    read(vec![(name, data_type)]).unwrap_err().to_string()
}

fn struct_of(fields: Vec<(&str, DataType)>) -> DataType {
    DataType::Struct(declared(fields))
}

fn map_of(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![
        Field::new("keys", key, false),
        Field::new("values", value, true),
    ]);
    let entries = Field::new("key_value", DataType::Struct(entries), false);
    DataType::Map(Arc::new(entries), false)
}

#[test]
fn a_selection_in_the_declared_order() {
    use DataType::{Int32, Utf8};
    assert_eq!(
        read(vec![("s", Utf8), ("i", Int32)]).unwrap(),
        "{s: \"s\", i: -1}"
    );
    assert_eq!(read(vec![]).unwrap(), "{}");
}

#[test]
fn wider_types_fit() {
    use DataType::{BinaryView, Float64, Int64, UInt64, Utf8View};
    for (name, data_type, expected) in [
        ("i", Int64, "-1"),
        ("i", Float64, "-1.0"),
        ("w", Int64, "13"),
        ("u", UInt64, "4294967295"),
        ("u", Int64, "4294967295"),
        ("f", Float64, "0.5"),
        ("s", Utf8View, "\"s\""),
        ("e", Utf8View, "\"GREEN\""),
        ("b", BinaryView, "x[62]"),
        ("r", DataType::new_list(Int64, true), "[7]"),
        (
            "t",
            DataType::Timestamp(TimeUnit::Microsecond, None),
            "1000001",
        ),
        (
            "t",
            DataType::Timestamp(TimeUnit::Nanosecond, None),
            "1000001234",
        ),
        (
            "t",
            DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into())),
            "1000001234",
        ),
        (
            "m",
            struct_of(vec![("r", DataType::new_list(Int64, true)), ("N", Int64)]),
            "{r: [1], N: 1}",
        ),
        (
            "p",
            map_of(Utf8View, struct_of(vec![("n", Int64)])),
            "<\"k\": {n: 2}>",
        ),
    ] {
        let found = read(vec![(name, data_type)]).unwrap();
        assert_eq!(found, format!("{{{name}: {expected}}}"));
    }
}

#[test]
fn what_does_not_fit_names_the_column_and_the_type() {
    use DataType::{Int32, Int64, Utf8};
    for (name, data_type, expected) in [
        (
            "l",
            Int32,
            "column 'l': INT does not hold every value of the field, which is int64; \
             declare it as BIGINT",
        ),
        (
            "ul",
            Int64,
            "column 'ul': BIGINT does not hold every value of the field, which is uint64; \
             declare it as BIGINT UNSIGNED",
        ),
        (
            "e",
            Int32,
            "column 'e': INT does not hold every value of the field, which is the enum Colour; \
             declare it as VARCHAR",
        ),
        (
            "t",
            DataType::Timestamp(TimeUnit::Millisecond, None),
            "column 't': TIMESTAMP does not hold every value of the field, which is \
             google.protobuf.Timestamp; declare it as TIMESTAMP WITH TIME ZONE",
        ),
        (
            "m",
            Utf8,
            "column 'm': VARCHAR does not hold every value of the field, which is Inner; \
             declare it as STRUCT<n INT, s VARCHAR, o INT, r INT[]>",
        ),
        (
            "m",
            struct_of(vec![("s", Int32)]),
            "column 'm.s': INT does not hold every value of the field, which is string; \
             declare it as VARCHAR",
        ),
        (
            "r",
            Int64,
            "column 'r': BIGINT does not hold every value of the field, which is repeated uint32; \
             declare it as INT UNSIGNED[]",
        ),
        (
            "p",
            Utf8,
            "column 'p': VARCHAR does not hold every value of the field, which is a map; \
             declare it as MAP<VARCHAR, STRUCT<n INT, s VARCHAR, o INT, r INT[]>>",
        ),
        (
            "p",
            map_of(Int64, struct_of(vec![])),
            "column 'p': BIGINT does not hold every value of the field, which is a map; \
             declare it as VARCHAR",
        ),
    ] {
        assert_eq!(refused(name, data_type), expected);
    }
}

#[test]
fn names_match_exactly_or_alone() {
    use DataType::Int32;
    let schema = proto2("optional int32 aa = 1; optional int32 aA = 2; optional int32 Bb = 3;");
    let message = payload_of(&schema, "aa: 1 aA: 2 Bb: 3");
    let read = |names: &[&str]| {
        let fields = declared(names.iter().map(|n| (*n, Int32)).collect());
        let decoder = plain(&schema, Some(&fields)).map_err(|e| e.to_string())?;
        let (rows, _) = decode(&decoder, &[Some(message.clone())]);
        Ok::<_, String>(rows[0].to_string())
    };
    assert_eq!(read(&["aA", "bb"]).unwrap(), "{aA: 2, bb: 3}");
    assert_eq!(
        read(&["AA"]).unwrap_err(),
        "column 'AA': message 'M' has no field 'AA'; did you mean 'aA'?"
    );
    assert_eq!(
        read(&["Bb", "bb"]).unwrap_err(),
        "column 'bb': field 'Bb' of message 'M' is declared twice; leave one out"
    );
    assert_eq!(
        read(&["zzz"]).unwrap_err(),
        "column 'zzz': message 'M' has no field 'zzz'; its fields are aa, aA, Bb"
    );
}

#[test]
fn nanoseconds_end_earlier_than_timestamps() {
    let schema = proto3("google.protobuf.Timestamp t = 1;");
    let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let decoder = plain(&schema, Some(&declared(vec![("t", nanos)]))).unwrap();
    let payload = payload_of(&schema, "t { seconds: 253402300799 }");
    let (rows, bad) = decode(&decoder, &[Some(payload)]);
    assert_eq!(rows[0].to_string(), "{t: NULL}");
    assert_eq!(bad[0].class, "range");
    assert_eq!(
        bad[0].message,
        "field 't': the timestamp does not fit in nanoseconds, which end in the year 2262"
    );
}

#[test]
fn undeclared_fields_are_passed_over() {
    let schema = proto3("int32 a = 1; string b = 2; Inner c = 3;");
    let fields = declared(vec![("a", DataType::Int32)]);
    let decoder = plain(&schema, Some(&fields)).unwrap();
    let (rows, bad) = decode(&decoder, &[Some(vec![0x12, 1, 0xff, 0x18, 0, 0x08, 7])]);
    assert_eq!((rows[0].to_string().as_str(), bad), ("{a: 7}", vec![]));
}

#[test]
fn recursion_is_refused_where_it_is_declared() {
    let schema = schema(
        "syntax = \"proto3\";
         message Node { int32 n = 1; Tree tree = 2; }
         message Tree { repeated Node nodes = 1; }
         message M { int32 a = 1; Tree tree = 2; }",
    );
    assert_eq!(
        plain(&schema, None).unwrap_err().to_string(),
        "message 'Tree' contains itself at field 'tree.nodes.tree' (Tree > Node > Tree): no column \
         type can do that; declare the columns that you want, without this field"
    );
    let nodes = DataType::new_list(struct_of(vec![("n", DataType::Int32)]), true);
    let fields = declared(vec![("tree", struct_of(vec![("nodes", nodes)]))]);
    let decoder = plain(&schema, Some(&fields)).unwrap();
    let payload = payload_of(&schema, "tree { nodes { n: 1 tree { nodes { n: 2 } } } }");
    let (rows, bad) = decode(&decoder, &[Some(payload)]);
    assert_eq!(bad, []);
    assert_eq!(rows[0].to_string(), "{tree: {nodes: [{n: 1}]}}");
}

#[test]
fn recursive_well_known_types_are_refused() {
    let error = plain(&proto3("google.protobuf.Struct f = 1;"), None);
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("(google.protobuf.Struct > google.protobuf.Value > google.protobuf.Struct)"),
        "{error}"
    );
}

#[test]
fn messages_that_grow_without_end_are_refused() {
    let mut text = String::from("syntax = \"proto3\"; message M { M1 a = 1; M1 b = 2; }");
    for n in 1..40 {
        let next = n + 1;
        text += &format!(" message M{n} {{ M{next} a = 1; M{next} b = 2; }}");
    }
    text += " message M40 { int32 n = 1; }";
    assert_eq!(
        plain(&schema(&text), None).unwrap_err().to_string(),
        "the message has more than 10000 fields, those of messages inside it included; \
         declare the columns that you want"
    );
    let mut text = String::from("syntax = \"proto3\"; message M { M1 a = 1; }");
    for n in 1..110 {
        text += &format!(" message M{n} {{ M{} a = 1; }}", n + 1);
    }
    text += " message M110 { int32 n = 1; }";
    let error = plain(&schema(&text), None).unwrap_err().to_string();
    assert!(
        error.starts_with("messages are nested more than 100 deep"),
        "{error}"
    );
}
