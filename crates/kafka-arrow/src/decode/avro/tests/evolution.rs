//! Values written with one schema and read with another.

use super::encode::{Datum, none, some, text};
use super::{one, plain, read_as};

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
}

fn long(value: i64) -> Datum {
    Datum::Long(value)
}

fn in_record(datum: Datum) -> Datum {
    Datum::Record(vec![datum])
}

/// One field, written as the first type and read as the second.
fn as_type(written: &str, read: &str, datum: Datum) -> String {
    match read_as(&one(written), &one(read), &in_record(datum)) {
        Ok(row) => row,
        Err(bad) => format!("{}: {}", bad.class, bad.message),
    }
}

fn incompatible(writer: &str, reader: &str) -> String {
    let message = plain(reader, Some(writer)).unwrap_err().to_string();
    let start = "the Avro schema of the writer: does not match the schema it is read with: ";
    message
        .strip_prefix(start)
        .unwrap_or_else(|| panic!("{message}"))
        .to_owned()
}

#[test]
fn added_field_has_its_default() {
    let old = record(r#"{"name":"a","type":"int"}"#);
    for (of, default, expected) in [
        (r#""string""#, r#""new""#, "new"),
        (r#""int""#, "-5", "-5"),
        (r#""long""#, "5000000000", "5000000000"),
        (r#""double""#, "2.5", "2.5"),
        // Exact to the last digit, which serde_json's float reader does not promise.
        (r#""double""#, "2.8607215452428451", "2.860721545242845"),
        (r#""double""#, "8.7383009533423448", "8.738300953342344"),
        (r#""long""#, "9223372036854775807", "9223372036854775807"),
        (r#""float""#, r#""NaN""#, "NaN"),
        (r#""boolean""#, "true", "true"),
        (r#""null""#, "null", "NULL"),
        (r#""bytes""#, r#""\u00ff\u0001""#, "ff01"),
        (r#"["null","string"]"#, "null", "NULL"),
        (r#"["string","null"]"#, r#""x""#, "x"),
        (r#"["null","string"]"#, r#""x""#, "x"),
        (
            r#"["int","string","null"]"#,
            r#""x""#,
            "{int: NULL, string: x}",
        ),
        (r#"{"type":"array","items":"int"}"#, "[1,2]", "[1, 2]"),
        (r#"{"type":"map","values":"int"}"#, r#"{"k":1}"#, "{k: 1}"),
        (
            r#"{"type":"enum","name":"E","symbols":["A","B"]}"#,
            r#""B""#,
            "B",
        ),
        (
            r#"{"type":"fixed","name":"F","size":2}"#,
            r#""\u0000\u0001""#,
            "0001",
        ),
        (r#"{"type":"int","logicalType":"date"}"#, "1", "1970-01-02"),
        (
            r#"{"type":"record","name":"S","fields":[{"name":"p","type":"int"},
               {"name":"q","type":"int","default":7}]}"#,
            r#"{"p":1}"#,
            "{p: 1, q: 7}",
        ),
    ] {
        let new = record(&format!(
            r#"{{"name":"b","type":{of},"default":{default}}},{{"name":"a","type":"int"}}"#
        ));
        let row = read_as(&old, &new, &in_record(long(1)));
        assert_eq!(row.unwrap(), format!("{expected} | 1"));
    }
}

#[test]
fn added_field_without_default_is_incompatible() {
    let old = record(r#"{"name":"a","type":"int"}"#);
    let new = record(r#"{"name":"b","type":["null","int"]}"#);
    assert_eq!(
        incompatible(&old, &new),
        "field 'b' is not in the writer's schema and has no default"
    );
    let new = record(r#"{"name":"b","type":"int","default":"x"}"#);
    assert_eq!(
        incompatible(&old, &new),
        "the default of field 'b': \"x\" is no int"
    );
}

#[test]
fn removed_and_moved_fields() {
    let old = record(
        r#"{"name":"a","type":{"type":"array","items":"string"}},{"name":"b","type":"int"},
           {"name":"c","type":{"type":"map","values":"double"}},{"name":"d","type":"int"}"#,
    );
    let new = record(r#"{"name":"d","type":"int"},{"name":"b","type":"int"}"#);
    let datum = Datum::Record(vec![
        Datum::Array(vec![text("x"), text("y"), text("z")]),
        long(1),
        Datum::Map(vec![("k".to_owned(), Datum::Double(1.0))]),
        long(2),
    ]);
    assert_eq!(read_as(&old, &new, &datum).unwrap(), "2 | 1");
}

#[test]
fn numbers_are_promoted() {
    for (read, expected) in [("long", "7"), ("float", "7.0"), ("double", "7.0")] {
        assert_eq!(
            as_type(r#""int""#, &format!("\"{read}\""), long(7)),
            expected
        );
    }
    for (read, expected) in [("float", "7.0"), ("double", "7.0")] {
        assert_eq!(
            as_type(r#""long""#, &format!("\"{read}\""), long(7)),
            expected
        );
    }
    assert_eq!(
        as_type(r#""float""#, r#""double""#, Datum::Float(0.5)),
        "0.5"
    );
    assert_eq!(as_type(r#""string""#, r#""bytes""#, text("a")), "61");
    assert_eq!(
        as_type(r#""bytes""#, r#""string""#, Datum::Bytes(vec![0x61])),
        "a"
    );
    assert_eq!(
        as_type(r#""bytes""#, r#""string""#, Datum::Bytes(vec![0xff])),
        "syntax: field 'x': text is not UTF-8"
    );
}

#[test]
fn types_that_do_not_go_together() {
    let list = r#"{"type":"array","items":"int"}"#;
    for (written, read, expected) in [
        (r#""long""#, r#""int""#, "long cannot be read as int"),
        (
            r#""double""#,
            r#""float""#,
            "double cannot be read as float",
        ),
        (r#""string""#, r#""int""#, "string cannot be read as int"),
        (r#""int""#, list, "int cannot be read as array of int"),
        (r#"["null","int"]"#, r#""int""#, ""),
        (
            r#"["null","string"]"#,
            r#""int""#,
            "null cannot be read as int",
        ),
        (
            r#""null""#,
            r#"["int","string"]"#,
            "null is not a branch of the reader's union",
        ),
        (
            r#""boolean""#,
            r#"["int","string"]"#,
            "boolean is not a branch of the reader's union",
        ),
    ] {
        if expected.is_empty() {
            plain(&one(read), Some(&one(written))).unwrap();
            continue;
        }
        assert_eq!(
            incompatible(&one(written), &one(read)),
            format!("field 'x': {expected}")
        );
    }
    assert_eq!(
        incompatible(r#""int""#, &one(r#""int""#)),
        "int cannot be read as record 'R'"
    );
}

#[test]
fn fields_and_types_are_renamed_by_alias() {
    let old = r#"{"type":"record","name":"old.Name","fields":[
        {"name":"first","type":{"type":"enum","name":"Colour","symbols":["RED"]}},
        {"name":"second","type":"int"}]}"#;
    let new = r#"{"type":"record","name":"Renamed","namespace":"new","aliases":["old.Name"],
        "fields":[
        {"name":"one","aliases":["zero","first"],
         "type":{"type":"enum","name":"Color","aliases":["old.Colour"],"symbols":["BLUE","RED"]}},
        {"name":"two","aliases":["second"],"type":"long"}]}"#;
    let datum = Datum::Record(vec![Datum::Enum(0), long(5)]);
    assert_eq!(read_as(old, new, &datum).unwrap(), "RED | 5");
    let unknown = new.replace(r#""aliases":["old.Name"],"#, "");
    assert_eq!(
        incompatible(old, &unknown),
        "'old.Name' is not 'new.Renamed', and not among its aliases"
    );
}

#[test]
fn field_of_the_name_comes_before_one_of_an_alias() {
    let old = record(r#"{"name":"a","type":"int"},{"name":"b","type":"int"}"#);
    let new = record(r#"{"name":"c","aliases":["a","b"],"type":"int"},{"name":"a","type":"int"}"#);
    let datum = Datum::Record(vec![long(1), long(2)]);
    assert_eq!(read_as(&old, &new, &datum).unwrap(), "2 | 1");
}

#[test]
fn symbol_that_the_reader_lacks_is_its_default_or_bad() {
    let of = |symbols: &str, more: &str| {
        format!(r#"{{"type":"enum","name":"E","symbols":[{symbols}]{more}}}"#)
    };
    let written = of(r#""A","B","C""#, "");
    let read = of(r#""C","A""#, "");
    assert_eq!(as_type(&written, &read, Datum::Enum(2)), "C");
    assert_eq!(
        as_type(&written, &read, Datum::Enum(1)),
        "schema: field 'x': symbol 'B' is not in the reader's enum 'E', which has no default"
    );
    let read = of(r#""C","A""#, r#","default":"A""#);
    assert_eq!(as_type(&written, &read, Datum::Enum(1)), "A");
}

#[test]
fn unions_change() {
    let null = r#"["null","int"]"#;
    assert_eq!(as_type(r#""int""#, null, long(1)), "1");
    assert_eq!(as_type(null, r#""long""#, some(long(1))), "1");
    assert_eq!(
        as_type(null, r#""long""#, none()),
        "schema: field 'x': null cannot be read as long"
    );
    let several = r#"["null","string","long"]"#;
    assert_eq!(
        as_type(null, several, some(long(1))),
        "{string: NULL, long: 1}"
    );
    assert_eq!(as_type(null, several, none()), "NULL");
    assert_eq!(
        as_type(r#""string""#, several, text("a")),
        "{string: a, long: NULL}"
    );
    // The same type wins over one that it could be promoted to.
    assert_eq!(
        as_type(r#""int""#, r#"["double","int"]"#, long(1)),
        "{double: NULL, int: 1}"
    );
    assert_eq!(
        as_type(r#""int""#, r#"["double","long"]"#, long(1)),
        "{double: 1.0, long: NULL}"
    );
    assert_eq!(
        as_type(
            several,
            r#"["null","string"]"#,
            Datum::Union(2, Box::new(long(1)))
        ),
        "schema: field 'x': long cannot be read as string"
    );
}

#[test]
fn unit_may_get_finer() {
    let of = |name: &str| format!(r#"{{"type":"long","logicalType":"{name}"}}"#);
    let millis = of("timestamp-millis");
    assert_eq!(
        as_type(&millis, &of("timestamp-nanos"), long(1)),
        "1970-01-01T00:00:00.001Z"
    );
    assert_eq!(
        as_type(r#""long""#, &millis, long(1)),
        "1970-01-01T00:00:00.001Z"
    );
    assert_eq!(
        as_type(r#""int""#, &millis, long(1)),
        "1970-01-01T00:00:00.001Z"
    );
    assert_eq!(as_type(&millis, r#""long""#, long(1)), "1");
    assert_eq!(
        as_type(&millis, &of("timestamp-nanos"), long(i64::MAX)),
        "type: field 'x': the moment 9223372036854775807 is too far away for the column's unit"
    );
    let time = r#"{"type":"int","logicalType":"time-millis"}"#;
    assert_eq!(as_type(time, &of("time-micros"), long(1)), "00:00:00.001");
    let coarser = incompatible(&one(&of("timestamp-micros")), &one(&millis));
    assert!(coarser.contains("would lose digits"), "{coarser}");
    let date = r#"{"type":"int","logicalType":"date"}"#;
    assert_eq!(
        incompatible(&one(date), &one(&millis)),
        "field 'x': int (date) cannot be read as long (timestamp-millis)"
    );
}

#[test]
fn decimals_keep_their_scale() {
    let of = |precision: u8, scale: u8| {
        format!(
            r#"{{"type":"bytes","logicalType":"decimal","precision":{precision},"scale":{scale}}}"#
        )
    };
    let value = || Datum::Bytes(vec![1, 0]);
    assert_eq!(as_type(&of(4, 1), &of(9, 1), value()), "25.6");
    assert_eq!(as_type(&of(9, 1), &of(3, 1), value()), "25.6");
    assert_eq!(as_type(r#""bytes""#, &of(3, 2), value()), "2.56");
    assert_eq!(as_type(&of(3, 2), r#""bytes""#, value()), "0100");
    assert_eq!(
        incompatible(&one(&of(4, 1)), &one(&of(4, 2))),
        "field 'x': it has 1 digits after the point, the reader's schema 2"
    );
}

#[test]
fn nested_records_and_items_are_resolved() {
    let old = r#"{"type":"record","name":"R","fields":[{"name":"list","type":{"type":"array",
        "items":{"type":"record","name":"I","fields":[
            {"name":"gone","type":"string"},{"name":"n","type":"int"}]}}}]}"#;
    let new = r#"{"type":"record","name":"R","fields":[{"name":"list","type":{"type":"array",
        "items":{"type":"record","name":"I","fields":[
            {"name":"n","type":"double"},{"name":"new","type":"string","default":"d"}]}}}]}"#;
    let item = |n| Datum::Record(vec![text("x"), long(n)]);
    let datum = in_record(Datum::Array(vec![item(1), item(2)]));
    assert_eq!(
        read_as(old, new, &datum).unwrap(),
        "[{n: 1.0, new: d}, {n: 2.0, new: d}]"
    );
}

#[test]
fn writer_that_contains_itself_is_read_without_that() {
    let old = r#"{"type":"record","name":"R","fields":[
        {"name":"next","type":["null","R"]},{"name":"a","type":"int"}]}"#;
    let new = record(r#"{"name":"a","type":"int"}"#);
    let datum = |depth: usize| {
        (0..depth).fold(Datum::Record(vec![none(), long(0)]), |inner, n| {
            Datum::Record(vec![some(inner), long(n as i64 + 1)])
        })
    };
    assert_eq!(read_as(old, &new, &datum(10)).unwrap(), "10");
    let bad = read_as(old, &new, &datum(100)).unwrap_err();
    assert_eq!(bad.class, "syntax");
    assert!(
        bad.message
            .ends_with("values are nested deeper than 64 levels"),
        "{}",
        bad.message
    );
    let refused = plain(old, None).unwrap_err().to_string();
    assert!(refused.contains("'R' that contains itself"), "{refused}");
}

#[test]
fn record_that_is_a_branch_of_the_writer() {
    let writer = format!(
        r#"[{},{{"type":"record","name":"Other","fields":[]}}]"#,
        record(r#"{"name":"a","type":"int"}"#)
    );
    let reader = record(r#"{"name":"a","type":"long"}"#);
    let datum = Datum::Union(0, Box::new(in_record(long(4))));
    assert_eq!(read_as(&writer, &reader, &datum).unwrap(), "4");
    let other = Datum::Union(1, Box::new(Datum::Record(vec![])));
    let bad = read_as(&writer, &reader, &other).unwrap_err();
    assert_eq!(bad.class, "schema");
    assert!(
        bad.message.contains("'Other' is not 'R'"),
        "{}",
        bad.message
    );
}
