//! Debezium's envelopes, with and without Kafka Connect's wrapper.

use proptest::prelude::*;

use super::*;
use crate::decode::column::timestamp_type;

fn row() -> DataType {
    let fields = vec![
        field("id", DataType::Int64),
        field("name", DataType::Utf8View),
    ];
    DataType::Struct(fields.into())
}

fn columns() -> Fields {
    Fields::from(vec![
        field("op", DataType::Utf8View),
        field("before", row()),
        field("after", row()),
        field("ts", timestamp_type()),
    ])
}

fn envelopes(columns: &Fields) -> JsonDecoder {
    JsonDecoder::debezium(columns, false).unwrap()
}

const CREATED: &str = r#"{"before":null,"after":{"id":1,"name":"a"},"source":{"db":"shop"},"op":"c","ts_ms":1768384800123,"transaction":null}"#;
const UPDATED: &str =
    r#"{"before":{"id":1,"name":"a"},"after":{"id":1,"name":"b"},"op":"u","ts_ms":null}"#;
const DELETED: &str = r#"{"before":{"id":1},"after":null,"op":"d","ts_ms":0}"#;

fn wrapped(payload: &str) -> String {
    let schema = r#"{"type":"struct","fields":[{"field":"op","type":"string"}],"name":"Envelope"}"#;
    format!(r#"{{"schema":{schema}, "payload" : {payload} }}"#)
}

#[test]
fn an_envelope_is_the_same_with_a_wrapper_and_without() {
    let expected = [
        "c|-|{id: 1, name: a}|2026-01-14T10:00:00.123Z",
        "u|{id: 1, name: a}|{id: 1, name: b}|-",
        "d|{id: 1, name: }|-|1970-01-01T00:00:00Z",
        "t|-|-|-",
        "m|-|-|-",
        "-|-|-|-",
        "-|-|-|-",
    ];
    let plain = [
        Some(CREATED),
        Some(UPDATED),
        Some(DELETED),
        Some(r#"{"op":"t","before":null,"after":null}"#),
        Some(r#"{"op":"m","message":{"prefix":"p"}}"#),
        None,
        None,
    ];
    let found = decode_with(&envelopes(&columns()), &plain);
    assert_eq!(found, (expected.map(str::to_owned).to_vec(), vec![]));

    let mut with: Vec<Option<String>> = plain.iter().map(|p| p.map(wrapped)).collect();
    // A tombstone within a wrapper, as some converters write it.
    with[6] = Some(r#"{"schema":null,"payload":null}"#.to_owned());
    let with: Vec<_> = with.iter().map(Option::as_deref).collect();
    let found = decode_with(&envelopes(&columns()), &with);
    assert_eq!(found, (expected.map(str::to_owned).to_vec(), vec![]));
}

#[test]
fn values_without_an_envelope_are_bad_even_if_op_is_not_selected() {
    let payloads = [
        Some(r#"{"id":1,"name":"a"}"#),
        Some(r#"{"op":null,"after":{"id":1}}"#),
        Some(r#"{"payload":{"op":"c"}}"#),
        Some(r#"{"schema":1,"payload":[]}"#),
        Some(r#"{"schema":1,"payload":{"op":"c","after":{"id":"x"}}}"#),
        Some(r#"{"schema":1,"payload":{"op":"c"}"#),
        Some(""),
        Some(CREATED),
    ];
    let after = Fields::from(vec![field("after", row())]);
    let (rows, bad) = decode_with(&envelopes(&after), &payloads);
    assert_eq!(rows[7], "{id: 1, name: a}");
    assert!(rows[..7].iter().all(|row| row == "-"));
    let faults: Vec<&str> = bad.iter().map(|(_, message)| message.as_str()).collect();
    assert_eq!(faults.len(), 7);
    for fault in &faults[..3] {
        assert!(fault.starts_with("not an envelope of Debezium"), "{fault}");
    }
    assert_eq!(faults[3], "expected a JSON object, found an array");
    assert!(faults[4].starts_with("field 'after': field 'id'"));
    assert!(faults[5].starts_with("no JSON"), "{}", faults[5]);
}

#[test]
fn only_wanted_fields_are_built_and_envelopes_still_recognised() {
    let decoder = envelopes(&columns());
    let payloads: BinaryViewArray = [CREATED, r#"{"id":1}"#]
        .iter()
        .map(|p| Some(p.as_bytes()))
        .collect();
    let wanted = Wanted {
        fields: &[2],
        check_all: false,
        schema_ids: false,
    };
    let decoded = decoder.decode(&payloads, &wanted).unwrap();
    assert_eq!(decoded.columns.len(), 1);
    assert_eq!(decoded.bad.len(), 1);
}

#[test]
fn columns_are_those_of_an_envelope() {
    let refused = |name: &str, data_type| {
        let columns = Fields::from(vec![field(name, data_type)]);
        JsonDecoder::debezium(&columns, false)
            .unwrap_err()
            .to_string()
    };
    let found = refused("id", DataType::Int64);
    assert!(
        found.contains("whose columns are op, before, after, source, ts"),
        "{found}"
    );
    let found = refused("ts", DataType::Timestamp(TimeUnit::Nanosecond, None));
    assert!(
        found.contains("declare TIMESTAMP(3) WITH TIME ZONE"),
        "{found}"
    );
}

#[test]
fn keys_have_a_wrapper_and_no_envelope() {
    let fields = Fields::from(vec![field("id", DataType::Int64)]);
    let decoder = JsonDecoder::new(&fields, false).unwrap().wrapped();
    let keys = [
        Some(r#"{"id":1}"#),
        Some(r#"{"schema":{"type":"struct"},"payload":{"id":2}}"#),
        Some(r#"{"schema":{},"payload":{"id":3},"id":4}"#),
    ];
    let (rows, bad) = decode_with(&decoder, &keys);
    assert_eq!(
        (rows, bad),
        (vec!["1".into(), "2".into(), "4".into()], vec![])
    );
}

#[test]
fn columns_are_learned_of_rows_before_and_after() {
    let mut inference = Inference::default();
    let truncated = r#"{"op":"t","before":null,"after":null,"source":{"db":"x","lsn":1}}"#;
    let deleted = r#"{"op":"d","before":{"id":1,"old":true},"after":null,"ts_ms":1}"#;
    for payload in [truncated, CREATED, deleted] {
        inference.add(payload.as_bytes()).unwrap();
    }
    let found: Vec<String> = inference
        .debezium_columns()
        .unwrap()
        .iter()
        .map(|f| format!("{} {}", f.name(), f.data_type()))
        .collect();
    let row = "Struct(\"id\": Int64, \"old\": Boolean, \"name\": Utf8View)";
    assert_eq!(
        found,
        [
            "op Utf8View".to_owned(),
            format!("before {row}"),
            format!("after {row}"),
            "source Struct(\"db\": Utf8View, \"lsn\": Int64)".to_owned(),
            "ts Timestamp(ms, \"UTC\")".to_owned(),
        ]
    );
    let mut rows = Inference::default();
    rows.add(b"{\"id\":1}").unwrap();
    assert!(rows.debezium_columns().is_none());
}

proptest! {
    /// Whatever the bytes, rows stay in place, and a wrapper changes nothing about its content.
    #[test]
    fn any_bytes_keep_the_rows_in_place(
        payloads in prop::collection::vec(
            prop_oneof![
                "\\{(\"(op|before|after|ts_ms|schema|payload)\":(1|\"c\"|null|\\{\"id\":1\\}|\\[1\\]),?){0,4}\\}",
                "[\\[\\]{}:,\"\\\\a-f0-9.eE+ -]{0,40}",
                Just(CREATED.to_owned()),
            ],
            1..8,
        ),
    ) {
        let decoder = envelopes(&columns());
        let all: Vec<_> = payloads.iter().map(|p| Some(p.as_str())).collect();
        let (rows, bad) = decode_with(&decoder, &all);
        prop_assert_eq!(rows.len(), all.len());
        for (row, payload) in payloads.iter().enumerate() {
            let (alone, fault) = decode_with(&decoder, &[Some(payload)]);
            prop_assert_eq!(&rows[row], &alone[0]);
            let here = bad.iter().any(|(r, _)| *r == row);
            prop_assert_eq!(here, !fault.is_empty());
            if fault.is_empty() && unwrapped(payload.as_bytes()).is_none() {
                let (within, _) = decode_with(&decoder, &[Some(&wrapped(payload))]);
                prop_assert_eq!(&rows[row], &within[0]);
            }
        }
    }
}
