//! The Arrow type of each Avro type, and what its values look like.

use super::encode::{Datum, none, some, text};
use super::{decode, one, plain, row, rows};
use crate::decode::payload::PayloadDecoder;

/// Checks the Arrow type of a type, and the text of values.
fn golden(of: &str, datums: &[Datum], data_type: &str, values: &[&str]) {
    let decoder = plain(&one(of), None).unwrap();
    let payloads: Vec<_> = datums.iter().map(|d| Some(d.encode())).collect();
    let decoded = decode(&decoder, &payloads);
    assert_eq!(decoded.bad, [], "{of}");
    assert_eq!(
        decoder.fields()[0].data_type().to_string(),
        data_type,
        "{of}"
    );
    assert_eq!(rows(&decoded.columns), values, "{of}");
}

fn long(value: i64) -> Datum {
    Datum::Long(value)
}

#[test]
fn primitives() {
    golden(r#""null""#, &[Datum::Null], "Null", &["NULL"]);
    let booleans = [Datum::Boolean(true), Datum::Boolean(false)];
    golden(r#""boolean""#, &booleans, "Boolean", &["true", "false"]);
    let (least, most) = (i64::from(i32::MIN), i64::from(i32::MAX));
    let ints = [long(-1), long(least), long(most)];
    golden(
        r#""int""#,
        &ints,
        "Int32",
        &["-1", "-2147483648", "2147483647"],
    );
    golden(
        r#"{"type":"long"}"#,
        &[long(300), long(i64::MIN), long(i64::MAX)],
        "Int64",
        &["300", "-9223372036854775808", "9223372036854775807"],
    );
    golden(r#""float""#, &[Datum::Float(1.5)], "Float32", &["1.5"]);
    golden(
        r#""double""#,
        &[Datum::Double(f64::NAN)],
        "Float64",
        &["NaN"],
    );
    golden(
        r#""bytes""#,
        &[Datum::Bytes(vec![0, 255])],
        "Binary",
        &["00ff"],
    );
    golden(
        r#""string""#,
        &[text("žluť"), text("")],
        "Utf8",
        &["žluť", ""],
    );
    golden(
        r#"{"type":{"type":"string"}}"#,
        &[text("a")],
        "Utf8",
        &["a"],
    );
}

#[test]
fn named() {
    let suit = r#"{"type":"enum","name":"Suit","symbols":["CLUBS","HEARTS"]}"#;
    golden(suit, &[Datum::Enum(1)], "Utf8", &["HEARTS"]);
    let fixed = r#"{"type":"fixed","name":"F","size":3}"#;
    golden(
        fixed,
        &[Datum::Fixed(vec![1, 2, 3])],
        "FixedSizeBinary(3)",
        &["010203"],
    );
    let none = r#"{"type":"fixed","name":"F","size":0}"#;
    golden(none, &[Datum::Fixed(vec![])], "FixedSizeBinary(0)", &[""]);
    let long = r#"{"type":"fixed","name":"F","size":1025}"#;
    let shown = "07".repeat(1_025);
    golden(long, &[Datum::Fixed(vec![7; 1_025])], "Binary", &[&shown]);
}

#[test]
fn dates_and_times() {
    let of = |primitive: &str, logical: &str| {
        format!(r#"{{"type":"{primitive}","logicalType":"{logical}"}}"#)
    };
    golden(&of("int", "date"), &[long(-1)], "Date32", &["1969-12-31"]);
    golden(
        &of("int", "time-millis"),
        &[long(61_001)],
        "Time32(ms)",
        &["00:01:01.001"],
    );
    golden(
        &of("long", "time-micros"),
        &[long(86_399_999_999)],
        "Time64(µs)",
        &["23:59:59.999999"],
    );
    let moments = [
        ("millis", 1_500, "ms", "1970-01-01T00:00:01.500"),
        ("micros", 1_500_001, "µs", "1970-01-01T00:00:01.500001"),
        ("nanos", -1, "ns", "1969-12-31T23:59:59.999999999"),
    ];
    for (unit, value, shown, expected) in moments {
        golden(
            &of("long", &format!("timestamp-{unit}")),
            &[long(value)],
            &format!("Timestamp({shown}, \"UTC\")"),
            &[&format!("{expected}Z")],
        );
        golden(
            &of("long", &format!("local-timestamp-{unit}")),
            &[long(value)],
            &format!("Timestamp({shown})"),
            &[expected],
        );
    }
    let duration = r#"{"type":"fixed","name":"D","size":12,"logicalType":"duration"}"#;
    let value = [1u32, 2, 3_004].map(u32::to_le_bytes).concat();
    golden(
        duration,
        &[Datum::Fixed(value)],
        "Interval(MonthDayNano)",
        &["1 mons 2 days 3.004000000 secs"],
    );
}

#[test]
fn decimals() {
    let bytes = |precision, scale| {
        format!(
            r#"{{"type":"bytes","logicalType":"decimal","precision":{precision},"scale":{scale}}}"#
        )
    };
    let values = [vec![0x04, 0xd2], vec![0xff], vec![], vec![0; 40]].map(Datum::Bytes);
    golden(
        &bytes(6, 2),
        &values,
        "Decimal128(6, 2)",
        &["12.34", "-0.01", "0.00", "0.00"],
    );
    golden(
        &bytes(40, 2),
        &values,
        "Decimal256(40, 2)",
        &["12.34", "-0.01", "0.00", "0.00"],
    );
    golden(
        r#"{"type":"bytes","logicalType":"decimal","precision":4}"#,
        &[Datum::Bytes(vec![0xff; 40])],
        "Decimal128(4, 0)",
        &["-1"],
    );
    golden(
        r#"{"type":"fixed","name":"F","size":4,"logicalType":"decimal","precision":9,"scale":9}"#,
        &[Datum::Fixed(vec![0xff, 0xff, 0xff, 0xfe])],
        "Decimal128(9, 9)",
        &["-0.000000002"],
    );
}

#[test]
fn uuids_are_text() {
    let value = "12345678-9abc-def0-1234-56789abcdef0";
    golden(
        r#"{"type":"string","logicalType":"uuid"}"#,
        &[text(value)],
        "Utf8",
        &[value],
    );
    golden(
        r#"{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}"#,
        &[Datum::Fixed(
            0x1234_5678_9abc_def0_1234_5678_9abc_def0_u128
                .to_be_bytes()
                .to_vec(),
        )],
        "Utf8",
        &[value],
    );
}

#[test]
fn logical_types_that_do_not_fit_are_passed_over() {
    golden(
        r#"{"type":"long","logicalType":"date"}"#,
        &[long(1)],
        "Int64",
        &["1"],
    );
    golden(
        r#"{"type":"string","logicalType":"money"}"#,
        &[text("1")],
        "Utf8",
        &["1"],
    );
    golden(
        r#"{"type":"string","logicalType":5}"#,
        &[text("1")],
        "Utf8",
        &["1"],
    );
    for decimal in [
        r#"{"type":"bytes","logicalType":"decimal"}"#,
        r#"{"type":"bytes","logicalType":"decimal","precision":2,"scale":3}"#,
        r#"{"type":"bytes","logicalType":"decimal","precision":77}"#,
    ] {
        golden(decimal, &[Datum::Bytes(vec![1])], "Binary", &["01"]);
    }
    golden(
        r#"{"type":"fixed","name":"F","size":2,"logicalType":"decimal","precision":5}"#,
        &[Datum::Fixed(vec![1, 2])],
        "FixedSizeBinary(2)",
        &["0102"],
    );
}

#[test]
fn nested() {
    golden(
        r#"{"type":"array","items":"int"}"#,
        &[
            Datum::Array(vec![long(1), long(2), long(3)]),
            Datum::Array(vec![]),
        ],
        "List(Int32)",
        &["[1, 2, 3]", "[]"],
    );
    golden(
        r#"{"type":"map","values":"long"}"#,
        &[Datum::Map(vec![
            ("a".to_owned(), long(1)),
            ("b".to_owned(), long(2)),
        ])],
        r#"Map("entries": non-null Struct("key": non-null Utf8, "value": Int64), unsorted)"#,
        &["{a: 1, b: 2}"],
    );
    let point = r#"{"type":"record","name":"P","fields":[
        {"name":"x","type":"int"},{"name":"y","type":["null","string"]}]}"#;
    golden(
        point,
        &[
            Datum::Record(vec![long(1), some(text("a"))]),
            Datum::Record(vec![long(2), none()]),
        ],
        r#"Struct("x": Int32, "y": Utf8)"#,
        &["{x: 1, y: a}", "{x: 2, y: NULL}"],
    );
    golden(
        r#"{"type":"record","name":"Nothing","fields":[]}"#,
        &[Datum::Record(vec![])],
        "Struct()",
        &["{}"],
    );
}

#[test]
fn unions() {
    golden(
        r#"["null","int"]"#,
        &[none(), some(long(1))],
        "Int32",
        &["NULL", "1"],
    );
    let first = |datum| Datum::Union(0, Box::new(datum));
    golden(
        r#"["int","null"]"#,
        &[first(long(1)), some(Datum::Null)],
        "Int32",
        &["1", "NULL"],
    );
    golden(r#"["string"]"#, &[first(text("a"))], "Utf8", &["a"]);
    golden(r#"["null"]"#, &[none()], "Null", &["NULL"]);
    golden(
        r#"["null","string",{"type":"long","logicalType":"timestamp-millis"}]"#,
        &[none(), some(text("a")), Datum::Union(2, Box::new(long(0)))],
        r#"Struct("string": Utf8, "long": Timestamp(ms, "UTC"))"#,
        &[
            "NULL",
            "{string: a, long: NULL}",
            "{string: NULL, long: 1970-01-01T00:00:00Z}",
        ],
    );
}

#[test]
fn branches_of_one_short_name_have_full_ones() {
    let record = |name: &str| format!(r#"{{"type":"record","name":"{name}","fields":[]}}"#);
    let union = format!("[{},{},{}]", record("a.X"), record("b.X"), record("b.Y"));
    golden(
        &union,
        &[Datum::Union(1, Box::new(Datum::Record(vec![])))],
        r#"Struct("a.X": Struct(), "b.X": Struct(), "Y": Struct())"#,
        &["{a.X: NULL, b.X: {}, Y: NULL}"],
    );
}

#[test]
fn values_that_no_column_holds_are_bad() {
    let bad = |of: &str, datum: &Datum| {
        let decoder = plain(&one(of), None).unwrap();
        let bad = row(&decoder, datum.encode()).unwrap_err();
        (bad.class, bad.message)
    };
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":3,"scale":1}"#;
    let many = "field 'x': a decimal has more digits than a column of 3,1 holds".to_owned();
    assert_eq!(
        bad(decimal, &Datum::Bytes(vec![0x03, 0xe8])),
        ("type", many.clone())
    );
    assert_eq!(bad(decimal, &Datum::Bytes(vec![1; 99])), ("type", many));
    let time = r#"{"type":"int","logicalType":"time-millis"}"#;
    let no_time = |value| format!("field 'x': {value} is no time of a day");
    assert_eq!(bad(time, &long(-1)), ("type", no_time(-1)));
    assert_eq!(bad(time, &long(86_400_000)), ("type", no_time(86_400_000)));
    let duration = r#"{"type":"fixed","name":"D","size":12,"logicalType":"duration"}"#;
    let value = Datum::Fixed(vec![0xff; 12]);
    let (class, message) = bad(duration, &value);
    assert_eq!(class, "type");
    assert!(message.contains("is no interval"), "{message}");
}
