//! How JSON values become columns.

mod debezium;
mod maps;
mod scan;
mod schemas;

use std::sync::Arc;

use arrow::array::{Array, BinaryViewArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;

use super::*;

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

/// All fields of the payloads, with NULL as `-`, and the faults by row.
fn decode(fields: Vec<Field>, payloads: &[&str]) -> (Vec<String>, Vec<(usize, String)>) {
    let decoder = JsonDecoder::new(&Fields::from(fields), false).unwrap();
    let payloads: Vec<_> = payloads.iter().map(|p| Some(*p)).collect();
    decode_with(&decoder, &payloads)
}

fn decode_with(
    decoder: &JsonDecoder,
    payloads: &[Option<&str>],
) -> (Vec<String>, Vec<(usize, String)>) {
    let fields = decoder.fields().clone();
    let payloads: BinaryViewArray = payloads.iter().map(|p| p.map(str::as_bytes)).collect();
    let all: Vec<usize> = (0..fields.len()).collect();
    let wanted = Wanted {
        fields: &all,
        check_all: true,
        schema_ids: false,
    };
    let decoded = decoder.decode(&payloads, &wanted).unwrap();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema, decoded.columns).unwrap();
    let rows = (0..batch.num_rows()).map(|row| {
        let values = batch.columns().iter().map(|column| {
            if column.is_null(row) {
                return "-".to_owned();
            }
            array_value_to_string(column, row).unwrap()
        });
        values.collect::<Vec<_>>().join("|")
    });
    let rows = rows.collect();
    let bad = decoded.bad.into_iter().map(|b| (b.row, b.message));
    (rows, bad.collect())
}

fn one(data_type: DataType, value: &str) -> Result<String, String> {
    let payload = format!("{{\"f\": {value}}}");
    let (mut rows, mut bad) = decode(vec![field("f", data_type)], &[&payload]);
    match bad.pop() {
        Some((_, message)) => Err(message),
        None => Ok(rows.remove(0)),
    }
}

#[test]
fn missing_fields_are_null_and_unknown_ones_are_passed_over() {
    let fields = || vec![field("a", DataType::Int64), field("b", DataType::Utf8View)];
    let (rows, bad) = decode(
        fields(),
        &[
            r#"{"a":1,"b":"x"}"#,
            r#"{"b":"y","c":[1,{"a":5}],"d":null}"#,
            "{}",
            r#" { "a" : null } "#,
        ],
    );
    assert_eq!(rows, ["1|x", "-|y", "-|-", "-|-"]);
    assert_eq!(bad, []);
}

#[test]
fn a_bad_payload_has_null_and_its_neighbours_do_not() {
    let list = DataType::List(Arc::new(field("item", DataType::Int64)));
    let fields = vec![field("a", DataType::Int64), field("l", list)];
    let (rows, bad) = decode(
        fields,
        &[
            r#"{"a":1,"l":[1]}"#,
            r#"{"a":2,"l":[1,2,"x"]}"#,
            r#"{"a":3,"l":[3]}"#,
            "",
            "null",
            r#"{"a":4,"l":[]} x"#,
            r#"{"a":5"#,
            r#"{"a":6,"l":[6]}"#,
        ],
    );
    assert_eq!(
        rows,
        ["1|[1]", "-|-", "3|[3]", "-|-", "-|-", "-|-", "-|-", "6|[6]"]
    );
    let rows: Vec<usize> = bad.iter().map(|(row, _)| *row).collect();
    assert_eq!(rows, [1, 3, 4, 5, 6]);
    assert_eq!(bad[0].1, "field 'l': expected Int64, found the text 'x'");
    assert_eq!(bad[2].1, "expected a JSON object, found null");
    assert!(
        bad[3].1.starts_with("no JSON: trailing characters"),
        "{}",
        bad[3].1
    );
}

