//! Compares the scan with jiter on whole payloads: both accept the same JSON and read the same values.

use jiter::{Jiter, JiterResult, Peek};

use super::super::scan::Scan;
use super::*;
use crate::decode::builder::Builder;
use crate::decode::value::{self, Fault};

/// The content of a document in order, read by jiter alone.
fn by_jiter(json: &[u8]) -> Result<Vec<String>, String> {
    let mut jiter = Jiter::new(json);
    let mut seen = vec![];
    let outcome = jiter_value(&mut jiter, &mut seen).and_then(|()| jiter.finish());
    let told = |e: jiter::JiterError| format!("no JSON: {} at byte {}", e.error_type, e.index);
    outcome.map(|()| seen).map_err(told)
}

fn jiter_value(jiter: &mut Jiter<'_>, seen: &mut Vec<String>) -> JiterResult<()> {
    let peek = jiter.peek()?;
    match peek {
        Peek::Object => {
            let mut key = jiter.known_object()?.map(str::to_owned);
            while let Some(name) = key {
                seen.push(name);
                jiter_value(jiter, seen)?;
                key = jiter.next_key()?.map(str::to_owned);
            }
            seen.push("}".to_owned());
        }
        Peek::Array => {
            let mut next = jiter.known_array()?;
            while next.is_some() {
                jiter_value(jiter, seen)?;
                next = jiter.array_step()?;
            }
            seen.push("]".to_owned());
        }
        Peek::String => seen.push(jiter.known_str()?.to_owned()),
        Peek::Null => jiter.known_null().map(|()| seen.push("null".to_owned()))?,
        Peek::True | Peek::False => seen.push(jiter.known_bool(peek)?.to_string()),
        _ => {
            let digits = jiter.known_number_bytes(peek)?;
            seen.push(String::from_utf8_lossy(digits).into_owned());
        }
    }
    Ok(())
}

fn by_scan(json: &[u8]) -> Result<Vec<String>, String> {
    let mut scan = Scan::new(json);
    let mut seen = vec![];
    let outcome = scan_value(&mut scan, &mut seen).and_then(|()| scan.finish());
    outcome.map(|()| seen).map_err(|fault| fault.message)
}

fn scan_value(scan: &mut Scan<'_>, seen: &mut Vec<String>) -> Result<(), Fault> {
    let peek = scan.peek()?;
    match peek {
        Peek::Object => {
            let mut more = scan.object()?;
            while more {
                match ["f0", "ä"]
                    .iter()
                    .find(|name| scan.key_is(format!("\"{name}\"").as_bytes()))
                {
                    Some(name) => seen.push((*name).to_owned()),
                    None => seen.push(scan.key()?.into_owned()),
                }
                scan_value(scan, seen)?;
                more = scan.next_key()?;
            }
            seen.push("}".to_owned());
        }
        Peek::Array => {
            let mut next = scan.array()?;
            while next.is_some() {
                scan_value(scan, seen)?;
                next = scan.next_item()?;
            }
            seen.push("]".to_owned());
        }
        Peek::String => seen.push(String::from_utf8(scan.text()?.into_owned()).unwrap()),
        Peek::Null => scan.null().map(|()| seen.push("null".to_owned()))?,
        Peek::True | Peek::False => seen.push(scan.bool(peek)?.to_string()),
        _ => {
            let (digits, short) = scan.number(peek)?;
            let text = std::str::from_utf8(digits).unwrap();
            if let Some(short) = short {
                assert_number(text, short.digits, short.places);
            }
            seen.push(text.to_owned());
        }
    }
    Ok(())
}

/// A short number must reach columns exactly as its text would.
fn assert_number(text: &str, digits: i64, places: usize) {
    for data_type in [
        DataType::Int64,
        DataType::Int8,
        DataType::Float64,
        DataType::Float32,
    ] {
        let (mut one, mut other) = (
            Builder::new(&data_type).unwrap(),
            Builder::new(&data_type).unwrap(),
        );
        if value::short(&mut one, digits, places) {
            value::number(&mut other, text).unwrap();
            let (one, other) = (one.finish().unwrap(), other.finish().unwrap());
            assert_eq!(&one, &other, "{text}");
        } else {
            assert_eq!(one.len(), 0, "{text}");
        }
    }
}

