//! Bytes that no writer produced. None may panic, take memory that its length does not justify, or disturb
//! other rows.

use std::time::{Duration, Instant};

use proptest::prelude::{ProptestConfig, any, prop, proptest};

use super::encode::{Datum, long, none, some, text};
use super::random::Random;
use super::{all, decode, decode_fields, one, plain, row, rows};
use crate::decode::payload::PayloadDecoder;

/// A schema with something of each kind.
pub(super) const RICH: &str = r#"{"type":"record","name":"R","fields":[
    {"name":"a","type":"boolean"},{"name":"b","type":"int"},{"name":"c","type":"long"},
    {"name":"d","type":"float"},{"name":"e","type":"double"},{"name":"f","type":"bytes"},
    {"name":"g","type":"string"},{"name":"h","type":{"type":"enum","name":"E","symbols":["X","Y"]}},
    {"name":"i","type":{"type":"fixed","name":"F","size":3}},
    {"name":"j","type":{"type":"array","items":["null",{"type":"record","name":"S","fields":[
        {"name":"p","type":"string"},{"name":"q","type":{"type":"map","values":"int"}}]}]}},
    {"name":"k","type":{"type":"map","values":{"type":"array","items":"string"}}},
    {"name":"l","type":["null","string","long","S"]},
    {"name":"m","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},
    {"name":"n","type":{"type":"fixed","name":"D","size":12,"logicalType":"duration"}},
    {"name":"o","type":{"type":"int","logicalType":"time-millis"}},
    {"name":"p","type":{"type":"array","items":"null"}},
    {"name":"q","type":["null","double"]},
    {"name":"r","type":{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}}]}"#;

pub(super) fn rich(n: i64) -> Datum {
    let inner = || {
        Datum::Record(vec![
            text("inner"),
            Datum::Map(vec![("k".to_owned(), Datum::Long(n % 1000))]),
        ])
    };
    Datum::Record(vec![
        Datum::Boolean(n % 2 == 0),
        Datum::Long(n % 1000),
        Datum::Long(n),
        Datum::Float(0.5),
        Datum::Double(n as f64),
        Datum::Bytes(vec![1, 2, 3]),
        text(&format!("number {n}")),
        Datum::Enum((n % 2).unsigned_abs() as usize),
        Datum::Fixed(vec![7; 3]),
        Datum::Array(vec![some(inner()), none(), some(inner())]),
        Datum::Map(vec![(
            "m".to_owned(),
            Datum::Array(vec![text("x"), text("y")]),
        )]),
        Datum::Union(3, Box::new(inner())),
        Datum::Bytes(vec![4, 210]),
        Datum::Fixed(vec![1; 12]),
        Datum::Long(n % 86_400_000),
        Datum::Array(vec![Datum::Null; 3]),
        some(Datum::Double(0.25)),
        Datum::Fixed(vec![9; 16]),
    ])
}

#[test]
fn every_truncation_is_bad() {
    let decoder = plain(RICH, None).unwrap();
    let whole = rich(123_456).encode();
    let mut payloads = Vec::new();
    for length in 0..whole.len() {
        payloads.push(Some(whole[..length].to_vec()));
        payloads.push(Some(whole.clone()));
    }
    let decoded = decode(&decoder, &payloads);
    assert_eq!(decoded.bad.len(), whole.len());
    let lines = rows(&decoded.columns);
    for row in 0..whole.len() {
        assert_eq!(decoded.bad[row].row, 2 * row);
        assert_eq!(lines[2 * row + 1], lines[1]);
    }
}

/// Corrupts a payload as storage and senders may: bits, bytes, pieces.
fn mutate(random: &mut Random, payload: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let place = random.below(payload.len().max(1));
        match random.below(6) {
            0 if !payload.is_empty() => payload[place] ^= 1 << random.below(8),
            1 if !payload.is_empty() => payload[place] = 0xff,
            2 => payload.insert(place.min(payload.len()), random.below(256) as u8),
            3 if !payload.is_empty() => drop(payload.remove(place)),
            4 => payload.truncate(place),
            _ => {
                let mut huge = Vec::new();
                long(random.next().cast_signed(), &mut huge);
                let end = (place + random.below(3)).min(payload.len());
                drop(payload.splice(place.min(end)..end, huge));
            }
        }
    }
}

#[test]
fn mutations_do_not_disturb_their_neighbours() {
    let decoder = plain(RICH, None).unwrap();
    let mut random = Random::new(7);
    for _ in 0..150 {
        let mut payloads = Vec::new();
        for n in 0..32 {
            payloads.push(Some(rich(n).encode()));
            let mut changed = rich(n).encode();
            mutate(&mut random, &mut changed);
            payloads.push(Some(changed));
        }
        let decoded = decode(&decoder, &payloads);
        assert!(decoded.bad.iter().all(|bad| bad.row % 2 == 1));
        let lines = rows(&decoded.columns);
        for n in 0..32 {
            let alone = row(&decoder, payloads[2 * n].clone().unwrap());
            assert_eq!(lines[2 * n], alone.unwrap());
        }
        // The choice of fields changes neither which rows are bad nor why.
        let some: Vec<_> = all(&decoder)
            .into_iter()
            .filter(|_| random.below(2) == 0)
            .collect();
        assert_eq!(decode_fields(&decoder, &payloads, &some).bad, decoded.bad);
    }
}

