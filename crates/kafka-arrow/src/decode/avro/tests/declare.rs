//! Declared columns: fields selected by name, with the same type or a wider one.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

use super::encode::{Datum, none, some, text};
use super::{one, row};
use crate::decode::avro::{AvroDecoder, AvroOptions, Framing};
use crate::decode::payload::PayloadDecoder;
use crate::error::Result;

fn declared(reader: &str, columns: &[(&str, DataType)]) -> Result<AvroDecoder> {
    let fields: Fields = columns
        .iter()
        .map(|(name, data_type)| Field::new(*name, data_type.clone(), false))
        .collect();
    AvroDecoder::new(AvroOptions {
        reader,
        references: &[],
        reader_id: None,
        declared: Some(&fields),
        framing: Framing::Plain { writer: None },
    })
}

fn wrong(reader: &str, name: &str, data_type: DataType) -> String {
    let message = declared(reader, &[(name, data_type)])
        .unwrap_err()
        .to_string();
    message
        .strip_prefix("the Avro schema: ")
        .unwrap()
        .to_owned()
}

/// How a value shows in a column that is declared with another type.
fn widened(of: &str, datum: Datum, data_type: DataType) -> String {
    let decoder = declared(&one(of), &[("x", data_type)]).unwrap();
    match row(&decoder, Datum::Record(vec![datum]).encode()) {
        Ok(row) => row,
        Err(bad) => format!("{}: {}", bad.class, bad.message),
    }
}

const THREE: &str = r#"{"type":"record","name":"R","fields":[
    {"name":"id","type":"int"},{"name":"Name","type":"string"},{"name":"name2","type":"string"}]}"#;

#[test]
fn columns_are_selected_by_name() {
    let columns = [("name", DataType::Utf8View), ("id", DataType::Int64)];
    let decoder = declared(THREE, &columns).unwrap();
    let names: Vec<_> = decoder.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["name", "id"]);
    let datum = Datum::Record(vec![Datum::Long(1), text("n"), text("m")]);
    assert_eq!(row(&decoder, datum.encode()).unwrap(), "n | 1");
}

#[test]
fn names_that_are_not_there() {
    assert_eq!(
        wrong(THREE, "nam", DataType::Utf8),
        "has no field 'nam'; did you mean 'Name'?"
    );
    let alike = r#"{"type":"record","name":"R","fields":[
        {"name":"aB","type":"int"},{"name":"Ab","type":"int"}]}"#;
    assert!(wrong(alike, "ab", DataType::Int32).starts_with("has fields 'aB' and 'Ab'"));
    declared(alike, &[("Ab", DataType::Int32)]).unwrap();
}