/// Documents in which any byte may be replaced.
fn document() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        "\"[a-z0-9äß€😀 ]{0,20}\"",
        "\"([a-f]{0,9}(\\\\[\"\\\\/bfnrtu]|\\\\u00[0-9a-f]{2}|\\\\ud83d\\\\ude00)?){0,3}\"",
        "-?[0-9]{1,20}",
        "-?(0|[1-9][0-9]{0,10})\\.[0-9]{0,10}",
        "-?[0-9]{1,3}(\\.[0-9]{1,2})?[eE][+-]?[0-9]{1,2}",
        "null|true|false|nul|NaN|-Infinity|-0|0|-",
    ];
    let value = leaf.prop_recursive(4, 24, 5, |inner| {
        let space = "[ \n\r\t]{0,2}";
        let key = "\"(f0|f1|F0|ä|[a-z]{0,12}|a\\\\n)\"";
        let field = (space, key, space, inner.clone(), space)
            .prop_map(|(a, key, b, value, c)| format!("{a}{key}{b}:{c}{value}"));
        prop_oneof![
            prop::collection::vec(field, 0..5).prop_map(|f| format!("{{{}}}", f.join(","))),
            (prop::collection::vec(inner, 0..5), space).prop_map(|(items, space)| format!(
                "[{}]",
                items.join(&format!("{space},{space}"))
            )),
        ]
    });
    let bytes = prop::sample::select(b"\"\\{}[]:, \n\x1f\x7f\x80\xc3\xff09.-eEn".as_slice());
    let mutation = (any::<prop::sample::Index>(), 0..3u8, bytes);
    (value, prop::collection::vec(mutation, 0..3)).prop_map(|(text, mutations)| {
        let mut json = text.into_bytes();
        for (at, kind, byte) in mutations {
            let at = at.index(json.len().max(1));
            match kind {
                0 => json.insert(at.min(json.len()), byte),
                1 if at < json.len() => json[at] = byte,
                _ => json.truncate(at),
            }
        }
        json
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_scan_reads_and_refuses_what_jiter_does(json in document()) {
        prop_assert_eq!(by_scan(&json), by_jiter(&json));
    }

    /// Expecting a key does not change how it is read.
    #[test]
    fn expected_keys_change_nothing(json in document()) {
        let Ok(text) = std::str::from_utf8(&json) else { return Ok(()) };
        let fields = || {
            let list = DataType::List(Arc::new(field("item", DataType::Utf8View)));
            vec![field("f0", DataType::Utf8View), field("ä", list), field("f1", DataType::Float64)]
        };
        let reversed = fields().into_iter().rev().collect();
        let (rows, bad) = decode(fields(), &[text]);
        let (other, other_bad) = decode(reversed, &[text]);
        let turned: Vec<&str> = other[0].rsplit('|').collect();
        prop_assert_eq!(bad, other_bad);
        // Texts may hold the separator too, written as it is or escaped.
        if turned.len() == 3 {
            prop_assert_eq!(&rows[0], &turned.join("|"));
        }
    }
}

/// The boundaries of chunks of eight bytes make no difference.
#[test]
fn texts_of_all_lengths_end_where_they_end() {
    for length in 0..40 {
        for special in ["\"", "\\\"", "\\u00e4", "ä", "\u{1f}", "\u{7f}", "\n"] {
            let before = "x".repeat(length);
            for behind in [0, 1, 7, 8, 9] {
                let json = format!("[\"{before}{special}{}\"]", "y".repeat(behind));
                for end in 0..json.len() + 1 {
                    let json = &json.as_bytes()[..end];
                    assert_eq!(by_scan(json), by_jiter(json), "{json:?}");
                }
            }
        }
    }
}