/// As the writer's schema, all but one of its fields are skipped.
#[test]
fn mutations_of_skipped_fields() {
    let reader = r#"{"type":"record","name":"R","fields":[{"name":"c","type":"long"}]}"#;
    let decoder = plain(reader, Some(RICH)).unwrap();
    let mut random = Random::new(8);
    for _ in 0..200 {
        let payloads: Vec<_> = (0..64)
            .map(|n| {
                let mut payload = rich(n).encode();
                if n % 2 == 1 {
                    mutate(&mut random, &mut payload);
                }
                Some(payload)
            })
            .collect();
        let decoded = decode(&decoder, &payloads);
        assert!(decoded.bad.iter().all(|bad| bad.row % 2 == 1));
        let lines = rows(&decoded.columns);
        assert!((0..64).step_by(2).all(|n| lines[n] == n.to_string()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes_do_not_panic(payloads in prop::collection::vec(
        prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let recursive = r#"{"type":"record","name":"R","fields":[
            {"name":"next","type":["null","R",{"type":"array","items":"R"}]},
            {"name":"c","type":"long"}]}"#;
        let reader = r#"{"type":"record","name":"R","fields":[{"name":"c","type":"long"}]}"#;
        let payloads: Vec<_> = payloads.into_iter().map(Some).collect();
        for decoder in [plain(RICH, None), plain(reader, Some(RICH)), plain(reader, Some(recursive))] {
            decode(&decoder.unwrap(), &payloads);
        }
    }

    #[test]
    fn random_schemas_do_not_panic(text in r#"[\{\}\[\]",:a-z ]{0,60}"#) {
        // Any result is fine.
        let _ = plain(&text, None);
        let _ = plain(&one(&text), None);
    }
}

/// Numbers, encoded one after the other.
fn longs(values: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| long(*value, &mut out));
    out
}

#[test]
fn counts_and_lengths_are_not_taken_at_their_word() {
    let nothing = r#"{"type":"record","name":"N","fields":[{"name":"n","type":"null"}]}"#;
    let array = |items: &str| format!(r#"{{"type":"array","items":{items}}}"#);
    let huge = 1 << 40;
    let cases: Vec<(String, Vec<i64>)> = vec![
        (array(r#""null""#), vec![huge, 0]),
        (array(r#""null""#), vec![i64::MAX, 0]),
        (array(r#""null""#), vec![i64::MIN, 0, 0]),
        (array(r#""null""#), vec![4_000, 4_000, 0]),
        (array(nothing), vec![huge, 0]),
        (
            array(r#"{"type":"fixed","name":"F","size":0}"#),
            vec![huge, 0],
        ),
        (
            array(&array(r#""null""#)),
            vec![3, 3_000, 0, 3_000, 0, 3_000, 0, 0],
        ),
        (array(r#""int""#), vec![huge, 1]),
        (array(r#""int""#), vec![-huge, 1, 1]),
        (array(r#""int""#), vec![-1, huge, 1]),
        (array(r#""int""#), vec![-1, -1, 1]),
        (
            r#"{"type":"map","values":"null"}"#.to_owned(),
            vec![huge, 0],
        ),
        (r#""string""#.to_owned(), vec![i64::MAX]),
        (r#""bytes""#.to_owned(), vec![i64::MIN]),
        (
            r#"{"type":"fixed","name":"F","size":2147483647}"#.to_owned(),
            vec![1],
        ),
        (r#"["null","int"]"#.to_owned(), vec![2]),
        (r#"["null","int"]"#.to_owned(), vec![-1]),
        (
            r#"{"type":"enum","name":"E","symbols":["A"]}"#.to_owned(),
            vec![1],
        ),
        (r#""int""#.to_owned(), vec![1 << 31]),
    ];
    let started = Instant::now();
    let other = r#"{"type":"record","name":"R","fields":[]}"#;
    for (of, values) in cases {
        let payload = longs(&values);
        let decoder = plain(&one(&of), None).unwrap();
        let bad = row(&decoder, payload.clone()).unwrap_err();
        assert_eq!(bad.class, "syntax", "{of} {values:?}: {}", bad.message);
        // Skipping finds it just as bad, unless a block itself says that it has no bytes.
        let decoder = plain(other, Some(&one(&of))).unwrap();
        let bad = decode(&decoder, &[Some(payload)]).bad;
        assert_eq!(
            bad.is_empty(),
            values[0] == i64::MIN && values.len() == 3,
            "{of} {values:?}"
        );
    }
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn numbers_that_are_too_long() {
    let decoder = plain(&one(r#""long""#), None).unwrap();
    let mut most = vec![0xff; 9];
    most.push(1);
    assert_eq!(row(&decoder, most).unwrap(), i64::MIN.to_string());
    for (payload, expected) in [
        (vec![0xff; 9], "field 'x': the payload ends within a number"),
        (vec![0xff; 10], "field 'x': a number is longer than 64 bits"),
        (
            [vec![0x80; 9], vec![2]].concat(),
            "field 'x': a number is longer than 64 bits",
        ),
    ] {
        assert_eq!(row(&decoder, payload).unwrap_err().message, expected);
    }
    let mut padded = vec![0x82, 0x80, 0x00];
    assert_eq!(row(&decoder, padded.clone()).unwrap(), "1");
    padded.push(0);
    assert_eq!(row(&decoder, padded).unwrap_err().class, "syntax");
    assert_eq!(decoder.fields().len(), 1);
}

/// Items of one byte or none that would take hundreds of bytes in columns.
#[test]
fn absent_fields_of_items_are_bounded() {
    let fields: Vec<String> = (0..300)
        .map(|n| format!(r#"{{"name":"w{n}","type":"long","default":0}}"#))
        .collect();
    let wide = |fields: &str| {
        one(&format!(
            r#"{{"type":"array","items":["null",{{"type":"record","name":"W","fields":[{fields}]}}]}}"#
        ))
    };
    let (full, empty) = (wide(&fields.join(",")), wide(""));
    let symbols = one(&format!(
        r#"{{"type":"array","items":{{"type":"enum","name":"E","symbols":["{}"]}}}}"#,
        "y".repeat(400)
    ));
    let fixed = one(r#"{"type":"map","values":["null",{"type":"fixed","name":"F","size":1000}]}"#);
    let text = |field: &str| {
        one(&format!(
            r#"{{"type":"array","items":{{"type":"record","name":"T","fields":[{field}]}}}}"#
        ))
    };
    let default = text(&format!(
        r#"{{"name":"t","type":"string","default":"{}"}}"#,
        "y".repeat(400)
    ));
    let nothing = text("");
    // Nulls, records of nothing but defaults, symbols, nulls in a map, items of no bytes.
    let items = |count: i64, byte: &[u8]| {
        let mut payload = longs(&[count]);
        payload.extend(byte.repeat(count as usize));
        payload.push(0);
        payload
    };
    for (reader, writer, item) in [
        (&full, &full, &[0][..]),
        (&full, &empty, &[2]),
        (&symbols, &symbols, &[0]),
        (&fixed, &fixed, &[0, 0]),
        (&default, &nothing, &[]),
    ] {
        let decoder = plain(reader, Some(writer)).unwrap();
        assert!(row(&decoder, items(20, item)).is_ok(), "{writer}");
        let bad = row(&decoder, items(4_000, item)).unwrap_err();
        assert_eq!(bad.class, "size", "{}", bad.message);
        assert!(bad.message.starts_with("field 'x': elements of lists"));
    }
}

/// Skipped records without bytes only cost time.
#[test]
fn skipped_fields_take_little_time() {
    let nulls: Vec<String> = (0..5_000)
        .map(|n| format!(r#"{{"name":"n{n}","type":"null"}}"#))
        .collect();
    let writer = one(&format!(
        r#"{{"type":"array","items":{{"type":"record","name":"W","fields":[{{"name":"b","type":"boolean"}},{}]}}}}"#,
        nulls.join(",")
    ));
    let other = r#"{"type":"record","name":"R","fields":[]}"#;
    let mut payload = longs(&[1 << 17]);
    payload.resize(1 << 17, 0);
    for reader in [other, &writer] {
        let decoder = plain(reader, Some(&writer)).unwrap();
        let bad = decode(&decoder, &[Some(payload.clone())]).bad;
        assert_eq!(bad.len(), 1);
        assert_eq!(bad[0].class, "size");
    }
}

#[test]
fn ten_thousand_levels_are_no_recursion() {
    let recursive = r#"{"type":"record","name":"R","fields":[
        {"name":"next","type":["null","R",{"type":"array","items":"R"}]},{"name":"c","type":"long"}]}"#;
    let reader = r#"{"type":"record","name":"R","fields":[{"name":"c","type":"long"}]}"#;
    let decoder = plain(reader, Some(recursive)).unwrap();
    // A record within a record, and an array of one within an array of one.
    for level in [&[2][..], &[4, 2]] {
        let bad = row(&decoder, level.repeat(10_000)).unwrap_err();
        assert_eq!(
            (bad.class, bad.message.contains("nested deeper than 64")),
            ("syntax", true),
            "{}",
            bad.message
        );
    }
    let nested = |levels: usize| {
        let (open, close) = (
            r#"{"type":"array","items":"#.repeat(levels),
            "}".repeat(levels),
        );
        plain(&one(&format!("{open}\"int\"{close}")), None).map(drop)
    };
    assert!(nested(20).is_ok());
    assert!(nested(70).is_err() && nested(10_000).is_err());
}
