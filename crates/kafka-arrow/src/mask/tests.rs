//! Masks on records.

use arrow::array::{Array, AsArray, BinaryViewArray, Int64Array};

use super::*;
use crate::range::TopicPartition;

fn masks(list: &str) -> Masks {
    Masks::new(list, Some("pepper")).unwrap().unwrap()
}

fn batch(topic: &str, key: Option<&[u8]>, value: Option<&[u8]>) -> RawBatch {
    let mut headers = Headers::new();
    headers.push(b"user", Some(b"alice"));
    headers.push(b"trace", None);
    headers.end_row();
    RawBatch {
        keys: Some(BinaryViewArray::from_iter([key])),
        values: Some(BinaryViewArray::from_iter([value])),
        headers: Some(headers.finish().unwrap()),
        budgeted_bytes: 7,
        ..RawBatch::new(TopicPartition::new(topic, 0), 1, Int64Array::from(vec![0]))
    }
}

fn shown(payloads: &Option<BinaryViewArray>) -> Option<String> {
    let all = payloads.as_ref().unwrap();
    all.is_valid(0)
        .then(|| String::from_utf8(all.value(0).to_vec()).unwrap())
}

#[test]
fn names_of_topics_may_have_stars() {
    for (name, topic, is) in [
        ("orders", "orders", true),
        ("orders", "orders2", false),
        ("orders*", "orders", true),
        ("*", "x", true),
        ("eu.*.v1", "eu.orders.v1", true),
        ("eu.*.v1", "eu.v1", false),
        ("a*b*a", "aba", true),
        ("a*b*a", "aa", false),
        ("ab*b", "ab", false),
    ] {
        assert_eq!(TopicName(name.to_owned()).is(topic), is, "{name} {topic}");
    }
}