#[test]
fn a_name_matches_exactly_or_else_without_case_and_the_last_value_counts() {
    let fields = || {
        vec![
            field("id", DataType::Int64),
            field("Name", DataType::Utf8View),
        ]
    };
    let (rows, bad) = decode(
        fields(),
        &[
            r#"{"ID":1,"name":"x"}"#,
            r#"{"id":1,"ID":2}"#,
            r#"{"ID":2,"id":1}"#,
            r#"{"id":1,"id":2,"Name":"a","Name":null}"#,
            r#"{"ID":1,"Id":3}"#,
        ],
    );
    assert_eq!(rows, ["1|x", "1|-", "1|-", "2|-", "3|-"]);
    assert_eq!(bad, []);
    // Where two fields differ only in case, names must match exactly.
    let fields = vec![field("id", DataType::Int64), field("ID", DataType::Int64)];
    let (rows, _) = decode(fields, &[r#"{"ID":1,"Id":3}"#]);
    assert_eq!(rows, ["-|1"]);
}

#[test]
fn a_value_that_does_not_count_is_not_judged() {
    let inner = Fields::from(vec![field("i", DataType::Int64)]);
    let list = DataType::List(Arc::new(field("item", DataType::Struct(inner.clone()))));
    let fields = || {
        vec![
            field("i", DataType::Int64),
            field("s", DataType::Struct(inner.clone())),
            field("l", list.clone()),
        ]
    };
    let good = [
        (r#"{"i":"x","i":1}"#, "1|-|-"),
        (r#"{"I":"x","i":2}"#, "2|-|-"),
        (r#"{"i":2,"I":"x"}"#, "2|-|-"),
        (r#"{"I":"x","I":3}"#, "3|-|-"),
        (r#"{"i":[{"i":1}],"s":{"i":{},"i":4},"i":5}"#, "5|{i: 4}|-"),
        (r#"{"s":{"i":"x"},"i":6,"s":{"i":7}}"#, "6|{i: 7}|-"),
        (r#"{"s":9,"s":null}"#, "-|-|-"),
        (
            r#"{"l":[{"i":1},{"i":"x"},{}],"l":[{"I":"x","i":8}]}"#,
            "-|-|[{i: 8}]",
        ),
    ];
    let payloads: Vec<&str> = good.iter().map(|(payload, _)| *payload).collect();
    let (rows, bad) = decode(fields(), &payloads);
    assert_eq!(bad, []);
    assert_eq!(rows, good.map(|(_, row)| row));

    let (rows, bad) = decode(
        fields(),
        &[
            r#"{"i":1,"i":"x"}"#,
            r#"{"i":"x","I":1}"#,
            r#"{"i":"x","i":1,"s":{"i":true}}"#,
            r#"{"i":"x","s":{"i":1.5},"i":1}"#,
            // Invalid JSON is a fault even where its value would not count.
            r#"{"i":"\ud800","i":1}"#,
            r#"{"i":[01],"i":1}"#,
            r#"{"i":1}"#,
        ],
    );
    assert_eq!(rows[..6], ["-|-|-"; 6]);
    assert_eq!(rows[6], "1|-|-");
    let messages: Vec<&str> = bad.iter().map(|(_, message)| message.as_str()).collect();
    assert_eq!(
        messages[..4],
        [
            "field 'i': expected Int64, found the text 'x'",
            "field 'i': expected Int64, found the text 'x'",
            "field 's': field 'i': expected Int64, found a boolean",
            "field 's': field 'i': 1.5 does not fit Int64",
        ]
    );
    assert!(
        messages[4..].iter().all(|m| m.contains("no JSON: ")),
        "{messages:?}"
    );
}

#[test]
fn numbers_fit_exactly() {
    assert_eq!(one(DataType::Int64, "1.0"), Ok("1".into()));
    assert_eq!(one(DataType::Int64, "1e3"), Ok("1000".into()));
    let fault = one(DataType::Int64, "1.5").unwrap_err();
    assert_eq!(fault, "field 'f': 1.5 does not fit Int64");
    assert!(one(DataType::Int64, "9223372036854775808").is_err());
    assert!(one(DataType::Int32, "2147483648").is_err());
    assert!(one(DataType::Int64, "\"1\"").is_err());
    assert!(one(DataType::Float64, "NaN").is_err());
    assert!(one(DataType::Float64, "-Infinity").is_err());
    assert!(one(DataType::Float64, "01").is_err());
    assert_eq!(one(DataType::Float64, "-0.5e-1"), Ok("-0.05".into()));
    let money = DataType::Decimal128(12, 2);
    assert_eq!(
        one(money.clone(), "1234567890.12"),
        Ok("1234567890.12".into())
    );
    assert!(one(money.clone(), "0.001").is_err());
    // As Debezium writes decimals with `decimal.handling.mode=string`.
    assert_eq!(one(money.clone(), "\"12.30\""), Ok("12.30".into()));
    assert!(one(money, "\"12.301\"").is_err());
    assert_eq!(one(DataType::Boolean, "true"), Ok("true".into()));
    assert!(one(DataType::Boolean, "1").is_err());
}

#[test]
fn text_columns_keep_other_values_as_written() {
    let text = |value: &str| one(DataType::Utf8View, value);
    assert_eq!(text(r#""plain""#), Ok("plain".into()));
    assert_eq!(text(r#""\u00e4\n\"\ud83d\ude00""#), Ok("ä\n\"😀".into()));
    assert_eq!(text("1e3"), Ok("1e3".into()));
    assert_eq!(
        text("123456789012345678901234567890"),
        Ok("123456789012345678901234567890".into())
    );
    assert_eq!(text("true"), Ok("true".into()));
    assert_eq!(
        text(r#"{ "a" : [ 1, "x y\" z" ] }"#),
        Ok(r#"{"a":[1,"x y\" z"]}"#.into())
    );
    assert!(text(r#""\ud83d""#).is_err(), "half of a surrogate pair");
    assert!(text(r#"{"a":"\ud83d"}"#).is_err(), "also within");
}

#[test]
fn strings_become_moments_and_bytes() {
    let ms = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
    let shown = Ok("2026-01-14T10:00:00Z".into());
    assert_eq!(one(ms.clone(), "\"2026-01-14T11:00:00+01:00\""), shown);
    assert_eq!(one(ms, "1768384800000"), shown);
    assert_eq!(
        one(DataType::Date32, "\"2026-01-14\""),
        Ok("2026-01-14".into())
    );
    assert_eq!(one(DataType::Binary, "\"aGk=\""), Ok("6869".into()));
}

#[test]
fn objects_lists_and_maps_nest() {
    let point = Fields::from(vec![
        field("x", DataType::Int64),
        field("y", DataType::Int64),
    ]);
    let points = DataType::List(Arc::new(field("item", DataType::Struct(point))));
    assert_eq!(
        one(points.clone(), r#"[{"x":1,"y":2},null,{"Y":3}]"#),
        Ok("[{x: 1, y: 2}, , {x: , y: 3}]".into())
    );
    let fault = one(points, r#"[{"x":"a"}]"#).unwrap_err();
    assert_eq!(
        fault,
        "field 'f': field 'x': expected Int64, found the text 'a'"
    );
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        field("value", DataType::Int64),
    ]);
    let entries = Field::new("entries", DataType::Struct(entries), false);
    let map = DataType::Map(Arc::new(entries), false);
    assert_eq!(one(map, r#"{"a":1,"b":null}"#), Ok("{a: 1, b: }".into()));
}

#[test]
fn depth_is_bounded_everywhere() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    // The object itself is the first level.
    assert!(one(DataType::Utf8View, &nested(127)).is_ok());
    let fault = one(DataType::Utf8View, &nested(128)).unwrap_err();
    assert!(fault.contains("more than 128 deep"), "{fault}");
    assert!(one(DataType::Utf8View, &nested(10_000)).is_err());
    let unknown = format!("{{\"other\":{}}}", nested(10_000));
    let (rows, bad) = decode(vec![field("f", DataType::Int64)], &[&unknown, "{\"f\":1}"]);
    assert_eq!((rows, bad.len()), (vec!["-".to_owned(), "1".to_owned()], 1));
    let objects = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    assert!(Inference::default().add(objects.as_bytes()).is_err());
}

#[test]
fn fields_that_are_not_read_may_hold_anything_that_is_json() {
    let fields = Fields::from(vec![
        field("a", DataType::Int64),
        field("b", DataType::Int64),
    ]);
    let decoder = JsonDecoder::new(&fields, false).unwrap();
    let payloads: BinaryViewArray = [r#"{"a":1,"b":"x"}"#, r#"{"a":2,"b":"\ud800"}"#]
        .iter()
        .map(|p| Some(p.as_bytes()))
        .collect();
    let wanted = Wanted {
        fields: &[0],
        check_all: false,
        schema_ids: false,
    };
    let decoded = decoder.decode(&payloads, &wanted).unwrap();
    assert_eq!(decoded.columns[0].null_count(), 1);
    assert_eq!(decoded.bad.iter().map(|b| b.row).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_sample_tells_names_and_types() {
    let mut inference = Inference::default();
    for payload in [
        r#"{"id":1,"price":1,"tags":["a"],"at":null,"who":{"name":"x"}}"#,
        r#"{"id":2,"price":1.5,"tags":[],"mixed":1,"who":{"age":3},"big":18446744073709551615}"#,
        r#"{"id":3,"mixed":"x","none":null,"empty":{},"flag":true}"#,
    ] {
        inference.add(payload.as_bytes()).unwrap();
    }
    assert!(inference.add(b"[1]").is_err());
    let found: Vec<String> = inference
        .fields()
        .unwrap()
        .iter()
        .map(|f| format!("{} {}", f.name(), f.data_type()))
        .collect();
    assert_eq!(
        found,
        [
            "id Int64",
            "price Float64",
            "tags List(Utf8View)",
            "at Utf8View",
            "who Struct(\"name\": Utf8View, \"age\": Int64)",
            "mixed Utf8View",
            "big Utf8View",
            "none Utf8View",
            "empty Utf8View",
            "flag Boolean",
        ]
    );
}

fn any_type() -> impl Strategy<Value = DataType> {
    let leaf = prop_oneof![
        Just(DataType::Int64),
        Just(DataType::Int8),
        Just(DataType::UInt64),
        Just(DataType::Float32),
        Just(DataType::Boolean),
        Just(DataType::Utf8View),
        Just(DataType::Binary),
        Just(DataType::Date32),
        Just(DataType::Decimal128(9, 3)),
        Just(DataType::Timestamp(TimeUnit::Microsecond, None)),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            inner
                .clone()
                .prop_map(|t| DataType::List(Arc::new(field("item", t)))),
            prop::collection::vec(inner, 1..3).prop_map(|types| {
                let fields = types.into_iter().enumerate();
                DataType::Struct(fields.map(|(i, t)| field(&format!("f{i}"), t)).collect())
            }),
        ]
    })
}

proptest! {
    /// Whatever the bytes, rows stay in place, and a good payload reads as it would alone.
    #[test]
    fn any_bytes_keep_the_rows_in_place(
        types in prop::collection::vec(any_type(), 1..4),
        payloads in prop::collection::vec(
            prop_oneof![
                "\\{(\"f[0-3]\":(1|-2\\.5e1|\"x\"|null|true|\\[1,2\\]|\\{\"f0\":1\\}),?){0,4}\\}",
                "[\\[\\]{}:,\"\\\\a-f0-9.eE+ -]{0,40}",
                "\\PC{0,20}",
            ],
            1..12,
        ),
    ) {
        let fields: Vec<Field> = types
            .into_iter()
            .enumerate()
            .map(|(i, t)| field(&format!("f{i}"), t))
            .collect();
        let all: Vec<&str> = payloads.iter().map(String::as_str).collect();
        let (rows, bad) = decode(fields.clone(), &all);
        prop_assert_eq!(rows.len(), all.len());
        for (row, payload) in all.iter().enumerate() {
            let (alone, fault) = decode(fields.clone(), &[payload]);
            prop_assert_eq!(&rows[row], &alone[0]);
            let here = bad.iter().find(|(r, _)| *r == row).map(|(_, m)| m);
            prop_assert_eq!(here, fault.first().map(|(_, m)| m));
        }
    }
}

#[test]
fn a_registrys_frame_is_taken_off_where_there_is_a_registry() {
    let fields = Fields::from(vec![field("a", DataType::Int64)]);
    let payloads = BinaryViewArray::from_iter_values([
        b"\0\0\0\0\x07{\"a\":1}".as_slice(),
        b"{\"a\":2}",
        b"\0\0\0\0\x08",
        b"\0\0",
    ]);
    let wanted = Wanted {
        fields: &[0],
        check_all: true,
        schema_ids: true,
    };
    for (framed, good, ids) in [(true, 2, 2), (false, 1, 0)] {
        let decoder = JsonDecoder::new(&fields, framed).unwrap();
        let decoded = decoder.decode(&payloads, &wanted).unwrap();
        let values = &decoded.columns[0];
        assert_eq!(values.len() - values.null_count(), good);
        let found = decoded.schema_ids.unwrap();
        assert_eq!(found.len() - found.null_count(), ids);
        assert_eq!(decoded.bad.len(), 4 - good);
    }
}

/// An item of two bytes becomes a struct of 1,800.
#[test]
fn items_without_fields_have_a_bound() {
    let wide: Fields = (0..200)
        .map(|n| field(&format!("w{n}"), DataType::Int64))
        .collect();
    let wide = DataType::Struct(wide);
    let list = DataType::List(Arc::new(field("item", wide.clone())));
    let items = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
    assert!(one(list.clone(), &items(30)).is_ok());
    let fault = one(list, &items(10_000)).unwrap_err();
    assert_eq!(
        fault,
        "field 'f': elements of lists and maps would take more than 96 times the payload's bytes and \
         64 KiB for fields that they do not have; declare the columns that you want, with fewer \
         fields in them"
    );
    // Nor may a struct be repeated without bound.
    let again = vec!["\"f\":{}"; 10_000].join(",");
    let payload = format!("{{{again}}}");
    let (rows, bad) = decode(vec![field("f", wide)], &[&payload, "{}"]);
    assert_eq!((rows[1].as_str(), bad.len(), bad[0].0), ("-", 1, 0));
}

#[test]
fn fifty_megabytes_are_copied_a_few_times_at_most() {
    const LEN: usize = 50 << 20;
    let text = "x".repeat(LEN);
    for payload in [
        format!("{{\"f\":\"{text}\"}}"),
        format!("{{\"f\":[ \"{text}\" ]}}"),
        format!("{{\"g\":\"{text}\"}}"),
        format!("{{\"f\":\"{text}"),
    ] {
        let decoder = JsonDecoder::new(&vec![field("f", DataType::Utf8View)].into(), false);
        let payloads = BinaryViewArray::from_iter_values([payload.as_bytes()]);
        let wanted = Wanted {
            fields: &[0],
            check_all: true,
            schema_ids: false,
        };
        let decoded = decoder.unwrap().decode(&payloads, &wanted).unwrap();
        assert!(decoded.columns[0].get_buffer_memory_size() < 2 * LEN + 1024);
        assert_eq!(decoded.bad.len(), usize::from(!payload.ends_with('}')));
    }
}

#[test]
fn a_sample_has_a_thousand_names_at_most() {
    let object = |names: std::ops::Range<i32>| {
        let fields: Vec<String> = names.map(|n| format!("\"f{n}\":1")).collect();
        format!("{{{}}}", fields.join(","))
    };
    let sampled = |payloads: &[String]| {
        let mut inference = Inference::default();
        for payload in payloads {
            inference.add(payload.as_bytes()).unwrap();
        }
        inference.fields()
    };
    assert_eq!(sampled(&[object(0..1000)]).unwrap().len(), 1000);
    // Columns are never dropped silently.
    let many = Err("more than 1000 fields".to_owned());
    assert_eq!(sampled(&[object(0..100_000)]), many);
    assert_eq!(sampled(&[object(0..600), object(500..1100)]), many);
    // An inner object of that size is a map and not a schema, so its column is text.
    let within = |names| format!("{{\"m\":{}}}", object(names));
    for payloads in [&[within(0..1001)][..], &[within(0..600), within(500..1100)]] {
        let fields = sampled(payloads).unwrap();
        assert_eq!(fields[0].data_type(), &DataType::Utf8View);
    }
}
