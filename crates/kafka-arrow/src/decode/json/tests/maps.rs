//! JSON objects as maps.

use proptest::prelude::*;

use super::*;

fn map(key: DataType, value: DataType) -> DataType {
    let entry = Fields::from(vec![Field::new("key", key, false), field("value", value)]);
    let entries = Field::new("entries", DataType::Struct(entry), false);
    DataType::Map(Arc::new(entries), false)
}

fn counts() -> DataType {
    map(DataType::Utf8View, DataType::Int64)
}

#[test]
fn the_last_value_of_a_key_counts() {
    let (rows, bad) = decode(
        vec![field("f", counts())],
        &[
            r#"{"f":{"a":1,"b":2,"a":3}}"#,
            r#"{"f":{"a":4,"a":5,"a":6}}"#,
            r#"{"f":{}}"#,
            r#"{"f":{"a":7,"a":"x"}}"#,
            r#"{"f":null}"#,
            r#"{"f":{"a":8,"a":8},"F":{"z":1}}"#,
            r#"{"f":{"a":8,"a":8},"f":{"z":1,"z":2}}"#,
            r#"{"f":{"b":9}}"#,
            r#"{"f":{"a":"x","b":1,"a":2}}"#,
            r#"{"f":{"a":"x","b":"y","a":2}}"#,
            r#"{"f":{"a":"x"},"f":{"a":3}}"#,
        ],
    );
    assert_eq!(
        rows,
        [
            "{b: 2, a: 3}",
            "{a: 6}",
            "{}",
            "-",
            "-",
            "{a: 8}",
            "{z: 2}",
            "{b: 9}",
            "{b: 1, a: 2}",
            "-",
            "{a: 3}",
        ]
    );
    let bad: Vec<String> = bad.iter().map(|(row, m)| format!("{row} {m}")).collect();
    assert_eq!(
        bad,
        [
            "3 field 'f': expected Int64, found the text 'x'",
            "9 field 'f': expected Int64, found the text 'y'",
        ]
    );
}

#[test]
fn many_keys_are_told_apart() {
    let entries = |turn: usize| (0..40).map(move |n| format!("\"k{n}\":{}", n + turn * 100));
    let all: Vec<String> = entries(0).chain(entries(1)).collect();
    let found = one(counts(), &format!("{{{}}}", all.join(","))).unwrap();
    let expected: Vec<String> = (0..40).map(|n| format!("k{n}: {}", n + 100)).collect();
    assert_eq!(found, format!("{{{}}}", expected.join(", ")));
}

#[test]
fn maps_nest() {
    let list = DataType::List(Arc::new(field("item", counts())));
    let nested = map(DataType::Utf8, list);
    assert_eq!(
        one(nested, r#"{"x":[{"a":1},{"b":1,"b":2}],"y":null,"x":[]}"#),
        Ok("{y: , x: []}".into())
    );
    let list = DataType::List(Arc::new(field("item", counts())));
    assert_eq!(
        one(list, r#"[{"a":1,"a":2},null,{},{"a":3}]"#),
        Ok("[{a: 2}, , {}, {a: 3}]".into())
    );
}

#[test]
fn keys_are_text() {
    let fields = Fields::from(vec![field("f", map(DataType::Int32, DataType::Int64))]);
    let refused = JsonDecoder::new(&fields, false).unwrap_err().to_string();
    assert!(
        refused.contains("'f'") && refused.contains("declare MAP<VARCHAR, …>"),
        "{refused}"
    );
}

proptest! {
    /// The entries match a map that is built entry by entry.
    #[test]
    fn entries_are_those_of_a_map(
        rows in prop::collection::vec(prop::collection::vec((0..30_u8, any::<i64>()), 0..50), 1..5),
    ) {
        let payloads: Vec<String> = rows
            .iter()
            .map(|entries| {
                let entries = entries.iter().map(|(key, value)| format!("\"{key}\":{value}"));
                format!("{{\"f\":{{{}}}}}", entries.collect::<Vec<_>>().join(","))
            })
            .collect();
        let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
        let (found, bad) = decode(vec![field("f", counts())], &payloads);
        prop_assert_eq!(bad, []);
        for (entries, found) in rows.iter().zip(found) {
            let kept = entries.iter().enumerate().filter(|(place, (key, _))| {
                !entries[place + 1..].iter().any(|(later, _)| later == key)
            });
            let kept: Vec<String> = kept.map(|(_, (key, value))| format!("{key}: {value}")).collect();
            prop_assert_eq!(found, format!("{{{}}}", kept.join(", ")));
        }
    }
}