#[test]
fn each_part_of_a_record_is_masked_and_others_stay() {
    let json = br#"{"card":"4111222233334444"}"#;
    let masked = masks("t.$.card=last4")
        .apply(batch("t", Some(b"k"), Some(json)), &|_, _, _| None)
        .unwrap();
    assert_eq!(shown(&masked.values).unwrap(), r#"{"card":"****4444"}"#);
    assert_eq!(shown(&masked.keys).unwrap(), "k");
    assert_eq!(masked.budgeted_bytes, 0);

    let masked = masks("t.key=hash, t.value")
        .apply(batch("t", Some(b"k"), Some(json)), &|_, _, _| None)
        .unwrap();
    assert_eq!(shown(&masked.keys).unwrap().len(), 32);
    assert_eq!(shown(&masked.values), None);

    let masked = masks("other.value")
        .apply(batch("t", Some(b"k"), Some(json)), &|_, _, _| None)
        .unwrap();
    assert_eq!(shown(&masked.values).unwrap().as_bytes(), json);
    assert_eq!(masked.budgeted_bytes, 7);
}

/// The end of a whole is in a part of it.
#[test]
fn a_whole_shows_no_more_than_its_parts() {
    let json = br#"{"card":"4111222233334444"}"#;
    for (list, shown_value) in [
        ("t.value=last9", Some("****3334444\"}")),
        ("t.value=last9, t.$.card", None),
        ("t.value=last9, *.other=last2", Some("****\"}")),
        (
            "t.key=last9, t.$.card=last4",
            Some(r#"{"card":"****4444"}"#),
        ),
        ("t.value=last9, u.$.card", Some("****3334444\"}")),
    ] {
        let masked = masks(list).apply(batch("t", None, Some(json)), &|_, _, _| None);
        assert_eq!(
            shown(&masked.unwrap().values).as_deref(),
            shown_value,
            "{list}"
        );
    }
    let masked = masks("t.value=last9, t.$.card=hash");
    let masked = masked.apply(batch("t", None, Some(json)), &|_, _, _| None);
    assert_eq!(shown(&masked.unwrap().values).unwrap().len(), 32);
}

#[test]
fn a_payload_that_is_no_json_is_hidden_as_a_whole_and_a_frame_stays() {
    let masks = masks("t.card");
    let value = |value: Option<&[u8]>| {
        let masked = masks
            .apply(batch("t", None, value), &|_, _, _| None)
            .unwrap();
        let values = masked.values.unwrap();
        values.is_valid(0).then(|| values.value(0).to_vec())
    };
    // A length and digits are a number of JSON, after a blank.
    assert_eq!(
        value(Some(b"\0\0\0\0\x09 4111222233334444")).unwrap(),
        UNREADABLE
    );
    assert_eq!(value(Some(b"card 4111")).unwrap(), UNREADABLE);
    assert_eq!(value(Some(b"\0\0\0\0\x09\x0a4111")).unwrap(), UNREADABLE);
    assert_eq!(
        value(Some(b"\0\0\0\0\x09{\"card\":1}")).unwrap(),
        b"\0\0\0\0\x09{\"card\":null}"
    );
    assert_eq!(value(None), None);
    assert!(serde_json::from_slice::<serde_json::Value>(UNREADABLE).is_err());
}

/// With paths and fields of CSV for one topic, JSON has the former and all else the latter.
#[test]
fn fields_of_csv_are_hidden_by_their_places() {
    for (list, value, shown_value) in [
        ("t.csv[2]=last4", "1,4111222233334444", "1,****4444"),
        ("t.csv[2]", "1", "[masked]"),
        (
            "t.csv[2], t.$.card",
            r#"{"card":1,"x":2}"#,
            r#"{"card":null,"x":2}"#,
        ),
        ("t.csv[2], *.card", "1,4111", "1,"),
        (
            "t.csv[2], *.card",
            r#"{"a":1,"b":2,"card":4111"#,
            "[masked]",
        ),
        ("t.csv[2], u.csv[1 by ;]", "1,4111", "1,"),
        ("t.csv[2], t.csv[1 by ;]", "1,4111", "[masked]"),
        ("t.csv[2], t.value=last2", "1,4111222233334444", "NULL"),
    ] {
        let masked = masks(list).apply(batch("t", None, Some(value.as_bytes())), &|_, _, _| None);
        let found = shown(&masked.unwrap().values);
        assert_eq!(found.unwrap_or("NULL".to_owned()), shown_value, "{list}");
    }
    let of: Vec<_> = masks("t.key.csv[1]").hidden(Payload::Key).collect();
    assert_eq!(of, [Hidden::InCsv]);
}

#[test]
fn headers_keep_their_names() {
    for (list, user) in [
        ("t.headers", None),
        ("t.headers[user]=last2", Some("****ce")),
        ("t.headers[x]", Some("alice")),
    ] {
        let masked = masks(list)
            .apply(batch("t", None, None), &|_, _, _| None)
            .unwrap();
        let headers = masked.headers.unwrap().value(0);
        let headers = headers.as_struct();
        let names: Vec<_> = headers
            .column(0)
            .as_string::<i32>()
            .iter()
            .flatten()
            .collect();
        assert_eq!(names, ["user", "trace"]);
        let values = headers.column(1).as_binary::<i32>();
        let found = values.is_valid(0).then(|| values.value(0));
        assert_eq!(found, user.map(str::as_bytes), "{list}");
        assert!(values.is_null(1));
    }
}

#[test]
fn a_hash_without_a_salt_is_refused_and_the_salt_is_never_shown() {
    let error = Masks::new("t.key=hash", None).unwrap_err().to_string();
    assert!(error.contains("set mask.salt"), "{error}");
    assert!(Masks::new("", None).unwrap().is_none());
    let masks = masks("t.key=hash, u.value");
    for text in [format!("{masks:?}"), masks.to_string(), masks.description()] {
        assert!(
            !text.contains("pepper") && text.contains("t.key=hash"),
            "{text}"
        );
    }
    let among = |topic: &str| masks.among(Some(&[topic.into()]));
    assert!(among("x").is_none());
    let of = |masks: &Masks, payload| masks.hidden(payload).collect::<Vec<_>>();
    assert_eq!(of(&among("t").unwrap(), Payload::Key), [Hidden::Replaced]);
    assert_eq!(of(&among("u").unwrap(), Payload::Value), [Hidden::Null]);
    assert_eq!(
        of(&masks.among(None).unwrap(), Payload::Value),
        [Hidden::Null]
    );
    assert!(!among("u").unwrap().description().contains("salt"));
    assert!(masks.concern("u") && !masks.concern("x"));
}
