//! The columns that JSON Schemas describe.

use proptest::prelude::*;

use super::*;

fn columns(schema: &str) -> Result<Vec<String>, String> {
    columns_with(schema, &[])
}

fn columns_with(schema: &str, references: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let references = references.iter();
    let references: Vec<_> = references
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    let fields = schema_fields(schema, &references)?;
    assert!(fields.iter().all(|field| field.is_nullable()));
    let each = fields.iter();
    Ok(each
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect())
}

/// The column's type for a property with this schema.
fn of(schema: &str) -> String {
    let found = columns(&format!(
        r#"{{"type":"object","properties":{{"x":{schema}}}}}"#
    ));
    let mut found = found.unwrap_or_else(|e| panic!("{schema}: {e}"));
    found.remove(0).strip_prefix("x ").unwrap().to_owned()
}

#[test]
fn types_and_formats() {
    for (schema, expected) in [
        (r#"{"type":"string"}"#, "Utf8View"),
        (r#"{"type":"string","format":"email"}"#, "Utf8View"),
        (r#"{"type":"string","format":"date"}"#, "Date32"),
        (
            r#"{"type":"string","format":"date-time"}"#,
            "Timestamp(µs, \"UTC\")",
        ),
        (r#"{"type":"string","format":"time"}"#, "Utf8View"),
        (r#"{"type":"integer","minimum":0}"#, "Int64"),
        (r#"{"type":"number"}"#, "Float64"),
        (r#"{"type":"boolean"}"#, "Boolean"),
        (r#"{"type":"null"}"#, "Utf8View"),
        (r#"{"type":"list"}"#, "Utf8View"),
        (r#"{"type":["string","null"]}"#, "Utf8View"),
        (r#"{"type":["null","integer"]}"#, "Int64"),
        (r#"{"type":["integer","number"]}"#, "Float64"),
        (r#"{"type":["integer","string"]}"#, "Utf8View"),
        (
            r#"{"type":"array","items":{"type":"integer"}}"#,
            "List(Int64)",
        ),
        (r#"{"type":"array"}"#, "Utf8View"),
        (
            r#"{"type":"array","items":[{"type":"integer"}]}"#,
            "Utf8View",
        ),
        (r#"{"type":"object"}"#, "Utf8View"),
        (r#"{"type":"object","properties":{}}"#, "Utf8View"),
        (
            r#"{"properties":{"b":{"type":"integer"},"a":{}},"required":["a"]}"#,
            "Struct(\"b\": Int64, \"a\": Utf8View)",
        ),
        (r#"{"enum":["a","b",null]}"#, "Utf8View"),
        (r#"{"enum":[1,2]}"#, "Int64"),
        (r#"{"enum":[1,2.5]}"#, "Float64"),
        (r#"{"enum":[1,"a"]}"#, "Utf8View"),
        (r#"{"const":true}"#, "Boolean"),
        ("{}", "Utf8View"),
        ("true", "Utf8View"),
        ("7", "Utf8View"),
    ] {
        assert_eq!(of(schema), expected, "{schema}");
    }
    let map = of(r#"{"type":"object","additionalProperties":{"type":"integer"}}"#);
    assert!(map.starts_with("Map(\"entries\""), "{map}");
}

#[test]
fn schemas_of_schemas() {
    for (schema, expected) in [
        (r#"{"oneOf":[{"type":"null"},{"type":"integer"}]}"#, "Int64"),
        (
            r#"{"anyOf":[{"type":"string"},{"type":"null"}]}"#,
            "Utf8View",
        ),
        (
            r#"{"oneOf":[{"type":"integer"},{"type":"number"}]}"#,
            "Float64",
        ),
        (
            r#"{"oneOf":[{"type":"integer"},{"type":"object"}]}"#,
            "Utf8View",
        ),
        (r#"{"oneOf":[{"type":"integer"},{}]}"#, "Utf8View"),
        (r#"{"oneOf":[]}"#, "Utf8View"),
        (
            r#"{"oneOf":[{"properties":{"a":{"type":"integer"}}},
                {"properties":{"b":{"type":"boolean"},"a":{"type":"null"}}}]}"#,
            "Struct(\"a\": Int64, \"b\": Boolean)",
        ),
        (
            r#"{"allOf":[{"properties":{"a":{"type":"integer"}}},{"properties":{"b":{"type":"string"}}}],
                "properties":{"c":{"type":"number"}},"required":["a"]}"#,
            "Struct(\"c\": Float64, \"a\": Int64, \"b\": Utf8View)",
        ),
        (
            r#"{"type":"object","properties":{"a":{"type":"string"}},
                "anyOf":[{"required":["a"]},{"required":["b"]}]}"#,
            "Struct(\"a\": Utf8View)",
        ),
        (
            r#"{"allOf":[{"type":"string"},{"type":"string","format":"date"}]}"#,
            "Date32",
        ),
        (
            r#"{"allOf":[{"type":"string"},{"type":"integer"}]}"#,
            "Utf8View",
        ),
    ] {
        assert_eq!(of(schema), expected, "{schema}");
    }
}

#[test]
fn references() {
    let schema = r##"{"$ref":"#/definitions/Order","definitions":{
        "Order":{"type":"object","properties":{
            "id":{"$ref":"#/$defs/a~1b"},
            "lines":{"type":"array","items":{"$ref":"#/definitions/Line"}},
            "other":{"$ref":"#/definitions/Line"},
            "item":{"$ref":"item.json"},
            "sku":{"$ref":"item.json#/properties/sku"},
            "else":{"$ref":"https://example.com/x.json"}}},
        "Line":{"type":"object","properties":{"sku":{"type":"string"}}}},
        "$defs":{"a/b":{"type":"integer"}}}"##;
    let item = r##"{"type":"object","properties":{"sku":{"$ref":"#/definitions/S"}},
        "definitions":{"S":{"type":"boolean"}}}"##;
    assert_eq!(
        columns_with(schema, &[("item.json", item)]).unwrap(),
        [
            "id Int64",
            "lines List(Struct(\"sku\": Utf8View))",
            "other Struct(\"sku\": Utf8View)",
            "item Struct(\"sku\": Boolean)",
            "sku Boolean",
            "else Utf8View",
        ]
    );
    let missing = r##"{"properties":{"a":{"$ref":"#/definitions/A"}}}"##;
    assert_eq!(
        columns(missing).unwrap_err(),
        "property 'a': refers to '#/definitions/A', which it does not define"
    );
}

/// A reference is a URI, whose unescaped fragment is a JSON Pointer (RFC 6901, 6).
#[test]
fn references_are_unescaped() {
    let schema = r##"{"properties":{
            "a":{"$ref":"#/definitions/My%20Type"},
            "b":{"$ref":"#/definitions/p%25q"},
            "c":{"$ref":"#/definitions/%C5%BElu%C5%a5"},
            "d":{"$ref":"#/definitions/a~1b"},
            "e":{"$ref":"#%2Fdefinitions/m~0n"},
            "f":{"$ref":"#/definitions/~01"},
            "g":{"$ref":"#/definitions/50%"}},
        "definitions":{
            "My Type":{"type":"integer"}, "p%q":{"type":"number"}, "žluť":{"type":"boolean"},
            "a/b":{"type":"integer"}, "m~n":{"type":"number"}, "~1":{"type":"boolean"},
            "50%":{"type":"integer"}}}"##;
    assert_eq!(
        columns(schema).unwrap(),
        [
            "a Int64",
            "b Float64",
            "c Boolean",
            "d Int64",
            "e Float64",
            "f Boolean",
            "g Int64"
        ]
    );
    let missing = r##"{"properties":{"a":{"$ref":"#/definitions/%FF"}}}"##;
    assert_eq!(
        columns(missing).unwrap_err(),
        "property 'a': refers to '#/definitions/%FF', which it does not define"
    );
    let circle = r##"{"properties":{"a":{"$ref":"#/definitions/A"}},
        "definitions":{"A":{"$ref":"#/definitions/%41"}}}"##;
    assert!(columns(circle).unwrap_err().contains("contains itself"));
}

#[test]
fn what_contains_itself_is_refused() {
    for schema in [
        r##"{"properties":{"next":{"$ref":"#"}}}"##,
        r##"{"$ref":"#/definitions/A","definitions":{"A":{"$ref":"#/definitions/A"}}}"##,
        r##"{"properties":{"tree":{"$ref":"#/definitions/T"}},"definitions":{"T":{"properties":{
            "kids":{"type":"array","items":{"$ref":"#/definitions/T"}}}}}}"##,
    ] {
        let found = columns(schema).unwrap_err();
        assert!(found.contains("contains itself"), "{found}");
    }
}

#[test]
fn what_has_no_columns_is_refused() {
    for schema in [
        "true",
        r#"{"type":"string"}"#,
        r#"{"type":"object"}"#,
        "[1]",
    ] {
        assert_eq!(
            columns(schema).unwrap_err(),
            "describes no object with properties",
            "{schema}"
        );
    }
    assert!(columns("{").unwrap_err().starts_with("not JSON"));
}

#[test]
fn size_and_depth_are_bounded() {
    let deep = format!(
        "{}true{}",
        r#"{"type":"array","items":"#.repeat(80),
        "}".repeat(80)
    );
    let found = columns(&format!(r#"{{"properties":{{"a":{deep}}}}}"#));
    assert!(found.unwrap_err().contains("nested deeper than 64"));
    // Each definition uses the next one twice.
    let definitions: Vec<String> = (0..40)
        .map(|n| {
            let next = format!(r##"{{"$ref":"#/definitions/d{}"}}"##, n + 1);
            format!(r#""d{n}":{{"properties":{{"a":{next},"b":{next}}}}}"#)
        })
        .collect();
    let schema = format!(
        r##"{{"$ref":"#/definitions/d0","definitions":{{{},"d40":true}}}}"##,
        definitions.join(",")
    );
    assert!(columns(&schema).unwrap_err().contains("more than 10000"));
}

#[test]
fn columns_of_a_schema_are_decoded() {
    let schema = r#"{"properties":{"at":{"type":"string","format":"date-time"},
        "n":{"type":["integer","null"]},"any":{},"by":{"additionalProperties":{"type":"number"},"type":"object"}}}"#;
    let fields = schema_fields(schema, &[]).unwrap();
    let decoder = JsonDecoder::new(&fields, false).unwrap();
    let (rows, bad) = decode_with(
        &decoder,
        &[
            Some(r#"{"at":"9999-12-30T00:00:00.000001Z","n":null,"any":[1, 2],"by":{"x":1.5}}"#),
            Some(r#"{"n":7,"more":1}"#),
        ],
    );
    assert_eq!(
        rows,
        ["9999-12-30T00:00:00.000001Z|-|[1,2]|{x: 1.5}", "-|7|-|-"]
    );
    assert_eq!(bad, []);
}

proptest! {
    /// Any JSON, taken as a schema, yields an error or columns that the decoder can build.
    #[test]
    fn any_schema_has_columns_or_an_error(
        parts in prop::collection::vec(
            prop_oneof![
                Just(r##"{"$ref":"#"}"##), Just(r##"{"$ref":"#/properties/p0"}"##), Just("true"),
                Just(r#"{"type":"object"}"#), Just(r#"{"type":["integer","null"]}"#),
                Just(r#"{"allOf":[{"type":"string"},7,null]}"#), Just(r#"{"oneOf":{"a":1}}"#),
                Just(r#"{"properties":[1],"type":"object","additionalProperties":{"enum":[[]]}}"#),
                Just(r#"{"properties":{"":{"type":"array","items":{"const":1}}}}"#), Just("[]"),
            ],
            0..6,
        ),
        keyword in prop_oneof![Just("allOf"), Just("anyOf"), Just("enum")],
    ) {
        let properties: Vec<String> = parts
            .iter()
            .enumerate()
            .map(|(n, part)| format!("\"p{n}\":{part}"))
            .collect();
        let schema = format!(
            r#"{{"properties":{{{}}},"{keyword}":[{}]}}"#,
            properties.join(","),
            parts.join(",")
        );
        if let Ok(fields) = schema_fields(&schema, &[]) {
            prop_assert!(JsonDecoder::new(&fields, false).is_ok());
        }
    }
}
