//! Invalid schemas, names, references and fingerprints.

use super::{one, plain};
use crate::decode::avro::canonical::fingerprint;
use crate::decode::avro::schema::Schema;
use crate::decode::avro::{AvroDecoder, AvroOptions, Framing};
use crate::decode::payload::PayloadDecoder;

fn wrong(reader: &str) -> String {
    let message = plain(reader, None).unwrap_err().to_string();
    let message = message.strip_prefix("the Avro schema: ");
    message.unwrap().to_owned()
}

#[test]
fn schemas_that_are_wrong() {
    for (schema, expected) in [
        (
            "{",
            "not JSON: EOF while parsing an object at line 1 column 1",
        ),
        ("5", "has 5 where a type is expected"),
        (r#"{"name":"x"}"#, "has a type without the attribute 'type'"),
        (
            r#""Order""#,
            "names the type 'Order', which it does not define",
        ),
        (
            r#"{"type":"array"}"#,
            "has 'array' without the attribute 'items'",
        ),
        (
            r#"{"type":"record","fields":[]}"#,
            "has 'record' without the attribute 'name'",
        ),
        (
            r#"{"type":"record","name":"R"}"#,
            "has 'record' without the attribute 'fields'",
        ),
        (
            r#"{"type":"record","name":"R","fields":5}"#,
            "record 'R': 'fields' is not an array",
        ),
        (r#"[["int"]]"#, "has a union right inside a union"),
        (
            &one(r#"{"type":"record","name":"R","fields":[]}"#),
            "field 'x' of 'R': defines the type 'R' twice",
        ),
        (
            &one(r#"{"type":"fixed","name":"F","size":-1}"#),
            "field 'x' of 'R': fixed 'F' has no size below 2^31",
        ),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},
               {"name":"a","type":"int"}]}"#,
            "record 'R' has two fields 'a'",
        ),
    ] {
        assert_eq!(wrong(schema), expected);
    }
}

#[test]
fn top_level_must_be_a_record() {
    assert_eq!(
        wrong(r#"{"type":"array","items":"int"}"#),
        "is array of int, and columns come from the fields of a record; wrap it into a record, or read \
         the payload with the format 'raw'"
    );
}

#[test]
fn records_that_contain_themselves_are_refused() {
    let direct = r#"{"type":"record","name":"a.R","fields":[
        {"name":"next","type":{"type":"array","items":"R"}}]}"#;
    assert_eq!(
        wrong(direct),
        "field 'next': has a record 'a.R' that contains itself, which cannot be a column; declare columns \
         without it, or read with a schema that leaves it out"
    );
}

#[test]
fn schemas_that_grow_are_refused() {
    // Each of thirty records contains the previous one twice.
    let mut types = vec![r#"{"type":"record","name":"T0","fields":[]}"#.to_owned()];
    for n in 1..30 {
        types.push(format!(
            r#"{{"type":"record","name":"T{n}","fields":[{{"name":"a","type":"T{0}"}},
               {{"name":"b","type":"T{0}"}}]}}"#,
            n - 1
        ));
    }
    let fields: Vec<_> = types
        .iter()
        .enumerate()
        .map(|(n, of)| format!(r#"{{"name":"f{n}","type":{of}}}"#))
        .collect();
    let schema = format!(
        r#"{{"type":"record","name":"R","fields":[{}]}}"#,
        fields.join(",")
    );
    assert!(wrong(&schema).contains("more than 20000"));

    let deep = (0..60).fold("\"int\"".to_owned(), |inner, _| {
        format!(r#"{{"type":"array","items":{inner}}}"#)
    });
    assert!(plain(&one(&deep), None).is_ok());
    let deep = (0..100).fold("\"int\"".to_owned(), |inner, _| {
        format!(r#"{{"type":"array","items":{inner}}}"#)
    });
    assert!(wrong(&one(&deep)).contains("nested deeper than 64"));
}

#[test]
fn names_are_found_in_their_namespaces() {
    let schema = r#"{"type":"record","name":"R","namespace":"a","fields":[
        {"name":"x","type":{"type":"enum","name":"E","symbols":["S"]}},
        {"name":"y","type":"E"},{"name":"z","type":"a.E"},
        {"name":"v","type":{"type":"record","name":"b.Q","fields":[
            {"name":"f","type":{"type":"fixed","name":"F","size":1}}]}},
        {"name":"w","type":"b.F"}]}"#;
    let decoder = plain(schema, None).unwrap();
    let types: Vec<_> = decoder
        .fields()
        .iter()
        .map(|field| field.data_type().to_string())
        .collect();
    assert_eq!(types[..3], ["Utf8", "Utf8", "Utf8"]);
    assert_eq!(types[4], "FixedSizeBinary(1)");
}

#[test]
fn references_define_types() {
    let references = [
        (
            "b.B".to_owned(),
            r#"{"type":"enum","name":"b.B","symbols":["S"]}"#.to_owned(),
        ),
        (
            "a.A".to_owned(),
            r#"{"type":"record","name":"a.A","fields":[{"name":"b","type":"b.B"}]}"#.to_owned(),
        ),
    ];
    let reader = one(r#""a.A""#);
    let options = |references| AvroOptions {
        reader: &reader,
        references,
        reader_id: Some(7),
        declared: None,
        framing: Framing::Plain { writer: None },
    };
    let decoder = AvroDecoder::new(options(&references)).unwrap();
    assert_eq!(
        decoder.fields()[0].data_type().to_string(),
        r#"Struct("b": Utf8)"#
    );
    let error = AvroDecoder::new(options(&references[1..])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the Avro schema 7: its reference 'a.A': field 'b' of 'a.A': names the type 'b.B', which it \
         does not define"
    );
}

/// Compares with the fingerprints of arrow-avro, and with the specification's own test data.
#[test]
fn fingerprints() {
    use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm};
    for schema in [
        r#""int""#,
        r#"{"type":"string","doc":"x","logicalType":"uuid"}"#,
        r#"[ "int" , "null" ]"#,
        r#"{"type":"map","values":{"type":"array","items":"long"}}"#,
        r#"{"fields":[{"type":"int","name":"a","doc":"d","default":1},
            {"name":"e","type":{"symbols":["X","Y"],"type":"enum","name":"E","namespace":"q"}},
            {"name":"f","type":{"type":"fixed","name":"F","size":4}},
            {"name":"g","type":["null","F"]},{"name":"h","type":"q.E"}],
           "type":"record","name":"R","namespace":"x.y","aliases":["Z"]}"#,
    ] {
        let theirs = AvroSchema::new(schema.to_owned())
            .fingerprint(FingerprintAlgorithm::Rabin)
            .unwrap();
        let ours = fingerprint(&Schema::parse(schema, &[]).unwrap());
        assert_eq!(Fingerprint::Rabin(ours), theirs, "{schema}");
    }
    let of = |schema| fingerprint(&Schema::parse(schema, &[]).unwrap()).cast_signed();
    assert_eq!(of(r#""null""#), 7_195_948_357_588_979_594);
    assert_eq!(of(r#""boolean""#), -6_970_731_678_124_411_036);
    assert_eq!(
        of(r#"{"type":"fixed","name":"foo","size":15}"#),
        1_756_455_273_707_447_556
    );
}