#[test]
fn wider_types() {
    let long = Datum::Long;
    assert_eq!(widened(r#""int""#, long(5), DataType::Int64), "5");
    assert_eq!(widened(r#""int""#, long(5), DataType::Float64), "5.0");
    assert_eq!(
        widened(r#""float""#, Datum::Float(0.5), DataType::Float64),
        "0.5"
    );
    for text_type in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View] {
        assert_eq!(widened(r#""string""#, text("a"), text_type), "a");
    }
    for bytes_type in [
        DataType::Binary,
        DataType::LargeBinary,
        DataType::BinaryView,
    ] {
        assert_eq!(
            widened(r#""bytes""#, Datum::Bytes(vec![1]), bytes_type.clone()),
            "01"
        );
        let fixed = r#"{"type":"fixed","name":"F","size":1}"#;
        assert_eq!(widened(fixed, Datum::Fixed(vec![1]), bytes_type), "01");
    }
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":3,"scale":1}"#;
    let value = || Datum::Bytes(vec![25]);
    assert_eq!(
        widened(decimal, value(), DataType::Decimal128(10, 4)),
        "2.5000"
    );
    assert_eq!(
        widened(decimal, value(), DataType::Decimal256(60, 1)),
        "2.5"
    );
}

#[test]
fn moments_in_finer_units_and_other_zones() {
    let millis = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
    let zone = |zone: &str| Some(Arc::from(zone));
    let value = Datum::Long(1_500);
    for (data_type, expected) in [
        (
            DataType::Timestamp(TimeUnit::Nanosecond, None),
            "1970-01-01T00:00:01.500",
        ),
        (
            DataType::Timestamp(TimeUnit::Microsecond, zone("UTC")),
            "1970-01-01T00:00:01.500Z",
        ),
        (
            DataType::Timestamp(TimeUnit::Millisecond, zone("+01:00")),
            "1970-01-01T01:00:01.500+01:00",
        ),
    ] {
        assert_eq!(widened(millis, value.clone(), data_type), expected);
    }
    let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
    assert_eq!(
        widened(millis, Datum::Long(i64::MIN), nanos),
        "type: field 'x': the moment -9223372036854775808 is too far away for the column's unit"
    );
    let time = r#"{"type":"int","logicalType":"time-millis"}"#;
    let micros = DataType::Time64(TimeUnit::Microsecond);
    assert_eq!(widened(time, Datum::Long(1), micros), "00:00:00.001");
}

#[test]
fn types_that_do_not_fit() {
    let utc = Some(Arc::from("UTC"));
    for (of, data_type) in [
        (r#""int""#, DataType::Int16),
        (r#""long""#, DataType::Int32),
        (r#""long""#, DataType::Float64),
        (r#""long""#, DataType::UInt64),
        (r#""double""#, DataType::Float32),
        (r#""string""#, DataType::Binary),
        (r#""int""#, DataType::Utf8),
        (r#"{"type":"int","logicalType":"date"}"#, DataType::Int32),
        (
            r#"{"type":"long","logicalType":"timestamp-micros"}"#,
            DataType::Timestamp(TimeUnit::Millisecond, utc.clone()),
        ),
        (
            r#"{"type":"long","logicalType":"local-timestamp-micros"}"#,
            DataType::Timestamp(TimeUnit::Microsecond, utc),
        ),
        (
            r#"{"type":"bytes","logicalType":"decimal","precision":5,"scale":2}"#,
            DataType::Decimal128(5, 3),
        ),
        (r#"{"type":"array","items":"int"}"#, DataType::Int32),
    ] {
        let message = wrong(&one(of), "x", data_type.clone());
        let start = format!("column 'x': is declared {data_type}, and ");
        assert!(message.starts_with(&start), "{message}");
    }
    assert_eq!(
        wrong(&one(r#""long""#), "x", DataType::Int32),
        "column 'x': is declared Int32, and long is Int64; declare that or a wider type"
    );
}

#[test]
fn within_structs_lists_and_maps() {
    let inner = r#"{"type":"record","name":"S","fields":[
        {"name":"a","type":"int"},{"name":"b","type":["null","string"]}]}"#;
    let fields = |of: Vec<(&str, DataType)>| -> Fields {
        let field = |(name, data_type)| Field::new(name, data_type, false);
        of.into_iter().map(field).collect()
    };
    let value = |b| Datum::Record(vec![Datum::Long(1), b]);
    let one_field = DataType::Struct(fields(vec![("B", DataType::Utf8View)]));
    assert_eq!(
        widened(inner, value(some(text("v"))), one_field.clone()),
        "{B: v}"
    );
    assert_eq!(
        widened(inner, value(none()), one_field.clone()),
        "{B: NULL}"
    );
    let list = DataType::List(Arc::new(Field::new("element", one_field, false)));
    let items = format!(r#"{{"type":"array","items":{inner}}}"#);
    let datum = Datum::Array(vec![value(some(text("v"))), value(none())]);
    assert_eq!(widened(&items, datum, list), "[{B: v}, {B: NULL}]");
    let entry = DataType::Struct(fields(vec![
        ("keys", DataType::Utf8View),
        ("values", DataType::Int64),
    ]));
    let map = DataType::Map(Arc::new(Field::new("key_value", entry, false)), false);
    let datum = Datum::Map(vec![("k".to_owned(), Datum::Long(1))]);
    assert_eq!(
        widened(r#"{"type":"map","values":"int"}"#, datum, map),
        "{k: 1}"
    );
    let wrong = wrong(
        &one(inner),
        "x",
        DataType::Struct(fields(vec![("c", DataType::Int32)])),
    );
    assert!(
        wrong.starts_with("column 'x': record 'S' has no field 'c'"),
        "{wrong}"
    );
}

#[test]
fn members_of_a_union() {
    let union = r#"["null","int","string"]"#;
    let int = DataType::Struct(vec![Field::new("int", DataType::Int64, true)].into());
    let branch = |place, datum| Datum::Union(place, Box::new(datum));
    assert_eq!(
        widened(union, branch(1, Datum::Long(1)), int.clone()),
        "{int: 1}"
    );
    assert_eq!(
        widened(union, branch(2, text("a")), int.clone()),
        "{int: NULL}"
    );
    assert_eq!(widened(union, none(), int), "NULL");
    let other = DataType::Struct(vec![Field::new("long", DataType::Int64, true)].into());
    assert_eq!(
        wrong(&one(union), "x", other),
        "column 'x': the union has no branch 'long'; its branches are int, string"
    );
}

#[test]
fn columns_beside_a_record_that_contains_itself() {
    let tree = r#"{"type":"record","name":"Tree","fields":[
        {"name":"n","type":"int"},{"name":"left","type":["null","Tree"]}]}"#;
    let decoder = declared(tree, &[("n", DataType::Int32)]).unwrap();
    let leaf = Datum::Record(vec![Datum::Long(2), none()]);
    let datum = Datum::Record(vec![Datum::Long(1), some(leaf)]);
    assert_eq!(row(&decoder, datum.encode()).unwrap(), "1");
}

/// One of two such columns would never receive a value.
#[test]
fn a_field_is_declared_once() {
    let error = declared(THREE, &[("id", DataType::Int32), ("ID", DataType::Int64)]);
    assert_eq!(
        error.unwrap_err().to_string(),
        "the Avro schema: column 'ID': field 'id' is declared twice; leave one out"
    );
    let inner = one(&THREE.replace(r#""name":"R""#, r#""name":"S""#));
    let members = ["Name", "name"].map(|name| Field::new(name, DataType::Utf8, true));
    let inner = declared(&inner, &[("x", DataType::Struct(members.to_vec().into()))]);
    assert_eq!(
        inner.unwrap_err().to_string(),
        "the Avro schema: column 'x': column 'name': field 'Name' is declared twice; leave one out"
    );
}
